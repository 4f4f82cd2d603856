//! A runtime of one thread that tells when nothing can happen any more until time passes.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io,
    task::{Poll, Waker},
};

thread_local! {
    /// Who waits for this thread to have nothing to do.
    static WAITS: RefCell<Option<Waker>> = const { RefCell::new(None) };
    static PARKED: Cell<bool> = const { Cell::new(false) };
}

/// Runs a simulation on a runtime of its own. Without sockets and timers: all time in it is moved.
pub(crate) fn simulate<F: Future>(simulation: F) -> F::Output {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.on_thread_park(|| {
        if let Some(waiting) = WAITS.take() {
            PARKED.set(true);
            waiting.wake();
        }
    });
    builder.build().unwrap().block_on(simulation)
}

/// Ends when no task of this runtime has anything left to do now. Only within [`simulate`].
pub(crate) async fn quiet() {
    PARKED.set(false);
    poll_fn(|cx| {
        if PARKED.get() {
            return Poll::Ready(());
        }
        WAITS.set(Some(cx.waker().clone()));
        Poll::Pending
    })
    .await;
}

thread_local! {
    static HEARD: RefCell<String> = const { RefCell::new(String::new()) };
}

struct Ear;

impl io::Write for Ear {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        hear(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One more text in which no secret may stand.
pub(crate) fn hear(text: &str) {
    HEARD.with_borrow_mut(|heard| heard.push_str(text));
}

/// What `run` returns, and everything that was logged meanwhile on this thread, or [heard](hear). Not the log of all
/// threads, which is too long to be searched for everything that was given in a week.
pub(crate) fn listened<T>(run: impl FnOnce() -> T) -> (T, String) {
    HEARD.take();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).with_writer(|| Ear);
    let output = tracing::subscriber::with_default(subscriber.finish(), run);
    (output, HEARD.take())
}
