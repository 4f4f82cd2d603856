//! Faults as JSON.

use crate::emulator::Endpoint;
use crate::emulator::control::records::endpoint_name;
use crate::emulator::directory::file::fields::{Field, Table};
use crate::emulator::directory::file::node::Mistake;
use crate::emulator::faults::{Action, Fault, FaultId};
use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// What answers in place of the usual answer. Of these a fault has one at most.
const ACTIONS: [&str; 8] = ["error", "body", "merge", "huge", "redirect", "refuse", "cut", "hang"];

pub(super) fn read(root: &Field<'_>) -> Result<Fault, Mistake> {
    let mut table = root.table()?;
    let mut fault = Fault::on(match table.take("endpoint") {
        None => Endpoint::TokenService,
        Some(field) => match field.text()? {
            "token-service" => Endpoint::TokenService,
            "identity" => Endpoint::Identity,
            _ => return Err(field.wrong("expected \"token-service\" or \"identity\"")),
        },
    });
    fault.client = table.text("client")?;
    fault.tenant = table.text("tenant")?;
    fault.resource = table.text("resource")?;
    fault.path = table.text("path")?;
    fault.grant_type = table.text("grant_type")?;
    fault.user = table.text("user")?;
    if let Some(times) = table.take("times") {
        fault.left = Some(times.whole()?);
        if fault.left == Some(0) {
            return Err(times.wrong("expected a number from 1 on"));
        }
    }
    fault.delay = pause(&mut table, "delay", "delay_ms")?.unwrap_or_default();
    fault.action = action(&mut table)?;
    dressing(&mut table, &mut fault)?;
    table.done()?;
    if fault.does_nothing() {
        return Err(root.wrong("a fault that does nothing: none of its actions is there"));
    }
    Ok(fault)
}

fn pause(
    table: &mut Table<'_>,
    seconds: &'static str,
    millis: &'static str,
) -> Result<Option<Duration>, Mistake> {
    match (table.take(seconds), table.take(millis)) {
        (Some(_), Some(millis)) => {
            Err(millis.wrong(format!("{seconds} says the same: only one of them may be there")))
        }
        (Some(seconds), None) => seconds.duration().map(Some),
        (None, Some(millis)) => Ok(Some(Duration::from_millis(millis.whole()?))),
        (None, None) => Ok(None),
    }
}

fn action(table: &mut Table<'_>) -> Result<Action, Mistake> {
    let mut found: Option<(&str, Action)> = None;
    let content_type = table.take("content_type");
    for name in ACTIONS {
        let Some(field) = table.take(name) else {
            continue;
        };
        let action = match name {
            "error" => {
                let code = u32::try_from(field.whole()?);
                Action::Error(code.map_err(|_| field.wrong("expected an AADSTS number"))?)
            }
            "body" => body(&field, content_type.as_ref())?,
            "merge" => {
                field.table()?;
                Action::Merge(field.node().value())
            }
            "huge" => Action::Huge(field.whole()?),
            "redirect" => {
                let url = field.text()?;
                HeaderValue::from_str(url).map_err(|_| field.wrong("no header can hold this address"))?;
                Action::Redirect(url.to_owned())
            }
            // An action that is not meant goes without effect.
            _ if !field.flag()? => continue,
            "refuse" => Action::Refuse,
            "cut" => Action::Cut,
            _ => Action::Hang,
        };
        if let Some((other, _)) = found {
            return Err(
                field.wrong(format!("{other} answers already: a fault has one of {}", ACTIONS.join(", ")))
            );
        }
        found = Some((name, action));
    }
    match (found, content_type) {
        (Some((name, _)), Some(field)) if name != "body" => {
            Err(field.wrong("only a body has a content type"))
        }
        (None, Some(field)) => Err(field.wrong("only a body has a content type")),
        (found, _) => Ok(found.map_or(Action::Answer, |(_, action)| action)),
    }
}

fn body(field: &Field<'_>, content_type: Option<&Field<'_>>) -> Result<Action, Mistake> {
    let (otherwise, bytes) = match field.node().value() {
        Value::String(text) => ("text/plain; charset=utf-8", text),
        value @ (Value::Object(_) | Value::Array(_)) => {
            ("application/json; charset=utf-8", value.to_string())
        }
        _ => return Err(field.wrong("expected a text, an object or a list")),
    };
    let content_type = match content_type {
        None => otherwise,
        Some(field) => {
            let text = field.text()?;
            HeaderValue::from_str(text).map_err(|_| field.wrong("no header can hold this"))?;
            text
        }
    };
    Ok(Action::Body(content_type.to_owned(), bytes.into()))
}

/// What is done to an answer, where there is one.
fn dressing(table: &mut Table<'_>, fault: &mut Fault) -> Result<(), Mistake> {
    fn take<'a>(
        table: &mut Table<'a>,
        name: &'static str,
        is_mute: bool,
    ) -> Result<Option<Field<'a>>, Mistake> {
        match table.take(name) {
            Some(field) if is_mute => Err(field.wrong("there is no answer to do this to")),
            field => Ok(field),
        }
    }

    let is_mute = matches!(fault.action, Action::Refuse | Action::Cut | Action::Hang);
    if let Some(field) = take(table, "status", is_mute)? {
        let status = u16::try_from(field.whole()?).ok().filter(|status| (200..=599).contains(status));
        fault.status = Some(status.ok_or_else(|| field.wrong("expected a status from 200 to 599"))?);
    }
    if let Some(field) = take(table, "retry_after", is_mute)? {
        let seconds = HeaderValue::from(field.whole()?);
        fault.headers.push((HeaderName::from_static("retry-after"), seconds));
    }
    if let Some(field) = take(table, "headers", is_mute)? {
        for (name, field) in field.members()? {
            let name = HeaderName::try_from(name).map_err(|_| field.wrong("this is no header's name"))?;
            let value = field.text()?;
            let value = HeaderValue::from_str(value).map_err(|_| field.wrong("no header can hold this"))?;
            fault.headers.push((name, value));
        }
    }
    fault.cut_body = take(table, "cut_body", is_mute)?.map(|field| field.whole()).transpose()?;
    if let Some(field) = take(table, "drip", is_mute)? {
        let mut table = field.table()?;
        let bytes = table.need("bytes")?;
        let chunk = usize::try_from(bytes.whole()?).ok().filter(|chunk| *chunk > 0);
        let chunk = chunk.ok_or_else(|| bytes.wrong("expected a number from 1 on"))?;
        let every = pause(&mut table, "every", "every_ms")?;
        let every = every.ok_or_else(|| field.wrong("every or every_ms is missing"))?;
        table.finish()?;
        fault.drip = Some((chunk, every));
    }
    Ok(())
}

/// The fault in the form that is read, as far as it is text; `times` is what is left.
pub(super) fn to_json(id: FaultId, fault: &Fault) -> Value {
    let headers = fault.headers.iter();
    let headers =
        headers.map(|(name, value)| (name.to_string(), json!(String::from_utf8_lossy(value.as_bytes()))));
    let drip = fault.drip.map(|(bytes, every)| json!({"bytes": bytes, "every": every.as_secs_f64()}));
    let mut value = json!({
        "id": id.number(),
        "endpoint": endpoint_name(fault.endpoint),
        "client": fault.client,
        "tenant": fault.tenant,
        "resource": fault.resource,
        "path": fault.path,
        "grant_type": fault.grant_type,
        "user": fault.user,
        "times": fault.left,
        "met": fault.met,
        "delay": (!fault.delay.is_zero()).then_some(fault.delay.as_secs_f64()),
        "status": fault.status,
        "headers": (!fault.headers.is_empty()).then(|| headers.collect::<Map<_, _>>()),
        "cut_body": fault.cut_body,
        "drip": drip,
    });
    match &fault.action {
        Action::Answer => {}
        Action::Error(code) => value["error"] = json!(code),
        Action::Body(content_type, bytes) => {
            value["body"] = json!(String::from_utf8_lossy(bytes));
            value["content_type"] = json!(content_type);
        }
        Action::Merge(members) => value["merge"] = members.clone(),
        Action::Huge(bytes) => value["huge"] = json!(bytes),
        Action::Redirect(url) => value["redirect"] = json!(url),
        Action::Refuse => value["refuse"] = json!(true),
        Action::Cut => value["cut"] = json!(true),
        Action::Hang => value["hang"] = json!(true),
    }
    if let Value::Object(members) = &mut value {
        members.retain(|_, value| !value.is_null());
    }
    value
}
