//! How many fetches may be under way that nobody waits for.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::Entry;
use crate::sync::{Arc, Mutex, Weak};

/// The places of fetches in the background. A fetch has its own from before it begins until it has landed, however it
/// lands, and whoever joins it meanwhile. Callers that need a token need no place.
pub(super) struct Background {
    limit: usize,
    /// By number of the flight.
    flights: Mutex<HashMap<u64, Weak<Entry>, RandomState>>,
}

impl Background {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, flights: Mutex::default() }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Takes a place for the flight with this number. Says whether there was one.
    pub(super) fn enter(&self, flight: u64, entry: &Arc<Entry>) -> bool {
        let mut flights = self.flights.lock();
        let free = flights.len() < self.limit;
        if free {
            flights.insert(flight, Arc::downgrade(entry));
        }
        free
    }

    /// Gives the flight's place back. Says whether that was the only free one, for which somebody may wait.
    pub(super) fn leave(&self, flight: u64) -> bool {
        let mut flights = self.flights.lock();
        let full = flights.len() >= self.limit;
        flights.remove(&flight).is_some() && full
    }

    pub(super) fn is_full(&self) -> bool {
        self.flights.lock().len() >= self.limit
    }

    /// What is being refreshed.
    pub(super) fn entries(&self) -> Vec<Arc<Entry>> {
        self.flights.lock().values().filter_map(Weak::upgrade).collect()
    }
}
