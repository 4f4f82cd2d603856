//! An assertion that somebody else makes, asked for by a callback.

use std::{fmt, future::Future};

use super::{ClientCredential, CredentialRequest, CredentialSource, FetchContext};
use crate::{BoxFuture, ClientId, Error, Secret, TenantId};

/// Larger than any header or form field that would carry it.
const LONGEST: usize = 64 * 1024;

/// An application that proves itself by an assertion which a callback of yours makes or fetches: from a vault, an HSM, an
/// identity provider of your own. It is asked before each request to the token service, which are few.
///
/// ```
/// use entra_broker::{Broker, ClientAssertion, ClientAuth, ConfidentialClient, Secret};
///
/// # fn main() -> Result<(), entra_broker::Error> {
/// # async fn sign(client_id: &str, audience: &str) -> Result<Secret, entra_broker::Error> { Ok("e30.e30.x".into()) }
/// let assertion = ClientAssertion::new(|_cx, asked| {
///     Box::pin(async move { sign(asked.client_id().as_str(), asked.audience()).await })
/// });
/// let client_id = "00001111-aaaa-2222-bbbb-3333cccc4444";
/// let client = ConfidentialClient::new("contoso.com", client_id, ClientAuth::source(assertion))?;
/// let broker = Broker::new(client)?;
/// # drop(broker); Ok(()) }
/// ```
#[derive(Clone)]
pub struct ClientAssertion<F> {
    make: F,
}

/// What an assertion is asked for, to keep: see [`ClientAssertion::from_async`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AssertionRequest {
    /// The tenant that is asked.
    pub tenant: TenantId,
    /// The application.
    pub client_id: ClientId,
    /// The audience of an assertion that the application signs itself: the tenant's token endpoint.
    pub audience: String,
    /// The audience of another issuer's assertion, in the cloud that is asked.
    pub federation_audience: &'static str,
}

impl<F> ClientAssertion<F>
where
    F: for<'a> Fn(&'a FetchContext, &'a CredentialRequest<'a>) -> BoxFuture<'a, Result<Secret, Error>>
        + Send
        + Sync
        + 'static,
{
    /// By whatever `make` returns: a JWT, without blanks around it.
    pub fn new(make: F) -> Self {
        Self { make }
    }
}

impl ClientAssertion<()> {
    /// The same, of a closure that borrows nothing.
    ///
    /// ```
    /// use entra_broker::{ClientAssertion, Secret};
    ///
    /// # async fn from_the_vault(name: &str) -> Result<String, entra_broker::Error> { Ok(name.into()) }
    /// let source = ClientAssertion::from_async(|asked| async move {
    ///     Ok(Secret::new(from_the_vault(asked.client_id.as_str()).await?))
    /// });
    /// # let _ = source;
    /// ```
    pub fn from_async<M, R>(
        make: M,
    ) -> ClientAssertion<
        impl for<'a> Fn(&'a FetchContext, &'a CredentialRequest<'a>) -> BoxFuture<'a, Result<Secret, Error>>
        + Send
        + Sync
        + 'static,
    >
    where
        M: Fn(AssertionRequest) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Secret, Error>> + Send + 'static,
    {
        ClientAssertion::new(move |_cx, asked| {
            Box::pin(make(AssertionRequest {
                tenant: asked.tenant().clone(),
                client_id: asked.client_id().clone(),
                audience: asked.audience().to_owned(),
                federation_audience: asked.authority().federation_audience(),
            }))
        })
    }
}

impl<F> CredentialSource for ClientAssertion<F>
where
    F: for<'a> Fn(&'a FetchContext, &'a CredentialRequest<'a>) -> BoxFuture<'a, Result<Secret, Error>>
        + Send
        + Sync
        + 'static,
{
    fn name(&self) -> &'static str {
        "client-assertion"
    }

    fn credential<'a>(
        &'a self,
        cx: &'a FetchContext,
        asked: &'a CredentialRequest<'a>,
    ) -> BoxFuture<'a, Result<ClientCredential, Error>> {
        Box::pin(async move { checked("the callback's assertion", (self.make)(cx, asked).await?) })
    }
}

impl<F> fmt::Debug for ClientAssertion<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientAssertion").finish_non_exhaustive()
    }
}

/// An assertion as it should be. `what` names it, as the subject of a sentence.
pub(super) fn checked(what: &str, assertion: Secret) -> Result<ClientCredential, Error> {
    let text = assertion.expose();
    let why = match text.len() {
        0 => "is empty",
        1..=LONGEST if text.bytes().all(|byte| byte.is_ascii_graphic()) => {
            return Ok(ClientCredential::Assertion(assertion));
        }
        1..=LONGEST => "holds blanks, line ends or other characters that no JWT has",
        _ => "is longer than 64 KiB",
    };
    Err(Error::config(format!("{what} {why}")).with_advice(
        "Give the signed JWT in its compact form, three parts with dots between them, and nothing else.",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn an_assertion_is_visible_ascii_and_neither_empty_nor_endless() {
        assert!(checked("it", "e30.e30.c2ln".into()).is_ok());
        assert!(checked("it", "a".repeat(LONGEST).into()).is_ok());
        for (bad, why) in [
            ("", "is empty"),
            ("hunter2.e30.c2ln\n", "no JWT has"),
            (" hunter2.e30.c2ln", "no JWT has"),
            ("hunter2.é", "no JWT has"),
            ("\u{feff}hunter2", "no JWT has"),
            (&"hunter2".repeat(LONGEST), "longer than 64 KiB"),
        ] {
            let error = checked("it", bad.into()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(why) && !error.advice().is_empty(), "{error}");
            assert!(!format!("{error:?}").contains("hunter2"));
        }
    }
}
