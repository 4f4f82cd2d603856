//! How a broker is made.

use std::{fmt, time::Duration};

use super::{
    Audit, Broker, Shell, Spellings, Tenants, audit::Who, next_id, resources::Resources, source::Source,
    tenants::List,
};
use crate::{
    Clock, Error, Identity, Provider,
    env::Env,
    http::{HttpTransport, Transport},
    refresh::{Alone, Engine, Parts},
    sync::Arc,
    tenant::TenantId,
};

/// How long a caller waits that says nothing else: three attempts of 10 s, as much as a client usually gives a
/// request of its own.
const CALLERS_TIMEOUT: Duration = Duration::from_secs(30);

/// At some 2 KiB an entry, 200 MB.
const CAPACITY: usize = 100_000;

/// At 200 ms a fetch, 320 refreshes a second: 700,000 tokens of an hour are kept fresh, and ten thousand that are due at
/// once are done in half a minute, where even a token of five minutes has more than one left when it is due. Each fetch
/// may need a connection of its own, over HTTP/1.1, and 64 are few for a proxy or a NAT gateway.
const BACKGROUND_FETCHES: usize = 64;

/// Everything about a broker that is not the default.
///
/// ```
/// use std::time::Duration;
/// use entra_broker::{Broker, StaticToken};
///
/// # fn main() -> Result<(), entra_broker::Error> {
/// let broker = Broker::builder()
///     .timeout(Duration::from_secs(10))
///     .capacity(1_000_000)
///     .binding("billing-prod")
///     .build(StaticToken::new("eyJ0eXAi")?)?;
/// # drop(broker); Ok(()) }
/// ```
#[must_use = "a builder does nothing until `build`"]
pub struct Builder {
    clock: Clock,
    capacity: usize,
    background_fetches: usize,
    timeout: Duration,
    tenants: List,
    binding: Option<String>,
    transport: Option<Arc<dyn Transport>>,
    roots: Vec<Vec<u8>>,
    env: Env,
    seed: Option<u64>,
    audit: Option<Audit>,
    resources: Option<Vec<String>>,
    name: Option<String>,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            clock: Clock::system(),
            capacity: CAPACITY,
            background_fetches: BACKGROUND_FETCHES,
            timeout: CALLERS_TIMEOUT,
            tenants: List::default(),
            binding: None,
            transport: None,
            roots: Vec::new(),
            env: Env::process(),
            seed: None,
            audit: None,
            resources: None,
            name: None,
        }
    }

    /// How long a caller waits that says nothing else. Default: 30 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many keys are kept at most; past that the dead go first, then the least used. Default: 100,000.
    pub fn capacity(mut self, keys: usize) -> Self {
        self.capacity = keys;
        self
    }

    /// How many fetches may be under way at a time that nobody waits for: refreshes of tokens that are due and still
    /// good. What is due beyond that waits its turn, the earliest first. A caller that needs a token never does.
    /// [`Broker::warm`] fetches as many at a time. Default: 64.
    pub fn background_fetches(mut self, most: usize) -> Self {
        self.background_fetches = most;
        self
    }

    /// Tenants that requests may name besides the provider's own. Default: none. While the broker runs there are
    /// [`Broker::allow_tenant`] and [`Broker::deny_tenant`].
    pub fn allow_tenants(mut self, tenants: impl IntoIterator<Item = TenantId>) -> Self {
        self.tenants.allowed.extend(tenants);
        self
    }

    /// Requests may name any tenant. Where the tenant comes from outside, whoever sends it chooses where your
    /// application asks with its credential.
    pub fn allow_all_tenants(mut self) -> Self {
        self.tenants.all = true;
        self
    }

    /// Requests may name these resources and no others, such as `https://vault.azure.net`: what a binding is good for. An
    /// empty list denies all. Default: any resource.
    pub fn allow_resources(mut self, resources: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.resources.get_or_insert_default().extend(resources.into_iter().map(Into::into));
        self
    }

    /// What this broker is called in the [audit trail](Audit). Default: its [binding](Self::binding), if it has one. It shares
    /// nothing, so that an identity of the machine can have one too.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The name under which tokens may be shared with other processes. Without it they never leave this one.
    pub fn binding(mut self, name: impl Into<String>) -> Self {
        self.binding = Some(name.into());
        self
    }

    /// Trusts these certificates, in PEM, besides those of the system: for a proxy that inspects, or a private CA.
    /// Not for a [`transport`](Self::transport) of your own, which has its own.
    pub fn root_certificates_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.roots.push(pem.into());
        self
    }

    /// Where the proxy's variables are looked up. Default: the environment of the process.
    pub fn env(mut self, env: Env) -> Self {
        self.env = env;
        self
    }

    /// Sends requests through `transport`, which brokers can share. Default: an [`HttpTransport`] of its own.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transport = Some(Arc::new(transport));
        self
    }

    /// Takes the time from `clock`. Default: the machine's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Draws jitter from a generator with this seed, so that a run can be repeated. Default: a random one.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Records who asked for what, when, from where it was answered and with which outcome. Default: nothing is recorded.
    pub fn audit(mut self, audit: Audit) -> Self {
        self.audit = Some(audit);
        self
    }

    /// The broker. Nothing is sent and nothing is spawned before it is first used, so no runtime is needed here.
    ///
    /// # Errors
    ///
    /// `Config` where a certificate, a proxy's address, a resource or the binding is malformed, or the capacity or the number of
    /// background fetches is 0.
    pub fn build(self, provider: impl Provider) -> Result<Broker, Error> {
        if self.capacity == 0 {
            return Err(Error::config("capacity: expected at least one key"));
        }
        if self.background_fetches == 0 {
            return Err(Error::config("background fetches: expected at least one").with_advice(
                "Without any, each token would be fetched only once a caller has to wait for it.",
            ));
        }
        let resources = Resources::read(self.resources)?;
        let identity = bound(provider.identity(), self.binding.as_deref())?;
        let transport = match self.transport {
            Some(transport) => transport,
            None => Arc::new(usual_transport(&self.env, &self.roots)?),
        };
        let budget = provider.budget();
        let tenants = Arc::new(Tenants::new(self.tenants));
        let source = Arc::new(Source {
            tenants: Arc::clone(&tenants),
            who: Who::new(provider.name(), &identity, self.name.as_deref()),
            provider: Box::new(provider),
            home: identity.tenant().cloned(),
            transport,
            clock: self.clock.clone(),
            audit: self.audit.clone(),
        });
        let engine = Engine::new(Parts {
            clock: self.clock.clone(),
            capacity: self.capacity,
            background: self.background_fetches,
            fetch: source.as_fetch(),
            grants: Arc::new(Alone),
            shared: Arc::new(Alone),
            budget,
            seed: self.seed,
        });
        Ok(Broker(Arc::new(Shell {
            id: next_id(),
            clock: self.clock,
            engine,
            identity,
            tenants,
            resources,
            timeout: self.timeout,
            spellings: Spellings::new(),
            calls: self.audit.filter(Audit::wants_hits),
            source,
        })))
    }
}

fn bound(identity: Identity, binding: Option<&str>) -> Result<Identity, Error> {
    match binding {
        None => Ok(identity),
        Some(name) => identity.shared(name),
    }
}

fn usual_transport(env: &Env, roots: &[Vec<u8>]) -> Result<HttpTransport, Error> {
    let mut builder = HttpTransport::builder().env(env)?;
    for pem in roots {
        builder = builder.root_certificates_pem(pem)?;
    }
    builder.build()
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("timeout", &self.timeout)
            .field("capacity", &self.capacity)
            .field("background_fetches", &self.background_fetches)
            .field("tenants", &self.tenants)
            .field("binding", &self.binding)
            .finish_non_exhaustive()
    }
}
