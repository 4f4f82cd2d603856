//! The audit trail of all bindings in one place, and a table of it.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use entra_broker::{AccessToken, AuditEvent, AuditOutcome, AuditRecord, AuditSink};

use crate::Failure;

/// Where all bindings write. A service would rather use `JsonLines::append("/var/log/…")`.
#[derive(Clone, Default)]
pub(crate) struct Trail(Arc<Mutex<Vec<Row>>>);

/// One record, and what the table shows of it.
pub(crate) struct Row {
    pub(crate) at: SystemTime,
    /// Step, binding, identity, resource, where it was answered, outcome.
    shown: [String; 6],
    pub(crate) event: Option<AuditEvent>,
    pub(crate) outcome: Option<AuditOutcome>,
    /// All of the record, as `JsonLines` writes it.
    line: String,
}

impl Trail {
    pub(crate) fn sink(&self, binding: &'static str) -> impl AuditSink {
        Sink { binding, trail: self.clone() }
    }

    pub(crate) fn rows(&self) -> MutexGuard<'_, Vec<Row>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the program itself refused, the broker has not seen.
    pub(crate) fn denied(&self, at: SystemTime, step: &str, binding: &str, scope: &str) {
        let shown = [step, binding, "-", resource(scope), "this program", "denied"].map(str::to_owned);
        let line = shown.join(" ");
        self.rows().push(Row { at, shown, event: None, outcome: None, line });
    }
}

struct Sink {
    binding: &'static str,
    trail: Trail,
}

impl AuditSink for Sink {
    fn write(&mut self, record: &AuditRecord) -> io::Result<()> {
        let outcome = match record.outcome {
            AuditOutcome::Success => "token".to_owned(),
            AuditOutcome::Failure => {
                [Some("error".to_owned()), record.status.map(|status| status.to_string())]
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>()
                    .join(" ")
            }
            _ => "abandoned".to_owned(),
        };
        let request = record.event == AuditEvent::Request;
        let by = record.answered_by.as_deref().unwrap_or("nobody");
        let shown = [
            record.label.as_deref().unwrap_or("(refresh)").to_owned(),
            self.binding.to_owned(),
            record.identity.as_deref().unwrap_or("system-assigned").to_owned(),
            resource(&record.resource).to_owned(),
            if request { format!("{} at {by}", record.provider) } else { by.to_owned() },
            outcome,
        ];
        let (event, outcome) = (Some(record.event), Some(record.outcome));
        let line = serde_json::to_string(record)?;
        self.trail.rows().push(Row { at: record.time, shown, event, outcome, line });
        Ok(())
    }
}

/// The trail, with what differs in nothing but time on one line. No token may stand in it.
pub(crate) fn table(rows: &[Row], tokens: &[AccessToken]) -> Result<String, Failure> {
    let mut alike: Vec<(&Row, SystemTime, usize)> = Vec::new();
    for row in rows {
        match alike.iter_mut().find(|(first, ..)| first.shown == row.shown) {
            Some((_, last, times)) => (*last, *times) = (row.at, *times + 1),
            None => alike.push((row, row.at, 1)),
        }
    }
    let heads = ["step", "binding", "identity", "resource", "answered by", "outcome"].map(str::to_owned);
    let mut widths = heads.each_ref().map(String::len);
    for (row, ..) in &alike {
        for (width, shown) in widths.iter_mut().zip(&row.shown) {
            *width = shown.len().max(*width);
        }
    }
    let line = |first: &str, last: &str, times: &str, cells: &[String; 6]| {
        let cells = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = format!("{first:<5}  {last:<5}  {times:>5}  {}", cells.collect::<Vec<_>>().join("  "));
        line.trim_end().to_owned()
    };
    let mut text = line("first", "last", "times", &heads);
    for (row, last, times) in alike {
        text = format!("{text}\n{}", line(&hm(row.at), &hm(last), &times.to_string(), &row.shown));
    }
    let leaks = |text: &str| tokens.iter().any(|token| text.contains(token.secret()));
    if leaks(&text) || rows.iter().any(|row| leaks(&row.line)) {
        return Err("the trail holds a token".into());
    }
    Ok(text)
}

/// `https://vault.azure.net/.default` is the resource `vault.azure.net`.
pub(crate) fn resource(scope: &str) -> &str {
    scope.trim_start_matches("https://").trim_end_matches("/.default")
}

pub(crate) fn hm(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time)
        .map_or_else(|error| error.to_string(), |time| time.strftime("%H:%M").to_string())
}
