//! Certificates of apps.

use crate::emulator::directory::Directory;
use aws_lc_rs::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use jsonwebtoken::DecodingKey;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;

/// The shortest key that an assertion may be signed with.
const KEY_BITS: usize = 2048;
/// Certificates of a chain that are looked at.
const CHAIN: usize = 5;

/// A certificate that is registered with an app: what its key signs proves that it is the app.
///
/// ```
/// # use entra_broker::emulator::{Certificate, Directory, sample};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256)?;
/// # let pem = rcgen::CertificateParams::new(Vec::new())?.self_signed(&key)?.pem();
/// let certificate = Certificate::from_pem(&pem)?;
/// let directory = Directory::sample();
/// assert!(directory.add_certificate(sample::CERT_APP, certificate));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Certificate(Arc<Parsed>);

struct Parsed {
    der: Vec<u8>,
    subject: String,
    sha1: Vec<u8>,
    sha256: Vec<u8>,
    from: SystemTime,
    until: SystemTime,
    key: DecodingKey,
}

/// Why something is not a certificate that an app can have.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidCertificate {
    /// The PEM text holds no certificate.
    Missing,
    /// It cannot be parsed.
    Malformed(String),
    /// The key is not an RSA key. Entra takes client assertions with RSA keys only.
    NotRsa,
    /// The RSA key has so many bits, fewer than the 2048 that signatures are taken from.
    ShortKey(usize),
}

impl fmt::Display for InvalidCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no certificate in it"),
            Self::Malformed(why) => write!(f, "it is not a certificate: {why}"),
            Self::NotRsa => {
                f.write_str("its key is not an RSA key, and client assertions are taken with RSA keys only")
            }
            Self::ShortKey(bits) => write!(f, "its RSA key has {bits} bits, fewer than {KEY_BITS}"),
        }
    }
}

impl std::error::Error for InvalidCertificate {}

impl Certificate {
    /// The first certificate of a PEM text, in which a private key may stand, too.
    ///
    /// # Errors
    ///
    /// See [`InvalidCertificate`].
    pub fn from_pem(pem: &str) -> Result<Self, InvalidCertificate> {
        match CertificateDer::pem_slice_iter(pem.as_bytes()).next() {
            None => Err(InvalidCertificate::Missing),
            // The error repeats what it read, which may be a key.
            Some(Err(_)) => Err(InvalidCertificate::Malformed("it is not well-formed PEM".to_owned())),
            Some(Ok(der)) => Self::from_der(&der),
        }
    }

    /// A DER-encoded certificate.
    ///
    /// # Errors
    ///
    /// See [`InvalidCertificate`].
    pub fn from_der(der: &[u8]) -> Result<Self, InvalidCertificate> {
        let malformed = |error: &dyn fmt::Display| InvalidCertificate::Malformed(error.to_string());
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|error| malformed(&error))?;
        if !rest.is_empty() {
            return Err(malformed(&"something follows it"));
        }
        let key = parsed.public_key().parsed().map_err(|error| malformed(&error))?;
        let PublicKey::RSA(key) = key else {
            return Err(InvalidCertificate::NotRsa);
        };
        let (modulus, exponent) = (trimmed(key.modulus), trimmed(key.exponent));
        let bits = modulus.first().map_or(0, |first| modulus.len() * 8 - first.leading_zeros() as usize);
        if bits < KEY_BITS {
            return Err(InvalidCertificate::ShortKey(bits));
        }
        let validity = parsed.validity();
        Ok(Self(Arc::new(Parsed {
            subject: parsed.subject().to_string(),
            sha1: hash(&SHA1_FOR_LEGACY_USE_ONLY, der),
            sha256: hash(&SHA256, der),
            from: time(validity.not_before.timestamp()),
            until: time(validity.not_after.timestamp()),
            key: DecodingKey::from_rsa_raw_components(modulus, exponent),
            der: der.to_vec(),
        })))
    }

    /// The SHA-1 thumbprint in upper-case hexadecimal digits, as the portal shows it.
    pub fn thumbprint(&self) -> String {
        hex(&self.0.sha1)
    }

    /// The SHA-256 thumbprint in upper-case hexadecimal digits.
    pub fn thumbprint_sha256(&self) -> String {
        hex(&self.0.sha256)
    }

    /// The subject, as in `CN=app.contoso.test`.
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// The certificate itself.
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    pub(crate) fn sha1(&self) -> &[u8] {
        &self.0.sha1
    }

    pub(crate) fn sha256(&self) -> &[u8] {
        &self.0.sha256
    }

    pub(crate) fn valid_from(&self) -> SystemTime {
        self.0.from
    }

    pub(crate) fn valid_until(&self) -> SystemTime {
        self.0.until
    }

    pub(crate) fn key(&self) -> &DecodingKey {
        &self.0.key
    }

    /// The first certificate of a chain, provided that the chain leads to this one.
    ///
    /// # Errors
    ///
    /// What keeps it from being the app's: text for an error's description.
    pub(crate) fn leaf_of(&self, chain: &[Vec<u8>], now: SystemTime) -> Result<Self, &'static str> {
        let parse = |der: &[u8]| {
            let parsed = Self::from_der(der).map_err(|_| "The certificate chain is malformed.")?;
            let current = parsed.valid_from() <= now && now <= parsed.valid_until();
            current.then_some(parsed).ok_or("A certificate of the chain is not within its validity period.")
        };
        let [first, rest @ ..] = chain else {
            return Err("The certificate chain is empty.");
        };
        let leaf = parse(first)?;
        let mut last = leaf.clone();
        for der in rest.iter().take(CHAIN) {
            let next = parse(der)?;
            if self.issued(&last) {
                break;
            }
            if !next.issued(&last) {
                return Err("The certificate chain is not in order.");
            }
            last = next;
        }
        self.issued(&last).then_some(leaf).ok_or("The certificate chain does not lead to a trusted issuer.")
    }

    /// Whether this is the certificate of an authority that signed another one.
    fn issued(&self, other: &Self) -> bool {
        let (Ok((_, issuer)), Ok((_, issued))) =
            (X509Certificate::from_der(self.der()), X509Certificate::from_der(other.der()))
        else {
            return false;
        };
        issuer.is_ca()
            && issuer.subject() == issued.issuer()
            && issued.verify_signature(Some(issuer.public_key())).is_ok()
    }

    /// Whether the whole subject, its common name or one of the certificate's DNS names is this.
    pub(crate) fn is_for(&self, name: &str) -> bool {
        let Ok((_, parsed)) = X509Certificate::from_der(self.der()) else {
            return false;
        };
        let is = |found: &str| found.eq_ignore_ascii_case(name);
        let alternative = parsed.subject_alternative_name().ok().flatten();
        let mut alternatives = alternative.iter().flat_map(|found| &found.value.general_names);
        is(self.subject())
            || parsed.subject().iter_common_name().any(|found| found.as_str().is_ok_and(is))
            || alternatives.any(|found| matches!(found, GeneralName::DNSName(dns) if is(dns)))
    }
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der() == other.der()
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("subject", &self.subject())
            .field("thumbprint", &self.thumbprint())
            .finish_non_exhaustive()
    }
}

impl Directory {
    /// Registers a certificate with an app.
    pub fn add_certificate(&self, client_id: &str, certificate: Certificate) -> bool {
        self.change_app(client_id, |app| {
            app.certificates.push(certificate);
            true
        })
    }

    /// Removes an app's certificate by its thumbprint, SHA-1 or SHA-256 in hexadecimal digits: it now answers AADSTS700027.
    pub fn remove_certificate(&self, client_id: &str, thumbprint: &str) -> bool {
        let is = |certificate: &Certificate| {
            certificate.thumbprint().eq_ignore_ascii_case(thumbprint)
                || certificate.thumbprint_sha256().eq_ignore_ascii_case(thumbprint)
        };
        self.change_app(client_id, |app| {
            let before = app.certificates.len();
            app.certificates.retain(|certificate| !is(certificate));
            app.certificates.len() < before
        })
    }
}

fn hash(algorithm: &'static Algorithm, der: &[u8]) -> Vec<u8> {
    digest(algorithm, der).as_ref().to_vec()
}

/// A positive number without the zero that DER puts in front.
fn trimmed(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

/// Certificates from before 1970 count from there.
fn time(seconds: i64) -> SystemTime {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}
