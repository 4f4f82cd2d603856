//! The transport that goes over the network, by reqwest and rustls.

use std::{
    error::Error as StdError,
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use tokio::runtime::{self, Handle};
use url::Url;
use zeroize::Zeroizing;

use super::{
    Pool, Transport, TransportError,
    explain::explain,
    pinned,
    proxy::Proxies,
    target::{self, Route},
};
use crate::{
    BoxFuture,
    env::Env,
    error::Error,
    sync::{Arc, Mutex},
};

/// How long a connection may take to come about, name, proxy and TLS included. Across an ocean it takes half a second;
/// three leave room for a lost packet, which is repeated after one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a connection is kept without use. Long enough for the fetches of a start, shorter than the minute or more
/// after which front ends and firewalls drop it unseen.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// For how many runtimes clients are kept. A service has one or two; a test suite has one per test.
const RUNTIMES: usize = 8;

const USER_AGENT: &str = concat!("entra-broker/", env!("CARGO_PKG_VERSION"));

/// The usual [`Transport`]: reqwest, with TLS by rustls and the root certificates of the system.
///
/// It follows no redirect, keeps no cookies, asks for no compression and speaks HTTP/1.1. Requests to the token service
/// go through the proxy that `HTTPS_PROXY` or `ALL_PROXY` names, unless `NO_PROXY` exempts the host; those to loopback
/// and to managed-identity endpoints never do. Clones share their connections.
///
/// It may be made without a runtime and be used from several: a connection is driven by the runtime that opened it and
/// would hang once that is parked, so each runtime has connections of its own. The first https request on a runtime
/// reads the system's root certificates, which takes some milliseconds.
#[derive(Clone)]
pub struct HttpTransport(Arc<Inner>);

struct Inner {
    roots: Vec<reqwest::Certificate>,
    proxies: Proxies,
    connect_timeout: Duration,
    /// The least recently used first.
    clients: Mutex<Vec<Clients>>,
}

/// The clients of one runtime, made when first needed. Ids of runtimes are not used twice.
struct Clients {
    runtime: runtime::Id,
    plain: Option<reqwest::Client>,
    direct: Option<reqwest::Client>,
    proxied: Option<reqwest::Client>,
    /// The one certificate that is trusted, and the client that does. A process has one Service Fabric around it.
    pinned: ([u8; 20], Option<reqwest::Client>),
}

impl Clients {
    fn new(runtime: runtime::Id) -> Self {
        Self { runtime, plain: None, direct: None, proxied: None, pinned: ([0; 20], None) }
    }

    fn slot(&mut self, route: Route) -> &mut Option<reqwest::Client> {
        match route {
            Route::Plain => &mut self.plain,
            Route::Direct => &mut self.direct,
            Route::Proxied => &mut self.proxied,
            Route::Pinned(thumbprint) => {
                if self.pinned.0 != thumbprint {
                    self.pinned = (thumbprint, None);
                }
                &mut self.pinned.1
            }
        }
    }
}

/// Makes an [`HttpTransport`].
#[must_use]
pub struct HttpTransportBuilder {
    roots: Vec<reqwest::Certificate>,
    /// `None` for those of the environment.
    proxies: Option<Proxies>,
    connect_timeout: Duration,
}

impl HttpTransport {
    /// Begins with the defaults.
    pub fn builder() -> HttpTransportBuilder {
        HttpTransportBuilder { roots: Vec::new(), proxies: None, connect_timeout: CONNECT_TIMEOUT }
    }

    /// The client of the runtime that this is called on.
    fn client(&self, route: Route) -> Result<reqwest::Client, TransportError> {
        let runtime = Handle::try_current()
            .map_err(|_| {
                TransportError::refused("there is no tokio runtime here")
                    .with_advice("Call it from within a tokio runtime with IO and time enabled.")
            })?
            .id();
        if let Some(client) = self.kept(runtime, |clients| clients.slot(route).clone()) {
            return Ok(client);
        }
        // Outside the lock: this reads files. Who loses the race uses the winner's.
        let built = self.0.build(route).map_err(|error| {
            TransportError::refused("TLS could not be set up, mostly for lack of root certificates")
                .with_source(error)
                .with_advice(
                    "Install the system's certificates (package ca-certificates), or add an authority with \
                     `root_certificates_pem`.",
                )
        })?;
        Ok(self.kept(runtime, |clients| clients.slot(route).get_or_insert(built).clone()))
    }

    fn kept<T>(&self, runtime: runtime::Id, then: impl FnOnce(&mut Clients) -> T) -> T {
        // What is evicted is dropped after the lock is released.
        let _evicted;
        let mut all = self.0.clients.lock();
        let mut clients = match all.iter().position(|clients| clients.runtime == runtime) {
            Some(at) => all.remove(at),
            None => Clients::new(runtime),
        };
        let result = then(&mut clients);
        _evicted = (all.len() >= RUNTIMES).then(|| all.remove(0));
        all.push(clients);
        result
    }

    async fn attempt(
        &self,
        pool: Pool,
        request: http::Request<Bytes>,
        limit: usize,
    ) -> Result<http::Response<Bytes>, TransportError> {
        let url = target::parse(request.uri())?;
        let route = target::route(pool, &url, &self.0.proxies)?;
        let client = self.client(route)?;

        let mut response =
            client.execute(convert(request, url)).await.map_err(|error| explain(error, route))?;
        let status = response.status().as_u16();
        let announced = response.content_length();
        if announced.is_some_and(|length| length > limit as u64) {
            return Err(TransportError::too_large(limit).with_status(status));
        }
        // The whole length at once, where it is announced: a vector that grows leaves copies of a token behind.
        let room = usize::try_from(announced.unwrap_or_default()).unwrap_or_default();
        let mut body = Zeroizing::new(Vec::with_capacity(room));
        while let Some(chunk) =
            response.chunk().await.map_err(|error| explain(error, route).with_status(status))?
        {
            if chunk.len() > limit - body.len() {
                return Err(TransportError::too_large(limit).with_status(status));
            }
            body.extend_from_slice(&chunk);
        }

        let mut answer = http::Response::new(Bytes::from_owner(body));
        *answer.status_mut() = response.status();
        *answer.version_mut() = response.version();
        *answer.headers_mut() = std::mem::take(response.headers_mut());
        Ok(answer)
    }
}

impl Transport for HttpTransport {
    fn send<'a>(
        &'a self,
        pool: Pool,
        request: http::Request<Bytes>,
        limit: usize,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, TransportError>> {
        Box::pin(self.attempt(pool, request, limit))
    }
}

impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransport")
            .field("extra_roots", &self.0.roots.len())
            .field("proxies", &self.0.proxies)
            .field("connect_timeout", &self.0.connect_timeout)
            .finish_non_exhaustive()
    }
}

impl HttpTransportBuilder {
    /// Trusts these certificates as well as those of the system: one or more, as PEM.
    ///
    /// # Errors
    ///
    /// `Config` where the text holds no certificate, or one that cannot be read.
    pub fn root_certificates_pem(mut self, pem: &[u8]) -> Result<Self, Error> {
        use rustls::pki_types::{CertificateDer, pem::PemObject};

        let bad = |why: &'static str| Error::config(format!("root certificates: they {why}"));
        let mut found = 0;
        // Read here and not by the client, which would say it on the first request.
        let mut checked = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate =
                certificate.map_err(|error| bad("are not well-formed PEM").with_source(error))?;
            checked
                .add(certificate.clone())
                .map_err(|error| bad("hold one that is not a certificate").with_source(error))?;
            let certificate = reqwest::Certificate::from_der(&certificate)
                .map_err(|error| bad("hold one that is not a certificate").with_source(error))?;
            self.roots.push(certificate);
            found += 1;
        }
        if found == 0 {
            return Err(bad("hold no certificate")
                .with_advice("Give PEM text, which has lines that say -----BEGIN CERTIFICATE-----."));
        }
        Ok(self)
    }

    /// Reads the proxy from `env` instead of the process's environment.
    ///
    /// # Errors
    ///
    /// `Config` where what a variable names is not the URL of a proxy, or not text.
    pub fn env(mut self, env: &Env) -> Result<Self, Error> {
        self.proxies = Some(Proxies::from_env(env)?);
        Ok(self)
    }

    /// Uses no proxy, whatever the environment says.
    pub fn without_proxy(mut self) -> Self {
        self.proxies = Some(Proxies::default());
        self
    }

    /// How long a connection may take to come about, name, proxy and TLS included. 3 s unless set.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Makes the transport. Needs no runtime and touches no network.
    ///
    /// # Errors
    ///
    /// `Config` where the environment names a proxy and what it names is not the URL of one.
    pub fn build(self) -> Result<HttpTransport, Error> {
        let proxies = match self.proxies {
            Some(proxies) => proxies,
            None => Proxies::from_env(&Env::process())?,
        };
        Ok(HttpTransport(Arc::new(Inner {
            roots: self.roots,
            proxies,
            connect_timeout: self.connect_timeout,
            clients: Mutex::new(Vec::new()),
        })))
    }
}

impl fmt::Debug for HttpTransportBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransportBuilder")
            .field("extra_roots", &self.roots.len())
            .field("proxies", &self.proxies)
            .field("connect_timeout", &self.connect_timeout)
            .finish()
    }
}

impl Inner {
    fn build(&self, route: Route) -> Result<reqwest::Client, Box<dyn StdError + Send + Sync>> {
        let loopback = [
            // Port 0 stands for the one of the request.
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            SocketAddr::from((Ipv6Addr::LOCALHOST, 0)),
        ];
        let builder = reqwest::Client::builder()
            .user_agent(USER_AGENT)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .http1_only()
            .tls_version_min(reqwest::tls::Version::TLS_1_2)
            .connect_timeout(self.connect_timeout)
            .pool_idle_timeout(IDLE_TIMEOUT)
            // A name server is not asked where `localhost` is: plain http goes there.
            .resolve_to_addrs("localhost", &loopback)
            // Not reqwest's own reading of the environment.
            .no_proxy();
        let builder = match route {
            // No roots are read: a container that has only a managed identity may have none.
            Route::Plain => builder.tls_certs_only([]),
            Route::Pinned(thumbprint) => builder.tls_backend_preconfigured(pinned::config(thumbprint)?),
            Route::Direct | Route::Proxied => builder.tls_certs_merge(self.roots.iter().cloned()),
        };
        let builder = match (route, self.proxies.proxy()) {
            (Route::Proxied, Some(proxy)) => builder.proxy(reqwest::Proxy::https(proxy.as_str())?),
            _ => builder,
        };
        Ok(builder.build()?)
    }
}

fn convert(request: http::Request<Bytes>, url: Url) -> reqwest::Request {
    let (parts, body) = request.into_parts();
    let mut request = reqwest::Request::new(parts.method, url);
    *request.headers_mut() = parts.headers;
    *request.body_mut() = Some(body.into());
    request
}
