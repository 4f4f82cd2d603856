//! The cache against a model that is as plain as it can be, with random operations. Who fails says with which seed.

use std::{
    collections::HashMap,
    time::{Duration, UNIX_EPOCH},
};

use super::*;
use crate::{
    clock::{Clock, ManualClock},
    request::TokenRequest,
    subject::{Subject, UserId},
    token::{Timeline, Token},
};

/// Up to here eviction compares all entries, the newcomer included, and its choice is exact.
const EXACT: usize = 31;

/// Says which seed it was where a test fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("with the seed {}", self.0);
        }
    }
}

/// What is known of an entry that should be there.
struct Known {
    cell: Arc<Cell<()>>,
    token: Option<Arc<Token>>,
    expiry: u64,
    flying: bool,
    /// When it was used, or came, in units of 2²⁶ ns.
    used: u64,
}

impl Known {
    /// The least goes first: dead before alive, then the longest unused.
    fn standing(&self, now: u64) -> (bool, u64) {
        (self.flying || (self.token.is_some() && now < self.expiry), self.used)
    }
}

struct Model {
    cache: Cache<()>,
    known: HashMap<usize, Known>,
    keys: Vec<Key>,
    capacity: usize,
    evicted: usize,
    clock: Clock,
    time: ManualClock,
    random: fastrand::Rng,
}

fn keys(count: usize) -> Vec<Key> {
    let scopes = ["https://graph.microsoft.com/.default", "https://vault.azure.net/.default"];
    let request = |n: usize| TokenRequest::new(scopes[n % 2]).unwrap();
    let user = |n: usize| Subject::User(UserId::new(format!("user-{}", n / 2)).unwrap());
    (0..count).map(|n| request(n).subject(user(n)).key().clone()).collect()
}

impl Model {
    fn new(capacity: usize, seed: u64) -> Self {
        fastrand::seed(seed);
        let (clock, time) = Clock::manual(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        Self {
            cache: Cache::new(capacity),
            known: HashMap::new(),
            keys: keys(3 * capacity),
            capacity,
            evicted: 0,
            clock,
            time,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    fn step(&mut self) {
        let n = self.random.usize(..self.keys.len());
        match self.random.u32(..100) {
            0..35 => self.insert(n),
            35..50 => self.publish(n),
            50..65 => self.hit(n),
            65..72 => self.fly(n),
            72..77 => self.withdraw(n),
            77..85 => self.remove(n),
            85..99 => self.time.advance(Duration::from_millis(self.random.u64(..20_000))),
            _ if self.random.u8(..20) == 0 => self.clear(),
            _ => {}
        }
        self.look(n);
        assert_eq!(self.cache.len(), self.known.len());
        assert!(self.cache.len() <= self.capacity);
        assert_eq!(self.cache.evicted(), self.evicted);
    }

    /// What is found is what was put in, and what is not there is not found.
    fn look(&self, n: usize) {
        match (self.cache.get(&self.keys[n]), self.known.get(&n)) {
            (None, None) => {}
            (Some(found), Some(known)) => {
                assert!(Arc::ptr_eq(&found, &known.cell) && found.is_attached());
                assert_eq!(found.key(), &self.keys[n]);
                assert_eq!(found.peek().as_ref().map(Arc::as_ptr), known.token.as_ref().map(Arc::as_ptr));
            }
            (found, known) => panic!("key {n}: found {}, known {}", found.is_some(), known.is_some()),
        }
    }

    fn insert(&mut self, n: usize) {
        let now = self.clock.now();
        let cell = self.cache.get_or_insert(&self.keys[n], now, || ());
        if let Some(known) = self.known.get(&n) {
            assert!(Arc::ptr_eq(&cell, &known.cell));
            return;
        }
        if self.known.len() == self.capacity {
            self.one_was_evicted(now.nanos());
        }
        let known = Known { cell, token: None, expiry: 0, flying: false, used: now.nanos() >> 26 };
        self.known.insert(n, known);
    }

    /// One entry has gone that stood no better than any other.
    fn one_was_evicted(&mut self, now: u64) {
        let gone: Vec<usize> =
            self.known.keys().copied().filter(|n| self.cache.get(&self.keys[*n]).is_none()).collect();
        assert_eq!(gone.len(), 1, "evicted: {gone:?}");
        let standing = self.known[&gone[0]].standing(now);
        let dead = self.known.values().filter(|known| !known.standing(now).0).count();
        if self.capacity <= EXACT {
            let least = self.known.values().map(|known| known.standing(now)).min();
            assert_eq!(Some(standing), least, "another one should have gone");
        } else if 2 * dead >= self.known.len() {
            // 32 are looked at: that all of them live while half are dead does not happen.
            assert!(!standing.0, "a living one has gone though {dead} are dead");
        }
        self.evicted += 1;
        self.has_gone(gone[0]);
    }

    /// It was taken out: whoever holds it still finds nothing in it, whatever comes late.
    fn has_gone(&mut self, n: usize) {
        let known = self.known.remove(&n).unwrap();
        let late = self.token(n, Duration::from_secs(60));
        for _ in 0..2 {
            assert!(!known.cell.is_attached() && known.cell.peek().is_none());
            assert!(known.cell.hit(self.clock.now(), |_| ()).is_none());
            known.cell.publish(Arc::clone(&late));
        }
    }

    fn token(&self, n: usize, lives: Duration) -> Arc<Token> {
        let now = self.clock.now();
        let expiry = now.after(lives).nanos();
        Arc::new(Token::new("t", None, Timeline::at(expiry, expiry, expiry), now, &self.keys[n]).unwrap())
    }

    fn publish(&mut self, n: usize) {
        let lives = Duration::from_secs(self.random.u64(1..600));
        let token = self.token(n, lives);
        let Some(known) = self.known.get_mut(&n) else { return };
        known.cell.publish(Arc::clone(&token));
        (known.expiry, known.token) = (token.timeline().expiry(), Some(token));
        assert!(!known.cell.is_used());
    }

    fn hit(&mut self, n: usize) {
        let now = self.clock.now();
        let Some(known) = self.known.get_mut(&n) else { return };
        let served = known.token.is_some() && now.nanos() < known.expiry;
        assert_eq!(known.cell.hit(now, |_| ()).is_some(), served);
        if served {
            known.used = now.nanos() >> 26;
            assert!(known.cell.is_used());
        }
    }

    fn fly(&mut self, n: usize) {
        let flying = self.random.bool();
        let Some(known) = self.known.get_mut(&n) else { return };
        known.cell.set_flying(flying);
        known.flying = flying;
    }

    fn withdraw(&mut self, n: usize) {
        let Some(known) = self.known.get_mut(&n) else { return };
        let Some(token) = known.token.take() else { return };
        assert!(known.cell.withdraw(&token) && !known.cell.withdraw(&token));
    }

    fn remove(&mut self, n: usize) {
        let (Some(known), agreed) = (self.known.get(&n), self.random.bool()) else { return };
        let cell = Arc::clone(&known.cell);
        assert_eq!(self.cache.remove_if(&cell, |_| agreed), agreed);
        if agreed {
            assert!(!self.cache.remove_if(&cell, |_| true), "it has gone already");
            self.has_gone(n);
        }
    }

    fn clear(&mut self) {
        let mut gone: Vec<_> = self.cache.clear().iter().map(Arc::as_ptr).collect();
        let mut known: Vec<_> = self.known.values().map(|known| Arc::as_ptr(&known.cell)).collect();
        gone.sort_unstable();
        known.sort_unstable();
        assert_eq!(gone, known);
        let known: Vec<usize> = self.known.keys().copied().collect();
        known.into_iter().for_each(|n| self.has_gone(n));
    }
}

#[test]
fn a_small_cache_does_exactly_what_the_model_says() {
    for seed in 0..120 {
        let told = Seed(seed);
        let mut model = Model::new(1 + seed as usize % EXACT, told.0);
        (0..2_000).for_each(|_| model.step());
        assert!(model.evicted > 100, "{} were evicted", model.evicted);
    }
}

#[test]
fn a_larger_cache_keeps_what_the_model_says_and_evicts_the_dead_first() {
    for (seed, capacity) in [33, 64, 200, 511, 700, 1_500].into_iter().enumerate() {
        let told = Seed(seed as u64);
        let mut model = Model::new(capacity, told.0);
        (0..capacity).for_each(|n| model.insert(n));
        (0..20 * capacity).for_each(|_| model.step());
        assert!(model.evicted > capacity / 4, "{} were evicted", model.evicted);
        (0..model.keys.len()).for_each(|n| model.look(n));
    }
}
