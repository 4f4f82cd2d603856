//! Driving an emulator over HTTP: what a test in another language, or a person with `curl`, does in place of the methods here.
//!
//! It answers below `/_emulator/` on both addresses. Requests there are not in the journal, and no fault meets them, with one exception:
//! where the token service has TLS and a fault without filters [refuses](crate::emulator::Fault::refuse) its connections, only the identity
//! address is left to remove that fault.
//!
//! | method | path | what it does |
//! |---|---|---|
//! | GET | `/_emulator/` | tells what is here |
//! | GET | `/_emulator/directory` | the directory, without secrets: see [`Directory::to_json`](crate::emulator::Directory::to_json) |
//! | PUT | `/_emulator/directory` | replaces the directory by another, in the form of [`sample::TOML`](crate::emulator::sample::TOML) as JSON; all of it or, after a mistake, nothing |
//! | PATCH | `/_emulator/directory` | adds what is listed, each thing in the place of the one with its id; policies are only added; all of it or nothing |
//! | POST | `/_emulator/directory/actions` | does one thing that an administrator does: see below |
//! | GET | `/_emulator/faults` | the faults in force, with their ids |
//! | POST | `/_emulator/faults` | adds a fault: see below; answers `{"id": 1}` |
//! | DELETE | `/_emulator/faults` | removes all faults |
//! | DELETE | `/_emulator/faults/{id}` | removes one |
//! | GET | `/_emulator/clock` | what time it is: `{"now": "2026-01-09T02:02:12Z", "frozen": false, "movable": true}` |
//! | POST | `/_emulator/clock` | moves it: `{"advance": 3600}` or `{"set": "2026-01-09T02:02:12Z"}`, stops it: `{"freeze": true}`, lets it go on: `{"resume": true}` |
//! | GET | `/_emulator/journal` | what was asked; `?after=17&limit=100`, and only those with `endpoint`, `path` (its end), `tenant`, `client_id`, `grant_type`, `user`, `status`, `aadsts` |
//! | DELETE | `/_emulator/journal` | forgets it |
//! | POST | `/_emulator/assertions` | a token of one of the directory's issuers, for a federated credential: `{"issuer": "https://…", "subject": "…"}`, with `audience` where it is not `api://AzureADTokenExchange`; answers `{"assertion": "…"}` |
//! | POST | `/_emulator/keys` | `{"rotate": true}` signs with a new key, `{"retire": true}` publishes no older one; both together in this order |
//!
//! The journal answers with `entries`, with the number of the `last` of them, which is what to ask `after` next, with how many requests
//! `arrived` in all, and how many connections faults `refused`. Its times are the emulator's clock's.
//!
//! Bodies are JSON and say so in `content-type`. A mistake is answered with status 400 and
//! `{"error": "no tenant \"contoso.tets\" in this directory", "field": "apps[0].tenant", "line": 3, "column": 14}`. A web page of another
//! origin is refused. Whoever reaches the emulator may do all of this: it protects nothing, here as elsewhere.
//!
//! # Faults
//!
//! A fault is an object with the names of [`Fault`](crate::emulator::Fault)'s methods:
//!
//! ```json
//! {"client": "aaaaaaaa-0000-0000-0000-000000000002", "status": 429, "retry_after": 7, "times": 2}
//! ```
//!
//! - which requests: `endpoint` (`"token-service"`, which goes without saying, or `"identity"`), `client`, `tenant`, `resource`, `path`,
//!   `grant_type`, `user`, `times`
//! - what answers, one of them: `error` (an AADSTS number), `body` (a text, or an object) with `content_type`, `merge` (an object),
//!   `huge` (bytes), `redirect` (an address), `refuse`, `cut`, `hang` (each `true`)
//! - what is done to an answer: `status`, `retry_after` (seconds), `headers` (an object), `cut_body` (bytes),
//!   `drip` (`{"bytes": 10, "every_ms": 100}`)
//! - when: `delay` (seconds) or `delay_ms`
//!
//! # Actions
//!
//! One member names the action, and its object what it is done to, as in `{"revoke_sessions": {"user": "alice@contoso.test"}}`. A tenant is
//! named by id or domain.
//!
//! | action | members |
//! |---|---|
//! | `revoke_sessions`, `remove_user` | `user` |
//! | `set_user_enabled` | `user`, `enabled` |
//! | `set_password` | `user`, `password` |
//! | `add_secret`, `expire_secret`, `remove_secret` | `client_id`, `secret` |
//! | `add_certificate` | `client_id`, `pem` |
//! | `remove_certificate` | `client_id`, `thumbprint` (SHA-1 or SHA-256, hexadecimal) |
//! | `add_federated`, `remove_federated` | `client_id`, `issuer`, `subject`, and `audience` where it is not the usual one |
//! | `set_app_enabled` | `client_id`, `enabled` |
//! | `remove_app`, `remove_identity` | `client_id` |
//! | `add_service_principal`, `remove_service_principal`, `withdraw_consent` | `tenant`, `client_id` |
//! | `set_service_principal_enabled` | `tenant`, `client_id`, `enabled` |
//! | `grant_role` | `tenant`, `client_id`, `resource`, `role` |
//! | `consent` | `tenant`, `client_id`, `resource`, `scopes`, and `user` for one user only |
//! | `assign`, `unassign` | `tenant`, `client_id`, `user` |
//! | `set_resource_enabled` | `resource`, `enabled` |
//! | `remove_resource` | `resource` |
//! | `remove_tenant`, `clear_policies` | `tenant` |
//!
//! What an action is to change and is not there is answered with status 404.

mod actions;
mod fault;
mod gate;
pub(crate) mod knock;
mod records;
mod refusal;

use crate::emulator::Endpoint;
use crate::emulator::answer::Answer;
use crate::emulator::directory::TOKEN_EXCHANGE;
use crate::emulator::directory::file::fields::Field;
use crate::emulator::directory::file::node::{Mistake, Node};
use crate::emulator::service::Core;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, HeaderName};
use http::request::Parts;
use http::{Method, StatusCode};
use refusal::Refusal;
use serde_json::{Value, json};

const BELOW: &str = "/_emulator";

/// What is here, and which methods it takes.
const PLACES: &[(&str, &[&str], &str)] = &[
    ("/", &["GET"], "what is here"),
    ("/directory", &["GET", "PUT", "PATCH"], "the directory, without secrets; replaces it; adds to it"),
    ("/directory/actions", &["POST"], "does one thing that an administrator does"),
    ("/faults", &["GET", "POST", "DELETE"], "the faults in force; adds one; removes all"),
    ("/faults/{id}", &["DELETE"], "removes a fault"),
    ("/clock", &["GET", "POST"], "what time it is; moves, stops or resumes the clock"),
    ("/journal", &["GET", "DELETE"], "what was asked (after, limit, filters); forgets it"),
    ("/assertions", &["POST"], "a token of one of the directory's issuers"),
    ("/keys", &["POST"], "rotates or retires signing keys"),
];

/// Whether a path is for the control and not for the service.
pub(crate) fn is_control(path: &str) -> bool {
    path.strip_prefix(BELOW).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Answers a control request; `body` is `None` where it was too long to be read.
pub(crate) async fn serve(core: &Core, endpoint: Endpoint, parts: &Parts, body: Option<&Bytes>) -> Answer {
    let answer = match gate::check(core, endpoint, parts, body) {
        Ok(body) if is_assertions(parts) => assertion(core, body).await,
        Ok(body) => route(core, parts, body),
        Err(refusal) => Err(refusal),
    };
    let answer = answer.unwrap_or_else(|refusal| refusal.answer());
    answer
        .header(CACHE_CONTROL, "no-store")
        .header(HeaderName::from_static("x-content-type-options"), "nosniff")
        .header(HeaderName::from_static("cross-origin-resource-policy"), "same-origin")
}

fn route(core: &Core, parts: &Parts, body: &str) -> Result<Answer, Refusal> {
    let path = parts.uri.path().strip_prefix(BELOW).unwrap_or_default();
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let query = parts.uri.query().unwrap_or_default();
    let method = if parts.method == Method::HEAD { "GET" } else { parts.method.as_str() };
    let read = || Node::json(body).map_err(|mistake| Refusal::of(mistake, body));
    let refused = |mistake| Refusal::of(mistake, body);
    let done = || Answer::ok(&json!({}));
    Ok(match (method, segments.as_slice()) {
        ("GET", []) => Answer::ok(&index(core)),
        ("GET", ["directory"]) => Answer::ok(&core.directory.to_json()),
        ("PUT", ["directory"]) => {
            core.directory.replace_by(&read()?).map_err(refused)?;
            done()
        }
        ("PATCH", ["directory"]) => {
            core.directory.patch_by(&read()?).map_err(refused)?;
            done()
        }
        ("POST", ["directory", "actions"]) => {
            actions::act(&core.directory, &Field::root(&read()?))
                .map_err(|refused| refused.into_refusal(body))?;
            done()
        }
        ("GET", ["faults"]) => {
            let faults = core.faults.list();
            let faults: Vec<Value> = faults.iter().map(|(id, fault)| fault::to_json(*id, fault)).collect();
            Answer::ok(&json!({"faults": faults}))
        }
        ("POST", ["faults"]) => {
            let fault = fault::read(&Field::root(&read()?)).map_err(refused)?;
            let id = core.faults.add(fault);
            Answer::json(StatusCode::CREATED, &json!({"id": id.number()}))
        }
        ("DELETE", ["faults"]) => {
            core.faults.clear();
            done()
        }
        ("DELETE", ["faults", id]) => {
            let removed = id.parse().is_ok_and(|id| core.faults.remove_numbered(id));
            let message = format!("no fault {} is in force", id.escape_debug());
            removed.then(done).ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, message))?
        }
        ("GET", ["clock"]) => Answer::ok(&records::clock(&core.time)),
        ("POST", ["clock"]) => {
            records::move_clock(&core.time, &Field::root(&read()?))
                .map_err(|refused| refused.into_refusal(body))?;
            Answer::ok(&records::clock(&core.time))
        }
        ("GET", ["journal"]) => Answer::ok(&records::journal(&core.journal, query)?),
        ("DELETE", ["journal"]) => {
            core.journal.clear();
            done()
        }
        ("POST", ["keys"]) => {
            records::keys(&core.directory, &Field::root(&read()?)).map_err(refused)?;
            done()
        }
        (_, segments) => return elsewhere(method, segments),
    })
}

fn is_assertions(parts: &Parts) -> bool {
    parts.method == Method::POST && parts.uri.path().trim_end_matches('/') == format!("{BELOW}/assertions")
}

/// What a workload gets from its own issuer. The one answer that has to wait: for the issuer's key.
async fn assertion(core: &Core, body: &str) -> Result<Answer, Refusal> {
    let [issuer, subject, audience] = {
        let read = || -> Result<[String; 3], Mistake> {
            let node = Node::json(body)?;
            let mut table = Field::root(&node).table()?;
            let (issuer, subject) = (table.need("issuer")?.text()?, table.need("subject")?.text()?);
            let audience = table.text("audience")?.unwrap_or_else(|| TOKEN_EXCHANGE.to_owned());
            table.done()?;
            Ok([issuer.to_owned(), subject.to_owned(), audience])
        };
        read().map_err(|mistake| Refusal::of(mistake, body))?
    };
    let token = core.federated_token(&issuer, &subject, &audience).await;
    let token = token.map_err(|error| Refusal::new(StatusCode::NOT_FOUND, error.to_string()))?;
    Ok(Answer::ok(&json!({"assertion": token})))
}

/// A place that is not there, or one that does not take this method.
fn elsewhere(method: &str, segments: &[&str]) -> Result<Answer, Refusal> {
    let is_here = |path: &str| {
        let named: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let mut pairs = named.iter().zip(segments);
        named.len() == segments.len() && pairs.all(|(named, asked)| named == asked || *named == "{id}")
    };
    let Some((_, methods, _)) = PLACES.iter().find(|(path, _, _)| is_here(path)) else {
        let message = format!("nothing is here; {BELOW}/ lists what there is");
        return Err(Refusal::new(StatusCode::NOT_FOUND, message));
    };
    let methods = methods.join(", ");
    let message = format!("{} is not for this; {methods} would be", method.escape_debug());
    let answer = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, message).answer();
    Ok(answer.header(ALLOW, &methods))
}

fn index(core: &Core) -> Value {
    let place = |(path, methods, what): &(&str, &[&str], &str)| json!({"path": format!("{BELOW}{path}"), "methods": methods, "what": what});
    json!({
        "emulator": "not Entra: for tests only",
        "version": env!("CARGO_PKG_VERSION"),
        "authority": core.authority,
        "identity_endpoint": core.identity_endpoint,
        "places": PLACES.iter().map(place).collect::<Vec<_>>(),
    })
}
