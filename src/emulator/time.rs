//! Time as the emulator sees it: real, or a test's own movable clock.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A sleep that was begun and can be awaited.
pub(crate) type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

type NowFn = dyn Fn() -> SystemTime + Send + Sync;
type SleepFn = dyn Fn(Duration) -> Sleep + Send + Sync;

/// Both hooks together, so that a delay and a token's lifetime are measured on the same clock.
#[derive(Clone)]
pub(crate) struct Time {
    now: Arc<NowFn>,
    sleep: Arc<SleepFn>,
}

impl Time {
    #[expect(clippy::disallowed_methods, reason = "the one place where the emulator reads the real clock")]
    pub(crate) fn real() -> Self {
        Self::hooked(SystemTime::now, |duration| Box::pin(tokio::time::sleep(duration)))
    }

    pub(crate) fn hooked(
        now: impl Fn() -> SystemTime + Send + Sync + 'static,
        sleep: impl Fn(Duration) -> Sleep + Send + Sync + 'static,
    ) -> Self {
        Self { now: Arc::new(now), sleep: Arc::new(sleep) }
    }

    pub(crate) fn now(&self) -> SystemTime {
        (self.now)()
    }

    pub(crate) fn sleep(&self, duration: Duration) -> Sleep {
        (self.sleep)(duration)
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Time").field("now", &self.now()).finish()
    }
}

/// Whole seconds since 1970, as `iat`, `exp` and `expires_on` count them. Before 1970 is 0.
pub(crate) fn unix_seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// `2026-01-09 02:02:12Z`: the spelling of every timestamp in an Entra error.
pub(crate) fn timestamp(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at)
        .unwrap_or(jiff::Timestamp::UNIX_EPOCH)
        .strftime("%Y-%m-%d %H:%M:%SZ")
        .to_string()
}
