//! How an application proves who it is: by a secret, or by an assertion that is made anew for each request.

use std::{fmt, time::Duration};

use super::FetchContext;
use crate::{Authority, BoxFuture, ClientId, Error, Secret, TenantId, error::ErrorKind, sync::Arc};

/// As a provider has it.
const BUDGET: Duration = Duration::from_secs(60);

/// How an application proves who it is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ClientAuth {
    /// By a client secret: its value, not its id.
    Secret(Secret),
    /// By whatever this gives at each request: an assertion, or a secret that may change.
    Source(Arc<dyn CredentialSource>),
}

impl ClientAuth {
    /// By whatever `source` gives at each request.
    pub fn source(source: impl CredentialSource) -> Self {
        Self::Source(Arc::new(source))
    }

    /// As `--provider` of an example and an audit record name it.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Secret(_) => "client-secret",
            Self::Source(source) => source.name(),
        }
    }

    pub(super) fn budget(&self) -> Duration {
        match self {
            Self::Secret(_) => BUDGET,
            Self::Source(source) => source.budget(),
        }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        match self {
            Self::Secret(secret) => check_secret(secret),
            Self::Source(_) => Ok(()),
        }
    }

    pub(super) async fn credential(
        &self,
        cx: &FetchContext,
        asked: &CredentialRequest<'_>,
    ) -> Result<ClientCredential, Error> {
        match self {
            Self::Secret(secret) => Ok(ClientCredential::Secret(secret.clone())),
            Self::Source(source) => source.credential(cx, asked).await,
        }
    }

    /// Where `error` says that the credential was refused: another one, if the source has one.
    pub(super) async fn another(
        &self,
        cx: &FetchContext,
        asked: &CredentialRequest<'_>,
        refused: &ClientCredential,
        error: &Error,
    ) -> Option<ClientCredential> {
        let Self::Source(source) = self else { return None };
        if error.kind() != ErrorKind::Credential || error.status().is_none() {
            return None;
        }
        let another = source.another(cx, asked, refused, error).await?;
        (another.text().expose() != refused.text().expose()).then_some(another)
    }
}

/// Where an application's credential comes from, asked before each request to the token service.
///
/// It need not keep anything: requests are few, since the broker caches tokens and not credentials. What blocks, such
/// as reading a file, goes through [`FetchContext::blocking`].
pub trait CredentialSource: fmt::Debug + Send + Sync + 'static {
    /// The kind of provider that this makes of an application, such as `workload-identity`.
    fn name(&self) -> &'static str;

    /// The credential for a request.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from having one. A token that is still good is served meanwhile.
    ///
    /// # Cancel safety
    ///
    /// The future may be dropped at any await.
    fn credential<'a>(
        &'a self,
        cx: &'a FetchContext,
        asked: &'a CredentialRequest<'a>,
    ) -> BoxFuture<'a, Result<ClientCredential, Error>>;

    /// The token service refused `refused`, with `error`. Another credential that may do better, read or made at this
    /// moment, if there is one; it is tried at once, and once. (Not where a refresh token was sent along, which may be
    /// spent: then it serves the next request.) By default there is none.
    fn another<'a>(
        &'a self,
        _cx: &'a FetchContext,
        _asked: &'a CredentialRequest<'a>,
        _refused: &'a ClientCredential,
        _error: &'a Error,
    ) -> BoxFuture<'a, Option<ClientCredential>> {
        Box::pin(async { None })
    }

    /// How long a fetch with it may take in all. Default: 60 s, as of any [`Provider`](super::Provider).
    fn budget(&self) -> Duration {
        BUDGET
    }
}

/// What an application shows to the token service.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ClientCredential {
    /// A client secret.
    Secret(Secret),
    /// A signed assertion: a JWT, of the application's own certificate or of an issuer that it trusts.
    Assertion(Secret),
}

impl ClientCredential {
    pub(super) fn text(&self) -> &Secret {
        match self {
            Self::Secret(text) | Self::Assertion(text) => text,
        }
    }
}

/// What a credential is asked for.
#[derive(Debug, Clone, Copy)]
pub struct CredentialRequest<'a> {
    pub(crate) authority: &'a Authority,
    pub(crate) tenant: &'a TenantId,
    pub(crate) client_id: &'a ClientId,
    pub(crate) audience: &'a str,
}

impl CredentialRequest<'_> {
    /// Where it will be shown.
    pub fn authority(&self) -> &Authority {
        self.authority
    }

    /// The tenant that is asked: the request's, or the application's own.
    pub fn tenant(&self) -> &TenantId {
        self.tenant
    }

    /// The application.
    pub fn client_id(&self) -> &ClientId {
        self.client_id
    }

    /// The audience of an assertion that the application signs itself: the tenant's token endpoint. One of another issuer
    /// has [`Authority::federation_audience`] instead.
    pub fn audience(&self) -> &str {
        self.audience
    }
}

/// A secret as it should be: with nothing of the file or variable around it that it was read from.
pub(super) fn check_secret(secret: &Secret) -> Result<(), Error> {
    let text = secret.expose();
    if text.is_empty() || text != text.trim() || text.chars().any(char::is_control) {
        return Err(Error::config(
            "client secret: expected the secret's value, without blanks or line ends around it",
        )
        .with_advice("Look for a trailing newline in the file or variable that it was read from."));
    }
    Ok(())
}
