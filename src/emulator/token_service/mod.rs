//! The token service: what `login.microsoftonline.com` is in Azure, but for the pages.

pub(crate) mod assertion;
mod authorization_code;
pub(crate) mod claims;
pub(crate) mod client;
mod client_credentials;
pub(crate) mod device_code;
mod discovery;
mod federated;
pub(crate) mod grants;
mod on_behalf_of;
mod password;
mod refresh_token;
pub(crate) mod review;
pub(crate) mod scopes;
pub(crate) mod token;
mod user_info;
mod user_tokens;
mod v1;

use crate::emulator::answer::Answer;
use crate::emulator::error::{EntraError, echo};
use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use crate::emulator::sign_in;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Extension, Router};
use http::StatusCode;
use http::header::{ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_MAX_AGE};
use std::sync::Arc;

pub(crate) fn router() -> Router<Arc<Core>> {
    Router::new()
        .route("/{tenant}/oauth2/v2.0/token", post(token).options(preflight))
        .route("/{tenant}/oauth2/v2.0/devicecode", post(device_code::start))
        .route(
            "/{tenant}/v2.0/.well-known/openid-configuration",
            get(discovery::configuration).options(preflight),
        )
        .route("/{tenant}/discovery/v2.0/keys", get(discovery::keys).options(preflight))
        .route("/{tenant}/discovery/instance", get(discovery::instance).options(preflight))
        .route("/{tenant}/oauth2/token", post(v1::token).options(preflight))
        .route("/{tenant}/oauth2/devicecode", post(v1::device_code))
        .route(
            "/{tenant}/.well-known/openid-configuration",
            get(discovery::v1_configuration).options(preflight),
        )
        .route("/{tenant}/discovery/keys", get(discovery::v1_keys).options(preflight))
        .route("/{tenant}/userrealm/{user}", get(discovery::user_realm))
        .route(user_info::PATH, get(user_info::user_info).post(user_info::user_info).options(preflight))
        .merge(sign_in::router())
}

/// Whether scripts of any web page may read what is answered here: what single-page apps ask for.
pub(crate) fn is_cross_origin(path: &str) -> bool {
    ["/token", "/userinfo", "/.well-known/openid-configuration", "/keys", "/discovery/instance"]
        .iter()
        .any(|end| path.ends_with(end))
}

/// What a browser asks before it lets a script send more than a plain form. The header that names the origin is set with all answers.
async fn preflight(Extension(asked): Extension<Arc<Asked>>) -> Answer {
    let headers = asked.header("access-control-request-headers").unwrap_or_default();
    Answer::new(StatusCode::OK, "text/plain", "")
        .header(ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS")
        .header(ACCESS_CONTROL_ALLOW_HEADERS, headers)
        .header(ACCESS_CONTROL_MAX_AGE, "86400")
}

async fn token(
    State(core): State<Arc<Core>>,
    Extension(asked): Extension<Arc<Asked>>,
) -> Result<Answer, EntraError> {
    let place = core.directory.place(asked.tenant().unwrap_or_default())?;
    if let Some(name) = asked.form.too_long() {
        return Err(EntraError::too_long(name));
    }
    let grant_type = asked.form.get("grant_type");
    match grant_type.ok_or_else(|| EntraError::missing("grant_type"))? {
        "client_credentials" => client_credentials::redeem(&core, &asked, place).await,
        "authorization_code" => authorization_code::redeem(&core, &asked, place).await,
        "refresh_token" => refresh_token::redeem(&core, &asked, place).await,
        "urn:ietf:params:oauth:grant-type:jwt-bearer" => on_behalf_of::redeem(&core, &asked, place).await,
        // MSAL for Node and the v1 clients use the short name.
        "urn:ietf:params:oauth:grant-type:device_code" | "device_code" => {
            device_code::redeem(&core, &asked, place).await
        }
        "password" => password::redeem(&core, &asked, place).await,
        other => Err(EntraError::aadsts(70003)
            .saying(format!("The app requested an unsupported grant type '{}'.", echo(other)))),
    }
}
