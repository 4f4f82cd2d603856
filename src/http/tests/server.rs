//! A server that does as it is told, on threads of its own so that no runtime of a test drives it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use super::Counter;

pub(super) trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) connections: Counter,
    pub(super) requests: Counter,
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) counts: Arc<Counts>,
}

impl Server {
    /// Calls `handle` for each request, with all of it as text. A connection ends when that returns false.
    pub(super) fn start(
        handle: impl Fn(&str, &mut dyn Stream) -> bool + Send + Sync + Clone + 'static,
    ) -> Self {
        Self::listen(move |stream, counts| serve(&mut { stream }, counts, handle.clone()))
    }

    /// The same over TLS.
    pub(super) fn start_tls(
        config: Arc<rustls::ServerConfig>,
        handle: impl Fn(&str, &mut dyn Stream) -> bool + Send + Sync + Clone + 'static,
    ) -> Self {
        Self::listen(move |stream, counts| {
            serve(&mut accept_tls(&config, stream), counts, handle.clone());
        })
    }

    pub(super) fn listen(connection: impl Fn(TcpStream, &Counts) + Send + Clone + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (counts, connection) = (Arc::clone(&shared), connection.clone());
                counts.connections.add();
                thread::spawn(move || connection(stream.unwrap(), &counts));
            }
        });
        Self { address, counts }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

pub(super) fn accept_tls<S: Read + Write>(
    config: &Arc<rustls::ServerConfig>,
    stream: S,
) -> rustls::StreamOwned<rustls::ServerConnection, S> {
    rustls::StreamOwned::new(rustls::ServerConnection::new(Arc::clone(config)).unwrap(), stream)
}

pub(super) fn serve(
    stream: &mut dyn Stream,
    counts: &Counts,
    handle: impl Fn(&str, &mut dyn Stream) -> bool,
) {
    while let Some(request) = read_request(stream) {
        counts.requests.add();
        if !handle(&request, stream) {
            return;
        }
    }
}

pub(super) fn read_request(stream: &mut dyn Stream) -> Option<String> {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        (stream.read(&mut byte).ok()? == 1).then(|| text.push(byte[0]))?;
    }
    let head = String::from_utf8(text.clone()).unwrap().to_ascii_lowercase();
    let length = head
        .split_once("content-length: ")
        .map_or(0, |(_, rest)| rest.split_once("\r\n").unwrap().0.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    text.extend(body);
    String::from_utf8(text).ok()
}

/// A whole answer; the connection stays open.
pub(super) fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

/// Answers everything with 200 and this body.
pub(super) fn always(body: &'static str) -> impl Fn(&str, &mut dyn Stream) -> bool + Send + Sync + Clone {
    move |_, stream| stream.write_all(answer("200 OK", "", body).as_bytes()).is_ok()
}
