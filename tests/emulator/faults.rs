//! Every fault, in memory and over a socket.

#![expect(clippy::unwrap_used, reason = "what goes wrong here fails a test")]

use crate::support::*;
use entra_broker::emulator::{Broken, Emulator, Endpoint, Fault, sample};
use serde_json::json;
use std::future::Future as _;
use std::task::{Context, Waker};
use std::time::Duration;

fn fault() -> Fault {
    Fault::on(Endpoint::TokenService)
}

/// The good request with this fault in force: in memory, then over a socket.
async fn both_ways(fault: Fault) -> [Answer; 2] {
    let emulator = Emulator::start().await.unwrap();
    emulator.faults().add(fault);
    let in_memory = ask(&emulator, post(TOKEN_PATH, &good())).await;
    let response = send(&client(), emulator.authority(), post(TOKEN_PATH, &good())).await.unwrap();
    [in_memory, read(response).await.unwrap()]
}

/// The same for a fault that leaves no answer: what memory and socket say about it.
async fn broken_both_ways(fault: Fault) -> (Broken, reqwest::Error, Emulator) {
    let emulator = Emulator::start().await.unwrap();
    emulator.faults().add(fault);
    let request = || post(TOKEN_PATH, &good());
    let broken = emulator.call(Endpoint::TokenService, request()).await.unwrap_err();
    let error = send(&client(), emulator.authority(), request()).await.unwrap_err();
    (broken, error, emulator)
}

#[tokio::test]
async fn a_status_comes_with_an_error_that_suits_it() {
    for (status, error, code) in [
        (401, "invalid_client", 7000215),
        (429, "temporarily_unavailable", 90055),
        (500, "temporarily_unavailable", 90033),
        (503, "temporarily_unavailable", 90033),
        (504, "temporarily_unavailable", 90012),
    ] {
        for answer in both_ways(fault().status(status)).await {
            answer.is_entra_error(status, error, code);
        }
    }
}

#[tokio::test]
async fn a_success_status_keeps_the_answer() {
    for answer in both_ways(fault().status(201)).await {
        assert_eq!(answer.status, 201);
        assert!(answer.json()["access_token"].is_string());
    }
}

#[tokio::test]
async fn identity_errors_of_a_status_have_their_endpoints_own_shape() {
    let emulator = Emulator::in_memory();
    emulator.faults().add(Fault::on(Endpoint::Identity).status(410));
    let answer = identify(&emulator, get(IMDS, &[("metadata", "true")])).await;
    assert_eq!(answer.status, 410);
    assert!(answer.json()["error"].is_string() && answer.json().get("error_codes").is_none());
    let answer = identify(&emulator, get(APP_SERVICE, &[])).await;
    assert_eq!(answer.status, 410);
    assert_eq!(answer.json()["statusCode"], 410);
}

#[tokio::test]
async fn retry_after_and_other_headers_are_set() {
    let fault = fault()
        .status(429)
        .retry_after(Duration::from_secs(7))
        .header("x-one", "two")
        .header("not a name", "left out");
    for answer in both_ways(fault).await {
        assert_eq!(answer.header("retry-after"), "7");
        assert_eq!(answer.header("x-one"), "two");
    }
}

#[tokio::test]
async fn an_aadsts_number_brings_its_whole_error() {
    for answer in both_ways(fault().error(50076)).await {
        answer.is_entra_error(400, "interaction_required", 50076);
        assert_eq!(answer.json()["suberror"], "basic_action");
    }
    for answer in both_ways(fault().error(53003)).await {
        let claims = answer.json()["claims"].as_str().unwrap().to_owned();
        let claims: serde_json::Value = serde_json::from_str(&claims).unwrap();
        assert!(claims["access_token"].is_object());
    }
    for answer in both_ways(fault().error(4242).status(418)).await {
        answer.is_entra_error(418, "invalid_request", 4242);
    }
}

#[tokio::test]
async fn an_aadsts_number_shows_in_identity_answers_too() {
    let emulator = Emulator::in_memory();
    emulator.faults().add(Fault::on(Endpoint::Identity).error(700016));
    let imds = identify(&emulator, get(IMDS, &[])).await.json();
    assert_eq!(imds["error"], "unauthorized_client");
    assert!(imds["error_description"].as_str().unwrap().starts_with("AADSTS700016: "));
    let app_service = identify(&emulator, get(APP_SERVICE, &[])).await.json();
    assert!(app_service["message"].as_str().unwrap().starts_with("AADSTS700016: "));
}

#[tokio::test]
async fn a_raw_body_is_given_as_it_is() {
    for answer in both_ways(fault().body("text/html", "<h1>Gateway</h1>").status(502)).await {
        assert_eq!(answer.status, 502);
        assert_eq!(answer.header("content-type"), "text/html");
        assert_eq!(answer.body, "<h1>Gateway</h1>");
    }
}

#[tokio::test]
async fn a_merge_bends_a_success_and_leaves_an_error_alone() {
    let emulator = Emulator::in_memory();
    let members = json!({"expires_in": "soon", "token_type": null, "more": [1]});
    emulator.faults().add(fault().merge(members));
    let body = ask(&emulator, post(TOKEN_PATH, &good())).await.json();
    assert_eq!(body["expires_in"], "soon");
    assert_eq!(body["more"], json!([1]));
    assert!(body.get("token_type").is_none() && body["access_token"].is_string());

    let answer = ask(&emulator, post(TOKEN_PATH, &without("scope"))).await;
    answer.is_entra_error(400, "invalid_request", 900144);
    for answer in both_ways(fault().merge(json!({"access_token": "bent"}))).await {
        assert_eq!(answer.token(), "bent");
    }
    for answer in both_ways(fault().merge(json!({"error": "odd"})).status(500)).await {
        assert_eq!(answer.status, 500);
        assert!(answer.json()["access_token"].is_string() && answer.json()["error"] == "odd");
    }
}

#[tokio::test]
async fn a_refused_request_never_arrives() {
    for fault in [fault().refuse(), fault().client(sample::SECRET_APP).refuse()] {
        let (broken, _, emulator) = broken_both_ways(fault).await;
        assert_eq!(broken, Broken::Refused);
        assert_eq!(emulator.journal().refused(), 2);
        assert!(emulator.journal().is_empty());
    }
}

#[tokio::test]
async fn a_cut_request_arrives_and_is_not_answered() {
    let (broken, error, emulator) = broken_both_ways(fault().cut()).await;
    assert_eq!(broken, Broken::Cut);
    assert!(error.is_request());
    assert_eq!(emulator.journal().len(), 2);
    assert_eq!(emulator.journal().count(|entry| entry.status.is_none()), 2);
}

#[tokio::test]
async fn a_body_is_cut_after_so_many_bytes_of_the_announced_length() {
    let emulator = Emulator::start().await.unwrap();
    emulator.faults().add(fault().cut_body(10));
    let request = post(TOKEN_PATH, &good());
    let response = emulator.call(Endpoint::TokenService, request).await.unwrap();
    let length: usize = response.headers()["content-length"].to_str().unwrap().parse().unwrap();
    assert!(length > 1000);
    let mut body = response.into_body();
    assert_eq!(frame(&mut body).await.unwrap().unwrap().len(), 10);
    assert!(frame(&mut body).await.unwrap().is_err());

    let request = post(TOKEN_PATH, &good());
    let mut response = send(&client(), emulator.authority(), request).await.unwrap();
    assert!(response.content_length().unwrap() > 1000);
    assert_eq!(response.chunk().await.unwrap().unwrap().len(), 10);
    assert!(response.chunk().await.is_err());
}

#[tokio::test]
async fn a_dripping_body_arrives_whole_in_its_own_time() {
    let clock = Clock::new();
    let emulator = clock.builder().in_memory();
    emulator.faults().add(fault().body("text/plain", "abcde").drip(2, Duration::from_secs(60)));
    let response = emulator.call(Endpoint::TokenService, post(TOKEN_PATH, &good())).await;
    let mut body = response.unwrap().into_body();
    for expected in ["ab", "cd", "e"] {
        let mut early = Box::pin(frame(&mut body));
        assert!(
            early.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending(),
            "the clock has not moved"
        );
        drop(early);
        clock.advance(Duration::from_secs(60));
        assert_eq!(frame(&mut body).await.unwrap().unwrap(), expected);
    }
    assert!(frame(&mut body).await.is_none());

    for answer in both_ways(fault().drip(500, Duration::from_millis(1))).await {
        assert!(answer.json()["access_token"].is_string());
    }
}

#[tokio::test]
async fn a_huge_body_has_no_announced_length_and_comes_piece_by_piece() {
    let terabyte = 1 << 40;
    let emulator = Emulator::start().await.unwrap();
    emulator.faults().add(fault().huge(terabyte));
    let response = emulator.call(Endpoint::TokenService, post(TOKEN_PATH, &good())).await.unwrap();
    assert!(response.headers().get("content-length").is_none());
    let mut body = response.into_body();
    assert!(frame(&mut body).await.unwrap().unwrap().len() <= 64 * 1024);

    let request = post(TOKEN_PATH, &good());
    let mut response = send(&client(), emulator.authority(), request).await.unwrap();
    assert_eq!(response.content_length(), None);
    let mut read = 0;
    while read < 1 << 20 {
        read += response.chunk().await.unwrap().unwrap().len();
    }

    for answer in both_ways(fault().huge(100_000)).await {
        assert_eq!(answer.body.len(), 100_000);
    }
}

#[tokio::test]
async fn a_redirect_points_elsewhere() {
    for answer in both_ways(fault().redirect("https://evil.test/token")).await {
        assert_eq!(answer.status, 307);
        assert_eq!(answer.header("location"), "https://evil.test/token");
    }
}

#[tokio::test]
async fn a_hanging_request_is_in_the_journal_and_gets_no_answer() {
    let emulator = Emulator::start().await.unwrap();
    emulator.faults().add(fault().hang());
    let (there, mine) = (emulator.clone(), emulator.clone());
    let over_socket = tokio::spawn(async move {
        send(&client(), there.authority(), post(TOKEN_PATH, &good())).await.map(|_| ())
    });
    let in_memory = tokio::spawn(async move { ask(&mine, post(TOKEN_PATH, &good())).await });
    emulator.journal().wait_for(2).await;
    assert!(!over_socket.is_finished() && !in_memory.is_finished());
    assert_eq!(emulator.journal().count(|entry| entry.status.is_none()), 2);
    in_memory.abort();
    over_socket.abort();
}

#[tokio::test]
async fn a_delay_passes_on_the_emulators_clock_after_the_arrival_is_journaled() {
    let clock = Clock::new();
    let emulator = clock.builder().start().await.unwrap();
    emulator.faults().add(fault().delay(Duration::from_secs(3600)));
    let (there, mine) = (emulator.clone(), emulator.clone());
    let over_socket = tokio::spawn(async move {
        read(send(&client(), there.authority(), post(TOKEN_PATH, &good())).await.unwrap()).await
    });
    let in_memory = tokio::spawn(async move { ask(&mine, post(TOKEN_PATH, &good())).await });
    emulator.journal().wait_for(2).await;
    assert!(!over_socket.is_finished() && !in_memory.is_finished());
    // Both may still be on their way to sleep: the clock goes on until they have woken.
    let ticking = clock.clone();
    let ticker = tokio::spawn(async move {
        loop {
            ticking.advance(Duration::from_secs(3600));
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(in_memory.await.unwrap().status, 200);
    assert_eq!(over_socket.await.unwrap().unwrap().status, 200);
    ticker.abort();
}
