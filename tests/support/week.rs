//! A week in the life of a broker: many who need tokens, a machine that sleeps, a program that starts anew.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use entra_broker::{
    AccessToken, Broker, CallOptions, Claims, Clock, Error, Handle, ManualClock, Metrics, Reader,
    TokenRequest,
};
use fastrand::Rng;
use tokio::task::JoinSet;

use super::{Oracle, Target, quiet, secs, watched};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// What all who take part in a week share.
pub(crate) struct Week {
    pub(crate) clock: Clock,
    control: ManualClock,
    pub(crate) oracle: Arc<Oracle>,
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
    pub(crate) fn new(
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
    pub(crate) async fn runs(self: &Arc<Self>, rng: &mut Rng, workers: usize) -> Metrics {
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
