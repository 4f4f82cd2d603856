//! An answer in the making: complete in memory until the faults had their say.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Extensions, StatusCode};
use serde_json::Value;

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The AADSTS number for the journal.
    pub(crate) aadsts: Option<u32>,
    /// The `error` value for the journal.
    pub(crate) error: Option<String>,
}

#[derive(Clone, Copy)]
struct Aadsts(u32);

#[derive(Clone)]
struct Named(String);

impl Answer {
    pub(crate) fn new(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_str(content_type) {
            headers.insert(CONTENT_TYPE, value);
        }
        Self { status, headers, body: body.into(), aadsts: None, error: None }
    }

    pub(crate) fn json(status: StatusCode, body: &Value) -> Self {
        Self::new(status, "application/json; charset=utf-8", body.to_string())
    }

    pub(crate) fn ok(body: &Value) -> Self {
        Self::json(StatusCode::OK, body)
    }

    pub(crate) fn about(mut self, aadsts: Option<u32>) -> Self {
        self.aadsts = aadsts;
        self
    }

    pub(crate) fn named(mut self, error: &str) -> Self {
        self.error = Some(error.to_owned());
        self
    }

    /// Sets a header; a value that no header can hold is left out.
    pub(crate) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Back from what the router made of an answer.
    pub(crate) fn from_parts(
        status: StatusCode,
        headers: HeaderMap,
        body: Bytes,
        extensions: &Extensions,
    ) -> Self {
        Self {
            status,
            headers,
            body,
            aadsts: extensions.get::<Aadsts>().map(|code| code.0),
            error: extensions.get::<Named>().map(|named| named.0.clone()),
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.headers, self.body).into_response();
        if let Some(code) = self.aadsts {
            response.extensions_mut().insert(Aadsts(code));
        }
        if let Some(error) = self.error {
            response.extensions_mut().insert(Named(error));
        }
        response
    }
}
