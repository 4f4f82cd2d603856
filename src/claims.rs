//! The claims parameter: what a token has to say, or has to prove.

use std::{
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
    sync::Arc,
};

use serde_json::{Map, Value};

use crate::Error;

/// Claims travel in requests and stand in cache keys. Those of Entra have a few hundred bytes.
const MAX_LENGTH: usize = 64 * 1024;

/// A JSON object for the `claims` parameter, such as the one in a continuous-access challenge.
///
/// Kept in one canonical form: neither the order of members nor blanks between them matter.
///
/// ```
/// use entra_broker::Claims;
///
/// let ours = Claims::parse(r#"{"access_token": {"xms_cc": {"values": ["cp1"]}}}"#)?;
/// let theirs = Claims::parse(r#"{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}"#)?;
/// assert_eq!(
///     ours.merge(&theirs).as_str(),
///     r#"{"access_token":{"nbf":{"essential":true,"value":"1604106651"},"xms_cc":{"values":["cp1"]}}}"#,
/// );
/// # Ok::<(), entra_broker::Error>(())
/// ```
#[derive(Clone)]
pub struct Claims(Arc<Inner>);

struct Inner {
    text: String,
    members: Map<String, Value>,
}

impl Claims {
    /// Reads a JSON object. Where a member is there twice, the last counts.
    ///
    /// # Errors
    /// `Config` where the text is not a JSON object, is nested deeper than 127 levels, or has more than 64 KiB.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_LENGTH {
            return Err(too_long(text.len()));
        }
        // The parser's own limit on nesting is what keeps the recursion below from the end of the stack.
        let members: Map<String, Value> = serde_json::from_str(text).map_err(|error| {
            Error::config(format!(
                "claims: expected a JSON object such as {{\"access_token\":{{…}}}}; line {}, column {} is not one",
                error.line(),
                error.column()
            ))
        })?;
        let claims = Self::from_members(members);
        // A number may be longer in its canonical spelling.
        if claims.as_str().len() > MAX_LENGTH { Err(too_long(claims.as_str().len())) } else { Ok(claims) }
    }

    fn from_members(members: Map<String, Value>) -> Self {
        let members = sorted(members);
        let text = Value::Object(members.clone()).to_string();
        Self(Arc::new(Inner { text, members }))
    }

    /// What a client can do, as the token service wants to hear it; `None` where that is nothing.
    pub(crate) fn capabilities<'a>(capabilities: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let values: Vec<_> = capabilities.into_iter().map(Value::from).collect();
        let claims = serde_json::json!({ "access_token": { "xms_cc": { "values": values } } });
        match claims {
            Value::Object(members) if !values.is_empty() => Some(Self::from_members(members)),
            _ => None,
        }
    }

    /// Both together: objects are merged member by member, arrays named `values` are united, and where the two
    /// contradict each other, `other` wins.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        let mut members = self.0.members.clone();
        merge_into(&mut members, &other.0.members);
        Self::from_members(members)
    }

    /// The object in its canonical form.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }
}

fn too_long(length: usize) -> Error {
    Error::config(format!("claims: {length} bytes are too many, at most {MAX_LENGTH} are taken"))
}

/// Sorted here and not by the map's type: a feature of `serde_json` that any crate in the program can switch on makes
/// its maps keep the order of insertion.
fn sorted(members: Map<String, Value>) -> Map<String, Value> {
    let mut entries: Vec<_> = members.into_iter().collect();
    entries.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    entries.into_iter().map(|(name, value)| (name, sorted_value(value))).collect()
}

fn sorted_value(value: Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(sorted(members)),
        Value::Array(items) => Value::Array(items.into_iter().map(sorted_value).collect()),
        other => other,
    }
}

fn merge_into(ours: &mut Map<String, Value>, theirs: &Map<String, Value>) {
    for (name, theirs) in theirs {
        match (ours.get_mut(name), theirs) {
            (Some(Value::Object(ours)), Value::Object(theirs)) => merge_into(ours, theirs),
            (Some(Value::Array(ours)), Value::Array(theirs)) if name == "values" => unite(ours, theirs),
            _ => {
                ours.insert(name.clone(), theirs.clone());
            }
        }
    }
}

/// By text in a set, since two long arrays compared item by item take quadratic time.
fn unite(ours: &mut Vec<Value>, theirs: &[Value]) {
    let mut seen: std::collections::BTreeSet<String> = ours.iter().map(Value::to_string).collect();
    ours.extend(theirs.iter().filter(|item| seen.insert(item.to_string())).cloned());
}

impl PartialEq for Claims {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Claims {}

impl Hash for Claims {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl FromStr for Claims {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl fmt::Display for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Claims({})", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ErrorKind;

    fn claims(text: &str) -> Claims {
        Claims::parse(text).unwrap()
    }

    #[test]
    fn order_blanks_and_escapes_do_not_matter() {
        let one = claims(r#" { "b" : [1, {"y":null,"x":"\u00e9"}] , "a" : {} } "#);
        assert_eq!(one.as_str(), r#"{"a":{},"b":[1,{"x":"é","y":null}]}"#);
        assert_eq!(one, claims(r#"{"a":{},"b":[1,{"x":"é","y":null}]}"#));
        assert_ne!(one, claims(r#"{"a":{},"b":[{"x":"é","y":null},1]}"#));
    }

    #[test]
    fn only_an_object_of_sane_size_and_depth_is_taken() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        let nested = format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        let swollen = format!("{{\"a\":[{}1]}}", "1e15,".repeat(10_000));
        for bad in
            ["", "[]", "null", "\"hunter2\"", "{\"a\":hunter2}", "{} {}", "{'a':1}", &deep, &nested, &swollen]
        {
            let error = Claims::parse(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().starts_with("claims: "), "{error}");
            assert!(!format!("{error:?}").contains("hunter2"));
        }
        assert!(Claims::parse(&format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_LENGTH))).is_err());
    }

    #[test]
    fn merging_goes_deep_unites_values_and_lets_the_other_win() {
        let ours = claims(r#"{"access_token":{"xms_cc":{"values":["cp1","x"]},"a":1,"list":[1]}}"#);
        let theirs =
            claims(r#"{"access_token":{"xms_cc":{"values":["y","cp1"]},"a":2,"list":[2]},"id_token":null}"#);
        assert_eq!(
            ours.merge(&theirs).as_str(),
            r#"{"access_token":{"a":2,"list":[2],"xms_cc":{"values":["cp1","x","y"]}},"id_token":null}"#
        );
        assert_eq!(ours.merge(&claims("{}")), ours);
        assert_eq!(ours.merge(&ours), ours);
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("a|b|values|\\PC{0,3}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn object() -> impl Strategy<Value = Vec<(String, Value)>> {
        prop::collection::btree_map("[a-c]|values", json(), 0..4).prop_map(|map| map.into_iter().collect())
    }

    fn spell(members: impl Iterator<Item = (String, Value)>) -> String {
        let members: Vec<_> =
            members.map(|(name, value)| format!("{} : {value}", Value::from(name))).collect();
        format!("{{ {} }}", members.join(" ,\n"))
    }

    proptest! {
        #[test]
        fn parsing_survives_anything(text in "\\PC{0,80}|[\\[{}\\]:,\"a0-9.eE+-]{0,80}") {
            let _ = Claims::parse(&text);
        }

        #[test]
        fn any_order_of_members_is_one_and_reads_as_itself(members in object()) {
            let one = claims(&spell(members.clone().into_iter()));
            prop_assert_eq!(&claims(&spell(members.into_iter().rev())), &one);
            prop_assert_eq!(&claims(one.as_str()), &one);
        }

        #[test]
        fn merging_twice_changes_nothing_more(one in object(), other in object()) {
            let (one, other) = (claims(&spell(one.into_iter())), claims(&spell(other.into_iter())));
            let merged = one.merge(&other);
            prop_assert_eq!(&merged.merge(&other), &merged);
            prop_assert_eq!(&claims(merged.as_str()), &merged);
        }
    }
}
