//! The place of one key's token: what a hit reads, and nothing of how the token came there.
//!
//! | file | what it holds |
//! |---|---|
//! | `hit` | the hit path: all that happens where a token can be served at once |
//! | `recent` | what a thread remembers of its last tokens |
//! | `view` | what a reader of its own remembers of one |
//! | this one | everything that changes a cell |

mod hit;
mod recent;
#[cfg(test)]
mod tests;
mod view;

use std::any::Any;

pub(crate) use view::View;

use crate::{
    clock::Now,
    request::Key,
    sync::{Arc, ArcSwapOption, AtomicBool, AtomicU32, AtomicU64, Mutex, Ordering},
    token::Token,
};
use recent::next_serial;

/// One entry. `S` is what the refresh engine keeps beside it, behind a lock that a hit never takes.
///
/// A million of them stand in a large cache, so it is counted in words; and in this order, so that what a hit reads lies
/// together.
#[repr(C)]
pub(crate) struct Cell<S: ?Sized> {
    current: ArcSwapOption<Token>,
    /// By which threads know the current token again. Another one with each change, even to no token.
    serial: AtomicU64,
    /// Until when nothing is to be started for this entry: a fetch is under way, or a failure is remembered.
    quiet_until: AtomicU64,
    /// When the entry was last used, in units of 2²⁶ ns, and with [`SINCE_IT_CAME`] whether the current token was.
    used: AtomicU32,
    /// Held by whoever changes the current token and its serial.
    changing: Mutex<()>,
    /// A fetch is under way.
    flying: AtomicBool,
    /// False once it was evicted: what is still found through a memo or a handle has to be looked up anew.
    attached: AtomicBool,
    /// When the scheduler looks at it next, 0 where it does not. Under the scheduler's lock.
    alarm: AtomicU64,
    key: Key,
    slow: Mutex<S>,
}

/// A cell as a request remembers it, without knowing the engine. Nothing is dispatched through it on a hit.
pub(crate) type ErasedCell = Cell<dyn Any + Send>;

/// Set in [`Cell::used`] where the token was used since it came.
const SINCE_IT_CAME: u32 = 1 << 31;

/// What most cells have nothing of at most times: a word then.
#[derive(Debug, Default)]
pub(crate) struct Rare<T>(Option<Box<T>>);

/// What is kept only while there is something in it.
pub(crate) trait Beside: Default {
    fn is_nothing(&self) -> bool;
}

/// How much an entry is missed if it goes. The least goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Standing {
    /// It has a token that lives, or is about to get one.
    pub(crate) alive: bool,
    /// When it was last used, or made.
    pub(crate) used: u32,
}

impl<S> Cell<S> {
    pub(crate) fn new(key: Key, slow: S) -> Self {
        Self {
            current: ArcSwapOption::empty(),
            serial: AtomicU64::new(next_serial()),
            quiet_until: AtomicU64::new(0),
            alarm: AtomicU64::new(0),
            used: AtomicU32::new(0),
            changing: Mutex::new(()),
            flying: AtomicBool::new(false),
            attached: AtomicBool::new(true),
            key,
            slow: Mutex::new(slow),
        }
    }
}

impl<T: Beside> Cell<Rare<T>> {
    /// What the engine keeps here. Never held across an await: the closure cannot.
    pub(crate) fn slow<R>(&self, run: impl FnOnce(&mut T) -> R) -> R {
        let mut slow = self.slow.lock();
        if let Some(kept) = &mut slow.0 {
            let result = run(kept);
            if kept.is_nothing() {
                slow.0 = None;
            }
            return result;
        }
        let mut new = T::default();
        let result = run(&mut new);
        if !new.is_nothing() {
            slow.0 = Some(Box::new(new));
        }
        result
    }
}

impl<S: ?Sized> Cell<S> {
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// Who has it made means to use it: while its first token is under way it must not be missed less than what has
    /// long lain idle. For a cell that nobody else knows yet.
    pub(crate) fn came(&self, now: Now) {
        self.used.store(hit::used_at(now.nanos()), Ordering::Relaxed);
    }

    /// The token where it lives, due or not, and marks it used.
    pub(crate) fn usable(&self, now: Now) -> Option<Arc<Token>> {
        let token = self.peek().filter(|token| now.nanos() < token.timeline().expiry())?;
        self.mark(now.nanos());
        Some(token)
    }

    /// The token, dead or alive, unmarked.
    pub(crate) fn peek(&self) -> Option<Arc<Token>> {
        self.current.load_full()
    }

    /// Whether the current token was used since it came.
    pub(crate) fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed) & SINCE_IT_CAME != 0
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

    #[inline]
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
        drop(self.change(|current| current.swap(Some(token))));
        // Either this sees what `detach` wrote first, or `detach` empties the cell after this filled it.
        if !self.is_attached() {
            drop(self.change(|current| current.swap(None)));
        }
        self.used.fetch_and(!SINCE_IT_CAME, Ordering::Relaxed);
    }

    /// Takes `token` out, if it is still the current one.
    pub(crate) fn withdraw(&self, token: &Arc<Token>) -> bool {
        self.change(|current| {
            let before = current.compare_and_swap(&Some(Arc::clone(token)), None);
            before.as_ref().is_some_and(|before| Arc::ptr_eq(before, token))
        })
    }

    /// It is no longer in the cache: whoever still holds it finds nothing here. The token that was, to be dropped
    /// where no lock is held: it is wiped then.
    pub(crate) fn detach(&self) -> Option<Arc<Token>> {
        self.attached.store(false, Ordering::Release);
        self.change(|current| current.swap(None))
    }

    /// Changes the current token, and then its serial. Under a lock, so that they are changed in the same order by
    /// all: otherwise a serial could outlive its token, and threads that remember it with it.
    fn change<R>(&self, change: impl FnOnce(&ArcSwapOption<Token>) -> R) -> R {
        let _changing = self.changing.lock();
        let result = change(&self.current);
        self.serial.store(next_serial(), Ordering::Release);
        result
    }

    pub(crate) fn standing(&self, now: Now) -> Standing {
        let lives = |token: &Arc<Token>| now.nanos() < token.timeline().expiry();
        let used = self.used.load(Ordering::Relaxed) & !SINCE_IT_CAME;
        Standing { alive: self.is_flying() || self.current.load().as_ref().is_some_and(lives), used }
    }
}
