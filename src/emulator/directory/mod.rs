//! The directory: tenants, apps, service principals, resources and managed identities, all of them changeable while it serves.

mod app;
mod apps;
mod certificate;
pub(crate) mod file;
mod issuer;
mod lookup;
mod managed_identity;
mod people;
mod policy;
mod resource;
mod user;

pub(crate) use app::TOKEN_EXCHANGE;
pub use app::{App, FederatedCredential};
pub(crate) use certificate::hex;
pub use certificate::{Certificate, InvalidCertificate};
pub use file::DirectoryError;
pub use issuer::{InvalidJwks, Issuer};
pub use managed_identity::{ExpiresOn, ManagedIdentity};
pub use policy::{Policy, Requirement};
pub use resource::Resource;
pub use user::User;

use crate::emulator::error::EntraError;
use crate::emulator::ids::{guid_of, is_guid};
use crate::emulator::keys::Keys;
use parking_lot::RwLock;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// Entra's usual lifetime of an app's token: an hour, less the second it took to make it.
const LIFETIME: Duration = Duration::from_secs(3599);

/// How often a client may ask whether a device code was approved.
const DEVICE_INTERVAL: Duration = Duration::from_secs(5);

/// What happens to a refresh token that was exchanged for a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum RefreshRotation {
    /// It stays valid, as in Entra.
    #[default]
    KeepOld,
    /// It is refused, and whoever uses it again loses all refresh tokens of that sign-in, as RFC 9700 wants it.
    RevokeFamily,
}

/// Everything the emulator knows about tenants, apps and identities.
///
/// All methods take `&self`: what an administrator can change while the service runs, a test can change here, and the next request
/// sees it. Ids are compared without regard to case. Methods that change a thing answer whether the thing was there.
pub struct Directory {
    state: RwLock<State>,
    keys: Keys,
}

#[derive(Default, Clone)]
pub(crate) struct State {
    tenants: BTreeMap<String, Tenant>,
    apps: BTreeMap<String, App>,
    /// By URL.
    issuers: BTreeMap<String, Issuer>,
    /// By user principal name.
    users: BTreeMap<String, User>,
    /// How often the sessions of a user were revoked who is not there any more.
    gone: BTreeMap<String, u64>,
    policies: Vec<Policy>,
    resources: Vec<Resource>,
    identities: Vec<ManagedIdentity>,
    app_service_header: String,
    lifetime: Duration,
    identity_cache: bool,
    identity_answers: managed_identity::Answers,
    refresh_rotation: RefreshRotation,
    device_interval: Duration,
}

#[derive(Default, Clone)]
struct Tenant {
    domains: Vec<String>,
    /// The cloud that it lives in, if that is another one.
    cloud: Option<String>,
    principals: BTreeMap<String, Principal>,
}

/// An app's or identity's presence in one tenant.
#[derive(Debug, Clone)]
pub(crate) struct Principal {
    pub(crate) object_id: String,
    pub(crate) enabled: bool,
    /// Delegated permissions by who consented (`None`: an administrator, for everyone) and by the resource's app id.
    pub(crate) consents: BTreeMap<(Option<String>, String), BTreeSet<String>>,
    /// The users who may sign in where the app wants them to be assigned.
    pub(crate) assigned: BTreeSet<String>,
    /// Resource app ids to the roles granted on them.
    pub(crate) roles: BTreeMap<String, BTreeSet<String>>,
}

impl State {
    fn new() -> Self {
        Self { lifetime: LIFETIME, device_interval: DEVICE_INTERVAL, ..Self::default() }
    }

    /// How often the sessions of the user of this name were revoked, also if somebody else had that name: what was revoked stays so.
    fn revoked(&self, name: &str) -> u64 {
        let present = self.users.get(name).map(|user| user.revoked);
        present.or_else(|| self.gone.get(name).copied()).unwrap_or_default()
    }

    /// The id of the tenant with this id or domain.
    fn tenant_id(&self, name: &str) -> Option<String> {
        let name = lower(name);
        let found = self.tenants.iter().find(|(id, tenant)| **id == name || tenant.domains.contains(&name));
        found.map(|(id, _)| id.clone())
    }
}

impl Principal {
    fn new(tenant_id: &str, client_id: &str) -> Self {
        Self {
            object_id: guid_of(&["principal", tenant_id, client_id]),
            enabled: true,
            roles: BTreeMap::new(),
            consents: BTreeMap::new(),
            assigned: BTreeSet::new(),
        }
    }
}

/// What the tenant in a path stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Tenant(String),
    /// No tenant yet: the user's account decides.
    Any(Accounts),
}

/// Which users a path without a tenant is open to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accounts {
    /// `common`.
    All,
    /// `organizations`.
    Organizations,
    /// `consumers`, of whom the emulator knows none.
    Consumers,
}

impl Directory {
    /// An empty directory.
    pub fn new() -> Self {
        Self::of(State::new())
    }

    /// The sample directory, described by the constants of [`sample`](crate::emulator::sample).
    pub fn sample() -> Self {
        crate::emulator::sample::directory()
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

    /// Moves a tenant to another cloud, such as `microsoftonline.us`: here it is not served.
    pub fn set_tenant_cloud(&self, tenant_id: &str, instance: &str) -> bool {
        let mut state = self.state.write();
        let tenant = state.tenants.get_mut(&lower(tenant_id));
        tenant.map(|tenant| tenant.cloud = Some(instance.to_owned())).is_some()
    }

    /// Adds a resource. Where two resources fit a request, the one added first counts.
    pub fn add_resource(&self, resource: Resource) {
        self.state.write().resources.push(resource);
    }

    /// Removes the resource that a request for this name would mean.
    pub fn remove_resource(&self, name: &str) -> bool {
        let mut state = self.state.write();
        let index = state.resources.iter().position(|found| found.is(name));
        index.map(|index| state.resources.remove(index)).is_some()
    }

    /// Disables the resource that a request for this name would mean, or enables it again.
    pub fn set_resource_enabled(&self, name: &str, enabled: bool) -> bool {
        let mut state = self.state.write();
        let found = state.resources.iter_mut().find(|found| found.is(name));
        found.map(|found| found.enabled = enabled).is_some()
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

    /// Sets what App Service's endpoint wants in `X-IDENTITY-HEADER`, and Azure ML's and Service Fabric's in `secret`.
    pub fn set_app_service_header(&self, value: &str) {
        value.clone_into(&mut self.state.write().app_service_header);
    }

    /// Sets the lifetime of the tokens to come, in whole seconds.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.state.write().lifetime = lifetime;
    }

    /// Sets what happens to refresh tokens that were used. At first they stay valid.
    pub fn set_refresh_rotation(&self, rotation: RefreshRotation) {
        self.state.write().refresh_rotation = rotation;
    }

    /// Sets how often a client may ask whether a device code was approved, in whole seconds; 5 at first.
    pub fn set_device_interval(&self, interval: Duration) {
        self.state.write().device_interval = interval;
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

    pub(crate) fn refresh_rotation(&self) -> RefreshRotation {
        self.state.read().refresh_rotation
    }

    pub(crate) fn device_interval(&self) -> Duration {
        self.state.read().device_interval
    }

    pub(crate) fn identity_cache(&self) -> bool {
        self.state.read().identity_cache
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
        match tenant.as_str() {
            "common" => return Ok(Place::Any(Accounts::All)),
            "organizations" => return Ok(Place::Any(Accounts::Organizations)),
            // By this id, too, personal accounts are asked for.
            "consumers" | "9188040d-6c67-4c5b-b112-36a304b66dad" => {
                return Ok(Place::Any(Accounts::Consumers));
            }
            _ => {}
        }
        if !is_guid(&tenant) && !is_domain(&tenant) {
            // With a dot it was meant to be a domain.
            let code = if tenant.contains('.') { 50128 } else { 900023 };
            return Err(EntraError::aadsts(code).saying(format!(
                "Specified tenant identifier '{tenant}' is neither a valid DNS name, nor a valid external domain."
            )));
        }
        let state = self.state.read();
        let found =
            state.tenants.iter().find(|(id, found)| **id == tenant || found.domains.contains(&tenant));
        match found {
            Some((id, Tenant { cloud: Some(cloud), .. })) => Err(EntraError::aadsts(90038).saying(format!(
                "Tenant '{id}' belongs to the cloud '{cloud}': use that cloud's endpoint."
            ))),
            Some((id, _)) => Ok(Place::Tenant(id.clone())),
            None => Err(EntraError::aadsts(90002).saying(format!(
                "Tenant '{tenant}' not found. Check that the tenant ID is right, and that the right cloud is being used."
            ))),
        }
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
            .field("users", &state.users.keys())
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
