//! Which application asks.

use std::{fmt, str::FromStr, sync::Arc};

use crate::{Error, text::guid};

/// An application's client id, which Entra also calls the application id: a GUID.
///
/// An error never shows the text that was refused, since it may be a secret that went into the wrong field.
///
/// ```
/// use entra_broker::ClientId;
///
/// let id = ClientId::parse("00001111-AAAA-2222-BBBB-3333CCCC4444")?;
/// assert_eq!(id.as_str(), "00001111-aaaa-2222-bbbb-3333cccc4444");
/// # Ok::<(), entra_broker::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(Arc<str>);

impl ClientId {
    /// Reads a client id.
    ///
    /// # Errors
    /// `Config` where the text is not a GUID.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let advice = "The portal shows it as Application (client) ID on the overview page of the app registration; \
                      the object id, the name and the secret are something else.";
        guid(text).map(|id| Self(id.into())).ok_or_else(|| {
            Error::config("client id: expected a GUID such as 00001111-aaaa-2222-bbbb-3333cccc4444")
                .with_advice(advice)
        })
    }

    /// The client id in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClientId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl AsRef<str> for ClientId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientId").field(&&*self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn two_spellings_of_one_id_are_one() {
        let lower = ClientId::parse("00001111-aaaa-2222-bbbb-3333cccc4444").unwrap();
        assert_eq!(lower, "00001111-AAAA-2222-BBBB-3333CCCC4444".parse().unwrap());
        assert_eq!(lower.to_string(), lower.as_ref());
    }

    #[test]
    fn a_secret_in_the_wrong_field_is_not_shown() {
        for bad in ["abc8Q~-very-secret", "", " 00001111-aaaa-2222-bbbb-3333cccc4444"] {
            let error = ClientId::parse(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().starts_with("client id: expected a GUID such as "));
            assert!(!format!("{error:?}").contains("very-secret"));
        }
    }
}
