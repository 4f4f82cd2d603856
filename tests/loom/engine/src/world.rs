//! An engine with a source of tokens that does what a scenario says, callers, and an oracle that looks at each step.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex as Unscheduled, MutexGuard},
    time::{Duration, UNIX_EPOCH},
};

use shuttle::rand::{Rng as _, thread_rng};

use crate::{
    BoxFuture, Claims, Error, Subject,
    clock::{Clock, ManualClock, Now},
    error::ErrorKind,
    fetched::{Fetched, Grant},
    refresh::{Alone, Ask, Engine, Entry, Fetch, Grants, Job, Parts, Patience, grants::GrantLease},
    request::{Challenge, TokenRequest},
    secret::Secret,
    subject::UserId,
    sync::{Arc, Runtime, panic_here, yield_now},
    token::AccessToken,
};

/// How long each token lives. It is due after 40 minutes at the latest, and in its last call 30 s before its end.
pub(crate) const LIFE: Duration = Duration::from_secs(3600);

/// One of `0..n`, each as likely, as the schedule has it.
pub(crate) fn any(n: usize) -> usize {
    thread_rng().gen_range(0..n)
}

/// How a fetch ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    Well,
    /// With the text that the first fetch brought.
    WithTheSame,
    Failed(ErrorKind),
    Panicked,
    Never,
}

/// What the source does with the n-th fetch, from 1.
type Plan = Box<dyn Fn(u64) -> Ends + Send + Sync>;

/// What was seen so far. Not scheduled: nothing of it is the engine's.
#[derive(Default)]
struct Seen {
    fetches: u64,
    /// Fetches under way, by key.
    aloft: HashMap<u64, u32>,
    /// Those of them that nobody waits for.
    unattended: usize,
    refused: HashSet<String>,
    leased: u32,
    spent: HashSet<String>,
    committed: u64,
    closed: bool,
}

pub(crate) struct Oracle {
    seen: Unscheduled<Seen>,
    plan: Plan,
    clock: Clock,
    background: usize,
    overlaps: bool,
    /// One grant for all users, as if they were one.
    grant: Unscheduled<(Vec<std::task::Waker>, bool)>,
}

/// A fetch under way.
struct Aloft<'a> {
    oracle: &'a Oracle,
    key: u64,
    unattended: usize,
}

impl Drop for Aloft<'_> {
    fn drop(&mut self) {
        let mut seen = self.oracle.seen();
        *seen.aloft.get_mut(&self.key).unwrap() -= 1;
        seen.unattended -= self.unattended;
    }
}

impl Oracle {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn fetches(&self) -> u64 {
        self.seen().fetches
    }

    pub(crate) fn aloft(&self) -> u32 {
        self.seen().aloft.values().sum()
    }

    pub(crate) fn unspent(&self) -> u64 {
        let seen = self.seen();
        seen.spent.len() as u64 - seen.committed
    }

    /// From here on nothing may be sent.
    pub(crate) fn close(&self) {
        self.seen().closed = true;
    }

    fn takes_off(&self, key: u64, attended: bool) -> (u64, Aloft<'_>) {
        let mut seen = self.seen();
        let aloft = seen.aloft.entry(key).or_default();
        *aloft += 1;
        assert!(*aloft == 1 || self.overlaps, "{aloft} fetches of one key at a time");
        let unattended = usize::from(!attended);
        seen.unattended += unattended;
        assert!(
            seen.unattended <= self.background || self.overlaps,
            "{} fetches in the background",
            seen.unattended
        );
        seen.fetches += 1;
        (seen.fetches, Aloft { oracle: self, key, unattended })
    }

    async fn fetch(&self, job: Job) -> Result<Fetched, Error> {
        let sent = self.clock.now();
        let hash = job.request.key().hash();
        // As whoever sends something asks it, right before.
        let closed = self.seen().closed;
        (job.gate)()?;
        assert!(!closed, "something is sent after the engine was closed");
        let (number, _aloft) = self.takes_off(hash, job.attended);
        if let Grant::Refresh(token) = &job.grant {
            let first = self.seen().spent.insert(token.expose().to_owned());
            assert!(first, "a refresh token is spent twice");
        }
        for _ in 0..any(3) {
            yield_now().await;
        }
        let number = match (self.plan)(number) {
            Ends::Well => number,
            Ends::WithTheSame => 1,
            Ends::Failed(kind) => return Err(Error::new(kind, "as planned")),
            Ends::Panicked => panic_here().await,
            Ends::Never => std::future::pending().await,
        };
        let challenge = letters(job.challenge.as_ref());
        let runtime = Runtime::current().map_or("none", |runtime| runtime.name);
        Ok(Fetched::new(format!("{hash:x}.{number}.{runtime}.{challenge}"), sent, LIFE))
    }
}

impl std::fmt::Debug for Oracle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Oracle")
    }
}

/// One refresh token that rotates with each use, for all users.
impl Grants for Oracle {
    fn take<'a>(&'a self, subject: &'a Subject, _: Now) -> BoxFuture<'a, Result<GrantLease, Error>> {
        Box::pin(async move {
            if !matches!(subject, Subject::User(_)) {
                return Ok(GrantLease { grant: Grant::App });
            }
            std::future::poll_fn(|cx| {
                let mut grant = self.grant.lock().unwrap();
                if grant.1 {
                    grant.0.push(cx.waker().clone());
                    return std::task::Poll::Pending;
                }
                grant.1 = true;
                std::task::Poll::Ready(())
            })
            .await;
            yield_now().await;
            let mut seen = self.seen();
            seen.leased += 1;
            assert_eq!(seen.leased, 1, "the grant is leased twice at once");
            let token = format!("refresh-token-{}", seen.committed);
            Ok(GrantLease { grant: Grant::Refresh(Secret::from(token)) })
        })
    }

    fn commit<'a>(&'a self, _: GrantLease, _: &'a Fetched) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async {
            yield_now().await;
            let mut seen = self.seen();
            seen.leased -= 1;
            seen.committed += 1;
            drop(seen);
            let waiting = {
                let mut grant = self.grant.lock().unwrap();
                grant.1 = false;
                std::mem::take(&mut grant.0)
            };
            waiting.into_iter().for_each(std::task::Waker::wake);
            Ok(())
        })
    }
}

/// How much there may be at a time.
pub(crate) struct Bounds {
    pub(crate) capacity: usize,
    pub(crate) background: usize,
    /// A fetch that was taken over, or whose entry was evicted, may still be out while its successor is.
    pub(crate) overlaps: bool,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { capacity: 100, background: 16, overlaps: false }
    }
}

/// All that a scenario has.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) engine: Arc<Engine>,
    pub(crate) oracle: Arc<Oracle>,
    pub(crate) time: ManualClock,
    /// Where flights and callers are, where a scenario does not say otherwise.
    pub(crate) home: Arc<Runtime>,
}

impl World {
    pub(crate) fn new(plan: impl Fn(u64) -> Ends + Send + Sync + 'static) -> Self {
        Self::of(Bounds::default(), plan)
    }

    pub(crate) fn of(bounds: Bounds, plan: impl Fn(u64) -> Ends + Send + Sync + 'static) -> Self {
        let Bounds { capacity, background, overlaps } = bounds;
        let (clock, time) = Clock::manual(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let oracle = Arc::new(Oracle {
            seen: Unscheduled::default(),
            plan: Box::new(plan),
            clock: clock.clone(),
            background,
            overlaps,
            grant: Unscheduled::default(),
        });
        let fetching = Arc::clone(&oracle);
        let fetch: Fetch = Arc::new(move |job| {
            let oracle = Arc::clone(&fetching);
            Box::pin(async move { oracle.fetch(job).await })
        });
        let engine = Engine::new(Parts {
            clock,
            capacity,
            background,
            fetch,
            grants: Arc::clone(&oracle) as _,
            shared: Arc::new(Alone),
            budget: Duration::from_secs(60),
            seed: Some(7),
        });
        Self { engine, oracle, time, home: Runtime::new("home") }
    }

    pub(crate) fn now(&self) -> Now {
        self.engine.clock.now()
    }

    pub(crate) fn cell(&self, request: &TokenRequest) -> Arc<Entry> {
        self.engine.cell(request.key(), self.now())
    }

    /// As a broker calls: the hit, and what comes where there is none.
    pub(crate) async fn call(
        self,
        request: TokenRequest,
        challenge: Option<Challenge>,
    ) -> Result<AccessToken, Error> {
        let refused = self.oracle.seen().refused.clone();
        let (before, now) = (self.oracle.fetches(), self.now());
        let cell = self.engine.cell(request.key(), now);
        let hit = if challenge.is_none() { cell.take(now) } else { None };
        let result = match hit {
            Some(token) => Ok(AccessToken(token)),
            None => {
                let subject = request.requested_subject();
                let step =
                    self.engine.step(&cell, now, Ask { subject, challenge: challenge.as_ref(), label: None });
                let timeout = Duration::from_secs(3600);
                let patience = Patience {
                    timeout,
                    deadline: now.after(timeout),
                    subject: subject.clone(),
                    challenge: challenge.clone(),
                    label: None,
                };
                Arc::clone(&self.engine).wait(cell, step, patience).await
            }
        };
        if let Ok(token) = &result {
            let text = token.secret();
            let parts: Vec<_> = text.split('.').collect();
            assert_eq!(parts[0], format!("{:x}", request.key().hash()), "another key's token");
            assert!(!refused.contains(text), "given {text} though it was refused");
            assert!(now.nanos() < token.timeline().expiry(), "given a dead token");
            if let Some(challenge) = challenge {
                let wanted = letters(challenge.claims());
                assert_eq!(parts[3], wanted, "the token does not meet the challenge");
                let number: u64 = parts[1].parse().unwrap();
                assert!(number >= before || self.oracle.overlaps, "an old token for a challenge");
            }
        }
        result
    }

    /// A call in a task of its own.
    pub(crate) fn calls(&self, request: &TokenRequest) -> Calling {
        self.home.run(self.clone().call(request.clone(), None))
    }

    /// A resource refuses the token. Who calls after this has returned may not be given it.
    pub(crate) fn refuse(&self, token: &AccessToken) -> bool {
        let withdrawn = self.engine.invalidate(token);
        if withdrawn {
            self.oracle.seen().refused.insert(token.secret().to_owned());
        }
        withdrawn
    }

    /// Has a first token fetched, and time pass until it is due.
    pub(crate) async fn with_a_token_that_is_due(&self, request: &TokenRequest) -> AccessToken {
        let token = self.calls(request).await.unwrap().unwrap();
        // The scheduler is awake with it.
        self.time.advance(LIFE * 2 / 3);
        token
    }

    /// What must come to hold when all is over, whatever happened: nothing flies, no entry keeps a flight, and an
    /// evicted one has no token. The scheduler may still be busy, so what does not last is waited for; what never comes
    /// fails by its number of steps.
    pub(crate) async fn is_at_rest(&self, cells: &[Arc<Entry>]) {
        let rests = |cell: &Arc<Entry>| {
            let flies = cell.is_flying() || cell.slow(|slow| !format!("{slow:?}").contains("flight: None"));
            let empty = || cell.peek().is_none() && cell.take(self.now()).is_none();
            !flies && (cell.is_attached() || empty())
        };
        while self.engine.in_flight() != 0 || self.oracle.aloft() != 0 || !cells.iter().all(rests) {
            yield_now().await;
        }
    }
}

pub(crate) type Calling = shuttle::future::JoinHandle<Result<AccessToken, Error>>;

pub(crate) fn app() -> TokenRequest {
    TokenRequest::new("https://vault.azure.net/.default").unwrap()
}

pub(crate) fn other_app() -> TokenRequest {
    TokenRequest::new("https://storage.azure.com/.default").unwrap()
}

pub(crate) fn of_user(request: TokenRequest) -> TokenRequest {
    request.subject(Subject::User(UserId::new("alice").unwrap()))
}

/// Claims hold characters that no header may.
fn letters(claims: Option<&Claims>) -> String {
    claims.map_or("", Claims::as_str).chars().filter(char::is_ascii_alphanumeric).collect()
}

pub(crate) fn challenge(since: u32) -> Challenge {
    let claims = format!(r#"{{"access_token":{{"nbf":{{"essential":true,"value":"{since}"}}}}}}"#);
    Challenge::Claims(Claims::parse(&claims).unwrap())
}
