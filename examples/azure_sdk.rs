//! A Key Vault client of the Azure SDK over a broker, offline: Entra and the vault are stand-ins on this machine, the client is real.
//!
//! ```text
//! cargo run --features azure-core,emulator --example azure_sdk
//! ```
//!
//! The vault looks at each token as Azure's does: signature, audience and expiry. What is told is checked as it is told.

use std::{
    error::Error,
    io::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use azure_core::http::ClientMethodOptions;
use azure_security_keyvault_secrets::{SecretClient, models::SecretClientGetSecretOptions};
use entra_broker::{
    Authority, AzureOptions, Broker, CallOptions, ClientSecret, Clock, TenantId,
    emulator::{Emulator, sample},
};
use vault::Vault;

#[path = "../tests/azure_core/vault.rs"]
mod vault;

type Failure = Box<dyn Error>;

/// `println!`, but a reader who leaves early, as `head` does, is an error and no panic.
macro_rules! say {
    ($($text:tt)*) => { writeln!(io::stdout(), $($text)*)? };
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let (clock, time) = Clock::manual(Clock::system().now().wall());
    let (now, sleep) = (clock.clone(), clock.clone());
    let entra = Emulator::builder()
        .time(move || now.now().wall(), move |duration| Box::pin(sleep.sleep(duration)))
        .start()
        .await?;
    let vault = Vault::start(&entra, &clock).await?;

    let customer: TenantId = sample::OTHER_TENANT.parse()?;
    let authority = Authority::dangerous().allow_plain_http(entra.authority())?;
    let credential =
        ClientSecret::new(sample::TENANT, sample::SECRET_APP, sample::SECRET)?.authority(authority);
    let broker = Broker::builder().clock(clock).allow_tenants([customer.clone()]).build(credential)?;

    say!("1. One line puts the broker under a client");
    // With Azure: SecretClient::new("https://contoso.vault.azure.net", Arc::new(broker.clone()), None)?
    let client = vault.client(Arc::new(broker.clone()))?;
    for name in ["database", "queue", "mail"] {
        say!("   {name}: {}", read(&client, name, None).await?);
    }
    let visits = vault.visits();
    let [first, ..] = visits.as_slice() else { return Err("nobody came to the vault".into()) };
    say!("   {} requests came with a token for {}", visits.len(), first.token["aud"]);
    say!("   of tenant {}; {} was asked for.", first.token["tid"], tokens(&entra));
    check(visits.iter().all(|visit| visit.refused.is_none()), "the vault believed each token")?;
    check(tokens(&entra) == 1, "one token was enough")?;

    say!("\n2. The vault refuses the token: a session was revoked");
    vault.revoke();
    time.advance(Duration::from_secs(2));
    let Err(refused) = read(&client, "database", None).await else { return Err("it was let in".into()) };
    say!("   status {}", refused.http_status().map_or(0, u16::from));
    let forced = AzureOptions::new().call(CallOptions::new().force_refresh());
    say!("   forced: {}", read(&client, "database", Some(forced)).await?);
    check(tokens(&entra) == 2, "a second token was asked for")?;
    vault.visits();

    say!("\n3. A customer's tenant, with a client of its own over the same broker");
    let theirs = vault.client(broker.azure_credential(AzureOptions::new().tenant(customer)))?;
    say!("   database: {}", read(&theirs, "database", None).await?);
    let visits = vault.visits();
    let tenant = visits.first().map(|visit| visit.token["tid"].to_string()).unwrap_or_default();
    say!("   with a token of tenant {tenant}");
    check(tenant.contains(sample::OTHER_TENANT), "the token is the customer's")?;
    say!("\nAll of this was checked while it was told.");
    Ok(())
}

async fn read(
    client: &SecretClient,
    name: &str,
    options: Option<AzureOptions>,
) -> azure_core::Result<String> {
    let mut method_options = ClientMethodOptions::default();
    if let Some(options) = options {
        method_options.context.insert(options);
    }
    let options = SecretClientGetSecretOptions { method_options, ..SecretClientGetSecretOptions::default() };
    let secret = client.get_secret(name, Some(options)).await?.into_model()?;
    Ok(secret.value.unwrap_or_default())
}

/// How many tokens were asked for; the vault's requests for keys are not among them.
fn tokens(entra: &Emulator) -> usize {
    entra.journal().count(|entry| entry.grant_type.is_some())
}

fn check(holds: bool, claim: &str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(format!("this does not hold: {claim}").into()) }
}
