//! Time as the emulator sees and spells it.

use crate::emulator::clock::Clock;
use std::future::Future;
use std::pin::Pin;
use std::time::{SystemTime, UNIX_EPOCH};

/// A sleep that was begun and can be awaited.
pub(crate) type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What handlers ask for the time, and wait by.
pub(crate) type Time = Clock;

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

/// `2026-01-09T02:02:12.5Z`, as RFC 3339 spells it.
pub(crate) fn rfc3339(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

/// The time that an RFC 3339 text stands for.
pub(crate) fn parse_rfc3339(text: &str) -> Option<SystemTime> {
    text.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
}
