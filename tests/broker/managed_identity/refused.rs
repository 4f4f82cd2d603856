//! A token that a resource refused: two platforms can be told not to give it again.

use entra_broker::{Claims, ErrorKind};

use super::*;

const CAN_BE_TOLD: [&str; 2] = ["app-service", "service-fabric"];

async fn cached() -> Place {
    let place = Place::new().await;
    // As the platforms do: the same token until shortly before its end.
    place.emulator().directory().set_identity_cache(true);
    place
}

#[tokio::test]
async fn a_platform_that_can_be_told_which_token_was_refused_gives_another() {
    let place = cached().await;
    for platform in PLATFORMS {
        let broker = place.broker(platform);
        let refused = place.get(&broker, VAULT).await.unwrap();
        assert!(broker.invalidate(&refused));
        let next = place.get(&broker, VAULT).await;
        match next {
            Ok(token) => {
                assert!(CAN_BE_TOLD.contains(&platform), "{platform}");
                assert_ne!(token.secret(), refused.secret());
            }
            Err(error) => {
                assert!(!CAN_BE_TOLD.contains(&platform), "{platform}: {error}");
                assert_eq!(error.kind(), ErrorKind::TokenRefused);
            }
        }
    }
}

#[tokio::test]
async fn a_call_that_does_not_want_the_cached_token_does_not_want_the_platforms_cached_one() {
    let place = cached().await;
    let claims = Claims::parse(r#"{"access_token":{"nbf":{"essential":true,"value":"1"}}}"#).unwrap();
    for platform in PLATFORMS {
        let broker = place.broker(platform);
        let mut before = place.get(&broker, VAULT).await.unwrap();
        for unwanted in [CallOptions::new().force_refresh(), CallOptions::new().challenge(claims.clone())] {
            place.world.pass(secs(2)).await;
            match place.get_with(&broker, VAULT, unwanted).await {
                Ok(token) => {
                    assert!(CAN_BE_TOLD.contains(&platform), "{platform}");
                    assert_ne!(token.secret(), before.secret());
                    before = token;
                }
                Err(error) => {
                    assert!(!CAN_BE_TOLD.contains(&platform), "{platform}: {error}");
                    assert_eq!(error.kind(), ErrorKind::TokenRefused);
                }
            }
        }
    }
}
