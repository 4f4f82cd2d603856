//! The way back to the app.

use crate::emulator::answer::Answer;
use crate::emulator::error::EntraError;
use crate::emulator::request::Asked;
use crate::emulator::sign_in::pages;
use http::StatusCode;
use http::header::LOCATION;
use url::{Url, form_urlencoded};

/// Schemes that run or show what the URI itself holds, or reach into the browser: never a way back, registered or not.
const UNSAFE: &[&str] =
    &["javascript", "data", "vbscript", "blob", "filesystem", "file", "about", "view-source", "ws", "wss"];

/// Where an app waits for the answer, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Callback {
    pub(crate) uri: String,
    pub(crate) mode: Mode,
    pub(crate) state: Option<String>,
    /// Parameters of every answer, good or bad.
    pub(crate) always: Vec<(&'static str, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Query,
    Fragment,
    FormPost,
}

/// Whether a browser may be sent there at all.
pub(crate) fn is_safe(uri: &str) -> bool {
    Url::parse(uri).is_ok_and(|uri| !UNSAFE.contains(&uri.scheme()))
}

impl Callback {
    /// Sends the browser there with these parameters and the state.
    pub(crate) fn answer(&self, parameters: Vec<(&'static str, String)>) -> Answer {
        let mut all = self.always.clone();
        all.extend(parameters);
        all.extend(self.state.clone().map(|state| ("state", state)));
        let Ok(mut uri) = Url::parse(&self.uri) else {
            return pages::error(&EntraError::aadsts(50011), None);
        };
        match self.mode {
            Mode::Query if all.is_empty() => {}
            Mode::Query => {
                uri.query_pairs_mut().extend_pairs(&all);
            }
            Mode::Fragment => {
                let fragment = form_urlencoded::Serializer::new(String::new()).extend_pairs(&all).finish();
                uri.set_fragment(Some(&fragment));
            }
            Mode::FormPost => return pages::form_post(uri.as_str(), &all),
        }
        Answer::new(StatusCode::FOUND, "text/html; charset=utf-8", "").header(LOCATION, uri.as_str())
    }

    /// Tells the app what went wrong.
    pub(crate) fn refuse(&self, asked: &Asked, error: &EntraError) -> Answer {
        let mut parameters =
            vec![("error", error.name().to_owned()), ("error_description", error.description(asked))];
        if let Some(code) = error.code() {
            parameters.push(("error_uri", format!("{}/error?code={code}", asked.authority)));
        }
        if let Some(suberror) = error.suberror() {
            parameters.push(("suberror", suberror.to_owned()));
        }
        if let Some(claims) = error.claims() {
            parameters.push(("claims", claims.to_owned()));
        }
        self.answer(parameters).about(error.code()).named(error.name())
    }
}
