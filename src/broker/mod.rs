//! The broker: the only composer. It puts provider, transport, cache and engine together, and only it has
//! `get_token`.

mod audit;
mod builder;
mod check_tenant;
mod get_token;
mod handle;
mod metrics;
mod reader;
mod resources;
mod source;
mod spelling;
mod tenants;
mod warm;

use std::{
    borrow::Cow,
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

pub use audit::{
    Audit, AuditBuilder, AuditCalls, AuditEvent, AuditOutcome, AuditRecord, AuditSink, JsonLines,
};
pub use builder::Builder;
pub use check_tenant::{TenantCheck, TenantStanding};
pub use get_token::GetToken;
pub use handle::{Handle, HandleGet};
pub use metrics::Metrics;
pub use reader::Reader;
pub use warm::Warmed;

use crate::{
    Clock, Error, Identity, Provider, RequestRef,
    cell::ErasedCell,
    clock::Now,
    refresh::{Ask, Engine, Entry},
    request::{Asked, CallOptions, Key, TokenRequest},
    sync::Arc,
    token::{AccessToken, Token},
};
use resources::Resources;
use source::Source;
use spelling::Spellings;
use tenants::Tenants;

/// Keeps a fresh token ready for every scope in use.
///
/// A clone is another handle on the same broker. When the last one goes, its background tasks end.
///
/// ```
/// use entra_broker::{Broker, StaticToken};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), entra_broker::Error> {
/// let broker = Broker::new(StaticToken::new("eyJ0eXAi")?)?;
/// let token = broker.get_token("https://vault.azure.net/.default").await?;
/// assert_eq!(token.authorization(), "Bearer eyJ0eXAi");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Broker(Arc<Shell>);

/// What all clones share, and what ends with them. Flights and scheduler know the engine only.
struct Shell {
    /// By which a request tells whose entry it remembers.
    id: u64,
    clock: Clock,
    engine: Arc<Engine>,
    identity: Identity,
    tenants: Arc<Tenants>,
    resources: Resources,
    timeout: Duration,
    spellings: Spellings,
    /// Only where calls are recorded as well.
    calls: Option<Audit>,
    source: Arc<Source>,
}

impl Broker {
    /// A broker with the defaults for everything, over one provider.
    ///
    /// # Errors
    ///
    /// As [`Builder::build`].
    pub fn new(provider: impl Provider) -> Result<Self, Error> {
        Self::builder().build(provider)
    }

    /// For everything that is not the default.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// A token for a prepared request, or for scopes as text: one, or several separated by spaces.
    ///
    /// Where a usable token is cached the future is ready on its first poll, whatever else is under way. Otherwise
    /// the call waits for the one fetch of its key, for 30 s at most unless the broker was built to wait longer. A
    /// token that is due is served and refreshed in the background.
    ///
    /// # Errors
    ///
    /// `Config` for malformed scopes; `Policy` for a tenant that is not allowed; `Timeout` where the caller's time is
    /// up; `Closed`; otherwise what the provider says, at once where it is remembered. A usable token is never
    /// replaced by an error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing: the fetch it waited for goes on and fills the cache.
    pub fn get_token<'a>(&'a self, request: impl Into<RequestRef<'a>>) -> GetToken<'a> {
        GetToken::new(self, request.into().0, None)
    }

    /// As [`get_token`](Self::get_token), made in another way than usual.
    ///
    /// # Errors
    ///
    /// As [`get_token`](Self::get_token).
    ///
    /// # Cancel safety
    ///
    /// As [`get_token`](Self::get_token).
    pub fn get_token_with<'a>(
        &'a self,
        request: impl Into<RequestRef<'a>>,
        options: &'a CallOptions,
    ) -> GetToken<'a> {
        GetToken::new(self, request.into().0, Some(options))
    }

    /// Binds a request once, to read its token many times. A tenant that is not allowed is an error when it is read.
    pub fn handle(&self, request: &TokenRequest) -> Handle {
        Handle::new(self, request)
    }

    /// The token, if a usable one is at hand. Never waits and never fetches for a caller without one; a token that is
    /// due is refreshed in the background.
    pub fn peek<'a>(&self, request: impl Into<RequestRef<'a>>) -> Option<AccessToken> {
        let now = self.0.clock.now();
        let asked = request.into().0;
        self.take_recorded(asked, None, now).or_else(|| self.0.peek(asked, None, &self.0.known(asked)?, now))
    }

    #[inline]
    fn take_recorded(&self, asked: Asked<'_>, label: Option<&str>, now: Now) -> Option<AccessToken> {
        let token = self.take(asked, now)?;
        if self.0.calls.is_some() {
            self.0.record(asked, label, &token, now);
        }
        Some(token)
    }

    /// A resource refused this token. If it is still the cached one it goes, and the next caller waits for another;
    /// otherwise nothing happens. Should the source return the same token again, that is an error of kind
    /// `TokenRefused` instead of a loop. Says whether it was still the cached one.
    pub fn invalidate(&self, token: &AccessToken) -> bool {
        self.0.engine.invalidate(token)
    }

    /// What happened so far, and how many entries there are.
    pub fn metrics(&self) -> Metrics {
        Metrics::of(&self.0.engine)
    }

    /// Who asks: the provider's identity, with the binding that the broker was given.
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// Ends the broker: no more tokens, no more background work. Fetches that spend something which must not be lost
    /// come to their end first; all others end at once, and who waits for them gets an error of kind `Closed`. What the
    /// [audit trail](Audit) has recorded so far is written, if that takes no longer than two seconds.
    ///
    /// # Cancel safety
    ///
    /// The broker is closed all the same; calling it again waits for the rest.
    pub async fn close(&self) {
        self.0.engine.close().await;
        if let Some(audit) = &self.0.source.audit {
            audit.flush_in(&self.0.clock).await;
        }
    }
}

impl Shell {
    /// The entry of what is asked for, made where there is none. It is remembered where it was asked for, so that the
    /// next time it is a hit.
    fn cell(&self, asked: Asked<'_>, now: Now) -> Result<Arc<Entry>, Error> {
        let cell = self.engine.cell(&*self.key_of(asked)?, now);
        self.remember(asked, &cell);
        Ok(cell)
    }

    /// The entry of what is asked for, if there is one. It is remembered as well.
    fn known(&self, asked: Asked<'_>) -> Option<Arc<Entry>> {
        let cell = self.engine.cache.get(&*self.key_of(asked).ok()?)?;
        self.remember(asked, &cell);
        Some(cell)
    }

    fn key_of<'a>(&self, asked: Asked<'a>) -> Result<Cow<'a, Key>, Error> {
        match asked {
            Asked::Request(request) => self.key(request),
            Asked::Text(text) => match self.spellings.get(text) {
                Some(cell) => Ok(Cow::Owned(cell.key().clone())),
                None => self.key(&TokenRequest::new(text)?).map(|key| Cow::Owned(key.into_owned())),
            },
        }
    }

    fn remember(&self, asked: Asked<'_>, cell: &Arc<Entry>) {
        match asked {
            Asked::Request(request) => {
                let erased: Arc<ErasedCell> = Arc::<Entry>::clone(cell);
                request.remember(self.id, &erased);
            }
            Asked::Text(text) => self.spellings.remember(text, cell),
        }
    }

    fn peek(
        &self,
        asked: Asked<'_>,
        label: Option<&str>,
        cell: &Arc<Entry>,
        now: Now,
    ) -> Option<AccessToken> {
        let token = cell.usable(now)?;
        // It was no hit, so it is due: have it refreshed if nothing is under way.
        let ask = Ask { subject: asked.subject(), challenge: None, label };
        drop(self.engine.step(cell, now, ask));
        self.record(asked, label, &token, now);
        Some(AccessToken(token))
    }

    #[cold]
    #[inline(never)]
    fn record(&self, asked: Asked<'_>, label: Option<&str>, token: &Token, now: Now) {
        if let Some(audit) = &self.calls {
            audit.hit(&self.source.who, asked, label, token, now);
        }
    }

    /// A call that was no hit has its answer, at once or after it waited.
    #[cold]
    fn answered(
        &self,
        asked: Asked<'_>,
        label: Option<&str>,
        result: &Result<AccessToken, Error>,
        waited: bool,
    ) {
        if let Some(audit) = &self.calls {
            audit.answered(&self.source.who, asked, label, result.as_deref(), waited, self.clock.now());
        }
    }

    /// The request's key here: the provider's own tenant is no tenant, and others have to be allowed.
    fn key<'a>(&self, request: &'a TokenRequest) -> Result<Cow<'a, Key>, Error> {
        self.resources.check(request.scopes())?;
        let Some(tenant) = request.requested_tenant() else { return Ok(Cow::Borrowed(request.key())) };
        if self.identity.tenant() == Some(tenant) {
            return Ok(Cow::Owned(request.key().at_home()));
        }
        self.tenants.check(tenant).map(|()| Cow::Borrowed(request.key()))
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.engine.end();
    }
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("identity", &self.0.identity)
            .field("engine", &self.0.engine)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StaticToken;

    #[tokio::test]
    async fn a_request_and_a_handle_whose_entry_was_evicted_become_hits_again() {
        let provider = StaticToken::new("t").unwrap();
        let broker = Broker::builder().capacity(1).build(provider).unwrap();
        let vault = TokenRequest::new("https://vault.azure.net/.default").unwrap();
        let handle = broker.handle(&vault);
        let hit =
            |request: &TokenRequest| broker.take(Asked::Request(request), broker.0.clock.now()).is_some();
        for _ in 0..3 {
            broker.get_token(&vault).await.unwrap();
            assert!(hit(&vault));
            handle.get().await.unwrap();
            assert!(hit(handle.request()) && handle.peek().is_some() && handle.with(|_| ()).is_some());
            broker.get_token("https://storage.azure.com/.default").await.unwrap();
            assert!(!hit(&vault) && !hit(handle.request()) && handle.peek().is_none());
            // And where the handle is only ever peeked through.
            broker.get_token(&vault).await.unwrap();
            assert!(!hit(handle.request()) && handle.peek().is_some() && hit(handle.request()));
        }
    }
}
