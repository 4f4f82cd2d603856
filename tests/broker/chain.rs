//! A chain of providers: what is passed over, what ends it, what it remembers, and what its error says.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use entra_broker::{
    BoxFuture, Broker, Chain, ClientSecret, Error, ErrorKind, FetchContext, Fetched, Grant, Identity,
    Provider, StaticToken, Subject, TokenRequest, UserAssertion,
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

#[tokio::test]
async fn a_static_token_can_be_the_last_resort() {
    let world = World::new().await;
    let chain = chain(&[("a", &Link::absent())]).then("static", StaticToken::new("eyJ0eXAi")).unwrap();
    let token = world.get(world.builder().build(chain).unwrap().get_token(VAULT)).await.unwrap();
    assert_eq!(token.secret(), "eyJ0eXAi");
}
