//! Tasks that ask, and what they felt.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use azure_core::credentials::TokenCredential as _;
use azure_identity::{ClientSecretCredential, ClientSecretCredentialOptions};
use entra_broker::{Broker, ClientSecret, TenantId, TokenRequest};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use super::service::Slow;
use crate::{
    Failure,
    hits::rounded,
    results::Run,
    service::{CLIENT_ID, SECRET, azure_options},
};

const SCOPE: &str = "https://vault.azure.net/.default";

/// Calls until a task lets others run, as any that also does something would.
const IN_A_ROW: u32 = 64;

/// Someone who can be asked for the token of a key.
pub(super) trait Ask: Send + Sync + 'static {
    fn ask(&self, key: usize) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Whether it knows a last call.
    const LAST_CALL: bool;
}

fn tenant(key: usize) -> String {
    format!("11111111-2222-3333-4444-{key:012}")
}

pub(super) struct Ours {
    broker: Broker,
    requests: Vec<TokenRequest>,
}

impl Ours {
    pub(super) fn new(service: Slow, keys: usize) -> Result<Self, Failure> {
        let provider = ClientSecret::new(&tenant(0), CLIENT_ID, SECRET)?;
        let broker = Broker::builder().transport(service).allow_all_tenants().build(provider)?;
        let request = |key| Ok(TokenRequest::new(SCOPE)?.tenant(TenantId::parse(&tenant(key))?));
        let requests = (0..keys).map(request).collect::<Result<_, Failure>>()?;
        Ok(Self { broker, requests })
    }
}

impl Ask for Ours {
    async fn ask(&self, key: usize) -> Result<(), Failure> {
        self.broker.get_token(&self.requests[key]).await?;
        Ok(())
    }

    const LAST_CALL: bool = true;
}

/// One credential a tenant, since it knows no tenant of a request.
pub(super) struct Theirs(Vec<Arc<ClientSecretCredential>>);

impl Theirs {
    pub(super) fn new(service: Slow, keys: usize) -> Result<Self, Failure> {
        let credential = |key| {
            let options = ClientSecretCredentialOptions { client_options: azure_options(service.clone()) };
            ClientSecretCredential::new(&tenant(key), CLIENT_ID.to_owned(), SECRET.into(), Some(options))
        };
        Ok(Self((0..keys).map(credential).collect::<Result<_, _>>()?))
    }
}

impl Ask for Theirs {
    async fn ask(&self, key: usize) -> Result<(), Failure> {
        self.0[key].get_token(&[SCOPE], None).await?;
        Ok(())
    }

    const LAST_CALL: bool = false;
}

/// Nobody is asked: what is left is the machine.
pub(super) struct Nobody;

impl Ask for Nobody {
    async fn ask(&self, _: usize) -> Result<(), Failure> {
        Ok(())
    }

    const LAST_CALL: bool = false;
}

/// Of the slowest kernels, which count 100 a second.
const TICK: Duration = Duration::from_millis(10);

pub(super) struct Asked<A> {
    pub(super) who: A,
    pub(super) service: Slow,
    pub(super) life: Duration,
    pub(super) keys: usize,
}

impl<A: Ask> Asked<A> {
    /// Whether there is a token that has not come to its last call, by more than a tick of the coarse clocks that the
    /// broker reads: it counts from the tick before it asks, and so is early by up to one.
    fn is_before_last_call(&self, key: usize, now: Instant) -> bool {
        let last_call = self.life - (self.life / 10).min(Duration::from_secs(30));
        self.service.newest(&tenant(key)).is_some_and(|asked| now + TICK < asked + last_call)
    }
}

/// What one of them felt.
struct Felt {
    took: Histogram<u64>,
    waited: u64,
    waited_before_last_call: u64,
    errors: u64,
    error: Option<String>,
    /// In calls of over a millisecond.
    slow: Duration,
}

pub(super) struct Callers {
    pub(super) tasks: usize,
    pub(super) run: Duration,
}

impl Callers {
    pub(super) async fn call<A: Ask>(self, asked: Asked<A>) -> Result<Run, Failure> {
        let asked = Arc::new(asked);
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        for seed in 0..self.tasks {
            let asked = Arc::clone(&asked);
            tasks.spawn(async move { Felt::new()?.call(&asked, begun + self.run, seed as u64).await });
        }
        let mut all = Felt::new()?;
        while let Some(felt) = tasks.join_next().await {
            all.add(felt??)?;
        }
        let requests = asked.service.seen();
        if let Some(error) = &all.error {
            eprintln!("latency: {} errors, the last: {error}", all.errors);
        }
        let spent = begun.elapsed().as_secs_f64() * self.tasks as f64;
        Ok(all.told::<A>(requests, spent))
    }
}

impl Felt {
    fn new() -> Result<Self, hdrhistogram::CreationError> {
        Ok(Self {
            // Up to an hour, to three digits.
            took: Histogram::new_with_bounds(1, 3_600_000_000_000, 3)?,
            waited: 0,
            waited_before_last_call: 0,
            errors: 0,
            error: None,
            slow: Duration::ZERO,
        })
    }

    async fn call<A: Ask>(mut self, asked: &Asked<A>, until: Instant, seed: u64) -> Result<Self, Failure> {
        let mut random = fastrand::Rng::with_seed(seed);
        loop {
            for _ in 0..IN_A_ROW {
                let key = random.usize(..asked.keys);
                let begun = Instant::now();
                if begun > until {
                    return Ok(self);
                }
                let mut call = pin!(asked.who.ask(key));
                let first = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
                let result = match first {
                    Poll::Ready(result) => result,
                    Poll::Pending => {
                        // Not when it began: between the two the last call may have come, and the thread may have slept.
                        let polled = Instant::now();
                        self.waited += 1;
                        self.waited_before_last_call += u64::from(asked.is_before_last_call(key, polled));
                        call.await
                    }
                };
                let took = begun.elapsed();
                self.took.record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX))?;
                if took > Duration::from_millis(1) {
                    self.slow += took;
                }
                if let Err(error) = result {
                    self.errors += 1;
                    self.error = Some(error.to_string());
                }
            }
            tokio::task::yield_now().await;
        }
    }

    fn add(&mut self, other: Self) -> Result<(), hdrhistogram::AdditionError> {
        self.took.add(other.took)?;
        self.waited += other.waited;
        self.waited_before_last_call += other.waited_before_last_call;
        self.errors += other.errors;
        self.error = other.error.or(self.error.take());
        self.slow += other.slow;
        Ok(())
    }

    fn told<A: Ask>(self, (requests, failed_requests): (u64, u64), spent: f64) -> Run {
        let took = &self.took;
        let over = |ms: u64| took.len() - took.count_between(0, ms * 1_000_000);
        Run {
            calls: took.len(),
            errors: self.errors,
            waited: self.waited,
            waited_before_last_call: A::LAST_CALL.then_some(self.waited_before_last_call),
            over_1_ms: over(1),
            over_50_ms: over(50),
            percent_of_time_over_1_ms: rounded(self.slow.as_secs_f64() / spent * 100.0),
            p50_ns: took.value_at_quantile(0.5),
            p99_ns: took.value_at_quantile(0.99),
            p999_ns: took.value_at_quantile(0.999),
            max_ns: took.max(),
            requests,
            failed_requests,
            curve: curve(took),
        }
    }
}

/// One call in 2, 5, 10, … took at least how long; to the slowest of all.
fn curve(took: &Histogram<u64>) -> Vec<(u64, u64)> {
    let decades = (0..).map(|power| 10_u64.pow(power));
    let one_in = decades.flat_map(|decade| [decade, 2 * decade, 5 * decade]).skip(1);
    one_in
        .take_while(|one_in| *one_in < took.len())
        .map(|one_in| (one_in, took.value_at_quantile(1.0 - 1.0 / one_in as f64)))
        .chain([(took.len(), took.max())])
        .collect()
}
