//! Azure Machine Learning: what App Service once was, with a life of its own.

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
use serde_json::json;
use std::sync::Arc;

pub(super) const PATH: &str = "/ml/token";

pub(super) fn router() -> Router<Arc<Core>> {
    Router::new().route(PATH, get(token)).route("/ml/token/", get(token))
}

async fn token(
    State(core): State<Arc<Core>>,
    Extension(asked): Extension<Arc<Asked>>,
) -> Result<Answer, EntraError> {
    wants_header(&core, &asked, "secret")?;
    let resource = parameters(&asked)?;
    if asked.query.get("api-version") != Some("2017-09-01") {
        return Err(bad("invalid_request", "The api-version is not supported: 2017-09-01 is."));
    }
    // `client_id`, as it is spelled elsewhere, selects nothing here.
    let selected = select(&asked, &["clientid"])?;
    let given = serve(&core, Wanted { selected, resource, refused: None }).await?;
    let spelling = core.directory.identity_answers().expires_on.unwrap_or(ExpiresOn::Text);
    Ok(Answer::ok(&json!({
        "access_token": given.minted.token,
        "client_id": given.identity.client_id,
        "expires_on": spelling.json(given.minted.expires()),
        "resource": resource,
        "token_type": "Bearer",
    })))
}
