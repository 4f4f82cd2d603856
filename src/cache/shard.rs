//! One shard: a table of entries by the hashes of their keys.

use hashbrown::HashTable;

use super::eviction;
use crate::{
    cell::Cell,
    clock::Now,
    request::Key,
    sync::{Arc, RwLock},
    token::Token,
};

/// On a cache line of its own, so that one shard's lock does not slow its neighbour's.
#[repr(align(64))]
pub(super) struct Shard<S>(RwLock<Table<S>>);

pub(super) type Table<S> = HashTable<Arc<Cell<S>>>;

/// An entry that was taken out. Dropped where no lock is held: with its last user the token is wiped.
pub(super) struct Gone<S> {
    pub(super) cell: Arc<Cell<S>>,
    _token: Option<Arc<Token>>,
}

impl<S> Gone<S> {
    /// Under the shard's lock: what stands in the table is attached, and nothing else is.
    fn new(cell: Arc<Cell<S>>) -> Self {
        let _token = cell.detach();
        Self { cell, _token }
    }
}

fn is<S>(key: &Key) -> impl Fn(&Arc<Cell<S>>) -> bool {
    move |cell| cell.key() == key
}

fn is_same<S>(this: &Arc<Cell<S>>) -> impl Fn(&Arc<Cell<S>>) -> bool {
    move |cell| Arc::ptr_eq(cell, this)
}

impl<S> Shard<S> {
    pub(super) fn new() -> Self {
        Self(RwLock::new(Table::new()))
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Cell<S>>> {
        self.0.read().find(key.hash(), is(key)).cloned()
    }

    /// The entry of a key with this hash that `is_it`.
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(&Cell<S>) -> bool) -> Option<Arc<Cell<S>>> {
        self.0.read().find(hash, |cell| cell.key().hash() == hash && is_it(cell)).cloned()
    }

    /// Puts the cell in, unless there is one of its key: then that one is returned.
    pub(super) fn insert(&self, cell: &Arc<Cell<S>>) -> Option<Arc<Cell<S>>> {
        let (key, mut table) = (cell.key(), self.0.write());
        if let Some(other) = table.find(key.hash(), is(key)) {
            return Some(Arc::clone(other));
        }
        table.insert_unique(key.hash(), Arc::clone(cell), |cell| cell.key().hash());
        None
    }

    pub(super) fn remove_if(
        &self,
        cell: &Arc<Cell<S>>,
        gone: impl FnOnce(&Cell<S>) -> bool,
    ) -> Option<Gone<S>> {
        let mut table = self.0.write();
        let entry = table.find_entry(cell.key().hash(), is_same(cell)).ok()?;
        gone(cell).then(|| Gone::new(entry.remove().0))
    }

    /// The entry that is missed least, but for `newcomer`. Readers are not held up by the search.
    pub(super) fn least_missed(&self, now: Now, newcomer: &Arc<Cell<S>>) -> Option<Arc<Cell<S>>> {
        eviction::choose(&self.0.read(), now, newcomer)
    }

    pub(super) fn remove_where(&self, gone: &impl Fn(&Cell<S>) -> bool) -> Vec<Gone<S>> {
        self.0.write().extract_if(|cell| gone(cell)).map(Gone::new).collect()
    }

    pub(super) fn clear(&self) -> Vec<Gone<S>> {
        self.0.write().drain().map(Gone::new).collect()
    }
}
