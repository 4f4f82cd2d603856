//! PKCS#12 (RFC 7292), also called PFX: keys and certificates under a password.

use zeroize::Zeroizing;

use super::{
    der::{Der, EXPLICIT_0, IMPLICIT_0, OCTETS, OID, SEQUENCE},
    pbe::{Budget, Fault, Password, decrypt, decrypt_pkcs8, has_mac},
};

const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
const ENCRYPTED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x06];
const BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01];
const X509: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x16, 0x01];

/// What such a file holds: keys in PKCS#8, certificates in the order of the file.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) keys: Vec<Zeroizing<Vec<u8>>>,
    pub(super) certificates: Vec<Vec<u8>>,
}

/// Whether this may be such a file: it says which version of the format it is.
pub(super) fn is(der: &[u8]) -> bool {
    Der::new(der).enter(SEQUENCE).and_then(|mut pfx| pfx.number()) == Some(3)
}

/// Reads a file. Where the password is empty, or there is none, files made either way are read.
pub(super) fn read(der: &[u8], password: &str) -> Result<Contents, Fault> {
    let mut pfx = Der::new(der).enter(SEQUENCE).ok_or(Fault::Malformed)?;
    if pfx.number() != Some(3) {
        return Err(Fault::Malformed);
    }
    let mut safe = pfx.enter(SEQUENCE).ok_or(Fault::Malformed)?;
    if safe.take(OID).ok_or(Fault::Malformed)? != DATA {
        return Err(Fault::Unsupported("a signature instead of a password"));
    }
    let safe = safe.enter(EXPLICIT_0).and_then(|mut safe| safe.take(OCTETS)).ok_or(Fault::Malformed)?;

    let mut budget = Budget::new();
    let given = Password::new(password);
    let passwords = if password.is_empty() { vec![given, Password::none()] } else { vec![given] };
    let mut fault = Fault::Password;
    for password in passwords {
        match checked(&mut pfx.clone(), safe, &password, &mut budget)
            .and_then(|()| contents(safe, &password, &mut budget))
        {
            Err(Fault::Password) => fault = Fault::Password,
            ended => return ended,
        }
    }
    Err(fault)
}

/// The password is right, where the file has a code by which to know.
fn checked(pfx: &mut Der<'_>, safe: &[u8], password: &Password, budget: &mut Budget) -> Result<(), Fault> {
    if pfx.is_empty() {
        return Ok(());
    }
    let mut mac = pfx.enter(SEQUENCE).ok_or(Fault::Malformed)?;
    let mut digest = mac.enter(SEQUENCE).ok_or(Fault::Malformed)?;
    let (oid, _) = digest.algorithm().ok_or(Fault::Malformed)?;
    let code = digest.take(OCTETS).ok_or(Fault::Malformed)?;
    let salt = mac.take(OCTETS).ok_or(Fault::Malformed)?;
    let rounds = if mac.is_empty() { 1 } else { mac.number().ok_or(Fault::Malformed)? };
    let right = has_mac(oid, password, (salt, rounds), safe, code, budget)?;
    right.then_some(()).ok_or(Fault::Password)
}

fn contents(safe: &[u8], password: &Password, budget: &mut Budget) -> Result<Contents, Fault> {
    let mut found = Contents::default();
    let mut infos = Der::new(safe).enter(SEQUENCE).ok_or(Fault::Malformed)?;
    while !infos.is_empty() {
        let mut info = infos.enter(SEQUENCE).ok_or(Fault::Malformed)?;
        let kind = info.take(OID).ok_or(Fault::Malformed)?;
        let mut content = info.enter(EXPLICIT_0).ok_or(Fault::Malformed)?;
        match kind {
            DATA => bags(content.take(OCTETS).ok_or(Fault::Malformed)?, password, budget, &mut found)?,
            ENCRYPTED_DATA => {
                let plain = encrypted(&mut content, password, budget)?;
                // One in 256 wrong passwords leaves a padding that looks right.
                Der::new(&plain).enter(SEQUENCE).ok_or(Fault::Password)?;
                bags(&plain, password, budget, &mut found)?;
            }
            _ => return Err(Fault::Unsupported("a recipient's certificate instead of a password")),
        }
    }
    Ok(found)
}

fn encrypted(
    content: &mut Der<'_>,
    password: &Password,
    budget: &mut Budget,
) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let mut data = content.enter(SEQUENCE).ok_or(Fault::Malformed)?;
    data.number().ok_or(Fault::Malformed)?;
    let mut info = data.enter(SEQUENCE).ok_or(Fault::Malformed)?;
    info.take(OID).ok_or(Fault::Malformed)?;
    let algorithm = info.algorithm().ok_or(Fault::Malformed)?;
    decrypt(algorithm, info.take(IMPLICIT_0).ok_or(Fault::Malformed)?, password, budget)
}

fn bags(der: &[u8], password: &Password, budget: &mut Budget, found: &mut Contents) -> Result<(), Fault> {
    let mut bags = Der::new(der).enter(SEQUENCE).ok_or(Fault::Malformed)?;
    while !bags.is_empty() {
        let mut bag = bags.enter(SEQUENCE).ok_or(Fault::Malformed)?;
        let kind = bag.take(OID).ok_or(Fault::Malformed)?;
        let value = bag.take(EXPLICIT_0).ok_or(Fault::Malformed)?;
        match kind.strip_prefix(BAG) {
            Some([1]) => found.keys.push(Zeroizing::new(value.to_vec())),
            Some([2]) => found.keys.push(decrypt_pkcs8(value, password, budget)?),
            Some([3]) => {
                let mut certificate = Der::new(value).enter(SEQUENCE).ok_or(Fault::Malformed)?;
                if certificate.take(OID).ok_or(Fault::Malformed)? == X509 {
                    let octets = certificate.enter(EXPLICIT_0).and_then(|mut inner| inner.take(OCTETS));
                    found.certificates.push(octets.ok_or(Fault::Malformed)?.to_vec());
                }
            }
            // Revocation lists and secrets of other kinds.
            _ => {}
        }
    }
    Ok(())
}
