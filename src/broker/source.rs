//! The provider with all that its fetches need: what the engine knows as a closure.

use super::{
    Audit, AuditEvent,
    audit::{Watched, Who},
    tenants::Tenants,
};
use crate::{
    clock::Clock,
    error::{Blame, Error, ErrorKind},
    fetched::Fetched,
    http::Transport,
    provider::{FetchContext, Provider, Trail},
    refresh::{Fetch, Job},
    request::TokenRequest,
    sync::Arc,
    tenant::TenantId,
    text::guid,
    wire::jwt,
};

/// One provider, and what is around its fetches.
pub(super) struct Source {
    pub(super) provider: Box<dyn Provider>,
    /// The provider's own tenant.
    pub(super) home: Option<TenantId>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) clock: Clock,
    pub(super) audit: Option<Audit>,
    pub(super) who: Who,
    pub(super) tenants: Arc<Tenants>,
}

impl Source {
    /// The engine's way in: a token of another tenant than was asked is an error, and so is a tenant that was denied since
    /// the caller was let in.
    pub(super) fn as_fetch(self: &Arc<Self>) -> Fetch {
        let source = Arc::clone(self);
        Arc::new(move |job: Job| {
            let source = Arc::clone(&source);
            Box::pin(async move {
                if let Some(tenant) = job.request.requested_tenant() {
                    source.tenants.check(tenant)?;
                }
                source.fetch(job, AuditEvent::Request).await
            })
        })
    }

    /// One fetch, recorded in the audit trail.
    pub(super) async fn fetch(&self, job: Job, event: AuditEvent) -> Result<Fetched, Error> {
        let Job {
            request,
            grant,
            reason,
            attended,
            challenge,
            label,
            previous,
            refused,
            deadline,
            gate,
            random,
        } = job;
        let trail = Trail::default();
        let cx = FetchContext {
            transport: Arc::clone(&self.transport),
            clock: self.clock.clone(),
            deadline,
            reason,
            attended,
            challenge,
            previous,
            refused,
            gate,
            random,
            in_chain: false,
            trail: Arc::clone(&trail),
        };
        let watched = self.audit.as_ref().map(|audit| Watched {
            audit,
            who: &self.who,
            clock: &self.clock,
            event,
            request: &request,
            label: label.map(Into::into),
            reason,
            trail,
            told: false,
        });
        let asked = request.requested_tenant().or(self.home.as_ref());
        let fetched = self.provider.fetch(&cx, &request, grant).await;
        let fetched = match event {
            // Who checks a tenant looks at it by itself, and keeps no token.
            AuditEvent::TenantCheck => fetched,
            _ => fetched.and_then(|fetched| {
                check_tenant(&fetched, asked)?;
                self.check_denied(&fetched, &request)?;
                Ok(fetched)
            }),
        };
        if let Some(watched) = watched {
            watched.ended(&fetched);
        }
        fetched
    }
}

impl Source {
    /// A tenant that was denied by its id may have been named by a domain.
    fn check_denied(&self, fetched: &Fetched, request: &TokenRequest) -> Result<(), Error> {
        let named = request.requested_tenant().filter(|tenant| guid(tenant.as_str()).is_none());
        match named.and_then(|_| jwt::tenant(fetched.token.expose())) {
            Some(id) => self.tenants.check_id(&id),
            None => Ok(()),
        }
    }
}

/// A token that says that it is another tenant's is nobody's: one customer would be given what is another's. Only where
/// both name the tenant by its GUID; see [`jwt::tenant`] for what this is not.
fn check_tenant(fetched: &Fetched, asked: Option<&TenantId>) -> Result<(), Error> {
    let Some(asked) = asked.and_then(|tenant| guid(tenant.as_str())) else { return Ok(()) };
    match jwt::tenant(fetched.token.expose()) {
        Some(came) if came != asked => Err(Error::new(
            ErrorKind::Protocol,
            format!("a token of tenant {came} came back where one of tenant {asked} was asked for"),
        )
        .with_blame(Blame::Program)
        .with_advice(
            "A provider of your own has to heed the tenant of the request it is given. Where the provider is none of \
             yours, something between here and the service answers with what it remembers.",
        )),
        _ => Ok(()),
    }
}
