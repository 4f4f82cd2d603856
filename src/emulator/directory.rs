//! The directory: tenants, apps, service principals, resources and managed identities, all of them changeable while it serves.

use super::error::EntraError;
use super::ids::{guid_of, is_guid};
use super::keys::Keys;
use super::principals::{App, ManagedIdentity, Resource, Secret};
use parking_lot::RwLock;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// Entra's usual lifetime of an app's token: an hour, less the second it took to make it.
const LIFETIME: Duration = Duration::from_secs(3599);

/// Everything the emulator knows about tenants, apps and identities.
///
/// All methods take `&self`: what an administrator can change while the service runs, a test can change here, and the next request
/// sees it. Ids are compared without regard to case. Methods that change a thing answer whether the thing was there.
pub struct Directory {
    state: RwLock<State>,
    keys: Keys,
}

#[derive(Default)]
struct State {
    tenants: BTreeMap<String, Tenant>,
    apps: BTreeMap<String, App>,
    resources: Vec<Resource>,
    identities: Vec<ManagedIdentity>,
    app_service_header: String,
    lifetime: Duration,
    identity_cache: bool,
}

#[derive(Default)]
struct Tenant {
    domains: Vec<String>,
    principals: BTreeMap<String, Principal>,
}

/// An app's or identity's presence in one tenant.
#[derive(Debug, Clone)]
pub(crate) struct Principal {
    pub(crate) object_id: String,
    /// Resource app ids to the roles granted on them.
    pub(crate) roles: BTreeMap<String, BTreeSet<String>>,
}

/// What the tenant in a path stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Tenant(String),
    /// `common`, `organizations` or `consumers`: no tenant yet, the user's account decides.
    Any,
}

impl Directory {
    /// An empty directory.
    pub fn new() -> Self {
        Self { state: RwLock::new(State { lifetime: LIFETIME, ..State::default() }), keys: Keys::start() }
    }

    /// The sample directory, described by the constants of [`sample`](super::sample).
    pub fn sample() -> Self {
        super::sample::directory()
    }

    /// Adds a tenant with its verified domains, or gives a tenant that is there new domains.
    pub fn add_tenant(&self, tenant_id: &str, domains: &[&str]) {
        let mut state = self.state.write();
        let tenant = state.tenants.entry(lower(tenant_id)).or_default();
        tenant.domains = domains.iter().map(|domain| lower(domain)).collect();
    }

    /// Removes a tenant.
    pub fn remove_tenant(&self, tenant_id: &str) -> bool {
        let mut state = self.state.write();
        state.tenants.remove(&lower(tenant_id)).is_some()
    }

    /// Adds an app, with a service principal in its home tenant, or replaces the app with this client id.
    pub fn add_app(&self, app: App) {
        let (tenant, client_id) = (app.home_tenant.clone(), app.client_id.clone());
        self.state.write().apps.insert(client_id.clone(), app);
        self.add_service_principal(&tenant, &client_id);
    }

    /// Removes an app from everywhere.
    pub fn remove_app(&self, client_id: &str) -> bool {
        let mut state = self.state.write();
        for tenant in state.tenants.values_mut() {
            tenant.principals.remove(&lower(client_id));
        }
        state.apps.remove(&lower(client_id)).is_some()
    }

    /// Disables an app, or enables it again.
    pub fn set_app_enabled(&self, client_id: &str, enabled: bool) -> bool {
        self.change_app(client_id, |app| {
            app.enabled = enabled;
            true
        })
    }

    /// Gives an app one more secret.
    pub fn add_secret(&self, client_id: &str, secret: &str) -> bool {
        self.change_app(client_id, |app| {
            app.secrets.push(Secret { value: secret.to_owned(), expired: false });
            true
        })
    }

    /// Lets a secret expire: it now answers AADSTS7000222.
    pub fn expire_secret(&self, client_id: &str, secret: &str) -> bool {
        self.change_app(client_id, |app| {
            let found = app.secrets.iter_mut().find(|found| found.value == secret);
            found.map(|found| found.expired = true).is_some()
        })
    }

    /// Removes a secret: it now answers AADSTS7000215.
    pub fn remove_secret(&self, client_id: &str, secret: &str) -> bool {
        self.change_app(client_id, |app| {
            let before = app.secrets.len();
            app.secrets.retain(|found| found.value != secret);
            app.secrets.len() < before
        })
    }

    fn change_app(&self, client_id: &str, change: impl FnOnce(&mut App) -> bool) -> bool {
        let mut state = self.state.write();
        state.apps.get_mut(&lower(client_id)).is_some_and(change)
    }

    /// Gives an app a service principal in a tenant, as an administrator's consent does.
    pub fn add_service_principal(&self, tenant_id: &str, client_id: &str) -> bool {
        let (tenant_id, client_id) = (lower(tenant_id), lower(client_id));
        let mut state = self.state.write();
        let Some(tenant) = state.tenants.get_mut(&tenant_id) else {
            return false;
        };
        tenant.principals.entry(client_id.clone()).or_insert_with(|| Principal {
            object_id: guid_of(&["principal", &tenant_id, &client_id]),
            roles: BTreeMap::new(),
        });
        true
    }

    /// Removes an app's service principal from a tenant, with its roles there.
    pub fn remove_service_principal(&self, tenant_id: &str, client_id: &str) -> bool {
        let mut state = self.state.write();
        let tenant = state.tenants.get_mut(&lower(tenant_id));
        tenant.is_some_and(|tenant| tenant.principals.remove(&lower(client_id)).is_some())
    }

    /// Grants an app's or managed identity's principal in a tenant a role on a resource.
    pub fn grant_role(&self, tenant_id: &str, client_id: &str, resource: &str, role: &str) -> bool {
        let Some(resource) = self.resource(resource) else {
            return false;
        };
        let mut state = self.state.write();
        let tenant = state.tenants.get_mut(&lower(tenant_id));
        let principal = tenant.and_then(|tenant| tenant.principals.get_mut(&lower(client_id)));
        principal.is_some_and(|principal| {
            let roles = principal.roles.entry(resource.app_id).or_default();
            roles.insert(role.to_owned());
            true
        })
    }

    /// Adds a resource, known in every tenant. Where two resources fit a request, the one added first counts.
    pub fn add_resource(&self, resource: Resource) {
        self.state.write().resources.push(resource);
    }

    /// Removes the resource that a request for this name would mean.
    pub fn remove_resource(&self, name: &str) -> bool {
        let mut state = self.state.write();
        let index = state.resources.iter().position(|found| found.is(name));
        index.map(|index| state.resources.remove(index)).is_some()
    }

    /// Adds a managed identity, with a service principal in its tenant, or replaces the one with this client id.
    pub fn add_identity(&self, identity: ManagedIdentity) {
        self.remove_identity(&identity.client_id);
        self.add_service_principal(&identity.tenant, &identity.client_id);
        let mut state = self.state.write();
        let tenant = state.tenants.get_mut(&identity.tenant);
        if let Some(principal) = tenant.and_then(|tenant| tenant.principals.get_mut(&identity.client_id)) {
            principal.object_id.clone_from(&identity.object_id);
        }
        state.identities.push(identity);
    }

    /// Removes a managed identity.
    pub fn remove_identity(&self, client_id: &str) -> bool {
        let client_id = lower(client_id);
        let mut state = self.state.write();
        let before = state.identities.len();
        let gone = |identity: &ManagedIdentity| identity.client_id == client_id;
        state.identities.retain(|identity| !gone(identity));
        state.identities.len() < before
    }

    /// Sets what App Service's endpoint wants in `X-IDENTITY-HEADER`.
    pub fn set_app_service_header(&self, value: &str) {
        value.clone_into(&mut self.state.write().app_service_header);
    }

    /// Sets the lifetime of the tokens to come, in whole seconds.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.state.write().lifetime = lifetime;
    }

    /// Makes the identity endpoint give the same token until shortly before it expires, as the platform does. Off at first.
    pub fn set_identity_cache(&self, on: bool) {
        self.state.write().identity_cache = on;
    }

    /// Signs with a new key from now on. The old keys stay published until [`retire_keys`](Self::retire_keys).
    ///
    /// All emulators of one process start with the same key; a rotated key belongs to one emulator alone.
    pub fn rotate_keys(&self) {
        self.keys.rotate();
    }

    /// Publishes only the key that signs: what older keys signed is not to be trusted any more.
    pub fn retire_keys(&self) {
        self.keys.retire();
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(crate) fn lifetime(&self) -> Duration {
        self.state.read().lifetime
    }

    pub(crate) fn identity_cache(&self) -> bool {
        self.state.read().identity_cache
    }

    pub(crate) fn app(&self, client_id: &str) -> Option<App> {
        self.state.read().apps.get(&lower(client_id)).cloned()
    }

    pub(crate) fn principal(&self, tenant_id: &str, client_id: &str) -> Option<Principal> {
        let state = self.state.read();
        let tenant = state.tenants.get(&lower(tenant_id))?;
        tenant.principals.get(&lower(client_id)).cloned()
    }

    pub(crate) fn resource(&self, name: &str) -> Option<Resource> {
        let state = self.state.read();
        let mut resources = state.resources.iter();
        resources.find(|found| found.is(name)).cloned()
    }

    pub(crate) fn identities(&self) -> Vec<ManagedIdentity> {
        self.state.read().identities.clone()
    }

    pub(crate) fn is_app_service_header(&self, value: &str) -> bool {
        self.state.read().app_service_header == value
    }

    /// What a tenant in a path stands for, by its id, one of its domains, or one of the three words for no tenant.
    pub(crate) fn place(&self, tenant: &str) -> Result<Place, EntraError> {
        let tenant = lower(tenant);
        if matches!(tenant.as_str(), "common" | "organizations" | "consumers") {
            return Ok(Place::Any);
        }
        if !is_guid(&tenant) && !is_domain(&tenant) {
            return Err(EntraError::aadsts(900023).saying(format!(
                "Specified tenant identifier '{tenant}' is neither a valid DNS name, nor a valid external domain."
            )));
        }
        let state = self.state.read();
        let found =
            state.tenants.iter().find(|(id, found)| **id == tenant || found.domains.contains(&tenant));
        let found = found.map(|(id, _)| Place::Tenant(id.clone()));
        found.ok_or_else(|| {
            EntraError::aadsts(90002).saying(format!(
                "Tenant '{tenant}' not found. Check that the tenant ID is right, and that the right cloud is being used."
            ))
        })
    }
}

impl Default for Directory {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.read();
        let tenants: Vec<_> = state.tenants.iter().map(|(id, t)| (id, &t.domains)).collect();
        f.debug_struct("Directory")
            .field("tenants", &tenants)
            .field("apps", &state.apps.keys())
            .field("resources", &state.resources.len())
            .field("identities", &state.identities.len())
            .field("lifetime", &state.lifetime)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

fn lower(text: &str) -> String {
    text.to_ascii_lowercase()
}

fn is_domain(text: &str) -> bool {
    let label =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    text.contains('.') && text.split('.').all(label)
}
