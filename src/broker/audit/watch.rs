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
}

impl Watched<'_> {
    pub(in crate::broker) fn ended(self, result: &Result<Fetched, Error>) {
        // Taken, so that nothing is left for the drop.
        let exchanges = std::mem::take(&mut *self.trail.lock());
        let last = match result {
            Err(error) if exchanges.is_empty() && error.held_for().is_some() => return,
            _ => exchanges.len().saturating_sub(1),
        };
        let count = exchanges.len();
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
        if count == 0 {
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
        for exchanged in std::mem::take(&mut *self.trail.lock()) {
            self.audit.put(self.record(exchanged));
        }
    }
}
