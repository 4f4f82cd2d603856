//! Client secrets that change while the program runs.

use std::{fmt, path::PathBuf};

use super::{
    ClientCredential, CredentialRequest, CredentialSource, FetchContext, credential::check_secret, file,
};
use crate::{
    BoxFuture, Error, Secret,
    sync::{Arc, RwLock},
};

/// Entra's own secrets are 40 characters.
const LONGEST: usize = 16 * 1024;

/// A client secret in a file, such as a mounted secret of Kubernetes: read again for each request to the token service, so
/// that one which was replaced needs no restart.
///
/// Where Entra refuses the secret and the file holds another one by then, that one is tried at once. A byte-order mark, and
/// blanks and line ends around it, are left out.
///
/// ```
/// use entra_broker::{Broker, ClientAuth, ConfidentialClient, SecretFile};
///
/// # fn main() -> Result<(), entra_broker::Error> {
/// let auth = ClientAuth::source(SecretFile::new("/var/run/secrets/entra/client-secret"));
/// let client_id = "00001111-aaaa-2222-bbbb-3333cccc4444";
/// let broker = Broker::new(ConfidentialClient::new("contoso.com", client_id, auth)?)?;
/// # drop(broker); Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct SecretFile {
    path: PathBuf,
}

impl SecretFile {
    /// Of the file at `path`. It need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    async fn read(&self, cx: &FetchContext) -> Result<ClientCredential, Error> {
        let path = self.path.clone();
        let secret =
            cx.blocking(move || file::read_secret("the client secret's file", &path, LONGEST)).await?;
        check_secret(&secret)?;
        Ok(ClientCredential::Secret(secret))
    }
}

impl CredentialSource for SecretFile {
    fn name(&self) -> &'static str {
        "client-secret"
    }

    fn credential<'a>(
        &'a self,
        cx: &'a FetchContext,
        _asked: &'a CredentialRequest<'a>,
    ) -> BoxFuture<'a, Result<ClientCredential, Error>> {
        Box::pin(self.read(cx))
    }

    fn another<'a>(
        &'a self,
        cx: &'a FetchContext,
        _asked: &'a CredentialRequest<'a>,
        _refused: &'a ClientCredential,
        _error: &'a Error,
    ) -> BoxFuture<'a, Option<ClientCredential>> {
        Box::pin(async move { self.read(cx).await.ok() })
    }
}

/// A client secret that the program itself replaces while it runs. Clones are handles to the same secret.
///
/// ```
/// use entra_broker::{Broker, ClientAuth, ConfidentialClient, RotatingSecret};
///
/// # fn main() -> Result<(), entra_broker::Error> {
/// let secret = RotatingSecret::new("the first value")?;
/// let auth = ClientAuth::source(secret.clone());
/// let client_id = "00001111-aaaa-2222-bbbb-3333cccc4444";
/// let broker = Broker::new(ConfidentialClient::new("contoso.com", client_id, auth)?)?;
/// secret.set("the next value")?;
/// # drop(broker); Ok(()) }
/// ```
#[derive(Clone)]
pub struct RotatingSecret {
    current: Arc<RwLock<Secret>>,
}

impl RotatingSecret {
    /// Begins with `secret`.
    ///
    /// # Errors
    ///
    /// `Config` where it is empty or has blanks or control characters at an end of it.
    pub fn new(secret: impl Into<Secret>) -> Result<Self, Error> {
        let secret = secret.into();
        check_secret(&secret)?;
        Ok(Self { current: Arc::new(RwLock::new(secret)) })
    }

    /// Replaces it, for all clones. What is cached stays; a request that the old secret was sent with and that is refused
    /// is sent again with this one.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new). The old one then stays.
    pub fn set(&self, secret: impl Into<Secret>) -> Result<(), Error> {
        let secret = secret.into();
        check_secret(&secret)?;
        *self.current.write() = secret;
        Ok(())
    }

    fn get(&self) -> ClientCredential {
        ClientCredential::Secret(self.current.read().clone())
    }
}

impl CredentialSource for RotatingSecret {
    fn name(&self) -> &'static str {
        "client-secret"
    }

    fn credential<'a>(
        &'a self,
        _cx: &'a FetchContext,
        _asked: &'a CredentialRequest<'a>,
    ) -> BoxFuture<'a, Result<ClientCredential, Error>> {
        Box::pin(async { Ok(self.get()) })
    }

    fn another<'a>(
        &'a self,
        _cx: &'a FetchContext,
        _asked: &'a CredentialRequest<'a>,
        _refused: &'a ClientCredential,
        _error: &'a Error,
    ) -> BoxFuture<'a, Option<ClientCredential>> {
        Box::pin(async { Some(self.get()) })
    }
}

impl fmt::Debug for RotatingSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RotatingSecret").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_secret_replaces_none_and_is_not_shown() {
        let secret = RotatingSecret::new("the-first").unwrap();
        let handle = secret.clone();
        let error = handle.set("hunter2\n").unwrap_err();
        assert!(!format!("{error:?}{secret:?}").contains("hunter2"));
        assert!(matches!(secret.get(), ClientCredential::Secret(kept) if kept.expose() == "the-first"));
        handle.set("the-next").unwrap();
        assert!(matches!(secret.get(), ClientCredential::Secret(kept) if kept.expose() == "the-next"));
        assert!(!format!("{secret:?}").contains("the-"));
        assert!(RotatingSecret::new("").is_err());
    }
}
