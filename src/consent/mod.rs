//! An administrator's consent to an application, for everyone in a tenant: the way there, and what comes back.

use std::{fmt, time::Duration};

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    rand::{SecureRandom as _, SystemRandom},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::{
    Authority, Blame, ClientId, Clock, Error, ErrorKind, ScopeSet, Secret, TenantId,
    wire::{callback::Callback, token::Asked},
};

/// How long an administrator has, where nothing else is said: time to read, to ask around, and to sign in.
const LIVES: Duration = Duration::from_secs(3600);

/// 256 bits: nobody guesses it.
const STATE: usize = 32;

/// Asks an administrator of a tenant to consent to an application, for everyone in that tenant.
///
/// ```
/// use entra_broker::{AdminConsent, Authority};
///
/// # fn main() -> Result<(), entra_broker::Error> {
/// let consent = AdminConsent::new(
///     &Authority::public(),
///     "00001111-aaaa-2222-bbbb-3333cccc4444",
///     "72f988bf-86f1-41af-91ab-2d7cd011db47",
///     "https://app.example/consented",
///     "https://graph.microsoft.com/.default",
/// )?;
/// let (url, pending) = consent.begin()?;
/// // Send the administrator's browser to `url`, and keep `pending` for its session. When it comes back:
/// # let called = "https://app.example/consented?admin_consent=True&error=access_denied";
/// match pending.complete(called) {
///     Ok(answer) => println!("now find out whether {} has", answer.claimed_tenant()),
///     Err(error) => println!("{error}. {}", error.advice()),
/// }
/// # drop(url); Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct AdminConsent {
    question: Question,
    redirect_uri: String,
    lives: Duration,
    clock: Clock,
}

#[derive(Debug, Clone)]
struct Question {
    authority: Authority,
    client_id: ClientId,
    tenant: TenantId,
    scopes: ScopeSet,
}

/// A consent that was asked for, and not answered yet.
///
/// It is one administrator's, in one browser: keep it where only that browser's session finds it. It is used up by
/// [`complete`](Self::complete).
pub struct PendingConsent {
    question: Question,
    state: Secret,
    /// Seconds since 1970: it may outlive the process.
    until: u64,
    clock: Clock,
}

/// What came back, where it was no refusal. A browser brought it, so it proves nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsentAnswer {
    tenant: TenantId,
    scopes: Option<ScopeSet>,
}

/// What a [`PendingConsent`] is outside of the process.
#[derive(Serialize, Deserialize)]
struct Opaque {
    authority: String,
    client_id: String,
    tenant: String,
    scopes: String,
    state: String,
    until: u64,
}

impl AdminConsent {
    /// Asks for `scopes`, separated by blanks, in `tenant`: its id, one of its domains, or `organizations` for whichever
    /// the administrator belongs to. `<resource>/.default` stands for all that the registration lists of a resource.
    ///
    /// # Errors
    /// `Config`, with the name of the field: a client id, tenant or scope that is none, `consumers`, who have no
    /// administrator, and a redirect URI that is not https, or http to this machine, or has a fragment.
    pub fn new(
        authority: &Authority,
        client_id: &str,
        tenant: &str,
        redirect_uri: &str,
        scopes: &str,
    ) -> Result<Self, Error> {
        let tenant = match TenantId::parse(tenant)? {
            tenant if tenant.as_str() == "consumers" => {
                return Err(Error::config("tenant: consumers have no administrator"));
            }
            // Entra knows it by this name here.
            tenant if tenant.is_multi_tenant_alias() => TenantId::parse("organizations")?,
            tenant => tenant,
        };
        let question = Question {
            authority: authority.clone(),
            client_id: ClientId::parse(client_id)?,
            tenant,
            scopes: ScopeSet::parse(scopes)?,
        };
        let redirect_uri = check_redirect(redirect_uri)?;
        Ok(Self { question, redirect_uri, lives: LIVES, clock: Clock::system() })
    }

    /// How long the administrator has. Default: an hour.
    #[must_use]
    pub fn lives(mut self, lives: Duration) -> Self {
        self.lives = lives;
        self
    }

    /// Takes the time from `clock`. Default: the machine's.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The URL for the administrator's browser, and what has to be kept until that comes back. Each time is a question of its
    /// own.
    ///
    /// # Errors
    /// `Unavailable` where the system gives no randomness.
    pub fn begin(&self) -> Result<(String, PendingConsent), Error> {
        let mut state = [0; STATE];
        SystemRandom::new().fill(&mut state).map_err(|_| {
            Error::new(ErrorKind::Unavailable, "the system gives no randomness").with_blame(Blame::Program)
        })?;
        let state = URL_SAFE_NO_PAD.encode(state);
        let Question { authority, client_id, tenant, scopes } = &self.question;
        let url = format!("{}/{tenant}/v2.0/adminconsent", authority.origin());
        // Authority and tenant were checked when they were read.
        let mut url = Url::parse(&url)
            .map_err(|error| Error::config("authority: its consent page is no URL").with_source(error))?;
        url.query_pairs_mut()
            .append_pair("client_id", client_id.as_str())
            .append_pair("scope", scopes.as_str())
            .append_pair("redirect_uri", &self.redirect_uri)
            .append_pair("state", &state);
        let until = seconds(&self.clock).saturating_add(self.lives.as_secs());
        let pending = PendingConsent {
            question: self.question.clone(),
            state: state.into(),
            until,
            clock: self.clock.clone(),
        };
        Ok((url.into(), pending))
    }
}

impl PendingConsent {
    /// Reads what the browser came back with: the URL that it called, or its query. Only an answer to this very question is
    /// one, in time, and about the tenant that was asked.
    ///
    /// # Errors
    /// `Protocol` where it answers another question, or another tenant's, or nothing; `Timeout` where it comes too late. Where
    /// Entra says why there is no consent, what that means: `ConsentRequired` where the administrator declined, or none was
    /// there.
    pub fn complete(self, callback: &str) -> Result<ConsentAnswer, Error> {
        let callback = Callback::parse(callback).map_err(senseless)?;
        let state = callback.get("state").unwrap_or_default();
        // How much of it is right is not told by how long it takes.
        if verify_slices_are_equal(state.as_bytes(), self.state.expose().as_bytes()).is_err() {
            return Err(senseless("its state is not that of this question").with_advice(
                "Whoever was sent there has to begin anew; a forged link looks like this, too.",
            ));
        }
        let now = self.clock.now().wall();
        if seconds(&self.clock) >= self.until {
            return Err(Error::new(ErrorKind::Timeout, "the administrator's answer came too late")
                .with_blame(Blame::User)
                .with_advice("Ask again."));
        }
        let Question { authority, client_id, tenant, scopes } = &self.question;
        let asked = Asked {
            what: "the consent page",
            authority,
            tenant,
            client_id,
            scopes,
            for_user: true,
            sent: now,
            now,
        };
        // It says `admin_consent=True` on failure as well: that tells which question is answered, and not how.
        if let Some(error) = callback.error(&asked) {
            return Err(error);
        }
        if !callback.get("admin_consent").is_some_and(|consent| consent.eq_ignore_ascii_case("true")) {
            return Err(senseless("it does not say that anybody consented"));
        }
        let claimed = callback.get("tenant").and_then(|tenant| TenantId::parse(tenant).ok());
        let claimed = claimed.filter(is_id).ok_or_else(|| senseless("it names no tenant by its id"))?;
        if is_id(tenant) && claimed != *tenant {
            return Err(Error::new(
                ErrorKind::Protocol,
                format!("the administrator consented in tenant {claimed}, but {tenant} was asked"),
            )
            .with_blame(Blame::User)
            .with_advice("Ask again, and have an administrator of that tenant sign in."));
        }
        Ok(ConsentAnswer { tenant: claimed, scopes: callback.get("scope").and_then(ScopeSet::granted) })
    }

    /// As a text that another process can [restore](Self::restore), or this one after a restart. It is a secret: who has it
    /// can forge an answer. That each is used once is then yours to see to: delete it *before* it is completed.
    pub fn to_opaque(&self) -> Secret {
        let Question { authority, client_id, tenant, scopes } = &self.question;
        let opaque = Opaque {
            authority: authority.origin().to_owned(),
            client_id: client_id.as_str().to_owned(),
            tenant: tenant.as_str().to_owned(),
            scopes: scopes.as_str().to_owned(),
            state: self.state.expose().to_owned(),
            until: self.until,
        };
        // Texts and a number: that is always JSON.
        Secret::new(URL_SAFE_NO_PAD.encode(serde_json::to_vec(&opaque).unwrap_or_default()))
    }

    /// What [`to_opaque`](Self::to_opaque) gave, on the machine's clock.
    ///
    /// # Errors
    /// `Config` where it is not that.
    pub fn restore(opaque: &Secret) -> Result<Self, Error> {
        let foreign = || Error::config("pending consent: expected what `to_opaque` gave");
        let json = URL_SAFE_NO_PAD.decode(opaque.expose()).map_err(|_| foreign())?;
        let Opaque { authority, client_id, tenant, scopes, state, until } =
            serde_json::from_slice(&json).map_err(|_| foreign())?;
        if state.len() < STATE {
            return Err(foreign());
        }
        let authority = match authority.starts_with("http:") {
            true => Authority::dangerous().allow_plain_http(&authority)?,
            false => Authority::custom(&authority)?,
        };
        let question = Question {
            authority,
            client_id: ClientId::parse(&client_id)?,
            tenant: TenantId::parse(&tenant)?,
            scopes: ScopeSet::parse(&scopes)?,
        };
        Ok(Self { question, state: state.into(), until, clock: Clock::system() })
    }

    /// Takes the time from `clock`.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// What the browser brings back as `state`, and by which this is found again.
    pub fn state(&self) -> &Secret {
        &self.state
    }

    /// The tenant that was asked, as it was named.
    pub fn tenant(&self) -> &TenantId {
        &self.question.tenant
    }
}

impl ConsentAnswer {
    /// The tenant whose administrator is said to have consented, by its id. Where the question was about a tenant by its id it is
    /// that one. **Never believe it**: it stood in a URL that a browser was free to change. Whether the application may act there
    /// only a token tells: ask for one in this tenant, past the cache and the list of tenants, with the broker's `check_tenant`. And
    /// where the question was about a domain or `organizations`, whose tenant this is has still to be found out: anybody who was
    /// sent to the page can have consented for a tenant of their own.
    pub fn claimed_tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// What is said to have been consented to.
    pub fn claimed_scopes(&self) -> Option<&ScopeSet> {
        self.scopes.as_ref()
    }
}

/// The state is a secret.
impl fmt::Debug for PendingConsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingConsent")
            .field("question", &self.question)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

fn senseless(why: &'static str) -> Error {
    Error::new(ErrorKind::Protocol, format!("the answer of the consent page makes no sense: {why}"))
        .with_blame(Blame::Caller)
}

/// By its id, which no one can take over as one can a domain.
fn is_id(tenant: &TenantId) -> bool {
    crate::text::guid(tenant.as_str()).is_some()
}

fn seconds(clock: &Clock) -> u64 {
    clock.now().wall().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn check_redirect(uri: &str) -> Result<String, Error> {
    let refused = || {
        Error::config(
            "redirect uri: expected one of the registration: https, or http to this machine, without a fragment",
        )
    };
    let url = Url::parse(uri).map_err(|_| refused())?;
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    let safe = url.scheme() == "https" || url.scheme() == "http" && loopback;
    let named = !url.username().is_empty() || url.password().is_some();
    // As it was given: Entra compares it to the letter.
    if safe && !named && url.fragment().is_none() { Ok(uri.to_owned()) } else { Err(refused()) }
}

#[cfg(test)]
mod tests;
