//! The managed identities of the machine that the emulator pretends to be.

use crate::emulator::ids::guid_of;

/// A managed identity of the machine that the emulator pretends to be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an identity exists once it is added to a directory"]
pub struct ManagedIdentity {
    pub(crate) client_id: String,
    pub(crate) object_id: String,
    pub(crate) resource_id: String,
    pub(crate) tenant: String,
    pub(crate) system: bool,
}

impl ManagedIdentity {
    /// The system-assigned identity: what a request that names no identity gets.
    pub fn system(client_id: impl AsRef<str>, tenant: impl AsRef<str>) -> Self {
        Self::new(client_id.as_ref(), tenant.as_ref(), true)
    }

    /// A user-assigned identity.
    pub fn user(client_id: impl AsRef<str>, tenant: impl AsRef<str>) -> Self {
        Self::new(client_id.as_ref(), tenant.as_ref(), false)
    }

    fn new(client_id: &str, tenant: &str, system: bool) -> Self {
        let client_id = client_id.to_ascii_lowercase();
        Self {
            object_id: guid_of(&["identity", &client_id]),
            resource_id: format!(
                "/subscriptions/{}/resourcegroups/emulated/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{client_id}",
                guid_of(&["subscription", tenant])
            ),
            client_id,
            tenant: tenant.to_ascii_lowercase(),
            system,
        }
    }

    /// Its principal's object id; without it one is derived from the client id.
    pub fn object_id(mut self, object_id: impl AsRef<str>) -> Self {
        self.object_id = object_id.as_ref().to_ascii_lowercase();
        self
    }

    /// Its Azure resource id; without it one is derived from the client id.
    pub fn resource_id(mut self, resource_id: impl Into<String>) -> Self {
        self.resource_id = resource_id.into();
        self
    }
}
