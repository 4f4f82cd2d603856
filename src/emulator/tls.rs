//! The certificate of the emulator's servers: of an authority of its own, or given.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::fmt::{self, Write as _};
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::{Error, InconsistentKeys, ServerConfig};

/// What a certificate of the emulator's own is good for. An address in Azure is in it for clients that are told by their resolver
/// that this machine is that address.
const NAMES: [&str; 4] = ["localhost", "127.0.0.1", "::1", "login.microsoftonline.com"];

/// The clock of a container or of another machine may be behind.
const BEFORE: Duration = Duration::from_secs(24 * 60 * 60);
/// Some clients take no certificate for more than 398 days.
const AFTER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A server's certificate with its key.
pub(crate) struct Identity {
    pub(crate) acceptor: TlsAcceptor,
    /// SHA-1 of the certificate, in upper case hexadecimal digits, as Windows names certificates.
    pub(crate) thumbprint: String,
    /// The authority that a client has to trust, where it is the emulator's own.
    pub(crate) ca_pem: Option<String>,
}

/// PEM that was given: it may hold a key, and so has no `Debug` to speak of.
#[derive(Clone)]
pub(crate) struct Pem(pub(crate) Vec<u8>);

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pem")
    }
}

impl Identity {
    /// A certificate of a new authority.
    pub(crate) fn own() -> io::Result<Self> {
        let (leaf, key, ca_pem) = issue().map_err(io::Error::other)?;
        Self::new(vec![leaf], key, Some(ca_pem)).map_err(io::Error::other)
    }

    /// A certificate, with those that lead to its authority, and its key.
    pub(crate) fn given(chain: &Pem, key: &Pem) -> io::Result<Self> {
        let certificates = CertificateDer::pem_slice_iter(&chain.0).collect::<Result<Vec<_>, _>>();
        let certificates = certificates.map_err(|error| unread("certificate", &error))?;
        if certificates.is_empty() {
            return Err(unread("certificate", &PemError::NoItemsFound));
        }
        if key.0.windows(9).any(|word| word == b"ENCRYPTED") {
            return Err(invalid(
                "TLS: the key is encrypted: it has to be given without a passphrase".to_owned(),
            ));
        }
        let key = PrivateKeyDer::from_pem_slice(&key.0).map_err(|error| unread("key", &error))?;
        Self::new(certificates, key, None).map_err(|error| {
            invalid(match error {
                Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    "TLS: the key is not the first certificate's: the server's own has to come first"
                        .to_owned()
                }
                Error::InvalidCertificate(_) => "TLS: the certificate is not an X.509 certificate".to_owned(),
                error => format!("TLS: the certificate and its key cannot be used: {error}"),
            })
        })
    }

    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        ca_pem: Option<String>,
    ) -> Result<Self, Error> {
        let thumbprint = chain.first().map(|leaf| thumbprint(leaf)).unwrap_or_default();
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), thumbprint, ca_pem })
    }
}

fn unread(what: &str, error: &PemError) -> io::Error {
    invalid(match error {
        PemError::NoItemsFound => format!("TLS: no {what} in what was given as one: it has to be PEM"),
        // The error repeats lines of what it read, which may be a key's.
        _ => format!("TLS: the {what} is not well-formed PEM"),
    })
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

fn thumbprint(certificate: &[u8]) -> String {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, certificate);
    hash.as_ref().iter().fold(String::with_capacity(40), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02X}");
        text
    })
}

type Issued = (CertificateDer<'static>, PrivateKeyDer<'static>, String);

fn issue() -> Result<Issued, rcgen::Error> {
    let mut authority = valid(CertificateParams::new(Vec::new())?);
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let name = "entra-broker emulator, not for production";
    authority.distinguished_name.push(DnType::CommonName, name);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

    let mut leaf = valid(CertificateParams::new(NAMES.map(str::to_owned).to_vec())?);
    leaf.distinguished_name.push(DnType::CommonName, "localhost");
    leaf.is_ca = IsCa::ExplicitNoCa;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Python refuses a certificate without it.
    leaf.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let leaf = leaf.signed_by(&key, &authority)?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    Ok((leaf.der().clone(), key, authority.pem()))
}

#[expect(
    clippy::disallowed_methods,
    reason = "clients look at the real clock, whatever the emulator runs on"
)]
fn valid(mut params: CertificateParams) -> CertificateParams {
    let now = SystemTime::now();
    params.not_before = now.checked_sub(BEFORE).unwrap_or(now).into();
    params.not_after = now.checked_add(AFTER).unwrap_or(now).into();
    params
}
