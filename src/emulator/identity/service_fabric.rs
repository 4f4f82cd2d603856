//! Service Fabric. Its clients trust the server by its certificate's thumbprint, so that it is asked at the TLS address.

use crate::emulator::answer::Answer;
use crate::emulator::directory::ExpiresOn;
use crate::emulator::error::EntraError;
use crate::emulator::identity::mint::{Wanted, serve};
use crate::emulator::identity::{bad, type_name};
use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use axum::extract::State;
use axum::routing::get;
use axum::{Extension, Router};
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) const PATH: &str = "/sf/token";
const VERSION: &str = "2019-07-01-preview";

pub(super) fn router() -> Router<Arc<Core>> {
    Router::new().route(PATH, get(token)).route("/sf/token/", get(token))
}

async fn token(
    State(core): State<Arc<Core>>,
    Extension(asked): Extension<Arc<Asked>>,
) -> Result<Answer, EntraError> {
    let version = asked.query.get("api-version").unwrap_or_default();
    if version != VERSION {
        let message =
            format!("The api-version '{version}' is not supported. Supported version is '{VERSION}'.");
        return Err(bad("InvalidApiVersion", &message));
    }
    let secret = asked
        .header("secret")
        .ok_or_else(|| bad("SecretHeaderNotFound", "Secret is not found in the request headers."))?;
    let resource = asked.query.get("resource").ok_or_else(|| {
        bad("ArgumentNullOrEmpty", "The parameter 'resource' should not be null or empty string.")
    })?;
    // The secret stands for an application, and the cluster's configuration says which identity that has: a request has no say.
    if !core.directory.is_app_service_header(secret) || core.directory.identities().is_empty() {
        let message = "Managed identity not found for the specified application host.";
        return Err(EntraError::plain(StatusCode::NOT_FOUND, "ManagedIdentityNotFound", message));
    }
    if core.directory.resource(resource).is_none() {
        // That is all that the real one says about it.
        return Err(EntraError::plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            "InternalServerError",
            "An error occurred.",
        ));
    }
    let refused = asked.query.get("token_sha256_to_refresh");
    let given = serve(&core, Wanted { selected: None, resource, refused }).await?;
    let spelling = core.directory.identity_answers().expires_on.unwrap_or(ExpiresOn::Number);
    Ok(Answer::ok(&json!({
        "access_token": given.minted.token,
        "expires_on": spelling.json(given.minted.expires()),
        "resource": resource,
        "token_type": "Bearer",
    })))
}

pub(super) fn error(error: &EntraError, asked: &Asked) -> Value {
    json!({"error": {
        "correlationId": asked.correlation_id,
        "code": type_name(error),
        "message": error.numbered(),
    }})
}
