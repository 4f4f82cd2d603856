//! The broker as a `TokenCredential`: what every client of the SDK takes.

use std::{
    cell::Cell,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{SystemTime, UNIX_EPOCH},
};

use azure_core::{
    Error, Result,
    credentials::{AccessToken, TokenCredential, TokenRequestOptions},
    error::ErrorKind,
    time::OffsetDateTime,
};

use super::AzureOptions;
use crate::{Broker, GetToken};

type Asking<'a> = Pin<Box<dyn Future<Output = Result<AccessToken>> + Send + 'a>>;

/// Puts a broker under a client of the Azure SDK. Needs the feature `azure-core`.
///
/// A client takes an `Arc<dyn TokenCredential>`, so `Arc::new(broker.clone())` is all it needs. A hit costs two
/// allocations: the future's box, and the copy of the token, since the SDK's token owns its text. Several scopes in one
/// call cost one more, for joining them. [`AzureOptions`] in the call's context say more than scopes can; without
/// them the token is the application's own, in the provider's tenant.
///
/// Errors are of kind `Credential`, which the SDK does not retry: the broker has, and knows better when to try again.
/// Ours is their source: `error.downcast_ref::<entra_broker::Error>()` has kind, blame, advice and `retry_after`.
///
/// ```
/// use std::sync::Arc;
/// use azure_core::credentials::TokenCredential;
/// use entra_broker::{Broker, StaticToken};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let broker = Broker::new(StaticToken::new("eyJ0eXAi")?)?;
/// let credential: Arc<dyn TokenCredential> = Arc::new(broker.clone());
/// // let client = SecretClient::new("https://contoso.vault.azure.net", credential, None)?;
/// let token = credential.get_token(&["https://vault.azure.net/.default"], None).await?;
/// assert_eq!(token.token.secret(), "eyJ0eXAi");
/// # Ok(()) }
/// ```
impl TokenCredential for Broker {
    // As `async_trait` spells it, without the macro: this is what a hit costs.
    fn get_token<'life0, 'life1, 'life2, 'life3, 'async_trait>(
        &'life0 self,
        scopes: &'life1 [&'life2 str],
        options: Option<TokenRequestOptions<'life3>>,
    ) -> Asking<'async_trait>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
    {
        match (scopes, options.as_ref().and_then(AzureOptions::of)) {
            ([scope], None) => Box::pin(Plain { scope, call: self.get_token(*scope) }),
            _ => ask(self, None, scopes, options),
        }
    }
}

impl Broker {
    /// The broker under a client of the Azure SDK, with options that hold for all that the client does: one client for
    /// each tenant. Needs the feature `azure-core`.
    ///
    /// This is how a client gets to another tenant. Options in the context of a single call do not do: the client keeps
    /// the token of the first call, and sends it with the next one whatever that says.
    ///
    /// Options in a call's context go before these, one by one: a tenant that is bound here stays, unless the call names
    /// another, and so do claims. Of [`AzureOptions::call`] the call's own is taken as a whole, where it has one.
    ///
    /// ```
    /// use entra_broker::{AzureOptions, Broker, StaticToken, TenantId};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let customer: TenantId = "fabrikam.onmicrosoft.com".parse()?;
    /// let broker = Broker::builder().allow_tenants([customer.clone()]).build(StaticToken::new("eyJ0eXAi")?)?;
    /// let credential = broker.azure_credential(AzureOptions::new().tenant(customer));
    /// // let client = SecretClient::new("https://fabrikam.vault.azure.net", credential, None)?;
    /// let token = credential.get_token(&["https://vault.azure.net/.default"], None).await?;
    /// assert_eq!(token.token.secret(), "eyJ0eXAi");
    /// # Ok(()) }
    /// ```
    pub fn azure_credential(&self, options: AzureOptions) -> Arc<dyn TokenCredential> {
        Arc::new(Bound { broker: self.clone(), options })
    }
}

#[derive(Debug)]
struct Bound {
    broker: Broker,
    options: AzureOptions,
}

impl TokenCredential for Bound {
    fn get_token<'life0, 'life1, 'life2, 'life3, 'async_trait>(
        &'life0 self,
        scopes: &'life1 [&'life2 str],
        options: Option<TokenRequestOptions<'life3>>,
    ) -> Asking<'async_trait>
    where
        'life0: 'async_trait,
        'life1: 'async_trait,
        'life2: 'async_trait,
        'life3: 'async_trait,
    {
        ask(&self.broker, Some(&self.options), scopes, options)
    }
}

/// One scope, and nothing more to say. By hand, since a future that is smaller is boxed faster.
struct Plain<'a> {
    scope: &'a str,
    call: GetToken<'a>,
}

impl Future for Plain<'_> {
    type Output = Result<AccessToken>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let token = Pin::new(&mut self.call).poll(cx);
        token.map(|token| theirs(token, self.scope))
    }
}

/// Everything else. A hit is one box and one copy of the token here, too.
fn ask<'a>(
    broker: &'a Broker,
    bound: Option<&'a AzureOptions>,
    scopes: &'a [&'a str],
    options: Option<TokenRequestOptions<'a>>,
) -> Asking<'a> {
    Box::pin(async move {
        let joined: String;
        let scopes = match scopes {
            [scope] => scope,
            several => {
                joined = several.join(" ");
                joined.as_str()
            }
        };
        let token = match (bound, options.as_ref().and_then(AzureOptions::of)) {
            (None, None) => broker.get_token(scopes).await,
            (Some(options), None) | (None, Some(options)) => options.ask(broker, scopes).await,
            (Some(bound), Some(options)) => Box::pin(options.over(bound).ask(broker, scopes)).await,
        };
        theirs(token, scopes)
    })
}

fn theirs(
    token: std::result::Result<crate::AccessToken, crate::Error>,
    scopes: impl fmt::Display,
) -> Result<AccessToken> {
    match token {
        Ok(token) => {
            Ok(AccessToken { token: token.secret().to_owned().into(), expires_on: date(token.expires_on()) })
        }
        Err(error) => {
            let message = format!("the broker has no token for {scopes}");
            Err(Error::with_error(ErrorKind::Credential, error, message))
        }
    }
}

/// A date is worked out once for a token and not with each hit, of which it would be a sixth.
fn date(at: SystemTime) -> OffsetDateTime {
    thread_local! {
        static LAST: Cell<(SystemTime, OffsetDateTime)> = const { Cell::new((UNIX_EPOCH, OffsetDateTime::UNIX_EPOCH)) };
    }
    let known = LAST.get();
    if known.0 == at {
        return known.1;
    }
    // The broker's times end in the year 2554, long before dates do.
    let date = OffsetDateTime::from(at);
    LAST.set((at, date));
    date
}
