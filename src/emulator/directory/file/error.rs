//! What is wrong with a directory's text.

use crate::emulator::directory::file::node::{Mistake, place};
use std::fmt;
use std::path::{Path, PathBuf};

/// What is wrong with the text of a directory, and where.
///
/// It shows as one line: `directory.toml:12: apps[2].tenant: no tenant "contoso.tets" in this file`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryError {
    file: Option<PathBuf>,
    line: Option<usize>,
    column: Option<usize>,
    field: Option<String>,
    message: String,
}

impl DirectoryError {
    pub(super) fn of(mistake: Mistake, text: &str) -> Self {
        let at = mistake.at.map(|at| place(text, at));
        Self {
            file: None,
            line: at.map(|(line, _)| line),
            column: at.map(|(_, column)| column),
            field: mistake.field,
            message: mistake.message,
        }
    }

    pub(super) fn of_file(file: &Path, message: String) -> Self {
        Self { file: Some(file.to_owned()), line: None, column: None, field: None, message }
    }

    pub(super) fn within(mut self, file: &Path) -> Self {
        self.file = Some(file.to_owned());
        self
    }

    /// The file, where one was read.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The line, counted from 1.
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// The column in characters, counted from 1.
    pub fn column(&self) -> Option<usize> {
        self.column
    }

    /// The field, such as `apps[2].tenant`. Lists count from 0.
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// What is wrong there, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for DirectoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{}:{line}: ", file.display())?,
            (Some(file), None) => write!(f, "{}: ", file.display())?,
            (None, Some(line)) => write!(f, "line {line}: ")?,
            (None, None) => {}
        }
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for DirectoryError {}
