//! A day of a broker among random faults, in moved time, with an oracle that knows what may be returned.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use entra_broker::{AccessToken, Broker, CallOptions, Claims, Error, ErrorKind, Fetched, FnProvider};
use fastrand::Rng;

use crate::support::*;

const SCOPES: [&str; 4] =
    [VAULT, STORAGE, "https://graph.microsoft.com/.default", "https://management.azure.com/.default"];

const DAY: Duration = Duration::from_secs(86_400);

/// Says which day went wrong.
struct Seed(u64);

#[expect(clippy::print_stderr, reason = "a failure has to say how it can be repeated")]
impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed of this day was {}", self.0);
        }
    }
}

/// What the source does with the next fetch of anything.
#[derive(Debug, Clone, Copy)]
enum Weather {
    Fair,
    Throttled,
    Down,
    Slow,
    Silent,
    WrongSecret,
    NoSuchResource,
    Panics,
    Changing,
}

const WEATHER: [Weather; 9] = [
    Weather::Fair,
    Weather::Throttled,
    Weather::Down,
    Weather::Slow,
    Weather::Silent,
    Weather::WrongSecret,
    Weather::NoSuchResource,
    Weather::Panics,
    Weather::Changing,
];

struct Source {
    weather: Mutex<Weather>,
    rng: Mutex<Rng>,
    fetches: AtomicUsize,
    /// The newest fetch of each scope that brought a token.
    brought: Mutex<HashMap<String, u64>>,
}

impl Source {
    fn weather(&self) -> Weather {
        match *self.weather.lock().unwrap() {
            Weather::Changing => self.rng.lock().unwrap().choice(WEATHER).unwrap(),
            weather => weather,
        }
    }

    fn draw(&self, range: std::ops::Range<u64>) -> u64 {
        self.rng.lock().unwrap().u64(range)
    }
}

/// A broker whose tokens say what they are: for which scope, which fetch, sent when, living for how long.
fn broker(world: &World, source: &Arc<Source>, seed: u64) -> Broker {
    let source = Arc::clone(source);
    let provider =
        FnProvider::new(move |cx, request| {
            let source = Arc::clone(&source);
            Box::pin(async move {
                let number = source.fetches.fetch_add(1, Ordering::SeqCst);
                let sent = cx.clock().now();
                let weather = source.weather();
                let delay = match weather {
                    Weather::Slow => source.draw(1_000..40_000),
                    Weather::Silent => 3_600_000,
                    _ => source.draw(0..1_000),
                };
                cx.clock().sleep(Duration::from_millis(delay)).await;
                match weather {
                    Weather::Throttled => Err(Error::new(ErrorKind::Throttled, "slow down")
                        .with_retry_after(secs(source.draw(0..400)))),
                    Weather::Down => Err(Error::new(ErrorKind::Unavailable, "down")),
                    Weather::WrongSecret => Err(Error::new(ErrorKind::Credential, "wrong secret")),
                    Weather::NoSuchResource => Err(Error::new(ErrorKind::Resource, "no such resource")),
                    // Without a word on stderr.
                    Weather::Panics => std::panic::resume_unwind(Box::new("the source panics")),
                    _ => {
                        let lives = secs(source.draw(60..7_300));
                        let (scopes, at) = (request.scopes(), sent.mono().as_nanos());
                        let text = format!("{scopes}#{number}#{at}#{}", lives.as_nanos());
                        source.brought.lock().unwrap().insert(scopes.to_string(), number as u64);
                        let fetched = Fetched::new(text, sent, lives);
                        let hint = source.draw(0..4) == 0;
                        let at = sent.after(secs(source.draw(0..3_600)));
                        Ok(if hint { fetched.refresh_at(at) } else { fetched })
                    }
                }
            })
        });
    // On every other day there is no room for all.
    let capacity = if is_roomy(seed) { 10 } else { 2 };
    world.builder().seed(seed).capacity(capacity).build(provider).unwrap()
}

fn is_roomy(seed: u64) -> bool {
    seed.is_multiple_of(2)
}

/// Scope, number, and for how much longer it lives, of how long in all.
fn read(token: &AccessToken, now: Duration) -> (String, u64, Duration, Duration) {
    let parts: Vec<_> = token.secret().split('#').collect();
    let nanos = |at: usize| Duration::from_nanos(parts[at].parse().unwrap());
    let expiry = nanos(2) + nanos(3);
    assert!(expiry > now, "a dead token was served: {:?}", token.secret());
    (parts[0].to_owned(), parts[1].parse().unwrap(), expiry - now, nanos(3))
}

#[derive(Default)]
struct Oracle {
    /// There is room in the cache for all scopes.
    roomy: bool,
    /// The newest token of each scope that anyone has seen, unless it was refused.
    known: [Option<AccessToken>; 4],
    refused: HashSet<String>,
}

impl Oracle {
    fn check(&mut self, world: &World, scope: usize, token: &AccessToken) {
        let (of, number, ..) = read(token, world.clock.now().mono());
        assert_eq!(of, SCOPES[scope], "a token of another key");
        assert!(!self.refused.contains(token.secret()), "a refused token came back");
        if let Some(known) = &self.known[scope] {
            let known: u64 = known.secret().split('#').nth(1).unwrap().parse().unwrap();
            assert!(number >= known, "an older token came back");
        }
        self.known[scope] = Some(token.clone());
    }

    /// Whether a token that was seen before must still be there: it lives, and none came since that may live shorter.
    fn lives(&self, world: &World, source: &Source, scope: usize) -> bool {
        let now = world.clock.now().mono();
        let newest = source.brought.lock().unwrap().get(SCOPES[scope]).copied();
        self.known[scope].as_ref().filter(|_| self.roomy).is_some_and(|token| {
            let parts: Vec<u64> =
                token.secret().split('#').skip(1).map(|part| part.parse().unwrap()).collect();
            Duration::from_nanos(parts[1] + parts[2]) > now && newest == Some(parts[0])
        })
    }
}

async fn a_day(seed: u64) {
    let shown = Seed(seed);
    let world = World::new().await;
    let mut rng = Rng::with_seed(seed);
    let source = Arc::new(Source {
        weather: Mutex::new(Weather::Fair),
        rng: Mutex::new(rng.fork()),
        fetches: AtomicUsize::new(0),
        brought: Mutex::default(),
    });
    let broker = broker(&world, &source, seed);
    let mut oracle = Oracle { roomy: is_roomy(seed), ..Oracle::default() };
    let (mut forced, mut jumps) = (0, 0);
    let begin = world.clock.now();
    while begin.until(world.clock.now()) < DAY {
        match rng.u8(..100) {
            0..6 => *source.weather.lock().unwrap() = rng.choice(WEATHER).unwrap(),
            6..20 => *source.weather.lock().unwrap() = Weather::Fair,
            20 => {
                world.time.suspend(secs(rng.u64(1..7_200)));
                jumps += 1;
            }
            21 => world.time.step_forward(secs(rng.u64(1..7_200))),
            22 => world.time.step_back(secs(rng.u64(1..7_200))),
            23..26 => {
                let scope = rng.usize(..4);
                if let Some(token) = broker.peek(SCOPES[scope]) {
                    oracle.check(&world, scope, &token);
                    assert!(broker.invalidate(&token));
                    oracle.refused.insert(token.secret().to_owned());
                    oracle.known[scope] = None;
                    forced += 1;
                }
            }
            26..29 => {
                let scope = rng.usize(..4);
                let old = broker.peek(SCOPES[scope]);
                let claims = format!(r#"{{"access_token":{{"nbf":{{"value":"{}"}}}}}}"#, rng.u8(..3));
                let options = CallOptions::new().challenge(Claims::parse(&claims).unwrap());
                forced += 1;
                if let Ok(token) = world.get(broker.get_token_with(SCOPES[scope], &options)).await {
                    assert!(old.is_none_or(|old| !old.is_same(&token)), "the token that was passed over");
                    oracle.check(&world, scope, &token);
                }
            }
            _ => {}
        }
        for _ in 0..rng.u8(..4) {
            one_call(&world, &source, &broker, &mut oracle, &mut rng).await;
        }
        world.pass(Duration::from_millis(rng.u64(1..60_000))).await;
    }

    // Nothing is sent over and over: refreshes come at the earliest after a tenth of a life, failures are held.
    let fetches = source.fetches.load(Ordering::SeqCst);
    assert!(
        fetches < 4 * 86_400 / 20 + 2 * forced + 10 * jumps,
        "{fetches} fetches, {forced} of them forced"
    );
    // And when all is well again, everything works, at the latest when the longest hold has ended.
    *source.weather.lock().unwrap() = Weather::Fair;
    world.pass(secs(400)).await;
    for (scope, text) in SCOPES.iter().enumerate() {
        let token = world.get(broker.get_token(*text)).await.unwrap();
        oracle.check(&world, scope, &token);
    }
    assert_eq!(broker.metrics().entries, if oracle.roomy { 4 } else { 2 });
    // Some refresh may just be under way, which takes a second at most.
    world.pass(secs(20_000)).await;
    assert_eq!((broker.metrics().in_flight, broker.metrics().entries), (0, 0));
    drop(shown);
}

async fn one_call(world: &World, source: &Source, broker: &Broker, oracle: &mut Oracle, rng: &mut Rng) {
    let scope = rng.usize(..4);
    let before = broker.peek(SCOPES[scope]);
    assert!(before.is_some() || !oracle.lives(world, source, scope), "a token that lives is gone");
    let timeout = Duration::from_millis(rng.u64(1..40_000));
    let options = CallOptions::new().timeout(timeout);
    let now = world.clock.now();
    let mut call = pin!(broker.get_token_with(SCOPES[scope], &options));
    let polled = poll_once(call.as_mut());
    let early = before.as_ref().is_some_and(|token| {
        let (_, _, left, life) = read(token, now.mono());
        left > secs(30).min(life / 10)
    });
    assert!(!early || polled.is_ready(), "a caller waits before the last call");
    let result = match polled {
        Poll::Ready(result) => result,
        Poll::Pending if before.is_none() && rng.u8(..4) == 0 => return,
        Poll::Pending => world.run(secs(41), call).await,
    };
    assert!(now.until(world.clock.now()) <= timeout, "a caller waited too long");
    match world.see(result) {
        Ok(token) => oracle.check(world, scope, &token),
        Err(error) => assert!(before.is_none(), "an error while a token lives: {error}"),
    }
}

#[tokio::test]
async fn a_day_of_random_faults_brings_no_wrong_token_and_no_needless_error() {
    for seed in 0..4 {
        a_day(seed).await;
    }
}
