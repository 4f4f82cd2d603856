//! Any `TokenCredential` of the SDK as a provider.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use azure_core::{credentials::TokenCredential, time::OffsetDateTime};

use super::error;
use crate::{
    BoxFuture, Error, ErrorKind, FetchContext, Fetched, Grant, Identity, Now, Provider, TokenRequest,
};

/// A credential of the Azure SDK, such as those of `azure_identity`, as a provider: for what this crate has no provider
/// of its own, with the broker's cache and refresh in front. Needs the feature `azure-core`.
///
/// It gets tokens for the application only, and never from another tenant or with claims: the credentials of
/// `azure_identity` ignore both, so asking for them is an error here. Its tokens never leave the process. Other
/// settings, such as the authority, proxies and retries, are the credential's own: neither the broker's transport nor its
/// certificates are used.
///
/// Below the broker's cache there is the credential's own. It keeps a token until some five minutes before its end. So a
/// [forced](crate::CallOptions::force_refresh) call, or one after [`Broker::invalidate`](crate::Broker::invalidate), may
/// bring the same token again, which is an error of kind `TokenRefused`; and a refresh ahead of that brings nothing new,
/// costs no request, and is tried again after two thirds of what is left.
///
/// ```
/// use std::sync::Arc;
/// use azure_core::credentials::TokenCredential;
/// use entra_broker::{AzureCredential, Broker};
///
/// # #[derive(Debug)]
/// # struct DeveloperTools;
/// # #[async_trait::async_trait]
/// # impl TokenCredential for DeveloperTools {
/// #     async fn get_token(
/// #         &self, _: &[&str], _: Option<azure_core::credentials::TokenRequestOptions<'_>>,
/// #     ) -> azure_core::Result<azure_core::credentials::AccessToken> {
/// #         let expires_on = azure_core::time::OffsetDateTime::now_utc() + azure_core::time::Duration::hours(1);
/// #         Ok(azure_core::credentials::AccessToken::new("eyJ0eXAi", expires_on))
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let credential: Arc<dyn TokenCredential> = Arc::new(DeveloperTools);
/// // let credential = azure_identity::DeveloperToolsCredential::new(None)?;
/// let broker = Broker::new(AzureCredential::new(credential))?;
/// let token = broker.get_token("https://vault.azure.net/.default").await?;
/// assert_eq!(token.secret(), "eyJ0eXAi");
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct AzureCredential(Arc<dyn TokenCredential>);

impl AzureCredential {
    /// Asks `credential`.
    pub fn new(credential: Arc<dyn TokenCredential>) -> Self {
        Self(credential)
    }
}

impl Provider for AzureCredential {
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
            grant.app_only("a credential of the Azure SDK")?;
            refuse_what_would_be_ignored(cx, request)?;
            let scopes: Vec<&str> = request.scopes().iter().collect();
            let sent = cx.clock().now();
            let token = self.0.get_token(&scopes, None).await.map_err(error::ours)?;
            Ok(Fetched::new(token.token.secret(), sent, life(token.expires_on, sent)))
        })
    }

    /// As long as that of [`ManagedIdentity`](crate::ManagedIdentity), which it may be.
    fn budget(&self) -> Duration {
        Duration::from_secs(90)
    }
}

fn refuse_what_would_be_ignored(cx: &FetchContext, request: &TokenRequest) -> Result<(), Error> {
    let what = if request.requested_tenant().is_some() {
        "cannot be asked for another tenant"
    } else if request.requested_claims().is_some() || cx.challenge().is_some() {
        "cannot be asked for claims"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::Config, format!("a credential of the Azure SDK {what}"))
        .with_advice("It would ignore that. Use a provider of this crate, such as `ClientSecret`."))
}

/// What the wall clock leaves of a token; nothing where that is past.
fn life(expires_on: OffsetDateTime, sent: Now) -> Duration {
    // Times of this crate are past 1970.
    let sent = sent.wall().duration_since(UNIX_EPOCH).unwrap_or_default();
    let expires_on = u128::try_from(expires_on.unix_timestamp_nanos()).unwrap_or_default();
    let left = expires_on.saturating_sub(sent.as_nanos());
    Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use azure_core::time::Duration as Span;

    use super::*;
    use crate::Clock;

    #[test]
    fn an_instant_becomes_what_is_left_until_then() {
        let wall = UNIX_EPOCH + Duration::new(1_800_000_000, 250_000_000);
        let sent = Clock::manual(wall).0.now();
        let at = OffsetDateTime::from(wall);
        assert_eq!(life(at + Span::hours(1), sent), Duration::from_secs(3600));
        assert_eq!(life(at + Span::nanoseconds(1), sent), Duration::from_nanos(1));
        let past = [Span::ZERO, Span::nanoseconds(-1), Span::weeks(-5_000), Span::weeks(-200_000)];
        assert!(past.into_iter().all(|ago| life(at + ago, sent) == Duration::ZERO));
        // As far as dates go: it is believed, and does not wrap around.
        assert_eq!(life(at + Span::weeks(400_000), sent), Duration::from_nanos(u64::MAX));
    }
}
