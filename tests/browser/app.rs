//! An app that waits for its callback, on a port of its own.
#![expect(clippy::unwrap_used, reason = "what goes wrong here fails a test")]
#![expect(clippy::disallowed_methods, reason = "a browser runs on real time")]

use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

pub(crate) struct App {
    pub(crate) port: u16,
    requests: mpsc::UnboundedReceiver<Request>,
    task: tokio::task::JoinHandle<()>,
}

/// One request that reached the callback.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) origin: Option<String>,
    pub(crate) body: String,
}

impl Request {
    /// The parameters of the query or the form.
    pub(crate) fn parameters(&self) -> BTreeMap<String, String> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let text = if self.method == "POST" { &self.body } else { query };
        url::form_urlencoded::parse(text.as_bytes()).into_owned().collect()
    }
}

impl App {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, requests) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sender = sender.clone();
                tokio::spawn(async move {
                    if let Some(request) = serve(stream).await {
                        let _ = sender.send(request);
                    }
                });
            }
        });
        Self { port, requests, task }
    }

    pub(crate) fn redirect_uri(&self) -> String {
        format!("http://localhost:{}/cb", self.port)
    }

    /// The next request to the callback.
    pub(crate) async fn called(&mut self) -> Request {
        tokio::time::timeout(Duration::from_secs(30), self.requests.recv()).await.unwrap().unwrap()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let (head, mut body) = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break (String::from_utf8_lossy(&bytes[..end]).into_owned(), bytes[end + 4..].to_vec());
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let header = |name: &str| {
        let mut pairs = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        pairs.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    };
    let length: usize = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            return None;
        }
    }
    let page = "<!DOCTYPE html><title>app</title><link rel=icon href=\"data:,\"><h1>The app</h1>";
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{page}",
        page.len()
    );
    stream.write_all(answer.as_bytes()).await.ok()?;
    let mut first = head.lines().next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?.to_owned());
    let origin = header("origin");
    // A browser may ask for more than the callback, if only for an icon.
    let request = Request { method, target, origin, body: String::from_utf8_lossy(&body).into_owned() };
    request.target.starts_with("/cb").then_some(request)
}
