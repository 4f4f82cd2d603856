//! Managed identity on Cloud Shell, Azure ML and Service Fabric, and what the platforms have in common.

#![expect(clippy::unwrap_used, reason = "what goes wrong here fails a test")]

use crate::support::*;
use entra_broker::emulator::{Emulator, Endpoint, ExpiresOn, Fault, sample};
use serde_json::{Value, json};
use std::time::Duration;

const METADATA: &[(&str, &str)] = &[("metadata", "true")];
const SECRET: &[(&str, &str)] = &[("Secret", sample::APP_SERVICE_HEADER)];
const ML: &str = "/ml/token?api-version=2017-09-01&resource=https://storage.azure.com";
const SF: &str = "/sf/token?api-version=2019-07-01-preview&resource=https://storage.azure.com";
const OLD_APP_SERVICE: &str = "/msi/token?api-version=2017-09-01&resource=https://storage.azure.com";

async fn cloud_shell(emulator: &Emulator, form: &[(&str, &str)]) -> Answer {
    let mut request = post("/cloudshell", form);
    request.headers_mut().insert("metadata", "true".parse().unwrap());
    identify(emulator, request).await
}

#[tokio::test]
async fn cloud_shell_answers_a_form() {
    let emulator = Emulator::in_memory();
    let answer = cloud_shell(&emulator, &[("resource", "https://management.azure.com/")]).await;
    let body = answer.json();
    assert_eq!(answer.claims()["appid"], sample::SYSTEM_IDENTITY);
    assert!(body.as_object().unwrap().values().all(Value::is_string), "{body}");
    assert_eq!((&body["expires_in"], &body["token_type"]), (&json!("3599"), &json!("Bearer")));
    // It has one identity, and a request has no say.
    let naming = [("resource", "https://management.azure.com/"), ("client_id", sample::USER_IDENTITY)];
    assert_eq!(cloud_shell(&emulator, &naming).await.claims()["appid"], sample::SYSTEM_IDENTITY);
}

#[tokio::test]
async fn cloud_shell_spells_errors_with_code_and_message() {
    let emulator = Emulator::in_memory();
    let unknown = cloud_shell(&emulator, &[("resource", "https://unknown.test")]).await;
    assert_eq!(unknown.status, 400);
    assert_eq!(
        unknown.json(),
        json!({"error": {"code": "AudienceNotSupported",
            "message": "Audience https://unknown.test is not a supported MSI token audience."}})
    );
    for (request, status) in [
        (post("/cloudshell", &[("resource", "https://management.azure.com/")]), 400),
        (post("/cloudshell?resource=https://management.azure.com/", &[]), 400),
        (get("/cloudshell?resource=https://management.azure.com/", METADATA), 405),
    ] {
        let answer = identify(&emulator, request).await;
        assert_eq!(answer.status, status);
        let error = &answer.json()["error"];
        assert!(error["code"].is_string() && error["message"].is_string(), "{error}");
    }
}

#[tokio::test]
async fn azure_ml_answers_who_knows_the_secret() {
    let clock = Clock::new();
    let emulator = clock.builder().in_memory();
    let answer = identify(&emulator, get(ML, SECRET)).await;
    assert_eq!(answer.claims()["appid"], sample::SYSTEM_IDENTITY);
    assert_eq!(answer.json()["expires_on"], (clock.seconds() + 3599).to_string());
    assert!(answer.json().get("expires_in").is_none());

    let user = format!("{ML}&clientid={}", sample::USER_IDENTITY);
    assert_eq!(identify(&emulator, get(&user, SECRET)).await.json()["client_id"], sample::USER_IDENTITY);
    let other = format!("{ML}&client_id={}", sample::USER_IDENTITY);
    assert_eq!(identify(&emulator, get(&other, SECRET)).await.json()["client_id"], sample::SYSTEM_IDENTITY);
}

#[tokio::test]
async fn azure_ml_refuses_as_app_service_does() {
    let emulator = Emulator::in_memory();
    let nobody = format!("{ML}&clientid=nobody");
    let version = ML.replace("2017-09-01", "2019-08-01");
    for (path, headers, status) in [
        (ML, &[][..], 401),
        (ML, &[("secret", "wrong")], 403),
        (ML, &[("x-identity-header", sample::APP_SERVICE_HEADER)], 401),
        (&nobody, SECRET, 400),
        (&version, SECRET, 400),
        ("/ml/token?api-version=2017-09-01", SECRET, 400),
    ] {
        let answer = identify(&emulator, get(path, headers)).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["statusCode"]),
            (status, &json!(status)),
            "{path}"
        );
        assert!(answer.json()["message"].is_string());
    }
}

#[tokio::test]
async fn app_service_still_knows_its_old_version() {
    let clock = Clock::new();
    let emulator = clock.builder().in_memory();
    let answer = identify(&emulator, get(OLD_APP_SERVICE, SECRET)).await;
    assert_eq!(answer.claims()["appid"], sample::SYSTEM_IDENTITY);
    assert_eq!(answer.json()["expires_on"], "01/15/2027 08:59:59 +00:00");
    let user = format!("{OLD_APP_SERVICE}&clientid={}", sample::USER_IDENTITY);
    assert_eq!(identify(&emulator, get(&user, SECRET)).await.claims()["appid"], sample::USER_IDENTITY);
    // Each version has its own header.
    assert_eq!(identify(&emulator, get(APP_SERVICE, SECRET)).await.status, 401);
    let header = [("X-IDENTITY-HEADER", sample::APP_SERVICE_HEADER)];
    assert_eq!(identify(&emulator, get(OLD_APP_SERVICE, &header)).await.status, 401);
    for path in ["/MSI/token/?", "/msi/token/?", "/MSI/token?"] {
        let path = APP_SERVICE.replace("/msi/token?", path);
        assert_eq!(identify(&emulator, get(&path, &header)).await.status, 200, "{path}");
        assert!(identify(&emulator, get(&path, &[])).await.json()["statusCode"].is_number());
    }
}

#[tokio::test]
async fn service_fabric_answers_with_its_applications_identity() {
    let clock = Clock::new();
    let emulator = clock.builder().in_memory();
    // What identity that is stands in the cluster's configuration, whatever a request names.
    let path = format!("{SF}&client_id={}", sample::USER_IDENTITY);
    let answer = identify(&emulator, get(&path, SECRET)).await;
    assert_eq!(answer.claims()["appid"], sample::SYSTEM_IDENTITY);
    let body = answer.json();
    assert_eq!(body["expires_on"], clock.seconds() + 3599);
    assert_eq!(
        (&body["resource"], &body["token_type"]),
        (&json!("https://storage.azure.com"), &json!("Bearer"))
    );
}

#[tokio::test]
async fn service_fabric_names_its_errors() {
    let emulator = Emulator::in_memory();
    let unknown = SF.replace("storage.azure.com", "unknown.test");
    for (path, headers, status, code) in [
        (SF, &[][..], 400, "SecretHeaderNotFound"),
        (SF, &[("secret", "wrong")], 404, "ManagedIdentityNotFound"),
        ("/sf/token?api-version=2019-07-01-preview", SECRET, 400, "ArgumentNullOrEmpty"),
        ("/sf/token?resource=https://storage.azure.com", SECRET, 400, "InvalidApiVersion"),
        (&unknown, SECRET, 500, "InternalServerError"),
    ] {
        let answer = identify(&emulator, get(path, headers)).await;
        let error = &answer.json()["error"];
        assert_eq!((answer.status.as_u16(), &error["code"]), (status, &json!(code)), "{path}");
        assert!(error["message"].is_string() && error["correlationId"].is_string());
    }
    emulator.directory().remove_identity(sample::SYSTEM_IDENTITY);
    emulator.directory().remove_identity(sample::USER_IDENTITY);
    let answer = identify(&emulator, get(SF, SECRET)).await;
    assert_eq!(answer.json()["error"]["code"], "ManagedIdentityNotFound");
}

#[tokio::test]
async fn a_fault_is_spelled_as_its_platform_spells_errors() {
    let emulator = Emulator::in_memory();
    emulator.faults().add(Fault::on(Endpoint::Identity).status(429));
    let answer = identify(&emulator, get(SF, SECRET)).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["code"]), (429, &json!("TooManyRequests")));
    let answer = cloud_shell(&emulator, &[]).await;
    assert_eq!(answer.json()["error"]["code"], "TooManyRequests");
    assert_eq!(identify(&emulator, get(ML, SECRET)).await.json()["statusCode"], 429);
    assert_eq!(identify(&emulator, get(IMDS, METADATA)).await.json()["error"], "too_many_requests");
}

#[tokio::test]
async fn expires_on_can_be_spelled_in_every_way_that_was_seen() {
    let clock = Clock::new();
    let emulator = clock.builder().in_memory();
    let expires = clock.seconds() + 3599;
    for (spelling, wanted) in [
        (Some(ExpiresOn::Text), json!(expires.to_string())),
        (Some(ExpiresOn::Number), json!(expires)),
        (Some(ExpiresOn::Iso8601), json!("2027-01-15T08:59:59Z")),
        (Some(ExpiresOn::Linux), json!("01/15/2027 08:59:59 +00:00")),
        (Some(ExpiresOn::Windows), json!("1/15/2027 8:59:59 AM +00:00")),
    ] {
        emulator.directory().set_expires_on(spelling);
        for path in [ML, SF, OLD_APP_SERVICE] {
            assert_eq!(identify(&emulator, get(path, SECRET)).await.json()["expires_on"], wanted, "{path}");
        }
        let imds = identify(&emulator, get(IMDS, METADATA)).await;
        assert_eq!(imds.json()["expires_on"], expires.to_string());
    }
    emulator.directory().set_expires_on(None);
    assert_eq!(identify(&emulator, get(SF, SECRET)).await.json()["expires_on"], expires);
}

#[tokio::test]
async fn a_cached_token_can_be_told_with_the_lifetime_that_it_once_had() {
    let clock = Clock::new();
    let emulator = clock.builder().lifetime(Duration::from_secs(86_400)).in_memory();
    emulator.directory().set_identity_cache(true);
    emulator.directory().set_stale_expires_in(true);
    let first = identify(&emulator, get(IMDS, METADATA)).await;
    clock.advance(Duration::from_secs(80_000));
    let again = identify(&emulator, get(IMDS, METADATA)).await;
    assert_eq!(again.token(), first.token());
    assert_eq!(again.json()["expires_in"], "86400");
    assert_eq!(again.json()["expires_on"], (clock.seconds() + 6_400).to_string());
    emulator.directory().set_stale_expires_in(false);
    assert_eq!(identify(&emulator, get(IMDS, METADATA)).await.json()["expires_in"], "6400");
}

#[tokio::test]
async fn a_token_that_was_refused_is_not_given_again_where_the_platform_can_be_told() {
    let emulator = Emulator::in_memory();
    emulator.directory().set_identity_cache(true);
    let first = identify(&emulator, get(SF, SECRET)).await.token();
    let refusing = |token: &str| {
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
        let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{SF}&xms_cc=CP1&token_sha256_to_refresh={hash}")
    };
    assert_eq!(identify(&emulator, get(&refusing("another"), SECRET)).await.token(), first);
    let second = identify(&emulator, get(&refusing(&first), SECRET)).await.token();
    assert_ne!(second, first);
    assert_eq!(identify(&emulator, get(&refusing(&first), SECRET)).await.token(), second);
}
