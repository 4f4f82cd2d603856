//! What the endpoints answer: a token, and whose it is, or an error in one of four spellings.

use std::time::SystemTime;

use http::HeaderMap;
use serde_json::Value;

use super::PlatformKind;
use crate::{
    Blame, ClientId, Error, ErrorKind, ManagedIdentityId,
    identity_id::IdentityKind,
    wire::{
        json::{self, Members},
        oauth_error::{self, Failure},
        token::{Answered, TokenAnswer, parse_success},
    },
};

/// What was asked of a managed-identity endpoint, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AskedIdentity<'a> {
    pub(crate) platform: PlatformKind,
    pub(crate) identity: &'a ManagedIdentityId,
    /// In a chain, by who does not know yet whether there is an identity here.
    pub(crate) probing: bool,
    /// When the request was sent.
    pub(crate) sent: SystemTime,
    /// When the answer came.
    pub(crate) now: SystemTime,
}

/// A token, and whose it is.
#[derive(Debug)]
pub(crate) struct IdentityAnswer {
    pub(crate) token: TokenAnswer,
    /// The identity that answered, where the endpoint says so. A machine with one user-assigned identity and none of
    /// its own gives that one's token to who asks for the system-assigned identity.
    pub(crate) client_id: Option<ClientId>,
}

/// Reads the answer of a managed-identity endpoint.
pub(crate) fn parse_identity_answer(
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    cx: &AskedIdentity<'_>,
) -> Result<IdentityAnswer, Error> {
    let members = json::object(body);
    let is_error = |members: &Members| json::has_error(members) || members.contains_key("statusCode");
    if status >= 400 || members.as_ref().is_some_and(is_error) {
        let failure = oauth_error::read(status, headers, members.as_ref(), cx.now);
        return Err(explain(failure, &members.unwrap_or_default(), status, cx));
    }
    let client_id = members.as_ref().and_then(|members| json::text(members, "client_id"));
    let client_id = client_id.and_then(|id| ClientId::parse(id).ok());
    let anothers =
        members.as_ref().is_some_and(|members| is_anothers(members, client_id.as_ref(), cx.identity));
    let answered = Answered {
        status,
        headers,
        what: cx.platform.what(),
        carried: "what proves who asks",
        redirect: "A captive portal or a proxy redirects; a platform never does. See what its address leads to.",
        sent: cx.sent,
        now: cx.now,
    };
    let token = parse_success(&answered, members)?;
    if anothers {
        let whose = client_id.map_or_else(|| "of another identity".to_owned(), |id| format!("of {id}"));
        let (what, asked) = (cx.platform.what(), cx.identity);
        return Err(Error::new(
            ErrorKind::Protocol,
            format!("{what} was asked for a token of {asked} and answered with one {whose}"),
        )
        .with_advice(
            "Assign the identity to this resource, and see that nothing answers in the platform's place.",
        ));
    }
    Ok(IdentityAnswer { token, client_id })
}

/// A platform that ignores how an identity is named gives another one's token. Where it says whose it is, it is held to it.
fn is_anothers(members: &Members, client_id: Option<&ClientId>, asked: &ManagedIdentityId) -> bool {
    let differs = |asked: &str, names: &[&str]| {
        let told = names.iter().filter_map(|name| json::text(members, name));
        // Azure does not tell letter cases apart in ids.
        told.map(|told| told.trim_end_matches('/')).any(|told| !told.eq_ignore_ascii_case(asked))
    };
    match &asked.0 {
        IdentityKind::System => false,
        IdentityKind::ClientId(id) => client_id.is_some_and(|told| told != id),
        IdentityKind::ObjectId(id) => differs(id, &["object_id", "principal_id"]),
        IdentityKind::ResourceId(id) => differs(id.trim_end_matches('/'), &["msi_res_id", "mi_res_id"]),
    }
}

/// What these endpoints tell apart only in words that are meant for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    NoIdentity,
    /// There are several, and none was named.
    Several,
    NoHeader,
    NoResource,
    Nothing,
}

fn said(failure: &Failure, members: &Members) -> Said {
    // The words stand in any of these, by platform. Looked through, never shown.
    let inner = members.get("error").and_then(Value::as_object);
    let texts = ["error", "error_description", "message", "code"].map(|name| members.get(name));
    let inner_texts = ["code", "message"].map(|name| inner.and_then(|inner| inner.get(name)));
    let texts = texts.into_iter().chain(inner_texts).flatten().filter_map(Value::as_str);
    let words: Vec<String> =
        texts.map(|text| text.chars().take(2048).collect::<String>().to_ascii_lowercase()).collect();
    let has = |needles: &[&str]| words.iter().any(|text| needles.iter().any(|needle| text.contains(needle)));
    // Entra's numbers for an unknown resource, passed on by the platform.
    if failure.answer.aadsts.iter().any(|code| matches!(code, 500_011 | 50_001))
        || has(&["invalid_resource", "audiencenotsupported"])
    {
        Said::NoResource
    } else if has(&["multiple user assigned identities"]) {
        Said::Several
    } else if has(&[
        "identity not found",
        "identitynotfound",
        "no managed identity",
        "no user assigned",
        "no msi found",
        "has not been assigned",
    ]) {
        Said::NoIdentity
    } else if has(&["bad_request_102", "metadata header not specified", "secretheadernotfound"]) {
        Said::NoHeader
    } else {
        Said::Nothing
    }
}

fn explain(failure: Failure, members: &Members, status: u16, cx: &AskedIdentity<'_>) -> Error {
    use ErrorKind::{Config, NotAvailable, Protocol, Resource, Throttled, Unavailable};
    let (platform, what, identity) = (cx.platform, cx.platform.what(), cx.identity);
    // App Service may tell the true status in the body of a 200.
    let inner = members.get("statusCode").and_then(json::number).filter(|code| (400.0..600.0).contains(code));
    let meant = if status < 400 { inner.map_or(status, |code| code as u16) } else { status };
    let (kind, blame, message, advice) = match (said(&failure, members), meant) {
        (_, 429) => (
            Throttled,
            Blame::Service,
            format!("{what} asked to slow down"),
            "Wait for as long as it asked, and share one broker between all that ask for tokens.",
        ),
        (Said::NoIdentity, _) if identity.is_system() => (
            // A chain goes on where nobody has been given an identity. One that was named and is not there ends it:
            // who names it means it.
            if cx.probing { NotAvailable } else { Config },
            Blame::Configuration,
            format!("{what} has no identity of its own to give a token of"),
            platform.assign(),
        ),
        (Said::NoIdentity, _) => {
            (Config, Blame::Configuration, format!("{what} does not have {identity}"), platform.assign())
        }
        (Said::Several, _) => (
            Config,
            Blame::Configuration,
            format!("{what} has several identities and none of its own, and none was named"),
            "Name one by its client id, object id or resource id.",
        ),
        (Said::NoHeader, _) => (
            Config,
            Blame::Network,
            format!("{what} misses a header in the request"),
            "A proxy may have removed it: managed identity must not go through one.",
        ),
        (Said::NoResource, _) => (
            Resource,
            Blame::Configuration,
            format!("{what} knows no such resource"),
            "Check its spelling, and that it exists in the identity's tenant.",
        ),
        (_, 401 | 403) => {
            (Unavailable, Blame::Network, format!("{what} refused with status {meant}"), platform.refuses())
        }
        // A machine that was just started answers 404 or 410 for up to 70 s.
        (_, 404 | 408 | 410 | 500..) => (
            Unavailable,
            Blame::Service,
            format!("{what} is not available at the moment: status {meant}"),
            "It usually passes: try again later. Where it does not, this platform has no such endpoint.",
        ),
        _ => (
            Protocol,
            Blame::Service,
            format!("{what} refused in a way that is not understood: status {meant}"),
            "See whether what answers there is the platform's own endpoint, and of a version that is still in use.",
        ),
    };
    let error = Error::new(kind, message).with_blame(blame).with_advice(advice).with_answer(failure.answer);
    match failure.retry_after {
        Some(after) => error.with_retry_after(after),
        None => error,
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
