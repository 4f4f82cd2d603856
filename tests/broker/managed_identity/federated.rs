//! A managed identity's token as the credential of an application.

use entra_broker::{
    Broker, ConfidentialClient, ErrorKind, FederatedManagedIdentity, Provider as _,
    emulator::{Endpoint, Fault, FederatedCredential},
};

use super::*;

/// Its own tenant's, or a customer's.
fn client(place: &Place, platform: &str, tenant: &str) -> ConfidentialClient {
    let identity =
        place.identity(platform, ManagedIdentityId::client_id(sample::USER_IDENTITY).unwrap()).unwrap();
    let client = FederatedManagedIdentity::client(tenant, sample::SECRET_APP, identity).unwrap();
    client.authority(place.world.authority())
}

fn trust(place: &Place) {
    let credential = FederatedCredential::managed_identity(sample::TENANT, sample::USER_IDENTITY_OBJECT_ID);
    assert!(place.emulator().directory().add_federated(sample::SECRET_APP, credential));
}

fn broker(place: &Place, platform: &str, tenant: &str) -> Broker {
    place.world.builder().build(client(place, platform, tenant)).unwrap()
}

/// The endpoints that were asked, in their order.
fn asked(place: &Place) -> Vec<Endpoint> {
    place.emulator().journal().entries().iter().map(|entry| entry.endpoint).collect()
}

#[tokio::test]
async fn an_identity_stands_in_for_a_secret_in_the_apps_tenant_and_in_a_customers() {
    let place = Place::new().await;
    trust(&place);
    for platform in ["imds", "app-service", "azure-ml"] {
        for tenant in [sample::TENANT, sample::OTHER_TENANT] {
            place.emulator().journal().clear();
            let broker = broker(&place, platform, tenant);
            let token = place.world.get(broker.get_token(VAULT)).await.unwrap();
            let claims = claims(token.secret());
            assert_eq!((claims["tid"].as_str(), who(&token).as_str()), (Some(tenant), sample::SECRET_APP));
            assert_eq!(claims["appidacr"], "2", "by an assertion");
            assert_eq!(asked(&place), [Endpoint::Identity, Endpoint::TokenService]);
            let entry = &place.emulator().journal().entries()[0];
            assert_eq!(entry.scope.as_deref(), Some("api://AzureADTokenExchange"));
        }
    }
}

#[tokio::test]
async fn each_fetch_asks_for_the_assertion_anew_and_a_hit_asks_for_nothing() {
    let place = Place::new().await;
    trust(&place);
    let broker = broker(&place, "imds", sample::TENANT);
    for scope in [VAULT, STORAGE, VAULT] {
        place.world.get(broker.get_token(scope)).await.unwrap();
    }
    use Endpoint::{Identity, TokenService};
    assert_eq!(asked(&place), [Identity, TokenService, Identity, TokenService]);
}

#[test]
fn a_system_assigned_identity_is_refused_with_the_reason() {
    let env = Env::empty().set("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1");
    let identity = || ManagedIdentity::from_env(ManagedIdentityId::system(), &env).unwrap();
    for error in [
        FederatedManagedIdentity::new(identity()).unwrap_err(),
        FederatedManagedIdentity::client(sample::TENANT, sample::SECRET_APP, identity()).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("system-assigned") && !error.advice().is_empty(), "{error}");
    }
}

#[tokio::test]
async fn it_has_the_time_that_its_identity_may_take() {
    let place = Place::new().await;
    let client = client(&place, "imds", sample::TENANT);
    assert_eq!((client.name(), client.budget()), ("federated-managed-identity", secs(90)));
    assert_eq!(place.world.client().budget(), secs(60));
}

#[tokio::test]
async fn an_identity_that_is_not_trusted_is_the_credentials_fault_and_asked_for_once() {
    let place = Place::new().await;
    let broker = broker(&place, "imds", sample::TENANT);
    let error = place.world.get(broker.get_token(VAULT)).await.unwrap_err();
    assert_eq!((error.kind(), error.aadsts()), (ErrorKind::Credential, &[70_021][..]), "{error}");
    assert_eq!(asked(&place), [Endpoint::Identity, Endpoint::TokenService]);
}

#[tokio::test]
async fn an_identity_that_cannot_be_asked_is_not_the_token_services_trouble() {
    let place = Place::new().await;
    trust(&place);
    place.emulator().faults().add(Fault::on(Endpoint::Identity).status(403));
    let broker = broker(&place, "imds", sample::TENANT);
    let error = place.world.get(broker.get_token(VAULT)).await.unwrap_err();
    assert!(error.to_string().starts_with("the instance metadata service"), "{error}");
    assert_eq!(asked(&place), [Endpoint::Identity]);
}

#[tokio::test]
async fn an_assertion_that_is_over_is_asked_for_anew_and_sent_only_if_it_is_another() {
    use Endpoint::{Identity, TokenService};
    for (platform, cached, anew) in [
        ("imds", false, true),
        // It gives the one that it has.
        ("imds", true, false),
        // It can be told not to.
        ("app-service", true, true),
    ] {
        let place = Place::new().await;
        trust(&place);
        place.emulator().directory().set_identity_cache(cached);
        place.emulator().faults().add(Fault::on(TokenService).error(700_024).times(1));
        let broker = broker(&place, platform, sample::TENANT);
        let ended = place.world.get(broker.get_token(VAULT)).await;
        assert_eq!(ended.is_ok(), anew, "{platform}");
        if let Err(error) = ended {
            assert_eq!((error.kind(), error.aadsts()), (ErrorKind::Credential, &[700_024][..]));
            assert_eq!(asked(&place), [Identity, TokenService, Identity]);
        } else {
            assert_eq!(asked(&place), [Identity, TokenService, Identity, TokenService]);
        }
    }
}
