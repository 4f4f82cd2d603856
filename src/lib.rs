//! An embeddable Microsoft Entra ID token broker.

mod clock;
mod error;
mod http;
mod secret;
mod sync;

pub use self::http::{
    Answer, HttpTransport, HttpTransportBuilder, Pool, RetryPolicy, Transport, TransportError,
    TransportErrorKind,
};
pub use clock::{Clock, ManualClock, Now, Sleep};
pub use error::{Blame, Error, ErrorKind};
pub use secret::Secret;

use std::{future::Future, pin::Pin};

/// A boxed future, as the object-safe traits of this crate return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
