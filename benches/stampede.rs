//! How many requests reach the token service when 10,000 callers find nothing in the cache: one for each key, or this
//! exits with 1. And how late those come back whose time is up before the service answers.
//!
//! `cargo bench --bench stampede`, or with `-- --smoke` just to see that it works.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it found")]

use std::{
    env,
    error::Error,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use entra_broker::{
    BoxFuture, Broker, CallOptions, ClientSecret, ErrorKind, Pool, TokenRequest, Transport, TransportError,
};
use tokio::{runtime::Runtime, task::JoinSet};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    // `cargo bench` says `--bench`; `cargo test --benches` does not.
    let smoke = has("--smoke") || has("--test") || !has("--bench");
    let (callers, delay) = if smoke { (1_000, 20) } else { (10_000, 100) };
    let delay = Duration::from_millis(delay);
    let keys = if smoke { 10 } else { 100 };

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    println!("a token service that answers after {} ms\n", delay.as_millis());
    println!(
        "{:<44} {:>7} {:>5} {:>8} {:>8} {:>7} {:>7} {:>6}",
        "cold callers, all at once", "callers", "keys", "requests", "at most", "tokens", "errors", "ms"
    );
    let cases = [
        Case { name: "one key", keys: 1, answer: Reply::Token, requests: 1 },
        Case { name: "many keys", keys, answer: Reply::Token, requests: keys },
        Case { name: "one key, the secret is wrong", keys: 1, answer: Reply::InvalidClient, requests: 1 },
        // Three attempts are one fetch; the retries are the provider's.
        Case { name: "one key, the service answers 503", keys: 1, answer: Reply::Unavailable, requests: 3 },
    ];
    let mut failed = false;
    for case in cases {
        let found = runtime.block_on(case.run(callers, delay))?;
        println!(
            "{:<44} {callers:>7} {:>5} {:>8} {:>8} {:>7} {:>7} {:>6}",
            case.name,
            case.keys,
            found.requests,
            case.requests,
            found.tokens,
            callers - found.tokens,
            found.took.as_millis(),
        );
        let all = if case.answer == Reply::Token { callers } else { 0 };
        failed |= found.requests > case.requests || found.tokens != all;
    }
    println!(
        "\nrequests: at the token service; at most: as many as there are attempts in one fetch for each key."
    );
    deadlines(&runtime, smoke)?;
    if failed {
        println!("\nFAILED: more requests than that, or a caller that got something else than all others");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

struct Case {
    name: &'static str,
    keys: u64,
    answer: Reply,
    /// As many as there may be.
    requests: u64,
}

struct Found {
    requests: u64,
    tokens: u64,
    took: Duration,
}

impl Case {
    async fn run(&self, callers: u64, delay: Duration) -> Result<Found, Box<dyn Error>> {
        let (service, broker) = broker(self.answer, delay)?;
        let requests = (0..self.keys).map(request).collect::<Result<Vec<_>, _>>()?;

        let start = now();
        let mut tasks = JoinSet::new();
        for caller in 0..callers {
            let broker = broker.clone();
            let request = Arc::clone(&requests[(caller % self.keys) as usize]);
            tasks.spawn(async move { broker.get_token(&*request).await.is_ok() });
        }
        let tokens = tasks.join_all().await.into_iter().filter(|&token| token).count() as u64;
        Ok(Found { requests: service.requests.load(Ordering::Relaxed), tokens, took: start.elapsed() })
    }
}

fn broker(answer: Reply, delay: Duration) -> Result<(Arc<Service>, Broker), Box<dyn Error>> {
    let service = Arc::new(Service { answer, delay, requests: AtomicU64::new(0) });
    let client = ClientSecret::new(
        "contoso.onmicrosoft.com",
        "00001111-aaaa-2222-bbbb-3333cccc4444",
        "the secret's value",
    )?;
    let broker = Broker::builder().transport(Arc::clone(&service)).build(client)?;
    Ok((service, broker))
}

fn request(key: u64) -> Result<Arc<TokenRequest>, entra_broker::Error> {
    TokenRequest::new(format!("https://resource-{key}.contoso.com/.default")).map(Arc::new)
}

/// What callers are given to wait, and what the service takes.
const PATIENCE: Duration = Duration::from_millis(50);
const FAR_LATER: Duration = Duration::from_secs(10);

/// When callers return whose time is up, on the machine's clock, beside as many sleeps of the runtime's own.
fn deadlines(runtime: &Runtime, smoke: bool) -> Result<(), Box<dyn Error>> {
    let (alone, together) = if smoke { (2, 100) } else { (40, 1_000) };
    println!(
        "\ncallers with {} ms, and a token service that takes {} s\n\n{:<44} {:>7} {:>9} {:>9} {:>9}",
        PATIENCE.as_millis(),
        FAR_LATER.as_secs(),
        "ms after their time was up",
        "callers",
        "earliest",
        "median",
        "latest"
    );
    for (name, callers, at_once) in
        [("one after the other", alone, 1), ("all at once, one key", together, together)]
    {
        let (_, broker) = broker(Reply::Token, FAR_LATER)?;
        let request = request(0)?;
        let options = CallOptions::new().timeout(PATIENCE);
        late(runtime, name, callers, at_once, || {
            let (broker, request, options) = (broker.clone(), Arc::clone(&request), options.clone());
            async move {
                let result = broker.get_token_with(&*request, &options).await;
                result.is_err_and(|error| error.kind() == ErrorKind::Timeout)
            }
        })?;
    }
    late(runtime, "  sleeps of the runtime, all at once", together, together, || async {
        sleep(PATIENCE).await;
        true
    })?;
    println!(
        "\nA time-out begins at what a coarse clock says, which may be a few milliseconds behind: hence the early."
    );
    Ok(())
}

/// Shows how late they return. Each has to say that its time was up.
fn late<F>(
    runtime: &Runtime,
    name: &str,
    callers: usize,
    at_once: usize,
    call: impl Fn() -> F,
) -> Result<(), Box<dyn Error>>
where
    F: Future<Output = bool> + Send + 'static,
{
    let mut late = Vec::new();
    while late.len() < callers {
        let mut tasks = JoinSet::new();
        for _ in 0..at_once {
            let call = call();
            let timed = async move {
                let start = now();
                (call.await, start.elapsed())
            };
            tasks.spawn_on(timed, runtime.handle());
        }
        for (timed_out, took) in runtime.block_on(tasks.join_all()) {
            if !timed_out {
                return Err(format!("{name}: a caller got something else than its time being up").into());
            }
            late.push((took.as_secs_f64() - PATIENCE.as_secs_f64()) * 1e3);
        }
    }
    late.sort_by(f64::total_cmp);
    println!(
        "{name:<44} {callers:>7} {:>9.1} {:>9.1} {:>9.1}",
        late[0],
        late[late.len() / 2],
        late[late.len() - 1]
    );
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "what the broker's own deadlines are compared with")]
async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

#[expect(clippy::disallowed_methods, reason = "a benchmark times what it measures with the standard clock")]
fn now() -> Instant {
    Instant::now()
}

/// What the token service says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reply {
    Token,
    InvalidClient,
    Unavailable,
}

impl Reply {
    fn http(self) -> (u16, &'static str) {
        match self {
            Self::Token => (200, r#"{"token_type":"Bearer","expires_in":3599,"access_token":"eyJ0eXAi"}"#),
            Self::InvalidClient => (
                401,
                r#"{"error":"invalid_client","error_codes":[7000215],"error_description":"AADSTS7000215: Invalid client secret provided."}"#,
            ),
            Self::Unavailable => (503, ""),
        }
    }
}

/// A token service in memory, which counts.
#[derive(Debug)]
struct Service {
    answer: Reply,
    delay: Duration,
    requests: AtomicU64,
}

impl Transport for Service {
    #[expect(clippy::disallowed_methods, reason = "a service that takes its time is what is measured")]
    fn send<'a>(
        &'a self,
        _: Pool,
        _: http::Request<Bytes>,
        _: usize,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, TransportError>> {
        Box::pin(async move {
            self.requests.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(self.delay).await;
            let (status, body) = self.answer.http();
            let mut response = http::Response::new(Bytes::from_static(body.as_bytes()));
            *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
            Ok(response)
        })
    }
}
