//! Answers that lie: each gives the right token, or one clear error that keeps the status.

use std::time::Duration;

use entra_broker::{
    Broker, Env, ErrorKind, ManagedIdentity, ManagedIdentityId,
    emulator::{Endpoint, Fault, sample},
};
use serde_json::{Value, json};

use crate::support::*;

fn fault() -> Fault {
    Fault::on(Endpoint::TokenService)
}

fn json_body(value: &Value) -> Fault {
    fault().body("application/json", value.to_string())
}

/// What comes of one answer, without a socket: kind, status and text of the error.
async fn error_of(fault: Fault) -> (ErrorKind, Option<u16>, String) {
    let world = World::new().await;
    let broker = world.broker();
    world.emulator.faults().add(fault);
    let error = world.get(broker.get_token(VAULT)).await.unwrap_err();
    (error.kind(), error.status(), error.to_string())
}

#[tokio::test]
async fn a_200_that_is_no_token_is_a_protocol_error_that_keeps_the_status() {
    let nested = "[".repeat(100_000);
    for lie in [
        json_body(&json!({})),
        json_body(&json!([])),
        json_body(&json!({ "access_token": null, "expires_in": 3599 })),
        json_body(&json!({ "access_token": "", "expires_in": 3599 })),
        json_body(&json!({ "access_token": 42, "expires_in": 3599 })),
        json_body(&json!({ "access_token": "a\r\nX-Evil: 1", "expires_in": 3599 })),
        json_body(&json!({ "access_token": "t", "token_type": "mac", "expires_in": 3599 })),
        fault().body("text/html", "<html>Sign in to the hotel's Wi-Fi</html>"),
        fault().body("application/json", ""),
        fault().body("application/json", nested),
        fault().body("application/json", "{\"access_token\":\"t\",\"expires_in\":3599"),
        fault().body("application/json", &b"\xff\xfe\x00"[..]),
    ] {
        let told = format!("{lie:?}");
        let (kind, status, text) = error_of(lie).await;
        assert_eq!((kind, status), (ErrorKind::Protocol, Some(200)), "{told}: {text}");
        assert!(text.contains("the token service answered 200"), "{text}");
        assert!(!text.contains("Wi-Fi") && !text.contains("Evil"), "{text}");
    }
}

#[tokio::test]
async fn a_200_with_an_error_member_is_that_error() {
    let body = json!({
        "error": "invalid_client", "error_codes": ["7000215"], "access_token": "t", "expires_in": 3599,
        "error_description": "AADSTS7000215: \u{201c}Invalid\u{201d} \"secret\"\r\nTrace ID: x",
    });
    let (kind, status, _) = error_of(json_body(&body)).await;
    assert_eq!((kind, status), (ErrorKind::Credential, Some(200)));
}

#[tokio::test]
async fn codes_are_found_wherever_they_stand() {
    let world = World::new().await;
    for body in [
        r#"{"error":"invalid_client","error_codes":["7000222"]}"#,
        r#"{"error":"invalid_client","error_codes":[7000222],"error_description":"\u0041ADSTS1: \ud83d\ude00"}"#,
        r#"{"error":"invalid_client","error_description":"AADSTS7000222: The \"keys\" are expired.\r\nTrace ID: 1"}"#,
        r#"{"error":"invalid_client","error_codes":7000222}"#,
    ] {
        let broker = world.broker();
        world.emulator.faults().clear();
        world.emulator.faults().add(fault().body("application/json", body).status(401));
        let error = world.get(broker.get_token(VAULT)).await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Credential, Some(401)), "{body}");
        assert_eq!(
            (error.aadsts(), error.oauth_error()),
            (&[7_000_222][..], Some("invalid_client")),
            "{body}"
        );
        assert!(error.to_string().contains("expired"), "{error}");
    }
}

/// How long the token lives that comes with these members in place of the usual ones; none where it is an error.
async fn lives(members: Value) -> Option<u64> {
    let world = World::new().await;
    let broker = world.broker();
    world.emulator.faults().add(fault().merge(members.clone()));
    match world.get(broker.get_token(VAULT)).await {
        Ok(token) => Some(token.expires_on().duration_since(start()).unwrap().as_secs()),
        Err(error) => {
            assert_eq!(
                (error.kind(), error.status()),
                (ErrorKind::Protocol, Some(200)),
                "{members}: {error}"
            );
            None
        }
    }
}

#[tokio::test]
async fn a_lifetime_is_understood_in_every_form_or_refused() {
    let longest = Some(28 * 3600);
    let rows = [
        (json!(3599), Some(3599)),
        (json!("3599"), Some(3599)),
        (json!(3599.9), Some(3599)),
        (json!("3599.0"), Some(3599)),
        (json!(1), Some(1)),
        (json!(0), None),
        (json!("0"), None),
        (json!(-1), None),
        (json!("-3600"), None),
        (json!(null), None),
        (json!("soon"), None),
        (json!([3599]), None),
        (json!(100_000_000_000_u64), longest),
        (json!(u64::MAX), longest),
        (json!(1e300), longest),
    ];
    for (expires_in, wanted) in rows {
        assert_eq!(lives(json!({ "expires_in": expires_in })).await, wanted, "{expires_in}");
    }
    assert_eq!(lives(json!({ "expires_in": null, "expires_on": 1_800_000_600_u64 })).await, Some(600));
}

#[tokio::test]
async fn a_managed_identitys_expires_on_is_understood_in_every_form() {
    // The world begins at 2027-01-15 08:00:00 UTC.
    let rows = [
        (json!(1_800_003_600_u64), Some(3600)),
        (json!("1800003600"), Some(3600)),
        (json!("2027-01-15T09:00:00Z"), Some(3600)),
        (json!("2027-01-15T10:00:00+01:00"), Some(3600)),
        (json!("01/15/2027 09:00:00 +00:00"), Some(3600)),
        (json!("1/15/2027 9:00:00 AM +00:00"), Some(3600)),
        (json!("1/15/2027 1:00:00 PM +00:00"), Some(5 * 3600)),
        (json!("3600"), Some(3600)),
        (json!(3600), Some(3600)),
        (json!("1799999999"), None),
        (json!("yesterday"), None),
        (json!(null), None),
    ];
    for (expires_on, wanted) in rows {
        let world = World::new().await;
        let broker = world.builder().build(identity(&world)).unwrap();
        let members =
            json!({ "expires_on": expires_on, "expires_in": null, "resource": null, "token_type": null });
        world.emulator.faults().add(Fault::on(Endpoint::Identity).merge(members));
        let lives = match world.get(broker.get_token(VAULT)).await {
            Ok(token) => Some(token.expires_on().duration_since(start()).unwrap().as_secs()),
            Err(error) => {
                assert_eq!((error.kind(), error.status()), (ErrorKind::Protocol, Some(200)), "{expires_on}");
                None
            }
        };
        assert_eq!(lives, wanted, "{expires_on}");
    }
}

#[tokio::test]
async fn a_token_that_the_platform_made_long_ago_ends_when_it_ends() {
    let world = World::new().await;
    let broker = world.builder().build(identity(&world)).unwrap();
    // `expires_in` is of the day on which the token was made.
    let members = json!({ "expires_in": "86399", "expires_on": "1800000600" });
    world.emulator.faults().add(Fault::on(Endpoint::Identity).merge(members));
    let token = world.get(broker.get_token(VAULT)).await.unwrap();
    assert_eq!(token.expires_on().duration_since(start()).unwrap(), secs(600));
}

fn identity(world: &World) -> ManagedIdentity {
    let env = Env::empty().set("AZURE_POD_IDENTITY_AUTHORITY_HOST", world.emulator.identity_endpoint());
    ManagedIdentity::from_env(ManagedIdentityId::system(), &env).unwrap()
}

#[tokio::test]
async fn a_gateways_page_is_the_service_being_away() {
    let page = || fault().body("text/html", "<html>Bad gateway, secret inside</html>");
    for (status, kind) in
        [(502, ErrorKind::Unavailable), (503, ErrorKind::Unavailable), (504, ErrorKind::Unavailable)]
    {
        let (told, kept, text) = error_of(page().status(status)).await;
        assert_eq!((told, kept), (kind, Some(status)), "{text}");
        assert!(!text.contains("inside"), "{text}");
    }
}

#[tokio::test]
async fn a_body_that_drips_ends_with_the_attempt() {
    let world = World::new().await;
    let broker = world.broker();
    world.emulator.faults().add(fault().drip(1, secs(1)));
    let options = entra_broker::CallOptions::new().timeout(secs(100));
    let before = world.clock.now();
    let error = world.get(broker.get_token_with(VAULT, &options)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    let took = before.until(world.clock.now());
    assert!(took >= secs(30) && took <= secs(33), "three attempts of 10 s each, not {took:?}");
}

#[tokio::test]
async fn a_body_of_100_mb_is_left_at_the_limit() {
    let (kind, _, text) = error_of(fault().huge(100_000_000)).await;
    assert_eq!(kind, ErrorKind::Protocol, "{text}");
}

/// Over a real socket, with the transport that everyone gets.
async fn over_the_wire(fault: Fault) -> (World, entra_broker::Error) {
    let world = World::on_sockets().await;
    let broker =
        Broker::builder().clock(world.clock.clone()).env(Env::empty()).build(world.client()).unwrap();
    world.emulator.faults().add(fault);
    let error = world.get_over_the_wire(async move { broker.get_token(VAULT).await }).await.unwrap_err();
    (world, error)
}

#[tokio::test]
async fn a_redirect_is_never_followed_since_the_secret_would_go_along() {
    let elsewhere = World::on_sockets().await;
    let target = format!("{}/{}/oauth2/v2.0/token", elsewhere.emulator.authority(), sample::TENANT);
    let (_world, error) = over_the_wire(fault().redirect(target)).await;
    assert_eq!((error.kind(), error.status()), (ErrorKind::Protocol, Some(307)), "{error}");
    assert!(error.to_string().contains("redirect"), "{error}");
    assert_eq!(elsewhere.requests(), 0);
}

#[tokio::test]
async fn a_body_of_100_mb_over_the_wire_is_left_at_the_limit() {
    let (_world, error) = over_the_wire(fault().huge(100_000_000)).await;
    assert_eq!((error.kind(), error.blame()), (ErrorKind::Protocol, entra_broker::Blame::Service), "{error}");
    assert_eq!(error.status(), Some(200), "{error}");
    assert!(error.to_string().contains("1 MiB") || error.to_string().contains("1048576"), "{error}");
}

#[tokio::test]
async fn a_gateways_page_over_the_wire_keeps_its_status() {
    let (world, error) = over_the_wire(fault().body("text/html", "<h1>502</h1>").status(502)).await;
    assert_eq!((error.kind(), error.status()), (ErrorKind::Unavailable, Some(502)), "{error}");
    assert_eq!(world.requests(), 3);
}

#[tokio::test]
async fn a_connection_that_is_cut_is_the_networks_fault() {
    for (fault, status) in [(fault().cut(), None), (fault().cut_body(10), Some(200))] {
        let (world, error) = over_the_wire(fault).await;
        assert_eq!(error.status(), status, "{error}");
        assert_eq!(
            (error.kind(), error.blame()),
            (ErrorKind::Unavailable, entra_broker::Blame::Network),
            "{error}"
        );
        assert_eq!(world.requests(), 3);
    }
}

#[tokio::test]
async fn a_header_that_says_the_token_is_for_someone_else_changes_nothing() {
    let world = World::new().await;
    let broker = world.broker();
    world.emulator.faults().add(fault().header("content-type", "text/plain; charset=utf-16"));
    world.get(broker.get_token(VAULT)).await.unwrap();
}

#[tokio::test]
async fn a_refresh_in_that_makes_no_sense_is_ignored() {
    let world = World::new().await;
    for (refresh_in, wanted) in [(json!(600), 600), (json!("600"), 600)] {
        let broker = world.broker();
        world.emulator.faults().clear();
        world.emulator.faults().add(fault().merge(json!({ "refresh_in": refresh_in })));
        let token = world.get(broker.get_token(VAULT)).await.unwrap();
        assert_eq!(token.refresh_on(), start() + secs(wanted));
    }
    for nonsense in [json!(-5), json!("x"), json!(99_999), json!({}), json!(3599)] {
        let broker = world.broker();
        world.emulator.faults().clear();
        world.emulator.faults().add(fault().merge(json!({ "refresh_in": nonsense })));
        let token = world.get(broker.get_token(VAULT)).await.unwrap();
        let due = token.refresh_on().duration_since(start()).unwrap();
        assert!(due > Duration::from_secs(2_000) && due < Duration::from_secs(2_400), "{nonsense}: {due:?}");
    }
}
