//! The way of a request: read, journaled, met by faults, routed, dressed.

use crate::emulator::Endpoint;
use crate::emulator::answer::Answer;
use crate::emulator::body::Body;
use crate::emulator::builder::Observer;
use crate::emulator::directory::Directory;
use crate::emulator::error::EntraError;
use crate::emulator::faults::{Action, Fault, Faults};
use crate::emulator::journal::Journal;
use crate::emulator::request::{self, Asked};
use crate::emulator::sign_in::SignIns;
use crate::emulator::time::Time;
use crate::emulator::token_service::grants::Grants;
use crate::emulator::{control, identity, token_service};
use axum::{Extension, Router};
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, HeaderName, LOCATION, PRAGMA,
};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use serde_json::Value;
use std::fmt;
use std::sync::Arc;
use tower::ServiceExt as _;

/// What all handlers share.
pub(crate) struct Core {
    pub(crate) directory: Directory,
    pub(crate) faults: Faults,
    pub(crate) journal: Journal,
    pub(crate) time: Time,
    /// Where the token service listens.
    pub(crate) authority: String,
    /// Whether documents and issuers begin with `authority` whatever a request's `Host` says.
    pub(crate) authority_is_fixed: bool,
    pub(crate) identity_endpoint: String,
    pub(crate) identity: identity::State,
    pub(crate) observer: Option<Observer>,
    pub(crate) grants: Grants,
    pub(crate) sign_ins: SignIns,
}

impl Core {
    /// The address by which a request reached the token service. One service has several names, and a client expects in the documents
    /// the one that it used.
    fn authority_of(&self, endpoint: Endpoint, headers: &HeaderMap) -> String {
        let host = request::host(headers).filter(|_| endpoint == Endpoint::TokenService);
        match (host, self.authority.split_once("://")) {
            (Some(host), Some((scheme, _))) if !self.authority_is_fixed => format!("{scheme}://{host}"),
            _ => self.authority.clone(),
        }
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("authority", &self.authority)
            .field("identity_endpoint", &self.identity_endpoint)
            .field("directory", &self.directory)
            .field("faults", &self.faults)
            .field("journal", &self.journal)
            .finish_non_exhaustive()
    }
}

/// There is no answer: the connection broke, because a fault wanted it to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// Nothing was read: the request was certainly not served.
    Refused,
    /// The request was read, and may have been served.
    Cut,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "the emulator refused the connection",
            Self::Cut => "the emulator cut the connection",
        })
    }
}

impl std::error::Error for Broken {}

/// Both endpoints, over whatever transport.
pub(crate) struct Service {
    pub(crate) core: Arc<Core>,
    token_service: Router,
    identity: Router,
}

impl Service {
    pub(crate) fn new(core: Core) -> Self {
        let core = Arc::new(core);
        let complete = |router: Router<Arc<Core>>| {
            router
                .fallback(unknown_path)
                .method_not_allowed_fallback(wrong_method)
                .with_state(Arc::clone(&core))
        };
        Self {
            token_service: complete(token_service::router()),
            identity: complete(identity::router()),
            core,
        }
    }

    /// Answers a request; `body` is `None` where it was too long to be read.
    pub(crate) async fn serve(
        &self,
        endpoint: Endpoint,
        parts: Parts,
        body: Option<Bytes>,
    ) -> Result<Response<Body>, Broken> {
        let core = &self.core;
        if control::is_control(parts.uri.path()) {
            let answer = control::serve(core, endpoint, &parts, body.as_ref()).await;
            return Ok(self.send(answer, &Fault::on(endpoint), parts.method == Method::HEAD));
        }
        let asked = Arc::new(Asked::new(
            endpoint,
            core.authority_of(endpoint, &parts.headers),
            core.time.now(),
            &parts,
            body,
        ));
        if let Some(user) = core.who(&asked) {
            asked.user_is(&user);
        }
        let fault = core.faults.meet(&asked, &core.directory);
        let fault = fault.unwrap_or_else(|| Fault::on(endpoint));
        if matches!(fault.action, Action::Refuse) {
            core.journal.refuse();
            return Err(Broken::Refused);
        }
        let number = core.journal.arrived(&asked);
        if !fault.delay.is_zero() {
            core.time.sleep(fault.delay).await;
        }
        let mut answer = self.act(&fault, &asked, &parts).await?;
        self.decorate(&mut answer, &asked);
        for (name, value) in &fault.headers {
            answer.headers.insert(name, value.clone());
        }
        core.journal.answered(number, core.time.now(), &asked, &answer);
        if let (Some(observer), Some(entry)) = (&core.observer, core.journal.entry(number)) {
            observer.tell(&entry);
        }
        Ok(self.send(answer, &fault, asked.method == Method::HEAD))
    }

    /// The answer, as the fault has it.
    async fn act(&self, fault: &Fault, asked: &Arc<Asked>, parts: &Parts) -> Result<Answer, Broken> {
        let status = fault.status.and_then(|s| StatusCode::from_u16(s).ok());
        let mut answer = match &fault.action {
            Action::Answer => match status.filter(|status| status.as_u16() >= 400) {
                Some(status) => self.dress(&error_of_status(asked.endpoint, status), asked),
                None => self.route(asked, parts).await,
            },
            Action::Error(code) => self.dress(&EntraError::aadsts(*code), asked),
            Action::Body(content_type, body) => Answer::new(StatusCode::OK, content_type, body.clone()),
            Action::Merge(members) => {
                let mut answer = self.route(asked, parts).await;
                if let Some(body) = merged(&answer.body, members)
                    && answer.status.is_success()
                {
                    answer.body = body.to_string().into();
                }
                answer
            }
            Action::Refuse => return Err(Broken::Refused),
            Action::Cut => {
                self.route(asked, parts).await;
                return Err(Broken::Cut);
            }
            Action::Huge(_) => Answer::new(StatusCode::OK, "application/json", Bytes::new()),
            Action::Redirect(url) => {
                Answer::new(StatusCode::TEMPORARY_REDIRECT, "text/html", Bytes::new()).header(LOCATION, url)
            }
            Action::Hang => std::future::pending().await,
        };
        answer.status = status.unwrap_or(answer.status);
        Ok(answer)
    }

    /// The answer as it is without faults.
    async fn route(&self, asked: &Arc<Asked>, parts: &Parts) -> Answer {
        if asked.too_large {
            let message = "The request body is larger than this service reads.";
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            return self.dress(&EntraError::plain(status, "invalid_request", message), asked);
        }
        let router = match asked.endpoint {
            Endpoint::TokenService => self.token_service.clone(),
            Endpoint::Identity => self.identity.clone(),
        };
        let mut request = Request::new(axum::body::Body::empty());
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = parts.uri.clone();
        request.extensions_mut().insert(Arc::clone(asked));
        let Ok(response) = router.oneshot(request).await;
        let (mut parts, body) = response.into_parts();
        if let Some(error) = parts.extensions.remove::<EntraError>() {
            let mut answer = self.dress(&error, asked);
            if let Some(allow) = parts.headers.remove(ALLOW) {
                answer.headers.insert(ALLOW, allow);
            }
            return answer;
        }
        // The handlers make their answers in memory, so there is no limit to set and nothing that can fail.
        let body = axum::body::to_bytes(body, usize::MAX).await;
        let body = body.unwrap_or_default();
        Answer::from_parts(parts.status, parts.headers, body, &parts.extensions)
    }

    fn dress(&self, error: &EntraError, asked: &Asked) -> Answer {
        let answer = match asked.endpoint {
            Endpoint::TokenService => error.answer(asked, &asked.authority),
            Endpoint::Identity => identity::error_answer(error, asked),
        };
        answer.named(error.name())
    }

    fn decorate(&self, answer: &mut Answer, asked: &Asked) {
        let may_be_kept = answer.headers.contains_key(CACHE_CONTROL);
        let mut set = |name: HeaderName, value: &str| {
            if let Ok(value) = value.parse() {
                answer.headers.entry(name).or_insert(value);
            }
        };
        if !may_be_kept {
            set(CACHE_CONTROL, "no-store, no-cache");
            set(PRAGMA, "no-cache");
        }
        if asked.endpoint == Endpoint::TokenService && token_service::is_cross_origin(&asked.path) {
            set(ACCESS_CONTROL_ALLOW_ORIGIN, "*");
        }
        set(HeaderName::from_static("x-content-type-options"), "nosniff");
        set(HeaderName::from_static("x-ms-request-id"), &asked.trace_id);
        let wants_id = asked.header("return-client-request-id");
        if wants_id.is_some_and(|wants| wants.eq_ignore_ascii_case("true")) {
            set(HeaderName::from_static("client-request-id"), &asked.correlation_id);
        }
    }

    fn send(&self, mut answer: Answer, fault: &Fault, is_head: bool) -> Response<Body> {
        let mut body = match fault.action {
            Action::Huge(total) => Body::huge(total),
            _ => Body::full(std::mem::take(&mut answer.body)),
        };
        if let Some(bytes) = fault.cut_body {
            body = body.cut_after(bytes);
        }
        if let Some((chunk, every)) = fault.drip {
            body = body.paced(chunk, every, self.core.time.clone());
        }
        // Said here and not left to the server, so that a call in memory sees it too.
        answer.headers.remove(CONTENT_LENGTH);
        if let Some(length) = body.announced().filter(|_| !is_head) {
            answer.headers.insert(CONTENT_LENGTH, length.into());
        }
        let mut response = Response::new(body);
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        response
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.core, f)
    }
}

fn error_of_status(endpoint: Endpoint, status: StatusCode) -> EntraError {
    match endpoint {
        Endpoint::TokenService => EntraError::of_status(status),
        Endpoint::Identity => identity::error_of_status(status),
    }
}

async fn unknown_path(Extension(asked): Extension<Arc<Asked>>) -> EntraError {
    let message = format!("The emulator serves nothing at '{}'.", asked.path);
    EntraError::plain(StatusCode::NOT_FOUND, "not_found", message)
}

async fn wrong_method(Extension(asked): Extension<Arc<Asked>>) -> EntraError {
    let expected = match asked.method {
        Method::GET | Method::HEAD => "POST",
        _ => "GET",
    };
    let message =
        format!("The endpoint only accepts {expected} requests. Received a {} request.", asked.method);
    match asked.endpoint {
        Endpoint::TokenService => EntraError::aadsts(900561).saying(message),
        Endpoint::Identity => {
            EntraError::plain(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
        }
    }
}

/// An answer's JSON, bent by the members of another object.
fn merged(body: &[u8], members: &Value) -> Option<Value> {
    let mut body: Value = serde_json::from_slice(body).ok()?;
    let object = body.as_object_mut()?;
    for (name, value) in members.as_object()? {
        if value.is_null() {
            object.remove(name);
        } else {
            object.insert(name.clone(), value.clone());
        }
    }
    Some(body)
}
