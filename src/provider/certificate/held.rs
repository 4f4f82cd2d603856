//! A certificate with its key, ready to sign.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest},
    rand,
    rand::SystemRandom,
    signature::{KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair},
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};
use zeroize::Zeroizing;

use super::{
    Style,
    der::{Der, INTEGER, OCTETS, OID, SEQUENCE, unsigned},
};
use crate::{
    Error, ErrorKind, Now, Secret,
    text::Quoted,
    wire::assertion::{self, Algorithm},
};

/// The shortest key that Entra takes, and that this signs with.
const KEY_BITS: usize = 2048;
/// The longest one that the crypto library signs with.
const MOST_KEY_BITS: usize = 8192;
/// More certificates than that are no chain.
const CERTIFICATES: usize = 100;

/// The key, parsed once, and the certificate that it belongs to, with those that lead to its authority.
pub(super) struct Held {
    key: RsaKeyPair,
    /// Leaf first.
    chain: Vec<Vec<u8>>,
    sha1: Vec<u8>,
    sha256: Vec<u8>,
    subject: String,
    pub(super) from: SystemTime,
    pub(super) until: SystemTime,
}

/// A private key as it was found.
pub(super) enum KeyDer {
    /// `RSA PRIVATE KEY`
    Pkcs1(Zeroizing<Vec<u8>>),
    /// `PRIVATE KEY`
    Pkcs8(Zeroizing<Vec<u8>>),
}

impl Held {
    /// Of all certificates that of the key, with its chain. `what` is the subject of the sentence that an error is.
    ///
    /// # Errors
    ///
    /// `Config` for a key that Entra does not take, `Credential` where the two do not match.
    pub(super) fn new(
        what: &str,
        key: &KeyDer,
        certificates: &[Vec<u8>],
        now: SystemTime,
    ) -> Result<Self, Error> {
        let key = parse_key(what, key)?;
        if certificates.is_empty() {
            return Err(Error::config(format!("{what} has a private key but no certificate"))
                .with_advice("Put the certificate into the same file: Entra knows the key by it."));
        }
        if certificates.len() > CERTIFICATES {
            return Err(Error::config(format!("{what} has more than {CERTIFICATES} certificates"))
                .with_advice("Leave the application's own, and those that lead from it to its authority."));
        }
        let parsed = certificates.iter().map(|der| match X509Certificate::from_der(der) {
            Ok(([], parsed)) => Ok((der, parsed)),
            _ => Err(damaged(what, "a certificate")),
        });
        let parsed = parsed.collect::<Result<Vec<_>, _>>()?;
        let own = parsed.iter().filter(|(_, certificate)| {
            *certificate.public_key().subject_public_key.data == *key.public_key().as_ref()
        });
        // Of several certificates of one key, one that is good for longest, and now if there is such.
        let leaf = own.max_by_key(|(_, certificate)| {
            let (from, until) = validity(certificate);
            (from <= now && now < until, until)
        });
        let Some((der, leaf)) = leaf else {
            let subjects = if let [(_, only)] = &parsed[..] {
                shown(only)
            } else {
                "any of its certificates".to_owned()
            };
            return Err(Error::new(
                ErrorKind::Credential,
                format!("{what} has a private key that does not belong to {subjects}"),
            )
            .with_advice(
                "Key and certificate were made at different times, or mixed up: export them together.",
            ));
        };
        let (from, until) = validity(leaf);
        Ok(Self {
            chain: chain(der, leaf, &parsed),
            sha1: digest(&SHA1_FOR_LEGACY_USE_ONLY, der).as_ref().to_vec(),
            sha256: digest(&SHA256, der).as_ref().to_vec(),
            subject: shown(leaf),
            key,
            from,
            until,
        })
    }

    /// Whether it can be used at `now`.
    ///
    /// # Errors
    ///
    /// `Credential` where it has expired, or is not valid yet.
    pub(super) fn check(&self, what: &str, now: SystemTime) -> Result<(), Error> {
        let (from, until, now_text) = (date(self.from), date(self.until), date(now));
        let (message, advice) = if now < self.from {
            (
                format!("{what} {} is not valid before {from}, and it is {now_text}", self.subject),
                "Look at the machine's clock and time zone, or wait until the certificate begins to be valid.",
            )
        } else if now >= self.until {
            (
                format!("{what} {} expired on {until}, and it is {now_text}", self.subject),
                "Make a new certificate, register it with the application, and put it in the old one's place.",
            )
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Credential, message).with_advice(advice))
    }

    pub(super) fn header(&self, style: Style) -> String {
        let chain = style.chain.then_some(&self.chain[..]);
        let thumbprint = match style.algorithm {
            Algorithm::Ps256 => &self.sha256,
            Algorithm::Rs256 => &self.sha1,
        };
        assertion::header(style.algorithm, thumbprint, chain)
    }

    /// An assertion for one request.
    ///
    /// # Errors
    ///
    /// `Credential`, where the crypto library fails, which it does when the system has no random numbers.
    pub(super) fn mint(
        &self,
        style: Style,
        client_id: &str,
        audience: &str,
        now: Now,
    ) -> Result<Secret, Error> {
        let failed =
            |_| Error::new(ErrorKind::Credential, "client certificate: the assertion could not be signed");
        let mut id = [0; 16];
        rand::fill(&mut id).map_err(failed)?;
        let unsigned =
            assertion::unsigned(&self.header(style), client_id, audience, &id, seconds(now.wall()));
        let encoding: &'static dyn RsaEncoding = match style.algorithm {
            Algorithm::Ps256 => &RSA_PSS_SHA256,
            Algorithm::Rs256 => &RSA_PKCS1_SHA256,
        };
        let mut signature = Zeroizing::new(vec![0; self.key.public_modulus_len()]);
        self.key.sign(encoding, &SystemRandom::new(), unsigned.as_bytes(), &mut signature).map_err(failed)?;
        Ok(assertion::signed(&unsigned, &signature))
    }

    /// As the portal shows it.
    pub(super) fn thumbprint(&self) -> String {
        self.sha1.iter().map(|byte| format!("{byte:02X}")).collect()
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held")
            .field("subject", &self.subject)
            .field("thumbprint", &self.thumbprint())
            .field("from", &date(self.from))
            .field("until", &date(self.until))
            .field("chain", &self.chain.len())
            .finish_non_exhaustive()
    }
}

/// From the leaf to as near its authority as the file leads. By names only: whether it is a chain, Entra checks.
fn chain(
    leaf: &[u8],
    parsed_leaf: &X509Certificate<'_>,
    all: &[(&Vec<u8>, X509Certificate<'_>)],
) -> Vec<Vec<u8>> {
    let mut chain = vec![leaf.to_vec()];
    let mut last = parsed_leaf;
    // One that names itself as its issuer ends it.
    while last.issuer().as_raw() != last.subject().as_raw()
        && let Some((der, next)) = all.iter().find(|(der, next)| {
            next.subject().as_raw() == last.issuer().as_raw() && !chain.iter().any(|known| known == *der)
        })
    {
        chain.push(der.to_vec());
        last = next;
    }
    chain
}

fn parse_key(what: &str, key: &KeyDer) -> Result<RsaKeyPair, Error> {
    let damaged = || damaged(what, "a private key");
    let pkcs1 = match key {
        KeyDer::Pkcs1(der) => der,
        KeyDer::Pkcs8(der) => inner_key(der).ok_or_else(damaged)?.map_err(|kind| {
            Error::config(format!("{what} has {kind}, and Entra takes RSA only")).with_advice(
                "Make a certificate with an RSA key of 2048 bits or more and register that: an assertion of another kind \
                 would be refused.",
            )
        })?,
    };
    let bits = modulus_bits(pkcs1).ok_or_else(damaged)?;
    if bits < KEY_BITS {
        return Err(Error::config(format!(
            "{what} has an RSA key of {bits} bits, and {KEY_BITS} is the least"
        ))
        .with_advice(
            "Make a certificate with an RSA key of 2048 bits or more: shorter ones can be broken.",
        ));
    }
    if bits > MOST_KEY_BITS {
        return Err(Error::config(format!(
            "{what} has an RSA key of {bits} bits, and {MOST_KEY_BITS} is the most"
        ))
        .with_advice("Make a certificate with an RSA key of 2048 to 4096 bits: longer ones sign slowly."));
    }
    RsaKeyPair::from_der(pkcs1).map_err(|rejected| damaged().with_source(rejected))
}

fn damaged(what: &str, part: &str) -> Error {
    Error::config(format!("{what} has {part} that is damaged"))
        .with_advice("Export key and certificate again.")
}

/// The RSA key within PKCS#8, or what it is instead.
fn inner_key(pkcs8: &[u8]) -> Option<Result<&[u8], &'static str>> {
    let mut info = Der::new(pkcs8).enter(SEQUENCE)?;
    info.number()?;
    let oid = info.enter(SEQUENCE)?.take(OID)?;
    let inner = info.take(OCTETS)?;
    Some(match oid {
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01] => Ok(inner),
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a] => Err("a key for RSASSA-PSS alone"),
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01] => Err("an elliptic-curve key"),
        [0x2b, 0x65, ..] => Err("an Edwards-curve key"),
        [0x2a, 0x86, 0x48, 0xce, 0x38, ..] => Err("a DSA key"),
        _ => Err("a key of an unknown kind"),
    })
}

fn modulus_bits(pkcs1: &[u8]) -> Option<usize> {
    let mut key = Der::new(pkcs1).enter(SEQUENCE)?;
    key.number()?;
    let modulus = unsigned(key.take(INTEGER)?);
    Some(modulus.len() * 8 - modulus.first()?.leading_zeros() as usize)
}

fn shown(certificate: &X509Certificate<'_>) -> String {
    Quoted(&certificate.subject().to_string()).to_string()
}

fn validity(certificate: &X509Certificate<'_>) -> (SystemTime, SystemTime) {
    let validity = certificate.validity();
    // The last second counts.
    (time(validity.not_before.timestamp()), time(validity.not_after.timestamp().saturating_add(1)))
}

/// What lies before 1970 counts from there.
fn time(seconds: i64) -> SystemTime {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}

pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn date(time: SystemTime) -> String {
    match jiff::Timestamp::from_second(i64::try_from(seconds(time)).unwrap_or(i64::MAX)) {
        Ok(time) => time.to_string(),
        Err(_) => "a day beyond all calendars".to_owned(),
    }
}
