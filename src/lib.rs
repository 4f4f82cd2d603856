//! An embeddable Microsoft Entra ID token broker.

mod authority;
mod broker;
mod cache;
mod cell;
mod claims;
mod client_id;
mod clock;
#[cfg(feature = "emulator")]
pub mod emulator;
mod env;
mod error;
mod fetched;
mod http;
mod identity;
mod identity_id;
mod provider;
mod refresh;
mod request;
mod scope;
mod secret;
mod sync;
mod tenant;
mod text;
mod token;
mod wire;

pub use self::http::{
    Answer, HttpTransport, HttpTransportBuilder, Pool, RetryPolicy, Transport, TransportError,
    TransportErrorKind,
};
pub use authority::{Authority, DangerousAuthority};
pub use broker::{Broker, Builder, GetToken, Handle, HandleGet, Metrics};
pub use claims::Claims;
pub use client_id::ClientId;
pub use clock::{Clock, ManualClock, Now, Sleep};
pub use env::Env;
pub use error::{Blame, Error, ErrorKind};
pub use fetched::{Fetched, Grant, Reason};
pub use identity::{Binding, Identity};
pub use identity_id::ManagedIdentityId;
pub use provider::{
    ClientAuth, ClientSecret, ConfidentialClient, FetchContext, FnProvider, ManagedIdentity, Provider,
    StaticToken,
};
pub use request::{CallOptions, RequestRef, Subject, TokenRequest, UserAssertion, UserId};
pub use scope::ScopeSet;
pub use secret::Secret;
pub use tenant::TenantId;
pub use token::{AccessToken, Token};

use std::{future::Future, pin::Pin};

/// A boxed future, as the object-safe traits of this crate return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
