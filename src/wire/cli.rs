//! What the Azure CLI and the Azure Developer CLI print.

use std::time::{Duration, SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::{civil::DateTime, tz::TimeZone};
use serde_json::Value;

use super::{
    json::{self, Members},
    lifetime::{NoLifetime, lifetime},
    oauth_error::described,
};
use crate::{Blame, Claims, Error, ErrorKind, Secret, TenantId, error::ServiceAnswer};

/// The two programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cli {
    Azure,
    AzureDeveloper,
}

impl Cli {
    /// As the subject of a sentence.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Azure => "the Azure CLI",
            Self::AzureDeveloper => "the Azure Developer CLI",
        }
    }

    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Azure => "az",
            Self::AzureDeveloper => "azd",
        }
    }

    /// What is run, without its options.
    pub(crate) fn command(self) -> &'static str {
        match self {
            Self::Azure => "az account get-access-token",
            Self::AzureDeveloper => "azd auth token",
        }
    }

    pub(crate) fn install(self) -> &'static str {
        match self {
            Self::Azure => {
                "Install it (https://aka.ms/azcli) and run `az login`, or use another credential here."
            }
            Self::AzureDeveloper => {
                "Install it (https://aka.ms/azd) and run `azd auth login`, or use another credential here."
            }
        }
    }

    fn login(self, tenant: Option<&TenantId>) -> String {
        let tenant = tenant.map(ToString::to_string);
        match (self, tenant) {
            (Self::Azure, None) => "az login".to_owned(),
            (Self::Azure, Some(tenant)) => format!("az login --tenant {tenant}"),
            (Self::AzureDeveloper, None) => "azd auth login".to_owned(),
            (Self::AzureDeveloper, Some(tenant)) => format!("azd auth login --tenant-id {tenant}"),
        }
    }
}

/// What was asked, and when: for the words of errors, and for what is counted from a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AskedCli<'a> {
    pub(crate) cli: Cli,
    pub(crate) tenant: Option<&'a TenantId>,
    pub(crate) resource: &'a str,
    /// When the program was started.
    pub(crate) sent: SystemTime,
}

/// Reads what a program printed that ended well. `zone` is the one that it tells the time in, if that is known.
pub(crate) fn parse_output(
    stdout: &[u8],
    asked: &AskedCli<'_>,
    zone: Option<&TimeZone>,
) -> Result<(Secret, Duration), Error> {
    let (cli, name) = (asked.cli, asked.cli.name());
    let nonsense = |what: &str| {
        Error::new(ErrorKind::Protocol, format!("{name} printed {what}"))
            .with_blame(Blame::Configuration)
            .with_advice(format!("Run `{}` in a terminal and see what it prints.", cli.command()))
    };
    let mut members = json::object(stdout).ok_or_else(|| nonsense("something that is not JSON"))?;
    let (token, expires) = match cli {
        Cli::Azure => ("accessToken", azure_expiry(&members, zone)),
        Cli::AzureDeveloper => ("token", members.get("expiresOn").cloned()),
    };
    // First, so that it is overwritten when it goes.
    let token = match members.remove(token) {
        Some(Value::String(text)) => Some(Secret::new(text)).filter(|token| !token.is_empty()),
        _ => None,
    };
    let token = token.ok_or_else(|| nonsense("no token"))?;
    if !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(nonsense("a token that no header can carry"));
    }
    let expires = Members::from_iter(expires.map(|at| ("expires_on".to_owned(), at)));
    let lives = lifetime(&expires, asked.sent).map_err(|why| match why {
        NoLifetime::Unknown if cli == Cli::Azure => nonsense("a token of unknown lifetime")
            .with_advice("Update it: `az upgrade`, to 2.54.0 or newer."),
        NoLifetime::Unknown => nonsense("a token of unknown lifetime"),
        NoLifetime::Expired => nonsense("a token that had already expired")
            .with_advice(format!("Look at this machine's clock, and run `{}`.", cli.login(asked.tenant))),
    })?;
    Ok((token, lives))
}

/// `expires_on`, in seconds since 1970; before version 2.54.0 there is only `expiresOn`, a local time without a zone.
fn azure_expiry(members: &Members, zone: Option<&TimeZone>) -> Option<Value> {
    if let Some(at) = members.get("expires_on").filter(|at| !at.is_null()) {
        return Some(at.clone());
    }
    let local: DateTime = json::text(members, "expiresOn").filter(|text| text.len() <= 64)?.parse().ok()?;
    // Where a clock that is set back makes it two points in time, the earlier.
    let at = zone?.to_ambiguous_timestamp(local).earlier().ok()?;
    Some(at.as_second().into())
}

/// Why a program failed, told by what it printed. Nothing of that is shown: it may hold anything.
pub(crate) fn explain_failure(code: Option<i32>, printed: &[&[u8]], asked: &AskedCli<'_>) -> Error {
    let (cli, name) = (asked.cli, asked.cli.name());
    let mut codes = Vec::new();
    printed.iter().for_each(|text| described(text, &mut codes));
    let text: Vec<_> =
        printed.iter().map(|text| String::from_utf8_lossy(text).to_ascii_lowercase()).collect();
    let says = |words: &[&str]| words.iter().any(|word| text.iter().any(|text| text.contains(word)));
    if !codes.is_empty() {
        return refused(codes, asked);
    }
    let login = cli.login(asked.tenant);
    if says(&["re-authentication required", "reauthentication required", "login expired"]) {
        return sign_in_again(asked);
    }
    if says(&["az login", "az account set", "not logged in", "azd auth login", "azd login"]) {
        return Error::new(ErrorKind::NotAvailable, format!("nobody is signed in to {name}"))
            .with_advice(format!("Run `{login}`, or use another credential here."));
    }
    if says(&["tenant shouldn't be specified", "tenant should not be specified"]) {
        return Error::new(
            ErrorKind::Tenant,
            format!("who is signed in to {name} has a token for one tenant only"),
        )
        .with_blame(Blame::Configuration)
        .with_advice("Leave the tenant out: a managed identity's tokens are of its own tenant.");
    }
    if says(&["subscription"]) && says(&["not found", "doesn't exist", "does not exist"]) {
        return Error::config(format!("{name} does not know the subscription"))
            .with_advice("`az account list --output table` shows those of who is signed in.");
    }
    if says(&["unrecognized arguments", "unknown flag", "unknown command", "misspelled or not recognized"]) {
        return Error::config(format!("{name} does not know the command `{}` or its options", cli.command()))
            .with_advice("It is too old, or something else of that name. Update it.");
    }
    let offline = [
        "max retries exceeded",
        "failed to establish a new connection",
        "getaddrinfo",
        "name resolution",
        "no such host",
        "connection refused",
        "connection aborted",
        "connection reset",
        "i/o timeout",
        "read timed out",
        "timed out",
    ];
    if says(&offline) {
        return Error::new(ErrorKind::Unavailable, format!("{name} could not reach Entra"))
            .with_advice("Check the network, and the proxy that the program is told of by HTTPS_PROXY.");
    }
    match code {
        // A shell's way to say that what a script starts is missing, or may not be run.
        Some(126 | 127) => {
            Error::new(ErrorKind::NotAvailable, format!("{name} is there and cannot be started")).with_advice(
                format!("Run `{} version` in a terminal, and install it anew where it fails.", cli.program()),
            )
        }
        code => {
            let how = code.map_or_else(
                || "was ended by a signal".to_owned(),
                |code| format!("failed with code {code}"),
            );
            Error::new(ErrorKind::Unavailable, format!("{name} {how}, for a reason that is not known"))
                .with_blame(Blame::Configuration)
                .with_advice(format!("Run `{}` in a terminal: it says why.", command_by_hand(asked)))
        }
    }
}

fn command_by_hand(asked: &AskedCli<'_>) -> String {
    let AskedCli { cli, tenant, resource, .. } = *asked;
    let tenant = |option| tenant.map(|tenant| format!(" {option} {tenant}")).unwrap_or_default();
    match cli {
        Cli::Azure => format!("{} --resource {resource}{}", cli.command(), tenant("--tenant")),
        Cli::AzureDeveloper => {
            format!("{} --scope {resource}/.default{}", cli.command(), tenant("--tenant-id"))
        }
    }
}

/// Entra said no, and the program passes on its numbers.
fn refused(codes: Vec<u32>, asked: &AskedCli<'_>) -> Error {
    let AskedCli { cli, tenant, resource, .. } = *asked;
    let name = cli.name();
    let of_tenant = tenant.map_or_else(|| "the tenant".to_owned(), |tenant| format!("tenant {tenant}"));
    let has = |known: &[u32]| codes.iter().any(|code| known.contains(code));
    let login = cli.login(tenant);
    let error = if has(&[90033, 90006, 90012, 90055, 50196]) {
        Error::new(ErrorKind::Unavailable, format!("Entra could not serve {name} at the moment"))
            .with_blame(Blame::Service)
            .with_advice("It is on the service's side, and usually passes: try again later.")
    } else if has(&[90002, 900_023, 50059, 50128]) {
        Error::new(ErrorKind::Tenant, format!("{of_tenant}, which {name} asked in, does not exist"))
            .with_blame(Blame::Configuration)
            .with_advice("Check the tenant's id or domain, and the cloud that the program is set to.")
    } else if has(&[50020, 50034, 500_208, 500_213, 700_016, 90072]) {
        Error::new(ErrorKind::Tenant, format!("who is signed in to {name} is not known in {of_tenant}"))
            .with_blame(Blame::Configuration)
            .with_advice(format!(
                "Run `{login}` with an account of that tenant, or have it invited as a guest."
            ))
    } else if has(&[500_011, 50001, 500_014]) {
        Error::new(ErrorKind::Resource, format!("{of_tenant} has no resource {resource}"))
            .with_advice("Check its spelling, and that the tenant is the right one.")
    } else if has(&[65001, 65002, 650_057]) {
        Error::new(ErrorKind::ConsentRequired, format!("{name} may not ask for tokens of {resource} in {of_tenant}"))
            .with_advice(format!(
                "Add its application to the authorized clients under Expose an API of {resource}, or consent: `{login} \
                 --scope {resource}/.default`."
            ))
    } else {
        sign_in_again(asked)
    };
    error.with_answer(ServiceAnswer { aadsts: codes, ..ServiceAnswer::default() })
}

fn sign_in_again(asked: &AskedCli<'_>) -> Error {
    let AskedCli { cli, tenant, resource, .. } = *asked;
    Error::new(ErrorKind::SignInRequired, format!("who is signed in to {} has to sign in again", cli.name()))
        .with_advice(format!("Run `{} --scope {resource}/.default`.", cli.login(tenant)))
}

impl AskedCli<'_> {
    /// Claims cannot be asked for: the program would answer with the token that it has.
    pub(crate) fn takes_no_claims(&self, challenge: Option<&Claims>) -> Error {
        let login = self.cli.login(self.tenant);
        let name = self.cli.name();
        match challenge {
            Some(claims) => {
                let claims = STANDARD.encode(claims.as_str());
                let option = if self.cli == Cli::Azure { "--claims-challenge" } else { "--claims" };
                Error::new(
                    ErrorKind::SignInRequired,
                    format!("who is signed in to {name} has to meet a resource's demand"),
                )
                .with_advice(format!("Run `{login} {option} {claims}`."))
            }
            None => Error::config(format!("claims: {name} cannot be asked for a token with claims"))
                .with_advice("Leave them out of the request, or use another credential."),
        }
    }
}

#[cfg(test)]
#[path = "cli_tests.rs"]
mod tests;
