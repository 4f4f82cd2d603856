//! Whether readers wait where keys come and go: 50,000 a second come, as many go for want of room or because their tokens
//! expire, and what readers feel of it is shown beside what the machine does to a loop that does nothing.

use std::{
    error::Error,
    hint::black_box,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use entra_broker::Broker;
use hdrhistogram::Histogram;

use crate::keys::{Keys, LONG, broker};

/// New keys a second.
const RATE: usize = 50_000;

/// The cache is full of so many after half a second.
const CAPACITY: usize = 25_000;

/// Keys that are read all the time.
const HOT: usize = 1_000;

/// Every other key's token lives for so long, and is cleared away by the scheduler if it is not evicted before.
const SHORT: Duration = Duration::from_millis(400);

pub(crate) fn run(smoke: bool) -> Result<(), Box<dyn Error>> {
    let lasts = Duration::from_millis(if smoke { 100 } else { 5_000 });
    let keys = Keys::new()?;
    let broker = broker(CAPACITY, [LONG, SHORT])?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for n in 0..HOT {
        runtime.block_on(broker.get_token(&keys.request(2 * n)?))?;
    }

    println!(
        "\nwhat a reader feels of {RATE} keys a second that come and go; how many reads took how long\n"
    );
    println!(
        "{:<24} {:>10} {:>9} {:>9} {:>8} {:>8} {:>7} {:>8} {:>8} {:>8}",
        "", "to 1 µs", "10 µs", "100 µs", "1 ms", "10 ms", "more", "50 %, µs", "99.9 %", "99.99 %"
    );
    show("a loop that does nothing", &read(lasts, || ()));
    show("reads, no writer", &read_hot(&broker, &keys, lasts).0);

    let over = AtomicBool::new(false);
    let ((read, missed), written) = thread::scope(|scope| {
        let writer = scope.spawn(|| write(&broker, &keys, &runtime, &over));
        let read = read_hot(&broker, &keys, lasts);
        over.store(true, Ordering::Relaxed);
        (read, writer.join())
    });
    let written = written.map_err(|_| "the writer panicked")??;
    show("reads beside the writer", &read);
    let spent = Duration::from_nanos(written.longest.max());
    println!(
        "\nthe writer: {:.0} keys a second came, {} of them evicted others, {} were cleared away as their tokens had expired;
{} entries at most, of {CAPACITY}. The longest that it spent on 50 of them was {spent:?}.
A read looks its entry up, under the lock of the shard in which it stands.",
        written.rate,
        broker.metrics().evictions,
        written.count as u64 + HOT as u64 - broker.metrics().evictions - broker.metrics().entries as u64,
        written.most,
    );
    println!("Of the keys that were read all the time, {missed} reads found none: those were evicted.");
    if written.most > CAPACITY {
        return Err("the cap did not hold".into());
    }
    Ok(())
}

/// How long each of many turns takes, of one after the other.
fn read(lasts: Duration, mut turn: impl FnMut()) -> Histogram<u64> {
    let mut felt = histogram();
    let begin = Instant::now();
    let mut before = begin;
    while before - begin < lasts {
        turn();
        let after = Instant::now();
        felt.saturating_record((after - before).as_nanos() as u64);
        before = after;
    }
    felt
}

/// How long the reads took, and how many found nothing.
fn read_hot(broker: &Broker, keys: &Keys, lasts: Duration) -> (Histogram<u64>, usize) {
    let (mut n, mut missed) = (0, 0);
    let felt = read(lasts, || {
        n = (n + 1) % HOT;
        let found = keys.request(2 * n).ok().and_then(|request| broker.peek(&request));
        missed += usize::from(black_box(found).is_none());
    });
    (felt, missed)
}

struct Written {
    count: usize,
    rate: f64,
    most: usize,
    longest: Histogram<u64>,
}

/// Fifty keys each millisecond, never the same one twice.
fn write(
    broker: &Broker,
    keys: &Keys,
    runtime: &tokio::runtime::Runtime,
    over: &AtomicBool,
) -> Result<Written, entra_broker::Error> {
    let (begin, mut count, mut most, mut longest) = (Instant::now(), 0, 0, histogram());
    while !over.load(Ordering::Relaxed) {
        let batch = Instant::now();
        for _ in 0..RATE / 1_000 {
            runtime.block_on(broker.get_token(&keys.request(2 * HOT + count)?))?;
            count += 1;
        }
        longest.saturating_record(batch.elapsed().as_nanos() as u64);
        most = most.max(broker.metrics().entries);
        // Timers and the scheduler have their turn here.
        runtime.block_on(tokio::task::yield_now());
        while begin.elapsed() < Duration::from_secs(1) * count as u32 / RATE as u32 {
            std::hint::spin_loop();
        }
    }
    Ok(Written { count, rate: count as f64 / begin.elapsed().as_secs_f64(), most, longest })
}

/// Up to a minute, to three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(60_000_000_000, 3).unwrap_or_else(|error| panic!("{error}"))
}

fn show(name: &str, felt: &Histogram<u64>) {
    let decades = [0, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, u64::MAX];
    let [d0, d1, d2, d3, d4, d5] = [0, 1, 2, 3, 4, 5].map(|at| {
        let values =
            felt.iter_recorded().filter(|v| (decades[at]..decades[at + 1]).contains(&v.value_iterated_to()));
        values.map(|v| v.count_at_value()).sum::<u64>()
    });
    let [half, p3, p4] = [0.5, 0.999, 0.9999].map(|q| felt.value_at_quantile(q) as f64 / 1e3);
    println!("{name:<24} {d0:>10} {d1:>9} {d2:>9} {d3:>8} {d4:>8} {d5:>7} {half:>8.2} {p3:>8.2} {p4:>8.1}");
}
