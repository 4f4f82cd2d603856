//! Tokens that others send, checked: who made them, for whom, when, and with which key.

mod issuer;
mod jws;
mod keys;
mod source;
mod valid;

use std::{borrow::Cow, fmt, time::Duration};

pub use issuer::TrustedIssuer;
pub use valid::ValidToken;

use crate::{
    Blame, Clock, Env, Error, ErrorKind, HttpTransport, Transport,
    sync::Arc,
    text::{Quoted, guid},
};
use issuer::Fit;
use jws::{Claims, Jws};
use source::Source;

/// How far the clocks of this machine and of the issuer may be apart: what Microsoft's own libraries take.
const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// A validation waits for keys once a day, and then less than a second. Whoever called has a request of its own to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Checks access tokens where they are received: in an API that applications and users call.
///
/// It knows its issuers, reads their keys and keeps them. Clones share all of that. It needs no broker.
///
/// ```
/// use entra_broker::{Authority, TokenValidator, TrustedIssuer};
///
/// # async fn serve(token: &str) -> Result<(), entra_broker::Error> {
/// let issuer = TrustedIssuer::tenant(&Authority::public(), "72f988bf-86f1-41af-91ab-2d7cd011db47")?;
/// let validator = TokenValidator::new(issuer, ["api://orders", "00001111-aaaa-2222-bbbb-3333cccc4444"])?;
///
/// let caller = validator.validate(token).await?;
/// caller.require_role("Orders.Read.All")?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct TokenValidator(Arc<Inner>);

struct Inner {
    issuers: Vec<(TrustedIssuer, Arc<Source>)>,
    audiences: Vec<Box<str>>,
    skew: Duration,
    timeout: Duration,
    clock: Clock,
}

/// Sets up a [`TokenValidator`].
#[must_use = "a validator is made by build"]
pub struct ValidatorBuilder {
    issuers: Vec<TrustedIssuer>,
    audiences: Vec<Box<str>>,
    skew: Duration,
    timeout: Duration,
    clock: Clock,
    env: Env,
    transport: Option<Arc<dyn Transport>>,
}

impl TokenValidator {
    /// A validator for tokens of `issuer` that are for one of `audiences`.
    ///
    /// # Errors
    /// As [`ValidatorBuilder::build`].
    pub fn new(
        issuer: TrustedIssuer,
        audiences: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Self, Error> {
        Self::builder().issuer(issuer).audiences(audiences).build()
    }

    /// A validator to be set up.
    pub fn builder() -> ValidatorBuilder {
        ValidatorBuilder {
            issuers: Vec::new(),
            audiences: Vec::new(),
            skew: CLOCK_SKEW,
            timeout: TIMEOUT,
            clock: Clock::system(),
            env: Env::process(),
            transport: None,
        }
    }

    /// Checks a token, which stands without `Bearer ` before it. Keys are read at the first token, again after a day, and
    /// where a token names a key that is not there: after that not for five minutes. All of this one request at a time, however
    /// many tokens wait.
    ///
    /// # Errors
    /// `TokenRefused`, with the check that failed, where the token is not to be taken: to be answered with 401. Any other kind
    /// says that it could not be found out: the keys were not to be had, or not within 10 s unless the
    /// [builder](ValidatorBuilder::timeout) says otherwise. That is not whoever called's fault: to be answered with 503.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing. Keys that are being read are read on.
    pub async fn validate(&self, token: &str) -> Result<ValidToken, Error> {
        self.validate_within(token, self.0.timeout).await
    }

    /// As [`validate`](Self::validate), waiting for keys no longer than `timeout`.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    ///
    /// # Cancel safety
    /// As [`validate`](Self::validate).
    pub async fn validate_within(&self, token: &str, timeout: Duration) -> Result<ValidToken, Error> {
        let inner = &*self.0;
        let jws = Jws::read(token).map_err(refused)?;
        let (issuer, source) = inner.issuer(&jws.claims)?;
        let named = jws.header.algorithm.as_deref().unwrap_or_default();
        let Some(algorithm) = keys::algorithm(named) else {
            return Err(refused(format!(
                "it is signed by {}, expected RS256 or another public key's",
                Quoted(named)
            )));
        };
        let Some(id) = jws.header.key.as_deref() else {
            return Err(refused("its header names no key"));
        };
        let key = source.key(id, inner.clock.now().after(timeout)).await?;
        if !key.takes(algorithm) {
            return Err(refused(format!("its key {} is not for {named}", Quoted(id))));
        }
        if !key.verifies(algorithm, jws.signed, &jws.signature) {
            return Err(refused(format!("its signature is not that of key {}", Quoted(id))));
        }
        let tenant = jws.claims.tenant.as_deref();
        if let Some(owner) = &key.issuer
            && !issuer.lets_sign(owner, tenant)
        {
            return Err(refused(format!(
                "its key {} is that of another issuer, {}",
                Quoted(id),
                Quoted(owner)
            )));
        }
        inner.check_time(&jws.claims)?;
        let audience = inner.audience(&jws.claims)?;
        if issuer.is_entra() && jws.claims.azp.is_none() && jws.claims.appid.is_none() {
            // An id token has the audience of its application, too.
            return Err(refused("it names no client by azp or appid, so it is no access token"));
        }
        Ok(ValidToken { claims: jws.claims, payload: jws.payload, audience })
    }
}

impl Inner {
    fn issuer(&self, claims: &Claims) -> Result<&(TrustedIssuer, Arc<Source>), Error> {
        let (name, tenant) = (claims.issuer.as_deref().unwrap_or_default(), claims.tenant.as_deref());
        let mut worst = Fit::Unknown;
        for known in &self.issuers {
            match known.0.fits(name, tenant) {
                Fit::Trusted => return Ok(known),
                Fit::Unknown => {}
                other => worst = other,
            }
        }
        let tenant = || tenant.and_then(guid).unwrap_or_else(|| "none".to_owned());
        Err(refused(match worst {
            Fit::Foreign => format!("tenant {} is not one of those that are taken", tenant()),
            Fit::Inconsistent => {
                format!("its issuer is {}, which is not that of its tenant, {}", Quoted(name), tenant())
            }
            _ => {
                let expected: Vec<_> = self.issuers.iter().map(|(issuer, _)| issuer.to_string()).collect();
                format!("its issuer is {}, expected {}", Quoted(name), expected.join(" or "))
            }
        }))
    }

    fn check_time(&self, claims: &Claims) -> Result<(), Error> {
        let now = self.clock.now().wall();
        let Some(expires) = claims.expires else {
            return Err(refused("it does not say when it expires"));
        };
        if let Ok(ago) = now.duration_since(expires)
            && ago >= self.skew
        {
            return Err(refused(format!("it expired {} s ago", ago.as_secs())));
        }
        if let Some(Ok(ahead)) = claims.begins.map(|begins| begins.duration_since(now))
            && ahead > self.skew
        {
            return Err(refused(format!("it is not valid before {} s from now", ahead.as_secs()))
                .with_advice("Compare this machine's clock with another one's."));
        }
        Ok(())
    }

    fn audience(&self, claims: &Claims) -> Result<usize, Error> {
        let found = claims.audiences.iter().position(|audience| self.audiences.contains(audience));
        found.ok_or_else(|| {
            let named = claims.audiences.join(" ");
            refused(format!("its audience is {}, expected {}", Quoted(&named), self.audiences.join(" or ")))
        })
    }
}

impl ValidatorBuilder {
    /// Takes tokens of this issuer. There may be several.
    pub fn issuer(mut self, issuer: TrustedIssuer) -> Self {
        self.issuers.push(issuer);
        self
    }

    /// Takes tokens for these audiences, compared to the letter: the API's client id, which v2 tokens name, and its
    /// URIs, one of which v1 tokens name as whoever asked for them spelled it.
    pub fn audiences(mut self, audiences: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.audiences.extend(audiences.into_iter().map(|audience| audience.into().into_boxed_str()));
        self
    }

    /// How far the clocks may be apart: a token is taken for as long before it begins and after it ended. Default: 5
    /// minutes, as Microsoft's libraries have it.
    pub fn clock_skew(mut self, skew: Duration) -> Self {
        self.skew = skew;
        self
    }

    /// How long [`validate`](TokenValidator::validate) waits for keys. Default: 10 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Takes the time from `clock`. Default: the machine's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Where the proxy's variables are looked up. Default: the environment of the process.
    pub fn env(mut self, env: Env) -> Self {
        self.env = env;
        self
    }

    /// Reads keys through `transport`, which may be a broker's. Default: an [`HttpTransport`] of its own.
    pub fn transport(mut self, transport: impl Transport) -> Self {
        self.transport = Some(Arc::new(transport));
        self
    }

    /// The validator. Nothing is read before the first token.
    ///
    /// # Errors
    /// `Config` where there is no issuer or no audience, an audience is empty, or a proxy's address is malformed.
    pub fn build(self) -> Result<TokenValidator, Error> {
        if self.issuers.is_empty() {
            return Err(Error::config("token validator: expected an issuer"));
        }
        if self.audiences.is_empty() || self.audiences.iter().any(|audience| audience.is_empty()) {
            return Err(Error::config(
                "token validator: expected the audiences of this API, none of them empty",
            )
            .with_advice("A token for another API, passed on by it, would be taken otherwise."));
        }
        let transport = match self.transport {
            Some(transport) => transport,
            None => Arc::new(HttpTransport::builder().env(&self.env)?.build()?),
        };
        let mut issuers: Vec<(TrustedIssuer, Arc<Source>)> = Vec::with_capacity(self.issuers.len());
        for issuer in self.issuers {
            // One set is read once, whoever signs with it.
            let known = issuers.iter().find(|(known, _)| known.keys() == issuer.keys());
            let source = known.map_or_else(
                || Arc::new(Source::new(issuer.keys(), Arc::clone(&transport), self.clock.clone())),
                |(_, source)| Arc::clone(source),
            );
            issuers.push((issuer, source));
        }
        let Self { audiences, skew, timeout, clock, .. } = self;
        Ok(TokenValidator(Arc::new(Inner { issuers, audiences, skew, timeout, clock })))
    }
}

/// Whoever sent the token is to blame.
fn refused(why: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::TokenRefused, format!("the token was refused: {}", why.into()))
        .with_blame(Blame::Caller)
}

fn forbidden(why: String) -> Error {
    Error::new(ErrorKind::Policy, why).with_blame(Blame::Caller)
}

impl fmt::Debug for TokenValidator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let issuers: Vec<_> = self.0.issuers.iter().map(|(issuer, _)| issuer).collect();
        f.debug_struct("TokenValidator")
            .field("issuers", &issuers)
            .field("audiences", &self.0.audiences)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ValidatorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValidatorBuilder")
            .field("issuers", &self.issuers)
            .field("audiences", &self.audiences)
            .finish_non_exhaustive()
    }
}
