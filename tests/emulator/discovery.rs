//! What the token service publishes: discovery, instances, keys and their rotation.

use crate::support::*;
use entra_broker::emulator::{Emulator, sample};
use http::Request;

#[tokio::test]
async fn each_token_is_unique_and_verifies_against_the_published_keys() {
    let emulator = Emulator::in_memory();
    let first = ask(&emulator, post(TOKEN_PATH, &good())).await.token();
    let second = ask(&emulator, post(TOKEN_PATH, &good())).await.token();
    assert_ne!(first, second);
    let keys = ask(&emulator, get("/common/discovery/v2.0/keys", &[])).await.json();
    assert!(verifies(&first, &keys) && verifies(&second, &keys));
    let (signed, _) = first.rsplit_once('.').unwrap();
    let (_, signature) = second.rsplit_once('.').unwrap();
    assert!(!verifies(&format!("{signed}.{signature}"), &keys));
}

#[tokio::test]
async fn after_a_rotation_old_tokens_verify_until_the_old_key_is_retired() {
    let emulator = Emulator::in_memory();
    let keys = async || ask(&emulator, get("/common/discovery/v2.0/keys", &[])).await.json();
    let old = ask(&emulator, post(TOKEN_PATH, &good())).await.token();
    emulator.directory().rotate_keys();
    let new = ask(&emulator, post(TOKEN_PATH, &good())).await.token();
    let both = keys().await;
    assert!(verifies(&old, &both) && verifies(&new, &both));
    emulator.directory().retire_keys();
    let one = keys().await;
    assert!(!verifies(&old, &one) && verifies(&new, &one));
}

#[tokio::test]
async fn discovery_names_the_tenants_endpoints_and_common_has_a_template() {
    let emulator = Emulator::in_memory();
    let discover = async |tenant: &str| {
        let path = format!("/{tenant}/v2.0/.well-known/openid-configuration");
        ask(&emulator, get(&path, &[])).await
    };
    let authority = emulator.authority();
    let body = discover("contoso.test").await.json();
    assert_eq!(body["issuer"], format!("{authority}/{}/v2.0", sample::TENANT));
    assert_eq!(body["token_endpoint"], format!("{authority}/contoso.test/oauth2/v2.0/token"));
    for absent in ["code_challenge_methods_supported", "revocation_endpoint", "introspection_endpoint"] {
        assert!(body.get(absent).is_none());
    }
    assert_eq!(discover("common").await.json()["issuer"], format!("{authority}/{{tenantid}}/v2.0"));
    discover("unknown.test").await.is_entra_error(400, "invalid_tenant", 90002);
}

#[tokio::test]
async fn keys_name_their_issuer_and_no_algorithm() {
    let emulator = Emulator::in_memory();
    let body = ask(&emulator, get("/common/discovery/v2.0/keys", &[])).await.json();
    let key = &body["keys"][0];
    assert_eq!(key["kty"], "RSA");
    assert_eq!(key["use"], "sig");
    assert_eq!(key["e"], "AQAB");
    assert_eq!(key["kid"], key["x5t"]);
    assert_eq!(key["issuer"], format!("{}/{{tenantid}}/v2.0", emulator.authority()));
    assert!(key.get("alg").is_none());
}

#[tokio::test]
async fn instance_discovery_knows_itself_and_the_public_cloud_and_nobody_else() {
    let emulator = Emulator::in_memory();
    let ask_about = async |host: &str| {
        let query = encoded(&[
            ("api-version", "1.1"),
            ("authorization_endpoint", &format!("{host}/contoso.test/oauth2/v2.0/authorize")),
        ]);
        ask(&emulator, get(&format!("/common/discovery/instance?{query}"), &[])).await
    };
    for host in [emulator.authority(), "https://login.microsoftonline.com"] {
        let body = ask_about(host).await.json();
        let endpoint = body["tenant_discovery_endpoint"].as_str().unwrap();
        assert!(endpoint.ends_with("/contoso.test/v2.0/.well-known/openid-configuration"));
        assert!(body["metadata"][0]["aliases"].is_array());
    }
    ask_about("https://login.evil.test").await.is_entra_error(400, "invalid_instance", 50049);
    let bare = Request::get("/common/discovery/instance?api-version=1.1").body(Default::default());
    ask(&emulator, bare.unwrap()).await.is_entra_error(400, "invalid_request", 900144);
}

#[tokio::test]
async fn documents_and_issuers_have_the_name_that_the_client_used() {
    let emulator = Emulator::in_memory();
    let path = "/contoso.test/v2.0/.well-known/openid-configuration";
    let named = async |emulator: &Emulator, host: &str| {
        let document = ask(emulator, get(path, &[("host", host)])).await.json();
        document["issuer"].as_str().unwrap().to_owned()
    };
    let issuer = |authority: &str| format!("{authority}/{}/v2.0", sample::TENANT);
    assert_eq!(named(&emulator, "localhost:8443").await, issuer("http://localhost:8443"));
    assert_eq!(named(&emulator, "[::1]:1").await, issuer("http://[::1]:1"));
    for odd in ["user@evil.test", "a b", "", "evil.test/path", "<script>"] {
        assert_eq!(named(&emulator, odd).await, issuer(emulator.authority()), "{odd}");
    }
    let scope = format!("{}/.default", sample::API);
    let mut request = post(
        TOKEN_PATH,
        &[
            ("scope", scope.as_str()),
            ("grant_type", "client_credentials"),
            ("client_id", sample::SECRET_APP),
            ("client_secret", sample::SECRET),
        ],
    );
    request.headers_mut().insert("host", "login.test".parse().unwrap());
    assert_eq!(ask(&emulator, request).await.claims()["iss"], issuer("http://login.test"));

    let fixed = Emulator::builder().authority("https://login.test:8443/").in_memory();
    assert_eq!(fixed.authority(), "https://login.test:8443");
    assert_eq!(named(&fixed, "localhost:8443").await, issuer("https://login.test:8443"));
    for wrong in ["login.test", "ftp://login.test", "https://login.test/path", "https://user@login.test", ""]
    {
        let error = Emulator::builder().authority(wrong).start().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{wrong}");
    }
}

#[tokio::test]
async fn users_of_the_directory_have_their_passwords_checked_here() {
    let emulator = Emulator::in_memory();
    for (user, kind) in
        [("alice@contoso.test", "Managed"), ("alice%40CONTOSO.test", "Managed"), ("x@y.test", "Unknown")]
    {
        let answer = ask(&emulator, get(&format!("/common/userrealm/{user}?api-version=1.0"), &[])).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["account_type"].as_str()),
            (200, Some(kind)),
            "{user}"
        );
    }
}
