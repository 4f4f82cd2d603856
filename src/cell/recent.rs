//! What a thread remembers of the tokens that it was given last, so that it need not ask a shared word for them.

use std::cell::RefCell;

use crate::{
    sync::{Arc, Ordering, StaticU64, Weak, thread_local},
    token::{Timeline, Token},
};

/// So many tokens a thread remembers, each in the place of its serial.
pub(super) const REMEMBERED: usize = 8;

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
    const NOTHING: Self = Self { serial: 0, token: Weak::new(), timeline: Timeline::NONE, passed: 0 };
}

/// The token that this thread knows by `serial`, if `serves` agrees to its times and it has not gone.
#[inline]
pub(super) fn recall(serial: u64, serves: impl FnOnce(&Timeline) -> bool) -> Option<Arc<Token>> {
    let known = RECENT.try_with(|recent| {
        let recent = recent.try_borrow().ok()?;
        let seen = &recent[serial as usize % REMEMBERED];
        (seen.serial == serial && serves(&seen.timeline)).then(|| seen.token.upgrade()).flatten()
    });
    known.ok().flatten()
}

/// This thread was given `token`, which it shall know by `serial`.
pub(super) fn see(serial: u64, token: &Arc<Token>) {
    // Where the thread is about to end there is nothing to remember for.
    let _ = RECENT.try_with(|recent| {
        let Ok(mut recent) = recent.try_borrow_mut() else { return };
        let seen = &mut recent[serial as usize % REMEMBERED];
        if seen.passed == serial {
            let (token, timeline) = (Arc::downgrade(token), *token.timeline());
            *seen = Seen { serial, token, timeline, passed: serial };
        } else {
            seen.passed = serial;
        }
    });
}

/// Never the same twice in a process, and never 0: nothing that a thread remembers can be taken for something else.
pub(super) fn next_serial() -> u64 {
    static LAST: StaticU64 = StaticU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}
