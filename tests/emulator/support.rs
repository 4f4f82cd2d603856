//! Asking the emulator, in memory and over a socket, and reading what it answers.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "what goes wrong here fails a test")]

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use entra_broker::emulator::{Body, BodyCut, Broken, Emulator, Endpoint, sample};
use http::{HeaderMap, Request, StatusCode};
use http_body::Body as _;
use serde_json::Value;
use std::future::poll_fn;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

pub(crate) const STORAGE_SCOPE: &str = "https://storage.azure.com/.default";
pub(crate) const TOKEN_PATH: &str = "/11111111-2222-3333-4444-555555555555/oauth2/v2.0/token";
pub(crate) const IMDS: &str =
    "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://storage.azure.com";
pub(crate) const APP_SERVICE: &str = "/msi/token?api-version=2019-08-01&resource=https://storage.azure.com";

/// An answer that was read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("not JSON: {:?}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    pub(crate) fn token(&self) -> String {
        assert_eq!(self.status, 200, "{:?}", self.body);
        self.json()["access_token"].as_str().unwrap().to_owned()
    }

    pub(crate) fn claims(&self) -> Value {
        claims(&self.token())
    }

    /// Asserts an Entra error in full shape.
    #[track_caller]
    pub(crate) fn is_entra_error(&self, status: u16, error: &str, code: u32) {
        let body = self.json();
        assert_eq!(self.status, status, "{body}");
        assert_eq!(body["error"], error, "{body}");
        assert_eq!(body["error_codes"], serde_json::json!([code]), "{body}");
        let description = body["error_description"].as_str().unwrap();
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        assert!(description.starts_with(&format!("AADSTS{code}: ")), "{description}");
        assert!(description.ends_with(&format!(
            " Trace ID: {} Correlation ID: {} Timestamp: {}",
            text("trace_id"),
            text("correlation_id"),
            text("timestamp")
        )));
        assert!(text("error_uri").ends_with(&format!("/error?code={code}")));
        assert_eq!(self.header("x-ms-request-id"), text("trace_id"));
        assert!(self.header("cache-control").contains("no-store"));
    }
}

pub(crate) fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// Whether the token is signed by the key of the set that its header names.
pub(crate) fn verifies(token: &str, jwks: &Value) -> bool {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let header = URL_SAFE_NO_PAD.decode(signed.split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    assert_eq!(header["alg"], "RS256");
    let keys = jwks["keys"].as_array().unwrap();
    let Some(key) = keys.iter().find(|key| key["kid"] == header["kid"]) else {
        return false;
    };
    let part = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    PublicKeyComponents { n: part("n"), e: part("e") }
        .verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &signature)
        .is_ok()
}

pub(crate) fn encoded(form: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish()
}

/// The good request, as form pairs, for a test to spoil.
pub(crate) fn good() -> Vec<(&'static str, &'static str)> {
    vec![
        ("grant_type", "client_credentials"),
        ("client_id", sample::SECRET_APP),
        ("client_secret", sample::SECRET),
        ("scope", STORAGE_SCOPE),
    ]
}

pub(crate) fn with(name: &'static str, value: &'static str) -> Vec<(&'static str, &'static str)> {
    let mut form = without(name);
    form.push((name, value));
    form
}

pub(crate) fn without(name: &str) -> Vec<(&'static str, &'static str)> {
    good().into_iter().filter(|(found, _)| *found != name).collect()
}

pub(crate) fn post(path: &str, form: &[(&str, &str)]) -> Request<Bytes> {
    Request::post(path)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(encoded(form).into())
        .unwrap()
}

pub(crate) fn get(path: &str, headers: &[(&str, &str)]) -> Request<Bytes> {
    let mut request = Request::get(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Bytes::new()).unwrap()
}

pub(crate) fn basic(client: &str, secret: &str) -> String {
    let half = |text: &str| encoded(&[("v", text)])[2..].to_owned();
    format!("Basic {}", STANDARD.encode(format!("{}:{}", half(client), half(secret))))
}

pub(crate) async fn frame(body: &mut Body) -> Option<Result<Bytes, BodyCut>> {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
    Some(frame.map(|frame| frame.into_data().unwrap()))
}

pub(crate) async fn call(
    emulator: &Emulator,
    endpoint: Endpoint,
    request: Request<Bytes>,
) -> Result<Answer, Broken> {
    let (parts, mut body) = emulator.call(endpoint, request).await?.into_parts();
    let mut bytes = Vec::new();
    while let Some(data) = frame(&mut body).await {
        bytes.extend_from_slice(&data.expect("a whole body"));
    }
    Ok(Answer { status: parts.status, headers: parts.headers, body: bytes.into() })
}

/// Asks the token service in memory.
pub(crate) async fn ask(emulator: &Emulator, request: Request<Bytes>) -> Answer {
    call(emulator, Endpoint::TokenService, request).await.unwrap()
}

/// Asks the identity endpoint in memory.
pub(crate) async fn identify(emulator: &Emulator, request: Request<Bytes>) -> Answer {
    call(emulator, Endpoint::Identity, request).await.unwrap()
}

pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .tls_certs_only([])
        .build()
        .unwrap()
}

/// Sends a request over a socket.
pub(crate) async fn send(
    client: &reqwest::Client,
    base: &str,
    request: Request<Bytes>,
) -> reqwest::Result<reqwest::Response> {
    let (parts, body) = request.into_parts();
    client
        .request(parts.method, format!("{base}{}", parts.uri))
        .headers(parts.headers)
        .body(body)
        .send()
        .await
}

pub(crate) async fn read(response: reqwest::Response) -> reqwest::Result<Answer> {
    Ok(Answer {
        status: response.status(),
        headers: response.headers().clone(),
        body: response.bytes().await?,
    })
}

/// A clock that stands still until it is moved.
#[derive(Clone)]
pub(crate) struct Clock(watch::Sender<SystemTime>);

impl Clock {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(UNIX_EPOCH + Duration::from_secs(1_800_000_000)))
    }

    pub(crate) fn now(&self) -> SystemTime {
        *self.0.borrow()
    }

    pub(crate) fn seconds(&self) -> u64 {
        self.now().duration_since(UNIX_EPOCH).unwrap().as_secs()
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.0.send_modify(|now| *now += by);
    }

    pub(crate) fn builder(&self) -> entra_broker::emulator::Builder {
        let (now, sleep) = (self.clone(), self.clone());
        Emulator::builder().time(
            move || now.now(),
            move |duration| {
                let until = sleep.now() + duration;
                let mut moved = sleep.0.subscribe();
                Box::pin(async move {
                    moved.wait_for(|now| *now >= until).await.unwrap();
                })
            },
        )
    }
}
