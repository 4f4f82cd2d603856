//! Refreshes tokens when they are due, whether or not anyone asks at that moment, and clears away what is dead.
//!
//! One task for a broker, started with its first fetch, and asleep until the next entry is due. It holds the engine
//! weakly and ends with it.

use std::{collections::BTreeMap, fmt};

use super::{Engine, Entry, SILENCE};
use crate::{
    clock::{Now, nanos},
    sync::{Arc, AtomicU64, Handle, Mutex, Notify, Ordering, Weak, select, yield_now},
};

#[derive(Default)]
pub(super) struct Scheduler {
    alarms: Mutex<Alarms>,
    /// The number of the task that runs; 0: none.
    running: AtomicU64,
    tasks: AtomicU64,
}

#[derive(Default)]
struct Alarms {
    /// By when and the entry's address, which is its own for as long as it stands here: one alarm for each entry. What
    /// is to be done is decided by how the entry stands at that time.
    list: BTreeMap<(u64, usize), Weak<Entry>>,
    /// How many there were when those of dropped entries were last taken out.
    swept: usize,
    /// Rung for an alarm that is earlier than all others. Apart, so that waiting for it keeps no engine alive, and the
    /// running task's own, so that no other takes it for itself.
    bell: Arc<Notify>,
}

/// So few alarms of dropped entries are not worth a sweep.
const LEAST_SWEPT: usize = 1024;

impl Scheduler {
    /// Has the entry looked at when `at` has come, or earlier where that was asked for before.
    pub(super) fn look_at(&self, cell: &Arc<Entry>, at: u64) {
        let at = at.max(1);
        let place = Arc::as_ptr(cell).addr();
        let mut alarms = self.alarms.lock();
        match cell.alarm() {
            0 => {}
            before if before <= at => return,
            before => drop(alarms.list.remove(&(before, place))),
        }
        cell.set_alarm(at);
        let first = alarms.first().is_none_or(|first| at < first);
        alarms.list.insert((at, place), Arc::downgrade(cell));
        if alarms.list.len() > 2 * alarms.swept + LEAST_SWEPT {
            alarms.list.retain(|_, cell| cell.strong_count() > 0);
            alarms.swept = alarms.list.len();
        }
        let bell = first.then(|| Arc::clone(&alarms.bell));
        drop(alarms);
        if let Some(bell) = bell {
            bell.notify_one();
        }
    }

    /// Starts the task where none runs, or where the one that does is so late that its runtime must be parked. Called
    /// whenever a caller starts a fetch, so that a scheduler whose runtime went away is replaced.
    pub(super) fn ensure_running(engine: &Arc<Engine>, runtime: &Handle, now: Now) {
        let scheduler = &engine.scheduler;
        let before = scheduler.running.load(Ordering::Acquire);
        let late = |at: u64| now.nanos() >= at.saturating_add(nanos(SILENCE));
        if before != 0 && !scheduler.next().is_some_and(late) {
            return;
        }
        let number = scheduler.tasks.fetch_add(1, Ordering::Relaxed) + 1;
        let won = scheduler.running.compare_exchange(before, number, Ordering::AcqRel, Ordering::Relaxed);
        if won.is_ok() {
            let bell = Arc::<Notify>::default();
            scheduler.alarms.lock().bell = Arc::clone(&bell);
            runtime.spawn(run(Running { engine: Arc::downgrade(engine), number }, bell));
        }
    }

    fn next(&self) -> Option<u64> {
        self.alarms.lock().first()
    }

    fn pop_due(&self, now: Now) -> Option<Arc<Entry>> {
        let mut alarms = self.alarms.lock();
        while alarms.first()? <= now.nanos() {
            let (_, cell) = alarms.list.pop_first()?;
            if let Some(cell) = cell.upgrade() {
                cell.set_alarm(0);
                return Some(cell);
            }
        }
        None
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.alarms.lock().list.len()
    }
}

impl Alarms {
    fn first(&self) -> Option<u64> {
        self.list.first_key_value().map(|((at, _), _)| *at)
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

async fn run(running: Running, bell: Arc<Notify>) {
    let Some(engine) = running.engine.upgrade() else { return };
    let (clock, mut phase) = (engine.clock.clone(), engine.phase.subscribe());
    drop(engine);
    loop {
        let next = {
            let Some(engine) = running.engine.upgrade() else { return };
            if engine.scheduler.running.load(Ordering::Acquire) != running.number {
                return;
            }
            let now = clock.now();
            for _ in 0..AT_A_TIME {
                let Some(cell) = engine.scheduler.pop_due(now) else { break };
                engine.look(&cell, now);
            }
            engine.scheduler.next()
        };
        let woken = async {
            match next {
                Some(at) => clock.sleep_until(Now::from_nanos(0, at)).await,
                None => std::future::pending().await,
            }
        };
        select! {
            () = woken => {}
            () = bell.notified() => {}
            // Closed, or the engine is gone and the sender with it.
            changed = phase.changed() => if changed.is_err() || phase.borrow().is_over() { return },
        }
        yield_now().await;
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler").field("alarms", &self.alarms.lock().list.len()).finish_non_exhaustive()
    }
}
