//! The emulator's clock: real time unless it is moved or stopped, or a test's own.

use crate::emulator::time::Sleep;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

type NowFn = dyn Fn() -> SystemTime + Send + Sync;
type SleepFn = dyn Fn(Duration) -> Sleep + Send + Sync;

/// What time it is for tokens, codes, sign-ins and the journal, and how a fault's delay passes.
///
/// It goes with the real time until it is moved or stopped. What waits by it, such as an answer that a fault delays, wakes when it is
/// moved past the end of the wait. Clones are the same clock.
///
/// ```
/// # use entra_broker::emulator::Emulator;
/// # use std::time::Duration;
/// let emulator = Emulator::in_memory();
/// emulator.clock().freeze()?;
/// let before = emulator.clock().now();
/// emulator.clock().advance(Duration::from_secs(3600))?;
/// assert_eq!(emulator.clock().now(), before + Duration::from_secs(3600));
/// # Ok::<(), entra_broker::emulator::ClockError>(())
/// ```
#[derive(Clone)]
pub struct Clock(Arc<Source>);

enum Source {
    Own(watch::Sender<Reading>),
    /// Both hooks together, so that a delay and a token's lifetime are measured on the same clock.
    Hooked {
        now: Box<NowFn>,
        sleep: Box<SleepFn>,
    },
}

#[derive(Clone, Copy)]
enum Reading {
    Ahead(Duration),
    Behind(Duration),
    Frozen(SystemTime),
}

/// Why a clock was not moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClockError {
    /// [`Builder::time`](crate::emulator::Builder::time) gave the emulator another clock: that one is to be moved.
    NotOurs,
    /// The time is one that a clock cannot show.
    OutOfRange,
}

impl fmt::Display for ClockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotOurs => "the emulator runs on a clock that was given to it, which only its owner moves",
            Self::OutOfRange => "the clock cannot show that time",
        })
    }
}

impl std::error::Error for ClockError {}

/// A clock shows no time after this, in seconds since 1970: on the last but one day of the year 9999 the calendar ends that spells
/// it, `jiff::Timestamp::MAX`.
const LAST: u64 = 253_402_207_200;

#[expect(clippy::disallowed_methods, reason = "the one place where the emulator reads the real clock")]
fn real() -> SystemTime {
    SystemTime::now()
}

#[expect(clippy::disallowed_methods, reason = "the one place where the emulator waits for the real clock")]
async fn real_sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

impl Reading {
    fn now(self) -> SystemTime {
        let real = real();
        match self {
            Self::Ahead(by) => real.checked_add(by).unwrap_or(real),
            Self::Behind(by) => real.checked_sub(by).unwrap_or(SystemTime::UNIX_EPOCH),
            Self::Frozen(at) => at,
        }
    }

    fn running(at: SystemTime) -> Self {
        match at.duration_since(real()) {
            Ok(ahead) => Self::Ahead(ahead),
            Err(behind) => Self::Behind(behind.duration()),
        }
    }
}

impl Clock {
    pub(crate) fn real() -> Self {
        Self(Arc::new(Source::Own(watch::Sender::new(Reading::Ahead(Duration::ZERO)))))
    }

    pub(crate) fn hooked(
        now: impl Fn() -> SystemTime + Send + Sync + 'static,
        sleep: impl Fn(Duration) -> Sleep + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Source::Hooked { now: Box::new(now), sleep: Box::new(sleep) }))
    }

    /// What time it is.
    pub fn now(&self) -> SystemTime {
        match &*self.0 {
            Source::Own(reading) => reading.borrow().now(),
            Source::Hooked { now, .. } => now(),
        }
    }

    /// Whether it stands still.
    pub fn is_frozen(&self) -> bool {
        matches!(&*self.0, Source::Own(reading) if matches!(*reading.borrow(), Reading::Frozen(_)))
    }

    /// Whether it can be moved: not where [`Builder::time`](crate::emulator::Builder::time) gave another.
    pub fn is_movable(&self) -> bool {
        matches!(&*self.0, Source::Own(_))
    }

    /// Moves it forward.
    ///
    /// # Errors
    ///
    /// See [`ClockError`]; nothing has changed then.
    pub fn advance(&self, by: Duration) -> Result<(), ClockError> {
        self.change(|reading| {
            let at = reading.now().checked_add(by)?;
            Some(match reading {
                Reading::Frozen(_) => Reading::Frozen(at),
                // Added to the difference itself, so that many small steps do not lose what passes in between.
                Reading::Ahead(ahead) => Reading::Ahead(ahead.checked_add(by)?),
                Reading::Behind(behind) if by > behind => Reading::Ahead(by - behind),
                Reading::Behind(behind) => Reading::Behind(behind - by),
            })
        })
    }

    /// Sets it, forward or back. It goes on from there, or stands there if it stood before.
    ///
    /// # Errors
    ///
    /// See [`ClockError`]; nothing has changed then.
    pub fn set(&self, at: SystemTime) -> Result<(), ClockError> {
        self.change(|reading| {
            Some(match reading {
                Reading::Frozen(_) => Reading::Frozen(at),
                _ => Reading::running(at),
            })
        })
    }

    /// Stops it. It can still be moved. A request that a fault delays waits until somebody moves it.
    ///
    /// # Errors
    ///
    /// [`ClockError::NotOurs`].
    pub fn freeze(&self) -> Result<(), ClockError> {
        self.change(|reading| Some(Reading::Frozen(reading.now())))
    }

    /// Lets it go on from where it stands.
    ///
    /// # Errors
    ///
    /// [`ClockError::NotOurs`].
    pub fn resume(&self) -> Result<(), ClockError> {
        self.change(|reading| match reading {
            Reading::Frozen(at) => Some(Reading::running(at)),
            running => Some(running),
        })
    }

    fn change(&self, change: impl FnOnce(Reading) -> Option<Reading>) -> Result<(), ClockError> {
        let Source::Own(shown) = &*self.0 else {
            return Err(ClockError::NotOurs);
        };
        let mut changed = Err(ClockError::OutOfRange);
        shown.send_if_modified(|reading| {
            let next = change(*reading).filter(|next| {
                let since = next.now().duration_since(SystemTime::UNIX_EPOCH);
                since.is_ok_and(|since| since.as_secs() <= LAST)
            });
            if let Some(next) = next {
                *reading = next;
                changed = Ok(());
            }
            changed.is_ok()
        });
        changed
    }

    /// Waits for so long by this clock.
    pub(crate) fn sleep(&self, duration: Duration) -> Sleep {
        match &*self.0 {
            Source::Hooked { sleep, .. } => sleep(duration),
            Source::Own(shown) => {
                let moved = shown.subscribe();
                let until = self.now().checked_add(duration);
                let clock = self.clone();
                Box::pin(async move { clock.sleep_until(until, moved).await })
            }
        }
    }

    /// `self` keeps the sender alive, so that what is awaited here cannot fail.
    async fn sleep_until(&self, until: Option<SystemTime>, mut moved: watch::Receiver<Reading>) {
        let Some(until) = until else {
            return std::future::pending().await;
        };
        loop {
            let reading = *moved.borrow_and_update();
            let left = until.duration_since(reading.now()).unwrap_or_default();
            if left.is_zero() {
                return;
            }
            if matches!(reading, Reading::Frozen(_)) {
                let _ = moved.changed().await;
                continue;
            }
            // Once tokio has waited for it the time is over, whatever the wall clock says: tokio's own may be a paused one.
            tokio::select! {
                () = real_sleep(left) => return,
                _ = moved.changed() => {}
            }
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("now", &self.now()).field("frozen", &self.is_frozen()).finish()
    }
}
