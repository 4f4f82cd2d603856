//! Tokens that were not made by the issuer, or not for this API, or that two readers would read differently.

use entra_broker::TrustedIssuer;
use proptest::prelude::*;
use serde_json::json;

use super::{check, forge::*, refused};
use crate::support::*;

#[tokio::test]
async fn what_the_issuer_signs_is_taken_with_each_algorithm_of_its_keys() {
    let world = World::new().await;
    let (published, validator) = ours(&world.clock);
    let text = claims().to_string();
    for token in [
        token(claims()),
        sign_with(r#"{"alg":"PS256","kid":"rsa"}"#, &text, ps256),
        sign_with(r#"{"alg":"ES256","kid":"ec","x5t":"not looked at"}"#, &text, es256),
        token(but(json!({ "aud": ["api://other", AUDIENCE], "exp": (NOW + 1) as f64 + 0.5 }))),
        token(but(json!({ "nbf": null, "iat": null, "scp": "a b", "roles": null }))),
        token(but(
            json!({ "azp": null, "appid": "a-client", "iss": format!("https://sts.windows.net/{TENANT}/") }),
        )),
    ] {
        let caller = check(&world, &validator, &token).await.unwrap();
        assert_eq!((caller.audience(), caller.client_id()), (AUDIENCE, Some("a-client")));
    }
    assert_eq!(published.asked(), 1);
}

#[tokio::test]
async fn a_signature_that_is_none_or_anothers_is_refused() {
    let world = World::new().await;
    let (published, validator) = ours(&world.clock);
    let text = claims().to_string();
    let header = |alg: &str, kid: &str| json!({ "alg": alg, "kid": kid }).to_string();
    let modulus = rsa().public_key().modulus().big_endian_without_leading_zero().to_vec();
    use aws_lc_rs::{encoding::AsDer as _, signature::KeyPair as _};
    let der: aws_lc_rs::encoding::PublicKeyX509Der<'_> = rsa().public_key().as_der().unwrap();
    let der = der.as_ref().to_vec();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        base64::engine::Engine::encode(&base64::engine::general_purpose::STANDARD, &der)
    );
    let good = token(&text);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let flipped =
        format!("{signed}.{}{}", if signature.starts_with('A') { "B" } else { "A" }, &signature[1..]);
    let other_claims =
        sign_with(super::forge::header("rsa"), but(json!({ "roles": ["Admin"] })).to_string(), |_| {
            Vec::new()
        });
    let moved = format!("{}{signature}", other_claims);
    for (token, why) in [
        (sign_with(header("none", "rsa"), &text, |_| Vec::new()), "it is signed by \"none\""),
        (sign_with(header("None", "rsa"), &text, |_| Vec::new()), "it is signed by \"None\""),
        (sign_with(r#"{"kid":"rsa"}"#, &text, rs256(rsa())), "it is signed by \"\""),
        // The public key as a shared secret, in each of its spellings.
        (sign_with(header("HS256", "rsa"), &text, hs256(modulus)), "it is signed by \"HS256\""),
        (sign_with(header("HS256", "rsa"), &text, hs256(der)), "it is signed by \"HS256\""),
        (sign_with(header("HS256", "rsa"), &text, hs256(pem.into_bytes())), "it is signed by \"HS256\""),
        (sign_with(header("HS256", "ec"), &text, hs256(Vec::new())), "it is signed by \"HS256\""),
        // The right key for another algorithm, and the other way round.
        (sign_with(header("ES256", "rsa"), &text, es256), "its key \"rsa\" is not for ES256"),
        (sign_with(header("RS256", "ec"), &text, rs256(rsa())), "its key \"ec\" is not for RS256"),
        (sign_with(header("ES384", "ec"), &text, es256), "its key \"ec\" is not for ES384"),
        (sign_with(header("PS256", "rsa"), &text, rs256(rsa())), "its signature is not that of key"),
        (sign_with(header("RS512", "rsa"), &text, rs256(rsa())), "its signature is not that of key"),
        (sign_with(header("RS256", "rsa"), &text, rs256(foreign())), "its signature is not that of key"),
        (sign_with(header("RS256", "rsa"), &text, |_| Vec::new()), "its signature is not that of key"),
        (sign_with(header("ES256", "ec"), &text, |_| vec![0; 64]), "its signature is not that of key"),
        (flipped, "its signature is not that of key"),
        (moved, "its signature is not that of key"),
        (sign_with(r#"{"alg":"RS256"}"#, &text, rs256(rsa())), "its header names no key"),
        (
            sign_with(header("RS256", "foreign"), &text, rs256(foreign())),
            "a key that its issuer does not publish: \"foreign\"",
        ),
    ] {
        let said = refused(&world, &validator, &token).await;
        assert!(said.contains(why), "{said}, and not {why}");
    }
    assert_eq!(published.asked(), 1, "what is known to be unknown is not looked for again");
}

#[tokio::test]
async fn a_key_that_comes_with_the_token_is_never_used() {
    let world = World::new().await;
    let (published, validator) = ours(&world.clock);
    let text = claims().to_string();
    for (name, value) in [
        ("jwk", rsa_jwk(foreign(), "rsa")),
        ("jku", json!("https://evil.test/keys")),
        ("x5u", json!("https://evil.test/chain")),
        ("x5c", json!(["MIIB"])),
        ("jwk", json!(null)),
    ] {
        for (kid, key) in [("rsa", rsa()), ("mine", foreign())] {
            let header = json!({ "alg": "RS256", "kid": kid, name: value }).to_string();
            let said = refused(&world, &validator, &sign_with(header, &text, rs256(key))).await;
            assert_eq!(said, "its header brings a key of its own", "{name}");
        }
    }
    for header in [
        r#"{"alg":"RS256","kid":"rsa","crit":["exp"]}"#,
        r#"{"crit":[],"alg":"RS256","kid":"rsa","b64":false}"#,
    ] {
        let said = refused(&world, &validator, &sign_with(header, &text, rs256(rsa()))).await;
        assert_eq!(said, "its header has critical extensions");
    }
    assert_eq!(published.asked(), 0);
}

#[tokio::test]
async fn claims_that_are_missing_wrong_or_there_twice_are_refused_though_they_are_signed() {
    let world = World::new().await;
    let (_, validator) = ours(&world.clock);
    let other = "22222222-3333-4444-5555-666666666666";
    let v2 = |tenant: &str| format!("https://login.microsoftonline.com/{tenant}/v2.0");
    for (changes, why) in [
        (json!({ "exp": null }), "it does not say when it expires"),
        (json!({ "exp": NOW - 300 }), "it expired 300 s ago"),
        (json!({ "exp": 0 }), "it expired"),
        (json!({ "nbf": NOW + 301 }), "it is not valid before 301 s from now"),
        (json!({ "exp": (NOW + 3600).to_string() }), "its claims are not"),
        (json!({ "exp": -1 }), "its claims are not"),
        (json!({ "exp": 1e300 }), "its claims are not"),
        (json!({ "nbf": {} }), "its claims are not"),
        (json!({ "aud": null }), "its audience is \"\", expected api://orders"),
        (json!({ "aud": [] }), "its audience is \"\""),
        (json!({ "aud": "api://orders/" }), "its audience is \"api://orders/\""),
        (json!({ "aud": "API://orders" }), "its audience is"),
        (json!({ "aud": 7 }), "its claims are not"),
        (
            json!({ "iss": null }),
            "its issuer is \"\", expected https://login.microsoftonline.com/{tenantid}/v2.0",
        ),
        (json!({ "iss": v2("{tenantid}"), "tid": "{tenantid}" }), "its issuer is"),
        (json!({ "iss": v2(other) }), "which is not that of its tenant"),
        (json!({ "iss": v2(other), "tid": other }), "tenant 22222222-3333-4444-5555-666666666666 is not one"),
        (json!({ "tid": null }), "which is not that of its tenant, none"),
        (json!({ "tid": other }), "which is not that of its tenant"),
        (json!({ "azp": null }), "it names no client"),
        (json!({ "roles": 7 }), "its claims are not"),
    ] {
        let said = refused(&world, &validator, &token(but(changes.clone()))).await;
        assert!(said.contains(why), "{changes}: {said}");
    }
    let text = claims().to_string();
    let twice = |more: &str| format!("{},{more}}}", &text[..text.len() - 1]);
    for claims in [
        twice(r#""aud":"api://orders""#),
        twice(r#""exp":9999999999"#),
        twice(r#""\u0065xp":9999999999"#),
        twice(r#""x":1,"x":2"#),
        "[]".to_owned(),
        "7".to_owned(),
        "null".to_owned(),
        String::new(),
        format!("{text}{text}"),
        "[".repeat(10_000),
        format!("{{\"a\":{}", "[".repeat(10_000)),
    ] {
        let said = refused(&world, &validator, &token(&claims)).await;
        assert!(
            said.starts_with("its claims are not a JSON object with each name once"),
            "{claims:.40}: {said}"
        );
    }
    let header = r#"{"alg":"none","alg":"RS256","kid":"rsa"}"#;
    let said = refused(&world, &validator, &sign_with(header, &text, rs256(rsa()))).await;
    assert_eq!(said, "its header is not a JSON object with each name once");
}

#[tokio::test]
async fn what_is_no_token_or_too_long_is_refused_without_being_repeated() {
    let world = World::new().await;
    let (published, validator) = ours(&world.clock);
    let long = token(but(json!({ "x": "x".repeat(20_000) })));
    let good = token(claims());
    for (bad, why) in [
        ("", "it is not a signed JWT of three parts"),
        ("hunter2", "it is not a signed JWT of three parts"),
        ("hunter2.hunter2", "it is not a signed JWT of three parts"),
        ("a.b.c.d.hunter2", "it is not a signed JWT of three parts"),
        ("..", "its header is not a JSON object"),
        ("hunter2.hunter2.hunter2", "it is not base64url"),
        (&format!("Bearer {good}"), "it is not base64url"),
        (&format!("{good} "), "it is not base64url"),
        (&format!("{good}="), "it is not base64url"),
        (&format!("{good}\u{e9}"), "it is not base64url"),
        (&long, "it is longer than 16 KiB"),
    ] {
        let said = refused(&world, &validator, bad).await;
        assert!(said.starts_with(why) && !said.contains("hunter2"), "{bad:.40}: {said}");
    }
    assert_eq!(published.asked(), 0, "no garbage makes a request");
    let most = token(but(json!({ "x": "x".repeat(11_000) })));
    check(&world, &validator, &most).await.unwrap();
}

#[tokio::test]
async fn keys_that_should_not_verify_do_not() {
    let world = World::new().await;
    let mut for_encryption = rsa_jwk(rsa(), "enc");
    for_encryption["use"] = json!("enc");
    let mut pss_only = rsa_jwk(rsa(), "pss");
    pss_only["alg"] = json!("PS256");
    let mut shared = rsa_jwk(rsa(), "hs");
    shared["alg"] = json!("HS256");
    let mut of_another = rsa_jwk(rsa(), "another");
    of_another["issuer"] =
        json!("https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad/v2.0");
    let mut of_all = rsa_jwk(rsa(), "all");
    of_all["issuer"] = json!("https://login.microsoftonline.com/{tenantid}/v2.0");
    let short = json!({ "kty": "RSA", "kid": "short", "e": "AQAB", "n": base64([0xff; 128]) });
    let oct = json!({ "kty": "oct", "kid": "oct", "k": base64("secret") });
    let odd = [
        json!(7),
        json!({}),
        json!({ "kty": "RSA", "kid": 7 }),
        json!({ "kty": "AKP", "kid": "new", "alg": "ML-DSA-65" }),
    ];
    let keys = [&odd[..], &[for_encryption, pss_only, shared, of_another, of_all, short, oct]].concat();
    let published = Published::new(&world.clock, &keys);
    let issuer = TrustedIssuer::all_tenants(&entra_broker::Authority::public());
    let validator = validator_of(issuer, &world.clock, &published);
    let text = claims().to_string();
    check(&world, &validator, &sign_with(header("all"), &text, rs256(rsa()))).await.unwrap();
    check(&world, &validator, &sign_with(r#"{"alg":"PS256","kid":"pss"}"#, &text, ps256)).await.unwrap();
    for (kid, why) in [
        ("pss", "its key \"pss\" is not for RS256"),
        ("another", "its key \"another\" is that of another issuer"),
        ("enc", "it is signed by a key that its issuer does not publish"),
        ("hs", "it is signed by a key that its issuer does not publish"),
        ("short", "it is signed by a key that its issuer does not publish"),
        ("oct", "it is signed by a key that its issuer does not publish"),
        ("new", "it is signed by a key that its issuer does not publish"),
    ] {
        let said = refused(&world, &validator, &sign_with(header(kid), &text, rs256(rsa()))).await;
        assert!(said.starts_with(why), "{said}");
    }
}

#[tokio::test]
async fn an_issuer_of_another_kind_has_its_own_name_and_no_tenants() {
    let world = World::new().await;
    let published = Published::new(&world.clock, &[rsa_jwk(rsa(), "rsa")]);
    let issuer = TrustedIssuer::custom("https://cluster.test/", "https://cluster.test/keys").unwrap();
    let validator = validator_of(issuer, &world.clock, &published);
    let of = |issuer: &str| token(json!({ "iss": issuer, "aud": [AUDIENCE], "sub": "pod", "exp": NOW + 60 }));
    let caller = check(&world, &validator, &of("https://cluster.test/")).await.unwrap();
    assert_eq!((caller.subject(), caller.tenant(), caller.client_id()), (Some("pod"), None, None));
    assert!(refused(&world, &validator, &of("https://cluster.test")).await.starts_with("its issuer is"));
}

proptest! {
    #[test]
    fn any_text_and_any_claims_are_refused_without_a_panic(
        text in "\\PC{0,60}|[A-Za-z0-9_.-]{0,80}",
        header in "\\PC{0,40}|[{}\":,a-z]{0,40}",
        claims in any::<Vec<u8>>(),
        name in "iss|aud|exp|nbf|tid|scp|roles|azp|x",
        value in "\\PC{0,20}",
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (clock, _) = entra_broker::Clock::manual(start());
        let (_, validator) = ours(&clock);
        let object = but(json!({ name: value })).to_string();
        runtime.block_on(async {
            for token in [text, sign_with(header, &claims, |_| claims.clone()), sign_with(super::forge::header("rsa"), object, |_| vec![0; 256])] {
                prop_assert!(validator.validate(&token).await.is_err());
            }
            Ok(())
        })?;
    }
}
