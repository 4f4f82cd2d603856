//! Device codes, entered in a browser.

#![expect(clippy::unwrap_used, reason = "what goes wrong here fails a test")]

use crate::browser::*;
use crate::support::*;
use entra_broker::emulator::{Emulator, Policy, Requirement, sample};
use serde_json::Value;
use std::time::Duration;

async fn start(emulator: &Emulator, tenant: &str, client: &str, scope: &str) -> Value {
    let form = [("client_id", client), ("scope", scope)];
    let answer = ask(emulator, post(&format!("/{tenant}/oauth2/v2.0/devicecode"), &form)).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()
}

async fn poll(emulator: &Emulator, started: &Value) -> Answer {
    let form = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("client_id", sample::PUBLIC_APP),
        ("device_code", started["device_code"].as_str().unwrap()),
    ];
    ask(emulator, post(TOKEN_PATH, &form)).await
}

async fn page(browser: &mut Browser, started: &Value) -> Page {
    let uri = started["verification_uri"].as_str().unwrap();
    let path = uri.strip_prefix(browser.emulator.authority()).unwrap();
    browser.open(&format!("{path}?user_code={}", started["user_code"].as_str().unwrap())).await
}

#[tokio::test]
async fn a_device_is_signed_in() {
    let clock = Clock::new();
    let emulator = clock.builder().in_memory();
    let started = start(&emulator, sample::TENANT, sample::PUBLIC_APP, "openid User.Read").await;
    let mut browser = Browser::new(&emulator);
    let page = page(&mut browser, &started).await;
    assert_eq!(page.title(), "Enter code");
    let page = browser.press(&page, "Next", &[]).await;
    let page = browser.sign_in(&page, "alice").await;
    assert_eq!(page.title(), "Are you trying to sign in to Sample desktop app?");
    assert_eq!(page.buttons(), ["Continue", "Cancel"]);
    poll(&emulator, &started).await.is_entra_error(400, "authorization_pending", 70016);
    let consent = browser.press(&page, "Continue", &[]).await;
    assert_eq!(consent.title(), "Permissions requested");
    let done = browser.press(&consent, "Accept", &[]).await;
    assert_eq!(done.title(), "You have signed in to Sample desktop app");
    assert!(done.forms().is_empty() && done.text.contains("close this window"));
    let again = browser.press(&consent, "Accept", &[]).await;
    assert_eq!(again.title(), done.title());
    clock.advance(Duration::from_secs(5));
    let answer = poll(&emulator, &started).await;
    assert_eq!(answer.json()["scope"], "User.Read openid");
    assert_eq!(answer.claims()["upn"], sample::ALICE);
    // A second device: the account is offered, and the question is asked all the same.
    let started = start(&emulator, sample::TENANT, sample::PUBLIC_APP, "User.Read").await;
    let page = self::page(&mut browser, &started).await;
    let page = browser.press(&page, "Next", &[]).await;
    assert_eq!(page.buttons(), ["Alice", "Use another account"]);
    let page = browser.press(&page, "Alice", &[]).await;
    assert!(page.title().starts_with("Are you trying"));
    let page = browser.press(&page, "Continue", &[]).await;
    assert!(page.title().starts_with("You have signed in"));
}

#[tokio::test]
async fn codes_that_are_wrong_used_or_too_old_are_not_taken() {
    let clock = Clock::new();
    let emulator = clock.builder().in_memory();
    let mut browser = Browser::new(&emulator);
    let first = browser.open("/common/oauth2/deviceauth").await;
    for wrong in ["", "ABC", "<b>", "\u{0}", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        let page = browser.press(&first, "Next", &[("user_code", wrong)]).await;
        assert!(page.alert().starts_with("AADSTS70018: "), "{wrong}");
        assert!(!page.text.contains("<b>"));
    }
    let started = start(&emulator, sample::TENANT, sample::PUBLIC_APP, "openid").await;
    let code = started["user_code"].as_str().unwrap();
    let spaced = format!(" {}-{} ", code[..4].to_lowercase(), &code[4..]);
    let page = browser.press(&first, "Next", &[("user_code", &spaced)]).await;
    let page = browser.sign_in(&page, "alice").await;
    let late = browser.clone();
    browser.press(&page, "Continue", &[]).await;
    let used = browser.press(&first, "Next", &[("user_code", code)]).await;
    assert!(used.alert().contains("used already"));
    let started = start(&emulator, sample::TENANT, sample::PUBLIC_APP, "openid").await;
    let mut browser = late;
    let page = browser.press(&first, "Next", &[("user_code", started["user_code"].as_str().unwrap())]).await;
    let page = browser.press(&page, "Alice", &[]).await;
    clock.advance(Duration::from_secs(15 * 60 + 1));
    let gone = browser.press(&page, "Continue", &[]).await;
    assert!(gone.title().contains("not good any more"));
    let page = browser.press(&first, "Next", &[("user_code", started["user_code"].as_str().unwrap())]).await;
    assert!(page.alert().starts_with("AADSTS70019: "));
}

#[tokio::test]
async fn a_user_may_decline_at_every_step() {
    for (steps, button) in [
        (&[][..], "Cancel"),
        (&["Sign in"], "Cancel"),
        (&["Sign in", "Continue"], "Decline"),
        (&["Sign in", "Continue", "Approve"], "Decline"),
    ] {
        let emulator = Emulator::in_memory();
        emulator.directory().add_policy(Policy::new(sample::TENANT, Requirement::Mfa));
        let started = start(&emulator, sample::TENANT, sample::PUBLIC_APP, "User.Read").await;
        let mut browser = Browser::new(&emulator);
        let mut at = page(&mut browser, &started).await;
        at = browser.press(&at, "Next", &[]).await;
        for step in steps {
            let typed: &[_] =
                if *step == "Sign in" { &[("username", "alice"), ("password", "pw")] } else { &[] };
            at = browser.press(&at, step, typed).await;
        }
        let end = browser.press(&at, button, &[]).await;
        assert_eq!(end.title(), "You declined", "{steps:?}");
        assert!(end.forms().is_empty());
        poll(&emulator, &started).await.is_entra_error(400, "authorization_declined", 65004);
        // What was declined stays so.
        if let Some(form) = at.forms().first().filter(|_| steps.len() == 1) {
            let page = browser.press(&at, &form.button, &[]).await;
            let page = browser.press(&page, "Approve", &[]).await;
            let page = browser.press(&page, "Accept", &[]).await;
            assert!(page.title().contains("not good any more"), "{}", page.title());
        }
    }
}

#[tokio::test]
async fn the_devices_tenant_decides_who_may_sign_in() {
    let emulator = Emulator::in_memory();
    let started = start(&emulator, sample::TENANT, sample::PUBLIC_APP, "openid").await;
    let mut browser = Browser::new(&emulator);
    let at = page(&mut browser, &started).await;
    let at = browser.press(&at, "Next", &[]).await;
    let at = browser.sign_in(&at, sample::CAROL).await;
    assert!(at.alert().starts_with("AADSTS50020: "));
    let started = start(&emulator, "common", sample::SECRET_APP, "openid User.Read").await;
    let at = page(&mut browser, &started).await;
    let at = browser.press(&at, "Next", &[]).await;
    let at = browser.press(&at, "Carol", &[]).await;
    let at = browser.press(&at, "Continue", &[]).await;
    assert!(browser.press(&at, "Accept", &[]).await.title().starts_with("You have signed in"));
}
