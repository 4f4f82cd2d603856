//! Credentials that are made, or that change, while the program runs.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use entra_broker::{
    Broker, ClientAssertion, ClientAuth, ConfidentialClient, CredentialSource, Error, ErrorKind,
    RotatingSecret, Secret, SecretFile, TenantId,
    emulator::{FederatedCredential, Issuer, sample},
};

use crate::{scratch::*, support::*};

const VAULTS: &str = "https://vault.test/oidc";
const NEXT: &str = "the~next-secret/=";

fn broker(world: &World, app: &str, source: impl CredentialSource) -> Broker {
    let client = ConfidentialClient::new(sample::TENANT, app, ClientAuth::source(source)).unwrap();
    world.builder().build(client.authority(world.authority())).unwrap()
}

fn trusting(world: &World, subject: &str) {
    world.emulator.directory().add_issuer(Issuer::new(VAULTS));
    let credential = FederatedCredential::new(VAULTS, subject);
    assert!(world.emulator.directory().add_federated(sample::CERT_APP, credential));
}

#[tokio::test]
async fn an_assertions_callback_is_given_tenant_client_and_audiences_at_each_exchange() {
    let world = World::new().await;
    trusting(&world, "orders");
    let asked_for = Arc::new(Mutex::new(Vec::new()));
    let (emulator, seen) = (world.emulator.clone(), Arc::clone(&asked_for));
    let source = ClientAssertion::new(move |_cx, asked| {
        let (emulator, audience) = (emulator.clone(), asked.authority().federation_audience());
        seen.lock().unwrap().push(format!("{} {} {}", asked.tenant(), asked.client_id(), asked.audience()));
        Box::pin(async move {
            let token = emulator.federated_token(VAULTS, "orders", audience).await;
            token
                .map(Secret::new)
                .map_err(|error| Error::new(ErrorKind::Unavailable, "no vault").with_source(error))
        })
    });
    let broker = broker(&world, sample::CERT_APP, source);
    ask(&world, &broker).await.unwrap();
    ask_anew(&world, &broker).await.unwrap();
    let endpoint = world.authority().token_endpoint(&TenantId::parse(sample::TENANT).unwrap());
    let expected = format!("{} {} {endpoint}", sample::TENANT, sample::CERT_APP);
    assert_eq!(*asked_for.lock().unwrap(), [expected.clone(), expected]);
}

#[tokio::test]
async fn a_callback_may_keep_what_it_is_given() {
    let world = World::new().await;
    trusting(&world, "orders");
    let emulator = world.emulator.clone();
    let source = ClientAssertion::from_async(move |asked| {
        let emulator = emulator.clone();
        async move {
            assert_eq!((asked.tenant.as_str(), asked.client_id.as_str()), (sample::TENANT, sample::CERT_APP));
            assert!(asked.audience.ends_with("/oauth2/v2.0/token"));
            Ok(emulator.federated_token(VAULTS, "orders", asked.federation_audience).await.unwrap().into())
        }
    });
    ask(&world, &broker(&world, sample::CERT_APP, source)).await.unwrap();
}

#[tokio::test]
async fn what_a_callback_gives_is_looked_at_before_it_is_sent() {
    let world = World::new().await;
    world.expect_unsaid("hunter2");
    for bad in ["", "hunter2\n", "hünter2 hunter2", "\u{feff}hunter2"] {
        let source = ClientAssertion::from_async(move |_| async move { Ok(Secret::new(bad)) });
        let error = ask(&world, &broker(&world, sample::CERT_APP, source)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(
            error.to_string().starts_with("the callback's assertion") && !error.advice().is_empty(),
            "{error}"
        );
    }
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let source = ClientAssertion::from_async(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        async { Err(Error::new(ErrorKind::Unavailable, "the vault is sealed")) }
    });
    let error = ask(&world, &broker(&world, sample::CERT_APP, source)).await.unwrap_err();
    assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Unavailable, "the vault is sealed"));
    assert_eq!((calls.load(Ordering::SeqCst), world.requests()), (1, 0));
}

/// The app's secret is replaced, and the old one does not work any more.
fn rotate(world: &World) {
    world.expect_unsaid(NEXT);
    let directory = world.emulator.directory();
    assert!(directory.add_secret(sample::SECRET_APP, NEXT));
    assert!(directory.remove_secret(sample::SECRET_APP, sample::SECRET));
}

#[tokio::test]
async fn a_secret_in_a_file_is_replaced_without_a_restart() {
    let world = World::new().await;
    let dir = Scratch::new();
    let path = dir.write("secret", format!("\u{feff}{}\r\n", sample::SECRET));
    let broker = broker(&world, sample::SECRET_APP, SecretFile::new(&path));
    ask(&world, &broker).await.unwrap();

    rotate(&world);
    let error = ask_anew(&world, &broker).await.unwrap_err();
    assert_eq!((error.kind(), error.aadsts()), (ErrorKind::Credential, &[7_000_215][..]), "{error}");
    assert_eq!(world.requests(), 2, "the file was as it had been, and the secret not sent again");

    dir.write("secret", NEXT);
    world.time.advance(secs(120));
    ask_anew(&world, &broker).await.unwrap();
    assert_eq!((world.requests(), refusals(&world)), (3, 1));

    fs::remove_file(&path).unwrap();
    let error = ask_anew(&world, &broker).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(
        error.to_string().starts_with("the client secret's file") && !error.advice().is_empty(),
        "{error}"
    );
    assert!(world.at_once(broker.get_token(VAULT)).is_ok(), "the token is still good");
}

#[tokio::test]
async fn a_secret_that_the_program_replaces_is_used_within_the_fetch_that_was_refused() {
    let world = World::new().await;
    let secret = RotatingSecret::new(sample::SECRET).unwrap();
    let broker = broker(&world, sample::SECRET_APP, secret.clone());
    let first = ask(&world, &broker).await.unwrap();

    // The directory changes first, and the program learns of it while a request is on its way.
    rotate(&world);
    world.emulator.faults().add(
        entra_broker::emulator::Fault::on(entra_broker::emulator::Endpoint::TokenService)
            .delay(secs(1))
            .times(1),
    );
    let options = entra_broker::CallOptions::new().force_refresh();
    let call = tokio::spawn({
        let broker = broker.clone();
        async move { broker.get_token_with(VAULT, &options).await }
    });
    settle().await;
    assert!(!call.is_finished());
    secret.set(NEXT).unwrap();
    let second = world.see(world.run(secs(10), call).await.unwrap()).unwrap();
    assert_ne!(first.secret(), second.secret());
    assert_eq!((world.requests(), refusals(&world)), (3, 1));
    assert_eq!(broker.metrics().fetches, 2, "one of them for both requests");
}

#[tokio::test]
async fn a_secret_that_is_refused_is_not_sent_twice() {
    let world = World::new().await;
    let broker = broker(&world, sample::SECRET_APP, RotatingSecret::new("wrong-secret").unwrap());
    let error = ask(&world, &broker).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credential);
    assert_eq!(world.requests(), 1);
}
