//! What is true of a run, kept apart from everything that is tested: the time, what was given and refused, what failed.
//!
//! The service tells; [`Oracle`](super::Oracle) judges by it what callers see. What can be said of the fetches
//! themselves is judged here.

use std::{
    collections::{HashMap, VecDeque},
    fmt::Display,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use entra_broker::{Error, ErrorKind, ManualClock, Reason};

use super::secs;

/// The time, moved here and counted here: no clock of the crate is asked.
#[derive(Debug, Clone)]
pub(crate) struct TrueTime {
    control: ManualClock,
    awake: Arc<AtomicU64>,
    asleep: Arc<AtomicU64>,
}

impl TrueTime {
    /// `begin` is what [`Now::mono`](entra_broker::Now::mono) says before anything was moved.
    pub(crate) fn new(control: ManualClock, begin: Duration) -> Self {
        let awake = Arc::new(AtomicU64::new(begin.as_nanos() as u64));
        Self { control, awake, asleep: Arc::default() }
    }

    /// Counts the time that the machine slept.
    pub(crate) fn now(&self) -> Duration {
        self.awake() + Duration::from_nanos(self.asleep.load(Ordering::Relaxed))
    }

    /// Does not.
    pub(crate) fn awake(&self) -> Duration {
        Duration::from_nanos(self.awake.load(Ordering::Relaxed))
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.awake.fetch_add(by.as_nanos() as u64, Ordering::Relaxed);
        self.control.advance(by);
    }

    pub(crate) fn next_timer(&self) -> Option<Duration> {
        self.control.next_timer()
    }

    fn suspend(&self, by: Duration) {
        self.asleep.fetch_add(by.as_nanos() as u64, Ordering::Relaxed);
        self.control.suspend(by);
    }
}

/// What is asked for: a cache's key.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// As it is written in a request; none for the home tenant.
    pub(crate) tenant: Option<&'static str>,
    /// Which tenant it is, for the weather.
    pub(crate) tenant_number: usize,
    /// The user's assertion; none for the application.
    pub(crate) user: Option<String>,
    pub(crate) scope: &'static str,
}

/// One token that was given.
#[derive(Debug)]
pub(crate) struct Given {
    pub(super) key: usize,
    /// Of the fetch: a newer token has a higher one.
    pub(super) number: u64,
    pub(super) sent: Duration,
    pub(super) expiry: Duration,
    pub(super) refused: Option<u64>,
    pub(super) challenge: Option<String>,
    /// Somebody asked for it since it came.
    pub(super) touched: bool,
}

impl Given {
    fn margin(&self, most: u64) -> Duration {
        secs(most).min((self.expiry - self.sent) / 10)
    }

    pub(super) fn last_call(&self) -> Duration {
        self.expiry - self.margin(30)
    }

    /// Before this a refresh would be a waste, whatever the service says.
    fn settled(&self) -> Duration {
        self.sent + self.margin(30)
    }
}

/// The least that a failure has to be remembered.
#[derive(Debug, Default)]
struct Hold {
    until: Duration,
    failures: u32,
    last: Option<Duration>,
}

impl Hold {
    fn fail(&mut self, error: &Error, begun: Duration, now: Duration) {
        // By then an entry without a token may have been cleared away, and its failures with it.
        if self.last.is_some_and(|last| now > last + secs(300)) {
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

/// One key's truth.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// The newest that was given for it, or that anyone was served: nobody who asks now may get an older one.
    pub(super) floor: u64,
    /// The token that has to be in the cache, dead or alive.
    pub(super) current: Option<String>,
    /// Whether that can be known: not where the machine slept while a token was on its way.
    pub(super) doubtful: bool,
    /// When a fetch last failed.
    pub(super) failed: Option<Duration>,
    /// What was given last, to anyone.
    last: Option<String>,
    hold: Hold,
    running: Vec<u64>,
    events: VecDeque<(Duration, &'static str, u64)>,
}

#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(super) tokens: HashMap<String, Given>,
    pub(super) lines: Vec<Line>,
    /// Counts everything that happens, to tell what was first within one moment.
    pub(super) moments: u64,
    /// Which broker is the one in use.
    pub(super) generation: u64,
    /// When a fetch failed in a way that is not of one key alone, by tenant, and for all.
    pub(super) failed: HashMap<Option<usize>, Duration>,
    pub(super) violation: Option<String>,
    holds: HashMap<Option<usize>, Hold>,
    fetches: HashMap<u64, u64>,
    slept: u64,
    last_number: u64,
    pub(crate) counts: Counts,
}

/// What a run amounted to, so that one in which nothing happened shows.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) calls: u64,
    pub(crate) at_once: u64,
    pub(crate) errors: u64,
    pub(crate) fetches: u64,
    pub(crate) given: u64,
    pub(crate) failed: u64,
    pub(crate) lost: u64,
    pub(crate) refused: u64,
    pub(crate) sleeps: u64,
}

/// Knows what is true and what follows from it.
#[derive(Debug)]
pub(crate) struct Oracle {
    pub(crate) time: TrueTime,
    pub(crate) targets: Vec<Target>,
    /// There is room in the cache for all keys.
    pub(crate) roomy: bool,
    truth: Mutex<Truth>,
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
    pub(crate) fn new(time: TrueTime, targets: Vec<Target>, roomy: bool) -> Arc<Self> {
        let lines = targets.iter().map(|_| Line::default()).collect();
        let truth = Mutex::new(Truth { lines, ..Truth::default() });
        Arc::new(Self { time, targets, roomy, truth })
    }

    pub(super) fn truth(&self) -> MutexGuard<'_, Truth> {
        self.truth.lock().unwrap()
    }

    pub(crate) fn counts(&self) -> Counts {
        self.truth().counts
    }

    /// What went wrong first, if anything did.
    pub(crate) fn violation(&self) -> Option<String> {
        self.truth().violation.clone()
    }

    /// The machine sleeps. A fetch under way is one that somebody else may meanwhile have taken over.
    pub(crate) fn suspend(&self, by: Duration) {
        self.time.suspend(by);
        let mut truth = self.truth();
        truth.slept += 1;
        truth.counts.sleeps += 1;
    }

    /// From now on another broker is in use, which knows nothing yet.
    pub(crate) fn restart(&self) -> u64 {
        let mut truth = self.truth();
        truth.generation += 1;
        truth.holds.clear();
        for line in &mut truth.lines {
            let (floor, failed, last) = (line.floor, line.failed, line.last.take());
            *line = Line { floor, failed, last, ..Line::default() };
        }
        truth.generation
    }

    pub(crate) fn generation(&self) -> u64 {
        self.truth().generation
    }

    /// How many entries a cache holds at least and at most that nobody has used for long.
    pub(crate) fn alive(&self) -> usize {
        let (now, truth) = (self.time.now(), self.truth());
        let lives = |text: &String| now < truth.tokens[text].expiry;
        truth.lines.iter().filter(|line| line.current.as_ref().is_some_and(lives)).count()
    }

    /// The token that was given last for a key, with what is left of its life.
    pub(crate) fn last_given(&self, key: usize) -> Option<(String, Duration)> {
        let (now, truth) = (self.time.now(), self.truth());
        let text = truth.lines[key].last.as_ref()?;
        let left = truth.tokens[text].expiry.checked_sub(now).filter(|left| !left.is_zero())?;
        Some((text.clone(), left))
    }

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

    pub(super) fn note(&self, truth: &mut Truth, key: usize, what: &'static str, number: u64) {
        truth.moments += 1;
        let events = &mut truth.lines[key].events;
        if events.len() == 40 {
            events.pop_front();
        }
        events.push_back((self.time.now(), what, number));
    }

    pub(super) fn violated(&self, truth: &mut Truth, key: usize, wrong: &str, of: impl Display) {
        let (now, line) = (self.time.now(), &truth.lines[key]);
        truth.violation.get_or_insert_with(|| {
            let target = &self.targets[key];
            let mut said =
                format!("{wrong}: {of}, at {now:?}, of {target:?}, by {line:#?}", line = Short(line));
            for (at, what, number) in &line.events {
                said += &format!("\n  {at:?} {what} {number}");
            }
            said
        });
    }
}

/// A line without its events.
struct Short<'a>(&'a Line);

impl std::fmt::Debug for Short<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Line { floor, current, doubtful, hold, .. } = self.0;
        write!(f, "floor {floor}, current {current:?}, doubtful {doubtful}, {hold:?}")
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
                Some(width) => truth.holds.entry(width).or_default().fail(error, self.begun, now),
                None => truth.lines[key].hold.fail(error, self.begun, now),
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
