//! Signing out.

use crate::emulator::answer::Answer;
use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use crate::emulator::sign_in::callback::{self, Callback, Mode};
use crate::emulator::sign_in::{pages, parameters};
use axum::Extension;
use axum::extract::State;
use std::sync::Arc;

pub(crate) async fn logout(State(core): State<Arc<Core>>, Extension(asked): Extension<Arc<Asked>>) -> Answer {
    let params = parameters::sent(&asked);
    if let Err(error) = core.directory.place(asked.tenant().unwrap_or_default()) {
        return pages::error(&error, Some(&asked));
    }
    core.forget_accounts(&asked, params.get("logout_hint"));
    let back = params.get("post_logout_redirect_uri");
    match back.filter(|uri| callback::is_safe(uri) && core.directory.has_redirect_uri(uri)) {
        Some(uri) => {
            let state = params.get("state").map(str::to_owned);
            let callback = Callback { uri: uri.to_owned(), mode: Mode::Query, state, always: Vec::new() };
            callback.answer(Vec::new())
        }
        None => pages::signed_out(),
    }
}
