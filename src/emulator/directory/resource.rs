//! Resources: the APIs that tokens are asked for.

use crate::emulator::ids::guid_of;
use std::collections::{BTreeMap, BTreeSet};

/// An API that tokens are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a resource exists once it is added to a directory"]
pub struct Resource {
    pub(crate) identifier: String,
    pub(crate) aliases: Vec<String>,
    pub(crate) app_id: String,
    pub(crate) v2: bool,
    /// Delegated permissions by name, and whether only an administrator may consent to them. Empty: every name is a permission.
    pub(crate) scopes: BTreeMap<String, bool>,
    /// The tenants that have a service principal of it. `None`: all.
    pub(crate) tenants: Option<BTreeSet<String>>,
    pub(crate) enabled: bool,
}

impl Resource {
    /// An API with this identifier URI, such as `https://storage.azure.com` or `api://orders`. Its access tokens have the v1 shape.
    ///
    /// One `*` in it stands for any text: `https://*.servicebus.windows.net`.
    pub fn new(identifier: impl Into<String>) -> Self {
        let identifier = identifier.into();
        Self {
            app_id: guid_of(&["resource", &identifier]),
            identifier,
            aliases: Vec::new(),
            v2: false,
            scopes: BTreeMap::new(),
            tenants: None,
            enabled: true,
        }
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

    /// Adds a delegated permission to which users may consent, such as `access_as_user`.
    ///
    /// A resource without any takes every name for a permission; one that has some knows no others.
    pub fn scope(mut self, name: impl Into<String>) -> Self {
        self.scopes.insert(name.into(), false);
        self
    }

    /// Adds a delegated permission to which only an administrator may consent.
    pub fn admin_scope(mut self, name: impl Into<String>) -> Self {
        self.scopes.insert(name.into(), true);
        self
    }

    /// Lets only these tenants know it.
    pub fn only_in<T: AsRef<str>>(mut self, tenant_ids: impl IntoIterator<Item = T>) -> Self {
        let ids = tenant_ids.into_iter().map(|id| id.as_ref().to_ascii_lowercase());
        self.tenants = Some(ids.collect());
        self
    }

    /// Whether a tenant has a service principal of it.
    pub(crate) fn is_in(&self, tenant: &str) -> bool {
        self.tenants.as_ref().is_none_or(|tenants| tenants.contains(tenant))
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
