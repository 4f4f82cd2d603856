//! How an issuer's keys are read, kept and read again.

use std::sync::Arc;

use entra_broker::{Blame, ErrorKind};
use serde_json::json;

use super::{builder, check, forge::*, get, refused, trusted, validator};
use crate::support::*;

fn by(kid: &str) -> String {
    sign_with(header(kid), but(json!({ "exp": NOW + 40 * 86_400 })).to_string(), rs256(rsa()))
}

#[tokio::test]
async fn after_a_rotation_in_the_emulator_the_new_key_is_found_and_the_old_one_goes_when_it_is_retired() {
    let world = World::new().await;
    let (broker, validator) = (world.broker(), validator(&world));
    let old = get(&world, &broker, super::API).await;
    check(&world, &validator, old.secret()).await.unwrap();
    world.emulator.directory().rotate_keys();
    world.pass(secs(300)).await;
    broker.invalidate(&old);
    // The new key is made in time that cannot be moved.
    let new = broker.get_token(super::API).await.unwrap();
    world.expect_unsaid(new.secret());
    check(&world, &validator, new.secret()).await.unwrap();
    check(&world, &validator, old.secret()).await.unwrap();
    world.emulator.directory().retire_keys();
    let fresh = builder(&world).issuer(trusted(&world)).build().unwrap();
    check(&world, &fresh, new.secret()).await.unwrap();
    assert!(refused(&world, &fresh, old.secret()).await.starts_with("it is signed by a key that its issuer"));
}

#[tokio::test]
async fn keys_are_read_once_and_kept_for_a_day() {
    let world = World::new().await;
    let (published, validator) = ours(&world.clock);
    for _ in 0..3 {
        check(&world, &validator, &by("rsa")).await.unwrap();
    }
    world.pass(secs(86_399)).await;
    check(&world, &validator, &by("rsa")).await.unwrap();
    assert_eq!(published.asked(), 1);

    // After that they are read again, and nobody waits for it.
    world.pass(secs(1)).await;
    published.slow(3);
    let (one, other) = (by("rsa"), by("rsa"));
    for token in [&one, &other] {
        ready(validator.validate(token)).unwrap();
    }
    world.pass(secs(3)).await;
    assert_eq!(published.asked(), 1);
    ready(validator.validate(&one)).unwrap();
    assert_eq!(published.asked(), 0);
}

#[tokio::test]
async fn a_key_that_is_gone_after_a_day_is_gone() {
    let world = World::new().await;
    let (published, validator) = ours(&world.clock);
    check(&world, &validator, &by("rsa")).await.unwrap();
    published.publish(&[ec_jwk("ec")]);
    world.pass(secs(86_400)).await;
    check(&world, &validator, &by("rsa")).await.unwrap();
    world.pass(secs(1)).await;
    refused(&world, &validator, &by("rsa")).await;
}

#[tokio::test]
async fn an_unknown_key_is_looked_for_once_in_five_minutes_however_many_name_one() {
    let world = World::new().await;
    let (published, validator) = ours(&world.clock);
    check(&world, &validator, &by("rsa")).await.unwrap();
    assert_eq!(published.asked(), 1);
    world.pass(secs(299)).await;
    for n in 0..50 {
        refused(&world, &validator, &by(&format!("made-up-{n}"))).await;
    }
    assert_eq!(published.asked(), 0, "they were read not long ago");
    world.pass(secs(1)).await;
    published.slow(2);
    published.publish(&[rsa_jwk(rsa(), "rsa"), rsa_jwk(rsa(), "new")]);
    let calls: Vec<_> = (0..100)
        .map(|n| {
            let validator = validator.clone();
            let token = by(if n % 2 == 0 { "new" } else { "made-up" });
            tokio::spawn(async move { validator.validate(&token).await.is_ok() })
        })
        .collect();
    settle().await;
    check(&world, &validator, &by("rsa")).await.unwrap();
    world.pass(secs(2)).await;
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap(), n % 2 == 0, "{n}");
    }
    assert_eq!(published.asked(), 1);
}

#[tokio::test]
async fn a_reading_that_fails_keeps_the_keys_and_says_of_an_unknown_one_that_it_does_not_know() {
    let world = World::new().await;
    for (status, body) in [
        (Some(500), "".to_owned()),
        (Some(404), "{}".to_owned()),
        (Some(200), "<html>Welcome to the hotel's network".to_owned()),
        (Some(200), json!({ "keys": [] }).to_string()),
        (Some(200), json!({ "keys": [{ "kty": "oct", "kid": "new", "k": "c2VjcmV0" }] }).to_string()),
        (Some(200), "[".repeat(100_000)),
        (None, String::new()),
    ] {
        let (published, validator) = ours(&world.clock);
        check(&world, &validator, &by("rsa")).await.unwrap();
        world.pass(secs(300)).await;
        match status {
            Some(status) => published.answer(status, body),
            None => published.vanish(),
        }
        let error = check(&world, &validator, &by("new")).await.unwrap_err();
        assert!(!matches!(error.kind(), ErrorKind::TokenRefused), "{error}: it may be good");
        assert_ne!(error.blame(), Blame::Caller);
        check(&world, &validator, &by("rsa")).await.unwrap();
        let asked = published.asked();
        assert!((2..=4).contains(&asked), "{asked}");
        // For half a minute nobody tries again.
        for _ in 0..20 {
            let held = check(&world, &validator, &by("new")).await.unwrap_err();
            assert!(held.held_for().is_some_and(|held| held <= secs(30)) && held.kind() == error.kind());
        }
        assert_eq!(published.asked(), 0);
        published.publish(&[rsa_jwk(rsa(), "new")]);
        world.pass(secs(30)).await;
        check(&world, &validator, &by("new")).await.unwrap();
    }
}

#[tokio::test]
async fn in_an_outage_of_a_week_the_keys_that_are_there_go_on() {
    let world = World::new().await;
    let (published, validator) = ours(&world.clock);
    check(&world, &validator, &by("rsa")).await.unwrap();
    published.vanish();
    published.asked();
    for _ in 0..7 * 24 {
        world.pass(secs(3600)).await;
        ready(validator.validate(&by("rsa"))).unwrap();
    }
    world.pass(secs(60)).await;
    let asked = published.asked();
    assert!((6 * 24 * 3..=6 * 24 * 3 + 6).contains(&asked), "{asked}: an attempt with its retries each time");
}

#[tokio::test]
async fn callers_wait_no_longer_than_they_want_and_the_reading_goes_on_without_them() {
    let world = World::new().await;
    let (published, validator) = ours(&world.clock);
    published.slow(8);
    let (before, token) = (world.clock.now(), by("rsa"));
    let error = world.run(secs(60), validator.validate_within(&token, secs(2))).await.unwrap_err();
    assert_eq!((error.kind(), before.until(world.clock.now())), (ErrorKind::Timeout, secs(2)));
    // One that is dropped changes nothing either.
    let mut dropped = Box::pin(validator.validate(&token));
    assert!(poll_once(dropped.as_mut()).is_pending());
    drop(dropped);
    world.pass(secs(6)).await;
    ready(validator.validate(&token)).unwrap();
    assert_eq!(published.asked(), 1);
}

#[tokio::test]
async fn a_machine_that_slept_reads_its_keys_again() {
    let world = World::new().await;
    let (published, validator) = ours(&world.clock);
    check(&world, &validator, &by("rsa")).await.unwrap();
    world.time.suspend(secs(86_400));
    ready(validator.validate(&by("rsa"))).unwrap();
    world.pass(secs(1)).await;
    assert_eq!(published.asked(), 2);
    // Somebody sets the clock: that ages no key.
    world.time.step_forward(secs(20 * 86_400));
    ready(validator.validate(&by("rsa"))).unwrap();
    world.pass(secs(1)).await;
    assert_eq!(published.asked(), 0);
}

#[test]
fn a_reading_that_ended_with_its_runtime_holds_nobody_up() {
    let (clock, time) = entra_broker::Clock::manual(start());
    let (published, validator) = ours(&clock);
    published.slow(1_000);
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (first, token) = (runtime(), Arc::new(by("rsa")));
    let waits = first.spawn({
        let (validator, token) = (validator.clone(), Arc::clone(&token));
        async move { validator.validate(&token).await.is_ok() }
    });
    first.block_on(settle());
    assert_eq!(published.asked(), 1);
    drop(first);
    drop(waits);
    published.slow(0);
    runtime().block_on(validator.validate(&token)).unwrap();
    assert_eq!(published.asked(), 1);
    drop(time);
}

#[test]
fn without_a_runtime_it_is_an_error_and_no_panic() {
    let (clock, _) = entra_broker::Clock::manual(start());
    let (_, validator) = ours(&clock);
    assert_eq!(ready(validator.validate(&by("rsa"))).unwrap_err().kind(), ErrorKind::Config);
}
