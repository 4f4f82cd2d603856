//! A usable token is served without waiting, whatever else goes on.

use entra_broker::{
    TokenRequest,
    emulator::{Endpoint, Fault, sample},
};

use crate::support::*;

#[tokio::test]
async fn a_hit_on_one_scope_does_not_wait_while_the_fetch_of_another_hangs() {
    let world = World::new().await;
    let broker = world.broker();
    let first = world.get(broker.get_token(VAULT)).await.unwrap();
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).resource(sample::STORAGE).hang());
    let hanging = tokio::spawn({
        let broker = broker.clone();
        async move { broker.get_token(STORAGE).await }
    });
    world.emulator.journal().wait_for(2).await;
    for _ in 0..1_000 {
        assert!(world.at_once(broker.get_token(VAULT)).unwrap().is_same(&first));
    }
    hanging.abort();
}

#[tokio::test]
async fn all_ways_to_ask_are_ready_on_their_first_poll_and_give_the_same_token() {
    let world = World::new().await;
    let broker = world.broker();
    let request = request(VAULT);
    let handle = broker.handle(&request);
    assert!(broker.peek(VAULT).is_none() && handle.peek().is_none() && handle.with(|_| ()).is_none());
    let token = world.get(broker.get_token(&request)).await.unwrap();

    assert!(world.at_once(broker.get_token(VAULT)).unwrap().is_same(&token));
    assert!(world.at_once(broker.get_token(&request)).unwrap().is_same(&token));
    assert!(world.at_once(broker.get_token(&TokenRequest::new(VAULT).unwrap())).unwrap().is_same(&token));
    assert!(world.at_once(broker.get_token_with(&request, &Default::default())).unwrap().is_same(&token));
    assert!(world.at_once(handle.get()).unwrap().is_same(&token));
    assert!(broker.peek(VAULT).unwrap().is_same(&token));
    assert!(broker.peek(&request).unwrap().is_same(&token));
    assert!(handle.peek().unwrap().is_same(&token));
    assert_eq!(handle.with(|token| token.secret().len()), Some(token.secret().len()));
    assert_eq!(world.requests(), 1);
}

#[tokio::test]
async fn no_call_waits_across_a_refresh_that_takes_five_seconds() {
    let world = World::new().await;
    let broker = world.broker();
    let old = world.get(broker.get_token(VAULT)).await.unwrap();
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).delay(secs(5)));
    let mut renewed = None;
    // From before the first possible moment of the refresh until well after it.
    world.pass(secs(2_000)).await;
    for _ in 0..6_000 {
        let token = world.at_once(broker.get_token(VAULT)).unwrap();
        if !token.is_same(&old) {
            renewed.get_or_insert_with(|| world.clock.now().wall());
        }
        world.pass(secs(1) / 10).await;
    }
    let renewed = renewed.expect("it was refreshed");
    assert!(
        renewed < old.refresh_on() + secs(6),
        "{:?} after it was due",
        renewed.duration_since(old.refresh_on())
    );
    assert_eq!(world.requests(), 2);
    assert_eq!(broker.metrics().refreshes, 1);
}

#[tokio::test]
async fn hits_are_counted() {
    let world = World::new().await;
    let broker = world.broker();
    world.get(broker.get_token(VAULT)).await.unwrap();
    for _ in 0..10 {
        world.at_once(broker.get_token(VAULT)).unwrap();
    }
    let metrics = broker.metrics();
    assert_eq!((metrics.hits, metrics.waits, metrics.fetches, metrics.entries), (10, 1, 1, 1));
}

#[tokio::test]
async fn header_and_token_say_the_same() {
    let world = World::new().await;
    let broker = world.broker();
    let token = world.get(broker.get_token(VAULT)).await.unwrap();
    let header = token.authorization();
    assert!(header.is_sensitive());
    assert_eq!(header.to_str().unwrap(), format!("Bearer {}", token.secret()));
    assert_eq!(token.expires_on(), start() + secs(3599));
    assert!(token.refresh_on() < token.expires_on() - secs(1_000));
}
