//! Reading a body as the JSON object that it should be.

use serde_json::{Map, Value};

pub(super) type Members = Map<String, Value>;

/// The body's members, where it is one JSON object. Some gateways put a byte order mark in front.
///
/// The parser's own limit on nesting stays on, so a body of brackets ends in `None` and not at the end of the stack.
/// Its error is dropped: it may quote the body.
pub(super) fn object(body: &[u8]) -> Option<Members> {
    serde_json::from_slice(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)).ok()
}

/// True where the answer says that it is an error, whatever its status says.
pub(super) fn has_error(members: &Members) -> bool {
    members.get("error").is_some_and(|error| !error.is_null())
}

/// A member that is a string and not empty.
pub(super) fn text<'a>(members: &'a Members, name: &str) -> Option<&'a str> {
    members.get(name)?.as_str().filter(|text| !text.is_empty())
}

/// A finite number, or a string that is one.
pub(super) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        // `parse` would also take "inf" and "nan", and no number of interest is longer.
        Value::String(text) if text.len() <= 32 => text.trim().parse().ok(),
        _ => None,
    }
    .filter(|number| number.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_object_is_one() {
        assert!(object(b"\xef\xbb\xbf {\"a\":1}\r\n").is_some());
        let deep = [b"{\"a\":".as_slice(), &b"[".repeat(100_000)].concat();
        for not in [b"".as_slice(), b"[]", b"null", b"\"a\"", b"{}{}", b"{\"a\":\xff}", b"<html>", &deep] {
            assert_eq!(object(not), None);
        }
        assert_eq!(object(&b"[".repeat(100_000)), None);
        assert_eq!(object(&b"{\"a\":".repeat(100_000)), None);
    }

    #[test]
    fn numbers_may_be_strings() {
        for (value, read) in [
            (Value::from(1), Some(1.0)),
            (Value::from(-1.5), Some(-1.5)),
            (Value::from(" 3599 "), Some(3599.0)),
            (Value::from("inf"), None),
            (Value::from("NaN"), None),
            (Value::from("1e999"), None),
            (Value::from("9".repeat(40)), None),
            (Value::from(""), None),
            (Value::from(true), None),
            (Value::Null, None),
        ] {
            assert_eq!(number(&value), read, "{value}");
        }
    }
}
