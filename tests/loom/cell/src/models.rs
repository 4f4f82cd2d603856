//! What is checked: two or three threads each, and what must hold whichever goes first.

use loom::{
    sync::{
        Arc as ModelArc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use crate::{
    cell::{Cell, ErasedCell, View},
    clock::Now,
    request::TokenRequest,
    sync::Arc,
    token::{Timeline, Token},
};

const HOUR: u64 = 3_600_000_000_000;

type Entry = Cell<()>;

fn at(nanos: u64) -> Now {
    Now::from_nanos(nanos, nanos)
}

fn cell() -> Arc<Entry> {
    let request = TokenRequest::new("https://vault.azure.net/.default").unwrap();
    Arc::new(Cell::new(request.key().clone(), ()))
}

/// Due after one hour, in its last call after two, dead after three.
fn token(cell: &Entry, text: &str) -> Arc<Token> {
    let timeline = Timeline::at(HOUR, 2 * HOUR, 3 * HOUR);
    Arc::new(Token::new(text, None, timeline, at(0), cell.key()).unwrap())
}

/// The text of what this thread is given.
fn taken(cell: &Entry) -> Option<String> {
    cell.take(at(1)).map(|token| token.secret().to_owned())
}

fn lent(cell: &Entry) -> Option<String> {
    cell.hit(at(1), |token| token.secret().to_owned())
}

/// Often enough that this thread remembers it.
fn learn(cell: &Entry, text: &str) {
    for _ in 0..3 {
        assert_eq!(taken(cell).as_deref(), Some(text));
    }
}

/// What a reader of its own lends, as `Reader::get` has it.
fn read(view: &mut View, cell: &Entry) -> Option<String> {
    let served = view.is_good(cell, at(1)) || view.look(cell, at(1));
    if !served {
        view.keep(None);
    }
    view.token().map(|token| token.secret().to_owned())
}

fn erased(cell: &Arc<Entry>) -> Arc<ErasedCell> {
    Arc::<Entry>::clone(cell)
}

/// Something is over: whoever sees it knows of all that was done before.
#[derive(Clone)]
struct Flag(ModelArc<AtomicBool>);

impl Flag {
    fn new() -> Self {
        Self(ModelArc::new(AtomicBool::new(false)))
    }

    fn raise(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_raised(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Visits every execution.
fn exhaustively(model: impl Fn() + Send + Sync + 'static) {
    loom::model(model);
}

/// Visits every execution in which threads are interrupted no more than three times where they could have gone on: with
/// three threads there are too many others.
fn nearly_exhaustively(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// Runs `act` on a thread of its own. The flag is raised when it has returned.
fn apart(cell: &Arc<Entry>, act: impl FnOnce(&Entry) + 'static) -> (thread::JoinHandle<()>, Flag) {
    let (cell, over) = (Arc::clone(cell), Flag::new());
    let raised = over.clone();
    let thread = thread::spawn(move || {
        act(&cell);
        raised.raise();
    });
    (thread, over)
}

/// Who reads while a first token comes is given nothing, or it, and never again nothing.
pub fn a_first_token_comes() {
    exhaustively(|| {
        let cell = cell();
        let first = token(&cell, "first");
        let (writer, over) = apart(&cell, move |cell| cell.publish(first));
        let mut seen = false;
        for round in 0..3 {
            let known = over.is_raised();
            let given = if round == 1 { lent(&cell) } else { taken(&cell) };
            assert!(given.as_deref().is_none_or(|text| text == "first"));
            assert!(given.is_some() || !(seen || known), "it was there before");
            seen |= given.is_some();
        }
        writer.join().unwrap();
        learn(&cell, "first");
    });
}

/// Who remembers a token is given it until another has come, and then no more.
pub fn a_remembered_token_is_replaced() {
    exhaustively(|| {
        let cell = cell();
        cell.publish(token(&cell, "first"));
        learn(&cell, "first");
        let second = token(&cell, "second");
        let (writer, over) = apart(&cell, move |cell| cell.publish(second));
        let mut seen = false;
        for _ in 0..3 {
            let known = over.is_raised();
            let given = taken(&cell).expect("one of the two is there");
            assert!(given == "second" || !(seen || known), "{given} after it was replaced");
            seen |= given == "second";
        }
        writer.join().unwrap();
        learn(&cell, "second");
    });
}

/// Once a token was withdrawn no thread is given it, though the thread remembers it.
pub fn a_remembered_token_is_withdrawn() {
    exhaustively(|| {
        let cell = cell();
        let first = token(&cell, "first");
        cell.publish(Arc::clone(&first));
        learn(&cell, "first");
        let (writer, over) = apart(&cell, move |cell| assert!(cell.withdraw(&first)));
        for round in 0..3 {
            let known = over.is_raised();
            let given = if round == 1 { lent(&cell) } else { taken(&cell) };
            assert!(!(known && given.is_some()), "given after it was withdrawn");
        }
        writer.join().unwrap();
        assert_eq!((taken(&cell), lent(&cell)), (None, None));
    });
}

/// Nor one that comes to know it just then.
pub fn a_token_is_withdrawn_while_it_is_learnt() {
    nearly_exhaustively(|| {
        let cell = cell();
        let first = token(&cell, "first");
        cell.publish(Arc::clone(&first));
        let (writer, over) = apart(&cell, move |cell| assert!(cell.withdraw(&first)));
        let (reader, _) = apart(&cell, {
            let over = over.clone();
            move |cell| {
                for _ in 0..3 {
                    let known = over.is_raised();
                    let given = taken(cell);
                    assert!(!(known && given.is_some()), "given after it was withdrawn");
                }
            }
        });
        let known = over.is_raised();
        let given = taken(&cell);
        assert!(!(known && given.is_some()), "given after it was withdrawn");
        writer.join().unwrap();
        assert_eq!(taken(&cell), None);
        reader.join().unwrap();
    });
}

/// A token is withdrawn while its successor comes: the successor stays, whichever is first.
pub fn a_token_is_withdrawn_while_another_comes() {
    nearly_exhaustively(|| {
        let cell = cell();
        let (first, second) = (token(&cell, "first"), token(&cell, "second"));
        cell.publish(Arc::clone(&first));
        let (refresher, _) = apart(&cell, move |cell| cell.publish(second));
        let (caller, refused) = apart(&cell, move |cell| {
            let _was_current = cell.withdraw(&first);
        });
        for _ in 0..2 {
            let known = refused.is_raised();
            let given = taken(&cell);
            assert!(!known || given.as_deref() != Some("first"), "given after it was withdrawn");
        }
        refresher.join().unwrap();
        caller.join().unwrap();
        learn(&cell, "second");
    });
}

/// Two writers at once: what remains is one's token, and each reader agrees on which.
pub fn two_tokens_come_at_once() {
    nearly_exhaustively(|| {
        let cell = cell();
        cell.publish(token(&cell, "old"));
        learn(&cell, "old");
        let (one, other) = (token(&cell, "one"), token(&cell, "other"));
        let (first, _) = apart(&cell, move |cell| cell.publish(one));
        let (second, _) = apart(&cell, move |cell| cell.publish(other));
        let given = [taken(&cell).unwrap(), taken(&cell).unwrap()];
        assert!(given[0] == "old" || given[1] != "old", "{given:?}");
        first.join().unwrap();
        second.join().unwrap();
        let last = cell.peek().unwrap().secret().to_owned();
        assert_ne!(last, "old");
        learn(&cell, &last);
    });
}

/// Two writers, and a reader who comes to know each token as soon as it is there: what the last one brought is what
/// the reader is given in the end, whatever it remembers.
pub fn a_reader_follows_two_writers() {
    nearly_exhaustively(|| {
        let cell = cell();
        let one = token(&cell, "one");
        cell.publish(Arc::clone(&one));
        let other = token(&cell, "other");
        let (writer, _) = apart(&cell, move |cell| {
            cell.publish(Arc::clone(&other));
        });
        let (caller, _) = apart(&cell, move |cell| {
            cell.withdraw(&one);
        });
        for _ in 0..2 {
            let _learnt = taken(&cell);
        }
        writer.join().unwrap();
        caller.join().unwrap();
        learn(&cell, "other");
    });
}

/// A fetch lands in an entry while that is evicted: nobody is given what it brought, since nobody could withdraw it.
pub fn a_token_comes_while_its_entry_is_evicted() {
    nearly_exhaustively(|| {
        let cell = cell();
        cell.publish(token(&cell, "first"));
        learn(&cell, "first");
        let second = token(&cell, "second");
        let (refresher, landed) = apart(&cell, move |cell| cell.publish(second));
        let (cache, evicted) = apart(&cell, |cell| drop(cell.detach()));
        let known = evicted.is_raised();
        assert!(!(known && cell.is_attached()));
        let both = known && landed.is_raised();
        let given = taken(&cell);
        assert!(!both || given.is_none(), "given out of an evicted entry");
        refresher.join().unwrap();
        cache.join().unwrap();
        assert!(cell.peek().is_none() && taken(&cell).is_none() && lent(&cell).is_none());
    });
}

/// Whoever evicts an entry takes its token from those who remember it.
pub fn a_remembered_entry_is_evicted() {
    exhaustively(|| {
        let cell = cell();
        cell.publish(token(&cell, "first"));
        learn(&cell, "first");
        let (cache, evicted) = apart(&cell, |cell| drop(cell.detach()));
        for _ in 0..3 {
            let known = evicted.is_raised();
            let given = taken(&cell);
            assert!(!known || given.is_none(), "given out of an evicted entry");
        }
        cache.join().unwrap();
        assert_eq!(taken(&cell), None);
    });
}

/// A worker's own reader lends what it holds without a look at the token. Never after that was withdrawn.
pub fn a_reader_of_its_own_sees_a_withdrawal() {
    exhaustively(|| {
        let cell = cell();
        let first = token(&cell, "first");
        cell.publish(Arc::clone(&first));
        let mut view = View::default();
        assert!(view.look(&cell, at(1)) && view.is_good(&cell, at(1)));
        let (writer, over) = apart(&cell, move |cell| assert!(cell.withdraw(&first)));
        for _ in 0..3 {
            let known = over.is_raised();
            let lent = read(&mut view, &cell);
            assert!(!known || lent.is_none(), "lent after it was withdrawn");
        }
        writer.join().unwrap();
        assert_eq!(read(&mut view, &cell), None);
    });
}

/// Nor one that was replaced or evicted.
pub fn a_reader_of_its_own_follows_its_entry() {
    nearly_exhaustively(|| {
        let cell = cell();
        cell.publish(token(&cell, "first"));
        let mut view = View::default();
        assert!(view.look(&cell, at(1)));
        let second = token(&cell, "second");
        let (refresher, landed) = apart(&cell, move |cell| cell.publish(second));
        let (cache, evicted) = apart(&cell, |cell| drop(cell.detach()));
        for _ in 0..2 {
            let (replaced, gone) = (landed.is_raised(), evicted.is_raised());
            let lent = read(&mut view, &cell);
            assert!(!replaced || lent.as_deref() != Some("first"), "lent after it was replaced");
            assert!(!(replaced && gone) || lent.is_none(), "lent out of an evicted entry");
        }
        refresher.join().unwrap();
        cache.join().unwrap();
        assert_eq!(read(&mut view, &cell), None);
    });
}

/// A request remembers its entry, and where that was evicted the one that took its place.
pub fn a_request_follows_its_entry() {
    nearly_exhaustively(|| {
        let request = Arc::new(TokenRequest::new("https://vault.azure.net/.default").unwrap());
        let (old, new) = (cell(), cell());
        old.publish(token(&old, "old"));
        new.publish(token(&new, "new"));
        request.remember(1, &erased(&old));
        let (finder, found) = apart(&old, {
            let (request, new) = (Arc::clone(&request), erased(&new));
            move |old| {
                drop(old.detach());
                request.remember(1, &new);
            }
        });
        let other = thread::spawn({
            let (request, new) = (Arc::clone(&request), erased(&new));
            move || request.remember(1, &new)
        });
        for _ in 0..2 {
            let known = found.is_raised();
            let given = request.take(1, at(1)).map(|token| token.secret().to_owned());
            assert!(!known || given.as_deref() == Some("new"), "{given:?} from a request that was told");
            assert!(request.take(2, at(1)).is_none(), "another broker's");
        }
        finder.join().unwrap();
        other.join().unwrap();
        assert!(request.take(1, at(1)).is_some_and(|token| token.secret() == "new"));
    });
}

/// Marks and quiet times are written without order. None gets lost that eviction needs, and none makes a token be
/// served in its last call.
pub fn marks_and_quiet_times_race() {
    nearly_exhaustively(|| {
        let cell = cell();
        cell.publish(token(&cell, "first"));
        let second = token(&cell, "second");
        let (refresher, _) = apart(&cell, move |cell| {
            cell.set_quiet_until(0);
            cell.publish(second);
        });
        let (other, _) = apart(&cell, |cell| {
            cell.set_quiet_until(u64::MAX);
            assert!(cell.take(at(2 * HOUR)).is_none(), "served in its last call");
        });
        // Fresh it is served whatever the quiet time, due it may be, and either way it is used.
        assert!(cell.take(at(HOUR / 2)).is_some());
        let _due = cell.take(at(HOUR));
        refresher.join().unwrap();
        other.join().unwrap();
        let standing = cell.standing(at(1));
        assert!(standing.alive && standing.used != 0, "a use was lost");
    });
}
