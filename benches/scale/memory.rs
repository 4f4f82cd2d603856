//! What a key costs in memory, beyond its token's bytes.

use std::{error::Error, fs, time::Duration};

use stats_alloc::Region;

use crate::{
    ALLOCATOR,
    keys::{Keys, TOKEN_LENGTH, broker},
};

/// As Entra's tokens live. Where they lie apart, a small cache pays some more for each alarm.
const HOUR: Duration = Duration::from_secs(3_599);

pub(crate) fn run(sizes: &[usize]) -> Result<(), Box<dyn Error>> {
    println!("\nbytes a key, its own strings included, beyond the {TOKEN_LENGTH} of its token\n");
    println!("{:>10} {:>28} {:>34}", "keys", "asked of the allocator", "resident, so with its rounding");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for &size in sizes {
        let keys = Keys::new()?;
        let broker = broker(size, [HOUR, HOUR])?;
        // The scheduler, the thread's own memory and the like.
        runtime.block_on(broker.get_token(&keys.request(0)?))?;
        let (region, resident) = (Region::new(ALLOCATOR), vm_resident());
        for n in 1..size {
            let token = runtime.block_on(broker.get_token(&keys.request(n)?))?;
            drop(token.authorization());
        }
        let change = region.change();
        let live = change.bytes_allocated as f64 - change.bytes_deallocated as f64;
        let resident = vm_resident().zip(resident).map(|(after, before)| after - before);
        let a_key = |bytes: f64| bytes / (size - 1) as f64 - TOKEN_LENGTH as f64;
        let shown =
            resident.filter(|_| size >= 10_000).map_or("–".into(), |bytes| format!("{:.0}", a_key(bytes)));
        println!("{size:>10} {:>28.0} {shown:>34}", a_key(live));
        if broker.metrics().entries != size {
            return Err("not all keys are in the cache".into());
        }
    }
    println!("\nEach token was read, and its header value as well: both share its one buffer.");
    Ok(())
}

/// Of this process, where the system says it.
fn vm_resident() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().ok().map(|kib| kib * 1024.0)
}
