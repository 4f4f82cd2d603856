//! What an error answer says, bounded: numbers, a few short words, and claims that are JSON.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header};
use serde_json::Value;

use super::json::{self, Members};
use crate::{Claims, error::ServiceAnswer};

/// Ids and error names are shorter; what is longer is cut or is none.
const MAX_WORD: usize = 64;
/// Entra gives one or two codes.
const MAX_CODES: usize = 8;
/// How much of a description is searched for codes. They stand at its beginning.
const MAX_DESCRIPTION: usize = 16 * 1024;
/// Whoever says to come back later than in a day is not believed, and such a duration could overflow a clock.
const MAX_RETRY_AFTER: u64 = 24 * 60 * 60;

/// An answer that is an error, without its meaning.
#[derive(Debug, Clone, Default)]
pub(super) struct Failure {
    pub(super) answer: ServiceAnswer,
    pub(super) retry_after: Option<Duration>,
}

/// Reads what there is, from the body's members where it is a JSON object, and from the headers. Total.
pub(super) fn read(status: u16, headers: &HeaderMap, body: Option<&Members>, now: SystemTime) -> Failure {
    let text = |name| body.and_then(|members| json::text(members, name));
    let from_header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let oauth_error = body.and_then(|members| members.get("error")).and_then(|error| match error {
        // Some managed-identity endpoints answer {"error":{"code":"…","message":"…"}}.
        Value::Object(inner) => json::text(inner, "code"),
        other => other.as_str(),
    });
    let answer = ServiceAnswer {
        status: Some(status),
        oauth_error: oauth_error.and_then(name),
        aadsts: body.map(codes).unwrap_or_default(),
        suberror: text("suberror").and_then(name),
        claims: body.and_then(|members| members.get("claims")).and_then(claims),
        correlation_id: text("correlation_id")
            .or_else(|| text("correlationId"))
            .and_then(id)
            .or_else(|| from_header("client-request-id").and_then(id)),
        trace_id: text("trace_id").and_then(id).or_else(|| from_header("x-ms-request-id").and_then(id)),
    };
    Failure { answer, retry_after: retry_after(headers, now) }
}

/// For how long the service wants to be left alone: `Retry-After` in seconds, or as a date against `now`.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let after = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Digits that do not fit are a very long time.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        httpdate::parse_http_date(text).ok()?.duration_since(now).ok()?
    };
    Some(after.min(Duration::from_secs(MAX_RETRY_AFTER)))
}

/// The name of an error: a short word, or nothing.
fn name(text: &str) -> Option<Box<str>> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (!text.is_empty() && text.len() <= MAX_WORD && text.bytes().all(fits)).then(|| text.into())
}

/// An id of a request, cut where it is too long.
fn id(text: &str) -> Option<Box<str>> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    let text = text.get(..MAX_WORD).unwrap_or(text);
    (!text.is_empty() && text.len() <= MAX_WORD && text.bytes().all(fits)).then(|| text.into())
}

/// The claims are a JSON string in JSON, or, where someone unpacked them, an object.
fn claims(value: &Value) -> Option<Box<str>> {
    let claims = match value {
        Value::String(text) => Claims::parse(text),
        Value::Object(_) => Claims::parse(&value.to_string()),
        _ => return None,
    };
    claims.ok().map(|claims| claims.as_str().into())
}

/// `error_codes`, as numbers or strings; else the digits after each `AADSTS` of the description.
fn codes(body: &Members) -> Vec<u32> {
    let number = |value: &Value| match value {
        Value::Number(number) => number.as_u64()?.try_into().ok(),
        Value::String(text) => text.strip_prefix("AADSTS").unwrap_or(text).parse().ok(),
        _ => None,
    };
    let listed = match body.get("error_codes") {
        Some(Value::Array(codes)) => codes.as_slice(),
        Some(single) => std::slice::from_ref(single),
        None => &[],
    };
    let mut codes = Vec::new();
    listed.iter().take(4 * MAX_CODES).filter_map(number).for_each(|code| keep(&mut codes, code));
    if codes.is_empty() {
        let inner = || body.get("error").and_then(|error| error.get("message"));
        let description = body.get("error_description").or_else(|| body.get("message")).or_else(inner);
        let bytes = description.and_then(Value::as_str).unwrap_or_default().as_bytes();
        described(&bytes[..bytes.len().min(MAX_DESCRIPTION)], &mut codes);
    }
    codes
}

/// The digits after each `AADSTS` of a text, in order.
pub(super) fn described(text: &[u8], codes: &mut Vec<u32>) {
    const PREFIX: &[u8] = b"AADSTS";
    for start in 0..text.len() {
        let Some(rest) = text[start..].strip_prefix(PREFIX) else { continue };
        let digits = rest.iter().take(11).take_while(|byte| byte.is_ascii_digit());
        let code = digits.fold(0_u64, |code, digit| code * 10 + u64::from(digit - b'0'));
        if let Ok(code @ 1..) = u32::try_from(code) {
            keep(codes, code);
        }
    }
}

fn keep(codes: &mut Vec<u32>, code: u32) {
    if codes.len() < MAX_CODES && !codes.contains(&code) {
        codes.push(code);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::wire::testing::{self, MARKER, now};

    fn of(body: &Value) -> ServiceAnswer {
        read(400, &HeaderMap::new(), body.as_object(), now()).answer
    }

    #[test]
    fn a_whole_answer_is_read() {
        let answer = of(&json!({
            "error": "interaction_required",
            "error_description": "AADSTS50076: Due to a \"change\"\r\nTrace ID: x",
            "error_codes": [50076],
            "suberror": "basic_action",
            "claims": "{\"access_token\":{\"polids\":{\"essential\":true}}}",
            "trace_id": "0a1b2c3d-0000-0000-0000-000000000000",
            "correlation_id": "1a1b2c3d-0000-0000-0000-000000000000",
        }));
        assert_eq!(answer.oauth_error.as_deref(), Some("interaction_required"));
        assert_eq!(answer.aadsts, [50076]);
        assert_eq!(answer.suberror.as_deref(), Some("basic_action"));
        assert_eq!(answer.claims.as_deref(), Some(r#"{"access_token":{"polids":{"essential":true}}}"#));
        assert_eq!(answer.trace_id.as_deref(), Some("0a1b2c3d-0000-0000-0000-000000000000"));
        assert_eq!(answer.correlation_id.as_deref(), Some("1a1b2c3d-0000-0000-0000-000000000000"));
        assert_eq!(answer.status, Some(400));
    }

    #[test]
    fn codes_come_as_numbers_strings_or_in_the_description() {
        for body in [
            json!({"error_codes": [7000215]}),
            json!({"error_codes": ["7000215"]}),
            json!({"error_codes": "7000215", "error_description": "AADSTS1: x"}),
            json!({"error_codes": [null, -1, 1e20, {}, "AADSTS7000215"]}),
            json!({"error_description": "AADSTS7000215: Invalid"}),
            json!({"error_codes": [], "error_description": "x AADSTS7000215. AADSTS7000215 AADSTS AADSTS99999999999999999999"}),
        ] {
            assert_eq!(of(&body).aadsts, [7_000_215], "{body}");
        }
        assert_eq!(of(&json!({"error_description": "AADSTS1: a AADSTS2: b"})).aadsts, [1, 2]);
        assert_eq!(of(&json!({"error_codes": (1..100).collect::<Vec<_>>()})).aadsts.len(), MAX_CODES);
    }

    #[test]
    fn absurd_members_are_dropped_or_cut() {
        let answer = of(&json!({
            "error": MARKER, "error_codes": {"a": MARKER}, "suberror": [MARKER], "claims": format!("[\"{MARKER}\"]"),
            "trace_id": "a".repeat(10_000), "correlation_id": MARKER,
        }));
        assert_eq!((answer.oauth_error, answer.suberror, answer.claims), (None, None, None));
        assert_eq!((answer.aadsts.len(), answer.correlation_id), (0, None));
        assert_eq!(answer.trace_id.map(|id| id.len()), Some(MAX_WORD));
        assert_eq!(of(&json!({"error": "e".repeat(65), "claims": 1})).oauth_error, None);
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(64 * 1024));
        assert_eq!(of(&json!({"claims": long})).claims, None);
        assert_eq!(of(&json!({"claims": {"b": 1, "a": 2}})).claims.as_deref(), Some(r#"{"a":2,"b":1}"#));
    }

    #[test]
    fn ids_are_taken_from_headers_where_the_body_has_none() {
        let mut headers = HeaderMap::new();
        headers.insert("x-ms-request-id", HeaderValue::from_static("aa-1"));
        headers.insert("client-request-id", HeaderValue::from_static("bb-2"));
        let answer = read(502, &headers, None, now()).answer;
        assert_eq!(
            (answer.trace_id.as_deref(), answer.correlation_id.as_deref()),
            (Some("aa-1"), Some("bb-2"))
        );
        headers.insert("x-ms-request-id", HeaderValue::from_bytes(b"a\xff").unwrap());
        headers.insert("client-request-id", HeaderValue::from_static("a b"));
        let answer = read(502, &headers, None, now()).answer;
        assert_eq!((answer.trace_id, answer.correlation_id), (None, None));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_has_an_end() {
        let after = |text: &'static str| {
            retry_after(&HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static(text))]), now())
                .map(|after| after.as_secs())
        };
        assert_eq!(after("120"), Some(120));
        assert_eq!(after("0"), Some(0));
        assert_eq!(after("Fri, 09 Jan 2026 02:03:12 GMT"), Some(60));
        assert_eq!(after("Thu, 08 Jan 2026 02:03:12 GMT"), None);
        assert_eq!(after("99999999999999999999999"), Some(MAX_RETRY_AFTER));
        assert_eq!(after("Fri, 31 Dec 9999 23:59:59 GMT"), Some(MAX_RETRY_AFTER));
        for nonsense in ["", "-1", "1.5", "soon", "+3"] {
            assert_eq!(after(nonsense), None, "{nonsense}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_read_and_bounded(body in testing::body(), retry in "\\PC{0,30}") {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_str(&retry) {
                headers.insert(header::RETRY_AFTER, value);
            }
            let failure = read(400, &headers, json::object(&body).as_ref(), now());
            let answer = failure.answer;
            for word in [answer.oauth_error, answer.suberror, answer.trace_id, answer.correlation_id].into_iter().flatten() {
                prop_assert!(word.len() <= MAX_WORD && word.is_ascii());
            }
            prop_assert!(answer.aadsts.len() <= MAX_CODES);
        }
    }
}
