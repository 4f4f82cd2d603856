//! Pages that belong to no flow: what this is, and what a number means.

use crate::emulator::answer::Answer;
use crate::emulator::codes::TABLE;
use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use crate::emulator::sign_in::pages;
use axum::Extension;
use axum::extract::State;
use std::sync::Arc;

pub(crate) async fn front(State(core): State<Arc<Core>>, Extension(asked): Extension<Arc<Asked>>) -> Answer {
    pages::front(&asked.authority, &core.identity_endpoint)
}

/// Where `error_uri` points.
pub(crate) async fn error(Extension(asked): Extension<Arc<Asked>>) -> Answer {
    let code = asked.query.get("code").unwrap_or_default();
    let digits = code.trim_start_matches("AADSTS");
    let number: Option<u32> = digits.parse().ok();
    let row = number.and_then(|number| TABLE.iter().find(|row| row.0 == number));
    pages::explanation(number, row)
}
