//! What several things at once do to each other: holds and flights, evictions and handles, runtimes that park or lack
//! something.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use entra_broker::{
    Broker, CallOptions, Error, ErrorKind, Fetched, FnProvider,
    emulator::{Endpoint, Fault, sample},
};
use tokio::runtime::Runtime;

use crate::support::*;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A provider whose first token lives ten minutes, and which fails from then on with what `fails` says.
fn once_then(
    world: &World,
    fails: impl Fn() -> entra_broker::BoxFuture<'static, Error> + Send + Sync + 'static,
) -> (Broker, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let (counted, fails) = (Arc::clone(&calls), Arc::new(fails));
    let provider = FnProvider::new(move |cx, _| {
        let (call, fails) = (counted.fetch_add(1, Ordering::SeqCst), Arc::clone(&fails));
        Box::pin(async move {
            match call {
                0 => Ok(Fetched::new("first", cx.clock().now(), secs(600))),
                // Enough to know, and the end of a loop without pauses.
                1_000.. => std::future::pending().await,
                _ => Err(fails().await),
            }
        })
    });
    (world.builder().build(provider).unwrap(), calls)
}

#[tokio::test]
async fn a_token_that_comes_for_an_evicted_entry_is_given_and_not_kept() {
    let world = World::new().await;
    let broker = world.builder().capacity(1).build(world.client()).unwrap();
    let vault = request(VAULT);
    let handle = broker.handle(&vault).unwrap();
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).resource(sample::KEY_VAULT).delay(secs(5)));
    let mut waiting = Box::pin(broker.get_token(&vault));
    assert!(poll_once(waiting.as_mut()).is_pending());
    settle().await;
    world.get(broker.get_token(STORAGE)).await.unwrap();
    let token = world.get(waiting).await.unwrap();
    assert_eq!(broker.metrics().evictions, 1);
    // Nobody can withdraw it there, so nobody may find it there.
    broker.invalidate(&token);
    assert!(broker.peek(&vault).is_none());
    assert!(handle.peek().is_none() && handle.with(|_| ()).is_none());
}
