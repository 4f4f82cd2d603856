//! Every answer of every platform: what it is called, whose fault it is, what is said about it, and how often it was asked.

use entra_broker::{
    Blame, ErrorKind,
    emulator::{Endpoint, Fault},
};
use serde_json::json;

use super::*;

/// What an answer comes to.
#[derive(Clone, Copy)]
struct Row {
    kind: ErrorKind,
    blame: Blame,
    /// A part of the message.
    says: &'static str,
    /// A part of the advice.
    advises: &'static str,
    /// How many requests it took: at IMDS, at Azure Arc, at the others.
    requests: (usize, usize, usize),
}

fn row(
    (kind, blame): (ErrorKind, Blame),
    says: &'static str,
    advises: &'static str,
    requests: (usize, usize, usize),
) -> Row {
    Row { kind, blame, says, advises, requests }
}

const DOWN: (ErrorKind, Blame) = (ErrorKind::Unavailable, Blame::Service);
const ASTRAY: (ErrorKind, Blame) = (ErrorKind::Unavailable, Blame::Network);
const NONSENSE: (ErrorKind, Blame) = (ErrorKind::Protocol, Blame::Service);

/// IMDS is asked for as long as the budget lasts, which is nine times; the others four times.
const AGAIN: (usize, usize, usize) = (9, 4, 4);
const ONCE: (usize, usize, usize) = (1, 1, 1);
/// What is wrong with a token shows after Azure Arc's challenge.
const AFTER_CHALLENGE: (usize, usize, usize) = (1, 2, 1);

fn fault() -> Fault {
    Fault::on(Endpoint::Identity)
}

/// What each platform answers alike, whatever is asked.
fn rows() -> Vec<(&'static str, Fault, Row)> {
    let html = "<html><body>Welcome to the hotel's network</body></html>";
    let merged = |members| fault().merge(members);
    vec![
        ("400", fault().status(400), row(NONSENSE, "not understood: status 400", "endpoint", ONCE)),
        (
            "404",
            fault().status(404),
            row(DOWN, "not available at the moment: status 404", "try again", AGAIN),
        ),
        ("410", fault().status(410), row(DOWN, "status 410", "try again", (9, 1, 1))),
        ("500", fault().status(500), row(DOWN, "status 500", "try again", AGAIN)),
        ("502", fault().status(502), row(DOWN, "status 502", "try again", (9, 1, 1))),
        ("503", fault().status(503), row(DOWN, "status 503", "try again", AGAIN)),
        ("403", fault().status(403), row(ASTRAY, "refused with status 403", "may", ONCE)),
        (
            "429 for long",
            fault().status(429).retry_after(secs(3600)),
            row((ErrorKind::Throttled, Blame::Service), "slow down", "Wait for as long", ONCE),
        ),
        (
            "429 for a moment",
            fault().status(429).retry_after(secs(1)),
            row((ErrorKind::Throttled, Blame::Service), "slow down", "Wait for as long", AGAIN),
        ),
        ("redirect", fault().redirect("https://evil.example/"), row(NONSENSE, "redirect", "captive", ONCE)),
        ("304", fault().status(304).body("text/plain", ""), row(NONSENSE, "304", "proxy", ONCE)),
        ("HTML", fault().body("text/html", html), row(NONSENSE, "holds no token", "proxy", ONCE)),
        ("HTML 502", fault().status(502).body("text/html", html), row(DOWN, "502", "try again", (9, 1, 1))),
        ("nothing", fault().body("application/json", ""), row(NONSENSE, "holds no token", "proxy", ONCE)),
        ("null", fault().body("application/json", "null"), row(NONSENSE, "holds no token", "proxy", ONCE)),
        ("a list", fault().body("application/json", "[1]"), row(NONSENSE, "holds no token", "proxy", ONCE)),
        ("2 MiB", fault().huge(2 << 20), row(NONSENSE, "is too large", "", ONCE)),
        (
            "no token",
            merged(json!({"access_token": null})),
            row(NONSENSE, "no access token", "", AFTER_CHALLENGE),
        ),
        (
            "empty token",
            merged(json!({"access_token": ""})),
            row(NONSENSE, "no access token", "", AFTER_CHALLENGE),
        ),
        (
            "no lifetime",
            merged(json!({"expires_on": null, "expires_in": null})),
            row(NONSENSE, "unknown lifetime", "", AFTER_CHALLENGE),
        ),
        (
            "over",
            merged(json!({"expires_on": 1_500_000_000, "expires_in": 0})),
            row(NONSENSE, "already expired", "clock", AFTER_CHALLENGE),
        ),
        (
            "pop",
            merged(json!({"token_type": "pop"})),
            row(NONSENSE, "not a bearer token", "", AFTER_CHALLENGE),
        ),
        ("cut", fault().cut(), row(ASTRAY, "lost the connection", "", (3, 4, 4))),
        ("refused", fault().refuse(), row(ASTRAY, "could not connect", "", (0, 0, 0))),
    ]
}

/// The result on a platform, and how many requests arrived for it.
async fn ask(place: &Place, platform: &str, scope: &str) -> (Result<AccessToken, Error>, usize) {
    let (broker, before) = (place.broker(platform), place.world.requests());
    let ended = if platform == "imds" {
        // It is waited for, for up to 16 s at a time.
        let options = CallOptions::new().timeout(secs(100));
        place.world.get(broker.get_token_with(scope, &options)).await
    } else {
        place.get(&broker, scope).await
    };
    (ended, place.world.requests() - before)
}

#[tokio::test]
async fn each_answer_is_called_what_it_is_on_each_platform() {
    let place = Place::new().await;
    for (name, fault, row) in rows() {
        for platform in PLATFORMS {
            let id = place.emulator().faults().add(fault.clone());
            let (ended, requests) = ask(&place, platform, VAULT).await;
            place.emulator().faults().remove(id);
            let error = ended.unwrap_err();
            let told = format!("{platform}, {name}: {error} ({})", error.advice());
            assert_eq!((error.kind(), error.blame()), (row.kind, row.blame), "{told}");
            assert!(error.to_string().contains(row.says) && error.advice().contains(row.advises), "{told}");
            assert!(!format!("{error:?}").contains("hotel"), "{told}");
            let expected = match platform {
                "imds" => row.requests.0,
                "azure-arc" => row.requests.1,
                _ => row.requests.2,
            };
            assert_eq!(requests, expected, "{told}");
        }
    }
}

#[tokio::test]
async fn a_refusal_that_is_no_challenge_is_a_refusal() {
    let place = Place::new().await;
    place.emulator().faults().add(fault().status(401));
    for platform in PLATFORMS {
        let (ended, requests) = ask(&place, platform, VAULT).await;
        let error = ended.unwrap_err();
        let (side, says) = match platform {
            "azure-arc" => (NONSENSE, "named no key file"),
            _ => (ASTRAY, "refused with status 401"),
        };
        assert_eq!((error.kind(), error.blame(), requests), (side.0, side.1, 1), "{platform}: {error}");
        assert!(error.to_string().contains(says) && !error.advice().is_empty(), "{platform}: {error}");
    }
}

#[tokio::test]
async fn what_never_answers_is_a_time_out() {
    let place = Place::new().await;
    place.emulator().faults().add(fault().hang());
    for platform in PLATFORMS {
        let options = CallOptions::new().timeout(secs(100));
        let broker = place.broker(platform);
        let error = place.world.get(broker.get_token_with(VAULT, &options)).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.blame()),
            (ErrorKind::Timeout, Blame::Network),
            "{platform}: {error}"
        );
        assert!(error.to_string().contains("no answer from 127.0.0.1"), "{platform}: {error}");
    }
}

#[tokio::test]
async fn a_token_is_one_whatever_is_said_of_its_bytes() {
    let place = Place::new().await;
    let body = r#"{"access_token":"a-token-in-plain-text-of-no-one","expires_on":"3600"}"#;
    for body in [body.to_owned(), format!("\u{feff}{body}\r\n")] {
        place.emulator().faults().clear();
        place.emulator().faults().add(fault().body("text/plain", body));
        for platform in PLATFORMS {
            let token = ask(&place, platform, VAULT).await.0.unwrap();
            assert_eq!(token.secret(), "a-token-in-plain-text-of-no-one", "{platform}");
        }
    }
}

#[tokio::test]
async fn a_resource_that_does_not_exist_is_the_resources() {
    let place = Place::new().await;
    for platform in PLATFORMS {
        let (ended, _) = ask(&place, platform, "https://unknown.test/.default").await;
        let error = ended.unwrap_err();
        // Service Fabric says no more of it than that something went wrong.
        let kind = if platform == "service-fabric" { ErrorKind::Unavailable } else { ErrorKind::Resource };
        assert_eq!(error.kind(), kind, "{platform}: {error}");
    }
}

#[tokio::test]
async fn a_machine_without_an_identity_says_so_and_what_to_do() {
    let place = Place::new().await;
    for client_id in [sample::SYSTEM_IDENTITY, sample::USER_IDENTITY] {
        place.emulator().directory().remove_identity(client_id);
    }
    for platform in PLATFORMS {
        let error = ask(&place, platform, VAULT).await.0.unwrap_err();
        assert_eq!((error.kind(), error.blame()), (ErrorKind::Config, Blame::Configuration), "{platform}");
        assert!(error.to_string().contains("no identity of its own"), "{platform}: {error}");
        assert!(!error.advice().is_empty());
    }
}

#[tokio::test]
async fn several_identities_of_which_none_is_named_are_told_apart_from_none() {
    let place = Place::new().await;
    let directory = place.emulator().directory();
    directory.remove_identity(sample::SYSTEM_IDENTITY);
    directory.add_identity(emulator::ManagedIdentity::user(
        "bbbbbbbb-0000-0000-0000-000000000007",
        sample::TENANT,
    ));
    for platform in PLATFORMS {
        let error = ask(&place, platform, VAULT).await.0.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{platform}: {error}");
        assert!(error.to_string().contains("several identities"), "{platform}: {error}");
    }
}

#[tokio::test]
async fn an_identity_that_is_not_assigned_is_a_matter_of_configuration() {
    let place = Place::new().await;
    let nobody = || ManagedIdentityId::client_id("bbbbbbbb-0000-0000-0000-00000000ffff").unwrap();
    for platform in ["imds", "app-service", "azure-ml"] {
        let broker = place.world.builder().build(place.identity(platform, nobody()).unwrap()).unwrap();
        let error = place.world.get(broker.get_token(VAULT)).await.unwrap_err();
        assert_eq!((error.kind(), error.status()), (ErrorKind::Config, Some(400)), "{platform}: {error}");
        assert!(error.to_string().contains("ffff") && !error.advice().is_empty(), "{platform}: {error}");
    }
}

#[tokio::test]
async fn a_token_of_another_identity_than_the_one_that_was_named_is_not_taken() {
    let place = Place::new().await;
    let other = "bbbbbbbb-0000-0000-0000-00000000ffff";
    let members = json!({"client_id": other, "object_id": other, "msi_res_id": "/subscriptions/another"});
    place.emulator().faults().add(fault().merge(members));
    for platform in PLATFORMS {
        for (id, _) in ids() {
            let (system, Ok(identity)) = (id.is_system(), place.identity(platform, id)) else { continue };
            let broker = place.world.builder().build(identity).unwrap();
            let ended = place.get(&broker, VAULT).await;
            // Which one the system's own is, only the platform knows.
            assert_eq!(ended.is_ok(), system, "{platform}");
            if let Err(error) = ended {
                assert_eq!((error.kind(), error.blame()), NONSENSE, "{platform}: {error}");
                assert!(error.to_string().contains(other), "{platform}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn a_secret_of_the_platform_that_does_not_fit_is_named() {
    let place = Place::new().await;
    place.emulator().directory().set_app_service_header("another");
    for (platform, kind, variable) in [
        ("app-service", ErrorKind::Unavailable, "IDENTITY_HEADER"),
        ("azure-ml", ErrorKind::Unavailable, "MSI_SECRET"),
        // It looks for the application that the secret stands for.
        ("service-fabric", ErrorKind::Config, "IDENTITY_HEADER"),
    ] {
        let error = ask(&place, platform, VAULT).await.0.unwrap_err();
        assert_eq!(error.kind(), kind, "{platform}: {error}");
        assert!(error.advice().contains(variable), "{platform}: {}", error.advice());
    }
}
