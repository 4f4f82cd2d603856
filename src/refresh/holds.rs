//! Failures, remembered briefly and at the width of their cause.
//!
//! While a hold is on, nothing is sent for what it covers. When it ends, one fetch goes out as a probe, and until
//! that has landed, or given no sign of life for too long, the hold is on for everybody else.

use std::{collections::HashMap, time::Duration};

use super::SILENCE;
use crate::{
    clock::{Now, nanos},
    error::{Error, ErrorKind},
    request::Key,
    sync::{AtomicUsize, Mutex, Ordering},
    tenant::TenantId,
};

/// After a failure that may pass by itself: 1 s doubling to 60 s, ± a fifth.
const TRANSIENT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// After one that somebody has to mend: 10 s doubling to 120 s. Never for good, since consent and federated
/// credentials take minutes to appear.
const PERMANENT: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(120));

/// `Retry-After` is obeyed up to here: a service that says an hour is asked again sooner, by one probe.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(300);

/// A failure this old says nothing of how long the next hold should be, nor is it worth a probe.
const FORGOTTEN: Duration = Duration::from_secs(600);

/// How much a failure covers. One broker has one authority and one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// This key alone.
    Key,
    /// All keys of the tenant: the client's credential is refused there.
    Tenant,
    /// All keys: the service is down or wants to be left alone.
    Service,
}

impl Width {
    pub(crate) fn of(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::Credential => Self::Tenant,
            ErrorKind::Throttled => Self::Service,
            // A 429 or 5xx is the service's; a refused connection or a time-out may be this one request's.
            ErrorKind::Unavailable if error.status().is_some_and(|status| status >= 500) => Self::Service,
            _ => Self::Key,
        }
    }
}

/// One remembered failure.
#[derive(Debug, Clone)]
pub(crate) struct Hold {
    error: Error,
    since: u64,
    until: u64,
    failures: u32,
    /// Which fetch is finding out whether the cause is gone. 0: none.
    probe: u64,
    /// Its last sign of life plus the longest it may be silent.
    probe_until: u64,
}

impl Hold {
    /// The hold after a fetch that began at `started` and failed with `error`; it follows `before`. `random` lies in
    /// 0..1.
    pub(crate) fn after(error: Error, before: Option<&Self>, started: Now, now: Now, random: f64) -> Self {
        let before = before.filter(|hold| !hold.is_forgotten(now));
        // Fetches that were under way together and fail together have seen one failure.
        let same = before.filter(|hold| started.nanos() <= hold.since);
        let failures = before.map_or(0, |hold| hold.failures).saturating_add(u32::from(same.is_none()));
        let (first, most, spread) = if error.kind().is_transient() {
            (TRANSIENT.0, TRANSIENT.1, 0.8 + 0.4 * random)
        } else {
            (PERMANENT.0, PERMANENT.1, 1.0)
        };
        let doubled = first.saturating_mul(1 << (failures - 1).min(16)).min(most).mul_f64(spread);
        // What the provider asks may itself remember the failure, and then says for how long.
        let asked = error.held_for().or(error.retry_after()).unwrap_or_default().min(LONGEST_RETRY_AFTER);
        let until = match same.filter(|hold| now.nanos() < hold.until) {
            Some(hold) => hold.until.max(now.after(asked).nanos()),
            None => now.after(doubled.max(asked)).nanos(),
        };
        Self { error, since: now.nanos(), until, failures, probe: 0, probe_until: 0 }
    }

    fn is_forgotten(&self, now: Now) -> bool {
        self.until.saturating_add(nanos(FORGOTTEN)) <= now.nanos()
    }

    pub(crate) fn until(&self) -> u64 {
        self.until
    }

    /// The fetch with the number `flight` probes no longer.
    pub(crate) fn leave(&mut self, flight: u64) {
        if self.probe == flight {
            self.probe = 0;
        }
    }

    /// What a fetch with the number `flight` is told: nothing, if it may go out.
    fn holds(&self, now: Now, flight: u64) -> Option<Error> {
        let waiting = now.nanos() < self.until;
        let probed = self.probe != 0 && self.probe != flight && now.nanos() < self.probe_until;
        (waiting || (probed && !self.is_forgotten(now)))
            .then(|| self.error.held(Duration::from_nanos(self.until.saturating_sub(now.nanos()))))
    }
}

/// The holds that are wider than a key.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    /// How many there are, so that nobody takes the lock while all is well.
    count: AtomicUsize,
    wide: Mutex<Wide>,
}

#[derive(Debug, Default)]
struct Wide {
    service: Option<Hold>,
    tenants: HashMap<Option<TenantId>, Hold>,
}

impl Wide {
    fn of(&mut self, key: &Key) -> impl Iterator<Item = &mut Hold> {
        self.service.as_mut().into_iter().chain(self.tenants.get_mut(&key.tenant().cloned()))
    }

    fn count(&self) -> usize {
        usize::from(self.service.is_some()) + self.tenants.len()
    }
}

impl Holds {
    /// The failure that keeps a fetch of `key` from going out, if any. `flight` is the number of the fetch, 0 before
    /// there is one; `narrow` is the key's own hold.
    pub(crate) fn check(&self, key: &Key, narrow: Option<&Hold>, now: Now, flight: u64) -> Option<Error> {
        let narrow = narrow.and_then(|hold| hold.holds(now, flight));
        if narrow.is_some() || self.count.load(Ordering::Acquire) == 0 {
            return narrow;
        }
        self.wide.lock().of(key).find_map(|hold| hold.holds(now, flight))
    }

    /// As [`check`](Self::check), and where the fetch may go out it becomes the probe of every hold that has lapsed.
    /// Says whether there was one.
    pub(crate) fn enter(
        &self,
        key: &Key,
        narrow: Option<&mut Hold>,
        now: Now,
        flight: u64,
    ) -> Result<bool, Error> {
        let mut wide = self.wide.lock();
        let mut lapsed: Vec<&mut Hold> =
            wide.of(key).chain(narrow).filter(|hold| !hold.is_forgotten(now)).collect();
        if let Some(error) = lapsed.iter().find_map(|hold| hold.holds(now, flight)) {
            return Err(error);
        }
        for hold in &mut lapsed {
            (hold.probe, hold.probe_until) = (flight, now.after(SILENCE).nanos());
        }
        Ok(!lapsed.is_empty())
    }

    /// The fetch with the number `flight` gives a sign of life: what it probes stays on for the others until then.
    pub(crate) fn prolong(&self, key: &Key, flight: u64, until: Now) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut wide = self.wide.lock();
        wide.of(key).filter(|hold| hold.probe == flight).for_each(|hold| hold.probe_until = until.nanos());
    }

    /// A fetch brought a token: nothing that covers it is in the way any more.
    pub(crate) fn succeeded(&self, key: &Key) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut wide = self.wide.lock();
        wide.service = None;
        wide.tenants.remove(&key.tenant().cloned());
        self.count.store(wide.count(), Ordering::Release);
    }

    /// A fetch that began at `started` failed with an error wider than its key. The hold that follows ends at the
    /// time that is returned.
    pub(crate) fn failed(
        &self,
        key: &Key,
        error: &Error,
        started: Now,
        now: Now,
        random: f64,
    ) -> Option<u64> {
        let mut wide = self.wide.lock();
        let until = match Width::of(error) {
            Width::Key => return None,
            Width::Service => {
                let hold = Hold::after(error.clone(), wide.service.as_ref(), started, now, random);
                wide.service.insert(hold).until
            }
            Width::Tenant => {
                wide.tenants.retain(|_, hold| !hold.is_forgotten(now));
                let tenant = key.tenant().cloned();
                let hold = Hold::after(error.clone(), wide.tenants.get(&tenant), started, now, random);
                wide.tenants.entry(tenant).insert_entry(hold).get().until
            }
        };
        self.count.store(wide.count(), Ordering::Release);
        Some(until)
    }

    /// The fetch with the number `flight` has ended, so it probes nothing any more. `answered` where the service said
    /// something other than that it is down: what was held for its sake is free.
    pub(crate) fn leave(&self, key: &Key, flight: u64, answered: bool) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut wide = self.wide.lock();
        if answered && wide.service.as_ref().is_some_and(|hold| hold.probe == flight) {
            wide.service = None;
        }
        wide.of(key).for_each(|hold| hold.leave(flight));
        self.count.store(wide.count(), Ordering::Release);
    }

    /// When the last of the holds that cover `key` ends.
    pub(crate) fn until(&self, key: &Key) -> Option<u64> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.wide.lock().of(key).map(|hold| hold.until).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{error::ServiceAnswer, request::TokenRequest};

    const NOW: Now = Now::from_nanos(1_800_000_000_000_000_000, 1_000_000_000_000);

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn key(tenant: Option<&str>) -> Key {
        let request = TokenRequest::new("https://vault.azure.net/.default").unwrap();
        match tenant {
            Some(tenant) => request.tenant(TenantId::parse(tenant).unwrap()).key().clone(),
            None => request.key().clone(),
        }
    }

    fn down() -> Error {
        let answer = ServiceAnswer { status: Some(503), ..ServiceAnswer::default() };
        Error::new(ErrorKind::Unavailable, "down").with_answer(answer)
    }

    fn series(error: &Error, random: f64) -> Vec<u64> {
        let (mut hold, mut now, mut out) = (None, NOW, Vec::new());
        for _ in 0..9 {
            let next = Hold::after(error.clone(), hold.as_ref(), now, now, random);
            out.push(Duration::from_nanos(next.until - now.nanos()).as_millis() as u64);
            now = Now::from_nanos(0, next.until);
            hold = Some(next);
        }
        out
    }

    #[test]
    fn transient_holds_double_from_one_second_to_sixty() {
        let error = Error::new(ErrorKind::Timeout, "late");
        assert_eq!(series(&error, 0.5), [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000]);
        assert_eq!(series(&error, 0.0)[0], 800);
        assert_eq!(series(&error, 1.0)[8], 72_000);
    }

    #[test]
    fn permanent_holds_double_from_ten_seconds_to_two_minutes() {
        let error = Error::new(ErrorKind::Tenant, "no service principal");
        assert_eq!(series(&error, 0.9)[..6], [10_000, 20_000, 40_000, 80_000, 120_000, 120_000]);
    }

    #[test]
    fn retry_after_is_obeyed_up_to_five_minutes() {
        for (asked, held) in [(5, 5), (300, 300), (3600, 300)] {
            let hold = Hold::after(down().with_retry_after(secs(asked)), None, NOW, NOW, 0.5);
            assert_eq!(hold.until, NOW.after(secs(held)).nanos());
        }
    }

    #[test]
    fn an_old_failure_does_not_lengthen_the_next_hold() {
        let first = Hold::after(down(), None, NOW, NOW, 0.5);
        let later = NOW.after(secs(3600));
        assert_eq!(Hold::after(down(), Some(&first), later, later, 0.5).until, later.after(secs(1)).nanos());
    }

    #[test]
    fn a_refused_credential_holds_its_tenant_and_no_other() {
        let holds = Holds::default();
        let (home, other) = (key(None), key(Some("fabrikam.test")));
        holds.failed(&home, &Error::new(ErrorKind::Credential, "wrong secret"), NOW, NOW, 0.5);
        assert_eq!(holds.check(&home, None, NOW, 0).unwrap().held_for(), Some(secs(10)));
        assert!(holds.check(&other, None, NOW, 0).is_none());
        holds.succeeded(&home);
        assert!(holds.check(&home, None, NOW, 0).is_none());
    }

    #[test]
    fn a_service_that_is_down_holds_every_key() {
        let holds = Holds::default();
        holds.failed(&key(None), &down(), NOW, NOW, 0.5);
        assert!(holds.check(&key(Some("fabrikam.test")), None, NOW, 0).is_some());
    }

    #[test]
    fn when_a_hold_has_lapsed_one_fetch_probes_and_the_others_wait() {
        let holds = Holds::default();
        let key = key(None);
        holds.failed(&key, &down(), NOW, NOW, 0.5);
        assert!(holds.enter(&key, None, NOW, 1).is_err());
        let later = NOW.after(secs(1));
        assert!(holds.enter(&key, None, later, 1).unwrap());
        assert!(holds.enter(&key, None, later, 2).is_err());
        assert!(holds.check(&key, None, later, 1).is_none(), "the probe itself may go on");
        holds.leave(&key, 1, false);
        assert!(holds.enter(&key, None, later, 2).unwrap());
    }

    #[test]
    fn a_probe_without_a_sign_of_life_makes_room_for_another() {
        let holds = Holds::default();
        let key = key(None);
        holds.failed(&key, &down(), NOW, NOW, 0.5);
        let later = NOW.after(secs(1));
        holds.enter(&key, None, later, 1).unwrap();
        holds.prolong(&key, 1, later.after(secs(20)));
        assert!(holds.enter(&key, None, later.after(secs(19)), 2).is_err());
        assert!(holds.enter(&key, None, later.after(secs(20)), 2).unwrap());
        assert!(holds.check(&key, None, later.after(secs(20)), 1).is_some(), "the first probes no longer");
    }

    #[test]
    fn fetches_that_fail_together_lengthen_nothing() {
        let holds = Holds::default();
        let (key, late) = (key(None), NOW.after(secs(5)));
        let until = holds.failed(&key, &down(), NOW, late, 0.5).unwrap();
        assert_eq!(holds.failed(&key, &down(), NOW.after(secs(4)), late, 0.5), Some(until));
        let asked = down().with_retry_after(secs(9));
        assert_eq!(holds.failed(&key, &asked, NOW, late, 0.5), Some(late.after(secs(9)).nanos()));
        let next = late.after(secs(9));
        assert_eq!(holds.failed(&key, &down(), next, next, 0.5), Some(next.after(secs(2)).nanos()));
    }

    #[test]
    fn a_failure_that_is_long_past_is_not_probed_for() {
        let holds = Holds::default();
        let key = key(None);
        holds.failed(&key, &down(), NOW, NOW, 0.5);
        let later = NOW.after(secs(601));
        assert!(!holds.enter(&key, None, later, 1).unwrap());
        assert!(!holds.enter(&key, None, later, 2).unwrap());
    }

    #[test]
    fn a_probe_that_is_answered_frees_the_service_even_if_it_fails() {
        let holds = Holds::default();
        let key = key(None);
        holds.failed(&key, &down(), NOW, NOW, 0.5);
        let later = NOW.after(secs(1));
        holds.enter(&key, None, later, 1).unwrap();
        holds.leave(&key, 1, true);
        assert!(!holds.enter(&key, None, later, 2).unwrap(), "nothing is left to probe");
    }

    #[test]
    fn widths_follow_the_cause() {
        let credential = Error::new(ErrorKind::Credential, "");
        let unreachable = Error::new(ErrorKind::Unavailable, "could not connect");
        assert_eq!(Width::of(&credential), Width::Tenant);
        assert_eq!(Width::of(&down()), Width::Service);
        assert_eq!(Width::of(&Error::new(ErrorKind::Throttled, "")), Width::Service);
        assert_eq!(Width::of(&unreachable), Width::Key);
        assert_eq!(Width::of(&Error::new(ErrorKind::Timeout, "")), Width::Key);
    }
}
