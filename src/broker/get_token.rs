//! The future of a call: ready on its first poll on a hit, and boxed only where it has to wait.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use super::Broker;
use crate::{
    BoxFuture,
    clock::Now,
    error::Error,
    refresh::{Ask, Entry, Patience, Step},
    request::{Asked, CallOptions},
    subject::Subject,
    sync::Arc,
    token::AccessToken,
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
            Err(error) => return Poll::Ready(Err(error)),
        };
        // A request that was made for this call finds its entry here, and its token as others do.
        if self.is_plain()
            && let Some(token) = cell.take(now)
        {
            self.broker.0.engine.counters.hit();
            return Poll::Ready(Ok(AccessToken(token)));
        }
        match self.broker.ask(cell, now, self.asked.subject(), self.options) {
            Ok(result) => Poll::Ready(result),
            Err(waiting) => self.waiting.insert(waiting).as_mut().poll(cx),
        }
    }
}

impl Future for GetToken<'_> {
    type Output = Result<AccessToken, Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(waiting) = &mut this.waiting {
            return waiting.as_mut().poll(cx);
        }
        let now = this.broker.0.clock.now();
        if this.is_plain()
            && let Some(token) = this.broker.take(this.asked, now)
        {
            return Poll::Ready(Ok(token));
        }
        this.miss(now, cx)
    }
}

impl Broker {
    /// The hit of those who want to keep the token. Everything that makes it cheap is in here and in
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
        subject: &Subject,
        options: Option<&CallOptions>,
    ) -> Result<Result<AccessToken, Error>, BoxFuture<'static, Result<AccessToken, Error>>> {
        let challenge = options.and_then(CallOptions::get_challenge);
        let step = match self.0.engine.step(&cell, now, Ask { subject, challenge }) {
            Step::Serve(token) => return Ok(Ok(token)),
            Step::Fail(error) => return Ok(Err(error)),
            step => step,
        };
        if let Some(label) = options.and_then(CallOptions::get_label) {
            tracing::debug!(label, scopes = %cell.key().scopes(), "waiting for a token");
        }
        let timeout = options.and_then(CallOptions::get_timeout).unwrap_or(self.0.timeout);
        let (deadline, subject, challenge) = (now.after(timeout), subject.clone(), challenge.cloned());
        let patience = Patience { timeout, deadline, subject, challenge };
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
