//! An issuer's published keys: made once for each reading, used for each token.

use std::{collections::HashMap, fmt};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, crypto::aws_lc};
use serde::Deserialize;

use crate::{Now, sync::Arc};

/// The keys of one reading, by their ids.
pub(super) struct KeySet {
    keys: HashMap<Box<str>, Arc<Key>>,
    /// When they were asked for.
    pub(super) read: Now,
}

/// One public key, with the only algorithms that it may be used with.
pub(super) struct Key {
    key: DecodingKey,
    algorithms: Vec<Algorithm>,
    /// Whose key it is, where its set says so: a set may hold those of many tenants.
    pub(super) issuer: Option<Box<str>>,
}

/// A member of a set, as far as it matters here.
#[derive(Deserialize)]
struct Jwk {
    kty: Box<str>,
    kid: Option<Box<str>>,
    #[serde(rename = "use")]
    purpose: Option<Box<str>>,
    alg: Option<Box<str>>,
    n: Option<Box<str>>,
    e: Option<Box<str>>,
    crv: Option<Box<str>>,
    x: Option<Box<str>>,
    y: Option<Box<str>>,
    issuer: Option<Box<str>>,
}

impl KeySet {
    /// `None` where it is no key set, or has no key that could verify anything. A key that is not understood is passed over:
    /// sets hold keys for other uses, and of kinds to come.
    pub(super) fn parse(body: &[u8], read: Now) -> Option<Self> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let set: Set = serde_json::from_slice(body).ok()?;
        let mut keys = HashMap::new();
        for jwk in set.keys {
            let Ok(jwk) = serde_json::from_value::<Jwk>(jwk) else { continue };
            if let Some((id, key)) = Key::read(jwk) {
                // The first of an id counts, as with other libraries.
                keys.entry(id).or_insert_with(|| Arc::new(key));
            }
        }
        (!keys.is_empty()).then_some(Self { keys, read })
    }

    pub(super) fn find(&self, id: &str) -> Option<Arc<Key>> {
        self.keys.get(id).cloned()
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

impl Key {
    fn read(jwk: Jwk) -> Option<(Box<str>, Self)> {
        if jwk.purpose.is_some_and(|purpose| &*purpose != "sig") {
            return None;
        }
        let (key, mut algorithms) = match &*jwk.kty {
            "RSA" => {
                let (n, e) = (decode(&jwk.n?)?, decode(&jwk.e?)?);
                // Shorter ones the backend refuses as well.
                if n.len() < 256 || e.is_empty() {
                    return None;
                }
                use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
                (DecodingKey::from_rsa_raw_components(&n, &e), vec![RS256, PS256, RS384, PS384, RS512, PS512])
            }
            "EC" => {
                let algorithm = match &*jwk.crv? {
                    "P-256" => Algorithm::ES256,
                    "P-384" => Algorithm::ES384,
                    _ => return None,
                };
                (DecodingKey::from_ec_components(&jwk.x?, &jwk.y?).ok()?, vec![algorithm])
            }
            // A symmetric one above all: whoever can read the set could sign.
            _ => return None,
        };
        if let Some(named) = jwk.alg {
            let named = algorithm(&named)?;
            algorithms.retain(|algorithm| *algorithm == named);
        }
        (!algorithms.is_empty()).then_some((jwk.kid?, Self { key, algorithms, issuer: jwk.issuer }))
    }

    /// Whether it may be used so. A key has a kind and with it its algorithms: what a token says does not change that.
    pub(super) fn takes(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    pub(super) fn verifies(&self, algorithm: Algorithm, signed: &str, signature: &Vec<u8>) -> bool {
        // By its name and not as the process's default: that one panics where a second backend is compiled in.
        let verifier = (aws_lc::DEFAULT_PROVIDER.verifier_factory)(&algorithm, &self.key);
        verifier.is_ok_and(|verifier| verifier.verify(signed.as_bytes(), signature).is_ok())
    }
}

/// Those with a public key. `none` and those with a shared secret are not among them.
pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        _ => return None,
    })
}

/// Without the zeros at the front that some write and the backend refuses.
fn decode(part: &str) -> Option<Vec<u8>> {
    let mut bytes = URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok()?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.drain(..zeros);
    Some(bytes)
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet").field("keys", &self.len()).field("read", &self.read).finish()
    }
}
