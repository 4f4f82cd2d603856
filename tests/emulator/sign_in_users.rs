//! Who may sign in, and what is remembered of it.

use crate::browser::*;
use crate::support::*;
use entra_broker::emulator::{App, Emulator, Policy, Requirement, User, sample};
use std::time::Duration;

const SILENT: &[(&str, &str)] = &[("prompt", "none")];

#[tokio::test]
async fn what_is_wrong_with_a_sign_in_is_said_on_the_page() {
    let emulator = Emulator::in_memory();
    let directory = emulator.directory();
    directory.add_user(User::new("dave@contoso.test").password("right"));
    directory.add_user(User::new("erin@contoso.test"));
    directory.set_user_enabled("erin@contoso.test", false);
    let mut browser = Browser::new(&emulator);
    let first = browser.open(&request(&[])).await;
    for (user, password, code) in [
        ("nobody", "pw", 50034),
        ("nobody@contoso.test", "pw", 50034),
        ("dave", "wrong", 50126),
        ("alice", "", 50126),
        ("erin", "pw", 50057),
        ("carol@fabrikam.test", "pw", 50020),
        ("<script>", "pw", 50034),
        ("", "", 50034),
    ] {
        let page = browser.press(&first, "Sign in", &[("username", user), ("password", password)]).await;
        assert_eq!((page.status, page.title().as_str()), (200, "Sign in"));
        assert!(page.alert().starts_with(&format!("AADSTS{code}: ")), "{user} {}", page.alert());
        assert!(!page.text.contains("<script>"));
        assert_eq!(emulator.journal().entries().last().unwrap().aadsts, Some(code));
        let typed = page.forms()[0].fields.iter().find(|(name, _)| name == "username").unwrap().1.clone();
        assert_eq!(typed, user);
    }
    let page = browser.press(&first, "Sign in", &[("username", "dave"), ("password", "right")]).await;
    redeem(&emulator, &page).await;
}

#[tokio::test]
async fn a_user_who_is_not_assigned_is_turned_away() {
    let emulator = Emulator::in_memory();
    let id = "cccccccc-0000-0000-0000-000000000003";
    let app = App::new(id, sample::TENANT).assignment_required().redirect_uri("https://app.test/cb");
    emulator.directory().add_app(app);
    emulator.directory().assign(sample::TENANT, id, sample::BOB);
    let mut browser = Browser::new(&emulator);
    let path = request(&[("client_id", id), ("redirect_uri", "https://app.test/cb")]);
    let page = browser.through(&path, "alice", &[]).await;
    assert!(page.alert().starts_with("AADSTS50105: "));
    let page = browser.sign_in(&page, "bob").await;
    assert_eq!(page.title(), "Permissions requested");
}

#[tokio::test]
async fn on_common_the_users_home_decides_and_guests_may_enter_by_name() {
    let emulator = Emulator::in_memory();
    let page = Browser::new(&emulator).through(&request_at(COMMON, &[]), sample::CAROL, &["Accept"]).await;
    let body = redeem(&emulator, &page).await;
    assert_eq!(claims(body["id_token"].as_str().unwrap())["tid"], sample::OTHER_TENANT);

    emulator.directory().add_user(User::new("gus@fabrikam.test").guest_in(sample::TENANT));
    let page = Browser::new(&emulator).through(&request(&[]), "gus@fabrikam.test", &[]).await;
    let body = redeem(&emulator, &page).await;
    assert_eq!(claims(body["id_token"].as_str().unwrap())["tid"], sample::TENANT);
}

#[tokio::test]
async fn who_is_signed_in_is_not_asked_again() {
    let clock = Clock::new();
    let emulator = clock.builder().in_memory();
    let mut browser = Browser::new(&emulator);
    let first = browser.through(&request(&[]), "alice", &[]).await.callback();
    let second = browser.open(&request(&[])).await.callback();
    assert_eq!(first["session_state"], second["session_state"]);
    assert_ne!(first["code"], second["code"]);
    redeem(&emulator, &browser.open(&request(SILENT)).await).await;
    // Another port of the same host is another emulator's business, and a session has an end.
    clock.advance(Duration::from_secs(24 * 60 * 60 + 1));
    browser.open(&request(SILENT)).await.is_refused("login_required", 50058);
    assert_eq!(browser.open(&request(&[])).await.title(), "Sign in");
}

#[tokio::test]
async fn without_a_page_a_request_succeeds_or_says_what_it_would_need() {
    let emulator = Emulator::in_memory();
    let mut browser = Browser::new(&emulator);
    browser.open(&request(SILENT)).await.is_refused("login_required", 50058);
    browser.through(&request(&[]), "alice", &[]).await;
    let hinted = |hint| request(&[("prompt", "none"), ("login_hint", hint)]);
    redeem(&emulator, &browser.open(&hinted(sample::ALICE)).await).await;
    browser.open(&hinted(sample::BOB)).await.is_refused("interaction_required", 16000);
    let more = request(&[("prompt", "none"), ("scope", "Mail.Read")]);
    browser.open(&more).await.is_refused("consent_required", 65001);
    browser
        .open(&request(&[("prompt", "none"), ("scope", "openid Mail.Read"), ("response_mode", "form_post")]))
        .await
        .is_refused("consent_required", 65001);
    // A second account, and it is not clear who is meant.
    let page = browser.open(&request(&[("prompt", "login")])).await;
    browser.sign_in(&page, "bob").await;
    browser.open(&request(SILENT)).await.is_refused("interaction_required", 16000);
    redeem(&emulator, &browser.open(&hinted(sample::BOB)).await).await;
    emulator.directory().revoke_sessions(sample::BOB);
    browser.open(&hinted(sample::BOB)).await.is_refused("interaction_required", 16000);
    redeem(&emulator, &browser.open(&request(SILENT)).await).await;
}

#[tokio::test]
async fn an_account_is_chosen_or_another_one_is_used() {
    let emulator = Emulator::in_memory();
    let mut browser = Browser::new(&emulator);
    browser.through(&request(&[]), "alice", &[]).await;
    let page = browser.open(&request(&[("prompt", "select_account")])).await;
    assert_eq!(page.title(), "Choose an account");
    assert_eq!(page.buttons(), ["Alice", "Use another account"]);
    redeem(&emulator, &browser.press(&page, "Alice", &[]).await).await;
    let other = browser.press(&page, "Use another", &[]).await;
    let page = browser.sign_in(&other, "bob").await;
    let body = redeem(&emulator, &page).await;
    assert_eq!(claims(body["access_token"].as_str().unwrap())["upn"], sample::BOB);
    // With two of them, the page comes by itself; a name that is not there has to be typed.
    let page = browser.open(&request(&[])).await;
    assert_eq!(page.buttons(), ["Bob", "Alice", "Use another account"]);
    let page = browser.press(&page, "Alice", &[("account", "mallory@contoso.test")]).await;
    assert_eq!(page.title(), "Sign in");
}

#[tokio::test]
async fn a_hint_fills_the_page_and_login_asks_who_is_signed_in() {
    let emulator = Emulator::in_memory();
    let mut browser = Browser::new(&emulator);
    let page = browser.through(&request(&[]), "alice", &[]).await;
    let before = claims(redeem(&emulator, &page).await["id_token"].as_str().unwrap());
    let page = browser.open(&request(&[("prompt", "login"), ("login_hint", sample::ALICE)])).await;
    assert_eq!(page.title(), "Sign in");
    assert!(page.text.contains(&format!("value=\"{}\"", sample::ALICE)));
    let page = browser.press(&page, "Sign in", &[("password", "pw")]).await;
    let after = claims(redeem(&emulator, &page).await["id_token"].as_str().unwrap());
    assert_ne!(before["sid"], after["sid"]);
    let page = browser.open(&request(&[("login_hint", sample::BOB)])).await;
    assert_eq!(page.title(), "Sign in");
    assert!(page.text.contains(&format!("value=\"{}\"", sample::BOB)));
    let page = browser.press(&page, "Cancel", &[]).await;
    page.is_refused("access_denied", 65004);
}

#[tokio::test]
async fn a_form_may_be_sent_twice_and_from_two_tabs() {
    let emulator = Emulator::in_memory();
    let mut browser = Browser::new(&emulator);
    let (one, two) = (browser.open(&request(&[])).await, browser.open(&request(&[("state", "2")])).await);
    let first = browser.sign_in(&one, "alice").await;
    let again = browser.sign_in(&one, "bob").await;
    let second = browser.sign_in(&two, "alice").await;
    assert_eq!(second.callback()["state"], "2");
    for page in [first, again, second] {
        redeem(&emulator, &page).await;
    }
}

#[tokio::test]
async fn signing_out_ends_the_session_and_goes_only_where_an_app_lives() {
    let emulator = Emulator::in_memory();
    let mut browser = Browser::new(&emulator);
    let out = |pairs: &[(&str, &str)]| format!("/common/oauth2/v2.0/logout?{}", encoded(pairs));
    browser.through(&request(&[]), "alice", &[]).await;
    let back = out(&[("post_logout_redirect_uri", sample::REDIRECT_URI), ("state", "x y")]);
    let page = browser.open(&back).await;
    assert_eq!(page.location().as_str(), "http://localhost:9999/cb?state=x+y");
    browser.open(&request(SILENT)).await.is_refused("login_required", 50058);
    for elsewhere in ["https://evil.test/", "javascript:alert(1)", "//evil.test", ""] {
        let page = browser.open(&out(&[("post_logout_redirect_uri", elsewhere)])).await;
        assert_eq!(page.title(), "You signed out");
    }
    let page = browser.send(post("/common/oauth2/v2.0/logout", &[])).await;
    assert_eq!(page.title(), "You signed out");
    // A hint signs out one of two.
    browser.through(&request(&[]), "alice", &[]).await;
    let page = browser.open(&request(&[("prompt", "login")])).await;
    browser.sign_in(&page, "bob").await;
    browser.open(&out(&[("logout_hint", sample::ALICE)])).await;
    let body = redeem(&emulator, &browser.open(&request(SILENT)).await).await;
    assert_eq!(claims(body["access_token"].as_str().unwrap())["upn"], sample::BOB);
}

#[tokio::test]
async fn a_guest_who_is_signed_in_at_home_enters_other_tenants_and_proves_more_in_each() {
    let emulator = Emulator::in_memory();
    let directory = emulator.directory();
    directory.add_user(User::new("gus@fabrikam.test").guest_in(sample::TENANT));
    directory.add_policy(Policy::new(sample::TENANT, Requirement::Mfa));
    let mut browser = Browser::new(&emulator);
    let home = request_at(COMMON, &[]);
    let page = browser.through(&home, "gus@fabrikam.test", &["Accept"]).await;
    let body = redeem(&emulator, &page).await;
    assert_eq!(claims(body["id_token"].as_str().unwrap())["tid"], sample::OTHER_TENANT);
    let page = browser.open(&request(&[])).await;
    assert_eq!(page.title(), "Approve sign-in request");
    let body = redeem(&emulator, &browser.press(&page, "Approve", &[]).await).await;
    assert_eq!(claims(body["id_token"].as_str().unwrap())["tid"], sample::TENANT);
    // Each tenant goes on from where it was.
    redeem(&emulator, &browser.open(&request(SILENT)).await).await;
    let body = redeem(&emulator, &browser.open(&home).await).await;
    assert_eq!(claims(body["id_token"].as_str().unwrap())["tid"], sample::OTHER_TENANT);
    redeem(&emulator, &browser.open(&request(SILENT)).await).await;
    let page = browser.open(&request(&[("prompt", "select_account")])).await;
    assert_eq!(page.buttons(), ["Gus", "Use another account"]);
}

#[tokio::test]
async fn the_sessions_cookie_is_for_this_emulator_and_stays_on_tls() {
    let path = request(&[]);
    for (emulator, secure) in [(Emulator::in_memory(), false), (Emulator::builder().tls().in_memory(), true)]
    {
        let page = Browser::new(&emulator).through(&path, "alice", &[]).await;
        let cookie = page.headers["set-cookie"].to_str().unwrap();
        assert!(cookie.starts_with("entra-emulator-1=") && cookie.contains("; Path=/; "), "{cookie}");
        assert_eq!(cookie.ends_with("; Secure"), secure);
    }
    // No port in it, and no other character than names of cookies have.
    let emulator = Emulator::builder().authority("https://login.test").in_memory();
    let page = Browser::new(&emulator).through(&path, "alice", &[]).await;
    let cookie = page.headers["set-cookie"].to_str().unwrap();
    assert!(cookie.starts_with("entra-emulator-443="), "{cookie}");
}
