//! When to try again. Pure: time and chance are arguments.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode};

use super::{TransportError, TransportErrorKind};
use crate::{clock::Now, wire::oauth_error::retry_after};

/// A retry that would have less time than this before the deadline is not begun: it would spend a request for an
/// answer that hardly anyone sees.
const LEAST_ATTEMPT: Duration = Duration::from_millis(500);

/// Token service: three attempts, 0.5 s and 1 s apart, each ± half. Enough for a lost packet or a restarting front
/// end; anything longer is for the refresh engine, which can serve a token meanwhile. The spread keeps a fleet that
/// lost the service at one moment from returning at one moment.
const TOKEN_SERVICE_ATTEMPTS: u32 = 3;
const TOKEN_SERVICE_FIRST: Duration = Duration::from_millis(500);
const TOKEN_SERVICE_LONGEST: Duration = Duration::from_secs(1);
const TOKEN_SERVICE_SPREAD: f64 = 0.5;

/// IMDS: from 1 s doubling to 16 s for as long as the budget lasts, as Microsoft's guidance has it. It answers 410 for up
/// to 70 s while it is updated; attempts fall 1, 3, 7, 15, 31, 47, 63 and 79 s after the first.
const IMDS_FIRST: Duration = Duration::from_secs(1);
const IMDS_LONGEST: Duration = Duration::from_secs(16);
/// Where nothing answers at its address this is no virtual machine of Azure: a laptop is not kept waiting for the whole
/// budget.
const IMDS_UNANSWERED: u32 = 3;

/// Other managed-identity endpoints: three retries, 1 s apart, as MSAL does. They are processes of the same machine.
const MANAGED_IDENTITY_ATTEMPTS: u32 = 4;
const MANAGED_IDENTITY_DELAY: Duration = Duration::from_secs(1);

/// Which failures are worth another attempt, how many, and how far apart.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    statuses: Statuses,
    /// How many attempts may end without an answer: failed connections, broken ones, and time-outs.
    unanswered: u32,
    /// In all; `u32::MAX` for as many as the deadline allows.
    attempts: u32,
    first: Duration,
    longest: Duration,
    /// As a part of the delay, to both sides.
    spread: f64,
    unless_sent: bool,
}

#[derive(Debug, Clone, Copy)]
enum Statuses {
    None,
    TokenService,
    Imds,
    ManagedIdentity,
}

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum Outcome<'a> {
    Answered(StatusCode, &'a HeaderMap),
    Failed(&'a TransportError),
    TimedOut,
}

/// What is to be made of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is what the caller gets.
    Final,
    /// Worth another attempt, but not before this has passed, where the service said so.
    Retriable(Option<Duration>),
}

impl RetryPolicy {
    /// For the token service: failed and broken connections, time-outs, 408, 429 and 5xx.
    pub fn token_service() -> Self {
        Self {
            statuses: Statuses::TokenService,
            unanswered: TOKEN_SERVICE_ATTEMPTS,
            attempts: TOKEN_SERVICE_ATTEMPTS,
            first: TOKEN_SERVICE_FIRST,
            longest: TOKEN_SERVICE_LONGEST,
            spread: TOKEN_SERVICE_SPREAD,
            unless_sent: false,
        }
    }

    /// For the instance metadata service of a virtual machine: 404, 410, 429 and 5xx for as long as the fetch may take;
    /// failed and broken connections and time-outs up to three times.
    pub fn imds() -> Self {
        Self {
            statuses: Statuses::Imds,
            unanswered: IMDS_UNANSWERED,
            attempts: u32::MAX,
            first: IMDS_FIRST,
            longest: IMDS_LONGEST,
            spread: 0.0,
            unless_sent: false,
        }
    }

    /// For the other managed-identity endpoints: failed and broken connections, time-outs, 404, 408, 429, 500, 503 and
    /// 504.
    pub fn managed_identity() -> Self {
        Self {
            statuses: Statuses::ManagedIdentity,
            unanswered: MANAGED_IDENTITY_ATTEMPTS,
            attempts: MANAGED_IDENTITY_ATTEMPTS,
            first: MANAGED_IDENTITY_DELAY,
            longest: MANAGED_IDENTITY_DELAY,
            spread: 0.0,
            unless_sent: false,
        }
    }

    /// One attempt.
    pub fn none() -> Self {
        Self {
            statuses: Statuses::None,
            unanswered: 0,
            attempts: 1,
            first: Duration::ZERO,
            longest: Duration::ZERO,
            spread: 0.0,
            unless_sent: false,
        }
    }

    /// Never again once bytes may have left: for what can be spent only once, such as an authorization code or a
    /// rotating refresh token. Only an attempt that found no connection is repeated.
    #[must_use]
    pub fn unless_sent(mut self) -> Self {
        self.unless_sent = true;
        self
    }

    /// When the next attempt begins, after `attempts` of which the last ended as `outcome`; `None` where there is to be
    /// none. `random` is in `0..1`.
    pub(super) fn next_attempt(
        &self,
        outcome: &Outcome<'_>,
        attempts: u32,
        now: Now,
        deadline: Now,
        random: f64,
    ) -> Option<Now> {
        let Verdict::Retriable(after) = classify(outcome, self, now.wall()) else { return None };
        let most = match outcome {
            Outcome::Answered(..) => self.attempts,
            Outcome::Failed(_) | Outcome::TimedOut => self.unanswered,
        };
        if attempts >= most {
            return None;
        }
        let wait = self.delay(attempts, random).max(after.unwrap_or_default());
        let fits = wait.saturating_add(LEAST_ATTEMPT) <= now.until(deadline);
        fits.then(|| now.after(wait))
    }

    /// How long to wait after the `attempts`th attempt, by our own lights.
    fn delay(&self, attempts: u32, random: f64) -> Duration {
        let doubled = 2_u32.saturating_pow(attempts.saturating_sub(1));
        let delay = self.first.saturating_mul(doubled).min(self.longest);
        delay.mul_f64(1.0 + self.spread * (2.0 * random.clamp(0.0, 1.0) - 1.0))
    }
}

/// Whether `outcome` is worth another attempt under `policy`.
pub(super) fn classify(outcome: &Outcome<'_>, policy: &RetryPolicy, wall: SystemTime) -> Verdict {
    let may_have_left = match outcome {
        Outcome::Answered(..) | Outcome::TimedOut => true,
        Outcome::Failed(error) => error.may_have_left(),
    };
    if policy.unless_sent && may_have_left {
        return Verdict::Final;
    }
    let (retriable, after) = match outcome {
        Outcome::Answered(status, headers) => {
            (policy.statuses.contains(status.as_u16()), retry_after(headers, wall))
        }
        Outcome::TimedOut => (policy.unanswered > 0, None),
        Outcome::Failed(error) => {
            let passing =
                matches!(error.kind(), TransportErrorKind::Connect | TransportErrorKind::Interrupted);
            (policy.unanswered > 0 && passing, None)
        }
    };
    if retriable { Verdict::Retriable(after) } else { Verdict::Final }
}

impl Statuses {
    fn contains(self, status: u16) -> bool {
        match self {
            Self::None => false,
            Self::TokenService => matches!(status, 408 | 429 | 500..=599),
            Self::Imds => matches!(status, 404 | 410 | 429 | 500..=599),
            Self::ManagedIdentity => matches!(status, 404 | 408 | 429 | 500 | 503 | 504),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use http::HeaderValue;

    use super::*;

    fn at(seconds: u64) -> Now {
        Now::from_nanos(seconds * 1_000_000_000, seconds * 1_000_000_000)
    }

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(http::header::RETRY_AFTER, HeaderValue::from_str(value).unwrap())])
    }

    fn retried(policy: &RetryPolicy) -> Vec<u16> {
        let headers = HeaderMap::new();
        (100..=599)
            .filter(|status| {
                let outcome = Outcome::Answered(StatusCode::from_u16(*status).unwrap(), &headers);
                classify(&outcome, policy, UNIX_EPOCH) != Verdict::Final
            })
            .collect()
    }

    #[test]
    fn each_policy_has_its_statuses() {
        let with_server_errors = |some: &[u16]| some.iter().copied().chain(500..=599).collect::<Vec<_>>();
        assert_eq!(retried(&RetryPolicy::token_service()), with_server_errors(&[408, 429]));
        assert_eq!(retried(&RetryPolicy::imds()), with_server_errors(&[404, 410, 429]));
        assert_eq!(retried(&RetryPolicy::managed_identity()), [404, 408, 429, 500, 503, 504]);
        assert!(retried(&RetryPolicy::none()).is_empty());
        assert!(retried(&RetryPolicy::token_service().unless_sent()).is_empty());
    }

    #[test]
    fn each_policy_has_its_transport_errors() {
        use TransportErrorKind::{Connect, Interrupted, Other, Refused, Tls, TooLarge};
        for policy in [RetryPolicy::token_service(), RetryPolicy::imds(), RetryPolicy::managed_identity()] {
            for kind in [Connect, Interrupted, Other, Refused, Tls, TooLarge] {
                let error = TransportError::new(kind, "x");
                let again = |policy: &RetryPolicy| {
                    classify(&Outcome::Failed(&error), policy, UNIX_EPOCH) != Verdict::Final
                };
                assert_eq!(again(&policy), matches!(kind, Connect | Interrupted), "{kind:?}");
                assert_eq!(again(&policy.clone().unless_sent()), kind == Connect, "{kind:?}");
                assert!(!again(&RetryPolicy::none()));
            }
            assert_ne!(classify(&Outcome::TimedOut, &policy, UNIX_EPOCH), Verdict::Final);
            assert_eq!(classify(&Outcome::TimedOut, &policy.unless_sent(), UNIX_EPOCH), Verdict::Final);
        }
    }

    #[test]
    fn delays_double_and_spread() {
        let millis = |policy: &RetryPolicy, attempts, random| policy.delay(attempts, random).as_millis();
        let policy = RetryPolicy::token_service();
        assert_eq!(
            [millis(&policy, 1, 0.0), millis(&policy, 1, 0.5), millis(&policy, 1, 1.0)],
            [250, 500, 750]
        );
        assert_eq!(
            [millis(&policy, 2, 0.0), millis(&policy, 2, 0.5), millis(&policy, 2, 1.0)],
            [500, 1000, 1500]
        );
        let imds = RetryPolicy::imds();
        let delays: Vec<_> = (1..=8).map(|attempts| imds.delay(attempts, 0.9).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 16, 16, 16]);
        assert_eq!(imds.delay(u32::MAX, 0.0), IMDS_LONGEST);
        assert_eq!(millis(&RetryPolicy::managed_identity(), 3, 0.9), 1000);
    }

    #[test]
    fn attempts_are_counted() {
        let next = |policy: RetryPolicy, attempts| {
            policy.next_attempt(&Outcome::TimedOut, attempts, at(0), at(3600), 0.5).is_some()
        };
        assert!(next(RetryPolicy::token_service(), 2) && !next(RetryPolicy::token_service(), 3));
        assert!(next(RetryPolicy::managed_identity(), 3) && !next(RetryPolicy::managed_identity(), 4));
        assert!(!next(RetryPolicy::none(), 1));
    }

    #[test]
    fn imds_is_asked_on_while_it_answers_and_given_up_where_nothing_does() {
        let next = |outcome: Outcome<'_>, attempts| {
            RetryPolicy::imds().next_attempt(&outcome, attempts, at(0), at(3600), 0.5).is_some()
        };
        let gone = || Outcome::Answered(StatusCode::GONE, EMPTY.get_or_init(HeaderMap::new));
        static EMPTY: std::sync::OnceLock<HeaderMap> = std::sync::OnceLock::new();
        assert!(next(gone(), 1_000));
        assert!(next(Outcome::TimedOut, 2) && !next(Outcome::TimedOut, 3));
    }

    #[test]
    fn a_wait_that_does_not_fit_the_budget_is_not_begun() {
        let next = |value: &str, budget: u64| {
            let headers = headers(value);
            let outcome = Outcome::Answered(StatusCode::TOO_MANY_REQUESTS, &headers);
            RetryPolicy::token_service().next_attempt(&outcome, 1, at(100), at(100 + budget), 0.5)
        };
        assert_eq!(next("9", 10), Some(at(109)));
        assert_eq!(next("10", 10), None);
        assert_eq!(next("99999999999999999999999", 10), None);
        assert_eq!(next("0", 10), Some(at(100).after(TOKEN_SERVICE_FIRST)));
        assert_eq!(next("soon", 10), Some(at(100).after(TOKEN_SERVICE_FIRST)));
        assert_eq!(next("0", 1), Some(at(100).after(TOKEN_SERVICE_FIRST)));
        assert_eq!(next("0", 0), None);
    }
}
