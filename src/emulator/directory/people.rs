//! Users in the directory, and the policies that they meet.

use crate::emulator::directory::policy::{Policy, Requirement};
use crate::emulator::directory::user::User;
use crate::emulator::directory::{Directory, lower};

impl Directory {
    /// Adds a user to the tenant with the domain of the user's name, or replaces the user of this name; `false` where no tenant has that
    /// domain.
    pub fn add_user(&self, mut user: User) -> bool {
        let mut state = self.state.write();
        let known = state.tenant_id(user.domain()).is_some();
        if known {
            user.revoked = state.revoked(&user.name);
            state.users.insert(user.name.clone(), user);
        }
        known
    }

    /// Removes a user. Refresh tokens of that user answer AADSTS50034 from now on, and AADSTS50173 once there is a user of this name again:
    /// that is somebody else.
    pub fn remove_user(&self, name: &str) -> bool {
        let mut state = self.state.write();
        let removed = state.users.remove(&lower(name));
        removed.map(|user| state.gone.insert(user.name, user.revoked + 1)).is_some()
    }

    /// Disables a user, or enables the user again.
    pub fn set_user_enabled(&self, name: &str, enabled: bool) -> bool {
        self.change_user(name, |user| user.enabled = enabled)
    }

    /// Sets the only password that signs a user in.
    pub fn set_password(&self, name: &str, password: &str) -> bool {
        self.change_user(name, |user| user.password = Some(password.to_owned()))
    }

    /// Ends all sessions of a user: refresh tokens given so far answer AADSTS50173.
    pub fn revoke_sessions(&self, name: &str) -> bool {
        self.change_user(name, |user| user.revoked += 1)
    }

    /// Adds a policy.
    pub fn add_policy(&self, policy: Policy) {
        self.state.write().policies.push(policy);
    }

    /// Removes all policies of a tenant.
    pub fn clear_policies(&self, tenant_id: &str) {
        let tenant = lower(tenant_id);
        self.state.write().policies.retain(|policy| policy.tenant != tenant);
    }

    fn change_user(&self, name: &str, change: impl FnOnce(&mut User)) -> bool {
        self.state.write().users.get_mut(&lower(name)).map(change).is_some()
    }

    /// The user of this principal name.
    pub(crate) fn user(&self, name: &str) -> Option<User> {
        self.state.read().users.get(&lower(name)).cloned()
    }

    /// The user that somebody means who types this in a tenant: a whole name, or the part before the `@` in one of the tenant's domains.
    pub(crate) fn user_typed(&self, typed: &str, tenant: Option<&str>) -> Option<User> {
        let typed = lower(typed.trim());
        if typed.contains('@') {
            return self.user(&typed);
        }
        let state = self.state.read();
        let domains = match tenant {
            Some(id) => state.tenants.get(id)?.domains.as_slice(),
            None => state
                .tenants
                .values()
                .flat_map(|tenant| &tenant.domains)
                .next()
                .map_or(&[][..], std::slice::from_ref),
        };
        domains.iter().find_map(|domain| state.users.get(&format!("{typed}@{domain}")).cloned())
    }

    /// The id of the tenant that a user is at home in.
    pub(crate) fn home_of(&self, user: &User) -> Option<String> {
        self.tenant_id(user.domain())
    }

    /// Whether a user is at home or a guest in a tenant.
    pub(crate) fn belongs(&self, user: &User, tenant: &str) -> bool {
        user.guest_in.contains(tenant) || self.home_of(user).is_some_and(|home| home == tenant)
    }

    /// What a tenant wants of a user before this app gets a token for this resource.
    pub(crate) fn requirements(
        &self,
        tenant: &str,
        client_id: &str,
        user: &str,
        is_resource: impl Fn(&str) -> bool,
    ) -> Vec<Requirement> {
        let state = self.state.read();
        let holds = |policy: &&Policy| {
            policy.tenant == tenant
                && policy.client.as_ref().is_none_or(|client| client == client_id)
                && policy.user.as_ref().is_none_or(|name| name == user)
                && policy.resource.as_ref().is_none_or(|resource| is_resource(resource))
        };
        state.policies.iter().filter(holds).map(|policy| policy.requirement).collect()
    }

    /// Whether a policy that names this app keeps it from tokens of its own.
    pub(crate) fn is_app_blocked(
        &self,
        tenant: &str,
        client_id: &str,
        is_resource: impl Fn(&str) -> bool,
    ) -> bool {
        let state = self.state.read();
        state.policies.iter().any(|policy| {
            policy.tenant == tenant
                && policy.requirement == Requirement::Blocked
                && policy.client.as_deref() == Some(client_id)
                && policy.user.is_none()
                && policy.resource.as_ref().is_none_or(|resource| is_resource(resource))
        })
    }
}
