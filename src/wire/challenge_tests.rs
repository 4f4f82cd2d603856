use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use http::HeaderValue;
use proptest::prelude::*;

use super::*;

/// Base64 of it has all characters in which the alphabets differ, and wants padding.
const CLAIMS: &str = r#"{"access_token":{"nbf":{"value":"1800000000"},"x":"~~~???>>>ÿ"}}"#;
const GUID: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";

fn headers(values: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(WWW_AUTHENTICATE, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

fn of(value: &str) -> BearerChallenge {
    BearerChallenge::from_headers(&headers(&[value])).unwrap().unwrap()
}

fn refused(values: &[&str]) -> Error {
    let error = BearerChallenge::from_headers(&headers(values)).unwrap_err();
    assert_eq!((error.kind(), error.blame()), (ErrorKind::Protocol, Blame::Service));
    error
}

fn challenge(claims: &str) -> String {
    format!(
        r#"Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", error="insufficient_claims", claims="{claims}""#
    )
}

#[test]
fn claims_are_read_in_either_alphabet_padded_or_not_or_as_they_are() {
    let wanted = Claims::parse(CLAIMS).unwrap();
    let engines: [&GeneralPurpose; 4] = [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD];
    let encoded: Vec<_> = engines.iter().map(|engine| engine.encode(CLAIMS)).collect();
    assert!(encoded[0].contains(['+', '/']) && encoded[0].ends_with('=') && encoded[2].contains(['-', '_']));
    for claims in &encoded {
        for text in [
            challenge(claims),
            format!("Bearer claims={claims}"),
            format!("Bearer error=insufficient_claims claims={claims} realm=x"),
        ] {
            assert_eq!(of(&text).claims(), Some(&wanted), "{text}");
            assert_eq!(Claims::from_challenge(&headers(&[&text])).unwrap().as_ref(), Some(&wanted));
        }
    }
    let quoted = CLAIMS.replace('"', "\\\"");
    assert_eq!(of(&challenge(&quoted)).claims(), Some(&wanted));
}

#[test]
fn what_azures_services_write_is_read() {
    let login = format!("https://login.windows.net/{GUID}/oauth2/authorize");
    for (text, resource) in [
        // Key Vault.
        (
            format!(r#"Bearer authorization="{login}", resource="https://vault.azure.net""#),
            "https://vault.azure.net",
        ),
        // Storage.
        (
            format!("Bearer authorization_uri={login} resource_id=https://storage.azure.com"),
            "https://storage.azure.com",
        ),
        // Dynamics.
        (
            format!("Bearer authorization_uri={login}, resource_id=https://x.crm.dynamics.com/"),
            "https://x.crm.dynamics.com/",
        ),
        // An OData gateway, with a comma at the end, and a blank too many at the start.
        (format!(r#"Bearer  authorization_uri="{login}", resource="api://x" ,"#), "api://x"),
        (format!("bearer Authorization_Uri=\"{login}\"\t,RESOURCE = \"a \\\"b\\\" \\\\\""), r#"a "b" \"#),
    ] {
        let challenge = of(&text);
        assert_eq!(challenge.authorization_uri(), Some(login.as_str()), "{text}");
        assert_eq!(challenge.tenant(), Some(TenantId::parse(GUID).unwrap()), "{text}");
        assert_eq!(challenge.resource(), Some(resource), "{text}");
        assert_eq!((challenge.error(), challenge.claims()), (None, None));
    }
    // DevOps: others beside it, one of them without parameters.
    let text = format!(
        r#"Bearer authorization_uri={login}, Basic realm="https://x.visualstudio.com/", TFS-Federated"#
    );
    assert_eq!(of(&text).authorization_uri(), Some(login.as_str()));
    assert_eq!(of(&text).parameter("realm"), None, "that is another scheme's");
}

#[test]
fn the_challenge_that_demands_claims_is_the_one_of_several() {
    let claims = URL_SAFE_NO_PAD.encode("{}");
    let with = format!(r#"Bearer error="insufficient_claims", claims="{claims}""#);
    for values in [
        vec![with.as_str()],
        vec!["Negotiate", "NTLM", &with],
        vec!["Negotiate YIIF/w+gAw==", "Bearer realm=\"x\"", &with],
        vec![&*format!("Basic realm=\"a, Bearer claims=\\\"b\\\"\", {with}")],
        vec![&*format!("Negotiate YIIF/w+gAw==, Bearer realm=x, {with}, PoP nonce=\"{claims}\"")],
        vec![&*format!("PoP claims=\"!\", {with}")],
        vec![&*format!("Digest realm=\"M\u{fc}ller\", {with}")],
    ] {
        let found = BearerChallenge::from_headers(&headers(&values)).unwrap().unwrap();
        assert_eq!(found.claims().map(Claims::as_str), Some("{}"), "{values:?}");
        assert_eq!(found.error(), Some("insufficient_claims"), "{values:?}");
    }
    let first = BearerChallenge::from_headers(&headers(&["Bearer realm=a", "Bearer realm=b"])).unwrap();
    assert_eq!(first.unwrap().parameter("realm"), Some("a"));
}

#[test]
fn where_there_is_no_bearer_challenge_there_is_none() {
    for values in
        [&[][..], &[""], &[",, ,"], &["Basic realm=\"Bearer\""], &["=", "\"Bearer claims=x"], &["Bearer/x"]]
    {
        assert_eq!(BearerChallenge::from_headers(&headers(values)).unwrap(), None, "{values:?}");
    }
    assert_eq!(of("Bearer").error(), None);
    for none in ["Bearer claims=\"\"", "Bearer claims=\" \"", "Bearer error=invalid_token, claims=\"e30"] {
        assert_eq!(of(none).claims(), None, "{none}");
    }
}

#[test]
fn only_a_tenant_is_one() {
    for (uri, tenant) in [
        ("https://login.microsoftonline.com/contoso.com/x", Some("contoso.com")),
        ("https://login.microsoftonline.com/common/oauth2/authorize", None),
        ("https://login.microsoftonline.com", None),
        ("https://login.microsoftonline.com/%2e%2e/x", None),
        ("contoso.com", None),
        ("", None),
    ] {
        let found = of(&format!("Bearer authorization_uri=\"{uri}\"")).tenant();
        assert_eq!(found.as_ref().map(TenantId::as_str), tenant, "{uri}");
    }
}

#[test]
fn claims_that_make_no_sense_are_an_error_that_does_not_repeat_them() {
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let deep = format!("{{\"a\":{}", "[".repeat(30_000));
    for claims in [
        "hunter2!".to_owned(),
        text(b"hunter2"),
        text(b"[]"),
        text(b"\xff"),
        "{hunter2".to_owned(),
        text(deep.as_bytes()),
    ] {
        let error = refused(&[&format!("Bearer claims=\"{claims}\"")]);
        assert!(
            !format!("{error:?}").contains("hunter2") && error.to_string().contains("its claims"),
            "{error:?}"
        );
    }
    refused(&["Bearer claims=e30, Claims=e30"]);
    refused(&[&format!("Basic realm=\"{}\"", "a".repeat(40_000)), &"a".repeat(40_000)]);
}

#[test]
fn debug_shows_names_and_no_values() {
    let shown = format!("{:?}", of("Bearer realm=hunter2, claims=e30"));
    assert!(shown.contains("realm") && !shown.contains("hunter2"), "{shown}");
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(values in prop::collection::vec(prop::collection::vec(32_u8.., 0..80), 0..4)) {
        let mut headers = HeaderMap::new();
        for value in values {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.append(WWW_AUTHENTICATE, value);
            }
        }
        let _ = BearerChallenge::from_headers(&headers);
    }

    #[test]
    fn what_looks_like_a_challenge_is_read_without_a_panic(
        text in "((Bearer|Basic|claims|error|,|=|\"|\\\\| |\t|e30|ü|/)){0,24}"
    ) {
        let _ = BearerChallenge::from_headers(&headers(&[&text]));
    }

    #[test]
    fn both_parsers_agree_on_what_both_take(
        text in "([A-Za-z]{1,3}( [a-z]{1,3}[ \t]{0,1}=[ \t]{0,1}([a-z]{1,3}|\"([a-z ,=]|\\\\[\"\\\\]){0,6}\")([ \t]?,[ \t]?[a-z]{1,3}=[a-z]{1,2}){0,3})?[ \t]?,?[ \t]?){1,3}"
    ) {
        if let Some(strict) = strict(&text) {
            prop_assert_eq!(strict, lenient(&text));
        }
    }

    #[test]
    fn claims_survive_the_way(value in "\\PC{0,40}", quoted in any::<bool>()) {
        let claims = Claims::parse(&serde_json::json!({ "a": value }).to_string()).unwrap();
        let encoded = STANDARD.encode(claims.as_str());
        let text = if quoted { format!("Bearer claims=\"{encoded}\"") } else { format!("Bearer claims={encoded}") };
        let read = of(&text);
        prop_assert_eq!(read.claims(), Some(&claims));
    }
}
