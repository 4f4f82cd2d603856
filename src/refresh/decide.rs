//! The engine's rules as pure functions: what to do with an entry, and when a token changes its state.

use std::time::Duration;

use crate::{
    clock::{Now, nanos},
    error::Error,
    token::Timeline,
};

/// Before its end a token is in its last call: callers wait for a refresh that may still save them.
const LAST_CALL: Duration = Duration::from_secs(30);

/// A token is never due before this, or a tenth of a short life, whatever the server says: refreshing it over and over
/// would bring nothing newer.
const SETTLED: Duration = Duration::from_secs(30);

/// A token that lives this long or longer is refreshed at half-life, as Microsoft's own clients do.
const LONG_LIFE: Duration = Duration::from_secs(2 * 3600);

/// The share of its life that a refresh is drawn ahead by at most, so that tokens that were fetched together are not
/// refreshed together.
const JITTER: f64 = 0.1;

impl Timeline {
    /// When a token changes its state that was sent for at `sent` and lives for `lives`. `random` lies in 0..1 and is
    /// drawn once per token.
    pub(crate) fn new(sent: Now, lives: Duration, refresh_in: Option<Duration>, random: f64) -> Self {
        let life = nanos(lives);
        let expiry = sent.nanos().saturating_add(life);
        let last_call = expiry - nanos(LAST_CALL).min(life / 10);
        let due = match refresh_in {
            Some(after) => nanos(after).max(nanos(SETTLED).min(life / 10)),
            None => {
                let share = if lives >= LONG_LIFE { 0.5 } else { 2.0 / 3.0 };
                (life as f64 * (share - JITTER * random.clamp(0.0, 1.0))) as u64
            }
        };
        Self::at(sent.nanos().saturating_add(due).min(last_call), last_call, expiry)
    }

    fn state(&self, now: Now) -> State {
        match now.nanos() {
            now if now >= self.expiry() => State::Expired,
            now if now >= self.last_call() => State::LastCall,
            now if now >= self.due() => State::Due,
            _ => State::Fresh,
        }
    }

    /// Until when a caller waits in the last call before it takes the old token: a tenth of the last call is left to
    /// it then, enough to be used.
    pub(crate) fn patience(&self) -> u64 {
        self.expiry() - (self.expiry() - self.last_call()) / 10
    }
}

/// A token's state by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Fresh,
    Due,
    LastCall,
    Expired,
}

/// What the decision depends on besides the time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    /// Of the token, where there is one.
    pub(crate) timeline: Option<&'a Timeline>,
    /// A fetch is under way.
    pub(crate) flying: bool,
    /// A failure is remembered, and the source is to be left alone.
    pub(crate) held: Option<&'a Error>,
    /// A refresh without this caller's doing is possible.
    pub(crate) renewable: bool,
}

/// What a caller is told.
#[derive(Debug, Clone)]
pub(crate) enum Decision {
    /// The token, at once.
    Serve,
    /// The token at once, and a refresh in the background.
    ServeAndRefresh,
    /// Wait for a refresh, started now if none is under way; the old token where it fails.
    Wait,
    /// Wait for a fetch, started now if none is under way.
    Fetch,
    /// The remembered failure, at once.
    Fail(Error),
}

pub(crate) fn decide(entry: Entry<'_>, now: Now) -> Decision {
    let state = entry.timeline.map_or(State::Expired, |timeline| timeline.state(now));
    match (state, entry.held) {
        (State::Fresh, _) | (State::Due | State::LastCall, Some(_)) => Decision::Serve,
        (State::Due, None) if entry.flying || !entry.renewable => Decision::Serve,
        (State::Due, None) => Decision::ServeAndRefresh,
        (State::LastCall, None) => Decision::Wait,
        // A fetch under way may be just what finds out that the cause is gone.
        (State::Expired, Some(error)) if !entry.flying => Decision::Fail(error.clone()),
        (State::Expired, _) => Decision::Fetch,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorKind;

    const SENT: Now = Now::from_nanos(1_800_000_000_000_000_000, 1_000_000_000_000);

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn at(timeline: u64) -> Duration {
        Duration::from_nanos(timeline - SENT.nanos())
    }

    #[test]
    fn a_token_of_an_hour_is_due_at_two_thirds_less_a_tenth_at_most() {
        assert_eq!(at(Timeline::new(SENT, secs(3600), None, 0.0).due()).as_secs(), 2400);
        assert_eq!(at(Timeline::new(SENT, secs(3600), None, 1.0).due()).as_secs(), 2040);
    }

    #[test]
    fn a_token_of_two_hours_or_more_is_due_at_half_life_less_a_tenth_at_most() {
        assert_eq!(at(Timeline::new(SENT, secs(86_400), None, 0.0).due()).as_secs(), 43_200);
        assert_eq!(at(Timeline::new(SENT, secs(86_400), None, 1.0).due()).as_secs(), 34_560);
    }

    #[test]
    fn the_servers_word_on_refreshing_is_taken_without_jitter() {
        assert_eq!(at(Timeline::new(SENT, secs(86_400), Some(secs(3000)), 0.9).due()).as_secs(), 3000);
        assert_eq!(at(Timeline::new(SENT, secs(600), Some(secs(9999)), 0.9).due()).as_secs(), 570);
        assert_eq!(at(Timeline::new(SENT, secs(3600), Some(secs(0)), 0.9).due()).as_secs(), 30);
        assert_eq!(at(Timeline::new(SENT, secs(100), Some(secs(1)), 0.9).due()).as_secs(), 10);
    }

    #[test]
    fn the_last_call_is_half_a_minute_or_a_tenth_of_a_short_life() {
        assert_eq!(at(Timeline::new(SENT, secs(3600), None, 0.5).last_call()).as_secs(), 3570);
        assert_eq!(at(Timeline::new(SENT, secs(100), None, 0.5).last_call()).as_secs(), 90);
    }

    proptest! {
        #[test]
        fn states_follow_each_other_whatever_the_life(
            life in any::<u64>(), refresh in proptest::option::of(any::<u64>()), random in any::<f64>(),
        ) {
            let refresh = refresh.map(Duration::from_nanos);
            let line = Timeline::new(SENT, Duration::from_nanos(life), refresh, random);
            prop_assert!(SENT.nanos() <= line.due() && line.due() <= line.last_call());
            prop_assert!(line.last_call() <= line.expiry() && line.patience() <= line.expiry());
        }
    }

    /// Every state × held × flying × renewable, as a table.
    #[test]
    fn every_combination_has_its_decision() {
        let timeline = Timeline::new(SENT, secs(3600), None, 0.0);
        let error = Error::new(ErrorKind::Unavailable, "down");
        let name = |decision| match decision {
            Decision::Serve => "serve",
            Decision::ServeAndRefresh => "refresh",
            Decision::Wait => "wait",
            Decision::Fetch => "fetch",
            Decision::Fail(_) => "fail",
        };
        let table: [(u64, [&str; 4], &str); 4] = [
            // age, then free/idle, free/flying, held/idle, held/flying; then free/idle where it is not renewable
            (0, ["serve"; 4], "serve"),
            (2400, ["refresh", "serve", "serve", "serve"], "serve"),
            (3570, ["wait", "wait", "serve", "serve"], "wait"),
            (3600, ["fetch", "fetch", "fail", "fetch"], "fetch"),
        ];
        for (age, wanted, fixed) in table {
            let now = SENT.after(secs(age));
            let one = |held: bool, flying, renewable| {
                let held = held.then_some(&error);
                name(decide(Entry { timeline: Some(&timeline), flying, held, renewable }, now))
            };
            let got = [
                one(false, false, true),
                one(false, true, true),
                one(true, false, true),
                one(true, true, true),
            ];
            assert_eq!(got, wanted, "at {age} s");
            assert_eq!(one(false, false, false), fixed, "at {age} s");
        }
        let none = Entry { timeline: None, flying: false, held: None, renewable: true };
        assert_eq!(name(decide(none, SENT)), "fetch");
    }
}
