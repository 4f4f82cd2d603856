//! The answer of a token endpoint.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::HeaderMap;
use serde_json::Value;

use super::{
    explain::explain,
    json::{self, Members},
    lifetime::{self, NoLifetime},
    oauth_error,
};
use crate::{Authority, ClientId, Error, ErrorKind, Fetched, Now, ScopeSet, Secret, TenantId};

/// What was asked, and when: for the words of errors, and for what is counted from a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// Who answers, as the subject of a sentence: `the token service`.
    pub(crate) what: &'static str,
    pub(crate) authority: &'a Authority,
    pub(crate) tenant: &'a TenantId,
    pub(crate) client_id: &'a ClientId,
    pub(crate) scopes: &'a ScopeSet,
    /// Whether the token is a user's: without one, nobody can sign in.
    pub(crate) for_user: bool,
    /// When the request was sent.
    pub(crate) sent: SystemTime,
    /// When the answer came.
    pub(crate) now: SystemTime,
}

/// A token and what came with it.
#[derive(Debug)]
pub(crate) struct TokenAnswer {
    /// Not empty, and visible ASCII throughout: any header can carry it.
    pub(crate) access_token: Secret,
    /// Counted from when the request was sent; from one second to 28 hours.
    pub(crate) lifetime: Duration,
    /// When the service wants it to be refreshed: less than `lifetime`.
    pub(crate) refresh_in: Option<Duration>,
    /// What was granted, where the service says so.
    pub(crate) scopes: Option<ScopeSet>,
    pub(crate) refresh_token: Option<Secret>,
    pub(crate) client_info: Option<ClientInfo>,
}

impl TokenAnswer {
    /// The same for the broker. `sent` is when the request went out.
    pub(crate) fn into_fetched(self, sent: Now) -> Fetched {
        let mut fetched = Fetched::new(self.access_token, sent, self.lifetime);
        fetched.refresh_in = self.refresh_in;
        fetched.scopes = self.scopes;
        fetched.refresh_token = self.refresh_token;
        fetched.account = self.client_info.map(|user| format!("{}.{}", user.uid, user.utid).into());
        fetched
    }
}

/// Who the user is at home. `Debug` does not show it: it is about a person.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ClientInfo {
    /// The user's object id in the home tenant.
    pub(crate) uid: Box<str>,
    /// The home tenant.
    pub(crate) utid: Box<str>,
}

impl fmt::Debug for ClientInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientInfo").finish_non_exhaustive()
    }
}

/// Reads the answer to a token request.
///
/// An error where the status is 400 or more or there is an `error` member, whatever the status, and where what should
/// be a token is none.
pub(crate) fn parse_token_answer(
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    cx: &Asked<'_>,
) -> Result<TokenAnswer, Error> {
    let members = json::object(body);
    if status >= 400 || members.as_ref().is_some_and(json::has_error) {
        return Err(explain(oauth_error::read(status, headers, members.as_ref(), cx.now), cx));
    }
    let what = cx.what;
    let carried = "the client secret";
    let redirect =
        "Name the authority that it leads to, if you trust that one; a captive portal redirects too.";
    parse_success(&Answered { status, headers, what, carried, redirect, sent: cx.sent, now: cx.now }, members)
}

/// What every answer that should hold a token has in common.
pub(super) struct Answered<'a> {
    pub(super) status: u16,
    pub(super) headers: &'a HeaderMap,
    pub(super) what: &'static str,
    /// What must not be carried to wherever a redirect leads.
    pub(super) carried: &'static str,
    /// What to do about one.
    pub(super) redirect: &'static str,
    pub(super) sent: SystemTime,
    pub(super) now: SystemTime,
}

impl Answered<'_> {
    /// The answer makes no sense. `why` is a fixed text: nothing of the body stands in it.
    pub(super) fn nonsense(&self, why: &'static str) -> Error {
        let failure = oauth_error::read(self.status, self.headers, None, self.now);
        Error::new(ErrorKind::Protocol, format!("{} answered {} with {why}", self.what, self.status))
            .with_advice("A proxy or a gateway on the way may have answered in its stead.")
            .with_answer(failure.answer)
    }

    fn redirected(&self) -> Error {
        let failure = oauth_error::read(self.status, self.headers, None, self.now);
        let message = format!(
            "{} answered with a redirect, which is not followed: {} would go along",
            self.what, self.carried
        );
        Error::new(ErrorKind::Protocol, message).with_advice(self.redirect).with_answer(failure.answer)
    }
}

/// Reads an answer that is no error.
pub(super) fn parse_success(cx: &Answered<'_>, members: Option<Members>) -> Result<TokenAnswer, Error> {
    // Secrets first, so that whatever is found later on, they are overwritten when they go.
    let mut members = members.unwrap_or_default();
    let access_token = secret(&mut members, "access_token");
    let refresh_token = secret(&mut members, "refresh_token");
    // Nobody needs it yet, but it is zeroised all the same.
    drop(secret(&mut members, "id_token"));
    match cx.status {
        200..=299 => {}
        300..=303 | 307 | 308 => return Err(cx.redirected()),
        _ => return Err(cx.nonsense("a status that ends no request")),
    }
    if members.is_empty() && access_token.is_none() {
        return Err(cx.nonsense("something that holds no token"));
    }
    let Some(access_token) = access_token else { return Err(cx.nonsense("no access token")) };
    if !access_token.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(cx.nonsense("an access token that no header can carry"));
    }
    match members.get("token_type") {
        None | Some(Value::Null) => {}
        Some(Value::String(bearer)) if bearer.eq_ignore_ascii_case("bearer") => {}
        Some(_) => return Err(cx.nonsense("a token that is not a bearer token")),
    }
    let lifetime = lifetime::lifetime(&members, cx.sent).map_err(|why| match why {
        NoLifetime::Unknown => cx.nonsense("a token of unknown lifetime"),
        NoLifetime::Expired => cx
            .nonsense("a token that had already expired")
            .with_advice("Compare this machine's clock with the service's."),
    })?;
    Ok(TokenAnswer {
        access_token,
        lifetime,
        refresh_in: lifetime::refresh_in(&members, lifetime),
        scopes: json::text(&members, "scope").and_then(ScopeSet::granted),
        refresh_token,
        client_info: json::text(&members, "client_info").and_then(client_info),
    })
}

/// Takes a string out without copying it. An empty one, as managed identity has for `refresh_token`, is none.
fn secret(members: &mut Members, name: &str) -> Option<Secret> {
    match members.remove(name) {
        Some(Value::String(text)) => Some(Secret::new(text)).filter(|secret| !secret.is_empty()),
        _ => None,
    }
}

/// `{"uid":"…","utid":"…"}` in base64url. Nonsense is ignored: it is a hint.
fn client_info(text: &str) -> Option<ClientInfo> {
    /// Far longer than two GUIDs in JSON.
    const MAX: usize = 2048;
    let text = Some(text.trim_end_matches('=')).filter(|text| text.len() <= MAX)?;
    let members = json::object(&URL_SAFE_NO_PAD.decode(text).ok()?)?;
    let part = |name| {
        let part = json::text(&members, name)?;
        let fits = part.len() <= 128 && part.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Box::from(part))
    };
    Some(ClientInfo { uid: part("uid")?, utid: part("utid")? })
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
