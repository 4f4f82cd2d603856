//! A managed identity's token as the credential of an application.

use std::time::Duration;

use super::{
    ClientAuth, ClientCredential, ConfidentialClient, CredentialRequest, CredentialSource, FetchContext,
    ManagedIdentity,
    managed_identity::{BUDGET, hash_of},
};
use crate::{BoxFuture, Error};

/// The assertion was made too long ago, or is of a time to come.
const NOT_CURRENT: u32 = 700_024;

/// The token of a user-assigned managed identity as the assertion of an application, also in another tenant: an app
/// without a secret, on any platform where such an identity can be asked for.
///
/// The application trusts the identity by a federated identity credential: its issuer is the identity's tenant,
/// `https://login.microsoftonline.com/{tenant}/v2.0`, its subject the object id of the identity's service principal, its
/// audience [`Authority::federation_audience`](crate::Authority::federation_audience). The identity and the application's
/// registration are of one tenant; a token may be asked for in any where the application has a service principal.
///
/// Each fetch makes both requests: the platform keeps the identity's token, and the broker the application's.
///
/// ```
/// use entra_broker::{Broker, FederatedManagedIdentity, ManagedIdentity, ManagedIdentityId};
///
/// # fn main() -> Result<(), entra_broker::Error> {
/// # let env = entra_broker::Env::empty().set("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1");
/// let id = ManagedIdentityId::client_id("00001111-aaaa-2222-bbbb-3333cccc4444")?;
/// let identity = ManagedIdentity::from_env(id, &env)?;
/// let app = "11112222-bbbb-3333-cccc-4444dddd5555";
/// let broker = Broker::new(FederatedManagedIdentity::client("fabrikam.onmicrosoft.com", app, identity)?)?;
/// # drop(broker); Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct FederatedManagedIdentity {
    identity: ManagedIdentity,
}

impl FederatedManagedIdentity {
    /// The source of such assertions, for a [`ConfidentialClient`].
    ///
    /// # Errors
    ///
    /// `Config` where the identity is system-assigned: Entra takes user-assigned ones only.
    pub fn new(identity: ManagedIdentity) -> Result<Self, Error> {
        if identity.is_system() {
            return Err(Error::config(
                "federated managed identity: Entra takes the token of a user-assigned identity only, and this one is \
                 system-assigned",
            )
            .with_advice(
                "Assign an identity of its own to this resource, name it by its client id, and let the application \
                 trust that one.",
            ));
        }
        Ok(Self { identity })
    }

    /// An application in the public cloud that proves itself by `identity`.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new) and [`ConfidentialClient::new`].
    pub fn client(
        tenant: &str,
        client_id: &str,
        identity: ManagedIdentity,
    ) -> Result<ConfidentialClient, Error> {
        ConfidentialClient::new(tenant, client_id, ClientAuth::source(Self::new(identity)?))
    }

    async fn assertion(
        &self,
        cx: &FetchContext,
        asked: &CredentialRequest<'_>,
        refused: Option<&str>,
    ) -> Result<ClientCredential, Error> {
        let fetched = self.identity.token(cx, asked.authority().federation_audience(), refused).await?;
        Ok(ClientCredential::Assertion(fetched.token))
    }
}

impl CredentialSource for FederatedManagedIdentity {
    fn name(&self) -> &'static str {
        "federated-managed-identity"
    }

    fn credential<'a>(
        &'a self,
        cx: &'a FetchContext,
        asked: &'a CredentialRequest<'a>,
    ) -> BoxFuture<'a, Result<ClientCredential, Error>> {
        Box::pin(self.assertion(cx, asked, None))
    }

    /// Of one that is over: the platform may have renewed its token since, and App Service can be told to. Where it gives
    /// the same again, nothing more is sent.
    fn another<'a>(
        &'a self,
        cx: &'a FetchContext,
        asked: &'a CredentialRequest<'a>,
        refused: &'a ClientCredential,
        error: &'a Error,
    ) -> BoxFuture<'a, Option<ClientCredential>> {
        Box::pin(async move {
            if !error.aadsts().contains(&NOT_CURRENT) {
                return None;
            }
            let refused = hash_of(refused.text().expose());
            self.assertion(cx, asked, Some(&refused)).await.ok()
        })
    }

    /// The identity's, which the exchange has to fit in: it takes a second where all is well.
    fn budget(&self) -> Duration {
        BUDGET
    }
}
