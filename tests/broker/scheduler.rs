//! What is in use stays fresh though nobody asks, what is not is let go, and all of it ends with the broker.

use std::sync::atomic::{AtomicUsize, Ordering};

use entra_broker::{
    BoxFuture, Broker, Error, ErrorKind, FetchContext, Fetched, Grant, Identity, Provider, Subject,
    TokenRequest, UserAssertion,
    emulator::{Endpoint, Fault},
};
use tokio::runtime::Handle;

use crate::support::*;

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

#[tokio::test]
async fn a_token_in_use_is_refreshed_when_due_with_no_caller_at_that_moment() {
    let world = World::new().await;
    let broker = world.broker();
    let old = world.get(broker.get_token(VAULT)).await.unwrap();
    world.pass(secs(60)).await;
    world.at_once(broker.get_token(VAULT)).unwrap();
    world.pass(old.refresh_on().duration_since(world.clock.now().wall()).unwrap() - secs(1)).await;
    assert_eq!(world.requests(), 1, "not before it is due");
    world.pass(secs(2)).await;
    assert_eq!(world.requests(), 2);
    assert!(!world.at_once(broker.get_token(VAULT)).unwrap().is_same(&old));
}

#[tokio::test]
async fn a_token_that_was_not_used_since_its_refresh_is_left_to_expire_and_is_evicted() {
    let world = World::new().await;
    let broker = world.broker();
    world.get(broker.get_token(VAULT)).await.unwrap();
    world.pass(secs(3_000)).await;
    assert_eq!(world.requests(), 2, "its first life it was in use");
    world.pass(secs(2_500)).await;
    assert_eq!(world.requests(), 2, "its second one it was not");
    assert_eq!(broker.metrics().entries, 1);
    world.pass(secs(600)).await;
    assert_eq!((world.requests(), broker.metrics().entries), (2, 0));
    world.get(broker.get_token(VAULT)).await.unwrap();
    assert_eq!((world.requests(), broker.metrics().entries), (3, 1));
}

#[tokio::test]
async fn a_key_that_only_ever_failed_is_cleared_away() {
    let world = World::new().await;
    let broker = world.broker();
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).error(500_011));
    world.get(broker.get_token(VAULT)).await.unwrap_err();
    assert_eq!(broker.metrics().entries, 1);
    world.pass(secs(400)).await;
    assert_eq!((world.requests(), broker.metrics().entries), (1, 0));
}

/// Gives a token of ten minutes once. From then on it is busy for longer than that token lives.
#[derive(Debug, Default)]
struct BusySince(AtomicUsize);

impl Provider for BusySince {
    fn identity(&self) -> Identity {
        Identity::local()
    }

    fn fetch<'a>(
        &'a self,
        cx: &'a FetchContext,
        _: &'a TokenRequest,
        _: Grant,
    ) -> BoxFuture<'a, Result<Fetched, Error>> {
        Box::pin(async move {
            match self.0.fetch_add(1, Ordering::Relaxed) {
                0 => Ok(Fetched::new("tok-before-the-rush-x3", cx.clock().now(), secs(600))),
                _ => Err(Error::new(ErrorKind::Throttled, "busy").with_retry_after(secs(300))),
            }
        })
    }
}

#[tokio::test]
async fn a_token_that_ends_while_its_source_is_left_alone_is_cleared_away_after_that() {
    let world = World::new().await;
    let broker = world.builder().build(BusySince::default()).unwrap();
    let user = request(VAULT).subject(Subject::OnBehalfOf(UserAssertion::new("an-assertion").unwrap()));
    let first = world.get(broker.get_token(&user)).await.unwrap();
    world.pass(secs(580)).await;
    let again = world.get(broker.get_token(&user)).await.unwrap();
    assert!(again.is_same(&first), "it lives, and there is no other");
    world.pass(secs(1_000)).await;
    assert_eq!(broker.metrics().entries, 0);
}

#[tokio::test]
async fn nothing_is_spawned_before_first_use_and_nothing_is_left_when_the_broker_goes() {
    let world = World::new().await;
    let before = tasks();
    let broker = world.broker();
    let handle = broker.handle(&request(VAULT));
    assert_eq!(tasks(), before);
    world.get(broker.get_token(VAULT)).await.unwrap();
    settle().await;
    assert_eq!(tasks(), before + 1, "the scheduler");
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).hang());
    let mut hanging = Box::pin(broker.get_token(STORAGE));
    assert!(poll_once(hanging.as_mut()).is_pending());
    settle().await;
    assert_eq!(tasks(), before + 2, "and a flight");
    drop(hanging);
    drop(broker);
    settle().await;
    assert_eq!(tasks(), before + 2, "a handle keeps the broker");
    drop(handle);
    settle().await;
    assert_eq!(tasks(), before);
}

#[tokio::test]
async fn a_scheduler_whose_runtime_went_away_is_replaced() {
    let world = World::new().await;
    let broker = world.broker();
    let fetched = std::thread::scope(|scope| {
        let fetch = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { world.get(broker.get_token(VAULT)).await.unwrap() })
        };
        scope.spawn(fetch).join().unwrap()
    });
    // Nobody refreshes it until somebody asks who has a runtime.
    world.pass(secs(2_500)).await;
    assert_eq!(world.requests(), 1);
    assert!(world.at_once(broker.get_token(VAULT)).unwrap().is_same(&fetched));
    settle().await;
    assert_eq!(world.requests(), 2);
    world.at_once(broker.get_token(VAULT)).unwrap();
    world.pass(secs(2_500)).await;
    assert_eq!(world.requests(), 3, "the new scheduler is at work");
}

#[tokio::test]
async fn tokens_fetched_together_are_not_refreshed_together() {
    let world = World::new().await;
    let broker = Broker::builder()
        .clock(world.clock.clone())
        .transport(world.transport())
        .allow_all_tenants()
        .build(world.client())
        .unwrap();
    for scope in
        [VAULT, STORAGE, "https://graph.microsoft.com/.default", "https://management.azure.com/.default"]
    {
        world.get(broker.get_token(scope)).await.unwrap();
    }
    world.emulator.journal().clear();
    world.pass(secs(2_500)).await;
    let entries = world.emulator.journal().entries();
    assert_eq!(entries.len(), 4);
    let mut times: Vec<_> = entries.iter().map(|entry| entry.at).collect();
    times.dedup();
    assert_eq!(times.len(), 4, "{times:?}");
}
