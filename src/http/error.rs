//! Why an attempt brought no answer.

use std::{borrow::Cow, error::Error as StdError, fmt};

use crate::error::{Blame, Error, ErrorKind, ServiceAnswer};

/// Why an attempt of a [`Transport`](super::Transport) brought no answer.
///
/// `Display` is the reason alone, such as `connection refused`, so that it can stand after "could not connect to …:".
/// It names neither URL nor proxy, for both may hold secrets; a transport of your own has to keep to that.
#[derive(Debug)]
pub struct TransportError {
    kind: TransportErrorKind,
    may_have_left: bool,
    reason: Cow<'static, str>,
    advice: &'static str,
    status: Option<u16>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What kind of failure of an attempt it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransportErrorKind {
    /// No connection: the name, the address, the proxy, or it took too long. Worth another attempt.
    Connect,
    /// There is somebody, but TLS came to no agreement: mostly a certificate that is not trusted. Trying again is no
    /// use.
    Tls,
    /// The connection broke after the request may have been sent. Worth another attempt, where the request may be
    /// sent twice.
    Interrupted,
    /// The answer is larger than allowed.
    TooLarge,
    /// The transport would not send this request at all: plain http to a foreign host, no runtime.
    Refused,
    /// Anything else. Not tried again.
    Other,
}

impl TransportError {
    /// A failure of `kind`. `reason` is lower case, without a full stop and without secrets.
    ///
    /// Unless [`with_may_have_left`](Self::with_may_have_left) says otherwise, `Connect`, `Tls` and `Refused` mean that
    /// nothing was sent, and all others that the request may have been sent.
    pub fn new(kind: TransportErrorKind, reason: impl Into<Cow<'static, str>>) -> Self {
        use TransportErrorKind::{Connect, Refused, Tls};
        let may_have_left = !matches!(kind, Connect | Tls | Refused);
        Self { kind, may_have_left, reason: reason.into(), advice: "", status: None, source: None }
    }

    pub(super) fn refused(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(TransportErrorKind::Refused, reason)
    }

    pub(super) fn too_large(limit: usize) -> Self {
        Self::new(TransportErrorKind::TooLarge, format!("larger than the limit of {limit} bytes"))
            .with_advice(
                "Something other than the service may have answered: look at what the address leads to.",
            )
    }

    /// Says whether bytes of the request may have been sent, where the kind alone says it wrongly.
    #[must_use]
    pub fn with_may_have_left(mut self, may_have_left: bool) -> Self {
        self.may_have_left = may_have_left;
        self
    }

    /// Adds the layer below.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The status of the answer, where that had come before the attempt failed.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Says what to do about it, as a sentence for the person who reads it.
    #[must_use]
    pub fn with_advice(mut self, advice: &'static str) -> Self {
        self.advice = advice;
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> TransportErrorKind {
        self.kind
    }

    /// False where it is certain that no byte of the request was sent.
    pub fn may_have_left(&self) -> bool {
        self.may_have_left
    }

    /// As the crate's error, once no more attempts are made. `host` is the host that was asked.
    pub(super) fn into_error(self, host: &str, attempts: &str) -> Error {
        let reason = &self.reason;
        let (kind, blame, message) = match self.kind {
            TransportErrorKind::Connect | TransportErrorKind::Tls => (
                ErrorKind::Unavailable,
                Blame::Network,
                format!("could not connect to {host}: {reason}, {attempts}"),
            ),
            TransportErrorKind::Interrupted => (
                ErrorKind::Unavailable,
                Blame::Network,
                format!("lost the connection to {host}: {reason}, {attempts}"),
            ),
            TransportErrorKind::TooLarge => {
                (ErrorKind::Protocol, Blame::Service, format!("the answer of {host} is {reason}, {attempts}"))
            }
            TransportErrorKind::Refused => (
                ErrorKind::Config,
                Blame::Configuration,
                format!("the request to {host} was not sent: {reason}"),
            ),
            TransportErrorKind::Other => (
                ErrorKind::Unavailable,
                Blame::Network,
                format!("the exchange with {host} failed: {reason}, {attempts}"),
            ),
        };
        let error = Error::new(kind, message).with_blame(blame).with_advice(self.advice);
        let error = match self.status {
            Some(_) => error.with_answer(ServiceAnswer { status: self.status, ..ServiceAnswer::default() }),
            None => error,
        };
        match self.source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl StdError for TransportError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
