//! Gets a token as the environment says, and prints what is known of it as a line of JSON.
//!
//! ```text
//! cargo run --example get_token -- --scope https://vault.azure.net/.default
//! ```
//!
//! With `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and a secret, a certificate or a workload's token file, the application proves
//! itself by that; without them, the managed identity of the machine is asked. `--provider` names any other. See `--help`
//! for the rest.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use entra_broker::{
    AccessToken, Audit, AuditCalls, AzurePipelines, Broker, ClientAssertion, ClientAuth, Env, Environment,
    Error, ErrorKind, FederatedManagedIdentity, GitHubActions, JsonLines, ManagedIdentity, ManagedIdentityId,
    Provider, Secret, TenantId, TokenRequest,
};
#[cfg(feature = "cli")]
use entra_broker::{AzureCli, AzureDeveloperCli};
use lexopt::{Arg, Parser, ValueExt as _};
use serde::Serialize;

const USAGE: &str = "\
usage: get_token --scope SCOPE [OPTION...]

  --scope SCOPE            what to ask for, such as https://vault.azure.net/.default;
                           several are separated by spaces, or given one by one
  --provider NAME          one of the following; by default the environment decides
      client-secret, client-certificate, workload-identity, environment
                           an application, by the variables below
      client-assertion     an application, by the assertion on stdin
      federated-managed-identity
                           an application, by the token of a user-assigned identity,
                           which --identity names
      azure-pipelines, github-actions
                           an application, by the pipeline's own variables
      managed-identity     of the machine
      azure-cli, azure-developer-cli
                           whoever is signed in there (build with --features cli)
      default-chain        the first that is available here, as Microsoft's clients look;
                           AZURE_TOKEN_CREDENTIALS says among which
  --identity CLIENT_ID     the user-assigned identity
  --rs256                  sign a certificate's assertion by RS256 and SHA-1, for old setups
  --prefix PREFIX          read PREFIX_TENANT_ID and so on instead of AZURE_TENANT_ID
  --audit FILE             append an audit trail to it
  --tenant TENANT          ask in this tenant instead of the application's own, which it
                           stands in for where AZURE_TENANT_ID is not set
  --ca FILE                trust these certificates too (PEM)
  --timeout SECONDS        how long to wait for a token
  --repeat N               ask N times: the first token is fetched, the others are cached
  --show-token             print the token itself, which is a secret
  --dangerous-plain-http   take an http:// authority on this machine, for an emulator
  --help                   print this

environment:
  AZURE_TENANT_ID, AZURE_CLIENT_ID
                           the application; AZURE_CLIENT_ID alone names a
                           user-assigned managed identity
  AZURE_CLIENT_SECRET or AZURE_CLIENT_SECRET_FILE
                           its secret
  AZURE_CLIENT_CERTIFICATE_PATH, AZURE_CLIENT_CERTIFICATE_PASSWORD
                           its certificate and key, PEM or PKCS#12 (build with
                           --features certificate)
  AZURE_FEDERATED_TOKEN_FILE
                           a workload's token
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
    if let Some(path) = &options.audit {
        builder = builder.audit(Audit::builder(JsonLines::append(path)?).calls(AuditCalls::All).build());
    }
    let environment = environment(options, env);
    let chain = match options.provider.as_deref() {
        Some("default-chain") => Some(Arc::new(environment.default_chain()?)),
        _ => None,
    };
    let provider = match &chain {
        Some(chain) => boxed(Arc::clone(chain)),
        None => provider(options, &environment, env)?,
    };
    let kind = provider.name();
    let broker = builder.build(provider)?;
    let tenant = request.requested_tenant().or(broker.identity().tenant()).map(TenantId::as_str);

    let mut previous: Option<AccessToken> = None;
    for _ in 0..options.repeat {
        let token = broker.get_token(&request).await?;
        let cached = previous.as_ref().is_some_and(|previous| previous.is_same(&token));
        let line = TokenLine {
            // Of a chain, the one that gave it.
            provider: chain.as_ref().and_then(|chain| chain.chosen()).unwrap_or(kind),
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
    broker.close().await;
    Ok(ExitCode::SUCCESS)
}

/// The variables, with what the command line says of them.
fn environment(options: &Options, env: &Env) -> Environment {
    let mut environment = Environment::new(env);
    if let Some(prefix) = &options.prefix {
        environment = environment.prefix(prefix);
    }
    if let Some(tenant) = &options.tenant {
        environment = environment.tenant_or(tenant);
    }
    if options.plain_http {
        environment = environment.dangerous().allow_plain_http();
    }
    environment
}

/// What to ask: what the user names, else whatever the environment holds something of.
fn provider(options: &Options, environment: &Environment, env: &Env) -> Result<Box<dyn Provider>, Error> {
    Ok(match options.provider.as_deref() {
        None => match environment.client() {
            Ok(client) => boxed(client),
            Err(error) if error.kind() == ErrorKind::NotAvailable => boxed(environment.managed_identity()?),
            Err(error) => return Err(error),
        },
        Some("environment") => boxed(environment.client()?),
        Some("client-secret") => boxed(environment.client_secret()?),
        Some("client-certificate") => client_certificate(environment, options)?,
        Some("workload-identity") => boxed(environment.workload_identity()?),
        Some("client-assertion") => boxed(environment.client_with(assertion_on_stdin())?),
        Some("federated-managed-identity") => boxed(
            environment
                .client_with(ClientAuth::source(FederatedManagedIdentity::new(identity(options, env)?)?))?,
        ),
        Some("azure-pipelines") => boxed(AzurePipelines::from_env(env)?.authority(environment.authority()?)),
        Some("github-actions") => {
            boxed(environment.client_with(ClientAuth::source(GitHubActions::new(env)?))?)
        }
        Some("managed-identity") if options.identity.is_some() => boxed(identity(options, env)?),
        Some("managed-identity") => boxed(environment.managed_identity()?),
        #[cfg(feature = "cli")]
        Some("azure-cli") => boxed(AzureCli::from_env(env)),
        #[cfg(feature = "cli")]
        Some("azure-developer-cli") => boxed(AzureDeveloperCli::from_env(env)),
        Some(name) => {
            return Err(Error::new(ErrorKind::Config, format!("--provider {name}: not compiled in"))
                .with_advice("Build with --features cli."));
        }
    })
}

fn boxed(provider: impl Provider) -> Box<dyn Provider> {
    Box::new(provider)
}

#[cfg(feature = "certificate")]
fn client_certificate(environment: &Environment, options: &Options) -> Result<Box<dyn Provider>, Error> {
    let certificate = environment.certificate()?;
    let certificate = if options.rs256 { certificate.rs256() } else { certificate };
    Ok(boxed(environment.client_with(ClientAuth::source(certificate))?))
}

#[cfg(not(feature = "certificate"))]
fn client_certificate(environment: &Environment, _: &Options) -> Result<Box<dyn Provider>, Error> {
    Ok(boxed(environment.client_certificate()?))
}

/// The user-assigned one.
fn identity(options: &Options, env: &Env) -> Result<ManagedIdentity, Error> {
    let id = options.identity.as_deref().ok_or_else(|| {
        Error::new(ErrorKind::Config, "--identity: a user-assigned identity's client id is needed")
    })?;
    ManagedIdentity::from_env(ManagedIdentityId::client_id(id)?, env)
}

/// As a program would be given one by whatever it trusts: here, once, by a pipe.
fn assertion_on_stdin() -> ClientAuth {
    let read: OnceLock<Result<Secret, Error>> = OnceLock::new();
    let read = Arc::new(read);
    ClientAuth::source(ClientAssertion::new(move |cx, _| {
        let read = Arc::clone(&read);
        Box::pin(async move { cx.blocking(move || read.get_or_init(stdin).clone()).await })
    }))
}

fn stdin() -> Result<Secret, Error> {
    let mut text = String::new();
    // A client assertion has a few KiB.
    match io::stdin().take(64 * 1024).read_to_string(&mut text) {
        Ok(_) => Ok(Secret::from(text.trim())),
        Err(error) => Err(Error::new(ErrorKind::Config, "stdin: expected an assertion").with_source(error)),
    }
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

struct Options {
    scopes: String,
    provider: Option<String>,
    identity: Option<String>,
    prefix: Option<String>,
    audit: Option<PathBuf>,
    rs256: bool,
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
            identity: None,
            prefix: None,
            audit: None,
            rs256: false,
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
                Arg::Long("identity") => options.identity = Some(args.value()?.string()?),
                Arg::Long("prefix") => options.prefix = Some(args.value()?.string()?),
                Arg::Long("audit") => options.audit = Some(args.value()?.into()),
                Arg::Long("rs256") => options.rs256 = true,
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

const PROVIDERS: &[&str] = &[
    "client-secret",
    "client-certificate",
    "workload-identity",
    "environment",
    "client-assertion",
    "federated-managed-identity",
    "azure-pipelines",
    "github-actions",
    "managed-identity",
    "azure-cli",
    "azure-developer-cli",
    "default-chain",
];

fn provider_name(text: &str) -> Result<String, String> {
    match PROVIDERS.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(format!("expected one of {}", PROVIDERS.join(", "))),
    }
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.filter(|seconds| !seconds.is_zero()).ok_or("expected a number of seconds above 0")
}

fn count(text: &str) -> Result<u64, &'static str> {
    text.parse().ok().filter(|count| *count > 0).ok_or("expected a number of at least 1")
}
