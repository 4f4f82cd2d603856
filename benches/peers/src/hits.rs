//! One key, read again and again, on one thread and on two.

use std::collections::BTreeSet;

use crate::{
    Failure,
    contestants::{BUILDING, Fixture, POLICY, WHAT},
    counting::counted,
    results::{Figures, Hits},
    windows::{Contestant, Plan, measure},
};

pub(crate) fn hits(smoke: bool) -> Result<Hits, Failure> {
    let fixture = Fixture::new()?;
    let contestants = fixture.contestants();
    let plan = Plan::new(smoke);
    let speeds = measure(&contestants, &plan);
    let mut hits = Hits {
        windows: plan.windows,
        hit_ns: Figures::new(),
        total_mops_2_threads: Figures::new(),
        allocs_per_hit: Figures::new(),
        bytes_per_hit: Figures::new(),
    };
    for (contestant, speed) in contestants.iter().zip(speeds) {
        let name = || contestant.name.to_owned();
        let (allocations, bytes) = allocations(contestant);
        hits.hit_ns.insert(name(), speed.ns);
        hits.total_mops_2_threads.insert(name(), speed.total_mops);
        hits.allocs_per_hit.insert(name(), allocations);
        hits.bytes_per_hit.insert(name(), bytes);
    }
    subtract(&mut hits).ok_or("nothing to subtract")?;
    let figures = [&mut hits.hit_ns, &mut hits.total_mops_2_threads];
    figures.into_iter().flat_map(|figures| figures.values_mut()).for_each(|value| *value = rounded(*value));
    if !hits.hit_ns.keys().map(String::as_str).eq(WHAT.iter().map(|(name, _)| *name).collect::<BTreeSet<_>>())
    {
        return Err("the table's rows are not who took part".into());
    }
    Ok(hits)
}

/// The policy sends a request that someone has to make, and hands on an answer: what that costs is none of its own.
fn subtract(hits: &mut Hits) -> Option<()> {
    for figures in [&mut hits.hit_ns, &mut hits.allocs_per_hit, &mut hits.bytes_per_hit] {
        let building = figures.remove(BUILDING)?;
        *figures.get_mut(POLICY)? -= building;
    }
    // Of two threads that share nothing of it, each spends that time on its own.
    let building = hits.total_mops_2_threads.remove(BUILDING)?;
    let policy = hits.total_mops_2_threads.get_mut(POLICY)?;
    *policy = 1.0 / (1.0 / *policy - 1.0 / building);
    Some(())
}

/// Allocations and bytes for each hit.
fn allocations(contestant: &Contestant<'_>) -> (f64, f64) {
    const HITS: u64 = 1_000;
    (contestant.run)(1);
    let ((), counted) = counted(|| (contestant.run)(HITS));
    (counted.allocations as f64 / HITS as f64, counted.bytes as f64 / HITS as f64)
}

pub(crate) fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
