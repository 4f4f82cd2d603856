//! A request that is bound to its entry: for workers that read the same token over and over.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use super::{Broker, Reader};
use crate::{
    BoxFuture,
    cell::Rare,
    clock::Now,
    error::Error,
    refresh::{Ask, Entry},
    request::{Asked, TokenRequest},
    sync::Arc,
    token::{AccessToken, Token},
};

/// One request of one broker. Cheap to clone; keeps the broker alive.
///
/// Should its entry be evicted while nobody used it, the one that takes its place is found and remembered.
#[derive(Clone)]
pub struct Handle {
    pub(super) broker: Broker,
    pub(super) request: TokenRequest,
    pub(super) cell: Arc<Entry>,
    /// What its calls are for.
    label: Option<Arc<str>>,
}

impl Handle {
    pub(super) fn new(broker: &Broker, request: &TokenRequest) -> Self {
        let now = broker.0.clock.now();
        let cell = broker.0.cell(Asked::Request(request), now).unwrap_or_else(|_| {
            // It may not be asked here, now. One that is not in the cache is looked for anew at each read.
            let cell = Entry::new(request.key().clone(), Rare::default());
            drop(cell.detach());
            Arc::new(cell)
        });
        Self { broker: broker.clone(), request: request.clone(), cell, label: None }
    }

    /// The token, as [`Broker::get_token`] gives it.
    ///
    /// # Errors
    ///
    /// As [`Broker::get_token`].
    ///
    /// # Cancel safety
    ///
    /// As [`Broker::get_token`].
    pub fn get(&self) -> HandleGet<'_> {
        HandleGet { handle: self, waiting: None }
    }

    /// What its calls are for, as it is to stand in the [audit trail](crate::Audit).
    #[must_use]
    pub fn labelled(mut self, label: impl Into<Arc<str>>) -> Self {
        self.label = Some(label.into());
        self
    }

    pub(super) fn label(&self) -> Option<&str> {
        self.label.as_deref()
    }

    /// Lends the token to `read`, if a usable one is at hand: nothing is counted up, copied or locked. As
    /// [`Broker::peek`], it never waits, and has a token refreshed in the background that is due.
    #[inline]
    pub fn with<R>(&self, read: impl FnOnce(&Token) -> R) -> Option<R> {
        let shell = &*self.broker.0;
        if shell.calls.is_some() {
            return self.with_recorded(read);
        }
        let now = shell.clock.now();
        let mut read = Some(read);
        let hit = self.cell.hit(now, |token| read.take().map(|read| read(token))).flatten();
        if hit.is_some() {
            shell.engine.counters.hit();
            return hit;
        }
        read.and_then(|read| self.with_due(read))
    }

    #[cold]
    pub(super) fn recorded(&self, token: &Token, now: Now) {
        self.broker.0.record(Asked::Request(&self.request), self.label(), token, now);
    }

    /// Where calls are recorded, the record needs the token after it was read.
    #[cold]
    fn with_recorded<R>(&self, read: impl FnOnce(&Token) -> R) -> Option<R> {
        self.peek().map(|token| read(&token))
    }

    #[cold]
    fn with_due<R>(&self, read: impl FnOnce(&Token) -> R) -> Option<R> {
        let token = self.peek_due(self.broker.0.clock.now())?;
        Some(read(&token))
    }

    /// The token, if a usable one is at hand. As [`Broker::peek`].
    pub fn peek(&self) -> Option<AccessToken> {
        let shell = &*self.broker.0;
        let now = shell.clock.now();
        if let Some(token) = self.cell.take(now) {
            shell.engine.counters.hit();
            if shell.calls.is_some() {
                self.recorded(&token, now);
            }
            return Some(AccessToken(token));
        }
        self.peek_due(now)
    }

    #[cold]
    pub(super) fn peek_due(&self, now: Now) -> Option<AccessToken> {
        if self.cell.is_attached() {
            return self.broker.0.peek(Asked::Request(&self.request), self.label(), &self.cell, now);
        }
        let token = self.broker.take_recorded(Asked::Request(&self.request), self.label(), now);
        let asked = Asked::Request(&self.request);
        token.or_else(|| self.broker.0.peek(asked, self.label(), &self.broker.0.known(asked)?, now))
    }

    /// A reader for one worker, which nobody else shares: where a thread reads the token over and over, the cheapest way.
    pub fn reader(&self) -> Reader {
        Reader::new(self.clone())
    }

    /// What it is bound to.
    pub fn request(&self) -> &TokenRequest {
        &self.request
    }
}

/// The future of [`Handle::get`].
///
/// # Cancel safety
///
/// Dropping it changes nothing: fetches belong to the broker.
#[must_use = "a future does nothing unless it is awaited"]
pub struct HandleGet<'a> {
    handle: &'a Handle,
    waiting: Option<BoxFuture<'static, Result<AccessToken, Error>>>,
}

impl HandleGet<'_> {
    #[cold]
    fn miss(&mut self, cx: &mut Context<'_>) -> Poll<Result<AccessToken, Error>> {
        let Handle { broker, cell, request, .. } = self.handle;
        let now = broker.0.clock.now();
        let cell = if cell.is_attached() {
            Arc::clone(cell)
        } else if let Some(token) = broker.take_recorded(Asked::Request(request), self.handle.label(), now) {
            return Poll::Ready(Ok(token));
        } else {
            match broker.0.cell(Asked::Request(request), now) {
                Ok(cell) => cell,
                Err(error) => return self.answered(Err(error), false),
            }
        };
        let ask = Ask { subject: request.requested_subject(), challenge: None, label: self.handle.label() };
        match broker.ask(cell, now, ask, None) {
            Ok(result) => self.answered(result, false),
            Err(waiting) => {
                self.waiting = Some(waiting);
                self.wait(cx)
            }
        }
    }

    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Result<AccessToken, Error>> {
        match self.waiting.as_mut().map(|waiting| waiting.as_mut().poll(cx)) {
            Some(Poll::Ready(result)) => self.answered(result, true),
            _ => Poll::Pending,
        }
    }

    fn answered(&self, result: Result<AccessToken, Error>, waited: bool) -> Poll<Result<AccessToken, Error>> {
        let Handle { broker, request, .. } = self.handle;
        broker.0.answered(Asked::Request(request), self.handle.label(), &result, waited);
        Poll::Ready(result)
    }
}

impl Future for HandleGet<'_> {
    type Output = Result<AccessToken, Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.waiting.is_some() {
            return this.wait(cx);
        }
        let Handle { broker, cell, .. } = this.handle;
        let now = broker.0.clock.now();
        if let Some(token) = cell.take(now) {
            broker.0.engine.counters.hit();
            if broker.0.calls.is_some() {
                this.handle.recorded(&token, now);
            }
            return Poll::Ready(Ok(AccessToken(token)));
        }
        this.miss(cx)
    }
}

impl fmt::Debug for HandleGet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandleGet").field("waits", &self.waiting.is_some()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("request", &self.request).finish_non_exhaustive()
    }
}
