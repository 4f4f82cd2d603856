//! Issuers other than Entra, whose tokens apps can trust as their credential.

use crate::emulator::directory::{Directory, FederatedCredential};
use crate::emulator::error::EntraError;
use crate::emulator::keys::{self, SigningKey, Slot};
use jsonwebtoken::DecodingKey;
use jsonwebtoken::jwk::JwkSet;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// An identity provider such as a Kubernetes cluster's or GitHub's, whose tokens an app takes as its credential once it has a
/// [`FederatedCredential`] for them.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use entra_broker::emulator::{Emulator, FederatedCredential, Issuer, sample};
///
/// let emulator = Emulator::in_memory();
/// let cluster = "https://oidc.cluster.test/";
/// let subject = "system:serviceaccount:shop:orders";
/// emulator.directory().add_issuer(Issuer::new(cluster));
/// emulator.directory().add_federated(sample::CERT_APP, FederatedCredential::new(cluster, subject));
/// // What the cluster puts into the pod's token file.
/// let token = emulator.federated_token(cluster, subject, "api://AzureADTokenExchange").await?;
/// # let _ = token;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "an issuer is known once it is added to a directory"]
pub struct Issuer {
    pub(crate) url: String,
    keys: IssuerKeys,
}

#[derive(Clone)]
enum IssuerKeys {
    /// A key of its own, made when it is first needed.
    Own(Arc<OnceLock<Slot>>),
    /// Public keys with their ids; somebody else has the private ones.
    Published(Arc<Vec<(Option<String>, DecodingKey)>>),
}

/// A key set that is not one, or holds no RSA key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidJwks(String);

impl fmt::Display for InvalidJwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidJwks {}

impl Issuer {
    /// An issuer with a key of its own, for [`Emulator::federated_token`](crate::emulator::Emulator::federated_token). The URL is the
    /// `iss` of its tokens, to the letter; nothing is fetched from there.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), keys: IssuerKeys::Own(Arc::default()) }
    }

    /// An issuer whose tokens are made elsewhere: `jwks` is its published key set, as JSON.
    ///
    /// # Errors
    ///
    /// [`InvalidJwks`] for a text that is no key set, or one without RSA keys.
    pub fn with_jwks(url: impl Into<String>, jwks: &str) -> Result<Self, InvalidJwks> {
        let set: JwkSet = serde_json::from_str(jwks)
            .map_err(|error| InvalidJwks(format!("it is not a JSON Web Key Set: {error}")))?;
        let rsa = |jwk: &jsonwebtoken::jwk::Jwk| match &jwk.algorithm {
            jsonwebtoken::jwk::AlgorithmParameters::RSA(_) => {
                Some((jwk.common.key_id.clone(), DecodingKey::from_jwk(jwk).ok()?))
            }
            _ => None,
        };
        let keys: Vec<_> = set.keys.iter().filter_map(rsa).collect();
        if keys.is_empty() {
            return Err(InvalidJwks("it holds no RSA key".to_owned()));
        }
        Ok(Self { url: url.into(), keys: IssuerKeys::Published(Arc::new(keys)) })
    }

    /// Whether the emulator makes its tokens.
    pub(crate) fn has_own_key(&self) -> bool {
        matches!(self.keys, IssuerKeys::Own(_))
    }

    /// The key that signs, if this issuer has its own.
    pub(crate) async fn signing(&self) -> Option<Result<Arc<SigningKey>, EntraError>> {
        match &self.keys {
            IssuerKeys::Own(slot) => Some(keys::ready(slot.get_or_init(keys::generate).clone()).await),
            IssuerKeys::Published(_) => None,
        }
    }

    /// The public key of this id. A token that names none is taken to be signed by the only key.
    pub(crate) async fn key(&self, kid: Option<&str>) -> Result<Option<DecodingKey>, EntraError> {
        if let Some(own) = self.signing().await {
            let own = own?;
            let is = kid.is_none_or(|kid| kid == own.kid());
            return Ok(is.then(|| own.public().clone()));
        }
        let IssuerKeys::Published(keys) = &self.keys else {
            return Ok(None);
        };
        let found = match (kid, keys.as_slice()) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(kid), keys) => keys.iter().find(|(id, _)| id.as_deref() == Some(kid)),
        };
        Ok(found.map(|(_, key)| key.clone()))
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = self.has_own_key();
        f.debug_struct("Issuer").field("url", &self.url).field("own_key", &own).finish_non_exhaustive()
    }
}

impl Directory {
    /// Makes an issuer known, or replaces the one with this URL. An app trusts its tokens once it has a [`FederatedCredential`].
    pub fn add_issuer(&self, issuer: Issuer) {
        self.state.write().issuers.insert(issuer.url.clone(), issuer);
    }

    /// Forgets an issuer: its keys cannot be found any more, and its tokens answer AADSTS50166.
    pub fn remove_issuer(&self, url: &str) -> bool {
        self.state.write().issuers.remove(url).is_some()
    }

    /// Gives an app one more federated credential.
    pub fn add_federated(&self, client_id: &str, credential: FederatedCredential) -> bool {
        self.change_app(client_id, |app| {
            app.federated.push(credential);
            true
        })
    }

    /// Takes a federated credential from an app.
    pub fn remove_federated(&self, client_id: &str, credential: &FederatedCredential) -> bool {
        self.change_app(client_id, |app| {
            let before = app.federated.len();
            app.federated.retain(|found| found != credential);
            app.federated.len() < before
        })
    }

    pub(crate) fn issuer(&self, url: &str) -> Option<Issuer> {
        self.state.read().issuers.get(url).cloned()
    }
}
