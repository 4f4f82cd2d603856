//! TLS, and the proxy, which needs it.

use std::{
    io::Write as _,
    sync::{Arc, Mutex},
};

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{
    server::{Server, accept_tls, always, answer, read_request, serve},
    *,
};

/// An authority that nobody knows, as PEM, and a server that it vouches for.
fn private_authority(names: &[&str]) -> (String, Arc<rustls::ServerConfig>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::from_params(&params, key);

    let key = rcgen::KeyPair::generate().unwrap();
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let leaf = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    (root.pem(), Arc::new(config))
}

/// Trusts an authority of no one's, so that it can be made where the system has no root certificates.
fn without_system_roots() -> HttpTransport {
    trusting(&private_authority(&[]).0)
}

fn trusting(pem: &str) -> HttpTransport {
    HttpTransport::builder().without_proxy().root_certificates_pem(pem.as_bytes()).unwrap().build().unwrap()
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_given() {
    let (root, config) = private_authority(&["localhost", "127.0.0.1"]);
    let server = Server::start_tls(config, always("sealed"));
    for host in ["localhost", "127.0.0.1"] {
        let uri = format!("https://{host}:{}/", server.address.port());
        let response = trusting(&root).send(Pool::TokenService, get(&uri), LIMIT).await.unwrap();
        assert_eq!(response.body(), "sealed");
    }
}

#[tokio::test]
async fn an_unknown_authority_is_refused_with_advice_and_not_asked_again() {
    let (_, config) = private_authority(&["localhost"]);
    let server = Server::start_tls(config, always("sealed"));
    let uri = format!("https://localhost:{}/", server.address.port());
    let (transport, clock) = (without_system_roots(), Clock::system());
    let deadline = clock.now().after(Duration::from_secs(60));
    let policy = RetryPolicy::token_service();
    let error = exchange(&transport, &clock, &policy, deadline)
        .run(Pool::TokenService, post(&uri))
        .await
        .unwrap_err();
    assert_eq!((error.kind(), error.blame()), (ErrorKind::Unavailable, Blame::Network));
    assert!(error.to_string().contains("issued by nobody who is trusted"), "{error}");
    assert!(error.advice().contains("root_certificates_pem"));
    assert_eq!((server.counts.connections.get(), server.counts.requests.get()), (1, 0));
}

#[tokio::test]
async fn a_certificate_for_another_name_is_called_that() {
    let (root, config) = private_authority(&["login.example"]);
    let server = Server::start_tls(config, always("sealed"));
    let uri = format!("https://localhost:{}/", server.address.port());
    let error = trusting(&root).send(Pool::TokenService, post(&uri), LIMIT).await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_left()), (TransportErrorKind::Tls, false));
    assert!(error.to_string().contains("another name"), "{error}");
}

#[tokio::test]
async fn tls_to_a_server_without_it_fails_before_anything_is_sent() {
    let server = Server::listen(|mut stream, _| {
        stream.write_all(answer("400 Bad Request", "", "").as_bytes()).unwrap();
        let _gone = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let uri = format!("https://127.0.0.1:{}/", server.address.port());
    let error = without_system_roots().send(Pool::TokenService, post(&uri), LIMIT).await.unwrap_err();
    assert!(!error.may_have_left(), "{error:?}");
}

#[tokio::test]
async fn a_connection_that_does_not_come_about_times_out_before_anything_is_sent() {
    let server = Server::listen(|mut stream, _| {
        let _gone = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let transport = HttpTransport::builder()
        .without_proxy()
        .root_certificates_pem(private_authority(&[]).0.as_bytes())
        .unwrap()
        .connect_timeout(Duration::from_millis(20))
        .build()
        .unwrap();
    let uri = format!("https://{}/", server.address);
    let error = transport.send(Pool::TokenService, post(&uri), LIMIT).await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_left()), (TransportErrorKind::Connect, false));
    assert_eq!(error.to_string(), "timed out");
}

#[test]
fn bad_root_certificates_are_a_configuration_error() {
    let (root, _) = private_authority(&["localhost"]);
    let cut = root.replace("-----END CERTIFICATE-----", "");
    let empty = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for pem in ["", "not PEM at all", &cut, empty] {
        let error = HttpTransport::builder().root_certificates_pem(pem.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().starts_with("root certificates: "), "{error}");
    }
    let two = format!("# a comment\n{root}\n{root}");
    assert!(HttpTransport::builder().root_certificates_pem(two.as_bytes()).is_ok());
}

#[tokio::test]
async fn the_token_service_is_reached_through_the_proxy_of_the_environment() {
    let (root, config) = private_authority(&["login.example"]);
    let asked = Arc::new(Mutex::new(String::new()));
    let proxy = Server::listen({
        let asked = Arc::clone(&asked);
        move |mut stream, counts| {
            asked.lock().unwrap().push_str(&read_request(&mut stream).unwrap());
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            serve(&mut accept_tls(&config, stream), counts, always("through the tunnel"));
        }
    });
    let transport = behind(&format!("http://user:hunter2@{}", proxy.address))
        .root_certificates_pem(root.as_bytes())
        .unwrap()
        .build()
        .unwrap();
    let response =
        transport.send(Pool::TokenService, get("https://login.example/token"), LIMIT).await.unwrap();
    assert_eq!(response.body(), "through the tunnel");
    let asked = asked.lock().unwrap().to_ascii_lowercase();
    assert!(asked.starts_with("connect login.example:443 http/1.1\r\n"), "{asked}");
    assert!(asked.contains("proxy-authorization: basic "), "{asked}");
    assert!(!format!("{transport:#?}").contains("hunter2"));
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_called_that() {
    let error =
        once(&without_system_roots(), Pool::TokenService, get("https://entra.invalid/token?secret=hunter2"))
            .await
            .unwrap_err();
    assert!(error.to_string().starts_with("could not connect to entra.invalid: "), "{error}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(!all_text(&error).contains("hunter2"));
}

#[tokio::test]
async fn a_proxy_that_refuses_is_blamed_without_its_password() {
    for (reply, expected) in [
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "the proxy wants other credentials"),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", "(through a proxy)"),
    ] {
        let proxy = Server::start(move |_, stream| {
            stream.write_all(reply.as_bytes()).unwrap();
            false
        });
        let transport = behind(&format!("http://user:hunter2@{}", proxy.address))
            .root_certificates_pem(private_authority(&[]).0.as_bytes())
            .unwrap()
            .build()
            .unwrap();
        let error =
            transport.send(Pool::TokenService, post("https://login.example/token"), LIMIT).await.unwrap_err();
        assert_eq!((error.kind(), error.may_have_left()), (TransportErrorKind::Connect, false));
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!all_text(&error).contains("hunter2"));
        let error =
            once(&transport, Pool::TokenService, post("https://login.example/token")).await.unwrap_err();
        assert!(error.advice().contains("HTTPS_PROXY"));
        assert!(!all_text(&error).contains("hunter2"));
    }
}
