//! The engine: decides for each call, flies the fetches, remembers failures, refreshes what is in use.
//!
//! | file | what it holds |
//! |---|---|
//! | `decide` | the rules, as pure functions of an entry and the time |
//! | `flight` | one fetch and those who wait for it |
//! | `launch` | how a flight begins, and who flies it |
//! | `fly` | the task of a flight, and its landing |
//! | `wait` | a caller that has to wait |
//! | `holds` | remembered failures |
//! | `scheduler` | refreshes nobody asked for at that moment |
//! | `alarms` | which entry is to be looked at when |
//! | `background` | how many fetches may be under way that nobody waits for |
//! | `grants` | the steps around a fetch that viewers and shared stores fill |

mod alarms;
mod background;
mod counters;
mod decide;
mod flight;
mod fly;
pub(crate) mod grants;
mod holds;
mod launch;
mod scheduler;
#[cfg(test)]
mod tests;
mod wait;

use std::{fmt, time::Duration};

pub(crate) use counters::{Counters, count};
pub(crate) use flight::Slow;
pub(crate) use fly::{Fetch, Job};
pub(crate) use grants::{Alone, Grants, Shared};
pub(crate) use wait::Patience;

use crate::{
    cache::Cache,
    cell::{Cell, Rare},
    clock::{Clock, Now},
    error::{Error, ErrorKind},
    fetched::Reason,
    request::{Challenge, Key},
    subject::{Subject, sha256},
    sync::{Arc, AtomicU64, Handle, Mutex, watch},
    token::{AccessToken, Token},
};
use background::Background;
use decide::Decision;
use flight::Flight;
use fly::Landing;
use holds::Holds;
use scheduler::Scheduler;

/// An entry of the cache with what the engine keeps beside it.
pub(crate) type Entry = Cell<Rare<Slow>>;

/// A leader that has been silent for this long is taken over: an attempt's time-out and a margin.
const SILENCE: Duration = Duration::from_secs(15);

/// For how long an entry without a living token is kept: after the end of a token that was in use it is still
/// refreshed, and after the end of a hold its failures are still remembered. Then it is cleared away.
const FORSAKEN: Duration = Duration::from_secs(300);

/// For how long a caller's look at the remembered failures is good, where nothing says when they end.
const GLANCE: Duration = Duration::from_millis(100);

/// One broker's engine.
pub(crate) struct Engine {
    pub(crate) clock: Clock,
    pub(crate) cache: Cache<Rare<Slow>>,
    pub(crate) counters: Counters,
    holds: Holds,
    scheduler: Scheduler,
    background: Background,
    fetch: Fetch,
    grants: Arc<dyn Grants>,
    shared: Arc<dyn Shared>,
    /// How long one fetch may take in all.
    budget: Duration,
    random: Mutex<fastrand::Rng>,
    flights: AtomicU64,
    flying: watch::Sender<usize>,
    phase: watch::Sender<Phase>,
}

/// What an engine is made of.
pub(crate) struct Parts {
    pub(crate) clock: Clock,
    pub(crate) capacity: usize,
    /// How many fetches may be under way that nobody waits for.
    pub(crate) background: usize,
    pub(crate) fetch: Fetch,
    pub(crate) grants: Arc<dyn Grants>,
    pub(crate) shared: Arc<dyn Shared>,
    pub(crate) budget: Duration,
    pub(crate) seed: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Nothing new begins. What spends something that must not be lost comes to its end.
    Draining,
    Closed,
}

impl Phase {
    fn is_over(self) -> bool {
        self != Self::Open
    }
}

/// Who asks, and for what but the token in the cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    /// The caller's own: the entry's keeps no assertion.
    pub(crate) subject: &'a Subject,
    pub(crate) challenge: Option<&'a Challenge>,
    /// What the caller says that it is for.
    pub(crate) label: Option<&'a str>,
}

/// What a caller is to do.
pub(crate) enum Step {
    Serve(AccessToken),
    Fail(Error),
    /// Wait for this flight, and take what it brings.
    Join(Arc<Flight>),
    /// Wait for this flight to be over, and ask again: it fetches something else.
    After(Arc<Flight>),
}

/// What must be done once the cell's lock is released.
enum Begun {
    Nothing,
    /// Fly it, on this runtime.
    Flight(Arc<Flight>, u64, Handle),
    /// There is no room for a fetch that nobody waits for. The scheduler has it in its list.
    Postponed,
}

impl Engine {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let Parts { clock, capacity, background, fetch, grants, shared, budget, seed } = parts;
        Arc::new(Self {
            clock,
            cache: Cache::new(capacity),
            counters: Counters::default(),
            holds: Holds::default(),
            scheduler: Scheduler::default(),
            background: Background::new(background),
            fetch,
            grants,
            shared,
            budget,
            random: Mutex::new(seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed)),
            flights: AtomicU64::new(0),
            flying: watch::Sender::new(0),
            phase: watch::Sender::new(Phase::Open),
        })
    }

    pub(crate) fn cell(&self, key: &Key, now: Now) -> Arc<Entry> {
        self.cache.get_or_insert(key, now, Rare::default)
    }

    /// What a caller is to do that found no hit. Starts what has to be started.
    pub(crate) fn step(self: &Arc<Self>, cell: &Arc<Entry>, now: Now, ask: Ask<'_>) -> Step {
        let (step, begun) = cell.slow(|slow| self.locked_step(cell, slow, now, ask));
        // Outside the lock: a runtime that is shutting down drops the task at once, and with it lands the flight.
        match begun {
            Begun::Flight(flight, term, runtime) => {
                Scheduler::ensure_running(self, &runtime, now);
                runtime.spawn(fly::fly(self.lead(cell, &flight, term)));
            }
            Begun::Postponed => {
                if let Ok(runtime) = self.runtime(now) {
                    Scheduler::ensure_running(self, &runtime, now);
                }
            }
            Begun::Nothing => {}
        }
        match &step {
            Step::Serve(_) => self.counters.hit(),
            Step::Fail(error) => {
                if error.held_for().is_some() {
                    count(&self.counters.held);
                }
                if cell.alarm() == 0 && !cell.is_flying() {
                    // It never flew, so nothing else would have it cleared away.
                    self.scheduler.look_at(cell, now.after(FORSAKEN).nanos());
                }
            }
            _ => {}
        }
        step
    }

    fn locked_step(&self, cell: &Arc<Entry>, slow: &mut Slow, now: Now, ask: Ask<'_>) -> (Step, Begun) {
        if self.phase.borrow().is_over() {
            return (Step::Fail(closed()), Begun::Nothing);
        }
        let silent = slow.flight.clone().filter(|flight| now.has_reached(flight.alive_until()));
        let taken_over = silent.map_or(Begun::Nothing, |flight| self.take_over(cell, &flight, now));
        let step = match (ask.challenge, &slow.flight) {
            (Some(challenge), Some(flight)) if flight.challenge.as_ref() == Some(challenge) => {
                Ok(Step::Join(Arc::clone(flight)))
            }
            (Some(_), Some(flight)) => Ok(Step::After(Arc::clone(flight))),
            (Some(challenge), None) => Err((Reason::Forced, Some(challenge.clone()))),
            (None, _) => self.plain_step(cell, slow, now),
        };
        match step {
            Ok(step) => (step, taken_over),
            Err((reason, challenge)) => {
                self.launch(cell, slow, now, reason, Ask { challenge: challenge.as_ref(), ..ask })
            }
        }
    }

    /// A caller without a challenge: what to do, or what to start.
    fn plain_step(&self, cell: &Entry, slow: &Slow, now: Now) -> Result<Step, (Reason, Option<Challenge>)> {
        let token = cell.usable(now);
        let held = self.holds.check(cell.key(), slow.hold.as_ref(), now, 0);
        let entry = decide::Entry {
            timeline: token.as_ref().map(|token| token.timeline()),
            flying: slow.flight.is_some(),
            held: held.as_ref(),
            renewable: renewable(cell.key()),
        };
        match (decide::decide(entry, now), token, &slow.flight) {
            (Decision::Serve, Some(token), _) => {
                if let Some(error) = &held {
                    // The cell does not know of wider failures. Tell it, so that the next callers find a hit.
                    let until = now.after(error.held_for().unwrap_or_default().max(GLANCE)).nanos();
                    cell.set_quiet_until(cell.quiet_until().max(until));
                } else if slow.flight.is_none() && !renewable(cell.key()) {
                    // Nothing is to be done for it before its last call.
                    cell.set_quiet_until(token.timeline().last_call());
                }
                Ok(Step::Serve(AccessToken(token)))
            }
            (Decision::Fail(error), ..) => Ok(Step::Fail(error)),
            (Decision::Wait | Decision::Fetch, _, Some(flight)) => Ok(Step::Join(Arc::clone(flight))),
            (Decision::ServeAndRefresh | Decision::Wait, ..) => Err((Reason::Due, None)),
            (Decision::Fetch | Decision::Serve, ..) => Err((Reason::Miss, None)),
        }
    }

    /// A resource refused this token: it goes, if it is still the one in the cache, and must not come back.
    pub(crate) fn invalidate(&self, token: &AccessToken) -> bool {
        // Where a refresh brought the same text again, that is as refused as this one.
        let same = |current: &Arc<Token>| current.secret() == token.secret();
        let has_it = |cell: &Entry| cell.peek().is_some_and(|current| same(&current));
        let Some(cell) = self.cache.find(token.0.hash(), has_it) else { return false };
        cell.slow(|slow| {
            let current = cell.peek().filter(same);
            let withdrawn = current.filter(|current| cell.withdraw(current));
            if let Some(token) = &withdrawn {
                slow.refused = Some(sha256(token.secret()));
                slow.refused_until = token.timeline().expiry();
            }
            withdrawn.is_some()
        })
    }

    /// A closed one fetches no more.
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        if self.phase.borrow().is_over() { Err(closed()) } else { Ok(()) }
    }

    /// What was remembered against this key is known to be over: the next caller asks the source.
    pub(crate) fn forgive(&self, key: &Key) {
        self.holds.succeeded(key);
        if let Some(cell) = self.cache.get(key) {
            cell.slow(|slow| {
                if slow.flight.is_none() && slow.hold.take().is_some() {
                    cell.set_quiet_until(0);
                }
            });
        }
    }

    /// How many fetches may be under way at a time that nobody waits for.
    pub(crate) fn background_limit(&self) -> usize {
        self.background.limit()
    }

    pub(crate) fn in_flight(&self) -> usize {
        *self.flying.borrow()
    }

    /// Nothing new begins, the cache is emptied, and what spends something that must not be lost comes to its end.
    ///
    /// Cancel safe: what was begun goes on, and it may be called again.
    pub(crate) async fn close(self: &Arc<Self>) {
        self.phase.send_if_modified(|phase| {
            let open = *phase == Phase::Open;
            if open {
                *phase = Phase::Draining;
            }
            open
        });
        // They would end by themselves as soon as their tasks run, which on a parked runtime may be never.
        for cell in self.cache.clear() {
            if let Some(flight) = cell.slow(|slow| slow.flight.clone()) {
                self.land(&cell, &flight, flight.term(), Landing::Closed);
            }
        }
        let mut flying = self.flying.subscribe();
        // It cannot fail: the sender is `self`'s.
        let _landed = flying.wait_for(|flying| *flying == 0).await.is_ok();
        self.end();
    }

    /// Ends everything at once. For the last broker that goes.
    pub(crate) fn end(&self) {
        self.phase.send_replace(Phase::Closed);
        drop(self.cache.clear());
    }

    /// Draws from 0..1.
    pub(crate) fn draw(&self) -> f64 {
        self.random.lock().f64()
    }
}

/// An assertion is the caller's, and is good for one fetch: there is nothing to refresh it with behind its back.
fn renewable(key: &Key) -> bool {
    !matches!(key.subject(), Subject::OnBehalfOf(_))
}

fn no_runtime() -> Error {
    let message = match Handle::try_current() {
        Ok(_) => "the tokio runtime here has no timer, and a token has to be waited for",
        Err(_) => "no tokio runtime is running here, and a token has to be fetched",
    };
    Error::config(message).with_advice(
        "Call from within a tokio runtime with time and IO enabled, or `peek`, which never waits.",
    )
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the broker was closed")
        .with_advice("Close it after the last call, when the program ends.")
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("clock", &self.clock)
            .field("entries", &self.cache.len())
            .field("in_flight", &self.in_flight())
            .field("scheduler", &self.scheduler)
            .finish_non_exhaustive()
    }
}
