//! An API that calls further on behalf of whoever called it.

use crate::signer::*;
use crate::support::*;
use entra_broker::emulator::{App, Emulator, Policy, Requirement, sample};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::time::Duration;

const API_SCOPE: &str = "api://aaaaaaaa-0000-0000-0000-000000000002/access_as_user";
const GRAPH_SCOPE: &str = "https://graph.microsoft.com/User.Read";

/// An emulator in which the desktop app may call the API.
fn consented() -> (Clock, Emulator) {
    let clock = Clock::new();
    let emulator = clock.builder().in_memory();
    let directory = emulator.directory();
    assert!(directory.consent_for_all(sample::TENANT, sample::PUBLIC_APP, sample::API, &[sample::API_SCOPE]));
    (clock, emulator)
}

/// What alice's client got, for these scopes.
async fn answer_for(emulator: &Emulator, scope: &str) -> Value {
    let form = [
        ("grant_type", "password"),
        ("client_id", sample::PUBLIC_APP),
        ("username", sample::ALICE),
        ("password", "any"),
        ("scope", scope),
    ];
    let answer = ask(emulator, post(TOKEN_PATH, &form)).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    answer.json()
}

async fn user_token(emulator: &Emulator) -> String {
    answer_for(emulator, API_SCOPE).await["access_token"].as_str().unwrap_or_default().to_owned()
}

fn form<'a>(assertion: &'a str, scope: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
        ("client_id", sample::SECRET_APP),
        ("client_secret", sample::SECRET),
        ("assertion", assertion),
        ("requested_token_use", "on_behalf_of"),
        ("scope", scope),
    ]
}

async fn exchange(emulator: &Emulator, assertion: &str) -> Answer {
    ask(emulator, post(TOKEN_PATH, &form(assertion, GRAPH_SCOPE))).await
}

#[tokio::test]
async fn a_users_token_becomes_one_for_the_next_api_and_stays_the_users() {
    let (_, emulator) = consented();
    let assertion = user_token(&emulator).await;
    let answer = exchange(&emulator, &assertion).await;
    let (before, after) = (claims(&assertion), answer.claims());
    assert_eq!(after["oid"], before["oid"]);
    assert_eq!(after["sid"], before["sid"]);
    assert_eq!(after["appid"], sample::SECRET_APP);
    assert_eq!(after["aud"], "https://graph.microsoft.com");
    assert_eq!(after["scp"], "User.Read");
    assert_eq!(answer.json()["scope"], GRAPH_SCOPE);
    assert!(answer.json().get("refresh_token").is_none());
    assert!(answer.json().get("id_token").is_none());
}

#[tokio::test]
async fn a_refresh_token_comes_with_offline_access_only_and_is_the_apis_own() {
    let (_, emulator) = consented();
    let assertion = user_token(&emulator).await;
    let scope = format!("{GRAPH_SCOPE} offline_access openid");
    let body = ask(&emulator, post(TOKEN_PATH, &form(&assertion, &scope))).await.json();
    assert!(body["id_token"].is_string());
    let refresh = body["refresh_token"].as_str().unwrap();
    let again = [
        ("grant_type", "refresh_token"),
        ("client_id", sample::SECRET_APP),
        ("client_secret", sample::SECRET),
        ("refresh_token", refresh),
        ("scope", GRAPH_SCOPE),
    ];
    assert_eq!(ask(&emulator, post(TOKEN_PATH, &again)).await.claims()["scp"], "User.Read");
}

#[tokio::test]
async fn a_certificate_is_as_good_as_a_secret() {
    let (_, emulator) = consented();
    let certificate = Signer::first().certificate();
    emulator.directory().add_certificate(sample::SECRET_APP, certificate.clone());
    let mut own = own_claims();
    own["iss"] = json!(sample::SECRET_APP);
    own["sub"] = json!(sample::SECRET_APP);
    let header = json!({"alg": "PS256", "x5t": base64url(&certificate.thumbprint())});
    let proof = Signer::first().sign(&header, &own);
    let assertion = user_token(&emulator).await;
    let mut form = form(&assertion, GRAPH_SCOPE);
    form[2] = ("client_assertion", &proof);
    form.push(("client_assertion_type", JWT_BEARER));
    assert_eq!(ask(&emulator, post(TOKEN_PATH, &form)).await.claims()["appidacr"], "2");
}

#[tokio::test]
async fn each_parameter_is_required_and_so_is_the_credential() {
    let (_, emulator) = consented();
    let assertion = user_token(&emulator).await;
    let without = |name: &str| {
        let mut form = form(&assertion, GRAPH_SCOPE);
        form.retain(|(found, _)| *found != name);
        post(TOKEN_PATH, &form)
    };
    for name in ["client_id", "assertion", "requested_token_use", "scope"] {
        ask(&emulator, without(name)).await.is_entra_error(400, "invalid_request", 900144);
    }
    ask(&emulator, without("client_secret")).await.is_entra_error(401, "invalid_client", 7000218);
    let mut wrong = form(&assertion, GRAPH_SCOPE);
    wrong[4] = ("requested_token_use", "on_my_own");
    ask(&emulator, post(TOKEN_PATH, &wrong)).await.is_entra_error(400, "invalid_request", 90100);
    let mut wrong = form(&assertion, GRAPH_SCOPE);
    wrong[2] = ("client_secret", "wrong");
    ask(&emulator, post(TOKEN_PATH, &wrong)).await.is_entra_error(401, "invalid_client", 7000215);
}

#[tokio::test]
async fn a_token_that_has_expired_is_told_apart_from_one_that_is_wrong() {
    let (clock, emulator) = consented();
    let assertion = user_token(&emulator).await;
    clock.advance(Duration::from_secs(3599));
    assert_eq!(exchange(&emulator, &assertion).await.status, 200);
    clock.advance(Duration::from_secs(1));
    exchange(&emulator, &assertion).await.is_entra_error(400, "invalid_grant", 500133);
}

#[tokio::test]
async fn a_token_that_this_service_did_not_sign_is_refused() {
    let (_, emulator) = consented();
    let assertion = user_token(&emulator).await;
    let (signed, _) = assertion.rsplit_once('.').unwrap();
    let kid = |token: &str| -> Value {
        use base64::Engine as _;
        let header = token.split('.').next().unwrap();
        let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header).unwrap();
        serde_json::from_slice::<Value>(&header).unwrap()["kid"].clone()
    };
    let forge = |header: Value| Signer::first().sign(&header, &claims(&assertion));
    for wrong in [
        "no token".to_owned(),
        format!("{signed}.AAAA"),
        forge(json!({"alg": "RS256", "kid": kid(&assertion)})),
        forge(json!({"alg": "RS256", "kid": "unknown"})),
        forge(json!({"alg": "RS256"})),
        forge(json!({"alg": "none", "kid": kid(&assertion)})),
        forge(json!({"alg": "PS256", "kid": kid(&assertion)})),
    ] {
        exchange(&emulator, &wrong).await.is_entra_error(400, "invalid_grant", 50013);
    }
}

#[tokio::test]
async fn a_token_is_good_as_long_as_its_key_is_published() {
    let (_, emulator) = consented();
    let assertion = user_token(&emulator).await;
    emulator.directory().rotate_keys();
    assert_eq!(exchange(&emulator, &assertion).await.status, 200);
    emulator.directory().retire_keys();
    exchange(&emulator, &assertion).await.is_entra_error(400, "invalid_grant", 50013);
}

#[tokio::test]
async fn a_token_for_another_audience_is_refused() {
    let (_, emulator) = consented();
    let directory = emulator.directory();
    directory.consent_for_all(sample::TENANT, sample::PUBLIC_APP, sample::GRAPH, &["User.Read"]);
    let answer = answer_for(&emulator, GRAPH_SCOPE).await;
    let graph = answer["access_token"].as_str().unwrap();
    let answer = exchange(&emulator, graph).await;
    answer.is_entra_error(400, "invalid_grant", 500131);
    assert!(answer.json()["error_description"].to_string().contains("https://graph.microsoft.com"));
}

#[tokio::test]
async fn an_app_has_no_one_on_whose_behalf_to_act() {
    let (_, emulator) = consented();
    let scope = "api://aaaaaaaa-0000-0000-0000-000000000002/.default";
    let token = ask(&emulator, post(TOKEN_PATH, &with("scope", scope))).await.token();
    exchange(&emulator, &token).await.is_entra_error(400, "unauthorized_client", 7000114);
}

#[tokio::test]
async fn an_id_token_is_no_assertion_though_it_is_for_the_app() {
    let (_, emulator) = consented();
    let assertion = user_token(&emulator).await;
    let scope = format!("{GRAPH_SCOPE} openid");
    let body = ask(&emulator, post(TOKEN_PATH, &form(&assertion, &scope))).await.json();
    let id_token = body["id_token"].as_str().unwrap();
    assert_eq!(claims(id_token)["aud"], sample::SECRET_APP);
    exchange(&emulator, id_token).await.is_entra_error(400, "invalid_grant", 50013);
}

#[tokio::test]
async fn a_token_of_one_tenant_is_not_exchanged_in_another() {
    let (_, emulator) = consented();
    let assertion = user_token(&emulator).await;
    let request = form(&assertion, GRAPH_SCOPE);
    let path = format!("/{}/oauth2/v2.0/token", sample::OTHER_TENANT);
    ask(&emulator, post(&path, &request)).await.is_entra_error(400, "invalid_grant", 50013);
    // Where the path names none, the assertion does.
    let answer = ask(&emulator, post("/organizations/oauth2/v2.0/token", &request)).await;
    assert_eq!(answer.claims()["tid"], sample::TENANT);
}

#[tokio::test]
async fn consent_policies_and_the_users_account_have_their_say() {
    let (_, emulator) = consented();
    let directory = emulator.directory();
    let assertion = user_token(&emulator).await;
    let scope = "https://graph.microsoft.com/Mail.Read";
    let answer = ask(&emulator, post(TOKEN_PATH, &form(&assertion, scope))).await;
    answer.is_entra_error(400, "invalid_grant", 65001);
    assert_eq!(answer.json()["suberror"], "consent_required");

    for (requirement, code) in
        [(Requirement::Mfa, 50076), (Requirement::ExternalChallenge, 50158), (Requirement::Blocked, 53003)]
    {
        directory.add_policy(Policy::new(sample::TENANT, requirement).resource(sample::GRAPH));
        let answer = exchange(&emulator, &assertion).await;
        answer.is_entra_error(400, "interaction_required", code);
        let challenge = answer.json()["claims"].as_str().unwrap().to_owned();
        assert!(serde_json::from_str::<Value>(&challenge).unwrap()["access_token"].is_object());
        directory.clear_policies(sample::TENANT);
    }

    assert!(directory.revoke_sessions(sample::ALICE));
    exchange(&emulator, &assertion).await.is_entra_error(400, "invalid_grant", 50173);
    assert!(directory.remove_user(sample::ALICE));
    exchange(&emulator, &assertion).await.is_entra_error(400, "invalid_grant", 50034);
}

#[tokio::test]
async fn a_sign_in_that_is_not_remembered_is_known_from_the_token() {
    let (clock, emulator) = consented();
    let assertion = user_token(&emulator).await;
    // All emulators of a process begin with the same key.
    let restarted = clock.builder().in_memory();
    assert_eq!(exchange(&restarted, &assertion).await.claims()["oid"], claims(&assertion)["oid"]);
    restarted.directory().remove_user(sample::ALICE);
    exchange(&restarted, &assertion).await.is_entra_error(400, "invalid_grant", 50034);
}

#[tokio::test]
async fn a_chain_of_apis_goes_on() {
    let (_, emulator) = consented();
    let directory = emulator.directory();
    let (next, api) = ("cccccccc-0000-0000-0000-000000000001", "api://next");
    directory.add_app(App::new(next, sample::TENANT).secret("hush"));
    let resource = entra_broker::emulator::Resource::new(api).app_id(next).scope("call");
    directory.add_resource(resource);
    directory.consent_for_all(sample::TENANT, sample::SECRET_APP, api, &["call"]);
    directory.consent_for_all(sample::TENANT, next, sample::GRAPH, &["User.Read"]);
    let first = user_token(&emulator).await;
    let second = ask(&emulator, post(TOKEN_PATH, &form(&first, "api://next/call"))).await.token();
    // A v1 token: its audience is the identifier, and not the app's id.
    assert_eq!(claims(&second)["aud"], api);
    let mut form = form(&second, GRAPH_SCOPE);
    form[1] = ("client_id", next);
    form[2] = ("client_secret", "hush");
    assert_eq!(ask(&emulator, post(TOKEN_PATH, &form)).await.claims()["appid"], next);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_assertion_makes_the_service_fail(text in "\\PC{0,80}", at in 0..2000_usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (_, emulator) = consented();
            let mut spoilt = user_token(&emulator).await;
            spoilt.truncate(at % spoilt.len());
            for assertion in [spoilt, format!("{text}.{text}.{text}"), text] {
                assert!(exchange(&emulator, &assertion).await.status.is_client_error(), "{assertion}");
            }
        });
    }
}
