//! What blocks does so where it stalls no other task: files are read, and assertions signed, off the async threads.

use std::{future::Future, sync::mpsc};

use entra_broker::{
    Broker, ClientAuth, ConfidentialClient, SecretFile, WorkloadIdentity,
    emulator::{FederatedCredential, Issuer, sample},
};

use crate::{scratch::*, support::*};

const CLUSTER: &str = "https://oidc.cluster.test/1/";
const EXCHANGE: &str = "api://AzureADTokenExchange";

/// Turns of the runtime, far more than a request without anything that blocks needs.
const TURNS: usize = 2000;

/// A runtime with one thread for what blocks, and that one can be kept busy.
fn run(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().max_blocking_threads(1).build().unwrap().block_on(test);
}

/// How many requests arrive while the thread for what blocks is busy. Once it is free the call succeeds.
async fn requests_meanwhile(world: &World, broker: &Broker) -> usize {
    let (free, busy) = mpsc::channel::<()>();
    let waits = tokio::task::spawn_blocking(move || busy.recv().is_ok());
    let call = tokio::spawn({
        let broker = broker.clone();
        async move { broker.get_token(VAULT).await }
    });
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
    let requests = world.requests();
    drop(free);
    waits.await.unwrap();
    until(|| call.is_finished()).await;
    world.see(call.await.unwrap()).unwrap();
    assert_eq!(world.requests(), 1);
    requests
}

fn client(world: &World, app: &str, auth: ClientAuth) -> Broker {
    let client = ConfidentialClient::new(sample::TENANT, app, auth).unwrap();
    world.builder().build(client.authority(world.authority())).unwrap()
}

#[test]
fn what_is_at_hand_needs_no_other_thread() {
    run(async {
        let world = World::new().await;
        assert_eq!(
            requests_meanwhile(&world, &world.broker()).await,
            1,
            "otherwise the others prove nothing"
        );
    });
}

#[test]
fn a_secrets_file_is_read_off_the_async_threads() {
    run(async {
        let (world, dir) = (World::new().await, Scratch::new());
        let file = SecretFile::new(dir.write("secret", sample::SECRET));
        let broker = client(&world, sample::SECRET_APP, ClientAuth::source(file));
        assert_eq!(requests_meanwhile(&world, &broker).await, 0);
    });
}

#[test]
fn a_workloads_token_file_is_read_off_the_async_threads() {
    run(async {
        let (world, dir) = (World::new().await, Scratch::new());
        let directory = world.emulator.directory();
        directory.add_issuer(Issuer::new(CLUSTER));
        assert!(directory.add_federated(sample::CERT_APP, FederatedCredential::new(CLUSTER, "orders")));
        let token = world.emulator.federated_token(CLUSTER, "orders", EXCHANGE).await.unwrap();
        let file = WorkloadIdentity::new(dir.write("token", token));
        let broker = client(&world, sample::CERT_APP, ClientAuth::source(file));
        assert_eq!(requests_meanwhile(&world, &broker).await, 0);
    });
}

#[cfg(feature = "certificate")]
#[test]
fn a_certificates_file_is_looked_at_and_an_assertion_signed_off_the_async_threads() {
    use crate::certificate_material::{both, key, registered, self_signed};
    run(async {
        let (world, dir) = (World::new().await, Scratch::new());
        let own = self_signed(key(0));
        assert!(world.emulator.directory().add_certificate(sample::CERT_APP, registered(&own)));
        let path = dir.write("app.pem", both(key(0), &own));
        let certificate = entra_broker::Certificate::from_file(path, None).unwrap();
        let broker = client(&world, sample::CERT_APP, ClientAuth::source(certificate));
        assert_eq!(requests_meanwhile(&world, &broker).await, 0);
    });
}
