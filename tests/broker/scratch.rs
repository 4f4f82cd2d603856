//! What tests of files and programs share: a directory that goes with its test, and time that waits for them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use entra_broker::{AccessToken, Broker, CallOptions, Error};

use crate::support::*;

/// A directory of a test's own.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("entra-broker-scratch-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// In one step, as whoever replaces a secret should do it.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let (next, path) = (self.join("next"), self.join(name));
        fs::write(&next, text).unwrap();
        fs::rename(next, &path).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The result of a call that reads files or runs programs, for which time stands still.
pub(crate) async fn ask(world: &World, broker: &Broker) -> Result<AccessToken, Error> {
    ask_with(world, broker, CallOptions::new()).await
}

/// As [`ask`], for a new token.
pub(crate) async fn ask_anew(world: &World, broker: &Broker) -> Result<AccessToken, Error> {
    ask_with(world, broker, CallOptions::new().force_refresh()).await
}

pub(crate) async fn ask_with(
    world: &World,
    broker: &Broker,
    options: CallOptions,
) -> Result<AccessToken, Error> {
    let broker = broker.clone();
    let call = tokio::spawn(async move { broker.get_token_with(VAULT, &options).await });
    until(|| call.is_finished()).await;
    world.see(call.await.unwrap())
}

/// How many requests Entra answered with a number of its own.
pub(crate) fn refusals(world: &World) -> usize {
    world.emulator.journal().count(|entry| entry.aadsts.is_some())
}

/// Waits for what happens in no time of the world's.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

/// Time passes while the broker is used, but not while it fetches.
pub(crate) async fn pass_in_use(world: &World, broker: &Broker, duration: Duration) {
    let end = world.clock.now().after(duration);
    while !world.clock.now().has_reached(end) {
        world.see(broker.peek(VAULT).ok_or_else(nothing)).unwrap();
        settle().await;
        until(|| broker.metrics().in_flight == 0).await;
        let left = world.clock.now().until(end);
        world.time.advance(
            world.time.next_timer().map_or(left, |next| next.max(Duration::from_nanos(1)).min(left)),
        );
    }
    settle().await;
    until(|| broker.metrics().in_flight == 0).await;
}

fn nothing() -> Error {
    Error::new(entra_broker::ErrorKind::Unavailable, "there was no token at hand")
}
