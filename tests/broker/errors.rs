//! An error says what happened, whose side it is on, and what to do.

use entra_broker::{
    Blame, Broker, ErrorKind, TenantId,
    emulator::{Endpoint, Fault, sample},
};

use crate::support::*;

#[tokio::test]
async fn an_expired_secret_says_so_of_which_app_in_which_tenant_and_where_to_renew_it() {
    let world = World::new().await;
    let broker = world.builder().build(world.client_with(sample::EXPIRED_SECRET)).unwrap();
    let error = world.get(broker.get_token(VAULT)).await.unwrap_err();
    assert_eq!((error.kind(), error.blame()), (ErrorKind::Credential, Blame::Configuration));
    let text = error.to_string();
    for part in ["secret", "expired", sample::SECRET_APP, sample::TENANT] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    assert!(error.advice().contains("Certificates & secrets"), "{}", error.advice());
    assert_eq!(
        (error.status(), error.oauth_error(), error.aadsts()),
        (Some(401), Some("invalid_client"), &[7_000_222][..])
    );
    assert!(error.correlation_id().is_some() && error.trace_id().is_some());
}

#[tokio::test]
async fn the_ids_of_an_error_are_those_that_the_service_saw() {
    let world = World::new().await;
    let broker = world.builder().build(world.client_with("wrong-secret")).unwrap();
    let error = world.get(broker.get_token(VAULT)).await.unwrap_err();
    let entry = &world.emulator.journal().entries()[0];
    assert_eq!(error.correlation_id(), entry.header("client-request-id"));
}

#[tokio::test]
async fn a_missing_service_principal_is_never_called_a_wrong_secret() {
    for code in [7_000_229, 700_016] {
        let world = World::new().await;
        let broker = world.builder().allow_all_tenants().build(world.client()).unwrap();
        world.emulator.faults().add(Fault::on(Endpoint::TokenService).error(code));
        let foreign = request(VAULT).tenant(TenantId::parse(sample::CUSTOMER_WITHOUT_CONSENT).unwrap());
        let error = world.get(broker.get_token(&foreign)).await.unwrap_err();
        assert_eq!((error.kind(), error.blame()), (ErrorKind::Tenant, Blame::Tenant), "{code}");
        assert!(!error.to_string().contains("secret") && !error.advice().contains("secret"), "{error}");
        assert!(error.to_string().contains(sample::CUSTOMER_WITHOUT_CONSENT), "{error}");
        assert!(error.advice().contains("/adminconsent?client_id="), "{}", error.advice());
    }
    // And the directory itself, without a fault.
    let world = World::new().await;
    let broker = world.builder().allow_all_tenants().build(world.client()).unwrap();
    let foreign = request(VAULT).tenant(TenantId::parse(sample::CUSTOMER_WITHOUT_CONSENT).unwrap());
    assert_eq!(world.get(broker.get_token(&foreign)).await.unwrap_err().kind(), ErrorKind::Tenant);
}

#[tokio::test]
async fn every_failure_of_the_service_has_a_kind_a_side_and_advice() {
    let rows = [
        (7_000_215, ErrorKind::Credential, Blame::Configuration),
        (7_000_222, ErrorKind::Credential, Blame::Configuration),
        (7_000_229, ErrorKind::Tenant, Blame::Tenant),
        (700_016, ErrorKind::Tenant, Blame::Tenant),
        (7_000_112, ErrorKind::Policy, Blame::Tenant),
        (90_002, ErrorKind::Tenant, Blame::Configuration),
        (500_011, ErrorKind::Resource, Blame::Configuration),
        (65_001, ErrorKind::ConsentRequired, Blame::Tenant),
    ];
    for (code, kind, blame) in rows {
        let world = World::new().await;
        let broker = world.broker();
        world.emulator.faults().add(Fault::on(Endpoint::TokenService).error(code));
        let error = world.get(broker.get_token(VAULT)).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.blame(), error.aadsts()),
            (kind, blame, &[code][..]),
            "{code}: {error}"
        );
        assert!(error.advice().ends_with('.') && error.advice().len() > 20, "{code}: {}", error.advice());
        let text = error.to_string();
        assert!(!text.ends_with('.') && !text.starts_with(char::is_uppercase), "{code}: {text}");
    }
}

#[tokio::test]
async fn nothing_that_listens_is_the_networks_fault() {
    let world = World::new().await;
    // A port that was free a moment ago, and that nobody listens on.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let authority =
        entra_broker::Authority::dangerous().allow_plain_http(&format!("http://{address}")).unwrap();
    let broker =
        Broker::builder().clock(world.clock.clone()).build(world.client().authority(authority)).unwrap();
    let error = world.get_over_the_wire(async move { broker.get_token(VAULT).await }).await.unwrap_err();
    assert_eq!((error.kind(), error.blame()), (ErrorKind::Unavailable, Blame::Network), "{error}");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}
