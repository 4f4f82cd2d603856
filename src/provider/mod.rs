//! Who gets tokens, and how: one uncached fetch each.

mod azure_pipelines;
#[cfg(feature = "certificate")]
mod certificate;
mod chain;
#[cfg(feature = "cli")]
mod cli;
mod client_assertion;
mod client_secret;
mod confidential_client;
mod context;
mod credential;
mod default_chain;
mod environment;
mod federated_managed_identity;
mod file;
mod fixed;
mod github_actions;
mod managed_identity;
mod pipeline;
mod variables;
mod workload_identity;

use std::{fmt::Debug, sync::Arc, time::Duration};

pub use azure_pipelines::AzurePipelines;
#[cfg(feature = "certificate")]
pub use certificate::{Certificate, ClientCertificate};
pub use chain::Chain;
#[cfg(feature = "cli")]
pub use cli::{AzureCli, AzureDeveloperCli};
pub use client_assertion::{AssertionRequest, ClientAssertion};
pub use client_secret::{RotatingSecret, SecretFile};
pub use confidential_client::{ClientSecret, ConfidentialClient};
pub use context::FetchContext;
pub(crate) use context::{Exchanged, Trail};
pub use credential::{ClientAuth, ClientCredential, CredentialRequest, CredentialSource};
pub use default_chain::default_chain;
pub use environment::{DangerousEnvironment, Environment};
pub use federated_managed_identity::FederatedManagedIdentity;
pub use fixed::{FnProvider, StaticToken};
pub use github_actions::GitHubActions;
pub use managed_identity::{DangerousManagedIdentity, ManagedIdentity};
pub use workload_identity::WorkloadIdentity;

use crate::{BoxFuture, Error, Fetched, Grant, Identity, TokenRequest};

/// One uncached fetch of a token.
///
/// A provider never caches, never sleeps on its own and starts nothing that outlives its fetch: the broker does all
/// of that, and only the broker has `get_token`, so nobody can forget the cache. Requests go out through
/// [`FetchContext::send`], which retries as the source wants it; work that blocks goes through
/// [`FetchContext::blocking`].
///
/// # Cancel safety
///
/// The future of `fetch` may be dropped at any await. It then must not have changed anything but what the service
/// keeps.
pub trait Provider: Debug + Send + Sync + 'static {
    /// What kind of provider it is, as audit records and logs name it: `client-secret`, `managed-identity`.
    fn name(&self) -> &'static str {
        "custom"
    }

    /// Who asks. Said once, when the broker is built.
    fn identity(&self) -> Identity;

    /// Gets one token.
    ///
    /// A provider that can do only app tokens begins with [`Grant::app_only`]; that is what keeps the
    /// tokens of the application and those of users apart.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from having a token, with the kind that decides how it is remembered.
    fn fetch<'a>(
        &'a self,
        cx: &'a FetchContext,
        request: &'a TokenRequest,
        grant: Grant,
    ) -> BoxFuture<'a, Result<Fetched, Error>>;

    /// How long one fetch may take in all, retries included. Default: 60 s, which is 3 attempts of 10 s, the waits
    /// between them, and as much again for a service that asks for a pause.
    fn budget(&self) -> Duration {
        Duration::from_secs(60)
    }
}

macro_rules! forward {
    ($pointer:ident) => {
        impl<P: Provider + ?Sized> Provider for $pointer<P> {
            fn name(&self) -> &'static str {
                (**self).name()
            }

            fn identity(&self) -> Identity {
                (**self).identity()
            }

            fn fetch<'a>(
                &'a self,
                cx: &'a FetchContext,
                request: &'a TokenRequest,
                grant: Grant,
            ) -> BoxFuture<'a, Result<Fetched, Error>> {
                (**self).fetch(cx, request, grant)
            }

            fn budget(&self) -> Duration {
                (**self).budget()
            }
        }
    };
}

forward!(Arc);
forward!(Box);
