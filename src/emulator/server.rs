//! Sockets: the listeners, with or without TLS, and how long and how many clients are borne with.

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
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// Connections of a listener served at once. More wait to be accepted, and those that nobody uses make way for them.
const CONNECTIONS: usize = 1024;
/// So many may wait, as far as the system lets them. Where more come the system drops their attempts, and they try again after
/// 1, 3, 7, … seconds: of 10,000 at once some were not served within a minute while only 1024, tokio's number, could wait.
const WAITING: u32 = 16 * 1024;
/// How long a client may take for a handshake, for its headers, and for its body. Real time: a test's clock has no say in it.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a connection may be silent where others wait for its place. With a thousand handshakes at a time each takes seconds.
const CROWDED: Duration = Duration::from_secs(5);
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

pub(crate) fn bind(address: SocketAddr, anywhere: bool) -> io::Result<TcpListener> {
    if !anywhere && !address.ip().is_loopback() {
        let message = format!(
            "cannot listen on {address}: the emulator gives tokens to everyone and listens on loopback addresses only, unless \
             dangerous().listen_anywhere() says otherwise"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    // Tokio would panic.
    tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"));
    socket(address).map_err(named)
}

fn socket(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As tokio's own `bind` does it: a port can be taken again at once, where that does not mean taking it from another.
    #[cfg(not(windows))]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(WAITING)
}

/// Tells the connections of a listener each time that others wait for their places.
type Crowd = watch::Sender<()>;

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
        let crowd = Crowd::new(());
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(_) => {
                    // Out of file descriptors, most likely: some will be free in a moment.
                    crowd.send_replace(());
                    sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            // Without TLS it can be told who is there, and who wants the control is let in.
            if self.tls.is_some() && service.core.faults.refuse_connection(self.endpoint) {
                service.core.journal.refuse();
                reset(stream);
                continue;
            }
            let Some(place) = place(&places, &crowd).await else {
                return;
            };
            let connection = Connection {
                service: Arc::clone(&service),
                endpoint: self.endpoint,
                tls: self.tls.clone(),
                crowd: crowd.subscribe(),
            };
            let mut closed = closed.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = connection.serve(stream) => {}
                    _ = closed.changed() => {}
                }
                drop(place);
            });
        }
    }
}

/// A place for one more connection. While there is none, those served are told.
async fn place(places: &Arc<Semaphore>, crowd: &Crowd) -> Option<OwnedSemaphorePermit> {
    if let Ok(place) = Arc::clone(places).try_acquire_owned() {
        return Some(place);
    }
    let mut waiting = pin!(Arc::clone(places).acquire_owned());
    loop {
        crowd.send_replace(());
        tokio::select! {
            place = &mut waiting => return place.ok(),
            () = sleep(Duration::from_millis(250)) => {}
        }
    }
}

/// Closes with a reset, as a port that nobody listens on does.
fn reset(stream: TcpStream) {
    // If the option cannot be set, the connection closes in the usual way, which a client takes no better.
    let _ = stream.set_zero_linger();
    drop(stream);
}

/// A connection with everything that it needs.
struct Connection {
    service: Arc<Service>,
    endpoint: Endpoint,
    tls: Option<TlsAcceptor>,
    crowd: watch::Receiver<()>,
}

impl Connection {
    async fn serve(self, mut stream: TcpStream) {
        // Only a matter of speed.
        let _ = stream.set_nodelay(true);
        let core = &self.service.core;
        if self.tls.is_none()
            && core.faults.refuses_connections(self.endpoint)
            && !knock::is_control(&stream).await
            && core.faults.refuse_connection(self.endpoint)
        {
            core.journal.refuse();
            return reset(stream);
        }
        let Some(tls) = self.tls.clone() else {
            return self.http(stream).await;
        };
        let (mut crowd, silent) = (self.crowd.clone(), AtomicBool::new(true));
        let shaken = async {
            if speaks_http(&stream).await {
                refuse_http(&mut stream).await;
                return None;
            }
            tls.accept(stream).await.ok()
        };
        let shaken = tokio::select! {
            shaken = timeout(PATIENCE, shaken) => shaken.ok().flatten(),
            () = crowded(&mut crowd, &silent) => None,
        };
        if let Some(stream) = shaken {
            self.http(stream).await;
        }
    }

    async fn http<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { service, endpoint, mut crowd, .. } = self;
        // Whether no request has come yet, with all of its body.
        let silent = Arc::new(AtomicBool::new(true));
        let heard = Arc::clone(&silent);
        let handler = service_fn(move |request: Request<Incoming>| {
            let service = Arc::clone(&service);
            let heard = Arc::clone(&heard);
            async move {
                let (parts, body) = request.into_parts();
                let read = timeout(PATIENCE, read(body)).await;
                let body = read.map_err(|_| Broken::Cut)??;
                heard.store(false, Ordering::Relaxed);
                service.serve(endpoint, parts, body).await
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .serve_connection(TokioIo::new(stream), handler);
        let mut connection = pin!(connection);
        // An error is the client's leaving or a fault's cut: in both cases there is nobody left to tell.
        tokio::select! {
            _ = connection.as_mut() => return,
            () = crowded(&mut crowd, &silent) => {}
        }
        if !silent.load(Ordering::Relaxed) {
            // Closes it at once if it waits for another request, and else after the answer.
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

/// Resolves when others wait for this connection's place: at once for one that has sent a request, and for a silent one when it has
/// been so for a while.
async fn crowded(crowd: &mut watch::Receiver<()>, silent: &AtomicBool) {
    let began = Instant::now();
    while crowd.changed().await.is_ok() {
        if !silent.load(Ordering::Relaxed) || began.elapsed() >= CROWDED {
            return;
        }
    }
    // The listener has ended, and so will this connection.
    std::future::pending::<()>().await;
}

/// What a client is told that speaks plain HTTP where TLS is spoken.
const NO_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: 52\r\n\r\n\
    This address speaks TLS: say https instead of http.\n";

/// Whether the first byte is a method's and not a handshake's.
async fn speaks_http(stream: &TcpStream) -> bool {
    let mut first = [0];
    matches!(stream.peek(&mut first).await, Ok(1)) && first[0].is_ascii_uppercase()
}

async fn refuse_http(stream: &mut TcpStream) {
    let _ = stream.write_all(NO_TLS).await;
    let _ = stream.shutdown().await;
    // Were it closed with something unread, the client would see a reset and no answer.
    let mut rest = [0; 4096];
    while matches!(stream.read(&mut rest).await, Ok(1..)) {}
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
