//! Fetching ahead: bounded in number and time, and of each failure the reason.

use std::{collections::HashSet, pin::pin, time::Duration};

use entra_broker::{
    Blame, CallOptions, Env, Error, ErrorKind, StaticToken, TenantId, TokenRequest,
    emulator::{Endpoint, Fault, Resource, sample},
};

use crate::support::*;

fn fault() -> Fault {
    Fault::on(Endpoint::TokenService)
}

async fn world() -> World {
    let world = World::new().await;
    world.emulator.directory().add_resource(Resource::new("https://*.contoso.test"));
    world
}

fn keys(n: usize) -> Vec<TokenRequest> {
    (0..n).map(|n| request(&format!("https://resource-{n}.contoso.test/.default"))).collect()
}

/// When requests arrived, in milliseconds, with how many.
fn arrivals(world: &World) -> Vec<(u128, usize)> {
    let mut arrivals: Vec<(u128, usize)> = Vec::new();
    for entry in world.emulator.journal().entries() {
        let at = entry.at.duration_since(start()).unwrap().as_millis();
        match arrivals.last_mut() {
            Some((last, count)) if *last == at => *count += 1,
            _ => arrivals.push((at, 1)),
        }
    }
    arrivals
}

#[tokio::test]
async fn requests_are_fetched_ahead_so_many_at_a_time_and_are_hits_afterwards() {
    let world = world().await;
    let broker = world.builder().background_fetches(10).build(world.client()).unwrap();
    world.emulator.faults().add(fault().delay(Duration::from_millis(100)));
    let keys = keys(25);
    let warmed = world.run(secs(1), broker.warm(&keys)).await;
    assert!(warmed.is_complete() && warmed.ready() == 25 && warmed.failures().is_empty());
    assert_eq!(arrivals(&world), [(0, 10), (100, 10), (200, 5)]);
    for key in &keys {
        world.at_once(broker.get_token(key)).unwrap();
    }
    // What is cached costs no request, and no wait.
    assert_eq!(ready(broker.warm(&keys)).ready(), 25);
    assert_eq!((world.requests(), broker.metrics().fetches), (25, 25));
}

#[tokio::test]
async fn as_soon_as_one_has_landed_the_next_begins() {
    let world = world().await;
    let broker = world.builder().background_fetches(2).build(world.client()).unwrap();
    let slow = |n: usize, delay| {
        fault().resource(format!("https://resource-{n}.contoso.test")).delay(Duration::from_millis(delay))
    };
    world.emulator.faults().add(slow(0, 1_000));
    for n in 1..5 {
        world.emulator.faults().add(slow(n, 200));
    }
    let warmed = world.run(secs(2), broker.warm(&keys(5))).await;
    assert!(warmed.is_complete());
    assert_eq!(arrivals(&world), [(0, 2), (200, 1), (400, 1), (600, 1)]);
}

#[tokio::test]
async fn the_same_request_many_times_is_one_fetch() {
    let world = world().await;
    let broker = world.builder().background_fetches(3).build(world.client()).unwrap();
    world.emulator.faults().add(fault().delay(secs(1)));
    let twice: Vec<_> = keys(4).into_iter().cycle().take(40).collect();
    let warmed = world.run(secs(5), broker.warm(&twice)).await;
    assert_eq!((warmed.ready(), warmed.failures().len(), world.requests()), (40, 0, 4));
    assert!(ready(broker.warm(&[])).is_complete());
}

#[tokio::test]
async fn failures_are_told_by_their_place_in_order_and_cost_the_others_nothing() {
    let world = world().await;
    let broker = world
        .builder()
        .allow_tenants([TenantId::parse(sample::OTHER_TENANT).unwrap()])
        .build(world.client())
        .unwrap();
    let mut requests = keys(7);
    requests[1] = request("https://unknown.example/.default");
    requests[3] = request(VAULT).tenant(TenantId::parse("strange.test").unwrap());
    requests[5] = request("https://unknown.example/.default");
    requests[6] = request("https://graph.microsoft.com/User.Read");
    // The one that fails first is told last if it stands last.
    world.emulator.faults().add(fault().resource("https://unknown.example").delay(secs(1)));
    let warmed = world.run(secs(5), broker.warm(&requests)).await;
    let failures: Vec<_> = warmed.failures().iter().map(|(place, error)| (*place, error.kind())).collect();
    let (resource, policy, config) = (ErrorKind::Resource, ErrorKind::Policy, ErrorKind::Config);
    assert_eq!(failures, [(1, resource), (3, policy), (5, resource), (6, config)]);
    assert_eq!((warmed.ready(), warmed.is_complete()), (3, false));
    assert_eq!(broker.metrics().fetches, 3 + 1 + 1);
}

#[tokio::test]
async fn a_credential_that_is_refused_is_not_tried_for_each_request() {
    let world = world().await;
    let broker = world.builder().background_fetches(4).build(world.client_with("wrong-secret")).unwrap();
    world.emulator.faults().add(fault().delay(secs(1)));
    let warmed = world.run(secs(5), broker.warm(&keys(1_000))).await;
    assert_eq!((warmed.ready(), warmed.failures().len()), (0, 1_000));
    assert!(warmed.failures().iter().all(|(_, error)| error.kind() == ErrorKind::Credential));
    assert!(warmed.failures().iter().map(|(place, _)| *place).eq(0..1_000));
    assert_eq!(world.requests(), 4, "those that were under way before the first answer came");
}

#[tokio::test]
async fn the_time_out_is_for_all_of_it_and_what_was_under_way_goes_on() {
    let world = world().await;
    let broker = world.builder().background_fetches(2).timeout(secs(4)).build(world.client()).unwrap();
    let keys = keys(100);
    world.get(broker.get_token(&keys[50])).await.unwrap();
    world.emulator.journal().clear();
    world.emulator.faults().add(fault().delay(Duration::from_millis(1_500)));
    let before = world.clock.now();
    let warmed = world.run(secs(10), broker.warm(&keys)).await;
    assert_eq!(before.until(world.clock.now()), secs(4), "the broker's own");
    // Four were done by then, one was cached, two were under way and the others had no turn.
    assert_eq!((warmed.ready(), warmed.failures().len(), world.requests()), (5, 95, 6));
    let places: HashSet<_> = warmed.failures().iter().map(|(place, _)| *place).collect();
    assert!(!places.contains(&50) && (0..4).all(|place| !places.contains(&place)));
    assert!(warmed.failures().iter().all(|(_, error)| error.kind() == ErrorKind::Timeout));
    world.pass(secs(2)).await;
    world.at_once(broker.get_token(&keys[5])).unwrap();
    assert_eq!((world.requests(), broker.metrics().in_flight), (6, 0), "and no others began");

    let short = CallOptions::new().timeout(Duration::from_millis(700));
    let before = world.clock.now();
    let warmed = world.run(secs(10), broker.warm_with(&keys, &short)).await;
    assert_eq!((warmed.ready(), before.until(world.clock.now())), (7, Duration::from_millis(700)));
    let none = CallOptions::new().timeout(Duration::ZERO);
    world.pass(secs(2)).await;
    assert_eq!((ready(broker.warm_with(&keys, &none)).ready(), world.requests()), (9, 8));
}

#[tokio::test]
async fn warming_that_is_given_up_begins_nothing_more() {
    let world = world().await;
    let broker = world.builder().background_fetches(3).build(world.client()).unwrap();
    world.emulator.faults().add(fault().delay(secs(1)));
    let keys = keys(10);
    {
        let mut warming = pin!(broker.warm(&keys));
        assert!(poll_once(warming.as_mut()).is_pending());
        settle().await;
    }
    world.pass(secs(30)).await;
    assert_eq!((world.requests(), broker.metrics().in_flight), (3, 0));
    assert_eq!(keys.iter().filter(|key| broker.peek(*key).is_some()).count(), 3);
}

#[tokio::test]
async fn what_was_warmed_is_refreshed_when_it_is_due() {
    let world = world().await;
    let broker = world.broker();
    let _ = world.run(secs(1), broker.warm(&keys(3))).await;
    world.pass(secs(2_500)).await;
    assert_eq!(world.requests(), 6);
}

#[test]
fn without_a_runtime_each_failure_says_so() {
    let broker = entra_broker::Broker::builder()
        .env(Env::empty())
        .build(StaticToken::new("tok-static-x9").unwrap())
        .unwrap();
    let warmed = ready(broker.warm(&keys(2)));
    assert!(warmed.failures().iter().all(|(_, error): &(_, Error)| error.kind() == ErrorKind::Config));
    assert_eq!(warmed.failures().len(), 2);
}

#[tokio::test]
async fn a_provider_that_panics_fails_what_it_was_asked_for() {
    let world = world().await;
    let provider = entra_broker::FnProvider::new(|cx, request| {
        let bad = request.scopes().to_string().contains("resource-1.");
        Box::pin(async move {
            assert!(!bad, "a provider panics");
            Ok(entra_broker::Fetched::new("tok-warm-x9", cx.clock().now(), secs(3_600)))
        })
    });
    let broker = world.builder().build(provider).unwrap();
    let warmed = world.run(secs(1), broker.warm(&keys(3))).await;
    let failures: Vec<_> = warmed.failures().iter().map(|(place, error)| (*place, error.blame())).collect();
    assert_eq!((warmed.ready(), failures), (2, vec![(1, Blame::Program)]));
}
