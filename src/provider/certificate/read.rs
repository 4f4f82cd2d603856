//! Finding key and certificates in what a user has: PEM or PKCS#12, and saying what it is where it is neither.

use std::time::SystemTime;

use zeroize::Zeroizing;

use super::{
    der::{Der, INTEGER, SEQUENCE},
    held::{Held, KeyDer},
    pbe::{Budget, Fault, Password, decrypt_pkcs8},
    pem, pkcs12,
};
use crate::{Error, ErrorKind, Secret, text::Quoted};

/// The largest file: a key with ten certificates has a sixth of it.
pub(super) const LIMIT: usize = 128 * 1024;

const DAMAGED: &str = "It was cut off, or is being written at this moment. Else export it again: some old programs write BER where DER is required.";

const BOM: &[u8] = "\u{feff}".as_bytes();

/// What the bytes have to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Pem,
    Pkcs12,
    Any,
}

/// What is found in `bytes`. `what` is the subject of the sentence that an error is.
///
/// # Errors
///
/// `Config` for what cannot be read or used, `Credential` for a wrong password and a key that is not the certificate's.
pub(super) fn read(
    what: &str,
    bytes: &[u8],
    password: Option<&Secret>,
    format: Format,
    now: SystemTime,
) -> Result<Held, Error> {
    let refuse =
        |is: &str, advice: &'static str| Err(Error::config(format!("{what} {is}")).with_advice(advice));
    if bytes.len() > LIMIT {
        return refuse(
            &format!("is larger than {LIMIT} bytes"),
            "It is something else than a key and its certificates.",
        );
    }
    let bytes = bytes.strip_prefix(BOM).unwrap_or(bytes);
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return refuse("is empty", "Whatever writes it may be in the middle of doing so.");
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return refuse(
            "is UTF-16 text",
            "Save it as UTF-8 or ASCII: PowerShell's `>` does not, `Set-Content -Encoding ascii` does.",
        );
    }
    if format != Format::Pem && pkcs12::is(bytes) {
        return from_pkcs12(what, bytes, password, now);
    }
    if pkcs12::is(bytes) {
        return refuse("is PKCS#12 and not PEM", "Use `from_pkcs12` or `from_bytes`.");
    }
    let text = std::str::from_utf8(bytes).ok();
    if format != Format::Pkcs12
        && let Some(text) = text.filter(|text| pem::is(text))
    {
        return from_pem(what, text, password, now);
    }
    match (format, is_der(bytes)) {
        (_, Some(is)) => {
            refuse(is, "Export the private key and its certificate together, as PEM or PKCS#12 (.pfx).")
        }
        // Binary, and longer by its own word than it is.
        (Format::Any | Format::Pkcs12, None) if matches!(bytes, [0x30, 0x80..=0x84, ..]) => {
            refuse("is damaged", DAMAGED)
        }
        (Format::Pem, _) => refuse(
            "has no PEM block",
            "PEM begins with `-----BEGIN`. PKCS#12 (.pfx) is binary: use `from_pkcs12` or `from_bytes`.",
        ),
        (Format::Pkcs12, _) if text.is_some_and(pem::is) => {
            refuse("is PEM and not PKCS#12", "Use `from_pem` or `from_bytes`.")
        }
        // A vault gives the binary form as text.
        _ => match text.and_then(pem::decode).filter(|der| pkcs12::is(der)) {
            Some(der) => from_pkcs12(what, &der, password, now),
            None => refuse(
                "is neither PEM nor PKCS#12",
                "Give the private key and its certificate in one of these forms. Java's own key stores (JKS) have to be converted.",
            ),
        },
    }
}

/// What other DER there is.
fn is_der(bytes: &[u8]) -> Option<&'static str> {
    let mut outer = Der::new(bytes);
    let mut inner = outer.enter(SEQUENCE)?;
    if !outer.is_empty() {
        return None;
    }
    if inner.take(INTEGER).is_some() {
        return Some("is a private key in DER without a certificate");
    }
    inner.enter(SEQUENCE).map(|_| "is a certificate or an encrypted key in DER, and not both together")
}

fn from_pkcs12(what: &str, der: &[u8], password: Option<&Secret>, now: SystemTime) -> Result<Held, Error> {
    let text = password.map_or("", Secret::expose);
    let mut contents = pkcs12::read(der, text)
        .map_err(|fault| refused(what, fault, password, "openssl pkcs12 -in old.pfx -nodes -out both.pem"))?;
    let key = contents.keys.pop();
    if !contents.keys.is_empty() {
        return Err(several_keys(what));
    }
    let key = key.ok_or_else(|| no_key(what))?;
    Held::new(what, &KeyDer::Pkcs8(key), &contents.certificates, now)
}

fn from_pem(what: &str, text: &str, password: Option<&Secret>, now: SystemTime) -> Result<Held, Error> {
    let blocks = pem::blocks(text).map_err(|pem::Unended| {
        Error::config(format!("{what} has a PEM block without an end"))
            .with_advice("It was cut off, or is being written at this moment.")
    })?;
    let (mut key, mut certificates, mut other) = (None, Vec::new(), None);
    for block in &blocks {
        let der = || {
            block.der().ok_or_else(|| {
                Error::config(format!("{what} has a PEM block {} that is not base64", Quoted(block.label)))
                    .with_advice(
                        "Look for line ends that were turned into `\\n`, and for text that was cut off.",
                    )
            })
        };
        // Before it is decrypted, which may take seconds.
        if key.is_some() && matches!(block.label, "PRIVATE KEY" | "ENCRYPTED PRIVATE KEY" | "RSA PRIVATE KEY")
        {
            return Err(several_keys(what));
        }
        let found = match block.label {
            "CERTIFICATE" | "X509 CERTIFICATE" => {
                certificates.push(der()?.to_vec());
                continue;
            }
            "PRIVATE KEY" => KeyDer::Pkcs8(der()?),
            "ENCRYPTED PRIVATE KEY" => KeyDer::Pkcs8(decrypted(what, &der()?, password)?),
            "RSA PRIVATE KEY" if block.is_encrypted_the_old_way() => {
                return Err(Error::config(format!("{what} has a private key that is encrypted in OpenSSL's old way"))
                    .with_advice("Convert it with `openssl pkcs8 -topk8 -in old.pem -out new.pem`: one round of MD5 does not protect a key."));
            }
            "RSA PRIVATE KEY" => KeyDer::Pkcs1(der()?),
            label => {
                other = other.or(refusal(label));
                continue;
            }
        };
        key = Some(found);
    }
    let Some(key) = key else {
        return Err(match other {
            Some((is, advice)) => Error::config(format!("{what} {is}")).with_advice(advice),
            None if certificates.is_empty() => {
                Error::config(format!("{what} has neither a private key nor a certificate"))
                    .with_advice("Give the private key and its certificate in one file.")
            }
            None => no_key(what),
        });
    };
    if certificates.is_empty()
        && let Some((is, advice)) = other
    {
        return Err(Error::config(format!("{what} {is} and no certificate")).with_advice(advice));
    }
    Held::new(what, &key, &certificates, now)
}

fn decrypted(what: &str, der: &[u8], password: Option<&Secret>) -> Result<Zeroizing<Vec<u8>>, Error> {
    let given = Password::new(password.map_or("", Secret::expose));
    decrypt_pkcs8(der, &given, &mut Budget::new()).map_err(|fault| {
        refused(what, fault, password, "openssl pkcs8 -topk8 -v2 aes-256-cbc -in old.pem -out new.pem")
    })
}

/// Blocks that are in the place of a key.
fn refusal(label: &str) -> Option<(&'static str, &'static str)> {
    const RSA: &str =
        "Make a certificate with an RSA key of 2048 bits or more and register that: Entra takes no other.";
    Some(match label {
        "EC PRIVATE KEY" => ("has an elliptic-curve key, and Entra takes RSA only", RSA),
        "DSA PRIVATE KEY" => ("has a DSA key, and Entra takes RSA only", RSA),
        "OPENSSH PRIVATE KEY" => (
            "has a key in OpenSSH's own form",
            "Convert a copy of it with `ssh-keygen -p -m PKCS8 -f copy`, and put the certificate into the same file.",
        ),
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => (
            "has a certificate request",
            "Send the request to the authority that signs it; what is needed here is the certificate that it returns.",
        ),
        "PUBLIC KEY" | "RSA PUBLIC KEY" => (
            "has a public key",
            "An assertion is signed with the private key: give that one and its certificate.",
        ),
        "PKCS7" => (
            "has certificates in PKCS#7",
            "Take them out with `openssl pkcs7 -print_certs -in bundle.p7b`, and put the private key into the same file.",
        ),
        _ => return None,
    })
}

fn several_keys(what: &str) -> Error {
    Error::config(format!("{what} has several private keys"))
        .with_advice("Leave the one that belongs to the application's certificate.")
}

fn no_key(what: &str) -> Error {
    Error::config(format!("{what} has no private key")).with_advice(
        "Export the certificate together with its private key; what is registered with Entra has none.",
    )
}

fn refused(what: &str, fault: Fault, password: Option<&Secret>, convert: &str) -> Error {
    match (fault, password) {
        (Fault::Password, None) => Error::config(format!("{what} is encrypted, and there is no password"))
            .with_advice("Give its password."),
        (Fault::Password, Some(_)) => {
            Error::new(ErrorKind::Credential, format!("{what} cannot be decrypted: the password is wrong"))
                .with_advice("Look for a trailing newline in the file or variable that the password was read from. Where it is right, the file is damaged.")
        }
        (Fault::Malformed, _) => Error::config(format!("{what} is damaged"))
            .with_advice(DAMAGED),
        (Fault::Slow, _) => {
            Error::config(format!("{what} wants millions of rounds of a hash before it can be decrypted"))
                .with_advice("Nobody makes such a file by accident. Export it again.")
        }
        (Fault::Unsupported(way), _) => Error::config(format!("{what} is protected in a way that is not read here: {way}"))
            .with_advice(format!("Convert it: `{convert}`.")),
    }
}
