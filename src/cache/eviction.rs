//! Who goes when there is no room: the dead first, then the least used.

use super::shard::Table;
use crate::{cell::Cell, clock::Now, sync::Arc};

/// How many entries are compared. In a shard of no more than these the choice is exact; in a larger one they are
/// drawn at random, and one of the worst tenth goes with a probability of 1 − 0.9³² = 97 %.
const SAMPLE: usize = 32;

/// The entry that is missed least among those looked at, never `newcomer`.
pub(super) fn choose<S>(table: &Table<S>, now: Now, newcomer: &Arc<Cell<S>>) -> Option<Arc<Cell<S>>> {
    // An entry's place in the table follows from its hash: neighbours have nothing in common.
    let places = table.num_buckets();
    let start = if table.len() <= SAMPLE { 0 } else { fastrand::usize(..places) };
    (0..places)
        .filter_map(|n| table.get_bucket((start + n) % places))
        .take(SAMPLE)
        .filter(|cell| !Arc::ptr_eq(cell, newcomer))
        .min_by_key(|cell| cell.standing(now))
        .cloned()
}
