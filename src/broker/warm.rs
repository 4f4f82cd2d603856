//! Fetching ahead: a service that starts need not make its first callers wait.

use futures_util::{StreamExt as _, stream::FuturesUnordered};

use super::Broker;
use crate::{
    BoxFuture,
    error::{Error, ErrorKind},
    refresh::{Patience, Step},
    request::{Asked, CallOptions, TokenRequest},
    sync::Arc,
    token::AccessToken,
};

/// How many requests that were ready at once are gone through before other tasks get their turn.
const AT_A_TIME: usize = 256;

/// What came of [`Broker::warm`].
#[derive(Debug, Clone, Default)]
#[must_use = "some of the requests may have failed"]
pub struct Warmed {
    ready: usize,
    failures: Vec<(usize, Error)>,
}

impl Warmed {
    /// For how many of the requests a token is ready.
    pub fn ready(&self) -> usize {
        self.ready
    }

    /// The requests for which there is none, each by its place in what was given, in that order, with the reason.
    pub fn failures(&self) -> &[(usize, Error)] {
        &self.failures
    }

    /// True where none failed.
    pub fn is_complete(&self) -> bool {
        self.failures.is_empty()
    }

    fn note(&mut self, place: usize, result: Result<AccessToken, Error>) {
        match result {
            Ok(_) => self.ready += 1,
            Err(error) => self.failures.push((place, error)),
        }
    }
}

impl Broker {
    /// Has tokens ready for these requests before anybody asks for them. What is cached and usable costs nothing, and
    /// the rest is fetched, as many at a time as [`Builder::background_fetches`](super::Builder::background_fetches)
    /// says. They are counted for this call alone: refreshes that are under way meanwhile, and other calls of this
    /// kind, come on top. The broker's time-out, 30 s by default, is for all of it.
    ///
    /// A token that was warmed counts as used, so it is refreshed when it is due. Requests that are the same need one
    /// token. A remembered failure, such as a refused credential, is every later request's without being sent again.
    ///
    /// ```
    /// use entra_broker::{Broker, StaticToken, TokenRequest};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), entra_broker::Error> {
    /// let broker = Broker::new(StaticToken::new("eyJ0eXAi")?)?;
    /// let requests = [
    ///     TokenRequest::new("https://vault.azure.net/.default")?,
    ///     TokenRequest::new("https://storage.azure.com/.default")?,
    /// ];
    /// let warmed = broker.warm(&requests).await;
    /// for (place, error) in warmed.failures() {
    ///     eprintln!("{:?}: {error}", requests[*place]);
    /// }
    /// assert_eq!(warmed.ready(), 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Fetches under way go on and fill the cache; no others begin.
    pub async fn warm(&self, requests: &[TokenRequest]) -> Warmed {
        self.warm_with(requests, &CallOptions::new()).await
    }

    /// As [`warm`](Self::warm), with options that hold for each of the calls; their time-out is for all of it.
    ///
    /// # Cancel safety
    ///
    /// As [`warm`](Self::warm).
    pub async fn warm_with(&self, requests: &[TokenRequest], options: &CallOptions) -> Warmed {
        let shell = &*self.0;
        let timeout = options.get_timeout().unwrap_or(shell.timeout);
        let deadline = shell.clock.now().after(timeout);
        let patience = |request: &TokenRequest| Patience {
            timeout,
            deadline,
            subject: request.requested_subject().clone(),
            challenge: options.get_challenge().cloned(),
            label: options.get_label().map(Into::into),
        };
        let most = shell.engine.background_limit();
        let mut warmed = Warmed::default();
        let mut waiting = FuturesUnordered::new();
        for (place, request) in requests.iter().enumerate() {
            while waiting.len() >= most {
                // Each of them ends at the deadline.
                let Some((place, result)) = waiting.next().await else { break };
                warmed.note(place, result);
            }
            match self.begin(request, patience(request)) {
                Ok(result) => warmed.note(place, result),
                Err(call) => waiting.push(async move {
                    let result = call.await;
                    shell.answered(Asked::Request(request), options.get_label(), &result, true);
                    (place, result)
                }),
            }
            if place % AT_A_TIME == AT_A_TIME - 1 {
                tokio::task::yield_now().await;
            }
        }
        while let Some((place, result)) = waiting.next().await {
            warmed.note(place, result);
        }
        warmed.failures.sort_unstable_by_key(|(place, _)| *place);
        warmed
    }

    /// What is known at once, or the wait for what was begun.
    fn begin(
        &self,
        request: &TokenRequest,
        patience: Patience,
    ) -> Result<Result<AccessToken, Error>, BoxFuture<'static, Result<AccessToken, Error>>> {
        let shell = &*self.0;
        let now = shell.clock.now();
        let asked = Asked::Request(request);
        let label = patience.label.clone();
        let answered = |result| {
            shell.answered(asked, label.as_deref(), &result, false);
            Ok(result)
        };
        if patience.challenge.is_none()
            && let Some(token) = self.take_recorded(asked, label.as_deref(), now)
        {
            return Ok(Ok(token));
        }
        if now.has_reached(patience.deadline) {
            // What is there is recorded by who finds it.
            return self.peek(request).map_or_else(|| answered(Err(not_begun())), |token| Ok(Ok(token)));
        }
        let cell = match shell.cell(asked, now) {
            Ok(cell) => cell,
            Err(error) => return answered(Err(error)),
        };
        match shell.engine.step(&cell, now, patience.ask()) {
            Step::Serve(token) => answered(Ok(token)),
            Step::Fail(error) => answered(Err(error)),
            step => Err(Box::pin(Arc::clone(&shell.engine).wait(cell, step, patience))),
        }
    }
}

fn not_begun() -> Error {
    Error::new(ErrorKind::Timeout, "the time was up before its turn came to be warmed").with_advice(
        "Give the call a longer time-out, allow more background fetches, or warm fewer requests.",
    )
}
