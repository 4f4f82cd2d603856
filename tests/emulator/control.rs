//! Driving the emulator over HTTP.

#![expect(clippy::unwrap_used, reason = "what goes wrong here fails a test")]

use crate::support::*;
use bytes::Bytes;
use entra_broker::emulator::{Emulator, Endpoint, Fault, sample};
use http::Request;
use serde_json::{Value, json};
use std::time::Duration;

fn control(method: &str, path: &str, body: &Value) -> Request<Bytes> {
    let request = Request::builder().method(method).uri(format!("/_emulator/{path}"));
    match body {
        Value::Null => request.body(Bytes::new()).unwrap(),
        body => request.header("content-type", "application/json").body(body.to_string().into()).unwrap(),
    }
}

async fn drive(emulator: &Emulator, method: &str, path: &str, body: Value) -> Answer {
    ask(emulator, control(method, path, &body)).await
}

/// Drives, and expects to be obeyed.
async fn obeyed(emulator: &Emulator, method: &str, path: &str, body: Value) -> Value {
    let answer = drive(emulator, method, path, body).await;
    assert!(answer.status.is_success(), "{method} {path}: {:?}", answer.body);
    answer.json()
}

/// Drives, and expects to be told what is wrong with which field.
async fn refused(emulator: &Emulator, method: &str, path: &str, body: Value, field: &str) -> Value {
    let answer = drive(emulator, method, path, body).await;
    let error = answer.json();
    assert_eq!(answer.status, 400, "{error}");
    assert_eq!(error["field"].as_str().unwrap_or_default(), field, "{error}");
    error
}

async fn token(emulator: &Emulator) -> Answer {
    ask(emulator, post(TOKEN_PATH, &good())).await
}

#[tokio::test]
async fn both_addresses_tell_what_is_there() {
    let emulator = Emulator::start().await.unwrap();
    for base in [emulator.authority(), emulator.identity_endpoint()] {
        for path in ["/_emulator/", "/_emulator"] {
            let answer = read(send(&client(), base, get(path, &[])).await.unwrap()).await.unwrap();
            assert_eq!(answer.json()["authority"], emulator.authority());
            assert_eq!(answer.json()["places"][1]["path"], "/_emulator/directory");
            assert_eq!(answer.header("cache-control"), "no-store");
        }
    }
    let answer = drive(&emulator, "GET", "nowhere", Value::Null).await;
    assert_eq!(answer.status, 404);
    let answer = drive(&emulator, "PUT", "faults/7", Value::Null).await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, "DELETE"));
    assert_eq!(ask(&emulator, get("/_emulatorx", &[])).await.json()["error"], "not_found");
}

#[tokio::test]
async fn the_control_is_in_no_journal_and_meets_no_fault() {
    let emulator = Emulator::start().await.unwrap();
    for fault in [
        Fault::on(Endpoint::TokenService).refuse(),
        Fault::on(Endpoint::TokenService).status(500),
        Fault::on(Endpoint::Identity).refuse(),
    ] {
        emulator.faults().add(fault);
    }
    assert!(send(&client(), emulator.authority(), post(TOKEN_PATH, &good())).await.is_err());
    for base in [emulator.authority(), emulator.identity_endpoint()] {
        let answer = read(send(&client(), base, get("/_emulator/faults", &[])).await.unwrap()).await.unwrap();
        assert_eq!(answer.json()["faults"][0]["refuse"], true);
    }
    let deleted = control("DELETE", "faults", &Value::Null);
    assert_eq!(send(&client(), emulator.authority(), deleted).await.unwrap().status(), 200);
    let answer = send(&client(), emulator.authority(), post(TOKEN_PATH, &good())).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!((emulator.journal().len(), emulator.journal().refused()), (1, 1));
}

#[tokio::test]
async fn a_web_page_of_another_origin_is_refused() {
    let emulator = Emulator::start().await.unwrap();
    let own = emulator.authority();
    let host = own.strip_prefix("http://").unwrap();
    let asking = async |host: &str, name: &str, value: &str| {
        let mut request = control("POST", "clock", &json!({"advance": 1}));
        request.headers_mut().insert("host", host.parse().unwrap());
        request.headers_mut().insert(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        ask(&emulator, request).await
    };
    assert_eq!(asking(host, "origin", own).await.status, 200);
    assert_eq!(asking(host, "sec-fetch-site", "same-origin").await.status, 200);
    for (host, name, value) in [
        (host, "origin", "https://evil.test"),
        (host, "origin", "null"),
        (host, "origin", "http://127.0.0.1:1"),
        (host, "sec-fetch-site", "cross-site"),
        // A name of somebody else's that leads here.
        ("evil.test:80", "origin", "http://evil.test:80"),
    ] {
        let answer = asking(host, name, value).await;
        assert_eq!(answer.status, 403, "{host} {value}");
        assert!(
            answer.json()["error"].is_string() && answer.header("access-control-allow-origin").is_empty()
        );
    }
}

#[tokio::test]
async fn only_json_is_taken_and_not_too_much_of_it() {
    let emulator = Emulator::in_memory();
    for content_type in ["text/plain", "application/x-www-form-urlencoded"] {
        let mut request = control("POST", "clock", &json!({"advance": 1}));
        request.headers_mut().insert("content-type", content_type.parse().unwrap());
        assert_eq!(ask(&emulator, request).await.status, 415);
    }
    let mut request = control("POST", "clock", &json!({"advance": 1}));
    request.headers_mut().remove("content-type");
    assert_eq!(ask(&emulator, request).await.status, 415);
    let large = json!({"users": "x".repeat(1024 * 1024)});
    assert_eq!(drive(&emulator, "PUT", "directory", large).await.status, 413);
    let mut request = control("POST", "clock", &json!(1));
    *request.body_mut() = Bytes::from_static(b"{\n\"a\" 1}");
    let error = ask(&emulator, request).await.json();
    assert_eq!((&error["line"], &error["column"]), (&json!(2), &json!(5)), "{error}");
}

#[tokio::test]
async fn a_directory_is_replaced_whole_or_not_at_all() {
    let emulator = Emulator::in_memory();
    let before = obeyed(&emulator, "GET", "directory", Value::Null).await;
    assert_eq!(before, emulator.directory().to_json());
    let app = |tenant: &str| {
        json!({
            "tenants": [{"id": sample::TENANT, "domains": ["contoso.test"]}],
            "resources": [{"identifier": "https://storage.azure.com"}],
            "apps": [{"client_id": sample::SECRET_APP, "tenant": tenant, "secrets": ["new"]}],
        })
    };
    let error = refused(&emulator, "PUT", "directory", app("contoso.tets"), "apps[0].tenant").await;
    assert_eq!(error["error"], "no tenant \"contoso.tets\" in this directory");
    assert_eq!(emulator.directory().to_json(), before);
    assert_eq!(token(&emulator).await.status, 200);

    obeyed(&emulator, "PUT", "directory", app("contoso.test")).await;
    token(&emulator).await.is_entra_error(401, "invalid_client", 7000215);
    let form = with("client_secret", "new");
    assert_eq!(ask(&emulator, post(TOKEN_PATH, &form)).await.status, 200);
    assert_eq!(emulator.directory().to_json()["users"], json!([]));
}

#[tokio::test]
async fn a_patch_adds_and_replaces_only_what_it_lists() {
    let emulator = Emulator::in_memory();
    let patch = json!({
        "settings": {"token_lifetime": 60},
        "users": [{"name": "dora@contoso.test"}, {"name": sample::ALICE, "display_name": "Alice A."}],
        "resources": [{"identifier": sample::API, "token_version": 1}],
        "service_principals": [{
            "tenant": sample::CUSTOMER_WITHOUT_CONSENT_DOMAIN,
            "client_id": sample::SECRET_APP,
            "roles": [{"resource": sample::GRAPH, "roles": ["User.Read.All"]}],
        }],
        "policies": [{"tenant": "contoso.test", "requires": "mfa"}],
    });
    obeyed(&emulator, "PATCH", "directory", patch.clone()).await;
    assert_eq!(token(&emulator).await.json()["expires_in"], 60);
    let after = emulator.directory().to_json();
    assert_eq!(after["users"].as_array().unwrap().len(), 7);
    assert_eq!(after["users"][3]["display_name"], "Alice A.");
    assert_eq!(after["resources"].as_array().unwrap().len(), 13);
    let path = format!("/{}/oauth2/v2.0/token", sample::CUSTOMER_WITHOUT_CONSENT);
    let form = with("scope", "https://graph.microsoft.com/.default");
    let claims = ask(&emulator, post(&path, &form)).await.claims();
    assert_eq!(claims["roles"], json!(["User.Read.All"]));
    // The same again changes nothing.
    obeyed(&emulator, "PATCH", "directory", patch).await;
    assert_eq!(emulator.directory().to_json(), after);

    let patch = json!({"users": [{"name": "eve@contoso.test"}], "apps": [{"client_id": "x"}]});
    refused(&emulator, "PATCH", "directory", patch, "apps[0].tenant").await;
    assert_eq!(emulator.directory().to_json(), after);
}

#[tokio::test]
async fn what_an_administrator_does_to_one_thing_is_an_action() {
    let emulator = Emulator::in_memory();
    let act = async |name: &str, members: Value| {
        obeyed(&emulator, "POST", "directory/actions", json!({name: members})).await
    };
    let (app, contoso) = (sample::SECRET_APP, "contoso.test");
    act("expire_secret", json!({"client_id": app, "secret": sample::SECRET})).await;
    token(&emulator).await.is_entra_error(401, "invalid_client", 7000222);
    act("remove_secret", json!({"client_id": app, "secret": sample::SECRET})).await;
    token(&emulator).await.is_entra_error(401, "invalid_client", 7000215);
    act("add_secret", json!({"client_id": app, "secret": sample::SECRET})).await;
    assert_eq!(token(&emulator).await.status, 200);
    act("set_app_enabled", json!({"client_id": app, "enabled": false})).await;
    token(&emulator).await.is_entra_error(400, "unauthorized_client", 7000112);
    act("set_app_enabled", json!({"client_id": app, "enabled": true})).await;
    act("set_service_principal_enabled", json!({"tenant": contoso, "client_id": app, "enabled": false}))
        .await;
    token(&emulator).await.is_entra_error(400, "unauthorized_client", 70001);
    act("remove_service_principal", json!({"tenant": contoso, "client_id": app})).await;
    token(&emulator).await.is_entra_error(401, "invalid_client", 7000229);
    act("add_service_principal", json!({"tenant": contoso, "client_id": app})).await;
    act("grant_role", json!({"tenant": contoso, "client_id": app, "resource": sample::STORAGE, "role": "R"}))
        .await;
    assert_eq!(token(&emulator).await.claims()["roles"], json!(["R"]));
    act("set_resource_enabled", json!({"resource": sample::STORAGE, "enabled": false})).await;
    act("remove_resource", json!({"resource": sample::STORAGE})).await;
    token(&emulator).await.is_entra_error(400, "invalid_resource", 500011);
    let alice = json!({"user": sample::ALICE});
    let consent =
        json!({"tenant": contoso, "client_id": app, "resource": sample::GRAPH, "scopes": ["Mail.Read"]});
    for (name, members) in [
        ("revoke_sessions", alice.clone()),
        ("set_user_enabled", json!({"user": sample::ALICE, "enabled": false})),
        ("set_password", json!({"user": sample::ALICE, "password": "p"})),
        ("consent", consent),
        ("withdraw_consent", json!({"tenant": contoso, "client_id": app})),
        ("assign", json!({"tenant": contoso, "client_id": app, "user": sample::ALICE})),
        ("unassign", json!({"tenant": contoso, "client_id": app, "user": sample::ALICE})),
        ("remove_user", alice),
        ("clear_policies", json!({"tenant": contoso})),
        ("remove_app", json!({"client_id": app})),
        ("remove_identity", json!({"client_id": sample::USER_IDENTITY})),
        ("remove_tenant", json!({"tenant": contoso})),
    ] {
        act(name, members).await;
    }
    token(&emulator).await.is_entra_error(400, "invalid_request", 90002);
}

#[tokio::test]
async fn an_action_that_cannot_be_done_says_why_and_does_nothing() {
    let emulator = Emulator::in_memory();
    let answer = drive(&emulator, "POST", "directory/actions", json!({"remove_user": {"user": "x"}})).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["field"]), (404, &json!("remove_user")));
    let before = emulator.directory().to_json();
    for (body, field) in [
        (json!({}), ""),
        (json!({"fly": {}}), ""),
        (json!({"remove_user": {}}), "remove_user.user"),
        (json!({"remove_user": {"user": sample::ALICE, "really": true}}), "remove_user.really"),
        (json!({"set_user_enabled": {"user": sample::ALICE, "enabled": 1}}), "set_user_enabled.enabled"),
        (json!({"assign": {"tenant": "x", "client_id": "y", "user": "z"}}), "assign.tenant"),
    ] {
        refused(&emulator, "POST", "directory/actions", body, field).await;
    }
    assert_eq!(emulator.directory().to_json(), before);
}

#[tokio::test]
async fn faults_are_added_listed_and_removed() {
    let emulator = Emulator::in_memory();
    let full = json!({
        "endpoint": "token-service", "client": sample::SECRET_APP, "tenant": sample::TENANT,
        "resource": sample::STORAGE, "path": "/token", "grant_type": "client_credentials", "times": 1,
        "error": 50076, "status": 418, "retry_after": 7, "headers": {"x-one": "two"},
        "delay_ms": 1, "drip": {"bytes": 100, "every_ms": 1},
    });
    let added = obeyed(&emulator, "POST", "faults", full).await;
    assert_eq!(added["id"], 1);
    let listed = obeyed(&emulator, "GET", "faults", Value::Null).await;
    assert_eq!(listed["faults"][0]["error"], 50076);
    assert_eq!(listed["faults"][0]["drip"], json!({"bytes": 100, "every": 0.001}));
    let answer = token(&emulator).await;
    answer.is_entra_error(418, "interaction_required", 50076);
    assert_eq!((answer.header("retry-after"), answer.header("x-one")), ("7", "two"));
    assert_eq!(token(&emulator).await.status, 200);

    let identity = json!({"endpoint": "identity", "body": {"a": 1}, "status": 502});
    let id = obeyed(&emulator, "POST", "faults", identity).await["id"].clone();
    assert_eq!(identify(&emulator, get(IMDS, &[])).await.json(), json!({"a": 1}));
    obeyed(&emulator, "DELETE", &format!("faults/{id}"), Value::Null).await;
    assert_eq!(drive(&emulator, "DELETE", &format!("faults/{id}"), Value::Null).await.status, 404);
    assert_eq!(drive(&emulator, "DELETE", "faults/x", Value::Null).await.status, 404);
    let merge = json!({"merge": {"expires_in": 5, "token_type": null}});
    obeyed(&emulator, "POST", "faults", merge).await;
    let body = token(&emulator).await.json();
    assert!(body["expires_in"] == 5 && body.get("token_type").is_none());
    obeyed(&emulator, "DELETE", "faults", Value::Null).await;
    for action in [json!({"cut": true}), json!({"refuse": true, "user": sample::BOB})] {
        obeyed(&emulator, "POST", "faults", action).await;
    }
    assert!(emulator.call(Endpoint::TokenService, post(TOKEN_PATH, &good())).await.is_err());
}

#[tokio::test]
async fn a_fault_that_makes_no_sense_is_refused_with_the_field() {
    let emulator = Emulator::in_memory();
    for (fault, field) in [
        (json!({}), ""),
        (json!({"client": "x"}), ""),
        (json!({"refuse": false}), ""),
        (json!({"stauts": 500}), "stauts"),
        (json!({"endpoint": "imds", "status": 500}), "endpoint"),
        (json!({"status": 99}), "status"),
        (json!({"status": "500"}), "status"),
        (json!({"status": 500, "times": 0}), "times"),
        (json!({"error": 1, "hang": true}), "hang"),
        (json!({"body": "a", "merge": {}}), "merge"),
        (json!({"merge": []}), "merge"),
        (json!({"body": 1}), "body"),
        (json!({"error": 1, "content_type": "text/html"}), "content_type"),
        (json!({"refuse": true, "status": 500}), "status"),
        (json!({"delay": 1, "delay_ms": 1}), "delay_ms"),
        (json!({"delay": -1.5}), "delay"),
        (json!({"drip": {"bytes": 1}}), "drip"),
        (json!({"drip": {"bytes": 0, "every": 1}}), "drip.bytes"),
        (json!({"headers": {"not a name": "x"}}), "headers.not a name"),
        (json!({"redirect": "a\nb"}), "redirect"),
    ] {
        refused(&emulator, "POST", "faults", fault, field).await;
    }
    assert_eq!(obeyed(&emulator, "GET", "faults", Value::Null).await, json!({"faults": []}));
}

#[tokio::test]
async fn the_clock_is_moved_and_stopped() {
    let emulator = Emulator::in_memory();
    let set = json!({"set": "2030-01-01T00:00:00Z", "freeze": true});
    let shown = obeyed(&emulator, "POST", "clock", set).await;
    assert_eq!(shown, json!({"now": "2030-01-01T00:00:00Z", "frozen": true, "movable": true}));
    let shown = obeyed(&emulator, "POST", "clock", json!({"advance": 1.5})).await;
    assert_eq!(shown["now"], "2030-01-01T00:00:01.5Z");
    assert_eq!(token(&emulator).await.claims()["iat"], 1_893_456_001);
    assert_eq!(obeyed(&emulator, "POST", "clock", json!({"resume": true})).await["frozen"], false);
    for (body, field) in [
        (json!({}), ""),
        (json!({"freeze": true, "resume": true}), ""),
        (json!({"advance": 1, "set": "2030-01-01T00:00:00Z"}), ""),
        (json!({"advance": "1"}), "advance"),
        (json!({"advance": 1e300}), "advance"),
        (json!({"advance": 999_999_999_999_999_u64, "freeze": true}), "advance"),
        (json!({"set": "tomorrow"}), "set"),
        (json!({"speed": 2}), "speed"),
    ] {
        refused(&emulator, "POST", "clock", body, field).await;
    }
    assert!(!emulator.clock().is_frozen(), "what was refused did nothing");
    let given = Clock::new().builder().in_memory();
    assert_eq!(drive(&given, "POST", "clock", json!({"advance": 1})).await.status, 409);
    assert_eq!(obeyed(&given, "GET", "clock", Value::Null).await["movable"], false);
}

#[tokio::test]
async fn the_journal_is_read_in_parts_and_forgotten() {
    let emulator = Emulator::in_memory();
    token(&emulator).await;
    ask(&emulator, post(TOKEN_PATH, &with("client_secret", "wrong"))).await;
    identify(&emulator, get(IMDS, &[("metadata", "true")])).await;
    let read = async |query: &str| {
        let shown = obeyed(&emulator, "GET", &format!("journal{query}"), Value::Null).await;
        let entries = shown["entries"].as_array().unwrap().iter();
        entries.map(|entry| entry["number"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(read("").await, [1, 2, 3]);
    assert_eq!(read("?after=1").await, [2, 3]);
    assert_eq!(read("?after=1&limit=1").await, [2]);
    assert_eq!(read("?endpoint=identity").await, [3]);
    assert_eq!(read("?status=401").await, [2]);
    assert_eq!(read("?aadsts=7000215&path=/token&client_id=AAAAAAAA-0000-0000-0000-000000000002").await, [2]);
    assert!(read("?user=alice@contoso.test").await.is_empty());
    let shown = obeyed(&emulator, "GET", "journal?limit=2", Value::Null).await;
    assert_eq!((&shown["arrived"], &shown["last"]), (&json!(3), &json!(2)));
    assert_eq!(shown["entries"][1]["error"], "invalid_client");
    for (query, field) in
        [("after=x", "after"), ("status=x", "status"), ("endpoint=x", "endpoint"), ("x=1", "x")]
    {
        refused(&emulator, "GET", &format!("journal?{query}"), Value::Null, field).await;
    }
    obeyed(&emulator, "DELETE", "journal", Value::Null).await;
    assert!(read("").await.is_empty() && emulator.journal().is_empty());
}

#[tokio::test]
async fn keys_are_rotated_and_retired() {
    let emulator = Emulator::in_memory();
    let keys = async || {
        let answer = ask(&emulator, get("/contoso.test/discovery/v2.0/keys", &[])).await;
        answer.json()["keys"].as_array().unwrap().len()
    };
    obeyed(&emulator, "POST", "keys", json!({"rotate": true})).await;
    assert_eq!(keys().await, 2);
    obeyed(&emulator, "POST", "keys", json!({"retire": true})).await;
    assert_eq!(keys().await, 1);
    refused(&emulator, "POST", "keys", json!({}), "").await;
    refused(&emulator, "POST", "keys", json!({"burn": true}), "burn").await;
}

#[tokio::test]
async fn a_delayed_answer_comes_once_the_clock_is_moved_over_a_socket() {
    let emulator = Emulator::start().await.unwrap();
    let client = client();
    let hour = Duration::from_secs(3600).as_secs();
    let added = control("POST", "faults", &json!({"status": 503, "delay": hour}));
    assert_eq!(send(&client, emulator.authority(), added).await.unwrap().status(), 201);
    let waiting = tokio::spawn({
        let (client, base) = (client.clone(), emulator.authority().to_owned());
        async move { send(&client, &base, post(TOKEN_PATH, &good())).await.unwrap().status() }
    });
    emulator.journal().wait_for(1).await;
    while !waiting.is_finished() {
        let moved = control("POST", "clock", &json!({"advance": hour}));
        assert_eq!(send(&client, emulator.identity_endpoint(), moved).await.unwrap().status(), 200);
    }
    assert_eq!(waiting.await.unwrap(), 503);
}

#[tokio::test]
async fn a_workload_gets_its_issuers_token_and_an_app_trust_in_it() {
    let emulator = Emulator::in_memory();
    let (issuer, subject) = ("https://oidc.cluster.test/", "system:serviceaccount:shop:orders");
    obeyed(&emulator, "PATCH", "directory", json!({"issuers": [{"url": issuer}]})).await;
    let trust = json!({"client_id": sample::CERT_APP, "issuer": issuer, "subject": subject});
    obeyed(&emulator, "POST", "directory/actions", json!({"add_federated": trust})).await;
    let minted = json!({"issuer": issuer, "subject": subject});
    let assertion = obeyed(&emulator, "POST", "assertions", minted).await["assertion"].clone();
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", sample::CERT_APP),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", assertion.as_str().unwrap()),
        ("scope", STORAGE_SCOPE),
    ];
    assert_eq!(ask(&emulator, post(TOKEN_PATH, &form)).await.status, 200);
    obeyed(&emulator, "POST", "directory/actions", json!({"remove_federated": trust})).await;
    ask(&emulator, post(TOKEN_PATH, &form)).await.is_entra_error(400, "invalid_request", 70021);

    let unknown = json!({"issuer": "https://other.test", "subject": "x"});
    assert_eq!(drive(&emulator, "POST", "assertions", unknown).await.status, 404);
    refused(&emulator, "POST", "assertions", json!({"issuer": issuer}), "subject").await;
    assert_eq!(drive(&emulator, "GET", "assertions", Value::Null).await.status, 405);
    let pem = json!({"add_certificate": {"client_id": sample::CERT_APP, "pem": "no certificate"}});
    refused(&emulator, "POST", "directory/actions", pem, "add_certificate.pem").await;
}

#[tokio::test]
async fn a_fault_for_a_tenant_meets_it_by_id_and_by_domain_and_counts_whom_it_met() {
    for (wanted, path) in [("contoso.test", sample::TENANT), (sample::TENANT, "CONTOSO.test")] {
        let emulator = Emulator::in_memory();
        obeyed(&emulator, "POST", "faults", json!({"tenant": wanted, "status": 503})).await;
        let path = TOKEN_PATH.replace(sample::TENANT, path);
        assert_eq!(ask(&emulator, post(&path, &good())).await.status, 503);
        let elsewhere = TOKEN_PATH.replace(sample::TENANT, sample::OTHER_TENANT);
        assert_eq!(ask(&emulator, post(&elsewhere, &good())).await.status, 200);
        let faults = obeyed(&emulator, "GET", "faults", Value::Null).await;
        assert_eq!(faults["faults"][0]["met"], 1);
    }
}
