//! Several providers in a row: the first that is available here gets the tokens.

use std::{fmt, time::Duration};

use super::{FetchContext, Provider};
use crate::{
    BoxFuture, Error, Fetched, Grant, Identity, TokenRequest,
    error::ErrorKind,
    sync::{AtomicUsize, Ordering},
};

/// Tries providers in order, and stays with the first that gives a token.
///
/// Only one that is not available here ([`ErrorKind::NotAvailable`]) is passed over: a program that is not installed, a
/// variable that is not set, a machine without an identity. One that is here and refuses, fails or is misconfigured ends
/// the search with its error, so that a wrong secret never silently becomes somebody else's identity.
///
/// What has given a token is asked first from then on, without the others. Should it become unavailable, the search starts
/// over. The error of a search lists every link, and why it was passed over or failed.
///
/// Its tokens never leave the process: which identity they are of, the machine decides.
///
/// ```
/// use entra_broker::{Broker, Chain, Env, Environment, ManagedIdentity, ManagedIdentityId};
///
/// # fn main() -> Result<(), entra_broker::Error> {
/// let env = Env::process();
/// # let env = Env::empty();
/// let chain = Chain::new()
///     .then("environment", Environment::new(&env).client())?
///     .then("managed-identity", ManagedIdentity::from_env(ManagedIdentityId::system(), &env))?;
/// let broker = Broker::new(chain)?;
/// # drop(broker); Ok(()) }
/// ```
#[derive(Default)]
pub struct Chain {
    links: Vec<Link>,
    /// The place of the link that was found, counted from 1. 0 where none was.
    chosen: AtomicUsize,
}

struct Link {
    name: &'static str,
    /// Or why it was not even made.
    provider: Result<Box<dyn Provider>, Error>,
}

impl Chain {
    /// Without any link.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a link behind the others, under the name that errors and audit records give it. One that could not be made
    /// because it is not available here is kept for its reason, and passed over.
    ///
    /// # Errors
    ///
    /// What `provider` failed with, unless that is `NotAvailable`: a mistake in the configuration is not passed over.
    pub fn then<P: Provider>(
        mut self,
        name: &'static str,
        provider: Result<P, Error>,
    ) -> Result<Self, Error> {
        let provider = match provider {
            Ok(provider) => Ok(Box::new(provider) as Box<dyn Provider>),
            Err(error) if error.kind() == ErrorKind::NotAvailable => Err(error),
            Err(error) => return Err(error),
        };
        self.links.push(Link { name, provider });
        Ok(self)
    }

    /// The name of the link that the next token is asked of first. None before one of them has given a token.
    pub fn chosen(&self) -> Option<&'static str> {
        let place = self.chosen.load(Ordering::Acquire).checked_sub(1)?;
        self.links.get(place).map(|link| link.name)
    }

    async fn search(&self, cx: &FetchContext, request: &TokenRequest) -> Result<Fetched, Error> {
        let chosen = self.chosen.load(Ordering::Acquire).checked_sub(1);
        let mut skipped = Skipped::default();
        if let Some(place) = chosen {
            match self.links[place].fetch(cx, request).await {
                Err(error) if error.kind() == ErrorKind::NotAvailable => {
                    tracing::warn!(link = self.links[place].name, %error, "became unavailable: the chain starts over");
                    // Another fetch may have found the next one meanwhile.
                    let _found =
                        self.chosen.compare_exchange(place + 1, 0, Ordering::AcqRel, Ordering::Acquire);
                    skipped.push(&self.links[place], &error);
                }
                ended => return ended,
            }
        }
        // Alone there is nothing to go on to, so nothing to find out quickly.
        let cx = if self.links.len() > 1 { &cx.for_link() } else { cx };
        for (place, link) in self.links.iter().enumerate().filter(|(place, _)| Some(*place) != chosen) {
            match link.fetch(cx, request).await {
                Ok(fetched) => {
                    // What another fetch has found meanwhile stays: a late end of a search does not change who the tokens are of.
                    let found =
                        self.chosen.compare_exchange(0, place + 1, Ordering::AcqRel, Ordering::Acquire);
                    if found.is_ok() {
                        tracing::info!(link = link.name, "the chain has its provider");
                    }
                    return Ok(fetched);
                }
                Err(error) if error.kind() == ErrorKind::NotAvailable => skipped.push(link, &error),
                Err(error) => return Err(skipped.ended_by(link, &error)),
            }
        }
        Err(skipped.none_left())
    }
}

impl Link {
    async fn fetch(&self, cx: &FetchContext, request: &TokenRequest) -> Result<Fetched, Error> {
        let provider = self.provider.as_ref().map_err(Error::clone)?;
        let mut fetched = provider.fetch(cx, request, Grant::App).await?;
        fetched.provider.get_or_insert(self.name);
        Ok(fetched)
    }
}

/// The links that were passed over, with their reasons.
#[derive(Default)]
struct Skipped(Vec<String>);

impl Skipped {
    fn push(&mut self, link: &Link, error: &Error) {
        self.0.push(format!("{}: {error}", link.name));
    }

    fn ended_by(&self, link: &Link, error: &Error) -> Error {
        let before = match self.0.as_slice() {
            [] => String::new(),
            skipped => format!("; not available were {}", skipped.join("; ")),
        };
        error.reworded(format!("{}, in a chain: {error}{before}", link.name))
    }

    fn none_left(&self) -> Error {
        let reasons = match self.0.as_slice() {
            [] => "it has no links".to_owned(),
            skipped => skipped.join("; "),
        };
        Error::new(ErrorKind::NotAvailable, format!("no provider of the chain is available here: {reasons}"))
            .with_advice(
                "Set up one of them: the variables of an application's credential, a managed identity, or a developer's \
                 sign-in (`az login`, `azd auth login`).",
            )
    }
}

impl Provider for Chain {
    fn name(&self) -> &'static str {
        "chain"
    }

    fn identity(&self) -> Identity {
        Identity::local().never_shared()
    }

    fn fetch<'a>(
        &'a self,
        cx: &'a FetchContext,
        request: &'a TokenRequest,
        grant: Grant,
    ) -> BoxFuture<'a, Result<Fetched, Error>> {
        Box::pin(async move {
            grant.app_only("a chain")?;
            self.search(cx, request).await
        })
    }

    /// As long as the most patient of its links.
    fn budget(&self) -> Duration {
        let budgets = self.links.iter().filter_map(|link| link.provider.as_ref().ok().map(Provider::budget));
        budgets.max().unwrap_or(Duration::from_secs(60))
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let links: Vec<_> = self.links.iter().map(|link| link.name).collect();
        f.debug_struct("Chain").field("links", &links).field("chosen", &self.chosen()).finish()
    }
}
