//! The token service: what it grants, what it refuses, what it publishes.

use crate::support::*;
use entra_broker::emulator::{App, Directory, Emulator, ManagedIdentity, Resource, sample};
use serde_json::json;
use std::time::Duration;

fn token_path(tenant: &str) -> String {
    format!("/{tenant}/oauth2/v2.0/token")
}

#[tokio::test]
async fn a_right_secret_gets_a_token_and_nothing_else() {
    let emulator = Emulator::in_memory();
    let answer = ask(&emulator, post(TOKEN_PATH, &good())).await;
    let body = answer.json();
    let mut members: Vec<_> = body.as_object().unwrap().keys().cloned().collect();
    members.sort();
    assert_eq!(members, ["access_token", "expires_in", "ext_expires_in", "token_type"]);
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!(body["expires_in"], 3599);
    assert_eq!(body["ext_expires_in"], 3599);
    assert!(answer.header("cache-control").contains("no-store"));
}

#[tokio::test]
async fn a_secret_may_come_as_http_basic_with_each_half_form_encoded() {
    let emulator = Emulator::in_memory();
    let form = [("grant_type", "client_credentials"), ("scope", STORAGE_SCOPE)];
    let ask_with = async |secret| {
        let mut request = post(TOKEN_PATH, &form);
        let value = basic(sample::SECRET_APP, secret).parse().unwrap();
        request.headers_mut().insert("authorization", value);
        ask(&emulator, request).await
    };
    assert_eq!(ask_with(sample::SECRET).await.status, 200);
    ask_with("wrong").await.is_entra_error(401, "invalid_client", 7000215);
    ask_with("").await.is_entra_error(401, "invalid_client", 7000216);
}

#[tokio::test]
async fn a_v1_token_has_the_v1_shape() {
    let clock = Clock::new();
    let emulator = clock.builder().in_memory();
    let claims = ask(&emulator, post(TOKEN_PATH, &good())).await.claims();
    assert_eq!(claims["iss"], "https://sts.windows.net/11111111-2222-3333-4444-555555555555/");
    assert_eq!(claims["aud"], "https://storage.azure.com");
    assert_eq!(claims["appid"], sample::SECRET_APP);
    assert_eq!(claims["appidacr"], "1");
    assert_eq!(claims["ver"], "1.0");
    assert_eq!(claims["tid"], sample::TENANT);
    assert_eq!(claims["idtyp"], "app");
    assert_eq!(claims["sub"], claims["oid"]);
    assert_eq!(claims["iat"], clock.seconds());
    assert_eq!(claims["nbf"], clock.seconds());
    assert_eq!(claims["exp"], clock.seconds() + 3599);
    assert!(claims.get("azp").is_none() && claims.get("roles").is_none());
}

#[tokio::test]
async fn a_v2_token_has_the_v2_shape_and_carries_granted_roles() {
    let emulator = Emulator::in_memory();
    let scope = "api://aaaaaaaa-0000-0000-0000-000000000002/.default";
    let claims = ask(&emulator, post(TOKEN_PATH, &with("scope", scope))).await.claims();
    let issuer = format!("{}/{}/v2.0", emulator.authority(), sample::TENANT);
    assert_eq!(claims["iss"], issuer);
    assert_eq!(claims["aud"], sample::SECRET_APP);
    assert_eq!(claims["azp"], sample::SECRET_APP);
    assert_eq!(claims["azpacr"], "1");
    assert_eq!(claims["ver"], "2.0");
    assert_eq!(claims["roles"], json!([sample::API_ROLE]));
    assert!(claims.get("appid").is_none());
}

#[tokio::test]
async fn only_the_suffix_is_cut_from_a_scope_so_a_double_slash_keeps_one() {
    let emulator = Emulator::in_memory();
    let scope = "https://management.core.windows.net//.default";
    let claims = ask(&emulator, post(TOKEN_PATH, &with("scope", scope))).await.claims();
    assert_eq!(claims["aud"], "https://management.core.windows.net/");
}

#[tokio::test]
async fn sign_in_scopes_beside_the_default_scope_do_no_harm() {
    let emulator = Emulator::in_memory();
    let form = with("scope", "https://storage.azure.com/.default openid offline_access");
    assert_eq!(ask(&emulator, post(TOKEN_PATH, &form)).await.status, 200);
}

#[tokio::test]
async fn long_lived_tokens_say_when_to_refresh_and_short_ones_do_not() {
    let emulator = Emulator::builder().lifetime(Duration::from_secs(7199)).in_memory();
    let body = ask(&emulator, post(TOKEN_PATH, &good())).await.json();
    assert!(body.get("refresh_in").is_none());
    emulator.directory().set_lifetime(Duration::from_secs(7200));
    let body = ask(&emulator, post(TOKEN_PATH, &good())).await.json();
    assert_eq!(body["refresh_in"], 3600);
    assert_eq!(body["expires_in"], 7200);
}

#[tokio::test]
async fn a_verified_domain_and_any_letter_case_name_the_tenant() {
    let emulator = Emulator::in_memory();
    for tenant in ["contoso.test", "CONTOSO.test"] {
        let claims = ask(&emulator, post(&token_path(tenant), &good())).await.claims();
        assert_eq!(claims["tid"], sample::TENANT);
    }
}

#[tokio::test]
async fn a_multi_tenant_app_gets_tokens_where_it_has_a_service_principal() {
    let emulator = Emulator::in_memory();
    let there = token_path(sample::OTHER_TENANT);
    let claims = ask(&emulator, post(&there, &good())).await.claims();
    assert_eq!(claims["tid"], sample::OTHER_TENANT);

    let customer = token_path(sample::CUSTOMER_WITHOUT_CONSENT);
    let answer = ask(&emulator, post(&customer, &good())).await;
    answer.is_entra_error(401, "invalid_client", 7000229);
    emulator.directory().add_service_principal(sample::CUSTOMER_WITHOUT_CONSENT, sample::SECRET_APP);
    assert_eq!(ask(&emulator, post(&customer, &good())).await.status, 200);
    emulator.directory().remove_service_principal(sample::CUSTOMER_WITHOUT_CONSENT, sample::SECRET_APP);
    assert_eq!(ask(&emulator, post(&customer, &good())).await.status, 401);
}

#[tokio::test]
async fn every_missing_parameter_is_named() {
    let emulator = Emulator::in_memory();
    for name in ["grant_type", "client_id", "scope"] {
        let answer = ask(&emulator, post(TOKEN_PATH, &without(name))).await;
        answer.is_entra_error(400, "invalid_request", 900144);
        let description = answer.json()["error_description"].to_string();
        assert!(description.contains(&format!("'{name}'")), "{description}");
    }
}

#[tokio::test]
async fn parameters_in_the_query_do_not_count_for_a_post() {
    let emulator = Emulator::in_memory();
    let path = format!("{TOKEN_PATH}?client_id={}", sample::SECRET_APP);
    let answer = ask(&emulator, post(&path, &without("client_id"))).await;
    answer.is_entra_error(400, "invalid_request", 900144);
}

#[tokio::test]
async fn every_wrong_parameter_gets_its_own_error() {
    let emulator = Emulator::in_memory();
    for (name, value, status, error, code) in [
        ("grant_type", "implicit", 400, "unsupported_grant_type", 70003),
        ("client_secret", "wrong", 401, "invalid_client", 7000215),
        ("client_secret", sample::EXPIRED_SECRET, 401, "invalid_client", 7000222),
        ("client_secret", "", 401, "invalid_client", 7000216),
        ("client_id", "aaaaaaaa-0000-0000-0000-00000000dead", 400, "unauthorized_client", 700016),
        ("client_id", sample::PUBLIC_APP, 401, "invalid_client", 700025),
        ("client_id", sample::CERT_APP, 401, "invalid_client", 7000215),
        ("scope", "https://storage.azure.com/user_impersonation", 400, "invalid_scope", 1002012),
        ("scope", "openid", 400, "invalid_scope", 1002012),
        ("scope", "https://a.test/.default https://b.test/.default", 400, "invalid_scope", 70011),
        ("scope", "/.default", 400, "invalid_scope", 70011),
        ("scope", "https://unknown.test/.default", 400, "invalid_resource", 500011),
        ("client_assertion", "a.b.c", 400, "invalid_request", 900144),
    ] {
        let answer = ask(&emulator, post(TOKEN_PATH, &with(name, value))).await;
        answer.is_entra_error(status, error, code);
    }
}

#[tokio::test]
async fn a_request_without_a_secret_is_told_so() {
    let emulator = Emulator::in_memory();
    let answer = ask(&emulator, post(TOKEN_PATH, &without("client_secret"))).await;
    answer.is_entra_error(401, "invalid_client", 7000216);
}

#[tokio::test]
async fn every_wrong_tenant_gets_its_own_error() {
    let emulator = Emulator::in_memory();
    for (tenant, code) in [
        ("99999999-2222-3333-4444-555555555555", 90002),
        ("unknown.test", 90002),
        ("not-a-tenant", 900023),
        ("a..b", 50128),
        ("common", 9001023),
        ("organizations", 50059),
        ("consumers", 9001023),
    ] {
        let answer = ask(&emulator, post(&token_path(tenant), &good())).await;
        answer.is_entra_error(400, "invalid_request", code);
    }
    let single = with("client_id", sample::CERT_APP);
    let answer = ask(&emulator, post(&token_path("common"), &single)).await;
    answer.is_entra_error(400, "invalid_request", 50194);
}

#[tokio::test]
async fn a_single_tenant_app_is_unknown_to_other_tenants() {
    let emulator = Emulator::in_memory();
    let path = token_path(sample::OTHER_TENANT);
    let answer = ask(&emulator, post(&path, &with("client_id", sample::CERT_APP))).await;
    answer.is_entra_error(400, "unauthorized_client", 700016);
}

#[tokio::test]
async fn what_an_administrator_changes_holds_for_the_next_request() {
    let emulator = Emulator::in_memory();
    let directory = emulator.directory();
    let now = async || ask(&emulator, post(TOKEN_PATH, &good())).await;

    assert!(directory.set_app_enabled(sample::SECRET_APP, false));
    now().await.is_entra_error(400, "unauthorized_client", 7000112);
    assert!(directory.set_app_enabled(sample::SECRET_APP, true));
    assert!(directory.expire_secret(sample::SECRET_APP, sample::SECRET));
    now().await.is_entra_error(401, "invalid_client", 7000222);
    assert!(directory.remove_secret(sample::SECRET_APP, sample::SECRET));
    now().await.is_entra_error(401, "invalid_client", 7000215);
    assert!(directory.add_secret(sample::SECRET_APP, sample::SECRET));
    assert_eq!(now().await.status, 200);
    assert!(directory.remove_resource("https://storage.azure.com"));
    now().await.is_entra_error(400, "invalid_resource", 500011);
    assert!(directory.remove_app(sample::SECRET_APP));
    now().await.is_entra_error(400, "unauthorized_client", 700016);
    assert!(directory.remove_tenant(sample::TENANT));
    now().await.is_entra_error(400, "invalid_request", 90002);
    assert!(!directory.set_app_enabled("nobody", true));
}

#[tokio::test]
async fn a_directory_can_be_made_from_nothing() {
    let directory = Directory::new();
    directory.add_tenant("12345678-0000-0000-0000-000000000000", &["own.test"]);
    directory.add_app(App::new("me", "12345678-0000-0000-0000-000000000000").secret("a"));
    directory.add_resource(Resource::new("api://mine"));
    directory.add_identity(ManagedIdentity::user("x", "12345678-0000-0000-0000-000000000000"));
    let emulator = Emulator::builder().directory(directory).in_memory();
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "me"),
        ("client_secret", "a"),
        ("scope", "api://mine/.default"),
    ];
    let claims = ask(&emulator, post(&token_path("own.test"), &form)).await.claims();
    assert_eq!(claims["aud"], "api://mine");
    // The only identity there is answers for the machine.
    let path = IMDS.replace("https://storage.azure.com", "api://mine");
    let body = identify(&emulator, get(&path, &[("metadata", "true")])).await.json();
    assert_eq!(body["client_id"], "x");
}

#[tokio::test]
async fn a_correlation_id_is_taken_from_the_client_and_echoed_on_demand() {
    let emulator = Emulator::in_memory();
    let id = "0a0b0c0d-1111-2222-3333-444455556666";
    let mut request = post(TOKEN_PATH, &without("scope"));
    request.headers_mut().insert("client-request-id", id.parse().unwrap());
    let answer = ask(&emulator, request.clone()).await;
    assert_eq!(answer.json()["correlation_id"], id);
    assert_eq!(answer.header("client-request-id"), "");

    request.headers_mut().insert("return-client-request-id", "true".parse().unwrap());
    assert_eq!(ask(&emulator, request.clone()).await.header("client-request-id"), id);

    request.headers_mut().insert("client-request-id", "no guid".parse().unwrap());
    assert_ne!(ask(&emulator, request).await.json()["correlation_id"], "no guid");
}

#[tokio::test]
async fn error_timestamps_are_of_the_emulators_clock() {
    let emulator = Clock::new().builder().in_memory();
    let body = ask(&emulator, post(TOKEN_PATH, &without("scope"))).await.json();
    assert_eq!(body["timestamp"], "2027-01-15 08:00:00Z");
}
