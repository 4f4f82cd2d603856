//! Who asked for what, when, from where it was answered, and with which outcome. Never the token.

mod json_lines;
mod queue;
mod record;
mod watch;

use std::{fmt, io, time::Duration};

pub use json_lines::JsonLines;
pub use record::{AuditEvent, AuditOutcome, AuditRecord};

pub(super) use record::Who;
pub(super) use watch::Watched;

use crate::{
    clock::{Clock, Now},
    error::Error,
    request::Asked,
    scope::ScopeSet,
    subject::Subject,
    sync::{Arc, select},
    text::Quoted,
    token::Token,
};
use queue::Queue;

/// How many records wait to be written at most, some hundred bytes each. A second of ten thousand calls.
const CAPACITY: usize = 10_000;

/// Where audit records go: a file, a log, a database.
///
/// It is called from a thread of its own, one record after the other, so it may block; callers of the broker never wait
/// for it.
pub trait AuditSink: Send + 'static {
    /// Writes one record.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being written. The record counts as dropped then, and the next one is tried.
    fn write(&mut self, record: &AuditRecord) -> io::Result<()>;

    /// Called when all that was recorded so far has been written.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being kept. It is logged.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Which calls are recorded, besides the requests to the token service, all of which are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum AuditCalls {
    /// None.
    #[default]
    None,
    /// All that had to wait or were refused, and of those that were served from the cache, one in so many, drawn by lot. 0 is as 1.
    Sampled(u32),
    /// All of them. A record costs a call a lock and some allocations, and [readers](crate::Reader) their speed.
    All,
}

/// An audit trail, given to [`Builder::audit`](crate::Builder::audit). Clones are the same trail: several brokers can
/// write to one.
///
/// Records wait in a queue of bounded length for a thread that writes them, which begins with the first record and ends with
/// the last clone, which waits up to 2 s for what is still to be written. Where the queue is full the record is
/// [dropped](Self::dropped) and counted: no caller ever waits.
///
/// ```
/// use entra_broker::{Audit, AuditCalls, Broker, CallOptions, JsonLines, StaticToken};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), entra_broker::Error> {
/// # let path = std::env::temp_dir().join(format!("audit-{}.jsonl", std::process::id()));
/// let audit = Audit::builder(JsonLines::append(&path)?).calls(AuditCalls::All).build();
/// let broker = Broker::builder().audit(audit.clone()).build(StaticToken::new("eyJ0eXAi")?)?;
///
/// let nightly = CallOptions::new().label("nightly sync");
/// broker.get_token_with("https://vault.azure.net/.default", &nightly).await?;
/// audit.flush().await;
///
/// # let lines = std::fs::read_to_string(&path).unwrap_or_default();
/// # std::fs::remove_file(&path).ok();
/// assert!(lines.contains("nightly sync") && !lines.contains("eyJ0eXAi"));
/// assert_eq!(audit.dropped(), 0);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Audit(Arc<Inner>);

struct Inner {
    calls: AuditCalls,
    queue: Arc<Queue>,
}

/// Makes an [`Audit`].
#[must_use = "a builder does nothing until `build`"]
pub struct AuditBuilder {
    sink: Box<dyn AuditSink>,
    calls: AuditCalls,
    capacity: usize,
}

impl Audit {
    /// A trail of the requests that reached the token service, and of nothing else.
    pub fn new(sink: impl AuditSink) -> Self {
        Self::builder(sink).build()
    }

    /// For everything that is not the default.
    pub fn builder(sink: impl AuditSink) -> AuditBuilder {
        AuditBuilder { sink: Box::new(sink), calls: AuditCalls::default(), capacity: CAPACITY }
    }

    /// How many records were lost: the queue was full, or the sink failed.
    pub fn dropped(&self) -> u64 {
        self.0.queue.dropped()
    }

    /// How many records were written.
    pub fn written(&self) -> u64 {
        self.0.queue.written()
    }

    /// Waits until all that was recorded before is written, or dropped, and flushed.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub async fn flush(&self) {
        self.0.queue.flush().await;
    }

    /// As [`flush`](Self::flush), but a sink that hangs is not waited for.
    pub(super) async fn flush_in(&self, clock: &Clock) {
        match clock.try_sleep_until(clock.now().after(PATIENCE)) {
            Some(patience) => select! {
                biased;
                () = self.flush() => {}
                () = patience => {}
            },
            // Without a timer there is no other end to it.
            None => self.flush().await,
        }
    }

    /// A call that was served from the cache.
    #[cold]
    pub(super) fn hit(&self, who: &Who, asked: Asked<'_>, label: Option<&str>, token: &Token, now: Now) {
        let chosen = match self.0.calls {
            AuditCalls::None => false,
            AuditCalls::Sampled(many) => fastrand::u32(..many.max(1)) == 0,
            AuditCalls::All => true,
        };
        if chosen {
            let ended = Ok(token);
            self.call(who, asked, label, ended, "cache", now);
        }
    }

    /// A call that was not: where from, and with what.
    pub(super) fn answered(
        &self,
        who: &Who,
        asked: Asked<'_>,
        label: Option<&str>,
        ended: Result<&Token, &Error>,
        waited: bool,
        now: Now,
    ) {
        if let (Ok(token), false) = (ended, waited) {
            // It is due, and was served all the same.
            return self.hit(who, asked, label, token, now);
        }
        if self.0.calls != AuditCalls::None {
            let from = match ended {
                Err(error) if error.held_for().is_some() => "remembered failure",
                Err(_) if !waited => "broker",
                _ => "fetch",
            };
            self.call(who, asked, label, ended, from, now);
        }
    }

    fn call(
        &self,
        who: &Who,
        asked: Asked<'_>,
        label: Option<&str>,
        ended: Result<&Token, &Error>,
        from: &str,
        now: Now,
    ) {
        let malformed = match asked {
            // It may be long, or no scope but something that was put in the wrong place.
            Asked::Text(text) if ended.is_err() && ScopeSet::parse(text).is_err() => Quoted(text).to_string(),
            _ => String::new(),
        };
        let (tenant, scopes, subject) = match asked {
            Asked::Text(_) if !malformed.is_empty() => (None, &*malformed, &Subject::App),
            Asked::Text(text) => (None, text, &Subject::App),
            Asked::Request(request) => {
                (request.requested_tenant(), request.scopes().as_str(), request.requested_subject())
            }
        };
        let mut record = AuditRecord::new(AuditEvent::Call, now.wall(), who, tenant, scopes, subject);
        record.label = label.map(Into::into);
        record.answered_by = Some(from.into());
        match ended {
            Ok(token) => record.succeeded(Some(token.expires_on())),
            Err(error) => record.failed(error),
        }
        self.put(record);
    }

    pub(super) fn put(&self, record: AuditRecord) {
        self.0.queue.put(record);
    }

    /// Whether calls are recorded that the cache answers.
    pub(super) fn wants_hits(&self) -> bool {
        self.0.calls != AuditCalls::None
    }
}

impl AuditBuilder {
    /// Which calls are recorded as well. Default: none.
    pub fn calls(mut self, calls: AuditCalls) -> Self {
        self.calls = calls;
        self
    }

    /// How many records wait to be written at most; those past that are dropped. At least 1. Default: 10,000.
    pub fn capacity(mut self, records: usize) -> Self {
        self.capacity = records.max(1);
        self
    }

    /// The trail. Its thread begins with the first record.
    pub fn build(self) -> Audit {
        Audit(Arc::new(Inner { calls: self.calls, queue: Queue::new(self.sink, self.capacity) }))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.close(PATIENCE);
    }
}

/// How long the last clone waits for the records that are still to be written, when it goes.
const PATIENCE: Duration = Duration::from_secs(2);

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit")
            .field("calls", &self.0.calls)
            .field("written", &self.written())
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for AuditBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditBuilder")
            .field("calls", &self.calls)
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}
