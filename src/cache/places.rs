//! The places of the keys in the cache, each once, however many requests spelled it out.

use hashbrown::{HashTable, hash_table::Entry};

use crate::{
    request::Place,
    sync::{Arc, Mutex},
};

#[derive(Default)]
pub(super) struct Places(Mutex<Known>);

#[derive(Default)]
struct Known {
    table: HashTable<Arc<Place>>,
    /// How many there were when those that nobody has any more were last taken out.
    swept: usize,
}

/// So few are not worth a sweep.
const LEAST_SWEPT: usize = 64;

impl Places {
    /// The copy of this place that all keys in the cache share.
    pub(super) fn share(&self, place: &Arc<Place>) -> Arc<Place> {
        let mut known = self.0.lock();
        if known.table.len() > 2 * known.swept + LEAST_SWEPT {
            known.table.retain(|place| Arc::strong_count(place) > 1);
            known.swept = known.table.len();
        }
        match known.table.entry(place.hash(), |known| known == place, |known| known.hash()) {
            Entry::Occupied(entry) => Arc::clone(entry.get()),
            Entry::Vacant(entry) => Arc::clone(entry.insert(Arc::clone(place)).get()),
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.lock().table.len()
    }
}
