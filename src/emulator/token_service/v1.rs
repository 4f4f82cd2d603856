//! The v1 endpoints: a resource where v2 has scopes, and numbers spelled as texts.

use crate::emulator::answer::Answer;
use crate::emulator::error::EntraError;
use crate::emulator::jws::Jws;
use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use crate::emulator::time::unix_seconds;
use crate::emulator::token_service::{self, device_code};
use axum::Extension;
use axum::extract::State;
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) async fn token(
    State(core): State<Arc<Core>>,
    Extension(asked): Extension<Arc<Asked>>,
) -> Result<Answer, EntraError> {
    let answer = token_service::token(State(Arc::clone(&core)), Extension(Arc::clone(&asked))).await?;
    let now = unix_seconds(core.time.now());
    Ok(retold(answer, |body| {
        let seconds = body["expires_in"].as_u64().unwrap_or(0);
        body["not_before"] = json!(now.to_string());
        body["expires_on"] = json!(now.saturating_add(seconds).to_string());
        let audience = || {
            let token = Jws::parse(body["access_token"].as_str()?)?;
            token.claim("aud").map(str::to_owned)
        };
        body["resource"] = json!(asked.form.get("resource").map(str::to_owned).or_else(audience));
        if let Some(scope) = body["scope"].as_str() {
            body["scope"] = json!(permissions(scope));
        }
    }))
}

pub(crate) async fn device_code(
    State(core): State<Arc<Core>>,
    Extension(asked): Extension<Arc<Asked>>,
) -> Result<Answer, EntraError> {
    let answer = device_code::start(State(core), Extension(asked)).await?;
    Ok(retold(answer, |body| {
        body["verification_url"] = body["verification_uri"].take();
        if let Some(body) = body.as_object_mut() {
            body.remove("verification_uri");
        }
    }))
}

/// The answer with other members, all numbers as texts.
fn retold(mut answer: Answer, change: impl FnOnce(&mut Value)) -> Answer {
    let Ok(mut body) = serde_json::from_slice::<Value>(&answer.body) else {
        return answer;
    };
    change(&mut body);
    for value in body.as_object_mut().into_iter().flat_map(|members| members.values_mut()) {
        if value.is_number() {
            *value = json!(value.to_string());
        }
    }
    answer.body = Bytes::from(body.to_string());
    answer
}

/// The bare names of permissions: the resource has a member of its own, and signing in is no permission.
fn permissions(scope: &str) -> String {
    let names = scope.split(' ').filter_map(|scope| scope.rsplit_once('/')).map(|(_, name)| name);
    names.filter(|name| *name != ".default").collect::<Vec<_>>().join(" ")
}
