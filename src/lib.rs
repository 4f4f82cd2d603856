//! An embeddable Microsoft Entra ID token broker.

mod authority;
mod claims;
mod client_id;
mod env;
mod error;
mod identity_id;
mod scope;
mod secret;
mod sync;
mod tenant;
mod text;
mod wire;

pub use authority::{Authority, DangerousAuthority};
pub use claims::Claims;
pub use client_id::ClientId;
pub use env::Env;
pub use error::{Blame, Error, ErrorKind};
pub use identity_id::ManagedIdentityId;
pub use scope::ScopeSet;
pub use secret::Secret;
pub use tenant::TenantId;

use std::{future::Future, pin::Pin};

/// A boxed future, as the object-safe traits of this crate return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
