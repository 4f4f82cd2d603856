//! Sockets: two loopback listeners, one of them with TLS on demand.

#![expect(
    clippy::disallowed_methods,
    reason = "how long a socket is waited for is real time, whatever clock the emulator runs on"
)]

use crate::emulator::Endpoint;
use crate::emulator::control::knock;
use crate::emulator::request::BODY_LIMIT;
use crate::emulator::service::{Broken, Service};
use bytes::{Bytes, BytesMut};
use http::Request;
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// Connections served at once; more wait to be accepted.
const CONNECTIONS: usize = 1024;
/// How long a client may take for a handshake, for its headers, and for its body. Real time: a test's clock has no say in it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of a body that is too long so much is read and dropped, since a client still sending would not see the answer.
const DRAINED: usize = 64 * BODY_LIMIT;

/// Says to the tasks that it is over, by being dropped.
pub(crate) type Open = watch::Sender<()>;

/// A listener with everything it needs to begin.
pub(crate) struct Server {
    pub(crate) endpoint: Endpoint,
    pub(crate) listener: TcpListener,
    pub(crate) tls: Option<TlsAcceptor>,
}

pub(crate) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    if !address.ip().is_loopback() {
        let message = "the emulator gives tokens to everyone and listens on loopback addresses only";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    // Tokio would panic.
    tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
    TcpListener::bind(address).await
}

impl Server {
    pub(crate) fn spawn(self, service: Arc<Service>, open: &Open) {
        let mut closed = open.subscribe();
        tokio::spawn(async move {
            tokio::select! {
                () = self.accept(service, closed.clone()) => {}
                _ = closed.changed() => {}
            }
        });
    }

    async fn accept(self, service: Arc<Service>, closed: watch::Receiver<()>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(_) => {
                    // Out of file descriptors, most likely: some will be free in a moment.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            // Without TLS it can be told who is there, and who wants the control is let in.
            if self.tls.is_some() && service.core.faults.refuse_connection(self.endpoint) {
                service.core.journal.refuse();
                reset(stream);
                continue;
            }
            let (service, tls, endpoint) = (Arc::clone(&service), self.tls.clone(), self.endpoint);
            let mut closed = closed.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = connection(service, endpoint, stream, tls) => {}
                    _ = closed.changed() => {}
                }
                drop(place);
            });
        }
    }
}

/// Closes with a reset, as a port that nobody listens on does.
fn reset(stream: TcpStream) {
    // If the option cannot be set, the connection closes in the usual way, which a client takes no better.
    let _ = stream.set_zero_linger();
    drop(stream);
}

async fn connection(service: Arc<Service>, endpoint: Endpoint, stream: TcpStream, tls: Option<TlsAcceptor>) {
    // Only a matter of speed.
    let _ = stream.set_nodelay(true);
    let core = &service.core;
    if tls.is_none()
        && core.faults.refuses_connections(endpoint)
        && !knock::is_control(&stream).await
        && core.faults.refuse_connection(endpoint)
    {
        core.journal.refuse();
        return reset(stream);
    }
    match tls {
        None => http(service, endpoint, stream).await,
        Some(tls) => {
            if let Ok(Ok(stream)) = timeout(PATIENCE, tls.accept(stream)).await {
                http(service, endpoint, stream).await;
            }
        }
    }
}

async fn http<S>(service: Arc<Service>, endpoint: Endpoint, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handler = service_fn(move |request: Request<Incoming>| {
        let service = Arc::clone(&service);
        async move {
            let (parts, body) = request.into_parts();
            let read = timeout(PATIENCE, read(body)).await;
            let body = read.map_err(|_| Broken::Cut)??;
            service.serve(endpoint, parts, body).await
        }
    });
    // An error is the client's leaving or a fault's cut: in both cases there is nobody left to tell.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), handler)
        .await;
}

/// The whole body, or `None` if it is too long.
async fn read(mut body: Incoming) -> Result<Option<Bytes>, Broken> {
    let mut bytes = BytesMut::new();
    let mut total: usize = 0;
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let frame = frame.map_err(|_| Broken::Cut)?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        total = total.saturating_add(data.len());
        if total <= BODY_LIMIT {
            bytes.extend_from_slice(&data);
        } else if total > DRAINED {
            break;
        }
    }
    Ok((total <= BODY_LIMIT).then(|| bytes.freeze()))
}

/// An acceptor with a certificate of a new certificate authority, and that authority's certificate as PEM.
pub(crate) fn own_tls() -> io::Result<(TlsAcceptor, String)> {
    let (chain, key, ca_pem) = certificate().map_err(io::Error::other)?;
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(vec![chain], key)
        .map_err(io::Error::other)?;
    Ok((TlsAcceptor::from(Arc::new(config)), ca_pem))
}

type Certified = (rustls::pki_types::CertificateDer<'static>, PrivateKeyDer<'static>, String);

fn certificate() -> Result<Certified, rcgen::Error> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let name = "entra-broker emulator, not for production";
    authority.distinguished_name.push(DnType::CommonName, name);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

    let names = ["localhost", "127.0.0.1", "::1", "login.microsoftonline.com"];
    let names: Vec<String> = names.map(str::to_owned).into();
    let mut leaf = CertificateParams::new(names)?;
    leaf.distinguished_name.push(DnType::CommonName, "localhost");
    leaf.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let leaf = leaf.signed_by(&key, &authority)?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    Ok((leaf.der().clone(), key, authority.pem()))
}
