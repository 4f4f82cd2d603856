//! The hit path: from a cell to its token, where that can be served with nothing else to do.
//!
//! Three ways, by what the caller does with the token: [`Cell::take`] for those who keep it, [`Cell::hit`] for those who
//! look at it, and [`View`](super::View) for a worker that looks at it over and over. None waits, allocates, takes a
//! lock or dispatches dynamically.

use super::{Cell, SINCE_IT_CAME, recent};
use crate::{
    clock::Now,
    sync::{Arc, Ordering},
    token::{Timeline, Token},
};

impl<S: ?Sized> Cell<S> {
    /// Lends the token to `read`, if it can be served with nothing else to do.
    ///
    /// The swap hands out a token that was current at some moment during the call, and holds it until `read` is done.
    #[inline]
    pub(crate) fn hit<R>(&self, now: Now, read: impl FnOnce(&Arc<Token>) -> R) -> Option<R> {
        let guard = self.current.load();
        let token = guard.as_ref()?;
        self.serves(token.timeline(), now).then(|| read(token))
    }

    /// The token for those who want to keep it: from what this thread remembers, where it can be.
    ///
    /// As with the swap, that is a token which was current at some moment during the call. A serial stands for one token
    /// only, and `change` puts another in its place before it returns: who still finds the old one here runs beside that
    /// change and not after it. Acquire pairs with the Release there.
    #[inline]
    pub(crate) fn take(&self, now: Now) -> Option<Arc<Token>> {
        let serial = self.serial.load(Ordering::Acquire);
        recent::recall(serial, |timeline| self.serves(timeline, now))
            .or_else(|| self.take_unknown(serial, now))
    }

    /// The serial was read before the token. Should that be a newer one, it is remembered under a serial that its
    /// cell is about to lose, and that no cell will ever have again.
    #[inline(never)]
    fn take_unknown(&self, serial: u64, now: Now) -> Option<Arc<Token>> {
        let token = self.hit(now, Arc::clone)?;
        recent::see(serial, &token);
        Some(token)
    }

    /// Whether a token of this timeline can be served with nothing else to do. If so, marks it used.
    ///
    /// Fresh it can. Due it can while something is under way that makes it fresh again, or nothing can be: until
    /// `quiet_until`. In its last call it cannot. No lock is needed: a token's times never change, and `quiet_until`,
    /// however old the value that is read here, never lets a token be served beyond its last call.
    #[inline]
    pub(super) fn serves(&self, timeline: &Timeline, now: Now) -> bool {
        let now = now.nanos();
        if now >= timeline.due() && (now >= timeline.last_call() || now >= self.quiet_until()) {
            return false;
        }
        self.mark(now);
        true
    }

    /// A shared word is written only when it changes: every 67 ms (2²⁶ ns), fine enough to tell what is in use from what
    /// just came, even where a whole cache of keys comes and goes within a second.
    #[inline]
    pub(super) fn mark(&self, now: u64) {
        let tick = used_at(now) | SINCE_IT_CAME;
        if self.used.load(Ordering::Relaxed) != tick {
            self.used.store(tick, Ordering::Relaxed);
        }
    }
}

/// Half a word of units of 2²⁶ ns lasts for four and a half years. Then, for a while, some that are not used are taken for
/// used.
#[inline]
pub(super) fn used_at(now: u64) -> u32 {
    (now >> 26) as u32 & !SINCE_IT_CAME
}
