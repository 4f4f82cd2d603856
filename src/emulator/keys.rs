//! The signing keys: made off-thread, published as JWKS, used for RS256.

use crate::emulator::error::EntraError;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use parking_lot::Mutex;
use rcgen::{CertificateParams, DnType};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use std::fmt;
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;

/// The subject of the certificates that come with the keys. Entra's are called `accounts.accesscontrol.windows.net`.
const SUBJECT: &str = "entra-broker emulator, not for production";

/// One RSA key with everything that is published about it.
pub(crate) struct SigningKey {
    pair: KeyPair,
    public: DecodingKey,
    kid: String,
    modulus: String,
    exponent: String,
    certificate: String,
}

impl SigningKey {
    fn generate() -> Option<Self> {
        let pair = KeyPair::generate(KeySize::Rsa2048).ok()?;
        let public = pair.public_key();
        let modulus = public.modulus().big_endian_without_leading_zero();
        let exponent = public.exponent().big_endian_without_leading_zero();
        let certificate = certificate(&pair)?;
        // As Entra's, the key's id is its certificate's thumbprint.
        let kid = URL_SAFE_NO_PAD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &certificate));
        Some(Self {
            public: DecodingKey::from_rsa_raw_components(modulus, exponent),
            kid,
            modulus: URL_SAFE_NO_PAD.encode(modulus),
            exponent: URL_SAFE_NO_PAD.encode(exponent),
            certificate: STANDARD.encode(certificate),
            pair,
        })
    }

    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    /// What verifies its signatures.
    pub(crate) fn public(&self) -> &DecodingKey {
        &self.public
    }

    /// A compact RS256 JWT over these claims.
    pub(crate) fn sign(&self, claims: &Value) -> Result<String, EntraError> {
        let header = json!({"typ": "JWT", "alg": "RS256", "kid": self.kid, "x5t": self.kid});
        let mut token = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), token.as_bytes(), &mut signature)
            .map_err(|_| EntraError::internal("signing failed"))?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(&signature, &mut token);
        Ok(token)
    }

    /// The key's member of the JWKS; like Entra's it names no `alg`. The v2 set names an `issuer`, the v1 set does not.
    pub(crate) fn jwk(&self, issuer: Option<&str>) -> Value {
        let mut jwk = json!({
            "kty": "RSA", "use": "sig", "kid": self.kid, "x5t": self.kid,
            "n": self.modulus, "e": self.exponent, "x5c": [self.certificate],
        });
        if let Some(issuer) = issuer {
            jwk["issuer"] = json!(issuer);
        }
        jwk
    }
}

/// A self-signed certificate over the key, as DER.
fn certificate(pair: &KeyPair) -> Option<Vec<u8>> {
    let der: Pkcs8V1Der<'static> = pair.as_der().ok()?;
    let key = rcgen::KeyPair::try_from(&PrivatePkcs8KeyDer::from(der.as_ref())).ok()?;
    let mut params = CertificateParams::new(Vec::new()).ok()?;
    params.distinguished_name.push(DnType::CommonName, SUBJECT);
    Some(params.self_signed(&key).ok()?.der().to_vec())
}

/// A key that is there or will be in a moment. `None` until its thread has made it.
pub(crate) type Slot = watch::Receiver<Option<Arc<SigningKey>>>;

/// So many keys are published at most; whoever rotates more often loses the oldest.
const PUBLISHED: usize = 16;

/// All keys published, oldest first; the last one signs.
pub(crate) struct Keys(Mutex<Vec<Slot>>);

impl Keys {
    /// Starts with the process's first key: making one takes up to a few hundred milliseconds, and a test suite starts many
    /// emulators.
    pub(crate) fn start() -> Self {
        static FIRST: OnceLock<Slot> = OnceLock::new();
        Self(Mutex::new(vec![FIRST.get_or_init(|| search(2)).clone()]))
    }

    pub(crate) fn rotate(&self) {
        let slot = generate();
        let mut slots = self.0.lock();
        slots.push(slot);
        let surplus = slots.len().saturating_sub(PUBLISHED);
        slots.drain(..surplus);
    }

    pub(crate) fn retire(&self) {
        let mut slots = self.0.lock();
        let old = slots.len().saturating_sub(1);
        slots.drain(..old);
    }

    pub(crate) async fn signing(&self) -> Result<Arc<SigningKey>, EntraError> {
        let slot = self.0.lock().last().cloned();
        ready(slot.ok_or_else(|| EntraError::internal("no signing key"))?).await
    }

    pub(crate) async fn published(&self) -> Result<Vec<Arc<SigningKey>>, EntraError> {
        let slots = self.0.lock().clone();
        let mut keys = Vec::with_capacity(slots.len());
        for slot in slots {
            keys.push(ready(slot).await?);
        }
        Ok(keys)
    }

    /// The published key of this id.
    pub(crate) async fn find(&self, kid: &str) -> Result<Option<Arc<SigningKey>>, EntraError> {
        Ok(self.published().await?.into_iter().find(|key| key.kid() == kid))
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("published", &self.0.lock().len()).finish_non_exhaustive()
    }
}

pub(crate) async fn ready(mut slot: Slot) -> Result<Arc<SigningKey>, EntraError> {
    let key = slot.wait_for(Option::is_some).await;
    key.ok().and_then(|key| key.clone()).ok_or_else(|| EntraError::internal("no signing key could be made"))
}

pub(crate) fn generate() -> Slot {
    search(1)
}

/// Plain threads, since there may be no async runtime yet. Should all fail, their sender is dropped and all who wait are told.
///
/// A key is found by luck, sooner or later: of two threads that search, one is sooner.
fn search(threads: usize) -> Slot {
    let (sender, slot) = watch::channel(None);
    let sender = Arc::new(sender);
    for _ in 0..threads {
        let sender = Arc::clone(&sender);
        let _ = std::thread::Builder::new().name("emulator-key".to_owned()).spawn(move || {
            if let Some(key) = SigningKey::generate() {
                sender.send_if_modified(|found| {
                    let first = found.is_none();
                    if first {
                        *found = Some(Arc::new(key));
                    }
                    first
                });
            }
        });
    }
    slot
}
