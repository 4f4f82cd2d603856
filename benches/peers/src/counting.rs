//! Counts allocations while it is told to, and costs next to nothing while it is not: a counter that always runs would
//! slow down whoever allocates, and so spoil the measurement of speed in the same process.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

pub(crate) struct Counting;

static ON: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
static FREED: AtomicU64 = AtomicU64::new(0);

fn count(size: usize) {
    if ON.load(Ordering::Relaxed) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(size as u64, Ordering::Relaxed);
    }
}

fn freed(size: usize) {
    if ON.load(Ordering::Relaxed) {
        FREED.fetch_add(size as u64, Ordering::Relaxed);
    }
}

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        freed(layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        freed(layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// What was asked of the allocator meanwhile, by all threads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    pub(crate) allocations: u64,
    pub(crate) bytes: u64,
    /// Bytes that were not given back again.
    pub(crate) kept: i64,
}

/// What `run` asks of the allocator, and its result.
pub(crate) fn counted<T>(run: impl FnOnce() -> T) -> (T, Counted) {
    let read = || [&ALLOCATIONS, &BYTES, &FREED].map(|counter| counter.load(Ordering::Relaxed));
    let before = read();
    ON.store(true, Ordering::Relaxed);
    let result = run();
    ON.store(false, Ordering::Relaxed);
    let after = read();
    let [allocations, bytes, freed] = [0, 1, 2].map(|at| after[at] - before[at]);
    (result, Counted { allocations, bytes, kept: bytes.cast_signed() - freed.cast_signed() })
}
