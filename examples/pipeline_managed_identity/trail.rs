//! An audit trail in memory, and a table of it.

use std::{
    io,
    sync::mpsc::{self, Receiver, Sender},
    time::SystemTime,
};

use entra_broker::{Audit, AuditCalls, AuditEvent, AuditOutcome, AuditRecord, AuditSink};

/// A trail of all requests and all calls. A service would write it to a file, by `JsonLines::append("/var/log/…")?`.
pub(crate) fn in_memory() -> (Audit, Receiver<AuditRecord>) {
    let (sender, records) = mpsc::channel();
    (Audit::builder(Sink(sender)).calls(AuditCalls::All).build(), records)
}

struct Sink(Sender<AuditRecord>);

impl AuditSink for Sink {
    fn write(&mut self, record: &AuditRecord) -> io::Result<()> {
        self.0.send(record.clone()).map_err(io::Error::other)
    }
}

/// Records that differ in nothing but their time.
struct Line {
    /// What they are about, by whom, for what, from where answered, and how it ended.
    cells: [String; 6],
    first: SystemTime,
    last: SystemTime,
    times: usize,
    sent: u32,
}

/// The trail, with records that are alike on one line.
pub(crate) fn table(records: &[AuditRecord]) -> String {
    let mut lines: Vec<Line> = Vec::new();
    for record in records {
        let cells = cells(record);
        match lines.iter_mut().find(|line| line.cells == cells) {
            Some(line) => {
                (line.last, line.times, line.sent) =
                    (record.time, line.times + 1, line.sent + record.attempts);
            }
            None => lines.push(Line {
                cells,
                first: record.time,
                last: record.time,
                times: 1,
                sent: record.attempts,
            }),
        }
    }
    let heads = ["event", "step", "binding", "resource", "answered by", "outcome"].map(str::to_owned);
    let mut widths = heads.each_ref().map(String::len);
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(&line.cells) {
            *width = cell.len().max(*width);
        }
    }
    let row = |counts: [&str; 4], cells: &[String; 6]| {
        let [first, last, times, sent] = counts;
        let cells = cells.iter().zip(widths).map(|(cell, width)| format!("  {cell:<width$}"));
        let row = format!("{first:<5}  {last:<5}  {times:>5}  {sent:>4}{}", cells.collect::<String>());
        row.trim_end().to_owned()
    };
    let mut rows = vec![row(["first", "last", "times", "sent"], &heads)];
    for Line { cells, first, last, times, sent } in &lines {
        rows.push(row([&hm(*first), &hm(*last), &times.to_string(), &sent.to_string()], cells));
    }
    rows.join("\n")
}

fn cells(record: &AuditRecord) -> [String; 6] {
    let event = match record.event {
        AuditEvent::Request => "request",
        AuditEvent::Call => "call",
        _ => "other",
    };
    let outcome = match record.outcome {
        AuditOutcome::Success => "token".to_owned(),
        AuditOutcome::Failure => {
            let status = record.status.map(|status| format!(" {status}")).unwrap_or_default();
            format!("{}{status}", record.error_kind.unwrap_or("failed"))
        }
        _ => "abandoned".to_owned(),
    };
    [
        event,
        // Nobody waited for it: a refresh in the background.
        record.label.as_deref().unwrap_or("(refresh)"),
        record.binding.as_deref().unwrap_or("-"),
        record.resource.trim_start_matches("https://").trim_end_matches("/.default"),
        record.answered_by.as_deref().unwrap_or("nobody"),
        &outcome,
    ]
    .map(str::to_owned)
}

pub(crate) fn hm(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time)
        .map_or_else(|error| error.to_string(), |time| time.strftime("%H:%M").to_string())
}
