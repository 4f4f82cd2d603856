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

/// When a token changes its state, as times of [`Now::nanos`]: due ≤ last call ≤ expiry. In two words, and so that a hit
/// looks at the first of them only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timeline {
    due: u64,
    /// From due to expiry.
    rest: Span,
    /// From last call to expiry.
    last: Span,
}

/// Milliseconds, or from 24 days on, where they do not fit in 31 bits, units of 64 s. Rounded down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span(u32);

impl Span {
    const COARSE: u32 = 1 << 31;
    const MILLISECOND: u64 = 1_000_000;
    const MINUTE: u64 = 64_000 * Self::MILLISECOND;

    fn of(nanos: u64) -> Self {
        let fits = |count: u64| u32::try_from(count).ok().filter(|count| *count < Self::COARSE);
        let coarse = || fits(nanos / Self::MINUTE).map(|minutes| minutes | Self::COARSE);
        // 2⁶⁴ ns are 2²⁸ such units, so there is always one that fits.
        Self(fits(nanos / Self::MILLISECOND).or_else(coarse).unwrap_or(0))
    }

    fn nanos(self) -> u64 {
        match self.0 & Self::COARSE {
            0 => u64::from(self.0) * Self::MILLISECOND,
            _ => u64::from(self.0 & !Self::COARSE) * Self::MINUTE,
        }
    }
}

impl Timeline {
    /// `due` and `last_call` come later than they are given by as much as their distance from expiry is rounded down.
    pub(crate) fn at(due: u64, last_call: u64, expiry: u64) -> Self {
        let [rest, last] = [due, last_call].map(|at| Span::of(expiry.saturating_sub(at)));
        Self { due: expiry - rest.nanos(), rest, last }
    }

    /// Of no token: it has always been over.
    pub(crate) const NONE: Self = Self { due: 0, rest: Span(0), last: Span(0) };

    /// From when on it is to be replaced.
    #[inline]
    pub(crate) fn due(&self) -> u64 {
        self.due
    }

    /// From when on callers wait for its successor.
    pub(crate) fn last_call(&self) -> u64 {
        self.expiry() - self.last.nanos()
    }

    pub(crate) fn expiry(&self) -> u64 {
        self.due + self.rest.nanos()
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
    fn times_are_kept_to_the_millisecond_and_expiry_exactly() {
        const DAY: u64 = 86_400_000_000_000;
        for (due, last_call, expiry) in [
            (1, 2, 3),
            (7, 7, 7),
            (DAY + 1, 2 * DAY - 1, 2 * DAY),
            (5, 90 * DAY, 36_500 * DAY),
            (0, 0, u64::MAX),
        ] {
            let line = Timeline::at(due, last_call, expiry);
            let off = if expiry - due < 24 * DAY { 1_000_000 } else { 64_000_000_000 };
            assert_eq!(line.expiry(), expiry);
            assert!(due <= line.due() && line.due() - due < off, "{line:?}");
            assert!(line.due() <= line.last_call() && line.last_call() <= line.expiry(), "{line:?}");
            assert!(last_call <= line.last_call() && line.last_call() - last_call < off, "{line:?}");
        }
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
