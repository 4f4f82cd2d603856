//! Certificates at the token service: what is sent, and what happens when it is refused.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use entra_broker::{
    AccessToken, Blame, BoxFuture, Broker, Certificate, ClientAuth, ClientCertificate, ClientCredential,
    Clock, ConfidentialClient, CredentialRequest, CredentialSource, Error, ErrorKind, FetchContext, Pool,
    Provider as _, Secret, Transport, TransportError,
    emulator::{App, sample},
};
use serde_json::{Value, json};

use crate::{certificate_material::*, support::*};

type Happens = Box<dyn FnOnce() + Send>;

/// What is sent goes through here: it is read, and at the first request something may happen before it arrives.
#[derive(Clone)]
struct Watched {
    inner: InMemory,
    sent: Arc<Mutex<Vec<String>>>,
    first: Arc<Mutex<Option<Happens>>>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}

impl Watched {
    fn new(world: &World) -> Self {
        Self { inner: world.transport(), sent: Arc::default(), first: Arc::default() }
    }

    fn before_the_first(self, run: impl FnOnce() + Send + 'static) -> Self {
        *self.first.lock().unwrap() = Some(Box::new(run));
        self
    }

    fn sent(&self) -> Vec<String> {
        self.sent.lock().unwrap().clone()
    }

    /// Header and claims of an assertion that was sent.
    fn read(&self, number: usize) -> (Value, Value) {
        let assertion = self.sent()[number].clone();
        let part = |at: usize| {
            let part = URL_SAFE_NO_PAD.decode(assertion.split('.').nth(at).unwrap()).unwrap();
            serde_json::from_slice(&part).unwrap()
        };
        (part(0), part(1))
    }
}

impl Transport for Watched {
    fn send<'a>(
        &'a self,
        pool: Pool,
        request: http::Request<Bytes>,
        limit: usize,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, TransportError>> {
        let pairs = url::form_urlencoded::parse(request.body());
        let assertion = pairs.into_iter().find(|(name, _)| name == "client_assertion");
        self.sent.lock().unwrap().extend(assertion.map(|(_, text)| text.into_owned()));
        if let Some(run) = self.first.lock().unwrap().take() {
            run();
        }
        self.inner.send(pool, request, limit)
    }
}

fn client(world: &World, certificate: Certificate) -> ConfidentialClient {
    ClientCertificate::new(sample::TENANT, sample::CERT_APP, certificate)
        .unwrap()
        .authority(world.authority())
}

fn broker(world: &World, transport: &Watched, client: ConfidentialClient) -> Broker {
    world.expect_unsaid(PASSWORD);
    for number in 0..2 {
        world.expect_unsaid(key(number).serialize_pem().lines().nth(3).unwrap());
    }
    Broker::builder().clock(world.clock.clone()).transport(transport.clone()).seed(7).build(client).unwrap()
}

fn trust(world: &World, certificate: &rcgen::Certificate) {
    assert!(world.emulator.directory().add_certificate(sample::CERT_APP, registered(certificate)));
}

fn distrust(world: &World, certificate: &rcgen::Certificate) {
    let thumbprint = registered(certificate).thumbprint();
    assert!(world.emulator.directory().remove_certificate(sample::CERT_APP, &thumbprint));
}

/// A fetch, past whatever is in the cache. Signing takes the time that it takes.
async fn get(world: &World, broker: &Broker, transport: &Watched) -> Result<AccessToken, Error> {
    if let Some(token) = broker.peek(VAULT) {
        broker.invalidate(&token);
    }
    let call = broker.clone();
    let ended = world.get_over_the_wire(async move { call.get_token(VAULT).await }).await;
    for assertion in transport.sent() {
        world.expect_unsaid(&assertion);
    }
    ended
}

fn memory(key: &rcgen::KeyPair, certificate: &rcgen::Certificate) -> Certificate {
    Certificate::from_pem(both(key, certificate).as_bytes(), None).unwrap()
}

fn base64url(hex: &str) -> String {
    let octets: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    URL_SAFE_NO_PAD.encode(octets)
}

#[tokio::test]
async fn a_certificate_gets_a_token_by_ps256_and_its_sha256_thumbprint() {
    let (world, own) = (World::new().await, self_signed(key(0)));
    trust(&world, &own);
    let transport = Watched::new(&world);
    let client = client(&world, memory(key(0), &own));
    assert_eq!(client.name(), "client-certificate");
    let broker = broker(&world, &transport, client);
    get(&world, &broker, &transport).await.unwrap();

    let (header, claims) = transport.read(0);
    let thumbprint = base64url(&registered(&own).thumbprint_sha256());
    assert_eq!(header, json!({"alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint}));
    let now = start().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (exp, nbf) = (claims["exp"].as_u64().unwrap(), claims["nbf"].as_u64().unwrap());
    assert_eq!((exp - now, now - nbf, claims["iat"].as_u64()), (600, 60, Some(now)));
    let audience = world.authority().token_endpoint(&sample::TENANT.parse().unwrap());
    assert_eq!((&claims["aud"], &claims["iss"]), (&json!(audience), &json!(sample::CERT_APP)));
    assert_eq!(claims["sub"], claims["iss"]);
}

#[tokio::test]
async fn an_assertion_is_made_for_each_request_and_never_twice() {
    let (world, own) = (World::new().await, self_signed(key(0)));
    trust(&world, &own);
    let transport = Watched::new(&world);
    let broker = broker(&world, &transport, client(&world, memory(key(0), &own)));
    for _ in 0..3 {
        get(&world, &broker, &transport).await.unwrap();
    }
    let mut ids: Vec<String> = (0..3).map(|n| transport.read(n).1["jti"].to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), transport.sent().len()), (3, 3));
}

#[tokio::test]
async fn rs256_goes_with_the_sha1_thumbprint() {
    let (world, own) = (World::new().await, self_signed(key(0)));
    trust(&world, &own);
    let transport = Watched::new(&world);
    let broker = broker(&world, &transport, client(&world, memory(key(0), &own).rs256()));
    get(&world, &broker, &transport).await.unwrap();
    let thumbprint = base64url(&registered(&own).thumbprint());
    assert_eq!(transport.read(0).0, json!({"alg": "RS256", "typ": "JWT", "x5t": thumbprint}));
}

#[tokio::test]
async fn a_chain_is_sent_leaf_first_to_an_app_that_trusts_the_issuer() {
    use base64::engine::general_purpose::STANDARD;
    let world = World::new().await;
    let authority = authority(key(1));
    let (leaf, foreign) = (issued(key(0), &authority), self_signed(key(1)));
    let issuer: &rcgen::Certificate = authority.as_ref();
    let app = App::new(sample::CERT_APP, sample::TENANT);
    world.emulator.directory().add_app(app.trusted_issuer(registered(issuer), "app.contoso.test"));
    // In an order of no use, with one that has nothing to do with it.
    let text = format!("{}{}{}{}", issuer.pem(), foreign.pem(), leaf.pem(), key(0).serialize_pem());
    let certificate = || Certificate::from_pem(text.as_bytes(), None).unwrap();

    let transport = Watched::new(&world);
    let without = broker(&world, &transport, client(&world, certificate()));
    let error = get(&world, &without, &transport).await.unwrap_err();
    assert_eq!((error.kind(), error.aadsts()), (ErrorKind::Credential, &[700_027][..]));
    for certificate in [certificate().send_chain(), certificate().send_chain().rs256()] {
        let transport = Watched::new(&world);
        let with = broker(&world, &transport, client(&world, certificate));
        get(&world, &with, &transport).await.unwrap();
        let chain = json!([STANDARD.encode(leaf.der()), STANDARD.encode(issuer.der())]);
        assert_eq!(transport.read(0).0["x5c"], chain);
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_registered_is_refused_and_asked_with_once() {
    let world = World::new().await;
    trust(&world, &self_signed(key(1)));
    let folder = Folder::new();
    let text = both(key(0), &self_signed(key(0)));
    let path = folder.write("app.pem", &text);
    let from_file = Certificate::from_file(&path, None).unwrap();
    for certificate in [Certificate::from_pem(text.as_bytes(), None).unwrap(), from_file] {
        let transport = Watched::new(&world);
        let broker = broker(&world, &transport, client(&world, certificate));
        let error = get(&world, &broker, &transport).await.unwrap_err();
        assert_eq!((error.kind(), error.blame()), (ErrorKind::Credential, Blame::Configuration));
        assert_eq!((error.aadsts(), transport.sent().len()), (&[700_027][..], 1));
    }
}

/// A file with a certificate of the first key, and what it is to become.
fn rotation(world: &World) -> (Folder, std::path::PathBuf, rcgen::Certificate, rcgen::Certificate) {
    let (folder, old, new) = (Folder::new(), self_signed(key(0)), self_signed(key(1)));
    let path = folder.write("app.pem", both(key(0), &old));
    folder.write("next.pem", both(key(1), &new));
    trust(world, &old);
    (folder, path, old, new)
}

#[tokio::test]
async fn a_file_that_was_replaced_is_used_without_a_restart() {
    let world = World::new().await;
    let (folder, path, old, new) = rotation(&world);
    let transport = Watched::new(&world);
    let certificate = Certificate::from_file(&path, None).unwrap();
    let broker = broker(&world, &transport, client(&world, certificate.clone()));
    get(&world, &broker, &transport).await.unwrap();
    assert_eq!(certificate.thumbprint(), registered(&old).thumbprint());

    trust(&world, &new);
    distrust(&world, &old);
    std::fs::rename(folder.path("next.pem"), &path).unwrap();
    get(&world, &broker, &transport).await.unwrap();
    assert_eq!(transport.sent().len(), 2, "without being refused in between");
    assert_eq!(certificate.thumbprint(), registered(&new).thumbprint());
}

#[tokio::test]
async fn a_certificate_that_is_refused_is_replaced_by_the_files_in_the_same_fetch() {
    let world = World::new().await;
    let (folder, path, old, new) = rotation(&world);
    distrust(&world, &old);
    trust(&world, &new);
    let (next, place) = (folder.path("next.pem"), path.clone());
    // After the file was looked at.
    let transport = Watched::new(&world).before_the_first(move || std::fs::rename(next, place).unwrap());
    let certificate = Certificate::from_file(&path, None).unwrap().send_chain();
    let broker = broker(&world, &transport, client(&world, certificate));
    get(&world, &broker, &transport).await.unwrap();
    let refused: Vec<_> = world.emulator.journal().entries().iter().map(|entry| entry.aadsts).collect();
    assert_eq!(refused, [Some(700_027), None]);
}

#[tokio::test]
async fn a_reload_that_fails_does_not_lose_the_certificate_at_hand() {
    let world = World::new().await;
    let (folder, path, old, _) = rotation(&world);
    let transport = Watched::new(&world);
    let certificate = Certificate::from_file(&path, None).unwrap();
    let broker = broker(&world, &transport, client(&world, certificate.clone()));
    let half = both(key(1), &self_signed(key(1)));
    let expired = self_signed_with(key(1), |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let expired = both(key(1), &expired);
    for contents in [Some(&half[..half.len() / 2]), Some(""), Some("garbage"), Some(&expired), None] {
        match contents {
            Some(contents) => _ = folder.write("app.pem", contents),
            None => std::fs::remove_file(&path).unwrap(),
        }
        get(&world, &broker, &transport).await.unwrap();
        assert_eq!(certificate.thumbprint(), registered(&old).thumbprint(), "{contents:?}");
    }
    for reason in ["without an end", "is empty", "neither PEM", "expired on 2020-01-01", "does not exist"] {
        assert!(world.was_said(&["not reloaded", reason]), "no warning that the file {reason}");
    }
    std::fs::rename(folder.path("next.pem"), &path).unwrap();
    // It is seen, and not yet registered.
    assert_eq!(get(&world, &broker, &transport).await.unwrap_err().aadsts(), [700_027]);
}

fn until_2200(number: usize) -> rcgen::Certificate {
    self_signed_with(key(number), |params| params.not_after = rcgen::date_time_ymd(2200, 1, 1))
}

/// To the last second of [`until_2200`].
fn long_time() -> Duration {
    (UNIX_EPOCH + secs(7_258_118_400)).duration_since(start()).unwrap()
}

#[tokio::test]
async fn a_certificate_that_expires_while_the_broker_runs_sends_nothing_more() {
    let (world, own) = (World::new().await, until_2200(0));
    trust(&world, &own);
    let folder = Folder::new();
    let path = folder.write("app.pem", both(key(0), &own));
    for certificate in [memory(key(0), &own), Certificate::from_file(&path, None).unwrap()] {
        let from_file = format!("{certificate:?}").contains("app.pem");
        let transport = Watched::new(&world);
        let broker = broker(&world, &transport, client(&world, certificate));
        if !from_file {
            get(&world, &broker, &transport).await.unwrap();
            world.time.advance(long_time() + secs(1));
        } else {
            std::fs::remove_file(&path).unwrap();
        }
        world.emulator.journal().clear();
        let error = get(&world, &broker, &transport).await.unwrap_err();
        assert_eq!((error.kind(), error.blame()), (ErrorKind::Credential, Blame::Configuration));
        let text = error.to_string();
        assert!(
            text.contains("app.contoso.test") && text.contains("expired on 2200-01-01T00:00:01Z"),
            "{text}"
        );
        assert!(text.contains("it is 2200-01-01T00:00:01Z") && !error.advice().is_empty(), "{text}");
        assert_eq!(world.requests(), 0);
        let reload = std::error::Error::source(&error).map(ToString::to_string);
        assert_eq!(reload.is_some_and(|reload| reload.contains("does not exist")), from_file);
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_yet_by_the_brokers_clock_sends_nothing() {
    let world = World::new().await;
    let own = self_signed_with(key(0), |params| params.not_before = rcgen::date_time_ymd(2010, 1, 1));
    let (clock, _time) = Clock::manual(UNIX_EPOCH + secs(1_000_000_000));
    let client = client(&world, memory(key(0), &own));
    let broker = Broker::builder().clock(clock).transport(world.transport()).build(client).unwrap();
    let error = world.see(broker.get_token(VAULT).await).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credential);
    let text = error.to_string();
    assert!(text.contains("not valid before 2010-01-01T00:00:00Z, and it is 2001-09-09T01:46:40Z"), "{text}");
    assert_eq!(world.requests(), 0);
}

#[tokio::test]
async fn the_next_certificate_in_the_file_is_used_once_the_first_has_expired() {
    let (world, own) = (World::new().await, until_2200(0));
    let next = self_signed_with(key(0), |params| {
        params.not_before = rcgen::date_time_ymd(2199, 1, 1);
        params.not_after = rcgen::date_time_ymd(2300, 1, 1);
    });
    trust(&world, &own);
    trust(&world, &next);
    let folder = Folder::new();
    let path = folder.write("app.pem", format!("{}{}", both(key(0), &own), next.pem()));
    let certificate = Certificate::from_file(&path, None).unwrap();
    let transport = Watched::new(&world);
    let broker = broker(&world, &transport, client(&world, certificate.clone()));
    get(&world, &broker, &transport).await.unwrap();
    assert_eq!(certificate.thumbprint(), registered(&own).thumbprint());
    world.time.advance(long_time() + secs(1));
    get(&world, &broker, &transport).await.unwrap();
    assert_eq!(certificate.thumbprint(), registered(&next).thumbprint());
}

#[tokio::test]
async fn an_assertion_whose_time_was_over_when_it_arrived_is_made_anew_at_once() {
    let (world, own) = (World::new().await, self_signed(key(0)));
    trust(&world, &own);
    // The clock was an hour behind, and is set right on the way.
    let time = world.time.clone();
    let transport = Watched::new(&world).before_the_first(move || time.step_forward(secs(3600)));
    let broker = broker(&world, &transport, client(&world, memory(key(0), &own)));
    get(&world, &broker, &transport).await.unwrap();
    let refused: Vec<_> = world.emulator.journal().entries().iter().map(|entry| entry.aadsts).collect();
    assert_eq!(refused, [Some(700_024), None]);
    let exp = |number: usize| transport.read(number).1["exp"].as_u64().unwrap();
    assert_eq!(exp(1) - exp(0), 3600);
}

/// Somebody who got hold of an assertion.
#[derive(Debug)]
struct Stolen(Secret);

impl CredentialSource for Stolen {
    fn name(&self) -> &'static str {
        "client-assertion"
    }

    fn credential<'a>(
        &'a self,
        _cx: &'a FetchContext,
        _asked: &'a CredentialRequest<'a>,
    ) -> BoxFuture<'a, Result<ClientCredential, Error>> {
        Box::pin(async { Ok(ClientCredential::Assertion(self.0.clone())) })
    }
}

#[tokio::test]
async fn an_assertion_is_of_no_use_after_its_ten_minutes() {
    let (world, own) = (World::new().await, self_signed(key(0)));
    trust(&world, &own);
    let transport = Watched::new(&world);
    let honest = broker(&world, &transport, client(&world, memory(key(0), &own)));
    get(&world, &honest, &transport).await.unwrap();
    let auth = ClientAuth::source(Stolen(transport.sent()[0].as_str().into()));
    let thief =
        ConfidentialClient::new(sample::TENANT, sample::CERT_APP, auth).unwrap().authority(world.authority());
    let thief = broker(&world, &Watched::new(&world), thief);
    // Entra's own tolerance of 5 minutes on top.
    world.time.advance(secs(600 + 300 + 1));
    let error = get(&world, &thief, &transport).await.unwrap_err();
    assert_eq!((error.kind(), error.aadsts()), (ErrorKind::Credential, &[700_024][..]));
}

#[tokio::test]
async fn a_certificate_from_a_fixture_of_openssl_signs() {
    let world = World::new().await;
    let pem = String::from_utf8(fixture("app.pem")).unwrap();
    let own = entra_broker::emulator::Certificate::from_pem(&pem).unwrap();
    assert!(world.emulator.directory().add_certificate(sample::CERT_APP, own));
    let certificate = Certificate::from_file(fixture_path("legacy.p12"), Some(password())).unwrap();
    let transport = Watched::new(&world);
    let broker = broker(&world, &transport, client(&world, certificate));
    get(&world, &broker, &transport).await.unwrap();
}

#[test]
fn the_shorthand_checks_tenant_and_client_id() {
    let certificate = memory(key(0), &self_signed(key(0)));
    for (tenant, client_id) in [("not a tenant", sample::CERT_APP), (sample::TENANT, "no-guid")] {
        let error = ClientCertificate::new(tenant, client_id, certificate.clone()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
    }
    assert!(certificate.expires_on() > SystemTime::UNIX_EPOCH);
}
