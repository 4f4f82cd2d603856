//! Which fault a request meets, how often, and for how long.

use crate::support::*;
use entra_broker::emulator::{Emulator, Endpoint, Fault, sample};
use std::time::Duration;

fn fault() -> Fault {
    Fault::on(Endpoint::TokenService)
}

#[tokio::test]
async fn delays_add_up_and_leave_the_answer_to_the_next_fault() {
    let clock = Clock::new();
    let emulator = clock.builder().in_memory();
    let start = clock.seconds();
    emulator.faults().add(fault().delay(Duration::from_secs(10)));
    emulator.faults().add(fault().error(90033).delay(Duration::from_secs(20)));
    emulator.faults().add(fault().error(90055));
    let mine = emulator.clone();
    let asking = tokio::spawn(async move { ask(&mine, post(TOKEN_PATH, &good())).await });
    emulator.journal().wait_for(1).await;
    tokio::task::yield_now().await;
    clock.advance(Duration::from_secs(29));
    tokio::task::yield_now().await;
    assert!(!asking.is_finished());
    clock.advance(Duration::from_secs(1));
    asking.await.unwrap().is_entra_error(503, "temporarily_unavailable", 90033);
    assert_eq!(clock.seconds() - start, 30);
}

#[tokio::test]
async fn the_first_match_wins_and_counts_are_used_up() {
    let emulator = Emulator::in_memory();
    emulator.faults().add(fault().error(90033).times(2));
    emulator.faults().add(fault().error(90055).times(1));
    let mut codes = Vec::new();
    for _ in 0..4 {
        ask(&emulator, post(TOKEN_PATH, &good())).await;
    }
    for entry in emulator.journal().entries() {
        codes.push((entry.status.unwrap(), entry.aadsts));
    }
    assert_eq!(codes, [(503, Some(90033)), (503, Some(90033)), (429, Some(90055)), (200, None)]);
}

#[tokio::test]
async fn a_refusal_can_be_counted_over_a_socket() {
    let emulator = Emulator::start().await.unwrap();
    emulator.faults().add(fault().refuse().times(1));
    let ask = async || send(&client(), emulator.authority(), post(TOKEN_PATH, &good())).await;
    assert!(ask().await.is_err());
    assert_eq!(ask().await.unwrap().status(), 200);
    assert_eq!(emulator.journal().len(), 1);
}

#[tokio::test]
async fn faults_can_be_removed_and_cleared() {
    let emulator = Emulator::in_memory();
    let first = emulator.faults().add(fault().status(500));
    emulator.faults().add(fault().status(503));
    let status = async || ask(&emulator, post(TOKEN_PATH, &good())).await.status;
    assert_eq!(status().await, 500);
    assert!(emulator.faults().remove(first));
    assert!(!emulator.faults().remove(first));
    assert_eq!(status().await, 503);
    emulator.faults().clear();
    assert_eq!(status().await, 200);
}

#[tokio::test]
async fn filters_narrow_a_fault() {
    for (fault, hit) in [
        (fault().client(sample::SECRET_APP), true),
        (fault().client(sample::CERT_APP), false),
        (fault().tenant(sample::TENANT), true),
        (fault().tenant(sample::OTHER_TENANT), false),
        (fault().resource("https://storage.azure.com"), true),
        (fault().resource("https://storage.azure.com/"), true),
        (fault().resource("https://vault.azure.net"), false),
        (fault().path("/token"), true),
        (fault().path("/keys"), false),
        (Fault::on(Endpoint::Identity), false),
    ] {
        let emulator = Emulator::in_memory();
        let named = format!("{fault:?}");
        emulator.faults().add(fault.status(500));
        let status = ask(&emulator, post(TOKEN_PATH, &good())).await.status;
        assert_eq!(status == 500, hit, "{named}");
    }
    let emulator = Emulator::in_memory();
    let one = Fault::on(Endpoint::Identity).client(sample::USER_IDENTITY);
    emulator.faults().add(one.resource("https://storage.azure.com").status(500));
    let metadata = [("metadata", "true")];
    assert_eq!(identify(&emulator, get(IMDS, &metadata)).await.status, 200);
    let path = format!("{IMDS}&client_id={}", sample::USER_IDENTITY);
    assert_eq!(identify(&emulator, get(&path, &metadata)).await.status, 500);
}
