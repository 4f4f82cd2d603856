//! The managed identities of the machine that the emulator pretends to be.

use crate::emulator::directory::Directory;
use crate::emulator::ids::guid_of;
use crate::emulator::time::unix_seconds;
use serde_json::{Value, json};
use std::time::SystemTime;

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

/// How a managed identity's platform spells `expires_on`: real ones differ, and so do their versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExpiresOn {
    /// Seconds since 1970 in a string, `"1506484173"`.
    Text,
    /// Seconds since 1970, `1506484173`.
    Number,
    /// `"2017-09-27T04:36:13Z"`.
    Iso8601,
    /// `"09/27/2017 04:36:13 +00:00"`, as .NET on Linux spells it.
    Linux,
    /// `"9/27/2017 4:36:13 AM +00:00"`, as .NET on Windows spells it.
    Windows,
}

impl ExpiresOn {
    pub(crate) fn json(self, at: SystemTime) -> Value {
        let date = |format| {
            let at = jiff::Timestamp::try_from(at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
            json!(at.strftime(format).to_string())
        };
        match self {
            Self::Text => json!(unix_seconds(at).to_string()),
            Self::Number => json!(unix_seconds(at)),
            Self::Iso8601 => date("%Y-%m-%dT%H:%M:%SZ"),
            Self::Linux => date("%m/%d/%Y %H:%M:%S +00:00"),
            Self::Windows => date("%-m/%-d/%Y %-I:%M:%S %p +00:00"),
        }
    }
}

/// What can be changed about the answers of the identity endpoint.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Answers {
    pub(crate) expires_on: Option<ExpiresOn>,
    pub(crate) stale_expires_in: bool,
}

impl Directory {
    /// Makes App Service, Azure ML and Service Fabric spell `expires_on` this way; with `None` each has its own. The instance
    /// metadata service, Azure Arc and Cloud Shell always answer seconds in a string.
    pub fn set_expires_on(&self, spelling: Option<ExpiresOn>) {
        self.state.write().identity_answers.expires_on = spelling;
    }

    /// Makes a cached token's `expires_in` the lifetime that it had when it was new, as some platforms do that hand a token out for
    /// hours; its `expires_on` stays right. It shows with [`set_identity_cache`](Self::set_identity_cache). Off at first.
    pub fn set_stale_expires_in(&self, on: bool) {
        self.state.write().identity_answers.stale_expires_in = on;
    }

    pub(crate) fn identity_answers(&self) -> Answers {
        self.state.read().identity_answers
    }
}
