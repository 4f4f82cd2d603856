//! Faults: answers that are late, wrong, broken or missing, on command.

use crate::emulator::Endpoint;
use crate::emulator::directory::Directory;
use crate::emulator::request::{Asked, short_grant as short};
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use parking_lot::Mutex;
use serde_json::Value;
use std::fmt;
use std::time::Duration;

/// What goes wrong, for which requests, and how often.
///
/// A new fault matches every request of its endpoint and does nothing; filters narrow it and actions give it effect. Of several
/// actions that replace the answer (`status`, `error`, `body`, `merge`, `refuse`, `cut`, `huge`, `redirect`, `hang`) the last one
/// counts. `delay`, `header`, `retry_after`, `cut_body` and `drip` come on top of any answer, and so does `status` together with
/// `error`, `body` or `merge`.
///
/// ```
/// # use entra_broker::emulator::{Emulator, Endpoint, Fault};
/// # use std::time::Duration;
/// let emulator = Emulator::in_memory();
/// let fault = Fault::on(Endpoint::TokenService).status(429).retry_after(Duration::from_secs(7)).times(2);
/// emulator.faults().add(fault);
/// ```
#[derive(Clone)]
#[must_use = "a fault has an effect once it is added"]
pub struct Fault {
    pub(crate) endpoint: Endpoint,
    pub(crate) client: Option<String>,
    pub(crate) tenant: Option<String>,
    pub(crate) resource: Option<String>,
    pub(crate) path: Option<String>,
    pub(crate) grant_type: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) left: Option<u64>,
    /// How many requests met it.
    pub(crate) met: u64,
    pub(crate) action: Action,
    pub(crate) delay: Duration,
    pub(crate) status: Option<u16>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) cut_body: Option<u64>,
    pub(crate) drip: Option<(usize, Duration)>,
}

#[derive(Clone, Default)]
pub(crate) enum Action {
    /// The answer as it would have been, unless a status is set.
    #[default]
    Answer,
    Error(u32),
    Body(String, Bytes),
    Merge(Value),
    Refuse,
    Cut,
    Huge(u64),
    Redirect(String),
    Hang,
}

impl Fault {
    /// A fault for every request of this endpoint; discovery and keys are of the token service too.
    pub fn on(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            client: None,
            tenant: None,
            resource: None,
            path: None,
            grant_type: None,
            user: None,
            left: None,
            met: 0,
            action: Action::Answer,
            delay: Duration::ZERO,
            status: None,
            headers: Vec::new(),
            cut_body: None,
            drip: None,
        }
    }

    /// Only requests that name this client id.
    pub fn client(mut self, client_id: impl Into<String>) -> Self {
        self.client = Some(client_id.into());
        self
    }

    /// Only requests whose path names this tenant, by its id or a domain of it, or by this very word.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Only requests for a token for this resource, given without `/.default`.
    pub fn resource(mut self, resource: impl Into<String>) -> Self {
        self.resource = Some(resource.into());
        self
    }

    /// Only requests whose path ends like this: `/token`, `/keys`, `/openid-configuration`.
    pub fn path(mut self, end: impl Into<String>) -> Self {
        self.path = Some(end.into());
        self
    }

    /// Only token requests with this `grant_type`, such as `refresh_token`. Of a long name the last part does: `jwt-bearer`, `device_code`.
    pub fn grant_type(mut self, grant_type: impl Into<String>) -> Self {
        self.grant_type = Some(grant_type.into());
        self
    }

    /// Only requests that this user stands behind: with the user's password, code or refresh token, or on behalf of the user.
    pub fn user(mut self, name: impl Into<String>) -> Self {
        self.user = Some(name.into());
        self
    }

    /// Only the next `n` requests that match; without it the fault stays until it is removed.
    pub fn times(mut self, n: u64) -> Self {
        self.left = Some(n);
        self
    }

    /// Waits on the emulator's clock before anything else happens; the request is in the journal by then.
    ///
    /// A fault that does nothing but delay leaves the answer to the faults after it, or to the emulator.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Answers with this status: from 400 on with an error body that is plausible for it and without the
    /// request being served, below with the usual body.
    pub fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Adds `Retry-After`, in whole seconds.
    pub fn retry_after(self, after: Duration) -> Self {
        self.header("retry-after", after.as_secs().to_string())
    }

    /// Sets a header of the answer. A name or value that HTTP does not allow is left out.
    pub fn header(mut self, name: impl AsRef<str>, value: impl AsRef<str>) -> Self {
        let name = HeaderName::try_from(name.as_ref());
        let value = HeaderValue::try_from(value.as_ref());
        if let (Ok(name), Ok(value)) = (name, value) {
            self.headers.push((name, value));
        }
        self
    }

    /// Answers with the Entra error of this AADSTS number and the HTTP status that goes with it.
    pub fn error(mut self, aadsts: u32) -> Self {
        self.action = Action::Error(aadsts);
        self
    }

    /// Answers with these bytes, with status 200 unless [`status`](Self::status) says otherwise.
    pub fn body(mut self, content_type: impl Into<String>, bytes: impl Into<Bytes>) -> Self {
        self.action = Action::Body(content_type.into(), bytes.into());
        self
    }

    /// Bends the JSON of a success: members of this object replace those of the answer, `null` removes them.
    ///
    /// ```
    /// # use entra_broker::emulator::{Endpoint, Fault};
    /// let fault = Fault::on(Endpoint::TokenService)
    ///     .merge(serde_json::json!({"expires_in": "soon", "token_type": null}));
    /// ```
    pub fn merge(mut self, members: Value) -> Self {
        self.action = Action::Merge(members);
        self
    }

    /// Closes the connection before anything is read, whatever delay is set.
    ///
    /// With a filter for client, tenant, resource or path the request has to be read first; it counts as refused all the same.
    pub fn refuse(mut self) -> Self {
        self.action = Action::Refuse;
        self
    }

    /// Serves the request, but closes the connection instead of answering: the client cannot know what was done.
    pub fn cut(mut self) -> Self {
        self.action = Action::Cut;
        self
    }

    /// Announces the length of the whole body and closes the connection after `bytes` of it.
    pub fn cut_body(mut self, bytes: u64) -> Self {
        self.cut_body = Some(bytes);
        self
    }

    /// Sends the body in pieces of so many bytes, with a pause before each.
    pub fn drip(mut self, bytes_per_chunk: usize, every: Duration) -> Self {
        self.drip = Some((bytes_per_chunk, every));
        self
    }

    /// Answers with a success of so many bytes of padding, never all in memory, its length not announced.
    pub fn huge(mut self, total_bytes: u64) -> Self {
        self.action = Action::Huge(total_bytes);
        self
    }

    /// Answers 307 to another place.
    pub fn redirect(mut self, url: impl Into<String>) -> Self {
        self.action = Action::Redirect(url.into());
        self
    }

    /// Reads the request and never answers.
    pub fn hang(mut self) -> Self {
        self.action = Action::Hang;
        self
    }

    fn only_delays(&self) -> bool {
        matches!(self.action, Action::Answer)
            && self.status.is_none()
            && self.headers.is_empty()
            && self.cut_body.is_none()
            && self.drip.is_none()
    }

    fn matches(&self, asked: &Asked, directory: &Directory) -> bool {
        let same = |wanted: &Option<String>, found: Option<&str>| {
            let found = found.unwrap_or_default();
            wanted.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(found))
        };
        let resource = self.resource.as_ref().is_none_or(|wanted| {
            let scopes = asked.scope().unwrap_or_default().split_whitespace();
            let bare = |text: &str| text.trim_end_matches('/').to_ascii_lowercase();
            let mut asked_for = scopes.map(|s| s.strip_suffix("/.default").unwrap_or(s));
            asked_for.any(|found| bare(found) == bare(wanted))
        });
        let tenant = self.tenant.as_deref().is_none_or(|wanted| {
            let found = asked.tenant().unwrap_or_default();
            let id = || directory.tenant_id(wanted);
            wanted.eq_ignore_ascii_case(found)
                || id().is_some_and(|id| directory.tenant_id(found) == Some(id))
        });
        let path = self.path.as_ref();
        self.endpoint == asked.endpoint
            && same(&self.client, asked.client_id())
            && tenant
            && same(&self.user, asked.user())
            && same(
                &self.grant_type.as_deref().map(short).map(str::to_owned),
                asked.form.get("grant_type").map(short),
            )
            && path.is_none_or(|end| asked.path.trim_end_matches('/').ends_with(end.as_str()))
            && resource
    }

    /// Whether it refuses whoever comes, so that there is nothing to be read first.
    fn refuses_connections(&self) -> bool {
        let filters = [&self.client, &self.tenant, &self.resource, &self.path, &self.grant_type, &self.user];
        matches!(self.action, Action::Refuse) && filters.into_iter().all(Option::is_none)
    }

    pub(crate) fn does_nothing(&self) -> bool {
        self.only_delays() && self.delay.is_zero()
    }

    /// Counts a use down.
    fn use_up(&mut self) {
        self.met += 1;
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
    }

    fn is_used_up(&self) -> bool {
        self.left == Some(0)
    }
}

impl fmt::Debug for Fault {
    /// Without bodies: a test may have put a token into one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let action = match &self.action {
            Action::Answer => "answer",
            Action::Error(_) => "error",
            Action::Body(..) => "body",
            Action::Merge(_) => "merge",
            Action::Refuse => "refuse",
            Action::Cut => "cut",
            Action::Huge(_) => "huge",
            Action::Redirect(_) => "redirect",
            Action::Hang => "hang",
        };
        f.debug_struct("Fault")
            .field("endpoint", &self.endpoint)
            .field("client", &self.client)
            .field("tenant", &self.tenant)
            .field("resource", &self.resource)
            .field("path", &self.path)
            .field("grant_type", &self.grant_type)
            .field("user", &self.user)
            .field("action", &action)
            .field("status", &self.status)
            .field("delay", &self.delay)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

/// Names a fault that was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FaultId(u64);

impl FaultId {
    pub(crate) fn number(self) -> u64 {
        self.0
    }
}

/// The faults in force. The first one that matches a request wins, in the order in which they were added.
#[derive(Debug, Default)]
pub struct Faults(Mutex<List>);

#[derive(Debug, Default)]
struct List {
    faults: Vec<(FaultId, Fault)>,
    last: u64,
}

impl Faults {
    /// Adds a fault after those in force.
    pub fn add(&self, fault: Fault) -> FaultId {
        let mut list = self.0.lock();
        list.last += 1;
        let id = FaultId(list.last);
        if !fault.is_used_up() {
            list.faults.push((id, fault));
        }
        id
    }

    /// Removes a fault; whether it was still in force.
    pub fn remove(&self, id: FaultId) -> bool {
        let mut list = self.0.lock();
        let before = list.faults.len();
        list.faults.retain(|(found, _)| *found != id);
        list.faults.len() < before
    }

    pub(crate) fn remove_numbered(&self, number: u64) -> bool {
        self.remove(FaultId(number))
    }

    /// The faults in force, in the order in which they were added.
    pub(crate) fn list(&self) -> Vec<(FaultId, Fault)> {
        self.0.lock().faults.clone()
    }

    /// Removes all faults. Requests that already met one are not saved by it.
    pub fn clear(&self) {
        self.0.lock().faults.clear();
    }

    /// The fault that this request meets, its delay the sum of all that match, and one use of each counted.
    pub(crate) fn meet(&self, asked: &Asked, directory: &Directory) -> Option<Fault> {
        let mut list = self.0.lock();
        let mut met: Option<Fault> = None;
        let mut delay = Duration::ZERO;
        for (_, fault) in &mut list.faults {
            let only_delays = fault.only_delays();
            if (!only_delays && met.is_some()) || !fault.matches(asked, directory) {
                continue;
            }
            fault.use_up();
            delay = delay.saturating_add(fault.delay);
            if !only_delays {
                met = Some(fault.clone());
            }
        }
        list.faults.retain(|(_, fault)| !fault.is_used_up());
        if met.is_none() && !delay.is_zero() {
            met = Some(Fault::on(asked.endpoint));
        }
        met.map(|fault| fault.delay(delay))
    }

    /// Whether connections are closed before anything is read from them; nothing is counted.
    pub(crate) fn refuses_connections(&self, endpoint: Endpoint) -> bool {
        let list = self.0.lock();
        let mut acting = list.faults.iter().map(|(_, fault)| fault);
        let first = acting.find(|fault| fault.endpoint == endpoint && !fault.only_delays());
        first.is_some_and(Fault::refuses_connections)
    }

    /// Whether a connection is to be closed before anything is read from it, which counts as a use.
    pub(crate) fn refuse_connection(&self, endpoint: Endpoint) -> bool {
        let mut list = self.0.lock();
        let mut acting =
            list.faults.iter_mut().filter(|(_, fault)| fault.endpoint == endpoint && !fault.only_delays());
        let first = acting.next().map(|(_, fault)| fault);
        let refuses = first.filter(|fault| fault.refuses_connections()).map(Fault::use_up).is_some();
        list.faults.retain(|(_, fault)| !fault.is_used_up());
        refuses
    }
}
