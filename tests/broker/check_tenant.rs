//! Has this customer set us up? Each answer, caused at the emulator, with the words for whoever has to act.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use entra_broker::{
    Broker, ClientSecret, Error, ErrorKind, ManagedIdentity, ManagedIdentityId, StaticToken, TenantCheck,
    TenantId, TenantStanding,
    emulator::{App, Endpoint, Fault, Policy, Requirement, sample},
};

use crate::support::*;

const GRAPH: &str = "https://graph.microsoft.com";

fn tenant(text: &str) -> TenantId {
    TenantId::parse(text).unwrap()
}

async fn check(world: &World, broker: &Broker, name: &str, resource: &str) -> Result<TenantCheck, Error> {
    let checked = world.run(secs(200), broker.check_tenant(&tenant(name), resource)).await;
    if let Ok(Some(error)) = checked.as_ref().map(TenantCheck::error) {
        drop(world.see(Err(error.clone())));
    }
    checked
}

async fn standing(world: &World, name: &str, resource: &str) -> TenantCheck {
    check(world, &world.broker(), name, resource).await.unwrap()
}

#[tokio::test]
async fn a_tenant_that_consented_is_trusted_and_named_by_its_id() {
    let world = World::new().await;
    for name in [sample::OTHER_TENANT, sample::OTHER_TENANT_DOMAIN, sample::TENANT] {
        for resource in [GRAPH, "https://graph.microsoft.com/.default"] {
            let check = standing(&world, name, resource).await;
            assert_eq!(check.standing(), TenantStanding::Trusted, "{name}: {check:?}");
            assert!(check.is_trusted() && !check.is_customers() && check.error().is_none());
            let id = if name == sample::TENANT { sample::TENANT } else { sample::OTHER_TENANT };
            assert_eq!(check.tenant_id().map(TenantId::as_str), Some(id));
            assert!(check.object_id().is_some(), "the administrator gives roles to it");
            assert_eq!(check.to_string(), format!("tenant {name}: trusted"));
        }
    }
    let own = standing(&world, sample::TENANT, sample::API).await;
    assert_eq!(own.roles(), [sample::API_ROLE]);
}

#[tokio::test]
async fn missing_consent_comes_with_the_page_and_the_command_that_mend_it() {
    let world = World::new().await;
    let check = standing(&world, sample::CUSTOMER_WITHOUT_CONSENT_DOMAIN, GRAPH).await;
    assert_eq!(check.standing(), TenantStanding::ConsentMissing);
    assert_eq!(check.aadsts(), [7_000_229]);
    assert!(check.is_customers());
    let url = check.url().unwrap();
    assert!(url.starts_with(world.emulator.authority()), "{url}");
    assert!(url.contains("/tailspin.test/adminconsent?client_id="), "{url}");
    // It is a page to sign in at, as it stands: nothing is missing that an administrator would have to add.
    let path = url.strip_prefix(world.emulator.authority()).unwrap();
    let page = http::Request::get(path).body(Default::default()).unwrap();
    assert_eq!(world.emulator.call(Endpoint::TokenService, page).await.unwrap().status(), 200);
    assert_eq!(check.command(), Some(&*format!("az ad sp create --id {}", sample::SECRET_APP)));
    assert!(check.words().contains("tailspin.test") && check.words().contains("administrator"));

    // And of an application that nobody knows.
    let id = "aaaaaaaa-0000-0000-0000-00000000ffff";
    let stranger = ClientSecret::new(sample::TENANT, id, "x").unwrap().authority(world.authority());
    let broker = world.builder().build(stranger).unwrap();
    let check = self::check(&world, &broker, sample::OTHER_TENANT, GRAPH).await.unwrap();
    assert_eq!((check.standing(), check.aadsts()), (TenantStanding::ConsentMissing, &[700_016][..]));
}

#[tokio::test]
async fn a_tenant_that_does_not_exist_is_unknown() {
    let world = World::new().await;
    for (name, code) in [("99999999-0000-0000-0000-000000000000", 90_002), ("nowhere.test", 90_002)] {
        let check = standing(&world, name, GRAPH).await;
        assert_eq!(check.standing(), TenantStanding::TenantUnknown, "{check:?}");
        assert_eq!(check.aadsts(), [code]);
        assert!(check.is_customers() && check.words().contains(name));
        assert_eq!(check.command(), Some("az account show --query tenantId --output tsv"));
        assert!(check.url().unwrap().starts_with("https://portal.azure.com/#view/"));
    }
}

#[tokio::test]
async fn a_resource_that_the_tenant_lacks_is_missing() {
    let world = World::new().await;
    let check = standing(&world, sample::OTHER_TENANT, "https://nothing.example.test").await;
    assert_eq!((check.standing(), check.aadsts()), (TenantStanding::ResourceMissing, &[500_011][..]));
    assert!(check.words().contains("https://nothing.example.test"));

    world.emulator.faults().add(Fault::on(Endpoint::TokenService).error(650_052).times(1));
    let check = standing(&world, sample::OTHER_TENANT, GRAPH).await;
    assert_eq!(check.standing(), TenantStanding::ResourceMissing);
    assert_eq!(check.command(), Some("az ad sp create --id 00000003-0000-0000-c000-000000000000"));
}

#[tokio::test]
async fn an_application_may_be_disabled_at_home_or_in_the_tenant() {
    let world = World::new().await;
    let directory = world.emulator.directory();
    let disabled = |code: u32, check: TenantCheck| {
        assert_eq!((check.standing(), check.aadsts()), (TenantStanding::AppDisabled, &[code][..]));
        assert!(check.url().unwrap().starts_with("https://portal.azure.com/"));
        assert!(check.command().unwrap().contains("accountEnabled=true"));
        assert!(check.is_customers() && check.words().contains("disabled"));
    };
    assert!(directory.set_service_principal_enabled(sample::OTHER_TENANT, sample::SECRET_APP, false));
    disabled(70_001, standing(&world, sample::OTHER_TENANT, GRAPH).await);
    assert!(directory.set_service_principal_enabled(sample::OTHER_TENANT, sample::SECRET_APP, true));
    assert!(directory.set_app_enabled(sample::SECRET_APP, false));
    disabled(7_000_112, standing(&world, sample::OTHER_TENANT, GRAPH).await);
}

#[tokio::test]
async fn a_policy_of_the_tenant_blocks_and_says_where_to_look() {
    let world = World::new().await;
    let policy = Policy::new(sample::OTHER_TENANT, Requirement::Blocked).client(sample::SECRET_APP);
    world.emulator.directory().add_policy(policy);
    let check = standing(&world, sample::OTHER_TENANT, GRAPH).await;
    assert_eq!((check.standing(), check.aadsts()), (TenantStanding::BlockedByPolicy, &[53_003][..]));
    assert!(check.is_customers() && check.url().is_some() && check.words().contains("sign-in logs"));
    assert_eq!(check.error().unwrap().kind(), ErrorKind::Policy);
}

#[tokio::test]
async fn our_own_bad_credential_is_never_the_customers() {
    let world = World::new().await;
    for (secret, code) in [("wrong-secret", 7_000_215), (sample::EXPIRED_SECRET, 7_000_222)] {
        let broker = world.builder().build(world.client_with(secret)).unwrap();
        let check = check(&world, &broker, sample::OTHER_TENANT, GRAPH).await.unwrap();
        assert_eq!((check.standing(), check.aadsts()), (TenantStanding::OwnCredentialBad, &[code][..]));
        assert!(!check.is_customers() && check.url().is_none() && check.command().is_none());
        assert!(check.words().contains("customer can do nothing"));
    }
}

#[tokio::test]
async fn an_application_of_one_tenant_is_told_apart_where_entra_tells_it() {
    let world = World::new().await;
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).error(50_194).times(1));
    let check = standing(&world, sample::OTHER_TENANT, GRAPH).await;
    assert_eq!((check.standing(), check.aadsts()), (TenantStanding::NotMultiTenant, &[50_194][..]));
    assert!(!check.is_customers());

    // In another tenant, Entra does not say whether it is that or missing consent: so the words say both.
    let single = App::new("aaaaaaaa-0000-0000-0000-0000000000aa", sample::TENANT).secret("s");
    world.emulator.directory().add_app(single);
    let client = ClientSecret::new(sample::TENANT, "aaaaaaaa-0000-0000-0000-0000000000aa", "s").unwrap();
    let broker = world.builder().build(client.authority(world.authority())).unwrap();
    let check = self::check(&world, &broker, sample::OTHER_TENANT, GRAPH).await.unwrap();
    assert_eq!((check.standing(), check.aadsts()), (TenantStanding::ConsentMissing, &[700_016][..]));
    assert!(check.words().contains("open to other tenants than its own"));
}

#[tokio::test]
async fn what_passes_says_nothing_of_the_tenant() {
    let world = World::new().await;
    let fault = |fault: Fault| world.emulator.faults().add(fault);
    for trouble in [
        Fault::on(Endpoint::TokenService).status(503),
        Fault::on(Endpoint::TokenService).status(429).retry_after(secs(120)),
        Fault::on(Endpoint::TokenService).refuse(),
        Fault::on(Endpoint::TokenService).cut(),
        Fault::on(Endpoint::TokenService).hang(),
        Fault::on(Endpoint::TokenService).body("text/html", "<html>"),
    ] {
        let described = format!("{trouble:?}");
        let id = fault(trouble);
        let check = standing(&world, sample::OTHER_TENANT, GRAPH).await;
        assert_eq!(check.standing(), TenantStanding::Transient, "{described}: {check:?}");
        assert!(!check.is_customers() && check.error().is_some());
        world.emulator.faults().remove(id);
    }
    assert!(standing(&world, sample::OTHER_TENANT, GRAPH).await.is_trusted());
}

#[tokio::test]
async fn a_token_of_another_tenant_is_no_proof() {
    let world = World::new().await;
    // The emulator's answer for one tenant, given for another: what a mixed-up proxy does.
    let body = {
        let form = format!(
            "grant_type=client_credentials&client_id={}&client_secret=s3cr3t~with%25odd%2Bchars%2F%3D&scope={GRAPH}/.default",
            sample::SECRET_APP
        );
        let request = http::Request::post(format!("/{}/oauth2/v2.0/token", sample::TENANT))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.into())
            .unwrap();
        let answer = world.emulator.call(Endpoint::TokenService, request).await.unwrap();
        http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes()
    };
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).status(200).body("application/json", body));
    let check = standing(&world, sample::OTHER_TENANT, GRAPH).await;
    assert_eq!(check.standing(), TenantStanding::AnotherTenant, "{check:?}");
    assert!(!check.is_trusted());
}

#[tokio::test]
async fn it_asks_past_the_list_the_cache_and_the_holds() {
    let world = World::new().await;
    // No other tenant is allowed.
    let broker = world.broker();
    let customer = tenant(sample::CUSTOMER_WITHOUT_CONSENT);
    let for_customer = request(VAULT).tenant(customer.clone());
    let error = world.get(broker.get_token(&for_customer)).await.unwrap_err();
    assert_eq!((error.kind(), world.requests()), (ErrorKind::Policy, 0));

    let broker = world.builder().allow_tenants([customer.clone()]).build(world.client()).unwrap();
    let refused = world.get(broker.get_token(&for_customer)).await.unwrap_err();
    assert_eq!((refused.kind(), refused.held_for(), world.requests()), (ErrorKind::Tenant, None, 1));
    let held = world.get(broker.get_token(&for_customer)).await.unwrap_err();
    assert!(held.held_for().is_some() && world.requests() == 1, "remembered");

    for asked in 2..5 {
        let check = check(&world, &broker, customer.as_str(), VAULT).await.unwrap();
        assert_eq!((check.standing(), world.requests()), (TenantStanding::ConsentMissing, asked));
    }
    assert!(world.emulator.directory().add_service_principal(customer.as_str(), sample::SECRET_APP));
    assert!(check(&world, &broker, customer.as_str(), VAULT).await.unwrap().is_trusted());
    assert_eq!(broker.metrics().entries, 1, "its token is not kept");
    // What was remembered is forgotten with it: the customer is not told to wait for what works.
    world.get(broker.get_token(&for_customer)).await.unwrap();
    assert_eq!(world.requests(), 6);
    // And with a token in the cache it asks all the same.
    assert!(check(&world, &broker, customer.as_str(), VAULT).await.unwrap().is_trusted());
    assert_eq!(world.requests(), 7);
}

#[tokio::test]
async fn what_can_be_no_customer_is_a_mistake_and_asks_nobody() {
    let world = World::new().await;
    let broker = world.broker();
    for alias in ["common", "organizations", "consumers"] {
        let error = check(&world, &broker, alias, GRAPH).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(alias) && !error.advice().is_empty());
    }
    for resource in ["", " ", "https://graph.microsoft.com/User.Read openid", "a b"] {
        let error = check(&world, &broker, sample::OTHER_TENANT, resource).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{resource:?}: {error}");
    }
    assert_eq!(world.requests(), 0);
    broker.close().await;
    let error = check(&world, &broker, sample::OTHER_TENANT, GRAPH).await.unwrap_err();
    assert_eq!((error.kind(), world.requests()), (ErrorKind::Closed, 0));
}

#[tokio::test]
async fn an_identity_of_the_machine_asks_in_no_tenant_but_its_own() {
    let world = World::new().await;
    let env = entra_broker::Env::empty()
        .set("AZURE_POD_IDENTITY_AUTHORITY_HOST", world.emulator.identity_endpoint());
    let identity = ManagedIdentity::from_env(ManagedIdentityId::system(), &env).unwrap();
    let broker = world.builder().build(identity).unwrap();
    let error = check(&world, &broker, sample::OTHER_TENANT, GRAPH).await.unwrap_err();
    assert_eq!((error.kind(), world.requests()), (ErrorKind::Config, 0));
}

#[tokio::test]
async fn a_token_that_cannot_be_read_is_taken_for_what_it_is() {
    let world = World::new().await;
    let broker = world.builder().build(StaticToken::new("opaque").unwrap()).unwrap();
    let check = check(&world, &broker, sample::OTHER_TENANT, GRAPH).await.unwrap();
    assert!(check.is_trusted() && check.tenant_id().is_none() && check.object_id().is_none());
    assert!(check.roles().is_empty());
}

#[test]
fn without_a_runtime_or_its_timer_a_check_is_an_error_and_no_panic() {
    let broker = Broker::new(ClientSecret::new(sample::TENANT, sample::SECRET_APP, "x").unwrap()).unwrap();
    let other = tenant(sample::OTHER_TENANT);
    let error = ready(broker.check_tenant(&other, GRAPH)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let error = runtime.block_on(broker.check_tenant(&other, GRAPH)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
}

#[tokio::test]
async fn a_token_of_another_tenant_is_seen_whatever_else_is_odd_in_it() {
    let world = World::new().await;
    for odd in [r#""roles":null"#, r#""roles":"one""#, r#""oid":42"#] {
        let claims = format!(r#"{{"tid":"{}",{odd}}}"#, sample::TENANT);
        let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        let broker = world.builder().build(StaticToken::new(token).unwrap()).unwrap();
        let check = check(&world, &broker, sample::OTHER_TENANT, GRAPH).await.unwrap();
        assert_eq!(check.standing(), TenantStanding::AnotherTenant, "{odd}");
        assert_eq!(check.tenant_id().map(TenantId::as_str), Some(sample::TENANT), "{odd}");
    }
}
