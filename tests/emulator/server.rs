//! The emulator as a server: sockets, TLS, hostile requests, the journal, its end.

use crate::support::*;
use entra_broker::emulator::{Emulator, Endpoint, Fault, sample};
use http::Request;
use std::future::Future as _;
use std::io::ErrorKind;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test]
async fn both_endpoints_answer_over_sockets() {
    let emulator = Emulator::start().await.unwrap();
    assert!(emulator.authority().starts_with("http://127.0.0.1:"));
    assert_ne!(emulator.authority(), emulator.identity_endpoint());
    let client = client();
    for _ in 0..3 {
        let response = send(&client, emulator.authority(), post(TOKEN_PATH, &good())).await;
        let token = read(response.unwrap()).await.unwrap().token();
        let keys = get("/contoso.test/discovery/v2.0/keys", &[]);
        let keys = send(&client, emulator.authority(), keys).await.unwrap();
        assert!(verifies(&token, &read(keys).await.unwrap().json()));
    }
    let imds = get(IMDS, &[("metadata", "true")]);
    let response = send(&client, emulator.identity_endpoint(), imds).await.unwrap();
    assert_eq!(response.status(), 200);
    // What belongs to one endpoint is not at the other.
    let astray = get(IMDS, &[("metadata", "true")]);
    let response = send(&client, emulator.authority(), astray).await.unwrap();
    assert_eq!(response.status(), 404);
}

#[tokio::test]
async fn tls_is_accepted_by_a_client_that_trusts_the_emulators_own_authority_and_by_no_other() {
    let emulator = Emulator::builder().tls().start().await.unwrap();
    assert!(emulator.authority().starts_with("https://127.0.0.1:"));
    assert!(emulator.identity_endpoint().starts_with("http://"));
    let ca = reqwest::Certificate::from_pem(emulator.ca_pem().unwrap().as_bytes()).unwrap();
    let address = emulator.authority().strip_prefix("https://").unwrap().parse().unwrap();
    let trusting = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([ca])
        .resolve("login.microsoftonline.com", address)
        .build()
        .unwrap();
    let localhost = format!("https://localhost:{}", address.port());
    let cloud = format!("https://login.microsoftonline.com:{}", address.port());
    for base in [emulator.authority(), &localhost, &cloud] {
        let response = send(&trusting, base, post(TOKEN_PATH, &good())).await.unwrap();
        assert_eq!(response.status(), 200);
    }
    assert!(send(&client(), emulator.authority(), post(TOKEN_PATH, &good())).await.is_err());
}

#[tokio::test]
async fn only_loopback_addresses_are_listened_on() {
    let everywhere = "0.0.0.0:0".parse().unwrap();
    for builder in [
        Emulator::builder().listen(everywhere),
        Emulator::builder().identity_listen(everywhere),
        Emulator::builder().listen("[::]:0".parse().unwrap()),
    ] {
        let error = builder.start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    let start = Emulator::builder().listen("127.0.0.2:0".parse().unwrap()).start();
    assert!(start.await.unwrap().authority().starts_with("http://127.0.0.2:"));
}

#[tokio::test]
async fn the_emulator_ends_with_its_last_clone() {
    let emulator = Emulator::start().await.unwrap();
    let address = emulator.authority().strip_prefix("http://").unwrap().to_owned();
    let mut open = TcpStream::connect(&address).await.unwrap();
    let clone = emulator.clone();
    drop(emulator);
    let response = send(&client(), clone.authority(), post(TOKEN_PATH, &good())).await;
    assert_eq!(response.unwrap().status(), 200);
    drop(clone);
    // The connection that was open ends, and soon nobody listens any more.
    assert!(matches!(open.read(&mut [0; 1]).await, Ok(0) | Err(_)));
    while TcpStream::connect(&address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[test]
fn in_memory_it_is_made_without_a_runtime() {
    let emulator = Emulator::in_memory();
    assert_eq!(emulator.authority(), "http://127.0.0.1:1");
    assert!(emulator.ca_pem().is_none());
    assert_eq!(Emulator::builder().tls().in_memory().authority(), "https://127.0.0.1:1");
}

#[test]
fn without_a_runtime_starting_is_an_error_and_no_panic() {
    let mut start = pin!(Emulator::start());
    let started = start.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(started, Poll::Ready(Err(_))));
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_answered() {
    let emulator = Emulator::in_memory();
    for path in ["/x", "//", "/contoso.test/oauth2/v2.0/", "/%ff/%00", "/a/b/c/d/e/f"] {
        let answer = ask(&emulator, get(path, &[])).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.json()["error"], "not_found");
    }
    let answer = ask(&emulator, get(TOKEN_PATH, &[])).await;
    answer.is_entra_error(405, "invalid_request", 900561);
    assert_eq!(answer.header("allow"), "POST,OPTIONS");
    let answer = ask(&emulator, post("/common/discovery/v2.0/keys", &[])).await;
    assert_eq!(answer.status, 405);
    let answer = identify(&emulator, post("/msi/token", &[])).await;
    assert_eq!(answer.status, 405);
    assert_eq!(answer.json()["statusCode"], 405);
    let any = Request::options("*").body(Default::default()).unwrap();
    assert_eq!(ask(&emulator, any).await.status, 404);
}

#[tokio::test]
async fn a_wrong_content_type_hides_the_form() {
    let emulator = Emulator::in_memory();
    for content_type in ["application/json", "multipart/form-data", "", "text/plain; charset=utf-8"] {
        let mut request = post(TOKEN_PATH, &good());
        request.headers_mut().insert("content-type", content_type.parse().unwrap());
        let answer = ask(&emulator, request).await;
        answer.is_entra_error(400, "invalid_request", 900144);
    }
}

#[tokio::test]
async fn malformed_requests_are_answered() {
    let emulator = Emulator::in_memory();
    for body in [&b"%%%&&&==="[..], b"grant_type=%ff%fe&scope=\xff", b"\0\0\0", b"&", b"grant_type"] {
        let mut request = post(TOKEN_PATH, &[]);
        *request.body_mut() = bytes::Bytes::copy_from_slice(body);
        assert_eq!(ask(&emulator, request).await.status, 400);
    }
    let mut request = post(TOKEN_PATH, &without("client_secret"));
    request.headers_mut().insert("authorization", "Basic !!!".parse().unwrap());
    ask(&emulator, request).await.is_entra_error(401, "invalid_client", 7000216);
}

#[tokio::test]
async fn a_body_over_a_mebibyte_is_answered_with_413_however_it_comes() {
    let emulator = Emulator::start().await.unwrap();
    let request = || {
        let mut request = post(TOKEN_PATH, &[]);
        *request.body_mut() = vec![b'a'; 3 << 20].into();
        request
    };
    assert_eq!(ask(&emulator, request()).await.status, 413);
    let response = send(&client(), emulator.authority(), request()).await.unwrap();
    assert_eq!(response.status(), 413);
}

#[tokio::test]
async fn noise_on_a_socket_leaves_the_others_served() {
    let emulator = Emulator::start().await.unwrap();
    let address = emulator.authority().strip_prefix("http://").unwrap();
    for noise in [&b"\x16\x03\x01\x02\x00\x01"[..], b"GET\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n"] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(noise).await.unwrap();
        socket.shutdown().await.unwrap();
        let _ = socket.read_to_end(&mut Vec::new()).await;
    }
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"POST /contoso.test/oauth2/v2.0/token HTTP/1.1\r\nhost:").await.unwrap();
    let response = send(&client(), emulator.authority(), post(TOKEN_PATH, &good())).await;
    assert_eq!(response.unwrap().status(), 200);
    assert_eq!(emulator.journal().len(), 1);
}

#[tokio::test]
async fn the_journal_tells_what_was_asked_and_answered() {
    let clock = Clock::new();
    let emulator = clock.builder().in_memory();
    let mut request = post(TOKEN_PATH, &good());
    request.headers_mut().insert("x-client-sku", "rust".parse().unwrap());
    ask(&emulator, request).await;
    ask(&emulator, post("/contoso.test/oauth2/v2.0/token", &with("client_secret", "wrong"))).await;
    let path = format!("{IMDS}&client_id={}", sample::USER_IDENTITY);
    identify(&emulator, get(&path, &[("metadata", "true")])).await;

    let [first, second, third] = emulator.journal().entries().try_into().unwrap();
    assert_eq!((first.number, second.number, third.number), (1, 2, 3));
    assert_eq!(first.at, clock.now());
    assert_eq!(first.endpoint, Endpoint::TokenService);
    assert_eq!((first.method.as_str(), first.path.as_str()), ("POST", TOKEN_PATH));
    assert_eq!(first.tenant.as_deref(), Some(sample::TENANT));
    assert_eq!(first.client_id.as_deref(), Some(sample::SECRET_APP));
    assert_eq!(first.grant_type.as_deref(), Some("client_credentials"));
    assert_eq!(first.scope.as_deref(), Some(STORAGE_SCOPE));
    assert_eq!(first.header("X-Client-SKU"), Some("rust"));
    assert_eq!((first.status, first.aadsts), (Some(200), None));
    assert_eq!(second.tenant.as_deref(), Some("contoso.test"));
    assert_eq!((second.status, second.aadsts), (Some(401), Some(7000215)));
    assert_eq!(third.endpoint, Endpoint::Identity);
    assert_eq!(third.path, "/metadata/identity/oauth2/token");
    assert_eq!(third.client_id.as_deref(), Some(sample::USER_IDENTITY));
    assert_eq!(third.scope.as_deref(), Some("https://storage.azure.com"));
    assert_eq!(third.tenant, None);
}

#[tokio::test]
async fn nothing_secret_is_in_the_journal_or_in_any_debug_text() {
    let emulator = Emulator::start().await.unwrap();
    let token = ask(&emulator, post(TOKEN_PATH, &good())).await.token();
    let mut request = post(TOKEN_PATH, &without("client_secret"));
    let header = basic(sample::SECRET_APP, sample::SECRET);
    request.headers_mut().insert("authorization", header.parse().unwrap());
    assert_eq!(ask(&emulator, request).await.status, 200);
    ask(&emulator, post(TOKEN_PATH, &with("client_assertion", "an.assertion.here"))).await;
    let headers = [("x-identity-header", sample::APP_SERVICE_HEADER)];
    assert_eq!(identify(&emulator, get(APP_SERVICE, &headers)).await.status, 200);
    let fault = Fault::on(Endpoint::TokenService).body("text/plain", "in the body");
    let fault_text = format!("{fault:?}");
    emulator.faults().add(fault);
    let answer = emulator.call(Endpoint::TokenService, post(TOKEN_PATH, &good())).await;

    let everything = format!(
        "{:?} {emulator:?} {:#?} {:?} {fault_text} {answer:?} {:?}",
        emulator.journal().entries(),
        emulator.directory(),
        emulator.faults(),
        entra_broker::emulator::App::new("a", "b").secret(sample::SECRET),
    );
    let encoded = encoded(&[("", sample::SECRET)]);
    for secret in [
        sample::SECRET,
        &encoded[1..],
        sample::EXPIRED_SECRET,
        &header["Basic ".len()..],
        sample::APP_SERVICE_HEADER,
        "an.assertion.here",
        "in the body",
        &token,
    ] {
        assert!(!everything.contains(secret), "{secret} shows");
    }
}

#[tokio::test]
async fn waiting_ends_at_the_arrival_and_clearing_starts_over() {
    let emulator = Emulator::in_memory();
    emulator.journal().wait_for(0).await;
    let mine = emulator.clone();
    let waiting = tokio::spawn(async move { mine.journal().wait_for(2).await });
    for _ in 0..2 {
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        ask(&emulator, get("/x", &[])).await;
    }
    waiting.await.unwrap();
    assert_eq!(emulator.journal().len(), 2);
    emulator.journal().clear();
    assert!(emulator.journal().is_empty());
    ask(&emulator, get("/x", &[])).await;
    let entries = emulator.journal().entries();
    assert_eq!((entries.len(), entries[0].number), (1, 3));
    assert_eq!(entries[0].status, Some(404));
}

#[tokio::test]
async fn the_journal_is_bounded_and_still_counts() {
    let emulator = Emulator::in_memory();
    emulator.faults().add(Fault::on(Endpoint::TokenService).body("text/plain", ""));
    let long = format!("/{}", "x".repeat(5000));
    ask(&emulator, get(&long, &[])).await;
    assert!(emulator.journal().entries()[0].path.len() < 1000);
    for _ in 0..100_010 {
        emulator.call(Endpoint::TokenService, get("/", &[])).await.unwrap();
    }
    assert_eq!(emulator.journal().len(), 100_011);
    let entries = emulator.journal().entries();
    assert_eq!(entries.len(), 100_000);
    assert_eq!(entries[0].number, 12);
    assert_eq!(entries[99_999].status, Some(200));
}

#[tokio::test]
async fn many_clients_at_once_are_served() {
    let emulator = Emulator::start().await.unwrap();
    let client = client();
    let asking: Vec<_> = (0..50)
        .map(|_| {
            let (client, base) = (client.clone(), emulator.authority().to_owned());
            tokio::spawn(async move {
                let response = send(&client, &base, post(TOKEN_PATH, &good())).await;
                response.unwrap().status()
            })
        })
        .collect();
    for status in asking {
        assert_eq!(status.await.unwrap(), 200);
    }
}
