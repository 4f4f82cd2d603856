//! A fetch under way, whose requests become records when it ends, however it ends.

use std::time::SystemTime;

use super::{Audit, AuditEvent, AuditOutcome, AuditRecord, Who, record};
use crate::{
    clock::{Clock, Now},
    error::Error,
    fetched::{Fetched, Reason},
    provider::{Exchanged, Trail},
    request::TokenRequest,
    sync::Arc,
};

/// Records the requests of one fetch: when it has [ended](Self::ended), or, where it is dropped before, as abandoned.
pub(in crate::broker) struct Watched<'a> {
    pub(in crate::broker) audit: &'a Audit,
    pub(in crate::broker) who: &'a Who,
    pub(in crate::broker) clock: &'a Clock,
    pub(in crate::broker) event: AuditEvent,
    pub(in crate::broker) request: &'a TokenRequest,
    pub(in crate::broker) label: Option<Arc<str>>,
    pub(in crate::broker) reason: Reason,
    pub(in crate::broker) trail: Trail,
    /// Its records are made.
    pub(in crate::broker) told: bool,
}

impl Watched<'_> {
    pub(in crate::broker) fn ended(mut self, result: &Result<Fetched, Error>) {
        self.told = true;
        let exchanges = std::mem::take(&mut *self.trail.lock());
        if exchanges.is_empty() && result.as_ref().is_err_and(|error| error.held_for().is_some()) {
            return;
        }
        // What a chain passed over may have sent something, and what gave the token nothing: it has a record of its own.
        let refused = |last: &Exchanged| last.status.is_none_or(|status| status >= 400);
        let apart = exchanges.last().is_none_or(|last| result.is_ok() && refused(last));
        let last = if apart { exchanges.len() } else { exchanges.len() - 1 };
        for (at, exchanged) in exchanges.into_iter().enumerate() {
            let mut record = self.record(exchanged);
            match result {
                _ if at != last => {
                    let refused = record.status.is_none_or(|status| status >= 400);
                    record.outcome = if refused { AuditOutcome::Failure } else { AuditOutcome::Success };
                }
                Ok(fetched) => self.complete(&mut record, fetched),
                Err(error) => record.failed(error),
            }
            self.audit.put(record);
        }
        if apart {
            let mut record = self.blank();
            match result {
                Ok(fetched) => {
                    self.complete(&mut record, fetched);
                    record.answered_by = Some(record.provider.into());
                }
                Err(error) => record.failed(error),
            }
            self.audit.put(record);
        }
    }

    fn complete(&self, record: &mut AuditRecord, fetched: &Fetched) {
        record.succeeded(Some(expiry(fetched)));
        record.provider = fetched.provider.unwrap_or(record.provider);
    }

    fn record(&self, exchanged: Exchanged) -> AuditRecord {
        let mut record = self.blank();
        record.attempts = exchanged.attempts;
        record.status = exchanged.status;
        record.answered_by = exchanged.status.map(|_| exchanged.host.into());
        record.correlation_id = exchanged.correlation_id.map(Into::into);
        record.trace_id = exchanged.trace_id.map(Into::into);
        record
    }

    fn blank(&self) -> AuditRecord {
        let request = self.request;
        let mut record = AuditRecord::new(
            self.event,
            self.clock.now().wall(),
            self.who,
            request.requested_tenant(),
            request.scopes().as_str(),
            request.requested_subject(),
        );
        record.label.clone_from(&self.label);
        record.reason = Some(record::reason(self.reason));
        record
    }
}

fn expiry(fetched: &Fetched) -> SystemTime {
    let at: Now = fetched.sent.after(fetched.lives);
    at.wall()
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if self.told {
            return;
        }
        let exchanges = std::mem::take(&mut *self.trail.lock());
        if exchanges.is_empty() {
            self.audit.put(self.blank());
        }
        for exchanged in exchanges {
            self.audit.put(self.record(exchanged));
        }
    }
}
