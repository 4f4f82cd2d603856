//! What a million tokens cost that nobody asks for at the moment: bytes, the time of an idle process, and each refresh.
//!
//! `cargo bench --bench scheduler`, or with `-- --smoke` just to see that it works.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it found")]

use std::{
    alloc::System,
    env,
    error::Error,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, UNIX_EPOCH},
};

use entra_broker::{Broker, Clock, Fetched, FnProvider, TokenRequest};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Each of them is an hour's.
const LIVES: Duration = Duration::from_secs(3_600);

/// By then each is due, and none is in its last call.
const ALL_DUE: Duration = Duration::from_secs(2_500);

/// The cap on fetches in the background, as it is where nobody says otherwise.
const CAP: usize = 64;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    // `cargo bench` says `--bench`; `cargo test --benches` does not.
    let smoke = has("--smoke") || has("--test") || !has("--bench");
    let keys = if smoke { 10_000 } else { 1_000_000 };
    let idle = if smoke { Duration::from_millis(100) } else { Duration::from_secs(2) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;

    println!("{keys} keys, tokens of a few bytes that live an hour, one thread\n");
    let refreshed = refreshes(&runtime, keys)?;
    idles(&runtime, keys, idle)?;
    if refreshed.most_at_once > CAP {
        println!("\nFAILED: {} fetches at once, where {CAP} may be", refreshed.most_at_once);
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

struct Refreshed {
    most_at_once: usize,
}

/// All of them, on a clock that is moved: from the alarm to the new token in the cache, the provider's own part, which is
/// a future that lets others run once, included.
fn refreshes(runtime: &Runtime, keys: usize) -> Result<Refreshed, Box<dyn Error>> {
    let (clock, time) = Clock::manual(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    let (under_way, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let noted = Arc::clone(&most);
    let provider = FnProvider::new(move |cx, _| {
        let (under_way, noted) = (Arc::clone(&under_way), Arc::clone(&noted));
        Box::pin(async move {
            noted.fetch_max(under_way.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            under_way.fetch_sub(1, Ordering::Relaxed);
            Ok(Fetched::new("eyJ0eXAi", cx.clock().now(), LIVES))
        })
    });
    let broker = Broker::builder().clock(clock).capacity(2 * keys).seed(7).build(provider)?;

    let filling = Region::new(ALLOCATOR);
    let start = now();
    fill(runtime, &broker, keys)?;
    let filled = filling.change();
    row("a fetch that a caller waits for", start.elapsed(), filled, keys);
    println!("{:<44} {:>9.0} bytes", "an entry in all, token and key included", held(filled) / keys as f64);
    println!("{:<44} {:>9.1} bytes", "of which the scheduler's", scheduler_bytes(&broker) / keys as f64);

    most.store(0, Ordering::Relaxed);
    let refreshing = Region::new(ALLOCATOR);
    let start = now();
    let cpu = cpu_time();
    time.advance(ALL_DUE);
    runtime.block_on(async {
        while broker.metrics().refreshes < keys as u64 {
            tokio::task::yield_now().await;
        }
    });
    let cpu = cpu_time().saturating_sub(cpu);
    row("a refresh in the background", start.elapsed(), refreshing.change(), keys);
    println!("{:<44} {:>9.0} ns", "  of which this process ran", cpu.as_nanos() as f64 / keys as f64);
    let most_at_once = most.load(Ordering::Relaxed);
    println!("{:<44} {most_at_once:>9}", "  most at once, all being due");
    println!(
        "{:<44} {:>9.1} bytes",
        "the scheduler's part afterwards",
        scheduler_bytes(&broker) / keys as f64
    );
    Ok(Refreshed { most_at_once })
}

/// On the machine's clock: nothing is due for half an hour, so nothing should happen.
fn idles(runtime: &Runtime, keys: usize, pause: Duration) -> Result<(), Box<dyn Error>> {
    let mut idle = Vec::new();
    for keys in [1, keys] {
        let provider = FnProvider::new(move |cx, _| {
            let fetched = Fetched::new("eyJ0eXAi", cx.clock().now(), LIVES);
            Box::pin(async move { Ok(fetched) })
        });
        let broker = Broker::builder().capacity(2 * keys).seed(7).build(provider)?;
        fill(runtime, &broker, keys)?;
        let (region, cpu) = (Region::new(ALLOCATOR), cpu_time());
        runtime.block_on(sleep(pause));
        idle.push((keys, cpu_time().saturating_sub(cpu), region.change().allocations));
    }
    for (keys, cpu, allocations) in idle {
        let what = format!("{:.1} s in which nothing is due, {keys} keys", pause.as_secs_f64());
        println!(
            "{what:<44} {:>9.0} µs of the processor, {allocations} allocations",
            cpu.as_nanos() as f64 / 1e3
        );
    }
    Ok(())
}

fn fill(runtime: &Runtime, broker: &Broker, keys: usize) -> Result<(), Box<dyn Error>> {
    runtime.block_on(async {
        for key in 0..keys {
            let request = TokenRequest::new(format!("https://resource-{key}.contoso.com/.default"))?;
            broker.get_token(&request).await?;
        }
        Ok(())
    })
}

fn row(name: &str, took: Duration, change: Stats, count: usize) {
    let ns = took.as_nanos() as f64 / count as f64;
    let allocations = (change.allocations + change.reallocations) as f64 / count as f64;
    println!("{name:<44} {ns:>9.0} ns, {allocations:.1} allocations");
}

/// What was not given back.
fn held(change: Stats) -> f64 {
    change.bytes_allocated as f64 - change.bytes_deallocated as f64
}

/// As the broker says: nobody else can tell them from what an entry needs otherwise.
fn scheduler_bytes(broker: &Broker) -> f64 {
    let told = format!("{broker:?}");
    let bytes = told.split_once("bytes: ").map(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()));
    bytes.and_then(|mut rest| rest.next()?.parse().ok()).unwrap_or(f64::NAN)
}

#[cfg(target_os = "linux")]
fn cpu_time() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// There is no portable one.
#[cfg(not(target_os = "linux"))]
fn cpu_time() -> Duration {
    Duration::ZERO
}

#[expect(clippy::disallowed_methods, reason = "a benchmark times what it measures with the standard clock")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "an idle process is what is measured")]
async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}
