//! What a caller of the SDK says beyond scopes: it travels in the context of a call.

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};

use azure_core::credentials::TokenRequestOptions;

use crate::{AccessToken, Broker, CallOptions, Claims, Error, TenantId, TokenRequest};

/// What a caller of the Azure SDK wants beyond scopes, for the context of a call or for
/// [`Broker::azure_credential`]. Needs the feature `azure-core`.
///
/// ```
/// use azure_core::{credentials::{TokenCredential, TokenRequestOptions}, http::ClientMethodOptions};
/// use entra_broker::{AzureOptions, Broker, CallOptions, Fetched, FnProvider};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let fetches = std::sync::atomic::AtomicUsize::new(0);
/// # let provider = FnProvider::new(move |cx, _| {
/// #     let number = fetches.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
/// #     let fetched = Fetched::new(format!("token-{number}"), cx.clock().now(), std::time::Duration::from_secs(3600));
/// #     Box::pin(async move { Ok(fetched) })
/// # });
/// let broker = Broker::new(provider)?;
/// let scopes = ["https://vault.azure.net/.default"];
/// let cached = TokenCredential::get_token(&broker, &scopes, None).await?;
///
/// // With a client of the SDK, these are the `method_options` of its methods' options.
/// let mut method_options = ClientMethodOptions::default();
/// method_options.context.insert(AzureOptions::new().call(CallOptions::new().force_refresh()));
/// let options = TokenRequestOptions { method_options };
/// let forced = TokenCredential::get_token(&broker, &scopes, Some(options)).await?;
/// assert_ne!(forced.token.secret(), cached.token.secret());
/// # Ok(()) }
/// ```
///
/// A client asks for a token once and sends it until five minutes before its end, or until it was answered 401. Only
/// the call that asks has its context read. So after a 401, call again with [`CallOptions::force_refresh`], or with
/// [`CallOptions::challenge`] where the answer demands claims; and for another tenant, make another client, over
/// [`Broker::azure_credential`].
#[derive(Debug, Clone, Default)]
pub struct AzureOptions {
    tenant: Option<TenantId>,
    claims: Option<Claims>,
    /// None where nothing was said of it.
    call: Option<CallOptions>,
    /// The request of the scopes that were asked for first, which are usually the only ones: clones share it, and a hit
    /// needs not build it again.
    first: Arc<OnceLock<(Box<str>, TokenRequest)>>,
}

impl AzureOptions {
    /// The application's own token, in the provider's tenant, from the cache where it is there.
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`TokenRequest::tenant`]. The broker must have been told to allow it.
    #[must_use]
    pub fn tenant(self, tenant: TenantId) -> Self {
        Self { tenant: Some(tenant), first: Arc::default(), ..self }
    }

    /// As [`TokenRequest::claims`]: each such token shall carry them. What a resource demands of one token is
    /// [`CallOptions::challenge`] instead.
    #[must_use]
    pub fn claims(self, claims: Claims) -> Self {
        Self { claims: Some(claims), first: Arc::default(), ..self }
    }

    /// How the broker is called: with a challenge, forced, with a time-out of its own.
    #[must_use]
    pub fn call(self, call: CallOptions) -> Self {
        Self { call: Some(call), ..self }
    }

    /// Those in the context of a call.
    #[inline]
    pub(super) fn of<'a>(options: &'a TokenRequestOptions<'_>) -> Option<&'a Self> {
        let context = &options.method_options.context;
        // To look into an empty map costs a hash as well.
        if context.is_empty() { None } else { context.value() }
    }

    /// These of a call, and where they say nothing those that are bound.
    pub(super) fn over(&self, bound: &Self) -> Self {
        let call = self.call.as_ref().or(bound.call.as_ref()).cloned();
        if self.tenant.is_none() && self.claims.is_none() {
            return Self { call, ..bound.clone() };
        }
        let tenant = self.tenant.as_ref().or(bound.tenant.as_ref()).cloned();
        let claims = self.claims.as_ref().or(bound.claims.as_ref()).cloned();
        Self { tenant, claims, call, first: Arc::default() }
    }

    pub(super) async fn ask(&self, broker: &Broker, scopes: &str) -> Result<AccessToken, Error> {
        let request = self.request(scopes)?;
        match &self.call {
            Some(call) => broker.get_token_with(&*request, call).await,
            None => broker.get_token(&*request).await,
        }
    }

    fn request(&self, scopes: &str) -> Result<Cow<'_, TokenRequest>, Error> {
        let (spelled, request) = match self.first.get() {
            Some(first) => first,
            None => {
                let request = self.build(scopes)?;
                self.first.get_or_init(|| (scopes.into(), request))
            }
        };
        if **spelled == *scopes { Ok(Cow::Borrowed(request)) } else { self.build(scopes).map(Cow::Owned) }
    }

    fn build(&self, scopes: &str) -> Result<TokenRequest, Error> {
        let mut request = TokenRequest::new(scopes)?;
        if let Some(tenant) = &self.tenant {
            request = request.tenant(tenant.clone());
        }
        if let Some(claims) = &self.claims {
            request = request.claims(claims.clone());
        }
        Ok(request)
    }
}
