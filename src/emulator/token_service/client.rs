//! Which app asks, and how it proves that.

use crate::emulator::directory::{Accounts, App, Place};
use crate::emulator::error::{EntraError, echo};
use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use crate::emulator::token_service::assertion;

/// Whether a request may come without a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Never.
    Required,
    /// From a public client.
    OfConfidential,
    /// From every client: a single-page app redeems its code or refresh token, which says so itself.
    Optional,
}

impl Core {
    /// The app that a request names, whether or not the tenant has it.
    pub(crate) fn named_app(&self, asked: &Asked) -> Result<(String, Option<App>), EntraError> {
        let client_id = asked.client_id().ok_or_else(|| EntraError::missing("client_id"))?;
        Ok((client_id.to_owned(), self.directory.app(client_id)))
    }

    /// The tenant in which a request is to be served; `known` is the one that a grant comes from, for a path that names none.
    ///
    /// # Errors
    ///
    /// 50194 where the path names none and the app lives in one tenant only, 50020 where the path wants personal accounts.
    pub(crate) fn tenant_for(
        &self,
        place: &Place,
        app: Option<&App>,
        known: &str,
    ) -> Result<String, EntraError> {
        match place {
            Place::Tenant(tenant) => Ok(tenant.clone()),
            Place::Any(Accounts::Consumers) => Err(EntraError::aadsts(50020)),
            Place::Any(_) => match app {
                Some(app) if !app.multi_tenant => Err(single_tenant(&app.client_id)),
                _ => Ok(known.to_owned()),
            },
        }
    }

    /// The app, provided that it is present and enabled in the tenant.
    pub(crate) fn present(&self, app: Option<App>, client_id: &str, tenant: &str) -> Result<App, EntraError> {
        let client_id = echo(client_id);
        let unknown = || {
            EntraError::aadsts(700016).saying(format!(
                "Application with identifier '{client_id}' was not found in the directory '{tenant}'. It may not have been installed by the administrator of the tenant, or the request went to the wrong tenant."
            ))
        };
        let app = app.ok_or_else(unknown)?;
        if let Some(cloud) = &app.cloud {
            return Err(EntraError::aadsts(900439).saying(format!(
                "Application '{client_id}' is registered in the cloud '{cloud}' and cannot be used over this endpoint."
            )));
        }
        let Some(principal) = self.directory.principal(tenant, &app.client_id) else {
            // A single-tenant app is simply not there for another tenant; of a multi-tenant app the tenant could have a principal.
            return Err(if app.multi_tenant || app.home_tenant == tenant {
                EntraError::aadsts(7000229).saying(format!(
                    "The client application {client_id} is missing service principal in the tenant {tenant}."
                ))
            } else {
                unknown()
            });
        };
        if !app.enabled {
            return Err(EntraError::aadsts(7000112).saying(format!("Application '{client_id}' is disabled.")));
        }
        if !principal.enabled {
            return Err(EntraError::aadsts(70001).saying(format!(
                "The application named {client_id} is disabled in the tenant named {tenant}."
            )));
        }
        Ok(app)
    }

    /// How the app proved itself, as `appidacr` says it: 0 not at all, 1 with a secret, 2 with an assertion.
    pub(crate) async fn authenticate(
        &self,
        asked: &Asked,
        app: &App,
        tenant: &str,
        proof: Proof,
    ) -> Result<u8, EntraError> {
        if let Some(sent) = asked.form.get("client_assertion") {
            if app.public {
                return Err(EntraError::aadsts(700025));
            }
            assertion::verify(self, asked, app, tenant, sent).await?;
            return Ok(2);
        }
        let basic = asked.basic.as_ref().filter(|(client, _)| client.eq_ignore_ascii_case(&app.client_id));
        let basic = basic.map(|(_, secret)| secret.as_str());
        let sent = asked.form.get("client_secret").or(basic).filter(|secret| !secret.is_empty());
        let Some(sent) = sent else {
            return match proof {
                // A number of its own for an app that acts for itself.
                Proof::Required if asked.form.get("grant_type") == Some("client_credentials") => {
                    Err(EntraError::aadsts(7000216))
                }
                Proof::Required => Err(EntraError::aadsts(7000218)),
                Proof::OfConfidential if !app.public => Err(EntraError::aadsts(7000218)),
                Proof::OfConfidential | Proof::Optional => Ok(0),
            };
        };
        if app.public {
            return Err(EntraError::aadsts(700025));
        }
        secret(app, sent)?;
        Ok(1)
    }
}

pub(crate) fn single_tenant(client_id: &str) -> EntraError {
    EntraError::aadsts(50194).saying(format!(
        "Application '{}' is not configured as a multi-tenant application. Usage of the /common endpoint is not supported for such applications.",
        echo(client_id)
    ))
}

fn secret(app: &App, sent: &str) -> Result<(), EntraError> {
    let known = app.secrets.iter().find(|secret| secret.value == sent);
    match known {
        None => Err(EntraError::aadsts(7000215).saying(format!(
            "Invalid client secret provided. Make sure that the secret sent in the request is the client secret's value, not its ID, for a secret added to app '{}'.",
            app.client_id
        ))),
        Some(secret) if secret.expired => Err(EntraError::aadsts(7000222).saying(format!(
            "The provided client secret keys for app '{}' are expired. Create new keys for the app.",
            app.client_id
        ))),
        Some(_) => Ok(()),
    }
}
