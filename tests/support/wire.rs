//! The simulated service over the real protocol: the emulator with its faults, and what passes seen at the transport.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use entra_broker::{
    BoxFuture, Error, ErrorKind, Pool, Transport, TransportError,
    emulator::{Emulator, Endpoint, Fault, FaultId, sample},
};
use fastrand::Rng;
use serde_json::{Value, json};

use super::{InMemory, Oracle, Reach, Spell, Target, Weather, secs};

/// What goes wrong on a wire.
pub(crate) const WIRE_WEATHERS: [Weather; 13] = [
    Weather::Slow,
    Weather::VerySlow,
    Weather::Silent,
    Weather::Throttled,
    Weather::Down,
    Weather::Refused,
    Weather::Garbage,
    Weather::WrongSecret,
    Weather::NoSuchResource,
    Weather::Expired,
    Weather::Brief,
    Weather::Long,
    Weather::Hinted,
];

/// Stands between a broker and the emulator, and tells the oracle what passes.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    wire: InMemory,
    oracle: Arc<Oracle>,
    generation: u64,
}

impl Watched {
    pub(crate) fn new(wire: InMemory, oracle: &Arc<Oracle>) -> Self {
        Self { wire, oracle: Arc::clone(oracle), generation: oracle.generation() }
    }

    /// What is asked for, and which claims are to be in it, read from the request.
    fn read(&self, request: &http::Request<Bytes>) -> (usize, Option<String>) {
        let form: Vec<_> = url::form_urlencoded::parse(request.body()).collect();
        let value = |name| form.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_ref());
        let tenant = request.uri().path().split('/').nth(1);
        let asked = |target: &Target| {
            tenant == Some(target.tenant.unwrap_or(sample::TENANT))
                && value("scope").is_some_and(|scope| scope.split(' ').any(|one| one == target.scope))
                && value("assertion") == target.user.as_deref()
        };
        (self.oracle.targets.iter().position(asked).unwrap(), value("claims").map(str::to_owned))
    }
}

impl Transport for Watched {
    fn send<'a>(
        &'a self,
        pool: Pool,
        request: http::Request<Bytes>,
        limit: usize,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, TransportError>> {
        Box::pin(async move {
            let (key, challenge) = self.read(&request);
            let attempt = self.oracle.attempt_begins(key, self.generation, challenge);
            let sent = self.oracle.time.now();
            let answer = self.wire.send(pool, request, limit).await;
            match &answer {
                Err(_) => attempt.fails(&Error::new(ErrorKind::Unavailable, "no answer")),
                Ok(answer) => {
                    let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
                    match (
                        answer.status().as_u16(),
                        body["access_token"].as_str(),
                        body["expires_in"].as_u64(),
                    ) {
                        (200, Some(token), Some(lives)) => {
                            assert!(is_for(token, &self.oracle.targets[key]), "the emulator's mistake");
                            attempt.gives(token, sent, secs(lives));
                        }
                        (429 | 500.., ..) => attempt.fails(&Error::new(ErrorKind::Throttled, "down")),
                        (400.., ..) => attempt.fails(&Error::new(ErrorKind::Credential, "refused")),
                        _ => attempt.fails(&Error::new(ErrorKind::Protocol, "garbage")),
                    }
                }
            }
            answer
        })
    }
}

/// What a token says of itself, unverified.
fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// Whether a token's own claims say that it is what was asked for.
pub(crate) fn is_for(token: &str, target: &Target) -> bool {
    let claims = claims(token);
    let of_user = target.user.as_deref().map(|assertion| self::claims(assertion)["oid"].clone());
    let who = match of_user {
        Some(user) => claims["oid"] == user && claims["scp"].is_string(),
        None => claims["idtyp"] == "app",
    };
    let resource = claims["aud"].as_str().unwrap_or("none");
    claims["tid"] == target.tenant.unwrap_or(sample::TENANT) && target.scope.starts_with(resource) && who
}

/// Makes the emulator behave as a spell says, until it is removed.
pub(crate) fn strike(emulator: &Emulator, spell: &Spell, targets: &[Target], rng: &mut Rng) -> FaultId {
    let fault = Fault::on(Endpoint::TokenService).path("/token");
    let fault = match spell.reach {
        Reach::Everyone => fault,
        Reach::Tenant(number) => {
            let of = targets.iter().find(|target| target.tenant_number == number).unwrap();
            fault.tenant(of.tenant.unwrap_or(sample::TENANT))
        }
        Reach::Key(key) => {
            let target = &targets[key];
            let resource = target.scope.trim_end_matches("/.default");
            fault.tenant(target.tenant.unwrap_or(sample::TENANT)).resource(resource)
        }
    };
    let after = secs(rng.u64(0..400));
    emulator.faults().add(match spell.weather {
        Weather::Slow => fault.delay(secs(rng.u64(1..10))),
        // Longer than an attempt may take.
        Weather::VerySlow => fault.delay(secs(rng.u64(9..30))),
        Weather::Silent => fault.hang(),
        Weather::Throttled => fault.status(429).retry_after(after),
        Weather::Down => fault.status(rng.u16(500..505)),
        Weather::Refused => fault.refuse(),
        Weather::Garbage if rng.bool() => fault.body("text/html", "<html>Welcome to the hotel's network"),
        Weather::Garbage => fault.cut_body(20),
        Weather::WrongSecret => fault.error(7_000_215),
        Weather::NoSuchResource => fault.error(500_011),
        Weather::Expired => fault.merge(json!({ "expires_in": 0 })),
        Weather::Brief => fault.merge(json!({ "expires_in": rng.u64(1..20) })),
        Weather::Long => fault.merge(json!({ "expires_in": 86_399 })),
        Weather::Hinted => fault.merge(json!({ "refresh_in": rng.u64(1..7_200) })),
        other => panic!("{other:?} is no weather of a wire"),
    })
}
