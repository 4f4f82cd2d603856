//! Reading a tree field by field, so that whatever is wrong is told with its place.

use crate::emulator::directory::file::node::{Kind, Mistake, Node};
use crate::emulator::ids::is_guid;
use std::collections::BTreeSet;
use std::time::Duration;

type Result<T> = std::result::Result<T, Mistake>;

/// A value and the way to it, such as `apps[2].tenant`.
#[derive(Debug, Clone)]
pub(crate) struct Field<'a> {
    node: &'a Node,
    path: String,
}

impl<'a> Field<'a> {
    pub(crate) fn root(node: &'a Node) -> Self {
        Self { node, path: String::new() }
    }

    pub(crate) fn wrong(&self, message: impl Into<String>) -> Mistake {
        let field = (!self.path.is_empty()).then(|| self.path.clone());
        Mistake { at: Some(self.node.at), field, message: message.into() }
    }

    fn expected(&self, what: &str) -> Mistake {
        self.wrong(format!("expected {what}, found {}", self.node.what()))
    }

    pub(crate) fn node(&self) -> &'a Node {
        self.node
    }

    /// A text that is not empty.
    pub(crate) fn text(&self) -> Result<&'a str> {
        match &self.node.kind {
            Kind::Text(text) if text.trim().is_empty() => Err(self.wrong("it is empty")),
            Kind::Text(text) => Ok(text),
            _ => Err(self.expected("a text")),
        }
    }

    /// A text without white space: the names of which a request has several in one parameter.
    pub(crate) fn word(&self) -> Result<&'a str> {
        let text = self.text()?;
        if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(self.wrong(format!("\"{}\" has white space in it", text.escape_debug())));
        }
        Ok(text)
    }

    /// In lower case.
    pub(crate) fn guid(&self) -> Result<String> {
        let text = self.text()?;
        if !is_guid(text) {
            return Err(self.wrong(format!("\"{}\" is no GUID", text.escape_debug())));
        }
        Ok(text.to_ascii_lowercase())
    }

    pub(crate) fn flag(&self) -> Result<bool> {
        match self.node.kind {
            Kind::Flag(flag) => Ok(flag),
            _ => Err(self.expected("true or false")),
        }
    }

    pub(crate) fn whole(&self) -> Result<u64> {
        match self.node.kind {
            Kind::Whole(number) => {
                u64::try_from(number).map_err(|_| self.wrong("expected a number that is not negative"))
            }
            _ => Err(self.expected("a whole number")),
        }
    }

    /// Whole seconds, as they stand in tokens and answers.
    pub(crate) fn seconds(&self) -> Result<Duration> {
        self.whole().map(Duration::from_secs)
    }

    /// Seconds, with a fraction or without.
    pub(crate) fn duration(&self) -> Result<Duration> {
        match self.node.kind {
            Kind::Fraction(seconds) => Duration::try_from_secs_f64(seconds)
                .map_err(|_| self.wrong("expected a number of seconds that is not negative")),
            Kind::Whole(_) => self.seconds(),
            _ => Err(self.expected("a number of seconds")),
        }
    }

    pub(crate) fn list(&self) -> Result<Vec<Self>> {
        let Kind::List(nodes) = &self.node.kind else {
            return Err(self.expected("a list"));
        };
        let item = |(index, node)| Self { node, path: format!("{}[{index}]", self.path) };
        Ok(nodes.iter().enumerate().map(item).collect())
    }

    /// The members of a table in which every name is good.
    pub(crate) fn members(&self) -> Result<Vec<(&'a str, Self)>> {
        let Kind::Table(members) = &self.node.kind else {
            return Err(self.expected("a table"));
        };
        let member = |(name, node): &'a (String, Node)| {
            let path = format!("{}.{}", self.path, name.chars().take(100).collect::<String>());
            (name.as_str(), Self { node, path })
        };
        Ok(members.iter().map(member).collect())
    }

    pub(crate) fn is_table(&self) -> bool {
        matches!(self.node.kind, Kind::Table(_))
    }

    pub(crate) fn table(&self) -> Result<Table<'a>> {
        match &self.node.kind {
            Kind::Table(members) => Ok(Table { field: self.clone(), members, asked: BTreeSet::new() }),
            _ => Err(self.expected("a table")),
        }
    }
}

/// A table that is being read. What nobody asked for is unknown.
#[derive(Debug)]
pub(crate) struct Table<'a> {
    field: Field<'a>,
    members: &'a [(String, Node)],
    asked: BTreeSet<&'static str>,
}

impl<'a> Table<'a> {
    /// The field of this name; null is none.
    pub(crate) fn take(&mut self, name: &'static str) -> Option<Field<'a>> {
        self.asked.insert(name);
        let (_, node) = self.members.iter().find(|(found, _)| found == name)?;
        (node.kind != Kind::Null).then(|| Field { node, path: self.path(name) })
    }

    pub(crate) fn need(&mut self, name: &'static str) -> Result<Field<'a>> {
        self.take(name).ok_or_else(|| {
            let at = Some(self.field.node.at);
            Mistake { at, field: Some(self.path(name)), message: "it is missing".to_owned() }
        })
    }

    fn path(&self, name: &str) -> String {
        match self.field.path.as_str() {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        }
    }

    pub(crate) fn list(&mut self, name: &'static str) -> Result<Vec<Field<'a>>> {
        self.take(name).map_or_else(|| Ok(Vec::new()), |field| field.list())
    }

    pub(crate) fn flag(&mut self, name: &'static str, otherwise: bool) -> Result<bool> {
        self.take(name).map_or(Ok(otherwise), |field| field.flag())
    }

    pub(crate) fn text(&mut self, name: &'static str) -> Result<Option<String>> {
        self.take(name).map(|field| field.text().map(str::to_owned)).transpose()
    }

    /// # Errors
    ///
    /// For a member that nobody asked for.
    pub(crate) fn finish(self) -> Result<()> {
        self.done()
    }

    /// The same, for a table that somebody else holds.
    pub(crate) fn done(&self) -> Result<()> {
        let unknown = self.members.iter().find(|(name, _)| !self.asked.contains(name.as_str()));
        let Some((name, node)) = unknown else {
            return Ok(());
        };
        let known = self.asked.iter().copied().collect::<Vec<_>>().join(", ");
        let field = self.path(&name.chars().take(100).collect::<String>());
        Err(Mistake {
            at: Some(node.at),
            field: Some(field),
            message: format!("unknown field; known are {known}"),
        })
    }
}
