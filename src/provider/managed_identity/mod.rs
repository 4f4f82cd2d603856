//! The identity that the platform gives to what runs on it.

mod platform;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request};

use super::{FetchContext, Provider};
use crate::{
    BoxFuture, Env, Error, Fetched, Grant, Identity, ManagedIdentityId, TokenRequest,
    http::{Pool, RetryPolicy},
    wire::managed_identity as wire,
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
/// ```no_run
/// # // Compiled, not run: it would ask the platform for its identity.
/// use entra_broker::{Broker, ManagedIdentity};
///
/// # async fn example() -> Result<(), entra_broker::Error> {
/// let broker = Broker::new(ManagedIdentity::system_assigned()?)?;
/// let token = broker.get_token("https://vault.azure.net/.default").await?;
/// # Ok(()) }
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
                .with_advice("Its tokens are of its own tenant. For others, use it as the credential of an app."));
        }
        let scopes = request.scopes().for_app()?;
        let resource = scopes.resource().unwrap_or(scopes.as_str());
        let asked = self.platform.request(&self.id, resource);
        let mut http = Request::get(asked.uri).body(Bytes::new()).map_err(|error| {
            Error::config("managed identity: its endpoint is no URL").with_source(error)
        })?;
        for (name, value) in asked.headers {
            let mut value = HeaderValue::from_str(&value)
                .map_err(|_| Error::config("IDENTITY_HEADER: expected a value that a header may hold"))?;
            value.set_sensitive(true);
            http.headers_mut().insert(name, value);
        }
        let answer = cx.send(Pool::ManagedIdentity, http, &self.platform.retries()).await?;
        let (parts, body) = answer.response.into_parts();
        let context = wire::Context {
            platform: self.platform.wire(),
            id: &self.id,
            resource,
            sent: answer.sent.wall(),
            now: cx.clock().now().wall(),
        };
        let token = wire::parse_answer(parts.status.as_u16(), &parts.headers, &body, &context)?;
        Ok(token.into_fetched(answer.sent))
    }
}

impl Provider for ManagedIdentity {
    /// Local: which identity the platform gives is not configured here, so nothing proves that two processes mean the
    /// same one.
    fn identity(&self) -> Identity {
        Identity::local()
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

/// Retries as the platform needs them.
impl Platform {
    fn retries(&self) -> RetryPolicy {
        match self {
            Self::Imds { .. } => RetryPolicy::imds(),
            Self::AppService { .. } => RetryPolicy::managed_identity(),
        }
    }
}
