//! A credential of the SDK as a provider.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use azure_core::{
    credentials::{AccessToken, TokenCredential, TokenRequestOptions},
    error::ErrorKind as Theirs,
    time::{Duration as Span, OffsetDateTime},
};
use entra_broker::{
    AzureCredential, Broker, CallOptions, Claims, Clock, Error, ErrorKind, ManualClock, StaticToken, Subject,
    TokenRequest, UserId, emulator::sample,
};

use crate::support::{Azure, VAULT, ours, read, secs, tenant};

/// Says what it was told to, and repeats the last of it.
#[derive(Debug, Default)]
struct Parrot {
    says: Mutex<VecDeque<azure_core::Result<AccessToken>>>,
    asked: Mutex<Vec<String>>,
}

#[async_trait::async_trait]
impl TokenCredential for Parrot {
    async fn get_token(
        &self,
        scopes: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        self.asked.lock().unwrap().push(scopes.join(" "));
        let mut says = self.says.lock().unwrap();
        match says.front().unwrap() {
            Ok(token) if says.len() == 1 => Ok(token.clone()),
            _ => says.pop_front().unwrap(),
        }
    }
}

struct World {
    broker: Broker,
    parrot: Arc<Parrot>,
    time: ManualClock,
    start: OffsetDateTime,
}

impl World {
    fn new() -> Self {
        let wall = std::time::UNIX_EPOCH + secs(1_800_000_000);
        let (clock, time) = Clock::manual(wall);
        let parrot = Arc::<Parrot>::default();
        let builder = Broker::builder().clock(clock).seed(7).allow_all_tenants();
        let broker = builder.build(AzureCredential::new(parrot.clone())).unwrap();
        Self { broker, parrot, time, start: wall.into() }
    }

    fn say(&self, token: &'static str, expires_on: OffsetDateTime) -> &Self {
        self.parrot.says.lock().unwrap().push_back(Ok(AccessToken::new(token, expires_on)));
        self
    }

    fn fail(&self, error: azure_core::Error) -> &Self {
        self.parrot.says.lock().unwrap().push_back(Err(error));
        self
    }

    fn asked(&self) -> usize {
        self.parrot.asked.lock().unwrap().len()
    }

    async fn get(&self) -> Result<String, Error> {
        self.broker.get_token(VAULT).await.map(|token| token.secret().to_owned())
    }
}

#[tokio::test]
async fn its_token_is_cached_until_the_instant_at_which_it_ends() {
    let world = World::new();
    let end = world.start + Span::seconds(3600);
    world.say("one", end).say("two", end + Span::seconds(3600));
    assert_eq!(world.get().await.unwrap(), "one");
    assert_eq!(world.get().await.unwrap(), "one");
    assert_eq!(*world.parrot.asked.lock().unwrap(), [VAULT]);
    let token = world.broker.peek(VAULT).unwrap();
    assert_eq!(OffsetDateTime::from(token.expires_on()), end);
    world.time.advance(secs(3599));
    assert_eq!(world.broker.peek(VAULT).unwrap().secret(), "one");
    world.time.advance(secs(1));
    assert!(world.broker.peek(VAULT).is_none());
}

#[tokio::test]
async fn scopes_come_one_by_one() {
    let world = World::new();
    world.say("one", world.start + Span::hours(1));
    let graph = "https://graph.microsoft.com/User.Read https://graph.microsoft.com/Mail.Read";
    world.broker.get_token(graph).await.unwrap();
    let sorted = "https://graph.microsoft.com/Mail.Read https://graph.microsoft.com/User.Read";
    assert_eq!(*world.parrot.asked.lock().unwrap(), [sorted]);
}

#[tokio::test]
async fn an_end_in_the_past_is_an_error_and_one_far_away_is_taken() {
    let epoch = OffsetDateTime::UNIX_EPOCH;
    for end in
        [epoch, epoch - Span::weeks(400_000 / 4), World::new().start, World::new().start - Span::SECOND]
    {
        let world = World::new();
        world.say("one", end);
        let error = world.get().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{end}");
    }
    let world = World::new();
    world.say("one", world.start + Span::weeks(400_000));
    assert_eq!(world.get().await.unwrap(), "one");
    // It comes out again on the SDK's side as well.
    let token = TokenCredential::get_token(&world.broker, &[VAULT], None).await.unwrap();
    assert!(token.expires_on > world.start + Span::weeks(5_000));
    world.time.advance(secs(100 * 365 * 86_400));
    assert_eq!(world.get().await.unwrap(), "one");
}

#[tokio::test]
async fn an_empty_token_is_none() {
    let world = World::new();
    world.say("", world.start + Span::hours(1));
    assert_eq!(world.get().await.unwrap_err().kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn what_it_would_ignore_is_refused_and_it_is_not_asked() {
    let world = World::new();
    world.say("one", world.start + Span::hours(1));
    world.get().await.unwrap();
    let claims = Claims::parse(r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#).unwrap();
    let vault = TokenRequest::new(VAULT).unwrap();
    let plain = CallOptions::new();
    for (request, options, named) in [
        (vault.clone().tenant(tenant("a.test")), plain.clone(), "tenant"),
        (vault.clone().claims(claims.clone()), plain.clone(), "claims"),
        (vault.clone(), plain.challenge(claims), "claims"),
    ] {
        let error = world.broker.get_token_with(&request, &options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(named) && error.advice().contains("ignore"), "{error:?}");
    }
    let alice = vault.subject(Subject::User(UserId::new("alice").unwrap()));
    assert!(world.broker.get_token(&alice).await.is_err());
    assert_eq!((world.asked(), world.get().await.unwrap().as_str()), (1, "one"));
}

#[tokio::test]
async fn its_tokens_never_leave_the_process() {
    let builder = Broker::builder().binding("billing-prod");
    let error = builder.build(AzureCredential::new(Arc::<Parrot>::default())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_cache_below_that_gives_the_same_token_is_not_asked_without_pause() {
    let world = World::new();
    world.say("one", world.start + Span::hours(1));
    let handle = world.broker.handle(&TokenRequest::new(VAULT).unwrap());
    for _ in 0..3_590 {
        assert_eq!(handle.get().await.unwrap().secret(), "one");
        world.time.advance(secs(1));
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }
    let asked = world.asked();
    assert!((3..=40).contains(&asked), "{asked} times within an hour");
}

#[tokio::test]
async fn a_cache_below_cannot_be_forced_and_that_is_said() {
    let world = World::new();
    world.say("one", world.start + Span::hours(1));
    world.get().await.unwrap();
    let error = world.broker.get_token_with(VAULT, &CallOptions::new().force_refresh()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TokenRefused);
    assert_eq!(world.get().await.unwrap(), "one");
}

#[tokio::test]
async fn while_it_fails_the_cached_token_is_served() {
    let world = World::new();
    world.say("one", world.start + Span::hours(1));
    world.fail(azure_core::Error::with_message(Theirs::Connection, "down"));
    // The parrot repeats what stands alone: the first is taken out by being asked for.
    world.get().await.unwrap();
    world.time.advance(secs(3000));
    assert_eq!(world.get().await.unwrap(), "one");
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert_eq!((world.asked(), world.broker.metrics().failures), (2, 1));
    assert_eq!(world.get().await.unwrap(), "one");
}

#[tokio::test]
async fn its_error_is_the_source_of_ours() {
    let world = World::new();
    world.fail(azure_core::Error::with_message(Theirs::Credential, "run az login"));
    let error = world.get().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "run az login");
}

#[tokio::test]
async fn a_broker_over_a_brokers_credential_gives_tokens_and_errors_as_they_were() {
    let azure = Azure::with_tokens_of(secs(3600)).await;
    let over = |secret: &str| {
        let below = azure.builder().build(azure.provider_with(secret)).unwrap();
        azure.builder().build(AzureCredential::new(Arc::new(below))).unwrap()
    };
    let client = azure.vault.client(Arc::new(over(sample::SECRET))).unwrap();
    assert_eq!(read(&client).await.unwrap(), "door-value");
    azure.visit();
    let client = azure.vault.client(Arc::new(over("wrong-secret"))).unwrap();
    let error = ours(&read(&client).await.unwrap_err());
    assert_eq!((error.kind(), error.aadsts()), (ErrorKind::Credential, &[7_000_215][..]));

    let token = Broker::new(StaticToken::new("eyJ0eXAi").unwrap().lives(secs(3600))).unwrap();
    let above = Broker::new(AzureCredential::new(Arc::new(token))).unwrap();
    assert_eq!(above.get_token(VAULT).await.unwrap().secret(), "eyJ0eXAi");
}
