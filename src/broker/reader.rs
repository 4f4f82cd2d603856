//! A worker's own reader: what it was lent last it is lent again, until something says otherwise.

use std::fmt;

use super::Handle;
use crate::{cell::View, clock::Now, request::Asked, token::AccessToken};

/// One worker's reader of one request's token, made by [`Handle::reader`]: the cheapest read there is.
///
/// It is shared with nobody, so a read writes to no memory that another worker reads. It looks at the time, at one word
/// of the entry, and lends what it holds. That word changes with the token, so a token that was refused
/// ([`Broker::invalidate`](crate::Broker::invalidate)), replaced or evicted is never lent again; and no look is good
/// beyond the time at which the token is due, so a dead one is not lent either. Both clocks are compared at each read, as
/// for any other hit: see [`Clock`](crate::Clock).
///
/// # What an idle reader keeps alive
///
/// The token that it lent last, which is not wiped from memory before the next read or the reader's end, however long ago
/// it was replaced; and as a [`Handle`] does, the broker. Its reads are added to the broker's
/// [`Metrics`](crate::Metrics) now and then, about fifteen times a second while there are any, and when it goes. A
/// reader that is not read does not keep its entry in use: the token is then left to expire.
///
/// ```
/// use entra_broker::{Broker, StaticToken, TokenRequest};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), entra_broker::Error> {
/// let broker = Broker::new(StaticToken::new("eyJ0eXAi")?)?;
/// let handle = broker.handle(&TokenRequest::new("https://vault.azure.net/.default")?);
///
/// let mut reader = handle.reader();
/// for _ in 0..1_000 {
///     let header = match reader.get() {
///         Some(token) => token.authorization(),
///         None => handle.get().await?.authorization(), // at first, and where a refresh came too late
///     };
///     assert_eq!(header, "Bearer eyJ0eXAi");
/// }
/// # Ok(()) }
/// ```
pub struct Reader {
    handle: Handle,
    view: View,
    /// Reads that the broker was not told of yet.
    hits: u64,
}

impl Reader {
    pub(super) fn new(handle: Handle) -> Self {
        Self { handle, view: View::default(), hits: 0 }
    }

    /// Lends the token, if a usable one is at hand. As [`Broker::peek`](crate::Broker::peek), it never waits, and has a
    /// token refreshed in the background that is due. Where it is `None`, [`Handle::get`] waits for one.
    #[inline]
    pub fn get(&mut self) -> Option<&AccessToken> {
        let now = self.handle.broker.0.clock.now();
        if self.view.is_good(&self.handle.cell, now) {
            self.hits += 1;
            return self.view.token();
        }
        self.look(now)
    }

    #[cold]
    fn look(&mut self, now: Now) -> Option<&AccessToken> {
        self.tell();
        let Handle { broker, request, cell, .. } = &mut self.handle;
        if !cell.is_attached()
            && let Some(successor) = broker.0.known(Asked::Request(request))
        {
            *cell = successor;
        }
        if self.view.look(cell, now) {
            self.hits += 1;
            if self.handle.broker.0.calls.is_some() {
                self.record(now);
            }
        } else {
            self.view.keep(self.handle.peek_due(now));
        }
        self.view.token()
    }

    /// Where calls are recorded, each read has to come by here.
    fn record(&mut self, now: Now) {
        self.view.expire();
        if let Some(token) = self.view.token() {
            self.handle.recorded(token, now);
        }
    }

    fn tell(&mut self) {
        self.handle.broker.0.engine.counters.hits_were(std::mem::take(&mut self.hits));
    }

    /// What it reads.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.tell();
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("request", self.handle.request()).finish_non_exhaustive()
    }
}
