//! Clocks that step and machines that sleep: a dead token is never served, and a good one is not thrown away.

use entra_broker::{
    ErrorKind,
    emulator::{Endpoint, Fault},
};

use crate::support::*;

#[tokio::test]
async fn a_token_that_died_while_the_machine_slept_is_not_served() {
    let world = World::new().await;
    let broker = world.broker();
    let old = world.get(broker.get_token(VAULT)).await.unwrap();
    let handle = broker.handle(&request(VAULT));
    world.time.suspend(secs(3_600));
    assert!(broker.peek(VAULT).is_none());
    assert!(handle.with(|_| ()).is_none());
    let new = world.get(broker.get_token(VAULT)).await.unwrap();
    assert!(!new.is_same(&old));
}

#[tokio::test]
async fn a_short_sleep_leaves_the_token_and_counts() {
    let world = World::new().await;
    let broker = world.broker();
    let old = world.get(broker.get_token(VAULT)).await.unwrap();
    world.time.suspend(secs(1_000));
    assert!(world.at_once(broker.get_token(VAULT)).unwrap().is_same(&old));
    world.pass(secs(2_000)).await;
    assert_eq!(world.requests(), 2, "at 3,000 s of its life it was refreshed");
}

#[tokio::test]
async fn a_sleep_during_a_flight_does_not_make_the_token_look_younger() {
    let world = World::new().await;
    let broker = world.broker();
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).delay(secs(1)).times(1));
    let mut call = Box::pin(broker.get_token(VAULT));
    assert!(poll_once(call.as_mut()).is_pending());
    settle().await;
    assert_eq!(world.requests(), 1);
    // The answer left the service before the machine slept, as far as anyone can know.
    world.time.suspend(secs(3_600));
    // Its caller has waited for an hour, and is told so.
    assert_eq!(world.get(call).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(broker.peek(VAULT).is_none(), "what came is an hour old");
    let token = world.get(broker.get_token(VAULT)).await.unwrap();
    assert!(token.expires_on() > world.clock.now().wall());
    assert_eq!(world.requests(), 2);
}

#[tokio::test]
async fn a_wall_clock_that_is_set_ahead_empties_nothing() {
    let world = World::new().await;
    let broker = world.broker();
    let old = world.get(broker.get_token(VAULT)).await.unwrap();
    world.time.step_forward(secs(86_400));
    assert!(world.at_once(broker.get_token(VAULT)).unwrap().is_same(&old));
    assert_eq!(world.requests(), 1);
}

#[tokio::test]
async fn a_wall_clock_that_is_set_back_serves_on_and_keeps_no_token_alive() {
    let world = World::new().await;
    let broker = world.broker();
    let old = world.get(broker.get_token(VAULT)).await.unwrap();
    world.time.step_back(secs(86_400));
    assert!(world.at_once(broker.get_token(VAULT)).unwrap().is_same(&old));
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).status(503));
    world.pass(secs(3_600)).await;
    assert!(broker.peek(VAULT).is_none(), "it died when its hour was over");
}

#[tokio::test]
async fn a_sleep_and_a_step_at_once_are_told_apart() {
    let world = World::new().await;
    let broker = world.broker();
    world.get(broker.get_token(VAULT)).await.unwrap();
    world.time.suspend(secs(4_000));
    world.time.step_back(secs(3_000));
    assert!(broker.peek(VAULT).is_none());
}

#[tokio::test]
async fn expiry_counts_from_when_the_request_was_sent() {
    let world = World::new().await;
    let broker = world.broker();
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).delay(secs(9)));
    let token = world.get(broker.get_token(VAULT)).await.unwrap();
    assert_eq!(world.clock.now().wall(), start() + secs(9));
    assert_eq!(token.expires_on(), start() + secs(3_599));
}
