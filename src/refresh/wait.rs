//! A caller that has to wait.

use std::time::Duration;

use super::{
    Ask, Begun, Engine, Entry, Step, count,
    flight::{Flight, Outcome},
    fly, no_runtime,
};
use crate::{
    clock::Now,
    error::{Blame, Error, ErrorKind},
    request::Challenge,
    subject::Subject,
    sync::{Arc, select},
    token::{AccessToken, Token},
};

/// How often a caller starts anew where flights end and bring it neither a living token nor a reason.
const ROUNDS: u32 = 3;

/// One caller's patience.
#[derive(Debug, Clone)]
pub(crate) struct Patience {
    pub(crate) timeout: Duration,
    pub(crate) deadline: Now,
    pub(crate) subject: Subject,
    pub(crate) challenge: Option<Challenge>,
    pub(crate) label: Option<Box<str>>,
}

impl Patience {
    pub(crate) fn ask(&self) -> Ask<'_> {
        Ask { subject: &self.subject, challenge: self.challenge.as_ref(), label: self.label.as_deref() }
    }
}

/// Why a caller stopped waiting for a flight.
enum Waited {
    Landed(Outcome),
    /// The caller's time is up.
    TimedOut,
    /// There is no runtime here, or none with a timer: it would not notice when its time is up.
    Adrift,
    /// The old token has not much longer to live, and is better than none.
    LastMoment(Arc<Token>),
}

impl Engine {
    /// Waits for what `step` says, and on, until there is a token or a reason why not.
    ///
    /// Cancel safe: flights belong to the engine, and go on.
    pub(crate) async fn wait(
        self: Arc<Self>,
        mut cell: Arc<Entry>,
        mut step: Step,
        patience: Patience,
    ) -> Result<AccessToken, Error> {
        count(&self.counters.waits);
        let mut rounds = 0;
        loop {
            let (flight, joined) = match step {
                Step::Serve(token) => return Ok(token),
                Step::Fail(error) => return Err(error),
                Step::Join(flight) => (flight, true),
                Step::After(flight) => (flight, false),
            };
            // With a challenge the old token is the one that is not wanted.
            let spare = |now: Now| if patience.challenge.is_none() { cell.usable(now) } else { None };
            match self.wait_for(&cell, &flight, &patience).await {
                Waited::Landed(Outcome::Token(token)) if joined => {
                    // Unless the machine slept meanwhile, it lives. A token that was delivered is in use.
                    let now = self.clock.now();
                    if now.nanos() < token.0.timeline().expiry() {
                        cell.usable(now);
                        return Ok(token);
                    }
                }
                Waited::Landed(Outcome::Failed(error)) if joined => {
                    return spare(self.clock.now()).map(AccessToken).ok_or(error);
                }
                Waited::Landed(_) => {}
                Waited::TimedOut => {
                    let late = || timed_out(&cell, patience.timeout);
                    return spare(self.clock.now()).map(AccessToken).ok_or_else(late);
                }
                Waited::Adrift => {
                    return spare(self.clock.now()).map(AccessToken).ok_or_else(no_runtime);
                }
                Waited::LastMoment(token) => return Ok(AccessToken(token)),
            }
            if joined {
                rounds += 1;
                if rounds > ROUNDS {
                    return spare(self.clock.now()).map(AccessToken).ok_or_else(no_flight_lasted);
                }
            }
            let now = self.clock.now();
            if !cell.is_attached() {
                cell = self.cell(cell.key(), now);
            }
            step = self.step(&cell, now, patience.ask());
        }
    }

    async fn wait_for(
        self: &Arc<Self>,
        cell: &Arc<Entry>,
        flight: &Arc<Flight>,
        patience: &Patience,
    ) -> Waited {
        let mut landed = flight.watch();
        let mut is_up = false;
        loop {
            if let Some(outcome) = landed.borrow_and_update().clone() {
                return Waited::Landed(outcome);
            }
            let now = self.clock.now();
            let spare = match patience.challenge {
                None => cell.peek().filter(|token| now.nanos() < token.timeline().expiry()),
                Some(_) => None,
            };
            let last_moment = spare.as_ref().map(|spare| Now::from_nanos(0, spare.timeline().patience()));
            match spare {
                Some(spare) if now.nanos() >= spare.timeline().patience() => {
                    return Waited::LastMoment(spare);
                }
                _ => {}
            }
            if is_up || now.has_reached(patience.deadline) {
                return Waited::TimedOut;
            }
            if now.has_reached(flight.alive_until()) {
                self.relieve(cell, flight, now);
            }
            // Where nobody took over it is landing at this moment: there is nothing but the outcome to wait for.
            let silence = Some(flight.alive_until()).filter(|until| !now.has_reached(*until));
            let wake = [last_moment, silence].into_iter().flatten().fold(patience.deadline, Now::min);
            let Some(awake) = self.clock.try_sleep_until(wake) else { return Waited::Adrift };
            select! {
                biased;
                _ = landed.changed() => {}
                // The timer is exact, while the clock may be some milliseconds behind: what it says is not asked again.
                () = awake => is_up = wake.has_reached(patience.deadline),
            }
        }
    }

    /// Takes over from a leader that has been silent for too long, unless somebody else just did.
    pub(super) fn relieve(self: &Arc<Self>, cell: &Arc<Entry>, flight: &Arc<Flight>, now: Now) {
        let begun = cell.slow(|slow| {
            let current = slow.flight.as_ref().is_some_and(|current| Arc::ptr_eq(current, flight));
            let silent = current && now.has_reached(flight.alive_until());
            if silent { self.take_over(cell, flight, now) } else { Begun::Nothing }
        });
        if let Begun::Flight(flight, term, runtime) = begun {
            tracing::warn!(scopes = %cell.key().scopes(), "a parked runtime's fetch is taken over");
            runtime.spawn(fly::fly(self.lead(cell, &flight, term)));
        }
    }
}

fn timed_out(cell: &Entry, timeout: Duration) -> Error {
    let (scopes, seconds) = (cell.key().scopes(), timeout.as_secs_f32());
    Error::new(ErrorKind::Timeout, format!("no token for {scopes} within {seconds} s"))
        .with_advice("The fetch goes on and fills the cache: ask again, or give the call a longer time-out.")
}

fn no_flight_lasted() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "fetch after fetch was cut short, or brought a token that had just expired",
    )
    .with_blame(Blame::Program)
    .with_advice("Keep the runtime alive for as long as tokens are needed, and look at the machine's clock.")
}
