//! As little of an HTTP client as can ask a token service for tokens: what it costs must not hide what the server costs.

use std::{
    error::Error,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use entra_broker::emulator::{Emulator, sample};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs::default_provider,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

/// By the domain, so that the emulator has to look the tenant up.
pub(crate) const PATH: &str = "/contoso.test/oauth2/v2.0/token";

/// The form of a client credentials request.
pub(crate) fn form() -> String {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials")
        .append_pair("client_id", sample::SECRET_APP)
        .append_pair("client_secret", sample::SECRET)
        .append_pair("scope", "https://graph.microsoft.com/.default");
    form.finish()
}

/// That form as it goes over a connection.
pub(crate) fn request() -> Arc<[u8]> {
    let form = form();
    let head = format!(
        "POST {PATH} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n",
        form.len()
    );
    (head + &form).into_bytes().into()
}

/// Where the emulator's token service listens.
pub(crate) fn address(emulator: &Emulator) -> Result<SocketAddr, Box<dyn Error>> {
    let (_, address) = emulator.authority().split_once("://").ok_or("an authority without a scheme")?;
    Ok(address.parse()?)
}

/// A connection that is kept.
pub(crate) struct Connection<S> {
    stream: S,
    buffer: Vec<u8>,
}

impl Connection<TcpStream> {
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }
}

impl Connection<TlsStream<TcpStream>> {
    pub(crate) async fn open_tls(address: SocketAddr, ca_pem: &str) -> Result<Self, Box<dyn Error>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes())?)?;
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let plain = Connection::open(address).await?;
        let name = ServerName::try_from("localhost")?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, plain.stream).await?;
        Ok(Self { stream, buffer: plain.buffer })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Asks, and reads the answer to its end. An answer that is no success is an error.
    pub(crate) async fn token(&mut self, request: &[u8]) -> io::Result<()> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            let head = str::from_utf8(&self.buffer[..end]).map_err(io::Error::other)?;
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            let length = length.ok_or_else(|| io::Error::other("an answer of no stated length"))?;
            if self.buffer.len() >= end + 4 + length {
                let success = head.starts_with("HTTP/1.1 200");
                return if success { Ok(()) } else { Err(io::Error::other("no token")) };
            }
        }
    }
}

/// How many tokens a second these connections get in a window; and the connections again.
pub(crate) async fn tokens_per_second<S>(
    connections: Vec<Connection<S>>,
    request: &Arc<[u8]>,
    window: Duration,
) -> io::Result<(f64, Vec<Connection<S>>)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let start = now();
    let mut asking = JoinSet::new();
    for mut connection in connections {
        let request = Arc::clone(request);
        asking.spawn(async move {
            let mut tokens = 0_u32;
            while start.elapsed() < window {
                connection.token(&request).await?;
                tokens += 1;
            }
            io::Result::Ok((tokens, connection))
        });
    }
    let done = asking.join_all().await.into_iter().collect::<io::Result<Vec<_>>>()?;
    let took = start.elapsed();
    let (tokens, connections): (Vec<u32>, Vec<_>) = done.into_iter().unzip();
    Ok((f64::from(tokens.iter().sum::<u32>()) / took.as_secs_f64(), connections))
}

#[expect(clippy::disallowed_methods, reason = "a benchmark times what it measures with the standard clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
