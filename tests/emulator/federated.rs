//! Apps that prove themselves with another issuer's token, or with a managed identity's.

use crate::signer::*;
use crate::support::*;
use entra_broker::emulator::{
    App, Emulator, FederatedCredential, InvalidJwks, Issuer, ManagedIdentity, sample,
};
use serde_json::{Value, json};
use std::io;
use std::time::Duration;

const CLUSTER: &str = "https://oidc.cluster.test/1/";
const SUBJECT: &str = "system:serviceaccount:shop:orders";
const EXCHANGE: &str = "api://AzureADTokenExchange";

/// An emulator that knows the cluster; the app trusts it.
fn federated() -> (Clock, Emulator) {
    let clock = Clock::new();
    let emulator = clock.builder().in_memory();
    emulator.directory().add_issuer(Issuer::new(CLUSTER));
    assert!(emulator.directory().add_federated(sample::CERT_APP, FederatedCredential::new(CLUSTER, SUBJECT)));
    (clock, emulator)
}

async fn present(emulator: &Emulator, assertion: &str) -> Answer {
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", sample::CERT_APP),
        ("client_assertion_type", JWT_BEARER),
        ("client_assertion", assertion),
        ("scope", STORAGE_SCOPE),
    ];
    ask(emulator, post(TOKEN_PATH, &form)).await
}

async fn managed_identity_token(emulator: &Emulator, client_id: &str) -> String {
    let path = format!(
        "/metadata/identity/oauth2/token?api-version=2018-02-01&resource={EXCHANGE}&client_id={client_id}"
    );
    identify(emulator, get(&path, &[("metadata", "true")])).await.token()
}

#[tokio::test]
async fn a_workloads_token_gets_an_apps() {
    let (_, emulator) = federated();
    let token = emulator.federated_token(CLUSTER, SUBJECT, EXCHANGE).await.unwrap();
    let claims = present(&emulator, &token).await.claims();
    assert_eq!(claims["appid"], sample::CERT_APP);
    assert_eq!(claims["appidacr"], "2");
}

#[tokio::test]
async fn issuer_subject_and_audience_each_have_their_number() {
    let (_, emulator) = federated();
    emulator.directory().add_issuer(Issuer::new("https://other.test"));
    for (issuer, subject, audience, code) in [
        ("https://other.test", SUBJECT, EXCHANGE, 700211),
        (CLUSTER, "system:serviceaccount:shop:other", EXCHANGE, 700213),
        (CLUSTER, SUBJECT, "api://other", 700212),
        // All is right but for letter case.
        (CLUSTER, "system:serviceaccount:Shop:orders", EXCHANGE, 7002138),
        (CLUSTER, SUBJECT, "api://azureadtokenexchange", 7002138),
    ] {
        let token = emulator.federated_token(issuer, subject, audience).await.unwrap();
        let answer = present(&emulator, &token).await;
        answer.is_entra_error(401, "invalid_client", code);
    }
    let upper = CLUSTER.replace("cluster", "Cluster");
    emulator.directory().add_issuer(Issuer::new(&upper));
    let token = emulator.federated_token(&upper, SUBJECT, EXCHANGE).await.unwrap();
    present(&emulator, &token).await.is_entra_error(401, "invalid_client", 7002138);
}

#[tokio::test]
async fn an_issuers_trailing_slash_counts() {
    let (_, emulator) = federated();
    let bare = CLUSTER.trim_end_matches('/');
    emulator.directory().add_issuer(Issuer::new(bare));
    let token = emulator.federated_token(bare, SUBJECT, EXCHANGE).await.unwrap();
    present(&emulator, &token).await.is_entra_error(401, "invalid_client", 700211);
}

#[tokio::test]
async fn an_app_without_federated_credentials_is_told_so_by_another_number() {
    let (_, emulator) = federated();
    let token = emulator.federated_token(CLUSTER, SUBJECT, EXCHANGE).await.unwrap();
    let credential = FederatedCredential::new(CLUSTER, SUBJECT);
    assert!(emulator.directory().remove_federated(sample::CERT_APP, &credential));
    assert!(!emulator.directory().remove_federated(sample::CERT_APP, &credential));
    present(&emulator, &token).await.is_entra_error(400, "invalid_request", 70021);
    // And as soon as the credential is there, the same token is good.
    assert!(emulator.directory().add_federated(sample::CERT_APP, credential));
    assert_eq!(present(&emulator, &token).await.status, 200);
}

#[tokio::test]
async fn one_of_several_credentials_and_of_several_audiences_is_enough() {
    let (_, emulator) = federated();
    let directory = emulator.directory();
    directory.add_issuer(Issuer::with_jwks("https://ci.test", &Signer::first().jwks("one")).unwrap());
    let credential = FederatedCredential::new("https://ci.test", "repo:a/b").audience("api://mine");
    directory.add_federated(sample::CERT_APP, credential);
    let claims =
        json!({"iss": "https://ci.test", "sub": "repo:a/b", "aud": ["x", "api://mine"], "exp": NOW + 60});
    let token = Signer::first().sign(&json!({"alg": "RS256", "kid": "one"}), &claims);
    assert_eq!(present(&emulator, &token).await.status, 200);
}

#[tokio::test]
async fn an_expired_token_is_refused_five_minutes_late() {
    let (clock, emulator) = federated();
    let token = emulator.federated_token(CLUSTER, SUBJECT, EXCHANGE).await.unwrap();
    clock.advance(Duration::from_secs(3600 + 300));
    assert_eq!(present(&emulator, &token).await.status, 200);
    clock.advance(Duration::from_secs(1));
    present(&emulator, &token).await.is_entra_error(401, "invalid_client", 700024);
}

#[tokio::test]
async fn published_keys_are_found_by_their_id_and_must_have_signed() {
    let (_, emulator) = federated();
    let issuer = Issuer::with_jwks(CLUSTER, &Signer::first().jwks("one")).unwrap();
    emulator.directory().add_issuer(issuer);
    let claims = json!({"iss": CLUSTER, "sub": SUBJECT, "aud": EXCHANGE, "exp": NOW + 60});
    let sign = |signer: &Signer, header: Value| signer.sign(&header, &claims);
    let first = Signer::first();

    for header in [json!({"alg": "RS256", "kid": "one"}), json!({"alg": "RS256"})] {
        assert_eq!(present(&emulator, &sign(first, header)).await.status, 200);
    }
    let answer = present(&emulator, &sign(first, json!({"alg": "RS256", "kid": "two"}))).await;
    answer.is_entra_error(401, "invalid_client", 7000272);
    let answer = present(&emulator, &sign(Signer::second(), json!({"alg": "RS256", "kid": "one"}))).await;
    answer.is_entra_error(401, "invalid_client", 700027);
    for algorithm in ["PS256", "none", "HS256"] {
        let answer = present(&emulator, &sign(first, json!({"alg": algorithm, "kid": "one"}))).await;
        answer.is_entra_error(401, "invalid_client", 50027);
    }

    assert!(emulator.directory().remove_issuer(CLUSTER));
    let answer = present(&emulator, &sign(first, json!({"alg": "RS256", "kid": "one"}))).await;
    answer.is_entra_error(400, "invalid_request", 50166);
}

#[tokio::test]
async fn only_a_known_issuer_with_a_key_of_its_own_makes_tokens() {
    let (_, emulator) = federated();
    let make = async |issuer: &str| emulator.federated_token(issuer, SUBJECT, EXCHANGE).await;
    assert_eq!(make("https://unknown.test").await.unwrap_err().kind(), io::ErrorKind::NotFound);
    emulator.directory().add_issuer(Issuer::with_jwks(CLUSTER, &Signer::first().jwks("one")).unwrap());
    assert_eq!(make(CLUSTER).await.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    let refused = |jwks: &str| -> InvalidJwks { Issuer::with_jwks(CLUSTER, jwks).unwrap_err() };
    refused("{}");
    refused("no keys");
    refused(r#"{"keys":[]}"#);
}

#[tokio::test]
async fn a_user_assigned_managed_identity_stands_in_for_a_secret() {
    let clock = Clock::new();
    let emulator = clock.builder().in_memory();
    let directory = emulator.directory();
    let token = managed_identity_token(&emulator, sample::USER_IDENTITY).await;
    let claims = claims(&token);
    assert_eq!(claims["aud"], "fb60f99c-7a34-4190-8149-302f77469936");
    assert_eq!(claims["sub"], sample::USER_IDENTITY_OBJECT_ID);
    present(&emulator, &token).await.is_entra_error(400, "invalid_request", 70021);

    // Whether the issuer is spelled as Azure's or as this emulator's, it is the same tenant.
    let here = format!("{}/{}/v2.0", emulator.authority(), sample::TENANT);
    for credential in [
        FederatedCredential::managed_identity(sample::TENANT, sample::USER_IDENTITY_OBJECT_ID),
        FederatedCredential::new(here, sample::USER_IDENTITY_OBJECT_ID),
    ] {
        directory.add_federated(sample::CERT_APP, credential.clone());
        assert_eq!(present(&emulator, &token).await.claims()["appidacr"], "2");
        let mut forged = token.rsplit_once('.').unwrap().0.to_owned();
        forged.push_str(".AAAA");
        present(&emulator, &forged).await.is_entra_error(401, "invalid_client", 700027);
        directory.remove_federated(sample::CERT_APP, &credential);
    }
    let other = FederatedCredential::managed_identity(sample::OTHER_TENANT, sample::USER_IDENTITY_OBJECT_ID);
    directory.add_federated(sample::CERT_APP, other);
    present(&emulator, &token).await.is_entra_error(401, "invalid_client", 700211);
}

#[tokio::test]
async fn an_identity_has_to_be_user_assigned_and_of_the_apps_tenant() {
    let emulator = Emulator::in_memory();
    let directory = emulator.directory();
    let token = managed_identity_token(&emulator, sample::SYSTEM_IDENTITY).await;
    let object_id = claims(&token)["oid"].as_str().unwrap().to_owned();
    directory
        .add_federated(sample::CERT_APP, FederatedCredential::managed_identity(sample::TENANT, &object_id));
    present(&emulator, &token).await.is_entra_error(401, "invalid_client", 700226);

    let abroad = ManagedIdentity::user("bbbbbbbb-0000-0000-0000-000000000009", sample::OTHER_TENANT);
    let abroad = abroad.object_id("bbbbbbbb-1111-0000-0000-000000000009");
    directory.add_identity(abroad);
    let credential =
        FederatedCredential::managed_identity(sample::OTHER_TENANT, "bbbbbbbb-1111-0000-0000-000000000009");
    directory.add_federated(sample::CERT_APP, credential);
    let token = managed_identity_token(&emulator, "bbbbbbbb-0000-0000-0000-000000000009").await;
    present(&emulator, &token).await.is_entra_error(401, "invalid_client", 700236);
}

#[tokio::test]
async fn an_apps_own_token_is_no_managed_identitys() {
    let emulator = Emulator::in_memory();
    let scope = [("grant_type", "client_credentials"), ("client_id", sample::SECRET_APP)];
    let mut form = scope.to_vec();
    form.extend([("client_secret", sample::SECRET), ("scope", "api://AzureADTokenExchange/.default")]);
    let token = ask(&emulator, post(TOKEN_PATH, &form)).await.token();
    let subject = claims(&token)["sub"].as_str().unwrap().to_owned();
    let credential = FederatedCredential::managed_identity(sample::TENANT, subject);
    emulator.directory().add_federated(sample::CERT_APP, credential);
    present(&emulator, &token).await.is_entra_error(401, "invalid_client", 700226);
}

#[tokio::test]
async fn a_customers_tenant_is_reached_with_the_identity_of_the_apps_own() {
    let emulator = Emulator::in_memory();
    let directory = emulator.directory();
    let credential = FederatedCredential::managed_identity(sample::TENANT, sample::USER_IDENTITY_OBJECT_ID);
    directory.add_app(App::new(sample::CERT_APP, sample::TENANT).multi_tenant().federated(credential));
    directory.add_service_principal(sample::OTHER_TENANT, sample::CERT_APP);
    let token = managed_identity_token(&emulator, sample::USER_IDENTITY).await;
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", sample::CERT_APP),
        ("client_assertion_type", JWT_BEARER),
        ("client_assertion", token.as_str()),
        ("scope", STORAGE_SCOPE),
    ];
    let path = format!("/{}/oauth2/v2.0/token", sample::OTHER_TENANT);
    assert_eq!(ask(&emulator, post(&path, &form)).await.claims()["tid"], sample::OTHER_TENANT);
}

#[tokio::test]
async fn a_users_token_is_no_apps_credential() {
    let emulator = Emulator::in_memory();
    let directory = emulator.directory();
    directory.consent_for_all(sample::TENANT, sample::PUBLIC_APP, EXCHANGE, &["user_impersonation"]);
    let form = [
        ("grant_type", "password"),
        ("client_id", sample::PUBLIC_APP),
        ("username", sample::ALICE),
        ("password", "any"),
        ("scope", "api://AzureADTokenExchange/user_impersonation"),
    ];
    let token = ask(&emulator, post(TOKEN_PATH, &form)).await.token();
    let subject = claims(&token)["sub"].as_str().unwrap().to_owned();
    directory.add_federated(sample::CERT_APP, FederatedCredential::managed_identity(sample::TENANT, subject));
    present(&emulator, &token).await.is_entra_error(401, "invalid_client", 700229);
}
