//! The receiving side: tokens of the emulator, which are to be taken, and tokens of all kinds that are not.

mod attacks;
mod forge;
mod keys;
mod runtimes;

use entra_broker::{
    AccessToken, Authority, Blame, Broker, ClientSecret, Error, ErrorKind, TenantId, TokenValidator,
    TrustedIssuer, ValidToken, ValidatorBuilder,
    emulator::{Emulator, Endpoint, sample},
};
use http_body_util::BodyExt as _;

use crate::support::*;

/// The sample web app's own API, whose tokens have the v2 shape.
const API: &str = "api://aaaaaaaa-0000-0000-0000-000000000002/.default";

fn trusted(world: &World) -> TrustedIssuer {
    TrustedIssuer::tenant(&world.authority(), sample::TENANT).unwrap()
}

fn builder(world: &World) -> ValidatorBuilder {
    let audiences = [sample::SECRET_APP, sample::KEY_VAULT];
    TokenValidator::builder().audiences(audiences).clock(world.clock.clone()).transport(world.transport())
}

fn validator(world: &World) -> TokenValidator {
    builder(world).issuer(trusted(world)).build().unwrap()
}

/// The result, which may need time to pass.
async fn check(world: &World, validator: &TokenValidator, token: &str) -> Result<ValidToken, Error> {
    let checked = world.run(secs(60), validator.validate(token)).await;
    if let Err(error) = &checked {
        world.see(Err::<AccessToken, _>(error.clone())).unwrap_err();
    }
    checked
}

async fn refused(world: &World, validator: &TokenValidator, token: &str) -> String {
    let error = check(world, validator, token).await.unwrap_err();
    assert_eq!((error.kind(), error.blame()), (ErrorKind::TokenRefused, Blame::Caller), "{error}");
    let message = error.to_string();
    message.strip_prefix("the token was refused: ").unwrap().to_owned()
}

async fn get(world: &World, broker: &Broker, scope: &str) -> AccessToken {
    world.get(broker.get_token(scope)).await.unwrap()
}

/// What a user's app gets for the web app's API.
async fn user_token(emulator: &Emulator) -> String {
    let directory = emulator.directory();
    directory.consent_for_all(sample::TENANT, sample::PUBLIC_APP, sample::API, &[sample::API_SCOPE]);
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "password")
        .append_pair("client_id", sample::PUBLIC_APP)
        .append_pair("username", sample::ALICE)
        .append_pair("password", "any")
        .append_pair("scope", &format!("openid {}/{}", sample::API, sample::API_SCOPE))
        .finish();
    let request = http::Request::post(format!("/{}/oauth2/v2.0/token", sample::TENANT))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form.into());
    let answer = emulator.call(Endpoint::TokenService, request.unwrap()).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    body["access_token"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned()
}

#[tokio::test]
async fn a_v2_token_of_an_application_is_taken_and_says_what_it_may_do() {
    let world = World::new().await;
    let token = get(&world, &world.broker(), API).await;
    let caller = check(&world, &validator(&world), token.secret()).await.unwrap();
    assert_eq!((caller.version(), caller.is_app()), (Some("2.0"), true));
    assert_eq!((caller.tenant(), caller.client_id()), (Some(sample::TENANT), Some(sample::SECRET_APP)));
    assert_eq!(caller.issuer(), format!("{}/{}/v2.0", world.emulator.authority(), sample::TENANT));
    assert_eq!(caller.audience(), sample::SECRET_APP);
    assert_eq!(caller.object_id(), caller.subject());
    assert_eq!(caller.expires_on(), start() + secs(3599));
    assert_eq!(caller.roles().collect::<Vec<_>>(), [sample::API_ROLE]);
    caller.require_role(sample::API_ROLE).unwrap();
    for error in
        [caller.require_role("orders.read.all").unwrap_err(), caller.require_scope("Files.Read").unwrap_err()]
    {
        assert_eq!((error.kind(), error.blame()), (ErrorKind::Policy, Blame::Caller), "{error}");
    }
    #[derive(serde::Deserialize)]
    struct Mine {
        uti: String,
    }
    assert_eq!(caller.claims::<Mine>().unwrap().uti.len(), 22);
    assert_eq!(caller.claims::<Vec<u8>>().unwrap_err().kind(), ErrorKind::TokenRefused);
}

#[tokio::test]
async fn a_v1_token_has_the_same_face() {
    let world = World::new().await;
    let token = get(&world, &world.broker(), VAULT).await;
    let caller = check(&world, &validator(&world), token.secret()).await.unwrap();
    assert_eq!((caller.version(), caller.is_app()), (Some("1.0"), true));
    assert_eq!(caller.issuer(), format!("https://sts.windows.net/{}/", sample::TENANT));
    assert_eq!((caller.audience(), caller.client_id()), (sample::KEY_VAULT, Some(sample::SECRET_APP)));
}

#[tokio::test]
async fn a_users_token_has_scopes_and_is_no_applications() {
    let world = World::new().await;
    let token = user_token(&world.emulator).await;
    world.expect_unsaid(&token);
    let caller = check(&world, &validator(&world), &token).await.unwrap();
    assert!(!caller.is_app());
    assert_eq!(caller.client_id(), Some(sample::PUBLIC_APP));
    caller.require_scope(sample::API_SCOPE).unwrap();
    let error = caller.require_scope("Files.Read").unwrap_err();
    assert_eq!(error.to_string(), "scope \"Files.Read\" is required, the token has \"access_as_user\"");
    assert!(caller.require_role(sample::API_ROLE).is_err());
    assert!(!format!("{caller:?}").contains("alice"), "nothing about a person is shown");
}

#[tokio::test]
async fn a_token_for_another_api_or_of_another_issuer_is_refused_with_what_was_expected() {
    let world = World::new().await;
    let broker = world.broker();
    let token = get(&world, &broker, STORAGE).await;
    assert_eq!(
        refused(&world, &validator(&world), token.secret()).await,
        format!(
            "its audience is \"https://storage.azure.com\", expected {} or https://vault.azure.net",
            sample::SECRET_APP
        )
    );
    let issuer = TrustedIssuer::tenant(&Authority::public(), sample::TENANT).unwrap();
    let other = builder(&world).issuer(issuer).build().unwrap();
    let token = get(&world, &broker, API).await;
    let why = refused(&world, &other, token.secret()).await;
    assert!(
        why.contains("/v2.0\", expected https://login.microsoftonline.com/{tenantid}/v2.0 or https://sts"),
        "{why}"
    );
}

#[tokio::test]
async fn a_token_is_taken_as_long_as_it_lives_and_the_skew_beyond() {
    let world = World::new().await;
    let validator = validator(&world);
    let strict = builder(&world).issuer(trusted(&world)).clock_skew(secs(0)).build().unwrap();
    let token = get(&world, &world.broker(), API).await;
    world.time.step_back(secs(300));
    check(&world, &validator, token.secret()).await.unwrap();
    assert!(
        refused(&world, &strict, token.secret()).await.starts_with("it is not valid before 300 s from now")
    );
    world.time.step_back(secs(1));
    assert!(refused(&world, &validator, token.secret()).await.starts_with("it is not valid before 301 s"));
    world.time.step_forward(secs(301 + 3598));
    check(&world, &strict, token.secret()).await.unwrap();
    world.time.step_forward(secs(1));
    assert_eq!(refused(&world, &strict, token.secret()).await, "it expired 0 s ago");
    world.time.step_forward(secs(299));
    check(&world, &validator, token.secret()).await.unwrap();
    world.time.step_forward(secs(1));
    assert_eq!(refused(&world, &validator, token.secret()).await, "it expired 300 s ago");
}

#[tokio::test]
async fn of_many_tenants_those_on_the_list_are_taken() {
    let world = World::new().await;
    let broker = world.builder().allow_all_tenants().build(world.client()).unwrap();
    let of = |tenant: &str| request(API).tenant(TenantId::parse(tenant).unwrap());
    let home = world.get(broker.get_token(&of(sample::TENANT))).await.unwrap();
    let other = world.get(broker.get_token(&of(sample::OTHER_TENANT))).await.unwrap();
    let tenants = [TenantId::parse(sample::OTHER_TENANT).unwrap()];
    let list = TrustedIssuer::tenants(&world.authority(), &tenants).unwrap();
    let list = builder(&world).issuer(list).build().unwrap();
    assert_eq!(check(&world, &list, other.secret()).await.unwrap().tenant(), Some(sample::OTHER_TENANT));
    assert_eq!(
        refused(&world, &list, home.secret()).await,
        format!("tenant {} is not one of those that are taken", sample::TENANT)
    );
    let all = builder(&world).issuer(TrustedIssuer::all_tenants(&world.authority())).build().unwrap();
    for token in [&home, &other] {
        check(&world, &all, token.secret()).await.unwrap();
    }
    // Two issuers are two lists.
    let both = builder(&world).issuer(trusted(&world));
    let both = both
        .issuer(TrustedIssuer::tenant(&world.authority(), sample::OTHER_TENANT).unwrap())
        .build()
        .unwrap();
    for token in [&home, &other] {
        check(&world, &both, token.secret()).await.unwrap();
    }
    assert!(format!("{both:?}").contains("/{tenantid}/v2.0"));
}

#[tokio::test]
async fn tokens_name_the_public_address_and_keys_come_by_another() {
    let world = World::with(Emulator::builder().authority("https://login.contoso.test")).await;
    let token = get(&world, &broker_at(&world), API).await;
    let public = Authority::custom("https://login.contoso.test").unwrap();
    let issuer = TrustedIssuer::tenant(&public, sample::TENANT).unwrap();
    let keys = format!("http://127.0.0.1:1/{}/discovery/v2.0/keys", sample::TENANT);
    let behind = builder(&world).issuer(issuer.clone().keys_at(&keys).unwrap()).build().unwrap();
    let caller = check(&world, &behind, token.secret()).await.unwrap();
    assert_eq!(caller.issuer(), format!("https://login.contoso.test/{}/v2.0", sample::TENANT));
    // A set that says of its keys that they are another issuer's does not do.
    let keys = format!("http://127.0.0.1:1/{}/discovery/v2.0/keys", sample::OTHER_TENANT);
    let wrong = builder(&world).issuer(issuer.keys_at(&keys).unwrap()).build().unwrap();
    let why = refused(&world, &wrong, token.secret()).await;
    assert!(why.contains("is that of another issuer, \"https://login.contoso.test/22222222"), "{why}");
}

fn broker_at(world: &World) -> Broker {
    // Without a socket only path and query count.
    let authority = Authority::dangerous().allow_plain_http("http://127.0.0.1:1").unwrap();
    let client = ClientSecret::new(sample::TENANT, sample::SECRET_APP, sample::SECRET).unwrap();
    world.builder().build(client.authority(authority)).unwrap()
}

#[tokio::test]
async fn over_a_socket_it_needs_no_transport_of_ours() {
    let world = World::on_sockets().await;
    let broker = world.broker();
    let token = get(&world, &broker, API).await;
    let validator = TokenValidator::builder()
        .issuer(trusted(&world))
        .audiences([sample::SECRET_APP])
        .env(entra_broker::Env::empty())
        .clock(world.clock.clone())
        .build()
        .unwrap();
    let caller = validator.validate(token.secret()).await.unwrap();
    assert_eq!(caller.audience(), sample::SECRET_APP);
}

#[test]
fn a_validator_without_issuer_or_audience_is_none() {
    let issuer = || TrustedIssuer::all_tenants(&Authority::public());
    assert_eq!(TokenValidator::new(issuer(), [""]).unwrap_err().kind(), ErrorKind::Config);
    assert!(TokenValidator::new(issuer(), <[&str; 0]>::default()).is_err());
    assert!(TokenValidator::builder().audiences(["x"]).build().is_err());
    TokenValidator::new(issuer(), ["x"]).unwrap();
}
