//! Setting an emulator up.

use crate::emulator::directory::Directory;
use crate::emulator::faults::Faults;
use crate::emulator::identity::{self, ArcKeys};
use crate::emulator::journal::{Entry, Journal};
use crate::emulator::server::{self, Open, Server};
use crate::emulator::service::{Core, Service};
use crate::emulator::sign_in::SignIns;
use crate::emulator::time::Time;
use crate::emulator::tls::{Identity, Pem};
use crate::emulator::token_service::grants::Grants;
use crate::emulator::{Emulator, Endpoint, IdentityTls, Inner};
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use url::Url;

/// Sets up an [`Emulator`].
#[derive(Debug)]
#[must_use = "an emulator runs once it is started"]
pub struct Builder {
    directory: Option<Directory>,
    lifetime: Option<Duration>,
    tls: bool,
    given: Option<(Pem, Pem)>,
    time: Option<Time>,
    authority: Option<String>,
    listen: SocketAddr,
    identity_listen: SocketAddr,
    identity_tls_listen: Option<SocketAddr>,
    anywhere: bool,
    arc_keys: ArcKeys,
    observer: Option<Observer>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            directory: None,
            lifetime: None,
            tls: false,
            given: None,
            time: None,
            authority: None,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            identity_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            identity_tls_listen: None,
            anywhere: false,
            arc_keys: ArcKeys::default(),
            observer: None,
        }
    }

    /// Another directory than the sample.
    pub fn directory(mut self, directory: Directory) -> Self {
        self.directory = Some(directory);
        self
    }

    /// The lifetime of tokens, 3599 seconds otherwise. [`Directory::set_lifetime`] changes it later.
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// Puts TLS on the token service, with a certificate for `localhost`, `127.0.0.1`, `::1` and `login.microsoftonline.com` of an
    /// authority made for this emulator, [`Emulator::ca_pem`]. The identity endpoint stays plain, as it is in Azure.
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Puts TLS on the token service, with this certificate, those that lead from it to its authority, and its key, all of them PEM.
    /// It is the certificate of [`identity_tls_listen`](Self::identity_tls_listen), too.
    pub fn tls_pem(mut self, certificates: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.tls = true;
        self.given = Some((Pem(certificates.into()), Pem(key.into())));
        self
    }

    /// Runs on another clock: it tells what time it is for tokens and journal, and how a fault's delay passes.
    pub fn time(
        mut self,
        now: impl Fn() -> SystemTime + Send + Sync + 'static,
        sleep: impl Fn(Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync + 'static,
    ) -> Self {
        self.time = Some(Time::hooked(now, sleep));
        self
    }

    /// The loopback address of the token service; a free port of 127.0.0.1 otherwise.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// The loopback address of the identity endpoint; a free port of 127.0.0.1 otherwise.
    pub fn identity_listen(mut self, address: SocketAddr) -> Self {
        self.identity_listen = address;
        self
    }

    /// A loopback address where the identity endpoint is served with TLS as well, as Service Fabric serves it. Without it there is
    /// none. The certificate is the token service's, or of an authority made for this emulator where that has none.
    pub fn identity_tls_listen(mut self, address: SocketAddr) -> Self {
        self.identity_tls_listen = Some(address);
        self
    }

    /// The directory into which Azure Arc's endpoint puts its key files, as `/var/opt/azcmagent/tokens` is on a real machine; it is
    /// made if it is not there. Without it that endpoint answers with an error.
    pub fn arc_key_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.arc_keys = ArcKeys::new(&directory.into());
        self
    }

    /// Is told of each request as it is answered, in the journal's words. It runs between the answer and its being sent, so it should
    /// be quick. A request that a fault leaves without an answer is not told.
    pub fn on_answer(mut self, observer: impl Fn(&Entry) + Send + Sync + 'static) -> Self {
        self.observer = Some(Observer(Arc::new(observer)));
        self
    }

    /// Settings that are a hazard.
    pub fn dangerous(self) -> DangerousBuilder {
        DangerousBuilder(self)
    }

    /// The token service's public address, as in `https://login.test:8443`: documents and issuers begin with it.
    ///
    /// Without it they begin with the name by which a request reached the service, its `Host`: clients compare the issuer with the address
    /// that they were given, and one service on this machine has several names. Set it where that is not what clients see, or
    /// where clients that use different names have to agree on the issuer.
    pub fn authority(mut self, url: impl Into<String>) -> Self {
        let mut url = url.into();
        url.truncate(url.trim_end_matches('/').len());
        self.authority = Some(url);
        self
    }

    /// Opens the listeners and serves, in tasks of the current tokio runtime.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for an address that is not loopback, an authority that is no http or https origin, and for a certificate or key
    /// that cannot be used; else when a listener cannot be opened, a certificate or a file for Azure Arc not be made, or there is no
    /// tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what was opened.
    pub async fn start(self) -> io::Result<Emulator> {
        let identity = match &self.given {
            Some((chain, key)) => Some(Identity::given(chain, key)?),
            None if self.tls || self.identity_tls_listen.is_some() => Some(Identity::own()?),
            None => None,
        };
        self.arc_keys.check()?;
        if let Some(authority) = &self.authority {
            check_origin(authority)?;
        }
        let acceptor = identity.as_ref().map(|identity| identity.acceptor.clone());
        let listener = server::bind(self.listen, self.anywhere)?;
        let identity_listener = server::bind(self.identity_listen, self.anywhere)?;
        let addresses = (listener.local_addr()?, identity_listener.local_addr()?);
        let mut servers = vec![
            Server { endpoint: Endpoint::TokenService, listener, tls: acceptor.clone().filter(|_| self.tls) },
            Server { endpoint: Endpoint::Identity, listener: identity_listener, tls: None },
        ];
        let mut identity_tls = None;
        if let (Some(address), Some(identity)) = (self.identity_tls_listen, &identity) {
            let listener = server::bind(address, self.anywhere)?;
            let endpoint = format!("https://{}", reachable(listener.local_addr()?));
            identity_tls = Some(IdentityTls { endpoint, thumbprint: identity.thumbprint.clone() });
            servers.push(Server { endpoint: Endpoint::Identity, listener, tls: acceptor });
        }
        let emulator = self.build(addresses, identity.and_then(|identity| identity.ca_pem), identity_tls);
        for server in servers {
            server.spawn(Arc::clone(&emulator.0.service), &emulator.0._open);
        }
        Ok(emulator)
    }

    /// An emulator without sockets, for [`Emulator::call`].
    ///
    /// It needs no async runtime, except for faults that delay or drip: without [`Builder::time`] these sleep in tokio's.
    pub fn in_memory(self) -> Emulator {
        // Ports on which nothing listens, so that a request that goes astray over a socket fails at once.
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        self.build((address(1), address(2)), None, None)
    }

    fn build(
        self,
        addresses: (SocketAddr, SocketAddr),
        ca_pem: Option<String>,
        identity_tls: Option<IdentityTls>,
    ) -> Emulator {
        let directory = self.directory.unwrap_or_else(Directory::sample);
        if let Some(lifetime) = self.lifetime {
            directory.set_lifetime(lifetime);
        }
        let scheme = if self.tls { "https" } else { "http" };
        let service = Service::new(Core {
            directory,
            faults: Faults::default(),
            journal: Journal::new(),
            time: self.time.unwrap_or_else(Time::real),
            authority_is_fixed: self.authority.is_some(),
            authority: self.authority.unwrap_or_else(|| format!("{scheme}://{}", reachable(addresses.0))),
            identity_endpoint: format!("http://{}", reachable(addresses.1)),
            identity: identity::State { arc_keys: self.arc_keys, ..identity::State::default() },
            observer: self.observer,
            grants: Grants::default(),
            sign_ins: SignIns::default(),
        });
        let service = Arc::new(service);
        Emulator(Arc::new(Inner { service, ca_pem, identity_tls, _open: Open::new(()) }))
    }
}

fn check_origin(authority: &str) -> io::Result<()> {
    let url = Url::parse(authority).ok();
    let is_origin = url.is_some_and(|url| {
        matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == *authority
    });
    if is_origin {
        return Ok(());
    }
    let message = format!("the authority '{authority}' is not of the form https://host or https://host:port");
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

/// The address by which this machine reaches a listener: one that listens everywhere has none of its own.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Settings of a [`Builder`] that are a hazard.
#[derive(Debug)]
#[must_use = "an emulator runs once it is started"]
pub struct DangerousBuilder(Builder);

impl DangerousBuilder {
    /// Listens on addresses that are not loopback, too: for a container, whose loopback nobody else reaches.
    ///
    /// Whoever reaches the emulator gets tokens from it, can read its sample secrets in its documentation, and can bring it down. See
    /// to it that nobody does who should not, and that nothing trusts its keys.
    pub fn listen_anywhere(mut self) -> Builder {
        self.0.anywhere = true;
        self.0
    }
}

/// Who is told of answers.
#[derive(Clone)]
pub(crate) struct Observer(Arc<dyn Fn(&Entry) + Send + Sync>);

impl Observer {
    pub(crate) fn tell(&self, entry: &Entry) {
        (self.0)(entry);
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}
