//! The place of one key's token: what a hit reads, and nothing of how the token came there.

use std::{any::Any, cell::RefCell};

use crate::{
    clock::Now,
    request::Key,
    sync::{
        Arc, ArcSwapOption, AtomicBool, AtomicU32, AtomicU64, Mutex, Ordering, StaticU64, Weak, thread_local,
    },
    token::{Timeline, Token},
};

/// One entry. `S` is what the refresh engine keeps beside it, behind a lock that a hit never takes.
pub(crate) struct Cell<S: ?Sized> {
    key: Arc<Key>,
    current: ArcSwapOption<Token>,
    /// By which threads know the current token again. Another one with each change, even to no token.
    serial: AtomicU64,
    /// Held by whoever changes the two above.
    changing: Mutex<()>,
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

/// So many tokens a thread remembers, each in the place of its serial.
const REMEMBERED: usize = 8;

/// What a thread remembers of a token that it was given. It keeps nothing alive: a token that went is wiped when its
/// last user drops it, whoever remembers it.
struct Seen {
    serial: u64,
    token: Weak<Token>,
    timeline: Timeline,
    /// The serial that was last looked for here in vain. Only one that comes twice in a row is remembered, so that who
    /// reads many keys does not pay for remembering each.
    passed: u64,
}

thread_local! {
    static RECENT: RefCell<[Seen; REMEMBERED]> = const { RefCell::new([const { Seen::NOTHING }; REMEMBERED]) };
}

impl Seen {
    /// No cell has this serial.
    const NOTHING: Self = Self {
        serial: 0,
        token: Weak::new(),
        timeline: Timeline { due: 0, last_call: 0, expiry: 0 },
        passed: 0,
    };

    fn see(&mut self, serial: u64, token: &Arc<Token>) {
        if self.passed == serial {
            *self =
                Self { serial, token: Arc::downgrade(token), timeline: *token.timeline(), passed: serial };
        } else {
            self.passed = serial;
        }
    }
}

/// Never the same twice in a process, and never 0: nothing that a thread remembers can be taken for something else.
fn next_serial() -> u64 {
    static LAST: StaticU64 = StaticU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
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
            serial: AtomicU64::new(next_serial()),
            changing: Mutex::new(()),
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
        self.serves(token.timeline(), now).then(|| read(token))
    }

    /// The hit of those who want to keep the token: from what this thread remembers of its last ones, where it can be.
    ///
    /// As with the swap, that is a token which was current at some moment during the call.
    #[inline]
    pub(crate) fn take(&self, now: Now) -> Option<Arc<Token>> {
        // Acquire pairs with the Release in `change`: who sees that a token went is not given it any more.
        let serial = self.serial.load(Ordering::Acquire);
        let known = RECENT.try_with(|recent| {
            let recent = recent.try_borrow().ok()?;
            let seen = &recent[serial as usize % REMEMBERED];
            (seen.serial == serial && self.serves(&seen.timeline, now))
                .then(|| seen.token.upgrade())
                .flatten()
        });
        match known {
            Ok(Some(token)) => Some(token),
            _ => self.take_unknown(serial, now),
        }
    }

    #[inline(never)]
    fn take_unknown(&self, serial: u64, now: Now) -> Option<Arc<Token>> {
        let token = self.hit(now, Arc::clone)?;
        // The serial was read before the token. Should that be a newer one, it is remembered under a serial that its
        // cell is about to lose, and that no cell will ever have again.
        let _ = RECENT.try_with(|recent| {
            if let Ok(mut recent) = recent.try_borrow_mut() {
                recent[serial as usize % REMEMBERED].see(serial, &token);
            }
        });
        Some(token)
    }

    /// Whether a token of this timeline can be served with nothing else to do. If so, marks it used.
    #[inline]
    fn serves(&self, timeline: &Timeline, now: Now) -> bool {
        let now = now.nanos();
        if now >= timeline.due
            && (now >= timeline.last_call || now >= self.quiet_until.load(Ordering::Relaxed))
        {
            return false;
        }
        self.mark(now);
        true
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
        self.change(|current| current.store(Some(token)));
        // Either this sees what `detach` wrote first, or `detach` empties the cell after this filled it.
        if !self.is_attached() {
            self.change(|current| current.store(None));
        }
        let used = self.used.swap(0, Ordering::Relaxed);
        self.used_before.fetch_max(used, Ordering::Relaxed);
    }

    /// Takes `token` out, if it is still the current one.
    pub(crate) fn withdraw(&self, token: &Arc<Token>) -> bool {
        self.change(|current| {
            let before = current.compare_and_swap(&Some(Arc::clone(token)), None);
            before.as_ref().is_some_and(|before| Arc::ptr_eq(before, token))
        })
    }

    /// It is no longer in the cache: whoever still holds it finds nothing here.
    pub(crate) fn detach(&self) {
        self.attached.store(false, Ordering::Release);
        self.change(|current| current.store(None));
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
        let lives = |token: &Arc<Token>| now.nanos() < token.timeline().expiry;
        let used = self.used.load(Ordering::Relaxed).max(self.used_before.load(Ordering::Relaxed));
        Standing { alive: self.is_flying() || self.current.load().as_ref().is_some_and(lives), used }
    }

    /// What the engine keeps here. Never held across an await: the closure cannot.
    pub(crate) fn slow<R>(&self, run: impl FnOnce(&mut S) -> R) -> R {
        run(&mut self.slow.lock())
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Duration};

    use super::*;
    use crate::request::TokenRequest;

    const HOUR: u64 = 3_600_000_000_000;

    fn at(nanos: u64) -> Now {
        Now::from_nanos(nanos, nanos)
    }

    fn cell() -> Arc<Cell<()>> {
        Arc::new(Cell::new(TokenRequest::new("https://vault.azure.net/.default").unwrap().key().clone(), ()))
    }

    fn token(cell: &Cell<()>, text: &str) -> Arc<Token> {
        let timeline = Timeline { due: HOUR, last_call: 2 * HOUR, expiry: 3 * HOUR };
        Arc::new(Token::new(text, None, timeline, at(0), cell.key().clone()).unwrap())
    }

    fn taken(cell: &Cell<()>, now: u64) -> Option<String> {
        cell.take(at(now)).map(|token| token.secret().to_owned())
    }

    /// Often enough that this thread remembers it.
    fn learn(cell: &Cell<()>, text: &str) {
        for _ in 0..4 {
            assert_eq!(taken(cell, 1).as_deref(), Some(text));
        }
    }

    #[test]
    fn what_a_thread_remembers_it_is_given_only_while_it_is_current() {
        let cell = cell();
        cell.publish(token(&cell, "first"));
        learn(&cell, "first");
        let second = token(&cell, "second");
        cell.publish(Arc::clone(&second));
        learn(&cell, "second");
        assert!(cell.withdraw(&second) && !cell.withdraw(&second));
        assert_eq!(taken(&cell, 1), None);
        cell.publish(token(&cell, "third"));
        learn(&cell, "third");
        cell.detach();
        assert_eq!(taken(&cell, 1), None);
    }

    #[test]
    fn what_a_thread_remembers_ages_as_it_does_in_the_cell() {
        let cell = cell();
        cell.publish(token(&cell, "token"));
        learn(&cell, "token");
        assert_eq!(taken(&cell, HOUR), None, "due");
        cell.set_quiet_until(u64::MAX);
        assert!(taken(&cell, HOUR).is_some(), "due, and being refreshed");
        assert_eq!(taken(&cell, 2 * HOUR), None, "last call");
        assert!(taken(&cell, 1).is_some());
    }

    #[test]
    fn a_thread_that_remembers_a_token_does_not_keep_it_alive() {
        let cell = cell();
        let token = token(&cell, "token");
        cell.publish(Arc::clone(&token));
        learn(&cell, "token");
        let watch = Arc::downgrade(&token);
        cell.publish(self::token(&cell, "next"));
        drop(token);
        assert!(watch.upgrade().is_none());
    }

    #[test]
    fn many_cells_are_never_mistaken_for_one_another() {
        let cells: Vec<_> = (0..3 * REMEMBERED).map(|_| cell()).collect();
        for (at, cell) in cells.iter().enumerate() {
            cell.publish(token(cell, &format!("{at}")));
        }
        // Those without a token are in between, and each is asked for more than once in a row.
        let empty = cell();
        for round in 0..1_000 {
            let at = round * 7 / 3 % cells.len();
            assert_eq!(taken(&cells[at], 1), Some(format!("{at}")));
            assert_eq!(taken(&empty, 1), None);
        }
    }

    #[test]
    fn once_it_was_withdrawn_no_thread_is_given_it() {
        let cell = cell();
        thread::scope(|scope| {
            let (told, tell): (Vec<_>, Vec<_>) = (0..3)
                .map(|_| {
                    let (tell, told) = mpsc::sync_channel::<usize>(1);
                    (told, tell)
                })
                .unzip();
            for told in told {
                let cell = &cell;
                scope.spawn(move || {
                    let mut gone = 0;
                    loop {
                        match told.recv_timeout(Duration::ZERO) {
                            Ok(number) => gone = number,
                            Err(mpsc::RecvTimeoutError::Disconnected) => break,
                            Err(mpsc::RecvTimeoutError::Timeout) => {}
                        }
                        for _ in 0..20 {
                            let given = taken(cell, 1).map_or(usize::MAX, |text| text.parse().unwrap());
                            assert!(given > gone, "given {given} though {gone} was withdrawn");
                        }
                        thread::yield_now();
                    }
                });
            }
            for number in 1..100 {
                let token = token(&cell, &number.to_string());
                cell.publish(Arc::clone(&token));
                thread::yield_now();
                assert!(cell.withdraw(&token));
                tell.iter().for_each(|tell| tell.send(number).unwrap());
            }
            drop(tell);
        });
    }
}
