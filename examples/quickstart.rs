//! A tour of what a token broker does for a service, offline and in seconds.
//!
//! ```text
//! cargo run --features emulator --example quickstart
//! ```
//!
//! Every claim is checked as it is made: one that does not hold ends the tour with an error.

#![expect(clippy::disallowed_methods, reason = "speed is measured on the real clock")]

use std::{
    fmt,
    io::{self, Write as _},
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use entra_broker::{
    AccessToken, Authority, Broker, ClientSecret, Clock, ConfidentialClient, Error, ErrorKind, ManualClock,
    TokenRequest,
    emulator::{Emulator, Endpoint, Fault, sample},
};

const VAULT: &str = "https://vault.azure.net/.default";
const STORAGE: &str = "https://storage.azure.com/.default";
const SECOND: Duration = Duration::from_secs(1);

/// `println!`, but a reader who leaves early, as `head` does, is an error and no panic.
macro_rules! say {
    ($($text:tt)*) => { writeln!(io::stdout(), $($text)*)? };
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let stage = Stage::open().await?;
    say!("A stand-in for Entra listens on {}. Nothing leaves this machine.", stage.entra.authority());

    let broker = Broker::new(stage.client(sample::SECRET)?)?;
    the_first_token(&broker).await?;
    the_same_token_again(&stage, &broker).await?;

    say!("\n   From here on the broker has a clock that we move: hours pass in a moment.");
    let moved = Broker::builder().clock(stage.clock.clone()).build(stage.client(sample::SECRET)?)?;
    a_refresh_behind_the_scenes(&stage, &moved).await?;
    an_outage(&stage, &moved).await?;

    a_thousand_tasks(&stage, &broker).await?;
    an_error_worth_reading(&stage).await?;
    say!("\nAll of this was checked while it was told.");
    Ok(())
}

async fn the_first_token(broker: &Broker) -> Result<(), Failure> {
    let asked = Instant::now();
    let token = broker.get_token(VAULT).await?;
    say!("\n1. The first token");
    say!("   Nothing is cached yet, so one request goes out. It took {:.1?}.", asked.elapsed());
    say!("   The token lives until {} and will be replaced", utc(token.expires_on()));
    say!("   in the background from {} on.", utc(token.refresh_on()));
    check(token.refresh_on() < token.expires_on(), "a token is replaced before it expires")
}

async fn the_same_token_again(stage: &Stage, broker: &Broker) -> Result<(), Failure> {
    let request = TokenRequest::new(VAULT)?;
    let handle = broker.handle(&request);
    let sent = stage.requests();
    say!("\n2. The same token, again and again, by one task");
    say!(
        "   as a prepared request  {:>5.1} million a second",
        millions(|| broker.get_token(&request)).await?
    );
    say!("   as a plain &str        {:>5.1} million a second", millions(|| broker.get_token(VAULT)).await?);
    say!("   through a handle       {:>5.1} million a second", millions(|| handle.get()).await?);
    say!("   Requests sent meanwhile: {}.", stage.requests() - sent);
    if cfg!(debug_assertions) {
        say!("   (This is a debug build. With --release it is several times as fast.)");
    }
    check(stage.requests() == sent, "a cached token costs no request")
}

async fn a_refresh_behind_the_scenes(stage: &Stage, broker: &Broker) -> Result<(), Failure> {
    let old = broker.get_token(VAULT).await?;
    let (sent, waited) = (stage.requests(), broker.metrics().waits);
    stage.entra.faults().add(Fault::on(Endpoint::TokenService).delay(3 * SECOND).times(1));
    say!("\n3. A refresh that nobody notices");
    say!("   {} later the token is due. Nobody asks at that moment,", stage.pass_until_due(&old));
    stage.entra.journal().wait_for(sent + 1).await;
    say!("   and still the request for the next one goes out. Entra takes three seconds over it.");

    let callers = (0..8).map(|_| {
        let broker = broker.clone();
        tokio::spawn(async move {
            for _ in 0..10_000 {
                broker.get_token(VAULT).await?;
            }
            Ok::<_, Error>(10_000)
        })
    });
    let mut calls = 0;
    for caller in callers.collect::<Vec<_>>() {
        calls += caller.await??;
    }
    let waited = broker.metrics().waits - waited;
    say!("   Calls meanwhile: {calls}. Calls that waited: {waited}.");
    check(is_current(broker, &old), "the old token is served until the new one is there")?;
    check(waited == 0, "no caller waits for a refresh")?;

    let took = stage.pass_until(SECOND / 10, || !is_current(broker, &old)).await?;
    say!("   {:.1} seconds later all callers have the new token.", took.as_secs_f64());
    check(stage.requests() == sent + 1, "a refresh is one request")
}

async fn an_outage(stage: &Stage, broker: &Broker) -> Result<(), Failure> {
    const MINUTES: u64 = 15;
    let old = broker.get_token(VAULT).await?;
    let waited = broker.metrics().waits;
    let outage = stage.entra.faults().add(Fault::on(Endpoint::TokenService).status(503));
    say!("\n4. An outage");
    say!("   {} later the token is due again, and Entra answers 503.", stage.pass_until_due(&old));
    let mut calls = 0;
    for _ in 0..MINUTES * 60 {
        stage.pass(SECOND).await;
        for _ in 0..100 {
            check(broker.get_token(VAULT).await?.is_same(&old), "an outage leaves the old token in place")?;
            calls += 1;
        }
    }
    let refused = stage.entra.journal().count(|entry| entry.status == Some(503));
    let waited = broker.metrics().waits - waited;
    say!("   It lasts {MINUTES} minutes, in which the broker tries {refused} times, ever more patiently.");
    say!("   Calls meanwhile: {calls}. Calls that failed: 0. Calls that waited: {waited}.");
    check(refused > 0 && waited == 0, "callers do not feel an outage that the token outlives")?;

    stage.entra.faults().remove(outage);
    let took = stage.pass_until(SECOND, || !is_current(broker, &old)).await?;
    say!("   Entra is back, and {} seconds later so is a fresh token.", took.as_secs());
    Ok(())
}

async fn a_thousand_tasks(stage: &Stage, broker: &Broker) -> Result<(), Failure> {
    let sent = stage.requests();
    let tasks = (0..1_000).map(|_| {
        let broker = broker.clone();
        tokio::spawn(async move { broker.get_token(STORAGE).await })
    });
    let tasks: Vec<_> = tasks.collect();
    let first = broker.get_token(STORAGE).await?;
    for task in tasks {
        check(task.await??.is_same(&first), "all tasks get the same token")?;
    }
    say!("\n5. A thousand tasks, one cold key");
    say!(
        "   All of them ask at once for a token that is not there. Requests sent: {}.",
        stage.requests() - sent
    );
    check(stage.requests() == sent + 1, "callers of the same token share one request")
}

async fn an_error_worth_reading(stage: &Stage) -> Result<(), Failure> {
    let broker = Broker::new(stage.client(sample::EXPIRED_SECRET)?)?;
    let Err(error) = broker.get_token(VAULT).await else {
        return check(false, "an expired secret gets no token");
    };
    say!("\n6. An error worth reading: the secret has expired");
    say!("   kind            {}", error.kind().name());
    say!("   blame           {}", error.blame().name());
    say!("   message         {error}");
    say!("   advice          {}", error.advice());
    say!("   AADSTS          {:?}", error.aadsts());
    say!("   correlation id  {}", error.correlation_id().unwrap_or("none"));
    say!("   trace id        {}", error.trace_id().unwrap_or("none"));
    check(
        error.kind() == ErrorKind::Credential && error.aadsts() == [7_000_222],
        "an expired secret is named as one",
    )?;
    check(error.correlation_id().is_some(), "an error can be found in Entra's logs")
}

/// The emulator, and a clock on which it runs and which only we move.
struct Stage {
    entra: Emulator,
    clock: Clock,
    time: ManualClock,
}

impl Stage {
    async fn open() -> Result<Self, Failure> {
        let (clock, time) = Clock::manual(SystemTime::now());
        let (now, sleep) = (clock.clone(), clock.clone());
        let entra = Emulator::builder()
            .time(move || now.now().wall(), move |duration| Box::pin(sleep.sleep(duration)))
            .start()
            .await?;
        // Its signing key takes a moment to make: have it before the first token is timed.
        let keys =
            http::Request::get(format!("/{}/discovery/v2.0/keys", sample::TENANT)).body(Bytes::new())?;
        entra.call(Endpoint::TokenService, keys).await?;
        Ok(Self { entra, clock, time })
    }

    fn client(&self, secret: &str) -> Result<ConfidentialClient, Error> {
        let authority = Authority::dangerous().allow_plain_http(self.entra.authority())?;
        Ok(ClientSecret::new(sample::TENANT, sample::SECRET_APP, secret)?.authority(authority))
    }

    fn requests(&self) -> usize {
        self.entra.journal().len()
    }

    /// Time passes, and what it sets off has a moment of real time to happen.
    async fn pass(&self, duration: Duration) {
        self.time.advance(duration);
        Clock::system().sleep(Duration::from_millis(1)).await;
    }

    /// In steps of this length, and says for how long.
    async fn pass_until(&self, step: Duration, holds: impl Fn() -> bool + Send) -> Result<Duration, Failure> {
        let began = self.clock.now();
        while !holds() {
            check(began.until(self.clock.now()) < 300 * SECOND, "what was waited for comes within minutes")?;
            self.pass(step).await;
        }
        Ok(began.until(self.clock.now()))
    }

    fn pass_until_due(&self, token: &AccessToken) -> String {
        let ahead = token.refresh_on().duration_since(self.clock.now().wall()).unwrap_or_default();
        self.time.advance(ahead);
        format!("{} minutes", ahead.as_secs() / 60)
    }
}

fn is_current(broker: &Broker, token: &AccessToken) -> bool {
    broker.peek(VAULT).is_some_and(|current| current.is_same(token))
}

/// How many million times a second a call gets its token.
async fn millions<F>(call: impl Fn() -> F + Send + Sync) -> Result<f64, Error>
where
    F: Future<Output = Result<AccessToken, Error>> + Send,
{
    const BATCH: u32 = 10_000;
    let began = Instant::now();
    let mut calls = 0;
    while began.elapsed() < Duration::from_millis(400) {
        for _ in 0..BATCH {
            std::hint::black_box(call().await?);
        }
        calls += BATCH;
    }
    Ok(f64::from(calls) / began.elapsed().as_secs_f64() / 1e6)
}

fn utc(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time)
        .map_or_else(|error| error.to_string(), |time| time.strftime("%H:%M:%S UTC").to_string())
}

fn check(holds: bool, claim: &str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure(format!("this should hold and does not: {claim}"))) }
}

/// What `main` ends with. Rust shows it by `Debug`, so that is the text for people.
struct Failure(String);

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}
