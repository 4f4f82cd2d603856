//! A chain of providers: what is passed over, what ends it, what it remembers, and what its error says.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use entra_broker::{
    BoxFuture, Broker, Chain, ClientSecret, Env, Environment, Error, ErrorKind, FetchContext, Fetched, Grant,
    Identity, Provider, StaticToken, Subject, TokenRequest, UserAssertion, WorkloadIdentity,
    emulator::{Endpoint, Fault, sample},
};

use crate::{scratch::until, support::*};

/// A link that does as it is told.
#[derive(Debug, Clone, Default)]
struct Link(Arc<State>);

#[derive(Debug, Default)]
struct State {
    fails: Mutex<Option<ErrorKind>>,
    asked: AtomicUsize,
    probed: AtomicUsize,
}

impl Link {
    fn absent() -> Self {
        let link = Self::default();
        link.set(Some(ErrorKind::NotAvailable));
        link
    }

    fn set(&self, fails: Option<ErrorKind>) {
        *self.0.fails.lock().unwrap() = fails;
    }

    /// How often it was asked, and how often of these to find out whether it is there.
    fn asked(&self) -> (usize, usize) {
        (self.0.asked.load(Ordering::Relaxed), self.0.probed.load(Ordering::Relaxed))
    }
}

impl Provider for Link {
    fn identity(&self) -> Identity {
        Identity::local()
    }

    fn fetch<'a>(
        &'a self,
        cx: &'a FetchContext,
        _: &'a TokenRequest,
        grant: Grant,
    ) -> BoxFuture<'a, Result<Fetched, Error>> {
        Box::pin(async move {
            grant.app_only("a link")?;
            self.0.asked.fetch_add(1, Ordering::Relaxed);
            self.0.probed.fetch_add(usize::from(cx.is_probe()), Ordering::Relaxed);
            match *self.0.fails.lock().unwrap() {
                Some(kind) => Err(Error::new(kind, "as this test wants it").with_advice("Do this.")),
                None => Ok(Fetched::new("eyJ.a-token-of-a-link.sig", cx.clock().now(), secs(3600))),
            }
        })
    }
}

fn chain(links: &[(&'static str, &Link)]) -> Chain {
    links.iter().fold(Chain::new(), |chain, (name, link)| chain.then(name, Ok((*link).clone())).unwrap())
}

const SCOPES: [&str; 3] = [VAULT, STORAGE, "https://graph.microsoft.com/.default"];

#[tokio::test]
async fn the_first_that_is_available_gets_the_tokens_and_those_behind_it_are_not_asked() {
    let world = World::new().await;
    let (first, second, third) = (Link::absent(), Link::default(), Link::default());
    let broker = world.builder().build(chain(&[("a", &first), ("b", &second), ("c", &third)])).unwrap();
    for scope in SCOPES {
        world.get(broker.get_token(scope)).await.unwrap();
    }
    assert_eq!(first.asked(), (1, 1), "only until another one worked");
    assert_eq!(second.asked(), (3, 1), "remembered, and no probe any more");
    assert_eq!(third.asked(), (0, 0));
}

#[tokio::test]
async fn only_not_available_is_passed_over() {
    use ErrorKind::*;
    for kind in [
        Config,
        Credential,
        Tenant,
        Resource,
        SignInRequired,
        ConsentRequired,
        Policy,
        Throttled,
        Unavailable,
        Timeout,
        Protocol,
        TokenRefused,
        Store,
        Closed,
    ] {
        let world = World::new().await;
        let (first, second, third) = (Link::absent(), Link::default(), Link::default());
        second.set(Some(kind));
        let broker = world.builder().build(chain(&[("a", &first), ("b", &second), ("c", &third)])).unwrap();
        let error = world.get(broker.get_token(VAULT)).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert_eq!(error.advice(), "Do this.");
        assert_eq!(
            error.to_string(),
            "b, in a chain: as this test wants it; not available were a: as this test wants it"
        );
        assert_eq!(third.asked(), (0, 0), "{kind:?} must not become somebody else's identity");
    }
}

#[tokio::test]
async fn an_error_that_ends_it_keeps_what_the_service_said() {
    let world = World::new().await;
    let chain = Chain::new()
        .then("environment", Ok(world.client_with("wrong-secret")))
        .unwrap()
        .then("other", Ok(Link::default()))
        .unwrap();
    let broker = world.builder().build(chain).unwrap();
    let error = world.get(broker.get_token(VAULT)).await.unwrap_err();
    assert_eq!((error.kind(), error.status()), (ErrorKind::Credential, Some(401)));
    assert_eq!(error.aadsts(), [7_000_215]);
    assert!(error.correlation_id().is_some() && error.advice().contains("portal"));
    assert!(error.to_string().starts_with("environment, in a chain: the client secret of"), "{error}");
}

#[tokio::test]
async fn where_none_is_available_each_is_listed_with_its_reason() {
    let world = World::new().await;
    let absent = Link::absent();
    let not_made = Err::<Link, _>(Error::new(ErrorKind::NotAvailable, "X_FILE is not set"));
    let chain = chain(&[("a", &absent)]).then("x", not_made).unwrap().then("b", Ok(Link::absent())).unwrap();
    let broker = world.builder().build(chain).unwrap();
    let error = world.get(broker.get_token(VAULT)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAvailable);
    assert_eq!(
        error.to_string(),
        "no provider of the chain is available here: a: as this test wants it; x: X_FILE is not set; b: as this test \
         wants it"
    );
    assert!(error.advice().contains("az login"));
    let empty = world.builder().build(Chain::new()).unwrap();
    let error = world.get(empty.get_token(VAULT)).await.unwrap_err();
    assert!(error.to_string().ends_with("it has no links"), "{error}");
}

#[tokio::test]
async fn what_becomes_unavailable_is_searched_for_anew_from_the_front() {
    let world = World::new().await;
    let (first, second, third) = (Link::absent(), Link::default(), Link::absent());
    let chain = Arc::new(chain(&[("a", &first), ("b", &second), ("c", &third)]));
    let broker = world.builder().build(Arc::clone(&chain)).unwrap();
    assert_eq!(chain.chosen(), None);
    world.get(broker.get_token(VAULT)).await.unwrap();
    assert_eq!(chain.chosen(), Some("b"));

    // It goes, and the one before it has come meanwhile.
    second.set(Some(ErrorKind::NotAvailable));
    first.set(None);
    world.get(broker.get_token(STORAGE)).await.unwrap();
    assert_eq!((chain.chosen(), second.asked(), third.asked()), (Some("a"), (2, 1), (0, 0)));

    // All are gone: the one that worked is listed first, and nobody is asked twice.
    first.set(Some(ErrorKind::NotAvailable));
    let error = world.get(broker.get_token(SCOPES[2])).await.unwrap_err();
    assert!(error.to_string().contains("here: a: as this test wants it; b: as"), "{error}");
    assert_eq!((first.asked(), second.asked(), third.asked()), ((3, 2), (3, 2), (1, 1)));
    assert_eq!(chain.chosen(), None);

    // And one is back.
    third.set(None);
    world.pass(secs(300)).await;
    world.get(broker.get_token(SCOPES[2])).await.unwrap();
    assert_eq!(chain.chosen(), Some("c"));
}

#[tokio::test]
async fn what_worked_and_now_refuses_is_not_passed_over() {
    let world = World::new().await;
    let (first, second) = (Link::default(), Link::default());
    let broker = world.builder().build(chain(&[("a", &first), ("b", &second)])).unwrap();
    world.get(broker.get_token(VAULT)).await.unwrap();
    for kind in [ErrorKind::Protocol, ErrorKind::Policy, ErrorKind::Credential] {
        first.set(Some(kind));
        let scope = format!("https://{}.example.test/.default", kind.name());
        let error = world.get(broker.get_token(&scope)).await.unwrap_err();
        assert_eq!(error.kind(), kind);
    }
    assert_eq!(second.asked(), (0, 0));
}

#[tokio::test]
async fn a_mistake_is_told_when_the_chain_is_made() {
    let error = Chain::new().then("a", ClientSecret::new("contoso", "not a guid", "s")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_chain_of_one_is_not_hurried() {
    let world = World::new().await;
    let only = Link::default();
    let broker = world.builder().build(chain(&[("a", &only)])).unwrap();
    world.get(broker.get_token(VAULT)).await.unwrap();
    assert_eq!(only.asked(), (1, 0));
}

#[tokio::test]
async fn a_chain_gets_no_users_tokens() {
    let world = World::new().await;
    let link = Link::default();
    let broker = world.builder().build(chain(&[("a", &link)])).unwrap();
    let subject = Subject::OnBehalfOf(UserAssertion::new("eyJ.x.y").unwrap());
    let error = world.get(broker.get_token(&request(VAULT).subject(subject))).await.unwrap_err();
    assert_eq!((error.kind(), link.asked()), (ErrorKind::Config, (0, 0)));
    assert!(
        Broker::builder().binding("b").build(chain(&[("a", &link)])).is_err(),
        "its tokens are never shared"
    );
}

#[tokio::test]
async fn ten_tasks_on_ten_scopes_search_and_all_are_served() {
    let world = World::new().await;
    let (first, second) = (Link::absent(), Link::default());
    let broker = world.builder().build(chain(&[("a", &first), ("b", &second)])).unwrap();
    let scopes: Vec<_> = (0..10).map(|n| format!("https://r{n}.example.test/.default")).collect();
    let calls = scopes.iter().map(|scope| broker.get_token(scope));
    for result in world.run(secs(60), futures_util::future::join_all(calls)).await {
        world.see(result).unwrap();
    }
    assert_eq!(second.asked().0, 10);
}

/// A link that answers when it is let.
#[derive(Debug, Clone, Default)]
struct Slow(Arc<tokio::sync::Notify>);

impl Provider for Slow {
    fn identity(&self) -> Identity {
        Identity::local()
    }

    fn fetch<'a>(
        &'a self,
        cx: &'a FetchContext,
        _: &'a TokenRequest,
        _: Grant,
    ) -> BoxFuture<'a, Result<Fetched, Error>> {
        Box::pin(async move {
            self.0.notified().await;
            Ok(Fetched::new("eyJ.a-token-of-a-link.sig", cx.clock().now(), secs(3600)))
        })
    }
}

#[tokio::test]
async fn a_search_that_ends_late_does_not_change_what_another_found() {
    let world = World::new().await;
    let (first, slow) = (Link::absent(), Slow::default());
    let chain = Arc::new(chain(&[("a", &first)]).then("b", Ok(slow.clone())).unwrap());
    let broker = world.builder().build(Arc::clone(&chain)).unwrap();
    let late = tokio::spawn({
        let broker = broker.clone();
        async move { broker.get_token(SCOPES[0]).await }
    });
    until(|| first.asked().0 == 1).await;
    first.set(None);
    world.get(broker.get_token(SCOPES[1])).await.unwrap();
    slow.0.notify_one();
    world.see(late.await.unwrap()).unwrap();
    assert_eq!(chain.chosen(), Some("a"));
    world.get(broker.get_token(SCOPES[2])).await.unwrap();
    assert_eq!(first.asked().0, 3);
}

fn application(world: &World) -> Env {
    Env::empty()
        .set("AZURE_TENANT_ID", sample::TENANT)
        .set("AZURE_CLIENT_ID", sample::SECRET_APP)
        .set("AZURE_AUTHORITY_HOST", world.emulator.authority())
}

fn environment(env: &Env) -> Environment {
    Environment::new(env).dangerous_plain_http()
}

#[tokio::test]
async fn the_environment_makes_an_application_of_its_variables() {
    let world = World::new().await;
    let env = application(&world).set("AZURE_CLIENT_SECRET", sample::SECRET);
    let client = environment(&env).client().unwrap();
    assert_eq!(client.name(), "client-secret");
    world.get(world.builder().build(client).unwrap().get_token(VAULT)).await.unwrap();

    // Under another prefix, beside the platform's own.
    let env = Env::empty()
        .set("AZURE_CLIENT_SECRET", "somebody-elses")
        .set("BATON_ENTRA_TENANT_ID", sample::TENANT)
        .set("BATON_ENTRA_CLIENT_ID", sample::SECRET_APP)
        .set("BATON_ENTRA_CLIENT_SECRET", sample::SECRET)
        .set("BATON_ENTRA_AUTHORITY_HOST", world.emulator.authority());
    let client = environment(&env).prefix("BATON_ENTRA_").client().unwrap();
    world.get(world.builder().build(client).unwrap().get_token(VAULT)).await.unwrap();

    // Plain http is taken by name only.
    let error = Environment::new(&env).prefix("BATON_ENTRA_").client().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[test]
fn a_partial_set_of_variables_names_what_is_missing() {
    let (tenant, client) = (("TENANT_ID", sample::TENANT), ("CLIENT_ID", sample::SECRET_APP));
    let secret = ("CLIENT_SECRET", "s");
    let token = ("FEDERATED_TOKEN_FILE", "/nowhere/token");
    let certificate = ("CLIENT_CERTIFICATE_PATH", "/nowhere/cert.pem");
    for (set, missing) in [
        (&[secret][..], "TENANT_ID"),
        (&[secret, tenant], "CLIENT_ID"),
        (&[secret, client], "TENANT_ID"),
        (&[("CLIENT_SECRET_FILE", "/nowhere"), client], "TENANT_ID"),
        (&[token], "TENANT_ID"),
        (&[token, tenant], "CLIENT_ID"),
        (&[tenant], "CLIENT_ID"),
        (&[tenant, client], "CLIENT_SECRET"),
        (&[tenant, client, certificate], "cert.pem"),
        (&[tenant, ("CLIENT_ID", "not a guid"), secret], "client id"),
        (&[("TENANT_ID", "../x"), client, secret], "tenant"),
        (&[tenant, client, ("CLIENT_SECRET", "s\n")], "client secret"),
        (&[tenant, client, secret, ("AUTHORITY_HOST", "http://far.example")], "authority"),
        (&[tenant, client, secret, ("REGIONAL_AUTHORITY_NAME", "West Europe!")], "region"),
    ] {
        for prefix in ["AZURE_", "BATON_ENTRA_"] {
            let env: Env = set.iter().map(|(name, value)| (format!("{prefix}{name}"), *value)).collect();
            let environment = Environment::new(&env).prefix(prefix);
            let error = environment.client().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{set:?}: {error}");
            let told = format!("{error} {}", error.advice());
            assert!(told.contains(missing), "{set:?}: {told}");
            let by_chain = environment.default_chain().unwrap_err();
            assert_eq!(by_chain.to_string(), error.to_string(), "never silently passed over");
        }
    }
    for nothing in [&[][..], &[client]] {
        let env: Env = nothing.iter().map(|(name, value)| (format!("AZURE_{name}"), *value)).collect();
        assert_eq!(Environment::new(&env).client().unwrap_err().kind(), ErrorKind::NotAvailable);
    }
}

#[test]
fn a_malformed_variable_is_named_with_its_prefix() {
    let good = [("TENANT_ID", sample::TENANT), ("CLIENT_ID", sample::SECRET_APP), ("CLIENT_SECRET", "s")];
    for (name, bad) in [
        ("TENANT_ID", "hunter2"),
        ("CLIENT_ID", "hunter2"),
        ("CLIENT_SECRET", "hunter2\n"),
        ("AUTHORITY_HOST", "http://far.example"),
        ("REGIONAL_AUTHORITY_NAME", "West Europe!"),
    ] {
        for prefix in ["AZURE_", "BATON_ENTRA_"] {
            let env: Env = good.iter().map(|(name, value)| (format!("{prefix}{name}"), *value)).collect();
            let error = Environment::new(&env.set(format!("{prefix}{name}"), bad)).prefix(prefix).client();
            let error = error.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            assert!(error.to_string().contains(&format!("{prefix}{name}: ")), "{error}");
            assert!(!error.advice().is_empty() && !format!("{error:?}").contains("hunter2"), "{error}");
        }
    }
    let error =
        Environment::new(&Env::empty().set("AZURE_CLIENT_ID", "hunter2")).managed_identity().unwrap_err();
    assert!(error.to_string().contains("AZURE_CLIENT_ID: "), "{error}");
}

/// As a file or a secret of Kubernetes often ends. The secret's own value is told about it instead: it may be meant.
#[tokio::test]
async fn line_ends_around_what_is_no_secret_are_left_out() {
    let world = World::new().await;
    let env = Env::empty()
        .set("AZURE_TENANT_ID", format!("{}\n", sample::TENANT))
        .set("AZURE_CLIENT_ID", format!(" {}\r\n", sample::SECRET_APP))
        .set("AZURE_AUTHORITY_HOST", format!("{}\n", world.emulator.authority()))
        .set("AZURE_CLIENT_SECRET", sample::SECRET);
    let client = environment(&env).client().unwrap();
    world.get(world.builder().build(client).unwrap().get_token(VAULT)).await.unwrap();
    let env = env.set("AZURE_FEDERATED_TOKEN_FILE", "/nowhere/token").set("AZURE_AUTHORITY_HOST", "");
    WorkloadIdentity::from_env(&env).unwrap();
}

#[tokio::test]
async fn an_application_on_a_machine_that_takes_no_identity_by_name_has_its_chain() {
    let world = World::new().await;
    // Azure Arc has one identity only. The client id is the application's.
    let env = application(&world)
        .set("IDENTITY_ENDPOINT", "http://localhost:1/metadata/identity/oauth2/token")
        .set("IMDS_ENDPOINT", "http://localhost:1")
        .set("PATH", "/nonexistent");
    let alone = Env::empty()
        .set("AZURE_CLIENT_ID", sample::SECRET_APP)
        .set("IDENTITY_ENDPOINT", "http://localhost:1/")
        .set("IMDS_ENDPOINT", "http://localhost:1");
    let chain = environment(&env.set("AZURE_CLIENT_SECRET", sample::SECRET)).default_chain().unwrap();
    world.get(world.builder().build(chain).unwrap().get_token(VAULT)).await.unwrap();
    // Where it can only be meant for the machine's identity, it is a mistake.
    assert_eq!(environment(&alone).default_chain().unwrap_err().kind(), ErrorKind::Config);
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf8_is_named_and_ends_the_chain() {
    use std::os::unix::ffi::OsStringExt as _;
    for name in ["AZURE_CLIENT_SECRET", "AZURE_TENANT_ID", "AZURE_TOKEN_CREDENTIALS", "IDENTITY_ENDPOINT"] {
        let value = std::ffi::OsString::from_vec(b"hunter2\xff".to_vec());
        let error = Environment::new(&Env::empty().set(name, value)).default_chain().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(name) && !format!("{error:?}").contains("hunter2"), "{error}");
    }
}

/// Nobody is signed in, and no program is installed.
fn bare() -> Env {
    Env::empty().set("PATH", "/nonexistent")
}

/// Programs are looked for in real time.
async fn in_real_time(world: &World, chain: Chain) -> Error {
    let broker = Broker::builder().transport(world.transport()).build(chain).unwrap();
    world.see(broker.get_token(VAULT).await).unwrap_err()
}

#[tokio::test]
async fn the_default_chain_lists_all_that_it_looked_for() {
    let world = World::new().await;
    world.emulator.faults().add(Fault::on(Endpoint::Identity).refuse());
    let error = in_real_time(&world, environment(&bare()).default_chain().unwrap()).await;
    assert_eq!(error.kind(), ErrorKind::NotAvailable, "{error}");
    let told = error.to_string();
    let places: Vec<_> = [
        "environment: ",
        "workload-identity: ",
        "managed-identity: ",
        "azure-cli: ",
        "azure-developer-cli: ",
    ]
    .iter()
    .map(|link| told.find(link).unwrap_or_else(|| panic!("{link} in {told}")))
    .collect();
    assert!(places.is_sorted(), "{told}");
}

#[tokio::test]
async fn the_default_chain_takes_the_machines_identity_where_imds_answers() {
    let world = World::new().await;
    let chain = Arc::new(environment(&bare()).default_chain().unwrap());
    let broker = world.builder().build(Arc::clone(&chain)).unwrap();
    world.get(broker.get_token(VAULT)).await.unwrap();
    assert_eq!(chain.chosen(), Some("managed-identity"));
    let probe = &world.emulator.journal().entries()[0];
    assert_eq!(probe.header("metadata"), None, "asked first whether it is there");
    let asked = world.requests();
    world.get(broker.get_token(STORAGE)).await.unwrap();
    assert_eq!(world.requests(), asked + 1, "and not any more");
}

#[tokio::test]
async fn the_default_chain_prefers_the_applications_own_credential_and_stays_with_it() {
    let world = World::new().await;
    let env = application(&world).set("AZURE_CLIENT_SECRET", sample::SECRET).set("PATH", "/nonexistent");
    let chain = Arc::new(environment(&env).default_chain().unwrap());
    let broker = world.builder().build(Arc::clone(&chain)).unwrap();
    world.get(broker.get_token(VAULT)).await.unwrap();
    assert_eq!(chain.chosen(), Some("environment"));
    // Refused now: the machine's identity is not taken in its stead.
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).error(7_000_222));
    let error = world.get(broker.get_token(STORAGE)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credential);
}

#[tokio::test]
async fn azure_token_credentials_chooses_among_the_links() {
    let world = World::new().await;
    world.emulator.faults().add(Fault::on(Endpoint::Identity).refuse());
    for (value, there, not) in [
        ("prod", &["environment: ", "managed-identity: "][..], &["azure-cli: "][..]),
        ("dev", &["azure-cli: ", "azure-developer-cli: "], &["environment: ", "managed-identity: "]),
        ("AzureCliCredential", &["azure-cli: "], &["azure-developer-cli: ", "environment: "]),
    ] {
        let env = bare().set("AZURE_TOKEN_CREDENTIALS", value);
        let told = in_real_time(&world, environment(&env).default_chain().unwrap()).await.to_string();
        assert!(there.iter().all(|link| told.contains(link)), "{value}: {told}");
        assert!(!not.iter().any(|link| told.contains(link)), "{value}: {told}");
    }
    let error = environment(&bare().set("AZURE_TOKEN_CREDENTIALS", "VisualStudioCredential"))
        .default_chain()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_static_token_can_be_the_last_resort() {
    let world = World::new().await;
    let chain = chain(&[("a", &Link::absent())]).then("static", StaticToken::new("eyJ0eXAi")).unwrap();
    let token = world.get(world.builder().build(chain).unwrap().get_token(VAULT)).await.unwrap();
    assert_eq!(token.secret(), "eyJ0eXAi");
}
