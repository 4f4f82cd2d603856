//! Many keys, read at random: what a hit costs where the processor's caches are of no help.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use azure_core::credentials::TokenCredential as _;
use azure_identity::ClientSecretCredential;
use entra_broker::{Broker, ClientSecret, TokenRequest};
use tokio::runtime::Runtime;

use crate::{
    Failure,
    contestants::{Azure, Cached, KEY_LENGTH, PEER, key, live},
    counting::counted,
    hits::rounded,
    results::{Figures, Scale, Size},
    service::{CLIENT_ID, Memory, SECRET, TENANT, TOKEN_LENGTH},
    windows::{Contestant, Plan, measure, ready, take},
};

/// Everyone's name, in the order of the table, with what is done.
pub(crate) const WHAT: &[(&str, &str)] = &[
    ("entra_broker.request", "broker.get_token(&request).await, as many prepared requests as keys"),
    ("entra_broker.str", "broker.get_token(scope).await; 512 spellings are remembered, others are parsed"),
    (PEER, "one ClientSecretCredential, as many scopes as keys"),
    ("moka.sync", "as many strings of 111 bytes as keys, expiry by Instant::now()"),
    ("quick_cache.sync", "likewise"),
];

/// So many places in a row are drawn beforehand: drawing costs, too. A power of two.
const DRAWN: usize = 1 << 20;

pub(crate) fn scale(smoke: bool) -> Result<Scale, Failure> {
    let sizes: &[usize] = if smoke { &[10, 1_000] } else { &[10, 10_000, 1_000_000] };
    // Longer than elsewhere: at 10,000 keys a window has to be many times around, or it would begin with what the one
    // before it left in the processor's caches.
    let plan = Plan {
        window: if smoke { Duration::from_millis(1) } else { Duration::from_millis(10) },
        ..Plan::new(smoke)
    };
    let sizes = sizes.iter().map(|keys| size(*keys, &plan)).collect::<Result<_, _>>()?;
    Ok(Scale { windows: plan.windows, sizes })
}

fn size(keys: usize, plan: &Plan) -> Result<Size, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let scopes: Vec<String> = (0..keys).map(|key| format!("https://r{key:07}.corp.io/.default")).collect();
    let mut size = Size {
        keys,
        hit_ns: Figures::new(),
        total_mops_2_threads: Figures::new(),
        fill_seconds: Figures::new(),
        bytes_per_key: Figures::new(),
    };
    let broker = size.fill("entra_broker.request", || broker(&runtime, &scopes))?;
    let filled = Filled {
        requests: requests(&broker, &scopes)?,
        broker,
        azure: size.fill(PEER, || azure(&runtime, &scopes))?,
        // Of the strings the caches have copies of their own.
        strings: scopes.iter().map(|scope| key(scope)).collect(),
        moka: size.fill("moka.sync", || Ok(moka(&scopes)))?,
        quick: size.fill("quick_cache.sync", || Ok(quick(&scopes)))?,
        scopes,
        drawn: (0..DRAWN).map(|_| fastrand::u32(..u32::try_from(keys).unwrap_or(u32::MAX))).collect(),
        next: AtomicUsize::new(0),
    };
    filled.check()?;
    let contestants = filled.contestants();
    for (contestant, speed) in contestants.iter().zip(measure(&contestants, plan)) {
        size.hit_ns.insert(contestant.name.to_owned(), rounded(speed.ns));
        size.total_mops_2_threads.insert(contestant.name.to_owned(), rounded(speed.total_mops));
    }
    Ok(size)
}

impl Size {
    fn fill<T>(&mut self, name: &str, fill: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
        let begun = Instant::now();
        let (filled, counted) = counted(fill);
        self.fill_seconds.insert(name.to_owned(), rounded(begun.elapsed().as_secs_f64()));
        let beyond = counted.kept as f64 / self.keys as f64 - TOKEN_LENGTH as f64;
        self.bytes_per_key.insert(name.to_owned(), beyond.round());
        filled
    }
}

/// More than keys, since each shard has its share of it and keys do not fall on shards quite evenly.
fn room(scopes: &[String]) -> usize {
    scopes.len() + scopes.len() / 8 + 1_000
}

fn broker(runtime: &Runtime, scopes: &[String]) -> Result<Broker, Failure> {
    let provider = ClientSecret::new(TENANT, CLIENT_ID, SECRET)?;
    let broker = Broker::builder().capacity(room(scopes)).transport(Memory::new()).build(provider)?;
    runtime.block_on(async {
        for scope in scopes {
            broker.get_token(&TokenRequest::new(scope.as_str())?).await?;
        }
        Ok(broker)
    })
}

/// What the caller keeps; the strings of the other caches are not counted either.
fn requests(broker: &Broker, scopes: &[String]) -> Result<Vec<TokenRequest>, Failure> {
    let request = |scope: &String| {
        let request = TokenRequest::new(scope.as_str())?;
        take(ready(broker.get_token(&request)));
        Ok(request)
    };
    scopes.iter().map(request).collect()
}

fn azure(runtime: &Runtime, scopes: &[String]) -> Result<Arc<ClientSecretCredential>, Failure> {
    let credential = Azure::credential(Memory::new())?;
    runtime.block_on(async {
        for scope in scopes {
            credential.get_token(&[scope.as_str()], None).await?;
        }
        Ok(credential)
    })
}

fn moka(scopes: &[String]) -> moka::sync::Cache<String, Arc<Cached>> {
    let cache = moka::sync::Cache::new(room(scopes) as u64);
    for scope in scopes {
        cache.insert(key(scope), Cached::new());
    }
    cache.run_pending_tasks();
    cache
}

fn quick(scopes: &[String]) -> quick_cache::sync::Cache<String, Arc<Cached>> {
    let cache = quick_cache::sync::Cache::new(room(scopes));
    for scope in scopes {
        cache.insert(key(scope), Cached::new());
    }
    cache
}

struct Filled {
    broker: Broker,
    requests: Vec<TokenRequest>,
    azure: Arc<ClientSecretCredential>,
    scopes: Vec<String>,
    strings: Vec<String>,
    moka: moka::sync::Cache<String, Arc<Cached>>,
    quick: quick_cache::sync::Cache<String, Arc<Cached>>,
    drawn: Vec<u32>,
    next: AtomicUsize,
}

impl Filled {
    /// Everyone has every key: else this would measure misses.
    fn check(&self) -> Result<(), Failure> {
        let missing = |name: &str, at: usize| Err(format!("{name} lost key {at}").into());
        for (at, string) in self.strings.iter().enumerate() {
            assert_eq!(string.len(), KEY_LENGTH);
            if self.broker.peek(&self.requests[at]).is_none() {
                return missing("entra_broker", at);
            }
            if self.moka.get(string).is_none() {
                return missing("moka", at);
            }
            if self.quick.get(string).is_none() {
                return missing("quick_cache", at);
            }
        }
        Ok(())
    }

    /// So many places at random.
    fn places(&self, hits: u64) -> impl Iterator<Item = usize> {
        let hits = hits as usize;
        let first = self.next.fetch_add(hits, Ordering::Relaxed);
        (first..first + hits).map(|at| self.drawn[at & (DRAWN - 1)] as usize)
    }

    fn contestants(&self) -> Vec<Contestant<'_>> {
        let Self { broker, requests, azure, scopes, strings, moka, quick, .. } = self;
        vec![
            Contestant::new("entra_broker.request", move |hits| {
                ready(async {
                    for at in self.places(hits) {
                        take(broker.get_token(black_box(&requests[at])).await);
                    }
                });
            }),
            Contestant::new("entra_broker.str", move |hits| {
                ready(async {
                    for at in self.places(hits) {
                        take(broker.get_token(black_box(scopes[at].as_str())).await);
                    }
                });
            }),
            Contestant::new(PEER, move |hits| {
                ready(async {
                    for at in self.places(hits) {
                        take(azure.get_token(black_box(&[scopes[at].as_str()]), None).await);
                    }
                });
            }),
            Contestant::new("moka.sync", move |hits| {
                for at in self.places(hits) {
                    take(live(moka.get(black_box(strings[at].as_str()))));
                }
            }),
            Contestant::new("quick_cache.sync", move |hits| {
                for at in self.places(hits) {
                    take(live(quick.get(black_box(strings[at].as_str()))));
                }
            }),
        ]
    }
}
