//! Where keys come from: read once, kept a day, read again when a token names one that is not there. One reading at a
//! time, which belongs to nobody who waits for it.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{Request, header::ACCEPT};

use super::keys::{Key, KeySet};
use crate::{
    Clock, Error, ErrorKind, Now,
    http::{ANSWER_LIMIT, ATTEMPT_TIMEOUT, Exchange, Pool, RetryPolicy, Transport},
    sync::{Arc, ArcSwapOption, Handle, Mutex, select, watch},
    text::Quoted,
};

/// As Entra says of its set (`max-age=86400`). New keys are published days before they sign.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// Anybody can write a token that names an unknown key: after a reading that worked there is no other for this long.
const UNKNOWN_KEY: Duration = Duration::from_secs(5 * 60);

/// After a reading that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(30);

/// A reading with all of its attempts.
const BUDGET: Duration = Duration::from_secs(45);

/// A reading that has not ended by then never will: nobody runs its runtime any more. Another one takes its place.
const GIVEN_UP: Duration = Duration::from_secs(60);

/// One URL's keys.
pub(super) struct Source {
    url: Box<str>,
    transport: Arc<dyn Transport>,
    clock: Clock,
    keys: ArcSwapOption<KeySet>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The reading under way, and since when. It has ended when the channel is closed.
    flight: Option<(watch::Receiver<()>, Now)>,
    /// How many were begun: by its number a reading knows whether another one took its place.
    begun: u64,
    /// When the last one ended, and how.
    last: Option<(Now, Option<Error>)>,
}

/// What is to be done for a key that is not there.
#[derive(Debug)]
enum Step {
    Begin,
    /// It was looked for not long ago.
    Unknown,
    /// The last reading failed not long ago.
    Held(Error),
}

fn decide(last: Option<&(Now, Option<Error>)>, now: Now) -> Step {
    match last {
        Some((at, None)) if at.until(now) < UNKNOWN_KEY => Step::Unknown,
        Some((at, Some(error))) if at.until(now) < AFTER_FAILURE => {
            Step::Held(error.held(now.until(at.after(AFTER_FAILURE))))
        }
        _ => Step::Begin,
    }
}

impl Source {
    pub(super) fn new(url: &str, transport: Arc<dyn Transport>, clock: Clock) -> Self {
        Self { url: url.into(), transport, clock, keys: ArcSwapOption::empty(), state: Mutex::default() }
    }

    /// The key of this id; the keys are read where they have to be.
    ///
    /// # Errors
    /// `TokenRefused` where the issuer has none of this id, by what is known; else what keeps the keys from being read;
    /// `Timeout` where that takes longer than until `deadline`.
    ///
    /// # Cancel safety
    /// A reading goes on without whoever began it.
    pub(super) async fn key(self: &Arc<Self>, id: &str, deadline: Now) -> Result<Arc<Key>, Error> {
        // Twice: what was awaited may have been ended by the runtime that it ran on.
        for _ in 0..3 {
            let (key, aged) = self.find(id);
            if let Some(key) = key {
                if aged {
                    self.refresh();
                }
                return Ok(key);
            }
            let (mut flight, begun) = {
                let mut state = self.state.lock();
                // Another may have landed since.
                if let (Some(key), _) = self.find(id) {
                    return Ok(key);
                }
                let now = self.clock.now();
                match (state.under_way(now), decide(state.last.as_ref(), now)) {
                    (Some(flight), _) => (flight.clone(), None),
                    (None, Step::Begin) => {
                        self.begin(&mut state, now).map(|(flight, begun)| (flight, Some(begun)))?
                    }
                    (None, Step::Unknown) => return Err(unknown(id)),
                    (None, Step::Held(error)) => return Err(error),
                }
            };
            if let Some(begun) = begun {
                begun.run();
            }
            let Some(late) = self.clock.try_sleep_until(deadline) else { return Err(no_runtime()) };
            select! {
                biased;
                _ended = flight.changed() => {}
                () = late => {
                    return Err(Error::new(ErrorKind::Timeout, "the issuer's keys were not read in time"));
                }
            }
        }
        Err(Error::new(ErrorKind::Unavailable, "reading the issuer's keys was broken off"))
    }

    /// The key, and whether its set is older than it should be.
    fn find(&self, id: &str) -> (Option<Arc<Key>>, bool) {
        let keys = self.keys.load();
        keys.as_ref().map_or((None, false), |keys| (keys.find(id), keys.read.until(self.clock.now()) >= KEPT))
    }

    /// Reads them again, and nobody waits for it: those that are there are as good as they were.
    fn refresh(self: &Arc<Self>) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let idle = state.under_way(now).is_none();
        let begun = match decide(state.last.as_ref(), now) {
            Step::Begin if idle => self.begin(&mut state, now).ok(),
            _ => None,
        };
        drop(state);
        if let Some((_, begun)) = begun {
            begun.run();
        }
    }

    /// What is begun here has to be run once the lock is released: a runtime that is shutting down drops it at once, and
    /// its end takes the lock.
    fn begin(self: &Arc<Self>, state: &mut State, now: Now) -> Result<(watch::Receiver<()>, Begun), Error> {
        let runtime = Handle::try_current().map_err(|_| no_runtime())?;
        // Without a timer its attempts could not be bounded.
        let _timer = self.clock.try_sleep_until(now).ok_or_else(no_runtime)?;
        let (sender, flight) = watch::channel(());
        state.flight = Some((flight.clone(), now));
        state.begun += 1;
        let reading = Reading { source: Arc::clone(self), number: state.begun, _ends: sender };
        Ok((flight, Begun { reading, runtime }))
    }

    async fn read(&self) -> Result<KeySet, Error> {
        let now = self.clock.now();
        let request =
            Request::get(&*self.url).header(ACCEPT, "application/json").body(Bytes::new()).map_err(
                |error| Error::config("trusted issuer: the URL of its keys is none").with_source(error),
            )?;
        let exchange = Exchange {
            transport: &*self.transport,
            clock: &self.clock,
            policy: &RetryPolicy::token_service(),
            deadline: now.after(BUDGET),
            attempt_timeout: ATTEMPT_TIMEOUT,
            limit: ANSWER_LIMIT,
            random: &fastrand::f64,
            gate: &|| Ok(()),
        };
        let answer = exchange.run(Pool::TokenService, request).await?;
        let status = answer.response.status();
        if status != 200 {
            let kind = if status == 429 { ErrorKind::Throttled } else { ErrorKind::Unavailable };
            return Err(Error::new(
                kind,
                format!("the issuer's keys could not be read: status {}", status.as_u16()),
            ));
        }
        KeySet::parse(answer.response.body(), answer.sent).ok_or_else(|| {
            Error::new(
                ErrorKind::Protocol,
                "the issuer's key set is none, or holds no key that could sign a token",
            )
        })
    }
}

impl State {
    fn under_way(&self, now: Now) -> Option<&watch::Receiver<()>> {
        self.flight.as_ref().filter(|(_, since)| since.until(now) < GIVEN_UP).map(|(flight, _)| flight)
    }
}

/// A reading that is still to be run, and where.
struct Begun {
    reading: Reading,
    runtime: Handle,
}

impl Begun {
    fn run(self) {
        self.runtime.spawn(self.reading.run());
    }
}

/// A reading, and that it has ended however it ends.
struct Reading {
    source: Arc<Source>,
    number: u64,
    /// Those who wait are told by its end.
    _ends: watch::Sender<()>,
}

impl Reading {
    async fn run(self) {
        let source = &self.source;
        if source.state.lock().begun != self.number {
            // It slept, and another one took its place.
            return;
        }
        let error = match source.read().await {
            Ok(keys) => {
                tracing::debug!(keys = keys.len(), url = %shown(&source.url), "an issuer's keys were read");
                source.keys.store(Some(Arc::new(keys)));
                None
            }
            Err(error) => {
                tracing::warn!(%error, url = %shown(&source.url), "an issuer's keys were not read, those of before are kept");
                Some(error)
            }
        };
        source.state.lock().last = Some((source.clock.now(), error));
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut state = self.source.state.lock();
        if state.begun == self.number {
            state.flight = None;
        }
    }
}

fn no_runtime() -> Error {
    Error::config("token validator: keys are read on a tokio runtime with a timer, and there is none here")
}

fn shown(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

fn unknown(id: &str) -> Error {
    super::refused(format!("it is signed by a key that its issuer does not publish: {}", Quoted(id)))
        .with_advice("Where the issuer has just changed its keys: they are read again after five minutes at the latest.")
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("url", &shown(&self.url)).finish_non_exhaustive()
    }
}
