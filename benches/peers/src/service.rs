//! The token services that are asked here: from memory, the same answer for every client, and one behind a loopback socket for
//! a client that brings its own transport.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use async_trait::async_trait;
use azure_core::http::{
    AsyncRawResponse, ClientOptions, HttpClient as AzureClient, Request as AzureRequest, StatusCode,
    Transport as AzureTransport, headers::Headers,
};
use bytes::Bytes;
use entra_broker::{BoxFuture, Pool, Transport, TransportError};
use object_store::client::{HttpError, HttpRequest, HttpResponse, HttpResponseBody, HttpService};
use serde_json::json;
use std::sync::Arc;

pub(crate) const TENANT: &str = "11111111-2222-3333-4444-555555555555";
pub(crate) const CLIENT_ID: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";
pub(crate) const SECRET: &str = "the secret's value";

/// As long as one of Entra's for an application with a few roles.
pub(crate) const TOKEN_LENGTH: usize = 1500;

/// What a token service says: a token of [`TOKEN_LENGTH`] that lives for so many seconds.
pub(crate) fn answer(lives: u64) -> Bytes {
    let answer =
        json!({ "token_type": "Bearer", "expires_in": lives, "access_token": "e".repeat(TOKEN_LENGTH) });
    Bytes::from(answer.to_string())
}

/// A token service in memory: at once, and always the same.
#[derive(Debug, Clone)]
pub(crate) struct Memory(Bytes);

impl Memory {
    pub(crate) fn new() -> Self {
        Self(answer(86_399))
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.0
    }
}

impl Transport for Memory {
    fn send<'a>(
        &'a self,
        _: Pool,
        _: http::Request<Bytes>,
        _: usize,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, TransportError>> {
        Box::pin(async { Ok(http::Response::new(self.0.clone())) })
    }
}

#[async_trait]
impl AzureClient for Memory {
    async fn execute_request(&self, _: &AzureRequest) -> azure_core::Result<AsyncRawResponse> {
        Ok(AsyncRawResponse::from_bytes(StatusCode::Ok, Headers::new(), self.0.clone()))
    }
}

#[async_trait]
impl HttpService for Memory {
    async fn call(&self, _: HttpRequest) -> Result<HttpResponse, HttpError> {
        Ok(HttpResponse::new(HttpResponseBody::from(self.0.clone())))
    }
}

/// The options of a credential of `azure_identity` that asks `service`.
pub(crate) fn azure_options(service: impl AzureClient + 'static) -> ClientOptions {
    ClientOptions { transport: Some(AzureTransport::new(Arc::new(service))), ..ClientOptions::default() }
}

/// Answers every request with `body`, on a loopback socket, until the process ends.
pub(crate) fn listen(body: Vec<u8>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that goes away takes its own connection with it, no other.
            if let Err(error) = stream.and_then(|stream| answer_once(stream, &body)) {
                eprintln!("the loopback token service: {error}");
            }
        }
    });
    Ok(address)
}

fn answer_once(mut stream: TcpStream, body: &[u8]) -> io::Result<()> {
    let mut request = Vec::new();
    let mut part = [0; 4096];
    while !is_whole(&request) {
        match stream.read(&mut part)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => request.extend_from_slice(&part[..length]),
        }
    }
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)
}

/// Whether head and body are there.
fn is_whole(request: &[u8]) -> bool {
    let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else {
        return false;
    };
    let length = String::from_utf8_lossy(&request[..end])
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok());
    request.len() >= end + 4 + length.unwrap_or(0)
}
