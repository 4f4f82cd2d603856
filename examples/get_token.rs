//! Gets a token as the environment says, and prints what is known of it as a line of JSON.
//!
//! ```text
//! cargo run --example get_token -- --scope https://vault.azure.net/.default
//! ```
//!
//! With `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and `AZURE_CLIENT_SECRET` the application's secret is used; without them,
//! the managed identity of the machine. See `--help` for the rest.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use entra_broker::{
    AccessToken, Authority, Broker, ClientSecret, ConfidentialClient, Env, Error, ErrorKind, ManagedIdentity,
    ManagedIdentityId, TenantId, TokenRequest,
};
use lexopt::{Arg, Parser, ValueExt as _};
use serde::Serialize;

const USAGE: &str = "\
usage: get_token --scope SCOPE [OPTION...]

  --scope SCOPE            what to ask for, such as https://vault.azure.net/.default;
                           several are separated by spaces, or given one by one
  --provider NAME          client-secret or managed-identity; by default the environment decides
  --tenant TENANT          ask in this tenant instead of the application's own, which it
                           stands in for where AZURE_TENANT_ID is not set
  --ca FILE                trust these certificates too (PEM)
  --timeout SECONDS        how long to wait for a token
  --repeat N               ask N times: the first token is fetched, the others are cached
  --show-token             print the token itself, which is a secret
  --dangerous-plain-http   take an http:// authority on this machine, for an emulator
  --help                   print this

environment:
  AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET
                           the application and its secret; AZURE_CLIENT_ID alone
                           names a user-assigned managed identity
  AZURE_AUTHORITY_HOST     another cloud than the public one
  IDENTITY_ENDPOINT and other variables of the platform
                           where the managed identity is

Each token is a line of JSON on stdout, a failure is one on stderr.
exit code: 0 for tokens, 1 for a failure, 2 for wrong usage
";

/// Certificates of all authorities of a system come to some 200 KiB.
const LARGEST_CA: u64 = 4 << 20;

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::parse(Parser::from_env()) {
        Ok(Some(options)) => options,
        Ok(None) => return print(USAGE).map_or_else(|error| stdout_failed(&error), |()| ExitCode::SUCCESS),
        Err(error) => {
            complain(&format!("get_token: {error}\n\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    match get_tokens(&options, &Env::process()).await {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("{}\n", report(&error)));
            ExitCode::FAILURE
        }
    }
}

async fn get_tokens(options: &Options, env: &Env) -> Result<ExitCode, Error> {
    let mut request = TokenRequest::new(&options.scopes)?;
    let mut builder = Broker::builder().env(env.clone());
    if let Some(tenant) = &options.tenant {
        let tenant = TenantId::parse(tenant)?;
        builder = builder.allow_tenants([tenant.clone()]);
        request = request.tenant(tenant);
    }
    if let Some(path) = &options.ca {
        builder = builder.root_certificates_pem(read_ca(path)?);
    }
    if let Some(timeout) = options.timeout {
        builder = builder.timeout(timeout);
    }
    let (broker, provider) = match choose(options.provider, env)? {
        ProviderName::ClientSecret => (builder.build(client_secret(env, options)?)?, "client-secret"),
        ProviderName::ManagedIdentity => (builder.build(managed_identity(env)?)?, "managed-identity"),
    };
    let tenant = request.requested_tenant().or(broker.identity().tenant()).map(TenantId::as_str);

    let mut previous: Option<AccessToken> = None;
    for _ in 0..options.repeat {
        let token = broker.get_token(&request).await?;
        let cached = previous.as_ref().is_some_and(|previous| previous.is_same(&token));
        let line = TokenLine {
            provider,
            tenant,
            scopes: request.scopes().iter().collect(),
            expires_on: rfc3339(token.expires_on()),
            refresh_on: rfc3339(token.refresh_on()),
            source: if cached { "cached" } else { "fetched" },
            token: options.show_token.then(|| token.secret()),
        };
        if let Err(error) = print(&format!("{}\n", json(&line))) {
            return Ok(stdout_failed(&error));
        }
        previous = Some(token);
    }
    Ok(ExitCode::SUCCESS)
}

/// What to ask, where the user does not say: whatever the environment holds something of.
fn choose(asked: Option<ProviderName>, env: &Env) -> Result<ProviderName, Error> {
    Ok(match asked {
        Some(name) => name,
        None if env.get("AZURE_CLIENT_SECRET")?.is_some() || env.get("AZURE_TENANT_ID")?.is_some() => {
            ProviderName::ClientSecret
        }
        None => ProviderName::ManagedIdentity,
    })
}

fn client_secret(env: &Env, options: &Options) -> Result<ConfidentialClient, Error> {
    let required = |name: &str| {
        env.get(name)?.ok_or_else(|| {
            Error::new(ErrorKind::Config, format!("environment variable {name}: not set, or blank")).with_advice(
                "A client secret needs AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET. For a managed \
                 identity set neither tenant nor secret, or say --provider managed-identity.",
            )
        })
    };
    let tenant = match &options.tenant {
        Some(tenant) if env.get("AZURE_TENANT_ID")?.is_none() => tenant.clone(),
        _ => required("AZURE_TENANT_ID")?,
    };
    let client_id = required("AZURE_CLIENT_ID")?;
    let client = ClientSecret::new(&tenant, &client_id, required("AZURE_CLIENT_SECRET")?)?;
    Ok(match env.get("AZURE_AUTHORITY_HOST")? {
        None => client,
        Some(host) if options.plain_http && host.starts_with("http://") => {
            client.authority(Authority::dangerous().allow_plain_http(&host)?)
        }
        Some(host) => client.authority(Authority::custom(&host)?),
    })
}

fn managed_identity(env: &Env) -> Result<ManagedIdentity, Error> {
    let id = match env.get("AZURE_CLIENT_ID")? {
        Some(client_id) => ManagedIdentityId::client_id(&client_id)?,
        None => ManagedIdentityId::system(),
    };
    ManagedIdentity::from_env(id, env)
}

fn read_ca(path: &Path) -> Result<Vec<u8>, Error> {
    let mut pem = Vec::new();
    // No more than that: it may be a device that never ends.
    let read = File::open(path).and_then(|file| file.take(LARGEST_CA).read_to_end(&mut pem));
    match read {
        Ok(_) => Ok(pem),
        Err(error) => {
            Err(Error::new(ErrorKind::Config, format!("--ca: {path:?} cannot be read")).with_source(error))
        }
    }
}

/// A line on stdout.
#[derive(Serialize)]
struct TokenLine<'a> {
    provider: &'static str,
    tenant: Option<&'a str>,
    scopes: Vec<&'a str>,
    expires_on: String,
    refresh_on: String,
    source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
}

/// A line on stderr.
#[derive(Serialize)]
struct ErrorLine<'a> {
    error: Failure<'a>,
}

#[derive(Serialize)]
struct Failure<'a> {
    kind: &'static str,
    blame: &'static str,
    message: String,
    advice: Option<&'a str>,
    status: Option<u16>,
    oauth_error: Option<&'a str>,
    aadsts: &'a [u32],
    suberror: Option<&'a str>,
    claims: Option<&'a str>,
    correlation_id: Option<&'a str>,
    trace_id: Option<&'a str>,
    retry_after: Option<u64>,
}

fn report(error: &Error) -> String {
    // An error says one layer; what led to it lies below.
    let mut message = error.to_string();
    let mut below = std::error::Error::source(error);
    while let Some(cause) = below {
        message = format!("{message}: {cause}");
        below = cause.source();
    }
    json(&ErrorLine {
        error: Failure {
            kind: error.kind().name(),
            blame: error.blame().name(),
            message,
            advice: Some(error.advice()).filter(|advice| !advice.is_empty()),
            status: error.status(),
            oauth_error: error.oauth_error(),
            aadsts: error.aadsts(),
            suberror: error.suberror(),
            claims: error.claims(),
            correlation_id: error.correlation_id(),
            trace_id: error.trace_id(),
            retry_after: error.retry_after().map(|after| after.as_secs()),
        },
    })
}

/// Texts and numbers in a struct: nothing of it can fail.
fn json(line: &impl Serialize) -> String {
    serde_json::to_string(line).unwrap_or_default()
}

fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map(|time| format!("{time:.0}")).unwrap_or_default()
}

/// `println!` would panic where nobody reads.
fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Whoever closed the other end, as `head` does, has seen enough.
fn stdout_failed(error: &io::Error) -> ExitCode {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return ExitCode::SUCCESS;
    }
    complain(&format!("get_token: stdout: {error}\n"));
    ExitCode::FAILURE
}

fn complain(text: &str) {
    // Where nobody listens there is nobody left to tell.
    let _ = io::stderr().write_all(text.as_bytes());
}

#[derive(Clone, Copy)]
enum ProviderName {
    ClientSecret,
    ManagedIdentity,
}

struct Options {
    scopes: String,
    provider: Option<ProviderName>,
    tenant: Option<String>,
    ca: Option<PathBuf>,
    timeout: Option<Duration>,
    repeat: u64,
    show_token: bool,
    plain_http: bool,
}

impl Options {
    /// `None` where help is asked for.
    fn parse(mut args: Parser) -> Result<Option<Self>, lexopt::Error> {
        let mut scopes: Vec<String> = Vec::new();
        let mut options = Self {
            scopes: String::new(),
            provider: None,
            tenant: None,
            ca: None,
            timeout: None,
            repeat: 1,
            show_token: false,
            plain_http: false,
        };
        while let Some(arg) = args.next()? {
            match arg {
                Arg::Long("scope") => scopes.push(args.value()?.string()?),
                Arg::Long("provider") => options.provider = Some(args.value()?.parse_with(provider_name)?),
                Arg::Long("tenant") => options.tenant = Some(args.value()?.string()?),
                Arg::Long("ca") => options.ca = Some(args.value()?.into()),
                Arg::Long("timeout") => options.timeout = Some(args.value()?.parse_with(seconds)?),
                Arg::Long("repeat") => options.repeat = args.value()?.parse_with(count)?,
                Arg::Long("show-token") => options.show_token = true,
                Arg::Long("dangerous-plain-http") => options.plain_http = true,
                Arg::Long("help") | Arg::Short('h') => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        if scopes.is_empty() {
            return Err("missing option '--scope'".into());
        }
        options.scopes = scopes.join(" ");
        Ok(Some(options))
    }
}

fn provider_name(text: &str) -> Result<ProviderName, &'static str> {
    match text {
        "client-secret" => Ok(ProviderName::ClientSecret),
        "managed-identity" => Ok(ProviderName::ManagedIdentity),
        _ => Err("expected client-secret or managed-identity"),
    }
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.filter(|seconds| !seconds.is_zero()).ok_or("expected a number of seconds above 0")
}

fn count(text: &str) -> Result<u64, &'static str> {
    text.parse().ok().filter(|count| *count > 0).ok_or("expected a number of at least 1")
}
