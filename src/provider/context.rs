//! What a fetch is given: the way out, the time it has, and why it is made.

use std::fmt;

use bytes::Bytes;

use crate::{
    AccessToken, Claims, Clock, Error, ErrorKind, Now, Reason,
    error::Blame,
    http::{ANSWER_LIMIT, ATTEMPT_TIMEOUT, Answer, Exchange, Pool, RetryPolicy, Transport},
    sync::Arc,
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
    pub(crate) gate: Gate,
    pub(crate) random: Arc<dyn Fn() -> f64 + Send + Sync>,
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
        request: http::Request<Bytes>,
        policy: &RetryPolicy,
    ) -> Result<Answer, Error> {
        let exchange = Exchange {
            transport: &*self.transport,
            clock: &self.clock,
            policy,
            deadline: self.deadline,
            attempt_timeout: ATTEMPT_TIMEOUT,
            limit: ANSWER_LIMIT,
            random: &*self.random,
            gate: &*self.gate,
        };
        exchange.run(pool, request).await
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

    /// The token that this fetch is to replace, dead or alive.
    pub fn previous(&self) -> Option<&AccessToken> {
        self.previous.as_ref()
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
