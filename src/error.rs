//! The one error of the crate: what happened, whose side it is on, what to do.

use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc, time::Duration};

/// Why there is no token.
///
/// One pointer wide and cheap to clone, since all callers that waited for one fetch share one error. `Display` is
/// one layer, lower case and without a full stop; [`source`](StdError::source) leads to the layers below, and
/// [`advice`](Self::advice) says what to do. Neither `Display` nor `Debug` ever holds a secret, a token or the body
/// of an answer.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    blame: Blame,
    message: Cow<'static, str>,
    advice: Cow<'static, str>,
    answer: Option<Arc<ServiceAnswer>>,
    retry_after: Option<Duration>,
    held_for: Option<Duration>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// What kind of failure it is. Match on it to decide what your program does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Something that was configured cannot be right: a malformed scope, a missing variable, no runtime.
    Config,
    /// The application's own credential is wrong or has expired.
    Credential,
    /// The tenant is unknown, or the application has no service principal there.
    Tenant,
    /// The resource that was asked for does not exist in the tenant, or the scope is not one of its own.
    Resource,
    /// A person has to sign in (again).
    SignInRequired,
    /// Consent by the user or an administrator is missing.
    ConsentRequired,
    /// A policy of the tenant forbids it: Conditional Access, a disabled application, a tenant that is not allowed.
    Policy,
    /// The service asked to be left alone for a while.
    Throttled,
    /// The service or the network between is not there at the moment.
    Unavailable,
    /// It took longer than it was given.
    Timeout,
    /// The answer makes no sense.
    Protocol,
    /// This provider does not exist where the program runs.
    NotAvailable,
    /// A token was refused: the source keeps returning it, or a caller's was not to be taken.
    TokenRefused,
    /// The shared store failed.
    Store,
    /// The broker was closed.
    Closed,
}

impl ErrorKind {
    /// The kind's name in `snake_case`, as it is meant for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Credential => "credential",
            Self::Tenant => "tenant",
            Self::Resource => "resource",
            Self::SignInRequired => "sign_in_required",
            Self::ConsentRequired => "consent_required",
            Self::Policy => "policy",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Protocol => "protocol",
            Self::NotAvailable => "not_available",
            Self::TokenRefused => "token_refused",
            Self::Store => "store",
            Self::Closed => "closed",
        }
    }

    /// Whose side a failure of this kind is on, where nothing more is known.
    fn usual_blame(self) -> Blame {
        match self {
            Self::Config | Self::Credential | Self::Resource | Self::NotAvailable => Blame::Configuration,
            Self::Tenant | Self::ConsentRequired | Self::Policy => Blame::Tenant,
            Self::SignInRequired => Blame::User,
            Self::Timeout | Self::Unavailable => Blame::Network,
            Self::Throttled | Self::Protocol | Self::TokenRefused | Self::Store => Blame::Service,
            Self::Closed => Blame::Program,
        }
    }

    /// True where trying again later, with nothing changed by anyone, may help.
    pub(crate) fn is_transient(self) -> bool {
        matches!(
            self,
            Self::Throttled
                | Self::Unavailable
                | Self::Timeout
                | Self::Protocol
                | Self::TokenRefused
                | Self::Store
        )
    }
}

/// Whose side a failure is on: where to look first, and whom to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Blame {
    /// The configuration of this application: its secret, its client id, its scopes, its registration.
    Configuration,
    /// The tenant that was asked: its administrator has to consent, enable or allow.
    Tenant,
    /// The person who signs in.
    User,
    /// The way to the service: DNS, proxy, firewall, TLS, an unreachable host.
    Network,
    /// The service that answers: Entra, or the managed-identity endpoint of the platform.
    Service,
    /// The program that links this crate: a panicking provider, a closed broker.
    Program,
    /// Whoever sent a token that was refused.
    Caller,
}

impl Blame {
    /// The side's name in `snake_case`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Tenant => "tenant",
            Self::User => "user",
            Self::Network => "network",
            Self::Service => "service",
            Self::Program => "program",
            Self::Caller => "caller",
        }
    }
}

/// What the service said of a failure, beyond its meaning. Never the body itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServiceAnswer {
    pub(crate) status: Option<u16>,
    pub(crate) oauth_error: Option<Box<str>>,
    pub(crate) aadsts: Vec<u32>,
    pub(crate) suberror: Option<Box<str>>,
    pub(crate) claims: Option<Box<str>>,
    pub(crate) correlation_id: Option<Box<str>>,
    pub(crate) trace_id: Option<Box<str>>,
}

impl Error {
    /// An error of a provider of your own. `message` is lower case, without a full stop and without secrets.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner {
            kind,
            blame: kind.usual_blame(),
            message: message.into(),
            advice: Cow::Borrowed(""),
            answer: None,
            retry_after: None,
            held_for: None,
            source: None,
        }))
    }

    pub(crate) fn config(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// Says what to do about it, as a sentence for the person who reads it.
    #[must_use]
    pub fn with_advice(self, advice: impl Into<Cow<'static, str>>) -> Self {
        self.change(|inner| inner.advice = advice.into())
    }

    /// Says whose side it is on, where that is not the usual one of the kind.
    #[must_use]
    pub fn with_blame(self, blame: Blame) -> Self {
        self.change(|inner| inner.blame = blame)
    }

    /// Adds the layer below.
    #[must_use]
    pub fn with_source(self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.change(|inner| inner.source = Some(Arc::from(source.into())))
    }

    /// Says when the service wants to be asked again.
    #[must_use]
    pub fn with_retry_after(self, after: Duration) -> Self {
        self.change(|inner| inner.retry_after = Some(after))
    }

    pub(crate) fn with_answer(self, answer: ServiceAnswer) -> Self {
        self.change(|inner| inner.answer = Some(Arc::new(answer)))
    }

    /// The same failure, given again without asking: the source is left alone for `remaining`.
    pub(crate) fn held(&self, remaining: Duration) -> Self {
        self.clone().change(|inner| inner.held_for = Some(remaining))
    }

    /// The same failure in other words.
    pub(crate) fn reworded(&self, message: String) -> Self {
        self.clone().change(|inner| inner.message = message.into())
    }

    fn change(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whose side it is on.
    pub fn blame(&self) -> Blame {
        self.0.blame
    }

    /// What to do about it, as a sentence. Empty where nothing is known that would help.
    pub fn advice(&self) -> &str {
        &self.0.advice
    }

    /// The HTTP status of the answer, where there was one.
    pub fn status(&self) -> Option<u16> {
        self.answer()?.status
    }

    /// The OAuth `error` member, such as `invalid_client`.
    pub fn oauth_error(&self) -> Option<&str> {
        self.answer()?.oauth_error.as_deref()
    }

    /// The numbers behind `AADSTS`, in the order in which the service gave them. Empty where it gave none.
    pub fn aadsts(&self) -> &[u32] {
        self.answer().map_or(&[], |answer| &answer.aadsts)
    }

    /// The `suberror` member, such as `basic_action`.
    pub fn suberror(&self) -> Option<&str> {
        self.answer()?.suberror.as_deref()
    }

    /// The claims that the service demands, as JSON text: pass them on as a challenge once they can be met.
    pub fn claims(&self) -> Option<&str> {
        self.answer()?.claims.as_deref()
    }

    /// The correlation id of the request: quote it to Microsoft's support.
    pub fn correlation_id(&self) -> Option<&str> {
        self.answer()?.correlation_id.as_deref()
    }

    /// The trace id of the answer: quote it to Microsoft's support.
    pub fn trace_id(&self) -> Option<&str> {
        self.answer()?.trace_id.as_deref()
    }

    /// For how long the service asked to be left alone, counted from its answer.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Some where nothing was sent for this call: an earlier failure is remembered, and the source will not be
    /// asked again for about this long.
    pub fn held_for(&self) -> Option<Duration> {
        self.0.held_for
    }

    fn answer(&self) -> Option<&ServiceAnswer> {
        self.0.answer.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        let mut out = f.debug_struct("Error");
        out.field("kind", &inner.kind).field("blame", &inner.blame).field("message", &inner.message);
        if !inner.advice.is_empty() {
            out.field("advice", &inner.advice);
        }
        if let Some(answer) = &inner.answer {
            out.field("answer", answer);
        }
        if let Some(after) = inner.retry_after {
            out.field("retry_after", &after);
        }
        if let Some(held) = inner.held_for {
            out.field("held_for", &held);
        }
        if let Some(source) = &inner.source {
            out.field("source", source);
        }
        out.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_pointer_wide() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
        assert_eq!(size_of::<Option<Error>>(), size_of::<usize>());
    }

    #[test]
    fn display_is_one_layer_and_source_leads_down() {
        let error = Error::new(ErrorKind::Unavailable, "could not connect").with_source("dns failed");
        assert_eq!(error.to_string(), "could not connect");
        assert_eq!(error.source().unwrap().to_string(), "dns failed");
    }

    #[test]
    fn a_held_error_keeps_what_it_knew() {
        let first = Error::new(ErrorKind::Throttled, "slow down").with_retry_after(Duration::from_secs(9));
        let held = first.held(Duration::from_secs(5));
        assert_eq!(held.to_string(), "slow down");
        assert_eq!(held.retry_after(), Some(Duration::from_secs(9)));
        assert_eq!(held.held_for(), Some(Duration::from_secs(5)));
        assert_eq!(first.held_for(), None);
    }
}
