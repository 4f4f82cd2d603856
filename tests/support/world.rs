//! One world for a test: a clock that is moved, an emulator that runs on it, brokers over both, and everything that was
//! logged or returned as an error, searched for secrets at the end.

use std::{
    collections::HashSet,
    fmt::{self, Debug},
    future::Future,
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex, Once, OnceLock},
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use entra_broker::{
    AccessToken, Authority, BoxFuture, Broker, Builder, ClientSecret, Clock, ConfidentialClient, Error,
    ManualClock, Pool, TokenRequest, Transport, TransportError, TransportErrorKind,
    emulator::{self, Broken, Emulator, Endpoint, sample},
};
use http_body_util::BodyExt as _;

pub(crate) const VAULT: &str = "https://vault.azure.net/.default";
pub(crate) const STORAGE: &str = "https://storage.azure.com/.default";

pub(crate) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Where the worlds begin: no special day.
pub(crate) fn start() -> SystemTime {
    UNIX_EPOCH + secs(1_800_000_000)
}

pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) time: ManualClock,
    pub(crate) emulator: Emulator,
    secrets: Arc<Secrets>,
    /// How much had been said before this world began.
    said_before: usize,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Emulator::builder()).await
    }

    /// An emulator without sockets.
    pub(crate) async fn with(builder: emulator::Builder) -> Self {
        let (clock, time) = Clock::manual(start());
        let emulator = on(builder, &clock).in_memory();
        Self::of(clock, time, emulator).await
    }

    /// An emulator with sockets, for what only a wire can do wrong.
    pub(crate) async fn on_sockets() -> Self {
        Self::on_sockets_with(Emulator::builder()).await
    }

    pub(crate) async fn on_sockets_with(builder: emulator::Builder) -> Self {
        let (clock, time) = Clock::manual(start());
        let emulator = on(builder, &clock).start().await.unwrap();
        Self::of(clock, time, emulator).await
    }

    async fn of(clock: Clock, time: ManualClock, emulator: Emulator) -> Self {
        log();
        let said_before = SAID.get().unwrap().lock().unwrap().len();
        let secrets = Arc::new(Secrets::default());
        for secret in [sample::SECRET, sample::EXPIRED_SECRET, sample::APP_SERVICE_HEADER, "wrong-secret"] {
            secrets.add(secret);
        }
        let world = Self { clock, time, emulator, secrets, said_before };
        // The emulator's key is made on a thread of its own, in time that cannot be moved: have it before the test.
        let request =
            http::Request::get(format!("/{}/discovery/v2.0/keys", sample::TENANT)).body(Bytes::new());
        world.emulator.call(Endpoint::TokenService, request.unwrap()).await.unwrap();
        world.emulator.journal().clear();
        world
    }

    pub(crate) fn authority(&self) -> Authority {
        Authority::dangerous().allow_plain_http(self.emulator.authority()).unwrap()
    }

    pub(crate) fn client(&self) -> ConfidentialClient {
        self.client_with(sample::SECRET)
    }

    pub(crate) fn client_with(&self, secret: &str) -> ConfidentialClient {
        ClientSecret::new(sample::TENANT, sample::SECRET_APP, secret).unwrap().authority(self.authority())
    }

    /// The requests go to the emulator without a socket.
    pub(crate) fn transport(&self) -> InMemory {
        InMemory { emulator: self.emulator.clone(), secrets: Arc::clone(&self.secrets) }
    }

    /// The same, for so many tokens that one cannot search for each of them.
    pub(crate) fn transport_unsearched(&self) -> InMemory {
        InMemory { emulator: self.emulator.clone(), secrets: Arc::default() }
    }

    pub(crate) fn builder(&self) -> Builder {
        Broker::builder().clock(self.clock.clone()).transport(self.transport()).seed(7)
    }

    pub(crate) fn broker(&self) -> Broker {
        self.builder().build(self.client()).unwrap()
    }

    /// How many token requests have arrived.
    pub(crate) fn requests(&self) -> usize {
        self.emulator.journal().len()
    }

    /// Time passes, from timer to timer, and at each of them all happens that can.
    pub(crate) async fn pass(&self, duration: Duration) {
        let mut left = duration;
        settle().await;
        while let Some(next) = self.time.next_timer().filter(|next| *next <= left) {
            // A timer that stays due although its sleeper was woken would be waited for in vain.
            let step = next.max(Duration::from_nanos(1)).min(left);
            self.time.advance(step);
            left -= step;
            settle().await;
        }
        self.time.advance(left);
        settle().await;
    }

    /// The result of a future that needs time to pass, but no longer than `most`.
    pub(crate) async fn run<F: Future>(&self, most: Duration, future: F) -> F::Output {
        let mut future = pin!(future);
        let mut left = most;
        loop {
            for _ in 0..turns() {
                if let Poll::Ready(output) = poll_once(future.as_mut()) {
                    return output;
                }
                tokio::task::yield_now().await;
            }
            let next = self.time.next_timer().expect("somebody waits for time to pass");
            let step = next.max(Duration::from_nanos(1));
            assert!(step <= left, "not done within {most:?}");
            left -= step;
            self.time.advance(step);
        }
    }

    /// The token, or the error, which is searched for secrets.
    pub(crate) fn see(&self, result: Result<AccessToken, Error>) -> Result<AccessToken, Error> {
        match &result {
            Ok(token) => {
                self.secrets.add(token.secret());
                read(&format!("{token:?}"));
            }
            Err(error) => {
                read(&format!("{error:?} {error:#?} {error} {}", error.advice()));
                let mut source = std::error::Error::source(error);
                while let Some(below) = source {
                    read(&format!("{below:?} {below}"));
                    source = below.source();
                }
            }
        }
        result
    }

    /// The result of a call that needs time to pass, which is searched for secrets.
    pub(crate) async fn get(
        &self,
        call: impl Future<Output = Result<AccessToken, Error>>,
    ) -> Result<AccessToken, Error> {
        let result = self.run(secs(200), call).await;
        self.see(result)
    }

    /// The result of a call over a socket: that takes the time it takes, and only the pauses between attempts are moved.
    pub(crate) async fn get_over_the_wire(
        &self,
        call: impl Future<Output = Result<AccessToken, Error>> + Send + 'static,
    ) -> Result<AccessToken, Error> {
        let call = tokio::spawn(call);
        while !call.is_finished() {
            // The longest pause is 1.5 s; the time-out of an attempt lies far beyond.
            if let Some(pause) = self.time.next_timer().filter(|next| *next < secs(4)) {
                self.time.advance(pause);
            }
            tokio::task::yield_now().await;
        }
        self.see(call.await.unwrap())
    }

    /// One more text that may stand in no log and no error.
    pub(crate) fn expect_unsaid(&self, secret: &str) {
        self.secrets.add(secret);
    }

    /// Whether a line of the log holds all of these since this world began.
    #[cfg(feature = "certificate")]
    pub(crate) fn was_said(&self, words: &[&str]) -> bool {
        let said = SAID.get().unwrap().lock().unwrap();
        said[self.said_before..].lines().any(|line| words.iter().all(|word| line.contains(word)))
    }

    /// The result of a call that has to be ready on its first poll.
    pub(crate) fn at_once(
        &self,
        call: impl Future<Output = Result<AccessToken, Error>>,
    ) -> Result<AccessToken, Error> {
        self.see(ready(call))
    }
}

fn on(builder: emulator::Builder, clock: &Clock) -> emulator::Builder {
    let (now, sleep) = (clock.clone(), clock.clone());
    builder.time(move || now.now().wall(), move |duration| Box::pin(sleep.sleep(duration)))
}

/// Nothing secret may have been said by the end of a test.
impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let said = SAID.get().unwrap().lock().unwrap();
        for secret in self.secrets.0.lock().unwrap().iter() {
            assert!(
                !said[self.said_before..].contains(secret.as_str()),
                "a secret or a token was logged or stands in an error"
            );
        }
    }
}

/// Enough turns for whatever can happen now to happen: some for each chain of tasks that wake each other, and more the
/// more tasks there are, since a runtime runs 61 of them between two turns of the test itself.
fn turns() -> usize {
    60 + tokio::runtime::Handle::current().metrics().num_alive_tasks() / 8
}

pub(crate) async fn settle() {
    for _ in 0..turns() {
        tokio::task::yield_now().await;
    }
}

pub(crate) fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// The output of a future that is ready on its first poll.
pub(crate) fn ready<F: Future>(future: F) -> F::Output {
    match poll_once(pin!(future)) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it was not ready on its first poll"),
    }
}

pub(crate) fn request(scope: &str) -> TokenRequest {
    TokenRequest::new(scope).unwrap()
}

/// What must not be said.
#[derive(Default)]
struct Secrets(Mutex<HashSet<String>>);

impl Secrets {
    fn add(&self, secret: &str) {
        self.0.lock().unwrap().insert(secret.to_owned());
    }
}

/// A transport to an emulator without a socket. The real limits of a transport are kept.
#[derive(Clone)]
pub(crate) struct InMemory {
    emulator: Emulator,
    secrets: Arc<Secrets>,
}

impl Debug for InMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InMemory")
    }
}

impl Transport for InMemory {
    fn send<'a>(
        &'a self,
        pool: Pool,
        request: http::Request<Bytes>,
        limit: usize,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, TransportError>> {
        Box::pin(async move {
            let endpoint =
                if pool == Pool::TokenService { Endpoint::TokenService } else { Endpoint::Identity };
            let answer = self.emulator.call(endpoint, request).await.map_err(|broken| match broken {
                Broken::Refused => {
                    TransportError::new(TransportErrorKind::Connect, "refused").with_may_have_left(false)
                }
                Broken::Cut => TransportError::new(TransportErrorKind::Interrupted, "cut"),
            })?;
            let (parts, mut body) = answer.into_parts();
            let mut bytes = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame
                    .map_err(|cut| TransportError::new(TransportErrorKind::Interrupted, cut.to_string()))?;
                bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
                if bytes.len() > limit {
                    return Err(TransportError::new(TransportErrorKind::TooLarge, "too large"));
                }
            }
            if let Ok(answer) = serde_json::from_slice::<serde_json::Value>(&bytes)
                && let Some(token) = answer["access_token"].as_str().filter(|token| token.len() > 20)
            {
                self.secrets.add(token);
            }
            Ok(http::Response::from_parts(parts, Bytes::from(bytes)))
        })
    }
}

/// Everything that any test of this process logged, or read of an error.
static SAID: OnceLock<Mutex<String>> = OnceLock::new();

fn read(text: &str) {
    SAID.get_or_init(Mutex::default).lock().unwrap().push_str(text);
}

struct Said;

impl io::Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        read(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// All crates log everything, for all threads.
fn log() {
    static LOGGING: Once = Once::new();
    LOGGING.call_once(|| {
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_ansi(false)
            .with_writer(|| Said)
            .finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
        read("");
    });
}

/// Says so if the log is no log: the search at the end would find nothing in it.
#[test]
fn what_is_logged_is_searched() {
    log();
    tracing::debug!("a line that is found again");
    assert!(SAID.get().unwrap().lock().unwrap().contains("a line that is found again"));
}
