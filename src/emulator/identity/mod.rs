//! The managed-identity endpoints: what a machine's platform answers, for six platforms.

mod app_service;
mod arc;
mod azure_ml;
mod cloud_shell;
mod imds;
mod mint;
mod service_fabric;

pub(crate) use arc::Keys as ArcKeys;

use crate::emulator::answer::Answer;
use crate::emulator::error::EntraError;
use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use axum::Router;
use http::StatusCode;
use serde_json::json;
use std::sync::Arc;

/// What the platforms remember.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) cache: mint::Cache,
    pub(crate) arc_keys: ArcKeys,
}

pub(crate) fn router() -> Router<Arc<Core>> {
    imds::router()
        .merge(app_service::router())
        .merge(arc::router())
        .merge(cloud_shell::router())
        .merge(azure_ml::router())
        .merge(service_fabric::router())
}

fn bad(error: &str, message: &str) -> EntraError {
    EntraError::plain(StatusCode::BAD_REQUEST, error, message)
}

/// The resource asked for, once the required parameters are there.
fn parameters(asked: &Asked) -> Result<&str, EntraError> {
    required(asked, "api-version")?;
    required(asked, "resource")
}

fn required<'a>(asked: &'a Asked, name: &str) -> Result<&'a str, EntraError> {
    asked.query.get(name).ok_or_else(|| {
        let message = format!("Required query variable '{name}' is missing");
        bad("invalid_request", &message)
    })
}

/// The platforms that are asked directly on the machine want a header that no page in a browser can be made to send.
fn wants_metadata(asked: &Asked) -> Result<(), EntraError> {
    let metadata = asked.header("metadata").unwrap_or_default();
    if !metadata.eq_ignore_ascii_case("true") {
        return Err(bad("bad_request_102", "Required metadata header not specified"));
    }
    // A request that came through a proxy may come from somebody else than the machine itself.
    if asked.header("x-forwarded-for").is_some() {
        let message = "A request with an X-Forwarded-For header is not served";
        return Err(bad("invalid_request", message));
    }
    Ok(())
}

/// Checks the header value that App Service and Azure ML give their processes.
fn wants_header(core: &Core, asked: &Asked, name: &str) -> Result<(), EntraError> {
    let refused = |status, error, why| {
        let message = format!("The {} header {why}.", name.to_ascii_uppercase());
        Err(EntraError::plain(status, error, message))
    };
    match asked.header(name) {
        None => refused(StatusCode::UNAUTHORIZED, "unauthorized", "is missing"),
        Some(value) if !core.directory.is_app_service_header(value) => {
            refused(StatusCode::FORBIDDEN, "forbidden", "does not match")
        }
        Some(_) => Ok(()),
    }
}

/// The one selector of the request and its value, if it names an identity. Names of another endpoint's selectors are ignored, as
/// the platform ignores them.
fn select<'a>(
    asked: &'a Asked,
    selectors: &[&'static str],
) -> Result<Option<(&'static str, &'a str)>, EntraError> {
    let named = |name: &&'static str| Some((*name, asked.query.get(name)?));
    let mut found = selectors.iter().filter_map(named);
    let selected = found.next();
    if found.next().is_some() {
        let message = "Only one of the parameters that select an identity may be given";
        return Err(bad("invalid_request", message));
    }
    Ok(selected)
}

/// A plausible error for a bare status.
pub(crate) fn error_of_status(status: StatusCode) -> EntraError {
    let (error, message) = match status.as_u16() {
        404 => ("not_found", "The identity endpoint is not ready yet"),
        410 => ("gone", "The identity endpoint is being updated, please try again"),
        429 => ("too_many_requests", "Too many requests, please slow down"),
        500..=599 => ("server_error", "Failed to retrieve a token, please try again"),
        _ => ("invalid_request", "The request is not valid"),
    };
    EntraError::plain(status, error, message)
}

/// Each platform spells errors in a way of its own.
pub(crate) fn error_answer(error: &EntraError, asked: &Asked) -> Answer {
    let at = |path: &str| asked.path.trim_end_matches('/').eq_ignore_ascii_case(path);
    let body = if at(app_service::PATH) || at(azure_ml::PATH) {
        app_service::error(error, asked)
    } else if at(cloud_shell::PATH) {
        cloud_shell::error(error)
    } else if at(service_fabric::PATH) {
        service_fabric::error(error, asked)
    } else {
        json!({"error": error.name(), "error_description": error.numbered()})
    };
    Answer::json(error.status, &body).about(error.code())
}

/// The error's name on platforms that name errors like types. An error that has no such name is called after its status.
fn type_name(error: &EntraError) -> &str {
    if error.name().starts_with(|c: char| c.is_ascii_uppercase()) {
        return error.name();
    }
    match error.status.as_u16() {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        429 => "TooManyRequests",
        500..=599 => "InternalServerError",
        _ => "BadRequest",
    }
}
