//! What goes wrong when, for whom: drawn from a seed.

use std::time::Duration;

use fastrand::Rng;

use super::secs;

/// What a token service does with a fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    /// An answer within a second, a token of an hour or so.
    Fair,
    Slow,
    /// Some of it slower than a fetch may be.
    VerySlow,
    /// No answer at all.
    Silent,
    /// 429, some with a `Retry-After`.
    Throttled,
    /// 500 to 504.
    Down,
    /// Nobody listens.
    Refused,
    /// Something that is no answer of a token service.
    Garbage,
    WrongSecret,
    NoSuchResource,
    Panics,
    /// The token that was given before, for as long as it lives.
    Repeats,
    /// Tokens that are dead on arrival.
    Expired,
    /// Tokens that live for seconds.
    Brief,
    /// Tokens that live for days, or a century.
    Long,
    /// The service says when to refresh, sense or nonsense.
    Hinted,
    /// The service's clock is not ours.
    Skewed,
    /// Each fetch meets another weather.
    Changing,
}

use Weather::*;

pub(crate) const WEATHERS: [Weather; 18] = [
    Fair,
    Slow,
    VerySlow,
    Silent,
    Throttled,
    Down,
    Refused,
    Garbage,
    WrongSecret,
    NoSuchResource,
    Panics,
    Repeats,
    Expired,
    Brief,
    Long,
    Hinted,
    Skewed,
    Changing,
];

/// Whom it meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    Everyone,
    Tenant(usize),
    Key(usize),
}

/// One spell of weather.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spell {
    pub(crate) from: Duration,
    pub(crate) until: Duration,
    pub(crate) weather: Weather,
    pub(crate) reach: Reach,
}

/// All spells of a run. Between them it is fair.
#[derive(Debug)]
pub(crate) struct Forecast(pub(crate) Vec<Spell>);

impl Forecast {
    /// Spells from `begin` on until `end`, of `kinds`, for so many tenants and keys. Some overlap.
    pub(crate) fn draw(
        rng: &mut Rng,
        (begin, end): (Duration, Duration),
        kinds: &[Weather],
        (tenants, keys): (usize, usize),
    ) -> Self {
        let mut spells = Vec::new();
        let mut from = begin + secs(rng.u64(1_200..7_200));
        while from < end {
            let until = (from + secs(rng.u64(20..9_000))).min(end);
            let reach = match rng.u8(..4) {
                0 => Reach::Tenant(rng.usize(..tenants)),
                1 => Reach::Key(rng.usize(..keys)),
                _ => Reach::Everyone,
            };
            spells.push(Spell { from, until, weather: kinds[rng.usize(..kinds.len())], reach });
            from += secs(rng.u64(60..10_800));
        }
        Self(spells)
    }

    /// The weather that a fetch meets.
    pub(crate) fn at(&self, now: Duration, tenant: usize, key: usize) -> Weather {
        let meets = |spell: &&Spell| {
            (spell.from..spell.until).contains(&now)
                && match spell.reach {
                    Reach::Everyone => true,
                    Reach::Tenant(of) => of == tenant,
                    Reach::Key(of) => of == key,
                }
        };
        self.0.iter().rev().find(meets).map_or(Fair, |spell| spell.weather)
    }
}
