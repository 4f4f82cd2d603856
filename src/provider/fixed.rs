//! Providers for tests, benchmarks and odd sources: a token that is given, and a closure that gets one.

use std::{fmt, time::Duration};

use super::{FetchContext, Provider};
use crate::{BoxFuture, Error, Fetched, Grant, Identity, Secret, TokenRequest};

/// One token for every request, as it was given.
#[derive(Debug, Clone)]
pub struct StaticToken {
    token: Secret,
    lives: Duration,
}

/// Long enough for any program, short enough that dates stay dates.
const A_CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);

impl StaticToken {
    /// # Errors
    ///
    /// `Config` where the text is empty or cannot stand in a header.
    pub fn new(token: impl Into<Secret>) -> Result<Self, Error> {
        let token = token.into();
        if token.is_empty() || !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::config(
                "static token: expected a token without blanks, of visible ASCII characters",
            )
            .with_advice("Look for a trailing newline where it was read from."));
        }
        Ok(Self { token, lives: A_CENTURY })
    }

    /// How long it lives, counted from each fetch. Default: a century.
    #[must_use]
    pub fn lives(mut self, lives: Duration) -> Self {
        self.lives = lives;
        self
    }
}

impl Provider for StaticToken {
    fn name(&self) -> &'static str {
        "static-token"
    }

    fn identity(&self) -> Identity {
        Identity::local()
    }

    fn fetch<'a>(
        &'a self,
        cx: &'a FetchContext,
        _: &'a TokenRequest,
        grant: Grant,
    ) -> BoxFuture<'a, Result<Fetched, Error>> {
        Box::pin(async move {
            grant.app_only("a static token")?;
            Ok(Fetched::new(self.token.clone(), cx.clock().now(), self.lives))
        })
    }
}

/// A provider made of a closure that gets app tokens.
///
/// ```
/// use std::time::Duration;
/// use entra_broker::{Broker, Fetched, FnProvider};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), entra_broker::Error> {
/// let provider = FnProvider::new(|cx, request| {
///     Box::pin(async move {
///         let sent = cx.clock().now();
///         let token = format!("token-for-{}", request.scopes().resource().unwrap_or("nothing").len());
///         Ok(Fetched::new(token, sent, Duration::from_secs(3600)))
///     })
/// });
/// let broker = Broker::new(provider)?;
/// let token = broker.get_token("https://vault.azure.net/.default").await?;
/// assert_eq!(token.secret(), "token-for-23");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct FnProvider<F> {
    fetch: F,
    identity: Identity,
}

impl<F> FnProvider<F>
where
    F: for<'a> Fn(&'a FetchContext, &'a TokenRequest) -> BoxFuture<'a, Result<Fetched, Error>>
        + Send
        + Sync
        + 'static,
{
    /// Its identity is [`Identity::local`].
    pub fn new(fetch: F) -> Self {
        Self { fetch, identity: Identity::local() }
    }

    /// Says who it is.
    #[must_use]
    pub fn with_identity(mut self, identity: Identity) -> Self {
        self.identity = identity;
        self
    }
}

impl<F> Provider for FnProvider<F>
where
    F: for<'a> Fn(&'a FetchContext, &'a TokenRequest) -> BoxFuture<'a, Result<Fetched, Error>>
        + Send
        + Sync
        + 'static,
{
    fn identity(&self) -> Identity {
        self.identity.clone()
    }

    fn fetch<'a>(
        &'a self,
        cx: &'a FetchContext,
        request: &'a TokenRequest,
        grant: Grant,
    ) -> BoxFuture<'a, Result<Fetched, Error>> {
        match grant.app_only("a provider made of a closure") {
            Ok(()) => (self.fetch)(cx, request),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }
}

impl<F> fmt::Debug for FnProvider<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnProvider").field("identity", &self.identity).finish_non_exhaustive()
    }
}
