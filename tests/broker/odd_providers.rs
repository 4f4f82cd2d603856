//! Providers that lie about lives and tenants, and callers with little time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use entra_broker::{
    Blame, Broker, CallOptions, Error, ErrorKind, FetchContext, Fetched, FnProvider, Identity, Now,
    StaticToken, TenantId,
    emulator::{Endpoint, Fault, sample},
};
use serde_json::json;

use crate::support::*;

/// Makes a broker whose provider answers at once with what `life` says of the time: from when, and for how long. Counts
/// the fetches.
fn lives(
    world: &World,
    life: impl Fn(&FetchContext) -> (Now, Duration) + Send + Sync + 'static,
) -> (Broker, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let provider = FnProvider::new(move |cx, _| {
        let call = counted.fetch_add(1, Ordering::SeqCst);
        let (sent, lives) = life(cx);
        Box::pin(async move { Ok(Fetched::new(format!("tok-{call}-x9"), sent, lives)) })
    });
    (world.builder().build(provider).unwrap(), calls)
}

/// Someone asks ten times a second, for so long.
async fn asked_all_the_time(world: &World, broker: &Broker, duration: Duration) {
    let end = world.clock.now().after(duration);
    while !world.clock.now().has_reached(end) {
        if let Ok(token) = world.get(broker.get_token(VAULT)).await {
            assert!(world.clock.now().wall() < token.expires_on(), "a dead token");
        }
        world.pass(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_provider_that_returns_an_expired_token_is_told_so_and_not_asked_without_pause() {
    let world = World::new().await;
    let hour = secs(3_600);
    let long_ago = world.clock.now();
    world.time.advance(hour);
    type Sent = Box<dyn Fn(&FetchContext) -> Now + Send + Sync>;
    // It was asked for an hour ago, or it had no life to begin with.
    let dead: [(Sent, Duration); 2] =
        [(Box::new(move |_| long_ago), hour), (Box::new(|cx| cx.clock().now()), Duration::ZERO)];
    for (sent, lives_for) in dead {
        let (broker, calls) = lives(&world, move |cx| (sent(cx), lives_for));
        let error = world.get(broker.get_token(VAULT)).await.unwrap_err();
        assert_eq!((error.kind(), error.blame()), (ErrorKind::Protocol, Blame::Service), "{error}");
        assert!(error.to_string().contains("already expired") && !error.advice().is_empty(), "{error}");
        assert!(broker.peek(VAULT).is_none());
        asked_all_the_time(&world, &broker, secs(600)).await;
        // Holds of 1 s doubling to 60 s, ± a fifth.
        let made = calls.load(Ordering::SeqCst);
        assert!((10..25).contains(&made), "{made} fetches in ten minutes");
    }
}

#[tokio::test]
async fn a_provider_that_never_returns_from_a_refresh_costs_nobody_the_token_that_lives() {
    let world = World::new().await;
    let (calls, works) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(true)));
    let (counted, working) = (Arc::clone(&calls), Arc::clone(&works));
    let provider = FnProvider::new(move |cx, _| {
        let (call, sent) = (counted.fetch_add(1, Ordering::SeqCst), cx.clock().now());
        let works = working.load(Ordering::SeqCst);
        Box::pin(async move {
            if !works {
                std::future::pending::<()>().await;
            }
            Ok(Fetched::new(format!("tok-{call}-x9"), sent, secs(3_600)))
        })
    });
    let broker = world.builder().build(provider).unwrap();
    let old = world.get(broker.get_token(VAULT)).await.unwrap();
    works.store(false, Ordering::SeqCst);
    let left = || old.expires_on().duration_since(world.clock.now().wall()).unwrap_or_default();
    while left() > secs(30) {
        assert!(world.at_once(broker.get_token(VAULT)).unwrap().is_same(&old));
        world.pass(secs(1)).await;
    }
    // In its last call the refresh may be waited for, but not beyond the token's end.
    while left() > secs(2) {
        assert!(world.get(broker.get_token(VAULT)).await.unwrap().is_same(&old));
        assert!(left() > Duration::ZERO);
        world.pass(secs(1)).await;
    }
    world.pass(secs(2)).await;
    let options = CallOptions::new().timeout(secs(5));
    let error = world.get(broker.get_token_with(VAULT, &options)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    // Each of its budget of 60 s, and holds between them.
    let made = calls.load(Ordering::SeqCst);
    assert!((8..25).contains(&made), "{made} fetches");
    works.store(true, Ordering::SeqCst);
    world.pass(secs(140)).await;
    let new = world.get(broker.get_token(VAULT)).await.unwrap();
    assert!(!new.is_same(&old));
    assert!(calls.load(Ordering::SeqCst) < made + 5);
}

#[tokio::test]
async fn a_provider_that_returns_the_same_expiry_on_each_refresh_is_asked_ever_closer_to_it_and_a_few_times()
{
    let world = World::new().await;
    let (start, end) = (world.clock.now(), world.clock.now().after(secs(3_600)));
    let (broker, calls) = lives(&world, move |cx| (cx.clock().now(), cx.clock().now().until(end)));
    asked_all_the_time(&world, &broker, secs(2_000)).await;
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    asked_all_the_time(&world, &broker, secs(1_500)).await;
    let made = calls.load(Ordering::SeqCst);
    assert!((3..8).contains(&made), "{made} fetches by a hundred seconds before the end");
    asked_all_the_time(&world, &broker, world.clock.now().until(end)).await;
    let made = calls.load(Ordering::SeqCst);
    assert!(made < 40, "{made} fetches by the end");
    // It has nothing newer. That is a failure, remembered like any other.
    let error = world.get(broker.get_token(VAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    asked_all_the_time(&world, &broker, secs(600)).await;
    let more = calls.load(Ordering::SeqCst) - made;
    assert!(more < 25, "{more} fetches after it");
    assert!(start.until(world.clock.now()) > secs(4_199));
}

#[tokio::test]
async fn a_life_of_one_second_is_lived_with_two_fetches_a_second_at_most() {
    let world = World::new().await;
    let (broker, calls) = lives(&world, |cx| (cx.clock().now(), secs(1)));
    asked_all_the_time(&world, &broker, secs(60)).await;
    let made = calls.load(Ordering::SeqCst);
    assert!((60..=120).contains(&made), "{made} fetches in a minute");
    assert_eq!(broker.metrics().failures, 0);
    // And when nobody uses it any more, it is let go.
    world.pass(secs(2)).await;
    let made = calls.load(Ordering::SeqCst);
    world.pass(secs(600)).await;
    assert_eq!((calls.load(Ordering::SeqCst), broker.metrics().entries), (made, 0));
}

#[tokio::test]
async fn a_life_of_a_century_or_more_is_lived_with_one_fetch() {
    let world = World::new().await;
    let year = secs(365 * 86_400);
    for lives_for in [100 * year, 584 * year, Duration::MAX] {
        let provider = StaticToken::new("tok-static-x9").unwrap().lives(lives_for);
        let broker = world.builder().build(provider).unwrap();
        let token = world.get(broker.get_token(VAULT)).await.unwrap();
        assert!(token.refresh_on() > world.clock.now().wall() + 39 * year);
        world.pass(20 * year).await;
        world.at_once(broker.get_token(VAULT)).unwrap();
        assert_eq!(broker.metrics().fetches, 1, "{lives_for:?}");
    }
}

/// As readable as one of Entra's, and as little signed as it matters here.
fn jwt(claims: &serde_json::Value) -> String {
    let part = |text: String| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", part(json!({"alg": "none"}).to_string()), part(claims.to_string()), part("x9".into()))
}

/// What comes of a token with this text, from a provider whose own tenant is `home`, for a request in tenant `asked`.
async fn came(text: &str, home: Option<&str>, asked: Option<&str>) -> Result<(), Error> {
    let world = World::new().await;
    let tenant = |text: &str| TenantId::parse(text).unwrap();
    let text = text.to_owned();
    let mut identity = Identity::local();
    if let Some(home) = home {
        identity = identity.with_tenant(tenant(home));
    }
    let provider = FnProvider::new(move |cx, _| {
        let fetched = Fetched::new(text.clone(), cx.clock().now(), secs(3_600));
        Box::pin(async move { Ok(fetched) })
    });
    let broker = world.builder().allow_all_tenants().build(provider.with_identity(identity)).unwrap();
    let mut request = request(VAULT);
    if let Some(asked) = asked {
        request = request.tenant(tenant(asked));
    }
    let result = world.get(broker.get_token(&request)).await.map(drop);
    assert_eq!(broker.peek(&request).is_some(), result.is_ok(), "what was refused is not kept");
    result
}

#[tokio::test]
async fn a_token_of_another_tenant_than_was_asked_is_refused() {
    let (mine, theirs) = (sample::TENANT, sample::OTHER_TENANT);
    let of = |tenant: &str| jwt(&json!({ "aud": VAULT, "tid": tenant }));
    for (home, asked) in [(Some(mine), None), (None, Some(mine)), (Some(theirs), Some(mine))] {
        let error = came(&of(theirs), home, asked).await.unwrap_err();
        assert_eq!((error.kind(), error.blame()), (ErrorKind::Protocol, Blame::Program), "{error}");
        let told = error.to_string();
        assert!(told.contains(mine) && told.contains(theirs) && !error.advice().is_empty(), "{told}");
        came(&of(&mine.to_uppercase()), home, asked).await.unwrap();
    }
}

#[tokio::test]
async fn a_token_whose_tenant_cannot_be_told_is_passed_on() {
    let (mine, theirs) = (sample::TENANT, sample::OTHER_TENANT);
    let of = |tenant: &str| jwt(&json!({ "tid": tenant }));
    // Opaque, encrypted, without a tenant, or with one that is no GUID.
    let encrypted = format!("{}.a.b", of(theirs));
    for text in ["opaque-x9", "a.b.c", &encrypted, &jwt(&json!({ "aud": theirs })), &of("contoso.test")] {
        came(text, Some(mine), None).await.unwrap();
    }
    // And where it is not known by its GUID which was asked.
    came(&of(theirs), None, None).await.unwrap();
    came(&of(theirs), Some("contoso.test"), None).await.unwrap();
    came(&of(theirs), Some(mine), Some("common")).await.unwrap();
}

#[tokio::test]
async fn a_proxy_that_answers_with_another_tenants_token_costs_nobody_the_one_that_lives() {
    let world = World::new().await;
    let broker = world.broker();
    let old = world.get(broker.get_token(VAULT)).await.unwrap();
    let text = jwt(&json!({ "tid": sample::OTHER_TENANT }));
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).merge(json!({ "access_token": text })));
    world.pass(secs(2_500)).await;
    assert!(world.requests() > 1 && broker.metrics().failures > 0);
    assert!(world.at_once(broker.get_token(VAULT)).unwrap().is_same(&old));
    world.emulator.faults().clear();
    world.pass(secs(120)).await;
    assert!(!world.at_once(broker.get_token(VAULT)).unwrap().is_same(&old));
}

#[tokio::test]
async fn a_deadline_is_kept_to_the_nanosecond_whatever_is_waited_for() {
    let world = World::new().await;
    let provider = FnProvider::new(|_, _| Box::pin(std::future::pending()));
    let broker = world.builder().build(provider).unwrap();
    let long = CallOptions::new().timeout(secs(300));
    // One that waits longer holds the flight; budgets, signs of life and other callers' deadlines pass meanwhile.
    let mut other = Box::pin(broker.get_token_with(VAULT, &long));
    assert!(poll_once(other.as_mut()).is_pending());
    for nanos in
        [1, 999_999, 1_000_001, 250_000_000, 4_999_999_999, 5_000_000_000, 15_000_000_001, 19_000_000_003]
    {
        let timeout = Duration::from_nanos(nanos);
        let before = world.clock.now();
        let options = CallOptions::new().timeout(timeout);
        let error = world.get(broker.get_token_with(VAULT, &options)).await.unwrap_err();
        assert_eq!((error.kind(), before.until(world.clock.now())), (ErrorKind::Timeout, timeout));
    }
    let none = CallOptions::new().timeout(Duration::ZERO);
    assert_eq!(
        ready(broker.get_token_with(STORAGE, &none)).map(drop).unwrap_err().kind(),
        ErrorKind::Timeout
    );
    assert!(poll_once(other.as_mut()).is_pending());
}
