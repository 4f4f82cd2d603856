//! Errors in Entra's shape.

use crate::emulator::answer::Answer;
use crate::emulator::codes::{TABLE, UNKNOWN};
use crate::emulator::request::Asked;
use crate::emulator::time::timestamp;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Map, Value, json};

/// What went wrong, before it is dressed with the request's ids and the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EntraError {
    pub(crate) status: StatusCode,
    error: String,
    code: Option<u32>,
    message: String,
    suberror: Option<&'static str>,
    claims: Option<String>,
}

impl EntraError {
    /// The error with this AADSTS number, as the table below words it.
    pub(crate) fn aadsts(code: u32) -> Self {
        let row = TABLE.iter().find(|row| row.0 == code);
        let &(_, status, error, suberror, message) = row.unwrap_or(&UNKNOWN);
        Self {
            status: StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST),
            error: error.to_owned(),
            code: Some(code),
            message: message.to_owned(),
            suberror: (!suberror.is_empty()).then_some(suberror),
            claims: matches!(code, 53003 | 50158).then(|| {
                json!({"access_token": {"capolids": {"essential": true, "values": ["c0ffee00-0000-4000-8000-000000000000"]}}})
                    .to_string()
            }),
        }
    }

    /// An error without an AADSTS number: what the front of the service says, or the emulator about itself.
    pub(crate) fn plain(status: StatusCode, error: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            error: error.to_owned(),
            code: None,
            message: message.into(),
            suberror: None,
            claims: None,
        }
    }

    pub(crate) fn internal(message: &str) -> Self {
        Self::plain(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// The same error in other words.
    pub(crate) fn saying(mut self, message: impl Into<String>) -> Self {
        self.message = message.into();
        self
    }

    /// The same error with another `error` value: one number comes with several of them.
    pub(crate) fn called(mut self, error: &str) -> Self {
        self.error = error.to_owned();
        self
    }

    /// The same error with a claims challenge, which the client is to bring to the sign-in page.
    pub(crate) fn challenging(mut self, claims: &Value) -> Self {
        self.claims = Some(claims.to_string());
        self
    }

    /// The same error with another `suberror`.
    pub(crate) fn because(mut self, suberror: &'static str) -> Self {
        self.suberror = Some(suberror);
        self
    }

    /// The `error` value.
    pub(crate) fn name(&self) -> &str {
        &self.error
    }

    /// The `suberror` value.
    pub(crate) fn suberror(&self) -> Option<&'static str> {
        self.suberror
    }

    /// The claims challenge, as JSON.
    pub(crate) fn claims(&self) -> Option<&str> {
        self.claims.as_deref()
    }

    /// The AADSTS number.
    pub(crate) fn code(&self) -> Option<u32> {
        self.code
    }

    pub(crate) fn missing(parameter: &str) -> Self {
        Self::aadsts(900144)
            .saying(format!("The request body must contain the following parameter: '{parameter}'."))
    }

    pub(crate) fn too_long(parameter: &str) -> Self {
        Self::aadsts(90100).saying(format!("The parameter '{parameter}' is too long."))
    }

    /// A plausible error for a bare HTTP status.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        let mut error = match status.as_u16() {
            401 => Self::aadsts(7000215),
            404 => Self::plain(status, "not_found", "Nothing is here."),
            408 | 504 => Self::aadsts(90012),
            429 => Self::aadsts(90055),
            500..=599 => Self::aadsts(90033),
            _ => Self::aadsts(90100),
        };
        error.status = status;
        error
    }

    /// The message with its number in front.
    pub(crate) fn numbered(&self) -> String {
        match self.code {
            Some(code) => format!("AADSTS{code}: {}", self.message),
            None => self.message.clone(),
        }
    }

    /// The whole description, as JSON answers and callbacks have it.
    pub(crate) fn description(&self, asked: &Asked) -> String {
        format!(
            "{} Trace ID: {} Correlation ID: {} Timestamp: {}",
            self.numbered(),
            asked.trace_id,
            asked.correlation_id,
            timestamp(asked.at)
        )
    }

    /// The answer of the token service.
    pub(crate) fn answer(&self, asked: &Asked, authority: &str) -> Answer {
        let time = timestamp(asked.at);
        let (trace, correlation) = (&asked.trace_id, &asked.correlation_id);
        let mut body = Map::new();
        body.insert("error".to_owned(), json!(self.error));
        body.insert("error_description".to_owned(), json!(self.description(asked)));
        let codes: Vec<u32> = self.code.into_iter().collect();
        body.insert("error_codes".to_owned(), json!(codes));
        body.insert("timestamp".to_owned(), json!(time));
        body.insert("trace_id".to_owned(), json!(trace));
        body.insert("correlation_id".to_owned(), json!(correlation));
        if let Some(code) = self.code {
            let uri = format!("{authority}/error?code={code}");
            body.insert("error_uri".to_owned(), json!(uri));
        }
        if let Some(suberror) = self.suberror {
            body.insert("suberror".to_owned(), json!(suberror));
        }
        if let Some(claims) = &self.claims {
            body.insert("claims".to_owned(), json!(claims));
        }
        Answer::json(self.status, &Value::Object(body)).about(self.code)
    }
}

/// Handlers return errors bare; the server, which knows the request, dresses them. The body of this response is never sent.
impl IntoResponse for EntraError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// So much of what a client sent as an error repeats.
pub(crate) fn echo(text: &str) -> String {
    text.chars().take(200).collect()
}
