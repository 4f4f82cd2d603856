//! Weeks of a broker among faults, in moved time, with an oracle that knows what may be returned.
//!
//! To run other seeds, put them into [`SEEDS`] for a moment: `0..200` takes a minute in release. A failure names its
//! seed, and what happened to the key in question before.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

use entra_broker::{
    AccessToken, BoxFuture, Broker, CallOptions, Claims, Clock, Error, Handle, ManualClock, Metrics, Pool,
    Reader, TenantId, TokenRequest, Transport, TransportError,
    emulator::{Endpoint, sample},
};
use fastrand::Rng;
use http_body_util::BodyExt as _;
use tokio::task::JoinSet;

use crate::support::*;

/// Odd ones have a cache that is too small for all keys.
const SEEDS: Range<u64> = 0..2;

/// Those of the weeks over the real protocol.
const WIRE_SEEDS: Range<u64> = 0..1;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const SCOPES: [&str; 3] = [VAULT, STORAGE, "https://graph.microsoft.com/.default"];
const TENANTS: [Option<&str>; 3] = [None, Some("fabrikam.test"), Some("tailspin.test")];
const USERS: usize = 4;

/// Says which week went wrong.
struct Seed(u64);

#[expect(clippy::print_stderr, reason = "a failure has to say how it can be repeated")]
impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed of this week was {}", self.0);
        }
    }
}

/// A service that is asked otherwise needs none.
#[derive(Debug)]
struct NoTransport;

impl Transport for NoTransport {
    fn send<'a>(
        &'a self,
        _: Pool,
        _: http::Request<bytes::Bytes>,
        _: usize,
    ) -> BoxFuture<'a, Result<http::Response<bytes::Bytes>, TransportError>> {
        unreachable!("the service is no server")
    }
}

/// Each tenant's keys: the application's own and some users', for each scope.
fn targets() -> Vec<Target> {
    let mut targets = Vec::new();
    for (tenant_number, tenant) in TENANTS.into_iter().enumerate() {
        for user in 0..=USERS {
            let user = (user > 0).then(|| format!("assertion-of-user-{user}"));
            let target = |scope| Target { tenant, tenant_number, user: user.clone(), scope };
            targets.extend(SCOPES.map(target));
        }
    }
    targets
}

/// What all who take part in a week share.
struct Week {
    clock: Clock,
    control: ManualClock,
    oracle: Arc<Oracle>,
    /// The broker in use.
    broker: Mutex<(u64, Broker)>,
    /// Another one, over the same service, for the generation of this number.
    make: Box<dyn Fn(u64) -> Broker + Send + Sync>,
    requests: Vec<TokenRequest>,
}

impl Week {
    fn broker(&self) -> (u64, Broker) {
        self.broker.lock().unwrap().clone()
    }

    /// Time passes, from timer to timer, and at each of them all happens that can.
    async fn pass(&self, by: Duration) {
        let end = self.oracle.time.now() + by;
        loop {
            quiet().await;
            if let Some(violation) = self.oracle.violation() {
                panic!("{violation}");
            }
            let left = end.saturating_sub(self.oracle.time.now());
            if left.is_zero() {
                return;
            }
            let next = self.oracle.time.next_timer().map_or(left, |next| next.max(Duration::from_nanos(1)));
            self.oracle.time.advance(next.min(left));
        }
    }

    fn is_over(&self, end: Duration) -> bool {
        self.oracle.time.now() >= end
    }
}

/// One of many who need tokens.
struct Worker {
    week: Arc<Week>,
    rng: Rng,
    generation: u64,
    handles: HashMap<usize, Handle>,
    readers: HashMap<usize, Reader>,
    last: Option<AccessToken>,
}

impl Worker {
    async fn work(mut self, end: Duration) {
        while !self.week.is_over(end) {
            let pause = match self.rng.u8(..10) {
                0..2 => self.rng.u64(1..2_000),
                2..9 => self.rng.u64(1_000..900_000),
                _ => self.rng.u64(900_000..10_000_000),
            };
            self.week.clock.sleep(Duration::from_millis(pause)).await;
            // Now and then all want the same at the same moment.
            let key = if self.rng.u8(..8) == 0 {
                let now = self.week.oracle.time.now();
                let next = secs((now.as_secs() / 1_800 + 1) * 1_800);
                self.week.clock.sleep(next - now).await;
                next.as_secs() as usize / 1_800 * 7 % self.week.requests.len()
            } else {
                self.rng.usize(..self.week.requests.len())
            };
            self.act(key).await;
        }
    }

    async fn act(&mut self, key: usize) {
        let (generation, broker) = self.week.broker();
        if generation != self.generation {
            self.handles.clear();
            self.readers.clear();
            self.generation = generation;
        }
        let week = Arc::clone(&self.week);
        let (oracle, request) = (&week.oracle, &week.requests[key]);
        match self.rng.u8(..100) {
            0..10 => {
                let call = oracle.calls(key, None);
                let token = broker.peek(request);
                oracle.peeked(&call, token.as_ref().map(|token| token.secret()));
            }
            10..14 => {
                let reader = self.readers.entry(key).or_insert_with(|| broker.handle(request).reader());
                let call = oracle.calls(key, None);
                oracle.peeked(&call, reader.get().map(|token| token.secret()));
            }
            14..18 => {
                let handle = self.handle(&broker, key);
                let call = oracle.calls(key, None);
                let text = handle.with(|token| token.secret().to_owned());
                oracle.peeked(&call, text.as_deref());
            }
            18..30 => {
                let handle = self.handle(&broker, key);
                self.wait(key, handle.get(), secs(30)).await;
            }
            30..34 => {
                if let Some(token) = self.last.take() {
                    let was_current = broker.invalidate(&token);
                    // A token of the broker before this one is none of its business, as are all others.
                    oracle.refused(token.secret(), was_current);
                }
            }
            34..37 => {
                let claims = format!(r#"{{"access_token":{{"nbf":{{"value":"{}"}}}}}}"#, self.rng.u8(..3));
                let claims = Claims::parse(&claims).unwrap();
                let challenge = claims.to_string();
                let timeout = Duration::from_millis(self.rng.u64(1..40_000));
                let options = CallOptions::new().timeout(timeout).challenge(claims);
                let call = oracle.calls(key, Some(challenge));
                let (result, at_once) = watched(broker.get_token_with(request, &options)).await;
                oracle.got(&call, result.as_ref(), at_once, timeout);
            }
            37..45 => {
                // Somebody who does not wait for the end.
                let patience = Duration::from_millis(self.rng.u64(0..3_000));
                let call = oracle.calls(key, None);
                tokio::select! {
                    biased;
                    (result, at_once) = watched(broker.get_token(request)) => {
                        oracle.got(&call, result.as_ref(), at_once, secs(30));
                    }
                    () = week.clock.sleep(patience) => {}
                }
            }
            45..60 => {
                let timeout = Duration::from_millis(self.rng.u64(0..40_000));
                let options = CallOptions::new().timeout(timeout);
                self.wait(key, broker.get_token_with(request, &options), timeout).await;
            }
            60..65 => {
                // One that was prepared a moment ago and remembers nothing.
                let request = week.oracle.targets[key].request();
                self.wait(key, broker.get_token(&request), secs(30)).await;
            }
            65..75 if request.requested_tenant().is_none() && week.oracle.targets[key].user.is_none() => {
                self.wait(key, broker.get_token(week.oracle.targets[key].scope), secs(30)).await;
            }
            _ => self.wait(key, broker.get_token(request), secs(30)).await,
        }
    }

    fn handle(&mut self, broker: &Broker, key: usize) -> Handle {
        let handle = self.handles.entry(key).or_insert_with(|| broker.handle(&self.week.requests[key]));
        handle.clone()
    }

    async fn wait(
        &mut self,
        key: usize,
        asks: impl Future<Output = Result<AccessToken, Error>>,
        timeout: Duration,
    ) {
        let call = self.week.oracle.calls(key, None);
        let (result, at_once) = watched(asks).await;
        self.week.oracle.got(&call, result.as_ref(), at_once, timeout);
        if let Ok(token) = result {
            self.last = Some(token);
        }
    }
}

/// The machine sleeps now and then, and its wall clock is set.
async fn disturb(week: Arc<Week>, mut rng: Rng, end: Duration) {
    loop {
        let left = end.saturating_sub(week.oracle.time.now());
        week.clock.sleep(secs(rng.u64(600..40_000)).min(left)).await;
        if week.is_over(end) {
            return;
        }
        let by = secs(rng.u64(1..7_200));
        match rng.u8(..3) {
            0 => week.oracle.suspend(by),
            1 => week.control.step_forward(by),
            _ => week.control.step_back(by),
        }
    }
}

/// When all is well again, everything works: whoever has a token keeps it fresh and never waits for it.
async fn steady(week: Arc<Week>, rounds: u32) {
    let (_, broker) = week.broker();
    for round in 0..rounds {
        for (key, target) in week.oracle.targets.iter().enumerate() {
            let call = week.oracle.calls(key, None);
            let (result, at_once) = watched(broker.get_token(&week.requests[key])).await;
            week.oracle.got(&call, result.as_ref(), at_once, secs(30));
            // The longest hold has ended by now, and what was given in bad weather was replaced.
            if round > rounds / 4 {
                assert!(result.is_ok(), "{result:?}");
                let kept = week.oracle.roomy && target.user.is_none();
                assert!(at_once || !kept, "somebody waits for {target:?} though all is well");
            }
        }
        week.clock.sleep(secs(200)).await;
    }
}

impl Week {
    fn new(
        clock: &Clock,
        control: &ManualClock,
        oracle: &Arc<Oracle>,
        make: impl Fn(u64) -> Broker + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            clock: clock.clone(),
            control: control.clone(),
            oracle: Arc::clone(oracle),
            broker: Mutex::new((0, make(0))),
            make: Box::new(make),
            requests: oracle.targets.iter().map(Target::request).collect(),
        })
    }

    /// Seven days of trouble with a restart amid, a while in which all is well, and some days of silence.
    async fn runs(self: &Arc<Self>, rng: &mut Rng, workers: usize) -> Metrics {
        let end = self.oracle.time.now() + 7 * DAY;
        let mut tasks = JoinSet::new();
        for _ in 0..workers {
            let worker = Worker {
                week: Arc::clone(self),
                rng: rng.fork(),
                generation: 0,
                handles: HashMap::new(),
                readers: HashMap::new(),
                last: None,
            };
            tasks.spawn(worker.work(end));
        }
        tasks.spawn(disturb(Arc::clone(self), rng.fork(), end));
        self.pass(secs(rng.u64(3 * 86_400..4 * 86_400))).await;

        // The program starts anew.
        let generation = self.oracle.restart();
        let new = (generation, (self.make)(generation));
        let (_, old) = std::mem::replace(&mut *self.broker.lock().unwrap(), new);
        old.close().await;
        assert_eq!((old.metrics().in_flight, old.metrics().entries), (0, 0));
        drop(old);
        self.pass(end.saturating_sub(self.oracle.time.now()) + 4 * HOUR).await;
        while let Some(ended) = tasks.try_join_next() {
            ended.unwrap();
        }
        assert_eq!(tasks.len(), 0, "somebody waits for ever");

        tasks.spawn(steady(Arc::clone(self), 144));
        self.pass(9 * HOUR).await;
        tasks.try_join_next().unwrap().unwrap();

        // What nobody uses is left to expire.
        self.pass(3 * DAY).await;
        let metrics = self.broker().1.metrics();
        assert_eq!(metrics.in_flight, 0);
        if self.oracle.roomy {
            assert_eq!(metrics.entries, self.oracle.alive());
        }
        metrics
    }
}

async fn a_week(seed: u64) -> Counts {
    let shown = Seed(seed);
    let mut rng = Rng::with_seed(seed);
    let (clock, control) = Clock::manual(start());
    let begin = clock.now();
    let (targets, roomy) = (targets(), seed.is_multiple_of(2));
    let week = (begin.mono(), begin.mono() + 7 * DAY);
    let forecast = Forecast::draw(&mut rng, week, &WEATHERS, (TENANTS.len(), targets.len()));
    let oracle = Oracle::new(TrueTime::new(control.clone(), begin.mono()), targets, roomy);
    let service = Service::new(&oracle, forecast, begin, rng.fork());
    let capacity = if roomy { oracle.targets.len() } else { 7 };
    let on = clock.clone();
    let week = Week::new(&clock, &control, &oracle, move |generation| {
        let builder = Broker::builder().clock(on.clone()).transport(NoTransport).allow_all_tenants();
        builder.seed(seed).capacity(capacity).build(service.of(generation)).unwrap()
    });
    let metrics = week.runs(&mut rng, 24).await;
    assert!(metrics.entries <= capacity);
    drop(shown);
    oracle.counts()
}

#[test]
fn a_week_of_faults_brings_no_wrong_token_and_no_needless_error() {
    for seed in SEEDS {
        let (counts, heard) = listened(|| simulate(a_week(seed)));
        // Enough of everything that something could have gone wrong.
        let Counts { calls, at_once, errors, fetches, given, failed, lost, refused, .. } = counts;
        assert!(calls > 10_000 && at_once > 1_000 && given > 2_000 && fetches - lost < calls, "{counts:?}");
        assert!(errors > 300 && failed > 200 && lost > 5 && refused > 30, "{counts:?}");
        assert!(heard.len() > 100_000 && !heard.contains(SESAME), "a token was logged or stands in an error");
    }
}

/// The keys that a real client is asked for: the application's in two tenants, and two users'.
async fn real_targets(world: &World) -> Vec<Target> {
    let mut targets = Vec::new();
    for (tenant_number, tenant) in [None, Some(sample::OTHER_TENANT)].into_iter().enumerate() {
        let target = |scope| Target { tenant, tenant_number, user: None, scope };
        targets.extend(SCOPES.map(target));
    }
    // Tokens of theirs that outlast the week, so that it is not they that expire.
    let directory = world.emulator.directory();
    assert!(directory.consent_for_all(sample::TENANT, sample::PUBLIC_APP, sample::API, &[sample::API_SCOPE]));
    directory.set_lifetime(90 * DAY);
    for user in [sample::ALICE, sample::BOB] {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([
                ("grant_type", "password"),
                ("client_id", sample::PUBLIC_APP),
                ("password", "any"),
            ])
            .extend_pairs([("username", user), ("scope", &format!("{}/{}", sample::API, sample::API_SCOPE))])
            .finish();
        let request = http::Request::post(format!("/{}/oauth2/v2.0/token", sample::TENANT));
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(form.into());
        let answer = world.emulator.call(Endpoint::TokenService, request.unwrap()).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let user = Some(body["access_token"].as_str().unwrap().to_owned());
        targets.push(Target {
            tenant: None,
            tenant_number: 0,
            user,
            scope: "https://graph.microsoft.com/User.Read",
        });
    }
    directory.set_lifetime(HOUR);
    targets
}

async fn a_week_on_the_wire(seed: u64) -> Counts {
    let shown = Seed(seed);
    let world = Arc::new(World::new().await);
    let mut rng = Rng::with_seed(seed);
    let begin = world.clock.now();
    let targets = real_targets(&world).await;
    let week = (begin.mono(), begin.mono() + 7 * DAY);
    // Of users there is no weather of their own.
    let forecast = Forecast::draw(&mut rng, week, &WIRE_WEATHERS, (2, 2 * SCOPES.len()));
    let (roomy, many) = (seed.is_multiple_of(2), targets.len());
    let oracle = Oracle::new(TrueTime::new(world.time.clone(), begin.mono()), targets, roomy);
    let (of, told) = (Arc::clone(&world), Arc::clone(&oracle));
    let week = Week::new(&world.clock, &world.time, &oracle, move |_| {
        let transport = Watched::new(of.transport_unsearched(), &told);
        let builder = of.builder().seed(seed).transport(transport).capacity(if roomy { many } else { 3 });
        builder.allow_tenants([TenantId::parse(sample::OTHER_TENANT).unwrap()]).build(of.client()).unwrap()
    });
    for spell in forecast.0 {
        let (week, world, mut rng) = (Arc::clone(&week), Arc::clone(&world), rng.fork());
        tokio::spawn(async move {
            week.clock.sleep(spell.from.saturating_sub(week.oracle.time.now())).await;
            let fault = strike(&world.emulator, &spell, &week.oracle.targets, &mut rng);
            week.clock.sleep(spell.until.saturating_sub(week.oracle.time.now())).await;
            world.emulator.faults().remove(fault);
        });
    }
    week.runs(&mut rng, 8).await;
    drop(shown);
    oracle.counts()
}

#[test]
fn a_week_of_faults_on_the_wire_brings_no_wrong_token_and_no_needless_error() {
    for seed in WIRE_SEEDS {
        let (counts, heard) = listened(|| simulate(a_week_on_the_wire(seed)));
        let Counts { calls, at_once, errors, given, failed, lost, refused, .. } = counts;
        assert!(calls > 3_000 && at_once > 1_000 && given > 500, "{counts:?}");
        assert!(errors > 100 && failed > 100 && lost > 5 && refused > 10, "{counts:?}");
        // What all tokens begin with: the header of a JWT.
        let leaks = ["eyJ", sample::SECRET].map(|secret| heard.contains(secret));
        assert!(
            heard.len() > 100_000 && leaks == [false; 2],
            "a secret was logged or stands in an error: {leaks:?}"
        );
    }
}
