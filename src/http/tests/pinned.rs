//! A server that is known by its certificate's thumbprint.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use rustls::{
    SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};

use super::{
    server::{Server, always},
    *,
};

/// As clusters have it: of no authority, for another name than the one that is asked, and long over.
fn certificate() -> (CertificateDer<'static>, rcgen::KeyPair) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["cluster.test".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    (certificate.der().clone(), key)
}

fn of(certificate: &CertificateDer<'_>) -> Pool {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, certificate);
    Pool::ServiceFabric { thumbprint: hash.as_ref().try_into().unwrap() }
}

/// Shows a certificate, with whatever key.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

fn serving(
    certificate: &CertificateDer<'static>,
    key: &rcgen::KeyPair,
    version: &'static SupportedProtocolVersion,
) -> Server {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = provider.key_provider.load_private_key(key).unwrap();
    let shown = Shows(Arc::new(CertifiedKey::new(vec![certificate.clone()], key)));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown));
    Server::start_tls(Arc::new(config), always("sealed"))
}

fn uri(server: &Server) -> String {
    format!("https://{}/sf?secret=hunter2", server.address)
}

#[tokio::test]
async fn the_certificate_itself_is_trusted_whatever_its_issuer_name_and_dates() {
    // It has no root certificates, and a proxy that nobody listens at.
    let transport = behind("http://127.0.0.1:9").build().unwrap();
    for version in [&TLS12, &TLS13] {
        let (certificate, key) = certificate();
        let server = serving(&certificate, &key, version);
        // The second one over the connection of the first.
        for _ in 0..2 {
            let response = transport.send(of(&certificate), get(&uri(&server)), LIMIT).await.unwrap();
            assert_eq!(response.body(), "sealed");
        }
        assert_eq!((server.counts.connections.get(), server.counts.requests.get()), (1, 2));
    }
}

#[tokio::test]
async fn any_other_certificate_is_refused_before_anything_is_sent() {
    let ((wanted, wanted_key), (other, other_key)) = (certificate(), certificate());
    let transport = direct();
    let right = serving(&wanted, &wanted_key, &TLS13);
    transport.send(of(&wanted), get(&uri(&right)), LIMIT).await.unwrap();
    for version in [&TLS12, &TLS13] {
        for (server, why) in [
            (serving(&other, &other_key, version), "not the one with the expected thumbprint"),
            // Everybody can show a certificate that everybody is shown.
            (serving(&wanted, &other_key, version), "does not have the key of the certificate"),
        ] {
            let error = transport.send(of(&wanted), get(&uri(&server)), LIMIT).await.unwrap_err();
            assert_eq!((error.kind(), error.may_have_left()), (TransportErrorKind::Tls, false));
            assert!(error.to_string().contains(why), "{error}");
            let error = once(&transport, of(&wanted), get(&uri(&server))).await.unwrap_err();
            assert_eq!((error.kind(), error.blame()), (ErrorKind::Unavailable, Blame::Network));
            assert!(error.advice().contains("Nothing was sent") && !all_text(&error).contains("hunter2"));
            assert_eq!(server.counts.requests.get(), 0);
        }
    }
}

#[tokio::test]
async fn each_thumbprint_is_its_own_and_trusts_nothing_for_others() {
    let transport = direct();
    let made: Vec<_> = (0..2).map(|_| certificate()).collect();
    let servers: Vec<_> = made.iter().map(|(certificate, key)| serving(certificate, key, &TLS13)).collect();
    for _ in 0..2 {
        for (at, (certificate, _)) in made.iter().enumerate() {
            transport.send(of(certificate), get(&uri(&servers[at])), LIMIT).await.unwrap();
            let other = transport.send(of(certificate), get(&uri(&servers[1 - at])), LIMIT).await;
            assert_eq!(other.unwrap_err().kind(), TransportErrorKind::Tls);
        }
    }
}

#[tokio::test]
async fn plain_http_shows_no_certificate_and_is_refused() {
    let server = Server::start(always("in the open"));
    let pool = Pool::ServiceFabric { thumbprint: [0; 20] };
    let error = direct().send(pool, get(&server.url("/")), LIMIT).await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_left()), (TransportErrorKind::Refused, false));
    assert_eq!(server.counts.connections.get(), 0);
}
