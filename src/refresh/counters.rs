//! What happened how often. A hit writes to a word that is its thread's own.

use std::cell::Cell;

use crate::sync::{AtomicU64, Ordering, StaticU64, StaticUsize, thread_local};

/// So many threads have a word of their own, to which they add without an atomic read-modify-write: that would be
/// a sixth of a hit. More would help only larger machines, and 128 bytes each are paid by every broker.
const OWNED: usize = 56;

/// The threads past that are spread over so many words more.
const SHARED: usize = 8;

/// Which of them are taken, one bit each. All brokers count a thread in the same place.
static TAKEN: StaticU64 = StaticU64::new(0);

#[derive(Debug)]
pub(crate) struct Counters {
    owned: [Stripe; OWNED],
    shared: [Stripe; SHARED],
    pub(crate) waits: AtomicU64,
    pub(crate) fetches: AtomicU64,
    pub(crate) refreshes: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) held: AtomicU64,
    pub(crate) takeovers: AtomicU64,
}

#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe(AtomicU64);

thread_local! {
    /// The place of this thread's word. From `OWNED` on they are shared; `UNKNOWN` until the first hit, so that reading
    /// it needs no lazy initialisation.
    static PLACE: Cell<usize> = const { Cell::new(UNKNOWN) };
    /// Gives the place back when the thread ends.
    static LEASE: Lease = const { Lease };
}

const UNKNOWN: usize = usize::MAX;

struct Lease;

impl Drop for Lease {
    fn drop(&mut self) {
        // What is counted after this, in destructors that run later, goes to a shared word.
        let place = PLACE.replace(shared_place());
        if place < OWNED {
            // Release pairs with the Acquire in `own_place`: the next owner goes on from this one's last count.
            TAKEN.fetch_and(!(1 << place), Ordering::Release);
        }
    }
}

#[cold]
fn choose_place() -> usize {
    // Where the thread is about to end there is nobody to give a place back.
    let place = LEASE.try_with(|_| own_place()).ok().flatten().unwrap_or_else(shared_place);
    PLACE.set(place);
    place
}

fn own_place() -> Option<usize> {
    let free = |taken: u64| Some(taken.trailing_ones() as usize).filter(|&place| place < OWNED);
    let take = |taken: u64| free(taken).map(|place| taken | 1 << place);
    TAKEN.fetch_update(Ordering::Acquire, Ordering::Relaxed, take).ok().and_then(free)
}

fn shared_place() -> usize {
    static NEXT: StaticUsize = StaticUsize::new(0);
    OWNED + NEXT.fetch_add(1, Ordering::Relaxed) % SHARED
}

impl Counters {
    #[inline]
    pub(crate) fn hit(&self) {
        self.hits_were(1);
    }

    /// So many at once, of a reader that counts its own.
    #[inline]
    pub(crate) fn hits_were(&self, hits: u64) {
        match self.owned.get(PLACE.get()) {
            Some(Stripe(own)) => own.store(own.load(Ordering::Relaxed) + hits, Ordering::Relaxed),
            None => self.hits_elsewhere(hits),
        }
    }

    /// The first hit of a thread, and those of a thread that has no word of its own.
    #[cold]
    fn hits_elsewhere(&self, hits: u64) {
        let place = match PLACE.get() {
            UNKNOWN => choose_place(),
            place => place,
        };
        match self.owned.get(place) {
            Some(Stripe(own)) => own.store(own.load(Ordering::Relaxed) + hits, Ordering::Relaxed),
            None => drop(self.shared[place % SHARED].0.fetch_add(hits, Ordering::Relaxed)),
        }
    }

    pub(crate) fn hits(&self) -> u64 {
        self.owned.iter().chain(&self.shared).map(|stripe| stripe.0.load(Ordering::Relaxed)).sum()
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            owned: std::array::from_fn(|_| Stripe::default()),
            shared: Default::default(),
            waits: AtomicU64::default(),
            fetches: AtomicU64::default(),
            refreshes: AtomicU64::default(),
            failures: AtomicU64::default(),
            held: AtomicU64::default(),
            takeovers: AtomicU64::default(),
        }
    }
}

/// One more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::{Arc, Mutex};

    /// Both need the words for themselves.
    static ALONE: Mutex<()> = Mutex::new(());

    #[test]
    fn every_hit_is_counted_once_though_threads_come_and_go() {
        let _alone = ALONE.lock();
        let counters = Counters::default();
        // More at once than there are words, again and again.
        for _ in 0..3 {
            std::thread::scope(|scope| {
                for _ in 0..OWNED + 2 * SHARED {
                    scope.spawn(|| (0..1_000).for_each(|_| counters.hit()));
                }
            });
        }
        assert_eq!(counters.hits(), 3 * 1_000 * (OWNED + 2 * SHARED) as u64);
    }

    #[test]
    fn a_thread_that_ends_gives_its_word_back() {
        let _alone = ALONE.lock();
        let counters = Arc::new(Counters::default());
        // One after the other, and far more than there are words: none of them may have to share.
        for _ in 0..10 * OWNED {
            let theirs = Arc::clone(&counters);
            // Unlike the end of a scope, this waits for the destructors of the thread, too.
            assert!(std::thread::spawn(move || theirs.hit()).join().is_ok());
        }
        let shared: u64 = counters.shared.iter().map(|stripe| stripe.0.load(Ordering::Relaxed)).sum();
        assert_eq!((counters.hits(), shared), (10 * OWNED as u64, 0));
    }

    #[test]
    fn what_a_thread_counts_while_it_ends_is_counted() {
        struct Last(Arc<Counters>);
        impl Drop for Last {
            fn drop(&mut self) {
                self.0.hit();
            }
        }
        thread_local! {
            static LAST: Cell<Option<Last>> = const { Cell::new(None) };
        }
        let counters = Arc::new(Counters::default());
        let theirs = Arc::clone(&counters);
        let ended = std::thread::spawn(move || {
            LAST.set(Some(Last(Arc::clone(&theirs))));
            theirs.hit();
        });
        assert!(ended.join().is_ok());
        assert_eq!(counters.hits(), 2);
    }
}
