//! Clients that a server has to bear: slow, silent, talkative, old, and very many.

#![expect(clippy::unwrap_used, reason = "what goes wrong here fails a test")]

use crate::server_scratch::{pause, soon};
use crate::support::*;
use entra_broker::emulator::{Emulator, Endpoint, Fault, sample};
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

const KEYS: &str = "/contoso.test/discovery/v2.0/keys";

fn address(emulator: &Emulator) -> String {
    emulator.authority().strip_prefix("http://").unwrap().to_owned()
}

/// What comes back for these bytes, until the server closes.
async fn exchange(emulator: &Emulator, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address(emulator)).await.unwrap();
    // The server may have closed before all was sent.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = soon(stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn serves(emulator: &Emulator) {
    let response = soon(send(&client(), emulator.authority(), post(TOKEN_PATH, &good()))).await;
    assert_eq!(response.unwrap().status(), 200);
}

#[tokio::test]
async fn old_and_odd_requests_are_answered() {
    let emulator = Emulator::start().await.unwrap();
    let keys = format!("GET {KEYS} HTTP/1.0\r\n\r\n");
    let answer = exchange(&emulator, keys.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.0 200 OK") && answer.ends_with('}'), "{answer}");

    let head = format!("HEAD {KEYS} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let answer = exchange(&emulator, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("\r\n\r\n"), "{answer}");

    let whole =
        format!("GET http://login.test{KEYS} HTTP/1.1\r\nhost: login.test\r\nconnection: close\r\n\r\n");
    assert!(exchange(&emulator, whole.as_bytes()).await.starts_with("HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let emulator = Emulator::in_memory();
    let mut request = get(KEYS, &[]);
    *request.method_mut() = http::Method::HEAD;
    let answer = ask(&emulator, request).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
    let mut request = get(IMDS, &[("metadata", "true")]);
    *request.method_mut() = http::Method::HEAD;
    let answer = identify(&emulator, request).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 0));
    let mut request = get(TOKEN_PATH, &[]);
    *request.method_mut() = http::Method::HEAD;
    assert_eq!(ask(&emulator, request).await.status, 405);
}

#[tokio::test]
async fn what_is_too_much_or_no_http_is_refused() {
    let emulator = Emulator::start().await.unwrap();
    let long = format!("GET {KEYS} HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "x".repeat(2 << 20));
    let many = format!("GET {KEYS} HTTP/1.1\r\nhost: x\r\n{}\r\n", "x-many: 1\r\n".repeat(1000));
    let path = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(100_000));
    for request in [&long, &many, &path] {
        let answer = exchange(&emulator, request.as_bytes()).await;
        // A server that closes while a client still sends may be reset before its answer is read.
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    for bytes in
        [&b"\0\0\0\0\r\n\r\n"[..], b"hello\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\0\x01\0"]
    {
        let answer = exchange(&emulator, bytes).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    serves(&emulator).await;
}

#[tokio::test]
async fn garbage_after_a_request_ends_the_connection_and_not_the_answer() {
    let emulator = Emulator::start().await.unwrap();
    let bytes = format!("GET {KEYS} HTTP/1.1\r\nhost: x\r\n\r\n\x01\x02garbage\r\n\r\n");
    let answer = exchange(&emulator, bytes.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 400").count(), 1, "{answer}");

    let request = format!("GET {KEYS} HTTP/1.1\r\nhost: x\r\n\r\n");
    let last = format!("GET {KEYS} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let answer = exchange(&emulator, (request.repeat(99) + &last).as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 100, "pipelined requests are answered in turn");
}

#[tokio::test]
async fn clients_that_stop_halfway_leave_the_others_served() {
    let emulator = Emulator::start().await.unwrap();
    let mut open = Vec::new();
    let mut body =
        b"POST /contoso.test/oauth2/v2.0/token HTTP/1.1\r\nhost: x\r\nconnection: close\r\n".to_vec();
    body.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n200000\r\n");
    body.extend_from_slice(&[b'a'; 0x20_0000]);
    body.extend_from_slice(b"\r\n0\r\n\r\n");
    assert!(exchange(&emulator, &body).await.starts_with("HTTP/1.1 413 "));
    for bytes in [
        "",
        "G",
        "POST /contoso.test/oauth2/v2.0/token HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\ngrant",
        "POST /contoso.test/oauth2/v2.0/token HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nff\r\n",
    ] {
        for ending in [false, true] {
            let mut stream = TcpStream::connect(address(&emulator)).await.unwrap();
            stream.write_all(bytes.as_bytes()).await.unwrap();
            if ending {
                stream.shutdown().await.unwrap();
            }
            open.push(stream);
        }
    }
    serves(&emulator).await;
    // Who said that nothing more will come is not waited for.
    for mut stream in open.into_iter().skip(1).step_by(2) {
        let mut rest = Vec::new();
        let _ = soon(stream.read_to_end(&mut rest)).await;
    }
    serves(&emulator).await;
}

/// The tests with very many connections, one after the other: all tests share what the system lets a process open.
static MANY: Mutex<()> = Mutex::const_new(());

/// How many connections to a server in this process can be opened, and leave enough for the other tests.
#[cfg(target_os = "linux")]
fn room() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let limit = if raised.is_ok() { limit.maximum } else { limit.current };
    // The server has as many as it serves at once, and each of the others costs one.
    limit.map_or(10_000, |limit| usize::try_from(limit).unwrap().saturating_sub(1_024 + 500)).max(100)
}

#[cfg(not(target_os = "linux"))]
fn room() -> usize {
    100
}

/// So many connections, or as many as there are within some seconds: some may wait for long in the system's queue.
async fn connections(address: &str, wanted: usize) -> Vec<TcpStream> {
    let mut connecting = JoinSet::new();
    let mut open = Vec::new();
    for _ in 0..wanted {
        connecting.spawn(TcpStream::connect(address.to_owned()));
    }
    let all = async {
        while let Some(connected) = connecting.join_next().await {
            open.extend(connected.unwrap().ok());
        }
    };
    tokio::select! {
        () = all => {}
        () = pause(10_000) => {}
    }
    open
}

#[tokio::test]
async fn ten_thousand_silent_connections_at_once_are_survived() {
    let _alone = MANY.lock().await;
    let emulator = Emulator::start().await.unwrap();
    let many = room().min(10_000);
    let open = connections(&address(&emulator), many).await;
    assert!(open.len() >= many.min(1_000), "{} connections", open.len());
    drop(open);
    serves(&emulator).await;
}

#[tokio::test]
async fn clients_that_say_nothing_do_not_keep_others_out() {
    let _alone = MANY.lock().await;
    let emulator = Emulator::start().await.unwrap();
    let _open = connections(&address(&emulator), room().min(1_200)).await;
    // Sooner than a silent connection is closed where nobody waits.
    tokio::select! {
        () = serves(&emulator) => {}
        () = pause(25_000) => panic!("others wait for silent connections"),
    }
}

#[tokio::test]
async fn connections_that_are_kept_open_make_way_for_new_ones() {
    let _alone = MANY.lock().await;
    let emulator = Emulator::start().await.unwrap();
    let request = format!("GET {KEYS} HTTP/1.1\r\nhost: x\r\n\r\n");
    let mut open = connections(&address(&emulator), room().min(1_024)).await;
    for stream in &mut open {
        stream.write_all(request.as_bytes()).await.unwrap();
        assert!(soon(stream.read(&mut [0; 16])).await.unwrap() > 0);
    }
    // Without others who want to come, they may stay.
    let first = &mut open[0];
    first.write_all(request.as_bytes()).await.unwrap();
    assert!(soon(first.read(&mut [0; 16])).await.unwrap() > 0);
    let _more = connections(&address(&emulator), 50).await;
    // Sooner than a connection is closed for being idle alone.
    tokio::select! {
        () = serves(&emulator) => {}
        () = pause(20_000) => panic!("new connections wait for idle ones"),
    }
}

#[tokio::test]
async fn an_observer_is_told_of_every_answer() {
    let told = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let mine = Arc::clone(&told);
    let emulator = Emulator::builder().on_answer(move |entry| mine.lock().push(entry.clone())).in_memory();
    ask(&emulator, post(TOKEN_PATH, &good())).await;
    ask(&emulator, post(TOKEN_PATH, &with("client_secret", "wrong"))).await;
    emulator.faults().add(Fault::on(Endpoint::Identity).cut().times(1));
    assert!(call(&emulator, Endpoint::Identity, get(IMDS, &[])).await.is_err());
    identify(&emulator, get(IMDS, &[("metadata", "true")])).await;
    let told = told.lock();
    let [first, second, third] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((first.status, first.client_id.as_deref()), (Some(200), Some(sample::SECRET_APP)));
    assert_eq!((second.status, second.aadsts), (Some(401), Some(7000215)));
    assert_eq!((third.number, third.endpoint, third.status), (4, Endpoint::Identity, Some(200)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_never_send_their_bodies_do_not_keep_others_out() {
    let emulator = Emulator::start().await.unwrap();
    let address = emulator.authority().replace("http://", "");
    let head = format!("POST {TOKEN_PATH} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 10\r\n\r\n");
    let mut stalled = Vec::new();
    // More than are served at once.
    for _ in 0..1_100 {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stalled.push(stream);
    }
    let client = client();
    tokio::select! {
        answer = send(&client, emulator.authority(), post(TOKEN_PATH, &good())) => {
            assert_eq!(answer.unwrap().status(), 200);
        }
        // Less than a body is waited for where nobody else waits.
        () = pause(20_000) => panic!("the others keep their places"),
    }
    drop(stalled);
}
