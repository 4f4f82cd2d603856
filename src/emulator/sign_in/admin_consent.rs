//! An administrator's consent for everyone in a tenant, asked for outside of a sign-in.

use crate::emulator::answer::Answer;
use crate::emulator::directory::App;
use crate::emulator::error::EntraError;
use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use crate::emulator::sign_in::callback::{Callback, Mode};
use crate::emulator::sign_in::flow::{Flow, Purpose};
use crate::emulator::sign_in::pages;
use crate::emulator::sign_in::run::Run;
use crate::emulator::token_service::scopes::Scopes;
use axum::Extension;
use axum::extract::State;
use std::sync::Arc;

/// The permissions come with the request.
pub(crate) async fn v2(State(core): State<Arc<Core>>, Extension(asked): Extension<Arc<Asked>>) -> Answer {
    begin(&core, &asked, |_| match asked.query.get("scope") {
        Some(scope) => Ok((scope.to_owned(), Some(scope.to_owned()))),
        None => Err(EntraError::missing("scope")),
    })
}

/// The permissions are those of the registration.
pub(crate) async fn v1(State(core): State<Arc<Core>>, Extension(asked): Extension<Arc<Asked>>) -> Answer {
    begin(&core, &asked, |app| Ok((listed(app), None)))
}

fn begin(
    core: &Core,
    asked: &Asked,
    scopes: impl FnOnce(&App) -> Result<(String, Option<String>), EntraError>,
) -> Answer {
    let target = match core.target(asked) {
        Ok(target) => target,
        Err(error) => return pages::error(&error, Some(asked)),
    };
    let callback = Callback {
        uri: target.redirect_uri,
        mode: Mode::Query,
        state: asked.query.get("state").map(str::to_owned),
        // On failure, too: it says which question is answered, not how.
        always: vec![("admin_consent", "True".to_owned())],
    };
    let short = asked.query.too_long().map_or(Ok(()), |name| Err(EntraError::too_long(name)));
    let scopes = short.and_then(|()| scopes(&target.app));
    let scopes = scopes.and_then(|scopes| Scopes::parse(&scopes.0).map(|_| scopes));
    let (scope, echoed) = match scopes {
        Ok(scopes) => scopes,
        Err(error) => return callback.refuse(asked, &error),
    };
    let purpose = Purpose::AdminConsent { callback, scope: echoed };
    let path = asked.tenant().unwrap_or_default().to_owned();
    let flow = Flow::new(purpose, path, target.place, target.app.client_id, scope, core.time.now());
    Run::new(core, asked, flow).begin()
}

/// Everything that the registration lists, as a `scope` parameter would name it.
fn listed(app: &App) -> String {
    let permissions = app.permissions.iter().flatten();
    let scopes =
        permissions.flat_map(|(resource, names)| names.iter().map(move |name| format!("{resource}/{name}")));
    scopes.collect::<Vec<_>>().join(" ")
}
