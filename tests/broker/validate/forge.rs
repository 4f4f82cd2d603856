//! An issuer of our own: it signs whatever it is told to, and publishes keys as it is told to.

use std::sync::{Arc, Mutex, OnceLock};

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use entra_broker::{
    Authority, BoxFuture, Clock, Pool, TokenValidator, Transport, TransportError, TransportErrorKind,
    TrustedIssuer,
};
use serde_json::{Value, json};

use crate::support::*;

pub(crate) const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
pub(crate) const AUDIENCE: &str = "api://orders";
pub(crate) const NOW: u64 = 1_800_000_000;

pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) fn rsa() -> &'static KeyPair {
    static KEY: OnceLock<KeyPair> = OnceLock::new();
    KEY.get_or_init(|| KeyPair::generate(KeySize::Rsa2048).unwrap())
}

/// A key that nobody publishes.
pub(crate) fn foreign() -> &'static KeyPair {
    static KEY: OnceLock<KeyPair> = OnceLock::new();
    KEY.get_or_init(|| KeyPair::generate(KeySize::Rsa2048).unwrap())
}

pub(crate) fn ec() -> &'static EcdsaKeyPair {
    static KEY: OnceLock<EcdsaKeyPair> = OnceLock::new();
    KEY.get_or_init(|| EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
}

pub(crate) fn rsa_jwk(key: &KeyPair, kid: &str) -> Value {
    let public = key.public_key();
    json!({
        "kty": "RSA", "use": "sig", "kid": kid,
        "n": base64(public.modulus().big_endian_without_leading_zero()),
        "e": base64(public.exponent().big_endian_without_leading_zero()),
    })
}

pub(crate) fn ec_jwk(kid: &str) -> Value {
    let point = ec().public_key().as_ref();
    json!({ "kty": "EC", "crv": "P-256", "kid": kid, "x": base64(&point[1..33]), "y": base64(&point[33..]) })
}

/// The claims of a good token.
pub(crate) fn claims() -> Value {
    json!({
        "iss": format!("https://login.microsoftonline.com/{TENANT}/v2.0"), "aud": AUDIENCE, "tid": TENANT, "azp": "a-client",
        "nbf": NOW, "iat": NOW, "exp": NOW + 3600, "oid": "an-object", "ver": "2.0", "roles": ["Orders.Read.All"],
    })
}

pub(crate) fn but(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    claims
}

/// A token with this header and these claims, to the letter.
pub(crate) fn sign_with(
    header: impl AsRef<[u8]>,
    claims: impl AsRef<[u8]>,
    sign: impl FnOnce(&[u8]) -> Vec<u8>,
) -> String {
    let signed = format!("{}.{}", base64(header), base64(claims));
    let signature = sign(signed.as_bytes());
    format!("{signed}.{}", base64(signature))
}

pub(crate) fn rs256(key: &'static KeyPair) -> impl FnOnce(&[u8]) -> Vec<u8> {
    move |signed| {
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed, &mut signature).unwrap();
        signature
    }
}

pub(crate) fn ps256(signed: &[u8]) -> Vec<u8> {
    let mut signature = vec![0; rsa().public_modulus_len()];
    rsa().sign(&RSA_PSS_SHA256, &SystemRandom::new(), signed, &mut signature).unwrap();
    signature
}

pub(crate) fn es256(signed: &[u8]) -> Vec<u8> {
    ec().sign(&SystemRandom::new(), signed).unwrap().as_ref().to_vec()
}

pub(crate) fn hs256(secret: Vec<u8>) -> impl FnOnce(&[u8]) -> Vec<u8> {
    move |signed| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), signed).as_ref().to_vec()
}

pub(crate) fn header(key: &str) -> String {
    json!({ "typ": "JWT", "alg": "RS256", "kid": key }).to_string()
}

/// A well signed token with these claims.
pub(crate) fn token(claims: impl ToString) -> String {
    sign_with(header("rsa"), claims.to_string(), rs256(rsa()))
}

/// Where the keys are read.
#[derive(Debug, Clone)]
pub(crate) struct Published(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    answer: Option<(u16, Bytes)>,
    asked: usize,
    delay: u64,
    clock: Clock,
}

impl Published {
    pub(crate) fn new(clock: &Clock, keys: &[Value]) -> Self {
        let state = State { answer: None, asked: 0, delay: 0, clock: clock.clone() };
        let published = Self(Arc::new(Mutex::new(state)));
        published.publish(keys);
        published
    }

    pub(crate) fn publish(&self, keys: &[Value]) {
        self.answer(200, json!({ "keys": keys }).to_string());
    }

    pub(crate) fn answer(&self, status: u16, body: impl Into<Bytes>) {
        self.0.lock().unwrap().answer = Some((status, body.into()));
    }

    pub(crate) fn vanish(&self) {
        self.0.lock().unwrap().answer = None;
    }

    pub(crate) fn slow(&self, seconds: u64) {
        self.0.lock().unwrap().delay = seconds;
    }

    /// How often the keys were asked for since the last time.
    pub(crate) fn asked(&self) -> usize {
        std::mem::take(&mut self.0.lock().unwrap().asked)
    }
}

impl Transport for Published {
    fn send<'a>(
        &'a self,
        pool: Pool,
        request: http::Request<Bytes>,
        _: usize,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, TransportError>> {
        assert_eq!(pool, Pool::TokenService);
        assert_eq!(request.method(), http::Method::GET);
        Box::pin(async move {
            let (clock, delay) = {
                let mut state = self.0.lock().unwrap();
                state.asked += 1;
                (state.clock.clone(), state.delay)
            };
            if delay > 0 {
                clock.sleep(secs(delay)).await;
            }
            match self.0.lock().unwrap().answer.clone() {
                Some((status, body)) => Ok(http::Response::builder().status(status).body(body).unwrap()),
                None => Err(TransportError::new(TransportErrorKind::Connect, "connection refused")),
            }
        })
    }
}

pub(crate) fn validator_of(issuer: TrustedIssuer, clock: &Clock, published: &Published) -> TokenValidator {
    let builder = TokenValidator::builder().issuer(issuer).audiences([AUDIENCE]);
    builder.clock(clock.clone()).transport(published.clone()).build().unwrap()
}

/// It publishes an RSA and an EC key.
pub(crate) fn ours(clock: &Clock) -> (Published, TokenValidator) {
    let published = Published::new(clock, &[rsa_jwk(rsa(), "rsa"), ec_jwk("ec")]);
    let issuer = TrustedIssuer::tenant(&Authority::public(), TENANT).unwrap();
    let validator = validator_of(issuer, clock, &published);
    (published, validator)
}
