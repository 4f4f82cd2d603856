//! The library's `sync.rs` as loom has it. What loom does not know is built of what it knows, or taken on trust.

pub(crate) use std::sync::{Arc, OnceLock, Weak};

pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Statics outlive an execution, so they are not loom's.
pub(crate) use std::sync::atomic::AtomicU64 as StaticU64;

/// As the library declares what a thread has for itself, which in a model is the model's thread.
macro_rules! per_thread {
    ($(#[$attr:meta])* static $name:ident: $t:ty = const { $init:expr };) => {
        loom::thread_local! { $(#[$attr])* static $name: $t = $init; }
    };
}
pub(crate) use per_thread as thread_local;

/// Where stores and read-modify-writes of one word meet, loom does not keep the latter atomic: it may order a store
/// between the two halves. A store that is a swap it orders as the machine does.
#[derive(Default)]
pub(crate) struct AtomicU32(loom::sync::atomic::AtomicU32);

impl AtomicU32 {
    pub(crate) fn new(value: u32) -> Self {
        Self(loom::sync::atomic::AtomicU32::new(value))
    }

    pub(crate) fn store(&self, value: u32, order: Ordering) {
        self.0.swap(value, order);
    }
}

impl std::ops::Deref for AtomicU32 {
    type Target = loom::sync::atomic::AtomicU32;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// Of the same face as `parking_lot`'s.
pub(crate) struct Mutex<T: ?Sized>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }
}

impl<T: ?Sized> Mutex<T> {
    pub(crate) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        // No model goes on after a panic.
        self.0.lock().unwrap()
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// As much as `arc-swap` promises and no more: a load acquires what a store released, and that is all that orders them.
/// That it keeps its promise is taken on trust.
///
/// What was ever stored is kept for as long as the swap lives, as if some caller still held it. So it can be had again
/// by whoever remembers it, which is the worst case.
pub(crate) struct ArcSwapOption<T> {
    /// Which of `stored`; 0: none.
    current: AtomicUsize,
    /// Not loom's, since it orders nothing: no thread is interrupted while it looks in here.
    stored: std::sync::Mutex<Vec<Arc<T>>>,
}

impl<T> ArcSwapOption<T> {
    pub(crate) fn new(value: Option<Arc<T>>) -> Self {
        let stored: Vec<_> = value.into_iter().collect();
        Self { current: AtomicUsize::new(stored.len()), stored: std::sync::Mutex::new(stored) }
    }

    pub(crate) fn empty() -> Self {
        Self::new(None)
    }

    fn at(&self, place: usize) -> Option<Arc<T>> {
        Some(Arc::clone(&self.stored.lock().unwrap()[place.checked_sub(1)?]))
    }

    /// A place of its own, so that what is stored twice is told apart.
    fn place(&self, value: Option<Arc<T>>) -> usize {
        let Some(value) = value else { return 0 };
        let mut stored = self.stored.lock().unwrap();
        stored.push(value);
        stored.len()
    }

    pub(crate) fn load(&self) -> Loaded<T> {
        Loaded(self.load_full())
    }

    pub(crate) fn load_full(&self) -> Option<Arc<T>> {
        self.at(self.current.load(Ordering::Acquire))
    }

    pub(crate) fn store(&self, value: Option<Arc<T>>) {
        drop(self.swap(value));
    }

    pub(crate) fn swap(&self, value: Option<Arc<T>>) -> Option<Arc<T>> {
        self.at(self.current.swap(self.place(value), Ordering::AcqRel))
    }

    pub(crate) fn compare_and_swap(&self, current: &Option<Arc<T>>, new: Option<Arc<T>>) -> Loaded<T> {
        let new = self.place(new);
        let mut before = self.current.load(Ordering::Acquire);
        loop {
            let value = self.at(before);
            if value.as_ref().map(Arc::as_ptr) != current.as_ref().map(Arc::as_ptr) {
                return Loaded(value);
            }
            match self.current.compare_exchange(before, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Loaded(value),
                Err(other) => before = other,
            }
        }
    }
}

impl<T> Default for ArcSwapOption<T> {
    fn default() -> Self {
        Self::empty()
    }
}

pub(crate) struct Loaded<T>(Option<Arc<T>>);

impl<T> std::ops::Deref for Loaded<T> {
    type Target = Option<Arc<T>>;

    fn deref(&self) -> &Option<Arc<T>> {
        &self.0
    }
}
