//! One fetch under way for one key, and those who wait for it. It belongs to the broker: callers come and go.

use std::fmt;

use super::{Engine, Entry, SILENCE, closed, fly::Landing, holds::Hold};
use crate::{
    cell::Beside,
    clock::Now,
    error::Error,
    fetched::{Fetched, Reason},
    request::Challenge,
    subject::Subject,
    sync::{Arc, AtomicBool, AtomicU64, Ordering, panicking, watch},
    token::AccessToken,
};

/// What the engine keeps beside a cell, behind the cell's lock.
#[derive(Debug, Default)]
pub(crate) struct Slow {
    pub(super) flight: Option<Arc<Flight>>,
    pub(super) hold: Option<Hold>,
    /// SHA-256 of a token that was refused: the source must not return it again.
    pub(super) refused: Option<[u8; 32]>,
    /// Until when that token lives. The entry is kept for as long, since who forgets it would take it again.
    pub(super) refused_until: u64,
}

pub(crate) struct Flight {
    pub(super) number: u64,
    pub(super) reason: Reason,
    /// As the caller who began it asked, with what is to be spent.
    pub(super) subject: Subject,
    pub(super) challenge: Option<Challenge>,
    /// What the caller who began it said that it is for.
    pub(super) label: Option<Box<str>>,
    pub(super) started: Now,
    /// A caller without a token began it, and waits.
    pub(super) attended: bool,
    /// There was a living token when it began.
    pub(super) refreshes: bool,
    /// Nobody waited for it when it began, and it has one of the places that there are for such.
    pub(super) background: bool,
    /// Who leads: raised when a waiter takes over from a leader whose runtime is parked.
    term: AtomicU64,
    /// The leader's last word plus the longest it may be silent.
    alive_until: AtomicU64,
    /// It spends something that must not be lost: closing the broker waits for it.
    durable: AtomicBool,
    outcome: watch::Sender<Option<Outcome>>,
}

/// How a flight ended. All who waited get the same.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    Token(AccessToken),
    Failed(Error),
    /// Its runtime went away. Nothing is known of the source: whoever still wants the token starts anew.
    Interrupted,
}

impl Beside for Slow {
    fn is_nothing(&self) -> bool {
        self.flight.is_none() && self.hold.is_none() && self.refused.is_none()
    }
}

impl Flight {
    pub(super) fn new(
        number: u64,
        reason: Reason,
        subject: Subject,
        challenge: Option<Challenge>,
        started: Now,
    ) -> Self {
        Self {
            number,
            reason,
            subject,
            challenge,
            label: None,
            started,
            attended: false,
            refreshes: false,
            background: false,
            term: AtomicU64::new(1),
            alive_until: AtomicU64::new(started.after(SILENCE).nanos()),
            durable: AtomicBool::new(false),
            outcome: watch::Sender::new(None),
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<Option<Outcome>> {
        self.outcome.subscribe()
    }

    pub(super) fn finish(&self, outcome: Outcome) {
        self.outcome.send_replace(Some(outcome));
    }

    pub(super) fn alive_until(&self) -> Now {
        Now::from_nanos(0, self.alive_until.load(Ordering::Acquire))
    }

    pub(super) fn prolong(&self, until: Now) {
        self.alive_until.fetch_max(until.nanos(), Ordering::AcqRel);
    }

    pub(super) fn term(&self) -> u64 {
        self.term.load(Ordering::Acquire)
    }

    /// Makes the caller the leader. Called with the cell's lock held.
    pub(super) fn next_term(&self) -> u64 {
        self.term.fetch_add(1, Ordering::AcqRel) + 1
    }

    pub(super) fn set_durable(&self) {
        self.durable.store(true, Ordering::Release);
    }

    pub(super) fn is_durable(&self) -> bool {
        self.durable.load(Ordering::Acquire)
    }
}

impl fmt::Debug for Flight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flight")
            .field("number", &self.number)
            .field("reason", &self.reason)
            .finish_non_exhaustive()
    }
}

/// The right to end a flight, held by the task that flies it. However that task ends, the flight ends with it.
pub(super) struct Lead {
    pub(super) engine: Arc<Engine>,
    pub(super) cell: Arc<Entry>,
    pub(super) flight: Arc<Flight>,
    pub(super) term: u64,
    pub(super) landed: bool,
}

impl Lead {
    /// From here on the flight spends something, unless it was ended meanwhile.
    pub(super) fn set_durable(&self) -> Result<(), Error> {
        self.cell.slow(|slow| {
            let current = slow.flight.as_ref().is_some_and(|current| Arc::ptr_eq(current, &self.flight));
            current.then(|| self.flight.set_durable()).ok_or_else(closed)
        })
    }

    pub(super) fn land(mut self, result: Result<Fetched, Error>) {
        self.landed = true;
        self.engine.land(&self.cell, &self.flight, self.term, Landing::Fetched(result));
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if !self.landed {
            let landing = if panicking() { Landing::Panicked } else { Landing::Gone };
            self.engine.land(&self.cell, &self.flight, self.term, landing);
        }
    }
}
