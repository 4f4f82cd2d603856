//! Locks, atomics and swaps in one place, so that a model checker can stand in for them.

pub(crate) use std::sync::{
    Arc, OnceLock, Weak,
    atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

pub(crate) use arc_swap::ArcSwapOption;
pub(crate) use parking_lot::{Mutex, RwLock};
