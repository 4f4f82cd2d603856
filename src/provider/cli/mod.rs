//! A developer's own sign-in: tokens from the Azure CLI and the Azure Developer CLI.

mod child;
mod find;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use jiff::tz::TimeZone;
use tokio::{
    process::Command,
    sync::{Semaphore, SemaphorePermit},
};

use self::child::{Ended, Failed};
use super::{FetchContext, Provider};
use crate::{
    BoxFuture, Env, Error, Fetched, Grant, Identity, TenantId, TokenRequest,
    error::{Blame, ErrorKind},
    sync::{Arc, select},
    text::Quoted,
    wire::cli::{AskedCli, Cli, explain_failure, parse_output},
};

/// Whoever is signed in to the Azure CLI, by `az account get-access-token`: for a developer's machine.
///
/// The tokens are a person's, with all that this person may do, though they are asked for as app tokens are, by
/// `<resource>/.default`. So do not use it where a service runs. Each fetch starts `az`, which takes a second or more; the
/// broker's cache makes that rare. The program is looked for on the `PATH`, never in the current directory, and is ended,
/// with what it started, at the fetch's deadline. (On other systems than Linux what it started may stay.)
///
/// ```
/// use entra_broker::{AzureCli, Broker};
///
/// # fn main() -> Result<(), entra_broker::Error> {
/// let broker = Broker::new(AzureCli::new().tenant("contoso.com")?)?;
/// # drop(broker); Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct AzureCli {
    tool: Tool,
    subscription: Option<Arc<str>>,
}

/// Whoever is signed in to the Azure Developer CLI, by `azd auth token`: for a developer's machine.
///
/// As [`AzureCli`] is, in all but the program.
///
/// ```
/// use entra_broker::{AzureDeveloperCli, Broker};
///
/// # fn main() -> Result<(), entra_broker::Error> {
/// let broker = Broker::new(AzureDeveloperCli::new())?;
/// # drop(broker); Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct AzureDeveloperCli {
    tool: Tool,
}

impl AzureCli {
    /// In the environment of the process: its `PATH`, and all else is passed on to the program.
    pub fn new() -> Self {
        Self::from_env(&Env::process())
    }

    /// In this environment. Nothing else is passed on to the program.
    pub fn from_env(env: &Env) -> Self {
        Self { tool: Tool::new(Cli::Azure, env), subscription: None }
    }

    /// The tenant to ask in. Default: that of the subscription which is chosen in the CLI.
    ///
    /// # Errors
    ///
    /// `Config` where it is none, or stands for any.
    pub fn tenant(mut self, tenant: &str) -> Result<Self, Error> {
        self.tool.tenant = Some(one_tenant(TenantId::parse(tenant)?)?);
        Ok(self)
    }

    /// The subscription, by name or id, whose account and tenant are asked: for who is signed in with several. Not
    /// together with a tenant, whether of [`tenant`](Self::tenant) or of a request.
    ///
    /// # Errors
    ///
    /// `Config` where it is empty, begins with a dash, or has control characters.
    pub fn subscription(mut self, subscription: &str) -> Result<Self, Error> {
        let name = subscription.trim();
        if name.is_empty() || name.len() > 256 || name.starts_with('-') || name.chars().any(char::is_control)
        {
            return Err(Error::config("subscription: expected the name or the id of a subscription")
                .with_advice("`az account list --output table` shows them."));
        }
        self.subscription = Some(name.into());
        Ok(self)
    }

    /// The program itself, where it is not on the `PATH`.
    ///
    /// # Errors
    ///
    /// `Config` where the path is not absolute.
    pub fn program(mut self, path: impl Into<PathBuf>) -> Result<Self, Error> {
        self.tool.program = Some(absolute(path.into())?);
        Ok(self)
    }

    fn arguments(&self, asked: &AskedCli<'_>) -> Result<Vec<OsString>, Error> {
        let mut arguments =
            words(["account", "get-access-token", "--output", "json", "--resource", asked.resource]);
        match (&self.subscription, asked.tenant) {
            (Some(_), Some(_)) => {
                return Err(Error::config("the Azure CLI takes a subscription or a tenant, and not both")
                    .with_advice("A subscription belongs to one tenant: leave out the other of the two."));
            }
            (Some(subscription), None) => arguments.extend(words(["--subscription", subscription])),
            (None, Some(tenant)) => arguments.extend(words(["--tenant", tenant.as_str()])),
            (None, None) => {}
        }
        Ok(arguments)
    }
}

impl AzureDeveloperCli {
    /// In the environment of the process: its `PATH`, and all else is passed on to the program.
    pub fn new() -> Self {
        Self::from_env(&Env::process())
    }

    /// In this environment. Nothing else is passed on to the program.
    pub fn from_env(env: &Env) -> Self {
        Self { tool: Tool::new(Cli::AzureDeveloper, env) }
    }

    /// The tenant to ask in. Default: the home tenant of who is signed in.
    ///
    /// # Errors
    ///
    /// `Config` where it is none, or stands for any.
    pub fn tenant(mut self, tenant: &str) -> Result<Self, Error> {
        self.tool.tenant = Some(one_tenant(TenantId::parse(tenant)?)?);
        Ok(self)
    }

    /// The program itself, where it is not on the `PATH`.
    ///
    /// # Errors
    ///
    /// `Config` where the path is not absolute.
    pub fn program(mut self, path: impl Into<PathBuf>) -> Result<Self, Error> {
        self.tool.program = Some(absolute(path.into())?);
        Ok(self)
    }
}

fn words<const N: usize>(words: [&str; N]) -> Vec<OsString> {
    words.into_iter().map(OsString::from).collect()
}

fn developer_arguments(asked: &AskedCli<'_>) -> Vec<OsString> {
    let scope = format!("{}/.default", asked.resource);
    let mut arguments = words(["auth", "token", "--output", "json", "--no-prompt", "--scope", &scope]);
    if let Some(tenant) = asked.tenant {
        arguments.extend(words(["--tenant-id", tenant.as_str()]));
    }
    arguments
}

fn absolute(path: PathBuf) -> Result<PathBuf, Error> {
    if path.is_absolute() {
        return Ok(path);
    }
    Err(Error::config("program: expected an absolute path").with_advice(
        "What a relative path leads to depends on the directory that the process happens to be in.",
    ))
}

fn one_tenant(tenant: TenantId) -> Result<TenantId, Error> {
    if tenant.is_multi_tenant_alias() {
        return Err(Error::config(format!("tenant: no token can be asked for in `{tenant}`"))
            .with_advice("Name the tenant by its id or by one of its domains."));
    }
    Ok(tenant)
}

/// What both have in common.
#[derive(Debug, Clone)]
struct Tool {
    cli: Cli,
    env: Env,
    program: Option<PathBuf>,
    tenant: Option<TenantId>,
    turns: Arc<Semaphore>,
}

/// So many of the program run at a time: each is a Python that keeps a core busy for a second.
const AT_ONCE: usize = 4;

impl Tool {
    fn new(cli: Cli, env: &Env) -> Self {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        Self { cli, env: env.clone(), program: None, tenant: None, turns }
    }

    /// A turn to run the program, which ends when it is dropped.
    async fn turn(&self, cx: &FetchContext) -> Result<Option<SemaphorePermit<'_>>, Error> {
        select! {
            biased;
            turn = self.turns.acquire() => Ok(turn.ok()),
            () = cx.clock().sleep_until(cx.deadline()) => Err(self.failed(Failed::TooLong)),
        }
    }

    fn identity(&self) -> Identity {
        // Who is signed in, the machine's user decides.
        let identity = Identity::local().never_shared();
        match &self.tenant {
            Some(tenant) => identity.with_tenant(tenant.clone()),
            None => identity,
        }
    }

    async fn ask(
        &self,
        cx: &FetchContext,
        request: &TokenRequest,
        grant: &Grant,
        arguments: impl Fn(&AskedCli<'_>) -> Result<Vec<OsString>, Error>,
    ) -> Result<Fetched, Error> {
        let cli = self.cli;
        grant.app_only(cli.name())?;
        let tenant = match request.requested_tenant() {
            Some(tenant) => Some(one_tenant(tenant.clone())?),
            None => self.tenant.clone(),
        };
        let scopes = request.scopes().for_app()?;
        let resource = plain(scopes.resource().unwrap_or(scopes.as_str()))?;
        let _turn = self.turn(cx).await?;
        let sent = cx.clock().now();
        let asked = AskedCli { cli, tenant: tenant.as_ref(), resource, sent: sent.wall() };
        if request.requested_claims().is_some() || cx.challenge().is_some() {
            return Err(asked.takes_no_claims(cx.challenge()));
        }
        let arguments = arguments(&asked)?;
        let (program, zone) = self.find(cx).await?;
        let command = self.command(&program, arguments);
        let ended = child::run(cx, command).await.map_err(|failed| self.failed(failed))?;
        self.read(&ended, &asked, zone.as_ref(), sent)
    }

    fn read(
        &self,
        ended: &Ended,
        asked: &AskedCli<'_>,
        zone: Option<&TimeZone>,
        sent: crate::Now,
    ) -> Result<Fetched, Error> {
        if ended.code != Some(0) {
            return Err(explain_failure(ended.code, &[&ended.stderr, &ended.stdout], asked));
        }
        let (token, lives) = parse_output(&ended.stdout, asked, zone)?;
        Ok(Fetched::new(token, sent, lives))
    }

    /// The program, and the zone that it tells the time in.
    async fn find(&self, cx: &FetchContext) -> Result<(PathBuf, Option<TimeZone>), Error> {
        let (cli, env, program) = (self.cli, self.env.clone(), self.program.clone());
        cx.blocking(move || {
            let missing =
                |message| Err(Error::new(ErrorKind::NotAvailable, message).with_advice(cli.install()));
            let found = match program {
                Some(program) if find::is_program(&program) => program,
                Some(program) => {
                    let shown = program.to_string_lossy();
                    return missing(format!("{} is not at {}", cli.name(), Quoted(&shown)));
                }
                None => match find::on_path(cli.program(), &env)? {
                    Some(program) => program,
                    None => {
                        return missing(format!(
                            "{} is not installed: there is no `{}` on the PATH",
                            cli.name(),
                            cli.program()
                        ));
                    }
                },
            };
            Ok((found, TimeZone::try_system().ok()))
        })
        .await
    }

    fn command(&self, program: &Path, arguments: Vec<OsString>) -> Command {
        let mut command = Command::new(program);
        command.args(arguments);
        let (process, set) = self.env.layers();
        if !process {
            command.env_clear();
        }
        command.envs(set);
        command.env("AZURE_CORE_NO_COLOR", "true").env("NO_COLOR", "1");
        // Not where the process happens to be: Python looks for modules there.
        if let Some(dir) = program.parent() {
            command.current_dir(dir);
        }
        command
    }

    fn failed(&self, failed: Failed) -> Error {
        let (name, program) = (self.cli.name(), self.cli.program());
        let by_hand = format!("Run `{}` in a terminal and see what it does.", self.cli.command());
        match failed {
            Failed::NotStarted(error) if child::is_for_lack(&error) => Error::new(
                ErrorKind::Unavailable,
                format!("{name} could not be started at the moment"),
            )
            .with_blame(Blame::Configuration)
            .with_advice(
                "The machine is short of memory, processes or open files, or the program is being replaced.",
            )
            .with_source(error),
            Failed::NotStarted(error) => {
                Error::new(ErrorKind::NotAvailable, format!("{name} is there and cannot be started"))
                    .with_advice(format!(
                        "Run `{program} version` in a terminal, and install it anew where it fails."
                    ))
                    .with_source(error)
            }
            Failed::NoRuntime => Error::config(format!("{name} needs a runtime that was built with I/O"))
                .with_blame(Blame::Program)
                .with_advice("Build it with `tokio::runtime::Builder::enable_all`."),
            Failed::TooLong => {
                Error::new(ErrorKind::Timeout, format!("{name} did not end in time, and was killed"))
                    .with_blame(Blame::Configuration)
                    .with_advice(by_hand)
            }
            Failed::TooMuch => {
                Error::new(ErrorKind::Protocol, format!("{name} printed more than 1 MiB, and was killed"))
                    .with_blame(Blame::Configuration)
                    .with_advice(by_hand)
            }
            Failed::Broken(error) => {
                Error::new(ErrorKind::Unavailable, format!("the output of {name} could not be read"))
                    .with_blame(Blame::Configuration)
                    .with_advice(by_hand)
                    .with_source(error)
            }
        }
    }
}

/// A resource that no program takes for an option, and no `.cmd` file for something to run.
fn plain(resource: &str) -> Result<&str, Error> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:/".contains(&byte);
    if resource.bytes().all(fits) && !resource.starts_with('-') {
        return Ok(resource);
    }
    Err(Error::config(format!(
        "scope: a command line takes resources of letters, digits, `-`, `.`, `_`, `:` and `/`; got {}",
        Quoted(resource)
    ))
    .with_advice("Write the resource's URI or id, such as https://vault.azure.net/.default."))
}

macro_rules! provider {
    ($provider:ident, $name:literal, $arguments:expr) => {
        impl Provider for $provider {
            fn name(&self) -> &'static str {
                $name
            }

            fn identity(&self) -> Identity {
                self.tool.identity()
            }

            fn fetch<'a>(
                &'a self,
                cx: &'a FetchContext,
                request: &'a TokenRequest,
                grant: Grant,
            ) -> BoxFuture<'a, Result<Fetched, Error>> {
                Box::pin(
                    async move { self.tool.ask(cx, request, &grant, |asked| $arguments(self, asked)).await },
                )
            }
        }

        impl Default for $provider {
            fn default() -> Self {
                Self::new()
            }
        }
    };
}

provider!(AzureCli, "azure-cli", AzureCli::arguments);
provider!(AzureDeveloperCli, "azure-developer-cli", |_: &AzureDeveloperCli, asked: &AskedCli<'_>| Ok(
    developer_arguments(asked)
));
