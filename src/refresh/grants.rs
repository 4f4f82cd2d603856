//! The steps of a fetch around the fetch itself: the lease of what is spent, and the level that machines share.
//!
//! Without viewers and without a shared store, these steps are the no-ops of [`Alone`], in the same order.

use std::fmt::Debug;

use crate::{
    BoxFuture,
    clock::Now,
    error::{Error, ErrorKind},
    fetched::{Fetched, Grant},
    request::Key,
    subject::Subject,
    token::AccessToken,
};

/// Who has the refresh tokens of signed-in users. One of them is spent by one fetch at a time.
pub(crate) trait Grants: Debug + Send + Sync + 'static {
    /// Leases the subject's grant. Whoever holds the lease gives up before it does.
    fn take<'a>(&'a self, subject: &'a Subject, deadline: Now) -> BoxFuture<'a, Result<GrantLease, Error>>;

    /// Keeps the refresh token that came back, and ends the lease.
    fn commit<'a>(&'a self, lease: GrantLease, fetched: &'a Fetched) -> BoxFuture<'a, Result<(), Error>>;
}

/// A grant that this fetch alone may spend.
#[derive(Debug)]
pub(crate) struct GrantLease {
    pub(crate) grant: Grant,
}

/// The level behind the process cache, where other machines put their tokens.
pub(crate) trait Shared: Debug + Send + Sync + 'static {
    /// What another machine fetched meanwhile, if it is newer than `mine`.
    fn newer<'a>(&'a self, key: &'a Key, mine: Option<&'a AccessToken>) -> BoxFuture<'a, Option<Fetched>>;

    /// Waits until no other machine fetches this key. However the fetch ends, the lease ends with what is returned.
    fn lease<'a>(&'a self, key: &'a Key, deadline: Now) -> BoxFuture<'a, Result<KeyLease, Error>>;

    /// Makes a token known to the others.
    fn put<'a>(&'a self, key: &'a Key, fetched: &'a Fetched) -> BoxFuture<'a, ()>;
}

/// The right to fetch a key, given back when it is dropped.
pub(crate) struct KeyLease(#[expect(dead_code, reason = "it is held, not read")] Option<Box<dyn Send>>);

impl KeyLease {
    /// Where there is nobody to share with.
    pub(crate) fn unshared() -> Self {
        Self(None)
    }
}

/// A broker by itself: nobody has signed in, nothing is shared.
#[derive(Debug)]
pub(crate) struct Alone;

impl Grants for Alone {
    fn take<'a>(&'a self, subject: &'a Subject, _: Now) -> BoxFuture<'a, Result<GrantLease, Error>> {
        Box::pin(async move {
            match subject {
                Subject::App => Ok(GrantLease { grant: Grant::App }),
                Subject::OnBehalfOf(assertion) => {
                    Ok(GrantLease { grant: Grant::OnBehalfOf(assertion.token().clone()) })
                }
                Subject::User(_) => Err(Error::new(
                    ErrorKind::SignInRequired,
                    "this user has not signed in to this broker",
                )
                .with_advice(
                    "Sign the user in first, or leave the subject out to get the application's own token.",
                )),
            }
        })
    }

    fn commit<'a>(&'a self, _: GrantLease, _: &'a Fetched) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }
}

impl Shared for Alone {
    fn newer<'a>(&'a self, _: &'a Key, _: Option<&'a AccessToken>) -> BoxFuture<'a, Option<Fetched>> {
        Box::pin(async { None })
    }

    fn lease<'a>(&'a self, _: &'a Key, _: Now) -> BoxFuture<'a, Result<KeyLease, Error>> {
        Box::pin(async { Ok(KeyLease::unshared()) })
    }

    fn put<'a>(&'a self, _: &'a Key, _: &'a Fetched) -> BoxFuture<'a, ()> {
        Box::pin(async {})
    }
}
