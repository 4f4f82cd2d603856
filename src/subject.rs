//! Whose token is asked for.

use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::LazyLock,
};

use arcstr::ArcStr;
use aws_lc_rs::digest::{SHA256, digest};

use crate::{error::Error, secret::Secret, sync::Arc};

/// Whose token it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Subject {
    /// The application's own.
    #[default]
    App,
    /// A viewer's, who has signed in.
    User(UserId),
    /// The user's whose token came in with a request that this service is answering.
    OnBehalfOf(UserAssertion),
}

impl Subject {
    /// As a cache keeps it, where nothing is kept for longer than it is needed that could be spent.
    pub(crate) fn unspendable(&self) -> Self {
        match self {
            Self::OnBehalfOf(assertion) => Self::OnBehalfOf(assertion.unspendable()),
            other => other.clone(),
        }
    }
}

/// The name under which a signed-in user is known to this broker. It says who, and proves nothing.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UserId(ArcStr);

impl UserId {
    /// # Errors
    ///
    /// `Config` where the name is blank or longer than 256 bytes.
    pub fn new(name: impl AsRef<str>) -> Result<Self, Error> {
        let name = name.as_ref();
        if name.trim().is_empty() || name.len() > 256 {
            return Err(Error::config("user id: expected a name of 1 to 256 bytes")
                .with_advice("Use the user's tenant id and object id, which never change."));
        }
        Ok(Self(ArcStr::from(name)))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UserId").field(&self.0).finish()
    }
}

/// A user's access token for this application, which another token is asked for with. Equal where the text is.
#[derive(Clone)]
pub struct UserAssertion(Arc<Assertion>);

struct Assertion {
    /// Empty where it is only to be known again.
    token: Secret,
    digest: [u8; 32],
}

impl UserAssertion {
    /// # Errors
    ///
    /// `Config` where the token is empty.
    pub fn new(token: impl Into<Secret>) -> Result<Self, Error> {
        let token = token.into();
        if token.is_empty() {
            return Err(Error::config("user assertion: expected the access token of the incoming request"));
        }
        let digest = sha256(token.expose());
        Ok(Self(Arc::new(Assertion { token, digest })))
    }

    /// The token itself.
    pub fn token(&self) -> &Secret {
        &self.0.token
    }

    /// The same without the token: it is known again, and cannot be spent.
    fn unspendable(&self) -> Self {
        static NOTHING: LazyLock<Secret> = LazyLock::new(|| Secret::new(""));
        Self(Arc::new(Assertion { token: NOTHING.clone(), digest: self.0.digest }))
    }
}

impl PartialEq for UserAssertion {
    fn eq(&self, other: &Self) -> bool {
        self.0.digest == other.0.digest
    }
}

impl Eq for UserAssertion {}

impl Hash for UserAssertion {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.digest.hash(state);
    }
}

impl fmt::Debug for UserAssertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UserAssertion(***)")
    }
}

/// SHA-256, by which texts are told apart that must not be kept.
pub(crate) fn sha256(text: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    out
}
