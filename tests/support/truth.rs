//! What is true of a run, kept apart from everything that is tested: the time, what was given and refused, what failed.
//!
//! The service tells, and by it what callers see is judged, and what is fetched.

use std::{
    collections::{HashMap, VecDeque},
    fmt::Display,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use entra_broker::ManualClock;

use super::{fetch::Hold, secs};

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
    pub(super) fn settled(&self) -> Duration {
        self.sent + self.margin(30)
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
    pub(super) last: Option<String>,
    pub(super) hold: Hold,
    pub(super) running: Vec<u64>,
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
    pub(super) holds: HashMap<Option<usize>, Hold>,
    pub(super) fetches: HashMap<u64, u64>,
    pub(super) slept: u64,
    pub(super) last_number: u64,
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
        truth.tokens.values_mut().for_each(|given| given.refused = None);
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
