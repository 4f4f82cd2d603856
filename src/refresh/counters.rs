//! What happened how often. A hit writes to a word that its thread shares with few others.

use std::cell::Cell;

use crate::sync::{AtomicU64, AtomicUsize, Ordering};

/// Threads are spread over so many words. More would make a snapshot dearer and help only larger machines.
const STRIPES: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct Counters {
    hits: [Stripe; STRIPES],
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

fn next_stripe() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed) % STRIPES
}

thread_local! {
    /// `STRIPES` until the thread's first hit, so that reading it needs no lazy initialisation.
    static STRIPE: Cell<usize> = const { Cell::new(STRIPES) };
}

impl Counters {
    #[inline]
    pub(crate) fn hit(&self) {
        let stripe = STRIPE.with(|stripe| {
            if stripe.get() == STRIPES {
                stripe.set(next_stripe());
            }
            stripe.get()
        });
        self.hits[stripe].0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn hits(&self) -> u64 {
        self.hits.iter().map(|stripe| stripe.0.load(Ordering::Relaxed)).sum()
    }
}

/// One more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
