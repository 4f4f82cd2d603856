//! The errors that Entra documents, each provoked: by a request, unless no directory can cause it.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "what goes wrong here fails a test")]

use crate::browser::*;
use crate::signer::*;
use crate::support::*;
use entra_broker::emulator::{
    App, Emulator, Endpoint, Fault, FederatedCredential, Issuer, Policy, RefreshRotation, Requirement,
    Resource, sample,
};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Number, status (0 where only a page or a callback says it), and the `error` values that come with it, as Microsoft documents them or
/// as they were seen on the wire.
#[rustfmt::skip]
const TABLE: &[(u32, u16, &[&str])] = &[
    // The client.
    (7000215, 401, &["invalid_client"]),
    (7000222, 401, &["invalid_client"]),
    (7000216, 401, &["invalid_client"]),
    (7000218, 401, &["invalid_client"]),
    (7000229, 401, &["invalid_client"]),
    (700027, 401, &["invalid_client"]),
    (700025, 401, &["invalid_client"]),
    (700211, 401, &["invalid_client"]),
    (700212, 401, &["invalid_client"]),
    (700213, 401, &["invalid_client"]),
    (7002138, 401, &["invalid_client"]),
    (70021, 400, &["invalid_request"]),
    (700016, 400, &["unauthorized_client"]),
    (7000112, 400, &["unauthorized_client"]),
    (70001, 400, &["unauthorized_client"]),
    // The tenant, and the form of the request.
    (90002, 400, &["invalid_request", "invalid_tenant"]),
    (900023, 400, &["invalid_request"]),
    (50059, 400, &["invalid_request"]),
    (50128, 400, &["invalid_request"]),
    (50194, 400, &["invalid_request"]),
    (9001023, 400, &["invalid_request"]),
    (90038, 400, &["invalid_request"]),
    (900439, 400, &["invalid_request"]),
    (900144, 400, &["invalid_request"]),
    (50049, 400, &["invalid_instance"]),
    (70011, 400, &["invalid_scope"]),
    (1002012, 400, &["invalid_scope"]),
    (28002, 400, &["invalid_scope"]),
    (28003, 400, &["invalid_scope"]),
    (70003, 400, &["unsupported_grant_type"]),
    // The resource, and what the app may do there.
    (500011, 400, &["invalid_resource"]),
    (50001, 400, &["invalid_resource"]),
    (650052, 400, &["invalid_client"]),
    (650056, 400, &["unauthorized_client"]),
    (650057, 400, &["invalid_resource"]),
    (65001, 400, &["invalid_grant"]),
    (65004, 0, &["access_denied"]),
    (50011, 0, &[]),
    // Policies.
    (50076, 400, &["interaction_required", "invalid_grant"]),
    (50079, 400, &["interaction_required", "invalid_grant"]),
    (50074, 400, &["interaction_required", "invalid_grant"]),
    (53003, 400, &["interaction_required", "invalid_grant"]),
    (50158, 400, &["interaction_required", "invalid_grant"]),
    // Grants.
    (70000, 400, &["invalid_grant"]),
    (70008, 400, &["invalid_grant"]),
    (54005, 400, &["invalid_grant"]),
    (501481, 400, &["invalid_grant"]),
    (50147, 400, &["invalid_grant"]),
    (700005, 400, &["invalid_grant"]),
    (700082, 400, &["invalid_grant"]),
    (700084, 400, &["invalid_grant"]),
    (70043, 400, &["invalid_grant"]),
    (50173, 400, &["invalid_grant"]),
    (50013, 400, &["invalid_grant"]),
    (500133, 400, &["invalid_grant"]),
    (70016, 400, &["authorization_pending", "slow_down"]),
    (70018, 400, &["bad_verification_code"]),
    (70019, 400, &["expired_token"]),
    // The user.
    (50034, 400, &["invalid_grant"]),
    (50020, 400, &["invalid_grant"]),
    (50105, 400, &["invalid_grant"]),
    (50126, 400, &["invalid_grant"]),
    // No directory can cause these: the service is in trouble, or the client asks too often.
    (50196, 400, &["temporarily_unavailable"]),
    (90033, 503, &["temporarily_unavailable"]),
    (90006, 500, &["temporarily_unavailable"]),
    (90012, 504, &["temporarily_unavailable"]),
    (90055, 429, &["temporarily_unavailable"]),
];

/// The rows that were provoked.
#[derive(Default)]
struct Seen(BTreeSet<u32>);

impl Seen {
    #[track_caller]
    fn add(&mut self, code: u32, answer: &Answer) {
        let &(_, status, errors) = TABLE.iter().find(|row| row.0 == code).expect("a row of the table");
        let error = answer.json()["error"].as_str().unwrap_or_default().to_owned();
        assert!(errors.contains(&error.as_str()), "{code}: {}", answer.json());
        answer.is_entra_error(status, &error, code);
        self.0.insert(code);
    }
}

/// A form with some values replaced; an empty one is left out.
fn form<'a>(base: &[(&'a str, &'a str)], changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut pairs: BTreeMap<&str, &str> = base.iter().copied().collect();
    pairs.extend(changes.iter().copied());
    pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

fn password_form() -> Vec<(&'static str, &'static str)> {
    vec![
        ("grant_type", "password"),
        ("client_id", sample::PUBLIC_APP),
        ("username", sample::ALICE),
        ("password", "any"),
        ("scope", "User.Read offline_access"),
    ]
}

fn path(tenant: &str) -> String {
    format!("/{tenant}/oauth2/v2.0/token")
}

async fn app_form(emulator: &Emulator, changes: &[(&str, &str)]) -> Answer {
    ask(emulator, post(TOKEN_PATH, &form(&good(), changes))).await
}

async fn user_form(emulator: &Emulator, changes: &[(&str, &str)]) -> Answer {
    ask(emulator, post(TOKEN_PATH, &form(&password_form(), changes))).await
}

/// A directory in which everyone consented to everything that is asked for here.
fn emulator() -> (Clock, Emulator) {
    let clock = Clock::new();
    let emulator = clock.builder().in_memory();
    let directory = emulator.directory();
    directory.consent_for_all(sample::TENANT, sample::PUBLIC_APP, sample::GRAPH, &["User.Read"]);
    directory.consent_for_all(sample::TENANT, sample::PUBLIC_APP, sample::API, &[sample::API_SCOPE]);
    (clock, emulator)
}

async fn clients(seen: &mut Seen) {
    let (_, emulator) = emulator();
    let directory = emulator.directory();
    seen.add(7000215, &app_form(&emulator, &[("client_secret", "wrong")]).await);
    seen.add(7000222, &app_form(&emulator, &[("client_secret", sample::EXPIRED_SECRET)]).await);
    seen.add(7000216, &app_form(&emulator, &[("client_secret", "")]).await);
    seen.add(700025, &app_form(&emulator, &[("client_id", sample::PUBLIC_APP)]).await);
    seen.add(700016, &app_form(&emulator, &[("client_id", "nobody")]).await);
    let confidential = [("client_id", sample::SECRET_APP), ("scope", "User.Read")];
    seen.add(7000218, &user_form(&emulator, &confidential).await);
    let elsewhere = path(sample::CUSTOMER_WITHOUT_CONSENT);
    seen.add(7000229, &ask(&emulator, post(&elsewhere, &good())).await);
    directory.set_service_principal_enabled(sample::TENANT, sample::SECRET_APP, false);
    seen.add(70001, &app_form(&emulator, &[]).await);
    directory.set_app_enabled(sample::SECRET_APP, false);
    seen.add(7000112, &app_form(&emulator, &[]).await);
}

async fn assertions(seen: &mut Seen) {
    let (_, emulator) = emulator();
    let (cluster, subject) = ("https://oidc.cluster.test/1/", "system:serviceaccount:shop:orders");
    let exchange = "api://AzureADTokenExchange";
    let directory = emulator.directory();
    directory.add_issuer(Issuer::new(cluster));
    directory.add_issuer(Issuer::new("https://other.test"));
    let app = ("client_id", sample::CERT_APP);
    let present = async |assertion: &str| {
        let kind = ("client_assertion_type", JWT_BEARER);
        let changes = [app, ("client_secret", ""), kind, ("client_assertion", assertion)];
        app_form(&emulator, &changes).await
    };
    let minted = async |issuer: &str, subject: &str, audience: &str| {
        emulator.federated_token(issuer, subject, audience).await.unwrap()
    };
    seen.add(70021, &present(&minted(cluster, subject, exchange).await).await);
    let unknown = Signer::first().sign(&json!({"alg": "PS256", "x5t": "AAAA"}), &own_claims());
    seen.add(700027, &present(&unknown).await);
    directory.add_federated(sample::CERT_APP, FederatedCredential::new(cluster, subject));
    seen.add(700211, &present(&minted("https://other.test", subject, exchange).await).await);
    seen.add(700212, &present(&minted(cluster, subject, "api://other").await).await);
    seen.add(700213, &present(&minted(cluster, "system:other", exchange).await).await);
    seen.add(7002138, &present(&minted(cluster, &subject.to_uppercase(), exchange).await).await);
}

async fn tenants_and_forms(seen: &mut Seen) {
    let (_, emulator) = emulator();
    let directory = emulator.directory();
    for (tenant, code) in [
        ("99999999-2222-3333-4444-555555555555", 90002),
        ("not-a-tenant", 900023),
        ("a..b", 50128),
        ("organizations", 50059),
        ("common", 9001023),
    ] {
        seen.add(code, &ask(&emulator, post(&path(tenant), &good())).await);
    }
    let discovery = "/unknown.test/v2.0/.well-known/openid-configuration";
    let answer = ask(&emulator, get(discovery, &[])).await;
    assert_eq!(answer.json()["error"], "invalid_tenant");
    seen.add(90002, &answer);
    let single = form(&good(), &[("client_id", sample::CERT_APP)]);
    seen.add(50194, &ask(&emulator, post(&path("common"), &single)).await);
    let evil = "/common/discovery/instance?api-version=1.1&authorization_endpoint=https://evil.test/a";
    seen.add(50049, &ask(&emulator, get(evil, &[])).await);
    seen.add(900144, &app_form(&emulator, &[("scope", "")]).await);
    seen.add(70003, &app_form(&emulator, &[("grant_type", "implicit")]).await);
    let two = format!("{STORAGE_SCOPE} https://vault.azure.net/.default");
    seen.add(70011, &app_form(&emulator, &[("scope", &two)]).await);
    seen.add(1002012, &app_form(&emulator, &[("scope", "User.Read")]).await);
    directory.add_app(App::new("gov", sample::TENANT).secret("s").cloud("microsoftonline.us"));
    seen.add(900439, &app_form(&emulator, &[("client_id", "gov"), ("client_secret", "s")]).await);
    directory.set_tenant_cloud(sample::TENANT, "microsoftonline.us");
    seen.add(90038, &app_form(&emulator, &[]).await);
}

async fn resources(seen: &mut Seen) {
    let (_, emulator) = emulator();
    let directory = emulator.directory();
    seen.add(500011, &app_form(&emulator, &[("scope", "api://nowhere/.default")]).await);
    directory.add_resource(Resource::new("api://theirs").only_in([sample::OTHER_TENANT]));
    seen.add(650052, &user_form(&emulator, &[("scope", "api://theirs/Read")]).await);
    directory.set_resource_enabled(sample::KEY_VAULT, false);
    let scope = ("scope", "https://vault.azure.net/.default");
    seen.add(50001, &app_form(&emulator, &[scope]).await);
    directory.add_app(App::new("lists-nothing", sample::TENANT).public().no_permissions());
    let storage = ("scope", STORAGE_SCOPE);
    seen.add(650056, &user_form(&emulator, &[("client_id", "lists-nothing"), storage]).await);
    let lists = App::new("lists-graph", sample::TENANT).public().permissions(sample::GRAPH, ["User.Read"]);
    directory.add_app(lists);
    seen.add(650057, &user_form(&emulator, &[("client_id", "lists-graph"), storage]).await);
    let answer = user_form(&emulator, &[("scope", "Mail.Read")]).await;
    assert_eq!(answer.json()["suberror"], "consent_required");
    seen.add(65001, &answer);
}

async fn users_and_policies(seen: &mut Seen) {
    let (clock, emulator) = emulator();
    let directory = emulator.directory();
    seen.add(50034, &user_form(&emulator, &[("username", "nobody")]).await);
    seen.add(50020, &user_form(&emulator, &[("username", sample::CAROL)]).await);
    directory.set_password(sample::BOB, "only this");
    seen.add(50126, &user_form(&emulator, &[("username", sample::BOB)]).await);
    directory.add_app(App::new("assigned", sample::TENANT).public().assignment_required());
    seen.add(50105, &user_form(&emulator, &[("client_id", "assigned")]).await);
    for (requirement, code, suberror) in [
        (Requirement::Mfa, 50076, "basic_action"),
        (Requirement::MfaEnrolment, 50079, "basic_action"),
        (Requirement::StrongAuthentication, 50074, "basic_action"),
        (Requirement::ExternalChallenge, 50158, "basic_action"),
        (Requirement::Blocked, 53003, "message_only"),
    ] {
        directory.add_policy(Policy::new(sample::TENANT, requirement));
        let answer = user_form(&emulator, &[]).await;
        assert_eq!(answer.json()["suberror"], suberror);
        seen.add(code, &answer);
        directory.clear_policies(sample::TENANT);
    }
    let refresh = |token: &str| {
        let token = token.to_owned();
        let emulator = emulator.clone();
        async move {
            let changes = [("grant_type", "refresh_token"), ("refresh_token", token.as_str())];
            user_form(&emulator, &changes).await
        }
    };
    let token = async || user_form(&emulator, &[]).await.json()["refresh_token"].as_str().unwrap().to_owned();
    directory.add_policy(Policy::new(sample::TENANT, Requirement::SignInFrequency(Duration::from_secs(60))));
    let first = token().await;
    clock.advance(Duration::from_secs(61));
    seen.add(70043, &refresh(&first).await);
    directory.clear_policies(sample::TENANT);
    clock.advance(Duration::from_secs(91 * 24 * 60 * 60));
    seen.add(700082, &refresh(&first).await);
    let second = token().await;
    directory.set_refresh_rotation(RefreshRotation::RevokeFamily);
    assert_eq!(refresh(&second).await.status, 200);
    seen.add(70000, &refresh(&second).await);
    let third = token().await;
    directory.revoke_sessions(sample::ALICE);
    seen.add(50173, &refresh(&third).await);
}

async fn codes(seen: &mut Seen) {
    let (clock, emulator) = emulator();
    let verifier = "v".repeat(43);
    let url = request(&[("code_challenge", &verifier), ("code_challenge_method", "plain")]);
    let code = async |url: &str| {
        let page = Browser::new(&emulator).through(url, "alice", &[]).await;
        page.callback()["code"].clone()
    };
    let base = [
        ("grant_type", "authorization_code"),
        ("client_id", sample::SECRET_APP),
        ("client_secret", sample::SECRET),
        ("redirect_uri", sample::REDIRECT_URI),
    ];
    let redeem = async |path: &str, code: &str, changes: &[(&str, &str)]| {
        let mut all = vec![("code", code), ("code_verifier", verifier.as_str())];
        all.extend(changes);
        ask(&emulator, post(path, &form(&base, &all))).await
    };
    let good = code(&url).await;
    seen.add(70000, &redeem(TOKEN_PATH, "nonsense", &[]).await);
    let other = "w".repeat(43);
    seen.add(501481, &redeem(TOKEN_PATH, &good, &[("code_verifier", &other)]).await);
    seen.add(50147, &redeem(TOKEN_PATH, &good, &[("code_verifier", "short")]).await);
    seen.add(28002, &redeem(TOKEN_PATH, &good, &[("scope", "https://storage.azure.com")]).await);
    let empty = format!("{}&scope=", encoded(&form(&base, &[("code", &good), ("code_verifier", &verifier)])));
    let mut request = post(TOKEN_PATH, &[]);
    *request.body_mut() = empty.into();
    seen.add(28003, &ask(&emulator, request).await);
    seen.add(700005, &redeem(&path(sample::OTHER_TENANT), &good, &[]).await);
    assert_eq!(redeem(TOKEN_PATH, &good, &[]).await.status, 200);
    seen.add(54005, &redeem(TOKEN_PATH, &good, &[]).await);
    let late = code(&url).await;
    clock.advance(Duration::from_secs(601));
    seen.add(70008, &redeem(TOKEN_PATH, &late, &[]).await);

    let spa = "http://localhost:3000/spa";
    emulator.directory().add_app(App::new("spa", sample::TENANT).spa_redirect_uri(spa));
    let changes = [
        ("client_id", "spa"),
        ("redirect_uri", spa),
        ("code_challenge", &verifier),
        ("code_challenge_method", "plain"),
    ];
    let url = crate::browser::request(&changes);
    let page = Browser::new(&emulator).through(&url, "alice", &["Accept"]).await;
    let sent = [("client_id", "spa"), ("client_secret", ""), ("redirect_uri", spa)];
    let answer = redeem(TOKEN_PATH, &page.callback()["code"], &sent).await;
    let token = answer.json()["refresh_token"].as_str().unwrap().to_owned();
    clock.advance(Duration::from_secs(24 * 60 * 60 + 1));
    let refresh = [("grant_type", "refresh_token"), ("client_id", "spa"), ("refresh_token", token.as_str())];
    seen.add(700084, &ask(&emulator, post(TOKEN_PATH, &refresh)).await);
}

async fn devices(seen: &mut Seen) {
    let (clock, emulator) = emulator();
    let start = TOKEN_PATH.replace("/token", "/devicecode");
    let begin = [("client_id", sample::PUBLIC_APP), ("scope", "User.Read")];
    let code = ask(&emulator, post(&start, &begin)).await.json()["device_code"].as_str().unwrap().to_owned();
    let poll = async |code: &str| {
        let pairs = [("grant_type", "device_code"), ("client_id", sample::PUBLIC_APP), ("device_code", code)];
        ask(&emulator, post(TOKEN_PATH, &pairs)).await
    };
    seen.add(70016, &poll(&code).await);
    seen.add(70018, &poll("nonsense").await);
    clock.advance(Duration::from_secs(901));
    seen.add(70019, &poll(&code).await);
}

async fn on_behalf_of(seen: &mut Seen) {
    let (clock, emulator) = emulator();
    let scope = format!("{}/{}", sample::API, sample::API_SCOPE);
    let token = user_form(&emulator, &[("scope", &scope)]).await.token();
    let exchange = async |assertion: &str| {
        let changes = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("requested_token_use", "on_behalf_of"),
            ("assertion", assertion),
            ("scope", "User.Read"),
        ];
        app_form(&emulator, &changes).await
    };
    assert_eq!(exchange(&token).await.status, 200);
    seen.add(50013, &exchange("nonsense").await);
    clock.advance(Duration::from_secs(3600));
    seen.add(500133, &exchange(&token).await);
}

/// What no client is answered: a callback tells it, or a page tells the user.
async fn pages(seen: &mut Seen) {
    let (_, emulator) = emulator();
    let mut browser = Browser::new(&emulator);
    browser.open(&request(&[("redirect_uri", "https://evil.test/cb")])).await.is_error_page(50011);
    seen.0.insert(50011);
    let url = request(&[("scope", "Mail.Read")]);
    browser.through(&url, "alice", &["Decline"]).await.is_refused("access_denied", 65004);
    seen.0.insert(65004);
}

/// What no directory causes is ordered.
async fn trouble(seen: &mut Seen) {
    let (_, emulator) = emulator();
    for code in [50196, 90033, 90006, 90012, 90055] {
        emulator.faults().add(Fault::on(Endpoint::TokenService).error(code).times(1));
        seen.add(code, &app_form(&emulator, &[]).await);
    }
}

#[tokio::test]
async fn every_error_of_the_table_is_provoked() {
    let mut seen = Seen::default();
    clients(&mut seen).await;
    assertions(&mut seen).await;
    tenants_and_forms(&mut seen).await;
    resources(&mut seen).await;
    users_and_policies(&mut seen).await;
    codes(&mut seen).await;
    devices(&mut seen).await;
    on_behalf_of(&mut seen).await;
    pages(&mut seen).await;
    trouble(&mut seen).await;
    let missing: Vec<u32> = TABLE.iter().map(|row| row.0).filter(|code| !seen.0.contains(code)).collect();
    assert!(missing.is_empty(), "not provoked: {missing:?}");
}
