//! An application that has a credential of its own, at the token service.

use std::{fmt, time::Duration};

use http::{Request, header::CONTENT_TYPE};

use super::{ClientAuth, ClientCredential, CredentialRequest, FetchContext, Provider};
use crate::{
    Authority, BoxFuture, Claims, ClientId, Env, Error, Fetched, Grant, Identity, ScopeSet, Secret, TenantId,
    TokenRequest,
    error::ErrorKind,
    http::{Pool, RetryPolicy},
    wire::{
        form::{FORM_CONTENT_TYPE, TokenForm},
        token::{Asked, parse_token_answer},
    },
};

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
    /// Asked before the authority.
    regional: Option<Authority>,
    capabilities: Option<Claims>,
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
        Ok(Self {
            authority: Authority::public(),
            tenant,
            client_id,
            auth,
            regional: None,
            capabilities: None,
        })
    }

    /// In another cloud, or at a stand-in for one. A [region](Self::region) is chosen after it.
    #[must_use]
    pub fn authority(mut self, authority: Authority) -> Self {
        self.authority = authority;
        self.regional = None;
        self
    }

    /// Asks a regional endpoint first, for app tokens: `{region}.login.microsoft.com` in the public cloud. Closer to what
    /// runs in that region, and not touched by trouble elsewhere; where it cannot be reached, the global endpoint is asked.
    ///
    /// # Errors
    ///
    /// `Config` where it is not the name of a region such as `westeurope`, or the authority is none of Azure's clouds.
    pub fn region(mut self, region: &str) -> Result<Self, Error> {
        self.regional = Some(self.authority.regional(region)?);
        Ok(self)
    }

    /// The [region](Self::region) of the variable `REGION_NAME`, which Azure's platforms set; the global endpoint where it
    /// is not set.
    ///
    /// # Errors
    ///
    /// As [`region`](Self::region).
    pub fn region_from_env(self, env: &Env) -> Result<Self, Error> {
        match env.get("REGION_NAME")? {
            Some(region) => {
                let named: String = region.split_whitespace().collect();
                self.region(&named.to_ascii_lowercase()).map_err(|error| {
                    Error::config(format!("environment variable REGION_NAME: {error}"))
                        .with_advice(error.advice().to_owned())
                })
            }
            None => Ok(self),
        }
    }

    /// What the program that uses the tokens can do, such as `cp1`: it takes claims challenges, and passes them on with
    /// [`CallOptions::challenge`](crate::CallOptions::challenge). Sent with each request. Resources then give out tokens of
    /// up to 28 h, and end them early where they have to.
    #[must_use]
    pub fn capabilities<'a>(mut self, capabilities: impl IntoIterator<Item = &'a str>) -> Self {
        self.capabilities = Claims::capabilities(capabilities);
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
        // The tenant's own endpoint, whichever is asked: a regional one stands in for it.
        let audience = self.authority.token_endpoint(tenant);
        let asked = CredentialRequest {
            authority: &self.authority,
            tenant,
            client_id: &self.client_id,
            audience: &audience,
        };
        let mut credential = self.auth.credential(cx, &asked).await?;
        let claims = self.claims(request, cx);
        let question = Question { tenant, scopes: &scopes, claims: claims.as_ref(), grant: &grant };
        let error = match self.exchange(cx, &question, &asked, &mut credential).await {
            Ok(fetched) => return Ok(fetched),
            Err(error) => error,
        };
        match self.auth.another(cx, &asked, &credential, &error).await {
            // A refresh token that was sent may be spent, whatever the answer.
            Some(mut another) if !matches!(grant, Grant::Refresh(_)) => {
                self.exchange(cx, &question, &asked, &mut another).await
            }
            _ => Err(error),
        }
    }

    /// At the regional endpoint where there is one, and at the global one where that cannot be reached. What was shown last
    /// is left in `credential`.
    async fn exchange(
        &self,
        cx: &FetchContext,
        question: &Question<'_>,
        asked: &CredentialRequest<'_>,
        credential: &mut ClientCredential,
    ) -> Result<Fetched, Error> {
        if let (Some(regional), Grant::App) = (&self.regional, question.grant) {
            match self.post(cx, regional, RetryPolicy::none(), question, credential).await {
                Err(error) if is_unreachable(&error) => {
                    tracing::debug!(%error, endpoint = %regional, "regional endpoint passed over");
                    // An assertion may have arrived there, and is for one request.
                    *credential = self.auth.credential(cx, asked).await?;
                }
                ended => return ended,
            }
        }
        let policy = match question.grant {
            // It may rotate: one that was sent may be spent.
            Grant::Refresh(_) => RetryPolicy::token_service().unless_sent(),
            _ => RetryPolicy::token_service(),
        };
        self.post(cx, &self.authority, policy, question, credential).await
    }

    async fn post(
        &self,
        cx: &FetchContext,
        authority: &Authority,
        policy: RetryPolicy,
        question: &Question<'_>,
        credential: &ClientCredential,
    ) -> Result<Fetched, Error> {
        let Question { tenant, scopes, claims, grant } = *question;
        let form = match grant {
            Grant::App => TokenForm::client_credentials(&self.client_id, scopes),
            Grant::Refresh(token) => TokenForm::refresh(&self.client_id, token, scopes),
            Grant::OnBehalfOf(assertion) => TokenForm::on_behalf_of(&self.client_id, assertion, scopes),
        };
        let form = match credential {
            ClientCredential::Secret(secret) => form.with_secret(secret),
            ClientCredential::Assertion(assertion) => form.with_assertion(assertion),
        }
        .with_claims(claims);

        let http = Request::post(authority.token_endpoint(tenant))
            .header(CONTENT_TYPE, FORM_CONTENT_TYPE)
            .body(form.into_bytes())
            // Authority and tenant were parsed: nothing in them can fail to be a URI.
            .map_err(|error| Error::config("authority: its token endpoint is no URL").with_source(error))?;
        let answer = cx.send(Pool::TokenService, http, &policy).await?;

        let (parts, body) = answer.response.into_parts();
        let asked = Asked {
            what: "the token service",
            authority,
            tenant,
            client_id: &self.client_id,
            scopes,
            for_user: !matches!(grant, Grant::App),
            sent: answer.sent.wall(),
            now: cx.clock().now().wall(),
        };
        let token = parse_token_answer(parts.status.as_u16(), &parts.headers, &body, &asked)?;
        Ok(token.into_fetched(answer.sent))
    }

    /// What the program can do, the request's own claims, and what a resource demanded on top.
    fn claims(&self, request: &TokenRequest, cx: &FetchContext) -> Option<Claims> {
        let all = [self.capabilities.as_ref(), request.requested_claims(), cx.challenge()];
        all.into_iter().flatten().cloned().reduce(|all, more| all.merge(&more))
    }
}

/// What is asked of the token service, whichever endpoint and credential it is asked with.
#[derive(Clone, Copy)]
struct Question<'a> {
    tenant: &'a TenantId,
    scopes: &'a ScopeSet,
    claims: Option<&'a Claims>,
    grant: &'a Grant,
}

/// Where an endpoint cannot be reached or does not work. Refused is refused everywhere.
fn is_unreachable(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Protocol)
        && error.held_for().is_none()
}

impl Provider for ConfidentialClient {
    fn name(&self) -> &'static str {
        self.auth.name()
    }

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

    fn budget(&self) -> Duration {
        self.auth.budget()
    }
}

impl fmt::Display for ConfidentialClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "application {} in tenant {}", self.client_id, self.tenant)
    }
}
