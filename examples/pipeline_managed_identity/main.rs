//! A night of a data pipeline on the identities of its machine: who may ask for what, an outage, and the audit trail of it all.
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
    process::ExitCode,
    time::{Duration, SystemTime},
};

use entra_broker::{
    AccessToken, Audit, AuditEvent, AuditOutcome, AuditRecord, Broker, CallOptions, Clock, Env, Error,
    ErrorKind, ManagedIdentity, ManagedIdentityId, ManualClock,
    emulator::{Emulator, Endpoint, Fault, sample},
};

const VAULT: &str = "https://vault.azure.net";
const STORAGE: &str = "https://storage.azure.com";
const DATABASE: &str = "https://database.windows.net";
const GRAPH: &str = "https://graph.microsoft.com";

/// Something that the pipeline does: as which binding, for which resource, and every how many minutes.
struct Step {
    name: &'static str,
    binding: &'static str,
    resource: &'static str,
    every: u64,
}

const STEPS: [Step; 3] = [
    Step { name: "read settings", binding: "runner", resource: VAULT, every: 30 },
    Step { name: "copy exports", binding: "warehouse", resource: STORAGE, every: 5 },
    Step { name: "load tables", binding: "warehouse", resource: DATABASE, every: 10 },
];

/// Somebody added this one, and nobody allowed it.
const TOO_MUCH: Step = Step { name: "publish report", binding: "runner", resource: GRAPH, every: 0 };

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);

type Failure = Box<dyn StdError + Send + Sync>;

/// `println!`, but a reader who leaves early, as `head` does, is an error and no panic.
macro_rules! say {
    ($($text:tt)*) => { writeln!(io::stdout(), $($text)*)? };
}

/// Named bindings, each an identity and the resources that it may ask for, and one audit trail of them all.
struct Pipeline {
    bindings: BTreeMap<&'static str, Broker>,
    audit: Audit,
    clock: Clock,
}

impl Pipeline {
    fn new(audit: Audit, clock: Clock) -> Self {
        Self { bindings: BTreeMap::new(), audit, clock }
    }

    /// What is not among the resources is denied.
    fn bind<const N: usize>(
        &mut self,
        name: &'static str,
        identity: ManagedIdentity,
        resources: [&str; N],
    ) -> Result<(), Error> {
        let broker = Broker::builder()
            .name(name)
            .allow_resources(resources)
            .audit(self.audit.clone())
            .clock(self.clock.clone())
            .build(identity)?;
        self.bindings.insert(name, broker);
        Ok(())
    }

    /// The only way to a token: as a binding, and under the step's name in the trail.
    async fn token(&self, step: &Step) -> Result<AccessToken, Error> {
        let Some(broker) = self.bindings.get(step.binding) else {
            let why = format!("there is no binding {}", step.binding);
            return Err(Error::new(ErrorKind::Policy, why).with_advice("Bind it to an identity first."));
        };
        let scope = format!("{}/.default", step.resource);
        broker.get_token_with(&scope, &CallOptions::new().label(step.name)).await
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let ended = match (args.next().as_deref(), args.next()) {
        (None, _) => a_night().await,
        (Some("--real"), user_assigned) => on_this_machine(user_assigned).await,
        _ => Err("usage: pipeline_managed_identity [--real [CLIENT_ID]]".into()),
    };
    let Err(error) = ended else { return ExitCode::SUCCESS };
    let _ = writeln!(io::stderr(), "{error}");
    if let Some(error) = error.downcast_ref::<Error>() {
        let _ = writeln!(io::stderr(), "{}", error.advice());
    }
    ExitCode::FAILURE
}

/// Never unless it was asked for: elsewhere than in Azure, whoever answers at 169.254.169.254 would be believed.
async fn on_this_machine(user_assigned: Option<String>) -> Result<(), Failure> {
    let (audit, records) = trail::in_memory();
    let mut pipeline = Pipeline::new(audit, Clock::system());
    pipeline.bind("runner", ManagedIdentity::system_assigned()?, [VAULT])?;
    if let Some(client_id) = user_assigned {
        let id = ManagedIdentityId::client_id(&client_id)?;
        pipeline.bind("warehouse", ManagedIdentity::user_assigned(id)?, [STORAGE, DATABASE])?;
    }
    let mut failed = false;
    for step in STEPS.iter().chain([&TOO_MUCH]) {
        match pipeline.token(step).await {
            Ok(token) => say!("{}: a token that expires at {}.", step.name, trail::hm(token.expires_on())),
            Err(error) => {
                say!("{}: {error}. {}", step.name, error.advice());
                // What is denied here is meant to be.
                failed |= error.kind() != ErrorKind::Policy;
            }
        }
    }
    pipeline.audit.flush().await;
    say!("\n{}", trail::table(&records.try_iter().collect::<Vec<_>>()));
    if failed { Err("not every step got its token".into()) } else { Ok(()) }
}

async fn a_night() -> Result<(), Failure> {
    let (audit, records) = trail::in_memory();
    let mut night = Night::falls(audit).await?;
    say!("A stand-in for the machine's identity endpoint listens on {}.", night.machine.identity_endpoint());
    say!("Nothing leaves this machine. Time is moved: eight hours pass in seconds.\n");
    say!("   binding runner     the system-assigned identity, for vault.azure.net");
    say!("   binding warehouse  {}, for storage.azure.com", sample::USER_IDENTITY);
    say!("                      and database.windows.net\n");

    say!("{}  The pipeline begins.", trail::hm(night.now()));
    night.work(3 * HOUR).await?;

    let Err(denied) = night.pipeline.token(&TOO_MUCH).await else {
        return Err("the runner was given a token for Graph".into());
    };
    say!("{}  Step `{}` is denied: {denied}.", trail::hm(night.now()), TOO_MUCH.name);
    night.work(HOUR).await?;

    // As luck has it, just before a token is due.
    while !night.is_a_token_due_within(5 * MINUTE) {
        night.work(5 * MINUTE).await?;
    }
    let outage = night.machine.faults().add(Fault::on(Endpoint::Identity).status(503));
    say!("{}  The identity endpoint answers 503 from now on. The steps go on.", trail::hm(night.now()));
    night.work(15 * MINUTE).await?;
    night.machine.faults().remove(outage);
    let asked = night.machine.journal().count(|entry| entry.status == Some(503));
    say!("{}  It is back. It was asked {asked} times, and no step noticed.", trail::hm(night.now()));
    check(asked > 0, "the outage met a refresh")?;

    let until_six = (night.evening + 8 * HOUR).duration_since(night.now())?;
    night.work(until_six).await?;
    say!("{}  The pipeline ends.", trail::hm(night.now()));

    night.pipeline.audit.flush().await;
    let records: Vec<_> = records.try_iter().collect();
    say!(
        "\n{} calls were answered, with {} tokens. The audit trail, in which a call is what a step",
        night.calls,
        night.tokens.len()
    );
    say!("asked of its binding, and a request what fetched a token, sent again where that failed:\n");
    say!("{}", trail::table(&records));
    say!("\nThe denial, as `JsonLines` would write it to a file:\n");
    for record in records.iter().filter(|record| is_denial(record)) {
        say!("{}", serde_json::to_string(record)?);
    }
    check_trail(&night, &records)?;
    say!("\nAll of this was checked while it was told.");
    Ok(())
}

/// The binding said no; nobody was asked.
fn is_denial(record: &AuditRecord) -> bool {
    record.answered_by.as_deref() == Some("broker") && record.error_kind == Some("policy")
}

fn check_trail(night: &Night, records: &[AuditRecord]) -> Result<(), Failure> {
    let good = |event| {
        let good = |record: &&AuditRecord| record.event == event && record.outcome == AuditOutcome::Success;
        records.iter().filter(good).count()
    };
    let calls = records.iter().filter(|record| record.event == AuditEvent::Call).count();
    check(good(AuditEvent::Call) == night.calls, "every call is in the trail")?;
    check(calls == night.calls + 1, "and none failed but the one that was denied")?;
    check(good(AuditEvent::Request) >= night.tokens.len(), "every token is in the trail")?;
    let denials: Vec<_> = records.iter().filter(|record| is_denial(record)).collect();
    let who = denials.iter().map(|record| (record.binding.as_deref(), record.label.as_deref()));
    check(who.eq([(Some("runner"), Some("publish report"))]), "the denial is in the trail")?;
    for record in records {
        let (line, identity) = (serde_json::to_string(record)?, record.identity.as_deref());
        let leaks = night.tokens.iter().any(|token| line.contains(token.secret()));
        check(!leaks, "no token is in the trail")?;
        let user_assigned = record.binding.as_deref() == Some("warehouse");
        check(identity == user_assigned.then_some(sample::USER_IDENTITY), "each binding is its identity")?;
    }
    check(night.pipeline.audit.dropped() == 0, "nothing of the trail was lost")?;
    let waited: u64 = night.pipeline.bindings.values().map(|broker| broker.metrics().waits).sum();
    check(waited == 3, "only the first call for each resource waited")
}

/// The pipeline at work, on a clock that only we move, with the emulator as the machine's identity endpoint.
struct Night {
    machine: Emulator,
    pipeline: Pipeline,
    time: ManualClock,
    evening: SystemTime,
    calls: usize,
    /// All that were given to steps.
    tokens: Vec<AccessToken>,
}

impl Night {
    async fn falls(audit: Audit) -> Result<Self, Failure> {
        let evening = "2026-11-20T22:00:00Z".parse::<jiff::Timestamp>()?.into();
        let (clock, time) = Clock::manual(evening);
        let (now, sleep) = (clock.clone(), clock.clone());
        // Azure's tokens of managed identities live a day. These live an hour, for a night of many refreshes.
        let machine = Emulator::builder()
            .lifetime(HOUR)
            .time(move || now.now().wall(), move |duration| Box::pin(sleep.sleep(duration)))
            .start()
            .await?;
        let env = Env::empty().set("AZURE_POD_IDENTITY_AUTHORITY_HOST", machine.identity_endpoint());
        let system = ManagedIdentityId::system();
        let user = ManagedIdentityId::client_id(sample::USER_IDENTITY)?;
        let mut pipeline = Pipeline::new(audit, clock);
        pipeline.bind("runner", ManagedIdentity::from_env(system, &env)?, [VAULT])?;
        pipeline.bind("warehouse", ManagedIdentity::from_env(user, &env)?, [STORAGE, DATABASE])?;
        Ok(Self { machine, pipeline, time, evening, calls: 0, tokens: Vec::new() })
    }

    fn now(&self) -> SystemTime {
        self.pipeline.clock.now().wall()
    }

    /// Runs each step when its time has come. All of them get a token that is good.
    async fn work(&mut self, duration: Duration) -> Result<(), Failure> {
        let until = self.now() + duration;
        while self.now() < until {
            let minute = self.now().duration_since(self.evening)?.as_secs() / 60;
            for step in STEPS.iter().filter(|step| minute.is_multiple_of(step.every)) {
                let token = self.pipeline.token(step).await?;
                check(token.expires_on() > self.now(), "a step gets a token that is good")?;
                self.calls += 1;
                if !self.tokens.iter().any(|known| known.is_same(&token)) {
                    self.tokens.push(token);
                }
            }
            self.pass(5 * MINUTE).await;
        }
        Ok(())
    }

    fn is_a_token_due_within(&self, duration: Duration) -> bool {
        let (now, soon) = (self.now(), self.now() + duration);
        self.tokens.iter().any(|token| token.refresh_on() > now && token.refresh_on() < soon)
    }

    /// Time passes from timer to timer, and while a request is under way so slowly that it can be answered.
    async fn pass(&self, duration: Duration) {
        let clock = &self.pipeline.clock;
        let until = clock.now().after(duration);
        while !clock.now().has_reached(until) {
            let left = clock.now().until(until);
            let next = self.time.next_timer().map_or(left, |next| next.clamp(Duration::from_nanos(1), left));
            let in_flight: usize =
                self.pipeline.bindings.values().map(|broker| broker.metrics().in_flight).sum();
            let (step, wait) = match in_flight {
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
