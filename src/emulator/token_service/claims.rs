//! The `claims` parameter: what a client can do, and what a resource's challenge asks for.

use crate::emulator::error::EntraError;
use serde_json::{Map, Value};

/// The parts of a `claims` request that this token service acts on.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct ClaimsRequest {
    /// Client capabilities, such as `cp1`: they come back as `xms_cc`.
    pub(crate) capabilities: Vec<String>,
    /// Authentication contexts, such as `c1`; a token may have them only after a second factor.
    pub(crate) contexts: Vec<String>,
    /// A token must have been made at this time or later, in seconds since 1970.
    pub(crate) not_before: Option<u64>,
}

impl ClaimsRequest {
    /// # Errors
    ///
    /// AADSTS90100 where the text is no JSON object.
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, EntraError> {
        let Some(text) = text else {
            return Ok(Self::default());
        };
        let root: Map<String, Value> = serde_json::from_str(text).map_err(|_| {
            EntraError::aadsts(90100)
                .saying("The 'claims' parameter is not valid: it has to be a JSON object.")
        })?;
        let asked = |name: &str| root.get("access_token")?.get(name);
        let seconds = |value: &Value| match value {
            Value::String(text) => text.parse().ok(),
            value => value.as_u64(),
        };
        Ok(Self {
            capabilities: values(asked("xms_cc")),
            contexts: values(asked("acrs")),
            not_before: asked("nbf").and_then(|nbf| seconds(nbf.get("value")?)),
        })
    }
}

/// `{"values": ["a"]}`, `{"value": "a"}`, `{"value": ["a"]}`.
fn values(asked: Option<&Value>) -> Vec<String> {
    let texts = |value: &Value| match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(texts) => texts.iter().filter_map(|text| text.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    };
    let found = asked.and_then(|asked| asked.get("values").or_else(|| asked.get("value")));
    found.map(texts).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_taken_and_the_rest_is_ignored() {
        let text = r#"{"access_token":{"xms_cc":{"values":["cp1"]},"acrs":{"essential":true,"value":"c1"},"nbf":{"essential":true,"value":"1700000000"},"x":null},"id_token":{}}"#;
        let claims = ClaimsRequest::parse(Some(text)).unwrap();
        assert_eq!(claims.capabilities, ["cp1"]);
        assert_eq!(claims.contexts, ["c1"]);
        assert_eq!(claims.not_before, Some(1_700_000_000));
        assert_eq!(ClaimsRequest::parse(None).unwrap(), ClaimsRequest::default());
        assert_eq!(ClaimsRequest::parse(Some("{}")).unwrap(), ClaimsRequest::default());
        assert!(ClaimsRequest::parse(Some("[]")).is_err());
        assert!(ClaimsRequest::parse(Some("cp1")).is_err());
    }
}
