//! Whether a customer has set us up: one question, asked of the token service, and its answer in the customer's words.

use std::fmt;

use super::{AuditEvent, Broker};
use crate::{
    authority::Authority,
    claims::Claims,
    error::{Error, ErrorKind},
    fetched::{Grant, Reason},
    refresh::Job,
    request::{Key, TokenRequest},
    scope::ScopeSet,
    sync::{Arc, select},
    tenant::TenantId,
    text::guid,
    wire::jwt,
};

/// How an application stands in a tenant, as far as a token for one resource shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TenantStanding {
    /// A token came: the tenant knows the application, and has the resource.
    Trusted,
    /// Nobody there has consented, so the application has no service principal in the tenant.
    ConsentMissing,
    /// There is no such tenant in this cloud.
    TenantUnknown,
    /// The tenant does not have the resource: its service was never added or subscribed to.
    ResourceMissing,
    /// The application is disabled, in the tenant or at home.
    AppDisabled,
    /// A policy of the tenant forbids it, such as Conditional Access for workloads.
    BlockedByPolicy,
    /// Our own credential is wrong or has expired: nothing that the customer could mend.
    OwnCredentialBad,
    /// The application takes no tenants but its own.
    NotMultiTenant,
    /// The service or the network failed: nothing is known of the tenant. Ask again later.
    Transient,
    /// The answer was a token of another tenant, which was thrown away.
    AnotherTenant,
    /// It was refused for another reason: see [`TenantCheck::error`].
    Refused,
}

impl TenantStanding {
    /// Its name in `snake_case`, as it is meant for logs and interfaces.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::ConsentMissing => "consent_missing",
            Self::TenantUnknown => "tenant_unknown",
            Self::ResourceMissing => "resource_missing",
            Self::AppDisabled => "app_disabled",
            Self::BlockedByPolicy => "blocked_by_policy",
            Self::OwnCredentialBad => "own_credential_bad",
            Self::NotMultiTenant => "not_multi_tenant",
            Self::Transient => "transient",
            Self::AnotherTenant => "another_tenant",
            Self::Refused => "refused",
        }
    }

    fn of(error: &Error) -> Self {
        let has = |codes: &[u32]| error.aadsts().iter().any(|code| codes.contains(code));
        match error.kind() {
            ErrorKind::Throttled
            | ErrorKind::Unavailable
            | ErrorKind::Timeout
            | ErrorKind::Protocol
            | ErrorKind::TokenRefused
            | ErrorKind::Store
            | ErrorKind::Closed => Self::Transient,
            _ if has(&[7_000_112, 70_001]) => Self::AppDisabled,
            _ if has(&[50_194]) => Self::NotMultiTenant,
            _ if has(&[7_000_229, 700_016, 65_001]) => Self::ConsentMissing,
            ErrorKind::ConsentRequired => Self::ConsentMissing,
            ErrorKind::Tenant => Self::TenantUnknown,
            ErrorKind::Resource => Self::ResourceMissing,
            ErrorKind::Policy | ErrorKind::SignInRequired => Self::BlockedByPolicy,
            ErrorKind::Credential => Self::OwnCredentialBad,
            ErrorKind::Config | ErrorKind::NotAvailable => Self::Refused,
        }
    }
}

/// The answer of [`Broker::check_tenant`].
#[derive(Debug, Clone)]
pub struct TenantCheck {
    standing: TenantStanding,
    tenant: TenantId,
    tenant_id: Option<TenantId>,
    object_id: Option<Box<str>>,
    roles: Vec<String>,
    error: Option<Error>,
    words: String,
    url: Option<String>,
    command: Option<String>,
}

impl TenantCheck {
    /// How the application stands there.
    pub fn standing(&self) -> TenantStanding {
        self.standing
    }

    /// True where a token came.
    pub fn is_trusted(&self) -> bool {
        self.standing == TenantStanding::Trusted
    }

    /// The tenant, as it was asked for.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The tenant's id, where the token can be read and says it: keep this, and not a domain that may change hands.
    pub fn tenant_id(&self) -> Option<&TenantId> {
        self.tenant_id.as_ref()
    }

    /// The object id of the application's service principal in the tenant, where the token can be read and says it: what the
    /// customer's administrator gives roles to.
    pub fn object_id(&self) -> Option<&str> {
        self.object_id.as_deref()
    }

    /// The roles on the resource that the token carries, where it can be read. Trusted without any may be too little:
    /// whether it is, the resource knows.
    pub fn roles(&self) -> &[String] {
        &self.roles
    }

    /// What was answered instead of a token.
    pub fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// The numbers behind `AADSTS`. Empty where there are none.
    pub fn aadsts(&self) -> &[u32] {
        self.error.as_ref().map_or(&[], Error::aadsts)
    }

    /// True where the customer can mend it, and should be sent [the words](Self::words). Otherwise it is for you.
    pub fn is_customers(&self) -> bool {
        use TenantStanding::{AppDisabled, BlockedByPolicy, ConsentMissing, ResourceMissing, TenantUnknown};
        matches!(
            self.standing,
            AppDisabled | BlockedByPolicy | ConsentMissing | ResourceMissing | TenantUnknown
        )
    }

    /// What to say, in whole sentences: to the customer where it is the customer's to mend, otherwise to yourself.
    pub fn words(&self) -> &str {
        &self.words
    }

    /// The page to send along, where there is one: where an administrator consents, or enables the application.
    pub fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// What the customer's administrator can run instead, with the Azure CLI signed in to that tenant.
    pub fn command(&self) -> Option<&str> {
        self.command.as_deref()
    }
}

impl fmt::Display for TenantCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tenant {}: {}", self.tenant, self.standing.name())
    }
}

impl Broker {
    /// Has this customer set us up? Asks the token service for an app token of `tenant` for `resource`
    /// (`https://graph.microsoft.com`, with or without `/.default`), past the list of allowed tenants, the cache and
    /// remembered failures, and throws the token away. A failure is an answer, in [`TenantCheck`].
    ///
    /// What is remembered of earlier failures for that tenant and resource is forgotten where the answer is good: the next
    /// call for a token asks.
    ///
    /// The token proves that this tenant trusts the application, at this moment and for this resource. It does not prove
    /// that whoever typed the tenant belongs to it: a tenant that trusts you is any customer's to type. Keep to which
    /// customer a tenant is, and let no second one have it.
    ///
    /// ```
    /// # use entra_broker::{Authority, Broker, ClientSecret, TenantId, TenantStanding, emulator::{Emulator, sample}};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let emulator = Emulator::start().await?;
    /// # let authority = Authority::dangerous().allow_plain_http(emulator.authority())?;
    /// let app = ClientSecret::new(sample::TENANT, sample::SECRET_APP, sample::SECRET)?.authority(authority);
    /// let broker = Broker::new(app)?;
    ///
    /// let customer = TenantId::parse(sample::CUSTOMER_WITHOUT_CONSENT_DOMAIN)?;
    /// let check = broker.check_tenant(&customer, "https://graph.microsoft.com").await?;
    /// assert_eq!(check.standing(), TenantStanding::ConsentMissing);
    /// println!("{} {}", check.words(), check.url().unwrap_or_default());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// `Config` where the tenant is `common` or the like, the resource is malformed, the provider asks in no tenant but its
    /// own, or no tokio runtime with a timer is at hand; `Policy` where the broker may not ask for the resource; `Closed`. Nothing was asked then.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the request that is under way, and changes nothing.
    pub async fn check_tenant(&self, tenant: &TenantId, resource: &str) -> Result<TenantCheck, Error> {
        let shell = &*self.0;
        shell.engine.check_open()?;
        if tenant.is_multi_tenant_alias() {
            return Err(Error::config(format!(
                "tenant: `{tenant}` is no tenant that could have set anything up"
            ))
            .with_advice("Name the customer's tenant by its id or by one of its domains."));
        }
        let request = TokenRequest::new(of_resource(resource))?.tenant(tenant.clone());
        request.scopes().for_app()?;
        shell.resources.check(request.scopes())?;

        let clock = &shell.clock;
        shell.engine.runtime(clock.now())?;
        let deadline = clock.now().after(shell.timeout.min(shell.source.provider.budget()));
        let engine = Arc::clone(&shell.engine);
        let job = Job {
            request: request.clone(),
            grant: Grant::App,
            reason: Reason::Probe,
            attended: false,
            challenge: None::<Claims>,
            label: None,
            previous: None,
            refused: None,
            deadline,
            gate: {
                let engine = Arc::clone(&engine);
                Arc::new(move || engine.check_open())
            },
            random: Arc::new(move || engine.draw()),
        };
        let ended = select! {
            biased;
            ended = shell.source.fetch(job, AuditEvent::TenantCheck) => ended,
            () = clock.sleep_until(deadline) => {
                Err(Error::new(ErrorKind::Timeout, "the tenant could not be checked in time"))
            }
        };
        let context = Context {
            tenant,
            resource: request.scopes(),
            authority: shell.identity.authority(),
            client_id: shell.identity.client_id(),
        };
        let check = match ended {
            Ok(fetched) => context.answered(jwt::principal(fetched.token.expose())),
            // The provider has no way to ask in another tenant, or what it was made of is wrong: nothing was asked.
            Err(error) if error.status().is_none() && error.kind() == ErrorKind::Config => return Err(error),
            Err(error) if error.kind() == ErrorKind::Closed => return Err(error),
            Err(error) => context.refused(error),
        };
        if check.is_trusted() {
            let key: &Key = request.key();
            let home = shell.identity.tenant() == Some(tenant);
            if home { shell.engine.forgive(&key.at_home()) } else { shell.engine.forgive(key) }
        }
        Ok(check)
    }
}

fn of_resource(resource: &str) -> String {
    let resource = resource.trim();
    match resource.ends_with("/.default") {
        true => resource.to_owned(),
        false => format!("{resource}/.default"),
    }
}

/// What the answer is told with.
struct Context<'a> {
    tenant: &'a TenantId,
    resource: &'a ScopeSet,
    authority: Option<&'a Authority>,
    client_id: Option<&'a str>,
}

impl Context<'_> {
    fn answered(&self, principal: jwt::Principal) -> TenantCheck {
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

    fn refused(&self, error: Error) -> TenantCheck {
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
                let client_id = crate::ClientId::parse(self.client_id?).ok()?;
                Some(authority.admin_consent(self.tenant, &client_id))
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
        let client_id = crate::ClientId::parse(self.client_id?).ok()?;
        match standing {
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
    ];
    let resource = resource.trim_end_matches('/');
    let known = KNOWN.iter().find(|(name, _)| *name == resource).map(|(_, id)| *id);
    known.or_else(|| guid(resource).map(|_| resource))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_taken_with_and_without_its_suffix() {
        assert_eq!(of_resource("https://graph.microsoft.com"), "https://graph.microsoft.com/.default");
        assert_eq!(
            of_resource(" https://graph.microsoft.com/.default "),
            "https://graph.microsoft.com/.default"
        );
    }

    #[test]
    fn what_passes_is_transient_whatever_numbers_it_carries() {
        for kind in [ErrorKind::Throttled, ErrorKind::Unavailable, ErrorKind::Timeout] {
            assert_eq!(TenantStanding::of(&Error::new(kind, "x")), TenantStanding::Transient);
        }
    }
}
