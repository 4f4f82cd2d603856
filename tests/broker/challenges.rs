//! A resource that takes no token without certain claims, and a program that brings them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use entra_broker::{
    BearerChallenge, Broker, CallOptions, Claims, ErrorKind,
    emulator::{Endpoint, Fault, sample},
};
use http::{HeaderMap, Response, StatusCode, header};
use serde_json::{Value, json};

use crate::{overheard::Overheard, support::*};

/// Takes tokens that were made at a certain time or later, for clients that can be told so.
struct Api {
    not_before: u64,
}

impl Api {
    fn answer(&self, headers: &HeaderMap) -> Response<()> {
        let token = headers[header::AUTHORIZATION].to_str().unwrap().strip_prefix("Bearer ").unwrap();
        let claims = claims(token);
        if claims["nbf"].as_u64().unwrap() >= self.not_before {
            return Response::new(());
        }
        let refused = Response::builder().status(StatusCode::UNAUTHORIZED);
        if !claims["xms_cc"].as_array().is_some_and(|capabilities| capabilities.contains(&json!("cp1"))) {
            return refused
                .header(header::WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")
                .body(())
                .unwrap();
        }
        let demanded =
            json!({ "access_token": { "nbf": { "essential": true, "value": self.not_before.to_string() } } });
        let challenge = format!(
            "Bearer realm=\"\", authorization_uri=\"https://login.microsoftonline.com/common/oauth2/authorize\", \
             error=\"insufficient_claims\", claims=\"{}\"",
            STANDARD.encode(demanded.to_string())
        );
        refused
            .header(header::WWW_AUTHENTICATE, "PoP nonce=\"x\"")
            .header(header::WWW_AUTHENTICATE, challenge)
            .body(())
            .unwrap()
    }
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap())
        .unwrap()
}

fn able(world: &World) -> (Overheard, Broker) {
    let wire = Overheard::new(world);
    let client = world.client().capabilities(["cp1"]);
    (wire.clone(), world.builder().transport(wire).build(client).unwrap())
}

/// What was sent as `claims` in the last request.
fn sent(wire: &Overheard) -> Value {
    let heard = wire.take().pop().unwrap();
    heard.form.get("claims").map_or(Value::Null, |claims| serde_json::from_str(claims).unwrap())
}

fn bearing(token: &entra_broker::AccessToken) -> HeaderMap {
    HeaderMap::from_iter([(header::AUTHORIZATION, token.authorization())])
}

#[tokio::test]
async fn a_challenge_of_a_resource_is_met_and_the_second_call_is_taken() {
    let world = World::new().await;
    let (wire, broker) = able(&world);
    let token = world.get(broker.get_token(VAULT)).await.unwrap();
    assert_eq!(claims(token.secret())["xms_cc"], json!(["cp1"]));

    // Somebody revokes what was given so far.
    world.pass(secs(60)).await;
    let api = Api { not_before: 1_800_000_060 };
    let refused = api.answer(&bearing(&token));
    assert_eq!(refused.status(), 401);
    let challenge = BearerChallenge::from_headers(refused.headers()).unwrap().unwrap();
    assert_eq!((challenge.error(), challenge.tenant()), (Some("insufficient_claims"), None));

    let options = CallOptions::new().challenge(challenge.claims().unwrap().clone());
    let new = world.get(broker.get_token_with(VAULT, &options)).await.unwrap();
    assert_eq!(api.answer(&bearing(&new)).status(), 200);
    assert_eq!(
        sent(&wire),
        json!({ "access_token": {
            "nbf": { "essential": true, "value": "1800000060" }, "xms_cc": { "values": ["cp1"] },
        } }),
    );
    // It replaced the other one, for everybody and without a second entry.
    assert!(world.at_once(broker.get_token(VAULT)).unwrap().is_same(&new));
    assert_eq!((world.requests(), broker.metrics().entries), (2, 1));
}

#[tokio::test]
async fn a_client_that_does_not_say_what_it_can_do_is_told_nothing_it_could_use() {
    let world = World::new().await;
    let wire = Overheard::new(&world);
    let broker = world.builder().transport(wire.clone()).build(world.client()).unwrap();
    let token = world.get(broker.get_token(VAULT)).await.unwrap();
    assert_eq!((&claims(token.secret())["xms_cc"], sent(&wire)), (&Value::Null, Value::Null));
    let refused = Api { not_before: 1_900_000_000 }.answer(&bearing(&token));
    assert_eq!(Claims::from_challenge(refused.headers()).unwrap(), None);
}

#[tokio::test]
async fn stable_claims_make_another_entry_and_a_challenge_is_added_to_them() {
    let world = World::new().await;
    let (wire, broker) = able(&world);
    let stable =
        Claims::parse(r#"{"access_token":{"xms_cc":{"values":["cp2"]},"acrs":{"value":"c1"}}}"#).unwrap();
    let with = request(VAULT).claims(stable);
    let plain = world.get(broker.get_token(VAULT)).await.unwrap();
    let own = world.get(broker.get_token(&with)).await.unwrap();
    assert!(!own.is_same(&plain));
    assert_eq!(claims(own.secret())["xms_cc"], json!(["cp1", "cp2"]));

    let challenge = Claims::parse(r#"{"access_token":{"acrs":{"essential":true,"value":"c9"}}}"#).unwrap();
    world.pass(secs(2)).await;
    let options = CallOptions::new().challenge(challenge);
    let new = world.get(broker.get_token_with(&with, &options)).await.unwrap();
    assert_eq!(
        sent(&wire),
        json!({ "access_token": {
            "acrs": { "essential": true, "value": "c9" }, "xms_cc": { "values": ["cp1", "cp2"] },
        } }),
    );
    assert!(world.at_once(broker.get_token(&with)).unwrap().is_same(&new));
    assert!(world.at_once(broker.get_token(VAULT)).unwrap().is_same(&plain), "the other entry is as it was");
    assert_eq!(broker.metrics().entries, 2);
}

#[tokio::test]
async fn a_refresh_asks_for_what_is_stable_and_for_no_challenge_of_the_past() {
    let world = World::new().await;
    let (wire, broker) = able(&world);
    world.get(broker.get_token(VAULT)).await.unwrap();
    let challenge = Claims::parse(r#"{"access_token":{"nbf":{"value":"1800000000"}}}"#).unwrap();
    world.pass(secs(2)).await;
    world.get(broker.get_token_with(VAULT, &CallOptions::new().challenge(challenge))).await.unwrap();
    world.pass(secs(1800)).await;
    world.at_once(broker.get_token(VAULT)).unwrap();
    world.pass(secs(900)).await;
    assert_eq!(world.requests(), 3);
    assert_eq!(sent(&wire), json!({ "access_token": { "xms_cc": { "values": ["cp1"] } } }));
}

#[tokio::test]
async fn a_challenge_that_cannot_be_met_is_an_error_with_the_claims_and_the_cached_token_stays() {
    let world = World::new().await;
    let (_, broker) = able(&world);
    let old = world.get(broker.get_token(VAULT)).await.unwrap();
    let demanded = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;
    let body = json!({ "error": "invalid_grant", "error_codes": [50_076], "claims": demanded }).to_string();
    let fault = Fault::on(Endpoint::TokenService).status(400).body("application/json", body).times(1);
    world.emulator.faults().add(fault);
    let options = CallOptions::new().challenge(Claims::parse(demanded).unwrap());
    let error = world.get(broker.get_token_with(VAULT, &options)).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.aadsts()),
        (ErrorKind::Policy, &[50_076][..]),
        "nobody can sign in for an app"
    );
    assert_eq!(
        error.claims().map(|claims| Claims::parse(claims).unwrap()),
        Some(Claims::parse(demanded).unwrap())
    );
    assert!(world.at_once(broker.get_token(VAULT)).unwrap().is_same(&old));
}

#[tokio::test]
async fn a_hundred_callers_with_one_challenge_ask_once() {
    let world = World::new().await;
    let (_, broker) = able(&world);
    world.get(broker.get_token(VAULT)).await.unwrap();
    world.pass(secs(60)).await;
    let challenge = Claims::parse(r#"{"access_token":{"nbf":{"value":"1800000060"}}}"#).unwrap();
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let (broker, options) = (broker.clone(), CallOptions::new().challenge(challenge.clone()));
            tokio::spawn(async move { broker.get_token_with(VAULT, &options).await })
        })
        .collect();
    settle().await;
    for call in calls {
        let token = world.see(call.await.unwrap()).unwrap();
        assert_eq!(claims(token.secret())["nbf"], 1_800_000_060_u64);
    }
    assert_eq!(world.requests(), 2);
    assert_eq!(world.emulator.journal().entries()[0].client_id.as_deref(), Some(sample::SECRET_APP));
}
