//! Who goes when there is no room: the dead first, then the least used.

use crate::{cell::Cell, clock::Now, sync::Arc};

/// How many entries are compared. In a shard of no more than these the choice is exact; in a larger one they are
/// drawn at random, and one of the worst tenth goes with a probability of 1 − 0.9³² = 97 %.
const SAMPLE: usize = 32;

/// The place of the entry that is missed least among those looked at, never `newcomer`'s.
pub(super) fn choose<S>(cells: &[Arc<Cell<S>>], now: Now, newcomer: &Arc<Cell<S>>) -> Option<usize> {
    let start = if cells.len() <= SAMPLE { 0 } else { fastrand::usize(..cells.len()) };
    // Cells stand in the order in which they came, so neighbours are alike: step by a prime to draw them apart.
    (0..SAMPLE.min(cells.len()))
        .map(|n| if cells.len() <= SAMPLE { n } else { (start + n * 7919) % cells.len() })
        .filter(|at| !Arc::ptr_eq(&cells[*at], newcomer))
        .min_by_key(|at| cells[*at].standing(now))
}
