//! The place of one key's token: what a hit reads, and nothing of how the token came there.

use std::any::Any;

use crate::{
    clock::Now,
    request::Key,
    sync::{Arc, ArcSwapOption, AtomicBool, AtomicU32, AtomicU64, Mutex, Ordering},
    token::Token,
};

/// One entry. `S` is what the refresh engine keeps beside it, behind a lock that a hit never takes.
pub(crate) struct Cell<S: ?Sized> {
    key: Arc<Key>,
    current: ArcSwapOption<Token>,
    /// Until when nothing is to be started for this entry: a fetch is under way, or a failure is remembered.
    quiet_until: AtomicU64,
    /// When the token was last used, in ticks; 0 where it was not since it came.
    used: AtomicU32,
    /// When its predecessor was.
    used_before: AtomicU32,
    /// A fetch is under way.
    flying: AtomicBool,
    /// False once it was evicted: what is still found through a memo or a handle has to be looked up anew.
    attached: AtomicBool,
    /// When the scheduler looks at it next, 0 where it does not. Under the scheduler's lock.
    alarm: AtomicU64,
    slow: Mutex<S>,
}

/// A cell as a request remembers it, without knowing the engine. Nothing is dispatched through it on a hit.
pub(crate) type ErasedCell = Cell<dyn Any + Send>;

/// Ticks of 2³³ ns, about 8.6 s: fine enough to tell what was used of late, coarse enough that a busy entry's mark
/// is rarely written. Never 0.
#[inline]
fn tick(now: u64) -> u32 {
    ((now >> 33) as u32) | 1 << 31
}

/// How much an entry is missed if it goes. The least goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Standing {
    /// It has a token that lives, or is about to get one.
    pub(crate) alive: bool,
    /// When it was last used.
    pub(crate) used: u32,
}

impl<S> Cell<S> {
    pub(crate) fn new(key: Arc<Key>, slow: S) -> Self {
        Self {
            key,
            current: ArcSwapOption::empty(),
            quiet_until: AtomicU64::new(0),
            used: AtomicU32::new(0),
            used_before: AtomicU32::new(0),
            flying: AtomicBool::new(false),
            attached: AtomicBool::new(true),
            alarm: AtomicU64::new(0),
            slow: Mutex::new(slow),
        }
    }
}

impl<S: ?Sized> Cell<S> {
    /// The hit: gives `read` the token where it can be served with nothing else to do, and marks it used.
    ///
    /// This is right because each of these is monotone while a token stands in the cell: its times never change, and
    /// `quiet_until` only ever lets a token be served that is not yet in its last call. The swap hands out a token
    /// that was current at some moment during the call.
    #[inline]
    pub(crate) fn hit<R>(&self, now: Now, read: impl FnOnce(&Arc<Token>) -> R) -> Option<R> {
        let guard = self.current.load();
        let token = guard.as_ref()?;
        let (now, timeline) = (now.nanos(), token.timeline());
        if now >= timeline.due
            && (now >= timeline.last_call || now >= self.quiet_until.load(Ordering::Relaxed))
        {
            return None;
        }
        self.mark(now);
        Some(read(token))
    }

    /// A shared word is written only when it changes.
    #[inline]
    fn mark(&self, now: u64) {
        let tick = tick(now);
        if self.used.load(Ordering::Relaxed) != tick {
            self.used.store(tick, Ordering::Relaxed);
        }
    }

    pub(crate) fn key(&self) -> &Arc<Key> {
        &self.key
    }

    /// The token where it lives, due or not, and marks it used.
    pub(crate) fn usable(&self, now: Now) -> Option<Arc<Token>> {
        let token = self.peek().filter(|token| now.nanos() < token.timeline().expiry)?;
        self.mark(now.nanos());
        Some(token)
    }

    /// The token, dead or alive, unmarked.
    pub(crate) fn peek(&self) -> Option<Arc<Token>> {
        self.current.load_full()
    }

    pub(crate) fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn is_attached(&self) -> bool {
        self.attached.load(Ordering::Acquire)
    }

    pub(crate) fn is_flying(&self) -> bool {
        self.flying.load(Ordering::Relaxed)
    }

    pub(crate) fn set_flying(&self, flying: bool) {
        self.flying.store(flying, Ordering::Relaxed);
    }

    pub(crate) fn quiet_until(&self) -> u64 {
        self.quiet_until.load(Ordering::Relaxed)
    }

    pub(crate) fn set_quiet_until(&self, until: u64) {
        self.quiet_until.store(until, Ordering::Relaxed);
    }

    pub(crate) fn alarm(&self) -> u64 {
        self.alarm.load(Ordering::Relaxed)
    }

    pub(crate) fn set_alarm(&self, at: u64) {
        self.alarm.store(at, Ordering::Relaxed);
    }

    /// A new token takes the place of the old one. It has not been used yet. In a cell that was taken out of the
    /// cache meanwhile it does not stay: nobody could withdraw it there.
    pub(crate) fn publish(&self, token: Arc<Token>) {
        self.current.store(Some(token));
        // Either this sees what `detach` wrote first, or `detach` empties the cell after this filled it.
        if !self.is_attached() {
            self.current.store(None);
        }
        let used = self.used.swap(0, Ordering::Relaxed);
        self.used_before.fetch_max(used, Ordering::Relaxed);
    }

    /// Takes `token` out, if it is still the current one.
    pub(crate) fn withdraw(&self, token: &Arc<Token>) -> bool {
        let before = self.current.compare_and_swap(&Some(Arc::clone(token)), None);
        before.as_ref().is_some_and(|before| Arc::ptr_eq(before, token))
    }

    /// It is no longer in the cache: whoever still holds it finds nothing here.
    pub(crate) fn detach(&self) {
        self.attached.store(false, Ordering::Release);
        self.current.store(None);
    }

    pub(crate) fn standing(&self, now: Now) -> Standing {
        let lives = |token: &Arc<Token>| now.nanos() < token.timeline().expiry;
        let used = self.used.load(Ordering::Relaxed).max(self.used_before.load(Ordering::Relaxed));
        Standing { alive: self.is_flying() || self.current.load().as_ref().is_some_and(lives), used }
    }

    /// What the engine keeps here. Never held across an await: the closure cannot.
    pub(crate) fn slow<R>(&self, run: impl FnOnce(&mut S) -> R) -> R {
        run(&mut self.slow.lock())
    }
}
