//! The engine without providers: the order of a fetch, and what the scheduler remembers.

use std::{
    sync::{Mutex, OnceLock},
    time::{Duration, UNIX_EPOCH},
};

use super::*;
use crate::{
    BoxFuture,
    claims::Claims,
    clock::ManualClock,
    fetched::{Fetched, Grant},
    request::{Challenge, TokenRequest},
    secret::Secret,
    subject::UserId,
};

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Writes down what the engine does, in which order, and answers as it is told.
#[derive(Debug, Default)]
struct Recorder {
    steps: Mutex<Vec<&'static str>>,
    engine: OnceLock<std::sync::Weak<Engine>>,
    clock: OnceLock<Clock>,
    /// The how manieth question for something newer is answered, from 1; 0: none.
    newer_at: usize,
    fails: bool,
}

impl Recorder {
    fn note(&self, step: &'static str) {
        self.steps.lock().unwrap().push(step);
    }

    fn fetched(&self, text: &'static str) -> Fetched {
        Fetched::new(text, self.clock.get().unwrap().now(), secs(3600))
    }

    /// What stands in the process cache.
    fn published(&self, key: &Key) -> Option<String> {
        let engine = self.engine.get()?.upgrade()?;
        Some(engine.cache.get(key)?.peek()?.secret().to_owned())
    }
}

impl Grants for Recorder {
    fn take<'a>(&'a self, _: &'a Subject, _: Now) -> BoxFuture<'a, Result<grants::GrantLease, Error>> {
        self.note("take");
        Box::pin(async {
            Ok(grants::GrantLease { grant: Grant::Refresh(Secret::from("refresh-token".to_owned())) })
        })
    }

    fn commit<'a>(&'a self, lease: grants::GrantLease, _: &'a Fetched) -> BoxFuture<'a, Result<(), Error>> {
        assert!(matches!(lease.grant, Grant::Refresh(_)));
        self.note("commit");
        Box::pin(async { Ok(()) })
    }
}

impl Shared for Recorder {
    fn newer<'a>(&'a self, _: &'a Key, _: Option<&'a AccessToken>) -> BoxFuture<'a, Option<Fetched>> {
        self.note("newer");
        let asked = self.steps.lock().unwrap().iter().filter(|step| **step == "newer").count();
        let found = (asked == self.newer_at).then(|| self.fetched("shared"));
        Box::pin(async { found })
    }

    fn lease<'a>(&'a self, _: &'a Key, _: Now) -> BoxFuture<'a, Result<grants::KeyLease, Error>> {
        self.note("lease");
        Box::pin(async { Ok(grants::KeyLease::unshared()) })
    }

    fn put<'a>(&'a self, key: &'a Key, fetched: &'a Fetched) -> BoxFuture<'a, ()> {
        assert_ne!(
            self.published(key).as_deref(),
            Some(fetched.token.expose()),
            "it was published too early"
        );
        self.note("put");
        Box::pin(async {})
    }
}

fn clock() -> (Clock, ManualClock) {
    Clock::manual(UNIX_EPOCH + secs(1_800_000_000))
}

fn engine(recorder: Recorder) -> (Arc<Engine>, Arc<Recorder>) {
    let (clock, _) = clock();
    let recorder = Arc::new(recorder);
    recorder.clock.set(clock.clone()).unwrap();
    let fetching = Arc::clone(&recorder);
    let fetch: Fetch = Arc::new(move |job| {
        fetching.note("fetch");
        let user = matches!(job.request.requested_subject(), Subject::User(_));
        assert_eq!(matches!(job.grant, Grant::Refresh(_)), user);
        let failed = Error::new(ErrorKind::Resource, "no such resource");
        let result = if fetching.fails { Err(failed) } else { Ok(fetching.fetched("fetched")) };
        Box::pin(async { result })
    });
    let engine = Engine::new(Parts {
        clock,
        capacity: 10,
        background: 2,
        fetch,
        grants: Arc::clone(&recorder) as _,
        shared: Arc::clone(&recorder) as _,
        budget: secs(60),
        seed: Some(7),
    });
    recorder.engine.set(Arc::downgrade(&engine)).unwrap();
    (engine, recorder)
}

fn app() -> TokenRequest {
    TokenRequest::new("https://vault.azure.net/.default").unwrap()
}

fn user() -> TokenRequest {
    app().subject(Subject::User(UserId::new("alice").unwrap()))
}

async fn call(
    engine: &Arc<Engine>,
    request: &TokenRequest,
    challenge: Option<Challenge>,
) -> Result<AccessToken, Error> {
    let now = engine.clock.now();
    let cell = engine.cell(request.key(), now);
    let step = engine.step(
        &cell,
        now,
        Ask { subject: request.requested_subject(), challenge: challenge.as_ref(), label: None },
    );
    let patience = Patience {
        timeout: secs(30),
        deadline: now.after(secs(30)),
        subject: request.requested_subject().clone(),
        challenge,
        label: None,
    };
    Arc::clone(engine).wait(cell, step, patience).await
}

async fn steps(recorder: Recorder, request: &TokenRequest) -> (Vec<&'static str>, Option<String>) {
    let (engine, recorder) = engine(recorder);
    let result = call(&engine, request, None).await;
    let published = recorder.published(request.key());
    assert_eq!(result.ok().map(|token| token.secret().to_owned()), published);
    assert_eq!(engine.in_flight(), 0);
    (std::mem::take(&mut recorder.steps.lock().unwrap()), published)
}

#[tokio::test]
async fn an_app_token_is_fetched_under_the_lease_of_its_key_and_shared_before_it_is_published() {
    let (steps, published) = steps(Recorder::default(), &app()).await;
    assert_eq!(steps, ["newer", "lease", "newer", "fetch", "put"]);
    assert_eq!(published.as_deref(), Some("fetched"));
}

#[tokio::test]
async fn a_users_token_is_fetched_under_the_lease_of_the_grant_which_is_kept_before_the_token_is_shared() {
    let (steps, published) = steps(Recorder::default(), &user()).await;
    assert_eq!(steps, ["newer", "take", "newer", "fetch", "commit", "put"]);
    assert_eq!(published.as_deref(), Some("fetched"));
}

#[tokio::test]
async fn what_another_machine_has_fetched_is_taken_before_or_after_the_lease() {
    let first = steps(Recorder { newer_at: 1, ..Recorder::default() }, &app()).await;
    assert_eq!(first, (vec!["newer"], Some("shared".to_owned())));
    let second = steps(Recorder { newer_at: 2, ..Recorder::default() }, &app()).await;
    assert_eq!(second, (vec!["newer", "lease", "newer"], Some("shared".to_owned())));
    let users = steps(Recorder { newer_at: 2, ..Recorder::default() }, &user()).await;
    assert_eq!(users, (vec!["newer", "take", "newer"], Some("shared".to_owned())));
}

#[tokio::test]
async fn a_fetch_that_fails_commits_shares_and_publishes_nothing() {
    let (steps, published) = steps(Recorder { fails: true, ..Recorder::default() }, &user()).await;
    assert_eq!((steps, published), (vec!["newer", "take", "newer", "fetch"], None));
}

#[tokio::test]
async fn a_challenge_is_not_met_by_what_another_machine_has() {
    let claims =
        Claims::parse(r#"{"access_token":{"nbf":{"essential":true,"value":"1604106651"}}}"#).unwrap();
    for challenge in [Challenge::Claims(claims), Challenge::Refresh] {
        let (engine, recorder) = engine(Recorder { newer_at: 1, ..Recorder::default() });
        let token = call(&engine, &app(), Some(challenge)).await.unwrap();
        assert_eq!(token.secret(), "fetched");
        assert_eq!(*recorder.steps.lock().unwrap(), ["lease", "fetch", "put"]);
    }
}

/// An engine whose fetches of storage are throttled, and whose other fetches bring a token of ten minutes.
fn throttled(capacity: usize) -> (Arc<Engine>, ManualClock) {
    let (clock, time) = clock();
    let now = clock.clone();
    let fetch: Fetch = Arc::new(move |job| {
        let down = Error::new(ErrorKind::Throttled, "slow down").with_retry_after(secs(300));
        let storage = job.request.scopes().to_string().contains("storage");
        let result = if storage { Err(down) } else { Ok(Fetched::new("t", now.now(), secs(600))) };
        Box::pin(async { result })
    });
    let (grants, shared) = (Arc::new(Alone), Arc::new(Alone));
    let parts =
        Parts { clock, capacity, background: 2, fetch, grants, shared, budget: secs(60), seed: Some(7) };
    (Engine::new(parts), time)
}

async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn alarms_do_not_pile_up_while_a_token_in_use_cannot_be_refreshed() {
    let (engine, time) = throttled(10);
    let storage = TokenRequest::new("https://storage.azure.com/.default").unwrap();
    call(&engine, &app(), None).await.unwrap();
    time.advance(secs(300));
    call(&engine, &storage, None).await.unwrap_err();
    for _ in 0..2_900 {
        time.advance(Duration::from_millis(100));
        settle().await;
        assert!(engine.scheduler.len() <= 2, "{} alarms for two entries", engine.scheduler.len());
    }
}

#[tokio::test]
async fn entries_that_were_evicted_leave_no_alarms() {
    let (engine, _time) = throttled(10);
    for n in 0..10_000 {
        let user = UserId::new(format!("user-{n}")).unwrap();
        let request = app().subject(Subject::User(user));
        let cell = engine.cell(request.key(), engine.clock.now());
        engine.scheduler.look_at(&cell, u64::MAX);
    }
    assert!(engine.scheduler.len() < 2_000, "{} alarms for ten entries", engine.scheduler.len());
}

#[tokio::test]
async fn a_probe_that_a_caller_waits_for_may_ask_a_person_and_one_in_the_background_may_not() {
    let (clock, time) = clock();
    let (now, seen) = (clock.clone(), Arc::new(Mutex::new(Vec::new())));
    let noted = Arc::clone(&seen);
    let fetch: Fetch = Arc::new(move |job| {
        let mut seen = noted.lock().unwrap();
        seen.push((job.reason, job.attended));
        let refused = Error::new(ErrorKind::SignInRequired, "nobody has signed in");
        let result = if seen.len() == 2 { Ok(Fetched::new("t", now.now(), secs(600))) } else { Err(refused) };
        Box::pin(async { result })
    });
    let (grants, shared) = (Arc::new(Alone), Arc::new(Alone));
    let engine = Engine::new(Parts {
        clock,
        capacity: 10,
        background: 2,
        fetch,
        grants,
        shared,
        budget: secs(60),
        seed: Some(7),
    });
    call(&engine, &app(), None).await.unwrap_err();
    time.advance(secs(10));
    call(&engine, &app(), None).await.unwrap();
    for _ in 0..60 {
        settle().await;
        time.advance(secs(10));
    }
    let seen = seen.lock().unwrap();
    assert_eq!(
        seen[..4],
        [(Reason::Miss, true), (Reason::Probe, true), (Reason::Due, false), (Reason::Probe, false),]
    );
}

#[tokio::test]
async fn a_due_token_that_nothing_can_refresh_is_a_hit_until_its_last_call() {
    let (engine, time) = throttled(10);
    let assertion = crate::subject::UserAssertion::new("assertion").unwrap();
    let request = app().subject(Subject::OnBehalfOf(assertion));
    call(&engine, &request, None).await.unwrap();
    time.advance(secs(500));
    let (cell, now) = (engine.cache.get(request.key()).unwrap(), engine.clock.now());
    assert!(matches!(
        engine.step(&cell, now, Ask { subject: request.requested_subject(), challenge: None, label: None }),
        Step::Serve(_)
    ));
    assert!(cell.hit(now, |_| ()).is_some() && cell.hit(now.after(secs(70)), |_| ()).is_none());
}

#[tokio::test]
async fn a_flight_that_was_ended_by_closing_sends_nothing_more() {
    let (clock, _) = clock();
    let (this, gate) = (Arc::new(OnceLock::<std::sync::Weak<Engine>>::new()), Arc::new(OnceLock::new()));
    let (closing, asked) = (Arc::clone(&this), Arc::clone(&gate));
    let fetch: Fetch = Arc::new(move |job| {
        let (engine, asked) = (closing.get().unwrap().upgrade().unwrap(), Arc::clone(&asked));
        Box::pin(async move {
            assert!((job.gate)().is_ok());
            engine.close().await;
            asked.set((job.gate)().map_err(|error| error.kind())).unwrap();
            Err(Error::new(ErrorKind::Unavailable, "not sent"))
        })
    });
    let (grants, shared) = (Arc::new(Alone), Arc::new(Alone));
    let parts =
        Parts { clock, capacity: 10, background: 2, fetch, grants, shared, budget: secs(60), seed: Some(7) };
    let engine = Engine::new(parts);
    this.set(Arc::downgrade(&engine)).unwrap();
    assert_eq!(call(&engine, &app(), None).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(gate.get(), Some(&Err(ErrorKind::Closed)));
}

#[tokio::test]
async fn a_caller_whose_flight_is_just_landing_waits_and_does_not_spin() {
    let (engine, time) = throttled(10);
    let now = engine.clock.now();
    let cell = engine.cell(app().key(), now);
    // As between the two halves of a landing: no longer the entry's, and not yet over.
    let flight = Arc::new(Flight::new(1, Reason::Miss, Subject::App, None, now));
    let patience = Patience {
        timeout: secs(60),
        deadline: now.after(secs(60)),
        subject: Subject::App,
        challenge: None,
        label: None,
    };
    let mut waiting = Box::pin(Arc::clone(&engine).wait(cell, Step::Join(Arc::clone(&flight)), patience));
    time.advance(SILENCE);
    // A waiter that spins never comes back from here.
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(waiting.as_mut().poll(&mut cx).is_pending());
    flight.finish(flight::Outcome::Failed(closed()));
    assert_eq!(waiting.await.unwrap_err().kind(), ErrorKind::Closed);
}
