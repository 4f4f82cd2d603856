//! An embeddable Microsoft Entra ID token broker: it keeps a fresh token ready for every scope in use.
//!
//! Credential providers (client secret, managed identity, your own) stand behind one trait, [`Provider`]. A cache and one
//! refresh engine stand behind one type, [`Broker`]: it serves a cached token without waiting, refreshes what is in use
//! before it expires, makes one request where a thousand tasks ask at once, and never replaces a token that is still good
//! by an error.
//!
//! ```
//! use entra_broker::{Broker, FnProvider, Fetched};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), entra_broker::Error> {
//! # let provider = FnProvider::new(|cx, _| Box::pin(async move {
//! #     Ok(Fetched::new("eyJ0eXAi", cx.clock().now(), std::time::Duration::from_secs(3600)))
//! # }));
//! // let provider = ClientSecret::new("contoso.onmicrosoft.com", client_id, secret)?;
//! let broker = Broker::new(provider)?;
//! let token = broker.get_token("https://vault.azure.net/.default").await?;
//!
//! let mut headers = http::HeaderMap::new();
//! headers.insert(http::header::AUTHORIZATION, token.authorization());
//! # Ok(()) }
//! ```
//!
//! The manual is the [`guide`]: [quickstart](guide::quickstart), [providers](guide::providers),
//! [Azure SDK](guide::azure_sdk), [caching](guide::caching),
//! [errors](guide::errors), [security](guide::security), [testing](guide::testing), [scaling](guide::scaling),
//! [defaults](guide::defaults).
//!
//! # Features
//!
//! | feature | what it adds | what it costs |
//! |---|---|---|
//! | none | secrets, federated credentials, managed identity, chain, audit, cache, refresh engine | reqwest with rustls |
//! | `azure-core` | the broker under the clients of the Azure SDK, and its credentials as providers | azure_core, without its HTTP client |
//! | `certificate` | applications that prove themselves by a certificate | x509-parser, and cbc, des and rc2 for old key files |
//! | `validate` | access tokens checked where they are received | jsonwebtoken |
//! | `cli` | the sign-in of the Azure CLI and the Azure Developer CLI | tokio's child processes |
//! | `emulator` | a local Entra for examples and tests | axum, hyper's server, jsonwebtoken, maud, rcgen, tokio-rustls, toml, x509-parser |

mod authority;
mod broker;
mod cache;
mod cell;
mod claims;
mod client_id;
mod clock;
mod consent;
#[cfg(feature = "emulator")]
pub mod emulator;
mod env;
mod error;
mod fetched;
pub mod guide;
mod http;
mod identity;
mod identity_id;
#[cfg(feature = "azure-core")]
mod integrations;
mod provider;
mod refresh;
mod request;
mod scope;
mod secret;
mod subject;
mod sync;
mod tenant;
mod text;
mod token;
#[cfg(feature = "validate")]
mod validate;
mod wire;

pub use self::http::{
    Answer, HttpTransport, HttpTransportBuilder, Pool, RetryPolicy, Transport, TransportError,
    TransportErrorKind,
};
pub use authority::{Authority, DangerousAuthority};
pub use broker::{
    Audit, AuditBuilder, AuditCalls, AuditEvent, AuditOutcome, AuditRecord, AuditSink, Broker, Builder,
    GetToken, Handle, HandleGet, JsonLines, Metrics, Reader, TenantCheck, TenantStanding, Warmed,
};
pub use claims::Claims;
pub use client_id::ClientId;
pub use clock::{Clock, ManualClock, Now, Sleep};
pub use consent::{AdminConsent, ConsentAnswer, PendingConsent};
pub use env::Env;
pub use error::{Blame, Error, ErrorKind};
pub use fetched::{Fetched, Grant, Reason};
pub use identity::{Binding, Identity};
pub use identity_id::ManagedIdentityId;
#[cfg(feature = "azure-core")]
pub use integrations::{AzureCredential, AzureOptions};
pub use provider::{
    AssertionRequest, AzurePipelines, Chain, ClientAssertion, ClientAuth, ClientCredential, ClientSecret,
    ConfidentialClient, CredentialRequest, CredentialSource, DangerousEnvironment, DangerousManagedIdentity,
    Environment, FederatedManagedIdentity, FetchContext, FnProvider, GitHubActions, ManagedIdentity,
    Provider, RotatingSecret, SecretFile, StaticToken, WorkloadIdentity, default_chain,
};
#[cfg(feature = "cli")]
pub use provider::{AzureCli, AzureDeveloperCli};
#[cfg(feature = "certificate")]
pub use provider::{Certificate, ClientCertificate};
pub use request::{CallOptions, RequestRef, TokenRequest};
pub use scope::ScopeSet;
pub use secret::Secret;
pub use subject::{Subject, UserAssertion, UserId};
pub use tenant::TenantId;
pub use token::{AccessToken, Token};
#[cfg(feature = "validate")]
pub use validate::{TokenValidator, TrustedIssuer, ValidToken, ValidatorBuilder};
pub use wire::BearerChallenge;

use std::{future::Future, pin::Pin};

/// A boxed future, as the object-safe traits of this crate return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The README's code is compiled with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub mod readme {}
