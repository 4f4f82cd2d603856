//! What a provider is asked to spend, and what it brings back.

use std::{fmt, time::Duration};

use crate::{clock::Now, error::Error, error::ErrorKind, scope::ScopeSet, secret::Secret};

/// What a fetch may spend to get its token: resolved by the broker from the request's
/// [`Subject`](crate::Subject).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Grant {
    /// The application's own right.
    App,
    /// A user's refresh token. One that rotates must never be sent twice.
    Refresh(Secret),
    /// The access token that a user sent to this application.
    OnBehalfOf(Secret),
}

impl Grant {
    /// For providers that can only do app tokens: this one check keeps app and user tokens apart.
    ///
    /// # Errors
    ///
    /// `Config` for any grant but [`App`](Self::App); `provider` is named in it.
    pub fn app_only(&self, provider: &'static str) -> Result<(), Error> {
        match self {
            Self::App => Ok(()),
            _ => Err(Error::new(
                ErrorKind::Config,
                format!("{provider} can get tokens for the application only, not for a user"),
            )
            .with_advice(
                "Leave the subject out, or use a confidential client for requests on a user's behalf.",
            )),
        }
    }
}

/// Why a token is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// A caller waits, and there is no token.
    Miss,
    /// The token in the cache is due for its refresh.
    Due,
    /// A caller does not want the token in the cache.
    Forced,
    /// Earlier fetches failed, and this one finds out whether the cause is gone.
    Probe,
}

/// What one fetch brought.
#[non_exhaustive]
pub struct Fetched {
    pub(crate) token: Secret,
    pub(crate) sent: Now,
    pub(crate) lives: Duration,
    pub(crate) refresh_in: Option<Duration>,
    pub(crate) scopes: Option<ScopeSet>,
    pub(crate) refresh_token: Option<Secret>,
    pub(crate) account: Option<Box<str>>,
    /// In a chain: which of its providers it is from.
    pub(crate) provider: Option<&'static str>,
}

impl Fetched {
    /// A token that lives for `lives`, counted from `sent`: the moment at which it was asked for, not the one at
    /// which it came.
    pub fn new(token: impl Into<Secret>, sent: Now, lives: Duration) -> Self {
        Self {
            token: token.into(),
            sent,
            lives,
            refresh_in: None,
            scopes: None,
            refresh_token: None,
            account: None,
            provider: None,
        }
    }

    /// When the service wants it to be replaced.
    #[must_use]
    pub fn refresh_at(mut self, at: Now) -> Self {
        self.refresh_in = Some(self.sent.until(at));
        self
    }

    /// The scopes that were granted.
    #[must_use]
    pub fn scopes(mut self, scopes: ScopeSet) -> Self {
        self.scopes = Some(scopes);
        self
    }

    /// The refresh token that came along.
    #[must_use]
    pub fn refresh_token(mut self, token: Secret) -> Self {
        self.refresh_token = Some(token);
        self
    }

    /// Whose account it is, as the service names it.
    #[must_use]
    pub fn account(mut self, account: impl Into<Box<str>>) -> Self {
        self.account = Some(account.into());
        self
    }
}

impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetched")
            .field("sent", &self.sent)
            .field("lives", &self.lives)
            .field("refresh_in", &self.refresh_in)
            .field("scopes", &self.scopes)
            .finish_non_exhaustive()
    }
}
