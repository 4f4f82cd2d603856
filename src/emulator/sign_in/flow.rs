//! A sign-in on its way: what was asked for, and how far the person has come.

use crate::emulator::directory::Place;
use crate::emulator::sign_in::callback::Callback;
use crate::emulator::token_service::grants::{Bounded, Challenge, SignedIn, opaque};
use parking_lot::Mutex;
use std::time::{Duration, SystemTime};

/// So many are kept; the oldest make room. Each is of some kilobytes at most.
const KEPT: usize = 4096;

/// A page can be left open for so long.
const LIFETIME: Duration = Duration::from_secs(60 * 60);

#[derive(Debug, Clone)]
pub(crate) struct Flow {
    pub(crate) purpose: Purpose,
    /// The tenant as the path spelled it: the forms' paths begin with it.
    pub(crate) path: String,
    pub(crate) place: Place,
    pub(crate) client_id: String,
    pub(crate) scope: String,
    pub(crate) claims: Option<String>,
    pub(crate) prompt: Prompt,
    /// The user whom the app expects.
    pub(crate) hint: Option<String>,
    pub(crate) signed_in: Option<SignedIn>,
    /// A password was typed on one of this flow's pages.
    pub(crate) fresh: bool,
    /// The user said that it is this app on the device.
    pub(crate) confirmed: bool,
    /// The user accepted on the page that lists the permissions.
    pub(crate) consented: bool,
    pub(crate) begun: SystemTime,
}

/// What becomes of it in the end.
#[derive(Debug, Clone)]
pub(crate) enum Purpose {
    /// A code goes to the app.
    Code(CodeRequest),
    /// A device code is approved.
    Device(String),
    /// An administrator consents for everyone.
    AdminConsent { callback: Callback, scope: Option<String> },
}

#[derive(Debug, Clone)]
pub(crate) struct CodeRequest {
    pub(crate) callback: Callback,
    pub(crate) redirect_uri: String,
    pub(crate) spa: bool,
    pub(crate) nonce: Option<String>,
    pub(crate) challenge: Option<Challenge>,
    pub(crate) client_info: bool,
}

/// The `prompt` parameter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Prompt {
    pub(crate) none: bool,
    pub(crate) login: bool,
    pub(crate) consent: bool,
    pub(crate) select_account: bool,
}

impl Flow {
    /// At its beginning: nobody is signed in, and nothing is decided.
    pub(crate) fn new(
        purpose: Purpose,
        path: String,
        place: Place,
        client_id: String,
        scope: String,
        begun: SystemTime,
    ) -> Self {
        Self {
            purpose,
            path,
            place,
            client_id,
            scope,
            claims: None,
            prompt: Prompt::default(),
            hint: None,
            signed_in: None,
            fresh: false,
            confirmed: false,
            consented: false,
            begun,
        }
    }

    /// The tenant that was asked for, if the path names one.
    pub(crate) fn tenant(&self) -> Option<&str> {
        match &self.place {
            Place::Tenant(tenant) => Some(tenant),
            Place::Any(_) => None,
        }
    }

    /// Where the app waits for an answer, if it is an app in a browser that waits.
    pub(crate) fn callback(&self) -> Option<&Callback> {
        match &self.purpose {
            Purpose::Code(request) => Some(&request.callback),
            Purpose::AdminConsent { callback, .. } => Some(callback),
            Purpose::Device(_) => None,
        }
    }
}

pub(crate) struct Flows(Mutex<Bounded<String, Flow>>);

impl Default for Flows {
    fn default() -> Self {
        Self(Mutex::new(Bounded::of(KEPT)))
    }
}

impl Flows {
    /// Returns the id under which it is kept; with none so far, that is a new one.
    pub(crate) fn keep(&self, id: Option<String>, flow: Flow) -> String {
        let id = id.unwrap_or_else(|| opaque(""));
        self.0.lock().insert(id.clone(), flow);
        id
    }

    pub(crate) fn get(&self, id: &str, now: SystemTime) -> Option<Flow> {
        let flow = self.0.lock().map.get(id).cloned();
        flow.filter(|flow| now.duration_since(flow.begun).unwrap_or_default() <= LIFETIME)
    }
}
