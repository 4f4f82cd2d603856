//! The emulator's pages in a real browser, Chromium, where it is installed.
//!
//! `REQUIRE=chromium` makes its absence a failure. `SCREENSHOTS=DIR` keeps a picture of every page.
#![expect(clippy::unwrap_used, reason = "what goes wrong here fails a test")]

mod app;
mod driver;

use app::App;
use driver::{Browser, Scripts};
use entra_broker::emulator::{Emulator, Policy, Requirement, Resource, sample};
use fantoccini::key::Key;
use serde_json::Value;
use std::collections::BTreeMap;

/// An authorize request of the sample's web app, whose callback is at this app's port.
fn request(emulator: &Emulator, app: &App, changes: &[(&str, &str)]) -> String {
    let redirect_uri = app.redirect_uri();
    let mut pairs = vec![
        ("client_id", sample::SECRET_APP),
        ("response_type", "code"),
        ("redirect_uri", &redirect_uri),
        ("scope", "openid offline_access User.Read"),
        ("state", "s & <t>"),
    ];
    for (name, value) in changes {
        pairs.retain(|(known, _)| known != name);
        pairs.push((name, value));
    }
    format!("{}/{}/oauth2/v2.0/authorize?{}", emulator.authority(), sample::TENANT, encoded(&pairs))
}

fn encoded(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// Redeems a callback's code.
async fn redeem(emulator: &Emulator, app: &App, callback: &BTreeMap<String, String>) -> Value {
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", sample::SECRET_APP),
        ("client_secret", sample::SECRET),
        ("redirect_uri", &app.redirect_uri()),
        ("code", callback.get("code").unwrap_or_else(|| panic!("no code in {callback:?}"))),
    ];
    let (status, body) = post(emulator, "token", &form).await;
    assert_eq!(status, 200, "{body}");
    body
}

async fn post(emulator: &Emulator, endpoint: &str, form: &[(&str, &str)]) -> (u16, Value) {
    let client = reqwest::Client::builder().no_proxy().tls_danger_accept_invalid_certs(true).build().unwrap();
    let url = format!("{}/{}/oauth2/v2.0/{endpoint}", emulator.authority(), sample::TENANT);
    let request =
        client.post(url).header("content-type", "application/x-www-form-urlencoded").body(encoded(form));
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
}

#[tokio::test]
async fn a_user_signs_in_to_a_web_app() {
    let Some(browser) = Browser::start(Scripts::On).await else { return };
    let emulator = Emulator::start().await.unwrap();
    let mut app = App::start().await;
    let client = &browser.client;

    // By keyboard alone: the page opens in the first field.
    client.goto(&request(&emulator, &app, &[])).await.unwrap();
    browser.sees("Sign in", "sign-in").await;
    client
        .active_element()
        .await
        .unwrap()
        .send_keys(&format!("nobody{}", char::from(Key::Tab)))
        .await
        .unwrap();
    client.active_element().await.unwrap().send_keys(&format!("pw{}", char::from(Key::Enter))).await.unwrap();
    browser.client.wait().for_element(fantoccini::Locator::Css("[role=alert]")).await.unwrap();
    browser.sees("Sign in", "sign-in-wrong").await;
    browser.sign_in("alice").await;
    let called = app.called().await;
    assert_eq!(called.method, "GET");
    assert_eq!(called.parameters()["state"], "s & <t>");
    assert!(redeem(&emulator, &app, &called.parameters()).await["refresh_token"].is_string());

    // Consent, declined and then given; the session knows the user by now.
    let more = [("scope", "openid email Mail.Read https://database.windows.net/user_impersonation")];
    client.goto(&request(&emulator, &app, &more)).await.unwrap();
    browser.sees("Permissions requested", "consent").await;
    browser.press("Decline").await;
    let declined = app.called().await.parameters();
    assert_eq!(declined["error"], "access_denied");
    assert!(declined["error_description"].starts_with("AADSTS65004"));
    client.goto(&request(&emulator, &app, &more)).await.unwrap();
    browser.waits_for("Permissions requested").await;
    browser.press("Accept").await;
    let callback = app.called().await.parameters();
    redeem(&emulator, &app, &callback).await;

    // In the fragment, which no server sees.
    client.goto(&request(&emulator, &app, &[("response_mode", "fragment")])).await.unwrap();
    browser.waits_for("The app").await;
    assert_eq!(app.called().await.target, "/cb");
    let url = client.current_url().await.unwrap();
    let fragment = url.fragment().unwrap().as_bytes();
    redeem(&emulator, &app, &url::form_urlencoded::parse(fragment).into_owned().collect()).await;

    // Posted, without a hand being lifted.
    client.goto(&request(&emulator, &app, &[("response_mode", "form_post")])).await.unwrap();
    let called = app.called().await;
    assert_eq!((called.method.as_str(), called.target.as_str()), ("POST", "/cb"));
    assert_eq!(called.origin.as_deref(), Some(emulator.authority()));
    assert_eq!(called.parameters()["state"], "s & <t>");
    redeem(&emulator, &app, &called.parameters()).await;

    client.goto(&request(&emulator, &app, &[("prompt", "select_account")])).await.unwrap();
    browser.sees("Choose an account", "choose").await;
    browser.press("Use another account").await;
    browser.sign_in("bob").await;
    app.called().await;

    let out = encoded(&[("post_logout_redirect_uri", &app.redirect_uri()), ("state", "bye")]);
    client.goto(&format!("{}/common/oauth2/v2.0/logout?{out}", emulator.authority())).await.unwrap();
    assert_eq!(app.called().await.target, "/cb?state=bye");
    client.goto(&format!("{}/common/oauth2/v2.0/logout", emulator.authority())).await.unwrap();
    browser.sees("You signed out", "signed-out").await;
    client.goto(&request(&emulator, &app, &[("prompt", "none")])).await.unwrap();
    assert_eq!(app.called().await.parameters()["error"], "login_required");
    browser.close().await;
}

#[tokio::test]
async fn policies_and_approvals_have_their_pages() {
    let Some(browser) = Browser::start(Scripts::On).await else { return };
    let emulator = Emulator::start().await.unwrap();
    let mut app = App::start().await;
    let client = &browser.client;
    let directory = emulator.directory();
    directory.add_policy(Policy::new(sample::TENANT, Requirement::MfaEnrolment).resource(sample::GRAPH));
    directory.add_policy(Policy::new(sample::TENANT, Requirement::Mfa).resource(sample::GRAPH));
    directory.add_resource(Resource::new("api://orders").scope("read").admin_scope("manage"));
    directory.add_policy(Policy::new(sample::TENANT, Requirement::Blocked).resource(sample::KEY_VAULT));

    client.goto(&request(&emulator, &app, &[])).await.unwrap();
    browser.sign_in("alice").await;
    browser.sees("More information required", "enrolment").await;
    browser.press("Set up").await;
    browser.sees("Approve sign-in request", "mfa").await;
    // Back to an older page, and its form once more.
    client.back().await.unwrap();
    client.forward().await.unwrap();
    client.goto(&request(&emulator, &app, &[])).await.unwrap();
    browser.waits_for("Approve sign-in request").await;
    browser.press("Approve").await;
    let callback = app.called().await.parameters();
    redeem(&emulator, &app, &callback).await;

    client.goto(&request(&emulator, &app, &[("scope", "api://orders/manage")])).await.unwrap();
    browser.sees("Need admin approval", "approval").await;
    browser.press("Return to the app").await;
    assert_eq!(app.called().await.parameters()["error"], "access_denied");
    browser.client.back().await.unwrap();
    browser.waits_for("Need admin approval").await;
    browser.press("Sign in with an administrator").await;
    browser.sign_in("admin").await;
    browser.sees("Permissions requested", "consent-admin").await;
    browser.press_label("Consent on behalf").await;
    browser.press("Accept").await;
    let callback = app.called().await.parameters();
    redeem(&emulator, &app, &callback).await;
    let again = [("scope", "api://orders/manage"), ("login_hint", sample::ALICE), ("prompt", "none")];
    client.goto(&request(&emulator, &app, &again)).await.unwrap();
    assert!(app.called().await.parameters().contains_key("code"), "consent was given for everyone");

    let vault = [("scope", "https://vault.azure.net/.default"), ("login_hint", sample::ALICE)];
    client.goto(&request(&emulator, &app, &vault)).await.unwrap();
    browser.sees("You cannot access this", "blocked").await;

    let wrong = request(&emulator, &app, &[("redirect_uri", "https://evil.test/")]);
    client.goto(&wrong).await.unwrap();
    browser.sees("Sorry, but", "error").await;
    client.goto(&format!("{}/error?code=53003", emulator.authority())).await.unwrap();
    browser.sees("AADSTS53003", "explanation").await;
    client.goto(emulator.authority()).await.unwrap();
    browser.sees("A local Entra", "front").await;
    browser.close().await;
}

#[tokio::test]
async fn a_device_is_approved_with_its_code() {
    let Some(browser) = Browser::start(Scripts::On).await else { return };
    let emulator = Emulator::start().await.unwrap();
    let scope = [("client_id", sample::PUBLIC_APP), ("scope", "openid User.Read")];
    let (_, started) = post(&emulator, "devicecode", &scope).await;
    browser.client.goto(started["verification_uri"].as_str().unwrap()).await.unwrap();
    browser.waits_for("Enter code").await;
    browser.fill("Code", "WRONG").await;
    browser.press("Next").await;
    browser.client.wait().for_element(fantoccini::Locator::Css("[role=alert]")).await.unwrap();
    browser.fill("Code", &started["user_code"].as_str().unwrap().to_lowercase()).await;
    browser.sees("Enter code", "device").await;
    browser.press("Next").await;
    browser.sign_in("alice").await;
    browser.sees("Are you trying to sign in to Sample desktop app", "confirm").await;
    browser.press("Continue").await;
    browser.waits_for("Permissions requested").await;
    browser.press("Accept").await;
    browser.sees("You have signed in to Sample desktop app", "device-done").await;
    let poll = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("client_id", sample::PUBLIC_APP),
        ("device_code", started["device_code"].as_str().unwrap()),
    ];
    let (status, body) = post(&emulator, "token", &poll).await;
    assert_eq!(status, 200, "{body}");

    let (_, started) = post(&emulator, "devicecode", &scope).await;
    let code = encoded(&[("user_code", started["user_code"].as_str().unwrap())]);
    let uri = started["verification_uri"].as_str().unwrap();
    browser.client.goto(&format!("{uri}?{code}")).await.unwrap();
    browser.press("Next").await;
    browser.waits_for("Choose an account").await;
    browser.press("Alice").await;
    browser.waits_for("Are you trying").await;
    browser.press("Cancel").await;
    browser.sees("You declined", "device-declined").await;
    browser.close().await;
}

#[tokio::test]
async fn an_administrator_consents_for_a_tenant() {
    let Some(browser) = Browser::start(Scripts::On).await else { return };
    let emulator = Emulator::start().await.unwrap();
    let mut app = App::start().await;
    let (client, redirect_uri) = (&browser.client, app.redirect_uri());
    let pairs = [
        ("client_id", sample::SECRET_APP),
        ("redirect_uri", &redirect_uri),
        ("scope", "https://graph.microsoft.com/Mail.Read"),
        ("state", "17"),
    ];
    let url = format!("{}/organizations/v2.0/adminconsent?{}", emulator.authority(), encoded(&pairs));
    client.goto(&url).await.unwrap();
    browser.sign_in(sample::CUSTOMER_ADMIN).await;
    browser.sees("Permissions requested for your organization", "admin-consent").await;
    browser.press("Accept").await;
    let callback = app.called().await.parameters();
    assert_eq!(callback["tenant"], sample::CUSTOMER_WITHOUT_CONSENT);
    assert_eq!((callback["admin_consent"].as_str(), callback["state"].as_str()), ("True", "17"));
    browser.close().await;
}

#[tokio::test]
async fn no_script_is_needed() {
    let Some(browser) = Browser::start(Scripts::Off).await else { return };
    let emulator = Emulator::start().await.unwrap();
    let mut app = App::start().await;
    let form_post = [("response_mode", "form_post"), ("scope", "openid Mail.Read")];
    browser.client.goto(&request(&emulator, &app, &form_post)).await.unwrap();
    browser.sign_in("alice").await;
    browser.waits_for("Permissions requested").await;
    browser.press("Accept").await;
    // It stays, since nothing sends it.
    browser.sees("Back to the app", "form-post").await;
    browser.press("Continue").await;
    let called = app.called().await;
    assert_eq!(called.method, "POST");
    redeem(&emulator, &app, &called.parameters()).await;
    browser.close().await;
}

#[tokio::test]
async fn over_tls_the_session_and_the_way_back_work_too() {
    let Some(browser) = Browser::start(Scripts::On).await else { return };
    let emulator = Emulator::builder().tls().start().await.unwrap();
    let mut app = App::start().await;
    browser.client.goto(&request(&emulator, &app, &[("response_mode", "form_post")])).await.unwrap();
    browser.sign_in("alice").await;
    let called = app.called().await;
    redeem(&emulator, &app, &called.parameters()).await;
    browser.client.goto(&request(&emulator, &app, &[("prompt", "none")])).await.unwrap();
    let callback = app.called().await.parameters();
    redeem(&emulator, &app, &callback).await;
    browser.close().await;
}
