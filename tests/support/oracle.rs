//! What a broker may return: the rules for callers.
//!
//! A call is announced before it is made ([`Oracle::calls`]), and what it brought is told after
//! ([`Oracle::got`], [`Oracle::peeked`]). The first thing that is wrong is kept, with what happened to its key before.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    time::Duration,
};

use entra_broker::{AccessToken, Error, ErrorKind};

use super::{Oracle, hear, secs, truth::Truth};

/// A failure explains errors for this long: the longest hold, then the time for which one fetch after the other finds
/// out whether it is over, the last of them, and some.
const EXPLAINS: Duration = Duration::from_secs(300 + 600 + 60 + 40);

/// One call as it stood when it was made.
#[derive(Debug)]
pub(crate) struct Call {
    key: usize,
    begun: Duration,
    awake: Duration,
    moment: u64,
    generation: u64,
    floor: u64,
    /// A token is at hand, and nothing that could be waited for would be of use to this caller.
    hits: bool,
    challenge: Option<String>,
    passes_over: Option<String>,
}

/// The output of a future, and whether it was ready on its first poll.
pub(crate) async fn watched<F: Future>(future: F) -> (F::Output, bool) {
    let mut future = pin!(future);
    let mut polls = 0;
    let output = poll_fn(|cx| {
        polls += 1;
        future.as_mut().poll(cx)
    })
    .await;
    (output, polls == 1)
}

impl Oracle {
    /// Somebody is about to ask.
    pub(crate) fn calls(&self, key: usize, challenge: Option<String>) -> Call {
        let (now, awake) = (self.time.now(), self.time.awake());
        let mut guard = self.truth();
        let truth = &mut *guard;
        truth.counts.calls += 1;
        truth.moments += 1;
        let line = &truth.lines[key];
        let current = line.current.as_ref().and_then(|text| truth.tokens.get_mut(text));
        let hits = match current {
            Some(current) => {
                current.touched = true;
                self.roomy && !line.doubtful && challenge.is_none() && now < current.last_call()
            }
            None => false,
        };
        let passes_over =
            line.current.clone().filter(|_| self.roomy && challenge.is_some() && !line.doubtful);
        let (moment, generation, floor) = (truth.moments, truth.generation, line.floor);
        Call { key, begun: now, awake, moment, generation, floor, hits, challenge, passes_over }
    }

    /// What a call brought that was willing to wait for `timeout`.
    pub(crate) fn got(
        &self,
        call: &Call,
        result: Result<&AccessToken, &Error>,
        at_once: bool,
        timeout: Duration,
    ) {
        let mut guard = self.truth();
        let truth = &mut *guard;
        truth.counts.at_once += u64::from(at_once);
        if self.time.awake() - call.awake > timeout {
            self.violated(truth, call.key, "a caller waited too long", format!("{timeout:?}, {call:?}"));
        }
        if call.hits && !(at_once && result.is_ok()) {
            let what = format!("at once {at_once}, {result:?}, {call:?}");
            self.violated(truth, call.key, "a token was at hand", what);
        }
        match result {
            Ok(token) => self.judge(truth, call, token.secret()),
            Err(error) => {
                hear(&format!("{error:?} {error} {}", error.advice()));
                self.judge_error(truth, call, error, timeout);
            }
        }
    }

    /// What a look at the cache brought.
    pub(crate) fn peeked(&self, call: &Call, text: Option<&str>) {
        let mut guard = self.truth();
        let truth = &mut *guard;
        match text {
            Some(text) => self.judge(truth, call, text),
            None if self.has_to_be_there(truth, call) => {
                self.violated(truth, call.key, "a token that lives is gone", format!("{call:?}"));
            }
            None => {}
        }
    }

    /// A resource refused this token. `was_current` is what the broker says to that.
    pub(crate) fn refused(&self, text: &str, was_current: bool) {
        let mut guard = self.truth();
        let truth = &mut *guard;
        let given = truth.tokens.get_mut(text).unwrap();
        let (key, lives) = (given.key, self.time.now() < given.expiry);
        if was_current {
            truth.moments += 1;
            truth.counts.refused += 1;
            given.refused = Some(truth.moments);
        }
        let line = &mut truth.lines[key];
        let known = line.current.as_deref() == Some(text);
        if known && was_current {
            line.current = None;
        }
        let sure = self.roomy && !line.doubtful && lives;
        self.note(truth, key, if was_current { "refused" } else { "refused late" }, 0);
        if sure && known != was_current {
            self.violated(
                truth,
                key,
                "what is refused is the current token or not",
                format!("{was_current}, {text}"),
            );
        }
    }

    fn has_to_be_there(&self, truth: &Truth, call: &Call) -> bool {
        let line = &truth.lines[call.key];
        let lives = |text: &String| self.time.now() < truth.tokens[text].expiry;
        self.roomy
            && !line.doubtful
            && call.challenge.is_none()
            && call.generation == truth.generation
            && line.current.as_ref().is_some_and(lives)
    }

    fn judge(&self, truth: &mut Truth, call: &Call, text: &str) {
        let now = self.time.now();
        let Some(given) = truth.tokens.get_mut(text) else {
            return self.violated(truth, call.key, "a token that nobody gave", text.to_owned());
        };
        given.touched = true;
        let number = given.number;
        let wrong = if given.key != call.key {
            "a token of another key"
        } else if now >= given.expiry {
            "a dead token"
        } else if given.refused.is_some_and(|refused| refused < call.moment) {
            "a refused token"
        } else if number < call.floor {
            "a token older than one that was there before"
        } else if call.passes_over.as_deref() == Some(text) {
            "the token that was passed over"
        } else if call.challenge.is_some() && given.challenge != call.challenge {
            "a token that does not answer the challenge"
        } else {
            let line = &mut truth.lines[call.key];
            line.floor = line.floor.max(number);
            return;
        };
        self.violated(truth, call.key, wrong, format!("{text}, {call:?}"));
    }

    fn judge_error(&self, truth: &mut Truth, call: &Call, error: &Error, timeout: Duration) {
        truth.counts.errors += 1;
        self.note(truth, call.key, "error for a caller", 0);
        if call.generation != truth.generation {
            return;
        }
        let now = self.time.now();
        if self.has_to_be_there(truth, call) {
            self.violated(truth, call.key, "an error while a token lives", format!("{error}, {call:?}"));
        }
        let tenant = self.targets[call.key].tenant_number;
        let wide = [None, Some(tenant)].map(|width| truth.failed.get(&width).copied());
        let failed = wide.into_iter().flatten().chain(truth.lines[call.key].failed).max();
        let explained = failed.is_some_and(|failed| call.begun < failed + EXPLAINS);
        let late = error.kind() == ErrorKind::Timeout && now - call.begun >= timeout;
        if !explained && !late {
            self.violated(truth, call.key, "an error for no reason", format!("{error}, {call:?}"));
        }
    }
}

/// Says so if a judge cannot be told anything that it finds wrong.
#[test]
fn an_oracle_finds_fault() {
    use super::{Target, TrueTime, start};
    use entra_broker::{Clock, Reason};

    let oracle = || {
        let (clock, control) = Clock::manual(start());
        let target = |scope| Target { tenant: None, tenant_number: 0, user: None, scope };
        let time = TrueTime::new(control, clock.now().mono());
        let oracle = Oracle::new(time, vec![target("a"), target("b")], true);
        for (key, text) in ["of a", "of b"].iter().enumerate() {
            let sent = oracle.time.now();
            oracle.fetch_begins(key, 0, Reason::Miss, None).gives(text, sent, secs(3600));
        }
        oracle
    };
    let found = |oracle: &Oracle, wrong: &str| {
        assert!(oracle.violation().is_some_and(|found| found.starts_with(wrong)), "{:?}", oracle.violation());
    };
    let fine = oracle();
    fine.peeked(&fine.calls(0, None), Some("of a"));
    assert_eq!(fine.violation(), None);

    for (text, wrong) in [("of b", "a token of another key"), ("of c", "a token that nobody gave")] {
        let oracle = oracle();
        oracle.peeked(&oracle.calls(0, None), Some(text));
        found(&oracle, wrong);
    }
    let gone = oracle();
    gone.peeked(&gone.calls(0, None), None);
    found(&gone, "a token that lives is gone");
    let slept = oracle();
    slept.suspend(secs(3600));
    slept.peeked(&slept.calls(0, None), Some("of a"));
    found(&slept, "a dead token");
    let refused = oracle();
    refused.refused("of a", true);
    refused.peeked(&refused.calls(0, None), Some("of a"));
    found(&refused, "a refused token");
    let old = oracle();
    old.time.advance(secs(1800));
    old.calls(0, None);
    old.fetch_begins(0, 0, Reason::Due, None).gives("newer", old.time.now(), secs(3600));
    old.peeked(&old.calls(0, None), Some("of a"));
    found(&old, "a token older than one that was there before");
    let error = oracle();
    error.got(&error.calls(0, None), Err(&Error::new(ErrorKind::Timeout, "late")), false, secs(0));
    found(&error, "a token was at hand");
    let needless = oracle();
    drop(needless.fetch_begins(0, 0, Reason::Miss, None));
    found(&needless, "a fetch that nobody needs");
    let unused = oracle();
    unused.time.advance(secs(3000));
    drop(unused.fetch_begins(0, 0, Reason::Due, None));
    found(&unused, "a refresh of a token that nobody used");
    let held = oracle();
    held.fetch_begins(0, 0, Reason::Forced, Some("x".to_owned()))
        .fails(&Error::new(ErrorKind::Throttled, "429"));
    drop(held.fetch_begins(1, 0, Reason::Forced, Some("x".to_owned())));
    found(&held, "a fetch in spite of a wide hold");
}
