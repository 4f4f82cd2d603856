//! The managed-identity endpoints: the instance metadata service and App Service.

use crate::emulator::answer::Answer;
use crate::emulator::directory::{ManagedIdentity, Resource};
use crate::emulator::error::EntraError;
use crate::emulator::ids::guid;
use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use crate::emulator::time::unix_seconds;
use crate::emulator::token_service::claims::ClaimsRequest;
use crate::emulator::token_service::token::{AccessToken, Minted};
use axum::extract::State;
use axum::routing::get;
use axum::{Extension, Router};
use http::StatusCode;
use parking_lot::Mutex;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const APP_SERVICE: &str = "/msi/token";
const IMDS: &str = "/metadata/identity/oauth2/token";

pub(crate) fn router() -> Router<Arc<Core>> {
    Router::new()
        .route(IMDS, get(imds))
        // MSAL for Node asks with a slash at the end.
        .route("/metadata/identity/oauth2/token/", get(imds))
        .route(APP_SERVICE, get(app_service))
}

/// Tokens given before, by client id and resource.
pub(crate) type Cache = Mutex<HashMap<(String, String), Minted>>;

/// So many tokens are cached at most; a test that asks for more resources starts over.
const CACHED: usize = 10_000;

/// A cached token is given out until so little time is left to it, or a tenth of its life if that is less.
const NEAR_EXPIRY: Duration = Duration::from_secs(300);

async fn imds(
    State(core): State<Arc<Core>>,
    Extension(asked): Extension<Arc<Asked>>,
) -> Result<Answer, EntraError> {
    let metadata = asked.header("metadata").unwrap_or_default();
    if !metadata.eq_ignore_ascii_case("true") {
        return Err(bad("bad_request_102", "Required metadata header not specified"));
    }
    // A request that came through a proxy may come from somebody else than the machine itself.
    if asked.header("x-forwarded-for").is_some() {
        let message = "A request with an X-Forwarded-For header is not served";
        return Err(bad("invalid_request", message));
    }
    let resource = parameters(&asked)?;
    let selected = select(&asked, &["client_id", "object_id", "msi_res_id"])?;
    let (identity, minted, left) = serve(&core, selected, resource).await?;
    let left = left.as_secs().to_string();
    // Every value is a string here, numbers included.
    Ok(Answer::ok(&json!({
        "access_token": minted.token,
        "client_id": identity.client_id,
        "expires_in": left,
        "expires_on": unix_seconds(minted.expires()).to_string(),
        "ext_expires_in": left,
        "not_before": unix_seconds(minted.from).to_string(),
        "refresh_token": "",
        "resource": resource,
        "token_type": "Bearer",
    })))
}

async fn app_service(
    State(core): State<Arc<Core>>,
    Extension(asked): Extension<Arc<Asked>>,
) -> Result<Answer, EntraError> {
    match asked.header("x-identity-header") {
        None => {
            let message = "The X-IDENTITY-HEADER header is missing.";
            return Err(EntraError::plain(StatusCode::UNAUTHORIZED, "unauthorized", message));
        }
        Some(value) if !core.directory.is_app_service_header(value) => {
            let message = "The X-IDENTITY-HEADER header does not match.";
            return Err(EntraError::plain(StatusCode::FORBIDDEN, "forbidden", message));
        }
        Some(_) => {}
    }
    let resource = parameters(&asked)?;
    if asked.query.get("api-version") != Some("2019-08-01") {
        return Err(bad("invalid_request", "The api-version is not supported: 2019-08-01 is."));
    }
    let selectors = ["client_id", "principal_id", "object_id", "mi_res_id"];
    let selected = select(&asked, &selectors)?;
    let (identity, minted, _) = serve(&core, selected, resource).await?;
    Ok(Answer::ok(&json!({
        "access_token": minted.token,
        "client_id": identity.client_id,
        "expires_on": unix_seconds(minted.expires()).to_string(),
        "resource": resource,
        "token_type": "Bearer",
    })))
}

fn bad(error: &str, message: &str) -> EntraError {
    EntraError::plain(StatusCode::BAD_REQUEST, error, message)
}

/// The resource asked for, once the required parameters are there.
fn parameters(asked: &Asked) -> Result<&str, EntraError> {
    let required = |name: &str| {
        asked.query.get(name).ok_or_else(|| {
            let message = format!("Required query variable '{name}' is missing");
            bad("invalid_request", &message)
        })
    };
    required("api-version")?;
    required("resource")
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

/// The identity, its token, and how long that still lives.
async fn serve(
    core: &Core,
    selected: Option<(&str, &str)>,
    asked_as: &str,
) -> Result<(ManagedIdentity, Minted, Duration), EntraError> {
    let identity = identity(core.directory.identities(), selected)?;
    let resource = core.directory.resource(asked_as).ok_or_else(|| {
        EntraError::aadsts(500011).saying(format!(
            "The resource principal named {asked_as} was not found in the tenant named {}. Trace ID: {}",
            identity.tenant,
            guid()
        ))
    })?;
    let (minted, left) = match cached(core, &identity, asked_as) {
        Some(cached) => cached,
        None => {
            let minted = mint(core, &identity, &resource, asked_as).await?;
            let left = minted.lifetime;
            (minted, left)
        }
    };
    Ok((identity, minted, left))
}

fn identity(
    mut identities: Vec<ManagedIdentity>,
    selected: Option<(&str, &str)>,
) -> Result<ManagedIdentity, EntraError> {
    let wanted = |identity: &ManagedIdentity| match selected {
        None => identity.system,
        Some(("client_id", id)) => identity.client_id.eq_ignore_ascii_case(id),
        Some(("object_id" | "principal_id", id)) => identity.object_id.eq_ignore_ascii_case(id),
        Some((_, id)) => identity.resource_id.eq_ignore_ascii_case(id),
    };
    let index = match identities.iter().position(wanted) {
        Some(index) => index,
        // With no system-assigned identity, a single user-assigned one answers in its place.
        None if selected.is_none() && identities.len() == 1 => 0,
        None if selected.is_none() && !identities.is_empty() => {
            let message = "Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request";
            return Err(bad("invalid_request", message));
        }
        None => return Err(bad("invalid_request", "Identity not found")),
    };
    Ok(identities.swap_remove(index))
}

fn key(identity: &ManagedIdentity, asked_as: &str) -> (String, String) {
    (identity.client_id.clone(), asked_as.to_owned())
}

fn cached(core: &Core, identity: &ManagedIdentity, asked_as: &str) -> Option<(Minted, Duration)> {
    if !core.directory.identity_cache() {
        return None;
    }
    let minted = core.identity_cache.lock().get(&key(identity, asked_as))?.clone();
    let margin = NEAR_EXPIRY.min(minted.lifetime / 10);
    let left = minted.expires().duration_since(core.time.now()).ok()?;
    (left > margin).then_some((minted, left))
}

async fn mint(
    core: &Core,
    identity: &ManagedIdentity,
    resource: &Resource,
    asked_as: &str,
) -> Result<Minted, EntraError> {
    let minted = core
        .mint(AccessToken {
            authority: &core.authority,
            tenant: &identity.tenant,
            client_id: &identity.client_id,
            acr: 2,
            resource,
            asked_as,
            claims: &ClaimsRequest::default(),
            user: None,
        })
        .await?;
    if core.directory.identity_cache() {
        let mut cache = core.identity_cache.lock();
        if cache.len() >= CACHED {
            cache.clear();
        }
        cache.insert(key(identity, asked_as), minted.clone());
    }
    Ok(minted)
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

/// App Service spells errors in a way of its own.
pub(crate) fn error_answer(error: &EntraError, asked: &Asked) -> Answer {
    if asked.path == APP_SERVICE { error.app_service_answer(asked) } else { error.imds_answer() }
}
