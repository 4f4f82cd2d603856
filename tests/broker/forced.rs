//! Callers that do not want the cached token, without being able to say why.

use std::sync::Arc;

use entra_broker::{
    Broker, CallOptions, Claims, ErrorKind, Fetched, FnProvider, Reason,
    emulator::{Endpoint, Fault},
};

use crate::support::{VAULT, World, secs, settle};

fn forced() -> CallOptions {
    CallOptions::new().force_refresh()
}

#[tokio::test]
async fn a_forced_call_passes_the_cached_token_over_and_what_comes_replaces_it_for_all() {
    let world = World::new().await;
    let broker = world.broker();
    let old = world.get(broker.get_token(VAULT)).await.unwrap();
    world.pass(secs(2)).await;
    let new = world.get(broker.get_token_with(VAULT, &forced())).await.unwrap();
    assert!(!new.is_same(&old) && new.secret() != old.secret());
    assert!(world.at_once(broker.get_token(VAULT)).unwrap().is_same(&new));
    assert_eq!((world.requests(), broker.metrics().entries), (2, 1));
}

#[tokio::test]
async fn those_who_force_at_once_share_one_fetch_and_the_next_one_has_its_own() {
    let world = World::new().await;
    let broker = world.broker();
    let old = world.get(broker.get_token(VAULT)).await.unwrap();
    world.pass(secs(2)).await;
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let broker = broker.clone();
            tokio::spawn(async move { broker.get_token_with(VAULT, &forced()).await })
        })
        .collect();
    settle().await;
    let mut new = Vec::new();
    for call in calls {
        new.push(world.see(call.await.unwrap()).unwrap());
    }
    assert!(new.iter().all(|token| token.is_same(&new[0]) && !token.is_same(&old)));
    assert_eq!(world.requests(), 2);
    world.pass(secs(2)).await;
    let next = world.get(broker.get_token_with(VAULT, &forced())).await.unwrap();
    assert!(!next.is_same(&new[0]));
    assert_eq!(world.requests(), 3);
}

#[tokio::test]
async fn a_refresh_that_was_under_way_is_not_what_was_asked_for() {
    let world = World::new().await;
    let broker = world.broker();
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).delay(secs(3)).times(1));
    let begun_before = tokio::spawn({
        let broker = broker.clone();
        async move { broker.get_token(VAULT).await }
    });
    settle().await;
    let forced = forced();
    let new = world.get(broker.get_token_with(VAULT, &forced)).await.unwrap();
    let before = world.see(begun_before.await.unwrap()).unwrap();
    assert!(!new.is_same(&before));
    assert_eq!(world.requests(), 2);
}

#[tokio::test]
async fn a_forced_call_that_fails_gets_the_error_and_the_cached_token_stays() {
    let world = World::new().await;
    let broker = world.broker();
    let old = world.get(broker.get_token(VAULT)).await.unwrap();
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).error(7_000_215).times(1));
    let error = world.get(broker.get_token_with(VAULT, &forced())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credential);
    assert!(world.at_once(broker.get_token(VAULT)).unwrap().is_same(&old));
}

#[tokio::test]
async fn a_source_that_gives_the_same_token_again_has_not_done_what_was_asked_for() {
    let world = World::new().await;
    let broker = world.broker();
    let same = serde_json::json!({ "access_token": "the-same-again" });
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).merge(same));
    let old = world.get(broker.get_token(VAULT)).await.unwrap();
    let error = world.get(broker.get_token_with(VAULT, &forced())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TokenRefused);
    assert!(world.at_once(broker.get_token(VAULT)).unwrap().is_same(&old));
}

#[tokio::test]
async fn the_provider_is_told_that_it_is_forced_and_a_challenge_counts_whichever_is_said_first() {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let provider = FnProvider::new({
        let seen = Arc::clone(&seen);
        move |cx, _| {
            let mut seen = seen.lock().unwrap();
            seen.push((cx.reason(), cx.challenge().is_some()));
            let fetched = Fetched::new(format!("token-{}", seen.len()), cx.clock().now(), secs(3600));
            Box::pin(async { Ok(fetched) })
        }
    });
    let broker = Broker::new(provider).unwrap();
    let claims = Claims::parse(r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#).unwrap();
    let both = [forced().challenge(claims.clone()), CallOptions::new().challenge(claims).force_refresh()];
    for options in [CallOptions::new(), forced()].into_iter().chain(both) {
        broker.get_token_with(VAULT, &options).await.unwrap();
    }
    let forced = |challenged| (Reason::Forced, challenged);
    assert_eq!(*seen.lock().unwrap(), [(Reason::Miss, false), forced(false), forced(true), forced(true)]);
}
