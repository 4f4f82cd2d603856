//! Weeks of a broker among faults, in moved time, with an oracle that knows what may be returned.
//!
//! To run other seeds, put them into [`SEEDS`] for a moment: `0..200` takes a minute in release. A failure names its
//! seed, and what happened to the key in question before.

use std::{ops::Range, sync::Arc};

use entra_broker::{
    BoxFuture, Broker, Clock, Pool, TenantId, Transport, TransportError,
    emulator::{Endpoint, sample},
};
use fastrand::Rng;
use http_body_util::BodyExt as _;

use crate::support::*;

/// Odd ones have a cache that is too small for all keys.
const SEEDS: Range<u64> = 0..2;

/// Those of the weeks over the real protocol.
const WIRE_SEEDS: Range<u64> = 0..1;

const SCOPES: [&str; 3] = [VAULT, STORAGE, "https://graph.microsoft.com/.default"];
const TENANTS: [Option<&str>; 3] = [None, Some("fabrikam.test"), Some("tailspin.test")];
const USERS: usize = 4;

/// Says which week went wrong.
struct Seed(u64);

#[expect(clippy::print_stderr, reason = "a failure has to say how it can be repeated")]
impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed of this week was {}", self.0);
        }
    }
}

/// A service that is asked otherwise needs none.
#[derive(Debug)]
struct NoTransport;

impl Transport for NoTransport {
    fn send<'a>(
        &'a self,
        _: Pool,
        _: http::Request<bytes::Bytes>,
        _: usize,
    ) -> BoxFuture<'a, Result<http::Response<bytes::Bytes>, TransportError>> {
        unreachable!("the service is no server")
    }
}

/// Each tenant's keys: the application's own and some users', for each scope.
fn targets() -> Vec<Target> {
    let mut targets = Vec::new();
    for (tenant_number, tenant) in TENANTS.into_iter().enumerate() {
        for user in 0..=USERS {
            let user = (user > 0).then(|| format!("assertion-of-user-{user}"));
            let target = |scope| Target { tenant, tenant_number, user: user.clone(), scope };
            targets.extend(SCOPES.map(target));
        }
    }
    targets
}

async fn a_week(seed: u64) -> Counts {
    let shown = Seed(seed);
    let mut rng = Rng::with_seed(seed);
    let (clock, control) = Clock::manual(start());
    let begin = clock.now();
    let (targets, roomy) = (targets(), seed.is_multiple_of(2));
    let week = (begin.mono(), begin.mono() + 7 * DAY);
    let forecast = Forecast::draw(&mut rng, week, &WEATHERS, (TENANTS.len(), targets.len()));
    let oracle = Oracle::new(TrueTime::new(control.clone(), begin.mono()), targets, roomy);
    let service = Service::new(&oracle, forecast, begin, rng.fork());
    let capacity = if roomy { oracle.targets.len() } else { 7 };
    let on = clock.clone();
    let week = Week::new(&clock, &control, &oracle, move |generation| {
        let builder = Broker::builder().clock(on.clone()).transport(NoTransport).allow_all_tenants();
        builder.seed(seed).capacity(capacity).build(service.of(generation)).unwrap()
    });
    let metrics = week.runs(&mut rng, 24).await;
    assert!(metrics.entries <= capacity);
    drop(shown);
    oracle.counts()
}

#[test]
fn a_week_of_faults_brings_no_wrong_token_and_no_needless_error() {
    for seed in SEEDS {
        let (counts, heard) = listened(|| simulate(a_week(seed)));
        // Enough of everything that something could have gone wrong.
        let Counts { calls, at_once, errors, fetches, given, failed, lost, refused, .. } = counts;
        assert!(calls > 10_000 && at_once > 1_000 && given > 2_000 && fetches - lost < calls, "{counts:?}");
        assert!(errors > 300 && failed > 200 && lost > 5 && refused > 30, "{counts:?}");
        assert!(heard.len() > 100_000 && !heard.contains(SESAME), "a token was logged or stands in an error");
    }
}

/// The keys that a real client is asked for: the application's in two tenants, and two users'.
async fn real_targets(world: &World) -> Vec<Target> {
    let mut targets = Vec::new();
    for (tenant_number, tenant) in [None, Some(sample::OTHER_TENANT)].into_iter().enumerate() {
        let target = |scope| Target { tenant, tenant_number, user: None, scope };
        targets.extend(SCOPES.map(target));
    }
    // Tokens of theirs that outlast the week, so that it is not they that expire.
    let directory = world.emulator.directory();
    assert!(directory.consent_for_all(sample::TENANT, sample::PUBLIC_APP, sample::API, &[sample::API_SCOPE]));
    directory.set_lifetime(90 * DAY);
    for user in [sample::ALICE, sample::BOB] {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([
                ("grant_type", "password"),
                ("client_id", sample::PUBLIC_APP),
                ("password", "any"),
            ])
            .extend_pairs([("username", user), ("scope", &format!("{}/{}", sample::API, sample::API_SCOPE))])
            .finish();
        let request = http::Request::post(format!("/{}/oauth2/v2.0/token", sample::TENANT));
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(form.into());
        let answer = world.emulator.call(Endpoint::TokenService, request.unwrap()).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let user = Some(body["access_token"].as_str().unwrap().to_owned());
        targets.push(Target {
            tenant: None,
            tenant_number: 0,
            user,
            scope: "https://graph.microsoft.com/User.Read",
        });
    }
    directory.set_lifetime(HOUR);
    targets
}

async fn a_week_on_the_wire(seed: u64) -> Counts {
    let shown = Seed(seed);
    let world = Arc::new(World::new().await);
    let mut rng = Rng::with_seed(seed);
    let begin = world.clock.now();
    let targets = real_targets(&world).await;
    let week = (begin.mono(), begin.mono() + 7 * DAY);
    // Of users there is no weather of their own.
    let forecast = Forecast::draw(&mut rng, week, &WIRE_WEATHERS, (2, 2 * SCOPES.len()));
    let (roomy, many) = (seed.is_multiple_of(2), targets.len());
    let oracle = Oracle::new(TrueTime::new(world.time.clone(), begin.mono()), targets, roomy);
    let (of, told) = (Arc::clone(&world), Arc::clone(&oracle));
    let week = Week::new(&world.clock, &world.time, &oracle, move |_| {
        let transport = Watched::new(of.transport_unsearched(), &told);
        let builder = of.builder().seed(seed).transport(transport).capacity(if roomy { many } else { 3 });
        builder.allow_tenants([TenantId::parse(sample::OTHER_TENANT).unwrap()]).build(of.client()).unwrap()
    });
    for spell in forecast.0 {
        let (week, world, mut rng) = (Arc::clone(&week), Arc::clone(&world), rng.fork());
        tokio::spawn(async move {
            week.clock.sleep(spell.from.saturating_sub(week.oracle.time.now())).await;
            let fault = strike(&world.emulator, &spell, &week.oracle.targets, &mut rng);
            week.clock.sleep(spell.until.saturating_sub(week.oracle.time.now())).await;
            world.emulator.faults().remove(fault);
        });
    }
    week.runs(&mut rng, 8).await;
    drop(shown);
    oracle.counts()
}

#[test]
fn a_week_of_faults_on_the_wire_brings_no_wrong_token_and_no_needless_error() {
    for seed in WIRE_SEEDS {
        let (counts, heard) = listened(|| simulate(a_week_on_the_wire(seed)));
        let Counts { calls, at_once, errors, given, failed, lost, refused, .. } = counts;
        assert!(calls > 3_000 && at_once > 500 && given > 500, "{counts:?}");
        assert!(errors > 0 && failed > 0 && lost > 0 && refused > 10, "{counts:?}");
        // What all tokens begin with: the header of a JWT.
        let leaks = ["eyJ", sample::SECRET].map(|secret| heard.contains(secret));
        assert!(
            heard.len() > 100_000 && leaks == [false; 2],
            "a secret was logged or stands in an error: {leaks:?}"
        );
    }
}
