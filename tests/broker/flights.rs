//! One fetch for all who ask, which belongs to none of them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use entra_broker::{
    AccessToken, Broker, CallOptions, Claims, Error, ErrorKind, Fetched, FnProvider,
    emulator::{Endpoint, Fault, sample},
};
use tokio::{runtime::Runtime, task::JoinHandle};

use crate::support::*;

fn spawn(broker: &Broker, n: usize) -> Vec<JoinHandle<Result<AccessToken, Error>>> {
    let one = |_| {
        let broker = broker.clone();
        tokio::spawn(async move { broker.get_token(VAULT).await })
    };
    (0..n).map(one).collect()
}

fn slow() -> Fault {
    Fault::on(Endpoint::TokenService).delay(Duration::from_millis(100))
}

#[tokio::test]
async fn ten_thousand_tasks_on_a_cold_key_make_one_request() {
    let world = World::new().await;
    let broker = world.broker();
    world.emulator.faults().add(slow());
    let mut tokens = Vec::new();
    for caller in spawn(&broker, 10_000) {
        tokens.push(world.run(secs(1), caller).await.unwrap().unwrap());
    }
    assert!(tokens.iter().all(|token| token.is_same(&tokens[0])));
    assert_eq!(world.requests(), 1);
    assert_eq!(broker.metrics().fetches, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_tasks_on_four_threads_and_a_socket_make_one_request() {
    let world = World::on_sockets().await;
    let broker = Broker::builder().build(world.client()).unwrap();
    for caller in spawn(&broker, 10_000) {
        caller.await.unwrap().unwrap();
    }
    assert_eq!(world.requests(), 1);
}

#[tokio::test]
async fn twenty_tasks_on_a_failing_fetch_share_one_flight_one_wait_and_one_error() {
    let world = World::new().await;
    let broker = world.broker();
    world.emulator.faults().add(slow());
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).error(7_000_215));
    let before = world.clock.now();
    let mut traces = Vec::new();
    for caller in spawn(&broker, 20) {
        let error = world.see(world.run(secs(1), caller).await.unwrap()).unwrap_err();
        assert_eq!((error.kind(), error.held_for()), (ErrorKind::Credential, None));
        traces.push(error.trace_id().unwrap().to_owned());
    }
    assert!(traces.iter().all(|trace| *trace == traces[0]));
    assert_eq!(before.until(world.clock.now()), Duration::from_millis(100), "they waited side by side");
    assert_eq!(world.requests(), 1);
}

#[tokio::test]
async fn callers_that_give_up_neither_repeat_nor_end_the_fetch() {
    let world = World::new().await;
    let broker = world.broker();
    world.emulator.faults().add(slow());
    let impatient = CallOptions::new().timeout(Duration::from_millis(80));
    for _ in 0..5 {
        // Five that go away without a word.
        let mut call = Box::pin(broker.get_token(VAULT));
        assert!(poll_once(call.as_mut()).is_pending());
    }
    for _ in 0..5 {
        // And five whose time is up.
        let options = impatient.clone().label("impatient").timeout(Duration::from_millis(16));
        let error = world.get(broker.get_token_with(VAULT, &options)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.to_string().contains(VAULT) && !error.advice().is_empty(), "{error}");
    }
    assert_eq!(broker.metrics().in_flight, 1);
    world.pass(Duration::from_millis(25)).await;
    world.at_once(broker.get_token(VAULT)).unwrap();
    assert_eq!(world.requests(), 1);
}

#[tokio::test]
async fn a_caller_waits_no_longer_than_it_said() {
    let world = World::new().await;
    // Not the emulator: three attempts and the pauses between them may take less than 31.2 s.
    let broker = world.builder().build(FnProvider::new(|_, _| Box::pin(std::future::pending()))).unwrap();
    let before = world.clock.now();
    let options = CallOptions::new().timeout(Duration::from_millis(1_234));
    world.get(broker.get_token_with(VAULT, &options)).await.unwrap_err();
    assert_eq!(before.until(world.clock.now()), Duration::from_millis(1_234));
    world.get(broker.get_token(VAULT)).await.unwrap_err();
    assert_eq!(
        before.until(world.clock.now()),
        secs(30) + Duration::from_millis(1_234),
        "30 s where it says nothing"
    );
}

/// Panics where `panics` says so, and brings a token otherwise.
fn fickle(
    world: &World,
    panics: impl Fn(usize) -> bool + Send + Sync + 'static,
) -> (Broker, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let (counted, panics) = (Arc::clone(&calls), Arc::new(panics));
    let provider = FnProvider::new(move |cx, _| {
        let (call, panics) = (counted.fetch_add(1, Ordering::SeqCst), Arc::clone(&panics));
        Box::pin(async move {
            cx.clock().sleep(secs(1)).await;
            assert!(!panics(call), "a provider panics");
            Ok(Fetched::new(format!("token-{call}"), cx.clock().now(), secs(3600)))
        })
    });
    (world.builder().build(provider).unwrap(), calls)
}

#[tokio::test]
async fn a_provider_that_panics_is_an_error_for_those_who_waited_and_nothing_for_the_next() {
    let world = World::new().await;
    let (broker, calls) = fickle(&world, |call| call == 0);
    let waiting = spawn(&broker, 10);
    for caller in waiting {
        let error = world.see(world.run(secs(2), caller).await.unwrap()).unwrap_err();
        assert_eq!(error.blame(), entra_broker::Blame::Program);
        assert!(error.to_string().contains("panicked"), "{error}");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(broker.metrics().in_flight, 0);
    assert_eq!(world.get(broker.get_token(VAULT)).await.unwrap().secret(), "token-1");
}

#[tokio::test]
async fn a_panic_in_a_refresh_costs_nobody_the_token_that_still_lives() {
    let world = World::new().await;
    let (broker, calls) = fickle(&world, |call| (1..4).contains(&call));
    let old = world.get(broker.get_token(VAULT)).await.unwrap();
    while calls.load(Ordering::SeqCst) < 5 {
        world.at_once(broker.get_token(VAULT)).unwrap();
        world.pass(secs(1)).await;
        assert!(world.clock.now().wall() < old.expires_on());
    }
    world.pass(secs(2)).await;
    assert_eq!(world.at_once(broker.get_token(VAULT)).unwrap().secret(), "token-4");
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_runtime_that_is_dropped_in_a_fetch_leaves_the_rest_to_those_who_still_wait() {
    let (first, second) = (runtime(), runtime());
    let world = second.block_on(World::new());
    let broker = world.broker();
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).hang().times(1));
    first.block_on(async {
        let call = spawn(&broker, 1).remove(0);
        settle().await;
        assert_eq!(world.requests(), 1);
        drop(call);
    });
    let token = second.block_on(async {
        let mut waiting = Box::pin(broker.get_token(VAULT));
        assert!(poll_once(waiting.as_mut()).is_pending());
        assert_eq!((world.requests(), broker.metrics().in_flight), (1, 1));
        std::thread::spawn(move || drop(first)).join().unwrap();
        world.get(waiting).await
    });
    token.unwrap();
    assert_eq!(world.requests(), 2);
    assert_eq!(broker.metrics().in_flight, 0);
}

#[test]
fn a_runtime_that_is_parked_in_a_fetch_is_taken_over_and_sends_nothing_when_it_wakes() {
    let (first, second) = (runtime(), runtime());
    let world = second.block_on(World::new());
    let broker = world.broker();
    first.block_on(async {
        // The fetch is begun, but before it can send anything nobody runs this runtime any more.
        let mut call = Box::pin(broker.get_token(VAULT));
        assert!(poll_once(call.as_mut()).is_pending());
    });
    assert_eq!((world.requests(), broker.metrics().in_flight), (0, 1));
    second.block_on(async {
        let before = world.clock.now();
        world.get(broker.get_token(VAULT)).await.unwrap();
        assert_eq!(before.until(world.clock.now()), secs(15));
        assert_eq!((world.requests(), broker.metrics().takeovers), (1, 1));
    });
    first.block_on(settle());
    assert_eq!(world.requests(), 1, "the old leader found that it leads no more");
    assert_eq!(broker.metrics().in_flight, 0);
    second.block_on(async {
        world.at_once(broker.get_token(VAULT)).unwrap();
    });
}

#[tokio::test]
async fn a_slow_provider_on_a_running_runtime_is_not_taken_over() {
    let world = World::new().await;
    let provider = FnProvider::new(|cx, _| {
        Box::pin(async move {
            let sent = cx.clock().now();
            cx.clock().sleep(secs(25)).await;
            Ok(Fetched::new("slow", sent, secs(3600)))
        })
    });
    let broker = world.builder().build(provider).unwrap();
    world.get(broker.get_token(VAULT)).await.unwrap();
    assert_eq!((broker.metrics().takeovers, broker.metrics().fetches), (0, 1));
}

#[tokio::test]
async fn a_provider_that_never_returns_ends_at_its_budget() {
    let world = World::new().await;
    let provider = FnProvider::new(|_, _| Box::pin(std::future::pending()));
    let broker = world.builder().build(provider).unwrap();
    let before = world.clock.now();
    let options = CallOptions::new().timeout(secs(100));
    let error = world.get(broker.get_token_with(VAULT, &options)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(before.until(world.clock.now()), secs(60));
}

#[test]
fn without_a_runtime_a_hit_is_a_hit_and_a_miss_is_an_error_that_says_so() {
    let runtime = runtime();
    let world = runtime.block_on(World::new());
    let broker = world.broker();
    let error = world.at_once(broker.get_token(VAULT)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("no tokio runtime"), "{error}");
    let token = runtime.block_on(async { world.get(broker.get_token(VAULT)).await.unwrap() });
    assert!(world.at_once(broker.get_token(VAULT)).unwrap().is_same(&token));
    // Due, with nobody to refresh it: served all the same.
    world.time.advance(secs(2_500));
    assert!(world.at_once(broker.get_token(VAULT)).unwrap().is_same(&token));
}

#[tokio::test]
async fn a_challenge_passes_the_cached_token_over_and_what_comes_replaces_it_for_all() {
    let world = World::new().await;
    let broker = world.broker();
    let old = world.get(broker.get_token(VAULT)).await.unwrap();
    let claims =
        Claims::parse(r#"{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}"#).unwrap();
    let options = CallOptions::new().challenge(claims);
    world.pass(secs(2)).await;
    let new = world.get(broker.get_token_with(VAULT, &options)).await.unwrap();
    assert!(!new.is_same(&old));
    assert!(world.at_once(broker.get_token(VAULT)).unwrap().is_same(&new));
    assert_eq!((world.requests(), broker.metrics().entries), (2, 1));
}

#[tokio::test]
async fn a_refused_token_goes_alone_and_may_not_come_back() {
    let world = World::new().await;
    let broker = world.broker();
    let (vault, storage) = (
        world.get(broker.get_token(VAULT)).await.unwrap(),
        world.get(broker.get_token(STORAGE)).await.unwrap(),
    );
    assert!(broker.invalidate(&vault) && !broker.invalidate(&vault));
    assert!(broker.peek(VAULT).is_none());
    assert!(world.at_once(broker.get_token(STORAGE)).unwrap().is_same(&storage));
    world.pass(secs(1)).await;
    let renewed = world.get(broker.get_token(VAULT)).await.unwrap();
    assert!(!broker.invalidate(&vault), "it is no longer the cached one");
    assert!(world.at_once(broker.get_token(VAULT)).unwrap().is_same(&renewed));

    // A source that has only the refused one to give, as a managed-identity endpoint may.
    let same = serde_json::json!({ "access_token": "the-same-again" });
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).merge(same));
    broker.invalidate(&renewed);
    let token = world.get(broker.get_token(VAULT)).await.unwrap();
    broker.invalidate(&token);
    let error = world.get(broker.get_token(VAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TokenRefused);
    let requests = world.requests();
    assert!(world.at_once(broker.get_token(VAULT)).unwrap_err().held_for().is_some());
    assert_eq!(world.requests(), requests);
}

#[tokio::test]
async fn closing_tells_those_who_wait_and_all_who_come_after() {
    let world = World::new().await;
    let broker = world.broker();
    world.get(broker.get_token(VAULT)).await.unwrap();
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).resource(sample::STORAGE).hang());
    let waiting = tokio::spawn({
        let broker = broker.clone();
        async move { broker.get_token(STORAGE).await }
    });
    settle().await;
    broker.close().await;
    assert_eq!(world.see(waiting.await.unwrap()).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(world.at_once(broker.get_token(VAULT)).unwrap_err().kind(), ErrorKind::Closed);
    assert!(broker.peek(VAULT).is_none());
    broker.close().await;
    assert_eq!(broker.metrics().in_flight, 0);
}
