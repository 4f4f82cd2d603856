//! The transport over real sockets.

use std::{
    net::TcpListener,
    sync::{Arc, Mutex},
};

use super::{
    server::{Server, Stream, always, answer},
    *,
};

async fn try_get(transport: &HttpTransport, uri: &str) -> Result<http::Response<Bytes>, TransportError> {
    transport.send(Pool::TokenService, get(uri), LIMIT).await
}

/// An address at which nobody listens.
fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}/", listener.local_addr().unwrap())
}

#[tokio::test]
async fn an_answer_comes_whole_whatever_its_status() {
    let seen = Arc::new(Mutex::new(String::new()));
    let server = Server::start({
        let seen = Arc::clone(&seen);
        move |request, stream| {
            seen.lock().unwrap().push_str(request);
            stream.write_all(answer("418 teapot", "x-trace: 7\r\n", "short and stout").as_bytes()).is_ok()
        }
    });
    let response = direct().send(Pool::TokenService, post(&server.url("/token?a=b")), LIMIT).await.unwrap();
    assert_eq!(response.status(), 418);
    assert_eq!(response.headers()["x-trace"], "7");
    assert_eq!(response.body(), "short and stout");
    let request = seen.lock().unwrap().to_ascii_lowercase();
    assert!(request.starts_with("post /token?a=b http/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("user-agent: entra-broker/{}\r\n", env!("CARGO_PKG_VERSION"))));
    assert!(request.ends_with("\r\n\r\nclient_secret=hunter2"));
    assert!(!request.contains("accept-encoding"));
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let server = Server::start(|_, stream: &mut dyn Stream| {
        stream.write_all(answer("302 Found", "location: /elsewhere\r\n", "").as_bytes()).is_ok()
    });
    let response = direct().send(Pool::TokenService, post(&server.url("/")), LIMIT).await.unwrap();
    assert_eq!(response.status(), 302);
    assert_eq!(server.counts.requests.get(), 1);
}

#[tokio::test]
async fn an_answer_that_announces_too_much_is_refused_before_its_body() {
    let server = Server::start(|_, stream: &mut dyn Stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1048577\r\n\r\n").is_ok()
    });
    let error = try_get(&direct(), &server.url("/")).await.unwrap_err();
    assert_eq!(error.kind(), TransportErrorKind::TooLarge);
    let error = once(&direct(), Pool::TokenService, get(&server.url("/"))).await.unwrap_err();
    assert_eq!((error.kind(), error.blame()), (ErrorKind::Protocol, Blame::Service));
    assert!(error.to_string().contains("1048576 bytes"), "{error}");
}

#[tokio::test]
async fn a_body_without_end_is_left_at_the_limit() {
    let (written, mut total) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::start(move |_, stream: &mut dyn Stream| {
        let mut sent = 0_usize;
        let head: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
        let mut ok = stream.write_all(head).is_ok();
        while ok && sent < 100 << 20 {
            ok = stream.write_all(&chunk).is_ok();
            sent += 0x10000;
        }
        written.send(sent).unwrap();
        false
    });
    let error = try_get(&direct(), &server.url("/")).await.unwrap_err();
    assert_eq!(error.kind(), TransportErrorKind::TooLarge);
    // More than the limit only by what the kernel holds of a socket.
    let total = total.recv().await.unwrap();
    assert!(total < 32 << 20, "{total}");
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_read() {
    let server = Server::start(always("12345678"));
    let transport = direct();
    let send = |limit| transport.send(Pool::TokenService, get(&server.url("/")), limit);
    assert_eq!(send(8).await.unwrap().body(), "12345678");
    assert_eq!(send(7).await.unwrap_err().kind(), TransportErrorKind::TooLarge);
}

#[tokio::test]
async fn a_body_cut_in_the_middle_is_an_error_that_may_have_left() {
    let server = Server::start(|_, stream: &mut dyn Stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"access_tok").unwrap();
        false
    });
    let error = try_get(&direct(), &server.url("/")).await.unwrap_err();
    assert_eq!(error.kind(), TransportErrorKind::Interrupted);
    assert!(error.may_have_left());
}

#[tokio::test]
async fn a_connection_that_closes_without_an_answer_may_have_taken_the_request() {
    let server = Server::start(|_, _: &mut dyn Stream| false);
    let error = try_get(&direct(), &server.url("/")).await.unwrap_err();
    assert_eq!(error.kind(), TransportErrorKind::Interrupted);
    assert!(error.may_have_left());
    assert_eq!(server.counts.requests.get(), 1);
}

#[tokio::test]
async fn a_refused_connection_has_taken_nothing() {
    let uri = nowhere();
    let error = try_get(&direct(), &uri).await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_left()), (TransportErrorKind::Connect, false));
    let error =
        once(&direct(), Pool::TokenService, post(&format!("{uri}?secret=hunter2"))).await.unwrap_err();
    assert_eq!((error.kind(), error.blame()), (ErrorKind::Unavailable, Blame::Network));
    let port = uri.trim_start_matches("http://").trim_end_matches('/');
    assert_eq!(error.to_string(), format!("could not connect to {port}: connection refused, 1 attempt"));
    assert!(!error.advice().is_empty());
    assert!(!all_text(&error).contains("hunter2"));
}

#[tokio::test]
async fn plain_http_to_a_foreign_host_is_refused_before_anything_is_sent() {
    for pool in [Pool::TokenService, Pool::ManagedIdentity] {
        let error = direct().send(pool, post("http://192.0.2.1/token"), LIMIT).await.unwrap_err();
        assert_eq!((error.kind(), error.may_have_left()), (TransportErrorKind::Refused, false));
        let error = once(&direct(), pool, post("http://192.0.2.1/token")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
    }
}

#[tokio::test]
async fn localhost_is_loopback_whatever_a_name_server_says() {
    let server = Server::start(always("here"));
    let uri = format!("http://localhost:{}/", server.address.port());
    let response = direct().send(Pool::ManagedIdentity, get(&uri), LIMIT).await.unwrap();
    assert_eq!(response.body(), "here");
}

#[tokio::test]
async fn loopback_and_managed_identity_never_go_through_a_proxy() {
    let proxy = Server::start(always("from the proxy"));
    let server = Server::start(always("from the endpoint"));
    let transport = HttpTransport::builder()
        .env(
            &["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"]
                .iter()
                .fold(crate::Env::empty(), |env, name| env.set(*name, proxy.url(""))),
        )
        .unwrap()
        .build()
        .unwrap();
    for pool in [Pool::TokenService, Pool::ManagedIdentity] {
        let response = transport.send(pool, get(&server.url("/")), LIMIT).await.unwrap();
        assert_eq!(response.body(), "from the endpoint");
    }
    assert_eq!(proxy.counts.connections.get(), 0);
}

#[test]
fn a_connection_is_kept_and_used_again() {
    let server = Server::start(always("ok"));
    let transport = direct();
    current_thread().block_on(async {
        for _ in 0..3 {
            try_get(&transport, &server.url("/")).await.unwrap();
        }
    });
    assert_eq!((server.counts.connections.get(), server.counts.requests.get()), (1, 3));
}

#[test]
fn a_second_runtime_works_while_the_first_is_parked() {
    let server = Server::start(always("ok"));
    let transport = direct();
    let parked = current_thread();
    parked.block_on(try_get(&transport, &server.url("/"))).unwrap();
    // The connection of the first is idle, and nobody drives it.
    let second = current_thread();
    second.block_on(try_get(&transport, &server.url("/"))).unwrap();
    assert_eq!(server.counts.connections.get(), 2);
    parked.block_on(try_get(&transport, &server.url("/"))).unwrap();
    assert_eq!(server.counts.connections.get(), 2);
}

#[test]
fn runtimes_may_come_and_go() {
    let server = Server::start(always("ok"));
    let transport = direct();
    for _ in 0..20 {
        let runtime = current_thread();
        runtime.block_on(try_get(&transport, &server.url("/"))).unwrap();
        drop(runtime);
    }
    assert_eq!(server.counts.requests.get(), 20);
}

#[test]
fn no_runtime_is_an_error_and_no_panic() {
    let transport = direct();
    let mut attempt = transport.send(Pool::TokenService, get("https://login.example/"), LIMIT);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Err(error)) = attempt.as_mut().poll(&mut cx) else { panic!("no error") };
    assert_eq!((error.kind(), error.may_have_left()), (TransportErrorKind::Refused, false));
    assert!(error.to_string().contains("runtime"), "{error}");
}

#[tokio::test]
async fn a_body_that_drips_ends_with_the_attempt() {
    let (clock, control) = clock();
    let (dripping, started) = tokio::sync::oneshot::channel();
    let dripping = Arc::new(Mutex::new(Some(dripping)));
    let server = Server::start(move |_, stream: &mut dyn Stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{").unwrap();
        dripping.lock().unwrap().take().unwrap().send(()).unwrap();
        // Until the client is gone.
        let _gone = stream.read(&mut [0]);
        false
    });
    let uri = server.url("/token");
    let run = tokio::spawn(async move {
        let transport = direct();
        let deadline = clock.now().after(Duration::from_secs(60));
        exchange(&transport, &clock, &RetryPolicy::none(), deadline).run(Pool::TokenService, get(&uri)).await
    });
    started.await.unwrap();
    control.advance(ATTEMPT_TIMEOUT);
    let error = run.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let expected = format!("no answer from {} within 10 s, 1 attempt", server.address);
    assert_eq!(error.to_string(), expected);
}
