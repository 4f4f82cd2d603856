//! An application that has a credential of its own, at the token service.

use std::fmt;

use http::{Request, header::CONTENT_TYPE};

use super::{FetchContext, Provider};
use crate::{
    Authority, BoxFuture, Claims, ClientId, Error, Fetched, Grant, Identity, Secret, TenantId, TokenRequest,
    error::ErrorKind,
    http::{Pool, RetryPolicy},
    wire::{
        form::{FORM_CONTENT_TYPE, TokenForm},
        token::{Asked, parse_token_answer},
    },
};

/// How an application proves who it is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ClientAuth {
    /// By a client secret: its value, not its id.
    Secret(Secret),
}

/// An application with a credential: it answers every grant that such an application can.
///
/// ```
/// use entra_broker::{Authority, Broker, ClientAuth, ConfidentialClient};
///
/// # fn main() -> Result<(), entra_broker::Error> {
/// let client = ConfidentialClient::new(
///     "contoso.onmicrosoft.us",
///     "00001111-aaaa-2222-bbbb-3333cccc4444",
///     ClientAuth::Secret("the secret's value".into()),
/// )?
/// .authority(Authority::us_government());
/// let broker = Broker::new(client)?;
/// # drop(broker); Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct ConfidentialClient {
    authority: Authority,
    tenant: TenantId,
    client_id: ClientId,
    auth: ClientAuth,
}

/// The shorthand for a [`ConfidentialClient`] with a secret.
///
/// ```
/// use entra_broker::{Broker, ClientSecret};
///
/// # fn main() -> Result<(), entra_broker::Error> {
/// let client_id = "00001111-aaaa-2222-bbbb-3333cccc4444";
/// let broker = Broker::new(ClientSecret::new("contoso.onmicrosoft.com", client_id, "the secret's value")?)?;
/// # drop(broker); Ok(()) }
/// ```
#[derive(Debug)]
pub enum ClientSecret {}

impl ClientSecret {
    /// An application in the public cloud that proves itself by `secret`.
    ///
    /// # Errors
    ///
    /// As [`ConfidentialClient::new`].
    #[expect(
        clippy::new_ret_no_self,
        reason = "a name to find the shorthand by; there is nothing else to it"
    )]
    pub fn new(
        tenant: &str,
        client_id: &str,
        secret: impl Into<Secret>,
    ) -> Result<ConfidentialClient, Error> {
        ConfidentialClient::new(tenant, client_id, ClientAuth::Secret(secret.into()))
    }
}

impl ConfidentialClient {
    /// An application in the public cloud.
    ///
    /// # Errors
    ///
    /// `Config`, with the name of the field: a tenant that is neither a GUID nor a domain, a client id that is no
    /// GUID, a secret that is empty or has blanks or control characters at an end of it.
    pub fn new(tenant: &str, client_id: &str, auth: ClientAuth) -> Result<Self, Error> {
        let (tenant, client_id) = (TenantId::parse(tenant)?, ClientId::parse(client_id)?);
        auth.check()?;
        Ok(Self { authority: Authority::public(), tenant, client_id, auth })
    }

    /// In another cloud, or at a stand-in for one.
    #[must_use]
    pub fn authority(mut self, authority: Authority) -> Self {
        self.authority = authority;
        self
    }

    /// The tenant that is asked: the request's, or the application's own.
    fn tenant<'a>(&'a self, request: &'a TokenRequest, grant: &Grant) -> Result<&'a TenantId, Error> {
        let tenant = request.requested_tenant().unwrap_or(&self.tenant);
        if matches!(grant, Grant::App) && tenant.is_multi_tenant_alias() {
            return Err(Error::config(format!("tenant: an app token cannot be asked for in `{tenant}`"))
                .with_advice(
                    "Name the tenant by its id or by one of its domains: an app token is of one tenant.",
                ));
        }
        Ok(tenant)
    }

    async fn ask(&self, cx: &FetchContext, request: &TokenRequest, grant: Grant) -> Result<Fetched, Error> {
        let tenant = self.tenant(request, &grant)?;
        let scopes = match grant {
            Grant::App => request.scopes().for_app()?,
            _ => request.scopes().clone(),
        };
        let form = match &grant {
            Grant::App => TokenForm::client_credentials(&self.client_id, &scopes),
            Grant::Refresh(token) => TokenForm::refresh(&self.client_id, token, &scopes),
            Grant::OnBehalfOf(assertion) => TokenForm::on_behalf_of(&self.client_id, assertion, &scopes),
        };
        let claims = claims(request, cx);
        let form = match &self.auth {
            ClientAuth::Secret(secret) => form.with_secret(secret),
        }
        .with_claims(claims.as_ref());

        let http = Request::post(self.authority.token_endpoint(tenant))
            .header(CONTENT_TYPE, FORM_CONTENT_TYPE)
            .body(form.into_bytes())
            // Authority and tenant were parsed: nothing in them can fail to be a URI.
            .map_err(|error| Error::config("authority: its token endpoint is no URL").with_source(error))?;
        let policy = match grant {
            // It may rotate: one that was sent may be spent.
            Grant::Refresh(_) => RetryPolicy::token_service().unless_sent(),
            _ => RetryPolicy::token_service(),
        };
        let answer = cx.send(Pool::TokenService, http, &policy).await?;

        let (parts, body) = answer.response.into_parts();
        let asked = Asked {
            what: "the token service",
            authority: &self.authority,
            tenant,
            client_id: &self.client_id,
            scopes: &scopes,
            for_user: !matches!(grant, Grant::App),
            sent: answer.sent.wall(),
            now: cx.clock().now().wall(),
        };
        let token = parse_token_answer(parts.status.as_u16(), &parts.headers, &body, &asked)?;
        Ok(token.into_fetched(answer.sent))
    }
}

/// The request's own claims, with what a resource demanded on top.
fn claims(request: &TokenRequest, cx: &FetchContext) -> Option<Claims> {
    match (request.requested_claims(), cx.challenge()) {
        (Some(stable), Some(challenge)) => Some(stable.merge(challenge)),
        (stable, challenge) => stable.or(challenge).cloned(),
    }
}

impl ClientAuth {
    fn check(&self) -> Result<(), Error> {
        let Self::Secret(secret) = self;
        let text = secret.expose();
        if text.is_empty() || text != text.trim() || text.chars().any(char::is_control) {
            return Err(Error::new(
                ErrorKind::Config,
                "client secret: expected the secret's value, without blanks or line ends around it",
            )
            .with_advice("Look for a trailing newline in the file or variable that it was read from."));
        }
        Ok(())
    }
}

impl Provider for ConfidentialClient {
    fn identity(&self) -> Identity {
        Identity::local()
            .with_authority(self.authority.clone())
            .with_tenant(self.tenant.clone())
            .with_client_id(self.client_id.as_str())
    }

    fn fetch<'a>(
        &'a self,
        cx: &'a FetchContext,
        request: &'a TokenRequest,
        grant: Grant,
    ) -> BoxFuture<'a, Result<Fetched, Error>> {
        Box::pin(self.ask(cx, request, grant))
    }
}

impl fmt::Display for ConfidentialClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "application {} in tenant {}", self.client_id, self.tenant)
    }
}
