//! One exchange over HTTP: the transport that makes an attempt, and the attempts made of it.
//!
//! A [`Transport`] sends once and tells the truth about it. When to send again is decided in `retry`, purely, and done
//! in `exchange`, the only place that waits.

mod error;
mod exchange;
mod explain;
mod pinned;
mod proxy;
mod reqwest_transport;
mod retry;
mod target;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use bytes::Bytes;

pub use error::{TransportError, TransportErrorKind};
pub use exchange::Answer;
pub(crate) use exchange::{ANSWER_LIMIT, ATTEMPT_TIMEOUT, Exchange, identify, shown_host};
pub use reqwest_transport::{HttpTransport, HttpTransportBuilder};
pub use retry::RetryPolicy;

use crate::BoxFuture;

/// Which kind of endpoint a request goes to, and so which way it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Pool {
    /// The token service: by https, through the proxy of the environment where one is set. Plain http to loopback
    /// only.
    TokenService,
    /// The managed-identity endpoint of the platform: never through a proxy, which would answer with an identity of
    /// its own. Plain http to loopback and link-local addresses only.
    ManagedIdentity,
    /// The managed-identity endpoint of Service Fabric: by https and never through a proxy. Its certificate is issued by
    /// nobody in particular and is known by the SHA-1 of its DER form, whatever name and dates are in it. A server with
    /// any other one must not be sent anything.
    ServiceFabric {
        /// The SHA-1 of the server's certificate.
        thumbprint: [u8; 20],
    },
}

/// Sends one request, once.
///
/// [`HttpTransport`] is the usual one. Write your own to put another HTTP client in its place, or to answer without a
/// network in a test. The body and some headers of a request are secrets, and so is the body of an answer: neither
/// belongs in a log.
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Makes one attempt: no retry, no redirect, no cache, no time-out of the whole. The body of the answer is read
    /// to its end; one that is larger than `limit` bytes is an error as soon as that is known.
    ///
    /// # Errors
    ///
    /// Where there is no complete answer. Any status is an answer. [`TransportError::may_have_left`] has to be true
    /// unless it is certain that no byte of the request was sent: an authorization code is spent on the strength of
    /// it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the attempt. Whoever drops it has to assume that the request was sent.
    fn send<'a>(
        &'a self,
        pool: Pool,
        request: http::Request<Bytes>,
        limit: usize,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, TransportError>>;
}

macro_rules! forward {
    ($pointer:ident) => {
        impl<T: Transport + ?Sized> Transport for $pointer<T> {
            fn send<'a>(
                &'a self,
                pool: Pool,
                request: http::Request<Bytes>,
                limit: usize,
            ) -> BoxFuture<'a, Result<http::Response<Bytes>, TransportError>> {
                (**self).send(pool, request, limit)
            }
        }
    };
}

forward!(Arc);
forward!(Box);
