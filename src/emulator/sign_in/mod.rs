//! What a person sees in a browser: signing in, consent, device codes, signing out.
//!
//! A request that needs a person becomes a [`Flow`](flow::Flow), kept here under an id that its pages carry. Each form that comes back
//! changes the flow a little; what is shown next is decided anew from what the flow and the directory say by then. So a form
//! that is sent twice, or from an older page, does no harm.

mod admin_consent;
mod authorize;
mod callback;
mod consent;
mod device;
mod flow;
mod forms;
mod info;
mod logout;
mod pages;
mod parameters;
mod run;
mod session;
mod step;

use crate::emulator::service::Core;
use crate::emulator::token_service::device_code;
use axum::Router;
use axum::routing::{get, post};
use flow::Flows;
use session::Sessions;
use std::sync::Arc;

/// What the pages remember.
#[derive(Default)]
pub(crate) struct SignIns {
    flows: Flows,
    sessions: Sessions,
}

pub(crate) fn router() -> Router<Arc<Core>> {
    debug_assert!(device_code::PAGE.ends_with(device::PATH));
    Router::new()
        .route("/", get(info::front))
        .route("/error", get(info::error))
        .route("/{tenant}/oauth2/v2.0/authorize", get(authorize::authorize).post(authorize::authorize))
        .route("/{tenant}/login", post(forms::login))
        .route("/{tenant}/account", post(forms::account))
        .route("/{tenant}/proof", post(forms::proof))
        .route("/{tenant}/decline", post(forms::decline))
        .route("/{tenant}/consent", post(consent::accept))
        .route("/{tenant}/oauth2/deviceauth", get(device::page).post(device::enter))
        .route("/{tenant}/confirm", post(device::confirm))
        .route("/{tenant}/v2.0/adminconsent", get(admin_consent::v2))
        .route("/{tenant}/adminconsent", get(admin_consent::v1))
        .route("/{tenant}/oauth2/v2.0/logout", get(logout::logout).post(logout::logout))
        .route("/{tenant}/oauth2/logout", get(logout::logout).post(logout::logout))
}
