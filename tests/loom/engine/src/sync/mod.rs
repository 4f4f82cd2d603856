//! The library's `sync.rs` as shuttle has it. Atomics are sequentially consistent here, whatever they ask for: weak
//! orderings are the business of the model `cell`.

mod runtime;
mod signals;

pub(crate) use std::sync::{
    Arc, OnceLock, Weak,
    atomic::{AtomicU64 as StaticU64, AtomicUsize as StaticUsize},
};

pub(crate) use shuttle::{
    future::yield_now,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

pub(crate) use runtime::{Handle, Runtime, panic_here, panicking};
pub(crate) use signals::{Notify, watch};

use std::{cell::Cell, fmt, ops::Deref, sync::PoisonError};

/// What is ready first is chosen first, so that a schedule that failed fails again.
macro_rules! biased_select {
    (biased; $($branches:tt)*) => { tokio::select! { biased; $($branches)* } };
    ($($branches:tt)*) => { tokio::select! { biased; $($branches)* } };
}
pub(crate) use biased_select as select;

/// As the library declares what a thread has for itself, which in a model is the model's thread or task.
macro_rules! per_thread {
    ($($(#[$attr:meta])* static $name:ident: $t:ty = const { $init:expr };)*) => {
        $($(#[$attr])*
        static $name: $crate::sync::LocalKey<$t> = {
            shuttle::thread_local! { static INNER: $t = $init; }
            $crate::sync::LocalKey(&INNER)
        };)*
    };
}
pub(crate) use per_thread as thread_local;

pub(crate) struct LocalKey<T: 'static>(pub(crate) &'static shuttle::thread::LocalKey<T>);

impl<T> LocalKey<T> {
    pub(crate) fn try_with<R>(
        &'static self,
        run: impl FnOnce(&T) -> R,
    ) -> Result<R, shuttle::thread::AccessError> {
        self.0.try_with(run)
    }
}

/// A thread's own number, which stays until the thread has gone; shuttle's goes with everything else, and then this
/// forgets.
impl LocalKey<Cell<usize>> {
    pub(crate) fn get(&'static self) -> usize {
        self.try_with(Cell::get).unwrap_or(usize::MAX)
    }

    pub(crate) fn set(&'static self, value: usize) {
        self.replace(value);
    }

    pub(crate) fn replace(&'static self, value: usize) -> usize {
        self.try_with(|cell| cell.replace(value)).unwrap_or(usize::MAX)
    }
}

/// Of the same face as `parking_lot`'s.
#[derive(Default)]
pub(crate) struct Mutex<T: ?Sized>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(shuttle::sync::Mutex::new(value))
    }
}

impl<T: ?Sized> Mutex<T> {
    pub(crate) fn lock(&self) -> shuttle::sync::MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: ?Sized> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex")
    }
}

/// Of the same face as `parking_lot`'s.
pub(crate) struct RwLock<T: ?Sized>(shuttle::sync::RwLock<T>);

impl<T> RwLock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(shuttle::sync::RwLock::new(value))
    }
}

impl<T: ?Sized> RwLock<T> {
    pub(crate) fn read(&self) -> shuttle::sync::RwLockReadGuard<'_, T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> shuttle::sync::RwLockWriteGuard<'_, T> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each operation is one step. What `arc-swap` orders is in the model `cell`.
pub(crate) struct ArcSwapOption<T>(Mutex<Option<Arc<T>>>);

impl<T> ArcSwapOption<T> {
    pub(crate) const fn new(value: Option<Arc<T>>) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) const fn empty() -> Self {
        Self::new(None)
    }

    pub(crate) fn load(&self) -> Loaded<T> {
        Loaded(self.load_full())
    }

    pub(crate) fn load_full(&self) -> Option<Arc<T>> {
        self.0.lock().clone()
    }

    pub(crate) fn store(&self, value: Option<Arc<T>>) {
        drop(self.swap(value));
    }

    pub(crate) fn swap(&self, value: Option<Arc<T>>) -> Option<Arc<T>> {
        std::mem::replace(&mut *self.0.lock(), value)
    }

    pub(crate) fn compare_and_swap(&self, current: &Option<Arc<T>>, new: Option<Arc<T>>) -> Loaded<T> {
        let mut value = self.0.lock();
        let same = value.as_ref().map(Arc::as_ptr) == current.as_ref().map(Arc::as_ptr);
        Loaded(if same { std::mem::replace(&mut *value, new) } else { value.clone() })
    }
}

impl<T> Default for ArcSwapOption<T> {
    fn default() -> Self {
        Self::empty()
    }
}

pub(crate) struct Loaded<T>(Option<Arc<T>>);

impl<T> Deref for Loaded<T> {
    type Target = Option<Arc<T>>;

    fn deref(&self) -> &Option<Arc<T>> {
        &self.0
    }
}
