use http::HeaderValue;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    Blame,
    wire::testing::{self, App, MARKER, now},
};

fn parse(status: u16, body: impl AsRef<[u8]>) -> Result<TokenAnswer, Error> {
    let mut headers = HeaderMap::new();
    headers.insert("x-ms-request-id", HeaderValue::from_static("trace-1"));
    let app = App::new();
    parse_token_answer(status, &headers, body.as_ref(), &app.asked())
}

fn ok(body: &Value) -> TokenAnswer {
    parse(200, body.to_string()).unwrap()
}

fn shown(error: &Error) -> String {
    let source = std::error::Error::source(error).map(|source| format!("{source} {source:?}"));
    format!("{error} {error:?} {error:#?} {} {source:?}", error.advice())
}

#[test]
fn an_app_token_is_read() {
    let answer = ok(
        &json!({"token_type":"Bearer","expires_in":3599,"ext_expires_in":3599,"access_token":"ey.a-b_c~+/="}),
    );
    assert_eq!(answer.access_token.expose(), "ey.a-b_c~+/=");
    assert_eq!(answer.lifetime, Duration::from_secs(3599));
    assert!(answer.refresh_in.is_none() && answer.scopes.is_none() && answer.refresh_token.is_none());
}

#[test]
fn a_user_token_brings_what_belongs_to_it() {
    let info = URL_SAFE_NO_PAD.encode(r#"{"uid":"u-1","utid":"t-1"}"#);
    let answer = ok(&json!({
        "token_type": "bearer", "expires_in": "86400", "refresh_in": "43200", "access_token": "access",
        "refresh_token": "refresh", "id_token": "id", "client_info": info, "scope": "b a openid a/.default",
    }));
    assert_eq!(answer.refresh_in, Some(Duration::from_secs(43200)));
    assert_eq!(answer.scopes.unwrap().as_str(), "a a/.default b openid");
    assert_eq!(answer.refresh_token.unwrap().expose(), "refresh");
    assert_eq!(answer.client_info, Some(ClientInfo { uid: "u-1".into(), utid: "t-1".into() }));
}

#[test]
fn debug_shows_neither_tokens_nor_the_user() {
    let info = URL_SAFE_NO_PAD.encode(json!({"uid": MARKER, "utid": MARKER}).to_string());
    let shown = format!(
        "{:?}",
        ok(&json!({
            "expires_in": 1, "access_token": MARKER, "refresh_token": MARKER, "id_token": MARKER, "client_info": info,
        }))
    );
    assert!(shown.contains("client_info: Some") && !shown.contains(MARKER), "{shown}");
}

#[test]
fn strange_hints_are_ignored() {
    let answer = ok(&json!({
        "token_type": null, "expires_in": 60, "refresh_in": "never", "access_token": "a", "refresh_token": "",
        "id_token": 7, "client_info": "%%%", "scope": ["a"],
    }));
    assert!(answer.refresh_token.is_none() && answer.client_info.is_none());
    assert!(answer.scopes.is_none() && answer.refresh_in.is_none());
}

#[test]
fn a_byte_order_mark_is_tolerated() {
    assert!(parse(200, "\u{feff}{\"access_token\":\"a\",\"expires_in\":60}").is_ok());
}

#[test]
fn of_a_member_that_is_there_twice_the_last_counts() {
    let answer =
        parse(200, r#"{"access_token":"a","access_token":"b","expires_in":0,"expires_in":60}"#).unwrap();
    assert_eq!(answer.access_token.expose(), "b");
}

#[test]
fn what_is_no_token_is_a_protocol_error_that_keeps_the_status() {
    let deep = "[".repeat(100_000);
    let deep_member = format!("{{\"access_token\":\"a\",\"expires_in\":1,\"x\":{}}}", "[".repeat(100_000));
    for body in [
        "{}",
        "",
        "null",
        "[]",
        "\"token\"",
        "<html><body>m~rk+r/=</body></html>",
        "{\"access_token\":\"m~rk+r/=\"",
        r#"{"access_token":null,"expires_in":3599}"#,
        r#"{"access_token":"","expires_in":3599}"#,
        r#"{"access_token":17,"expires_in":3599}"#,
        r#"{"access_token":["m~rk+r/="],"expires_in":3599}"#,
        r#"{"access_token":"m~rk+r/=\r\nX: y","expires_in":3599}"#,
        r#"{"access_token":"m~rk+r/= b","expires_in":3599}"#,
        r#"{"access_token":"m~rk+r/=\u00e9","expires_in":3599}"#,
        r#"{"access_token":"m~rk+r/=\u007f","expires_in":3599}"#,
        r#"{"access_token":"m~rk+r/=","expires_in":3599,"token_type":"m~rk+r/="}"#,
        r#"{"access_token":"m~rk+r/=","expires_in":3599,"token_type":"pop"}"#,
        r#"{"access_token":"m~rk+r/=","expires_in":3599,"token_type":1}"#,
        r#"{"access_token":"m~rk+r/="}"#,
        r#"{"access_token":"m~rk+r/=","expires_in":"m~rk+r/=","expires_on":"m~rk+r/="}"#,
        r#"{"access_token":"m~rk+r/=","expires_in":0}"#,
        r#"{"access_token":"m~rk+r/=","expires_in":-3599}"#,
        r#"{"access_token":"m~rk+r/=","expires_in":1e999}"#,
        &deep,
        &deep_member,
    ] {
        let error = parse(200, body).unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Protocol, Some(200)), "{body:.80}");
        assert!(error.to_string().starts_with("the token service answered 200 with "), "{error}");
        assert_eq!(error.trace_id(), Some("trace-1"));
        assert!(!shown(&error).contains(MARKER), "{error:?}");
    }
    assert!(
        parse(200, r#"{"access_token":"a","expires_in":0}"#)
            .unwrap_err()
            .to_string()
            .ends_with("already expired")
    );
    assert_eq!(parse(204, "").unwrap_err().status(), Some(204));
    assert_eq!(parse(100, r#"{"access_token":"a","expires_in":9}"#).unwrap_err().kind(), ErrorKind::Protocol);
}

#[test]
fn a_redirect_is_not_followed_and_says_why() {
    for body in ["", r#"{"access_token":"a","expires_in":9}"#] {
        let error = parse(307, body).unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Protocol, Some(307)));
        assert!(
            error.to_string().contains("redirect, which is not followed: the client secret would go along")
        );
    }
}

#[test]
fn a_gateways_page_is_unavailable_with_its_status() {
    for status in [500, 502, 503, 504] {
        let error = parse(status, "<html>m~rk+r/=</html>").unwrap_err();
        assert_eq!((error.kind(), error.blame()), (ErrorKind::Unavailable, Blame::Service));
        assert_eq!(error.status(), Some(status));
        assert!(error.to_string().contains(&format!("status {status}")) && !shown(&error).contains(MARKER));
    }
}

#[test]
fn an_error_member_is_an_error_whatever_the_status() {
    let both =
        json!({"error": "invalid_client", "error_codes": [7000215], "access_token": "a", "expires_in": 60});
    for status in [200, 204, 302, 400, 401] {
        let error = parse(status, both.to_string()).unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Credential, Some(status)));
        assert_eq!(error.oauth_error(), Some("invalid_client"));
    }
    for odd in [json!({"error": 5}), json!({"error": ""}), json!({"error": []})] {
        assert_eq!(parse(200, odd.to_string()).unwrap_err().kind(), ErrorKind::Protocol);
    }
    // And a status of 400 is one whatever the body says.
    let fine = json!({"access_token": "a", "expires_in": 60});
    assert_eq!(parse(400, fine.to_string()).unwrap_err().status(), Some(400));
    assert!(parse(200, json!({"access_token": "a", "expires_in": 60, "error": null}).to_string()).is_ok());
}

#[test]
fn a_description_with_escapes_keeps_its_code() {
    let body = r#"{"error":"invalid_client","error_description":"AADSTS7000215: \"Invalid\" client secret\r\nm~rk+r\/= \u00e9"}"#;
    let error = parse(401, body).unwrap_err();
    assert_eq!(
        (error.kind(), error.aadsts(), error.status()),
        (ErrorKind::Credential, &[7_000_215][..], Some(401))
    );
    assert!(!shown(&error).contains(MARKER));
}

#[test]
fn a_refusal_without_a_code_is_the_credentials() {
    assert_eq!(parse(401, r#"{"error":"invalid_client"}"#).unwrap_err().kind(), ErrorKind::Credential);
}

#[test]
fn nothing_of_a_body_is_in_an_error() {
    let info = URL_SAFE_NO_PAD.encode(MARKER);
    for (status, code) in [(200, 1), (400, 7_000_215), (400, 65_001), (401, 1), (429, 0), (500, 0), (302, 0)]
    {
        for error_member in [json!(MARKER), json!("invalid_grant"), json!({"code": MARKER}), json!([MARKER])]
        {
            let body = json!({
                "error": error_member, "error_description": format!("AADSTS{code}: {MARKER}\r\n{MARKER}"),
                "error_codes": [code, MARKER, {"a": MARKER}], "suberror": MARKER, "claims": MARKER, "error_uri": MARKER,
                "trace_id": MARKER, "correlation_id": format!("a{MARKER}"), "timestamp": MARKER, MARKER: MARKER,
                "access_token": MARKER, "refresh_token": MARKER, "id_token": MARKER, "client_info": &info,
            });
            let error = parse(status, body.to_string()).unwrap_err();
            assert!(!shown(&error).contains(MARKER), "{}", shown(&error));
            assert_eq!(error.trace_id(), Some("trace-1"));
        }
    }
}

#[test]
fn retry_after_comes_along() {
    let headers = HeaderMap::from_iter([(http::header::RETRY_AFTER, HeaderValue::from_static("7"))]);
    let app = App::new();
    let error = parse_token_answer(429, &headers, b"", &app.asked()).unwrap_err();
    assert_eq!((error.kind(), error.retry_after()), (ErrorKind::Throttled, Some(Duration::from_secs(7))));
}

proptest! {
    #[test]
    fn any_answer_is_a_bounded_token_or_an_error(status in prop_oneof![Just(200), 0_u16..1000], body in testing::body()) {
        let app = App::new();
        let cx = Asked { for_user: body.len() % 2 == 0, sent: now(), ..app.asked() };
        match parse_token_answer(status, &HeaderMap::new(), &body, &cx) {
            Ok(answer) => {
                prop_assert!((200..300).contains(&status));
                prop_assert!(HeaderValue::from_str(answer.access_token.expose()).is_ok());
                prop_assert!(!answer.access_token.is_empty() && answer.lifetime <= lifetime::LONGEST);
                prop_assert!(answer.refresh_in.is_none_or(|refresh_in| refresh_in < answer.lifetime));
            }
            Err(error) => {
                prop_assert_eq!(error.status(), Some(status));
                prop_assert!(error.to_string().len() < 500, "{}", error);
            }
        }
    }
}
