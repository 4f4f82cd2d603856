//! Apps in the directory, and what tenants granted them.

use crate::emulator::directory::app::{App, Secret};
use crate::emulator::directory::{Directory, Principal, lower};
use std::collections::BTreeSet;

impl Directory {
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

    /// Disables an app's service principal in one tenant, or enables it again.
    pub fn set_service_principal_enabled(&self, tenant_id: &str, client_id: &str, enabled: bool) -> bool {
        self.change_principal(tenant_id, client_id, |principal| principal.enabled = enabled)
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

    pub(super) fn change_app(&self, client_id: &str, change: impl FnOnce(&mut App) -> bool) -> bool {
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
        let new = || Principal::new(&tenant_id, &client_id);
        tenant.principals.entry(client_id.clone()).or_insert_with(new);
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

    /// Consents for everyone in a tenant, as an administrator does, to delegated permissions of an app on a resource.
    pub fn consent_for_all(&self, tenant_id: &str, client_id: &str, resource: &str, scopes: &[&str]) -> bool {
        self.add_consent(tenant_id, client_id, None, resource, scopes.iter().copied())
    }

    /// Consents for one user.
    pub fn consent(
        &self,
        tenant_id: &str,
        client_id: &str,
        user: &str,
        resource: &str,
        scopes: &[&str],
    ) -> bool {
        self.add_consent(tenant_id, client_id, Some(user), resource, scopes.iter().copied())
    }

    /// Takes back all consents to an app in a tenant, everyone's and each user's.
    pub fn withdraw_consent(&self, tenant_id: &str, client_id: &str) -> bool {
        self.change_principal(tenant_id, client_id, |principal| principal.consents.clear())
    }

    /// Assigns a user to an app that wants it: see [`App::assignment_required`].
    pub fn assign(&self, tenant_id: &str, client_id: &str, user: &str) -> bool {
        self.change_principal(tenant_id, client_id, |principal| {
            principal.assigned.insert(lower(user));
        })
    }

    /// Takes an assignment back.
    pub fn unassign(&self, tenant_id: &str, client_id: &str, user: &str) -> bool {
        self.change_principal(tenant_id, client_id, |principal| {
            principal.assigned.remove(&lower(user));
        })
    }

    pub(crate) fn add_consent<'a>(
        &self,
        tenant_id: &str,
        client_id: &str,
        user: Option<&str>,
        resource: &str,
        scopes: impl Iterator<Item = &'a str>,
    ) -> bool {
        let Some(resource) = self.resource(resource) else {
            return false;
        };
        self.change_principal(tenant_id, client_id, |principal| {
            let by = (user.map(lower), resource.app_id);
            principal.consents.entry(by).or_default().extend(scopes.map(str::to_owned));
        })
    }

    /// The permissions that an app has on a resource on behalf of this user: by the user's own consent or by everyone's.
    pub(crate) fn consented(
        &self,
        tenant_id: &str,
        client_id: &str,
        user: &str,
        resource_app_id: &str,
    ) -> BTreeSet<String> {
        let Some(principal) = self.principal(tenant_id, client_id) else {
            return BTreeSet::new();
        };
        let by =
            [None, Some(lower(user))].map(|by| principal.consents.get(&(by, resource_app_id.to_owned())));
        by.into_iter().flatten().flatten().cloned().collect()
    }

    fn change_principal(
        &self,
        tenant_id: &str,
        client_id: &str,
        change: impl FnOnce(&mut Principal),
    ) -> bool {
        let mut state = self.state.write();
        let tenant = state.tenants.get_mut(&lower(tenant_id));
        let principal = tenant.and_then(|tenant| tenant.principals.get_mut(&lower(client_id)));
        principal.map(change).is_some()
    }

    pub(crate) fn app(&self, client_id: &str) -> Option<App> {
        self.state.read().apps.get(&lower(client_id)).cloned()
    }

    pub(crate) fn principal(&self, tenant_id: &str, client_id: &str) -> Option<Principal> {
        let state = self.state.read();
        let tenant = state.tenants.get(&lower(tenant_id))?;
        tenant.principals.get(&lower(client_id)).cloned()
    }
}
