//! The future of a call: ready on its first poll on a hit, and boxed only where it has to wait.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use super::Broker;
use crate::{
    BoxFuture,
    clock::Now,
    error::Error,
    refresh::{Ask, Entry, Patience, Step},
    request::{Asked, CallOptions},
    sync::Arc,
    token::{AccessToken, Token},
};

/// The future of [`Broker::get_token`].
///
/// # Cancel safety
///
/// Dropping it changes nothing: fetches belong to the broker.
#[must_use = "a future does nothing unless it is awaited"]
pub struct GetToken<'a> {
    broker: &'a Broker,
    asked: Asked<'a>,
    options: Option<&'a CallOptions>,
    waiting: Option<BoxFuture<'static, Result<AccessToken, Error>>>,
}

impl<'a> GetToken<'a> {
    #[inline]
    pub(super) fn new(broker: &'a Broker, asked: Asked<'a>, options: Option<&'a CallOptions>) -> Self {
        Self { broker, asked, options, waiting: None }
    }

    /// A token from the cache will do.
    #[inline]
    fn is_plain(&self) -> bool {
        self.options.is_none_or(|options| options.get_challenge().is_none())
    }

    /// The way of all calls that are no plain hit.
    #[cold]
    fn miss(&mut self, now: Now, cx: &mut Context<'_>) -> Poll<Result<AccessToken, Error>> {
        let cell = match self.broker.0.cell(self.asked, now) {
            Ok(cell) => cell,
            Err(error) => return self.answered(Err(error), false),
        };
        // A request that was made for this call finds its entry here, and its token as others do.
        if self.is_plain()
            && let Some(token) = cell.take(now)
        {
            self.broker.0.engine.counters.hit();
            self.recorded(&token, now);
            return Poll::Ready(Ok(AccessToken(token)));
        }
        let ask = Ask {
            subject: self.asked.subject(),
            challenge: self.options.and_then(CallOptions::get_challenge),
            label: self.label(),
        };
        match self.broker.ask(cell, now, ask, self.options.and_then(CallOptions::get_timeout)) {
            Ok(result) => self.answered(result, false),
            Err(waiting) => {
                self.waiting = Some(waiting);
                self.wait(cx)
            }
        }
    }

    /// Apart from the hit, which would be slower by a third for having what a record needs at hand.
    #[cold]
    fn recorded(&self, token: &Token, now: Now) {
        self.broker.0.record(self.asked, self.label(), token, now);
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Result<AccessToken, Error>> {
        match self.waiting.as_mut().map(|waiting| waiting.as_mut().poll(cx)) {
            Some(Poll::Ready(result)) => self.answered(result, true),
            _ => Poll::Pending,
        }
    }

    fn answered(&self, result: Result<AccessToken, Error>, waited: bool) -> Poll<Result<AccessToken, Error>> {
        self.broker.0.answered(self.asked, self.label(), &result, waited);
        Poll::Ready(result)
    }

    fn label(&self) -> Option<&'a str> {
        self.options.and_then(CallOptions::get_label)
    }
}

impl Future for GetToken<'_> {
    type Output = Result<AccessToken, Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.waiting.is_some() {
            return this.wait(cx);
        }
        let now = this.broker.0.clock.now();
        if this.is_plain()
            && let Some(token) = this.broker.take(this.asked, now)
        {
            if this.broker.0.calls.is_some() {
                this.recorded(&token, now);
            }
            return Poll::Ready(Ok(token));
        }
        this.miss(now, cx)
    }
}

impl Broker {
    /// The hit of those who want to keep the token, without its record in the audit trail. Everything that makes it cheap is in here and in
    /// [`Cell::take`](crate::cell::Cell::take).
    #[inline]
    pub(super) fn take(&self, asked: Asked<'_>, now: Now) -> Option<AccessToken> {
        let shell = &*self.0;
        let token = match asked {
            Asked::Request(request) => request.take(shell.id, now),
            Asked::Text(text) => shell.spellings.take(text, now),
        }?;
        shell.engine.counters.hit();
        Some(AccessToken(token))
    }

    /// What is known at once, or a future that waits.
    pub(super) fn ask(
        &self,
        cell: Arc<Entry>,
        now: Now,
        ask: Ask<'_>,
        timeout: Option<Duration>,
    ) -> Result<Result<AccessToken, Error>, BoxFuture<'static, Result<AccessToken, Error>>> {
        let step = match self.0.engine.step(&cell, now, ask) {
            Step::Serve(token) => return Ok(Ok(token)),
            Step::Fail(error) => return Ok(Err(error)),
            step => step,
        };
        if let Some(label) = ask.label {
            tracing::debug!(label, scopes = %cell.key().scopes(), "waiting for a token");
        }
        let timeout = timeout.unwrap_or(self.0.timeout);
        let patience = Patience {
            timeout,
            deadline: now.after(timeout),
            subject: ask.subject.clone(),
            challenge: ask.challenge.cloned(),
            label: ask.label.map(Into::into),
        };
        Err(Box::pin(Arc::clone(&self.0.engine).wait(cell, step, patience)))
    }
}

impl fmt::Debug for GetToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetToken")
            .field("asked", &self.asked)
            .field("waits", &self.waiting.is_some())
            .finish()
    }
}
