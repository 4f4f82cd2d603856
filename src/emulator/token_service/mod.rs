//! The token service: what `login.microsoftonline.com` is in Azure, but for the pages.

pub(crate) mod assertion;
mod authorization_code;
pub(crate) mod claims;
pub(crate) mod client;
mod client_credentials;
pub(crate) mod device_code;
mod discovery;
pub(crate) mod grants;
mod on_behalf_of;
mod password;
mod refresh_token;
pub(crate) mod review;
pub(crate) mod scopes;
pub(crate) mod token;
mod user_tokens;

use crate::emulator::answer::Answer;
use crate::emulator::error::{EntraError, echo};
use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use crate::emulator::sign_in;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Extension, Router};
use std::sync::Arc;
use std::time::Duration;

/// From this lifetime on, Entra says when to refresh.
pub(crate) const LONG_LIVED: Duration = Duration::from_secs(2 * 60 * 60);

pub(crate) fn router() -> Router<Arc<Core>> {
    Router::new()
        .route("/{tenant}/oauth2/v2.0/token", post(token))
        .route("/{tenant}/oauth2/v2.0/devicecode", post(device_code::start))
        .route("/{tenant}/v2.0/.well-known/openid-configuration", get(discovery::configuration))
        .route("/{tenant}/discovery/v2.0/keys", get(discovery::keys))
        .route("/{tenant}/discovery/instance", get(discovery::instance))
        .merge(sign_in::router())
}

async fn token(
    State(core): State<Arc<Core>>,
    Extension(asked): Extension<Arc<Asked>>,
) -> Result<Answer, EntraError> {
    let place = core.directory.place(asked.tenant().unwrap_or_default())?;
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
