//! Which managed identity is meant.

use std::{fmt, sync::Arc};

use crate::{ClientId, Error, text::guid};

/// Longer than any resource id that Azure gives out: a group's name has at most 90 characters, an identity's 128.
const MAX_RESOURCE_ID: usize = 1024;

/// Which of a machine's managed identities is meant: the machine's own, or one that was assigned to it.
///
/// ```
/// use entra_broker::ManagedIdentityId;
///
/// let assigned = ManagedIdentityId::client_id("00001111-aaaa-2222-bbbb-3333cccc4444")?;
/// assert!(!assigned.is_system());
/// # Ok::<(), entra_broker::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct ManagedIdentityId(pub(crate) IdentityKind);

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) enum IdentityKind {
    #[default]
    System,
    ClientId(ClientId),
    ObjectId(Arc<str>),
    ResourceId(Arc<str>),
}

impl ManagedIdentityId {
    /// The machine's own, system-assigned identity.
    pub const fn system() -> Self {
        Self(IdentityKind::System)
    }

    /// The user-assigned identity with this client id.
    ///
    /// # Errors
    /// `Config` where the text is not a GUID. The error does not show it.
    pub fn client_id(text: &str) -> Result<Self, Error> {
        Ok(Self(IdentityKind::ClientId(ClientId::parse(text)?)))
    }

    /// The user-assigned identity whose service principal has this object id.
    ///
    /// # Errors
    /// `Config` where the text is not a GUID. The error does not show it.
    pub fn object_id(text: &str) -> Result<Self, Error> {
        let id = guid(text).ok_or_else(|| {
            Error::config("object id: expected a GUID such as 00001111-aaaa-2222-bbbb-3333cccc4444")
        })?;
        Ok(Self(IdentityKind::ObjectId(id.into())))
    }

    /// The user-assigned identity with this resource id, which begins with `/subscriptions/`.
    ///
    /// # Errors
    /// `Config` where the text is not a resource id. The error does not show it.
    pub fn resource_id(text: &str) -> Result<Self, Error> {
        const ROOT: &str = "/subscriptions/";
        let rooted = text.get(..ROOT.len()).is_some_and(|root| root.eq_ignore_ascii_case(ROOT));
        let clean = !text.chars().any(|c| c.is_control() || c.is_whitespace());
        if !rooted || !clean || text.len() == ROOT.len() || text.len() > MAX_RESOURCE_ID {
            return Err(Error::config(
                "resource id: expected one such as /subscriptions/<id>/resourceGroups/<group>/providers/\
                 Microsoft.ManagedIdentity/userAssignedIdentities/<name>",
            ));
        }
        Ok(Self(IdentityKind::ResourceId(text.into())))
    }

    /// True for the machine's own identity.
    pub fn is_system(&self) -> bool {
        self.0 == IdentityKind::System
    }
}

impl fmt::Display for ManagedIdentityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            IdentityKind::System => f.write_str("the system-assigned identity"),
            IdentityKind::ClientId(id) => write!(f, "the identity with client id {id}"),
            IdentityKind::ObjectId(id) => write!(f, "the identity with object id {id}"),
            IdentityKind::ResourceId(id) => write!(f, "the identity {id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    const GUID: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";

    #[test]
    fn each_way_of_naming_an_identity_is_its_own() {
        let client = ManagedIdentityId::client_id(GUID).unwrap();
        assert_eq!(client, ManagedIdentityId::client_id(&GUID.to_uppercase()).unwrap());
        assert_ne!(client, ManagedIdentityId::object_id(GUID).unwrap());
        assert!(ManagedIdentityId::default().is_system());
        assert!(ManagedIdentityId::resource_id("/Subscriptions/x/resourcegroups/gr\u{fc}n(1)").is_ok());
    }

    #[test]
    fn what_is_refused_is_not_shown() {
        let long = format!("/subscriptions/{}", "a".repeat(2000));
        let errors = [
            ManagedIdentityId::client_id("hunter2").unwrap_err(),
            ManagedIdentityId::object_id("hunter2").unwrap_err(),
            ManagedIdentityId::resource_id("hunter2").unwrap_err(),
            ManagedIdentityId::resource_id("/subscriptions/").unwrap_err(),
            ManagedIdentityId::resource_id("/subscriptions/a b").unwrap_err(),
            ManagedIdentityId::resource_id("/subscriptions/a\r\nhunter2").unwrap_err(),
            ManagedIdentityId::resource_id("/subscription\u{fc}/").unwrap_err(),
            ManagedIdentityId::resource_id(&long).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(" id: expected "), "{error}");
            assert!(!format!("{error:?}").contains("hunter2"));
        }
    }
}
