//! The identity that the platform gives to what runs on it.

mod arc;
mod endpoint;
mod platform;
mod probe;
#[cfg(test)]
mod tests;

use std::{fmt::Write as _, path::PathBuf, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use http::header::AUTHORIZATION;

use super::{FetchContext, Provider};
use crate::{
    BoxFuture, Env, Error, ErrorKind, Fetched, Grant, Identity, ManagedIdentityId, Reason, TokenRequest,
    http::Answer,
    identity_id::IdentityKind,
    wire::managed_identity::{AskedIdentity, parse_identity_answer},
};
use platform::Platform;

/// IMDS may answer 410 for 70 s while it is updated. One attempt more has to fit.
pub(super) const BUDGET: Duration = Duration::from_secs(90);

/// A managed identity, on whichever platform the process runs: virtual machines and scale sets (IMDS), App Service with
/// Functions and Container Apps, Azure Arc, Cloud Shell, Azure ML, Service Fabric.
///
/// The platform keeps a token of its own for hours. A role that was just given can take that long to show: only App Service
/// and Service Fabric can be told to make a new token, and are told where a token was
/// [invalidated](crate::Broker::invalidate) or a call [forces](crate::CallOptions::force_refresh) one.
///
/// ```
/// use entra_broker::{Broker, ManagedIdentity, ManagedIdentityId};
///
/// # fn main() -> Result<(), entra_broker::Error> {
/// # let env = entra_broker::Env::empty().set("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1");
/// # let _ = || -> Result<(), entra_broker::Error> {
/// let broker = Broker::new(ManagedIdentity::system_assigned()?)?;
/// # drop(broker); Ok(()) };
///
/// let id = ManagedIdentityId::client_id("00001111-aaaa-2222-bbbb-3333cccc4444")?;
/// let identity = ManagedIdentity::from_env(id, &env)?;
/// assert_eq!(identity.platform(), "imds");
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

    /// The platform is told by variables that it sets, and by the agent of Azure Arc where that is installed; else it is a
    /// virtual machine.
    ///
    /// # Errors
    ///
    /// `Config` where a variable is malformed, is set without the one that belongs to it, or leads to a host that is neither
    /// this machine nor link-local, and where the platform cannot be asked for this identity: Azure Arc, Cloud Shell and
    /// Service Fabric take none by name, Azure ML takes client ids only.
    pub fn from_env(id: ManagedIdentityId, env: &Env) -> Result<Self, Error> {
        Self::detect(id, env, arc::is_installed)
    }

    fn detect(
        id: ManagedIdentityId,
        env: &Env,
        arc_is_installed: impl Fn(&Env) -> bool,
    ) -> Result<Self, Error> {
        let platform = Platform::detect(env, arc_is_installed)?;
        platform.accepts(&id)?;
        Ok(Self { id, platform })
    }

    /// The platform that was found: `imds`, `app-service`, `azure-arc`, `cloud-shell`, `azure-ml` or `service-fabric`.
    pub fn platform(&self) -> &'static str {
        self.platform.kind().name()
    }

    /// Where hazards are: key files of Azure Arc in another directory.
    pub fn dangerous(self) -> DangerousManagedIdentity {
        DangerousManagedIdentity(self)
    }

    pub(super) fn is_system(&self) -> bool {
        self.id.is_system()
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
        let unwanted = || cx.previous().filter(|_| cx.reason() == Reason::Forced);
        let refused = match cx.refused() {
            Some(hash) => Some(hex(&hash)),
            None => unwanted().map(|token| hash_of(token.secret())),
        };
        self.token(cx, resource, refused.as_deref()).await
    }

    /// A token of `resource`, and not the one whose hash is `refused` where the platform can be told.
    pub(super) async fn token(
        &self,
        cx: &FetchContext,
        resource: &str,
        refused: Option<&str>,
    ) -> Result<Fetched, Error> {
        if let Some(probe) = self.platform.probe().filter(|_| cx.is_probe()) {
            probe::probe(cx, probe?).await?;
        }
        let answer = self.exchange(cx, resource, refused).await?;
        let (parts, body) = answer.response.into_parts();
        let asked = AskedIdentity {
            platform: self.platform.kind(),
            identity: &self.platform.expected(&self.id),
            probing: cx.is_probe(),
            sent: answer.sent.wall(),
            now: cx.clock().now().wall(),
        };
        let answered = parse_identity_answer(parts.status.as_u16(), &parts.headers, &body, &asked)?;
        let mut fetched = answered.token.into_fetched(answer.sent);
        fetched.account = answered.client_id.map(|id| id.as_str().into());
        Ok(fetched)
    }

    async fn exchange(
        &self,
        cx: &FetchContext,
        resource: &str,
        refused: Option<&str>,
    ) -> Result<Answer, Error> {
        let (pool, policy) = (self.platform.pool(), self.platform.retries());
        let request = self.platform.request(&self.id, resource, refused)?;
        let answer = cx.send(pool, request, &policy).await.map_err(|error| self.unanswered(cx, error))?;
        let Platform::Arc { keys, .. } = &self.platform else { return Ok(answer) };
        if answer.response.status() != http::StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let authorization = arc::answer(cx, answer.response.headers(), keys).await?;
        let mut again = self.platform.request(&self.id, resource, refused)?;
        again.headers_mut().insert(AUTHORIZATION, authorization);
        // A key is good for one request: another attempt would be challenged anew, and one challenge is enough.
        cx.send(pool, again, &policy.unless_sent()).await
    }

    /// Nothing answered, or something that speaks no HTTP. That is no provider where only guessing led there, and trouble
    /// where somebody said that this is a managed identity.
    fn unanswered(&self, cx: &FetchContext, error: Error) -> Error {
        let silent = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
            && error.status().is_none()
            && error.held_for().is_none();
        match &self.platform {
            Platform::Arc { assumed: true, .. } if silent && cx.is_probe() => Error::new(
                ErrorKind::NotAvailable,
                "the agent of Azure Arc is installed but does not answer",
            )
            .with_advice("Connect the machine to Azure Arc, or use another provider here.")
            .with_source(error),
            Platform::Imds { .. } if silent => error.with_advice(
                "Virtual machines of Azure have it, and what imitates them. Elsewhere use another provider, or a chain; on \
                 such a machine, see whether a firewall or a network policy keeps this program from 169.254.169.254.",
            ),
            _ => error,
        }
    }
}

/// What should be said only by someone who knows why. See [`ManagedIdentity::dangerous`].
#[derive(Debug)]
pub struct DangerousManagedIdentity(ManagedIdentity);

impl DangerousManagedIdentity {
    /// Takes `dir` for the directory of Azure Arc's key files, which is `/var/opt/azcmagent/tokens`, or on Windows
    /// `%ProgramData%\AzureConnectedMachineAgent\Tokens`. For tests and unusual installations; on other platforms it means
    /// nothing.
    ///
    /// Whoever answers at the endpoint chooses a file there, and gets its contents: a directory that holds anything but
    /// the agent's key files gives away what is in it. That is why no variable sets it.
    ///
    /// # Errors
    ///
    /// `Config` where it is no absolute path.
    pub fn trust_arc_keys_in(self, dir: impl Into<PathBuf>) -> Result<ManagedIdentity, Error> {
        let (Self(mut identity), dir) = (self, dir.into());
        if !dir.is_absolute() {
            return Err(Error::config(
                "managed identity: expected the absolute path of a directory for Azure Arc's keys",
            ));
        }
        identity.platform.set_arc_keys(&dir);
        Ok(identity)
    }
}

/// The SHA-256 of a token in hexadecimal digits, as platforms are told of it.
pub(super) fn hash_of(token: &str) -> String {
    hex(digest(&SHA256, token.as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
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
