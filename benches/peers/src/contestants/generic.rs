//! Caches for anything, used as a service would that writes its own token cache: a string for everything that makes a token
//! different, and a look at a clock on every hit, since a token that is dead must not be served.
//!
//! None of them fetches, refreshes, or knows whom to tell that a token was refused.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use super::over_and_over;
use crate::{
    service::{CLIENT_ID, TENANT, TOKEN_LENGTH},
    windows::{Contestant, take},
};

/// A tenant, a client, a kind of token, and a scope of middling length.
pub(crate) const KEY_LENGTH: usize = 111;

/// Any that have room.
const CAPACITY: usize = 1_000;

/// A token and its end.
#[derive(Debug)]
pub(crate) struct Cached {
    _token: String,
    expires: Instant,
    #[cfg(target_os = "linux")]
    expires_coarse: i64,
}

impl Cached {
    pub(crate) fn new() -> Arc<Self> {
        const LIFE: Duration = Duration::from_secs(86_399);
        Arc::new(Self {
            _token: "e".repeat(TOKEN_LENGTH),
            expires: Instant::now() + LIFE,
            #[cfg(target_os = "linux")]
            expires_coarse: coarse_seconds() + LIFE.as_secs().cast_signed(),
        })
    }
}

pub(crate) fn key(scope: &str) -> String {
    format!("{:_<KEY_LENGTH$}", format!("{TENANT}|{CLIENT_ID}|app|{scope}"))
}

/// What was found, if it lives.
#[inline]
pub(crate) fn live(found: Option<Arc<Cached>>) -> Result<Arc<Cached>, &'static str> {
    found.filter(|cached| Instant::now() < cached.expires).ok_or("nothing at hand")
}

#[cfg(target_os = "linux")]
#[inline]
fn live_coarse(found: Option<Arc<Cached>>) -> Result<Arc<Cached>, &'static str> {
    found.filter(|cached| coarse_seconds() < cached.expires_coarse).ok_or("nothing at hand")
}

#[cfg(target_os = "linux")]
#[inline]
fn coarse_seconds() -> i64 {
    rustix::time::clock_gettime(rustix::time::ClockId::MonotonicCoarse).tv_sec
}

pub(super) struct Generic {
    key: String,
    moka: moka::sync::Cache<String, Arc<Cached>>,
    moka_future: moka::future::Cache<String, Arc<Cached>>,
    quick: quick_cache::sync::Cache<String, Arc<Cached>>,
}

impl Generic {
    pub(super) async fn new() -> Self {
        let generic = Self {
            key: key("https://vault.azure.net/.default"),
            moka: moka::sync::Cache::new(CAPACITY as u64),
            moka_future: moka::future::Cache::new(CAPACITY as u64),
            quick: quick_cache::sync::Cache::new(CAPACITY),
        };
        assert_eq!(generic.key.len(), KEY_LENGTH);
        generic.moka.insert(generic.key.clone(), Cached::new());
        generic.moka_future.insert(generic.key.clone(), Cached::new()).await;
        generic.quick.insert(generic.key.clone(), Cached::new());
        generic
    }

    pub(super) fn contestants(&self) -> Vec<Contestant<'_>> {
        let Self { moka, moka_future, quick, .. } = self;
        let key = self.key.as_str();
        vec![
            Contestant::new("moka.sync", move |hits| {
                for _ in 0..hits {
                    take(live(moka.get(black_box(key))));
                }
            }),
            Contestant::new("moka.future", move |hits| {
                over_and_over(hits, || async { live(moka_future.get(black_box(key)).await) });
            }),
            Contestant::new("quick_cache.sync", move |hits| {
                for _ in 0..hits {
                    take(live(quick.get(black_box(key))));
                }
            }),
            #[cfg(target_os = "linux")]
            Contestant::new("quick_cache.coarse", move |hits| {
                for _ in 0..hits {
                    take(live_coarse(quick.get(black_box(key))));
                }
            }),
        ]
    }
}
