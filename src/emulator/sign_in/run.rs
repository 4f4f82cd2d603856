//! A flow and the request that moves it on: from step to page, or to the end.

use crate::emulator::answer::Answer;
use crate::emulator::directory::{Accounts, App, Place, Requirement, User};
use crate::emulator::error::{EntraError, echo};
use crate::emulator::ids;
use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use crate::emulator::sign_in::flow::{CodeRequest, Flow, Purpose};
use crate::emulator::sign_in::pages::{self, Form, Known, SignInPage};
use crate::emulator::sign_in::session;
use crate::emulator::sign_in::step::Step;
use crate::emulator::token_service::grants::{Code, DEVICE_LIFETIME, DeviceState, SignedIn};
use std::collections::BTreeSet;

pub(crate) struct Run<'a> {
    pub(crate) core: &'a Core,
    pub(crate) asked: &'a Asked,
    pub(crate) flow: Flow,
    /// Under which the flow is kept, once it had a page.
    pub(crate) id: Option<String>,
    /// The browser's session, if it began with this request.
    pub(crate) session: Option<String>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(core: &'a Core, asked: &'a Asked, flow: Flow) -> Self {
        Self { core, asked, flow, id: None, session: None }
    }

    /// The flow whose form was sent, if it is known and has not expired.
    pub(crate) fn of_form(core: &'a Core, asked: &'a Asked) -> Option<Self> {
        let id = asked.form.get("flow").unwrap_or_default();
        let flow = core.sign_ins.flows.get(id, core.time.now())?;
        Some(Self { core, asked, flow, id: Some(id.to_owned()), session: None })
    }

    /// What the browser gets: the next page, or the way back to the app.
    pub(crate) fn proceed(self) -> Answer {
        if let Some(signed_in) = &self.flow.signed_in {
            self.asked.user_is(&signed_in.user);
        }
        match self.core.step(&self.flow) {
            Step::SignIn(error) => self.ask_who(error),
            Step::Require(app, Requirement::SignInFrequency(_)) if !self.flow.prompt.none => {
                let name = self.flow.signed_in.as_ref().map(|signed_in| signed_in.user.clone());
                self.again(&app, name)
            }
            step if self.flow.prompt.none => self.silently(step),
            Step::Confirm(app) => self.page(|form, run| pages::confirm(form, &app, run.user())),
            Step::Require(app, Requirement::Blocked) => {
                self.page(|form, run| pages::blocked(form, &app, run.user()))
            }
            Step::Require(app, requirement) => {
                self.page(|form, run| pages::proof(form, &app, run.user(), requirement))
            }
            Step::Consent(of) => {
                let called = self.core.directory.called(&of.tenant);
                let publisher = self.core.directory.called(&of.app.home_tenant);
                self.page(|form, _| pages::consent(form, &of, &called, &publisher))
            }
            Step::Approval(app, error) => {
                self.page(|form, run| pages::approval(form, &app, run.user(), &error))
            }
            Step::Refused(error) => self.refuse(&error),
            Step::Done(app, user, signed_in) => self.finish(&app, &user, signed_in),
        }
    }

    /// A request that must not show a page.
    fn silently(self, step: Step) -> Answer {
        let error = match step {
            Step::Done(app, user, signed_in) => return self.finish(&app, &user, signed_in),
            Step::Refused(error) => error,
            Step::SignIn(_) | Step::Confirm(_) => EntraError::aadsts(50058),
            Step::Require(_, Requirement::SignInFrequency(_)) => EntraError::aadsts(70044),
            Step::Require(_, requirement) => EntraError::aadsts(requirement.aadsts()),
            Step::Consent(_) | Step::Approval(..) => EntraError::aadsts(65001).called("consent_required"),
        };
        self.refuse(&error)
    }

    /// Who is there? The browser's session may know.
    pub(crate) fn begin(mut self) -> Answer {
        let Flow { prompt, hint, .. } = &self.flow;
        let accounts = self.core.accounts(self.asked, self.flow.tenant());
        let is_hinted = |account: &&SignedIn| hint.as_ref().is_none_or(|hint| session::fits(account, hint));
        let fitting: Vec<SignedIn> = accounts.iter().filter(is_hinted).cloned().collect();
        let asks_which = prompt.select_account || matches!(self.flow.purpose, Purpose::Device(_));
        match fitting.as_slice() {
            _ if prompt.login || asks_which => {}
            [only] => {
                self.flow.signed_in = Some(self.core.entering(only, self.flow.tenant()));
                return match self.core.step(&self.flow) {
                    // Good elsewhere, not here: somebody else may be meant.
                    Step::SignIn(Some(error)) if self.flow.prompt.none => {
                        let error = error.called("interaction_required");
                        self.refuse(&error)
                    }
                    _ => self.proceed(),
                };
            }
            [] if prompt.none && accounts.is_empty() => return self.refuse(&EntraError::aadsts(50058)),
            _ if prompt.none => return self.refuse(&EntraError::aadsts(16000)),
            _ => {}
        }
        if accounts.is_empty() || prompt.login && !asks_which || fitting.is_empty() && !asks_which {
            return self.ask_who(None);
        }
        self.choose(&accounts)
    }

    fn choose(self, accounts: &[SignedIn]) -> Answer {
        let known: Vec<Known> = accounts
            .iter()
            .filter_map(|account| {
                let user = self.core.directory.user(&account.user)?;
                Some(Known { name: user.name, display_name: user.display_name })
            })
            .collect();
        let app = self.app_name();
        self.page(|form, _| pages::choose(form, &app, &known))
    }

    /// The page that asks for name and password.
    pub(crate) fn ask_who(self, error: Option<EntraError>) -> Answer {
        let name = self.asked.form.get("username").map(echo).or_else(|| self.flow.hint.clone());
        self.sign_in_page(name, error, None)
    }

    fn again(self, app: &App, name: Option<String>) -> Answer {
        let why =
            format!("{} wants you to sign in again, because your last sign-in was too long ago.", app.name);
        self.sign_in_page(name, None, Some(why))
    }

    fn sign_in_page(
        mut self,
        name: Option<String>,
        error: Option<EntraError>,
        why: Option<String>,
    ) -> Answer {
        self.flow.signed_in = None;
        let code = error.as_ref().and_then(EntraError::code);
        let app = self.app_name();
        let tenant = self.flow.tenant().map(|tenant| self.core.directory.called(tenant));
        let is_device = matches!(self.flow.purpose, Purpose::Device(_));
        let may_decline = is_device || self.flow.callback().is_some();
        self.page(|form, _| {
            let page = SignInPage { app: &app, tenant, name, error, why, may_decline };
            pages::sign_in(form, &page)
        })
        .about(code)
    }

    /// Keeps the flow and shows a page of it.
    fn page(mut self, page: impl FnOnce(Form<'_>, &Self) -> Answer) -> Answer {
        let id = self.core.sign_ins.flows.keep(self.id.take(), self.flow.clone());
        page(Form { path: &self.flow.path, flow: &id }, &self)
    }

    /// The principal name of who is signed in.
    fn user(&self) -> &str {
        self.flow.signed_in.as_ref().map_or("", |signed_in| &signed_in.user)
    }

    fn app_name(&self) -> String {
        let app = self.core.directory.app(&self.flow.client_id);
        app.map_or_else(|| self.flow.client_id.clone(), |app| app.name)
    }

    /// Tells whoever waits that it came to nothing.
    pub(crate) fn refuse(self, error: &EntraError) -> Answer {
        match self.flow.callback() {
            Some(callback) => callback.refuse(self.asked, error),
            None => pages::error(error, None),
        }
    }

    fn finish(self, app: &App, user: &User, signed_in: SignedIn) -> Answer {
        self.core.grants.add_sign_in(&signed_in);
        let (id, session_state) = self.core.keep_account(self.asked, self.session.as_deref(), &signed_in);
        let answer = match &self.flow.purpose {
            Purpose::Code(request) => self.code(request, user, signed_in, session_state),
            Purpose::Device(device_code) => approve(self.core, device_code, app, signed_in),
            Purpose::AdminConsent { callback, scope } => {
                let mut parameters = vec![("tenant", signed_in.tenant)];
                parameters.extend(scope.clone().map(|scope| ("scope", scope)));
                callback.answer(parameters)
            }
        };
        self.core.with_session(self.asked, answer, &id)
    }

    fn code(&self, request: &CodeRequest, user: &User, signed_in: SignedIn, session_state: String) -> Answer {
        let code = self.core.grants.add_code(Code {
            client_id: self.flow.client_id.clone(),
            redirect_uri: request.redirect_uri.clone(),
            spa: request.spa,
            signed_in,
            scope: self.flow.scope.clone(),
            nonce: request.nonce.clone(),
            challenge: request.challenge.clone(),
            claims: self.flow.claims.clone(),
            issued: self.core.time.now(),
            redeemed: false,
        });
        let mut parameters = vec![("code", code)];
        if request.client_info {
            parameters.push(("client_info", self.core.client_info(user)));
        }
        parameters.push(("session_state", session_state));
        request.callback.answer(parameters)
    }
}

/// Lets a device have its tokens, unless that was decided already.
fn approve(core: &Core, device_code: &str, app: &App, signed_in: SignedIn) -> Answer {
    let now = core.time.now();
    let user = signed_in.user.clone();
    let approved = core.grants.with_device(device_code, |device| {
        let age = now.duration_since(device.issued).unwrap_or_default();
        match device.state {
            DeviceState::Pending if age <= DEVICE_LIFETIME => {
                device.state = DeviceState::Approved(signed_in);
                true
            }
            // The same form once more.
            DeviceState::Approved(_) | DeviceState::Redeemed => true,
            DeviceState::Pending | DeviceState::Declined => false,
        }
    });
    if approved == Some(true) { pages::device_done(app, &user) } else { pages::device_gone() }
}

impl Core {
    /// A sign-in for the tenant that is asked for, or else for the user's own.
    pub(crate) fn entering(&self, signed_in: &SignedIn, tenant: Option<&str>) -> SignedIn {
        let home = || self.directory.user(&signed_in.user).and_then(|user| self.directory.home_of(&user));
        let tenant = tenant.map(str::to_owned).or_else(home).unwrap_or_default();
        if tenant == signed_in.tenant {
            return signed_in.clone();
        }
        // What was proved in one tenant, another one wants to see proved again.
        SignedIn { sid: ids::guid(), tenant, fulfilled: BTreeSet::new(), ..signed_in.clone() }
    }

    /// The user who is meant by what was typed.
    pub(crate) fn typed(&self, flow: &Flow, typed: &str) -> Result<User, EntraError> {
        if matches!(flow.place, Place::Any(Accounts::Consumers)) {
            return Err(EntraError::aadsts(50020));
        }
        self.directory.user_typed(typed, flow.tenant()).ok_or_else(|| {
            EntraError::aadsts(50034).saying(format!(
                "The user account {} does not exist in the directory{}.",
                echo(typed),
                flow.tenant().map(|tenant| format!(" {}", self.directory.called(tenant))).unwrap_or_default()
            ))
        })
    }
}
