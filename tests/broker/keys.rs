//! The same question is the same entry, and a different one never gets the other's token.

use std::collections::HashMap;

use entra_broker::{
    BoxFuture, Broker, CallOptions, Claims, Env, Error, ErrorKind, FetchContext, Fetched, Grant, Identity,
    ManagedIdentity, ManagedIdentityId, Provider, Subject, TenantId, TokenRequest, UserAssertion, UserId,
    emulator::{Endpoint, Fault, sample},
};

use crate::support::*;

fn tenant(text: &str) -> TenantId {
    TenantId::parse(text).unwrap()
}

#[tokio::test]
async fn order_and_duplicates_of_scopes_do_not_matter() {
    let world = World::new().await;
    let broker = world.broker();
    let token = world.get(broker.get_token(VAULT)).await.unwrap();
    for spelling in [
        "https://vault.azure.net/.default https://vault.azure.net/.default",
        "  https://vault.azure.net/.default ",
        "https://vault.azure.net/.default offline_access openid",
        "openid profile email https://vault.azure.net/.default offline_access",
    ] {
        let other = world.get(broker.get_token(spelling)).await.unwrap();
        assert!(other.is_same(&token), "{spelling}");
    }
    assert_eq!((world.requests(), broker.metrics().entries), (1, 1));
    let journal = world.emulator.journal().entries();
    assert_eq!(journal[0].scope.as_deref(), Some(VAULT), "an app token is asked for without OpenID scopes");
}

#[tokio::test]
async fn a_doubled_slash_is_another_resource() {
    let world = World::new().await;
    let broker = world.broker();
    let doubled = "https://management.core.windows.net//.default";
    assert_eq!(request(doubled).scopes().resource(), Some("https://management.core.windows.net/"));
    let single = world.get(broker.get_token("https://management.core.windows.net/.default")).await.unwrap();
    let double = world.get(broker.get_token(doubled)).await.unwrap();
    assert!(!single.is_same(&double));
    assert_eq!(world.emulator.journal().entries()[1].scope.as_deref(), Some(doubled));
}

#[tokio::test]
async fn the_home_tenant_is_no_tenant_and_another_has_to_be_allowed() {
    let world = World::new().await;
    let client = world.client();
    let broker = world.builder().allow_tenants([tenant(sample::OTHER_TENANT)]).build(client).unwrap();
    let home = world.get(broker.get_token(VAULT)).await.unwrap();
    let named = request(VAULT).tenant(tenant(sample::TENANT));
    assert!(world.get(broker.get_token(&named)).await.unwrap().is_same(&home));
    assert!(world.at_once(broker.get_token(&named)).unwrap().is_same(&home));

    let other = request(VAULT).tenant(tenant(sample::OTHER_TENANT));
    assert!(!world.get(broker.get_token(&other)).await.unwrap().is_same(&home));
    let foreign = request(VAULT).tenant(tenant(sample::CUSTOMER_WITHOUT_CONSENT));
    let requests = world.requests();
    for _ in 0..2 {
        let error = world.at_once(broker.get_token(&foreign)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Policy);
        assert!(error.to_string().contains(sample::CUSTOMER_WITHOUT_CONSENT), "{error}");
    }
    let refused = broker.handle(&foreign);
    assert_eq!(world.at_once(refused.get()).unwrap_err().kind(), ErrorKind::Policy);
    assert!(refused.peek().is_none() && refused.with(|_| ()).is_none());
    assert_eq!((world.requests(), requests), (2, 2));

    let open = world.builder().allow_all_tenants().build(world.client()).unwrap();
    let error = world.get(open.get_token(&foreign)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tenant, "now it is the tenant that says no");
}

/// Gives a token that says what it was asked for.
#[derive(Debug)]
struct Echo(&'static str);

impl Provider for Echo {
    fn identity(&self) -> Identity {
        Identity::local()
    }

    fn fetch<'a>(
        &'a self,
        cx: &'a FetchContext,
        request: &'a TokenRequest,
        grant: Grant,
    ) -> BoxFuture<'a, Result<Fetched, Error>> {
        Box::pin(async move {
            let who = match grant {
                Grant::App => "app".to_owned(),
                Grant::OnBehalfOf(assertion) => format!("obo({})", assertion.expose()),
                other => panic!("{other:?}"),
            };
            let part = |part: Option<String>| part.unwrap_or_default().replace([' ', '"'], "_");
            let tenant = part(request.requested_tenant().map(ToString::to_string));
            let claims = part(request.requested_claims().map(ToString::to_string));
            let scopes = part(Some(request.scopes().to_string()));
            let token = format!("{}|{tenant}|{who}|{scopes}|{claims}", self.0);
            Ok(Fetched::new(token, cx.clock().now(), secs(3600)))
        })
    }
}

/// All combinations of two or three values each of everything that makes a token a different one, asked in two rounds
/// over one broker a binding: whatever was asked for is what comes, cached or not.
#[tokio::test]
async fn tenant_subject_scopes_claims_and_binding_never_share_a_token() {
    let world = World::new().await;
    let bound =
        |name: &'static str| world.builder().binding(name).allow_all_tenants().build(Echo(name)).unwrap();
    let brokers: HashMap<&str, Broker> = ["one", "two"].map(|name| (name, bound(name))).into();
    let obo = |text: &str| Subject::OnBehalfOf(UserAssertion::new(text).unwrap());
    let claims = |text: &str| Claims::parse(text).unwrap();
    let mut seen = HashMap::new();
    for _round in 0..2 {
        for (binding, broker) in &brokers {
            for tenant_name in [None, Some("a.test"), Some("b.test")] {
                for subject in [Subject::App, obo("xbY"), obo("x")] {
                    for scope in ["https://a/.default", "https://a//.default", "https://ab/.default"] {
                        for stable in [None, Some(r#"{"a":"xbY","b":"Z"}"#), Some(r#"{"a":"x","b":"YbZ"}"#)] {
                            let mut asked = request(scope).subject(subject.clone());
                            if let Some(name) = tenant_name {
                                asked = asked.tenant(tenant(name));
                            }
                            if let Some(stable) = stable {
                                asked = asked.claims(claims(stable));
                            }
                            let token = world.get(broker.get_token(&asked)).await.unwrap();
                            let case = format!("{binding}{tenant_name:?}{asked:?}{subject:?}");
                            let case = format!(
                                "{case}{}",
                                match &subject {
                                    Subject::OnBehalfOf(user) => user.token().expose(),
                                    _ => "",
                                }
                            );
                            let before = seen.entry(case).or_insert_with(|| token.secret().to_owned());
                            assert_eq!(before, token.secret());
                        }
                    }
                }
            }
        }
    }
    let different: std::collections::HashSet<_> = seen.values().collect();
    assert_eq!((seen.len(), different.len()), (2 * 3 * 3 * 3 * 3, 2 * 3 * 3 * 3 * 3));
    assert_eq!(brokers["one"].metrics().fetches, 81, "the second round was served from the cache");
    assert_eq!(brokers["one"].metrics().entries, 81);
}

#[tokio::test]
async fn two_brokers_over_one_transport_share_nothing() {
    let world = World::new().await;
    let (one, two) = (world.broker(), world.builder().binding("two").build(world.client()).unwrap());
    let asked = request(VAULT);
    let first = world.get(one.get_token(&asked)).await.unwrap();
    // The request remembers the entry of the first.
    assert!(two.peek(&asked).is_none());
    let second = world.get(two.get_token(&asked)).await.unwrap();
    assert!(!first.is_same(&second));
    assert!(world.at_once(one.get_token(&asked)).unwrap().is_same(&first));
    assert!(world.at_once(two.get_token(&asked)).unwrap().is_same(&second));
}

#[tokio::test]
async fn a_strangers_wrong_secret_reads_nothing() {
    let world = World::new().await;
    let ours = world.broker();
    world.get(ours.get_token(VAULT)).await.unwrap();
    let stranger = world.builder().build(world.client_with("wrong-secret")).unwrap();
    let error = world.get(stranger.get_token(VAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credential);
}

#[tokio::test]
async fn a_user_who_has_not_signed_in_gets_no_app_token() {
    let world = World::new().await;
    let broker = world.broker();
    world.get(broker.get_token(VAULT)).await.unwrap();
    let user = request(VAULT).subject(Subject::User(UserId::new("alice").unwrap()));
    let error = world.get(broker.get_token(&user)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SignInRequired);
    assert_eq!(world.requests(), 1);
}

#[tokio::test]
async fn a_full_cache_evicts_and_what_was_remembered_finds_its_way_back() {
    let world = World::new().await;
    let broker = world.builder().capacity(1).build(world.client()).unwrap();
    let (vault, storage) = (request(VAULT), request(STORAGE));
    let handle = broker.handle(&vault);
    let first = world.get(handle.get()).await.unwrap();
    world.get(broker.get_token(&storage)).await.unwrap();
    assert_eq!((broker.metrics().entries, broker.metrics().evictions), (1, 1));
    assert!(handle.peek().is_none() && broker.peek(&vault).is_none() && broker.peek(VAULT).is_none());
    let again = world.get(handle.get()).await.unwrap();
    assert!(!again.is_same(&first));
    assert!(world.at_once(broker.get_token(&vault)).unwrap().is_same(&again));
    assert!(world.at_once(broker.get_token(VAULT)).unwrap().is_same(&again));
    assert!(world.at_once(handle.get()).unwrap().is_same(&again));
    assert_eq!(handle.with(|token| token.secret().to_owned()).as_deref(), Some(again.secret()));
}

#[tokio::test]
async fn more_spellings_than_are_remembered_are_still_one_entry() {
    let world = World::new().await;
    let broker = world.broker();
    let token = world.get(broker.get_token(VAULT)).await.unwrap();
    for round in 0..2 {
        for blanks in 1..700 {
            let spelling = format!("{}{VAULT}", " ".repeat(blanks));
            assert!(
                world.at_once(broker.get_token(&spelling)).unwrap().is_same(&token),
                "{blanks} in {round}"
            );
        }
    }
    assert_eq!((world.requests(), broker.metrics().entries), (1, 1));
}

#[tokio::test]
async fn managed_identities_under_one_binding_are_as_many_as_there_are_ids() {
    let world = World::new().await;
    let of = |id| {
        let env = Env::empty().set("AZURE_POD_IDENTITY_AUTHORITY_HOST", world.emulator.identity_endpoint());
        let provider = ManagedIdentity::from_env(id, &env).unwrap();
        world.builder().binding("prod").build(provider).map(|broker| broker.identity().clone())
    };
    let one = of(ManagedIdentityId::client_id(sample::USER_IDENTITY).unwrap()).unwrap();
    let other = of(ManagedIdentityId::client_id(sample::SECRET_APP).unwrap()).unwrap();
    let object = of(ManagedIdentityId::object_id(sample::USER_IDENTITY).unwrap()).unwrap();
    assert!(one != other && one != object && other != object);
    let system = of(ManagedIdentityId::system()).unwrap_err();
    assert!(system.to_string().starts_with("binding: "), "{system}");
}

#[tokio::test]
async fn claims_that_a_managed_identity_cannot_ask_for_are_not_dropped_in_silence() {
    let world = World::new().await;
    let env = Env::empty().set("AZURE_POD_IDENTITY_AUTHORITY_HOST", world.emulator.identity_endpoint());
    let provider = ManagedIdentity::from_env(ManagedIdentityId::system(), &env).unwrap();
    let broker = world.builder().build(provider).unwrap();
    let asked = request(VAULT).claims(Claims::parse(r#"{"a":1}"#).unwrap());
    let error = world.get(broker.get_token(&asked)).await.unwrap_err();
    assert!(error.kind() == ErrorKind::Config && error.to_string().starts_with("claims: "), "{error}");
}

/// Whichever way a caller comes, and whatever became of its entry meanwhile: the provider is given what it has to spend.
#[tokio::test]
async fn an_assertion_is_never_missing_from_a_fetch() {
    let world = World::new().await;
    let broker = world.builder().capacity(1).build(Echo("e")).unwrap();
    let user = |text: &str| request(VAULT).subject(Subject::OnBehalfOf(UserAssertion::new(text).unwrap()));
    let (one, other) = (user("x1"), user("x2"));
    let (handle, mut reader) = (broker.handle(&one), broker.handle(&one).reader());
    let expected = format!("e||obo(x1)|{}|", one.scopes());
    let forced = CallOptions::new().force_refresh();
    for round in 0..3 {
        assert_eq!(world.get(handle.get()).await.unwrap().secret(), expected);
        assert_eq!(reader.get().unwrap().secret(), expected, "in round {round}");
        // In the last call, whoever looks has it fetched anew.
        world.pass(secs(3_580)).await;
        assert!(handle.peek().is_some() && reader.get().is_some() && handle.with(|_| ()).is_some());
        settle().await;
        assert_eq!(reader.get().unwrap().secret(), expected);
        assert!(reader.get().unwrap().expires_on() > world.clock.now().wall() + secs(3_000));
        // The same text again: it is refused, and so is the next one.
        let refused = world.get(broker.get_token_with(&one, &forced)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::TokenRefused);
        world.pass(secs(200)).await;
        // Another one takes its place, through whatever it comes.
        let warmed = world.run(secs(60), broker.warm(std::slice::from_ref(&other))).await;
        assert!(warmed.is_complete() && handle.peek().is_none() && reader.get().is_none());
        let token = world.get(broker.get_token(&other.clone())).await.unwrap();
        assert_eq!(token.secret(), format!("e||obo(x2)|{}|", other.scopes()));
    }
}

#[tokio::test]
async fn a_customer_who_comes_is_allowed_and_one_who_leaves_is_denied_with_all_tokens() {
    let world = World::new().await;
    let broker = world.broker();
    let other = tenant(sample::OTHER_TENANT);
    let theirs = request(VAULT).tenant(other.clone());
    assert_eq!(world.get(broker.get_token(&theirs)).await.unwrap_err().kind(), ErrorKind::Policy);

    broker.clone().allow_tenant(&other);
    let token = world.get(broker.get_token(&theirs)).await.unwrap();
    let handle = broker.handle(&theirs);
    let mut reader = handle.reader();
    assert!(reader.get().is_some_and(|read| read.is_same(&token)));
    world.get(broker.get_token(VAULT)).await.unwrap();

    assert_eq!(broker.deny_tenant(&other), 1);
    let error = world.get(broker.get_token(&theirs)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Policy);
    assert!(error.advice().contains("allow_tenant"), "{}", error.advice());
    assert!(broker.peek(&theirs).is_none() && handle.peek().is_none() && reader.get().is_none());
    assert_eq!(world.get(handle.get()).await.unwrap_err().kind(), ErrorKind::Policy);
    world.at_once(broker.get_token(VAULT)).unwrap();
    assert_eq!(world.requests(), 2);

    broker.allow_tenant(&other);
    world.get(broker.get_token(&theirs)).await.unwrap();
    assert_eq!(world.requests(), 3, "nothing of before was left");
}

#[tokio::test]
async fn a_tenant_that_is_denied_by_its_id_is_denied_by_its_domains() {
    let world = World::new().await;
    let broker = world.builder().allow_all_tenants().build(world.client()).unwrap();
    let by_domain = request(VAULT).tenant(tenant(sample::OTHER_TENANT_DOMAIN));
    world.get(broker.get_token(&by_domain)).await.unwrap();
    assert_eq!(broker.deny_tenant(&tenant(sample::OTHER_TENANT)), 1, "what was cached under the domain");
    let error = world.get(broker.get_token(&by_domain)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Policy, "{error}");
    assert!(broker.peek(&by_domain).is_none());
    // Another tenant's domain is none of its business.
    let home = request(VAULT).tenant(tenant(sample::TENANT_DOMAIN));
    world.get(broker.get_token(&home)).await.unwrap();
}

#[tokio::test]
async fn a_tenant_can_be_denied_where_all_others_are_allowed_and_while_it_is_asked() {
    let world = World::new().await;
    let broker = world.builder().allow_all_tenants().build(world.client()).unwrap();
    let other = tenant(sample::OTHER_TENANT);
    let theirs = request(VAULT).tenant(other.clone());
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).delay(secs(2)).times(1));
    let call = tokio::spawn({
        let (broker, theirs) = (broker.clone(), theirs.clone());
        async move { broker.get_token(&theirs).await }
    });
    settle().await;
    assert_eq!(broker.deny_tenant(&other), 1);
    world.pass(secs(10)).await;
    // Who asked while it was allowed has the answer; nobody else gets it.
    drop(world.see(call.await.unwrap()));
    assert_eq!(world.get(broker.get_token(&theirs)).await.unwrap_err().kind(), ErrorKind::Policy);
    assert!(broker.peek(&theirs).is_none());
    let home = request(VAULT).tenant(tenant(sample::TENANT));
    broker.deny_tenant(&tenant(sample::TENANT));
    world.get(broker.get_token(&home)).await.unwrap();
}
