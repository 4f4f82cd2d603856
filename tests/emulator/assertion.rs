//! Apps that prove themselves with a certificate.

use crate::signer::*;
use crate::support::*;
use entra_broker::emulator::{App, Certificate, Emulator, sample};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::time::Duration;

/// An emulator at the time of [`NOW`], with the first key's certificate registered.
fn registered() -> (Clock, Emulator) {
    let clock = Clock::new();
    let emulator = clock.builder().in_memory();
    assert!(emulator.directory().add_certificate(sample::CERT_APP, Signer::first().certificate()));
    (clock, emulator)
}

fn form(assertion: &str) -> Vec<(&str, &str)> {
    vec![
        ("grant_type", "client_credentials"),
        ("client_id", sample::CERT_APP),
        ("client_assertion_type", JWT_BEARER),
        ("client_assertion", assertion),
        ("scope", STORAGE_SCOPE),
    ]
}

async fn present(emulator: &Emulator, assertion: &str) -> Answer {
    ask(emulator, post(TOKEN_PATH, &form(assertion))).await
}

fn header() -> Value {
    json!({"alg": "PS256", "typ": "JWT", "x5t#S256": base64url(&Signer::first().certificate().thumbprint_sha256())})
}

fn changed(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

fn good_assertion() -> String {
    Signer::first().sign(&header(), &own_claims())
}

#[tokio::test]
async fn a_certificates_key_gets_a_token_that_says_so() {
    let (_, emulator) = registered();
    let claims = present(&emulator, &good_assertion()).await.claims();
    assert_eq!(claims["appid"], sample::CERT_APP);
    assert_eq!(claims["appidacr"], "2");
}

#[tokio::test]
async fn both_algorithms_and_every_spelling_of_the_thumbprint_are_taken() {
    let (_, emulator) = registered();
    let certificate = Signer::first().certificate();
    let (sha1, sha256) = (certificate.thumbprint(), certificate.thumbprint_sha256());
    let padded = format!("{}=", base64url(&sha1));
    for (name, value) in [
        ("x5t#S256", base64url(&sha256)),
        ("x5t", base64url(&sha1)),
        ("x5t", padded.clone()),
        ("x5t", padded.replace('-', "+").replace('_', "/")),
        ("kid", sha1.clone()),
        ("kid", sha1.to_lowercase()),
        ("kid", base64url(&sha1)),
        ("kid", sha256.clone()),
    ] {
        for algorithm in ["PS256", "RS256"] {
            let assertion = Signer::first().sign(&json!({"alg": algorithm, name: value}), &own_claims());
            let answer = present(&emulator, &assertion).await;
            assert_eq!(answer.status, 200, "{algorithm} {name} {value}: {:?}", answer.body);
        }
    }
}

#[tokio::test]
async fn an_assertion_may_be_sent_again_until_it_expires() {
    let (clock, emulator) = registered();
    let assertion = good_assertion();
    for _ in 0..3 {
        assert_eq!(present(&emulator, &assertion).await.status, 200);
    }
    clock.advance(Duration::from_secs(600 + 300));
    assert_eq!(present(&emulator, &assertion).await.status, 200);
    clock.advance(Duration::from_secs(1));
    present(&emulator, &assertion).await.is_entra_error(401, "invalid_client", 700024);
}

#[tokio::test]
async fn an_assertion_from_the_future_is_refused_beyond_five_minutes() {
    let (_, emulator) = registered();
    for (ahead, status) in [(300, 200), (301, 401)] {
        let claims = changed(own_claims(), "nbf", json!(NOW + ahead));
        let answer = present(&emulator, &Signer::first().sign(&header(), &claims)).await;
        assert_eq!(answer.status, status, "{:?}", answer.body);
        if status == 401 {
            answer.is_entra_error(401, "invalid_client", 700024);
        }
    }
}

#[tokio::test]
async fn every_name_of_the_tenants_token_endpoint_is_an_audience_and_no_other_is() {
    let (_, emulator) = registered();
    let (here, tenant) = (emulator.authority(), sample::TENANT);
    let public = "https://login.microsoftonline.com";
    for audience in [
        V2_TOKEN.to_owned(),
        format!("{here}/{tenant}/oauth2/v2.0/token"),
        format!("{here}/{tenant}/oauth2/token"),
        format!("{here}/{tenant}/v2.0"),
        format!("{here}/contoso.test/oauth2/v2.0/token"),
        format!("{public}/contoso.test/v2.0"),
        format!("https://login.windows.net/{tenant}/oauth2/token"),
        format!("https://sts.windows.net/{tenant}/"),
    ] {
        let claims = changed(own_claims(), "aud", json!(audience));
        let answer = present(&emulator, &Signer::first().sign(&header(), &claims)).await;
        assert_eq!(answer.status, 200, "{audience}: {:?}", answer.body);
    }
    for audience in [
        String::new(),
        "api://AzureADTokenExchange".to_owned(),
        format!("{public}/{}/oauth2/v2.0/token", sample::OTHER_TENANT),
        format!("{public}/common/oauth2/v2.0/token"),
        format!("{public}.evil.test/{tenant}/oauth2/v2.0/token"),
        format!("https://evil.test/{tenant}/oauth2/v2.0/token"),
        format!("{public}/{tenant}/oauth2/v2.0/authorize"),
        format!("{public}/{tenant}"),
    ] {
        let claims = changed(own_claims(), "aud", json!(audience));
        let answer = present(&emulator, &Signer::first().sign(&header(), &claims)).await;
        answer.is_entra_error(401, "invalid_client", 700023);
    }
}

#[tokio::test]
async fn an_audience_is_the_one_of_the_host_that_was_asked() {
    let (_, emulator) = registered();
    let claims = changed(own_claims(), "aud", json!(format!("http://localhost:77/{}/v2.0", sample::TENANT)));
    let assertion = Signer::first().sign(&header(), &claims);
    let mut request = post(TOKEN_PATH, &form(&assertion));
    request.headers_mut().insert("host", "localhost:77".parse().unwrap());
    assert_eq!(ask(&emulator, request).await.status, 200);
    present(&emulator, &assertion).await.is_entra_error(401, "invalid_client", 700023);
}

#[tokio::test]
async fn a_key_that_is_not_registered_is_named_beside_those_that_are() {
    let (_, emulator) = registered();
    let stranger = Signer::second().certificate();
    let named = json!({"alg": "PS256", "x5t#S256": base64url(&stranger.thumbprint_sha256())});
    let answer = present(&emulator, &Signer::second().sign(&named, &own_claims())).await;
    answer.is_entra_error(401, "invalid_client", 700027);
    let text = answer.json()["error_description"].to_string();
    assert!(text.contains("The key was not found."), "{text}");
    assert!(text.contains(&stranger.thumbprint_sha256()), "{text}");
    assert!(text.contains(&Signer::first().certificate().thumbprint()), "{text}");

    let directory = emulator.directory();
    assert_eq!(present(&emulator, &good_assertion()).await.status, 200);
    assert!(directory.remove_certificate(sample::CERT_APP, &Signer::first().certificate().thumbprint()));
    present(&emulator, &good_assertion()).await.is_entra_error(401, "invalid_client", 700027);
}

#[tokio::test]
async fn a_signature_of_another_key_or_over_other_claims_is_refused() {
    let (_, emulator) = registered();
    let foreign = Signer::second().sign(&header(), &own_claims());
    let good = good_assertion();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header_part, _) = signed.split_once('.').unwrap();
    let other = Signer::first().sign(&header(), &changed(own_claims(), "jti", json!("2")));
    let payload = other.split('.').nth(1).unwrap();
    let mixed = format!("{header_part}.{payload}.{signature}");
    // The same bytes under another algorithm's name.
    let renamed = Signer::first().sign(&changed(header(), "alg", json!("RS256")), &own_claims());
    let renamed = format!("{header_part}.{}", renamed.split_once('.').unwrap().1);
    for assertion in [foreign, mixed, renamed, format!("{signed}."), format!("{signed}.AAAA")] {
        let answer = present(&emulator, &assertion).await;
        answer.is_entra_error(401, "invalid_client", 700027);
        assert!(answer.json()["error_description"].to_string().contains("signature value did not match"));
    }
}

#[tokio::test]
async fn only_two_algorithms_are_taken() {
    let (_, emulator) = registered();
    for algorithm in ["none", "HS256", "ES256", "RS512", "PS384", "rs256", ""] {
        let assertion = Signer::first().sign(&changed(header(), "alg", json!(algorithm)), &own_claims());
        let answer = present(&emulator, &assertion).await;
        answer.is_entra_error(401, "invalid_client", 50027);
    }
}

#[tokio::test]
async fn what_is_no_assertion_is_called_malformed() {
    let (_, emulator) = registered();
    let sign = |header: &Value, claims: &Value| Signer::first().sign(header, claims);
    let mut without_expiry = own_claims();
    without_expiry.as_object_mut().unwrap().remove("exp");
    for assertion in [
        "a.b.c".to_owned(),
        "e30.e30.".to_owned(),
        sign(&json!({"alg": "PS256"}), &own_claims()),
        sign(&json!({"alg": "PS256", "x5t": "no thumbprint"}), &own_claims()),
        sign(&changed(header(), "crit", json!(["exp"])), &own_claims()),
        sign(&header(), &without_expiry),
        sign(&header(), &changed(own_claims(), "exp", json!("1800000600"))),
        sign(&header(), &changed(own_claims(), "nbf", json!("1800000000"))),
        // The one list of audiences that Entra does not take.
        sign(&header(), &changed(own_claims(), "aud", json!([V2_TOKEN]))),
        sign(&header(), &changed(own_claims(), "iss", json!(7))),
    ] {
        present(&emulator, &assertion).await.is_entra_error(401, "invalid_client", 50027);
    }
}

#[tokio::test]
async fn an_assertion_speaks_of_the_client_that_presents_it() {
    let (_, emulator) = registered();
    let other =
        changed(changed(own_claims(), "iss", json!(sample::SECRET_APP)), "sub", json!(sample::SECRET_APP));
    let answer = present(&emulator, &Signer::first().sign(&header(), &other)).await;
    answer.is_entra_error(401, "invalid_client", 700021);
    let other = changed(own_claims(), "sub", json!(sample::SECRET_APP));
    let answer = present(&emulator, &Signer::first().sign(&header(), &other)).await;
    answer.is_entra_error(401, "invalid_client", 50048);
}

#[tokio::test]
async fn the_assertions_type_is_required_and_is_one_only() {
    let (_, emulator) = registered();
    let assertion = good_assertion();
    let mut form = form(&assertion);
    form.retain(|(name, _)| *name != "client_assertion_type");
    ask(&emulator, post(TOKEN_PATH, &form)).await.is_entra_error(400, "invalid_request", 900144);
    form.push(("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"));
    ask(&emulator, post(TOKEN_PATH, &form)).await.is_entra_error(400, "invalid_request", 90011);
}

#[tokio::test]
async fn a_certificate_counts_only_within_its_own_validity() {
    let clock = Clock::new();
    let emulator = clock.builder().in_memory();
    for (from, until, reason) in [(2020, 2027, "expired"), (2028, 2030, "not valid yet")] {
        let certificate = Signer::first().certificate_of(|params| {
            params.not_before = rcgen::date_time_ymd(from, 1, 1);
            params.not_after = rcgen::date_time_ymd(until, 1, 1);
        });
        emulator.directory().add_certificate(sample::CERT_APP, certificate.clone());
        let named = json!({"alg": "PS256", "x5t": base64url(&certificate.thumbprint())});
        let answer = present(&emulator, &Signer::first().sign(&named, &own_claims())).await;
        answer.is_entra_error(401, "invalid_client", 700027);
        assert!(answer.json()["error_description"].to_string().contains(reason), "{:?}", answer.body);
    }
}

#[tokio::test]
async fn a_public_client_has_no_assertion() {
    let (_, emulator) = registered();
    let assertion = good_assertion();
    let mut form = form(&assertion);
    form[1] = ("client_id", sample::PUBLIC_APP);
    ask(&emulator, post(TOKEN_PATH, &form)).await.is_entra_error(401, "invalid_client", 700025);
}

#[tokio::test]
async fn a_trusted_authoritys_certificate_with_the_right_name_need_not_be_registered() {
    let clock = Clock::new();
    let emulator = clock.builder().in_memory();
    let authority = Signer::second().authority("Contoso issuing CA");
    let trusted = Certificate::from_der(authority.der()).unwrap();
    let app = App::new(sample::CERT_APP, sample::TENANT).trusted_issuer(trusted, "app.contoso.test");
    emulator.directory().add_app(app);

    let leaf = Signer::first().issued(&authority, "app.contoso.test", |_| {});
    let other_name = Signer::first().issued(&authority, "evil.contoso.test", |_| {});
    let expired = Signer::first().issued(&authority, "app.contoso.test", |params| {
        params.not_after = rcgen::date_time_ymd(2026, 1, 1);
    });
    let by_dns_name = Signer::first().issued(&authority, "other", |params| {
        params.subject_alt_names = vec![rcgen::SanType::DnsName("app.contoso.test".try_into().unwrap())];
    });
    // An issued certificate makes no certificates.
    let as_authority = rcgen::Issuer::new(params("app.contoso.test", |_| {}), Signer::first().rcgen());
    let made = params("app.contoso.test", |params| params.serial_number = Some(7.into()));
    let made = made.signed_by(&Signer::first().rcgen(), &as_authority).unwrap();
    let made = Certificate::from_der(made.der()).unwrap();
    let self_signed = Signer::first().certificate();
    let standard = |certificate: &Certificate| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(certificate.der())
    };
    let sign = |certificate: &Certificate, chain: Value| {
        let header = json!({"alg": "PS256", "x5t": base64url(&certificate.thumbprint()), "x5c": chain});
        Signer::first().sign(&header, &own_claims())
    };
    let ca = Certificate::from_der(authority.der()).unwrap();

    for chain in [json!([standard(&leaf)]), json!([standard(&leaf), standard(&ca)])] {
        assert_eq!(present(&emulator, &sign(&leaf, chain)).await.status, 200);
    }
    let chain = json!([standard(&by_dns_name)]);
    assert_eq!(present(&emulator, &sign(&by_dns_name, chain)).await.status, 200);
    let answer = present(&emulator, &sign(&other_name, json!([standard(&other_name)]))).await;
    answer.is_entra_error(401, "invalid_client", 700030);
    for (certificate, chain) in [
        (&leaf, json!([])),
        (&leaf, Value::Null),
        (&leaf, json!(["AAAA"])),
        (&leaf, json!([standard(&ca), standard(&leaf)])),
        (&expired, json!([standard(&expired)])),
        (&self_signed, json!([standard(&self_signed)])),
        (&self_signed, json!([standard(&self_signed), standard(&leaf)])),
        (&self_signed, json!([standard(&leaf)])),
        (&made, json!([standard(&made), standard(&leaf)])),
    ] {
        let answer = present(&emulator, &sign(certificate, chain.clone())).await;
        answer.is_entra_error(401, "invalid_client", 700027);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn no_assertion_makes_the_service_fail(text in "\\PC{0,80}", name in "[a-zA-Z0-9#]{1,8}", number: f64, cut in 0..1200_usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (_, emulator) = registered();
        let claims = changed(own_claims(), &name, json!(number));
        let mut cut_off = good_assertion();
        cut_off.truncate(cut % cut_off.len());
        let assertions = [
            Signer::first().sign(&changed(header(), &name, json!(text)), &changed(own_claims(), "exp", json!(number))),
            Signer::first().sign(&changed(header(), "kid", json!(text)), &claims),
            Signer::first().sign(&json!({"alg": "RS256", "kid": text}), &changed(claims, "iss", json!(text))),
            cut_off,
            text,
        ];
        for assertion in &assertions {
            let answer = runtime.block_on(present(&emulator, assertion));
            prop_assert!(answer.status.as_u16() < 500, "{assertion}");
        }
    }
}
