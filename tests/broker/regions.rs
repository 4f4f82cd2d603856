//! Endpoints of a region: asked first, for app tokens, and passed over where they cannot be reached.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use entra_broker::{
    Authority, BoxFuture, Broker, ClientAssertion, ClientAuth, ClientCredential, ClientSecret,
    ConfidentialClient, CredentialRequest, CredentialSource, Env, Error, ErrorKind, FetchContext, Subject,
    UserAssertion, emulator::sample,
};

use crate::{
    overheard::{Overheard, Trouble},
    support::*,
};

const GLOBAL: &str = "login.microsoftonline.com";
const REGIONAL: &str = "westeurope.login.microsoft.com";

fn client() -> ConfidentialClient {
    ClientSecret::new(sample::TENANT, sample::SECRET_APP, sample::SECRET).unwrap()
}

fn over(world: &World, wire: &Overheard, client: ConfidentialClient) -> Broker {
    world.builder().transport(wire.clone()).build(client).unwrap()
}

fn in_westeurope(world: &World) -> (Overheard, Broker) {
    let wire = Overheard::new(world);
    let broker = over(world, &wire, client().region("westeurope").unwrap());
    (wire, broker)
}

#[tokio::test]
async fn app_tokens_are_asked_for_in_the_region() {
    let world = World::new().await;
    let (wire, broker) = in_westeurope(&world);
    world.get(broker.get_token(VAULT)).await.unwrap();
    assert_eq!(wire.hosts(), [REGIONAL]);
    let global = over(&world, &wire, client());
    world.get(global.get_token(VAULT)).await.unwrap();
    assert_eq!(wire.hosts(), [GLOBAL]);
}

#[tokio::test]
async fn each_cloud_has_regions_of_its_own_and_a_stand_in_has_none() {
    let world = World::new().await;
    let wire = Overheard::new(&world);
    for (authority, host) in [
        (Authority::public(), "usgovvirginia.login.microsoft.com"),
        (Authority::custom("login.windows.net").unwrap(), "usgovvirginia.login.microsoft.com"),
        (Authority::us_government(), "usgovvirginia.login.microsoftonline.us"),
        (Authority::china(), "usgovvirginia.login.partner.microsoftonline.cn"),
    ] {
        let client = client().authority(authority).region("usgovvirginia").unwrap();
        world.get(over(&world, &wire, client).get_token(VAULT)).await.unwrap();
        assert_eq!(wire.hosts(), [host]);
    }
    let error = world.client().region("westeurope").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("has no regional endpoints"), "{error}");
}

#[tokio::test]
async fn where_the_region_cannot_be_reached_the_global_endpoint_is_asked_in_the_same_call() {
    let world = World::new().await;
    for trouble in [
        Trouble::NoConnection,
        Trouble::NoTls,
        Trouble::Cut,
        Trouble::Silence,
        Trouble::Says(500, ""),
        Trouble::Says(503, "{\"error\":\"temporarily_unavailable\"}"),
        Trouble::Says(200, "<html>Welcome to the hotel's network"),
    ] {
        let (wire, broker) = in_westeurope(&world);
        wire.trouble(REGIONAL, trouble.clone());
        let before = world.clock.now();
        world.get(broker.get_token(VAULT)).await.unwrap();
        assert_eq!(wire.hosts(), [REGIONAL, GLOBAL], "{trouble:?}");
        let most = if matches!(trouble, Trouble::Silence) { secs(10) } else { secs(0) };
        assert_eq!(before.until(world.clock.now()), most, "{trouble:?}: one attempt, and no pause");

        // The next token is asked for in the region again.
        wire.heal();
        world.get(broker.get_token(STORAGE)).await.unwrap();
        assert_eq!(wire.hosts(), [REGIONAL]);
    }
}

#[tokio::test]
async fn where_neither_can_be_reached_it_is_the_global_endpoints_error() {
    let world = World::new().await;
    let (wire, broker) = in_westeurope(&world);
    wire.trouble(REGIONAL, Trouble::NoConnection);
    wire.trouble(GLOBAL, Trouble::Says(503, ""));
    let error = world.get(broker.get_token(VAULT)).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Unavailable, Some(503)));
    assert_eq!(wire.hosts(), [REGIONAL, GLOBAL, GLOBAL, GLOBAL], "its usual three attempts");
    // What is remembered counts for both.
    let held = world.at_once(broker.get_token(VAULT)).unwrap_err();
    assert!(held.held_for().is_some() && wire.take().is_empty());
}

#[tokio::test]
async fn what_the_region_refuses_is_refused() {
    let world = World::new().await;
    let wire = Overheard::new(&world);
    let wrong = ClientSecret::new(sample::TENANT, sample::SECRET_APP, "wrong-secret").unwrap();
    let broker = over(&world, &wire, wrong.region("westeurope").unwrap());
    let error = world.get(broker.get_token(VAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credential);
    assert_eq!(wire.hosts(), [REGIONAL]);

    let (wire, broker) = in_westeurope(&world);
    for (status, body, kind) in [
        (400, r#"{"error":"invalid_request","error_codes":[500011]}"#, ErrorKind::Resource),
        (429, r#"{"error":"temporarily_unavailable","error_codes":[90055]}"#, ErrorKind::Throttled),
    ] {
        wire.trouble(REGIONAL, Trouble::Says(status, body));
        let error = world.get(broker.get_token(STORAGE)).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert_eq!(wire.hosts(), [REGIONAL], "{status}");
        world.pass(secs(400)).await;
    }
}

#[tokio::test]
async fn tokens_of_users_are_asked_for_globally() {
    let world = World::new().await;
    let (wire, broker) = in_westeurope(&world);
    let subject = Subject::OnBehalfOf(UserAssertion::new("an-assertion").unwrap());
    world.get(broker.get_token(&request(VAULT).subject(subject))).await.unwrap_err();
    assert_eq!(wire.hosts(), [GLOBAL]);
}

/// Gives an assertion that says for which audience it was asked.
#[derive(Debug)]
struct Naming;

impl CredentialSource for Naming {
    fn name(&self) -> &'static str {
        "client-assertion"
    }

    fn credential<'a>(
        &'a self,
        _: &'a FetchContext,
        asked: &'a CredentialRequest<'a>,
    ) -> BoxFuture<'a, Result<ClientCredential, Error>> {
        let assertion = format!("for {} at {}", asked.audience(), asked.authority());
        Box::pin(async move { Ok(ClientCredential::Assertion(assertion.into())) })
    }
}

#[tokio::test]
async fn an_assertion_is_for_the_tenants_global_endpoint_wherever_it_is_sent() {
    let world = World::new().await;
    let wire = Overheard::new(&world);
    let auth = ClientAuth::Source(Arc::new(Naming));
    let client = ConfidentialClient::new(sample::TENANT, sample::CERT_APP, auth).unwrap();
    let broker = over(&world, &wire, client.region("westeurope").unwrap());
    wire.trouble(REGIONAL, Trouble::Says(502, ""));
    world.get(broker.get_token(VAULT)).await.unwrap_err();
    let heard = wire.take();
    assert_eq!(heard.iter().map(|heard| heard.host.as_str()).collect::<Vec<_>>(), [REGIONAL, GLOBAL]);
    let audience = format!("https://{GLOBAL}/{}/oauth2/v2.0/token", sample::TENANT);
    for heard in heard {
        assert_eq!(heard.form["client_assertion"], format!("for {audience} at https://{GLOBAL}"));
    }
}

#[tokio::test]
async fn an_assertion_that_the_region_may_have_had_is_not_shown_to_the_global_endpoint() {
    let world = World::new().await;
    let wire = Overheard::new(&world);
    let made = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&made);
    let assertion = ClientAssertion::from_async(move |_| {
        let number = count.fetch_add(1, Ordering::Relaxed);
        async move { Ok(format!("e30.e30.{number}").into()) }
    });
    let client = ConfidentialClient::new(sample::TENANT, sample::CERT_APP, ClientAuth::source(assertion));
    let broker = over(&world, &wire, client.unwrap().region("westeurope").unwrap());
    wire.trouble(REGIONAL, Trouble::Cut);
    world.get(broker.get_token(VAULT)).await.unwrap_err();
    let sent: Vec<_> =
        wire.take().into_iter().map(|heard| (heard.host, heard.form["client_assertion"].clone())).collect();
    assert_eq!(
        sent,
        [(REGIONAL.to_owned(), "e30.e30.0".to_owned()), (GLOBAL.to_owned(), "e30.e30.1".to_owned())]
    );
}

#[tokio::test]
async fn the_region_of_the_environment_is_taken_as_azure_writes_it() {
    let world = World::new().await;
    let wire = Overheard::new(&world);
    for (name, host) in [
        (None, GLOBAL),
        (Some(" "), GLOBAL),
        (Some("westeurope"), REGIONAL),
        (Some("West Europe"), REGIONAL),
        (Some(" West Europe\n"), REGIONAL),
    ] {
        let env = name.map_or_else(Env::empty, |name| Env::empty().set("REGION_NAME", name));
        let broker = over(&world, &wire, client().region_from_env(&env).unwrap());
        world.get(broker.get_token(VAULT)).await.unwrap();
        assert_eq!(wire.hosts(), [host], "{name:?}");
    }
}

#[test]
fn what_is_no_region_is_refused_with_a_reason() {
    let long = "a".repeat(64);
    for bad in [
        "",
        " ",
        "westeurope.evil.test",
        "evil.test/",
        "a@b",
        "-a",
        "a-",
        "1a",
        "West",
        "é",
        "a\n",
        "a b",
        &long,
    ] {
        let error = client().region(bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{bad:?}");
        assert!(error.to_string().starts_with("region: expected the name of a region"), "{error}");
    }
    let env = Env::empty().set("REGION_NAME", "evil.test/x");
    let error = client().region_from_env(&env).unwrap_err();
    assert!(error.to_string().starts_with("environment variable REGION_NAME: region: expected"), "{error}");
    client().region(&"a".repeat(63)).unwrap();
}

#[test]
fn another_authority_takes_the_region_away_that_was_chosen_for_the_first() {
    let chosen = client().region("westeurope").unwrap();
    assert!(format!("{chosen:?}").contains(REGIONAL));
    assert!(!format!("{:?}", chosen.authority(Authority::china())).contains("westeurope"));
}
