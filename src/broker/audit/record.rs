//! One record: what is in it, and how it is made.

use std::time::SystemTime;

use serde::Serialize;

use crate::{
    error::Error,
    fetched::Reason,
    identity::{Binding, Identity},
    subject::Subject,
    sync::Arc,
    tenant::TenantId,
};

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AuditEvent {
    /// A request that reached the token service or another source of tokens, or a fetch that failed before one.
    Request,
    /// A caller got its answer.
    Call,
    /// A request of [`Broker::check_tenant`](crate::Broker::check_tenant).
    TenantCheck,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AuditOutcome {
    /// With a token, or what the next request of the same fetch needs.
    Success,
    /// With an error: see [`error_kind`](AuditRecord::error_kind).
    Failure,
    /// It was given up before there was an answer: its time was up, the broker was closed, or the provider panicked.
    Abandoned,
}

/// One record of an audit trail. Holds no token, no secret, and nothing of an answer but numbers and ids. It serialises
/// to the JSON of [`JsonLines`](super::JsonLines); absent fields are left out.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct AuditRecord {
    /// When it ended, by the broker's clock.
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    /// What it is about.
    pub event: AuditEvent,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// What the caller said that it is for: [`CallOptions::label`](crate::CallOptions::label). None where nobody
    /// asked at that moment: a refresh in the background.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<Arc<str>>,
    /// What the broker is called: [`Builder::name`](crate::Builder::name), or its
    /// [binding](crate::Builder::binding).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binding: Option<Arc<str>>,
    /// The kind of provider, such as `client-secret`; in a chain, the link that answered.
    pub provider: &'static str,
    /// The client id, or what else names the provider's identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<Arc<str>>,
    /// The tenant that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Arc<str>>,
    /// The scopes that were asked for.
    pub resource: Box<str>,
    /// For whom: `app`, `user` or `on_behalf_of`.
    pub subject: &'static str,
    /// Which user, by the name that the broker knows; never of an assertion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Box<str>>,
    /// Why a request was made: `miss`, `due`, `forced` or `probe`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Where it was answered: a host, `cache`, `fetch`, `remembered failure` or `broker`. None where nobody answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<Box<str>>,
    /// How often a request was sent: the first attempt and its repetitions, which are one request to the service. 0 where
    /// nothing was sent.
    #[serde(skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// The HTTP status, where there was an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// [`Error::kind`](crate::Error::kind), in `snake_case`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_kind: Option<&'static str>,
    /// The numbers behind `AADSTS`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aadsts: Vec<u32>,
    /// Under which Entra has it in its sign-in logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<Box<str>>,
    /// Entra's own name for the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<Box<str>>,
    /// When the token expires.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "maybe_rfc3339")]
    pub expires_on: Option<SystemTime>,
}

/// The half of a record that is the broker's and always the same.
#[derive(Debug, Clone)]
pub(in crate::broker) struct Who {
    provider: &'static str,
    binding: Option<Arc<str>>,
    identity: Option<Arc<str>>,
    tenant: Option<Arc<str>>,
}

impl Who {
    pub(in crate::broker) fn new(provider: &'static str, identity: &Identity, name: Option<&str>) -> Self {
        let binding = match identity.binding() {
            _ if name.is_some() => name.map(Arc::from),
            Binding::Shared(name) => Some(Arc::clone(name)),
            Binding::Local => None,
        };
        Self {
            provider,
            binding,
            identity: identity.client_id().map(Arc::from),
            tenant: identity.tenant().map(|tenant| Arc::from(tenant.as_str())),
        }
    }
}

impl AuditRecord {
    pub(super) fn new(
        event: AuditEvent,
        time: SystemTime,
        who: &Who,
        tenant: Option<&TenantId>,
        scopes: &str,
        subject: &Subject,
    ) -> Self {
        let (subject, user) = match subject {
            Subject::App => ("app", None),
            Subject::User(user) => ("user", Some(user.as_str().into())),
            Subject::OnBehalfOf(_) => ("on_behalf_of", None),
        };
        Self {
            time,
            event,
            outcome: AuditOutcome::Abandoned,
            label: None,
            binding: who.binding.clone(),
            provider: who.provider,
            identity: who.identity.clone(),
            tenant: tenant.map(|tenant| Arc::from(tenant.as_str())).or_else(|| who.tenant.clone()),
            resource: scopes.into(),
            subject,
            user,
            reason: None,
            answered_by: None,
            attempts: 0,
            status: None,
            error_kind: None,
            aadsts: Vec::new(),
            correlation_id: None,
            trace_id: None,
            expires_on: None,
        }
    }

    pub(super) fn succeeded(&mut self, expires_on: Option<SystemTime>) {
        (self.outcome, self.expires_on) = (AuditOutcome::Success, expires_on);
    }

    pub(super) fn failed(&mut self, error: &Error) {
        self.outcome = AuditOutcome::Failure;
        self.error_kind = Some(error.kind().name());
        self.aadsts = error.aadsts().to_vec();
        self.status = self.status.or(error.status());
        // What the service said of itself is what its own logs have.
        self.correlation_id = error.correlation_id().map(Into::into).or(self.correlation_id.take());
        self.trace_id = error.trace_id().map(Into::into).or(self.trace_id.take());
    }
}

pub(super) fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Miss => "miss",
        Reason::Due => "due",
        Reason::Forced => "forced",
        Reason::Probe => "probe",
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde wants it")]
fn is_zero(attempts: &u32) -> bool {
    *attempts == 0
}

fn rfc3339<S: serde::Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    match jiff::Timestamp::try_from(*time) {
        Ok(time) => serializer.collect_str(&format_args!("{time:.3}")),
        Err(_) => serializer.serialize_none(),
    }
}

fn maybe_rfc3339<S: serde::Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => rfc3339(time, serializer),
        None => serializer.serialize_none(),
    }
}
