//! Fetches as the service tells of them: which may go out, and what follows from what they bring.

use std::{sync::Arc, time::Duration};

use entra_broker::{Error, ErrorKind, Reason};

use super::{Oracle, secs, truth::Given};

/// The least that a failure has to be remembered.
#[derive(Debug, Default)]
pub(super) struct Hold {
    pub(super) until: Duration,
    failures: u32,
    last: Option<Duration>,
}

impl Hold {
    /// `forsaken`: nothing but the failures keeps the entry, which may be cleared away once the hold has lapsed.
    fn fail(&mut self, error: &Error, forsaken: bool, begun: Duration, now: Duration) {
        // By then an entry without a token may have been cleared away, and its failures with it.
        if self.last.is_some_and(|last| now > last + secs(300)) || (forsaken && begun >= self.until) {
            *self = Self::default();
        }
        let asked = error.retry_after().unwrap_or_default().min(secs(300));
        if self.last.is_some_and(|last| begun <= last) {
            // They were under way together.
            self.until = self.until.max(now + asked);
        } else {
            self.failures += 1;
            let (first, most, spread) = match error.kind() {
                ErrorKind::Throttled | ErrorKind::Unavailable | ErrorKind::Protocol => (1, 60, 0.8),
                _ => (10, 120, 1.0),
            };
            let doubled = secs((first << (self.failures - 1).min(16)).min(most)).mul_f64(spread);
            self.until = now + doubled.max(asked);
        }
        self.last = Some(now);
    }
}

/// One fetch. Dropped before it has an end, it is lost.
#[derive(Debug)]
pub(crate) struct Fetch {
    oracle: Arc<Oracle>,
    pub(crate) key: usize,
    pub(crate) number: u64,
    begun: Duration,
    slept: u64,
    generation: u64,
    challenge: Option<String>,
    ended: bool,
}

impl Oracle {
    /// A fetch goes out: is it one that may?
    pub(crate) fn fetch_begins(
        self: &Arc<Self>,
        key: usize,
        generation: u64,
        reason: Reason,
        challenge: Option<String>,
    ) -> Fetch {
        let now = self.time.now();
        let mut guard = self.truth();
        let truth = &mut *guard;
        let line = &truth.lines[key];
        if generation == truth.generation {
            let tenant = self.targets[key].tenant_number;
            let until = |width| truth.holds.get(&width).map_or(Duration::ZERO, |hold| hold.until);
            let mut wrong =
                (now < until(None).max(until(Some(tenant)))).then_some("a fetch in spite of a wide hold");
            if self.roomy {
                if line.running.iter().any(|other| truth.fetches.get(other) == Some(&truth.slept)) {
                    wrong = Some("two fetches of one key at once");
                }
                if now < line.hold.until {
                    wrong = Some("a fetch in spite of a hold");
                }
                let current = line.current.as_ref().filter(|_| !line.doubtful && challenge.is_none());
                if let Some(current) = current.map(|text| &truth.tokens[text]) {
                    if now < current.expiry && (now < current.settled() || reason == Reason::Miss) {
                        wrong = Some("a fetch that nobody needs");
                    }
                    if reason == Reason::Due && !current.touched {
                        wrong = Some("a refresh of a token that nobody used");
                    }
                }
            }
            if let Some(wrong) = wrong {
                self.violated(truth, key, wrong, format!("{reason:?}"));
            }
        }
        drop(guard);
        self.attempt_begins(key, generation, challenge)
    }

    /// A request goes out, of which it is not known what for: it may be another attempt.
    pub(crate) fn attempt_begins(
        self: &Arc<Self>,
        key: usize,
        generation: u64,
        challenge: Option<String>,
    ) -> Fetch {
        let now = self.time.now();
        let mut guard = self.truth();
        let truth = &mut *guard;
        truth.last_number += 1;
        truth.counts.fetches += 1;
        let (number, slept) = (truth.last_number, truth.slept);
        self.note(truth, key, "fetch", number);
        truth.fetches.insert(number, slept);
        truth.lines[key].running.push(number);
        Fetch {
            oracle: Arc::clone(self),
            key,
            number,
            begun: now,
            slept,
            generation,
            challenge,
            ended: false,
        }
    }
}

impl Fetch {
    fn end(&mut self) {
        self.ended = true;
        let mut truth = self.oracle.truth();
        truth.fetches.remove(&self.number);
        truth.lines[self.key].running.retain(|number| *number != self.number);
    }

    /// It brings a token. What follows from that is true at once: nothing comes between the answer and the cache.
    pub(crate) fn gives(mut self, text: &str, sent: Duration, lives: Duration) {
        self.end();
        let (oracle, key, now) = (&self.oracle, self.key, self.oracle.time.now());
        let mut guard = oracle.truth();
        let truth = &mut *guard;
        truth.counts.given += 1;
        if self.generation != truth.generation {
            return;
        }
        truth.lines[key].last = Some(text.to_owned());
        let known = truth.tokens.entry(text.to_owned()).or_insert_with(|| Given {
            key,
            number: self.number,
            sent,
            expiry: sent + lives,
            refused: None,
            challenge: None,
            touched: false,
        });
        assert_eq!(known.key, key, "the service itself gave one key's token for another");
        let again = known.refused.is_some();
        if !oracle.roomy {
            // Where an entry may have been evicted, nobody may know any more that it was refused.
            known.refused = None;
        }
        let number = known.number;
        let line = &mut truth.lines[key];
        if again || (self.challenge.is_some() && number != self.number) {
            // It may be refused for that.
            line.failed = Some(now);
        }
        let same = oracle.roomy && self.challenge.is_some() && line.current.as_deref() == Some(text);
        if now >= sent + lives || same || (again && oracle.roomy) {
            line.failed = Some(now);
            return oracle.note(truth, key, "given in vain", number);
        }
        (known.sent, known.expiry, known.touched) = (sent, sent + lives, false);
        known.challenge.clone_from(&self.challenge);
        if self.slept == truth.slept && !again {
            line.current = Some(text.to_owned());
            line.doubtful = false;
            line.floor = line.floor.max(number);
        } else {
            line.doubtful = true;
        }
        line.hold = Hold::default();
        truth.holds.remove(&None);
        truth.holds.remove(&Some(oracle.targets[key].tenant_number));
        oracle.note(truth, key, "given", number);
    }

    /// It brings none.
    pub(crate) fn fails(mut self, error: &Error) {
        self.end();
        let (oracle, key, now) = (&self.oracle, self.key, self.oracle.time.now());
        let mut guard = oracle.truth();
        let truth = &mut *guard;
        truth.counts.failed += 1;
        truth.lines[key].failed = Some(now);
        let width = match error.kind() {
            ErrorKind::Throttled => Some(None),
            ErrorKind::Credential => Some(Some(oracle.targets[key].tenant_number)),
            _ => None,
        };
        if let Some(width) = width {
            truth.failed.insert(width, now);
        }
        if self.generation == truth.generation && self.slept == truth.slept {
            match width {
                Some(width) => truth.holds.entry(width).or_default().fail(error, false, self.begun, now),
                None => {
                    let current = truth.lines[key].current.as_ref();
                    let lives = current.is_some_and(|text| now < truth.tokens[text].expiry);
                    truth.lines[key].hold.fail(error, !lives, self.begun, now);
                }
            }
        }
        oracle.note(truth, key, error.kind().name(), self.number);
    }
}

impl Drop for Fetch {
    /// Given up, or the service panicked.
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        self.end();
        let mut guard = self.oracle.truth();
        let truth = &mut *guard;
        truth.counts.lost += 1;
        truth.lines[self.key].failed = Some(self.oracle.time.now());
        self.oracle.note(truth, self.key, "lost", self.number);
    }
}
