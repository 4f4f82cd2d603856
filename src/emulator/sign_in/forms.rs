//! What the forms of the sign-in pages send.

use crate::emulator::answer::Answer;
use crate::emulator::directory::Requirement;
use crate::emulator::error::EntraError;
use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use crate::emulator::sign_in::flow::Purpose;
use crate::emulator::sign_in::run::Run;
use crate::emulator::sign_in::step::Step;
use crate::emulator::sign_in::{device, pages};
use crate::emulator::token_service::grants::SignedIn;
use axum::Extension;
use axum::extract::State;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Name and password.
pub(crate) async fn login(State(core): State<Arc<Core>>, Extension(asked): Extension<Arc<Asked>>) -> Answer {
    let Some(mut run) = Run::of_form(&core, &asked) else {
        return pages::expired();
    };
    let signed_in = match sign_in(&run) {
        Ok(signed_in) => signed_in,
        Err(error) => return run.ask_who(Some(error)),
    };
    run.flow.signed_in = Some(signed_in.clone());
    run.flow.fresh = true;
    let (session, _) = core.keep_account(&asked, None, &signed_in);
    run.session = Some(session.clone());
    let answer = run.proceed();
    core.with_session(&asked, answer, &session)
}

fn sign_in(run: &Run<'_>) -> Result<SignedIn, EntraError> {
    let Run { core, asked, flow, .. } = run;
    let typed = asked.form.get("username").unwrap_or_default();
    let password = asked.form.get("password").unwrap_or_default();
    let user = core.typed(flow, typed)?;
    let home = core.directory.home_of(&user).unwrap_or_default();
    core.sign_in(&user, password, flow.tenant().unwrap_or(&home), BTreeSet::new())
}

/// One of the accounts that are signed in, or another one.
pub(crate) async fn account(
    State(core): State<Arc<Core>>,
    Extension(asked): Extension<Arc<Asked>>,
) -> Answer {
    let Some(mut run) = Run::of_form(&core, &asked) else {
        return pages::expired();
    };
    let chosen = asked.form.get("account");
    let accounts = core.accounts(&asked, run.flow.tenant());
    let known = accounts.into_iter().find(|account| Some(account.user.as_str()) == chosen);
    run.flow.hint = chosen.map(str::to_owned);
    match known.filter(|_| !run.flow.prompt.login) {
        None => run.ask_who(None),
        Some(known) => {
            run.flow.signed_in = Some(core.entering(&known, run.flow.tenant()));
            run.flow.fresh = false;
            run.proceed()
        }
    }
}

/// A policy's wish, granted with one button: here nothing is proved.
pub(crate) async fn proof(State(core): State<Arc<Core>>, Extension(asked): Extension<Arc<Asked>>) -> Answer {
    let Some(mut run) = Run::of_form(&core, &asked) else {
        return pages::expired();
    };
    let open = match core.step(&run.flow) {
        // Only what the page was about: a form that was sent twice must not grant the next wish.
        Step::Require(_, open) if asked.form.get("requirement") == Some(pages::word(open)) => Some(open),
        _ => None,
    };
    let open = open.filter(|open| !matches!(open, Requirement::Blocked | Requirement::SignInFrequency(_)));
    if let (Some(open), Some(signed_in)) = (open, &mut run.flow.signed_in) {
        signed_in.fulfilled.insert(open);
        core.grants.add_sign_in(signed_in);
        core.keep_account(&asked, None, signed_in);
    }
    run.proceed()
}

/// The user does not want to go on.
pub(crate) async fn decline(
    State(core): State<Arc<Core>>,
    Extension(asked): Extension<Arc<Asked>>,
) -> Answer {
    let Some(run) = Run::of_form(&core, &asked) else {
        return pages::expired();
    };
    if let Purpose::Device(device_code) = &run.flow.purpose {
        return device::decline(&core, device_code);
    }
    let error = match core.step(&run.flow) {
        Step::Require(_, requirement) => EntraError::aadsts(requirement.aadsts()),
        Step::Approval(_, error) | Step::Refused(error) | Step::SignIn(Some(error)) => error,
        Step::Consent(_) | Step::Done(..) => EntraError::aadsts(65004),
        Step::SignIn(None) | Step::Confirm(_) => {
            EntraError::aadsts(65004).saying("The user cancelled the sign-in.")
        }
    };
    run.refuse(&error.called("access_denied"))
}
