//! An application that proves itself by a certificate.

mod der;
mod held;
mod pbe;
mod pem;
mod pkcs12;
mod read;

use std::{
    fmt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use held::{Held, seconds};
use read::{Format, LIMIT, read};

use super::{
    ClientAuth, ClientCredential, ConfidentialClient, CredentialRequest, CredentialSource, FetchContext,
    file::{self, Stamp},
};
use crate::{
    BoxFuture, Clock, Error, Now, Secret,
    sync::{Arc, Mutex},
    text::Quoted,
    wire::assertion::{self, Algorithm},
};

/// An RSA key and the certificate that Entra knows it by: where an application's assertions come from.
///
/// ```
/// use entra_broker::{Broker, Certificate, ClientCertificate};
///
/// # fn main() -> Result<(), entra_broker::Error> {
/// let (path, password) = ("/etc/app/certificate.pfx", "its password");
/// # let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/broker/fixtures/certificate/modern.p12");
/// # let password = "pass-of-the-fixture";
/// let certificate = Certificate::from_file(path, Some(password.into()))?;
/// let client_id = "00001111-aaaa-2222-bbbb-3333cccc4444";
/// let broker = Broker::new(ClientCertificate::new("contoso.onmicrosoft.com", client_id, certificate)?)?;
/// # drop(broker); Ok(()) }
/// ```
///
/// # What is read
///
/// PEM with the private key (PKCS#8, PKCS#1, or PKCS#8 encrypted by PBES2 or by the 3DES and RC2 of PKCS#12) and its certificate
/// in any order, or PKCS#12 (`.pfx`, `.p12`) as today's and yesterday's programs write it, also in base64 as vaults give it.
/// Further certificates are put in order behind the key's own one, and those that do not lead from it are left out. Where
/// several are for the one key, the one that is valid longest counts.
///
/// Keys are RSA of 2048 to 8192 bits: Entra takes no others. A file has at most 128 KiB, and the derivations of keys from its
/// password at most 4 million rounds of a hash together, some seconds on a slow machine.
///
/// # When it is valid
///
/// A certificate that has expired or is not valid yet is refused when it is read, by the machine's clock, and again at each
/// fetch, by the broker's: nothing is sent then.
///
/// # A file that changes
///
/// One that was read [from a file](Self::from_file) is read again before an assertion is made, where the file has
/// changed or the certificate at hand has expired, and when Entra says that it does not know the key: a rotation needs no restart. Until the new certificate is
/// in place *and* registered, requests may be refused; register it first.
///
/// A file that is missing, half written, unreadable or of another application's key does not take away the certificate at hand:
/// that stays in use for as long as it is valid, with a warning in the log at each fetch. Replace the file in one step all
/// the same, by renaming a new one onto it.
///
/// # What it costs
///
/// The feature `certificate` brings x509-parser and the ciphers of old key files (`cbc`, `des`, `rc2`). An assertion is one RSA
/// signature, about a third of a millisecond of processor time with a key of 2048 bits. It is made anew for each request, off the
/// async threads; the key is parsed once.
///
/// Clones share what they hold. Keys and passwords are overwritten when the last clone goes, and seen in no log and no error.
#[derive(Clone)]
pub struct Certificate {
    shared: Arc<Shared>,
    style: Style,
}

struct Shared {
    file: Option<Watched>,
    current: Mutex<Current>,
}

/// Where it was read from.
struct Watched {
    path: PathBuf,
    password: Option<Secret>,
}

#[derive(Clone)]
struct Current {
    held: Arc<Held>,
    /// Of the file, before it was read.
    stamp: Option<Stamp>,
}

/// How assertions are made.
#[derive(Debug, Clone, Copy)]
struct Style {
    algorithm: Algorithm,
    chain: bool,
}

/// The subject of an error's sentence.
const WHAT: &str = "client certificate";

/// The answers by which Entra says that it does not know the key, or not any more.
const KEY_UNKNOWN: &[u32] = &[700_027, 7_000_214, 1_000_502, 7_000_274, 7_000_277];
/// The assertion is not within its valid time range.
const NOT_CURRENT: u32 = 700_024;

impl Certificate {
    /// Private key and certificate in PEM. The password is for an encrypted key, and passed over where it is not.
    ///
    /// # Errors
    ///
    /// `Config` where there is not exactly one RSA key of 2048 bits or more that can be read, and a certificate. `Credential`
    /// where the password is wrong, key and certificate do not match, or the certificate is not valid now.
    pub fn from_pem(pem: &[u8], password: Option<&Secret>) -> Result<Self, Error> {
        Self::from(pem, password, Format::Pem)
    }

    /// Private key and certificate in PKCS#12. None and an empty password are the same.
    ///
    /// # Errors
    ///
    /// As [`from_pem`](Self::from_pem).
    pub fn from_pkcs12(der: &[u8], password: Option<&Secret>) -> Result<Self, Error> {
        Self::from(der, password, Format::Pkcs12)
    }

    /// Either of them, whichever it is.
    ///
    /// # Errors
    ///
    /// As [`from_pem`](Self::from_pem).
    pub fn from_bytes(bytes: &[u8], password: Option<&Secret>) -> Result<Self, Error> {
        Self::from(bytes, password, Format::Any)
    }

    /// Either of them in a file, which is read again when it has changed. It blocks while it reads.
    ///
    /// # Errors
    ///
    /// As [`from_pem`](Self::from_pem), and `Config` where the file is missing, unreadable, or none: a directory, a device, a pipe.
    pub fn from_file(path: impl Into<PathBuf>, password: Option<Secret>) -> Result<Self, Error> {
        let watched = Watched { path: path.into(), password };
        let current = watched.read(Clock::system().now().wall())?;
        Ok(Self::of(Some(watched), current))
    }

    fn from(bytes: &[u8], password: Option<&Secret>, format: Format) -> Result<Self, Error> {
        let now = Clock::system().now().wall();
        let held = read(WHAT, bytes, password, format, now)?;
        held.check(WHAT, now)?;
        Ok(Self::of(None, Current { held: Arc::new(held), stamp: None }))
    }

    fn of(file: Option<Watched>, current: Current) -> Self {
        let style = Style { algorithm: Algorithm::Ps256, chain: false };
        Self { shared: Arc::new(Shared { file, current: Mutex::new(current) }), style }
    }

    /// RS256 with the certificate's SHA-1 thumbprint (`x5t`), for old setups such as AD FS. By default it is PS256 with the SHA-256
    /// thumbprint (`x5t#S256`).
    #[must_use]
    pub fn rs256(mut self) -> Self {
        self.style.algorithm = Algorithm::Rs256;
        self
    }

    /// Sends the certificates along (`x5c`), for applications that trust an issuer and a subject's name instead of single
    /// certificates.
    #[must_use]
    pub fn send_chain(mut self) -> Self {
        self.style.chain = true;
        self
    }

    /// The SHA-1 thumbprint of the certificate in use, in upper-case hexadecimal digits as the portal shows it.
    pub fn thumbprint(&self) -> String {
        self.shared.held().thumbprint()
    }

    /// When the certificate in use expires.
    pub fn expires_on(&self) -> SystemTime {
        self.shared.held().until
    }

    /// An assertion of what is in use after `look` had a look at the file.
    async fn assertion(
        &self,
        cx: &FetchContext,
        asked: &CredentialRequest<'_>,
        look: Look,
    ) -> Result<Option<ClientCredential>, Error> {
        let (shared, style, now) = (Arc::clone(&self.shared), self.style, cx.clock().now());
        let (client_id, audience) = (asked.client_id().clone(), asked.audience().to_owned());
        // Not only for the file's sake: to sign takes some milliseconds with a long key.
        cx.blocking(move || {
            let held = match &look {
                Look::ForChanges => shared.after_changes(now)?,
                Look::Again { refused } => match shared.after_refusal(style, refused.expose(), now) {
                    Some(held) => held,
                    None => return Ok(None),
                },
            };
            held.mint(style, client_id.as_str(), &audience, now)
                .map(|assertion| Some(ClientCredential::Assertion(assertion)))
        })
        .await
    }
}

/// What to do with the file before an assertion is made.
enum Look {
    /// Read it where it has changed.
    ForChanges,
    /// Read it anyway: the token service refused this assertion.
    Again { refused: Secret },
}

impl Watched {
    /// # Errors
    ///
    /// Where there is no certificate in it that is valid at `now`.
    fn read(&self, now: SystemTime) -> Result<Current, Error> {
        // First, so that a change while it is read is seen the next time.
        let stamp = Stamp::of(&self.path);
        let bytes = file::read("the client certificate file", &self.path, LIMIT)?;
        let what = format!("the client certificate file {}", shown(&self.path));
        let held = read(&what, &bytes, self.password.as_ref(), Format::Any, now)?;
        held.check(&format!("the certificate in {}", shown(&self.path)), now)?;
        Ok(Current { held: Arc::new(held), stamp })
    }
}

impl Shared {
    fn held(&self) -> Arc<Held> {
        Arc::clone(&self.current.lock().held)
    }

    /// The certificate to use, once the file was looked at. It blocks.
    fn after_changes(&self, now: Now) -> Result<Arc<Held>, Error> {
        let Current { mut held, stamp } = self.current.lock().clone();
        let mut trouble = None;
        if let Some(watched) = &self.file
            // One that is over may have its successor in the same file.
            && (stamp.is_none() || stamp != Stamp::of(&watched.path) || held.check(WHAT, now.wall()).is_err())
        {
            match self.reload(watched, now) {
                Ok(new) => held = new,
                Err(error) => trouble = Some(error),
            }
        }
        held.check(WHAT, now.wall()).map_err(|expired| match trouble {
            Some(trouble) => expired.with_source(trouble),
            None => expired,
        })?;
        Ok(held)
    }

    /// Another certificate than the one that made `refused`, or the same where only its time was over. It blocks.
    fn after_refusal(&self, style: Style, refused: &str, now: Now) -> Option<Arc<Held>> {
        let own = self.held();
        if assertion::has_expired(refused, seconds(now.wall())) {
            // The machine slept between making and sending it.
            return own.check(WHAT, now.wall()).is_ok().then_some(own);
        }
        let held = self.reload(self.file.as_ref()?, now).ok()?;
        (!assertion::has_header(refused, &held.header(style))).then_some(held)
    }

    /// Where it fails, what is at hand stays.
    fn reload(&self, watched: &Watched, now: Now) -> Result<Arc<Held>, Error> {
        let path = shown(&watched.path);
        let new = watched.read(now.wall()).inspect_err(|error| {
            tracing::warn!(%error, file = %path, "client certificate not reloaded, the one at hand stays in use");
        })?;
        let held = Arc::clone(&new.held);
        let mut current = self.current.lock();
        if current.held.thumbprint() != held.thumbprint() {
            tracing::info!(certificate = ?held, file = %path, "client certificate reloaded");
        }
        *current = new;
        Ok(held)
    }
}

fn shown(path: &Path) -> String {
    Quoted(&path.to_string_lossy()).to_string()
}

impl CredentialSource for Certificate {
    fn name(&self) -> &'static str {
        "client-certificate"
    }

    fn credential<'a>(
        &'a self,
        cx: &'a FetchContext,
        asked: &'a CredentialRequest<'a>,
    ) -> BoxFuture<'a, Result<ClientCredential, Error>> {
        Box::pin(async move {
            let made = self.assertion(cx, asked, Look::ForChanges).await?;
            made.ok_or_else(|| Error::config("client certificate: there is none"))
        })
    }

    fn another<'a>(
        &'a self,
        cx: &'a FetchContext,
        asked: &'a CredentialRequest<'a>,
        refused: &'a ClientCredential,
        error: &'a Error,
    ) -> BoxFuture<'a, Option<ClientCredential>> {
        Box::pin(async move {
            let codes = error.aadsts();
            let unknown = self.shared.file.is_some() && codes.iter().any(|code| KEY_UNKNOWN.contains(code));
            if !unknown && !codes.contains(&NOT_CURRENT) {
                return None;
            }
            let ClientCredential::Assertion(refused) = refused else { return None };
            self.assertion(cx, asked, Look::Again { refused: refused.clone() }).await.ok().flatten()
        })
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("held", &self.shared.held())
            .field("file", &self.shared.file.as_ref().map(|watched| &watched.path))
            .field("style", &self.style)
            .finish_non_exhaustive()
    }
}

/// The shorthand for a [`ConfidentialClient`] with a [`Certificate`].
#[derive(Debug)]
pub enum ClientCertificate {}

impl ClientCertificate {
    /// An application in the public cloud that proves itself by `certificate`.
    ///
    /// # Errors
    ///
    /// As [`ConfidentialClient::new`].
    #[expect(
        clippy::new_ret_no_self,
        reason = "a name to find the shorthand by; there is nothing else to it"
    )]
    pub fn new(tenant: &str, client_id: &str, certificate: Certificate) -> Result<ConfidentialClient, Error> {
        ConfidentialClient::new(tenant, client_id, ClientAuth::source(certificate))
    }
}
