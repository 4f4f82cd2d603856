//! Federated credentials: another issuer's token as an app's credential.

use crate::emulator::Emulator;
use crate::emulator::directory::{App, FederatedCredential, Place, TOKEN_EXCHANGE};
use crate::emulator::error::{EntraError, echo};
use crate::emulator::ids::{guid, is_guid};
use crate::emulator::jws::Jws;
use crate::emulator::service::Core;
use crate::emulator::time::unix_seconds;
use crate::emulator::token_service::assertion::{is_current, unsupported};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::json;
use std::io;
use std::time::Duration;

/// How long a token that [`Emulator::federated_token`] makes is good, as in Kubernetes.
const LIFETIME: Duration = Duration::from_secs(60 * 60);

/// Whether an assertion is one that a federated credential of the app fits, and that its issuer made.
///
/// # Errors
///
/// 70021 without any credential, 700211 issuer, 700213 subject, 700212 audience, 7002138 letter case; 50166 where the issuer cannot be
/// asked for its keys, 7000272 where it does not have this one, 700027 signature, 700024 time; 700236, 700229 and 700226 for a token of the
/// emulator's own that is not a managed identity's of the app's tenant.
pub(crate) async fn verify(
    core: &Core,
    app: &App,
    jws: &Jws<'_>,
    issuer: &str,
    subject: &str,
) -> Result<(), EntraError> {
    let own = core.own_tenant(issuer);
    let presented = Presented {
        issuer: own.as_ref().map_or_else(|| issuer.to_owned(), |tenant| canonical(tenant)),
        subject: subject.to_owned(),
        audiences: jws.audiences().into_iter().map(|audience| core.audience(audience)).collect(),
    };
    presented.find(core, &app.federated)?;
    if jws.algorithm() != Some(Algorithm::RS256) {
        return Err(unsupported(jws));
    }
    if let Some(tenant) = &own {
        is_managed_identity(core, app, jws, tenant)?;
    }
    let key = match &own {
        Some(_) => core.own_key(jws).await?,
        None => external(core, jws, issuer).await?,
    };
    if !jws.is_signed_by(&key, Algorithm::RS256) {
        return Err(EntraError::aadsts(700027).saying(format!(
            "Client assertion contains an invalid signature. [Reason - The signature of the federated credential is not one of the key of identity provider '{}' that its header names.]",
            echo(issuer)
        )));
    }
    is_current(core, jws)
}

/// What an assertion says of itself.
struct Presented {
    issuer: String,
    subject: String,
    audiences: Vec<String>,
}

impl Presented {
    fn find(&self, core: &Core, credentials: &[FederatedCredential]) -> Result<(), EntraError> {
        if credentials.is_empty() {
            return Err(self.unmatched(70021, ""));
        }
        let issuer =
            |credential: &&FederatedCredential| core.canonical_issuer(&credential.issuer) == self.issuer;
        let subject = |credential: &&FederatedCredential| credential.subject == self.subject;
        let audience = |credential: &&FederatedCredential| self.audiences.contains(&credential.audience);
        let by_issuer: Vec<_> = credentials.iter().filter(issuer).collect();
        let by_subject: Vec<_> = by_issuer.iter().copied().filter(subject).collect();
        if by_subject.iter().any(audience) {
            return Ok(());
        }
        let alike = |credential: &FederatedCredential| {
            core.canonical_issuer(&credential.issuer).eq_ignore_ascii_case(&self.issuer)
                && credential.subject.eq_ignore_ascii_case(&self.subject)
                && self.audiences.iter().any(|audience| audience.eq_ignore_ascii_case(&credential.audience))
        };
        Err(if credentials.iter().any(alike) {
            let (what, value) = if by_issuer.is_empty() {
                ("issuer", &self.issuer)
            } else if by_subject.is_empty() {
                ("subject", &self.subject)
            } else {
                ("audience", &self.audiences.join(", "))
            };
            self.unmatched(7002138, &format!("{what} '{}' with case-sensitive matching", echo(value)))
        } else if by_issuer.is_empty() {
            self.unmatched(700211, &format!("issuer '{}'", echo(&self.issuer)))
        } else if by_subject.is_empty() {
            self.unmatched(700213, &format!("subject '{}'", echo(&self.subject)))
        } else {
            self.unmatched(700212, &format!("audience '{}'", echo(&self.audiences.join(", "))))
        })
    }

    fn unmatched(&self, code: u32, what: &str) -> EntraError {
        let separator = if what.is_empty() { "" } else { " " };
        EntraError::aadsts(code).saying(format!(
            "No matching federated identity record found for presented assertion{separator}{what}. Assertion Issuer: '{}'. Assertion Subject: '{}'. Assertion Audience: '{}'. Check the federated identity credential's Issuer, Subject and Audience against the presented assertion.",
            echo(&self.issuer),
            echo(&self.subject),
            echo(&self.audiences.join(", "))
        ))
    }
}

/// The one spelling of a tenant's issuer: the emulator's own depends on the address by which it was asked.
fn canonical(tenant: &str) -> String {
    format!("https://login.microsoftonline.com/{tenant}/v2.0")
}

impl Core {
    /// The tenant whose v2 issuer this is, whatever its host, unless the directory has another issuer of this URL.
    fn own_tenant(&self, issuer: &str) -> Option<String> {
        if self.directory.issuer(issuer).is_some() {
            return None;
        }
        let (_, rest) = issuer.split_once("://")?;
        let (_, path) = rest.split_once('/')?;
        let tenant = path.strip_suffix("/v2.0").filter(|tenant| is_guid(tenant))?;
        match self.directory.place(tenant) {
            // To the letter, as everything in a federated credential.
            Ok(Place::Tenant(id)) if id == tenant => Some(id),
            _ => None,
        }
    }

    fn canonical_issuer(&self, issuer: &str) -> String {
        self.own_tenant(issuer).map_or_else(|| issuer.to_owned(), |tenant| canonical(&tenant))
    }

    /// An audience as a credential names it: Entra's own tokens carry the token exchange's app id.
    fn audience(&self, audience: &str) -> String {
        let resource = self.directory.resource(TOKEN_EXCHANGE);
        match resource {
            Some(exchange) if exchange.app_id == audience => TOKEN_EXCHANGE.to_owned(),
            _ => audience.to_owned(),
        }
    }

    async fn own_key(&self, jws: &Jws<'_>) -> Result<DecodingKey, EntraError> {
        let kid = jws.header("kid").unwrap_or_default();
        let key = self.directory.keys().find(kid).await?;
        key.map(|key| key.public().clone()).ok_or_else(|| not_published(kid, "of this tenant"))
    }
}

fn is_managed_identity(core: &Core, app: &App, jws: &Jws<'_>, tenant: &str) -> Result<(), EntraError> {
    if app.home_tenant != tenant {
        return Err(EntraError::aadsts(700236).saying(format!(
            "Entra ID tokens issued by issuer '{}' may not be used for federated identity credential flows for applications or managed identities registered in the tenant '{}'.",
            canonical(tenant),
            app.home_tenant
        )));
    }
    if jws.claim("idtyp") != Some("app") {
        return Err(EntraError::aadsts(700229));
    }
    let object_id = jws.claim("oid").unwrap_or_default();
    let found = core.directory.identities().into_iter().find(|identity| identity.object_id == object_id);
    match found {
        Some(identity) if !identity.system => Ok(()),
        _ => Err(EntraError::aadsts(700226).saying(
            "Only tokens of user-assigned managed identities may be used as Federated Identity Credentials for the Entra ID issuer.",
        )),
    }
}

async fn external(core: &Core, jws: &Jws<'_>, issuer: &str) -> Result<DecodingKey, EntraError> {
    let known = core.directory.issuer(issuer).ok_or_else(|| {
        EntraError::aadsts(50166).saying(format!(
            "Request to External OIDC endpoint failed: no keys are known of '{}'. An issuer has to be added to the emulator's directory.",
            echo(issuer)
        ))
    })?;
    let kid = jws.header("kid");
    let key = known.key(kid).await?;
    key.ok_or_else(|| not_published(kid.unwrap_or_default(), &format!("'{}'", echo(issuer))))
}

fn not_published(kid: &str, whose: &str) -> EntraError {
    EntraError::aadsts(7000272).saying(format!(
        "The certificate with identifier '{}' used to sign the federated credential could not be found in the metadata of identity provider {whose}.",
        echo(kid)
    ))
}

impl Emulator {
    /// A token of an issuer of the directory, as a workload would bring it: good for an hour of the emulator's time.
    ///
    /// # Errors
    ///
    /// `NotFound` for an issuer that is not in the directory, `InvalidInput` for one that has public keys only.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn federated_token(&self, issuer: &str, subject: &str, audience: &str) -> io::Result<String> {
        self.0.service.core.federated_token(issuer, subject, audience).await
    }
}

impl Core {
    pub(crate) async fn federated_token(
        &self,
        issuer: &str,
        subject: &str,
        audience: &str,
    ) -> io::Result<String> {
        let failed = |kind, message: &str| io::Error::new(kind, message.to_owned());
        let known = self.directory.issuer(issuer);
        let known =
            known.ok_or_else(|| failed(io::ErrorKind::NotFound, "the directory has no such issuer"))?;
        let key = known.signing().await;
        let key = key.ok_or_else(|| {
            failed(io::ErrorKind::InvalidInput, "the issuer has public keys only and cannot sign")
        })?;
        let key = key.map_err(|error| io::Error::other(error.numbered()))?;
        let now = self.time.now();
        let claims = json!({
            "iss": issuer,
            "sub": subject,
            "aud": audience,
            "iat": unix_seconds(now),
            "nbf": unix_seconds(now),
            "exp": unix_seconds(now).saturating_add(LIFETIME.as_secs()),
            "jti": guid(),
        });
        key.sign(&claims).map_err(|error| io::Error::other(error.numbered()))
    }
}
