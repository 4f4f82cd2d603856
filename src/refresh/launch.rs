//! How a flight begins: for a caller, in the background, or where another's runtime left it.

use super::{
    Ask, Begun, Engine, Entry, GLANCE, SILENCE, Step, count,
    flight::{self, Flight, Slow},
    holds::Hold,
    no_runtime,
};
use crate::{
    clock::Now,
    error::Error,
    fetched::Reason,
    sync::{Arc, Handle, Ordering},
    token::AccessToken,
};

impl Engine {
    /// Starts a flight. A caller that needs it waits; one that has a token which is merely due does not.
    pub(super) fn launch(
        &self,
        cell: &Arc<Entry>,
        slow: &mut Slow,
        now: Now,
        reason: Reason,
        ask: Ask<'_>,
    ) -> (Step, Begun) {
        let token = if ask.challenge.is_some() { None } else { cell.usable(now).map(AccessToken) };
        let number = self.next_flight();
        let spare =
            token.as_ref().map(|token| *token.0.timeline()).filter(|line| now.nanos() < line.last_call());
        if let (Some(timeline), Some(token)) = (spare, &token)
            && !self.background.enter(number, cell)
        {
            // The scheduler has it in its turn, with what else is due. For the next callers it is a hit meanwhile.
            cell.set_quiet_until(now.after(GLANCE).nanos().min(timeline.last_call()));
            self.scheduler.look_at(cell, timeline.due());
            return (Step::Serve(token.clone()), Begun::Postponed);
        }
        let mut flight = Flight::new(number, reason, ask.subject.clone(), ask.challenge.cloned(), now);
        flight.label = ask.label.map(Into::into);
        flight.attended = matches!(reason, Reason::Miss | Reason::Forced);
        (flight.refreshes, flight.background) = (token.is_some(), spare.is_some());
        match (self.begin(cell, slow, now, flight), token) {
            (Ok((flight, runtime)), Some(token)) if spare.is_some() => {
                (Step::Serve(token), Begun::Flight(flight, 1, runtime))
            }
            (Ok((flight, runtime)), _) => {
                (Step::Join(Arc::clone(&flight)), Begun::Flight(flight, 1, runtime))
            }
            (Err(_), Some(token)) => {
                // Nothing can be started from here. The scheduler may be able to, on a runtime of its own.
                let later = now.after(GLANCE).nanos();
                cell.set_quiet_until(later);
                self.scheduler.look_at(cell, later);
                (Step::Serve(token), Begun::Nothing)
            }
            (Err(error), None) => (Step::Fail(error), Begun::Nothing),
        }
    }

    /// Makes this flight the entry's, if one can be begun from here. One in the background has its place, and gives it
    /// back where not.
    pub(super) fn begin(
        &self,
        cell: &Arc<Entry>,
        slow: &mut Slow,
        now: Now,
        mut flight: Flight,
    ) -> Result<(Arc<Flight>, Handle), Error> {
        let ready = self.runtime(now).and_then(|runtime| {
            let probing = self.holds.enter(cell.key(), slow.hold.as_mut(), now, flight.number)?;
            Ok((runtime, probing))
        });
        let (runtime, probing) = ready.inspect_err(|_| self.leave_background(&flight))?;
        if probing && flight.challenge.is_none() {
            flight.reason = Reason::Probe;
        }
        let flight = Arc::new(flight);
        slow.flight = Some(Arc::clone(&flight));
        cell.set_flying(true);
        cell.set_quiet_until(flight.alive_until().nanos());
        self.flying.send_modify(|flying| *flying += 1);
        Ok((flight, runtime))
    }

    pub(super) fn next_flight(&self) -> u64 {
        self.flights.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A flight in the background has its place no more. If it was the last one, the scheduler may have waited for it.
    pub(super) fn leave_background(&self, flight: &Flight) {
        if flight.background && self.background.leave(flight.number) {
            self.scheduler.ring();
        }
    }

    /// Until when this entry's source is left alone, where it is.
    pub(super) fn held_until(&self, cell: &Entry, slow: &Slow, now: Now) -> Option<u64> {
        self.holds.check(cell.key(), slow.hold.as_ref(), now, 0)?;
        let narrow = slow.hold.as_ref().map_or(0, Hold::until);
        Some(self.holds.until(cell.key()).unwrap_or_default().max(narrow))
    }

    /// Makes the caller's runtime the one that flies on. Called with the cell's lock held.
    pub(super) fn take_over(&self, cell: &Entry, flight: &Arc<Flight>, now: Now) -> Begun {
        // Where nobody can take over from here, somebody looks again later.
        flight.prolong(now.after(SILENCE));
        self.holds.prolong(cell.key(), flight.number, flight.alive_until());
        cell.set_quiet_until(flight.alive_until().nanos());
        let Ok(runtime) = self.runtime(now) else { return Begun::Nothing };
        count(&self.counters.takeovers);
        Begun::Flight(Arc::clone(flight), flight.next_term(), runtime)
    }

    pub(super) fn lead(self: &Arc<Self>, cell: &Arc<Entry>, flight: &Arc<Flight>, term: u64) -> flight::Lead {
        flight::Lead {
            engine: Arc::clone(self),
            cell: Arc::clone(cell),
            flight: Arc::clone(flight),
            term,
            landed: false,
        }
    }

    /// The runtime to fly on, if there is one here with a timer.
    pub(crate) fn runtime(&self, now: Now) -> Result<Handle, Error> {
        let runtime = Handle::try_current().map_err(|_| no_runtime())?;
        self.clock.try_sleep_until(now).map(|_| runtime).ok_or_else(no_runtime)
    }
}
