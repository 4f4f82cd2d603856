//! The token that callers get: one zeroised buffer, shared by everyone who holds it.

use std::{
    fmt,
    ops::Deref,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::HeaderValue;
use zeroize::Zeroizing;

use crate::{
    clock::{Now, nanos},
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
// This is what an entry of the cache swaps, times included, so that a hit follows one pointer and no more. A million of
// them stand in a large cache: a word more is a word a viewer.
pub struct Token {
    timeline: Timeline,
    text: Arc<Text>,
    header: HeaderValue,
    scopes: Option<ScopeSet>,
    /// What is to be added to a time of the timeline to get the wall clock's, as it was when the token was fetched.
    wall: u64,
    /// Of its key, by which its entry is found again.
    hash: u64,
}

/// When a token changes its state, as times of [`Now::nanos`]: due ≤ last call ≤ expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timeline {
    expiry: u64,
    /// Milliseconds before expiry. 49 days at most: what lives longer is due 49 days before its end.
    due: u32,
    /// Milliseconds before expiry.
    last_call: u32,
}

const MILLISECOND: u64 = 1_000_000;

impl Timeline {
    /// `due` and `last_call` come up to a millisecond later than they are given.
    pub(crate) fn at(due: u64, last_call: u64, expiry: u64) -> Self {
        let before = |at: u64| u32::try_from(expiry.saturating_sub(at) / MILLISECOND).unwrap_or(u32::MAX);
        Self { expiry, due: before(due), last_call: before(last_call) }
    }

    /// Of no token: it has always been over.
    pub(crate) const NONE: Self = Self { expiry: 0, due: 0, last_call: 0 };

    /// From when on it is to be replaced.
    #[inline]
    pub(crate) fn due(&self) -> u64 {
        self.expiry.saturating_sub(u64::from(self.due) * MILLISECOND)
    }

    /// From when on callers wait for its successor.
    #[inline]
    pub(crate) fn last_call(&self) -> u64 {
        self.expiry.saturating_sub(u64::from(self.last_call) * MILLISECOND)
    }

    #[inline]
    pub(crate) fn expiry(&self) -> u64 {
        self.expiry
    }
}

/// `Bearer <token>`: the header's value, of which the token is the end.
struct Text(Zeroizing<Box<str>>);

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
        key: &Key,
    ) -> Result<Self, Error> {
        let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let mut value = Zeroizing::new(String::with_capacity(SCHEME.len() + text.len()));
        value.push_str(SCHEME);
        value.push_str(text);
        // It was made as long as it has to be, so this copies nothing.
        let text = Arc::new(Text(Zeroizing::new(std::mem::take(&mut *value).into_boxed_str())));
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
        let wall = nanos(sent.wall().duration_since(UNIX_EPOCH).unwrap_or_default());
        let scopes = scopes.map(|scopes| key.share(scopes));
        let wall = wall.wrapping_sub(sent.nanos());
        Ok(Self { timeline, text, header, scopes, wall, hash: key.hash() })
    }

    #[inline]
    pub(crate) fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// The hash of its key.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    fn wall(&self, at: u64) -> SystemTime {
        // In 128 bits neither a clock before 1970 nor a token that never ends can lead astray.
        let at = i128::from(at) + i128::from(self.wall as i64);
        UNIX_EPOCH + Duration::from_nanos(u64::try_from(at.max(0)).unwrap_or(u64::MAX))
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
        self.wall(self.timeline.expiry())
    }

    /// From when on the broker replaces it, jitter included.
    pub fn refresh_on(&self) -> SystemTime {
        self.wall(self.timeline.due())
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
            .field("expires_on", &self.expires_on())
            .field("refresh_on", &self.refresh_on())
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
        let timeline = Timeline::at(1, 2, 3);
        Token::new(text, None, timeline, Now::from_nanos(0, 0), &key)
            .map(|token| AccessToken(Arc::new(token)))
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
