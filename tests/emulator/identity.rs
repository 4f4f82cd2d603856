//! Managed identity: the instance metadata service and App Service.

use crate::support::*;
use entra_broker::emulator::{Emulator, ManagedIdentity, sample};
use serde_json::Value;
use std::time::Duration;

const METADATA: &[(&str, &str)] = &[("metadata", "true")];
const HEADER: &[(&str, &str)] = &[("x-identity-header", sample::APP_SERVICE_HEADER)];

async fn imds(emulator: &Emulator, more: &str) -> Answer {
    identify(emulator, get(&format!("{IMDS}{more}"), METADATA)).await
}

async fn app_service(emulator: &Emulator, more: &str) -> Answer {
    identify(emulator, get(&format!("{APP_SERVICE}{more}"), HEADER)).await
}

fn encode(text: &str) -> String {
    encoded(&[("", text)])[1..].to_owned()
}

#[tokio::test]
async fn imds_answers_strings_only() {
    let clock = Clock::new();
    let emulator = clock.builder().in_memory();
    let body = imds(&emulator, "").await.json();
    assert!(body.as_object().unwrap().values().all(Value::is_string), "{body}");
    assert_eq!(body["expires_in"], "3599");
    assert_eq!(body["ext_expires_in"], "3599");
    assert_eq!(body["expires_on"], (clock.seconds() + 3599).to_string());
    assert_eq!(body["not_before"], clock.seconds().to_string());
    assert_eq!(body["refresh_token"], "");
    assert_eq!(body["resource"], "https://storage.azure.com");
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!(body["client_id"], sample::SYSTEM_IDENTITY);
    let claims = claims(body["access_token"].as_str().unwrap());
    assert_eq!(claims["aud"], "https://storage.azure.com");
    assert_eq!(claims["appid"], sample::SYSTEM_IDENTITY);
    assert_eq!(claims["tid"], sample::TENANT);
}

#[tokio::test]
async fn imds_does_not_mind_a_slash_at_the_end() {
    let emulator = Emulator::in_memory();
    let path = IMDS.replace("/token?", "/token/?");
    assert_eq!(identify(&emulator, get(&path, METADATA)).await.status, 200);
}

#[tokio::test]
async fn imds_wants_its_header_and_no_proxy() {
    let emulator = Emulator::in_memory();
    for headers in [&[][..], &[("metadata", "false")]] {
        let answer = identify(&emulator, get(IMDS, headers)).await;
        assert_eq!(answer.status, 400);
        assert_eq!(answer.json()["error"], "bad_request_102");
    }
    let forwarded = [("metadata", "True"), ("x-forwarded-for", "10.0.0.1")];
    assert_eq!(identify(&emulator, get(IMDS, &forwarded)).await.status, 400);
}

#[tokio::test]
async fn imds_finds_a_user_assigned_identity_by_each_of_its_ids() {
    let emulator = Emulator::in_memory();
    for selector in [
        format!("&client_id={}", sample::USER_IDENTITY),
        format!("&object_id={}", sample::USER_IDENTITY_OBJECT_ID),
        format!("&msi_res_id={}", encode(sample::USER_IDENTITY_RESOURCE_ID)),
    ] {
        let body = imds(&emulator, &selector).await.json();
        assert_eq!(body["client_id"], sample::USER_IDENTITY, "{selector}");
        let claims = claims(body["access_token"].as_str().unwrap());
        assert_eq!(claims["oid"], sample::USER_IDENTITY_OBJECT_ID);
    }
    // That name is App Service's: here it selects nothing.
    let other = format!("&mi_res_id={}", encode(sample::USER_IDENTITY_RESOURCE_ID));
    assert_eq!(imds(&emulator, &other).await.json()["client_id"], sample::SYSTEM_IDENTITY);
}

#[tokio::test]
async fn imds_refuses_what_it_does_not_know() {
    let emulator = Emulator::in_memory();
    let answer = imds(&emulator, "&client_id=bbbbbbbb-0000-0000-0000-00000000dead").await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["error"], "invalid_request");
    assert_eq!(answer.json()["error_description"], "Identity not found");

    for path in [
        "/metadata/identity/oauth2/token?api-version=2018-02-01",
        "/metadata/identity/oauth2/token?resource=https://storage.azure.com",
    ] {
        let answer = identify(&emulator, get(path, METADATA)).await;
        assert_eq!(answer.status, 400);
        assert_eq!(answer.json()["error"], "invalid_request");
    }
    let unknown = IMDS.replace("storage.azure.com", "unknown.test");
    let answer = identify(&emulator, get(&unknown, METADATA)).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.json()["error"], "invalid_resource");
}

#[tokio::test]
async fn a_machine_without_a_system_identity_answers_with_its_only_user_assigned_one() {
    let emulator = Emulator::in_memory();
    let directory = emulator.directory();
    assert!(directory.remove_identity(sample::SYSTEM_IDENTITY));
    assert_eq!(imds(&emulator, "").await.json()["client_id"], sample::USER_IDENTITY);

    directory.add_identity(ManagedIdentity::user("another", sample::TENANT));
    let answer = imds(&emulator, "").await;
    assert_eq!(answer.status, 400);
    assert!(answer.json()["error_description"].as_str().unwrap().starts_with("Multiple"));

    directory.remove_identity("another");
    directory.remove_identity(sample::USER_IDENTITY);
    assert_eq!(imds(&emulator, "").await.json()["error_description"], "Identity not found");
}

#[tokio::test]
async fn app_service_answers_with_a_time_and_no_lifetime() {
    let clock = Clock::new();
    let emulator = clock.builder().in_memory();
    let body = app_service(&emulator, "").await.json();
    assert_eq!(body["expires_on"], (clock.seconds() + 3599).to_string());
    assert_eq!(body["client_id"], sample::SYSTEM_IDENTITY);
    assert_eq!(body["resource"], "https://storage.azure.com");
    assert_eq!(body["token_type"], "Bearer");
    assert!(body["access_token"].is_string() && body.get("expires_in").is_none());
}

#[tokio::test]
async fn app_service_finds_a_user_assigned_identity_by_each_of_its_ids() {
    let emulator = Emulator::in_memory();
    for selector in [
        format!("&client_id={}", sample::USER_IDENTITY),
        format!("&principal_id={}", sample::USER_IDENTITY_OBJECT_ID),
        format!("&object_id={}", sample::USER_IDENTITY_OBJECT_ID),
        format!("&mi_res_id={}", encode(sample::USER_IDENTITY_RESOURCE_ID)),
    ] {
        let body = app_service(&emulator, &selector).await.json();
        assert_eq!(body["client_id"], sample::USER_IDENTITY, "{selector}");
    }
}

#[tokio::test]
async fn app_service_wants_its_header_and_spells_errors_its_own_way() {
    let emulator = Emulator::in_memory();
    let path = format!("{APP_SERVICE}&client_id=nobody");
    for (path, headers, status) in [
        (APP_SERVICE, &[][..], 401),
        (APP_SERVICE, &[("x-identity-header", "wrong")], 403),
        ("/msi/token?api-version=2019-08-01", HEADER, 400),
        (path.as_str(), HEADER, 400),
    ] {
        let answer = identify(&emulator, get(path, headers)).await;
        let body = answer.json();
        assert_eq!(answer.status, status, "{body}");
        assert_eq!(body["statusCode"], status);
        assert!(body["message"].is_string() && body["correlationId"].is_string());
        assert!(body.get("error").is_none());
    }
}

#[tokio::test]
async fn without_the_cache_every_answer_is_a_new_token() {
    let emulator = Emulator::in_memory();
    assert_ne!(imds(&emulator, "").await.token(), imds(&emulator, "").await.token());
}

#[tokio::test]
async fn with_the_cache_the_same_token_comes_until_near_its_expiry() {
    let clock = Clock::new();
    let emulator = clock.builder().in_memory();
    emulator.directory().set_identity_cache(true);
    let first = imds(&emulator, "").await.token();
    clock.advance(Duration::from_secs(3000));
    let again = imds(&emulator, "").await;
    assert_eq!(again.token(), first);
    assert_eq!(again.json()["expires_in"], "599");
    assert_ne!(imds(&emulator, &format!("&client_id={}", sample::USER_IDENTITY)).await.token(), first);
    clock.advance(Duration::from_secs(300));
    assert_ne!(imds(&emulator, "").await.token(), first);
}
