//! The tables, for a terminal and as markdown.

use std::fmt::Write as _;

use crate::{
    contestants::{self, PEER},
    latency::{NOTHING, OURS},
    results::{Figures, Hits, Latency, Results, Scale},
    scale,
    service::TOKEN_LENGTH,
};

/// Rows of cells; the first column is text, the others are numbers.
struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new<const N: usize>(head: [&str; N]) -> Self {
        Self { head: head.map(str::to_owned).to_vec(), rows: Vec::new() }
    }

    fn plain(&self) -> String {
        let lines = || std::iter::once(&self.head).chain(&self.rows);
        let widths: Vec<usize> = (0..self.head.len())
            .map(|column| lines().map(|line| line[column].chars().count()).max().unwrap_or(0))
            .collect();
        let mut text = String::new();
        for line in lines() {
            let _ = write!(text, "{:<width$}", line[0], width = widths[0]);
            for (cell, width) in line.iter().zip(&widths).skip(1) {
                let _ = write!(text, "  {cell:>width$}");
            }
            text.push('\n');
        }
        text
    }

    fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let rule = format!("|---|{}\n", "---:|".repeat(self.head.len() - 1));
        line(&self.head) + &rule + &self.rows.iter().map(|row| line(row)).collect::<String>()
    }
}

/// How a part is written down.
#[derive(Debug, Clone, Copy)]
enum Form {
    Plain,
    Markdown,
}

impl Form {
    fn table(self, table: &Table) -> String {
        match self {
            Self::Plain => table.plain() + "\n",
            Self::Markdown => table.markdown() + "\n",
        }
    }

    fn heading(self, text: &str) -> String {
        match self {
            Self::Plain => format!("{text}\n\n"),
            Self::Markdown => format!("## {text}\n\n"),
        }
    }

    fn legend(self, what: &[(&str, &str)]) -> String {
        let width = what.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let line = |(name, what): &(&str, &str)| match self {
            Self::Plain => format!("{name:<width$}  {what}\n"),
            Self::Markdown => format!("- `{name}`: {}\n", what),
        };
        what.iter().map(line).collect::<String>() + "\n"
    }
}

pub(crate) fn plain(results: &Results) -> String {
    parts(results, Form::Plain).join("\n")
}

pub(crate) fn markdown(results: &Results) -> String {
    let mut text = format!(
        "# Beside its peers\n\n\
         Written by `cargo run --release --manifest-path benches/peers/Cargo.toml -- --write`, on a shared virtual machine \
         ({}). Everyone in a table was measured in the same run. Tokens have {} bytes.\n\n",
        results.machine,
        count(TOKEN_LENGTH as u64)
    );
    text.push_str(parts(results, Form::Markdown).join("").trim_end());
    text.push('\n');
    text
}

fn parts(results: &Results, form: Form) -> Vec<String> {
    [
        results.hits.as_ref().map(|part| hits(part, form)),
        results.scale.as_ref().map(|part| scale(part, form)),
        results.latency.as_ref().map(|part| latency(part, form)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn hits(hits: &Hits, form: Form) -> String {
    let mut table = Table::new([
        "",
        "ns a hit, 1 thread",
        "times faster",
        "M hits/s in all, 2 threads",
        "times as many",
        "allocations",
        "bytes a hit",
    ]);
    for (name, _) in contestants::WHAT {
        let (ns, mops) = (of(&hits.hit_ns, name), of(&hits.total_mops_2_threads, name));
        table.rows.push(vec![
            (*name).to_owned(),
            format!("{ns:.1}"),
            format!("{:.1}", of(&hits.hit_ns, PEER) / ns),
            format!("{mops:.1}"),
            format!("{:.1}", mops / of(&hits.total_mops_2_threads, PEER)),
            short(of(&hits.allocs_per_hit, name)),
            short(of(&hits.bytes_per_hit, name)),
        ]);
    }
    let title = format!(
        "A cached token of {} bytes, read again and again. Medians of {} windows.",
        count(TOKEN_LENGTH as u64),
        hits.windows
    );
    form.heading(&title)
        + &form.table(&table)
        + &form.legend(contestants::WHAT)
        + "Times faster, times as many: compared with azure_identity. 2 threads: both ask for the same token.\n\n"
}

fn scale(scale: &Scale, form: Form) -> String {
    let mut text = form.heading(&format!("Many keys, read at random. Medians of {} windows.", scale.windows));
    let mut table = Table::new(["ns a hit, 1 thread"]);
    let name = |size: &crate::results::Size| format!("{} keys", count(size.keys as u64));
    table.head.extend(scale.sizes.iter().map(name));
    for (name, _) in scale::WHAT {
        let cells = scale.sizes.iter().map(|size| format!("{:.0}", of(&size.hit_ns, name)));
        table.rows.push(std::iter::once((*name).to_owned()).chain(cells).collect());
    }
    text += &form.table(&table);
    if let Some(size) = scale.sizes.last() {
        let title = format!("with {} keys", count(size.keys as u64));
        let mut table = Table::new([
            &title,
            "× azure_identity",
            "M hits/s in all, 2 threads",
            "bytes a key beyond the token",
            "s to fill",
        ]);
        for (name, _) in scale::WHAT {
            table.rows.push(vec![
                (*name).to_owned(),
                format!("{:.2}", of(&size.hit_ns, name) / of(&size.hit_ns, PEER)),
                format!("{:.1}", of(&size.total_mops_2_threads, name)),
                size.bytes_per_key.get(*name).map_or_else(|| "–".to_owned(), |bytes| format!("{bytes:.0}")),
                size.fill_seconds.get(*name).map_or_else(|| "–".to_owned(), |took| format!("{took:.1}")),
            ]);
        }
        text += &form.table(&table);
    }
    text + &form.legend(scale::WHAT)
        + "Bytes a key are those that stay allocated after filling, with the keys' own strings; what \
           the caller keeps (requests, scopes, strings) comes on top for everyone. Filling fetches, or inserts, one key after the other.\n\n"
}

fn latency(latency: &Latency, form: Form) -> String {
    let mut text = form.heading(&format!(
        "Calls across a refresh: {} tasks ask all the time, on two threads",
        latency.tasks
    ));
    for scenario in &latency.scenarios {
        text += &match form {
            Form::Plain => format!("{}: {}\n", scenario.name, scenario.what),
            Form::Markdown => format!("**{}.** {}\n\n", scenario.name, scenario.what),
        };
        let mut table = Table::new([
            "",
            "calls",
            "errors",
            "waited",
            "before the last call",
            "p50",
            "p99",
            "p99.9",
            "max",
            "over 1 ms",
            "over 50 ms",
            "% of time in those over 1 ms",
            "requests",
            "of them failed",
        ]);
        for name in [OURS, PEER, NOTHING] {
            let Some(run) = scenario.runs.get(name) else {
                continue;
            };
            table.rows.push(vec![
                name.to_owned(),
                count(run.calls),
                count(run.errors),
                count(run.waited),
                run.waited_before_last_call.map_or_else(|| "–".to_owned(), count),
                time(run.p50_ns as f64),
                time(run.p99_ns as f64),
                time(run.p999_ns as f64),
                time(run.max_ns as f64),
                count(run.over_1_ms),
                count(run.over_50_ms),
                format!("{:.2}", run.percent_of_time_over_1_ms),
                count(run.requests),
                count(run.failed_requests),
            ]);
        }
        text += &form.table(&table);
    }
    text + "Waited: calls that were Pending when first polled. Before the last call: by more than a tick of a coarse clock, 10 ms. nothing: no call at all between the two clock readings, so \
            what the machine does by itself to whoever runs on it.\n"
}

fn of(figures: &Figures, name: &str) -> f64 {
    figures.get(name).copied().unwrap_or(f64::NAN)
}

/// Without decimals where there are none.
fn short(value: f64) -> String {
    let rounded = (value * 10.0).round() / 10.0;
    format!("{rounded}")
}

/// With commas.
pub(crate) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// In the unit that suits it.
pub(crate) fn time(ns: f64) -> String {
    let (value, unit) = match ns {
        ..1e3 => (ns, "ns"),
        ..1e6 => (ns / 1e3, "µs"),
        ..1e9 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    if value < 9.95 && value.fract() > 0.005 {
        format!("{value:.1} {unit}")
    } else {
        format!("{value:.0} {unit}")
    }
}
