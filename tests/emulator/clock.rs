//! The emulator's own clock, moved and stopped.

use crate::browser::*;
use crate::support::*;
use entra_broker::emulator::{ClockError, Emulator, Endpoint, Fault, sample};
use std::future::Future as _;
use std::task::{Context, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const HOUR: Duration = Duration::from_secs(3600);

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn refresh(token: &str) -> http::Request<bytes::Bytes> {
    let form = [("grant_type", "refresh_token"), ("client_id", sample::PUBLIC_APP), ("refresh_token", token)];
    post(TOKEN_PATH, &form)
}

/// Signs alice in with her password.
async fn sign_in(emulator: &Emulator) -> Answer {
    let scope = "https://graph.microsoft.com/User.Read offline_access";
    emulator.directory().consent_for_all(sample::TENANT, sample::PUBLIC_APP, sample::GRAPH, &["User.Read"]);
    let form = [
        ("grant_type", "password"),
        ("client_id", sample::PUBLIC_APP),
        ("username", sample::ALICE),
        ("password", "any"),
        ("scope", scope),
    ];
    ask(emulator, post(TOKEN_PATH, &form)).await
}

#[tokio::test]
async fn tokens_are_made_at_the_time_that_the_clock_was_set_to() {
    let emulator = Emulator::in_memory();
    emulator.clock().freeze().unwrap();
    emulator.clock().set(at(1_900_000_000)).unwrap();
    let claims = ask(&emulator, post(TOKEN_PATH, &good())).await.claims();
    assert_eq!((&claims["iat"], &claims["exp"]), (&1_900_000_000.into(), &1_900_003_599.into()));
    emulator.clock().advance(HOUR).unwrap();
    let claims = ask(&emulator, post(TOKEN_PATH, &good())).await.claims();
    assert_eq!(claims["iat"], 1_900_003_600);
    assert_eq!(emulator.journal().entries()[1].at, at(1_900_003_600));
}

#[test]
fn a_clock_goes_with_the_real_time_until_it_is_stopped_and_on_from_where_it_stood() {
    let emulator = Emulator::in_memory();
    let clock = emulator.clock();
    let before = clock.now();
    clock.advance(24 * HOUR).unwrap();
    assert!(clock.now() >= before + 24 * HOUR && clock.now() < before + 25 * HOUR);
    clock.set(at(1_000)).unwrap();
    clock.advance(HOUR).unwrap();
    assert!(clock.now() >= at(4_600) && clock.now() < at(4_700), "behind, and moved");
    clock.freeze().unwrap();
    assert!(clock.is_frozen());
    let stands = clock.now();
    assert_eq!(clock.now(), stands);
    clock.resume().unwrap();
    assert!(!clock.is_frozen() && clock.now() >= stands && clock.now() < stands + HOUR);
    clock.resume().unwrap();
}

#[test]
fn a_time_that_no_clock_shows_changes_nothing() {
    let emulator = Emulator::in_memory();
    emulator.clock().freeze().unwrap();
    let before = emulator.clock().now();
    // Some of the last day of the year 9999 is beyond what can be spelled.
    let last = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    let to_the_last = last.duration_since(before).unwrap();
    for by in [Duration::MAX, Duration::from_secs(300_000_000_000), to_the_last] {
        assert_eq!(emulator.clock().advance(by), Err(ClockError::OutOfRange));
    }
    assert_eq!(emulator.clock().set(UNIX_EPOCH - HOUR), Err(ClockError::OutOfRange));
    assert_eq!(emulator.clock().now(), before);
}

#[test]
fn a_delay_ends_when_the_clock_is_moved_past_it_without_a_runtime() {
    let emulator = Emulator::in_memory();
    emulator.clock().freeze().unwrap();
    emulator.faults().add(Fault::on(Endpoint::TokenService).status(500).delay(HOUR));
    let mut answer = Box::pin(ask(&emulator, post(TOKEN_PATH, &good())));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(answer.as_mut().poll(&mut cx).is_pending());
    emulator.clock().advance(HOUR - Duration::from_secs(1)).unwrap();
    assert!(answer.as_mut().poll(&mut cx).is_pending());
    emulator.clock().advance(Duration::from_secs(1)).unwrap();
    assert!(answer.as_mut().poll(&mut cx).is_ready());
}

#[tokio::test]
async fn a_body_drips_by_the_clock_and_a_running_clock_wakes_who_waits() {
    let emulator = Emulator::in_memory();
    emulator.faults().add(Fault::on(Endpoint::TokenService).body("text/plain", "abcd").drip(2, HOUR));
    let waiting = tokio::spawn({
        let emulator = emulator.clone();
        async move { ask(&emulator, get("/x", &[])).await }
    });
    emulator.journal().wait_for(1).await;
    while !waiting.is_finished() {
        emulator.clock().advance(HOUR).unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(waiting.await.unwrap().body, "abcd");
}

#[test]
fn a_clock_that_was_given_is_moved_by_its_owner_only() {
    let own = Clock::new();
    let emulator = own.builder().in_memory();
    let clock = emulator.clock();
    assert!(!clock.is_movable() && !clock.is_frozen());
    for refused in [clock.advance(HOUR), clock.set(at(1)), clock.freeze(), clock.resume()] {
        assert_eq!(refused, Err(ClockError::NotOurs));
    }
    own.advance(HOUR);
    assert_eq!(clock.now(), own.now());
}

#[tokio::test]
async fn refresh_tokens_and_device_codes_expire_by_the_clock() {
    let emulator = Emulator::in_memory();
    let given = sign_in(&emulator).await.json();
    let token = given["refresh_token"].as_str().unwrap();
    emulator.clock().advance(89 * 24 * HOUR).unwrap();
    assert_eq!(ask(&emulator, refresh(token)).await.status, 200);
    emulator.clock().advance(91 * 24 * HOUR).unwrap();
    ask(&emulator, refresh(token)).await.is_entra_error(400, "invalid_grant", 700082);

    let form = [("client_id", sample::PUBLIC_APP), ("scope", "openid")];
    let start = ask(&emulator, post("/contoso.test/oauth2/v2.0/devicecode", &form)).await.json();
    let code = start["device_code"].as_str().unwrap();
    let poll = || {
        let form = [("grant_type", "device_code"), ("client_id", sample::PUBLIC_APP), ("device_code", code)];
        post(TOKEN_PATH, &form)
    };
    ask(&emulator, poll()).await.is_entra_error(400, "authorization_pending", 70016);
    emulator.clock().advance(16 * 60 * Duration::from_secs(1)).unwrap();
    ask(&emulator, poll()).await.is_entra_error(400, "expired_token", 70019);
}

#[tokio::test]
async fn a_code_expires_by_the_clock() {
    let emulator = Emulator::in_memory();
    let page = Browser::new(&emulator).through(&request(&[]), "alice", &[]).await;
    emulator.clock().advance(Duration::from_secs(601)).unwrap();
    let code = page.callback()["code"].clone();
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", sample::SECRET_APP),
        ("client_secret", sample::SECRET),
        ("redirect_uri", sample::REDIRECT_URI),
        ("code", &code),
    ];
    ask(&emulator, post(TOKEN_PATH, &form)).await.is_entra_error(400, "invalid_grant", 70008);
}
