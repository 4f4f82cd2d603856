//! The engine: decides for each call, flies the fetches, remembers failures, refreshes what is in use.
//!
//! | file | what it holds |
//! |---|---|
//! | `decide` | the rules, as pure functions of an entry and the time |
//! | `flight` | one fetch and those who wait for it |
//! | `fly` | the task of a flight, and its landing |
//! | `wait` | a caller that has to wait |
//! | `holds` | remembered failures |
//! | `scheduler` | refreshes nobody asked for at that moment |
//! | `grants` | the steps around a fetch that viewers and shared stores fill |

mod counters;
mod decide;
mod flight;
mod fly;
mod grants;
mod holds;
mod scheduler;
#[cfg(test)]
mod tests;
mod wait;

use std::{fmt, time::Duration};

use tokio::{runtime::Handle, sync::watch};

pub(crate) use counters::{Counters, count};
pub(crate) use flight::Slow;
pub(crate) use fly::{Fetch, Job};
pub(crate) use grants::{Alone, Grants, Shared};
pub(crate) use wait::Patience;

use crate::{
    cache::Cache,
    cell::Cell,
    clock::{Clock, Now, nanos},
    error::{Error, ErrorKind},
    fetched::Reason,
    request::{Challenge, Key},
    subject::{Subject, sha256},
    sync::{Arc, AtomicU64, Mutex, Ordering},
    token::AccessToken,
};
use decide::Decision;
use flight::Flight;
use fly::Landing;
use holds::Holds;
use scheduler::Scheduler;

/// An entry of the cache with what the engine keeps beside it.
pub(crate) type Entry = Cell<Slow>;

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
    pub(crate) cache: Cache<Slow>,
    pub(crate) counters: Counters,
    holds: Holds,
    scheduler: Scheduler,
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

/// What a caller is to do.
pub(crate) enum Step {
    Serve(AccessToken),
    Fail(Error),
    /// Wait for this flight, and take what it brings.
    Join(Arc<Flight>),
    /// Wait for this flight to be over, and ask again: it fetches something else.
    After(Arc<Flight>),
}

/// What must be started once the cell's lock is released.
type Started = Option<(Arc<Flight>, u64, Handle)>;

impl Engine {
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
        let Parts { clock, capacity, fetch, grants, shared, budget, seed } = parts;
        Arc::new(Self {
            clock,
            cache: Cache::new(capacity),
            counters: Counters::default(),
            holds: Holds::default(),
            scheduler: Scheduler::default(),
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

    pub(crate) fn cell(&self, key: &Arc<Key>, now: Now) -> Arc<Entry> {
        self.cache.get_or_insert(key, now, Slow::default)
    }

    /// What a caller is to do that found no hit. Starts what has to be started.
    pub(crate) fn step(self: &Arc<Self>, cell: &Arc<Entry>, now: Now, challenge: Option<&Challenge>) -> Step {
        let (step, started) = cell.slow(|slow| self.locked_step(cell, slow, now, challenge));
        // Outside the lock: a runtime that is shutting down drops the task at once, and with it lands the flight.
        if let Some((flight, term, runtime)) = started {
            Scheduler::ensure_running(self, &runtime, now);
            runtime.spawn(fly::fly(self.lead(cell, &flight, term)));
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

    fn locked_step(
        &self,
        cell: &Arc<Entry>,
        slow: &mut Slow,
        now: Now,
        challenge: Option<&Challenge>,
    ) -> (Step, Started) {
        if self.phase.borrow().is_over() {
            return (Step::Fail(closed()), None);
        }
        let silent = slow.flight.clone().filter(|flight| now.has_reached(flight.alive_until()));
        let taken_over = silent.and_then(|flight| self.take_over(cell, &flight, now));
        let step = match (challenge, &slow.flight) {
            (Some(challenge), Some(flight)) if flight.challenge.as_ref() == Some(challenge) => {
                Ok(Step::Join(Arc::clone(flight)))
            }
            (Some(_), Some(flight)) => Ok(Step::After(Arc::clone(flight))),
            (Some(challenge), None) => Err((Reason::Forced, Some(challenge.clone()))),
            (None, _) => self.plain_step(cell, slow, now),
        };
        match step {
            Ok(step) => (step, taken_over),
            Err((reason, challenge)) => self.launch(cell, slow, now, reason, challenge),
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
                    cell.set_quiet_until(token.timeline().last_call);
                }
                Ok(Step::Serve(AccessToken(token)))
            }
            (Decision::Fail(error), ..) => Ok(Step::Fail(error)),
            (Decision::Wait | Decision::Fetch, _, Some(flight)) => Ok(Step::Join(Arc::clone(flight))),
            (Decision::ServeAndRefresh | Decision::Wait, ..) => Err((Reason::Due, None)),
            (Decision::Fetch | Decision::Serve, ..) => Err((Reason::Miss, None)),
        }
    }

    /// Starts a flight. A caller that needs it waits; one that has a token which is merely due does not.
    fn launch(
        &self,
        cell: &Arc<Entry>,
        slow: &mut Slow,
        now: Now,
        reason: Reason,
        challenge: Option<Challenge>,
    ) -> (Step, Started) {
        let forced = challenge.is_some();
        let token = if forced { None } else { cell.usable(now).map(AccessToken) };
        let number = self.flights.fetch_add(1, Ordering::Relaxed) + 1;
        let started = self.runtime(now).and_then(|runtime| {
            let probing = self.holds.enter(cell.key(), slow.hold.as_mut(), now, number)?;
            let attended = matches!(reason, Reason::Miss | Reason::Forced);
            let reason = if probing && !forced { Reason::Probe } else { reason };
            let flight = Flight::new(number, reason, challenge, now, attended, token.is_some());
            Ok((Arc::new(flight), runtime))
        });
        match (started, token) {
            (Ok((flight, runtime)), token) => {
                slow.flight = Some(Arc::clone(&flight));
                cell.set_flying(true);
                cell.set_quiet_until(flight.alive_until().nanos());
                self.flying.send_modify(|flying| *flying += 1);
                let waits = token.as_ref().is_none_or(|token| now.nanos() >= token.0.timeline().last_call);
                let step = match token {
                    Some(token) if !waits => Step::Serve(token),
                    _ => Step::Join(Arc::clone(&flight)),
                };
                (step, Some((flight, 1, runtime)))
            }
            (Err(_), Some(token)) => {
                // Nothing can be started from here. The scheduler may be able to, on a runtime of its own.
                let later = now.after(GLANCE).nanos();
                cell.set_quiet_until(later);
                self.scheduler.look_at(cell, later);
                (Step::Serve(token), None)
            }
            (Err(error), None) => (Step::Fail(error), None),
        }
    }

    /// Makes the caller's runtime the one that flies on. Called with the cell's lock held.
    fn take_over(&self, cell: &Entry, flight: &Arc<Flight>, now: Now) -> Started {
        // Where nobody can take over from here, somebody looks again later.
        flight.prolong(now.after(SILENCE));
        self.holds.prolong(cell.key(), flight.number, flight.alive_until());
        cell.set_quiet_until(flight.alive_until().nanos());
        let runtime = self.runtime(now).ok()?;
        count(&self.counters.takeovers);
        Some((Arc::clone(flight), flight.next_term(), runtime))
    }

    fn lead(self: &Arc<Self>, cell: &Arc<Entry>, flight: &Arc<Flight>, term: u64) -> flight::Lead {
        flight::Lead {
            engine: Arc::clone(self),
            cell: Arc::clone(cell),
            flight: Arc::clone(flight),
            term,
            landed: false,
        }
    }

    /// The scheduler's look at one entry whose time has come.
    fn look(self: &Arc<Self>, cell: &Arc<Entry>, now: Now) {
        if !cell.is_attached() || cell.is_flying() {
            return;
        }
        let token = cell.peek();
        let Some(timeline) = token.as_ref().map(|token| *token.timeline()) else {
            let until = cell.quiet_until().saturating_add(nanos(FORSAKEN));
            return self.clear_away_at(cell, until, now);
        };
        if now.nanos() < timeline.due {
            // It was replaced meanwhile.
            return self.scheduler.look_at(cell, timeline.due);
        }
        if !cell.is_used() || !renewable(cell.key()) {
            return self.clear_away_at(cell, timeline.expiry, now);
        }
        let forsaken = timeline.expiry.saturating_add(nanos(FORSAKEN));
        if now.nanos() >= forsaken {
            return self.clear_away_at(cell, forsaken, now);
        }
        if now.nanos() < cell.quiet_until() {
            return self.scheduler.look_at(cell, cell.quiet_until());
        }
        let started = cell.slow(|slow| match slow.flight {
            Some(_) => None,
            // Held at a width that the cell knows nothing of.
            None if self.holds.check(cell.key(), slow.hold.as_ref(), now, 0).is_some() => None,
            None => self.launch(cell, slow, now, Reason::Due, None).1,
        });
        match started {
            Some((flight, term, runtime)) => drop(runtime.spawn(fly::fly(self.lead(cell, &flight, term)))),
            None => {
                let held_until = self.holds.until(cell.key()).unwrap_or_default();
                let later = held_until.max(now.after(Duration::from_secs(1)).nanos());
                self.scheduler.look_at(cell, later);
            }
        }
    }

    /// Evicts an entry once `until` has come, if it is still as dead as it is now.
    fn clear_away_at(self: &Arc<Self>, cell: &Arc<Entry>, until: u64, now: Now) {
        if now.nanos() < until {
            return self.scheduler.look_at(cell, until);
        }
        let dead = |cell: &Entry| !cell.standing(now).alive && now.nanos() >= cell.quiet_until();
        self.cache.remove_if(cell, dead);
    }

    /// A resource refused this token: it goes, if it is still the one in the cache, and must not come back.
    pub(crate) fn invalidate(&self, token: &AccessToken) -> bool {
        let Some(cell) = self.cache.get(token.0.key()) else { return false };
        cell.slow(|slow| {
            let withdrawn = cell.withdraw(&token.0);
            if withdrawn {
                slow.refused = Some(sha256(token.secret()));
            }
            withdrawn
        })
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

    /// The runtime to fly on, if there is one here with a timer.
    fn runtime(&self, now: Now) -> Result<Handle, Error> {
        let runtime = Handle::try_current().map_err(|_| no_runtime())?;
        self.clock.try_sleep_until(now).map(|_| runtime).ok_or_else(no_runtime)
    }

    fn draw(&self) -> f64 {
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
            .finish_non_exhaustive()
    }
}
