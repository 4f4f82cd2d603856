//! Failures are remembered, briefly, at the width of their cause.

use std::time::Duration;

use entra_broker::{
    Error, ErrorKind, FnProvider, Subject, TenantId, UserId,
    emulator::{Endpoint, Fault, sample},
};

use crate::support::*;

#[tokio::test]
async fn a_retry_after_of_an_hour_is_an_error_at_once_and_held_for_five_minutes() {
    let world = World::new().await;
    let broker = world.broker();
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).status(429).retry_after(secs(3_600)));
    let before = world.clock.now();
    let error = world.get(broker.get_token(VAULT)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retry_after(), error.held_for()),
        (ErrorKind::Throttled, Some(secs(3_600)), None)
    );
    assert_eq!(before.until(world.clock.now()), Duration::ZERO, "nobody sleeps an hour");
    assert_eq!(world.requests(), 1);

    // Whoever asks now, for whatever, gets it at once.
    for scope in [VAULT, STORAGE] {
        let held = world.at_once(broker.get_token(scope)).unwrap_err();
        assert_eq!(
            (held.kind(), held.status(), held.held_for()),
            (ErrorKind::Throttled, Some(429), Some(secs(300)))
        );
    }
    world.pass(secs(299)).await;
    world.at_once(broker.get_token(STORAGE)).unwrap_err();
    assert_eq!(world.requests(), 1);
    world.emulator.faults().clear();
    world.pass(secs(1)).await;
    world.get(broker.get_token(STORAGE)).await.unwrap();
    world.get(broker.get_token(VAULT)).await.unwrap();
}

#[tokio::test]
async fn a_retry_after_that_fits_is_waited_for() {
    let world = World::new().await;
    let broker = world.broker();
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).status(503).retry_after(secs(7)).times(1));
    let before = world.clock.now();
    world.get(broker.get_token(VAULT)).await.unwrap();
    assert_eq!(before.until(world.clock.now()), secs(7));
    assert_eq!(world.requests(), 2);
}

/// A key of its own for each `n`, all of one client in one tenant.
fn scope(n: usize) -> String {
    format!("api://aaaaaaaa-0000-0000-0000-000000000002/{n}/.default")
}

#[tokio::test]
async fn one_wrong_secret_and_ten_thousand_keys_are_one_request_a_hold_and_then_one_probe() {
    let world = World::new().await;
    let broker = world.builder().build(world.client_with("wrong-secret")).unwrap();
    let error = world.get(broker.get_token(&*scope(0))).await.unwrap_err();
    assert_eq!((error.kind(), world.requests()), (ErrorKind::Credential, 1));
    for n in 0..10_000 {
        let error = world.at_once(broker.get_token(&*scope(n))).unwrap_err();
        assert_eq!((error.kind(), error.held_for().is_some()), (ErrorKind::Credential, true));
    }
    assert_eq!(world.requests(), 1);
    world.pass(secs(10)).await;

    // The hold has ended. One finds out, and until it has, all others are told what is known.
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).delay(secs(1)));
    let mut probe = Box::pin(broker.get_token(VAULT));
    assert!(poll_once(probe.as_mut()).is_pending());
    for n in 0..10_000 {
        world.at_once(broker.get_token(&*scope(n))).unwrap_err();
    }
    world.get(probe).await.unwrap_err();
    assert_eq!(world.requests(), 2);
    // The next hold is twice as long.
    world.pass(secs(19)).await;
    world.at_once(broker.get_token(&*scope(7))).unwrap_err();
    assert_eq!(world.requests(), 2);
    world.pass(secs(1)).await;
    world.get(broker.get_token(&*scope(7))).await.unwrap_err();
    assert_eq!(world.requests(), 3);
}

#[tokio::test]
async fn ten_thousand_flights_that_begin_at_once_send_nothing_more_once_the_first_answer_is_in() {
    let world = World::new().await;
    let broker = world.builder().build(world.client_with("wrong-secret")).unwrap();
    let before = world.requests();
    let callers: Vec<_> = (0..10_000)
        .map(|n| {
            let broker = broker.clone();
            tokio::spawn(async move { broker.get_token(&*scope(n)).await })
        })
        .collect();
    for caller in callers {
        let error: Error = world.run(secs(1), caller).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Credential);
    }
    let sent = world.requests() - before;
    assert!(sent < 10_000, "{sent} requests");
    assert_eq!(broker.metrics().in_flight, 0);
    let entries = world.requests();
    world.at_once(broker.get_token(VAULT)).unwrap_err();
    assert_eq!(world.requests(), entries);
}

#[tokio::test]
async fn a_repaired_secret_works_as_soon_as_the_hold_has_ended() {
    let world = World::new().await;
    let broker = world.builder().build(world.client_with("wrong-secret")).unwrap();
    world.get(broker.get_token(VAULT)).await.unwrap_err();
    world.emulator.directory().add_secret(sample::SECRET_APP, "wrong-secret");
    world.at_once(broker.get_token(VAULT)).unwrap_err();
    world.pass(secs(10)).await;
    world.get(broker.get_token(VAULT)).await.unwrap();
    world.get(broker.get_token(STORAGE)).await.unwrap();
}

#[tokio::test]
async fn a_missing_consent_holds_its_tenant_and_resource_alone() {
    let world = World::new().await;
    let broker = world.builder().allow_all_tenants().build(world.client()).unwrap();
    let customer = TenantId::parse(sample::CUSTOMER_WITHOUT_CONSENT).unwrap();
    let foreign = request(VAULT).tenant(customer.clone());
    let error = world.get(broker.get_token(&foreign)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tenant);
    world.get(broker.get_token(VAULT)).await.unwrap();
    assert!(world.at_once(broker.get_token(&foreign)).unwrap_err().held_for().is_some());
    // The customer consents, and within two minutes it works.
    world.emulator.directory().add_service_principal(sample::CUSTOMER_WITHOUT_CONSENT, sample::SECRET_APP);
    world.pass(secs(120)).await;
    world.get(broker.get_token(&foreign)).await.unwrap();
}

#[tokio::test]
async fn a_service_that_is_down_is_not_asked_for_other_keys_either() {
    let world = World::new().await;
    let broker = world.broker();
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).status(503));
    world.get(broker.get_token(VAULT)).await.unwrap_err();
    assert_eq!(world.requests(), 3, "three attempts");
    assert!(world.at_once(broker.get_token(STORAGE)).unwrap_err().held_for().is_some());
    assert_eq!(world.requests(), 3);
}

#[tokio::test]
async fn a_refused_connection_is_this_keys_own_matter() {
    let world = World::new().await;
    let broker = world.broker();
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).resource(sample::KEY_VAULT).refuse());
    let error = world.get(broker.get_token(VAULT)).await.unwrap_err();
    assert_eq!((error.kind(), error.blame()), (ErrorKind::Unavailable, entra_broker::Blame::Network));
    assert_eq!(world.emulator.journal().refused(), 3);
    world.get(broker.get_token(STORAGE)).await.unwrap();
}

#[tokio::test]
async fn holds_grow_and_end_without_a_success_too() {
    let world = World::new().await;
    let broker = world
        .builder()
        .build(FnProvider::new(|_, _| {
            Box::pin(async { Err(Error::new(ErrorKind::Resource, "no such resource")) })
        }))
        .unwrap();
    let mut holds = Vec::new();
    for _ in 0..6 {
        world.get(broker.get_token(VAULT)).await.unwrap_err();
        let held = world.at_once(broker.get_token(VAULT)).unwrap_err().held_for().unwrap();
        holds.push(held.as_secs());
        world.pass(held).await;
    }
    assert_eq!(holds, [10, 20, 40, 80, 120, 120]);
}

#[tokio::test]
async fn the_failures_of_users_are_their_own() {
    let world = World::new().await;
    let broker = world.broker();
    let of = |name: &str| request(VAULT).subject(Subject::User(UserId::new(name).unwrap()));
    world.get(broker.get_token(&of("alice"))).await.unwrap_err();
    let bob = world.get(broker.get_token(&of("bob"))).await.unwrap_err();
    assert_eq!((bob.kind(), bob.held_for()), (ErrorKind::SignInRequired, None));
}
