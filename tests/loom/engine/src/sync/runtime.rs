//! Runtimes that can be parked and shut down at any moment, and tasks that panic without unwinding the model.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::Pin,
    sync::Mutex as Unscheduled,
    task::{Poll, Waker},
};

use super::{Arc, AtomicBool, Mutex, Ordering};

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// As much of a tokio runtime as the engine depends on.
pub(crate) struct Runtime {
    /// By which a test tells who did what.
    pub(crate) name: &'static str,
    parked: AtomicBool,
    over: AtomicBool,
    tasks: Mutex<Vec<Arc<Task>>>,
}

struct Task {
    /// Locked while it is polled, and while it is dropped.
    work: Mutex<Option<Work>>,
    waker: Unscheduled<Option<Waker>>,
}

shuttle::thread_local! {
    static CURRENT: RefCell<Option<Arc<Runtime>>> = RefCell::new(None);
    static PANICS: Cell<bool> = Cell::new(false);
    static UNWINDS: Cell<bool> = Cell::new(false);
}

thread_local! {
    /// Those of this execution, of which all tasks share one of the machine's threads.
    static ALL: RefCell<Vec<Arc<Runtime>>> = const { RefCell::new(Vec::new()) };
}

impl Runtime {
    pub(crate) fn new(name: &'static str) -> Arc<Self> {
        let (parked, over) = (AtomicBool::new(false), AtomicBool::new(false));
        let runtime = Arc::new(Self { name, parked, over, tasks: Mutex::default() });
        ALL.with_borrow_mut(|all| all.push(Arc::clone(&runtime)));
        runtime
    }

    /// Those of an execution that failed.
    pub(crate) fn forget_all() {
        std::mem::forget(ALL.take());
    }

    /// Ends what is left of an execution: shuttle would unwind tasks in the middle of what they do.
    pub(crate) fn shut_all_down() {
        ALL.take().iter().for_each(|runtime| runtime.shut_down());
    }

    /// Which one the caller is on.
    pub(crate) fn current() -> Option<Arc<Self>> {
        CURRENT.try_with(|current| current.borrow().clone()).ok().flatten()
    }

    /// Runs a caller on it, who is not ended with it.
    pub(crate) fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> shuttle::future::JoinHandle<T> {
        let runtime = Arc::clone(self);
        shuttle::future::spawn(async move {
            CURRENT.with(|current| current.replace(Some(runtime)));
            work.await
        })
    }

    /// No task goes on until it is unparked.
    pub(crate) fn park(&self) {
        self.parked.store(true, Ordering::SeqCst);
    }

    pub(crate) fn unpark(&self) {
        self.parked.store(false, Ordering::SeqCst);
        let tasks: Vec<_> = self.tasks.lock().iter().map(Arc::clone).collect();
        for waker in tasks.iter().filter_map(|task| task.waker.lock().unwrap().take()) {
            waker.wake();
        }
    }

    /// Its tasks are dropped where they stand, as when a runtime shuts down.
    pub(crate) fn shut_down(&self) {
        self.over.store(true, Ordering::SeqCst);
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            drop(task.work.lock().take());
        }
    }

    fn spawn(self: &Arc<Self>, work: Work) {
        let task = Arc::new(Task { work: Mutex::new(Some(work)), waker: Unscheduled::new(None) });
        {
            let mut tasks = self.tasks.lock();
            if self.over.load(Ordering::SeqCst) {
                drop(tasks);
                return drop(task);
            }
            tasks.push(Arc::clone(&task));
        }
        let runtime = Arc::clone(self);
        drop(shuttle::future::spawn(async move {
            CURRENT.with(|current| current.replace(Some(Arc::clone(&runtime))));
            poll_fn(|cx| {
                *task.waker.lock().unwrap() = Some(cx.waker().clone());
                if runtime.parked.load(Ordering::SeqCst) {
                    return Poll::Pending;
                }
                task.poll(cx)
            })
            .await;
        }));
    }
}

impl Task {
    fn poll(&self, cx: &mut std::task::Context<'_>) -> Poll<()> {
        let mut work = self.work.lock();
        let Some(running) = &mut *work else { return Poll::Ready(()) };
        if running.as_mut().poll(cx).is_pending() {
            if !PANICS.with(|panics| panics.replace(false)) {
                return Poll::Pending;
            }
            UNWINDS.with(|unwinds| unwinds.set(true));
            *work = None;
            UNWINDS.with(|unwinds| unwinds.set(false));
        }
        *work = None;
        Poll::Ready(())
    }
}

/// Panics, as far as the task's own values can tell: they are dropped while [`panicking`] says so. A panic that unwinds
/// would be one for all of the model's threads, which share one of the machine's.
pub(crate) async fn panic_here() -> ! {
    PANICS.with(|panics| panics.set(true));
    std::future::pending().await
}

pub(crate) fn panicking() -> bool {
    UNWINDS.try_with(Cell::get).unwrap_or(false)
}

pub(crate) struct Handle(Arc<Runtime>);

/// Nobody joins what the engine spawns.
pub(crate) struct Spawned;

/// There is no runtime here.
#[derive(Debug)]
pub(crate) struct NoRuntime;

impl Handle {
    pub(crate) fn try_current() -> Result<Self, NoRuntime> {
        Runtime::current().map(Self).ok_or(NoRuntime)
    }

    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> Spawned {
        self.0.spawn(Box::pin(work));
        Spawned
    }
}
