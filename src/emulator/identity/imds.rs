//! The instance metadata service of virtual machines and scale sets.

use crate::emulator::answer::Answer;
use crate::emulator::error::EntraError;
use crate::emulator::identity::mint::{Wanted, serve};
use crate::emulator::identity::{parameters, select, wants_metadata};
use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use axum::extract::State;
use axum::routing::get;
use axum::{Extension, Router};
use serde_json::json;
use std::sync::Arc;

pub(super) fn router() -> Router<Arc<Core>> {
    Router::new()
        .route("/metadata/identity/oauth2/token", get(token))
        // MSAL for Node asks with a slash at the end.
        .route("/metadata/identity/oauth2/token/", get(token))
}

async fn token(
    State(core): State<Arc<Core>>,
    Extension(asked): Extension<Arc<Asked>>,
) -> Result<Answer, EntraError> {
    wants_metadata(&asked)?;
    let resource = parameters(&asked)?;
    let selected = select(&asked, &["client_id", "object_id", "msi_res_id"])?;
    let given = serve(&core, Wanted { selected, resource, refused: None }).await?;
    let mut body = given.strings(resource);
    body["client_id"] = json!(given.identity.client_id);
    Ok(Answer::ok(&body))
}
