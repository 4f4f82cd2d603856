//! Refreshes tokens when they are due, whether or not anyone asks at that moment, and clears away what is dead.
//!
//! One task for a broker, started with its first fetch, and asleep until the next entry is due. It holds the engine
//! weakly and ends with it. While as many fetches are under way in the background as there may be, it waits for one of
//! them to land, and then goes on with what was due first.

use std::{fmt, time::Duration};

use super::{
    Engine, Entry, FORSAKEN, SILENCE,
    alarms::Alarms,
    flight::Flight,
    fly::{self, HEARTBEAT},
    renewable,
};
use crate::{
    clock::{Now, nanos},
    fetched::Reason,
    sync::{Arc, AtomicU64, Handle, Mutex, Notify, Ordering, Weak, select, yield_now},
};

#[derive(Default)]
pub(super) struct Scheduler {
    agenda: Mutex<Agenda>,
    /// The number of the task that runs; 0: none.
    running: AtomicU64,
    tasks: AtomicU64,
}

#[derive(Default)]
struct Agenda {
    alarms: Alarms,
    /// By when the running task is to take its next look.
    awake_by: u64,
    /// Rung for an alarm that is earlier than all others, and when there is room for a fetch again. Apart, so that
    /// waiting for it keeps no engine alive, and the running task's own, so that no other takes it for itself.
    bell: Arc<Notify>,
}

impl Scheduler {
    /// Has the entry looked at when `at` has come, or earlier where that was asked for before.
    pub(super) fn look_at(&self, cell: &Arc<Entry>, at: u64) {
        let at = at.max(1);
        let bell = {
            let mut agenda = self.agenda.lock();
            agenda.alarms.add(cell, at).then(|| {
                agenda.awake_by = agenda.awake_by.min(at);
                Arc::clone(&agenda.bell)
            })
        };
        if let Some(bell) = bell {
            bell.notify_one();
        }
    }

    /// There is room for a fetch in the background again.
    pub(super) fn ring(&self) {
        let bell = Arc::clone(&self.agenda.lock().bell);
        bell.notify_one();
    }

    /// Starts the task where none runs, or where the one that does is so late that its runtime must be parked. Called
    /// whenever a caller starts a fetch, so that a scheduler whose runtime went away is replaced.
    pub(super) fn ensure_running(engine: &Arc<Engine>, runtime: &Handle, now: Now) {
        let scheduler = &engine.scheduler;
        let before = scheduler.running.load(Ordering::Acquire);
        let late = || now.nanos() >= scheduler.agenda.lock().awake_by.saturating_add(nanos(SILENCE));
        if before != 0 && !late() {
            return;
        }
        let number = scheduler.tasks.fetch_add(1, Ordering::Relaxed) + 1;
        let won = scheduler.running.compare_exchange(before, number, Ordering::AcqRel, Ordering::Relaxed);
        if won.is_ok() {
            let bell = Arc::<Notify>::default();
            {
                let mut agenda = scheduler.agenda.lock();
                agenda.bell = Arc::clone(&bell);
                agenda.awake_by = now.nanos();
            }
            runtime.spawn(run(Running { engine: Arc::downgrade(engine), number }, bell));
        }
    }

    fn pop(&self, now: Now) -> Option<Arc<Entry>> {
        self.agenda.lock().alarms.pop(now.nanos())
    }

    /// When the task is to take its next look: at the next alarm, or where that has gone off and there is no room for
    /// what is to be done, at `pause`.
    fn next_look(&self, now: Now, pause: Option<Now>) -> u64 {
        let mut agenda = self.agenda.lock();
        let next = agenda.alarms.first().unwrap_or(u64::MAX);
        agenda.awake_by = match pause {
            Some(pause) if next <= now.nanos() => pause.nanos(),
            _ => next.max(now.nanos()),
        };
        agenda.awake_by
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.agenda.lock().alarms.len()
    }
}

/// However the task ends, it is known not to run.
struct Running {
    engine: Weak<Engine>,
    number: u64,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.upgrade() {
            let running = &engine.scheduler.running;
            // Otherwise another one has taken its place.
            let _mine = running.compare_exchange(self.number, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        }
    }
}

/// How many entries are looked at before other tasks get their turn.
const AT_A_TIME: usize = 64;

/// When an entry is looked at again that something unforeseen kept from being refreshed.
const LATER: Duration = Duration::from_secs(1);

async fn run(running: Running, bell: Arc<Notify>) {
    let Some(engine) = running.engine.upgrade() else { return };
    let (clock, mut phase) = (engine.clock.clone(), engine.phase.subscribe());
    drop(engine);
    // When the fetches that keep the others waiting are to be looked after.
    let mut check = clock.now().after(HEARTBEAT);
    loop {
        let (now, next) = {
            let Some(engine) = running.engine.upgrade() else { return };
            if engine.scheduler.running.load(Ordering::Acquire) != running.number
                || engine.phase.borrow().is_over()
            {
                return;
            }
            let now = clock.now();
            for _ in 0..AT_A_TIME {
                if engine.background.is_full() {
                    break;
                }
                let Some(cell) = engine.scheduler.pop(now) else { break };
                engine.look(&cell, now);
            }
            let full = engine.background.is_full();
            if now.has_reached(check) {
                if full {
                    engine.relieve_background(now);
                }
                check = now.after(HEARTBEAT);
            }
            (now, engine.scheduler.next_look(now, full.then_some(check)))
        };
        if next > now.nanos() {
            let woken = async {
                match next {
                    u64::MAX => std::future::pending().await,
                    at => clock.sleep_until(Now::from_nanos(0, at)).await,
                }
            };
            select! {
                () = woken => {}
                () = bell.notified() => {}
                // Closed, or the engine is gone and the sender with it.
                changed = phase.changed() => if changed.is_err() { return },
            }
        }
        yield_now().await;
    }
}

impl Engine {
    /// The scheduler's look at one entry whose time has come.
    fn look(self: &Arc<Self>, cell: &Arc<Entry>, now: Now) {
        if !cell.is_attached() || cell.is_flying() {
            return;
        }
        let token = cell.peek();
        let Some(timeline) = token.as_ref().map(|token| *token.timeline()) else {
            let refused_until = cell.slow(|slow| slow.refused.map_or(0, |_| slow.refused_until));
            let until = cell.quiet_until().saturating_add(nanos(FORSAKEN));
            return self.clear_away_at(cell, until.max(refused_until), now);
        };
        if now.nanos() < timeline.due() {
            // It was replaced meanwhile.
            return self.scheduler.look_at(cell, timeline.due());
        }
        if !cell.is_used() || !renewable(cell.key()) {
            return self.clear_away_at(cell, timeline.expiry(), now);
        }
        let forsaken = timeline.expiry().saturating_add(nanos(FORSAKEN));
        if now.nanos() >= forsaken {
            return self.clear_away_at(cell, forsaken, now);
        }
        let later = now.after(LATER).nanos();
        let begun = cell.slow(|slow| {
            if slow.flight.is_some() {
                return Err(later);
            }
            // A caller's refresh may have landed since the look at the token above.
            let due = cell.peek().map_or(later, |token| token.timeline().due());
            if now.nanos() < due {
                return Err(due);
            }
            if let Some(until) = self.held_until(cell, slow, now) {
                return Err(until.max(later));
            }
            let number = self.next_flight();
            if !self.background.enter(number, cell) {
                // A caller took the last place just now. This one stays where it stood.
                return Err(timeline.due());
            }
            let mut flight = Flight::new(number, Reason::Due, cell.key().subject().clone(), None, now);
            (flight.refreshes, flight.background) = (now.nanos() < timeline.expiry(), true);
            self.begin(cell, slow, now, flight).map_err(|_| later)
        });
        match begun {
            Ok((flight, runtime)) => drop(runtime.spawn(fly::fly(self.lead(cell, &flight, 1)))),
            Err(again) => self.scheduler.look_at(cell, again),
        }
    }

    /// Evicts an entry once `until` has come, if it is still as dead as it is now.
    fn clear_away_at(self: &Arc<Self>, cell: &Arc<Entry>, until: u64, now: Now) {
        if now.nanos() < until {
            return self.scheduler.look_at(cell, until);
        }
        let dead = |cell: &Entry| !cell.standing(now).alive && now.nanos() >= cell.quiet_until();
        if !self.cache.remove_if(cell, dead) {
            // A failure is still remembered for it, or something has just begun. Once it is gone, a look does nothing.
            self.scheduler.look_at(cell, cell.quiet_until().max(now.after(LATER).nanos()));
        }
    }

    /// Takes over what parked runtimes fly in the background, since nobody else may ever ask for it: their places would
    /// be lost.
    fn relieve_background(self: &Arc<Self>, now: Now) {
        for cell in self.background.entries() {
            if let Some(flight) = cell.slow(|slow| slow.flight.clone()) {
                self.relieve(&cell, &flight, now);
            }
        }
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let agenda = self.agenda.lock();
        f.debug_struct("Scheduler")
            .field("alarms", &agenda.alarms.len())
            .field("bytes", &agenda.alarms.bytes())
            .finish_non_exhaustive()
    }
}
