//! Which entries there are: a bounded, sharded map from keys to cells. It knows nothing of refreshing.

mod eviction;
#[cfg(test)]
mod model_tests;
mod places;
mod shard;

use crate::{
    cell::Cell,
    clock::Now,
    request::Key,
    sync::{Arc, AtomicUsize, Ordering},
};

use places::Places;
use shard::{Gone, Shard};

/// The process cache of one broker.
pub(crate) struct Cache<S> {
    shards: Box<[Shard<S>]>,
    places: Places,
    capacity: usize,
    len: AtomicUsize,
    evicted: AtomicUsize,
}

/// What is done under a shard's lock takes the longer the more entries it has: the longest is to make room for twice as
/// many, some 20 ns an entry. So many fill a table of 512 places well, which holds 448 at most.
const IN_SHARD: usize = 400;

/// Past a million and a half keys shards become larger instead of more.
const MOST_SHARDS: usize = 4096;

impl<S> Cache<S> {
    /// At most `capacity` entries, and at least one.
    pub(crate) fn new(capacity: usize) -> Self {
        let shards = (capacity / IN_SHARD).clamp(1, MOST_SHARDS);
        Self {
            shards: (0..shards).map(|_| Shard::new()).collect(),
            places: Places::default(),
            capacity: capacity.max(1),
            len: AtomicUsize::new(0),
            evicted: AtomicUsize::new(0),
        }
    }

    /// By bits in the hash's middle: within the shard an entry is placed by the lower ones, and told apart by the
    /// highest seven.
    fn place(&self, hash: u64) -> usize {
        let middle = u64::from((hash >> 24) as u32);
        ((middle * self.shards.len() as u64) >> 32) as usize
    }

    fn shard(&self, hash: u64) -> &Shard<S> {
        &self.shards[self.place(hash)]
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Cell<S>>> {
        self.shard(key.hash()).get(key)
    }

    /// The entry of a key with this hash that `is_it`.
    pub(crate) fn find(&self, hash: u64, is_it: impl Fn(&Cell<S>) -> bool) -> Option<Arc<Cell<S>>> {
        self.shard(hash).find(hash, is_it)
    }

    /// The key's cell, made where there is none. Past the capacity another one goes.
    pub(crate) fn get_or_insert(&self, key: &Key, now: Now, make: impl FnOnce() -> S) -> Arc<Cell<S>> {
        if let Some(cell) = self.get(key) {
            return cell;
        }
        let cell = Arc::new(Cell::new(key.kept(self.places.share(key.place())), make()));
        cell.came(now);
        // Counted before it can be seen, and so before it can be taken out.
        let before = self.len.fetch_add(1, Ordering::Relaxed);
        if let Some(other) = self.shard(key.hash()).insert(&cell) {
            self.len.fetch_sub(1, Ordering::Relaxed);
            return other;
        }
        if before >= self.capacity {
            self.evict_one(&cell, now);
        }
        cell
    }

    /// Takes the cell out where `gone` agrees under the shard's lock.
    pub(crate) fn remove_if(&self, cell: &Arc<Cell<S>>, gone: impl FnOnce(&Cell<S>) -> bool) -> bool {
        let removed = self.shard(cell.key().hash()).remove_if(cell, gone);
        if removed.is_some() {
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
        removed.is_some()
    }

    /// Takes out all that are `gone`, and says how many. Each is looked at, a shard at a time under its lock.
    pub(crate) fn remove_where(&self, gone: impl Fn(&Cell<S>) -> bool) -> usize {
        let gone: Vec<Gone<S>> = self.shards.iter().flat_map(|shard| shard.remove_where(&gone)).collect();
        self.len.fetch_sub(gone.len(), Ordering::Relaxed);
        gone.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// How many entries were evicted for want of room.
    pub(crate) fn evicted(&self) -> usize {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Empties it, and gives what was in it. Whoever still holds a cell finds nothing in it.
    pub(crate) fn clear(&self) -> Vec<Arc<Cell<S>>> {
        let gone: Vec<Gone<S>> = self.shards.iter().flat_map(Shard::clear).collect();
        self.len.fetch_sub(gone.len(), Ordering::Relaxed);
        gone.into_iter().map(|gone| gone.cell).collect()
    }

    fn evict_one(&self, newcomer: &Arc<Cell<S>>, now: Now) {
        // Shards fill evenly, so the newcomer's own is as good a place to look as any, unless it is alone there.
        let start = self.place(newcomer.key().hash());
        for at in 0..self.shards.len() {
            let shard = &self.shards[(start + at) % self.shards.len()];
            // Somebody else may evict it first: then somebody else's was not, so there is another to choose.
            while let Some(least) = shard.least_missed(now, newcomer) {
                if self.remove_if(&least, |_| true) {
                    self.evicted.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::{
        clock::Clock,
        request::TokenRequest,
        subject::{Subject, UserId},
        token::{Timeline, Token},
    };

    fn key(n: usize) -> Key {
        let user = Subject::User(UserId::new(format!("user-{n}")).unwrap());
        TokenRequest::new("https://graph.microsoft.com/.default").unwrap().subject(user).key().clone()
    }

    fn fill(cache: &Cache<()>, n: usize, now: Now, lives: Duration) -> Arc<Cell<()>> {
        let cell = cache.get_or_insert(&key(n), now, || ());
        let expiry = now.after(lives).nanos();
        let timeline = Timeline::at(expiry, expiry, expiry);
        cell.publish(Arc::new(Token::new("t", None, timeline, now, &key(n)).unwrap()));
        cell
    }

    #[test]
    fn the_same_key_is_the_same_cell() {
        let (cache, now) = (Cache::new(10), Clock::system().now());
        let first = cache.get_or_insert(&key(1), now, || ());
        assert!(Arc::ptr_eq(&first, &cache.get_or_insert(&key(1), now, || ())));
        assert!(Arc::ptr_eq(&first, &cache.get(&key(1)).unwrap()));
        assert!(cache.get(&key(2)).is_none());
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn the_cap_holds_and_the_newcomer_stays() {
        for capacity in [1, 2, 7, 100, 300] {
            let (cache, now) = (Cache::new(capacity), Clock::system().now());
            for n in 0..900 {
                fill(&cache, n, now, Duration::from_secs(3600));
                assert!(cache.get(&key(n)).is_some());
                assert!(cache.len() <= capacity);
            }
            assert_eq!(cache.evicted(), 900 - capacity);
        }
    }

    #[test]
    fn the_dead_go_first_then_the_least_used() {
        let (clock, control) = Clock::manual(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let cache = Cache::new(4);
        let long = Duration::from_secs(7200);
        fill(&cache, 0, clock.now(), long);
        fill(&cache, 1, clock.now(), Duration::from_secs(60));
        fill(&cache, 2, clock.now(), long);
        fill(&cache, 3, clock.now(), long);
        control.advance(Duration::from_secs(600));
        for n in [0, 3] {
            assert!(cache.get(&key(n)).unwrap().hit(clock.now(), |_| ()).is_some());
        }
        fill(&cache, 4, clock.now(), long);
        assert!(cache.get(&key(1)).is_none(), "the expired one");
        fill(&cache, 5, clock.now(), long);
        // 2 was not used since it came, long ago. 4 was not either, but came just now.
        assert!(cache.get(&key(2)).is_none(), "the least used");
        assert!([0, 3, 4, 5].into_iter().all(|n| cache.get(&key(n)).is_some()));
    }

    #[test]
    fn newcomers_on_their_way_do_not_push_each_other_out_before_what_has_long_lain_idle() {
        let (clock, control) = Clock::manual(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let cache = Cache::new(8);
        for n in 0..8 {
            let cell = fill(&cache, n, clock.now(), Duration::from_secs(7200));
            assert!(cell.hit(clock.now(), |_| ()).is_some());
        }
        control.advance(Duration::from_secs(3600));
        let newcomers: Vec<_> = (8..12)
            .map(|n| {
                let cell = cache.get_or_insert(&key(n), clock.now(), || ());
                cell.set_flying(true);
                cell
            })
            .collect();
        let stayed = newcomers.iter().filter(|cell| cell.is_attached()).count();
        assert_eq!((stayed, cache.len()), (4, 8));
    }

    #[test]
    fn what_was_evicted_or_removed_serves_nobody() {
        let (cache, now) = (Cache::new(1), Clock::system().now());
        let first = fill(&cache, 0, now, Duration::from_secs(60));
        let second = fill(&cache, 1, now, Duration::from_secs(60));
        assert!(!first.is_attached() && first.hit(now, |_| ()).is_none());
        first.publish(second.peek().unwrap());
        assert!(first.peek().is_none(), "what comes late does not stay");
        assert!(!cache.remove_if(&second, |_| false));
        assert!(cache.remove_if(&second, |_| true) && !cache.remove_if(&second, |_| true));
        assert!(!second.is_attached() && second.hit(now, |_| ()).is_none());
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn keys_share_their_places_and_places_without_keys_are_forgotten() {
        let (cache, now) = (Cache::new(10), Clock::system().now());
        for n in 0..1_000 {
            let scopes = format!("https://resource-{}.contoso.com/.default", n / 5);
            let user = Subject::User(UserId::new(format!("user-{n}")).unwrap());
            let request = TokenRequest::new(scopes).unwrap().subject(user);
            assert_eq!(cache.get_or_insert(request.key(), now, || ()).key(), request.key());
        }
        assert!(cache.places.len() < 100, "{} places of ten keys", cache.places.len());
        let keys = [900, 901].map(|n| TokenRequest::new(format!("a{}", n / 5)).unwrap().key().clone());
        let places = keys.map(|key| Arc::clone(cache.get_or_insert(&key, now, || ()).key().place()));
        assert!(Arc::ptr_eq(&places[0], &places[1]));
    }

    #[test]
    fn many_threads_agree_on_one_cell_for_each_key() {
        let (cache, now) = (Cache::new(64), Clock::system().now());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..4_000 {
                        let cell = cache.get_or_insert(&key(n % 100), now, || ());
                        assert_eq!(cell.key(), &key(n % 100));
                    }
                });
            }
        });
        assert!(cache.len() <= 64, "{}", cache.len());
        let counted: usize = (0..100).filter(|n| cache.get(&key(*n)).is_some()).count();
        assert_eq!(counted, cache.len());
    }
}
