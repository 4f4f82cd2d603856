//! What a resource says when it refuses a token: the challenges of `WWW-Authenticate`.
//!
//! Read as RFC 9110 has it, by `http-auth`. Azure's services do not all write it so: Storage separates parameters by
//! blanks, DevOps and Dynamics leave the quotes from a URL, some leave a comma at the end. What the strict parser refuses
//! is read by a lenient one, which agrees with it on everything that both take.

use std::fmt;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, header::WWW_AUTHENTICATE};
use http_auth::ChallengeParser;
use url::Url;

use crate::{Blame, Claims, Error, ErrorKind, TenantId};

/// All challenges of an answer together. Servers limit headers to less; those of Azure have some hundred bytes.
const MAX_LENGTH: usize = 64 * 1024;

/// Claims come in either alphabet, padded or not: see [`decode`].
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Why a resource refused a token: the `Bearer` challenge of its answer.
///
/// ```
/// use entra_broker::{BearerChallenge, CallOptions};
///
/// # let mut headers = http::HeaderMap::new();
/// # headers.insert("www-authenticate", r#"Bearer realm="", error="insufficient_claims",
/// #     claims="eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7InZhbHVlIjoiMTgwMDAwMDAwMCJ9fX0=""#.replace('\n', "").parse().unwrap());
/// // A resource answered 401 with these headers.
/// if let Some(challenge) = BearerChallenge::from_headers(&headers)? {
///     assert_eq!(challenge.error(), Some("insufficient_claims"));
///     let options = challenge.claims().map(|claims| CallOptions::new().challenge(claims.clone()));
///     // broker.get_token_with(&request, &options).await? is a token that says more.
/// #   assert!(options.is_some());
/// }
/// # Ok::<(), entra_broker::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct BearerChallenge {
    parameters: Vec<(String, String)>,
    claims: Option<Claims>,
}

/// A scheme with its parameters.
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl BearerChallenge {
    /// The `Bearer` challenge of an answer: the one that demands claims where there are several. `None` where there is
    /// none, whatever else the answer says.
    ///
    /// # Errors
    /// `Protocol` where it demands claims that are not base64 of a JSON object, or names them twice, and where the headers
    /// have more than 64 KiB.
    pub fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, Error> {
        let values = || headers.get_all(WWW_AUTHENTICATE).iter();
        if values().map(|value| value.len()).sum::<usize>() > MAX_LENGTH {
            return Err(senseless("its headers are longer than 64 KiB"));
        }
        let mut first = None;
        for value in values() {
            let text = String::from_utf8_lossy(value.as_bytes());
            let all = strict(&text).unwrap_or_else(|| lenient(&text));
            for challenge in all.into_iter().filter(|all| all.scheme.eq_ignore_ascii_case("bearer")) {
                let read = Self::read(challenge.parameters)?;
                if read.claims.is_some() {
                    return Ok(Some(read));
                }
                first.get_or_insert(read);
            }
        }
        Ok(first)
    }

    fn read(parameters: Vec<(String, String)>) -> Result<Self, Error> {
        let mut all = parameters.iter().filter(|(name, _)| name.eq_ignore_ascii_case("claims"));
        let claims = match (all.next(), all.next()) {
            (None, _) => None,
            (Some((_, value)), None) if value.trim().is_empty() => None,
            (Some((_, value)), None) => Some(decode(value)?),
            (Some(_), Some(_)) => return Err(senseless("it names its claims twice")),
        };
        Ok(Self { parameters, claims })
    }

    /// What a token has to say that this one does not: for [`CallOptions::challenge`](crate::CallOptions::challenge).
    pub fn claims(&self) -> Option<&Claims> {
        self.claims.as_ref()
    }

    /// Why: `insufficient_claims`, `invalid_token`.
    pub fn error(&self) -> Option<&str> {
        self.parameter("error")
    }

    /// Where the resource would have a token asked for. Whoever answers says what stands here: ask at the authority that
    /// you configured, and not there.
    pub fn authorization_uri(&self) -> Option<&str> {
        self.parameter("authorization_uri").or_else(|| self.parameter("authorization"))
    }

    /// The tenant of the [`authorization_uri`](Self::authorization_uri), where that names one, which `common` does not. Not
    /// to be believed either: a broker has a list of the tenants that may be asked.
    pub fn tenant(&self) -> Option<TenantId> {
        let url = Url::parse(self.authorization_uri()?).ok()?;
        let tenant = TenantId::parse(url.path_segments()?.next()?).ok()?;
        Some(tenant).filter(|tenant| !tenant.is_multi_tenant_alias())
    }

    /// The resource by its own account: `resource`, or `resource_id`.
    pub fn resource(&self) -> Option<&str> {
        self.parameter("resource").or_else(|| self.parameter("resource_id"))
    }

    /// The scope that the resource wants.
    pub fn scope(&self) -> Option<&str> {
        self.parameter("scope")
    }

    /// A parameter by its name, in any case; the first where it is there twice. `None` where it is empty.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }
}

/// The names only: a parameter may hold anything.
impl fmt::Debug for BearerChallenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.parameters.iter().map(|(name, _)| name).collect();
        f.debug_struct("BearerChallenge").field("parameters", &names).field("claims", &self.claims).finish()
    }
}

impl Claims {
    /// The claims that a resource demands in an answer with these headers: [`BearerChallenge::claims`] of what
    /// [`BearerChallenge::from_headers`] finds.
    ///
    /// # Errors
    /// As [`BearerChallenge::from_headers`].
    pub fn from_challenge(headers: &HeaderMap) -> Result<Option<Self>, Error> {
        Ok(BearerChallenge::from_headers(headers)?.and_then(|challenge| challenge.claims))
    }
}

fn senseless(why: &str) -> Error {
    Error::new(ErrorKind::Protocol, format!("the resource's challenge makes no sense: {why}"))
        .with_blame(Blame::Service)
}

/// Base64 of a JSON object in either alphabet, padded or not; or the object itself, as some resources have it.
fn decode(value: &str) -> Result<Claims, Error> {
    let value = value.trim();
    let unreadable = || senseless("its claims are not base64 of a JSON object");
    if value.starts_with('{') {
        return Claims::parse(value).map_err(|_| unreadable());
    }
    let standard = |byte| match byte {
        b'-' => b'+',
        b'_' => b'/',
        other => other,
    };
    let standard: Vec<u8> = value.bytes().map(standard).collect();
    let json = BASE64.decode(standard).map_err(|_| unreadable())?;
    let json = String::from_utf8(json).map_err(|_| unreadable())?;
    // The error of either parser may quote what it read.
    Claims::parse(&json).map_err(|_| unreadable())
}

/// `None` where the whole is not as RFC 9110 has it.
fn strict(text: &str) -> Option<Vec<Challenge>> {
    let read = |challenge: http_auth::ChallengeRef<'_>| {
        let parameters = challenge.params.iter();
        let parameters = parameters.map(|(name, value)| ((*name).to_owned(), value.to_unescaped())).collect();
        Challenge { scheme: challenge.scheme.to_owned(), parameters }
    };
    ChallengeParser::new(text).map(|challenge| challenge.ok().map(read)).collect()
}

/// A word is a scheme unless `=` follows, whatever separates one from the other. What is neither is passed over.
fn lenient(text: &str) -> Vec<Challenge> {
    let mut all: Vec<Challenge> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return all;
        }
        let length = rest.bytes().take_while(|byte| is_token(*byte)).count();
        if length == 0 {
            rest = after_junk(rest);
            continue;
        }
        let (word, after) = rest.split_at(length);
        let Some(value) = after.trim_start_matches([' ', '\t']).strip_prefix('=') else {
            // A word that goes on with what no word may hold, such as a `Negotiate` token, is neither.
            if after.is_empty() || after.starts_with([' ', '\t', ',']) {
                all.push(Challenge { scheme: word.to_owned(), parameters: Vec::new() });
                rest = after;
            } else {
                rest = after_junk(after);
            }
            continue;
        };
        let value = value.trim_start_matches([' ', '\t']);
        let (value, after) = match value.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let end = value.find([' ', '\t', ',']).unwrap_or(value.len());
                (Some(value[..end].to_owned()), &value[end..])
            }
        };
        rest = after;
        if let (Some(challenge), Some(value)) = (all.last_mut(), value) {
            challenge.parameters.push((word.to_owned(), value));
        }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The text of a quoted string whose first quote is gone, and what follows. No text where it does not end: half of a value
/// is none.
fn unquote(quoted: &str) -> (Option<String>, &str) {
    let mut text = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (Some(text), &quoted[at + 1..]),
            '\\' => text.extend(chars.next().map(|(_, escaped)| escaped)),
            other => text.push(other),
        }
    }
    (None, "")
}

/// What follows something that makes no sense, to the next blank or comma outside of quotes.
fn after_junk(text: &str) -> &str {
    let mut rest = text;
    while let Some(at) = rest.find([' ', '\t', ',', '"']) {
        let Some(quoted) = rest[at..].strip_prefix('"') else { return &rest[at..] };
        rest = unquote(quoted).1;
    }
    ""
}

#[cfg(test)]
#[path = "challenge_tests.rs"]
mod tests;
