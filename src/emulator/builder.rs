//! Setting an emulator up.

use crate::emulator::directory::Directory;
use crate::emulator::faults::Faults;
use crate::emulator::journal::Journal;
use crate::emulator::server::{self, Open, Server};
use crate::emulator::service::{Core, Service};
use crate::emulator::sign_in::SignIns;
use crate::emulator::time::Time;
use crate::emulator::token_service::grants::Grants;
use crate::emulator::{Emulator, Endpoint, Inner, identity};
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Sets up an [`Emulator`].
#[derive(Debug)]
#[must_use = "an emulator runs once it is started"]
pub struct Builder {
    directory: Option<Directory>,
    lifetime: Option<Duration>,
    tls: bool,
    time: Option<Time>,
    listen: SocketAddr,
    identity_listen: SocketAddr,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            directory: None,
            lifetime: None,
            tls: false,
            time: None,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            identity_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
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

    /// Opens the listeners and serves, in tasks of the current tokio runtime.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for an address that is not loopback; else when a listener cannot be opened, a certificate not be made,
    /// or there is no tokio runtime.
    pub async fn start(self) -> io::Result<Emulator> {
        let listener = server::bind(self.listen).await?;
        let identity_listener = server::bind(self.identity_listen).await?;
        let (tls, ca_pem) = if self.tls {
            let (tls, ca_pem) = server::own_tls()?;
            (Some(tls), Some(ca_pem))
        } else {
            (None, None)
        };
        let addresses = (listener.local_addr()?, identity_listener.local_addr()?);
        let emulator = self.build(addresses, ca_pem);
        for server in [
            Server { endpoint: Endpoint::TokenService, listener, tls },
            Server { endpoint: Endpoint::Identity, listener: identity_listener, tls: None },
        ] {
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
        self.build((address(1), address(2)), None)
    }

    fn build(self, addresses: (SocketAddr, SocketAddr), ca_pem: Option<String>) -> Emulator {
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
            authority: format!("{scheme}://{}", addresses.0),
            identity_endpoint: format!("http://{}", addresses.1),
            identity_cache: identity::Cache::default(),
            authority_is_fixed: false,
            grants: Grants::default(),
            sign_ins: SignIns::default(),
        });
        Emulator(Arc::new(Inner { service: Arc::new(service), ca_pem, _open: Open::new(()) }))
    }
}
