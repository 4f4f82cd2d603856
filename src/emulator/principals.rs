//! What a directory holds: apps, resources, managed identities.

use super::ids::guid_of;
use std::fmt;

/// An app registration.
///
/// ```
/// # use entra_broker::emulator::{App, Directory, sample};
/// let directory = Directory::sample();
/// directory.add_app(App::new("cccccccc-0000-0000-0000-000000000009", sample::TENANT).secret("hush"));
/// ```
#[derive(Clone)]
#[must_use = "an app exists once it is added to a directory"]
pub struct App {
    pub(crate) client_id: String,
    pub(crate) home_tenant: String,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) public: bool,
    pub(crate) multi_tenant: bool,
    pub(crate) enabled: bool,
}

#[derive(Clone)]
pub(crate) struct Secret {
    pub(crate) value: String,
    pub(crate) expired: bool,
}

impl App {
    /// A confidential, single-tenant app without credentials.
    pub fn new(client_id: impl AsRef<str>, home_tenant: impl AsRef<str>) -> Self {
        Self {
            client_id: client_id.as_ref().to_ascii_lowercase(),
            home_tenant: home_tenant.as_ref().to_ascii_lowercase(),
            secrets: Vec::new(),
            public: false,
            multi_tenant: false,
            enabled: true,
        }
    }

    /// Adds a secret; an app may have several.
    pub fn secret(mut self, value: impl Into<String>) -> Self {
        self.secrets.push(Secret { value: value.into(), expired: false });
        self
    }

    /// Makes it a public client, which has no credentials.
    pub fn public(mut self) -> Self {
        self.public = true;
        self
    }

    /// Lets other tenants have a service principal of it.
    pub fn multi_tenant(mut self) -> Self {
        self.multi_tenant = true;
        self
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("client_id", &self.client_id)
            .field("home_tenant", &self.home_tenant)
            .field("secrets", &self.secrets.len())
            .field("public", &self.public)
            .field("multi_tenant", &self.multi_tenant)
            .field("enabled", &self.enabled)
            .finish()
    }
}

/// An API that tokens are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a resource exists once it is added to a directory"]
pub struct Resource {
    pub(crate) identifier: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) app_id: String,
    pub(crate) v2: bool,
}

impl Resource {
    /// An API with this identifier URI, such as `https://storage.azure.com` or `api://orders`. Its access tokens have the v1 shape.
    ///
    /// One `*` in it stands for any text: `https://*.servicebus.windows.net`.
    pub fn new(identifier: impl Into<String>) -> Self {
        let identifier = identifier.into();
        Self { app_id: guid_of(&["resource", &identifier]), identifier, aliases: Vec::new(), v2: false }
    }

    /// Another identifier URI.
    pub fn alias(mut self, identifier: impl Into<String>) -> Self {
        self.aliases.push(identifier.into());
        self
    }

    /// The API's own app id: the audience of its v2 tokens, and a name by which it can be asked for.
    pub fn app_id(mut self, app_id: impl AsRef<str>) -> Self {
        self.app_id = app_id.as_ref().to_ascii_lowercase();
        self
    }

    /// Gives its access tokens the v2 shape (`accessTokenAcceptedVersion: 2`).
    pub fn v2(mut self) -> Self {
        self.v2 = true;
        self
    }

    /// Whether a request for `asked` means this resource. A trailing slash and letter case make no difference here, though they
    /// come back in the audience.
    pub(crate) fn is(&self, asked: &str) -> bool {
        let asked = bare(asked);
        let mut names = std::iter::once(&self.identifier).chain(&self.aliases);
        asked == self.app_id || names.any(|name| fits(&bare(name), &asked))
    }
}

fn bare(name: &str) -> String {
    name.strip_suffix('/').unwrap_or(name).to_ascii_lowercase()
}

fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, end)) => {
            let rest = text.strip_prefix(start);
            rest.and_then(|rest| rest.strip_suffix(end)).is_some_and(|middle| !middle.is_empty())
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_known_by_all_its_names() {
        let kafka = Resource::new("https://*.servicebus.windows.net")
            .alias("https://servicebus.azure.net")
            .app_id("80A10EF9-8168-493D-ABF9-3297C4EF6E3C");
        assert!(kafka.is("https://orders.servicebus.windows.net"));
        assert!(kafka.is("https://servicebus.azure.net/"));
        assert!(kafka.is("80a10ef9-8168-493d-abf9-3297c4ef6e3c"));
        assert!(!kafka.is("https://servicebus.windows.net"));
        assert!(!kafka.is("https://servicebus.azure.net//"));
    }
}
