//! Admin consent, outside of a sign-in.

use crate::browser::*;
use crate::support::*;
use entra_broker::emulator::{App, Emulator, Resource, sample};

fn path(start: &str, pairs: &[(&str, &str)]) -> String {
    let mut all =
        vec![("client_id", sample::SECRET_APP), ("redirect_uri", sample::REDIRECT_URI), ("state", "s t")];
    all.extend(pairs);
    format!("/{start}?{}", encoded(&all))
}

#[tokio::test]
async fn an_administrator_lets_an_app_into_a_tenant() {
    for tenant in ["organizations", "common", sample::CUSTOMER_WITHOUT_CONSENT] {
        let emulator = Emulator::in_memory();
        let api = Resource::new("api://orders").scope("read").admin_scope("manage");
        emulator.directory().add_resource(api);
        let scope = "api://orders/manage User.Read";
        let mut browser = Browser::new(&emulator);
        let start = path(&format!("{tenant}/v2.0/adminconsent"), &[("scope", scope)]);
        let page = browser.through(&start, sample::CUSTOMER_ADMIN, &[]).await;
        assert_eq!(page.title(), "Permissions requested for your organization");
        assert!(page.text.contains("manage") && page.text.contains("tailspin.test"));
        assert_eq!(page.buttons(), ["Accept", "Decline"]);
        let callback = browser.press(&page, "Accept", &[]).await.callback();
        assert_eq!(callback["admin_consent"], "True");
        assert_eq!(callback["tenant"], sample::CUSTOMER_WITHOUT_CONSENT);
        assert_eq!((callback["scope"].as_str(), callback["state"].as_str()), (scope, "s t"));
        assert!(!callback.contains_key("code"));
        // Now the app can have tokens of its own there.
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", sample::SECRET_APP),
            ("client_secret", sample::SECRET),
            ("scope", "https://graph.microsoft.com/.default"),
        ];
        let token = format!("/{}/oauth2/v2.0/token", sample::CUSTOMER_WITHOUT_CONSENT);
        assert_eq!(ask(&emulator, post(&token, &form)).await.status, 200);
    }
}

#[tokio::test]
async fn refusals_say_admin_consent_too() {
    let emulator = Emulator::in_memory();
    let start = path("organizations/v2.0/adminconsent", &[("scope", "Mail.Read")]);
    let mut browser = Browser::new(&emulator);
    let page = browser.through(&start, "admin@contoso.test", &["Decline"]).await;
    page.is_refused("access_denied", 65004);
    assert_eq!(page.callback()["admin_consent"], "True");
    assert_eq!(page.callback()["state"], "s t");
    let page = browser.open(&path("organizations/v2.0/adminconsent", &[])).await;
    page.is_refused("invalid_request", 900144);
    assert_eq!(page.callback()["admin_consent"], "True");
}

#[tokio::test]
async fn only_an_administrator_can_give_it() {
    let emulator = Emulator::in_memory();
    let start = path("contoso.test/v2.0/adminconsent", &[("scope", "Mail.Read")]);
    let mut browser = Browser::new(&emulator);
    let page = browser.through(&start, "alice", &[]).await;
    assert_eq!(page.title(), "Need admin approval");
    let back = browser.press(&page, "Return to the app", &[]).await;
    back.is_refused("access_denied", 90094);
    let page = browser.press(&page, "Sign in with an administrator", &[]).await;
    let page = browser.sign_in(&page, "admin").await;
    let page = browser.press(&page, "Accept", &[]).await;
    assert_eq!(page.callback()["tenant"], sample::TENANT);
    let mut alice = Browser::new(&emulator);
    redeem(&emulator, &alice.through(&request(&[("scope", "Mail.Read")]), "alice", &[]).await).await;
}

#[tokio::test]
async fn the_older_endpoint_grants_what_the_registration_lists() {
    let emulator = Emulator::in_memory();
    let id = "cccccccc-0000-0000-0000-000000000004";
    let app = App::new(id, sample::TENANT).name("Listed").redirect_uri("https://app.test/cb");
    emulator.directory().add_app(app.permissions(sample::GRAPH, ["Mail.Read", "User.Read"]));
    let mut browser = Browser::new(&emulator);
    let pairs = encoded(&[("client_id", id), ("redirect_uri", "https://app.test/cb"), ("state", "x")]);
    let page = browser.through(&format!("/contoso.test/adminconsent?{pairs}"), "admin", &[]).await;
    assert!(page.text.contains("Mail.Read") && page.text.contains("User.Read"));
    let page = browser.press(&page, "Accept", &[]).await;
    let url = page.location();
    assert_eq!(
        url.as_str(),
        format!("https://app.test/cb?admin_consent=True&tenant={}&state=x", sample::TENANT)
    );
}

#[tokio::test]
async fn an_unknown_app_or_address_gets_a_page() {
    let emulator = Emulator::in_memory();
    let mut browser = Browser::new(&emulator);
    let wrong = encoded(&[("client_id", sample::SECRET_APP), ("redirect_uri", "https://evil.test")]);
    browser.open(&format!("/organizations/v2.0/adminconsent?{wrong}&scope=x")).await.is_error_page(50011);
    browser.open("/organizations/adminconsent?client_id=nobody").await.is_error_page(700016);
}
