//! A workload whose platform puts a token of its own into a file, and replaces it as Kubernetes does.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use entra_broker::{
    BoxFuture, Broker, ClientAuth, ConfidentialClient, Env, ErrorKind, Pool, Transport, TransportError,
    WorkloadIdentity,
    emulator::{FederatedCredential, Issuer, sample},
};

use crate::{scratch::*, support::*};

const CLUSTER: &str = "https://oidc.cluster.test/1/";
const SUBJECT: &str = "system:serviceaccount:shop:orders";
const EXCHANGE: &str = "api://AzureADTokenExchange";

/// A world whose app trusts a cluster, and the volume of a pod in it.
struct Pod {
    world: World,
    volume: Scratch,
}

impl Pod {
    async fn new() -> Self {
        let world = World::new().await;
        world.emulator.directory().add_issuer(Issuer::new(CLUSTER));
        let credential = FederatedCredential::new(CLUSTER, SUBJECT);
        assert!(world.emulator.directory().add_federated(sample::CERT_APP, credential));
        let volume = Scratch::new();
        symlink("..data/token", volume.join("token")).unwrap();
        Self { world, volume }
    }

    async fn token(&self) -> String {
        let token = self.world.emulator.federated_token(CLUSTER, SUBJECT, EXCHANGE).await.unwrap();
        self.world.expect_unsaid(&token);
        token
    }

    /// As the kubelet does it: a new directory, and the link to it turned around in one step.
    fn mount(&self, version: &str, text: impl AsRef<[u8]>) {
        mount(self.volume.path(), version, text);
    }

    fn source(&self) -> WorkloadIdentity {
        WorkloadIdentity::new(self.volume.join("token"))
    }

    fn client(&self) -> ConfidentialClient {
        ConfidentialClient::new(sample::TENANT, sample::CERT_APP, ClientAuth::source(self.source()))
            .unwrap()
            .authority(self.world.authority())
    }

    fn broker(&self) -> Broker {
        self.world.builder().build(self.client()).unwrap()
    }
}

fn mount(volume: &Path, version: &str, text: impl AsRef<[u8]>) {
    fs::create_dir(volume.join(version)).unwrap();
    fs::write(volume.join(version).join("token"), text).unwrap();
    symlink(version, volume.join("..next")).unwrap();
    fs::rename(volume.join("..next"), volume.join("..data")).unwrap();
}

#[tokio::test]
async fn the_file_is_read_again_for_every_exchange() {
    let pod = Pod::new().await;
    pod.mount("..1", pod.token().await);
    let broker = pod.broker();
    let first = ask(&pod.world, &broker).await.unwrap();

    // What was mounted first has expired by now, and so has the access token.
    pod.world.time.advance(secs(3 * 3600));
    pod.mount("..2", pod.token().await);
    fs::remove_dir_all(pod.volume.join("..1")).unwrap();
    let second = ask(&pod.world, &broker).await.unwrap();
    assert_ne!(first.secret(), second.secret());
    assert_eq!((pod.world.requests(), refusals(&pod.world)), (2, 0));
}

#[tokio::test]
async fn what_editors_and_shells_put_around_a_token_is_left_out() {
    let pod = Pod::new().await;
    let broker = pod.broker();
    let token = pod.token().await;
    for (version, text) in [("..1", format!("{token}\n")), ("..2", format!("\u{feff}{token}\r\n"))] {
        pod.mount(version, text);
        ask_anew(&pod.world, &broker).await.unwrap();
    }
    assert_eq!(refusals(&pod.world), 0);
}

#[tokio::test]
async fn a_file_that_is_lost_does_not_lose_a_good_token() {
    let pod = Pod::new().await;
    pod.mount("..1", pod.token().await);
    let broker = pod.broker();
    let first = ask(&pod.world, &broker).await.unwrap();
    fs::rename(pod.volume.join("..data"), pod.volume.join("away")).unwrap();

    let due = first.refresh_on().duration_since(pod.world.clock.now().wall()).unwrap();
    pass_in_use(&pod.world, &broker, due + secs(60)).await;
    let failures = broker.metrics().failures;
    assert!(failures >= 1, "a refresh was tried");
    assert_eq!(pod.world.at_once(broker.get_token(VAULT)).unwrap().secret(), first.secret());
    assert_eq!(pod.world.requests(), 1, "nothing was sent without an assertion");

    fs::rename(pod.volume.join("away"), pod.volume.join("..data")).unwrap();
    pod.mount("..2", pod.token().await);
    pass_in_use(&pod.world, &broker, secs(300)).await;
    assert_ne!(pod.world.at_once(broker.get_token(VAULT)).unwrap().secret(), first.secret());
    assert_eq!(pod.world.requests(), 2);
}

#[tokio::test]
async fn a_file_that_is_no_token_is_told_and_nothing_is_sent() {
    let pod = Pod::new().await;
    let path = pod.volume.join("token");
    let broker = pod.broker();
    let mut told = Vec::new();
    let error = ask(&pod.world, &broker).await.unwrap_err();
    told.push((error, "does not exist"));
    pod.world.expect_unsaid("hunter2");
    for (version, text, why) in [
        ("..1", &b""[..], "is empty"),
        ("..2", b"\xef\xbb\xbf\n", "is empty"),
        ("..3", b"hunter2\xff", "is not UTF-8 text"),
        ("..4", b"hunter2.\nhunter2", "no JWT has"),
        ("..5", &[b'a'; 64 * 1024 + 1], "is larger than 65536 bytes"),
    ] {
        pod.mount(version, text);
        told.push((ask_anew(&pod.world, &pod.broker()).await.unwrap_err(), why));
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    told.push((ask_anew(&pod.world, &pod.broker()).await.unwrap_err(), "is a directory"));
    fs::remove_dir(&path).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    told.push((ask_anew(&pod.world, &pod.broker()).await.unwrap_err(), "is a device or a pipe"));
    for (error, why) in told {
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(why) && !error.advice().is_empty(), "{why}: {error}");
        assert!(error.to_string().contains("federated token file"), "{error}");
    }
    assert_eq!(pod.world.requests(), 0);
}

/// Does something as the first request goes out.
struct Meanwhile {
    inner: InMemory,
    then: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meanwhile")
    }
}

impl Transport for Meanwhile {
    fn send<'a>(
        &'a self,
        pool: Pool,
        request: http::Request<Bytes>,
        limit: usize,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, TransportError>> {
        if let Some(then) = self.then.lock().unwrap().take() {
            then();
        }
        self.inner.send(pool, request, limit)
    }
}

#[tokio::test]
async fn an_assertion_that_expired_is_read_again_at_once_and_once() {
    let pod = Pod::new().await;
    pod.mount("..1", pod.token().await);
    pod.world.time.advance(secs(2 * 3600));

    // The file is as it was: there is nothing else to try.
    let error = ask(&pod.world, &pod.broker()).await.unwrap_err();
    assert_eq!((error.kind(), error.aadsts()), (ErrorKind::Credential, &[700_024][..]), "{error}");
    assert_eq!(pod.world.requests(), 1);

    // It is replaced while the old one is on its way.
    let (volume, fresh) = (pod.volume.path().to_owned(), pod.token().await);
    let then: Box<dyn FnOnce() + Send> = Box::new(move || mount(&volume, "..2", fresh));
    let transport = Arc::new(Meanwhile { inner: pod.world.transport(), then: Mutex::new(Some(then)) });
    let broker = pod.world.builder().transport(transport).build(pod.client()).unwrap();
    ask(&pod.world, &broker).await.unwrap();
    assert_eq!((pod.world.requests(), refusals(&pod.world)), (3, 2));
    assert_eq!(broker.metrics().fetches, 1, "within one fetch");
}

#[tokio::test]
async fn a_replacement_that_is_no_better_is_tried_once() {
    let pod = Pod::new().await;
    let (one, other) = (pod.token().await, pod.token().await);
    assert_ne!(one, other);
    pod.mount("..1", one);
    pod.world.time.advance(secs(2 * 3600));
    let volume = pod.volume.path().to_owned();
    let then: Box<dyn FnOnce() + Send> = Box::new(move || mount(&volume, "..2", other));
    let transport = Arc::new(Meanwhile { inner: pod.world.transport(), then: Mutex::new(Some(then)) });
    let broker = pod.world.builder().transport(transport).build(pod.client()).unwrap();
    let error = ask(&pod.world, &broker).await.unwrap_err();
    assert_eq!(error.aadsts(), [700_024]);
    assert_eq!(pod.world.requests(), 2);
}

#[tokio::test]
async fn the_webhooks_variables_are_enough() {
    let pod = Pod::new().await;
    pod.mount("..1", pod.token().await);
    let env = Env::empty()
        .set("AZURE_TENANT_ID", sample::TENANT)
        .set("AZURE_CLIENT_ID", sample::CERT_APP)
        .set("AZURE_FEDERATED_TOKEN_FILE", pod.volume.join("token"));
    let client = WorkloadIdentity::from_env(&env).unwrap().authority(pod.world.authority());
    let broker = pod.world.builder().build(client).unwrap();
    ask(&pod.world, &broker).await.unwrap();
    assert_eq!(pod.world.emulator.journal().entries()[0].client_id.as_deref(), Some(sample::CERT_APP));
}
