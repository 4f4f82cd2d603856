//! The identity that the platform gives to what runs on it.

mod platform;

use std::time::Duration;

use super::{FetchContext, Provider};
use crate::{
    BoxFuture, ClientId, Env, Error, Fetched, Grant, Identity, ManagedIdentityId, TokenRequest,
    error::ErrorKind,
    http::Pool,
    identity_id::IdentityKind,
    wire::managed_identity::{AskedIdentity, parse_identity_answer},
};
use platform::Platform;

/// IMDS may answer 410 for 70 s while it is updated. One attempt more has to fit.
const BUDGET: Duration = Duration::from_secs(90);

/// A managed identity, on whichever platform the process runs.
///
/// Supported so far: virtual machines and scale sets (IMDS), App Service, Functions and Container Apps.
///
/// The platform keeps a token of its own for hours and cannot be told to renew it: a role that was just given can take
/// that long to show.
///
/// ```
/// use entra_broker::{Broker, ManagedIdentity, ManagedIdentityId};
///
/// # fn main() -> Result<(), entra_broker::Error> {
/// let broker = Broker::new(ManagedIdentity::system_assigned()?)?;
///
/// let id = ManagedIdentityId::client_id("00001111-aaaa-2222-bbbb-3333cccc4444")?;
/// let another = Broker::new(ManagedIdentity::user_assigned(id)?)?;
/// # drop((broker, another)); Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct ManagedIdentity {
    id: ManagedIdentityId,
    platform: Platform,
}

impl ManagedIdentity {
    /// The identity that belongs to the machine or the app.
    ///
    /// # Errors
    ///
    /// As [`from_env`](Self::from_env).
    pub fn system_assigned() -> Result<Self, Error> {
        Self::from_env(ManagedIdentityId::system(), &Env::process())
    }

    /// An identity that was assigned to it.
    ///
    /// # Errors
    ///
    /// As [`from_env`](Self::from_env).
    pub fn user_assigned(id: ManagedIdentityId) -> Result<Self, Error> {
        Self::from_env(id, &Env::process())
    }

    /// The platform is told by variables that it sets; where there are none, it is a virtual machine.
    ///
    /// # Errors
    ///
    /// `NotAvailable` where the platform is one that this version does not know how to ask; `Config` where a variable
    /// is malformed, or leads to a host that is neither this machine nor link-local.
    pub fn from_env(id: ManagedIdentityId, env: &Env) -> Result<Self, Error> {
        Ok(Self { id, platform: Platform::detect(env)? })
    }

    async fn ask(&self, cx: &FetchContext, request: &TokenRequest, grant: &Grant) -> Result<Fetched, Error> {
        grant.app_only("a managed identity")?;
        if let Some(tenant) = request.requested_tenant() {
            return Err(Error::config(format!("tenant: a managed identity cannot ask in tenant {tenant}"))
                .with_advice(
                    "Its tokens are of its own tenant. For others, use it as the credential of an app.",
                ));
        }
        if request.requested_claims().is_some() {
            return Err(Error::config("claims: a managed identity cannot be asked for a token with claims")
                .with_advice("The platform's endpoint takes none. Leave them out of the request."));
        }
        let scopes = request.scopes().for_app()?;
        let resource = scopes.resource().unwrap_or(scopes.as_str());
        let http = self.platform.request(&self.id, resource)?;
        let answer = cx.send(Pool::ManagedIdentity, http, &self.platform.retries()).await?;
        let (parts, body) = answer.response.into_parts();
        let asked = AskedIdentity {
            what: self.platform.name(),
            identity: &self.id,
            sent: answer.sent.wall(),
            now: cx.clock().now().wall(),
        };
        let answered = parse_identity_answer(parts.status.as_u16(), &parts.headers, &body, &asked)?;
        self.id.check(answered.client_id.as_ref(), self.platform.name())?;
        let mut fetched = answered.token.into_fetched(answer.sent);
        fetched.account = answered.client_id.map(|id| id.as_str().into());
        Ok(fetched)
    }
}

impl ManagedIdentityId {
    /// A platform that ignores the parameter would give another identity's token.
    fn check(&self, answered: Option<&ClientId>, platform: &str) -> Result<(), Error> {
        match (&self.0, answered) {
            (IdentityKind::ClientId(asked), Some(answered)) if asked != answered => Err(Error::new(
                ErrorKind::Protocol,
                format!("{platform} was asked for identity {asked} and answered with a token of {answered}"),
            )
            .with_advice(
                "Assign the identity to this resource, and see that nothing answers in the platform's place.",
            )),
            _ => Ok(()),
        }
    }
}

impl Provider for ManagedIdentity {
    fn name(&self) -> &'static str {
        "managed-identity"
    }

    /// A user-assigned identity is named by its id. Which one is system-assigned, the machine decides: its tokens never
    /// leave the process.
    fn identity(&self) -> Identity {
        match &self.id.0 {
            IdentityKind::System => Identity::local().never_shared(),
            IdentityKind::ClientId(id) => Identity::local().with_client_id(id.as_str()),
            IdentityKind::ObjectId(id) => Identity::local().with_client_id(format!("object id {id}")),
            IdentityKind::ResourceId(id) => Identity::local().with_client_id(id),
        }
    }

    fn fetch<'a>(
        &'a self,
        cx: &'a FetchContext,
        request: &'a TokenRequest,
        grant: Grant,
    ) -> BoxFuture<'a, Result<Fetched, Error>> {
        Box::pin(async move { self.ask(cx, request, &grant).await })
    }

    fn budget(&self) -> Duration {
        BUDGET
    }
}
