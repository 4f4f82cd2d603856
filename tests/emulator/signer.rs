//! Keys, certificates and assertions, made as a client makes them.
#![expect(clippy::unwrap_used, reason = "what goes wrong here fails a test")]

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{self, KeyPair as _, RsaEncoding};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use entra_broker::emulator::{Certificate, sample};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use std::sync::OnceLock;

pub(crate) const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// 2027-01-15 08:00:00, where a test's clock begins.
pub(crate) const NOW: u64 = 1_800_000_000;
pub(crate) const V2_TOKEN: &str =
    "https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/oauth2/v2.0/token";

/// An RSA key: making one takes a moment, so that tests share two of them.
pub(crate) struct Signer {
    pair: KeyPair,
    pkcs8: Vec<u8>,
}

impl Signer {
    fn generate() -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'static> = pair.as_der().unwrap();
        let pkcs8 = der.as_ref().to_vec();
        Self { pair, pkcs8 }
    }

    pub(crate) fn first() -> &'static Self {
        static KEY: OnceLock<Signer> = OnceLock::new();
        KEY.get_or_init(Self::generate)
    }

    pub(crate) fn second() -> &'static Self {
        static KEY: OnceLock<Signer> = OnceLock::new();
        KEY.get_or_init(Self::generate)
    }

    pub(crate) fn rcgen(&self) -> rcgen::KeyPair {
        rcgen::KeyPair::try_from(&PrivatePkcs8KeyDer::from(self.pkcs8.as_slice())).unwrap()
    }

    pub(crate) fn certificate(&self) -> Certificate {
        self.certificate_of(|_| {})
    }

    /// A self-signed certificate with parameters of the test's own.
    pub(crate) fn certificate_of(&self, change: impl FnOnce(&mut CertificateParams)) -> Certificate {
        let certificate = params("app.contoso.test", change).self_signed(&self.rcgen()).unwrap();
        Certificate::from_der(certificate.der()).unwrap()
    }

    /// A certificate authority with this key.
    pub(crate) fn authority(&self, name: &str) -> CertifiedIssuer<'static, rcgen::KeyPair> {
        let ca = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params(name, ca), self.rcgen()).unwrap()
    }

    /// A certificate for this key, of an authority.
    pub(crate) fn issued(
        &self,
        by: &CertifiedIssuer<'static, rcgen::KeyPair>,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Certificate {
        let certificate = params(name, change).signed_by(&self.rcgen(), by).unwrap();
        Certificate::from_der(certificate.der()).unwrap()
    }

    /// A compact JWS; the header's `alg` decides how it is signed.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let encoding: &'static dyn RsaEncoding = match header["alg"].as_str().unwrap_or_default() {
            "PS256" => &signature::RSA_PSS_SHA256,
            _ => &signature::RSA_PKCS1_SHA256,
        };
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let mut bytes = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(encoding, &SystemRandom::new(), signed.as_bytes(), &mut bytes).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The public key, as a JWKS with this key id.
    pub(crate) fn jwks(&self, kid: &str) -> String {
        let public = self.pair.public_key();
        let n = URL_SAFE_NO_PAD.encode(public.modulus().big_endian_without_leading_zero());
        let e = URL_SAFE_NO_PAD.encode(public.exponent().big_endian_without_leading_zero());
        json!({"keys": [{"kty": "RSA", "use": "sig", "kid": kid, "n": n, "e": e}]}).to_string()
    }
}

pub(crate) fn params(name: &str, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    change(&mut params);
    params
}

/// What a client says of itself, good for ten minutes.
pub(crate) fn own_claims() -> Value {
    json!({
        "iss": sample::CERT_APP, "sub": sample::CERT_APP, "aud": V2_TOKEN, "jti": "1",
        "iat": NOW, "nbf": NOW, "exp": NOW + 600,
    })
}

/// Base64url of a thumbprint in hexadecimal digits.
pub(crate) fn base64url(hex: &str) -> String {
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    URL_SAFE_NO_PAD.encode(bytes)
}
