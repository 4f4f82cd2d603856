//! What is checked: who meets whom, and what must hold in whichever order they come.

use std::{env, future::poll_fn, pin::pin, task::Poll};

use shuttle::{
    Config, Runner,
    future::block_on,
    scheduler::{PctScheduler, RandomScheduler},
};

use crate::{
    Subject,
    error::ErrorKind,
    refresh::Ask,
    request::Challenge,
    sync::{Arc, Runtime, yield_now},
    world::{Bounds, Ends, LIFE, World, any, app, challenge, of_user, other_app},
};

/// Where `MODEL_SEED` says nothing else: what passes today passes tomorrow.
const SEED: u64 = 20_261_121;

/// How many schedules there are of each kind, where `MODEL_SCHEDULES` says nothing else.
const SCHEDULES: usize = 2_000;

#[expect(clippy::disallowed_methods, reason = "this is no library code")]
fn number<T: std::str::FromStr>(name: &str, default: T) -> T {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs the scenario in as many orders as were asked for: half of them by chance, half by priorities that change three
/// times, which finds what needs one task to stand still for long.
fn check<F: Future<Output = ()>>(scenario: impl Fn() -> F + Send + Sync + 'static) {
    let (seed, schedules) = (number("MODEL_SEED", SEED), number("MODEL_SCHEDULES", SCHEDULES));
    eprintln!("MODEL_SEED={seed}, and the schedule that fails stands below");
    let mut config = Config::new();
    config.stack_size = 1 << 18;
    config.silence_warnings = true;
    let scenario = Arc::new(move || {
        Runtime::forget_all();
        block_on(scenario());
        Runtime::shut_all_down();
    });
    let by_chance = Arc::clone(&scenario);
    Runner::new(RandomScheduler::new_from_seed(seed, schedules), config.clone()).run(move || by_chance());
    Runner::new(PctScheduler::new_from_seed(seed, 3, schedules), config).run(move || scenario());
}

/// Runs `work` for a while and then drops it. Says whether it came to its end.
async fn for_a_while<T>(work: impl Future<Output = T>, yields: usize) -> Option<T> {
    let (mut work, mut end) = (pin!(work), pin!(yields_of(yields)));
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => end.as_mut().poll(cx).map(|()| None),
    })
    .await
}

async fn yields_of(count: usize) {
    for _ in 0..count {
        yield_now().await;
    }
}

/// Three callers and the scheduler find a token due: one of them fetches.
pub fn callers_and_scheduler_refresh_at_once() {
    check(|| async {
        let world = World::new(|_| Ends::Well);
        let first = world.with_a_token_that_is_due(&app()).await;
        let callers = [(); 3].map(|()| world.calls(&app()));
        for caller in callers {
            caller.await.unwrap().unwrap();
        }
        world.is_at_rest(&[world.cell(&app())]).await;
        assert_eq!(world.oracle.fetches(), 2, "one for the first token, and one refresh");
        assert!(!world.calls(&app()).await.unwrap().unwrap().is_same(&first));
    });
}

/// Callers without a token, one of whom starts the fetch.
pub fn callers_share_one_fetch() {
    check(|| async {
        let world = World::new(|_| Ends::Well);
        let callers = [(); 3].map(|()| world.calls(&app()));
        let mut given = Vec::new();
        for caller in callers {
            given.push(caller.await.unwrap().unwrap());
        }
        assert!(given.iter().all(|token| token.is_same(&given[0])));
        world.is_at_rest(&[world.cell(&app())]).await;
        assert_eq!(world.oracle.fetches(), 1);
    });
}

/// The runtime that a flight is on shuts down. Who waits elsewhere gets a token all the same.
pub fn a_leader_is_dropped() {
    check(|| async {
        let world = World::new(|_| Ends::Well);
        let away = Runtime::new("away");
        let there = world.clone();
        let begun = away.run(async move {
            let cell = there.cell(&app());
            drop(there.engine.step(
                &cell,
                there.now(),
                Ask { subject: &Subject::App, challenge: None, label: None },
            ));
        });
        let callers = [(); 2].map(|()| world.calls(&app()));
        let ended = shuttle::future::spawn(async move {
            yields_of(any(4)).await;
            away.shut_down();
        });
        for caller in callers {
            caller.await.unwrap().unwrap();
        }
        begun.await.unwrap();
        ended.await.unwrap();
        world.is_at_rest(&[world.cell(&app())]).await;
        assert!(world.oracle.fetches() <= 2);
    });
}

/// The provider panics. Who waits is told, who comes later gets a token.
pub fn a_provider_panics() {
    check(|| async {
        let world = World::new(|number| if number == 1 { Ends::Panicked } else { Ends::Well });
        let callers: Vec<_> = (0..=any(3)).map(|_| world.calls(&app())).collect();
        let (count, mut told) = (callers.len(), 0);
        for caller in callers {
            if let Err(error) = caller.await.unwrap() {
                assert!(error.to_string().contains("panicked"), "{error}");
                told += 1;
            }
        }
        assert!(count > 1 || told == 1, "with nobody else there is no other token");
        world.calls(&app()).await.unwrap().unwrap();
        world.is_at_rest(&[world.cell(&app())]).await;
        assert_eq!(world.oracle.fetches(), 2);
    });
}

/// A token is refused while it is being refreshed, by a source that may return the very same. Nobody who calls after
/// that is given it.
pub fn a_token_is_refused_while_it_is_refreshed() {
    check(|| async {
        let again = any(2) == 0;
        let world =
            World::new(move |number| if number < 4 && again { Ends::WithTheSame } else { Ends::Well });
        let token = world.with_a_token_that_is_due(&app()).await;
        let early = world.calls(&app());
        let (refusing, refused) = (world.clone(), token.clone());
        let refusal = world.home.run(async move { refusing.refuse(&refused) });
        let late = world.calls(&app());
        let withdrawn = refusal.await.unwrap();
        let after = world.calls(&app()).await.unwrap();
        if let Err(error) =
            [early.await.unwrap(), late.await.unwrap(), after].into_iter().collect::<Result<Vec<_>, _>>()
        {
            assert!(again && error.kind() == ErrorKind::TokenRefused, "{error}");
        }
        let cell = world.cell(&app());
        world.is_at_rest(&[Arc::clone(&cell)]).await;
        let left = cell.peek();
        assert!(!withdrawn || left.is_none_or(|left| left.secret() != token.secret()), "it came back");
    });
}

/// There is room for one entry, and two keys are asked for: entries are evicted while their fetches are under way.
pub fn an_entry_is_evicted_in_flight() {
    check(|| async {
        let world = World::of(Bounds { capacity: 1, overlaps: true, ..Bounds::default() }, |_| Ends::Well);
        let cells = [world.cell(&app()), world.cell(&other_app())];
        let callers = [app(), other_app(), app()].map(|request| world.calls(&request));
        for caller in callers {
            caller.await.unwrap().unwrap();
        }
        world.is_at_rest(&cells).await;
        assert!(world.engine.cache.len() <= 1);
    });
}

/// Two keys of one user, whose refresh token rotates: each of its values is spent once.
pub fn two_keys_share_one_grant() {
    check(|| async {
        let world = World::new(|_| Ends::Well);
        let (one, other) = (of_user(app()), of_user(other_app()));
        let callers = [&one, &other, &one].map(|request| world.calls(request));
        for caller in callers {
            caller.await.unwrap().unwrap();
        }
        world.is_at_rest(&[world.cell(&one), world.cell(&other)]).await;
        assert_eq!((world.oracle.fetches(), world.oracle.unspent()), (2, 0));
    });
}

/// The engine is closed while callers come, wait and fetch: each has an answer, nothing is fetched afterwards, and no
/// refresh token is spent whose successor is not kept.
pub fn the_engine_is_closed() {
    check(|| async {
        let world = World::new(|_| Ends::Well);
        let requests = [app(), of_user(app()), app()];
        let cells = requests.clone().map(|request| world.cell(&request));
        let callers = requests.clone().map(|request| world.calls(&request));
        let closing = world.clone();
        let closer = shuttle::future::spawn(async move {
            yields_of(any(4)).await;
            closing.engine.close().await;
            assert_eq!(closing.oracle.unspent(), 0, "a refresh token was lost");
            closing.oracle.close();
        });
        for caller in callers {
            if let Err(error) = caller.await.unwrap() {
                assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
            }
        }
        closer.await.unwrap();
        let error = world.calls(&app()).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed);
        world.is_at_rest(&cells).await;
    });
}

/// The last broker is dropped, which waits for nothing, while flights are under way.
pub fn the_engine_ends_at_once() {
    check(|| async {
        let world = World::new(|_| Ends::Never);
        let cells = [world.cell(&app())];
        let callers = [(); 2].map(|()| world.calls(&app()));
        let ending = world.clone();
        let ender = shuttle::future::spawn(async move {
            yields_of(any(4)).await;
            ending.engine.end();
        });
        for caller in callers {
            assert_eq!(caller.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
        }
        ender.await.unwrap();
        world.is_at_rest(&cells).await;
    });
}

/// Callers give up at any point. The fetch that they began goes on and fills the cache.
pub fn callers_give_up() {
    check(|| async {
        let world = World::new(|_| Ends::Well);
        let cell = world.cell(&app());
        let callers = [(); 3].map(|()| {
            let calling = world.clone().call(app(), None);
            world.home.run(for_a_while(calling, any(3)))
        });
        for caller in callers {
            assert!(caller.await.unwrap().is_none_or(|result| result.is_ok()));
        }
        world.is_at_rest(&[Arc::clone(&cell)]).await;
        assert!(cell.take(world.now()).is_some());
        assert_eq!(world.oracle.fetches(), 1);
    });
}

/// A runtime is parked while it flies, a waiter takes over, and the old leader wakes up again. What the last leader
/// brought is what all are given.
pub fn a_silent_leader_is_taken_over_and_wakes_up() {
    check(|| async {
        let world = World::of(Bounds { overlaps: true, ..Bounds::default() }, |_| Ends::Well);
        let away = Runtime::new("away");
        let there = world.clone();
        away.run(async move {
            let cell = there.cell(&app());
            drop(there.engine.step(
                &cell,
                there.now(),
                Ask { subject: &Subject::App, challenge: None, label: None },
            ));
        })
        .await
        .unwrap();
        let callers = [(); 2].map(|()| world.calls(&app()));
        let time = world.time.clone();
        let parking = shuttle::future::spawn(async move {
            yields_of(any(3)).await;
            away.park();
            yields_of(any(3)).await;
            time.advance(std::time::Duration::from_secs(16));
            yields_of(any(8)).await;
            away.unpark();
        });
        let mut given = Vec::new();
        for caller in callers {
            given.push(caller.await.unwrap().unwrap());
        }
        parking.await.unwrap();
        let cell = world.cell(&app());
        world.is_at_rest(&[Arc::clone(&cell)]).await;
        let taken_over = world.engine.counters.takeovers.load(crate::sync::Ordering::SeqCst);
        let leader = if taken_over == 0 { ".away." } else { ".home." };
        assert!(
            given[0].is_same(&given[1]) && cell.peek().is_some_and(|token| Arc::ptr_eq(&token, &given[0].0))
        );
        assert!(given[0].secret().contains(leader), "{} after {taken_over} take-overs", given[0].secret());
    });
}

/// A resource demands more of a token than the cached one has. Each caller gets what it was told to bring.
pub fn challenges_join_their_like() {
    check(|| async {
        let world = World::new(|_| Ends::Well);
        let token = world.with_a_token_that_is_due(&app()).await;
        let challenged = [challenge(1), challenge(1), challenge(2), Challenge::Refresh].map(|challenge| {
            let calling = world.clone().call(app(), Some(challenge));
            world.home.run(calling)
        });
        let plain = world.calls(&app());
        for caller in challenged {
            assert!(!caller.await.unwrap().unwrap().is_same(&token));
        }
        plain.await.unwrap().unwrap();
        world.is_at_rest(&[world.cell(&app())]).await;
    });
}

/// There is room for one fetch in the background, and two tokens are due. However the first one ends, the other has its
/// turn.
pub fn refreshes_wait_for_a_place() {
    check(|| async {
        let ends = [Ends::Well, Ends::Panicked, Ends::Failed(ErrorKind::Resource)][any(3)];
        let bounds = Bounds { background: 1, ..Bounds::default() };
        let world = World::of(bounds, move |number| if number == 3 { ends } else { Ends::Well });
        let first = world.calls(&other_app()).await.unwrap().unwrap();
        world.with_a_token_that_is_due(&app()).await;
        if any(2) == 0 {
            // As good as a look of the scheduler, and as much bound.
            assert!(
                world.calls(&other_app()).await.unwrap().unwrap().secret().starts_with(&first.secret()[..16])
            );
        }
        while world.oracle.fetches() < 4 {
            yield_now().await;
        }
        world.is_at_rest(&[world.cell(&app()), world.cell(&other_app())]).await;
    });
}

/// Everything at once: faults, panics, refusals, challenges, time that passes, callers that give up, a runtime that
/// goes. Everybody has an answer, nothing keeps flying, and each answer passes the checks of every call.
pub fn everything_at_once() {
    check(|| async {
        let world =
            World::of(Bounds { capacity: 2, overlaps: true, ..Bounds::default() }, |_| match any(8) {
                0 => Ends::Panicked,
                1 => Ends::Failed(ErrorKind::Throttled),
                2 => Ends::Failed(ErrorKind::Credential),
                3 => Ends::Failed(ErrorKind::Resource),
                _ => Ends::Well,
            });
        let third = crate::request::TokenRequest::new("https://graph.microsoft.com/.default").unwrap();
        let requests = [app(), other_app(), third];
        let away = Runtime::new("away");
        let tasks = [(); 3].map(|()| {
            let (world, requests, away) = (world.clone(), requests.clone(), Arc::clone(&away));
            let on = if any(2) == 0 { &away } else { &world.home };
            Arc::clone(on).run(async move {
                for _ in 0..3 {
                    let request = requests[any(3)].clone();
                    match any(8) {
                        0 => world.time.advance(LIFE * 2 / 3),
                        1 => world.time.advance(std::time::Duration::from_secs(20)),
                        2 => away.shut_down(),
                        3 => drop(for_a_while(world.clone().call(request, None), any(4)).await),
                        4 => drop(world.clone().call(request, Some(challenge(any(2) as u32))).await),
                        _ => {
                            let given = world.clone().call(request, None).await;
                            if let (Ok(token), 0) = (given, any(2)) {
                                world.refuse(&token);
                            }
                        }
                    }
                }
            })
        });
        for task in tasks {
            task.await.unwrap();
        }
        let cells = requests.map(|request| world.cell(&request));
        world.is_at_rest(&cells).await;
        world.engine.close().await;
        world.oracle.close();
        world.is_at_rest(&cells).await;
    });
}
