//! The token endpoint: one grant so far, an app's own with a secret.

mod discovery;
pub(crate) mod token;

use crate::emulator::answer::Answer;
use crate::emulator::directory::App;
use crate::emulator::directory::Place;
use crate::emulator::error::EntraError;
use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Extension, Router};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use token::AppToken;

/// From this lifetime on, Entra says when to refresh.
const LONG_LIVED: Duration = Duration::from_secs(2 * 60 * 60);

pub(crate) fn router() -> Router<Arc<Core>> {
    Router::new()
        .route("/{tenant}/oauth2/v2.0/token", post(token))
        .route("/{tenant}/v2.0/.well-known/openid-configuration", get(discovery::configuration))
        .route("/{tenant}/discovery/v2.0/keys", get(discovery::keys))
        .route("/{tenant}/discovery/instance", get(discovery::instance))
}

async fn token(
    State(core): State<Arc<Core>>,
    Extension(asked): Extension<Arc<Asked>>,
) -> Result<Answer, EntraError> {
    let place = core.directory.place(asked.tenant().unwrap_or_default())?;
    let grant_type = asked.form.get("grant_type");
    match grant_type.ok_or_else(|| EntraError::missing("grant_type"))? {
        "client_credentials" => client_credentials(&core, &asked, place).await,
        other => Err(EntraError::aadsts(70003)
            .saying(format!("The app requested an unsupported grant type '{}'.", echo(other)))),
    }
}

async fn client_credentials(core: &Core, asked: &Asked, place: Place) -> Result<Answer, EntraError> {
    let client_id = asked.client_id().ok_or_else(|| EntraError::missing("client_id"))?;
    let scope = asked.form.get("scope").ok_or_else(|| EntraError::missing("scope"))?;
    let app = core.directory.app(client_id);
    let tenant = match place {
        Place::Tenant(tenant) => tenant,
        Place::Any(_) if app.is_some_and(|app| !app.multi_tenant) => {
            return Err(EntraError::aadsts(50194).saying(format!(
                "Application '{client_id}' is not configured as a multi-tenant application. Usage of the /common endpoint is not supported for such applications."
            )));
        }
        Place::Any(_) => return Err(EntraError::aadsts(9001023)),
    };
    let app = present(core, app, client_id, &tenant)?;
    authenticate(&app, asked)?;

    let asked_as = only_resource(scope)?;
    let resource = core.directory.resource(asked_as).ok_or_else(|| {
        EntraError::aadsts(500011).saying(format!(
            "The resource principal named {} was not found in the tenant named {tenant}.",
            echo(asked_as)
        ))
    })?;
    let minted = core
        .mint(AppToken { tenant: &tenant, client_id: &app.client_id, acr: 1, resource: &resource, asked_as })
        .await?;

    let seconds = minted.lifetime.as_secs();
    let mut body = json!({
        "token_type": "Bearer",
        "expires_in": seconds,
        "ext_expires_in": seconds,
        "access_token": minted.token,
    });
    if minted.lifetime >= LONG_LIVED {
        body["refresh_in"] = json!(seconds / 2);
    }
    Ok(Answer::ok(&body))
}

/// The app, provided that it is present and enabled in the tenant.
fn present(core: &Core, app: Option<App>, client_id: &str, tenant: &str) -> Result<App, EntraError> {
    let client_id = echo(client_id);
    let unknown = || {
        EntraError::aadsts(700016).saying(format!(
            "Application with identifier '{client_id}' was not found in the directory '{tenant}'. It may not have been installed by the administrator of the tenant, or the request went to the wrong tenant."
        ))
    };
    let app = app.ok_or_else(unknown)?;
    if core.directory.principal(tenant, &app.client_id).is_none() {
        // A single-tenant app is simply not there for another tenant; of a multi-tenant app the tenant could have a principal.
        return Err(if app.multi_tenant || app.home_tenant == tenant {
            EntraError::aadsts(7000229).saying(format!(
                "The client application {client_id} is missing service principal in the tenant {tenant}."
            ))
        } else {
            unknown()
        });
    }
    if !app.enabled {
        return Err(EntraError::aadsts(7000112).saying(format!("Application '{client_id}' is disabled.")));
    }
    Ok(app)
}

fn authenticate(app: &App, asked: &Asked) -> Result<(), EntraError> {
    if asked.form.get("client_assertion").is_some() {
        // No app has a certificate or federated credential yet, so no key can be registered.
        return Err(EntraError::aadsts(if app.public { 700025 } else { 700027 }));
    }
    let basic = asked.basic.as_ref().map(|(_, secret)| secret.as_str());
    let sent = asked.form.get("client_secret").or(basic);
    let sent = sent.filter(|secret| !secret.is_empty()).ok_or_else(|| EntraError::aadsts(7000216))?;
    if app.public {
        return Err(EntraError::aadsts(700025));
    }
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

/// The one resource of the scopes; an app can ask for nothing but all that it was granted on one resource.
fn only_resource(scope: &str) -> Result<&str, EntraError> {
    let invalid = |code: u32, why: &str| {
        EntraError::aadsts(code).saying(format!(
            "The provided value for the input parameter 'scope' is not valid. The scope {} is not valid. {why}",
            echo(scope)
        ))
    };
    let mut scopes = scope
        .split_whitespace()
        .filter(|scope| !matches!(*scope, "openid" | "profile" | "email" | "offline_access"));
    let first = scopes.next().unwrap_or_default();
    if scopes.next().is_some() {
        return Err(invalid(70011, "It names more than one resource or permission."));
    }
    let resource = first.strip_suffix("/.default").ok_or_else(|| {
        invalid(
            1002012,
            "Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI).",
        )
    })?;
    if resource.is_empty() {
        return Err(invalid(70011, "It names no resource."));
    }
    Ok(resource)
}

/// So much of what a client sent as an error repeats.
fn echo(text: &str) -> String {
    text.chars().take(200).collect()
}
