//! What a reader remembers of one cell: its own, shared with nobody.

use super::Cell;
use crate::{
    clock::Now,
    sync::{Arc, Ordering},
    token::{AccessToken, Token},
};

/// A token that was looked at, and for how long that look is good.
#[derive(Debug, Default)]
pub(crate) struct View {
    token: Option<AccessToken>,
    serial: u64,
    until: u64,
}

/// A look is good for so long at most, about 67 ms: after it the cell is marked used once more.
const LOOK: u64 = 1 << 26;

impl View {
    /// Whether the look is still good: the cell has seen no change since, and what was said of the time holds.
    ///
    /// This is as strict as [`Cell::take`]: Acquire pairs with the Release with which a token that is refused, replaced
    /// or evicted takes its serial along, and a look is never good beyond the time at which the token is due, or, where
    /// it is being refreshed, its last call. Only that a refresh ended without a token it may learn one look later.
    #[inline]
    pub(crate) fn is_good<S: ?Sized>(&self, cell: &Cell<S>, now: Now) -> bool {
        now.nanos() < self.until && cell.serial.load(Ordering::Acquire) == self.serial
    }

    #[inline]
    pub(crate) fn token(&self) -> Option<&AccessToken> {
        self.token.as_ref()
    }

    /// Looks again. True where there is a token that can be served with nothing else to do.
    pub(crate) fn look<S: ?Sized>(&mut self, cell: &Cell<S>, now: Now) -> bool {
        // Before the token, which may then be newer than its serial says: the next look is not far.
        let serial = cell.serial.load(Ordering::Acquire);
        let token = cell.hit(now, Arc::clone);
        let found = token.is_some();
        if let Some(token) = token {
            self.until = good_until(cell, &token, now);
            (self.serial, self.token) = (serial, Some(AccessToken(token)));
        }
        found
    }

    /// Lends what it holds, and looks anew the next time.
    pub(crate) fn expire(&mut self) {
        self.until = 0;
    }

    /// Keeps a token that was found in another way. The look is good for nothing more.
    pub(crate) fn keep(&mut self, token: Option<AccessToken>) {
        *self = Self { token, serial: 0, until: 0 };
    }
}

fn good_until<S: ?Sized>(cell: &Cell<S>, token: &Token, now: Now) -> u64 {
    let timeline = token.timeline();
    let end = match now.nanos() < timeline.due() {
        true => timeline.due(),
        false => timeline.last_call().min(cell.quiet_until()),
    };
    end.min(now.nanos().saturating_add(LOOK))
}
