//! A local token service and managed-identity endpoint, for examples and tests.
//!
//! **This is not Microsoft Entra ID, and nothing here protects anything.** It speaks Entra's protocol as far as a client needs it,
//! hands a token to everyone who knows a secret that stands in its source, and listens on loopback addresses only, unless it is told to be dangerous. Its tokens
//! open no door in Azure. Never let a service trust its keys outside of a test.
//!
//! An [`Emulator`] starts within milliseconds, with its [`sample`] directory of tenants, apps and identities, and ends when the last
//! clone is dropped. While it runs, its [`Directory`] can be changed, [`Faults`] make it misbehave, and a [`Journal`] tells what it
//! was asked. With [`Emulator::in_memory`] and [`Emulator::call`] it needs no socket, and with [`Builder::time`] it runs on a clock
//! of the test's own.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use entra_broker::emulator::{Emulator, Endpoint, Fault, sample};
//!
//! let emulator = Emulator::start().await?;
//! let token_endpoint = format!("{}/{}/oauth2/v2.0/token", emulator.authority(), sample::TENANT);
//! # let _ = token_endpoint;
//!
//! // The next two requests of this client are throttled.
//! emulator.faults().add(Fault::on(Endpoint::TokenService).client(sample::SECRET_APP).status(429).times(2));
//! // An administrator lets the secret expire.
//! emulator.directory().expire_secret(sample::SECRET_APP, sample::SECRET);
//! # Ok(())
//! # }
//! ```
//!
//! # What it serves
//!
//! - the token endpoint, v2 and v1: client credentials, authorization code, refresh token, device code, on behalf of and password, with a
//!   secret, a certificate's assertion, a federated credential, or as a public client
//! - the sign-in pages: authorize, consent, policies, device codes, admin consent, signing out; they need no script
//! - discovery, instance discovery and signing keys
//! - managed identity, as the instance metadata service (`/metadata/identity/oauth2/token`), App Service (`/msi/token`), Azure Arc
//!   (`/arc/token`), Cloud Shell (`/cloudshell`), Azure ML (`/ml/token`) and Service Fabric (`/sf/token`)
//! - [control] below `/_emulator/`, for tests in other languages: directory, faults, clock, journal and keys
//!
//! Errors carry the AADSTS numbers and the shape of Entra's; their wording is the emulator's own.

mod answer;
mod body;
mod builder;
mod clock;
mod codes;
pub mod control;
mod directory;
mod error;
mod faults;
mod identity;
mod ids;
mod journal;
mod jws;
mod keys;
mod request;
pub mod sample;
mod server;
mod service;
mod sign_in;
mod time;
mod tls;
mod token_service;
mod who;

pub use body::{Body, BodyCut};
pub use builder::{Builder, DangerousBuilder};
pub use clock::{Clock, ClockError};
pub use directory::{
    App, Certificate, Directory, DirectoryError, ExpiresOn, FederatedCredential, InvalidCertificate,
    InvalidJwks, Issuer, ManagedIdentity, Policy, RefreshRotation, Requirement, Resource, User,
};
pub use faults::{Fault, FaultId, Faults};
pub use journal::{Entry, Journal};
pub use service::Broken;

use bytes::Bytes;
use server::Open;
use service::Service;
use std::io;
use std::sync::Arc;

/// One of the two things that the emulator is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// Where an app or user gets tokens: what `login.microsoftonline.com` is in Azure.
    TokenService,
    /// Where a machine gets tokens for its managed identities: what `169.254.169.254` is in Azure.
    Identity,
}

/// A running emulator. **Not Entra: see the [module](self).**
///
/// Clones are the same emulator. Soon after the last one is dropped its listeners close and its tasks end.
#[derive(Debug, Clone)]
pub struct Emulator(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    service: Arc<Service>,
    ca_pem: Option<String>,
    identity_tls: Option<IdentityTls>,
    /// Never read: dropping it ends the tasks.
    _open: Open,
}

/// The identity endpoint's other address.
#[derive(Debug)]
struct IdentityTls {
    endpoint: String,
    thumbprint: String,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Not left to the tasks, which may outlive the emulator by a moment.
        self.service.core.identity.arc_keys.close();
    }
}

impl Emulator {
    /// An emulator to be set up.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Starts with the sample directory, without TLS, on two free ports of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// When no listener can be opened, or there is no tokio runtime.
    pub async fn start() -> io::Result<Self> {
        Self::builder().start().await
    }

    /// Starts with the sample directory and without sockets, for [`call`](Self::call).
    pub fn in_memory() -> Self {
        Self::builder().in_memory()
    }

    /// The address of the token service, as in `http://127.0.0.1:34567`, or the one given to [`Builder::authority`]. In memory a text of
    /// that shape.
    pub fn authority(&self) -> &str {
        &self.0.service.core.authority
    }

    /// The address of the managed-identity endpoint, as in `http://127.0.0.1:34568`. In memory a text of that shape.
    pub fn identity_endpoint(&self) -> &str {
        &self.0.service.core.identity_endpoint
    }

    /// The address of the managed-identity endpoint with TLS, where there is one by [`Builder::identity_tls_listen`].
    pub fn identity_tls_endpoint(&self) -> Option<&str> {
        self.0.identity_tls.as_ref().map(|tls| tls.endpoint.as_str())
    }

    /// SHA-1 of the certificate at [`identity_tls_endpoint`](Self::identity_tls_endpoint), in upper case hexadecimal digits: what
    /// `IDENTITY_SERVER_THUMBPRINT` is to a client in Service Fabric.
    pub fn identity_tls_thumbprint(&self) -> Option<&str> {
        self.0.identity_tls.as_ref().map(|tls| tls.thumbprint.as_str())
    }

    /// Where the certificate is the emulator's own, as with [`Builder::tls`], that of the authority that a client has to trust.
    pub fn ca_pem(&self) -> Option<&str> {
        self.0.ca_pem.as_deref()
    }

    /// Serves a request without a socket: the same handlers, faults and journal.
    ///
    /// Only path and query of the request's URI count. The answer's body comes frame by frame, at the pace a fault gives it.
    ///
    /// # Errors
    ///
    /// [`Broken`] where a fault would have broken the connection instead of answering.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future is a client that goes away: its request stays in the journal and stays unanswered.
    pub async fn call(
        &self,
        endpoint: Endpoint,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<Body>, Broken> {
        let (parts, body) = request.into_parts();
        self.0.service.serve(endpoint, parts, Some(body)).await
    }

    /// What goes wrong. At first nothing does.
    pub fn faults(&self) -> &Faults {
        &self.0.service.core.faults
    }

    /// What was asked.
    pub fn journal(&self) -> &Journal {
        &self.0.service.core.journal
    }

    /// What the emulator knows; it can be changed while it serves.
    pub fn directory(&self) -> &Directory {
        &self.0.service.core.directory
    }

    /// What time it is. It can be moved and stopped.
    pub fn clock(&self) -> &Clock {
        &self.0.service.core.time
    }
}
