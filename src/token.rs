//! The token that callers get: one zeroised buffer, shared by everyone who holds it.

use std::{
    fmt,
    ops::Deref,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::HeaderValue;
use zeroize::Zeroizing;

use crate::{
    clock::Now,
    error::{Error, ErrorKind},
    request::Key,
    scope::ScopeSet,
    sync::Arc,
};

const SCHEME: &str = "Bearer ";

/// An access token, cheap to clone: all clones, and all header values made of it, share one buffer that is
/// overwritten when the last of them goes.
///
/// `Debug` never shows the token, and there is no `Display` and no serialisation.
#[derive(Clone)]
pub struct AccessToken(pub(crate) Arc<Token>);

/// A token as it is lent: what [`AccessToken`] owns a share of.
// This is what an entry of the cache swaps, times included, so that a hit follows one pointer and no more.
pub struct Token {
    text: Arc<Text>,
    header: HeaderValue,
    scopes: Option<ScopeSet>,
    timeline: Timeline,
    /// The wall clock's word for the timeline, for people.
    expires_on: SystemTime,
    refresh_on: SystemTime,
    /// Where it is cached, so that it can be invalidated.
    key: Arc<Key>,
}

/// When a token changes its state, as nanoseconds of [`Now::nanos`]. Ordered: due ≤ last call ≤ expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timeline {
    pub(crate) due: u64,
    pub(crate) last_call: u64,
    pub(crate) expiry: u64,
}

/// `Bearer <token>`: the header's value, of which the token is the end.
struct Text(Zeroizing<String>);

struct Owner(Arc<Text>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        self.0.0.as_bytes()
    }
}

impl Token {
    /// # Errors
    ///
    /// `Protocol` where the text is empty or holds something that cannot stand in a header.
    pub(crate) fn new(
        text: &str,
        scopes: Option<ScopeSet>,
        timeline: Timeline,
        sent: Now,
        key: Arc<Key>,
    ) -> Result<Self, Error> {
        let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let mut value = Zeroizing::new(String::with_capacity(SCHEME.len() + text.len()));
        value.push_str(SCHEME);
        value.push_str(text);
        let text = Arc::new(Text(value));
        let header = HeaderValue::from_maybe_shared(Bytes::from_owner(Owner(Arc::clone(&text))));
        let (true, Ok(mut header)) = (fits, header) else {
            return Err(Error::new(
                ErrorKind::Protocol,
                "the token that came back is empty or holds characters that no header may hold",
            )
            .with_advice(
                "Something between here and the service rewrites its answers: look at proxies first.",
            ));
        };
        header.set_sensitive(true);
        let wall = |at: u64| sent.wall() + Duration::from_nanos(at.saturating_sub(sent.nanos()));
        let (expires_on, refresh_on) = (wall(timeline.expiry), wall(timeline.due));
        Ok(Self { text, header, scopes, timeline, expires_on, refresh_on, key })
    }

    #[inline]
    pub(crate) fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    pub(crate) fn key(&self) -> &Arc<Key> {
        &self.key
    }

    /// The token's text. Keep it out of logs and long-lived copies.
    #[inline]
    pub fn secret(&self) -> &str {
        &self.text.0[SCHEME.len()..]
    }

    /// `Bearer <token>` as the value of an `Authorization` header, marked sensitive. No copy of the text is made.
    pub fn authorization(&self) -> HeaderValue {
        self.header.clone()
    }

    /// When it ends, by the wall clock as it went when the token was fetched, counted from the moment at which it was
    /// asked for.
    pub fn expires_on(&self) -> SystemTime {
        self.expires_on
    }

    /// From when on the broker replaces it, jitter included.
    pub fn refresh_on(&self) -> SystemTime {
        self.refresh_on
    }

    /// The scopes that were granted, where the service said so. For app tokens it does not.
    pub fn scopes(&self) -> Option<&ScopeSet> {
        self.scopes.as_ref()
    }
}

impl AccessToken {
    /// True where both are one and the same fetched token, not merely equal in text.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Deref for AccessToken {
    type Target = Token;

    fn deref(&self) -> &Token {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("expires_on", &self.expires_on)
            .field("refresh_on", &self.refresh_on)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::TokenRequest;

    fn token(text: &str) -> Result<AccessToken, Error> {
        let key = TokenRequest::new("https://vault.azure.net/.default").unwrap().key().clone();
        let timeline = Timeline { due: 1, last_call: 2, expiry: 3 };
        Token::new(text, None, timeline, Now::from_nanos(0, 0), key).map(|token| AccessToken(Arc::new(token)))
    }

    #[test]
    fn token_and_header_share_one_buffer() {
        let token = token("abc.def").unwrap();
        let header = token.authorization();
        assert_eq!(header.to_str().unwrap(), "Bearer abc.def");
        assert!(header.is_sensitive());
        assert_eq!(token.secret().as_ptr(), header.as_bytes()[SCHEME.len()..].as_ptr());
    }

    #[test]
    fn a_text_that_no_header_may_hold_is_refused_unseen() {
        for text in ["", "a\r\nX-Evil: 1", "a b", "tök", "a\0"] {
            let error = token(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol);
            assert!(text.is_empty() || !format!("{error:?}{error}").contains(text));
        }
    }

    #[test]
    fn debug_hides_the_text() {
        assert!(!format!("{:?}", token("s3cr3t").unwrap()).contains("s3cr3t"));
    }
}
