//! `tokio::sync::watch` and `Notify`, as far as the engine uses them, over shuttle's locks.

use std::{
    future::poll_fn,
    task::{Context, Poll, Waker},
};

use super::{Arc, Mutex};

/// Those who wait. Each registers anew when it is polled, and one that was dropped is woken in vain.
#[derive(Default)]
struct Waiters(Vec<Waker>);

impl Waiters {
    fn register(&mut self, cx: &Context<'_>) {
        if !self.0.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.0.push(cx.waker().clone());
        }
    }

    fn take(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.0)
    }
}

fn wake(wakers: Vec<Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

/// One permit at most, as `tokio`'s.
#[derive(Default)]
pub(crate) struct Notify(Mutex<(bool, Waiters)>);

impl Notify {
    pub(crate) fn notify_one(&self) {
        let waiting = {
            let mut state = self.0.lock();
            state.0 = true;
            state.1.take()
        };
        wake(waiting);
    }

    pub(crate) async fn notified(&self) {
        poll_fn(|cx| {
            let mut state = self.0.lock();
            if std::mem::take(&mut state.0) {
                return Poll::Ready(());
            }
            state.1.register(cx);
            Poll::Pending
        })
        .await;
    }
}

pub(crate) mod watch {
    use std::{future::poll_fn, ops::Deref, task::Poll};

    use shuttle::sync::MutexGuard;

    use super::{Arc, Mutex, Waiters, wake};

    struct State<T> {
        value: T,
        version: u64,
        closed: bool,
        waiters: Waiters,
    }

    pub(crate) struct Sender<T>(Arc<Mutex<State<T>>>);

    pub(crate) struct Receiver<T> {
        shared: Arc<Mutex<State<T>>>,
        seen: u64,
    }

    pub(crate) struct Ref<'a, T>(MutexGuard<'a, State<T>>);

    /// The sender is gone.
    #[derive(Debug)]
    pub(crate) struct Closed;

    impl<T> Deref for Ref<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.0.value
        }
    }

    impl<T> Sender<T> {
        pub(crate) fn new(value: T) -> Self {
            let state = State { value, version: 0, closed: false, waiters: Waiters::default() };
            Self(Arc::new(Mutex::new(state)))
        }

        pub(crate) fn subscribe(&self) -> Receiver<T> {
            let seen = self.0.lock().version;
            Receiver { shared: Arc::clone(&self.0), seen }
        }

        pub(crate) fn borrow(&self) -> Ref<'_, T> {
            Ref(self.0.lock())
        }

        pub(crate) fn send_if_modified(&self, modify: impl FnOnce(&mut T) -> bool) -> bool {
            let (modified, waiting) = {
                let mut state = self.0.lock();
                let modified = modify(&mut state.value);
                state.version += u64::from(modified);
                (modified, if modified { state.waiters.take() } else { Vec::new() })
            };
            wake(waiting);
            modified
        }

        pub(crate) fn send_modify(&self, modify: impl FnOnce(&mut T)) {
            self.send_if_modified(|value| {
                modify(value);
                true
            });
        }

        pub(crate) fn send_replace(&self, value: T) -> T {
            let mut value = value;
            self.send_modify(|current| std::mem::swap(current, &mut value));
            value
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            let waiting = {
                let mut state = self.0.lock();
                state.closed = true;
                state.waiters.take()
            };
            wake(waiting);
        }
    }

    impl<T> Receiver<T> {
        pub(crate) fn borrow(&self) -> Ref<'_, T> {
            Ref(self.shared.lock())
        }

        pub(crate) fn borrow_and_update(&mut self) -> Ref<'_, T> {
            let state = self.shared.lock();
            self.seen = state.version;
            Ref(state)
        }

        pub(crate) async fn changed(&mut self) -> Result<(), Closed> {
            let Self { shared, seen } = self;
            poll_fn(|cx| {
                let mut state = shared.lock();
                if state.version != *seen {
                    *seen = state.version;
                    return Poll::Ready(Ok(()));
                }
                if state.closed {
                    return Poll::Ready(Err(Closed));
                }
                state.waiters.register(cx);
                Poll::Pending
            })
            .await
        }

        pub(crate) async fn wait_for(
            &mut self,
            mut until: impl FnMut(&T) -> bool,
        ) -> Result<Ref<'_, T>, Closed> {
            loop {
                let met = until(&self.borrow_and_update());
                if met {
                    return Ok(self.borrow());
                }
                self.changed().await?;
            }
        }
    }
}
