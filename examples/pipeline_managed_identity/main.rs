//! A night of a data pipeline on the identities of its machine: who may ask for what, an outage, and the trail of it all.
//!
//! ```text
//! cargo run --features emulator --example pipeline_managed_identity
//! ```
//!
//! Offline the machine's identity endpoint is a stand-in, and the night passes in seconds. `--real` runs each step once with
//! the system-assigned identity of the machine that it stands on; `--real CLIENT_ID` with a user-assigned one besides.

mod trail;

use std::{
    collections::BTreeMap,
    env,
    error::Error as StdError,
    io::{self, Write as _},
    sync::MutexGuard,
    time::{Duration, SystemTime},
};

use entra_broker::{
    AccessToken, Audit, AuditCalls, AuditEvent, AuditOutcome, Broker, CallOptions, Clock, Env, Error,
    ErrorKind, ManagedIdentity, ManagedIdentityId, ManualClock, TokenRequest,
    emulator::{Emulator, Endpoint, Fault, sample},
};
use trail::{Row, Trail, hm, resource, table};

const VAULT: &str = "https://vault.azure.net/.default";
const STORAGE: &str = "https://storage.azure.com/.default";
const DATABASE: &str = "https://database.windows.net/.default";
const GRAPH: &str = "https://graph.microsoft.com/.default";

const MINUTE: Duration = Duration::from_secs(60);

/// What runs in the night: each step as which binding, for which resource, and every how many minutes.
const STEPS: [(&str, &str, &str, u64); 3] = [
    ("read settings", "runner", VAULT, 30),
    ("copy exports", "warehouse", STORAGE, 5),
    ("load tables", "warehouse", DATABASE, 10),
];

type Failure = Box<dyn StdError + Send + Sync>;

/// `println!`, but a reader who leaves early, as `head` does, is an error and no panic.
macro_rules! say {
    ($($text:tt)*) => { writeln!(io::stdout(), $($text)*)? };
}

/// Which identity a step may be, and what it may ask for as that: what is not listed is denied.
struct Bindings {
    all: BTreeMap<&'static str, Binding>,
    clock: Clock,
    trail: Trail,
}

struct Binding {
    broker: Broker,
    audit: Audit,
    allowed: Vec<TokenRequest>,
}

impl Bindings {
    fn new(clock: Clock) -> Self {
        Self { all: BTreeMap::new(), clock, trail: Trail::default() }
    }

    fn bind(&mut self, name: &'static str, provider: ManagedIdentity, allowed: &[&str]) -> Result<(), Error> {
        let audit = Audit::builder(self.trail.sink(name)).calls(AuditCalls::All).build();
        let broker = Broker::builder().clock(self.clock.clone()).audit(audit.clone()).build(provider)?;
        let allowed = allowed.iter().map(TokenRequest::new).collect::<Result<_, _>>()?;
        self.all.insert(name, Binding { broker, audit, allowed });
        Ok(())
    }

    /// The only way to a token. A step that may not have one is told so, and nobody else is asked.
    async fn token(&self, step: &'static str, name: &str, scope: &str) -> Result<AccessToken, Error> {
        let asked = TokenRequest::new(scope)?;
        let bound = self.all.get(name);
        let allowed = bound.and_then(|bound| {
            let request = bound.allowed.iter().find(|allowed| allowed.scopes() == asked.scopes())?;
            Some((&bound.broker, request))
        });
        let Some((broker, request)) = allowed else {
            self.trail.denied(self.clock.now().wall(), step, name, scope);
            let why = format!("binding {name} does not allow {scope}");
            return Err(Error::new(ErrorKind::Policy, why).with_advice("List it where the binding is made."));
        };
        broker.get_token_with(request, &CallOptions::new().label(step)).await
    }

    fn in_flight(&self) -> usize {
        self.all.values().map(|bound| bound.broker.metrics().in_flight).sum()
    }

    /// The whole trail, once all of it is written.
    async fn trail(&self) -> MutexGuard<'_, Vec<Row>> {
        for bound in self.all.values() {
            bound.audit.flush().await;
        }
        let mut rows = self.trail.rows();
        rows.sort_by_key(|row| row.at);
        rows
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut args = env::args().skip(1);
    match (args.next().as_deref(), args.next()) {
        (None, _) => a_night().await,
        (Some("--real"), user_assigned) => on_this_machine(user_assigned).await,
        _ => Err("usage: pipeline_managed_identity [--real [CLIENT_ID]]".into()),
    }
}

/// Never unless it was asked for: elsewhere than in Azure, whoever answers at 169.254.169.254 would be believed.
async fn on_this_machine(user_assigned: Option<String>) -> Result<(), Failure> {
    let mut bindings = Bindings::new(Clock::system());
    bindings.bind("runner", ManagedIdentity::system_assigned()?, &[VAULT])?;
    if let Some(client_id) = user_assigned {
        let id = ManagedIdentityId::client_id(&client_id)?;
        bindings.bind("warehouse", ManagedIdentity::user_assigned(id)?, &[STORAGE, DATABASE])?;
    }
    let mut tokens = Vec::new();
    for (step, binding, scope, _) in STEPS {
        match bindings.token(step, binding, scope).await {
            Ok(token) => tokens.push(token),
            Err(error) => say!("{step}: {error}. {}", error.advice()),
        }
    }
    let rows = bindings.trail().await;
    say!("{}", table(&rows, &tokens)?);
    Ok(())
}

async fn a_night() -> Result<(), Failure> {
    let night = Night::falls().await?;
    let env = Env::empty().set("AZURE_POD_IDENTITY_AUTHORITY_HOST", night.machine.identity_endpoint());
    let user = ManagedIdentityId::client_id(sample::USER_IDENTITY)?;
    let mut bindings = Bindings::new(night.clock.clone());
    bindings.bind("runner", ManagedIdentity::from_env(ManagedIdentityId::system(), &env)?, &[VAULT])?;
    bindings.bind("warehouse", ManagedIdentity::from_env(user, &env)?, &[STORAGE, DATABASE])?;
    say!("A stand-in for the machine's identity endpoint listens on {}.", night.machine.identity_endpoint());
    say!("Nothing leaves this machine. Time is moved: eight hours pass in seconds.\n");
    for (name, bound) in &bindings.all {
        let allowed: Vec<_> =
            bound.allowed.iter().map(|request| resource(request.scopes().as_str())).collect();
        say!("   binding {name:<10} may ask for {}", allowed.join(", "));
    }

    let (calls, tokens) = until_morning(&night, &bindings).await?;

    let rows = bindings.trail().await;
    let of = |event: Option<AuditEvent>| rows.iter().filter(move |row| row.event == event);
    let good = |event| of(Some(event)).filter(|row| row.outcome == Some(AuditOutcome::Success)).count();
    say!(
        "\n{calls} calls, each with a good token, of which {} were needed. Who asked for what:\n",
        tokens.len()
    );
    say!("{}", table(&rows, &tokens)?);
    check(good(AuditEvent::Call) == calls, "every call is in the trail")?;
    check(of(Some(AuditEvent::Call)).count() == calls, "and none of them failed")?;
    check(good(AuditEvent::Request) >= tokens.len(), "every token is in the trail")?;
    check(of(None).count() == 1, "the denial is in the trail")?;
    check(bindings.all.values().all(|bound| bound.audit.dropped() == 0), "nothing of the trail was lost")?;
    let waited: u64 = bindings.all.values().map(|bound| bound.broker.metrics().waits).sum();
    check(waited == 3, "only the first call of each kind waited")?;
    say!("\nAll of this was checked while it was told.");
    Ok(())
}

/// Eight hours of steps. How often a token was asked for, and all those that were given.
async fn until_morning(night: &Night, bindings: &Bindings) -> Result<(usize, Vec<AccessToken>), Failure> {
    let mut tokens: Vec<AccessToken> = Vec::new();
    let mut calls = 0;
    let mut outage = None;
    say!("\n22:00  The pipeline begins.");
    for minute in (0..8 * 60).step_by(5) {
        for (step, binding, scope, every) in STEPS {
            if minute % every == 0 {
                let token = bindings.token(step, binding, scope).await?;
                check(token.expires_on() > night.now(), "a step gets a token that is good")?;
                if !tokens.iter().any(|known| known.is_same(&token)) {
                    tokens.push(token);
                }
                calls += 1;
            }
        }
        if minute == 180 {
            let Err(denied) = bindings.token("publish report", "runner", GRAPH).await else {
                return Err("the runner was given a token for Graph".into());
            };
            say!("{}  Step `publish report` asks for too much: {denied}.", hm(night.now()));
            check(denied.kind() == ErrorKind::Policy, "it was the binding that said no")?;
        }
        // As luck has it, just before a token is due.
        let due = tokens.iter().any(|token| night.is_due_within(5 * MINUTE, token));
        if outage.is_none() && minute >= 240 && due {
            let fault = Fault::on(Endpoint::Identity).status(503);
            outage = Some((minute, night.machine.faults().add(fault)));
            say!("{}  The identity endpoint answers 503 from now on. The steps go on.", hm(night.now()));
        }
        if let Some((_, fault)) = outage.filter(|(began, _)| began + 15 == minute) {
            night.machine.faults().remove(fault);
            let asked = night.machine.journal().count(|entry| entry.status == Some(503));
            say!("{}  It is back. It was asked {asked} times, and no step noticed.", hm(night.now()));
            check(asked > 0, "the outage met a refresh")?;
        }
        night.pass(5 * MINUTE, bindings).await;
    }
    say!("{}  The pipeline ends.", hm(night.now()));
    check(outage.is_some(), "there was an outage")?;
    Ok((calls, tokens))
}

/// The emulator as the machine's identity endpoint, and a clock on which it runs and which only we move.
struct Night {
    machine: Emulator,
    clock: Clock,
    time: ManualClock,
}

impl Night {
    async fn falls() -> Result<Self, Failure> {
        let evening: jiff::Timestamp = "2026-11-20T22:00:00Z".parse()?;
        let (clock, time) = Clock::manual(evening.into());
        let (now, sleep) = (clock.clone(), clock.clone());
        // Azure's tokens of managed identities live a day. These live an hour, for a night of many refreshes.
        let machine = Emulator::builder()
            .lifetime(60 * MINUTE)
            .time(move || now.now().wall(), move |duration| Box::pin(sleep.sleep(duration)))
            .start()
            .await?;
        Ok(Self { machine, clock, time })
    }

    fn now(&self) -> SystemTime {
        self.clock.now().wall()
    }

    fn is_due_within(&self, duration: Duration, token: &AccessToken) -> bool {
        token.refresh_on() > self.now() && token.refresh_on() < self.now() + duration
    }

    /// Time passes from timer to timer, and while a request is under way so slowly that it can be answered.
    async fn pass(&self, duration: Duration, bindings: &Bindings) {
        let until = self.clock.now().after(duration);
        while !self.clock.now().has_reached(until) {
            let left = self.clock.now().until(until);
            let next = self.time.next_timer().map_or(left, |next| next.clamp(Duration::from_nanos(1), left));
            let (step, wait) = match bindings.in_flight() {
                0 => (next, 1),
                _ => (next.min(Duration::from_secs(1)), 5),
            };
            self.time.advance(step);
            Clock::system().sleep(Duration::from_millis(wait)).await;
        }
    }
}

fn check(holds: bool, claim: &str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(format!("this should hold and does not: {claim}").into()) }
}
