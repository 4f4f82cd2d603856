//! Whether a customer has set us up: one question, asked of the token service, and its answer in the customer's words.

mod standing;
mod words;

use std::fmt;

pub use standing::TenantStanding;

use super::{AuditEvent, Broker};
use crate::{
    claims::Claims,
    error::{Error, ErrorKind},
    fetched::{Grant, Reason},
    refresh::Job,
    request::{Key, TokenRequest},
    sync::{Arc, select},
    tenant::TenantId,
    wire::jwt,
};
use words::Context;

/// The answer of [`Broker::check_tenant`].
#[derive(Debug, Clone)]
pub struct TenantCheck {
    standing: TenantStanding,
    tenant: TenantId,
    tenant_id: Option<TenantId>,
    object_id: Option<Box<str>>,
    roles: Vec<String>,
    error: Option<Error>,
    words: String,
    url: Option<String>,
    command: Option<String>,
}

impl TenantCheck {
    /// How the application stands there.
    pub fn standing(&self) -> TenantStanding {
        self.standing
    }

    /// True where a token came.
    pub fn is_trusted(&self) -> bool {
        self.standing == TenantStanding::Trusted
    }

    /// The tenant, as it was asked for.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The tenant's id, where the token can be read and says it: keep this, and not a domain that may change hands.
    pub fn tenant_id(&self) -> Option<&TenantId> {
        self.tenant_id.as_ref()
    }

    /// The object id of the application's service principal in the tenant, where the token can be read and says it: what the
    /// customer's administrator gives roles to.
    pub fn object_id(&self) -> Option<&str> {
        self.object_id.as_deref()
    }

    /// The roles on the resource that the token carries, where it can be read. Trusted without any may be too little:
    /// whether it is, the resource knows.
    pub fn roles(&self) -> &[String] {
        &self.roles
    }

    /// What was answered instead of a token.
    pub fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// The numbers behind `AADSTS`. Empty where there are none.
    pub fn aadsts(&self) -> &[u32] {
        self.error.as_ref().map_or(&[], Error::aadsts)
    }

    /// True where the customer can mend it, and should be sent [the words](Self::words). Otherwise it is for you.
    pub fn is_customers(&self) -> bool {
        use TenantStanding::{AppDisabled, BlockedByPolicy, ConsentMissing, ResourceMissing, TenantUnknown};
        matches!(
            self.standing,
            AppDisabled | BlockedByPolicy | ConsentMissing | ResourceMissing | TenantUnknown
        )
    }

    /// What to say, in whole sentences: to the customer where it is the customer's to mend, otherwise to yourself.
    pub fn words(&self) -> &str {
        &self.words
    }

    /// The page to send along, where there is one: where an administrator consents, or enables the application.
    pub fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// What the customer's administrator can run instead, with the Azure CLI signed in to that tenant.
    pub fn command(&self) -> Option<&str> {
        self.command.as_deref()
    }
}

impl fmt::Display for TenantCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tenant {}: {}", self.tenant, self.standing.name())
    }
}

impl Broker {
    /// Has this customer set us up? Asks the token service for an app token of `tenant` for `resource`
    /// (`https://graph.microsoft.com`, with or without `/.default`), past the list of allowed tenants, the cache and
    /// remembered failures, and throws the token away. A failure is an answer, in [`TenantCheck`].
    ///
    /// What is remembered of earlier failures for that tenant and resource is forgotten where the answer is good: the next
    /// call for a token asks.
    ///
    /// The token proves that this tenant trusts the application, at this moment and for this resource. It does not prove
    /// that whoever typed the tenant belongs to it: a tenant that trusts you is any customer's to type. Keep to which
    /// customer a tenant is, and let no second one have it.
    ///
    /// ```
    /// # use entra_broker::{Authority, Broker, ClientSecret, TenantId, TenantStanding};
    /// # #[cfg(feature = "emulator")]
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use entra_broker::emulator::{Emulator, sample};
    /// # let emulator = Emulator::start().await?;
    /// # let authority = Authority::dangerous().allow_plain_http(emulator.authority())?;
    /// let app = ClientSecret::new(sample::TENANT, sample::SECRET_APP, sample::SECRET)?.authority(authority);
    /// let broker = Broker::new(app)?;
    ///
    /// let customer = TenantId::parse(sample::CUSTOMER_WITHOUT_CONSENT_DOMAIN)?;
    /// let check = broker.check_tenant(&customer, "https://graph.microsoft.com").await?;
    /// assert_eq!(check.standing(), TenantStanding::ConsentMissing);
    /// println!("{} {}", check.words(), check.url().unwrap_or_default());
    /// # Ok(()) }
    /// # #[cfg(not(feature = "emulator"))]
    /// # fn main() {}
    /// ```
    ///
    /// # Errors
    ///
    /// `Config` where the tenant is `common` or the like, the resource is malformed, the provider asks in no tenant but its
    /// own, or no tokio runtime with a timer is at hand; `Policy` where the broker may not ask for the resource; `Closed`. Nothing was asked then.
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the request that is under way, and changes nothing.
    pub async fn check_tenant(&self, tenant: &TenantId, resource: &str) -> Result<TenantCheck, Error> {
        let shell = &*self.0;
        shell.engine.check_open()?;
        if tenant.is_multi_tenant_alias() {
            return Err(Error::config(format!(
                "tenant: `{tenant}` is no tenant that could have set anything up"
            ))
            .with_advice("Name the customer's tenant by its id or by one of its domains."));
        }
        let request = TokenRequest::new(of_resource(resource))?.tenant(tenant.clone());
        request.scopes().for_app()?;
        shell.resources.check(request.scopes())?;

        let clock = &shell.clock;
        shell.engine.runtime(clock.now())?;
        let deadline = clock.now().after(shell.timeout.min(shell.source.provider.budget()));
        let engine = Arc::clone(&shell.engine);
        let job = Job {
            request: request.clone(),
            grant: Grant::App,
            reason: Reason::Probe,
            attended: false,
            challenge: None::<Claims>,
            label: None,
            previous: None,
            refused: None,
            deadline,
            gate: {
                let engine = Arc::clone(&engine);
                Arc::new(move || engine.check_open())
            },
            random: Arc::new(move || engine.draw()),
        };
        let ended = select! {
            biased;
            ended = shell.source.fetch(job, AuditEvent::TenantCheck) => ended,
            () = clock.sleep_until(deadline) => {
                Err(Error::new(ErrorKind::Timeout, "the tenant could not be checked in time"))
            }
        };
        let context = Context {
            tenant,
            resource: request.scopes(),
            authority: shell.identity.authority(),
            client_id: shell.identity.client_id(),
        };
        let check = match ended {
            Ok(fetched) => context.answered(jwt::principal(fetched.token.expose())),
            // The provider has no way to ask in another tenant, or what it was made of is wrong: nothing was asked.
            Err(error) if error.status().is_none() && error.kind() == ErrorKind::Config => return Err(error),
            Err(error) if error.kind() == ErrorKind::Closed => return Err(error),
            Err(error) => context.refused(error),
        };
        if check.is_trusted() {
            let key: &Key = request.key();
            let home = shell.identity.tenant() == Some(tenant);
            if home { shell.engine.forgive(&key.at_home()) } else { shell.engine.forgive(key) }
        }
        Ok(check)
    }
}

fn of_resource(resource: &str) -> String {
    let resource = resource.trim();
    match resource.ends_with("/.default") {
        true => resource.to_owned(),
        false => format!("{resource}/.default"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_taken_with_and_without_its_suffix() {
        assert_eq!(of_resource("https://graph.microsoft.com"), "https://graph.microsoft.com/.default");
        assert_eq!(
            of_resource(" https://graph.microsoft.com/.default "),
            "https://graph.microsoft.com/.default"
        );
    }
}
