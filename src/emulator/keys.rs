//! The signing keys: made off-thread, published as JWKS, used for RS256.

use crate::emulator::error::EntraError;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::fmt;
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;

/// One RSA key with everything that is published about it.
pub(crate) struct SigningKey {
    pair: KeyPair,
    kid: String,
    modulus: String,
    exponent: String,
}

impl SigningKey {
    fn generate() -> Option<Self> {
        let pair = KeyPair::generate(KeySize::Rsa2048).ok()?;
        let public = pair.public_key();
        let modulus = URL_SAFE_NO_PAD.encode(public.modulus().big_endian_without_leading_zero());
        let exponent = URL_SAFE_NO_PAD.encode(public.exponent().big_endian_without_leading_zero());
        // Entra's key ids are certificate thumbprints, 20 bytes; a digest of the public key looks and serves the same.
        let hash = digest(&SHA256, public.as_der().ok()?.as_ref());
        let kid = URL_SAFE_NO_PAD.encode(&hash.as_ref()[..20]);
        Some(Self { pair, kid, modulus, exponent })
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

    /// The key's member of the JWKS; like Entra's it names no `alg`, but an `issuer`.
    pub(crate) fn jwk(&self, issuer: &str) -> Value {
        json!({
            "kty": "RSA", "use": "sig", "kid": self.kid, "x5t": self.kid,
            "n": self.modulus, "e": self.exponent, "issuer": issuer,
        })
    }
}

/// A key that is there or will be in a moment. `None` until its thread has made it.
type Slot = watch::Receiver<Option<Arc<SigningKey>>>;

/// All keys published, oldest first; the last one signs.
pub(crate) struct Keys(Mutex<Vec<Slot>>);

impl Keys {
    /// Starts with the process's first key: making one takes up to a few hundred milliseconds, and a test suite starts many
    /// emulators.
    pub(crate) fn start() -> Self {
        static FIRST: OnceLock<Slot> = OnceLock::new();
        Self(Mutex::new(vec![FIRST.get_or_init(generate).clone()]))
    }

    pub(crate) fn rotate(&self) {
        let slot = generate();
        self.0.lock().push(slot);
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
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("published", &self.0.lock().len()).finish_non_exhaustive()
    }
}

async fn ready(mut slot: Slot) -> Result<Arc<SigningKey>, EntraError> {
    let key = slot.wait_for(Option::is_some).await;
    key.ok().and_then(|key| key.clone()).ok_or_else(|| EntraError::internal("no signing key could be made"))
}

/// A plain thread, since there may be no async runtime yet. Should it fail, its sender is dropped and all who wait are told.
fn generate() -> Slot {
    let (sender, slot) = watch::channel(None);
    let _ = std::thread::Builder::new().name("emulator-key".to_owned()).spawn(move || {
        if let Some(key) = SigningKey::generate() {
            sender.send_replace(Some(Arc::new(key)));
        }
    });
    slot
}
