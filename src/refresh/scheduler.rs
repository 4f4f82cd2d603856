//! Refreshes tokens when they are due, whether or not anyone asks at that moment, and clears away what is dead.
//!
//! One task for a broker, started with its first fetch, and asleep until the next entry is due. It holds the engine
//! weakly and ends with it.

use std::{cmp::Reverse, collections::BinaryHeap, fmt};

use tokio::{runtime::Handle, sync::Notify};

use super::{Engine, Entry};
use crate::{
    clock::Now,
    sync::{Arc, AtomicBool, Mutex, Ordering, Weak},
};

#[derive(Default)]
pub(super) struct Scheduler {
    alarms: Mutex<Alarms>,
    running: AtomicBool,
    /// Rung for an alarm that is earlier than all others. Apart, so that waiting for it keeps no engine alive.
    earlier: Arc<Notify>,
}

#[derive(Default)]
struct Alarms {
    heap: BinaryHeap<Reverse<Alarm>>,
    /// Tells equal times apart.
    next: u64,
}

/// Look at this entry then. What is to be done is decided by how it stands at that time.
struct Alarm {
    at: u64,
    number: u64,
    cell: Weak<Entry>,
}

impl PartialEq for Alarm {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Alarm {}

impl PartialOrd for Alarm {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Alarm {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl Scheduler {
    /// Has the entry looked at when `at` has come.
    pub(super) fn look_at(&self, cell: &Arc<Entry>, at: u64) {
        let mut alarms = self.alarms.lock();
        let number = alarms.next;
        alarms.next += 1;
        let first = alarms.heap.peek().is_none_or(|Reverse(first)| at < first.at);
        alarms.heap.push(Reverse(Alarm { at, number, cell: Arc::downgrade(cell) }));
        drop(alarms);
        if first {
            self.earlier.notify_one();
        }
    }

    /// Starts the task where none runs. Called whenever a fetch starts, so that a scheduler whose runtime went away
    /// is replaced.
    pub(super) fn ensure_running(engine: &Arc<Engine>, runtime: &Handle) {
        if !engine.scheduler.running.swap(true, Ordering::AcqRel) {
            runtime.spawn(run(Running(Arc::downgrade(engine))));
        }
    }

    fn next(&self) -> Option<u64> {
        self.alarms.lock().heap.peek().map(|Reverse(alarm)| alarm.at)
    }

    fn pop_due(&self, now: Now) -> Option<Weak<Entry>> {
        let mut alarms = self.alarms.lock();
        if alarms.heap.peek()?.0.at > now.nanos() {
            return None;
        }
        alarms.heap.pop().map(|Reverse(alarm)| alarm.cell)
    }
}

/// However the task ends, it is known not to run.
struct Running(Weak<Engine>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(engine) = self.0.upgrade() {
            engine.scheduler.running.store(false, Ordering::Release);
        }
    }
}

/// How many entries are looked at before other tasks get their turn.
const AT_A_TIME: usize = 64;

async fn run(running: Running) {
    let Some(engine) = running.0.upgrade() else { return };
    let (clock, mut phase) = (engine.clock.clone(), engine.phase.subscribe());
    let earlier = Arc::clone(&engine.scheduler.earlier);
    drop(engine);
    loop {
        let next = {
            let Some(engine) = running.0.upgrade() else { return };
            let now = clock.now();
            for _ in 0..AT_A_TIME {
                let Some(cell) = engine.scheduler.pop_due(now) else { break };
                if let Some(cell) = cell.upgrade() {
                    engine.look(&cell, now);
                }
            }
            engine.scheduler.next()
        };
        let woken = async {
            match next {
                Some(at) => clock.sleep_until(Now::from_nanos(0, at)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = woken => {}
            () = earlier.notified() => {}
            // Closed, or the engine is gone and the sender with it.
            changed = phase.changed() => if changed.is_err() || phase.borrow().is_over() { return },
        }
        tokio::task::yield_now().await;
    }
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler").field("alarms", &self.alarms.lock().heap.len()).finish_non_exhaustive()
    }
}
