//! Scopes as text, as they were spelled before, with the entries that they lead to.

use std::{collections::HashMap, fmt};

use arc_swap::ArcSwap;
use foldhash::fast::RandomState;

use crate::{
    clock::Now,
    refresh::Entry,
    sync::{Arc, Mutex},
    token::Token,
};

/// A program spells few scopes, and spells them in its source. Should it make them up instead, those past this number
/// are parsed each time, which is still correct.
const MOST: usize = 512;

type Map = HashMap<Box<str>, Arc<Entry>, RandomState>;

/// Read by every call with a `&str`, written when a spelling is new: so a map that is copied to change it.
pub(super) struct Spellings {
    map: ArcSwap<Map>,
    writing: Mutex<()>,
}

impl Spellings {
    pub(super) fn new() -> Self {
        Self { map: ArcSwap::from_pointee(Map::default()), writing: Mutex::new(()) }
    }

    #[inline]
    pub(super) fn take(&self, text: &str, now: Now) -> Option<Arc<Token>> {
        self.map.load().get(text)?.take(now)
    }

    /// The entry of a spelling, if that is still in the cache.
    pub(super) fn get(&self, text: &str) -> Option<Arc<Entry>> {
        self.map.load().get(text).filter(|entry| entry.is_attached()).cloned()
    }

    pub(super) fn remember(&self, text: &str, cell: &Arc<Entry>) {
        let full = |map: &Map| map.len() >= MOST && map.values().all(|known| known.is_attached());
        if full(&self.map.load()) {
            return;
        }
        let _writing = self.writing.lock();
        let mut map = Map::clone(&self.map.load());
        map.retain(|_, known| known.is_attached());
        if map.len() < MOST {
            map.insert(text.into(), Arc::clone(cell));
        }
        self.map.store(Arc::new(map));
    }
}

impl fmt::Debug for Spellings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spellings").field("len", &self.map.load().len()).finish_non_exhaustive()
    }
}
