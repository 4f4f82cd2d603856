//! Real HTTP over loopback for the transport, a double of it and a clock that is moved for the attempts.

mod attempts;
mod network;
mod pinned;
mod server;
mod tls;

use std::{
    error::Error as StdError,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;

use super::*;
use crate::{Blame, Clock, Error, ErrorKind, ManualClock, Now};

const LIMIT: usize = 1 << 20;

fn clock() -> (Clock, ManualClock) {
    Clock::manual(UNIX_EPOCH + Duration::from_secs(1_800_000_000))
}

fn get(uri: &str) -> http::Request<Bytes> {
    http::Request::get(uri).body(Bytes::new()).unwrap()
}

fn post(uri: &str) -> http::Request<Bytes> {
    http::Request::post(uri).body(Bytes::from_static(b"client_secret=hunter2")).unwrap()
}

fn direct() -> HttpTransport {
    HttpTransport::builder().without_proxy().build().unwrap()
}

/// A transport that finds this proxy in its environment.
fn behind(proxy: &str) -> HttpTransportBuilder {
    HttpTransport::builder().env(&crate::Env::empty().set("HTTPS_PROXY", proxy)).unwrap()
}

fn current_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// One attempt with the crate's errors.
async fn once(transport: &dyn Transport, pool: Pool, request: http::Request<Bytes>) -> Result<Answer, Error> {
    let clock = Clock::system();
    exchange(transport, &clock, &RetryPolicy::none(), clock.now().after(Duration::from_secs(60)))
        .run(pool, request)
        .await
}

fn exchange<'a>(
    transport: &'a dyn Transport,
    clock: &'a Clock,
    policy: &'a RetryPolicy,
    deadline: Now,
) -> Exchange<'a> {
    Exchange {
        transport,
        clock,
        policy,
        deadline,
        attempt_timeout: ATTEMPT_TIMEOUT,
        limit: ANSWER_LIMIT,
        random: &|| 0.5,
        gate: &|| Ok(()),
    }
}

/// Everything that a log could show of an error.
fn all_text(error: &(dyn StdError + 'static)) -> String {
    let mut text = format!("{error:?}");
    let mut layer = Some(error);
    while let Some(error) = layer {
        text.push_str(&error.to_string());
        layer = error.source();
    }
    text
}

#[derive(Default)]
struct Counter(AtomicU32);

impl Counter {
    fn add(&self) -> u32 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }

    fn get(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }
}
