//! Consent, given.

use crate::emulator::answer::Answer;
use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use crate::emulator::sign_in::pages;
use crate::emulator::sign_in::run::Run;
use crate::emulator::sign_in::step::{Permissible, Step};
use axum::Extension;
use axum::extract::State;
use std::sync::Arc;

pub(crate) async fn accept(State(core): State<Arc<Core>>, Extension(asked): Extension<Arc<Asked>>) -> Answer {
    let Some(mut run) = Run::of_form(&core, &asked) else {
        return pages::expired();
    };
    if let Step::Consent(of) = core.step(&run.flow) {
        let for_all = of.for_all || of.user.admin && asked.form.has("for_all");
        core.grant(&of, for_all);
        run.flow.consented = true;
    }
    run.proceed()
}

impl Core {
    /// Notes consent in the directory. An app of another tenant comes to be present in this one by it.
    fn grant(&self, of: &Permissible, for_all: bool) {
        let Permissible { app, user, tenant, permissions, .. } = of;
        self.directory.add_service_principal(tenant, &app.client_id);
        let by = (!for_all).then_some(user.name.as_str());
        for (resource, names) in permissions {
            let names = names.iter().map(String::as_str);
            self.directory.add_consent(tenant, &app.client_id, by, &resource.app_id, names);
        }
    }
}
