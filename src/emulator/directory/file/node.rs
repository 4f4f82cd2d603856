//! TOML and JSON as one tree, of which every part knows where it stands in the text.

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::fmt;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The longest text that is read.
pub(crate) const LONGEST: usize = 16 * 1024 * 1024;

/// Nothing that is described here is nested deeper than a few levels.
const DEEPEST: usize = 24;

/// A part of a text, and the byte at which it begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) at: usize,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Null,
    Flag(bool),
    Whole(i64),
    Fraction(f64),
    Text(String),
    List(Vec<Node>),
    Table(Vec<(String, Node)>),
    /// A TOML date: there is no use for one here.
    Date,
}

/// A mistake in a text: at which byte, in which field, and what is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    pub(crate) at: Option<usize>,
    pub(crate) field: Option<String>,
    pub(crate) message: String,
}

impl Mistake {
    fn syntax(at: usize, message: impl Into<String>) -> Self {
        Self { at: Some(at), field: None, message: message.into() }
    }
}

impl Node {
    pub(crate) fn toml(text: &str) -> Result<Self, Mistake> {
        bounded(text)?;
        let table = DeTable::parse(text).map_err(|error| {
            let at = error.span().map(|span| span.start);
            Mistake { at, field: None, message: one_line(error.message()) }
        })?;
        let members = table_of(table.get_ref(), DEEPEST)?;
        Ok(Self { at: 0, kind: Kind::Table(members) })
    }

    pub(crate) fn json(text: &str) -> Result<Self, Mistake> {
        bounded(text)?;
        let raw: &RawValue = serde_json::from_str(text).map_err(|error| misread(&error, text))?;
        json_of(raw, text, DEEPEST)
    }

    /// What is said about it where something else was expected.
    pub(crate) fn what(&self) -> &'static str {
        match self.kind {
            Kind::Null => "null",
            Kind::Flag(_) => "true or false",
            Kind::Whole(_) | Kind::Fraction(_) => "a number",
            Kind::Text(_) => "a text",
            Kind::List(_) => "a list",
            Kind::Table(_) => "a table",
            Kind::Date => "a date",
        }
    }

    pub(crate) fn value(&self) -> Value {
        match &self.kind {
            Kind::Null | Kind::Date => Value::Null,
            Kind::Flag(flag) => Value::from(*flag),
            Kind::Whole(number) => Value::from(*number),
            Kind::Fraction(number) => Value::from(*number),
            Kind::Text(text) => Value::from(text.as_str()),
            Kind::List(nodes) => nodes.iter().map(Self::value).collect(),
            Kind::Table(members) => {
                let pairs = members.iter().map(|(name, node)| (name.clone(), node.value()));
                Value::Object(pairs.collect::<Map<_, _>>())
            }
        }
    }
}

/// The line and column of a byte, both from 1; columns count characters.
pub(crate) fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    (line, String::from_utf8_lossy(&before[start..]).chars().count() + 1)
}

fn bounded(text: &str) -> Result<(), Mistake> {
    if text.len() > LONGEST {
        return Err(Mistake { at: None, field: None, message: format!("it is longer than {LONGEST} bytes") });
    }
    Ok(())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn deeper(left: usize, at: usize) -> Result<usize, Mistake> {
    left.checked_sub(1).ok_or_else(|| Mistake::syntax(at, "it is nested too deeply"))
}

fn table_of(table: &DeTable<'_>, left: usize) -> Result<Vec<(String, Node)>, Mistake> {
    let member = |(name, value): (&Spanned<_>, _)| {
        let name: &std::borrow::Cow<'_, str> = name.get_ref();
        Ok((name.to_string(), toml_of(value, left)?))
    };
    let mut members = table.iter().map(member).collect::<Result<Vec<_>, _>>()?;
    // The parser sorts by name; of two mistakes the first one is to be told.
    members.sort_by_key(|(_, node)| node.at);
    Ok(members)
}

fn toml_of(value: &Spanned<DeValue<'_>>, left: usize) -> Result<Node, Mistake> {
    let at = value.span().start;
    let left = deeper(left, at)?;
    let wrong = |number: &str| Mistake::syntax(at, format!("the number {number} cannot be held"));
    let kind = match value.get_ref() {
        DeValue::String(text) => Kind::Text(text.to_string()),
        DeValue::Integer(number) => {
            let parsed = i64::from_str_radix(number.as_str(), number.radix());
            Kind::Whole(parsed.map_err(|_| wrong(number.as_str()))?)
        }
        DeValue::Float(number) => {
            Kind::Fraction(number.as_str().parse().map_err(|_| wrong(number.as_str()))?)
        }
        DeValue::Boolean(flag) => Kind::Flag(*flag),
        DeValue::Datetime(_) => Kind::Date,
        DeValue::Array(nodes) => {
            Kind::List(nodes.iter().map(|node| toml_of(node, left)).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => Kind::Table(table_of(table, left)?),
    };
    Ok(Node { at, kind })
}

/// A JSON object as it stands there, doubled members included.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

fn json_of(raw: &RawValue, text: &str, left: usize) -> Result<Node, Mistake> {
    let json = raw.get();
    // A raw value is borrowed from the text.
    let at = (json.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    let left = deeper(left, at)?;
    let wrong = |error: serde_json::Error| Mistake::syntax(at, reason(&error));
    let kind = match json.as_bytes().first() {
        Some(b'{') => {
            let Members(found) = serde_json::from_str(json).map_err(wrong)?;
            let mut members: Vec<(String, Node)> = Vec::with_capacity(found.len());
            let mut names = std::collections::HashSet::new();
            for (name, raw) in found {
                let node = json_of(raw, text, left)?;
                if !names.insert(name.clone()) {
                    return Err(Mistake::syntax(node.at, format!("`{name}` stands there twice")));
                }
                members.push((name, node));
            }
            Kind::Table(members)
        }
        Some(b'[') => {
            let found: Vec<&RawValue> = serde_json::from_str(json).map_err(wrong)?;
            Kind::List(found.into_iter().map(|raw| json_of(raw, text, left)).collect::<Result<_, _>>()?)
        }
        _ => match serde_json::from_str(json).map_err(wrong)? {
            Value::Bool(flag) => Kind::Flag(flag),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(number), _) => Kind::Whole(number),
                (None, Some(number)) => Kind::Fraction(number),
                (None, None) => return Err(Mistake::syntax(at, "the number cannot be held")),
            },
            Value::String(text) => Kind::Text(text),
            _ => Kind::Null,
        },
    };
    Ok(Node { at, kind })
}

/// What `serde_json` says, without its place.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason).to_owned()
}

fn misread(error: &serde_json::Error, text: &str) -> Mistake {
    let lines = text.split_inclusive('\n').take(error.line().saturating_sub(1));
    let start: usize = lines.map(str::len).sum();
    let at = (start + error.column().saturating_sub(1)).min(text.len());
    Mistake::syntax(at, reason(error))
}
