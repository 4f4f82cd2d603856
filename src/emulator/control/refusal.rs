//! Why a control request is not obeyed.

use crate::emulator::answer::Answer;
use crate::emulator::directory::file::node::{Mistake, place};
use http::StatusCode;
use serde_json::{Map, Value, json};

pub(super) struct Refusal {
    status: StatusCode,
    message: String,
    field: Option<String>,
    place: Option<(usize, usize)>,
}

/// A mistake whose place in the body is still to be found, and the status that goes with it.
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) mistake: Mistake,
}

impl From<Mistake> for Refused {
    fn from(mistake: Mistake) -> Self {
        Self { status: StatusCode::BAD_REQUEST, mistake }
    }
}

impl Refused {
    pub(super) fn into_refusal(self, body: &str) -> Refusal {
        Refusal { status: self.status, ..Refusal::of(self.mistake, body) }
    }
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), field: None, place: None }
    }

    /// A mistake in a body.
    pub(super) fn of(mistake: Mistake, body: &str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            message: mistake.message,
            field: mistake.field,
            place: mistake.at.map(|at| place(body, at)),
        }
    }

    /// A mistake in a parameter of the query.
    pub(super) fn parameter(name: &str, message: &str) -> Self {
        let field = name.chars().take(100).collect();
        Self { field: Some(field), ..Self::new(StatusCode::BAD_REQUEST, message) }
    }

    pub(super) fn answer(self) -> Answer {
        let mut body = Map::new();
        body.insert("error".to_owned(), json!(self.message));
        if let Some(field) = self.field {
            body.insert("field".to_owned(), json!(field));
        }
        if let Some((line, column)) = self.place {
            body.insert("line".to_owned(), json!(line));
            body.insert("column".to_owned(), json!(column));
        }
        Answer::json(self.status, &Value::Object(body))
    }
}
