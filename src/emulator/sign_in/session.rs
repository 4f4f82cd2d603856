//! Who is signed in in a browser, so that the next app need not ask again.

use crate::emulator::answer::Answer;
use crate::emulator::ids;
use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use crate::emulator::token_service::grants::{Bounded, SignedIn, opaque};
use http::header::SET_COOKIE;
use parking_lot::Mutex;
use std::time::Duration;
use url::Url;

/// How long a sign-in is good for other apps: Entra's default for a session that does not outlive the browser.
const LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// So many sign-ins are kept of one browser.
const ACCOUNTS: usize = 16;

#[derive(Debug, Clone)]
struct Session {
    /// Names the session to apps, as `session_state`.
    state: String,
    accounts: Vec<SignedIn>,
}

#[derive(Default)]
pub(crate) struct Sessions(Mutex<Bounded<String, Session>>);

impl Core {
    /// The users who are signed in in the browser and may still be, the latest first: each with the sign-in to this tenant, or else
    /// to another.
    pub(crate) fn accounts(&self, asked: &Asked, tenant: Option<&str>) -> Vec<SignedIn> {
        let Some(id) = asked.cookie(&self.cookie_name()) else {
            return Vec::new();
        };
        let sessions = self.sign_ins.sessions.0.lock();
        let session = sessions.map.get(id).cloned();
        drop(sessions);
        let is_good = |signed_in: &SignedIn| {
            let user = self.directory.user(&signed_in.user);
            let age = self.time.now().duration_since(signed_in.at).unwrap_or_default();
            age <= LIFETIME && user.is_some_and(|user| user.enabled && user.revoked == signed_in.revoked)
        };
        let sign_ins = session.map(|session| session.accounts).unwrap_or_default();
        let mut accounts: Vec<SignedIn> = Vec::new();
        for signed_in in sign_ins.into_iter().filter(is_good) {
            match accounts.iter_mut().find(|account| account.user == signed_in.user) {
                None => accounts.push(signed_in),
                Some(account) if tenant == Some(&signed_in.tenant) => *account = signed_in,
                Some(_) => {}
            }
        }
        accounts
    }

    /// Keeps a sign-in, and its later state, in the browser's session. Returns the session's id and its `session_state`.
    ///
    /// The session is this one, or the one that the request's cookie names, or a new one.
    pub(crate) fn keep_account(
        &self,
        asked: &Asked,
        session: Option<&str>,
        signed_in: &SignedIn,
    ) -> (String, String) {
        let mut sessions = self.sign_ins.sessions.0.lock();
        let named = session.or_else(|| asked.cookie(&self.cookie_name()));
        let id = named.filter(|id| sessions.map.contains_key(*id));
        let id = id.map_or_else(|| opaque(""), str::to_owned);
        let known = sessions.map.get(&id).cloned();
        let mut session = known.unwrap_or_else(|| Session { state: ids::guid(), accounts: Vec::new() });
        let is_same = |known: &SignedIn| known.user == signed_in.user && known.tenant == signed_in.tenant;
        session.accounts.retain(|known| !is_same(known));
        session.accounts.insert(0, signed_in.clone());
        session.accounts.truncate(ACCOUNTS);
        let state = session.state.clone();
        sessions.insert(id.clone(), session);
        (id, state)
    }

    /// Signs out the account that the hint names, or everyone.
    pub(crate) fn forget_accounts(&self, asked: &Asked, hint: Option<&str>) {
        let Some(id) = asked.cookie(&self.cookie_name()) else {
            return;
        };
        let mut sessions = self.sign_ins.sessions.0.lock();
        let Some(session) = sessions.map.get_mut(id) else {
            return;
        };
        let is_meant = |account: &SignedIn| hint.is_some_and(|hint| fits(account, hint));
        if session.accounts.iter().any(is_meant) {
            session.accounts.retain(|account| !is_meant(account));
        } else {
            session.accounts.clear();
        }
    }

    /// With the port in its name, since browsers do not tell the ports of one host apart.
    fn cookie_name(&self) -> String {
        let port = Url::parse(&self.authority).ok().and_then(|url| url.port_or_known_default());
        format!("entra-emulator-{}", port.unwrap_or_default())
    }

    /// An answer with the session's cookie.
    pub(crate) fn with_session(&self, asked: &Asked, answer: Answer, id: &str) -> Answer {
        let secure = if asked.authority.starts_with("https:") { "; Secure" } else { "" };
        let name = self.cookie_name();
        answer.header(SET_COOKIE, &format!("{name}={id}; Path=/; HttpOnly; SameSite=Lax{secure}"))
    }
}

/// Whether a `login_hint`, `logout_hint` or `sid` means this account.
pub(crate) fn fits(account: &SignedIn, hint: &str) -> bool {
    let hint = hint.trim();
    let short = account.user.split('@').next().unwrap_or_default();
    account.user.eq_ignore_ascii_case(hint) || short.eq_ignore_ascii_case(hint) || account.sid == hint
}
