//! A connector that reads users from Microsoft Graph and role assignments from Azure Resource Manager, page by page.
//!
//! ```text
//! cargo run --features emulator,validate --example iam_connector
//! ```
//!
//! It is configured by `BATON_ENTRA_TENANT_ID`, `BATON_ENTRA_CLIENT_ID` and `BATON_ENTRA_CLIENT_SECRET`, or another credential
//! that `Environment` knows. Where none is set, Entra and both APIs are stand-ins on this machine that look at each token as
//! the real ones do, and what is told is checked as it is told.

mod stand_in;

use std::{
    error::Error as StdError,
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use entra_broker::{
    AccessToken, BearerChallenge, Broker, CallOptions, Clock, ConfidentialClient, Env, Environment, Error,
    ErrorKind, ManualClock, TokenRequest,
    emulator::{Emulator, sample},
};
use http::{StatusCode, header::AUTHORIZATION};
use serde_json::Value;
use stand_in::{Demand, StandIn};

const PREFIX: &str = "BATON_ENTRA_";
const GRAPH: &str = "https://graph.microsoft.com";
const ARM: &str = "https://management.azure.com";
const USERS: &str = "/v1.0/users?$select=id,userPrincipalName";
const ROLES: &str =
    "/subscriptions/s1/providers/Microsoft.Authorization/roleAssignments?api-version=2022-04-01";

const MINUTE: Duration = Duration::from_secs(60);

type Failure = Box<dyn StdError + Send + Sync>;

/// `println!`, but a reader who leaves early, as `head` does, is an error and no panic.
macro_rules! say {
    ($($text:tt)*) => { writeln!(io::stdout(), $($text)*)? };
}

/// An API that is read page by page.
struct Api {
    broker: Broker,
    http: reqwest::Client,
    origin: String,
    token: TokenRequest,
    /// The member of a page that leads to the next one.
    next: &'static str,
}

impl Api {
    fn new(broker: &Broker, origin: &str, resource: &str, next: &'static str) -> Result<Self, Failure> {
        let token = TokenRequest::new(format!("{resource}/.default"))?;
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { broker: broker.clone(), http, origin: origin.to_owned(), token, next })
    }

    /// All the items from here on, page by page.
    fn pages(&self, path: &str) -> Pages<'_> {
        Pages { api: self, next: Some(format!("{}{path}", self.origin)) }
    }

    /// One request, made once more with another token where the API refuses the first.
    async fn get(&self, url: &str) -> Result<Value, Failure> {
        // A link to elsewhere would take the token there.
        if !url.strip_prefix(&self.origin).is_some_and(|path| path.starts_with('/')) {
            return Err(format!("a link leads away from {}", self.origin).into());
        }
        let mut options = CallOptions::new().label("sync");
        let mut refused = false;
        loop {
            let token = self.broker.get_token_with(&self.token, &options).await?;
            let answer = self.send(url, &token).await?;
            if answer.status().is_success() {
                return Ok(serde_json::from_slice(&answer.bytes().await?)?);
            }
            if answer.status() != StatusCode::UNAUTHORIZED || refused {
                return Err(format!("{} answered {}", self.origin, answer.status()).into());
            }
            refused = true;
            let challenge = BearerChallenge::from_headers(answer.headers())?;
            match challenge.and_then(|challenge| challenge.claims().cloned()) {
                // A token that says more is asked for, and replaces this one for everybody.
                Some(claims) => options = options.challenge(claims),
                // This token goes. Where somebody has replaced it already, the new one comes without a request.
                None => _ = self.broker.invalidate(&token),
            }
        }
    }

    async fn send(&self, url: &str, token: &AccessToken) -> reqwest::Result<reqwest::Response> {
        self.http.get(url).header(AUTHORIZATION, token.authorization()).send().await
    }
}

struct Pages<'a> {
    api: &'a Api,
    next: Option<String>,
}

impl Pages<'_> {
    async fn next(&mut self) -> Result<Option<Vec<Value>>, Failure> {
        let Some(url) = self.next.take() else { return Ok(None) };
        let mut page = self.api.get(&url).await?;
        self.next = page[self.api.next].as_str().map(str::to_owned);
        let Value::Array(items) = page["value"].take() else { return Err("a page without items".into()) };
        Ok(Some(items))
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let ended = match Environment::new(&Env::process()).prefix(PREFIX).client() {
        Ok(client) => for_real(client).await,
        // None of the variables is set. If some are and one is missing, that is an error, and names it.
        Err(error) if error.kind() == ErrorKind::NotAvailable => offline().await,
        Err(error) => Err(error.into()),
    };
    let Err(error) = ended else { return ExitCode::SUCCESS };
    let _ = writeln!(io::stderr(), "{error}");
    if let Some(error) = error.downcast_ref::<Error>() {
        let _ = writeln!(io::stderr(), "{}", error.advice());
    }
    ExitCode::FAILURE
}

/// A first page of each, from the real hosts.
async fn for_real(client: ConfidentialClient) -> Result<(), Failure> {
    // `cp1` tells Entra that we understand claims challenges, as `Api::get` does.
    let broker = Broker::new(client.capabilities(["cp1"]))?;
    let graph = Api::new(&broker, GRAPH, GRAPH, "@odata.nextLink")?;
    let arm = Api::new(&broker, ARM, ARM, "nextLink")?;
    for (api, path) in [(graph, USERS), (arm, "/subscriptions?api-version=2022-12-01")] {
        let mut pages = api.pages(path);
        let items = pages.next().await?.unwrap_or_default().len();
        let more = if pages.next.is_some() { ", and there is more" } else { "" };
        say!("{}: {items} items on the first page{more}.", api.origin);
    }
    Ok(())
}

async fn offline() -> Result<(), Failure> {
    let stage = Stage::open().await?;
    // What the connector's configuration would be.
    let env = [
        ("TENANT_ID", sample::TENANT),
        ("CLIENT_ID", sample::SECRET_APP),
        ("CLIENT_SECRET", sample::SECRET),
        ("AUTHORITY_HOST", stage.entra.authority()),
    ];
    let env = env.iter().fold(Env::empty(), |env, (name, value)| env.set(format!("{PREFIX}{name}"), *value));
    let client = Environment::new(&env).prefix(PREFIX).dangerous().allow_plain_http().client()?;
    let broker = Broker::builder().clock(stage.clock.clone()).build(client.capabilities(["cp1"]))?;

    let users = StandIn::start(&stage.entra, &stage.clock, GRAPH, "@odata.nextLink", 1_000).await?;
    let roles = StandIn::start(&stage.entra, &stage.clock, ARM, "nextLink", 800).await?;
    let graph = Api::new(&broker, &users.origin, GRAPH, "@odata.nextLink")?;
    let arm = Api::new(&broker, &roles.origin, ARM, "nextLink")?;
    say!("No {PREFIX}… variable is set: Entra, Graph and Resource Manager are stand-ins on this machine.");

    say!("\n1. A sync that takes longer than a token lives");
    let (mut pages, mut items) = (0, 0);
    let began = stage.clock.now();
    let first = broker.get_token(&graph.token).await?;
    for (api, path) in [(&graph, USERS), (&arm, ROLES), (&graph, USERS)] {
        let mut reading = api.pages(path);
        while let Some(page) = reading.next().await? {
            (pages, items) = (pages + 1, items + page.len());
            stage.pass(MINUTE, &broker).await?;
        }
    }
    let took = began.until(stage.clock.now());
    say!(
        "   {items} users and role assignments on {pages} pages, in {} minutes on a clock that we move.",
        took.as_secs() / 60
    );
    say!("   For each page the API checked signature, audience and expiry of the token.");
    say!("   Tokens refused: {}.", users.refused() + roles.refused());
    say!("   Graph saw {} tokens, Resource Manager {}.", users.tokens(), roles.tokens());
    say!("   Tokens fetched: {}. Both are kept fresh, whichever API is being read.", stage.tokens());
    check(items == 2 * 1_000 + 800, "all items came")?;
    check(users.refused() + roles.refused() == 0, "every token was good when it was used")?;
    check(first.expires_on() < stage.clock.now().wall(), "the first token is dead by now")?;
    check(users.tokens() > 1, "and was replaced on the way")?;
    check(stage.tokens() < 10, "a token is asked for once per life, and not once per page")?;

    say!("\n2. An administrator revokes all tokens that were given so far: a claims challenge");
    stage.pass(MINUTE, &broker).await?;
    let asked = stage.tokens();
    users.demand(Demand::Claims);
    let page = graph.pages(USERS).next().await?.unwrap_or_default();
    say!(
        "   Graph refused {} token, and said in its challenge what the next one has to be.",
        users.refused()
    );
    say!("   With that one it gave {} users. Tokens fetched: {}.", page.len(), stage.tokens() - asked);
    check(users.refused() == 1 && stage.tokens() == asked + 1, "one challenge, one token")?;

    say!("\n3. A token is refused, and nothing says why");
    stage.pass(MINUTE, &broker).await?;
    let asked = stage.tokens();
    roles.demand(Demand::Another);
    let page = arm.pages(ROLES).next().await?.unwrap_or_default();
    say!("   Resource Manager refused {} token. That one was taken out of the cache.", roles.refused());
    say!(
        "   With the next it gave {} role assignments. Tokens fetched: {}.",
        page.len(),
        stage.tokens() - asked
    );
    check(roles.refused() == 1 && stage.tokens() == asked + 1, "one refusal, one token")?;

    say!("\n4. What the stand-ins refuse");
    let current = broker.get_token(&graph.token).await?;
    for (what, api, token) in [
        ("a token that has expired", &graph, &first),
        ("a token for Graph, at Resource Manager", &arm, &current),
    ] {
        let status = api.send(&format!("{}{ROLES}", api.origin), token).await?.status();
        say!("   {what}: {status}");
        check(status == StatusCode::UNAUTHORIZED, "it is refused")?;
    }
    say!("\nAll of this was checked while it was told.");
    Ok(())
}

/// The emulator, and a clock on which all of this runs and which only we move.
struct Stage {
    entra: Emulator,
    clock: Clock,
    time: ManualClock,
}

impl Stage {
    async fn open() -> Result<Self, Failure> {
        let (clock, time) = Clock::manual(Clock::system().now().wall());
        let (now, sleep) = (clock.clone(), clock.clone());
        let entra = Emulator::builder()
            .time(move || now.now().wall(), move |duration| Box::pin(sleep.sleep(duration)))
            .start()
            .await?;
        Ok(Self { entra, clock, time })
    }

    /// Time passes, and a refresh that is due then has real time to happen.
    async fn pass(&self, duration: Duration, broker: &Broker) -> Result<(), Failure> {
        self.time.advance(duration);
        for _ in 0..1_000 {
            Clock::system().sleep(Duration::from_millis(5)).await;
            if broker.metrics().in_flight == 0 {
                return Ok(());
            }
        }
        Err("a refresh does not end".into())
    }

    /// How many tokens were asked for; the stand-ins' requests for keys are not among them.
    fn tokens(&self) -> usize {
        self.entra.journal().count(|entry| entry.grant_type.is_some())
    }
}

fn check(holds: bool, claim: &str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(format!("this should hold and does not: {claim}").into()) }
}
