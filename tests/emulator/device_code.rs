//! Device codes as the polling client sees them; the pages have tests of their own.
#![expect(clippy::unwrap_used, reason = "what goes wrong here fails a test")]

use crate::support::*;
use entra_broker::emulator::{Emulator, sample};
use serde_json::Value;
use std::time::Duration;

const START: &str = "/11111111-2222-3333-4444-555555555555/oauth2/v2.0/devicecode";

async fn start(emulator: &Emulator) -> Value {
    let form = [("client_id", sample::PUBLIC_APP), ("scope", "User.Read offline_access")];
    let answer = ask(emulator, post(START, &form)).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    answer.json()
}

async fn poll(emulator: &Emulator, code: &str) -> Answer {
    let form = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("client_id", sample::PUBLIC_APP),
        ("device_code", code),
    ];
    ask(emulator, post(TOKEN_PATH, &form)).await
}

fn code(started: &Value) -> &str {
    started["device_code"].as_str().unwrap()
}

#[tokio::test]
async fn nothing_is_remembered_or_taken_apart_that_is_longer_than_a_url() {
    let emulator = Emulator::in_memory();
    // Compared with each other, as many resources as fit into a body would hold up everyone else for minutes.
    let resources: Vec<String> = (0..100_000).map(|n| format!("{n:x}/r")).collect();
    let claims = format!("{{\"x\":\"{}\"}}", "x".repeat(20_000));
    for (name, value) in [("scope", resources.join(" ")), ("claims", claims)] {
        let mut form =
            vec![("client_id", sample::PUBLIC_APP), ("scope", "User.Read"), ("grant_type", "password")];
        form.retain(|(known, _)| *known != name);
        form.push((name, &value));
        for path in [START, TOKEN_PATH] {
            let answer = ask(&emulator, post(path, &form)).await;
            answer.is_entra_error(400, "invalid_request", 90100);
        }
    }
}

#[tokio::test]
async fn a_device_gets_two_codes_and_is_told_what_to_say() {
    let emulator = Emulator::in_memory();
    let body = start(&emulator).await;
    assert_eq!(body["expires_in"], 900);
    assert_eq!(body["interval"], 5);
    let user_code = body["user_code"].as_str().unwrap();
    assert_eq!(user_code.len(), 9);
    assert!(user_code.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()));
    let page = body["verification_uri"].as_str().unwrap();
    assert_eq!(page, format!("{}/common/oauth2/deviceauth", emulator.authority()));
    let message = body["message"].as_str().unwrap();
    assert!(message.contains(user_code) && message.contains(page), "{message}");
}

#[tokio::test]
async fn until_somebody_approves_the_answer_is_pending() {
    let clock = Clock::new();
    let emulator = clock.builder().in_memory();
    let started = start(&emulator).await;
    for _ in 0..5 {
        poll(&emulator, code(&started)).await.is_entra_error(400, "authorization_pending", 70016);
        clock.advance(Duration::from_secs(5));
    }
}

#[tokio::test]
async fn who_polls_too_fast_is_told_to_slow_down_and_has_to() {
    let clock = Clock::new();
    let emulator = clock.builder().in_memory();
    let started = start(&emulator).await;
    let error = async |after: u64| {
        clock.advance(Duration::from_secs(after));
        poll(&emulator, code(&started)).await.json()["error"].as_str().unwrap().to_owned()
    };
    assert_eq!(error(0).await, "authorization_pending");
    assert_eq!(error(1).await, "slow_down");
    assert_eq!(error(5).await, "slow_down", "the interval is ten seconds by now, and then fifteen");
    assert_eq!(error(15).await, "authorization_pending");
    emulator.directory().set_device_interval(Duration::ZERO);
    let quick = start(&emulator).await;
    assert_eq!(quick["interval"], 0);
    for _ in 0..3 {
        poll(&emulator, code(&quick)).await.is_entra_error(400, "authorization_pending", 70016);
    }
}

#[tokio::test]
async fn a_code_ends_after_fifteen_minutes() {
    let clock = Clock::new();
    let emulator = clock.builder().in_memory();
    let started = start(&emulator).await;
    clock.advance(Duration::from_secs(900));
    poll(&emulator, code(&started)).await.is_entra_error(400, "authorization_pending", 70016);
    clock.advance(Duration::from_secs(1));
    poll(&emulator, code(&started)).await.is_entra_error(400, "expired_token", 70019);
}

#[tokio::test]
async fn a_wrong_code_or_another_clients_is_refused() {
    let emulator = Emulator::in_memory();
    let started = start(&emulator).await;
    poll(&emulator, "nonsense").await.is_entra_error(400, "bad_verification_code", 70018);
    let form =
        [("grant_type", "device_code"), ("client_id", sample::SECRET_APP), ("device_code", code(&started))];
    let answer = ask(&emulator, post(TOKEN_PATH, &form)).await;
    answer.is_entra_error(400, "bad_verification_code", 70018);
}

#[tokio::test]
async fn what_is_missing_or_wrong_at_the_start_is_named() {
    let emulator = Emulator::in_memory();
    let answer = ask(&emulator, post(START, &[("client_id", sample::PUBLIC_APP)])).await;
    answer.is_entra_error(400, "invalid_request", 900144);
    let answer = ask(&emulator, post(START, &[("scope", "User.Read")])).await;
    answer.is_entra_error(400, "invalid_request", 900144);
    let form = [("client_id", "nobody"), ("scope", "User.Read")];
    ask(&emulator, post(START, &form)).await.is_entra_error(400, "unauthorized_client", 700016);
    let form = [("client_id", sample::PUBLIC_APP), ("scope", "https://a.test")];
    ask(&emulator, post(START, &form)).await.is_entra_error(400, "invalid_scope", 70011);
}
