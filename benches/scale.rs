//! A million viewers: what a hit costs among 10, 10,000 and 1,000,000 keys, what a key costs in memory, and whether readers
//! wait where keys come and go.
//!
//! `cargo bench --bench scale`, or with `-- --smoke` just to see that it works. The keys are tenant × viewer × scope; the
//! viewers' assertions stand for them. A part alone: `-- --only hits`, `memory` or `churn`.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it found")]
#![expect(clippy::disallowed_methods, reason = "a benchmark times what it measures with the standard clock")]

#[path = "scale/churn.rs"]
mod churn;
#[path = "scale/hits.rs"]
mod hits;
#[path = "scale/keys.rs"]
mod keys;
#[path = "scale/memory.rs"]
mod memory;
#[path = "support/windows.rs"]
mod windows;

use std::{alloc::System, env, error::Error, process::Command};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    // `cargo bench` says `--bench`; `cargo test --benches` does not.
    let smoke = has("--smoke") || has("--test") || !has("--bench");
    let sizes: &[usize] = if smoke { &[10, 1_000] } else { &[10, 10_000, 1_000_000] };
    let only = args.iter().position(|arg| arg == "--only").and_then(|at| args.get(at + 1));
    match only.map(String::as_str) {
        None => {}
        Some("hits") => return hits::run(sizes, smoke),
        Some("memory") => return memory::run(sizes),
        Some("churn") => return churn::run(smoke),
        Some(other) => return Err(format!("there is no part {other}").into()),
    }
    // Each in a process of its own, so that none inherits another's memory.
    for part in ["hits", "memory", "churn"] {
        let status = Command::new(env::current_exe()?).args(&args).args(["--only", part]).status()?;
        if !status.success() {
            return Err(format!("{part} failed").into());
        }
    }
    Ok(())
}
