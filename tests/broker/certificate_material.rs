//! Keys and certificates of a test's own, and a folder for them.

use std::{
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use entra_broker::{Secret, emulator};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_RSA_SHA256};

pub(crate) const PASSWORD: &str = "pass-of-the-fixture";

pub(crate) fn password() -> Secret {
    Secret::new(PASSWORD)
}

/// A file of `fixtures/certificate`.
pub(crate) fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(fixture_path(name)).unwrap()
}

pub(crate) fn fixture_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broker/fixtures/certificate").join(name)
}

/// One of two RSA keys: making one takes a moment.
pub(crate) fn key(number: usize) -> &'static KeyPair {
    static KEYS: [OnceLock<KeyPair>; 2] = [OnceLock::new(), OnceLock::new()];
    KEYS[number].get_or_init(|| KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap())
}

fn params(name: &str, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    change(&mut params);
    params
}

pub(crate) fn self_signed(key: &KeyPair) -> rcgen::Certificate {
    self_signed_with(key, |_| {})
}

pub(crate) fn self_signed_with(
    key: &KeyPair,
    change: impl FnOnce(&mut CertificateParams),
) -> rcgen::Certificate {
    params("app.contoso.test", change).self_signed(key).unwrap()
}

pub(crate) fn authority(key: &'static KeyPair) -> CertifiedIssuer<'static, &'static KeyPair> {
    let ca = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params("Contoso issuing CA", ca), key).unwrap()
}

pub(crate) fn issued(key: &KeyPair, by: &CertifiedIssuer<'static, &'static KeyPair>) -> rcgen::Certificate {
    params("app.contoso.test", |_| {}).signed_by(key, by).unwrap()
}

/// Key and certificate in one text.
pub(crate) fn both(key: &KeyPair, certificate: &rcgen::Certificate) -> String {
    format!("{}{}", key.serialize_pem(), certificate.pem())
}

/// The certificate as an administrator uploads it.
pub(crate) fn registered(certificate: &rcgen::Certificate) -> emulator::Certificate {
    emulator::Certificate::from_der(certificate.der()).unwrap()
}

/// A folder that is gone at the end of the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("entra-broker-certificate-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        std::fs::write(self.path(name), contents).unwrap();
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
