//! Each platform over real sockets, and what only a wire can do.

use entra_broker::{
    Broker, CallOptions, ErrorKind, ManagedIdentity, ManagedIdentityId,
    emulator::{Endpoint, ExpiresOn, Fault, sample},
};

use super::*;

/// A proxy that nobody listens on: it must not be asked.
fn behind_a_proxy() -> entra_broker::Builder {
    let names = ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"];
    Broker::builder().env(names.into_iter().map(|name| (name, "http://127.0.0.1:9")).collect())
}

#[tokio::test]
async fn each_platform_gives_the_token_of_the_identity_that_was_asked_for() {
    let place = Place::on_sockets(|builder| builder).await;
    for platform in PLATFORMS {
        let mut taken = 0;
        for (id, expected) in ids() {
            let Ok(identity) = place.identity(platform, id) else { continue };
            taken += 1;
            let broker = behind_a_proxy().build(identity).unwrap();
            let token = place.world.see(broker.get_token(VAULT).await).unwrap();
            assert_eq!(who(&token), expected, "{platform}");
        }
        let expected = match platform {
            "imds" | "app-service" => 4,
            "azure-ml" => 2,
            _ => 1,
        };
        assert_eq!(taken, expected, "{platform}");
    }
    // A challenge is two requests.
    assert_eq!(place.world.requests(), 4 + 4 + 2 + 1 + 2 + 1);
}

#[tokio::test]
async fn service_fabric_is_known_by_its_certificate_and_by_no_other() {
    let place = Place::on_sockets(|builder| builder).await;
    let system = ManagedIdentityId::system;
    let thumbprint = place.emulator().identity_tls_thumbprint().unwrap().to_owned();
    let colons: Vec<&str> = (0..20).map(|at| &thumbprint[2 * at..2 * at + 2]).collect();
    let with = |thumbprint: String| {
        let env = place.env("service-fabric").set("IDENTITY_SERVER_THUMBPRINT", thumbprint);
        behind_a_proxy().build(ManagedIdentity::from_env(system(), &env).unwrap()).unwrap()
    };
    for spelled in [thumbprint.to_lowercase(), colons.join(":")] {
        place.world.see(with(spelled).get_token(VAULT).await).unwrap();
    }
    assert_eq!(place.world.requests(), 2);
    let mut other = thumbprint;
    other.replace_range(..1, if other.starts_with('0') { "1" } else { "0" });
    let error = place.world.see(with(other).get_token(VAULT).await).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("thumbprint"), "{error}");
    assert_eq!(place.world.requests(), 2, "it was sent nothing");
}

#[tokio::test]
async fn a_key_file_that_lies_elsewhere_than_it_should_is_not_shown() {
    let place = Place::on_sockets(|builder| builder).await;
    let identity = ManagedIdentity::from_env(ManagedIdentityId::system(), &place.env("azure-arc")).unwrap();
    let broker = behind_a_proxy().build(identity).unwrap();
    let error = place.world.see(broker.get_token(VAULT).await).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("/var/opt/azcmagent/tokens"), "{error}");
    assert_eq!(place.world.requests(), 1);
}

#[tokio::test]
async fn a_lifetime_is_read_in_every_spelling() {
    let place = Place::new().await;
    for platform in PLATFORMS {
        for spelling in [
            None,
            Some(ExpiresOn::Text),
            Some(ExpiresOn::Number),
            Some(ExpiresOn::Iso8601),
            Some(ExpiresOn::Linux),
            Some(ExpiresOn::Windows),
        ] {
            place.emulator().directory().set_expires_on(spelling);
            let token = place.get(&place.broker(platform), VAULT).await.unwrap();
            let lives = token.expires_on().duration_since(place.world.clock.now().wall()).unwrap();
            assert!(lives <= secs(3599) && lives >= secs(3590), "{platform} {spelling:?}: {lives:?}");
        }
    }
}

#[tokio::test]
async fn imds_that_is_updated_for_seventy_seconds_is_waited_for() {
    let place = Place::new().await;
    let broker = place.broker("imds");
    let fault = place.emulator().faults().add(Fault::on(Endpoint::Identity).status(410));
    let options = CallOptions::new().timeout(secs(100));
    let call = tokio::spawn({
        let broker = broker.clone();
        async move { broker.get_token_with(VAULT, &options).await }
    });
    place.world.pass(secs(70)).await;
    place.emulator().faults().remove(fault);
    let before = place.world.clock.now();
    place.world.see(place.world.run(secs(20), call).await.unwrap()).unwrap();
    assert!(before.until(place.world.clock.now()) <= secs(16));
}

#[tokio::test]
async fn where_nothing_answers_as_imds_nobody_waits_for_the_whole_budget() {
    let place = Place::new().await;
    place.emulator().faults().add(Fault::on(Endpoint::Identity).refuse());
    let before = place.world.clock.now();
    let error = place.world.get(place.broker("imds").get_token(VAULT)).await.unwrap_err();
    // Somebody said that this is a managed identity: it is trouble, and tried again soon.
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.advice().contains("another provider, or a chain"), "{}", error.advice());
    assert!(before.until(place.world.clock.now()) <= secs(3));
}

#[tokio::test]
async fn one_identity_stands_for_the_systems_own_and_is_told_apart_by_its_id() {
    let place = Place::new().await;
    place.emulator().directory().remove_identity(sample::SYSTEM_IDENTITY);
    for platform in PLATFORMS {
        let token = place.get(&place.broker(platform), VAULT).await.unwrap();
        assert_eq!(who(&token), sample::USER_IDENTITY, "{platform}");
    }
}
