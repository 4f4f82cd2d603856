//! The keys and documents that the token service publishes, v1 and v2, and who may read them; the v1 endpoints.

use crate::support::*;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use entra_broker::emulator::{Certificate, Emulator, sample};
use http::{Method, Request};

#[tokio::test]
async fn each_key_comes_with_a_certificate_whose_thumbprint_is_its_id() {
    let emulator = Emulator::in_memory();
    emulator.directory().rotate_keys();
    let body = ask(&emulator, get("/common/discovery/v2.0/keys", &[])).await.json();
    let keys = body["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 2);
    for key in keys {
        let der = STANDARD.decode(key["x5c"][0].as_str().unwrap()).unwrap();
        let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &der));
        assert_eq!(key["x5t"], thumbprint);
        assert_eq!(key["kid"], thumbprint);
        assert!(Certificate::from_der(&der).unwrap().subject().contains("not for production"));
    }
    assert_ne!(keys[0]["kid"], keys[1]["kid"]);
}

#[tokio::test]
async fn the_certificate_is_over_the_key_that_signs() {
    let emulator = Emulator::in_memory();
    let token = ask(&emulator, post(TOKEN_PATH, &good())).await.token();
    let body = ask(&emulator, get("/common/discovery/v2.0/keys", &[])).await.json();
    let key = &body["keys"][0];
    let modulus = URL_SAFE_NO_PAD.decode(key["n"].as_str().unwrap()).unwrap();
    let der = STANDARD.decode(key["x5c"][0].as_str().unwrap()).unwrap();
    assert!(der.windows(modulus.len()).any(|part| part == modulus));
    assert!(verifies(&token, &body));
}

#[tokio::test]
async fn v1_discovery_has_v1s_issuer_and_endpoints_and_the_same_keys() {
    let emulator = Emulator::in_memory();
    let path = "/contoso.test/.well-known/openid-configuration";
    let body = ask(&emulator, get(path, &[])).await.json();
    let authority = emulator.authority();
    assert_eq!(body["issuer"], format!("https://sts.windows.net/{}/", sample::TENANT));
    assert_eq!(body["token_endpoint"], format!("{authority}/contoso.test/oauth2/token"));
    assert_eq!(body["jwks_uri"], format!("{authority}/contoso.test/discovery/keys"));
    let common = ask(&emulator, get("/common/.well-known/openid-configuration", &[])).await.json();
    assert_eq!(common["issuer"], "https://sts.windows.net/{tenantid}/");
    let unknown = ask(&emulator, get("/unknown.test/.well-known/openid-configuration", &[])).await;
    unknown.is_entra_error(400, "invalid_tenant", 90002);

    let keys = ask(&emulator, get("/contoso.test/discovery/keys", &[])).await.json();
    let v2 = ask(&emulator, get("/contoso.test/discovery/v2.0/keys", &[])).await.json();
    assert_eq!(keys["keys"][0]["kid"], v2["keys"][0]["kid"]);
    assert!(keys["keys"][0].get("issuer").is_none());
    let token = ask(&emulator, post(TOKEN_PATH, &good())).await.token();
    assert_eq!(claims(&token)["iss"], body["issuer"]);
    assert!(verifies(&token, &keys));
}

#[tokio::test]
async fn scripts_of_any_page_may_read_documents_and_tokens_and_nothing_else() {
    let emulator = Emulator::in_memory();
    let origin = async |request| {
        let answer = ask(&emulator, request).await;
        answer.header("access-control-allow-origin").to_owned()
    };
    for path in [
        "/common/v2.0/.well-known/openid-configuration",
        "/common/.well-known/openid-configuration",
        "/common/discovery/v2.0/keys",
        "/common/discovery/keys",
        "/common/discovery/instance",
    ] {
        assert_eq!(origin(get(path, &[])).await, "*", "{path}");
    }
    assert_eq!(origin(post(TOKEN_PATH, &good())).await, "*");
    assert_eq!(origin(post(TOKEN_PATH, &without("scope"))).await, "*");
    assert_eq!(origin(post("/common/oauth2/v2.0/devicecode", &[])).await, "");
    let answer = identify(&emulator, get(IMDS, &[("metadata", "true")])).await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
}

#[tokio::test]
async fn a_preflight_is_answered() {
    let emulator = Emulator::in_memory();
    let mut request: Request<bytes::Bytes> = get(
        TOKEN_PATH,
        &[("origin", "https://spa.test"), ("access-control-request-headers", "x-client-sku")],
    );
    *request.method_mut() = Method::OPTIONS;
    let answer = ask(&emulator, request).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert!(answer.header("access-control-allow-methods").contains("POST"));
    assert_eq!(answer.header("access-control-allow-headers"), "x-client-sku");
}

#[tokio::test]
async fn the_v1_token_endpoint_takes_a_resource_and_spells_numbers_as_texts() {
    let clock = Clock::new();
    let emulator = clock.builder().in_memory();
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", sample::SECRET_APP),
        ("client_secret", sample::SECRET),
        ("resource", "https://management.core.windows.net/"),
    ];
    let path = "/contoso.test/oauth2/token";
    let answer = ask(&emulator, post(path, &form)).await;
    assert_eq!(answer.claims()["aud"], "https://management.core.windows.net/");
    let body = answer.json();
    assert_eq!(body["resource"], "https://management.core.windows.net/");
    assert_eq!(body["expires_in"], "3599");
    assert_eq!(body["not_before"], clock.seconds().to_string());
    assert_eq!(body["expires_on"], (clock.seconds() + 3599).to_string());
    let refused = ask(&emulator, post(path, &form[..3])).await;
    refused.is_entra_error(400, "invalid_request", 900144);
}

#[tokio::test]
async fn a_v1_answer_for_a_user_has_all_tokens_and_is_refreshed_for_other_resources() {
    let emulator = Emulator::in_memory();
    let directory = emulator.directory();
    for resource in [sample::STORAGE, sample::RESOURCE_MANAGER] {
        directory.consent_for_all(sample::TENANT, sample::PUBLIC_APP, resource, &["user_impersonation"]);
    }
    let path = "/contoso.test/oauth2/token";
    let form = [
        ("grant_type", "password"),
        ("client_id", sample::PUBLIC_APP),
        ("username", sample::ALICE),
        ("password", "any"),
        ("resource", sample::STORAGE),
    ];
    let body = ask(&emulator, post(path, &form)).await.json();
    assert_eq!(body["scope"], "user_impersonation");
    // The id token is of the endpoint's version, as its document says.
    let id = claims(body["id_token"].as_str().unwrap());
    let document = ask(&emulator, get("/contoso.test/.well-known/openid-configuration", &[])).await.json();
    assert_eq!((&id["iss"], &id["ver"]), (&document["issuer"], &serde_json::json!("1.0")));
    assert_eq!((&id["upn"], &id["preferred_username"]), (&sample::ALICE.into(), &serde_json::Value::Null));
    let refresh = body["refresh_token"].as_str().unwrap();
    let form = [
        ("grant_type", "refresh_token"),
        ("client_id", sample::PUBLIC_APP),
        ("refresh_token", refresh),
        ("resource", sample::RESOURCE_MANAGER),
    ];
    let answer = ask(&emulator, post(path, &form)).await;
    assert_eq!(answer.claims()["aud"], sample::RESOURCE_MANAGER);
    // Without a resource it is the one of before.
    let answer = ask(&emulator, post(path, &form[..3])).await;
    assert_eq!(answer.json()["resource"], sample::STORAGE);

    let form = [("client_id", sample::PUBLIC_APP), ("resource", sample::STORAGE)];
    let body = ask(&emulator, post("/contoso.test/oauth2/devicecode", &form)).await.json();
    assert_eq!(body["expires_in"], "900");
    assert!(body["verification_url"].is_string() && body.get("verification_uri").is_none());
}
