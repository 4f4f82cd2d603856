//! Jobs of Azure Pipelines and GitHub Actions: what is asked of the platform, and that its answer gets a token of Entra's.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use entra_broker::{
    Authority, AzurePipelines, BoxFuture, Broker, ClientAuth, ConfidentialClient, Env, ErrorKind,
    GitHubActions, Pool, Transport, TransportError,
    emulator::{Emulator, FederatedCredential, Issuer, sample},
};
use http::{Method, Request, Response};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{scratch::*, support::*};

const PLATFORM: &str = "platform.test";
const SUBJECT: &str = "repo:contoso/orders:ref:refs/heads/main";
const CONNECTION: &str = "11112222-aaaa-2222-bbbb-3333cccc4444";

/// The platform, which answers a status and a token for whatever audience it was asked for, in front of the emulator.
struct Platform {
    inner: InMemory,
    emulator: Emulator,
    status: Mutex<u16>,
    seen: Mutex<Vec<Request<Bytes>>>,
}

impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Platform")
    }
}

impl Platform {
    fn new(world: &World) -> Arc<Self> {
        let issuer = format!("https://{PLATFORM}");
        world.emulator.directory().add_issuer(Issuer::new(&issuer));
        let credential = FederatedCredential::new(&issuer, SUBJECT);
        assert!(world.emulator.directory().add_federated(sample::CERT_APP, credential));
        for secret in ["the-jobs-own-token", "what-the-platform-says"] {
            world.expect_unsaid(secret);
        }
        Arc::new(Self {
            inner: world.transport(),
            emulator: world.emulator.clone(),
            status: Mutex::new(200),
            seen: Mutex::default(),
        })
    }

    fn fails(&self, status: u16) {
        *self.status.lock().unwrap() = status;
    }

    async fn answer(&self, request: Request<Bytes>) -> Response<Bytes> {
        self.seen.lock().unwrap().push(request);
        let status = *self.status.lock().unwrap();
        let body = if status == 200 {
            let issuer = format!("https://{PLATFORM}");
            let token =
                self.emulator.federated_token(&issuer, SUBJECT, "api://AzureADTokenExchange").await.unwrap();
            json!({ "oidcToken": token, "value": token, "count": token.len() })
        } else {
            json!({ "message": "what-the-platform-says" })
        };
        Response::builder()
            .status(status)
            .header("location", "https://evil.test/")
            .body(body.to_string().into())
            .unwrap()
    }
}

impl Transport for Platform {
    fn send<'a>(
        &'a self,
        pool: Pool,
        request: Request<Bytes>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Response<Bytes>, TransportError>> {
        if request.uri().host() == Some(PLATFORM) {
            assert_eq!(pool, Pool::TokenService, "by https, and by the proxy");
            return Box::pin(async { Ok(self.answer(request).await) });
        }
        self.inner.send(pool, request, limit)
    }
}

fn job() -> Env {
    Env::empty()
        .set(
            "SYSTEM_OIDCREQUESTURI",
            format!("https://{PLATFORM}/contoso/p/_apis/hubs/build/plans/1/jobs/2/oidctoken"),
        )
        .set("SYSTEM_ACCESSTOKEN", "the-jobs-own-token")
        .set("AZURESUBSCRIPTION_SERVICE_CONNECTION_ID", CONNECTION)
        .set("AZURESUBSCRIPTION_TENANT_ID", sample::TENANT)
        .set("AZURESUBSCRIPTION_CLIENT_ID", sample::CERT_APP)
        .set("ACTIONS_ID_TOKEN_REQUEST_URL", format!("https://{PLATFORM}/abc/idtoken/1/2?api-version=2.0"))
        .set("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "the-jobs-own-token")
        .set("AZURE_TENANT_ID", sample::TENANT)
        .set("AZURE_CLIENT_ID", sample::CERT_APP)
}

fn broker(world: &World, platform: &Arc<Platform>, client: ConfidentialClient) -> Broker {
    let client = client.authority(world.authority());
    world.builder().transport(Arc::clone(platform)).build(client).unwrap()
}

#[tokio::test]
async fn a_service_connection_gets_a_token() {
    let world = World::new().await;
    let platform = Platform::new(&world);
    let broker = broker(&world, &platform, AzurePipelines::from_env(&job()).unwrap());
    ask(&world, &broker).await.unwrap();
    let entry = &world.emulator.journal().entries()[0];
    assert_eq!((entry.client_id.as_deref(), entry.status), (Some(sample::CERT_APP), Some(200)));

    let seen = platform.seen.lock().unwrap();
    let [request] = &**seen else { panic!("{} requests", seen.len()) };
    assert_eq!(request.method(), Method::POST);
    assert_eq!(
        request.uri().to_string(),
        format!(
            "https://{PLATFORM}/contoso/p/_apis/hubs/build/plans/1/jobs/2/oidctoken?api-version=7.1\
             &serviceConnectionId={CONNECTION}"
        )
    );
    let authorization = &request.headers()["authorization"];
    assert_eq!(authorization, "Bearer the-jobs-own-token");
    assert!(authorization.is_sensitive());
    assert_eq!(request.headers()["x-tfs-fedauthredirect"], "Suppress");
    assert_eq!(request.headers()["content-type"], "application/json");
    assert!(request.body().is_empty());
}

#[tokio::test]
async fn a_job_of_github_gets_a_token() {
    let world = World::new().await;
    let platform = Platform::new(&world);
    let broker = broker(&world, &platform, GitHubActions::from_env(&job()).unwrap());
    ask(&world, &broker).await.unwrap();
    let seen = platform.seen.lock().unwrap();
    let [request] = &**seen else { panic!("{} requests", seen.len()) };
    assert_eq!(request.method(), Method::GET);
    assert_eq!(
        request.uri().to_string(),
        format!(
            "https://{PLATFORM}/abc/idtoken/1/2?api-version=2.0&audience=api%3A%2F%2FAzureADTokenExchange"
        )
    );
    assert_eq!(request.headers()["authorization"], "Bearer the-jobs-own-token");
    assert!(request.headers()["authorization"].is_sensitive());
}

#[tokio::test]
async fn the_audience_is_that_of_the_cloud() {
    let world = World::new().await;
    let platform = Platform::new(&world);
    let auth = ClientAuth::source(GitHubActions::new(&job()).unwrap());
    let client = ConfidentialClient::new(sample::TENANT, sample::CERT_APP, auth).unwrap();
    let client = client.authority(Authority::china());
    let broker = world.builder().transport(Arc::clone(&platform)).build(client).unwrap();
    // The token is not for this audience; what was asked is what counts here.
    let _ = ask(&world, &broker).await;
    let seen = platform.seen.lock().unwrap();
    assert!(seen[0].uri().to_string().ends_with("audience=api%3A%2F%2FAzureADTokenExchangeChina"));
}

#[tokio::test]
async fn a_platform_that_refuses_is_told_and_nothing_is_sent_to_entra() {
    let world = World::new().await;
    let platform = Platform::new(&world);
    for (status, kind) in [
        (203, ErrorKind::Credential),
        (302, ErrorKind::Credential),
        (401, ErrorKind::Credential),
        (403, ErrorKind::Credential),
        (404, ErrorKind::Config),
        (201, ErrorKind::Protocol),
    ] {
        platform.fails(status);
        for client in [AzurePipelines::from_env(&job()).unwrap(), GitHubActions::from_env(&job()).unwrap()] {
            let error = ask(&world, &broker(&world, &platform, client)).await.unwrap_err();
            assert_eq!((error.kind(), error.status()), (kind, Some(status)), "{error}");
            assert!(!error.advice().is_empty());
        }
    }
    assert_eq!(platform.seen.lock().unwrap().len(), 12, "each was asked once, and no redirect was followed");
    assert_eq!(world.requests(), 0);
}

#[tokio::test]
async fn a_platform_that_is_busy_is_asked_again() {
    let world = World::new().await;
    let platform = Platform::new(&world);
    platform.fails(503);
    let broker = broker(&world, &platform, GitHubActions::from_env(&job()).unwrap());
    let error = world.get(broker.get_token(VAULT)).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Unavailable, Some(503)), "{error}");
    assert_eq!(platform.seen.lock().unwrap().len(), 3);
    platform.fails(200);
    world.time.advance(secs(60));
    ask(&world, &broker).await.unwrap();
}

#[tokio::test]
async fn the_request_is_a_whole_one_on_the_wire_and_a_redirect_is_not_followed() {
    let world = World::on_sockets().await;
    world.expect_unsaid("the-jobs-own-token");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(socket.read_u8().await.unwrap());
        }
        let answer =
            format!("HTTP/1.1 302 Found\r\nlocation: http://{address}/_signin\r\ncontent-length: 0\r\n\r\n");
        socket.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8(request).unwrap()
    });
    let env = job().set("SYSTEM_OIDCREQUESTURI", format!("http://{address}/oidctoken"));
    let client = AzurePipelines::from_env(&env).unwrap().authority(world.authority());
    let broker = Broker::builder().env(Env::empty()).build(client).unwrap();
    let error = world.see(broker.get_token(VAULT).await).unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Credential, Some(302)), "{error}");
    let request = server.await.unwrap();
    let mut lines = request.lines();
    let first = format!("POST /oidctoken?api-version=7.1&serviceConnectionId={CONNECTION} HTTP/1.1");
    assert_eq!(lines.next(), Some(&*first));
    assert!(lines.any(|line| line.eq_ignore_ascii_case("content-length: 0")), "{request}");
}
