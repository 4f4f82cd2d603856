//! Which identity a request means, and its token: cached or new.

use crate::emulator::directory::{ManagedIdentity, Resource};
use crate::emulator::error::EntraError;
use crate::emulator::identity::bad;
use crate::emulator::ids::guid;
use crate::emulator::service::Core;
use crate::emulator::time::unix_seconds;
use crate::emulator::token_service::claims::ClaimsRequest;
use crate::emulator::token_service::token::{AccessToken, Minted};
use aws_lc_rs::digest::{SHA256, digest};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

/// Tokens given before, by client id and resource.
pub(crate) type Cache = Mutex<HashMap<(String, String), Minted>>;

/// So many tokens are cached at most; a test that asks for more resources starts over.
const CACHED: usize = 10_000;

/// A cached token is given out until so little time is left to it, or a tenth of its life if that is less.
const NEAR_EXPIRY: Duration = Duration::from_secs(300);

/// What a request asks for, once its platform has read it.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// Selects a user-assigned identity, by this parameter.
    pub(super) selected: Option<(&'a str, &'a str)>,
    /// The resource as the request spells it.
    pub(super) resource: &'a str,
    /// The SHA-256, in hexadecimal digits, of a token that was refused: not that one again.
    pub(super) refused: Option<&'a str>,
}

/// The answer to it.
pub(super) struct Given {
    pub(super) identity: ManagedIdentity,
    pub(super) minted: Minted,
    /// The lifetime to be told.
    expires_in: Duration,
}

impl Given {
    /// The members that the instance metadata service and its likes have in common. Every value is a string, numbers included.
    pub(super) fn strings(&self, resource: &str) -> Value {
        let expires_in = self.expires_in.as_secs().to_string();
        json!({
            "access_token": self.minted.token,
            "expires_in": expires_in,
            "expires_on": unix_seconds(self.minted.expires()).to_string(),
            "ext_expires_in": expires_in,
            "not_before": unix_seconds(self.minted.from).to_string(),
            "refresh_token": "",
            "resource": resource,
            "token_type": "Bearer",
        })
    }
}

/// The identity's token.
pub(super) async fn serve(core: &Core, wanted: Wanted<'_>) -> Result<Given, EntraError> {
    let identity = identity(core.directory.identities(), wanted.selected)?;
    let asked_as = wanted.resource;
    let resource = core.directory.resource(asked_as).ok_or_else(|| {
        EntraError::aadsts(500011).saying(format!(
            "The resource principal named {asked_as} was not found in the tenant named {}. Trace ID: {}",
            identity.tenant,
            guid()
        ))
    })?;
    let (minted, expires_in) = match cached(core, &identity, wanted) {
        Some(cached) => cached,
        None => {
            let minted = mint(core, &identity, &resource, asked_as).await?;
            let lifetime = minted.lifetime;
            (minted, lifetime)
        }
    };
    Ok(Given { identity, minted, expires_in })
}

fn identity(
    mut identities: Vec<ManagedIdentity>,
    selected: Option<(&str, &str)>,
) -> Result<ManagedIdentity, EntraError> {
    let wanted = |identity: &ManagedIdentity| match selected {
        None => identity.system,
        Some(("client_id" | "clientid", id)) => identity.client_id.eq_ignore_ascii_case(id),
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

fn cached(core: &Core, identity: &ManagedIdentity, wanted: Wanted<'_>) -> Option<(Minted, Duration)> {
    if !core.directory.identity_cache() {
        return None;
    }
    let minted = core.identity.cache.lock().get(&key(identity, wanted.resource))?.clone();
    if wanted.refused.is_some_and(|hash| hash.eq_ignore_ascii_case(&sha256(&minted.token))) {
        return None;
    }
    let margin = NEAR_EXPIRY.min(minted.lifetime / 10);
    let left = minted.expires().duration_since(core.time.now()).ok()?;
    let told = if core.directory.identity_answers().stale_expires_in { minted.lifetime } else { left };
    (left > margin).then_some((minted, told))
}

fn sha256(token: &str) -> String {
    let hash = digest(&SHA256, token.as_bytes());
    hash.as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
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
        let mut cache = core.identity.cache.lock();
        if cache.len() >= CACHED {
            cache.clear();
        }
        cache.insert(key(identity, asked_as), minted.clone());
    }
    Ok(minted)
}
