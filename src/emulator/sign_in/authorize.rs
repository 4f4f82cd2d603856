//! The authorize endpoint.

use crate::emulator::answer::Answer;
use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use crate::emulator::sign_in::run::Run;
use crate::emulator::sign_in::{pages, parameters};
use axum::Extension;
use axum::extract::State;
use std::sync::Arc;

pub(crate) async fn authorize(
    State(core): State<Arc<Core>>,
    Extension(asked): Extension<Arc<Asked>>,
) -> Answer {
    let target = match core.target(&asked) {
        Ok(target) => target,
        Err(error) => return pages::error(&error, Some(&asked)),
    };
    match parameters::parse(&asked, &target, core.time.now()) {
        (_, Ok(flow)) => Run::new(&core, &asked, flow).begin(),
        (callback, Err(error)) => callback.refuse(&asked, &error),
    }
}
