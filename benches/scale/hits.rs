//! A hit among many keys, beside a plain sharded map of the same keys.

use std::{
    error::Error,
    hash::BuildHasher,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use entra_broker::{Broker, TokenRequest};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use parking_lot::RwLock;

use crate::{
    keys::{Keys, LONG, TOKEN_LENGTH, broker, shuffled},
    windows::{Contestant, Plan, measure, ready, take},
};

const HASH_KNOWN: &str = "map, hash known";
const KEY_HASHED: &str = "map, key hashed";
const KEY_MADE: &str = "map, key made first";
const REQUEST: &str = "get_token(&request)";
const REQUEST_MADE: &str = "get_token, request made first";

pub(crate) fn run(sizes: &[usize], smoke: bool) -> Result<(), Box<dyn Error>> {
    println!(
        "\na hit among so many keys, read in random order; ns, medians; × the map that does the same work\n"
    );
    println!(
        "{:>10} {:>12} {:>12} {:>14} {:>8} {:>8}   {:>12} {:>12} {:>8}",
        "keys", "map, hash", "get_token", "map, key", "×", "M/s, 2", "map, key", "get_token", "×",
    );
    println!(
        "{:>10} {:>12} {:>12} {:>14} {:>8} {:>8}   {:>12} {:>12} {:>8}",
        "", "known", "(&request)", "hashed", "", "threads", "made first", "made first", ""
    );
    for &size in sizes {
        let fixture = Fixture::new(size)?;
        let contestants = fixture.contestants();
        // Long enough that each goes over a middling number of keys more than once, as if it were alone.
        let window = Duration::from_millis(if smoke { 1 } else { 40 });
        let speeds = measure(&contestants, &Plan { window, ..Plan::new(smoke) });
        let speed =
            |name| contestants.iter().zip(&speeds).find(|(one, _)| one.name == name).map(|found| found.1);
        let ns = |name| speed(name).map_or(f64::NAN, |speed| speed.ns);
        let (known, hashed, made) = (ns(HASH_KNOWN), ns(KEY_HASHED), ns(KEY_MADE));
        let (request, fresh) = (ns(REQUEST), ns(REQUEST_MADE));
        println!(
            "{size:>10} {known:>12.1} {request:>12.1} {hashed:>14.1} {:>8.2} {:>8.1}   {made:>12.1} {fresh:>12.1} {:>8.2}",
            request / known,
            speed(REQUEST).map_or(f64::NAN, |speed| speed.total_mops),
            fresh / made,
        );
    }
    println!(
        "
map: as many shards, each a read lock around a table; a hit finds the entry, compares the key, looks at the time and
takes a share of the token. Its hash is known, or its key is hashed, or its key is first made of its parts, as a service
makes a request when a viewer's request comes in."
    );
    Ok(())
}

/// What anyone would write first, written well.
struct Plain {
    shards: Vec<RwLock<HashTable<Line>>>,
    state: RandomState,
}

struct Line {
    hash: u64,
    key: String,
    token: Arc<Held>,
}

struct Held {
    expires: Duration,
    _text: String,
}

/// A key as a caller keeps it.
struct Prepared {
    hash: u64,
    key: String,
}

impl Plain {
    fn new(keys: usize) -> Self {
        let shards = (keys / 512).clamp(1, 2048).next_power_of_two();
        let shards = (0..shards).map(|_| RwLock::default()).collect();
        Self { shards, state: RandomState::default() }
    }

    fn shard(&self, hash: u64) -> &RwLock<HashTable<Line>> {
        &self.shards[(hash >> 40) as usize % self.shards.len()]
    }

    fn insert(&self, key: &str) {
        let hash = self.state.hash_one(key);
        let held = Held { expires: now() + LONG, _text: "e".repeat(TOKEN_LENGTH) };
        let line = Line { hash, key: key.to_owned(), token: Arc::new(held) };
        self.shard(hash).write().insert_unique(hash, line, |line| line.hash);
    }

    #[inline]
    fn get(&self, hash: u64, key: &str) -> Option<Arc<Held>> {
        let shard = self.shard(hash).read();
        let line = shard.find(hash, |line| line.key == key)?;
        (now() < line.token.expires).then(|| Arc::clone(&line.token))
    }
}

/// As the broker looks at the time: both clocks.
#[cfg(target_os = "linux")]
#[inline]
fn now() -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let (wall, mono) = (clock_gettime(ClockId::RealtimeCoarse), clock_gettime(ClockId::MonotonicCoarse));
    black_box(wall);
    Duration::new(mono.tv_sec as u64, mono.tv_nsec as u32)
}

/// There are none that are portable: those that the broker reads.
#[cfg(not(target_os = "linux"))]
fn now() -> Duration {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    black_box(std::time::SystemTime::now());
    START.get_or_init(std::time::Instant::now).elapsed()
}

struct Fixture {
    keys: Keys,
    broker: Broker,
    requests: Vec<TokenRequest>,
    plain: Plain,
    prepared: Vec<Prepared>,
    order: Vec<u32>,
    /// Where the last window stopped: the next one goes on from there, and finds nothing in the processor's caches that a
    /// reader of all keys would not.
    at: AtomicUsize,
    _runtime: tokio::runtime::Runtime,
}

impl Fixture {
    fn new(size: usize) -> Result<Self, Box<dyn Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let keys = Keys::new()?;
        let broker = broker(size, [LONG, LONG])?;
        let plain = Plain::new(size);
        let (mut requests, mut prepared) = (Vec::with_capacity(size), Vec::with_capacity(size));
        for n in 0..size {
            let request = keys.request(n)?;
            runtime.block_on(broker.get_token(&request))?;
            requests.push(request);
            let key = keys.text(n);
            plain.insert(&key);
            prepared.push(Prepared { hash: plain.state.hash_one(&*key), key });
        }
        if broker.metrics().entries != size {
            return Err("not all keys are in the cache".into());
        }
        let (order, at) = (shuffled(size), AtomicUsize::new(0));
        Ok(Self { keys, broker, requests, plain, prepared, order, at, _runtime: runtime })
    }

    /// So many numbers of keys.
    fn turns(&self, hits: u64) -> impl Iterator<Item = usize> {
        let start = self.at.fetch_add(hits as usize, Ordering::Relaxed) % self.order.len();
        self.order[start..].iter().chain(self.order.iter().cycle()).take(hits as usize).map(|n| *n as usize)
    }

    fn contestants(&self) -> Vec<Contestant<'_>> {
        let Self { keys, broker, requests, plain, prepared, .. } = self;
        vec![
            Contestant::new(HASH_KNOWN, move |hits| {
                for n in self.turns(hits) {
                    let Prepared { hash, key } = black_box(&prepared[n]);
                    take(plain.get(*hash, key).ok_or("nothing"));
                }
            }),
            Contestant::new(REQUEST, move |hits| {
                ready(async {
                    for n in self.turns(hits) {
                        take(
                            broker.get_token(black_box(&requests[n])).await.map(|token| token.secret().len()),
                        );
                    }
                });
            }),
            Contestant::new(KEY_HASHED, move |hits| {
                for n in self.turns(hits) {
                    let key = black_box(&*prepared[n].key);
                    take(plain.get(plain.state.hash_one(key), key).ok_or("nothing"));
                }
            }),
            Contestant::new(KEY_MADE, move |hits| {
                for n in self.turns(hits) {
                    let key = keys.text(n);
                    take(plain.get(plain.state.hash_one(&*key), &key).ok_or("nothing"));
                }
            }),
            Contestant::new(REQUEST_MADE, move |hits| {
                ready(async {
                    for n in self.turns(hits) {
                        let request = keys.request(n);
                        match request {
                            Ok(request) => {
                                take(broker.get_token(&request).await);
                            }
                            Err(error) => panic!("no request: {error}"),
                        }
                    }
                });
            }),
        ]
    }
}
