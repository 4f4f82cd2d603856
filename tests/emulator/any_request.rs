//! Whatever is sent, and wherever to: there is an answer, in the shape of the place, and never a panic.

#![expect(clippy::unwrap_used, reason = "what goes wrong here fails a test")]

use crate::support::*;
use bytes::Bytes;
use entra_broker::emulator::{Emulator, Endpoint, sample};
use http::{Method, Request};
use proptest::prelude::*;

const PATHS: &[&str] = &[
    "/T/oauth2/v2.0/token",
    "/T/oauth2/token",
    "/T/oauth2/v2.0/devicecode",
    "/T/oauth2/devicecode",
    "/T/v2.0/.well-known/openid-configuration",
    "/T/.well-known/openid-configuration",
    "/T/discovery/v2.0/keys",
    "/T/discovery/instance",
    "/T/oauth2/v2.0/authorize",
    "/T/oauth2/deviceauth",
    "/T/login",
    "/T/consent",
    "/T/v2.0/adminconsent",
    "/T/oauth2/v2.0/logout",
    "/error",
    "/_emulator/",
    "/_emulator/directory",
    "/_emulator/directory/actions",
    "/_emulator/faults",
    "/_emulator/clock",
    "/_emulator/journal",
    "/_emulator/keys",
    "/metadata/identity/oauth2/token",
    "/msi/token",
    "/cloudshell",
    "/ml/token",
    "/sf/token",
    "/arc/token",
];

const TENANTS: &[&str] =
    &[sample::TENANT, "contoso.test", "common", "organizations", "consumers", "%00", ".."];

const NAMES: &[&str] = &[
    "grant_type",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "assertion",
    "requested_token_use",
    "scope",
    "resource",
    "code",
    "device_code",
    "refresh_token",
    "redirect_uri",
    "code_verifier",
    "claims",
    "username",
    "password",
    "api-version",
    "response_type",
    "after",
    "advance",
];

const VALUES: &[&str] = &[
    "client_credentials",
    "authorization_code",
    "refresh_token",
    "password",
    "device_code",
    "urn:ietf:params:oauth:grant-type:jwt-bearer",
    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    sample::SECRET_APP,
    sample::PUBLIC_APP,
    sample::ALICE,
    STORAGE_SCOPE,
    "User.Read offline_access openid",
    "2018-02-01",
    "2019-08-01",
    "on_behalf_of",
    "code",
    "eyJhbGciOiJSUzI1NiJ9.e30.AAAA",
    r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#,
    "",
];

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(VALUES).prop_map(str::to_owned),
        1 => "[ -~]{0,40}",
        1 => any::<String>(),
    ]
}

fn pairs() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop_oneof![8 => prop::sample::select(NAMES).prop_map(str::to_owned), 1 => "[a-z_]{0,12}"];
    prop::collection::vec((name, text()), 0..8)
}

fn body() -> impl Strategy<Value = (String, Vec<u8>)> {
    let form = "application/x-www-form-urlencoded".to_owned();
    let sent = |mut pairs: Vec<(String, String)>| {
        pairs.extend(["client_secret", "password"].map(|name| (name.to_owned(), sample::SECRET.to_owned())));
        url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish().into_bytes()
    };
    let json = prop_oneof![
        pairs().prop_map(|pairs| {
            let object: serde_json::Map<_, _> = pairs.into_iter().map(|(n, v)| (n, v.into())).collect();
            serde_json::Value::Object(object).to_string().into_bytes()
        }),
        prop::collection::vec(any::<u8>(), 0..60),
        Just(vec![b'['; 10_000]),
    ];
    prop_oneof![
        6 => pairs().prop_map(move |pairs| (form.clone(), sent(pairs))),
        2 => json.prop_map(|body| ("application/json".to_owned(), body)),
        1 => ("[ -~]{0,20}", prop::collection::vec(any::<u8>(), 0..60)),
    ]
}

fn header() -> impl Strategy<Value = (&'static str, String)> {
    const NAMES: &[&str] = &[
        "authorization",
        "metadata",
        "x-identity-header",
        "secret",
        "cookie",
        "host",
        "origin",
        "client-request-id",
        "return-client-request-id",
    ];
    let values = prop_oneof![
        Just("true".to_owned()),
        Just(sample::APP_SERVICE_HEADER.to_owned()),
        Just("Basic Og==".to_owned()),
        "[ -~]{0,40}"
    ];
    (prop::sample::select(NAMES), values)
}

fn request() -> impl Strategy<Value = Request<Bytes>> {
    let method = prop::sample::select(vec!["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"]);
    let path = (prop::sample::select(PATHS), prop::sample::select(TENANTS))
        .prop_map(|(path, tenant)| path.replacen("/T/", &format!("/{tenant}/"), 1));
    let headers = prop::collection::vec(header(), 0..4);
    (method, path, pairs(), headers, body()).prop_map(|(method, path, query, headers, (kind, body))| {
        let query: Vec<(&str, &str)> = query.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let uri = format!("{path}?{}", encoded(&query));
        let mut request = Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(uri);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request.header("content-type", kind).body(body.into()).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn there_is_an_answer_to_every_request(requests in prop::collection::vec(request(), 1..4)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let emulator = Emulator::in_memory();
            for request in requests {
                for endpoint in [Endpoint::TokenService, Endpoint::Identity] {
                    let (parts, body) = request.clone().into_parts();
                    let is_token = parts.uri.path().ends_with("/token") && parts.method == Method::POST;
                    let again = Request::from_parts(parts, body);
                    let Ok(answer) = call(&emulator, endpoint, again).await else {
                        // Only a fault breaks a connection, and the request may have ordered one.
                        emulator.faults().clear();
                        continue;
                    };
                    assert!((200..600).contains(&answer.status.as_u16()));
                    assert_ne!(answer.status, 500, "{:?}", answer.body);
                    if endpoint == Endpoint::TokenService && is_token && answer.status.is_client_error() {
                        assert!(answer.json()["error"].is_string());
                        assert!(answer.json()["trace_id"].is_string());
                    }
                    let journal = format!("{:?}", emulator.journal().entries());
                    assert!(!journal.contains(sample::SECRET), "{journal}");
                }
            }
        });
    }
}
