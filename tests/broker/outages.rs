//! A refresh that fails never costs anyone a token that still lives.

use entra_broker::{
    AccessToken, Broker, ErrorKind,
    emulator::{Endpoint, Fault},
};

use crate::support::*;

fn failing() -> Fault {
    Fault::on(Endpoint::TokenService)
}

/// 1,000 callers get the old token on their first poll.
fn nobody_waits(world: &World, broker: &Broker, old: &AccessToken) {
    for _ in 0..1_000 {
        assert!(ready(broker.get_token(VAULT)).unwrap().is_same(old), "at {:?}", world.clock.now());
    }
}

/// The whole life of a token whose refresh fails in one way.
async fn an_outage(fault: Fault, kind: ErrorKind, first_hold: u64) {
    let world = World::new().await;
    let broker = world.broker();
    let old = world.get(broker.get_token(VAULT)).await.unwrap();
    world.emulator.faults().add(fault);
    let life = || old.expires_on().duration_since(world.clock.now().wall()).unwrap_or_default();

    // The first refresh is tried when it is due, without anyone waiting for it.
    let before_due = old.refresh_on().duration_since(world.clock.now().wall()).unwrap() - secs(1) / 10;
    world.pass(before_due).await;
    assert_eq!(world.requests(), 1, "not before it is due");
    world.pass(secs(2) / 10).await;
    assert_eq!(world.requests(), 2, "nobody tried to refresh it");
    // It ends, at the latest after three attempts of 10 s and the pauses between.
    while broker.metrics().failures == 0 {
        nobody_waits(&world, &broker, &old);
        world.pass(secs(1) / 10).await;
    }
    // Nothing is sent before the hold ends, which is at least four fifths of its length.
    let sent = world.requests();
    world.pass(secs(first_hold) * 6 / 10).await;
    nobody_waits(&world, &broker, &old);
    world.pass(secs(first_hold) / 20).await;
    assert_eq!(world.requests(), sent, "a request went out while the failure was held");
    // When it has ended, the next one does.
    world.pass(secs(first_hold) / 2 + secs(1)).await;
    assert!(world.requests() > sent, "nothing was tried after the hold");

    // On until the last call, whatever is under way.
    while life() > secs(31) {
        nobody_waits(&world, &broker, &old);
        world.pass(secs(7).min(life() - secs(30))).await;
    }
    // In it a caller may wait for a refresh, and gets the old token if that fails.
    world.pass(life() - secs(20)).await;
    let callers: Vec<_> = (0..1_000)
        .map(|_| {
            let broker = broker.clone();
            tokio::spawn(async move { broker.get_token(VAULT).await })
        })
        .collect();
    for caller in callers {
        let token = world.run(secs(20), caller).await.unwrap().unwrap();
        assert!(token.is_same(&old));
    }
    assert!(life() > secs(0), "they had it while it lived");

    // Dead is dead: now it is the failure that is told.
    world.pass(life() + secs(1)).await;
    let error = world.get(broker.get_token(VAULT)).await.unwrap_err();
    assert_eq!(error.kind(), kind);

    // And when the cause is gone, so is the failure.
    world.emulator.faults().clear();
    world.pass(secs(130)).await;
    let renewed = world.get(broker.get_token(VAULT)).await.unwrap();
    assert!(!renewed.is_same(&old));
}

#[tokio::test]
async fn a_refresh_that_fails_with_500_costs_nobody_the_token() {
    an_outage(failing().status(500), ErrorKind::Unavailable, 1).await;
}

#[tokio::test]
async fn a_refresh_that_fails_with_401_costs_nobody_the_token() {
    an_outage(failing().error(7_000_215), ErrorKind::Credential, 10).await;
}

#[tokio::test]
async fn a_refresh_that_times_out_costs_nobody_the_token() {
    an_outage(failing().hang(), ErrorKind::Timeout, 1).await;
}

#[tokio::test]
async fn a_refresh_that_brings_garbage_costs_nobody_the_token() {
    let page = "<html><body>It works!</body></html>";
    an_outage(failing().body("text/html", page), ErrorKind::Protocol, 1).await;
}

#[tokio::test]
async fn a_token_that_a_caller_waits_for_in_the_last_call_is_the_new_one_if_it_comes() {
    let world = World::new().await;
    let broker = world.broker();
    let old = world.get(broker.get_token(VAULT)).await.unwrap();
    let outage = world.emulator.faults().add(failing().status(503));
    world.pass(secs(3_599 - 25)).await;
    world.emulator.faults().remove(outage);
    // The hold of the outage may still be on, and then the old token is given at once.
    let mut renewed = world.get(broker.get_token(VAULT)).await.unwrap();
    let mut waited = 0;
    while renewed.is_same(&old) && waited < 24 {
        world.pass(secs(1)).await;
        waited += 1;
        renewed = world.get(broker.get_token(VAULT)).await.unwrap();
    }
    world.pass(secs(60)).await;
    renewed = world.get(broker.get_token(VAULT)).await.unwrap();
    assert!(!renewed.is_same(&old));
}

#[tokio::test]
async fn an_outage_shorter_than_a_third_of_the_life_is_never_felt() {
    let world = World::new().await;
    let broker = world.broker();
    let old = world.get(broker.get_token(VAULT)).await.unwrap();
    world.pass(secs(2_000)).await;
    world.emulator.faults().add(failing().status(503));
    for _ in 0..1_190 {
        assert!(world.at_once(broker.get_token(VAULT)).unwrap().is_same(&old));
        world.pass(secs(1)).await;
    }
    world.emulator.faults().clear();
    for _ in 0..100 {
        world.at_once(broker.get_token(VAULT)).unwrap();
        world.pass(secs(1)).await;
    }
    assert!(!world.at_once(broker.get_token(VAULT)).unwrap().is_same(&old));
}
