//! Refreshes that nobody waits for: spread over time, bounded in number, and in the way of nobody.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::AtomicUsize, atomic::Ordering},
    time::{Duration, SystemTime},
};

use entra_broker::{
    Broker, Fetched, FnProvider, TokenRequest,
    emulator::{Endpoint, Entry, Fault, Resource},
};
use serde_json::json;

use crate::support::*;

const MANY: usize = 10_000;

/// As the guide says.
const CAP: usize = 64;

fn key(n: usize) -> TokenRequest {
    request(&format!("https://resource-{n}.contoso.test/.default"))
}

fn fault() -> Fault {
    Fault::on(Endpoint::TokenService)
}

/// Answers of an hour's token, of the emulator's own form but without its signature, which takes a millisecond each.
fn answers(refresh_in: Option<u64>) -> Fault {
    let body = json!({ "token_type": "Bearer", "expires_in": 3_600, "refresh_in": refresh_in, "access_token": "tok-hour-x9" });
    fault().body("application/json", body.to_string())
}

/// A world and a broker in it which has tokens for ten thousand keys, all fetched in one second and in use.
async fn ten_thousand(answers: Fault) -> (World, Broker) {
    let world = World::new().await;
    world.emulator.directory().add_resource(Resource::new("https://*.contoso.test"));
    world.emulator.faults().add(answers);
    let broker = world.broker();
    let requests: Vec<_> = (0..MANY).map(key).collect();
    let warming = tokio::spawn({
        let broker = broker.clone();
        async move { broker.warm(&requests).await }
    });
    while !warming.is_finished() {
        tokio::task::yield_now().await;
    }
    assert_eq!(warming.await.unwrap().ready(), MANY);
    assert_eq!((world.clock.now().wall(), world.requests()), (start(), MANY));
    world.emulator.journal().clear();
    (world, broker)
}

/// How many were under way at once at most.
fn most_at_once(entries: &[Entry]) -> usize {
    let mut changes = BTreeMap::<SystemTime, isize>::new();
    for entry in entries {
        // One that ends when another begins is over by then.
        *changes.entry(entry.at).or_default() += 1;
        *changes.entry(entry.at + entry.took.unwrap()).or_default() -= 1;
    }
    let mut under_way = 0;
    let counts = changes.values().map(|change| {
        under_way += change;
        under_way
    });
    counts.max().unwrap().try_into().unwrap()
}

fn after(entry: &Entry) -> Duration {
    entry.at.duration_since(start()).unwrap()
}

#[tokio::test]
async fn ten_thousand_tokens_fetched_in_one_second_are_refreshed_over_six_minutes() {
    let (world, broker) = ten_thousand(answers(None)).await;
    world.pass(secs(2_039)).await;
    assert_eq!(world.requests(), 0, "two thirds of an hour, less a tenth");
    world.pass(secs(400)).await;
    let entries = world.emulator.journal().entries();
    assert_eq!((entries.len(), broker.metrics().refreshes), (MANY, MANY as u64));
    let mut seconds = BTreeMap::<u64, usize>::new();
    entries.iter().for_each(|entry| *seconds.entry(after(entry).as_secs()).or_default() += 1);
    let (first, last) = (seconds.keys().next().unwrap(), seconds.keys().last().unwrap());
    assert!(last - first >= 355, "from {first} s to {last} s");
    // 28 in the middle, with a spread of 5.
    let most = seconds.values().max().unwrap();
    assert!(*most <= 60, "{most} in one second");
}

#[tokio::test]
async fn ten_thousand_due_in_one_second_are_never_more_under_way_than_the_cap_and_all_in_time() {
    let (world, broker) = ten_thousand(answers(Some(1_200))).await;
    let slow = secs(5);
    // The first fault that fits gives the delay, and leaves the answer to the next.
    world.emulator.faults().clear();
    world.emulator.faults().add(fault().delay(slow));
    world.emulator.faults().add(answers(Some(1_200)));
    world.pass(secs(1_199)).await;
    assert_eq!(world.requests(), 0);
    world.pass(secs(2)).await;
    assert_eq!((world.requests(), broker.metrics().in_flight), (CAP, CAP));

    // The cap is full. Whoever has a token is given it, whoever has none is not kept waiting by those that have.
    for n in (0..MANY).step_by(7) {
        world.at_once(broker.get_token(&key(n))).unwrap();
    }
    assert_eq!(broker.metrics().in_flight, CAP);
    let before = world.clock.now();
    let needed = key(MANY);
    world.get(broker.get_token(&needed)).await.unwrap();
    assert_eq!(before.until(world.clock.now()), slow, "its own fetch and nothing else");

    world.pass(secs(5 * MANY as u64 / CAP as u64 + 60)).await;
    let (theirs, own): (Vec<_>, Vec<_>) = world
        .emulator
        .journal()
        .entries()
        .into_iter()
        .partition(|entry| entry.scope.as_deref() != Some(needed.scopes().as_ref()));
    assert_eq!((theirs.len(), own.len()), (MANY, 1), "each of them once");
    assert_eq!(most_at_once(&theirs), CAP);
    let last = theirs.iter().map(after).max().unwrap();
    assert!(last + slow < secs(3_570), "the last one went out at {last:?}: in its last call");
    assert!(last < secs(1_201 + 5 * MANY as u64 / CAP as u64 + 1), "a place stood empty until {last:?}");
    assert_eq!(broker.metrics().refreshes, MANY as u64);
}

#[tokio::test]
async fn while_nothing_is_due_there_is_one_timer_and_nothing_else() {
    let (world, broker) = ten_thousand(answers(None)).await;
    let before = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    assert_eq!(before, 1, "the scheduler");
    let first = (0..MANY).map(|n| ready(broker.get_token(&key(n))).unwrap().refresh_on()).min().unwrap();
    let left = || first.duration_since(world.clock.now().wall()).unwrap();
    assert_eq!(world.time.next_timer(), Some(left()), "until the very first is due");
    while left() > secs(10) {
        world.time.advance(secs(10));
        settle().await;
        assert_eq!(world.time.next_timer(), Some(left()));
    }
    assert_eq!(world.requests(), 0);
    world.pass(left()).await;
    assert_eq!(world.requests(), 1);
    drop(broker);
    settle().await;
    assert_eq!(world.time.next_timer(), None);
}

/// What a fetch for a key does, the first one aside, which brings a token that is due after 1,000 s and some seconds more
/// for each key that comes later.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Refresh {
    Works,
    Fails,
    Panics,
    Expired,
    Hangs,
}

/// Refreshes in the order in which they began, with the time.
type Began = Arc<Mutex<Vec<(usize, Duration)>>>;

/// No words that a log may hold for other reasons: it is searched for tokens.
const FIRST: &str = "tok-1st-x9";
const SECOND: &str = "tok-2nd-x9";

/// One place in the background, and fetches that take a second.
fn one_place(world: &World, refresh: impl Fn(usize) -> Refresh + Send + Sync + 'static) -> (Broker, Began) {
    let began = Began::default();
    let (refresh, noted) = (Arc::new(refresh), Arc::clone(&began));
    let now_at_once = Arc::new(AtomicUsize::new(0));
    let provider = FnProvider::new(move |cx, request| {
        let resource = request.scopes().resource().unwrap();
        let n: usize =
            resource["https://resource-".len()..resource.find(".contoso").unwrap()].parse().unwrap();
        let (refresh, noted, at_once) = (Arc::clone(&refresh), Arc::clone(&noted), Arc::clone(&now_at_once));
        Box::pin(async move {
            let sent = cx.clock().now();
            if cx.previous().is_none() {
                let due = sent.after(secs(1_000 + n as u64));
                return Ok(Fetched::new(FIRST, sent, secs(3_600)).refresh_at(due));
            }
            noted.lock().unwrap().push((n, sent.wall().duration_since(start()).unwrap()));
            assert_eq!(at_once.fetch_add(1, Ordering::SeqCst), 0, "there is one place");
            let _over = Over(at_once);
            cx.clock().sleep(secs(1)).await;
            match refresh(n) {
                Refresh::Works => Ok(Fetched::new(SECOND, sent, secs(36_000))),
                Refresh::Fails => Err(entra_broker::Error::new(entra_broker::ErrorKind::Resource, "gone")),
                Refresh::Panics => panic!("a provider panics"),
                Refresh::Expired => Ok(Fetched::new("tok-late-x9", sent, Duration::ZERO)),
                Refresh::Hangs => std::future::pending().await,
            }
        })
    });
    (world.builder().background_fetches(1).build(provider).unwrap(), began)
}

struct Over(Arc<AtomicUsize>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn what_is_due_beyond_the_cap_is_served_at_once_and_refreshed_in_its_turn_the_earliest_first() {
    let world = World::new().await;
    let (broker, began) = one_place(&world, |_| Refresh::Works);
    for n in [5, 3, 8, 1, 9, 2, 7, 4, 6, 0] {
        world.get(broker.get_token(&key(n))).await.unwrap();
    }
    // All of them are due at once, as after a machine's sleep, and the last one to be due is the busiest.
    world.time.advance(secs(1_020));
    for _ in 0..200 {
        for n in (0..10).rev() {
            ready(broker.get_token(&key(n))).unwrap();
        }
        world.pass(secs(1) / 20).await;
    }
    world.pass(secs(5)).await;
    let began = began.lock().unwrap();
    let order: Vec<_> = began.iter().map(|(n, _)| *n).collect();
    // The first caller found a place; from then on it goes by the time at which they were due.
    assert_eq!(order, [9, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    let times: Vec<_> = began.iter().map(|(_, at)| at.as_secs()).collect();
    assert_eq!(times, (1_020..1_030).collect::<Vec<_>>(), "one after the other, without a pause");
}

#[tokio::test]
async fn a_place_is_given_back_however_the_refresh_ends() {
    for ends in [Refresh::Fails, Refresh::Panics, Refresh::Expired, Refresh::Hangs] {
        let world = World::new().await;
        let (broker, began) = one_place(&world, move |n| if n == 0 { ends } else { Refresh::Works });
        for n in 0..2 {
            world.get(broker.get_token(&key(n))).await.unwrap();
        }
        world.time.advance(secs(1_010));
        world.pass(secs(1) / 2).await;
        assert_eq!(began.lock().unwrap()[..], [(0, secs(1_010))], "{ends:?}");
        world.pass(if ends == Refresh::Hangs { secs(61) } else { secs(2) }).await;
        assert_eq!(began.lock().unwrap()[1].0, 1, "{ends:?}");
        assert_eq!(world.at_once(broker.get_token(&key(1))).unwrap().secret(), SECOND, "{ends:?}");
    }
}

#[tokio::test]
async fn a_caller_in_need_joins_a_refresh_in_the_background_which_keeps_its_place() {
    let world = World::new().await;
    let (broker, began) = one_place(&world, |_| Refresh::Works);
    for n in 0..3 {
        world.get(broker.get_token(&key(n))).await.unwrap();
    }
    world.time.advance(secs(3_590));
    settle().await;
    // It is in its last call, and so are the others.
    let joined = world.get(broker.get_token(&key(0))).await.unwrap();
    assert_eq!(joined.secret(), SECOND);
    world.pass(secs(5)).await;
    let times: Vec<_> = (0..3).map(|n| (n, secs(3_590 + n as u64))).collect();
    assert_eq!(*began.lock().unwrap(), times);
}

#[tokio::test]
async fn an_entry_that_is_evicted_in_its_refresh_gives_its_place_back() {
    let world = World::new().await;
    let (broker, began) = {
        let provider_order = Began::default();
        let noted = Arc::clone(&provider_order);
        let provider = FnProvider::new(move |cx, request| {
            let (noted, scope) = (Arc::clone(&noted), request.scopes().to_string());
            Box::pin(async move {
                let sent = cx.clock().now();
                if cx.previous().is_some() {
                    noted.lock().unwrap().push((scope.len(), Duration::ZERO));
                    cx.clock().sleep(secs(1)).await;
                }
                Ok(Fetched::new("tok-any-x9", sent, secs(3_600)).refresh_at(sent.after(secs(1_000))))
            })
        });
        let builder = world.builder().background_fetches(1).capacity(1);
        (builder.build(provider).unwrap(), provider_order)
    };
    world.get(broker.get_token(&key(1))).await.unwrap();
    world.pass(secs(1_000)).await;
    assert_eq!(broker.metrics().in_flight, 1);
    world.get(broker.get_token(&key(22))).await.unwrap();
    assert_eq!((broker.metrics().evictions, broker.metrics().in_flight), (1, 1));
    world.pass(secs(1_005)).await;
    assert_eq!(began.lock().unwrap().len(), 2, "the other one had its turn");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A runtime on which a caller has just begun a refresh in the background, and which nobody runs any more. It has the
/// only place, and another key is due as well.
async fn with_a_refresh_on_another_runtime() -> (World, Broker, Began, tokio::runtime::Runtime) {
    let world = World::new().await;
    let (broker, began) = one_place(&world, |_| Refresh::Works);
    for n in 0..2 {
        world.get(broker.get_token(&key(n))).await.unwrap();
    }
    world.time.advance(secs(1_010));
    let other = runtime();
    let begin = || other.block_on(async { ready(broker.get_token(&key(0))) });
    std::thread::scope(|scope| scope.spawn(begin).join().unwrap()).unwrap();
    world.pass(secs(1)).await;
    assert_eq!((began.lock().unwrap().len(), broker.metrics().in_flight), (0, 1));
    (world, broker, began, other)
}

#[tokio::test]
async fn a_runtime_that_is_dropped_gives_the_places_of_its_refreshes_back() {
    let (world, broker, began, other) = with_a_refresh_on_another_runtime().await;
    std::thread::spawn(move || drop(other)).join().unwrap();
    world.pass(secs(5)).await;
    // By when they were due: one that was cut short is not put behind the others.
    assert_eq!(began.lock().unwrap().iter().map(|(n, _)| *n).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(broker.metrics().in_flight, 0);
}

#[tokio::test]
async fn the_place_of_a_refresh_on_a_parked_runtime_is_not_lost_though_nobody_asks_for_it() {
    let (world, broker, began, other) = with_a_refresh_on_another_runtime().await;
    world.pass(secs(10)).await;
    assert_eq!(began.lock().unwrap().len(), 0);
    world.pass(secs(12)).await;
    assert_eq!(began.lock().unwrap().iter().map(|(n, _)| *n).collect::<Vec<_>>(), [0, 1]);
    assert_eq!((broker.metrics().in_flight, broker.metrics().takeovers), (0, 1));
    std::thread::spawn(move || drop(other)).join().unwrap();
}

#[tokio::test]
async fn closing_does_not_wait_for_refreshes_nor_for_those_that_have_no_place() {
    let world = World::new().await;
    let (broker, began) = one_place(&world, |_| Refresh::Hangs);
    for n in 0..5 {
        world.get(broker.get_token(&key(n))).await.unwrap();
    }
    world.time.advance(secs(1_010));
    world.pass(secs(1)).await;
    ready(broker.close());
    world.pass(secs(100)).await;
    assert_eq!((began.lock().unwrap().len(), broker.metrics().in_flight), (1, 0));
}
