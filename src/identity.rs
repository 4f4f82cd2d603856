//! Who asks: the half of a key that is the provider's.

use crate::{authority::Authority, error::Error, sync::Arc, tenant::TenantId};

/// Who a provider is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Identity {
    authority: Option<Authority>,
    tenant: Option<TenantId>,
    client_id: Option<Arc<str>>,
    binding: Binding,
    never_shared: bool,
}

/// Whether tokens may be shared with other processes, and under which name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Binding {
    /// They never leave the process.
    #[default]
    Local,
    /// Processes that configure the same name share them. Not a secret, and not derived from one: so a rotated
    /// secret keeps the cache, and who guesses at a secret reads nothing.
    Shared(Arc<str>),
}

impl Identity {
    /// Somebody of whom nothing is known, whose tokens never leave the process.
    pub fn local() -> Self {
        Self::default()
    }

    /// The authority that is asked.
    #[must_use]
    pub fn with_authority(mut self, authority: Authority) -> Self {
        self.authority = Some(authority);
        self
    }

    /// The tenant that is asked where a request names none.
    #[must_use]
    pub fn with_tenant(mut self, tenant: TenantId) -> Self {
        self.tenant = Some(tenant);
        self
    }

    /// The application, or the managed identity.
    #[must_use]
    pub fn with_client_id(mut self, client_id: impl AsRef<str>) -> Self {
        self.client_id = Some(Arc::from(client_id.as_ref()));
        self
    }

    /// Nothing proves that two processes with this provider are the same: its tokens can be given no binding.
    #[must_use]
    pub fn never_shared(mut self) -> Self {
        self.never_shared = true;
        self
    }

    /// Gives it the name under which its tokens may be shared.
    ///
    /// # Errors
    ///
    /// `Config` where the name is empty, longer than 128 bytes or not of letters, digits, `.`, `_` and `-`, and where
    /// its tokens can never be shared.
    pub fn shared(mut self, binding: &str) -> Result<Self, Error> {
        if self.never_shared {
            return Err(Error::config("binding: this provider's tokens are of this process alone")
                .with_advice("Which identity it is, the machine decides. Leave the binding out."));
        }
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if binding.is_empty() || binding.len() > 128 || !binding.bytes().all(fits) {
            return Err(Error::config("binding: expected 1 to 128 letters, digits, `.`, `_` or `-`")
                .with_advice(
                    "Name what the credential is for, such as `billing-prod`. Never derive it from a secret.",
                ));
        }
        self.binding = Binding::Shared(Arc::from(binding));
        Ok(self)
    }

    /// The authority, if it has one.
    pub fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    /// The home tenant, if it has one.
    pub fn tenant(&self) -> Option<&TenantId> {
        self.tenant.as_ref()
    }

    /// The client id, if it has one.
    pub fn client_id(&self) -> Option<&str> {
        self.client_id.as_deref()
    }

    /// Whether its tokens may be shared.
    pub fn binding(&self) -> &Binding {
        &self.binding
    }
}
