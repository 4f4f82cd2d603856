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
        let known = |map: &Map| map.get(text).is_some_and(|known| Arc::ptr_eq(known, cell));
        // A full one is searched for evicted entries now and then only: that costs more than parsing.
        let full = |map: &Map| map.len() >= MOST && fastrand::u8(..) != 0;
        let before = self.map.load();
        if known(&before) || full(&before) {
            return;
        }
        let _writing = self.writing.lock();
        let before = self.map.load();
        let attached = || before.iter().filter(|(_, known)| known.is_attached());
        if before.len() >= MOST && attached().count() >= MOST {
            return;
        }
        let mut map: Map = attached().map(|(text, known)| (text.clone(), Arc::clone(known))).collect();
        map.insert(text.into(), Arc::clone(cell));
        self.map.store(Arc::new(map));
    }
}

impl fmt::Debug for Spellings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spellings").field("len", &self.map.load().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cell::Rare, clock::Clock, request::TokenRequest};

    fn cell() -> Arc<Entry> {
        let key = TokenRequest::new("https://vault.azure.net/.default").unwrap().key().clone();
        Arc::new(Entry::new(key, Rare::default()))
    }

    #[test]
    fn a_full_map_is_not_copied_until_something_in_it_was_evicted() {
        let (spellings, kept, evicted) = (Spellings::new(), cell(), cell());
        for n in 0..MOST {
            spellings.remember(&n.to_string(), if n == 0 { &evicted } else { &kept });
        }
        let full = spellings.map.load_full();
        for n in MOST..5_000 {
            spellings.remember(&n.to_string(), &kept);
        }
        assert!(Arc::ptr_eq(&full, &spellings.map.load_full()) && full.len() == MOST);
        drop(evicted.detach());
        for n in 5_000..10_000 {
            spellings.remember(&n.to_string(), &kept);
        }
        let map = spellings.map.load();
        assert!(map.len() == MOST && !map.contains_key("0"));
        assert!(spellings.take("1", Clock::system().now()).is_none(), "there is no token in it");
    }
}
