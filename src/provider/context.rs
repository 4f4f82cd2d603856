//! What a fetch is given: the way out, the time it has, and why it is made.

use std::fmt;

use bytes::Bytes;

use crate::{
    AccessToken, BoxFuture, Claims, Clock, Error, ErrorKind, Now, Reason,
    error::Blame,
    http::{
        ANSWER_LIMIT, ATTEMPT_TIMEOUT, Answer, Exchange, Pool, RetryPolicy, Transport, TransportError,
        identify, shown_host,
    },
    sync::{Arc, Mutex, OnceLock},
};

/// Asked before anything is sent.
pub(crate) type Gate = Arc<dyn Fn() -> Result<(), Error> + Send + Sync>;

/// The surroundings of one fetch.
pub struct FetchContext {
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) clock: Clock,
    pub(crate) deadline: Now,
    pub(crate) reason: Reason,
    pub(crate) attended: bool,
    pub(crate) challenge: Option<Claims>,
    pub(crate) previous: Option<AccessToken>,
    pub(crate) refused: Option<[u8; 32]>,
    pub(crate) gate: Gate,
    pub(crate) random: Arc<dyn Fn() -> f64 + Send + Sync>,
    pub(crate) in_chain: bool,
    pub(crate) trail: Trail,
}

/// What was sent in one fetch, in order. Clones write to one list.
pub(crate) type Trail = Arc<Mutex<Vec<Exchanged>>>;

/// One request that was sent, however many attempts it took, and what is known of its answer.
#[derive(Debug, Clone)]
pub(crate) struct Exchanged {
    pub(crate) host: String,
    pub(crate) attempts: u32,
    /// None where there was no answer.
    pub(crate) status: Option<u16>,
    /// Under which the token service has it in its logs.
    pub(crate) correlation_id: Option<String>,
    pub(crate) trace_id: Option<String>,
}

impl FetchContext {
    /// Sends a request and reads the answer, with the attempts that `policy` allows and the fetch's deadline leaves.
    /// An answer is limited to 1 MiB, an attempt to 10 s. Redirects are not followed.
    ///
    /// # Errors
    ///
    /// Where there is no answer: `Unavailable`, `Timeout` or, where it is too large, `Protocol`. An answer of any
    /// status is an answer. Also where a failure of another fetch has shown meanwhile that this one would fail too.
    ///
    /// # Cancel safety
    ///
    /// The attempt under way ends, and there is no other. The service may have received it.
    pub async fn send(
        &self,
        pool: Pool,
        mut request: http::Request<Bytes>,
        policy: &RetryPolicy,
    ) -> Result<Answer, Error> {
        let noting = Noting::new(self, pool, &mut request);
        let exchange = Exchange {
            transport: &noting,
            clock: &self.clock,
            policy,
            deadline: self.deadline,
            attempt_timeout: ATTEMPT_TIMEOUT,
            limit: ANSWER_LIMIT,
            random: &*self.random,
            gate: &*self.gate,
        };
        let ended = exchange.run(pool, request).await;
        if let Ok(answer) = &ended {
            noting.answered(&answer.response);
        }
        ended
    }

    /// Runs what blocks, such as reading a file, where it stalls no other task. The fetch's deadline bounds how long
    /// it is waited for.
    ///
    /// # Errors
    ///
    /// What `run` returns; `Unavailable` where it panicked; `Timeout` at the deadline.
    ///
    /// # Cancel safety
    ///
    /// Nobody waits any more, but what was begun runs to its end.
    pub async fn blocking<T: Send + 'static>(
        &self,
        run: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        tokio::select! {
            biased;
            ended = tokio::task::spawn_blocking(run) => ended.unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::Unavailable, "blocking work of a provider panicked")
                    .with_blame(Blame::Program))
            }),
            () = self.clock.sleep_until(self.deadline) => {
                Err(Error::new(ErrorKind::Timeout, "blocking work of a provider took longer than the fetch may"))
            }
        }
    }

    /// The same for a link of a chain that has not worked yet.
    pub(crate) fn for_link(&self) -> Self {
        Self {
            transport: Arc::clone(&self.transport),
            clock: self.clock.clone(),
            challenge: self.challenge.clone(),
            previous: self.previous.clone(),
            gate: Arc::clone(&self.gate),
            random: Arc::clone(&self.random),
            trail: Arc::clone(&self.trail),
            in_chain: true,
            ..*self
        }
    }

    /// True in a chain, for a link that has not worked yet: find out quickly whether this provider is available here, and
    /// say `NotAvailable` where it is not.
    pub fn is_probe(&self) -> bool {
        self.in_chain
    }

    /// Where the time comes from.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// When the fetch is given up.
    pub fn deadline(&self) -> Now {
        self.deadline
    }

    /// Why the token is fetched.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// True where a caller waits, so that a provider which has to ask a person may do so. Never in the background.
    pub fn may_interact(&self) -> bool {
        self.attended
    }

    /// The claims that a resource demanded when it refused the cached token.
    pub fn challenge(&self) -> Option<&Claims> {
        self.challenge.as_ref()
    }

    /// The token that this fetch is to replace, dead or alive. One that was [invalidated](crate::Broker::invalidate) is
    /// gone; see [`refused`](Self::refused).
    pub fn previous(&self) -> Option<&AccessToken> {
        self.previous.as_ref()
    }

    /// The SHA-256 of a token that a resource refused, and that must not come back: for sources that can be told.
    pub fn refused(&self) -> Option<[u8; 32]> {
        self.refused
    }
}

impl fmt::Debug for FetchContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchContext")
            .field("reason", &self.reason)
            .field("deadline", &self.deadline)
            .field("challenge", &self.challenge)
            .finish_non_exhaustive()
    }
}

/// The transport of one exchange, which notes down that something was sent.
#[derive(Debug)]
struct Noting {
    transport: Arc<dyn Transport>,
    trail: Trail,
    exchanged: Exchanged,
    /// The place in the trail. None before the first attempt.
    noted: OnceLock<usize>,
}

impl Noting {
    fn new(cx: &FetchContext, pool: Pool, request: &mut http::Request<Bytes>) -> Self {
        let correlation_id = (pool == Pool::TokenService).then(|| identify(request)).flatten();
        let host = shown_host(request.uri());
        Self {
            transport: Arc::clone(&cx.transport),
            trail: Arc::clone(&cx.trail),
            exchanged: Exchanged { host, attempts: 0, status: None, correlation_id, trace_id: None },
            noted: OnceLock::new(),
        }
    }

    fn answered(&self, response: &http::Response<Bytes>) {
        let Some(at) = self.noted.get() else { return };
        if let Some(exchanged) = self.trail.lock().get_mut(*at) {
            exchanged.status = Some(response.status().as_u16());
            let id = response.headers().get("x-ms-request-id").and_then(|id| id.to_str().ok());
            exchanged.trace_id = id.filter(|id| id.len() <= 64).map(str::to_owned);
        }
    }
}

impl Transport for Noting {
    fn send<'a>(
        &'a self,
        pool: Pool,
        request: http::Request<Bytes>,
        limit: usize,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, TransportError>> {
        let mut trail = self.trail.lock();
        let at = *self.noted.get_or_init(|| {
            trail.push(self.exchanged.clone());
            trail.len() - 1
        });
        if let Some(exchanged) = trail.get_mut(at) {
            exchanged.attempts += 1;
        }
        drop(trail);
        self.transport.send(pool, request, limit)
    }
}
