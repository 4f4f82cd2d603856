//! Time: the only file that reads a clock or sleeps.
//!
//! A token must be dead as soon as any honest clock says so, a hit must not pay for more than two coarse clock reads,
//! and neither a suspended machine nor a stepped wall clock may fool either of these: [`Clock`] says how. So
//! [`Now::mono`] is an estimate of `CLOCK_BOOTTIME`, the clock that counts suspend, built from cheap parts:
//! `CLOCK_MONOTONIC_COARSE` plus the time spent suspended as last measured.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::sync::{Arc, Ordering, StaticU64};

mod manual;
pub use manual::ManualClock;

/// How far wall and monotonic clock may drift apart before the clock that counts suspend is asked. Well above the
/// 4 to 10 ms of the coarse clocks, well below any margin of a token's life.
const TOLERANCE: u64 = 250_000_000;

/// A point in time on two clocks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Nanoseconds since the Unix epoch.
    wall: u64,
    /// Nanoseconds since an origin that does not change while the process lives; counts suspend.
    mono: u64,
}

impl Now {
    pub(crate) const fn from_nanos(wall: u64, mono: u64) -> Self {
        Self { wall, mono }
    }

    /// The wall clock: for a person, for a header, for an `exp`. It may step.
    pub fn wall(self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.wall)
    }

    /// Time since a fixed origin, which no one can step: for deadlines and ages. Time spent suspended counts.
    pub fn mono(self) -> Duration {
        Duration::from_nanos(self.mono)
    }

    #[inline]
    pub(crate) fn nanos(self) -> u64 {
        self.mono
    }

    /// The point that lies `by` after this one.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        let by = nanos(by);
        Self { wall: self.wall.saturating_add(by), mono: self.mono.saturating_add(by) }
    }

    /// True once `point` is reached, by the clock that cannot be stepped.
    pub fn has_reached(self, point: Self) -> bool {
        self.mono >= point.mono
    }

    /// How long it is from here until `point`; zero when it has passed.
    pub fn until(self, point: Self) -> Duration {
        Duration::from_nanos(point.mono.saturating_sub(self.mono))
    }

    /// The earlier of two points.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        if other.mono < self.mono { other } else { self }
    }
}

impl fmt::Debug for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Now").field("wall", &self.wall()).field("mono", &self.mono()).finish()
    }
}

/// Nanoseconds as a `u64`, at most 584 years.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Where time comes from: the machine, or a test that moves it.
///
/// # Cheap, and still right
///
/// The time is asked for on each hit, and is about half of what a hit costs. On Linux a reading is two of the kernel's coarse
/// clocks, `CLOCK_REALTIME_COARSE` and `CLOCK_MONOTONIC_COARSE`: plain reads of memory, without a call into the kernel.
/// Neither is enough by itself, since the one can be set and the other stands still while the machine sleeps. So they are
/// compared, at each reading:
///
/// - As long as they advance in step, the machine has not slept and nobody has set the clock, and [`Now::mono`] is the
///   monotonic clock plus what the machine has slept so far.
/// - Where they have parted by more than 250 ms since they were last compared, that same call asks `CLOCK_BOOTTIME`, which
///   counts sleep, to tell which it was. After a sleep [`Now::mono`] is ahead by as much at once, so a token that ended
///   meanwhile is dead at the first look. After a wall clock was set, forward or back, it does not move: no token dies of
///   it, and none lives longer. Shorter sleeps add up until they are seen.
///
/// Coarse clocks are behind by up to a tick of the kernel, 1 to 10 ms. A token may be served for as much longer, less the
/// time that its request took to reach the service: its life is counted from when it was asked for. A caller's time-out
/// that begins at such a reading may end as much too early.
///
/// Not seen: a sleep during which the wall clock was set back by just as long, and a virtual machine that was stopped
/// without its kernel's knowledge, until its wall clock is put right.
///
/// Elsewhere no portable clock is known to count sleep. There the standard clocks are read, and a wall clock that runs
/// ahead is believed: after a sleep the token is dead as here, a clock that is set forward costs a fetch, and one that is
/// set back changes nothing.
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    System,
    Manual(Arc<manual::State>),
}

impl Clock {
    /// The machine's clocks.
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until it is moved, beginning at `wall`.
    pub fn manual(wall: SystemTime) -> (Self, ManualClock) {
        let control = ManualClock::new(wall);
        (Self(Source::Manual(control.state())), control)
    }

    /// What time it is.
    #[inline(always)]
    pub fn now(&self) -> Now {
        match &self.0 {
            Source::System => {
                let (wall, mono) = system::read();
                SYSTEM.now(wall, mono, system::suspended)
            }
            Source::Manual(state) => state.now(),
        }
    }

    /// Ends when `point` is reached.
    ///
    /// On the machine's clocks this needs a tokio runtime with its timer enabled. A sleep that began before the
    /// machine was suspended ends late by as long as it slept.
    ///
    /// # Cancel safety
    ///
    /// Dropping it forgets the timer and changes nothing else.
    pub fn sleep_until(&self, point: Now) -> Sleep {
        Sleep(match &self.0 {
            Source::System => Timer::System(Box::pin(system_sleep(self.now().until(point)))),
            Source::Manual(state) => Timer::Manual(manual::Wake::new(Arc::clone(state), point)),
        })
    }

    /// As [`sleep_until`](Self::sleep_until), or nothing where one cannot sleep here: outside a runtime, or on one
    /// without a timer, of which nothing but tokio's panic tells.
    pub(crate) fn try_sleep_until(&self, point: Now) -> Option<Sleep> {
        match self.0 {
            Source::System => {
                tokio::runtime::Handle::try_current().ok()?;
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.sleep_until(point))).ok()
            }
            Source::Manual(_) => Some(self.sleep_until(point)),
        }
    }

    /// Ends when `duration` has passed. As [`sleep_until`](Self::sleep_until).
    pub fn sleep(&self, duration: Duration) -> Sleep {
        self.sleep_until(self.now().after(duration))
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Source::System => "Clock::System",
            Source::Manual(_) => "Clock::Manual",
        })
    }
}

/// A timer of [`Clock::sleep_until`].
#[must_use = "a sleep does nothing unless it is awaited"]
pub struct Sleep(Timer);

enum Timer {
    System(Pin<Box<tokio::time::Sleep>>),
    Manual(manual::Wake),
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Timer::System(sleep) => sleep.as_mut().poll(cx),
            Timer::Manual(wake) => wake.poll(cx),
        }
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sleep")
    }
}

#[expect(clippy::disallowed_methods, reason = "this file is where sleeping is allowed")]
fn system_sleep(duration: Duration) -> tokio::time::Sleep {
    tokio::time::sleep(duration)
}

/// The machine's clocks with what is remembered of them. One for the process: they are the same for everyone.
static SYSTEM: Estimate = Estimate::new();

/// Turns readings of wall and monotonic clock into a time that counts suspend. See [`Clock`].
struct Estimate {
    /// wall − mono when last compared; the two's complement of it, as it may be negative.
    offset: StaticU64,
    /// boot − mono when last measured.
    suspended: StaticU64,
}

impl Estimate {
    /// `offset` begins at a value that no reading agrees with, so that the first one measures.
    const fn new() -> Self {
        Self { offset: StaticU64::new(1 << 63), suspended: StaticU64::new(0) }
    }

    /// `suspended` measures how long the machine has slept in all; it is given how far the wall clock ran ahead of
    /// the monotonic one since they were last compared.
    #[inline(always)]
    fn now(&self, wall: u64, mono: u64, suspended: impl FnOnce(u64) -> u64) -> Now {
        // Acquire pairs with the Release in `measure`: who sees the new offset sees the suspend time measured for it.
        let ahead = wall.wrapping_sub(mono).wrapping_sub(self.offset.load(Ordering::Acquire));
        if ahead.wrapping_add(TOLERANCE) > 2 * TOLERANCE {
            self.measure(wall.wrapping_sub(mono), suspended(ahead));
        }
        Now::from_nanos(wall, mono.wrapping_add(self.suspended.load(Ordering::Relaxed)))
    }

    #[cold]
    fn measure(&self, offset: u64, suspended: u64) {
        // Never back: two threads may measure at once, and one of them may be late.
        self.suspended.fetch_max(suspended, Ordering::Relaxed);
        self.offset.store(offset, Ordering::Release);
    }
}

#[cfg(target_os = "linux")]
mod system {
    use rustix::time::{ClockId, Timespec, clock_gettime};

    #[inline]
    fn nanos(time: Timespec) -> u64 {
        // The kernel's clocks are neither negative nor past the year 2554.
        (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
    }

    #[inline]
    pub(super) fn read() -> (u64, u64) {
        (nanos(clock_gettime(ClockId::RealtimeCoarse)), nanos(clock_gettime(ClockId::MonotonicCoarse)))
    }

    /// How long the machine has been suspended since it started.
    pub(super) fn suspended(_: u64) -> u64 {
        let mono = nanos(clock_gettime(ClockId::Monotonic));
        nanos(clock_gettime(ClockId::Boottime)).saturating_sub(mono)
    }
}

/// Elsewhere no portable clock is known to count suspend, so a wall clock that runs ahead is believed: a step forward
/// then costs a refetch, and a step back changes nothing.
#[cfg(not(target_os = "linux"))]
mod system {
    use std::{
        sync::{
            OnceLock,
            atomic::{AtomicU64, Ordering},
        },
        time::{Instant, SystemTime, UNIX_EPOCH},
    };

    use super::nanos;

    #[expect(clippy::disallowed_methods, reason = "this file is where clocks are read")]
    pub(super) fn read() -> (u64, u64) {
        static ORIGIN: OnceLock<Instant> = OnceLock::new();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        (nanos(wall), nanos(ORIGIN.get_or_init(Instant::now).elapsed()))
    }

    /// The sum of all jumps ahead. The first comparison, which has nothing to compare with, does not count.
    pub(super) fn suspended(ahead: u64) -> u64 {
        static SUM: AtomicU64 = AtomicU64::new(0);
        static FIRST: OnceLock<()> = OnceLock::new();
        let slept = if FIRST.set(()).is_err() && ahead < 1 << 62 { ahead } else { 0 };
        SUM.fetch_add(slept, Ordering::Relaxed) + slept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn manual() -> (Clock, ManualClock) {
        Clock::manual(UNIX_EPOCH + Duration::from_secs(1_800_000_000))
    }

    #[test]
    fn time_that_passes_moves_both_clocks() {
        let (clock, control) = manual();
        let before = clock.now();
        control.advance(HOUR);
        assert_eq!(before.until(clock.now()), HOUR);
        assert_eq!(clock.now().wall().duration_since(before.wall()).unwrap(), HOUR);
    }

    #[test]
    fn a_suspended_machine_has_aged_at_the_first_look() {
        let (clock, control) = manual();
        let before = clock.now();
        control.suspend(HOUR);
        assert_eq!(before.until(clock.now()), HOUR);
    }

    #[test]
    fn a_stepped_wall_clock_ages_nothing() {
        let (clock, control) = manual();
        let before = clock.now();
        control.step_forward(24 * HOUR);
        assert_eq!(before.until(clock.now()), Duration::ZERO);
        control.step_back(48 * HOUR);
        assert_eq!(before.until(clock.now()), Duration::ZERO);
        control.advance(HOUR);
        assert_eq!(before.until(clock.now()), HOUR);
    }

    #[test]
    fn a_sleep_followed_by_a_step_is_still_a_sleep() {
        let (clock, control) = manual();
        let before = clock.now();
        control.suspend(HOUR);
        control.step_back(HOUR / 2);
        assert_eq!(before.until(clock.now()), HOUR);
    }

    #[test]
    fn many_short_sleeps_add_up() {
        let (clock, control) = manual();
        let before = clock.now();
        for _ in 0..100 {
            control.suspend(Duration::from_millis(200));
            clock.now();
        }
        assert!(before.until(clock.now()) >= Duration::from_millis(19_500));
    }

    #[test]
    fn the_machines_clock_advances_and_its_wall_clock_is_the_wall_clock() {
        #[expect(clippy::disallowed_methods, reason = "the judge of this clock is the standard one")]
        let standard = SystemTime::now();
        let now = Clock::system().now();
        let apart = now.wall().duration_since(standard).unwrap_or_else(|error| error.duration());
        assert!(apart < Duration::from_secs(2), "{apart:?}");
        assert!(Clock::system().now().has_reached(now));
    }

    #[tokio::test]
    async fn a_sleep_ends_when_its_time_has_come_and_not_before() {
        let (clock, control) = manual();
        let mut sleep = Box::pin(clock.sleep(HOUR));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(sleep.as_mut().poll(&mut cx).is_pending());
        assert_eq!(control.next_timer(), Some(HOUR));
        control.advance(HOUR - Duration::from_nanos(1));
        assert!(sleep.as_mut().poll(&mut cx).is_pending());
        control.advance(Duration::from_nanos(1));
        assert!(sleep.as_mut().poll(&mut cx).is_ready());
        drop(sleep);
        assert_eq!(control.next_timer(), None);
    }
}
