//! Refresh tokens: what they are bound to, how long they live, and who can end them.
#![expect(clippy::unwrap_used, reason = "what goes wrong here fails a test")]

use crate::support::*;
use entra_broker::emulator::{App, Emulator, Policy, RefreshRotation, Requirement, User, sample};
use serde_json::Value;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const SCOPE: &str = "https://graph.microsoft.com/User.Read openid profile offline_access";

/// An emulator in which Alice lets the public app read her profile.
fn with_consent(emulator: Emulator) -> Emulator {
    let directory = emulator.directory();
    assert!(directory.consent(
        sample::TENANT,
        sample::PUBLIC_APP,
        sample::ALICE,
        sample::GRAPH,
        &["User.Read"]
    ));
    emulator
}

async fn sign_in(emulator: &Emulator) -> Value {
    let form = [
        ("grant_type", "password"),
        ("client_id", sample::PUBLIC_APP),
        ("username", sample::ALICE),
        ("password", "any"),
        ("scope", SCOPE),
        ("client_info", "1"),
    ];
    let answer = ask(emulator, post(TOKEN_PATH, &form)).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    answer.json()
}

async fn refresh_at(emulator: &Emulator, path: &str, token: &str, more: &[(&str, &str)]) -> Answer {
    let mut form =
        vec![("grant_type", "refresh_token"), ("client_id", sample::PUBLIC_APP), ("refresh_token", token)];
    form.extend(more);
    ask(emulator, post(path, &form)).await
}

async fn refresh(emulator: &Emulator, token: &str) -> Answer {
    refresh_at(emulator, TOKEN_PATH, token, &[]).await
}

fn refresh_token(body: &Value) -> String {
    body["refresh_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_user_grant_answers_with_all_that_was_asked_for() {
    let emulator = with_consent(Emulator::in_memory());
    let body = sign_in(&emulator).await;
    assert_eq!(body["scope"], "https://graph.microsoft.com/User.Read openid profile");
    assert_eq!(body["expires_in"], 3599);
    let access = claims(body["access_token"].as_str().unwrap());
    assert_eq!(access["scp"], "User.Read");
    assert_eq!(access["upn"], sample::ALICE);
    assert_eq!(access["appid"], sample::PUBLIC_APP);
    assert_eq!(access["appidacr"], "0");
    assert_eq!(access["iss"], "https://sts.windows.net/11111111-2222-3333-4444-555555555555/");
    let id = claims(body["id_token"].as_str().unwrap());
    assert_eq!(id["aud"], sample::PUBLIC_APP);
    assert_eq!(id["preferred_username"], sample::ALICE);
    assert_eq!(id["tid"], sample::TENANT);
    assert_eq!(id["oid"], access["oid"]);
    assert_ne!(id["sub"], access["sub"], "a subject is another one to each audience");
    let path = format!("/{}/discovery/v2.0/keys", sample::TENANT);
    let jwks = ask(&emulator, get(&path, &[])).await.json();
    assert!(verifies(body["id_token"].as_str().unwrap(), &jwks));
    let info = body["client_info"].as_str().unwrap();
    let info = claims(&format!(".{info}."));
    assert_eq!(info["uid"], id["oid"]);
    assert_eq!(info["utid"], sample::TENANT);
}

#[tokio::test]
async fn what_was_not_asked_for_is_not_in_the_answer() {
    let emulator = with_consent(Emulator::in_memory());
    let form = [
        ("grant_type", "password"),
        ("client_id", sample::PUBLIC_APP),
        ("username", "alice"),
        ("password", "any"),
        ("scope", "User.Read"),
    ];
    let body = ask(&emulator, post(TOKEN_PATH, &form)).await.json();
    assert_eq!(body["scope"], "User.Read");
    for absent in ["refresh_token", "id_token", "client_info"] {
        assert!(body.get(absent).is_none(), "{absent}");
    }
}

#[tokio::test]
async fn who_only_signs_in_gets_a_token_that_can_do_nothing_else() {
    let emulator = Emulator::in_memory();
    let form = [
        ("grant_type", "password"),
        ("client_id", sample::PUBLIC_APP),
        ("username", sample::ALICE),
        ("password", "any"),
        ("scope", "openid profile"),
    ];
    let body = ask(&emulator, post(TOKEN_PATH, &form)).await.json();
    assert_eq!(body["scope"], "openid profile");
    let access = claims(body["access_token"].as_str().unwrap());
    assert_eq!(
        (access["scp"].as_str(), access["aud"].as_str()),
        (Some("openid profile"), Some(sample::GRAPH))
    );
    assert!(body["id_token"].is_string());
}

#[tokio::test]
async fn the_user_info_endpoint_knows_the_id_tokens_subject() {
    let clock = Clock::new();
    let emulator = with_consent(clock.builder().in_memory());
    let body = sign_in(&emulator).await;
    let discovery = format!("/{}/v2.0/.well-known/openid-configuration", sample::TENANT);
    let document = ask(&emulator, get(&discovery, &[])).await.json();
    let place = document["userinfo_endpoint"].as_str().unwrap().replace(emulator.authority(), "");
    let show = async |token: &str| {
        ask(&emulator, get(&place, &[("authorization", &format!("Bearer {token}"))])).await
    };
    let token = body["access_token"].as_str().unwrap();
    let id = claims(body["id_token"].as_str().unwrap());
    let info = show(token).await.json();
    assert_eq!((&info["sub"], info["name"].as_str()), (&id["sub"], Some("Alice")));
    let storage = ask(&emulator, post(TOKEN_PATH, &good())).await.token();
    for wrong in [storage.as_str(), body["id_token"].as_str().unwrap(), "nonsense", &token[..token.len() - 4]]
    {
        assert_eq!(show(wrong).await.status, 401);
    }
    assert_eq!(ask(&emulator, get(&place, &[])).await.status, 401);
    clock.advance(Duration::from_secs(3600));
    assert_eq!(show(token).await.status, 401);
}

#[tokio::test]
async fn a_refresh_gives_a_new_refresh_token_and_the_old_one_keeps_working() {
    let emulator = with_consent(Emulator::in_memory());
    let first = refresh_token(&sign_in(&emulator).await);
    let answer = refresh(&emulator, &first).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    let second = refresh_token(&answer.json());
    assert_ne!(first, second);
    for token in [&first, &second, &first] {
        assert_eq!(refresh(&emulator, token).await.status, 200);
    }
}

#[tokio::test]
async fn by_order_an_old_refresh_token_is_refused_and_takes_its_family_with_it() {
    let emulator = with_consent(Emulator::in_memory());
    emulator.directory().set_refresh_rotation(RefreshRotation::RevokeFamily);
    let other_sign_in = refresh_token(&sign_in(&emulator).await);
    let first = refresh_token(&sign_in(&emulator).await);
    let second = refresh_token(&refresh(&emulator, &first).await.json());
    let third = refresh_token(&refresh(&emulator, &second).await.json());
    let reused = refresh(&emulator, &first).await;
    reused.is_entra_error(400, "invalid_grant", 70000);
    assert_eq!(reused.json()["suberror"], "bad_token");
    refresh(&emulator, &third).await.is_entra_error(400, "invalid_grant", 50173);
    assert_eq!(refresh(&emulator, &other_sign_in).await.status, 200);
}

#[tokio::test]
async fn a_refresh_token_serves_every_resource_that_was_consented_to() {
    let emulator = with_consent(Emulator::in_memory());
    let directory = emulator.directory();
    directory.consent(sample::TENANT, sample::PUBLIC_APP, sample::ALICE, sample::API, &[sample::API_SCOPE]);
    let token = refresh_token(&sign_in(&emulator).await);
    let scope = format!("{}/{}", sample::API, sample::API_SCOPE);
    let answer = refresh_at(&emulator, TOKEN_PATH, &token, &[("scope", &scope)]).await;
    let claims = answer.claims();
    assert_eq!(claims["aud"], sample::SECRET_APP);
    assert_eq!(claims["scp"], sample::API_SCOPE);
    assert_eq!(claims["preferred_username"], sample::ALICE);
    assert_eq!(claims["ver"], "2.0");
    let other = refresh_at(&emulator, TOKEN_PATH, &token, &[("scope", "Mail.Read")]).await;
    other.is_entra_error(400, "invalid_grant", 65001);
    assert_eq!(other.json()["suberror"], "consent_required");
}

#[tokio::test]
async fn a_refresh_token_dies_of_disuse_and_not_of_age() {
    let clock = Clock::new();
    let emulator = with_consent(clock.builder().in_memory());
    let mut token = refresh_token(&sign_in(&emulator).await);
    for _ in 0..3 {
        clock.advance(60 * DAY);
        token = refresh_token(&refresh(&emulator, &token).await.json());
    }
    clock.advance(90 * DAY + Duration::from_secs(1));
    let answer = refresh(&emulator, &token).await;
    answer.is_entra_error(400, "invalid_grant", 700082);
}

#[tokio::test]
async fn only_the_client_that_got_it_can_use_it() {
    let emulator = with_consent(Emulator::in_memory());
    let other = "cccccccc-0000-0000-0000-000000000001";
    emulator.directory().add_app(App::new(other, sample::TENANT).public());
    let token = refresh_token(&sign_in(&emulator).await);
    let form = [("grant_type", "refresh_token"), ("client_id", other), ("refresh_token", &token)];
    let answer = ask(&emulator, post(TOKEN_PATH, &form)).await;
    answer.is_entra_error(400, "invalid_grant", 70000);
    assert_eq!(answer.json()["suberror"], "client_mismatch");
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", sample::PUBLIC_APP),
        ("client_secret", "x"),
        ("refresh_token", &token),
    ];
    ask(&emulator, post(TOKEN_PATH, &form)).await.is_entra_error(401, "invalid_client", 700025);
    let unknown = refresh(&emulator, "1.Bnonsense").await;
    unknown.is_entra_error(400, "invalid_grant", 70000);
}

#[tokio::test]
async fn a_user_who_was_revoked_removed_or_disabled_gets_nothing_more() {
    let emulator = with_consent(Emulator::in_memory());
    let directory = emulator.directory();
    let token = refresh_token(&sign_in(&emulator).await);
    assert!(directory.revoke_sessions(sample::ALICE));
    refresh(&emulator, &token).await.is_entra_error(400, "invalid_grant", 50173);

    let token = refresh_token(&sign_in(&emulator).await);
    assert!(directory.set_user_enabled(sample::ALICE, false));
    refresh(&emulator, &token).await.is_entra_error(400, "invalid_grant", 50057);
    assert!(directory.set_user_enabled(sample::ALICE, true));
    assert_eq!(refresh(&emulator, &token).await.status, 200);
    assert!(directory.remove_user(sample::ALICE));
    refresh(&emulator, &token).await.is_entra_error(400, "invalid_grant", 50034);
    // Somebody else has the name now.
    assert!(directory.add_user(User::new(sample::ALICE)));
    refresh(&emulator, &token).await.is_entra_error(400, "invalid_grant", 50173);
    let token = refresh_token(&sign_in(&emulator).await);
    assert_eq!(refresh(&emulator, &token).await.status, 200);
}

#[tokio::test]
async fn a_refresh_token_is_bound_to_no_tenant_but_its_user_is() {
    let emulator = Emulator::in_memory();
    let directory = emulator.directory();
    let app = "cccccccc-0000-0000-0000-000000000002";
    directory.add_app(App::new(app, sample::TENANT).public().multi_tenant());
    directory.add_service_principal(sample::OTHER_TENANT, app);
    directory.add_user(User::new(sample::ALICE).guest_in(sample::OTHER_TENANT));
    for tenant in [sample::TENANT, sample::OTHER_TENANT] {
        directory.consent_for_all(tenant, app, sample::GRAPH, &["User.Read"]);
    }
    let token = async |user: &'static str| {
        let form = [
            ("grant_type", "password"),
            ("client_id", app),
            ("username", user),
            ("password", "any"),
            ("scope", "User.Read offline_access"),
        ];
        refresh_token(&ask(&emulator, post(TOKEN_PATH, &form)).await.json())
    };
    let there = TOKEN_PATH.replace(sample::TENANT, sample::OTHER_TENANT);
    let redeem = async |path: &str, token: &str| {
        let form = [("grant_type", "refresh_token"), ("client_id", app), ("refresh_token", token)];
        ask(&emulator, post(path, &form)).await
    };
    let (alice, bob) = (token(sample::ALICE).await, token(sample::BOB).await);
    assert_eq!(redeem(&there, &alice).await.claims()["tid"], sample::OTHER_TENANT);
    redeem(&there, &bob).await.is_entra_error(400, "invalid_grant", 50020);
    // Where the path names no tenant, the one of the sign-in counts.
    let common = TOKEN_PATH.replace(sample::TENANT, "common");
    assert_eq!(redeem(&common, &bob).await.claims()["tid"], sample::TENANT);
    let consumers = TOKEN_PATH.replace(sample::TENANT, "consumers");
    redeem(&consumers, &bob).await.is_entra_error(400, "invalid_grant", 50020);
}

#[tokio::test]
async fn a_policy_that_no_one_can_fulfil_in_the_background_refuses_the_refresh() {
    let clock = Clock::new();
    let emulator = with_consent(clock.builder().in_memory());
    let directory = emulator.directory();
    let token = refresh_token(&sign_in(&emulator).await);
    for (requirement, error, code, challenges) in [
        (Requirement::Mfa, "invalid_grant", 50076, true),
        (Requirement::MfaEnrolment, "invalid_grant", 50079, false),
        (Requirement::StrongAuthentication, "invalid_grant", 50074, false),
        (Requirement::ExternalChallenge, "invalid_grant", 50158, true),
        (Requirement::Blocked, "invalid_grant", 53003, true),
    ] {
        directory.add_policy(Policy::new(sample::TENANT, requirement).resource(sample::GRAPH));
        let answer = refresh(&emulator, &token).await;
        answer.is_entra_error(400, error, code);
        let challenge = answer.json().get("claims").cloned();
        assert_eq!(challenge.is_some(), challenges, "{code}");
        if let Some(challenge) = challenge {
            let claims: Value = serde_json::from_str(challenge.as_str().unwrap()).unwrap();
            assert_eq!(claims["access_token"]["capolids"]["essential"], true);
        }
        directory.clear_policies(sample::TENANT);
        assert_eq!(refresh(&emulator, &token).await.status, 200);
    }
    directory.add_policy(Policy::new(sample::TENANT, Requirement::SignInFrequency(DAY)));
    assert_eq!(refresh(&emulator, &token).await.status, 200);
    clock.advance(DAY + Duration::from_secs(1));
    refresh(&emulator, &token).await.is_entra_error(400, "invalid_grant", 70043);
}

#[tokio::test]
async fn a_policy_holds_for_whom_it_names_only() {
    let emulator = with_consent(Emulator::in_memory());
    let directory = emulator.directory();
    let token = refresh_token(&sign_in(&emulator).await);
    let policy = || Policy::new(sample::TENANT, Requirement::Mfa);
    for other in [
        policy().user(sample::BOB),
        policy().client(sample::SECRET_APP),
        policy().resource(sample::STORAGE),
        Policy::new(sample::OTHER_TENANT, Requirement::Mfa),
    ] {
        directory.add_policy(other);
    }
    assert_eq!(refresh(&emulator, &token).await.status, 200);
    directory.add_policy(
        policy()
            .user("ALICE@contoso.test")
            .client(sample::PUBLIC_APP)
            .resource("https://graph.microsoft.com/"),
    );
    refresh(&emulator, &token).await.is_entra_error(400, "invalid_grant", 50076);
}

#[tokio::test]
async fn an_app_blocked_by_name_gets_no_token_of_its_own() {
    let emulator = Emulator::in_memory();
    let directory = emulator.directory();
    directory.add_policy(Policy::new(sample::TENANT, Requirement::Blocked));
    assert_eq!(ask(&emulator, post(TOKEN_PATH, &good())).await.status, 200);
    directory.add_policy(Policy::new(sample::TENANT, Requirement::Blocked).client(sample::SECRET_APP));
    let answer = ask(&emulator, post(TOKEN_PATH, &good())).await;
    answer.is_entra_error(400, "interaction_required", 53003);
}

#[tokio::test]
async fn a_claims_challenge_is_met_or_answered_with_another() {
    let clock = Clock::new();
    let emulator = with_consent(clock.builder().in_memory());
    let token = refresh_token(&sign_in(&emulator).await);
    let with_claims =
        async |claims: &str| refresh_at(&emulator, TOKEN_PATH, &token, &[("claims", claims)]).await;

    let capable = with_claims(r#"{"access_token":{"xms_cc":{"values":["cp1"]}}}"#).await.claims();
    assert_eq!(capable["xms_cc"], serde_json::json!(["cp1"]));
    let now = clock.seconds();
    let recent = format!(r#"{{"access_token":{{"nbf":{{"essential":true,"value":"{now}"}}}}}}"#);
    assert_eq!(with_claims(&recent).await.status, 200);
    let future = format!(r#"{{"access_token":{{"nbf":{{"essential":true,"value":"{}"}}}}}}"#, now + 60);
    with_claims(&future).await.is_entra_error(400, "invalid_grant", 50173);
    let context = with_claims(r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#).await;
    context.is_entra_error(400, "invalid_grant", 50076);
    let challenge: Value = serde_json::from_str(context.json()["claims"].as_str().unwrap()).unwrap();
    assert_eq!(challenge["access_token"]["acrs"]["value"], "c1");
    with_claims("no json").await.is_entra_error(400, "invalid_request", 90100);
}
