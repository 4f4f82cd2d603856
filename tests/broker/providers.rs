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

fn managed(world: &World, id: ManagedIdentityId) -> ManagedIdentity {
    ManagedIdentity::from_env(id, &imds(world)).unwrap()
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
