//! The answer in words: for the customer where the customer can mend it, otherwise for whoever runs the application.

use super::{TenantCheck, TenantStanding};
use crate::{
    ClientId, authority::Authority, error::Error, scope::ScopeSet, tenant::TenantId, text::guid, wire::jwt,
};

/// What the answer is told with.
pub(super) struct Context<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) resource: &'a ScopeSet,
    pub(super) authority: Option<&'a Authority>,
    pub(super) client_id: Option<&'a str>,
}

impl Context<'_> {
    pub(super) fn answered(&self, principal: jwt::Principal) -> TenantCheck {
        let tenant_id = principal.tid.as_deref().and_then(guid);
        let asked = guid(self.tenant.as_str());
        let standing = match (&tenant_id, asked) {
            (Some(came), Some(asked)) if *came != asked => TenantStanding::AnotherTenant,
            _ => TenantStanding::Trusted,
        };
        TenantCheck {
            tenant_id: tenant_id.and_then(|id| TenantId::parse(&id).ok()),
            object_id: principal.oid.as_deref().and_then(guid).map(Into::into),
            roles: principal.roles,
            ..self.check(standing, None)
        }
    }

    pub(super) fn refused(&self, error: Error) -> TenantCheck {
        self.check(TenantStanding::of(&error), Some(error))
    }

    fn check(&self, standing: TenantStanding, error: Option<Error>) -> TenantCheck {
        TenantCheck {
            standing,
            tenant: self.tenant.clone(),
            tenant_id: None,
            object_id: None,
            roles: Vec::new(),
            words: self.words(standing, error.as_ref()),
            url: self.url(standing),
            command: self.command(standing),
            error,
        }
    }

    fn words(&self, standing: TenantStanding, error: Option<&Error>) -> String {
        let tenant = self.tenant;
        let app = self.client_id.unwrap_or("the application");
        let resource = self.resource.resource().unwrap_or_default();
        let detail =
            |error: Option<&Error>| error.map(|error| format!(" {}", error.advice())).unwrap_or_default();
        match standing {
            TenantStanding::Trusted => {
                format!("Tenant {tenant} knows application {app}, and gives it tokens for {resource}.")
            }
            TenantStanding::ConsentMissing => format!(
                "Nobody in tenant {tenant} has consented to application {app} yet. An administrator of the tenant has to \
                 do that once; it can take some minutes to work. If somebody has, check that it was in this tenant, and \
                 that the application is open to other tenants than its own."
            ),
            TenantStanding::TenantUnknown => format!(
                "There is no tenant {tenant} in this cloud. Please look the id up again: the overview page of Microsoft \
                 Entra ID in the portal shows it."
            ),
            TenantStanding::ResourceMissing => format!(
                "Tenant {tenant} does not have the service {resource}. An administrator has to add or subscribe to it."
            ),
            TenantStanding::AppDisabled => format!(
                "Application {app} is disabled in tenant {tenant}. An administrator can enable it under Enterprise \
                 applications, Properties, `Enabled for users to sign in`."
            ),
            TenantStanding::BlockedByPolicy => format!(
                "A policy of tenant {tenant} blocks application {app}. The tenant's sign-in logs, for service principals, \
                 say which one; an administrator can exempt the application."
            ),
            TenantStanding::OwnCredentialBad => {
                format!(
                    "The application's own credential was refused; the customer can do nothing about it.{}",
                    detail(error)
                )
            }
            TenantStanding::NotMultiTenant => format!(
                "Application {app} takes no tenants but its own. Open it under Authentication, `Accounts in any \
                 organizational directory`; the customer can do nothing about it."
            ),
            TenantStanding::Transient => {
                format!(
                    "Nothing is known of tenant {tenant} at the moment: ask again later.{}",
                    detail(error)
                )
            }
            TenantStanding::AnotherTenant => format!(
                "A token of another tenant came back where one of {tenant} was asked for. It was thrown away.{}",
                detail(error)
            ),
            TenantStanding::Refused => {
                format!("Tenant {tenant} cannot be checked like this.{}", detail(error))
            }
        }
    }

    fn url(&self, standing: TenantStanding) -> Option<String> {
        let authority = self.authority?;
        match standing {
            TenantStanding::ConsentMissing => {
                let client_id = ClientId::parse(self.client_id?).ok()?;
                Some(authority.admin_consent(self.tenant, &client_id))
            }
            // Signed in to whichever tenant the reader has: it shows its id and its domains.
            TenantStanding::TenantUnknown => {
                Some(format!("{}/#view/Microsoft_AAD_IAM/TenantPropertiesBlade", authority.portal()))
            }
            TenantStanding::AppDisabled => Some(format!(
                "{}/{}/#view/Microsoft_AAD_IAM/StartboardApplicationsMenuBlade/~/AppAppsPreview",
                authority.portal(),
                self.tenant
            )),
            TenantStanding::BlockedByPolicy => Some(format!(
                "{}/{}/#view/Microsoft_AAD_IAM/ActiveDirectoryMenuBlade/~/SignIns",
                authority.portal(),
                self.tenant
            )),
            _ => None,
        }
    }

    fn command(&self, standing: TenantStanding) -> Option<String> {
        let client_id = ClientId::parse(self.client_id?).ok()?;
        match standing {
            TenantStanding::TenantUnknown => Some("az account show --query tenantId --output tsv".to_owned()),
            TenantStanding::ConsentMissing => Some(format!("az ad sp create --id {client_id}")),
            TenantStanding::AppDisabled => {
                Some(format!("az ad sp update --id {client_id} --set accountEnabled=true"))
            }
            TenantStanding::ResourceMissing => {
                let app = resource_app(self.resource.resource()?)?;
                Some(format!("az ad sp create --id {app}"))
            }
            _ => None,
        }
    }
}

/// The application ids of Microsoft's own services, which are the same in every tenant, from
/// <https://learn.microsoft.com/troubleshoot/entra/entra-id/governance/verify-first-party-apps-sign-in>.
fn resource_app(resource: &str) -> Option<&str> {
    const KNOWN: &[(&str, &str)] = &[
        ("https://graph.microsoft.com", "00000003-0000-0000-c000-000000000000"),
        ("https://management.azure.com", "797f4846-ba00-4fd7-ba43-dac1f8f63013"),
        ("https://storage.azure.com", "e406a681-f3d4-42a8-90b6-c2b029497af1"),
        ("https://vault.azure.net", "cfa8b339-82a2-471a-a3c9-0fc0be7a4093"),
        ("https://database.windows.net", "022907d3-0f1b-48f7-badc-1ba6abab6d66"),
        ("https://ossrdbms-aad.database.windows.net", "123cd850-d9df-40bd-94d5-c9f07b7fa203"),
        ("https://servicebus.azure.net", "80a10ef9-8168-493d-abf9-3297c4ef6e3c"),
    ];
    let resource = resource.trim_end_matches('/');
    let known = KNOWN.iter().find(|(name, _)| *name == resource).map(|(_, id)| *id);
    known.or_else(|| guid(resource).map(|_| resource))
}
