//! Speed on a machine that is never quite quiet: contestants take turns in short windows, and medians are quoted.

use std::{
    future::Future,
    hint::{black_box, spin_loop},
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

/// Something that is done over and over, on one thread or on several at once.
pub(crate) struct Contestant<'a> {
    pub(crate) name: &'static str,
    pub(crate) run: Box<dyn Fn(u64) + Sync + 'a>,
}

impl<'a> Contestant<'a> {
    /// `run` does it as often as it is told.
    pub(crate) fn new(name: &'static str, run: impl Fn(u64) + Sync + 'a) -> Self {
        Self { name, run: Box::new(run) }
    }
}

/// How long a measurement takes.
pub(crate) struct Plan {
    pub(crate) windows: usize,
    pub(crate) window: Duration,
}

impl Plan {
    /// As it is quoted, or only just enough to see that the benchmark still works.
    pub(crate) fn new(smoke: bool) -> Self {
        if smoke {
            Self { windows: 3, window: Duration::from_millis(1) }
        } else {
            // Shorter than a scheduler's time slice, so that most are not disturbed by what else runs.
            Self { windows: 21, window: Duration::from_millis(2) }
        }
    }
}

/// The medians of one contestant.
pub(crate) struct Speed {
    /// Nanoseconds for one, on one thread.
    pub(crate) ns: f64,
    /// Millions a second in total, on two threads that do the same thing.
    pub(crate) total_mops: f64,
}

/// Measures all of them, in turns: what disturbs the machine for a while disturbs them alike.
pub(crate) fn measure(contestants: &[Contestant<'_>], plan: &Plan) -> Vec<Speed> {
    let counts: Vec<u64> = contestants.iter().map(|contestant| calibrate(contestant, plan.window)).collect();
    let mut ns = vec![Vec::new(); contestants.len()];
    let mut mops = vec![Vec::new(); contestants.len()];
    for _ in 0..plan.windows {
        for (at, (contestant, &count)) in contestants.iter().zip(&counts).enumerate() {
            ns[at].push(on_one_thread(contestant, count).as_secs_f64() * 1e9 / count as f64);
            mops[at].push(2.0 * count as f64 / on_two_threads(contestant, count).as_secs_f64() / 1e6);
        }
    }
    ns.into_iter().zip(mops).map(|(ns, mops)| Speed { ns: median(ns), total_mops: median(mops) }).collect()
}

/// How many fill a window. Of several tries the quickest counts: one that was disturbed would make all windows too short.
fn calibrate(contestant: &Contestant<'_>, window: Duration) -> u64 {
    let mut count = 64;
    loop {
        let tries = [(); 5].map(|()| on_one_thread(contestant, count));
        let took = tries.into_iter().min().unwrap_or_default();
        if took * 4 >= window {
            return (count as f64 * window.as_secs_f64() / took.as_secs_f64()).ceil() as u64;
        }
        count *= 2;
    }
}

fn on_one_thread(contestant: &Contestant<'_>, count: u64) -> Duration {
    let start = now();
    (contestant.run)(count);
    start.elapsed()
}

/// From the start of the first to the end of the last. On a busy machine two threads may run one after the other: that
/// says nothing about both at once, so it is done again, a few times.
fn on_two_threads(contestant: &Contestant<'_>, count: u64) -> Duration {
    const TRIES: usize = 10;
    let mut took = Duration::ZERO;
    for _ in 0..TRIES {
        let [(start, end), (other_start, other_end)] = laps_of_two(contestant, count);
        took = end.max(other_end) - start.min(other_start);
        let both = end.min(other_end).saturating_duration_since(start.max(other_start));
        if both * 4 > took * 3 {
            break;
        }
    }
    took
}

/// Beginning and end of each.
fn laps_of_two(contestant: &Contestant<'_>, count: u64) -> [(Instant, Instant); 2] {
    let waiting = AtomicUsize::new(2);
    let lap = || {
        waiting.fetch_sub(1, Ordering::AcqRel);
        while waiting.load(Ordering::Acquire) != 0 {
            spin_loop();
        }
        let start = now();
        (contestant.run)(count);
        (start, now())
    };
    thread::scope(|scope| {
        let other = scope.spawn(lap);
        [lap(), other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))]
    })
}

#[expect(clippy::disallowed_methods, reason = "a benchmark times what it measures with the standard clock")]
fn now() -> Instant {
    Instant::now()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The value of a future that does not wait. All contestants are run by it, so that none pays for a runtime.
pub(crate) fn ready<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("a hit had to wait"),
    }
}

/// Takes a hit's token, as a caller would, and drops it.
#[inline]
pub(crate) fn take<T, E: std::fmt::Debug>(result: Result<T, E>) {
    match result {
        Ok(token) => drop(black_box(token)),
        Err(error) => panic!("no hit: {error:?}"),
    }
}
