//! What a hit costs: nanoseconds, allocations, instructions; and that it allocates nothing, or this exits with 1.
//!
//! `cargo bench --bench floor`, or with `-- --smoke` just to see that it works.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it found")]

#[path = "support/windows.rs"]
mod windows;

use std::{
    alloc::System,
    env,
    error::Error,
    hint::black_box,
    process::{Command, ExitCode},
    sync::Arc,
};

use entra_broker::{Broker, Handle, StaticToken, TokenRequest};
use hashbrown::HashTable;
use parking_lot::RwLock;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use windows::{Contestant, Plan, measure, ready, take};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SCOPE: &str = "https://vault.azure.net/.default";

/// As long as one of Entra's for an application with a few roles.
const TOKEN_LENGTH: usize = 1500;

const FLOOR: &str = "floor";

/// What each is to cost at most, in floors.
const AT_MOST: [(&str, f64); 5] = [
    ("get_token(&request)", 1.1),
    ("get_token(&str)", 1.8),
    ("handle.get()", 0.9),
    ("handle.with(…)", 0.65),
    ("reader.get()", 0.3),
];

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    let fixture = Fixture::new()?;
    let contestants = fixture.contestants();
    if let [flag, name, count] = args.as_slice()
        && flag == "--only"
    {
        return only(&contestants, name, count.parse()?);
    }

    // `cargo bench` says `--bench`; `cargo test --benches` does not.
    let smoke = has("--smoke") || has("--test") || !has("--bench");
    let speeds = measure(&contestants, &Plan::new(smoke));
    let allocations: Vec<usize> = contestants.iter().map(allocations).collect();
    let instructions: Vec<Result<f64, String>> = contestants
        .iter()
        .map(|contestant| if smoke { Err("this is a smoke run".into()) } else { instructions(contestant) })
        .collect();

    println!("a cached token of {TOKEN_LENGTH} bytes; medians; M/s in total: two threads, the same key\n");
    println!(
        "{:<24} {:>7} {:>8} {:>8} {:>12} {:>12} {:>13}",
        "", "ns", "× floor", "at most", "M/s in total", "allocations", "instructions"
    );
    let floor = contestants
        .iter()
        .zip(&speeds)
        .find(|(one, _)| one.name == FLOOR)
        .map_or(f64::NAN, |(_, speed)| speed.ns);
    for (at, contestant) in contestants.iter().enumerate() {
        let speed = &speeds[at];
        let counted =
            instructions[at].as_ref().map_or_else(|_| "–".to_owned(), |count| format!("{count:.0}"));
        println!(
            "{:<24} {:>7.1} {:>8.2} {:>8} {:>12.1} {:>12} {counted:>13}",
            contestant.name,
            speed.ns,
            speed.ns / floor,
            at_most(contestant.name),
            speed.total_mops,
            per_hit(allocations[at]),
        );
    }
    println!(
        "\nfloor: what a lock around a map would cost at least on this machine: read lock, lookup by a hash that is"
    );
    println!("known, Arc clone and drop, wall and monotonic coarse clock.");
    match instructions.iter().find_map(|counted| counted.as_ref().err()) {
        Some(reason) => println!("instructions: not measured: {reason}"),
        None => println!("instructions: by callgrind, which counts a clock as the call into the kernel."),
    }
    if allocations.iter().any(|&count| count > 0) {
        println!("\nFAILED: a hit must not allocate");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// What is read over and over.
struct Fixture {
    broker: Broker,
    request: TokenRequest,
    handle: Handle,
    /// Of so many scopes that no thread can remember them.
    many: Vec<TokenRequest>,
    locked: RwLock<HashTable<(u64, Arc<str>)>>,
    /// On which the broker was warmed up.
    _runtime: tokio::runtime::Runtime,
}

impl Fixture {
    fn new() -> Result<Self, Box<dyn Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let broker = Broker::new(StaticToken::new("e".repeat(TOKEN_LENGTH))?)?;
        let request = TokenRequest::new(SCOPE)?;
        let handle = broker.handle(&request);
        runtime.block_on(async {
            broker.get_token(&request).await?;
            broker.get_token(SCOPE).await
        })?;
        // Others beside it, as in a service.
        for other in ["https://graph.microsoft.com/.default", "https://storage.azure.com/.default"] {
            runtime.block_on(broker.get_token(other))?;
        }
        let many = (0..1_000)
            .map(|key| TokenRequest::new(format!("https://resource-{key}.contoso.com/.default")))
            .collect::<Result<Vec<_>, _>>()?;
        for request in &many {
            runtime.block_on(broker.get_token(request))?;
        }
        let mut map = HashTable::new();
        for hash in KNOWN_HASHES {
            map.insert_unique(hash, (hash, Arc::from("e".repeat(TOKEN_LENGTH))), |&(hash, _)| hash);
        }
        Ok(Self { broker, request, handle, many, locked: RwLock::new(map), _runtime: runtime })
    }

    fn contestants(&self) -> Vec<Contestant<'_>> {
        let Self { broker, request, handle, many, locked, .. } = self;
        vec![
            Contestant::new(FLOOR, move |hits| {
                for _ in 0..hits {
                    let hash = black_box(KNOWN_HASHES[0]);
                    black_box(coarse_clocks());
                    let map = locked.read();
                    let token = map.find(hash, |entry| entry.0 == hash).map(|entry| Arc::clone(&entry.1));
                    drop(map);
                    drop(black_box(token));
                }
            }),
            Contestant::new("get_token(&request)", move |hits| {
                ready(async {
                    for _ in 0..hits {
                        take(broker.get_token(black_box(request)).await);
                    }
                });
            }),
            Contestant::new("  of 1,000 in turn", move |hits| {
                ready(async {
                    for request in many.iter().cycle().take(hits as usize) {
                        take(broker.get_token(black_box(request)).await);
                    }
                });
            }),
            Contestant::new("get_token(&str)", move |hits| {
                ready(async {
                    for _ in 0..hits {
                        take(broker.get_token(black_box(SCOPE)).await);
                    }
                });
            }),
            Contestant::new("handle.get()", move |hits| {
                ready(async {
                    for _ in 0..hits {
                        take(black_box(handle).get().await);
                    }
                });
            }),
            Contestant::new("handle.with(…)", move |hits| {
                for _ in 0..hits {
                    take(black_box(handle).with(|token| token.secret().len()).ok_or("nothing at hand"));
                }
            }),
            Contestant::new("reader.get()", move |hits| {
                let mut reader = handle.reader();
                for _ in 0..hits {
                    take(black_box(&mut reader).get().map(|token| token.secret().len()).ok_or("nothing"));
                }
            }),
            Contestant::new("peek(&request)", move |hits| {
                for _ in 0..hits {
                    take(broker.peek(black_box(request)).ok_or("nothing at hand"));
                }
            }),
        ]
    }
}

/// Far apart, as hashes are.
const KNOWN_HASHES: [u64; 3] = [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb];

#[cfg(target_os = "linux")]
#[inline]
fn coarse_clocks() -> (i64, i64) {
    use rustix::time::{ClockId, clock_gettime};
    let (wall, mono) = (clock_gettime(ClockId::RealtimeCoarse), clock_gettime(ClockId::MonotonicCoarse));
    (wall.tv_nsec, mono.tv_nsec)
}

/// There are none that are portable: those that the broker reads.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::disallowed_methods, reason = "the floor is what these cost")]
fn coarse_clocks() -> (std::time::SystemTime, std::time::Instant) {
    (std::time::SystemTime::now(), std::time::Instant::now())
}

const COUNTED: usize = 10_000;

/// In so many hits. A warm one, and no other thread runs meanwhile.
fn allocations(contestant: &Contestant<'_>) -> usize {
    (contestant.run)(1);
    let region = Region::new(ALLOCATOR);
    (contestant.run)(COUNTED as u64);
    let change = region.change();
    change.allocations + change.reallocations
}

fn at_most(name: &str) -> String {
    let target = AT_MOST.iter().find(|(one, _)| *one == name);
    target.map_or_else(|| "–".to_owned(), |(_, floors)| floors.to_string())
}

fn per_hit(allocations: usize) -> f64 {
    allocations as f64 / COUNTED as f64
}

/// The difference between many hits and few, so that what comes before the first one does not count.
fn instructions(contestant: &Contestant<'_>) -> Result<f64, String> {
    const FEW: u64 = 1_000;
    const MANY: u64 = 51_000;
    Ok((callgrind(contestant, MANY)? - callgrind(contestant, FEW)?) / (MANY - FEW) as f64)
}

fn callgrind(contestant: &Contestant<'_>, count: u64) -> Result<f64, String> {
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["--only", contestant.name, &count.to_string()])
        .output()
        .map_err(|_| "valgrind is not installed".to_owned())?;
    let said = String::from_utf8_lossy(&output.stderr);
    said.lines()
        .find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok())
        .filter(|_| output.status.success())
        .ok_or_else(|| "callgrind did not come to its end".to_owned())
}

/// One contestant, for callgrind or a profiler.
fn only(contestants: &[Contestant<'_>], name: &str, count: u64) -> Result<ExitCode, Box<dyn Error>> {
    let contestant = contestants.iter().find(|one| one.name == name).ok_or("no contestant of this name")?;
    (contestant.run)(count);
    Ok(ExitCode::SUCCESS)
}
