//! TLS: the emulator's own certificate and a given one, the identity endpoint's second address, and handshakes that fail.

#![expect(clippy::unwrap_used, reason = "what goes wrong here fails a test")]

use crate::server_scratch::soon;
use crate::support::*;
use entra_broker::emulator::{Emulator, sample};
use rcgen::{CertificateParams, KeyPair};
use std::io::ErrorKind;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const SF: &str = "/sf/token?api-version=2019-07-01-preview&resource=https://storage.azure.com";

/// A certificate for this machine that signs for itself, and its key.
fn self_signed() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn trusting(pem: &str) -> reqwest::Client {
    let ca = reqwest::Certificate::from_pem(pem.as_bytes()).unwrap();
    reqwest::Client::builder().no_proxy().tls_certs_only([ca]).build().unwrap()
}

fn free() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

#[tokio::test]
async fn a_given_certificate_is_served() {
    let (certificate, key) = self_signed();
    let emulator = Emulator::builder()
        .tls_pem(certificate.as_str(), key.as_str())
        .identity_tls_listen(free())
        .start()
        .await
        .unwrap();
    assert!(emulator.ca_pem().is_none());
    let client = trusting(&certificate);
    let response = send(&client, emulator.authority(), post(TOKEN_PATH, &good())).await.unwrap();
    assert_eq!(response.status(), 200);
    let imds = get(IMDS, &[("metadata", "true")]);
    let response = send(&client, emulator.identity_tls_endpoint().unwrap(), imds).await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_says_why_and_shows_no_key() {
    let ((certificate, key), (other, _)) = (self_signed(), self_signed());
    let broken = certificate.replace("-----END", "----END");
    let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    for (certificate, key, why) in [
        ("", key.as_str(), "no certificate"),
        (key.as_str(), key.as_str(), "no certificate"),
        (broken.as_str(), key.as_str(), "certificate is not well-formed PEM"),
        (no_certificate, key.as_str(), "not an X.509 certificate"),
        (certificate.as_str(), "", "no key"),
        (certificate.as_str(), certificate.as_str(), "no key"),
        (certificate.as_str(), encrypted.as_str(), "the key is encrypted"),
        (other.as_str(), key.as_str(), "the key is not the first certificate's"),
    ] {
        let builder = Emulator::builder().tls_pem(certificate, key);
        assert!(key.is_empty() || !format!("{builder:?}").contains(&key[40..60]));
        let error = builder.start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(why), "{why}: {error}");
        assert!(key.is_empty() || !error.to_string().contains(&key[40..60]));
    }
}

#[tokio::test]
async fn the_identity_endpoint_can_be_reached_over_tls_by_the_certificates_thumbprint() {
    let emulator = Emulator::builder().identity_tls_listen(free()).start().await.unwrap();
    // The token service stays as it is.
    assert!(emulator.authority().starts_with("http://"));
    let endpoint = emulator.identity_tls_endpoint().unwrap();
    assert!(endpoint.starts_with("https://127.0.0.1:"));

    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([reqwest::Certificate::from_pem(emulator.ca_pem().unwrap().as_bytes()).unwrap()])
        .tls_info(true)
        .build()
        .unwrap();
    let request = get(SF, &[("secret", sample::APP_SERVICE_HEADER)]);
    let response = send(&client, endpoint, request).await.unwrap();
    let certificate = response.extensions().get::<reqwest::tls::TlsInfo>().unwrap();
    let certificate = certificate.peer_certificate().unwrap();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, certificate);
    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    assert_eq!(emulator.identity_tls_thumbprint(), Some(hash.as_str()));
    assert_eq!(read(response).await.unwrap().claims()["appid"], sample::SYSTEM_IDENTITY);
    assert!(Emulator::start().await.unwrap().identity_tls_endpoint().is_none());
}

#[tokio::test]
async fn plain_http_at_a_tls_address_is_told_so() {
    let emulator = Emulator::builder().tls().start().await.unwrap();
    let address = emulator.authority().strip_prefix("https://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    soon(stream.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("content-length: {}", body.len())) && body.contains("https"), "{answer}");
}

#[tokio::test]
async fn broken_handshakes_leave_the_others_served() {
    let emulator = Emulator::builder().tls().identity_tls_listen(free()).start().await.unwrap();
    let address = emulator.authority().strip_prefix("https://").unwrap();
    let mut open = Vec::new();
    for bytes in [
        &b"\x16\x03\x01\x00\x05hello"[..],
        b"\x16\x03\x01\xff\xff",
        b"\x16",
        b"\0\0\0\0\0\0\0\0",
        b"\x80\x2e\x01\x00\x02",
        b"",
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        open.push(stream);
    }
    // One that goes away in the middle, and one that trusts nobody.
    drop(open.swap_remove(1));
    assert!(send(&client(), emulator.authority(), get("/", &[])).await.is_err());
    let client = trusting(emulator.ca_pem().unwrap());
    for base in [emulator.authority(), emulator.identity_tls_endpoint().unwrap()] {
        assert_eq!(soon(send(&client, base, get("/", &[]))).await.unwrap().status(), 404);
    }
    // And a handshake where plain HTTP is spoken.
    let plain = emulator.identity_endpoint().replace("http://", "https://");
    assert!(soon(send(&client, &plain, get("/", &[]))).await.is_err());
    assert_eq!(send(&client, emulator.identity_endpoint(), get("/", &[])).await.unwrap().status(), 404);
}

#[tokio::test]
async fn other_addresses_than_loopback_are_for_those_who_say_so() {
    let everywhere: SocketAddr = "0.0.0.0:0".parse().unwrap();
    for builder in [
        Emulator::builder().listen(everywhere),
        Emulator::builder().identity_listen(everywhere),
        Emulator::builder().identity_tls_listen(everywhere),
    ] {
        let error = builder.start().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("listen_anywhere"), "{error}");
    }
    let builder = Emulator::builder().listen(everywhere).dangerous().listen_anywhere();
    let emulator = builder.start().await.unwrap();
    // The address that is told is one that can be reached.
    assert!(emulator.authority().starts_with("http://127.0.0.1:"), "{}", emulator.authority());
    let response = send(&client(), emulator.authority(), post(TOKEN_PATH, &good())).await;
    assert_eq!(response.unwrap().status(), 200);
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let emulator = Emulator::start().await.unwrap();
    let address = emulator.authority().strip_prefix("http://").unwrap();
    let error = Emulator::builder().listen(address.parse().unwrap()).start().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().contains(address), "{error}");
}
