//! App Service, Functions and Container Apps.

use crate::emulator::answer::Answer;
use crate::emulator::directory::ExpiresOn;
use crate::emulator::error::EntraError;
use crate::emulator::identity::mint::{Wanted, serve};
use crate::emulator::identity::{bad, parameters, select, wants_header};
use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use axum::extract::State;
use axum::routing::get;
use axum::{Extension, Router};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) const PATH: &str = "/msi/token";

/// The version before the current one: another header, one selector, and dates.
const OLD: &str = "2017-09-01";

pub(super) fn router() -> Router<Arc<Core>> {
    // In Azure the endpoint is spelled `/MSI/token/`.
    let spellings = ["/msi/token", "/msi/token/", "/MSI/token", "/MSI/token/"];
    spellings.into_iter().fold(Router::new(), |router, path| router.route(path, get(token)))
}

async fn token(
    State(core): State<Arc<Core>>,
    Extension(asked): Extension<Arc<Asked>>,
) -> Result<Answer, EntraError> {
    let version = asked.query.get("api-version");
    let old = version == Some(OLD);
    wants_header(&core, &asked, if old { "secret" } else { "x-identity-header" })?;
    let resource = parameters(&asked)?;
    if !old && version != Some("2019-08-01") {
        return Err(bad(
            "invalid_request",
            "The api-version is not supported: 2019-08-01 and 2017-09-01 are.",
        ));
    }
    let selectors: &[_] =
        if old { &["clientid"] } else { &["client_id", "principal_id", "object_id", "mi_res_id"] };
    let selected = select(&asked, selectors)?;
    let refused = asked.query.get("token_sha256_to_refresh");
    let given = serve(&core, Wanted { selected, resource, refused }).await?;
    let own = if old { ExpiresOn::Linux } else { ExpiresOn::Text };
    let spelling = core.directory.identity_answers().expires_on.unwrap_or(own);
    let mut body = json!({
        "access_token": given.minted.token,
        "expires_on": spelling.json(given.minted.expires()),
        "resource": resource,
        "token_type": "Bearer",
    });
    if !old {
        body["client_id"] = json!(given.identity.client_id);
    }
    Ok(Answer::ok(&body))
}

pub(super) fn error(error: &EntraError, asked: &Asked) -> Value {
    json!({
        "statusCode": error.status.as_u16(),
        "message": error.numbered(),
        "correlationId": asked.correlation_id,
    })
}
