//! One shard: an index by hash over a plain list, so that any entry can be drawn at random for eviction.

use hashbrown::HashTable;

use super::eviction;
use crate::{
    cell::Cell,
    clock::Now,
    request::Key,
    sync::{Arc, RwLock},
};

/// On cache lines of its own, so that one shard's lock does not slow its neighbour's.
#[repr(align(128))]
pub(super) struct Shard<S>(RwLock<Table<S>>);

struct Table<S> {
    /// Places in `cells`.
    index: HashTable<u32>,
    cells: Vec<Arc<Cell<S>>>,
}

impl<S> Shard<S> {
    pub(super) fn new() -> Self {
        Self(RwLock::new(Table { index: HashTable::new(), cells: Vec::new() }))
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Cell<S>>> {
        self.0.read().get(key).cloned()
    }

    /// The cell, and whether it is new.
    pub(super) fn get_or_insert(&self, key: &Arc<Key>, make: impl FnOnce() -> S) -> (Arc<Cell<S>>, bool) {
        if let Some(cell) = self.get(key) {
            return (cell, false);
        }
        let mut table = self.0.write();
        if let Some(cell) = table.get(key) {
            return (Arc::clone(cell), false);
        }
        let cell = Arc::new(Cell::new(Arc::clone(key), make()));
        table.push(Arc::clone(&cell));
        (cell, true)
    }

    pub(super) fn remove_if(&self, cell: &Arc<Cell<S>>, gone: impl FnOnce(&Cell<S>) -> bool) -> bool {
        let mut table = self.0.write();
        match table.find(cell.key()) {
            Some(at) if Arc::ptr_eq(&table.cells[at], cell) && gone(cell) => {
                table.take(at).detach();
                true
            }
            _ => false,
        }
    }

    /// Takes out the entry that is missed least, but for `newcomer`.
    pub(super) fn evict(&self, now: Now, newcomer: &Arc<Cell<S>>) -> bool {
        let mut table = self.0.write();
        let Some(at) = eviction::choose(&table.cells, now, newcomer) else { return false };
        table.take(at).detach();
        true
    }

    pub(super) fn clear(&self) -> Vec<Arc<Cell<S>>> {
        let mut table = self.0.write();
        table.index.clear();
        let cells = std::mem::take(&mut table.cells);
        cells.iter().for_each(|cell| cell.detach());
        cells
    }
}

impl<S> Table<S> {
    fn get(&self, key: &Key) -> Option<&Arc<Cell<S>>> {
        self.find(key).map(|at| &self.cells[at])
    }

    fn find(&self, key: &Key) -> Option<usize> {
        let same = |at: &u32| **self.cells[*at as usize].key() == *key;
        self.index.find(key.hash(), same).map(|at| *at as usize)
    }

    fn push(&mut self, cell: Arc<Cell<S>>) {
        let Self { index, cells } = self;
        let hash = cell.key().hash();
        // 2³² entries in one shard do not fit in any machine's memory.
        let at = cells.len() as u32;
        cells.push(cell);
        index.insert_unique(hash, at, |at| cells[*at as usize].key().hash());
    }

    /// Takes one out and moves the last one to its place.
    fn take(&mut self, at: usize) -> Arc<Cell<S>> {
        let Self { index, cells } = self;
        let last = cells.len() - 1;
        if let Ok(entry) = index.find_entry(cells[at].key().hash(), |place| *place as usize == at) {
            entry.remove();
        }
        if let Some(place) = index.find_mut(cells[last].key().hash(), |place| *place as usize == last) {
            *place = at as u32;
        }
        cells.swap_remove(at)
    }
}
