//! The life of a provider's integrations: one application of ours, and the tenants of many customers.
//!
//! ```text
//! cargo run --features emulator,validate --example multi_tenant_integration
//! ```
//!
//! With `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and a credential such as `AZURE_CLIENT_SECRET`, and customers' tenants as
//! arguments, it asks the real Entra how the application stands in each of them, and does nothing else. Otherwise Entra is a
//! stand-in on this machine, the customers' administrators are played, and what is told is checked as it is told.

mod customer;

use std::{
    env,
    error::Error as StdError,
    io::{self, Write as _},
    process::ExitCode,
};

use entra_broker::{
    AdminConsent, Authority, Broker, ClientSecret, ConfidentialClient, Env, Environment, Error, ErrorKind,
    PendingConsent, TenantCheck, TenantId, TenantStanding, TokenRequest, TokenValidator, TrustedIssuer,
    emulator::{Emulator, Policy, Requirement, User, sample},
};

const GRAPH: &str = "https://graph.microsoft.com";

type Failure = Box<dyn StdError + Send + Sync>;

/// `println!`, but a reader who leaves early, as `head` does, is an error and no panic.
macro_rules! say {
    ($($text:tt)*) => { writeln!(io::stdout(), $($text)*)? };
}

/// One customer's integration, as it would stand in the provider's database.
struct Integration {
    customer: &'static str,
    /// As the customer typed it: an id, or a domain.
    typed: TenantId,
    state: State,
}

#[derive(PartialEq)]
enum State {
    /// Typed in. Nothing is known of the tenant, and no token is asked for.
    Draft,
    /// The tenant lets us in. It is kept by its id: a domain can change hands.
    Created(TenantId),
}

impl State {
    fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Draft => None,
            Self::Created(tenant) => Some(tenant),
        }
    }
}

impl Integration {
    fn draft(customer: &'static str, typed: &str) -> Result<Self, Error> {
        Ok(Self { customer, typed: typed.parse()?, state: State::Draft })
    }

    /// What is validated: once the id is known, no domain any more.
    fn tenant(&self) -> &TenantId {
        self.state.tenant().unwrap_or(&self.typed)
    }
}

/// Our side: one application, one broker for all tenants.
struct Provider {
    broker: Broker,
    authority: Authority,
}

impl Provider {
    /// The link for the customer's administrator, and what is kept in that browser's session until it comes back.
    fn invite(&self, integration: &Integration) -> Result<(String, PendingConsent), Error> {
        let (tenant, scopes) = (integration.typed.as_str(), format!("{GRAPH}/.default"));
        AdminConsent::new(&self.authority, sample::SECRET_APP, tenant, sample::REDIRECT_URI, &scopes)?.begin()
    }

    /// Makes it a created one where the tenant lets us in. A token proves that, and nothing else does: not what was typed,
    /// and not what a browser brought back.
    ///
    /// It does not prove that whoever typed the tenant belongs to it. So a tenant can be of one customer only; a provider
    /// that gives out data would have somebody of the tenant sign in besides.
    async fn validate(&self, all: &mut [Integration], at: usize) -> Result<TenantCheck, Failure> {
        let check = self.broker.check_tenant(all[at].tenant(), GRAPH).await?;
        if check.is_trusted() {
            let created = State::Created(check.tenant_id().unwrap_or(all[at].tenant()).clone());
            if all.iter().enumerate().any(|(other, known)| other != at && known.state == created) {
                return Err("another customer has this tenant".into());
            }
            if let State::Created(tenant) = &created {
                self.broker.allow_tenant(tenant);
            }
            all[at].state = created;
        }
        Ok(check)
    }

    fn leaves(&self, integration: &mut Integration) {
        if let State::Created(tenant) = &integration.state {
            self.broker.deny_tenant(tenant);
        }
        integration.state = State::Draft;
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let ended = match Environment::new(&Env::process()).client() {
        Ok(client) => check_all(client, env::args().skip(1).collect()).await,
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

/// How the application stands in these tenants.
async fn check_all(client: ConfidentialClient, tenants: Vec<String>) -> Result<(), Failure> {
    if tenants.is_empty() {
        let usage = "usage: multi_tenant_integration TENANT...\nName the tenants to check, by id or domain.";
        return Err(usage.into());
    }
    let broker = Broker::new(client)?;
    for tenant in tenants {
        let check = broker.check_tenant(&tenant.parse()?, GRAPH).await?;
        tell(&tenant, &check)?;
    }
    Ok(())
}

/// What whoever has to act is sent: the customer, or ourselves.
fn tell(customer: &str, check: &TenantCheck) -> Result<(), Failure> {
    let to = if check.is_customers() || check.is_trusted() { customer } else { "ourselves" };
    say!("   {customer}: {}", check.standing().name());
    say!("      to {to}: {}", check.words());
    for (what, text) in [("page", check.url()), ("command", check.command())] {
        if let Some(text) = text {
            say!("      {what}: {text}");
        }
    }
    Ok(())
}

async fn offline() -> Result<(), Failure> {
    const NORTHWIND: &str = "44444444-5555-6666-7777-888888888888";
    let entra = Emulator::start().await?;
    let directory = entra.directory();
    directory.add_tenant(NORTHWIND, &["northwind.test"]);
    directory.add_user(User::new("admin@northwind.test").admin());
    let authority = Authority::dangerous().allow_plain_http(entra.authority())?;
    let app = |secret| ClientSecret::new(sample::TENANT, sample::SECRET_APP, secret);
    let broker = Broker::new(app(sample::SECRET)?.authority(authority.clone()))?;
    let us = Provider { broker, authority: authority.clone() };
    say!("No variable of an application is set: Entra is a stand-in on this machine.");

    say!("\n1. Three customers type in their tenants");
    let mut all = vec![
        Integration::draft("Fabrikam", sample::OTHER_TENANT_DOMAIN)?,
        Integration::draft("Tailspin", sample::CUSTOMER_WITHOUT_CONSENT)?,
        Integration::draft("Northwind", "44444444-5555-6666-7777-999999999999")?,
    ];
    for integration in &all {
        let request = graph_of(&integration.typed)?;
        let refused = us.broker.get_token(&request).await.map_err(|error| error.kind());
        check(refused.err() == Some(ErrorKind::Policy), "a draft gets no token")?;
    }
    say!(
        "   All three are drafts: the broker asks for no token there. Requests sent: {}.",
        entra.journal().len()
    );
    check(entra.journal().is_empty(), "nobody is asked for a draft")?;

    say!("\n2. We validate: one has consented before, one has not, and one mistyped the id");
    for (at, expected) in
        [TenantStanding::Trusted, TenantStanding::ConsentMissing, TenantStanding::TenantUnknown]
            .iter()
            .enumerate()
    {
        let checked = us.validate(&mut all, at).await?;
        tell(all[at].customer, &checked)?;
        check(checked.standing() == *expected, "the customer is told what is the matter")?;
    }
    check(all[0].state == State::Created(sample::OTHER_TENANT.parse()?), "it is kept by its id")?;
    all.push(Integration::draft("Mallory", sample::OTHER_TENANT)?);
    let Err(refused) = us.validate(&mut all, 3).await else { return Err("a tenant was given twice".into()) };
    say!("   Mallory types in Fabrikam's tenant, which does let us in. Refused: {refused}.");
    all.pop();

    say!("\n3. Tailspin's administrator follows the link, signs in and accepts");
    let (link, pending) = us.invite(&all[1])?;
    let callback = customer::consents(&link, sample::CUSTOMER_ADMIN).await?;
    say!("   The browser comes back and claims tenant {}.", pending.complete(&callback)?.claimed_tenant());
    let checked = us.validate(&mut all, 1).await?;
    let principal = checked.object_id().unwrap_or("unknown");
    say!("   A token proves it: {checked}. Our service principal there is {principal}.");
    check(all[1].state != State::Draft, "consent makes a draft a created integration")?;

    say!("   What else a browser may bring is not believed:");
    let (link, pending) = us.invite(&all[1])?;
    let (_, other) = us.invite(&all[1])?;
    let genuine = customer::consents(&link, sample::CUSTOMER_ADMIN).await?;
    let changed = genuine.replace(sample::CUSTOMER_WITHOUT_CONSENT, sample::OTHER_TENANT);
    for (what, completed) in [
        ("an answer with another tenant", pending.complete(&changed)),
        ("an answer to another link", other.complete(&genuine)),
    ] {
        let Err(error) = completed else { return Err(format!("{what} was believed").into()) };
        say!("      {what}: {error}");
    }

    say!("\n4. Northwind corrects its id and consents, and disables our application");
    all[2].typed = NORTHWIND.parse()?;
    let (link, pending) = us.invite(&all[2])?;
    pending.complete(&customer::consents(&link, "admin@northwind.test").await?)?;
    directory.set_service_principal_enabled(NORTHWIND, sample::SECRET_APP, false);
    let checked = us.validate(&mut all, 2).await?;
    tell("Northwind", &checked)?;
    check(checked.standing() == TenantStanding::AppDisabled, "a disabled application is told apart")?;
    say!("   It enables the application. A conditional access policy is still in the way:");
    directory.set_service_principal_enabled(NORTHWIND, sample::SECRET_APP, true);
    directory.add_policy(Policy::new(NORTHWIND, Requirement::Blocked).client(sample::SECRET_APP));
    let checked = us.validate(&mut all, 2).await?;
    tell("Northwind", &checked)?;
    check(checked.standing() == TenantStanding::BlockedByPolicy, "a policy is told apart")?;
    check(all[2].state == State::Draft, "what is not validated stays a draft")?;
    say!("   It exempts the application from the policy:");
    directory.clear_policies(NORTHWIND);
    tell("Northwind", &us.validate(&mut all, 2).await?)?;

    say!("\n5. Our own secret has expired: nothing that a customer could mend");
    let forgetful = Broker::new(app(sample::EXPIRED_SECRET)?.authority(authority.clone()))?;
    let checked = forgetful.check_tenant(all[0].tenant(), GRAPH).await?;
    tell("Fabrikam", &checked)?;
    check(checked.standing() == TenantStanding::OwnCredentialBad && !checked.is_customers(), "it is ours")?;

    say!("\n6. Tokens of three tenants side by side, from one broker");
    let tenants: Vec<_> = all.iter().filter_map(|integration| integration.state.tenant()).collect();
    let issuer = TrustedIssuer::tenants(&authority, tenants.iter().copied())?;
    let reader = TokenValidator::new(issuer, [GRAPH])?;
    let asked = tokens(&entra);
    let requests = tenants.iter().map(|tenant| graph_of(tenant)).collect::<Result<Vec<_>, _>>()?;
    let [a, b, c] = requests.as_slice() else { return Err("a customer is missing".into()) };
    let (a, b, c) = tokio::try_join!(us.broker.get_token(a), us.broker.get_token(b), us.broker.get_token(c))?;
    for (integration, token) in all.iter().zip([a, b, c]) {
        let token = reader.validate(token.secret()).await?;
        let of = token.tenant().unwrap_or("none");
        say!("   {:<9}  a token of tenant {of}", integration.customer);
        check(integration.state == State::Created(of.parse()?), "each token is its customer's")?;
    }
    for request in &requests {
        us.broker.get_token(request).await?;
    }
    say!(
        "   Each was asked for once more, and came from the cache. Tokens fetched: {}.",
        tokens(&entra) - asked
    );
    check(tokens(&entra) - asked == 3, "one request for each tenant")?;

    say!("\n7. Fabrikam leaves");
    let request = graph_of(&sample::OTHER_TENANT.parse()?)?;
    us.leaves(&mut all[0]);
    let Err(error) = us.broker.get_token(&request).await else { return Err("it still gets a token".into()) };
    say!("   {error}. Its token is no longer kept; the others are.");
    check(us.broker.metrics().entries == 2, "the others are still there")?;
    say!("\nAll of this was checked while it was told.");
    Ok(())
}

fn graph_of(tenant: &TenantId) -> Result<TokenRequest, Error> {
    Ok(TokenRequest::new(format!("{GRAPH}/.default"))?.tenant(tenant.clone()))
}

/// How many tokens were asked for.
fn tokens(entra: &Emulator) -> usize {
    entra.journal().count(|entry| entry.grant_type.is_some())
}

fn check(holds: bool, claim: &str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(format!("this should hold and does not: {claim}").into()) }
}
