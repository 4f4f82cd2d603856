//! How long a token lives, from the many ways in which that is said.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::{Timestamp, civil::DateTime, fmt::strtime, tz::TimeZone};
use serde_json::Value;

use super::json::{Members, number};

/// The longest lifetime that Entra documents: 28 hours, with continuous access evaluation. What claims to live longer
/// is a mistake, and would be served long after everybody else has forgotten it.
pub(super) const LONGEST: Duration = Duration::from_secs(28 * 60 * 60);
/// `expires_on` is seconds since 1970, but some endpoints give the seconds that are left. Less than a year of seconds
/// is 1970, when there were no tokens.
const RELATIVE_BELOW: f64 = 365.0 * 24.0 * 60.0 * 60.0;
/// Longer than any date in one of the known forms.
const MAX_DATE: usize = 64;

/// Why no lifetime can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoLifetime {
    Unknown,
    Expired,
}

/// The lifetime, counted from when the request was sent.
///
/// By `expires_in` where that is a number, since it needs no clock that agrees with the service's; else by `expires_on`
/// against the wall clock at `sent`. Where both are given, as by IMDS, the shorter counts: the platform hands out one
/// token for hours, and `expires_in` may be of the day on which it was made
/// (<https://github.com/Azure/azure-sdk-for-js/pull/8591>). An `expires_on` that has passed, while `expires_in` has not,
/// is a clock of this machine that is ahead: nobody hands out dead tokens, so it is not believed.
pub(super) fn lifetime(members: &Members, sent: SystemTime) -> Result<Duration, NoLifetime> {
    let expires_in = members.get("expires_in").and_then(number);
    let expires_on = members.get("expires_on").and_then(|value| remaining(value, sent));
    let seconds = match (expires_in, expires_on) {
        (Some(within), Some(on)) if on >= 1.0 => Some(within.min(on)),
        (within, on) => within.or(on),
    };
    match seconds {
        None => Err(NoLifetime::Unknown),
        Some(seconds) if seconds < 1.0 => Err(NoLifetime::Expired),
        Some(seconds) => Ok(whole(seconds)),
    }
}

/// When the service wants the token to be refreshed. Nonsense is ignored: it is a hint.
pub(super) fn refresh_in(members: &Members, lifetime: Duration) -> Option<Duration> {
    let seconds = members.get("refresh_in").and_then(number).filter(|seconds| *seconds >= 1.0)?;
    Some(seconds).filter(|seconds| *seconds < lifetime.as_secs_f64()).map(whole)
}

fn whole(seconds: f64) -> Duration {
    // Clamped before the cast, which is then exact.
    Duration::from_secs(seconds.clamp(0.0, LONGEST.as_secs_f64()) as u64)
}

fn remaining(expires_on: &Value, sent: SystemTime) -> Option<f64> {
    let at = match number(expires_on) {
        Some(seconds) if seconds < RELATIVE_BELOW => return Some(seconds),
        Some(seconds) => seconds,
        None => date(expires_on.as_str()?)?,
    };
    let sent = match sent.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_secs_f64(),
        Err(before) => -before.duration().as_secs_f64(),
    };
    Some(at - sent)
}

/// Seconds since 1970 of an ISO 8601 date, or of one in the two spellings of .NET's invariant and US locale.
fn date(text: &str) -> Option<f64> {
    if text.len() > MAX_DATE {
        return None;
    }
    // Newer .NET puts a narrow no-break space in front of AM and PM.
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let iso = || text.parse::<Timestamp>().ok();
    // Without an offset it is UTC, as everything that Entra says.
    let civil = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    let locale = |format| strtime::parse(format, &text).ok()?.to_timestamp().ok();
    let at = iso()
        .or_else(civil)
        .or_else(|| locale("%m/%d/%Y %H:%M:%S %:z"))
        .or_else(|| locale("%m/%d/%Y %I:%M:%S %p %:z"))?;
    Some(at.as_second() as f64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::wire::testing;

    /// 2026-01-09 02:02:12 UTC.
    const SENT: u64 = 1_767_924_132;

    fn sent() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(SENT)
    }

    fn of(value: &Value) -> Result<u64, NoLifetime> {
        lifetime(value.as_object().unwrap(), sent()).map(|lifetime| lifetime.as_secs())
    }

    #[test]
    fn expires_in_may_be_any_kind_of_number() {
        for (value, seconds) in
            [(json!(3599), 3599), (json!("3599"), 3599), (json!(3599.9), 3599), (json!("1e3"), 1000)]
        {
            assert_eq!(of(&json!({"expires_in": value})), Ok(seconds));
        }
    }

    #[test]
    fn of_two_lifetimes_the_shorter_counts_unless_it_has_ended() {
        let both = |within: u64, on: u64| of(&json!({"expires_in": within, "expires_on": on.to_string()}));
        assert_eq!(both(86_399, SENT + 600), Ok(600));
        assert_eq!(both(600, SENT + 86_399), Ok(600));
        assert_eq!(both(3599, SENT - 3600), Ok(3599));
        assert_eq!(both(0, SENT + 600), Err(NoLifetime::Expired));
    }

    #[test]
    fn a_token_that_is_over_is_expired() {
        for value in [json!(0), json!(-5), json!("0"), json!(0.5), json!(-1e300), json!(i64::MIN)] {
            assert_eq!(of(&json!({"expires_in": value})), Err(NoLifetime::Expired));
            assert_eq!(of(&json!({"expires_on": value})), Err(NoLifetime::Expired));
        }
        for value in [json!(SENT), json!(SENT - 3600), json!("2020-01-01T00:00:00Z")] {
            assert_eq!(of(&json!({"expires_on": value})), Err(NoLifetime::Expired));
        }
    }

    #[test]
    fn an_absurd_lifetime_is_cut_to_the_longest() {
        for value in [json!(1e300), json!(u64::MAX), json!("99999999999")] {
            assert_eq!(of(&json!({"expires_in": value})), Ok(LONGEST.as_secs()));
            assert_eq!(of(&json!({"expires_on": value})), Ok(LONGEST.as_secs()));
        }
        assert_eq!(of(&json!({"expires_on": "9998-12-31T23:59:59Z"})), Ok(LONGEST.as_secs()));
    }

    #[test]
    fn no_lifetime_is_not_guessed() {
        for value in [json!({}), json!({"expires_in": null}), json!({"expires_in": "soon", "expires_on": []})]
        {
            assert_eq!(of(&value), Err(NoLifetime::Unknown));
        }
    }

    #[test]
    fn expires_on_is_read_in_every_known_form() {
        for value in [
            json!(SENT + 3600),
            json!((SENT + 3600).to_string()),
            json!(SENT as f64 + 3600.5),
            json!("3600"),
            json!(3600),
            json!("2026-01-09T03:02:12Z"),
            json!("2026-01-09T03:02:12.1234567+00:00"),
            json!("2026-01-09T04:02:12+01:00"),
            json!("2026-01-09 03:02:12Z"),
            json!("2026-01-09T03:02:12"),
            json!("01/09/2026 03:02:12 +00:00"),
            json!("1/9/2026 3:02:12 AM +00:00"),
            json!("1/9/2026 3:02:12\u{202f}AM +00:00"),
            json!("1/9/2026 5:02:12 AM +02:00"),
        ] {
            assert_eq!(of(&json!({"expires_on": value})), Ok(3600), "{value}");
            assert_eq!(of(&json!({"expires_in": "soon", "expires_on": value})), Ok(3600), "{value}");
        }
        assert_eq!(of(&json!({"expires_on": "1/9/2026 2:02:12 PM +00:00"})), Ok(12 * 3600));
        assert_eq!(of(&json!({"expires_on": "12/31/2019 12:02:12 AM +00:00"})), Err(NoLifetime::Expired));
        for bad in ["13/32/2026 03:02:12 +00:00", "tomorrow", "2026-01-09T03:02:12[Europe/Berlin]x"] {
            assert_eq!(of(&json!({"expires_on": bad})), Err(NoLifetime::Unknown), "{bad}");
        }
    }

    #[test]
    fn refresh_in_is_a_hint() {
        let hint =
            |value| refresh_in(json!({"refresh_in": value}).as_object().unwrap(), Duration::from_secs(7200));
        assert_eq!(hint(json!(3600)), Some(Duration::from_secs(3600)));
        assert_eq!(hint(json!("3600")), Some(Duration::from_secs(3600)));
        for nonsense in
            [json!(0), json!(-1), json!(7200), json!(9000), json!("x"), json!(null), json!({}), json!(1e300)]
        {
            assert_eq!(hint(nonsense), None);
        }
    }

    proptest! {
        #[test]
        fn anything_has_a_bounded_lifetime_or_none(
            on in testing::value(),
            text in "\\PC{0,30}|[0-9]{1,2}/[0-9]{1,2}/[0-9]{4} [0-9]{1,2}:[0-9]{2}:[0-9]{2} ([AP]M )?[+-][0-9]{2}:[0-9]{2}",
            sent in any::<i32>(),
        ) {
            let since = Duration::from_secs(sent.unsigned_abs().into());
            let sent = if sent < 0 { UNIX_EPOCH - since } else { UNIX_EPOCH + since };
            for members in [json!({"expires_in": &on}), json!({"expires_on": &on}), json!({"expires_on": &text})] {
                if let Ok(lifetime) = lifetime(members.as_object().unwrap(), sent) {
                    prop_assert!(lifetime >= Duration::from_secs(1) && lifetime <= LONGEST);
                }
            }
            let _ = refresh_in(json!({"refresh_in": &on}).as_object().unwrap(), LONGEST);
        }
    }
}
