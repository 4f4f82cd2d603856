//! The providers over real sockets: who asks, for whom, and by which way.

use entra_broker::{
    Authority, Broker, ClientSecret, Env, ErrorKind, HttpTransport, ManagedIdentity, ManagedIdentityId,
    StaticToken, Subject, UserAssertion,
    emulator::{Emulator, sample},
};

use crate::support::*;

#[tokio::test]
async fn a_client_secret_gets_a_token_over_tls_of_a_private_ca() {
    let world = World::on_sockets_with(Emulator::builder().tls()).await;
    let emulator = &world.emulator;
    let authority = Authority::custom(emulator.authority()).unwrap();
    let client = || {
        ClientSecret::new(sample::TENANT, sample::SECRET_APP, sample::SECRET)
            .unwrap()
            .authority(authority.clone())
    };

    let stranger = Broker::builder().env(Env::empty()).build(client()).unwrap();
    let error = world.see(stranger.get_token(VAULT).await).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.advice().contains("root_certificate"), "{}", error.advice());
    assert_eq!(emulator.journal().len(), 0, "nothing was sent to a server that was not trusted");

    let ca = emulator.ca_pem().unwrap().as_bytes().to_vec();
    let broker = Broker::builder().env(Env::empty()).root_certificates_pem(ca).build(client()).unwrap();
    let token = world.see(broker.get_token(VAULT).await).unwrap();
    assert!(token.expires_on() > token.refresh_on());
    let entry = &emulator.journal().entries()[0];
    assert_eq!(entry.path, format!("/{}/oauth2/v2.0/token", sample::TENANT));
    assert_eq!(entry.grant_type.as_deref(), Some("client_credentials"));
    assert!(entry.header("user-agent").unwrap().starts_with("entra-broker/"));
    assert!(entry.header("client-request-id").is_some());
}

#[tokio::test]
async fn one_transport_serves_many_brokers() {
    let world = World::on_sockets().await;
    let transport = HttpTransport::builder().env(&Env::empty()).unwrap().build().unwrap();
    let secret = Broker::builder().transport(transport.clone()).build(world.client()).unwrap();
    let identity =
        Broker::builder().transport(transport).build(managed(&world, ManagedIdentityId::system())).unwrap();
    world.see(secret.get_token(VAULT).await).unwrap();
    world.see(identity.get_token(VAULT).await).unwrap();
    assert_eq!(world.requests(), 2);
}

fn imds(world: &World) -> Env {
    Env::empty().set("AZURE_POD_IDENTITY_AUTHORITY_HOST", world.emulator.identity_endpoint())
}

fn app_service(world: &World) -> Env {
    let endpoint = format!("{}/msi/token", world.emulator.identity_endpoint());
    Env::empty().set("IDENTITY_ENDPOINT", endpoint).set("IDENTITY_HEADER", sample::APP_SERVICE_HEADER)
}

fn managed(world: &World, id: ManagedIdentityId) -> ManagedIdentity {
    ManagedIdentity::from_env(id, &imds(world)).unwrap()
}

fn ids() -> [(ManagedIdentityId, &'static str); 4] {
    [
        (ManagedIdentityId::system(), sample::SYSTEM_IDENTITY),
        (ManagedIdentityId::client_id(sample::USER_IDENTITY).unwrap(), sample::USER_IDENTITY),
        (ManagedIdentityId::object_id(sample::USER_IDENTITY_OBJECT_ID).unwrap(), sample::USER_IDENTITY),
        (ManagedIdentityId::resource_id(sample::USER_IDENTITY_RESOURCE_ID).unwrap(), sample::USER_IDENTITY),
    ]
}

/// The claims of a token, unchecked: the emulator made it.
fn claims(token: &str) -> serde_json::Value {
    use base64::Engine as _;
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[tokio::test]
async fn a_managed_identity_is_system_or_user_assigned_on_imds_and_app_service() {
    let world = World::on_sockets().await;
    for env in [imds(&world), app_service(&world)] {
        for (id, who) in ids() {
            let provider = ManagedIdentity::from_env(id, &env).unwrap();
            // A proxy that nobody listens on: it must not be asked.
            let proxy =
                Env::empty().set("HTTPS_PROXY", "http://127.0.0.1:9").set("HTTP_PROXY", "http://127.0.0.1:9");
            let broker =
                Broker::builder().env(proxy.set("ALL_PROXY", "http://127.0.0.1:9")).build(provider).unwrap();
            let token = world.see(broker.get_token(VAULT).await).unwrap();
            let claims = claims(token.secret());
            let app = claims["appid"].as_str().or_else(|| claims["azp"].as_str());
            assert_eq!(app, Some(who));
        }
    }
}

#[tokio::test]
async fn an_identity_that_is_not_assigned_is_a_matter_of_configuration() {
    let world = World::new().await;
    let nobody = || ManagedIdentityId::client_id("bbbbbbbb-0000-0000-0000-00000000ffff").unwrap();
    for env in [imds(&world), app_service(&world)] {
        let broker = world.builder().build(ManagedIdentity::from_env(nobody(), &env).unwrap()).unwrap();
        let error = world.get(broker.get_token(VAULT)).await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Config, Some(400)), "{error}");
        assert!(!error.advice().is_empty());
    }
}

#[tokio::test]
async fn imds_that_is_updated_for_seventy_seconds_is_waited_for() {
    let world = World::new().await;
    let broker = world.builder().build(managed(&world, ManagedIdentityId::system())).unwrap();
    let fault = world
        .emulator
        .faults()
        .add(entra_broker::emulator::Fault::on(entra_broker::emulator::Endpoint::Identity).status(410));
    let options = entra_broker::CallOptions::new().timeout(secs(100));
    let call = tokio::spawn({
        let broker = broker.clone();
        async move { broker.get_token_with(VAULT, &options).await }
    });
    world.pass(secs(70)).await;
    world.emulator.faults().remove(fault);
    let before = world.clock.now();
    world.see(world.run(secs(20), call).await.unwrap()).unwrap();
    assert!(before.until(world.clock.now()) <= secs(16));
}

#[tokio::test]
async fn where_nothing_answers_as_imds_nobody_waits_for_the_whole_budget() {
    let world = World::new().await;
    let broker = world.builder().build(managed(&world, ManagedIdentityId::system())).unwrap();
    world
        .emulator
        .faults()
        .add(entra_broker::emulator::Fault::on(entra_broker::emulator::Endpoint::Identity).refuse());
    let before = world.clock.now();
    let error = world.get(broker.get_token(VAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(before.until(world.clock.now()) <= secs(3));
}

#[tokio::test]
async fn a_provider_that_can_do_app_tokens_only_refuses_any_other_grant() {
    let world = World::new().await;
    let user = request(VAULT).subject(Subject::OnBehalfOf(UserAssertion::new("an-assertion").unwrap()));
    let brokers = [
        world.builder().build(managed(&world, ManagedIdentityId::system())).unwrap(),
        world.builder().build(StaticToken::new("static").unwrap()).unwrap(),
        world
            .builder()
            .build(entra_broker::FnProvider::new(|_, _| Box::pin(std::future::pending())))
            .unwrap(),
    ];
    for broker in brokers {
        let error = world.get(broker.get_token(&user)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains("for the application only"), "{error}");
    }
    assert_eq!(world.requests(), 0);
}

#[tokio::test]
async fn a_confidential_client_sends_the_users_assertion_when_it_asks_on_behalf() {
    let world = World::new().await;
    let broker = world.broker();
    let assertion = "an-assertion-of-a-user-that-nobody-may-see";
    world.expect_unsaid(assertion);
    let user = request("https://graph.microsoft.com/User.Read offline_access")
        .subject(Subject::OnBehalfOf(UserAssertion::new(assertion).unwrap()));
    // The emulator does not grant this yet; what was asked is what counts here.
    world.get(broker.get_token(&user)).await.unwrap_err();
    let entry = &world.emulator.journal().entries()[0];
    assert_eq!(entry.grant_type.as_deref(), Some("urn:ietf:params:oauth:grant-type:jwt-bearer"));
    assert_eq!(entry.scope.as_deref(), Some("https://graph.microsoft.com/User.Read offline_access"));
}

#[tokio::test]
async fn clouds_differ_in_where_they_ask() {
    let of = |authority: Authority| authority.origin().to_owned();
    assert_eq!(of(Authority::public()), "https://login.microsoftonline.com");
    assert_eq!(of(Authority::us_government()), "https://login.microsoftonline.us");
    assert_eq!(of(Authority::china()), "https://login.partner.microsoftonline.cn");
    assert_eq!(of(Authority::custom("https://login.example:8443/").unwrap()), "https://login.example:8443");
}
