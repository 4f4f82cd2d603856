//! The clock, the journal and the keys over HTTP.

use crate::emulator::Endpoint;
use crate::emulator::clock::{Clock, ClockError};
use crate::emulator::control::refusal::{Refusal, Refused};
use crate::emulator::directory::Directory;
use crate::emulator::directory::file::fields::Field;
use crate::emulator::directory::file::node::Mistake;
use crate::emulator::journal::{Entry, Journal};
use crate::emulator::time::{parse_rfc3339, rfc3339};
use http::StatusCode;
use serde_json::{Map, Value, json};
use url::form_urlencoded;

/// More entries than these are not given at once, whatever is asked for.
const MOST: usize = 10_000;

/// So many entries are given at once, unless another limit is asked for.
const ENTRIES: usize = 1000;

pub(super) fn clock(clock: &Clock) -> Value {
    json!({"now": rfc3339(clock.now()), "frozen": clock.is_frozen(), "movable": clock.is_movable()})
}

pub(super) fn move_clock(clock: &Clock, root: &Field<'_>) -> Result<(), Refused> {
    let mut table = root.table()?;
    let (advance, set) = (table.take("advance"), table.take("set"));
    let (freeze, resume) = (table.flag("freeze", false)?, table.flag("resume", false)?);
    table.done()?;
    let by = advance.as_ref().map(Field::duration).transpose()?;
    let to = match &set {
        None => None,
        Some(field) => {
            let time = parse_rfc3339(field.text()?);
            Some(time.ok_or_else(|| field.wrong("expected a time like 2026-01-09T02:02:12Z"))?)
        }
    };
    let asked = [by.is_some(), to.is_some(), freeze, resume].into_iter().filter(|asked| *asked).count();
    if asked == 0 || (by.is_some() && to.is_some()) || (freeze && resume) {
        return Err(root.wrong("expected one of advance, set, freeze and resume").into());
    }
    let refused = |error: ClockError| {
        let status = match error {
            ClockError::NotOurs => StatusCode::CONFLICT,
            ClockError::OutOfRange => StatusCode::BAD_REQUEST,
        };
        let field = advance.as_ref().or(set.as_ref()).unwrap_or(root);
        Refused { status, mistake: field.wrong(error.to_string()) }
    };
    let was_frozen = clock.is_frozen();
    // Stopped first, so that it stands exactly where it is set to.
    if freeze {
        clock.freeze().map_err(refused)?;
    }
    let moved = match (by, to) {
        (Some(by), _) => clock.advance(by),
        (None, Some(to)) => clock.set(to),
        (None, None) => Ok(()),
    };
    if (resume && moved.is_ok()) || (freeze && moved.is_err() && !was_frozen) {
        clock.resume().map_err(refused)?;
    }
    moved.map_err(refused)
}

pub(super) fn keys(directory: &Directory, root: &Field<'_>) -> Result<(), Mistake> {
    let mut table = root.table()?;
    let (rotate, retire) = (table.flag("rotate", false)?, table.flag("retire", false)?);
    table.finish()?;
    if !rotate && !retire {
        return Err(root.wrong("expected rotate or retire"));
    }
    if rotate {
        directory.rotate_keys();
    }
    if retire {
        directory.retire_keys();
    }
    Ok(())
}

pub(super) fn journal(journal: &Journal, query: &str) -> Result<Value, Refusal> {
    let (mut after, mut limit) = (0, ENTRIES);
    let mut filters: Vec<(String, String)> = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        let number = || Refusal::parameter(&name, "expected a number");
        match name.as_ref() {
            "after" => after = value.parse().map_err(|_| number())?,
            "limit" => limit = value.parse().map_err(|_| number())?,
            "status" | "aadsts" => {
                value.parse::<u32>().map_err(|_| number())?;
                filters.push((name.into_owned(), value.into_owned()));
            }
            "endpoint" if !matches!(value.as_ref(), "token-service" | "identity") => {
                return Err(Refusal::parameter(&name, "expected token-service or identity"));
            }
            "endpoint" | "path" | "tenant" | "client_id" | "grant_type" | "user" => {
                filters.push((name.into_owned(), value.into_owned()));
            }
            _ => {
                let known = "unknown parameter; known are after, limit, endpoint, path, tenant, client_id, grant_type, user, status and aadsts";
                return Err(Refusal::parameter(&name, known));
            }
        }
    }
    let fits = |entry: &Entry| filters.iter().all(|(name, value)| is(entry, name, value));
    let entries = journal.find(after, limit.min(MOST), fits);
    Ok(json!({
        "arrived": journal.len(),
        "refused": journal.refused(),
        // What to ask `after` next.
        "last": entries.last().map_or(after, |entry| entry.number),
        "entries": entries.iter().map(to_json).collect::<Vec<_>>(),
    }))
}

/// Whether an entry has this value.
fn is(entry: &Entry, name: &str, value: &str) -> bool {
    let same = |found: &Option<String>| found.as_ref().is_some_and(|found| found.eq_ignore_ascii_case(value));
    match name {
        "endpoint" => endpoint_name(entry.endpoint) == value,
        "path" => entry.path.trim_end_matches('/').ends_with(value),
        "tenant" => same(&entry.tenant),
        "client_id" => same(&entry.client_id),
        "grant_type" => same(&entry.grant_type),
        "user" => same(&entry.user),
        "status" => entry.status.is_some_and(|status| status.to_string() == value),
        _ => entry.aadsts.is_some_and(|aadsts| aadsts.to_string() == value),
    }
}

fn to_json(entry: &Entry) -> Value {
    let headers = entry.headers.iter().map(|(name, value)| (name.clone(), json!(value)));
    json!({
        "number": entry.number,
        "at": rfc3339(entry.at),
        "endpoint": endpoint_name(entry.endpoint),
        "method": entry.method,
        "path": entry.path,
        "tenant": entry.tenant,
        "client_id": entry.client_id,
        "grant_type": entry.grant_type,
        "scope": entry.scope,
        "user": entry.user,
        "headers": headers.collect::<Map<_, _>>(),
        "status": entry.status,
        "took_ms": entry.took.map(|took| took.as_secs_f64() * 1000.0),
        "aadsts": entry.aadsts,
        "error": entry.error,
    })
}

pub(super) fn endpoint_name(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::TokenService => "token-service",
        Endpoint::Identity => "identity",
    }
}
