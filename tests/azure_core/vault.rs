//! A stand-in for Azure Key Vault: TLS, the authentication challenge, and of each token what a resource looks at.

use std::{
    convert::Infallible,
    error::Error,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::UNIX_EPOCH,
};

use azure_core::{
    credentials::TokenCredential,
    http::{ClientOptions, Transport},
};
use azure_security_keyvault_secrets::{SecretClient, SecretClientOptions};
use bytes::Bytes;
use entra_broker::{
    Clock,
    emulator::{Emulator, sample},
};
use http::{
    Request, Response, StatusCode,
    header::{AUTHORIZATION, WWW_AUTHENTICATE},
};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::JwkSet};
use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

/// A name of Key Vault's domain, since its client checks that. It is resolved to this machine.
const HOST: &str = "contoso.vault.azure.net";

pub(crate) struct Vault {
    pub(crate) desk: Arc<Desk>,
    url: String,
    /// It trusts the vault's authority, and finds the vault under its name.
    http: reqwest::Client,
    task: JoinHandle<()>,
}

/// What looks at tokens.
pub(crate) struct Desk {
    clock: Clock,
    authority: String,
    /// For the emulator's discovery document and keys.
    http: reqwest::Client,
    rules: Mutex<Rules>,
    visits: Mutex<Vec<Visit>>,
}

pub(crate) struct Rules {
    /// For which resource the challenge tells clients to get a token. What is accepted does not change with it.
    pub(crate) asks_for: &'static str,
    /// Tokens that were issued before are refused, in seconds since 1970.
    not_before: u64,
}

/// One request, and what became of it.
#[derive(Debug, Clone)]
pub(crate) struct Visit {
    /// Why it was refused, if it was.
    pub(crate) refused: Option<&'static str>,
    /// What the token says, where its signature is good.
    pub(crate) token: Value,
}

impl Vault {
    /// A vault in the sample tenant, which has a secret for each name.
    pub(crate) async fn start(emulator: &Emulator, clock: &Clock) -> Result<Self, Box<dyn Error>> {
        let (acceptor, authority) = certificate()?;
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        let address = listener.local_addr()?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([reqwest::Certificate::from_pem(authority.as_bytes())?])
            .resolve(HOST, address)
            .build()?;
        let desk = Arc::new(Desk {
            clock: clock.clone(),
            authority: emulator.authority().to_owned(),
            http: reqwest::Client::builder().no_proxy().tls_certs_only([]).build()?,
            rules: Mutex::new(Rules { asks_for: sample::KEY_VAULT, not_before: 0 }),
            visits: Mutex::default(),
        });
        let task = tokio::spawn(serve(listener, acceptor, Arc::clone(&desk)));
        Ok(Self { desk, url: format!("https://{HOST}:{}", address.port()), http, task })
    }

    /// A real client of the SDK. It differs from one for Azure in its HTTP client only.
    pub(crate) fn client(&self, credential: Arc<dyn TokenCredential>) -> azure_core::Result<SecretClient> {
        let transport = Some(Transport::new(Arc::new(self.http.clone())));
        let client_options = ClientOptions { transport, ..ClientOptions::default() };
        let options = SecretClientOptions { client_options, ..SecretClientOptions::default() };
        SecretClient::new(&self.url, credential, Some(options))
    }

    /// What has come since it was last asked, without those that brought no token.
    pub(crate) fn visits(&self) -> Vec<Visit> {
        std::mem::take(&mut *self.desk.visits.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// As after a session was revoked: no token counts that was issued until now.
    pub(crate) fn revoke(&self) {
        self.desk.rules().not_before = self.desk.now() + 1;
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A certificate for [`HOST`], and the authority that signed it.
fn certificate() -> Result<(TlsAcceptor, String), Box<dyn Error>> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let leaf = CertificateParams::new(vec![HOST.to_owned()])?.signed_by(&key, &authority)?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key.into())?;
    Ok((TlsAcceptor::from(Arc::new(config)), authority.pem()))
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, desk: Arc<Desk>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, desk) = (acceptor.clone(), Arc::clone(&desk));
        tokio::spawn(async move {
            let stream = acceptor.accept(stream).await?;
            let service = service_fn(move |request| {
                let desk = Arc::clone(&desk);
                async move { Ok::<_, Infallible>(desk.answer(&request).await) }
            });
            // A client that goes away is nobody's mistake.
            let _gone = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            Ok::<_, io::Error>(())
        });
    }
}

impl Desk {
    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let authorization = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(token) = authorization.and_then(|value| value.strip_prefix("Bearer ")) else {
            return self.challenge();
        };
        let visit = match self.look_at(token).await {
            Ok(token) => Visit { refused: self.refuses(&token), token },
            Err(why) => Visit { refused: Some(why), token: Value::Null },
        };
        let refused = visit.refused;
        self.visits.lock().unwrap_or_else(PoisonError::into_inner).push(visit);
        if refused.is_some() {
            return self.challenge();
        }
        let name = request.uri().path().split('/').nth(2).unwrap_or_default();
        let secret =
            json!({ "id": format!("https://{HOST}/secrets/{name}/1"), "value": format!("{name}-value") });
        answer(StatusCode::OK, &secret)
    }

    /// As Key Vault says where to get a token, and for what.
    fn challenge(&self) -> Response<Full<Bytes>> {
        let (authority, resource) = (&self.authority, self.rules().asks_for);
        let challenge =
            format!("Bearer authorization=\"{authority}/{}\", resource=\"{resource}\"", sample::TENANT);
        let mut response = answer(StatusCode::UNAUTHORIZED, &json!({ "error": { "code": "Unauthorized" } }));
        if let Ok(challenge) = challenge.try_into() {
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    }

    /// The claims of a token whose signature is the authority's.
    async fn look_at(&self, token: &str) -> Result<Value, &'static str> {
        let kid = jsonwebtoken::decode_header(token).ok().and_then(|header| header.kid).ok_or("no JWT")?;
        let keys = self.keys().await.map_err(|_| "the authority's keys are not there")?;
        let key = keys.find(&kid).and_then(|key| DecodingKey::from_jwk(key).ok()).ok_or("unknown key")?;
        let mut validation = Validation::new(Algorithm::RS256);
        // By the test's clock, and with a reason that a test can read: see `refuses`.
        validation.validate_exp = false;
        validation.validate_aud = false;
        let token = jsonwebtoken::decode::<Value>(token, &key, &validation).map_err(|_| "signature")?;
        Ok(token.claims)
    }

    fn refuses(&self, token: &Value) -> Option<&'static str> {
        let time = |name: &str| token[name].as_u64().unwrap_or_default();
        if token["aud"] != sample::KEY_VAULT {
            Some("audience")
        } else if time("exp") <= self.now() {
            Some("expired")
        } else if time("iat") < self.rules().not_before {
            Some("revoked")
        } else {
            None
        }
    }

    async fn keys(&self) -> Result<JwkSet, reqwest::Error> {
        let url = format!("{}/{}/v2.0/.well-known/openid-configuration", self.authority, sample::TENANT);
        let document: Value = self.get(&url).await?;
        self.get(document["jwks_uri"].as_str().unwrap_or_default()).await
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, url: &str) -> Result<T, reqwest::Error> {
        let body = self.http.get(url).send().await?.error_for_status()?.bytes().await?;
        Ok(serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{url} gives something else")))
    }

    fn now(&self) -> u64 {
        self.clock.now().wall().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    pub(crate) fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn answer(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    response
}
