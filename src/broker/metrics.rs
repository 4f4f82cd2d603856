//! What happened so far, in numbers.

use crate::{refresh::Engine, sync::Ordering};

/// A snapshot of a broker's numbers. Those that count only ever grow; between them, a snapshot taken under load may
/// be off by the calls that were under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Calls that were served from the cache at once.
    pub hits: u64,
    /// Calls that had to wait for a fetch.
    pub waits: u64,
    /// Calls that were given a remembered failure at once.
    pub held: u64,
    /// Fetches that went to the provider.
    pub fetches: u64,
    /// Of these, the ones that replaced a token in use before it expired.
    pub refreshes: u64,
    /// Fetches that failed.
    pub failures: u64,
    /// Fetches that were taken over because the runtime that ran them was parked.
    pub takeovers: u64,
    /// Entries that went for want of room.
    pub evictions: u64,
    /// Entries in the cache now.
    pub entries: usize,
    /// Fetches under way now.
    pub in_flight: usize,
}

impl Metrics {
    pub(super) fn of(engine: &Engine) -> Self {
        let counters = &engine.counters;
        Self {
            hits: counters.hits(),
            waits: counters.waits.load(Ordering::Relaxed),
            held: counters.held.load(Ordering::Relaxed),
            fetches: counters.fetches.load(Ordering::Relaxed),
            refreshes: counters.refreshes.load(Ordering::Relaxed),
            failures: counters.failures.load(Ordering::Relaxed),
            takeovers: counters.takeovers.load(Ordering::Relaxed),
            evictions: engine.cache.evicted() as u64,
            entries: engine.cache.len(),
            in_flight: engine.in_flight(),
        }
    }
}
