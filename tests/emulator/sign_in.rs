//! The authorize endpoint: what it asks, what it answers, and to whom.

use crate::browser::*;
use crate::support::*;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entra_broker::emulator::{App, Emulator, sample};
use std::time::Duration;

#[tokio::test]
async fn a_user_signs_in_and_the_app_redeems_the_code() {
    let emulator = Emulator::in_memory();
    let mut browser = Browser::new(&emulator);
    let page = browser.open(&request(&[("nonce", "n-1"), ("client_info", "1")])).await;
    assert_eq!((page.status, page.title().as_str()), (200, "Sign in"));
    assert!(page.text.contains("Sample web app") && page.text.contains("contoso.test"));
    let page = browser.sign_in(&page, "alice").await;
    assert_eq!(page.status, 302);
    assert!(page.location().as_str().starts_with("http://localhost:9999/cb?code="));
    let callback = page.callback();
    assert_eq!(callback["state"], "s & <t>\"'");
    assert!(callback.contains_key("session_state") && callback.contains_key("client_info"));
    let body = redeem(&emulator, &page).await;
    let id = claims(body["id_token"].as_str().unwrap());
    assert_eq!((id["nonce"].as_str(), id["aud"].as_str()), (Some("n-1"), Some(sample::SECRET_APP)));
    assert_eq!(claims(body["access_token"].as_str().unwrap())["upn"], sample::ALICE);
    assert!(body["refresh_token"].is_string());
}

#[tokio::test]
async fn the_answer_comes_the_way_that_was_asked_for() {
    let emulator = Emulator::in_memory();
    for (mode, sign) in [("fragment", '#'), ("query", '?'), ("", '?')] {
        let page = Browser::new(&emulator).through(&request(&[("response_mode", mode)]), "alice", &[]).await;
        let location = page.location();
        assert!(location.as_str().starts_with(&format!("http://localhost:9999/cb{sign}code=")), "{location}");
        redeem(&emulator, &page).await;
    }
    let page =
        Browser::new(&emulator).through(&request(&[("response_mode", "form_post")]), "alice", &[]).await;
    assert_eq!(page.forms()[0].action, sample::REDIRECT_URI);
    assert_eq!(page.buttons(), ["Continue"]);
    assert_eq!(page.callback()["state"], "s & <t>\"'");
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("script-src 'sha256-") && !policy.contains("form-action"));
    redeem(&emulator, &page).await;
    let bad = Browser::new(&emulator).open(&request(&[("response_mode", "cookie")])).await;
    bad.is_refused("invalid_request", 70007);
}

#[tokio::test]
async fn a_request_may_be_posted() {
    let emulator = Emulator::in_memory();
    let mut browser = Browser::new(&emulator);
    let url = request(&[]);
    let query = url.split_once('?').unwrap().1;
    let pairs: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let pairs: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let page = browser.send(post(AUTHORIZE, &pairs)).await;
    redeem(&emulator, &browser.sign_in(&page, "alice").await).await;
}

#[tokio::test]
async fn who_cannot_be_told_is_not_told() {
    let emulator = Emulator::in_memory();
    emulator.directory().add_app(
        App::new("cccccccc-0000-0000-0000-000000000001", sample::TENANT).redirect_uri("javascript:alert(1)"),
    );
    let mut browser = Browser::new(&emulator);
    let bad = "cccccccc-0000-0000-0000-000000000001";
    for (change, code) in [
        (&[("client_id", "")][..], 900144),
        (&[("client_id", "cccccccc-0000-0000-0000-000000000009")], 700016),
        (&[("redirect_uri", "http://localhost:9999/other")], 50011),
        (&[("redirect_uri", "https://evil.test/cb")], 50011),
        (&[("client_id", bad), ("redirect_uri", "javascript:alert(1)")], 50011),
        (&[("client_id", bad), ("redirect_uri", "")], 900971),
        (&[("client_id", sample::CERT_APP), ("redirect_uri", "")], 500113),
        (&[("client_id", sample::PUBLIC_APP), ("redirect_uri", "")], 900971),
    ] {
        browser.open(&request(change)).await.is_error_page(code);
    }
    for (tenant, code) in
        [("nowhere.test", 90002), ("nonsense", 900023), ("no_.test", 50128), ("consumers", 50020)]
    {
        let path = format!("/{tenant}/oauth2/v2.0/authorize");
        browser.open(&request_at(&path, &[])).await.is_error_page(code);
    }
    let single = [("client_id", sample::PUBLIC_APP), ("redirect_uri", "http://localhost")];
    browser.open(&request_at(COMMON, &single)).await.is_error_page(50194);
    let elsewhere = format!("/{}/oauth2/v2.0/authorize", sample::OTHER_TENANT);
    browser.open(&request_at(&elsewhere, &single)).await.is_error_page(700016);
    let journal = emulator.journal().entries();
    assert!(journal.iter().all(|entry| entry.aadsts.is_some()));
}

#[tokio::test]
async fn other_mistakes_are_told_to_the_app() {
    let emulator = Emulator::in_memory();
    let mut browser = Browser::new(&emulator);
    let long = "x".repeat(20_000);
    for (change, error, code) in [
        (&[("response_type", "")][..], "invalid_request", 900144),
        (&[("response_type", "id_token")], "unsupported_response_type", 700054),
        (&[("response_type", "code id_token")], "unsupported_response_type", 700054),
        (&[("response_type", "token")], "unsupported_response_type", 700051),
        (&[("response_type", "magic")], "unsupported_response_type", 70005),
        (&[("scope", "")], "invalid_request", 900144),
        (&[("scope", "https://vault.azure.net/.default User.Read")], "invalid_scope", 70011),
        (&[("prompt", "shout")], "invalid_request", 90023),
        (&[("prompt", "none login")], "invalid_request", 90023),
        (&[("claims", "cp1")], "invalid_request", 90100),
        (&[("code_challenge", "short")], "invalid_request", 50147),
        (&[("code_challenge_method", "S256")], "invalid_request", 50147),
        (&[("nonce", &long)], "invalid_request", 90100),
    ] {
        let page = browser.open(&request(change)).await;
        page.is_refused(error, code);
        assert_eq!(page.callback()["state"], "s & <t>\"'");
    }
    let page = browser.open(&request(&[("scope", ""), ("response_mode", "fragment")])).await;
    assert!(page.location().fragment().is_some());
    let mut page =
        browser.open(&request(&[("scope", "api://aaaaaaaa-0000-0000-0000-000000000002/nope")])).await;
    page = browser.sign_in(&page, "alice").await;
    page.is_refused("invalid_client", 650053);
}

#[tokio::test]
async fn a_request_without_a_redirect_uri_goes_to_the_only_one() {
    let emulator = Emulator::in_memory();
    let page = Browser::new(&emulator).through(&request(&[("redirect_uri", "")]), "alice", &[]).await;
    redeem(&emulator, &page).await;
}

#[tokio::test]
async fn a_public_client_gets_its_code_at_any_port_and_proves_it_with_its_verifier() {
    let emulator = Emulator::in_memory();
    let verifier = "v".repeat(43);
    let s256 = URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
    for (method, challenge) in [("S256", &s256), ("plain", &verifier), ("", &verifier)] {
        let path = request(&[
            ("client_id", sample::PUBLIC_APP),
            ("redirect_uri", "http://localhost:51234"),
            ("code_challenge", challenge),
            ("code_challenge_method", method),
        ]);
        let page = Browser::new(&emulator).through(&path, "alice", &["Accept"]).await;
        let url = page.location();
        assert!(url.as_str().starts_with("http://localhost:51234/?code="), "{url}");
        emulator.directory().withdraw_consent(sample::TENANT, sample::PUBLIC_APP);
        emulator.directory().consent_for_all(
            sample::TENANT,
            sample::PUBLIC_APP,
            sample::GRAPH,
            &["User.Read"],
        );
        let code = &page.callback()["code"];
        let form = |verifier: &'static str| {
            vec![
                ("grant_type", "authorization_code"),
                ("client_id", sample::PUBLIC_APP),
                ("redirect_uri", "http://localhost:51234"),
                ("code", code.as_str()),
                ("code_verifier", verifier),
            ]
        };
        let wrong = Box::leak("w".repeat(43).into_boxed_str());
        ask(&emulator, post(TOKEN_PATH, &form(wrong))).await.is_entra_error(400, "invalid_grant", 501481);
        let right = Box::leak(verifier.clone().into_boxed_str());
        assert_eq!(ask(&emulator, post(TOKEN_PATH, &form(right))).await.status, 200);
        emulator.directory().withdraw_consent(sample::TENANT, sample::PUBLIC_APP);
    }
}

#[tokio::test]
async fn a_custom_scheme_that_is_registered_is_a_way_back() {
    let emulator = Emulator::in_memory();
    let app = App::new("cccccccc-0000-0000-0000-000000000002", sample::TENANT).public();
    emulator.directory().add_app(app.redirect_uri("msalcccc://auth"));
    let change = [("client_id", "cccccccc-0000-0000-0000-000000000002"), ("redirect_uri", "msalcccc://auth")];
    let page = Browser::new(&emulator).through(&request(&change), "alice", &["Accept"]).await;
    assert!(page.location().as_str().starts_with("msalcccc://auth?code="));
}

#[tokio::test]
async fn a_page_that_was_left_open_too_long_says_so() {
    let clock = Clock::new();
    let emulator = clock.builder().in_memory();
    let mut browser = Browser::new(&emulator);
    let page = browser.open(&request(&[])).await;
    clock.advance(Duration::from_secs(3601));
    browser.sign_in(&page, "alice").await.is_error_page(50089);
    let forged = post("/common/login", &[("flow", "AAAA"), ("username", "alice"), ("password", "pw")]);
    browser.send(forged).await.is_error_page(50089);
}

#[tokio::test]
async fn front_page_and_error_numbers_are_explained() {
    let emulator = Emulator::in_memory();
    let mut browser = Browser::new(&emulator);
    assert_eq!(browser.open("/").await.title(), "A local Entra, for tests");
    let page = browser.open("/error?code=50011").await;
    assert!(page.title() == "AADSTS50011" && page.text.contains("redirect URI"));
    for odd in
        ["/error", "/error?code=", "/error?code=%3Cb%3E", "/error?code=4711", "/error?code=99999999999"]
    {
        let page = browser.open(odd).await;
        assert!(page.status == 200 && !page.text.contains("<b>"));
    }
}
