//! What a sign-in needs next.

use crate::emulator::directory::{App, Requirement, Resource, User};
use crate::emulator::error::EntraError;
use crate::emulator::service::Core;
use crate::emulator::sign_in::flow::{Flow, Purpose};
use crate::emulator::token_service::claims::ClaimsRequest;
use crate::emulator::token_service::grants::SignedIn;
use crate::emulator::token_service::review::Review;
use crate::emulator::token_service::scopes::{Scopes, SignIn, Wanted};
use std::collections::BTreeSet;

pub(crate) enum Step {
    /// A user, and what was wrong with the one who tried.
    SignIn(Option<EntraError>),
    /// Does the user mean this app? Asked where it runs on another device.
    Confirm(App),
    Require(App, Requirement),
    Consent(Permissible),
    /// An administrator: the app wants what users cannot give.
    Approval(App, EntraError),
    /// Nobody can help here; the error is the app's to read.
    Refused(EntraError),
    Done(App, User, SignedIn),
}

/// What is to be consented to.
pub(crate) struct Permissible {
    pub(crate) app: App,
    pub(crate) user: User,
    pub(crate) tenant: String,
    pub(crate) sign_in: SignIn,
    /// Resources with those of their permissions that are not granted yet, or with all that are asked for.
    pub(crate) permissions: Vec<(Resource, BTreeSet<String>)>,
    /// Only an administrator's consent for everyone will do.
    pub(crate) for_all: bool,
}

impl Core {
    pub(crate) fn step(&self, flow: &Flow) -> Step {
        let Some(signed_in) = flow.signed_in.clone() else {
            return Step::SignIn(None);
        };
        let tenant = signed_in.tenant.clone();
        let app = match self.usable(&flow.client_id, Some(&tenant)) {
            Ok(app) => app,
            Err(error) => return Step::Refused(error),
        };
        let user = match self.still_good(&signed_in, &tenant, &app) {
            Ok(user) => user,
            Err(error) => return Step::SignIn(Some(error)),
        };
        if matches!(flow.purpose, Purpose::Device(_)) && !flow.confirmed {
            return Step::Confirm(app);
        }
        match self.permissions(flow, &app, user, signed_in) {
            Ok(step) => step,
            Err(error) => Step::Refused(error),
        }
    }

    fn permissions(
        &self,
        flow: &Flow,
        app: &App,
        user: User,
        signed_in: SignedIn,
    ) -> Result<Step, EntraError> {
        let tenant = &signed_in.tenant;
        let scopes = Scopes::parse(&flow.scope)?;
        let claims = ClaimsRequest::parse(flow.claims.as_deref())?;
        let for_all = matches!(flow.purpose, Purpose::AdminConsent { .. });
        let mut permissions = Vec::new();
        let (mut missing, mut for_admins) = (false, for_all && !user.admin);
        for wanted in wanted(&scopes) {
            let reviewed = self.review(&Review { app, tenant, user: &user, wanted: &wanted })?;
            // A token is for the first resource: only its policies count.
            if permissions.is_empty() && !for_all {
                let open = self.unfulfilled(&signed_in, tenant, app, &reviewed.resource, &claims);
                let is_age = |open: &Requirement| matches!(open, Requirement::SignInFrequency(_));
                // Who has just typed the password is not asked to do so again, however short the time allowed.
                if let Some(open) = open.into_iter().find(|open| !(is_age(open) && flow.fresh)) {
                    return Ok(Step::Require(app.clone(), open));
                }
            }
            missing |= !reviewed.missing.is_empty();
            for_admins |= !user.admin && !reviewed.for_admins().is_empty();
            let shown = if flow.prompt.consent || for_all {
                reviewed.missing.union(&reviewed.granted).cloned().collect()
            } else {
                reviewed.missing
            };
            permissions.push((reviewed.resource, shown));
        }
        if for_admins {
            let error = EntraError::aadsts(90094).saying(format!(
                "{} needs permissions to resources in your organization that only an administrator can grant.",
                app.name
            ));
            return Ok(Step::Approval(app.clone(), error));
        }
        let is_new = self.directory.principal(tenant, &app.client_id).is_none();
        if missing || is_new || (flow.prompt.consent || for_all) && !flow.consented {
            permissions.retain(|(_, names)| !names.is_empty());
            return Ok(Step::Consent(Permissible {
                app: app.clone(),
                user,
                tenant: tenant.clone(),
                sign_in: scopes.sign_in,
                permissions,
                for_all,
            }));
        }
        Ok(Step::Done(app.clone(), user, signed_in))
    }
}

/// All that is asked for; a request to sign in only is one for no permission of Graph's.
fn wanted(scopes: &Scopes) -> Vec<Wanted> {
    if scopes.wanted.is_empty() { vec![scopes.first()] } else { scopes.wanted.clone() }
}
