//! Cloud Shell.

use crate::emulator::answer::Answer;
use crate::emulator::error::EntraError;
use crate::emulator::identity::mint::{Wanted, serve};
use crate::emulator::identity::{bad, type_name, wants_metadata};
use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use axum::extract::State;
use axum::routing::post;
use axum::{Extension, Router};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) const PATH: &str = "/cloudshell";

pub(super) fn router() -> Router<Arc<Core>> {
    Router::new().route(PATH, post(token)).route("/cloudshell/", post(token))
}

/// In Azure this token is the user's who opened the shell. Here it is the system-assigned identity's, whatever identity is named.
async fn token(
    State(core): State<Arc<Core>>,
    Extension(asked): Extension<Arc<Asked>>,
) -> Result<Answer, EntraError> {
    wants_metadata(&asked)?;
    let resource = asked
        .form
        .get("resource")
        .ok_or_else(|| bad("BadRequest", "The form of the request must contain the parameter 'resource'."))?;
    if core.directory.resource(resource).is_none() {
        let message = format!("Audience {resource} is not a supported MSI token audience.");
        return Err(bad("AudienceNotSupported", &message));
    }
    let given = serve(&core, Wanted { selected: None, resource, refused: None }).await?;
    Ok(Answer::ok(&given.strings(resource)))
}

pub(super) fn error(error: &EntraError) -> Value {
    json!({"error": {"code": type_name(error), "message": error.numbered()}})
}
