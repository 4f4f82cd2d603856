//! What callers feel of a refresh: tasks that ask for tokens all the time, in real time, while tokens end.
//!
//! Each of the tasks asks again as soon as it was answered, on a runtime of two threads. So a call that waits keeps its task
//! from asking: of millions of calls only a few are slow, though callers may have spent a good part of their time in them,
//! and that part is told as well. A run beside it asks nothing at all, and shows what the machine itself does to a call.

mod callers;
mod service;

use std::{collections::BTreeMap, time::Duration};

use callers::{Ask, Asked, Callers, Nobody};
use service::Faults;

use crate::{
    Failure,
    contestants::PEER,
    results::{Latency, Run, Scenario},
};

pub(crate) const OURS: &str = "entra_broker";
pub(crate) const NOTHING: &str = "nothing";

const TASKS: usize = 8;

/// What happens to whom.
#[derive(Debug, Clone)]
struct Plan {
    name: &'static str,
    why: &'static str,
    /// How long the token service takes.
    takes: Duration,
    faults: Faults,
    run: Duration,
    keys: usize,
    /// Seconds that the tokens of each live.
    our_life: u64,
    their_life: u64,
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// `azure_identity` asks for another token 300 s before one ends, and lets callers wait meanwhile. So its tokens live for 300 s
/// and as long as a token is served here: the callers wait once a token. (Of one that lives for 300 s or less each call is a
/// request.) `entra_broker` asks at two thirds of such short lives, less a jitter of up to a tenth; the last call is the last
/// tenth.
fn plans(smoke: bool) -> Vec<Plan> {
    let plan = Plan {
        name: "200 ms",
        why: "The token service takes 200 ms.",
        takes: ms(200),
        faults: Faults::None,
        run: ms(24_000),
        keys: 1,
        our_life: 6,
        their_life: 304,
    };
    let plans = vec![
        plan.clone(),
        Plan {
            name: "5 s",
            why: "The token service takes 5 s. Asked at 13.6 to 16 s of a life of 24 s, it has answered before the last \
                  call at 21.6 s.",
            takes: ms(5_000),
            run: ms(36_000),
            our_life: 24,
            their_life: 315,
            ..plan.clone()
        },
        Plan {
            name: "5 s, lives too short for it",
            why: "The token service takes 5 s, and tokens live for 12 s: asked at 6.8 to 8 s, it has not answered by \
                  the last call at 10.8 s, and may not have by the end. From the last call on callers wait, as they \
                  are to.",
            takes: ms(5_000),
            run: ms(24_000),
            our_life: 12,
            their_life: 307,
            ..plan.clone()
        },
        Plan {
            name: "200 ms, 1 % errors",
            why: "The token service takes 200 ms; the 50th request and every hundredth after it is answered with 500. \
                  16 tenants, each with a credential of azure_identity's, which so share no lock.",
            faults: Faults::EveryHundredth,
            run: ms(30_000),
            keys: 16,
            our_life: 12,
            their_life: 307,
            ..plan.clone()
        },
        Plan {
            name: "outage",
            why: "The token service takes 200 ms and answers with 500 from the 15th to the 22nd second, while the token \
                  at hand lives.",
            faults: Faults::Outage { from: ms(15_000), until: ms(22_000) },
            run: ms(30_000),
            our_life: 30,
            their_life: 317,
            ..plan
        },
    ];
    if smoke { plans.into_iter().map(Plan::shortened).collect() } else { plans }
}

impl Plan {
    /// Only just enough to see that it works: one refresh of ours, of a token that lives for a second.
    fn shortened(self) -> Self {
        let faults = match self.faults {
            Faults::Outage { .. } => Faults::Outage { from: ms(500), until: ms(650) },
            other => other,
        };
        let why = "A smoke run, shortened until it says nothing.";
        Self { why, faults, takes: self.takes / 50, run: ms(750), our_life: 1, their_life: 301, ..self }
    }

    fn what(&self) -> String {
        format!(
            "{} Tokens live for {} s (entra_broker) and {} s (azure_identity); {} s.",
            self.why,
            self.our_life,
            self.their_life,
            self.run.as_secs_f64()
        )
    }
}

pub(crate) fn latency(smoke: bool) -> Result<Latency, Failure> {
    let mut scenarios = Vec::new();
    let mut nothing = None;
    for plan in plans(smoke) {
        eprintln!("latency: {} ({} s each)", plan.name, plan.run.as_secs_f64());
        let mut runs = BTreeMap::new();
        runs.insert(OURS.to_owned(), run(&plan, plan.our_life, callers::Ours::new)?);
        let plan = Plan { run: if smoke { plan.run / 3 } else { plan.run }, ..plan };
        runs.insert(PEER.to_owned(), run(&plan, plan.their_life, callers::Theirs::new)?);
        if nothing.is_none() {
            nothing = Some(run(&plan, 1, |_, _| Ok(Nobody))?);
        }
        scenarios.push(Scenario { name: plan.name.to_owned(), what: plan.what(), runs });
    }
    if let (Some(first), Some(nothing)) = (scenarios.first_mut(), nothing) {
        first.runs.insert(NOTHING.to_owned(), nothing);
    }
    Ok(Latency { tasks: TASKS, scenarios })
}

fn run<A: Ask>(
    plan: &Plan,
    life: u64,
    make: impl FnOnce(service::Slow, usize) -> Result<A, Failure>,
) -> Result<Run, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let service = service::Slow::new(plan.takes, plan.faults, life);
        let who = make(service.clone(), plan.keys)?;
        for key in 0..plan.keys {
            who.ask(key).await?;
        }
        // The clock of the outage starts when everyone has a first token.
        service.begin();
        let asked = Asked { who, service, life: Duration::from_secs(life), keys: plan.keys };
        Callers { tasks: TASKS, run: plan.run }.call(asked).await
    })
}
