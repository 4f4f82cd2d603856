//! A clock that stands still until a test moves it.

use std::{
    collections::BTreeMap,
    fmt,
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{Estimate, Now, nanos};
use crate::sync::{Arc, AtomicU64, Mutex, Ordering};

/// Moves a clock made by [`Clock::manual`](super::Clock::manual).
///
/// The three clocks of a machine can be moved apart: the wall clock, the monotonic clock that stops while the machine
/// sleeps, and the one that counts sleep. Clones move the same clock.
#[derive(Clone)]
pub struct ManualClock(Arc<State>);

pub(super) struct State {
    wall: AtomicU64,
    mono: AtomicU64,
    /// boot − mono.
    suspended: AtomicU64,
    estimate: Estimate,
    sleepers: Mutex<Sleepers>,
}

/// By when they end and a number of their own.
#[derive(Default)]
struct Sleepers {
    next: u64,
    list: BTreeMap<(u64, u64), Waker>,
}

impl ManualClock {
    pub(super) fn new(wall: SystemTime) -> Self {
        let wall = nanos(wall.duration_since(UNIX_EPOCH).unwrap_or_default());
        Self(Arc::new(State {
            wall: AtomicU64::new(wall),
            // Not zero, so that arithmetic which goes wrong below the origin shows.
            mono: AtomicU64::new(nanos(Duration::from_secs(86_400))),
            suspended: AtomicU64::new(0),
            estimate: Estimate::new(),
            sleepers: Mutex::default(),
        }))
    }

    pub(super) fn state(&self) -> Arc<State> {
        Arc::clone(&self.0)
    }

    /// Time passes: all clocks move, and sleeps that are due end.
    pub fn advance(&self, by: Duration) {
        self.0.mono.fetch_add(nanos(by), Ordering::SeqCst);
        self.0.wall.fetch_add(nanos(by), Ordering::SeqCst);
        self.0.wake();
    }

    /// The machine sleeps: the wall clock and the one that counts sleep move, the monotonic one does not. Timers,
    /// as on a real machine, do not notice until time passes again.
    pub fn suspend(&self, by: Duration) {
        self.0.suspended.fetch_add(nanos(by), Ordering::SeqCst);
        self.0.wall.fetch_add(nanos(by), Ordering::SeqCst);
    }

    /// Somebody sets the wall clock ahead.
    pub fn step_forward(&self, by: Duration) {
        self.0.wall.fetch_add(nanos(by), Ordering::SeqCst);
    }

    /// Somebody sets the wall clock back.
    pub fn step_back(&self, by: Duration) {
        let by = nanos(by);
        let earlier = |wall: u64| Some(wall.saturating_sub(by));
        let _was = self.0.wall.fetch_update(Ordering::SeqCst, Ordering::SeqCst, earlier);
    }

    /// When the next sleep ends, as time from now: zero where one is due, `None` where nothing sleeps.
    pub fn next_timer(&self) -> Option<Duration> {
        let mono = self.0.mono.load(Ordering::SeqCst);
        let (&(at, _), _) = self.0.sleepers.lock().list.first_key_value()?;
        Some(Duration::from_nanos(at.saturating_sub(mono)))
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualClock").field("now", &self.0.now()).finish()
    }
}

impl State {
    #[cold]
    pub(super) fn now(&self) -> Now {
        let suspended = self.suspended.load(Ordering::SeqCst);
        let (wall, mono) = (self.wall.load(Ordering::SeqCst), self.mono.load(Ordering::SeqCst));
        self.estimate.now(wall, mono, |_| suspended)
    }

    fn wake(&self) {
        let mono = self.mono.load(Ordering::SeqCst);
        let due = {
            let mut sleepers = self.sleepers.lock();
            let later = sleepers.list.split_off(&(mono.saturating_add(1), 0));
            std::mem::replace(&mut sleepers.list, later)
        };
        due.into_values().for_each(Waker::wake);
    }
}

/// One sleep. It counts in monotonic time, as a kernel timer does.
pub(super) struct Wake {
    state: Arc<State>,
    at: u64,
    id: Option<u64>,
}

impl Wake {
    pub(super) fn new(state: Arc<State>, point: Now) -> Self {
        let at = state.mono.load(Ordering::SeqCst).saturating_add(nanos(state.now().until(point)));
        Self { state, at, id: None }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut sleepers = self.state.sleepers.lock();
        // Under the lock: a clock that is moved now either is seen here or finds the sleeper.
        if self.state.mono.load(Ordering::SeqCst) >= self.at {
            return Poll::Ready(());
        }
        let id = *self.id.get_or_insert_with(|| {
            sleepers.next += 1;
            sleepers.next
        });
        sleepers.list.insert((self.at, id), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.state.sleepers.lock().list.remove(&(self.at, id));
        }
    }
}
