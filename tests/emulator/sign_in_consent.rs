//! What the pages ask for beyond a password: policies and consent.

#![expect(clippy::unwrap_used, reason = "what goes wrong here fails a test")]

use crate::browser::*;
use crate::support::*;
use entra_broker::emulator::{Emulator, Policy, Requirement, Resource, sample};
use serde_json::Value;
use std::time::Duration;

async fn refreshed(emulator: &Emulator, body: &Value, scope: &str) -> Answer {
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", sample::SECRET_APP),
        ("client_secret", sample::SECRET),
        ("refresh_token", body["refresh_token"].as_str().unwrap()),
        ("scope", scope),
    ];
    ask(emulator, post(TOKEN_PATH, &form)).await
}

#[tokio::test]
async fn a_policy_is_fulfilled_on_the_page_and_then_refreshing_works() {
    for (requirement, title, button) in [
        (Requirement::Mfa, "Approve sign-in request", "Approve"),
        (Requirement::MfaEnrolment, "More information required", "Set up"),
        (Requirement::StrongAuthentication, "Strong authentication required", "Approve"),
        (Requirement::ExternalChallenge, "Another check is required", "Approve"),
    ] {
        let emulator = Emulator::in_memory();
        let mut browser = Browser::new(&emulator);
        let before = redeem(&emulator, &browser.through(&request(&[]), "alice", &[]).await).await;
        emulator.directory().add_policy(Policy::new(sample::TENANT, requirement));
        assert_eq!(refreshed(&emulator, &before, "User.Read").await.status, 400);
        let silent = browser.open(&request(&[("prompt", "none")])).await;
        assert!(["interaction_required", "invalid_grant"].contains(&silent.callback()["error"].as_str()));
        let page = browser.open(&request(&[])).await;
        assert_eq!(page.title(), title);
        assert_eq!(page.buttons(), [button, "Decline"]);
        let page = browser.press(&page, button, &[]).await;
        let body = redeem(&emulator, &page).await;
        assert_eq!(refreshed(&emulator, &body, "User.Read").await.status, 200);
        // The session remembers it.
        redeem(&emulator, &browser.open(&request(&[("prompt", "none")])).await).await;
    }
}

#[tokio::test]
async fn one_press_grants_one_wish() {
    let emulator = Emulator::in_memory();
    for requirement in [Requirement::MfaEnrolment, Requirement::Mfa] {
        emulator.directory().add_policy(Policy::new(sample::TENANT, requirement));
    }
    let mut browser = Browser::new(&emulator);
    let page = browser.through(&request(&[]), "alice", &[]).await;
    assert_eq!(page.title(), "More information required");
    browser.press(&page, "Set up", &[]).await;
    let next = browser.press(&page, "Set up", &[]).await;
    assert_eq!(next.title(), "Approve sign-in request");
    let declined = browser.press(&next, "Decline", &[]).await;
    declined.is_refused("access_denied", 50076);
}

#[tokio::test]
async fn a_context_in_the_claims_asks_for_a_second_factor() {
    let emulator = Emulator::in_memory();
    let claims = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;
    let mut browser = Browser::new(&emulator);
    let page = browser.through(&request(&[("claims", claims)]), "alice", &[]).await;
    assert_eq!(page.title(), "Approve sign-in request");
    let body = redeem(&emulator, &browser.press(&page, "Approve", &[]).await).await;
    assert_eq!(crate::support::claims(body["access_token"].as_str().unwrap())["acrs"][0], "c1");
}

#[tokio::test]
async fn who_is_blocked_can_only_go_back() {
    let emulator = Emulator::in_memory();
    emulator.directory().add_policy(Policy::new(sample::TENANT, Requirement::Blocked).user(sample::ALICE));
    let mut browser = Browser::new(&emulator);
    let page = browser.through(&request(&[]), "alice", &[]).await;
    assert_eq!(page.title(), "You cannot access this right now");
    assert!(page.alert().starts_with("AADSTS53003: "));
    let back = browser.press(&page, "Back to the app", &[]).await;
    back.is_refused("access_denied", 53003);
    assert!(back.callback()["claims"].contains("capolids"));
    let forged = browser.press(&page, "Back to the app", &[("requirement", "blocked")]).await;
    assert!(!forged.callback().contains_key("code"));
    let other = browser.press(&page, "Use another account", &[]).await;
    redeem(&emulator, &browser.sign_in(&other, "bob").await).await;
}

#[tokio::test]
async fn an_old_sign_in_is_renewed_where_a_policy_wants_that() {
    let clock = Clock::new();
    let emulator = clock.builder().in_memory();
    let hourly = Requirement::SignInFrequency(Duration::from_secs(3600));
    emulator.directory().add_policy(Policy::new(sample::TENANT, hourly));
    let mut browser = Browser::new(&emulator);
    browser.through(&request(&[]), "alice", &[]).await.callback();
    clock.advance(Duration::from_secs(3601));
    browser.open(&request(&[("prompt", "none")])).await.is_refused("interaction_required", 70044);
    let page = browser.open(&request(&[])).await;
    assert!(page.title() == "Sign in" && page.text.contains("sign in again"));
    assert!(page.text.contains(sample::ALICE));
    redeem(&emulator, &browser.press(&page, "Sign in", &[("password", "pw")]).await).await;
}

#[tokio::test]
async fn consent_is_asked_for_everything_and_kept() {
    let emulator = Emulator::in_memory();
    let mut browser = Browser::new(&emulator);
    let scope = "openid email offline_access Mail.Read https://database.windows.net/user_impersonation";
    let path = request(&[("scope", scope)]);
    let page = browser.through(&path, "alice", &[]).await;
    assert_eq!(page.title(), "Permissions requested");
    assert_eq!(page.buttons(), ["Accept", "Decline"]);
    for said in
        ["Sample web app", "Mail.Read", "https://database.windows.net", "user_impersonation", "email address"]
    {
        assert!(page.text.contains(said), "{said}");
    }
    assert!(!page.text.contains("on behalf of your organization"));
    let declined = browser.press(&page, "Decline", &[]).await;
    declined.is_refused("access_denied", 65004);
    let done = browser.press(&page, "Accept", &[]).await;
    let again = browser.press(&page, "Accept", &[]).await;
    redeem(&emulator, &again).await;
    let body = redeem(&emulator, &done).await;
    assert_eq!(body["scope"], "Mail.Read openid email");
    assert_eq!(
        refreshed(&emulator, &body, "https://database.windows.net/user_impersonation").await.status,
        200
    );
    redeem(&emulator, &browser.open(&path).await).await;
    // Alice's consent is hers alone.
    let page = Browser::new(&emulator).through(&path, "bob", &[]).await;
    assert_eq!(page.title(), "Permissions requested");
    // And it is asked for again when the app wants that.
    let page = browser.open(&request(&[("scope", scope), ("prompt", "consent")])).await;
    assert_eq!(page.title(), "Permissions requested");
    redeem(&emulator, &browser.press(&page, "Accept", &[]).await).await;
}

#[tokio::test]
async fn an_administrator_may_consent_for_everyone() {
    let emulator = Emulator::in_memory();
    let mut browser = Browser::new(&emulator);
    let path = request(&[("scope", "Mail.Read")]);
    let page = browser.through(&path, "admin", &[]).await;
    assert!(page.text.contains("on behalf of your organization"));
    redeem(&emulator, &browser.press(&page, "Accept", &[("for_all", "1")]).await).await;
    redeem(&emulator, &Browser::new(&emulator).through(&path, "alice", &[]).await).await;
    // A user cannot say so.
    let path = request(&[("scope", "Calendars.Read")]);
    let mut alice = Browser::new(&emulator);
    let page = alice.through(&path, "alice", &[]).await;
    alice.press(&page, "Accept", &[("for_all", "1")]).await.callback();
    let page = Browser::new(&emulator).through(&path, "bob", &[]).await;
    assert_eq!(page.title(), "Permissions requested");
}

#[tokio::test]
async fn what_only_an_administrator_can_grant_needs_one() {
    let emulator = Emulator::in_memory();
    let api = Resource::new("api://orders").scope("read").admin_scope("manage");
    emulator.directory().add_resource(api);
    let path = request(&[("scope", "api://orders/read api://orders/manage")]);
    let mut browser = Browser::new(&emulator);
    let page = browser.through(&path, "alice", &[]).await;
    assert_eq!(page.title(), "Need admin approval");
    assert!(page.alert().starts_with("AADSTS90094: "));
    let forged = post("/common/consent", &[("flow", &page.forms()[0].fields[0].1)]);
    assert_eq!(browser.send(forged).await.title(), "Need admin approval");
    browser.press(&page, "Return to the app", &[]).await.is_refused("access_denied", 90094);
    let page = browser.press(&page, "Sign in with an administrator", &[]).await;
    let page = browser.sign_in(&page, "admin").await;
    assert!(page.text.contains("for administrators only"));
    browser.press(&page, "Accept", &[("for_all", "1")]).await.callback();
    let mut alice = Browser::new(&emulator);
    redeem(&emulator, &alice.through(&path, "alice", &[]).await).await;
}

#[tokio::test]
async fn a_tenant_comes_to_have_the_app_by_consent() {
    let emulator = Emulator::in_memory();
    let path = request_at(COMMON, &[("scope", "openid")]);
    let mut browser = Browser::new(&emulator);
    let page = browser.through(&path, sample::CUSTOMER_ADMIN, &[]).await;
    assert_eq!(page.title(), "Permissions requested");
    let body = redeem(&emulator, &browser.press(&page, "Accept", &[]).await).await;
    let tenant = &claims(body["id_token"].as_str().unwrap())["tid"];
    assert_eq!(tenant, sample::CUSTOMER_WITHOUT_CONSENT);
}
