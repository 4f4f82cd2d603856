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
async fn what_a_broker_behind_the_provider_remembers_is_remembered_here_too() {
    let world = World::new().await;
    let behind = world.broker();
    let asked = behind.clone();
    let (broker, calls) = once_then(&world, move || {
        let asked = asked.clone();
        Box::pin(async move { asked.get_token(VAULT).await.unwrap_err() })
    });
    world.get(broker.get_token(VAULT)).await.unwrap();
    world.pass(secs(300)).await;
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).status(429).retry_after(secs(3_600)));
    world.get(behind.get_token(VAULT)).await.unwrap_err();
    world.pass(secs(250)).await;
    let made = calls.load(Ordering::SeqCst);
    assert!((2..20).contains(&made), "{made} fetches");
}

#[tokio::test]
async fn a_provider_that_says_it_is_closed_is_not_asked_again_at_once() {
    let world = World::new().await;
    let (broker, calls) =
        once_then(&world, || Box::pin(async { Error::new(ErrorKind::Closed, "what it asks was closed") }));
    world.get(broker.get_token(VAULT)).await.unwrap();
    world.pass(secs(500)).await;
    let made = calls.load(Ordering::SeqCst);
    assert!((2..20).contains(&made), "{made} fetches");
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

#[test]
fn who_waits_without_a_runtime_gets_an_error_and_no_panic() {
    let provider = FnProvider::new(|_, _| Box::pin(std::future::pending()));
    let broker = Broker::builder().build(provider).unwrap();
    let runtime = runtime();
    runtime.block_on(async {
        let mut call = Box::pin(broker.get_token(VAULT));
        assert!(poll_once(call.as_mut()).is_pending());
    });
    let error = ready(broker.get_token(VAULT)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("no tokio runtime"), "{error}");
}

#[test]
fn a_runtime_without_a_timer_is_an_error_that_says_so_and_no_panic() {
    let provider = FnProvider::new(|_, _| Box::pin(std::future::pending()));
    let broker = Broker::builder().build(provider).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let error = runtime.block_on(async { broker.get_token(VAULT).await.unwrap_err() });
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert_eq!(broker.metrics().in_flight, 0);
}

#[test]
fn a_probe_on_a_parked_runtime_does_not_hold_other_keys_up() {
    let (first, second) = (runtime(), runtime());
    let world = second.block_on(World::new());
    let broker = world.broker();
    second.block_on(async {
        let outage = Fault::on(Endpoint::TokenService).status(429).retry_after(secs(100));
        let outage = world.emulator.faults().add(outage);
        world.get(broker.get_token(VAULT)).await.unwrap_err();
        world.emulator.faults().remove(outage);
        world.pass(secs(100)).await;
    });
    first.block_on(async {
        let mut probe = Box::pin(broker.get_token(VAULT));
        assert!(poll_once(probe.as_mut()).is_pending());
    });
    second.block_on(async {
        world.at_once(broker.get_token(STORAGE)).unwrap_err();
        world.pass(secs(16)).await;
        world.get(broker.get_token(STORAGE)).await.unwrap();
    });
}

#[tokio::test]
async fn an_outage_that_is_long_over_makes_nobody_wait_for_a_probe() {
    let world = World::new().await;
    let broker = world.broker();
    world
        .emulator
        .faults()
        .add(Fault::on(Endpoint::TokenService).status(429).retry_after(secs(100)).times(1));
    world.get(broker.get_token(VAULT)).await.unwrap_err();
    world.pass(secs(5 * 3_600)).await;
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).delay(secs(1)));
    let mut first = Box::pin(broker.get_token(VAULT));
    assert!(poll_once(first.as_mut()).is_pending());
    world.get(broker.get_token(STORAGE)).await.unwrap();
    world.get(first).await.unwrap();
}

#[tokio::test]
async fn failures_of_flights_that_were_under_way_together_are_one_failure() {
    let world = World::new().await;
    let broker = world.builder().build(world.client_with("wrong-secret")).unwrap();
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).delay(secs(1)));
    let scopes: Vec<_> =
        (0..10).map(|n| format!("api://aaaaaaaa-0000-0000-0000-000000000002/{n}/.default")).collect();
    let mut calls: Vec<_> = scopes.iter().map(|scope| Box::pin(broker.get_token(&**scope))).collect();
    for call in &mut calls {
        assert!(poll_once(call.as_mut()).is_pending());
    }
    for call in calls {
        world.get(call).await.unwrap_err();
    }
    assert_eq!(world.requests(), 10);
    let held = world.at_once(broker.get_token(VAULT)).unwrap_err().held_for().unwrap();
    assert!(held <= secs(10), "{held:?}");
}

#[test]
fn closing_does_not_wait_for_a_runtime_that_is_parked() {
    let (first, second) = (runtime(), runtime());
    let world = second.block_on(World::new());
    let broker = world.broker();
    first.block_on(async {
        let mut call = Box::pin(broker.get_token(VAULT));
        assert!(poll_once(call.as_mut()).is_pending());
    });
    second.block_on(async {
        let mut waiting = Box::pin(broker.get_token(VAULT));
        assert!(poll_once(waiting.as_mut()).is_pending());
        let mut closing = Box::pin(broker.close());
        assert!(poll_once(closing.as_mut()).is_ready());
        assert_eq!(world.at_once(waiting).unwrap_err().kind(), ErrorKind::Closed);
    });
    assert_eq!(broker.metrics().in_flight, 0);
    first.block_on(settle());
    assert_eq!((world.requests(), broker.metrics().in_flight), (0, 0));
}

#[test]
fn flight_after_flight_that_is_cut_short_costs_nobody_the_token_that_still_lives() {
    let main = runtime();
    let world = main.block_on(World::new());
    let broker = world.broker();
    let old = main.block_on(async { world.get(broker.get_token(VAULT)).await.unwrap() });
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).hang());
    world.time.advance(secs(3_599 - 25));
    let mut waiting = Box::pin(broker.get_token(VAULT));
    for _ in 0..10 {
        let short = runtime();
        let polled = {
            let _in = short.enter();
            poll_once(waiting.as_mut())
        };
        if let std::task::Poll::Ready(result) = polled {
            assert!(world.see(result).unwrap().is_same(&old));
            return;
        }
    }
    panic!("it waits for ever");
}

#[test]
fn a_scheduler_whose_runtime_is_parked_is_replaced() {
    let (first, second) = (runtime(), runtime());
    let world = second.block_on(World::new());
    let broker = world.broker();
    first.block_on(async { world.get(broker.get_token(VAULT)).await.unwrap() });
    second.block_on(async {
        world.pass(secs(2_500)).await;
        assert_eq!(world.requests(), 1, "nobody runs the scheduler");
        // Whoever fetches next finds that it is late.
        world.get(broker.get_token(STORAGE)).await.unwrap();
        settle().await;
        assert_eq!(world.requests(), 3);
        world.at_once(broker.get_token(VAULT)).unwrap();
        world.pass(secs(2_500)).await;
        assert_eq!(world.requests(), 5, "both are refreshed");
    });
}

#[tokio::test]
async fn a_request_whose_entry_was_evicted_is_remembered_anew() {
    let world = World::new().await;
    let broker = world.broker();
    let vault = request(VAULT);
    let handle = broker.handle(&vault).unwrap();
    world.get(broker.get_token(&vault)).await.unwrap();
    for _ in 0..3 {
        world.pass(secs(3 * 3_600)).await;
        assert_eq!(broker.metrics().entries, 0);
        world.get(broker.get_token(&vault)).await.unwrap();
        assert!(handle.peek().is_some() && handle.with(|_| ()).is_some());
        world.at_once(handle.get()).unwrap();
    }
}

#[tokio::test]
async fn entries_that_never_flew_are_cleared_away() {
    let world = World::new().await;
    let broker = world.broker();
    world
        .emulator
        .faults()
        .add(Fault::on(Endpoint::TokenService).status(429).retry_after(secs(100)).times(1));
    world.get(broker.get_token(VAULT)).await.unwrap_err();
    for n in 0..100 {
        let scope = format!("api://aaaaaaaa-0000-0000-0000-000000000002/{n}/.default");
        world.at_once(broker.get_token(&*scope)).unwrap_err();
    }
    assert_eq!(broker.metrics().entries, 101);
    world.pass(secs(1_000)).await;
    assert_eq!(broker.metrics().entries, 0);
}

#[tokio::test]
async fn a_token_that_is_always_due_is_not_fetched_without_pause() {
    let world = World::new().await;
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let provider = FnProvider::new(move |cx, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        Box::pin(
            async move { Ok(Fetched::new("due", cx.clock().now(), secs(3_600)).refresh_in(Duration::ZERO)) },
        )
    });
    let broker = world.builder().build(provider).unwrap();
    world.get(broker.get_token(VAULT)).await.unwrap();
    for _ in 0..600 {
        world.at_once(broker.get_token_with(VAULT, &CallOptions::new())).unwrap();
        world.pass(secs(1) / 10).await;
    }
    let made = calls.load(Ordering::SeqCst);
    assert!(made <= 4, "{made} fetches in a minute");
}
