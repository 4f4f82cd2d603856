//! Locks, atomics, swaps and tasks in one place, so that a model checker can stand in for them.
//!
//! What `tests/loom` checks takes them from here and from nowhere else.

pub(crate) use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    thread::panicking,
    thread_local,
};

pub(crate) use arc_swap::ArcSwapOption;
pub(crate) use parking_lot::{Condvar, Mutex, RwLock};
pub(crate) use tokio::{
    runtime::Handle,
    select,
    sync::{Notify, watch},
    task::yield_now,
};

/// In statics: made when the program is compiled, as no model checker's are.
pub(crate) use std::sync::atomic::{AtomicU64 as StaticU64, AtomicUsize as StaticUsize};
