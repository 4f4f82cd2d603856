//! Whether a user may have a token for an app: what the token endpoint refuses, and what the sign-in pages ask for.

use crate::emulator::directory::{App, Requirement, Resource, User};
use crate::emulator::error::{EntraError, echo};
use crate::emulator::ids;
use crate::emulator::service::Core;
use crate::emulator::time::unix_seconds;
use crate::emulator::token_service::claims::ClaimsRequest;
use crate::emulator::token_service::grants::SignedIn;
use crate::emulator::token_service::scopes::{Permissions, Wanted};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::SystemTime;

/// The permission that stands for a resource which declares none.
const USER_IMPERSONATION: &str = "user_impersonation";

/// What has to be decided: may this app have permissions on a resource on behalf of this user?
pub(crate) struct Review<'a> {
    pub(crate) app: &'a App,
    /// The tenant that the token is to be of.
    pub(crate) tenant: &'a str,
    pub(crate) user: &'a User,
    pub(crate) wanted: &'a Wanted,
}

/// A decision on permissions, before consent.
pub(crate) struct Reviewed {
    pub(crate) resource: Resource,
    /// Asked for, and consented to already.
    pub(crate) granted: BTreeSet<String>,
    /// Asked for, and not consented to.
    pub(crate) missing: BTreeSet<String>,
}

impl Reviewed {
    /// Those missing ones to which only an administrator may consent.
    pub(crate) fn for_admins(&self) -> BTreeSet<String> {
        let scopes = &self.resource.scopes;
        self.missing.iter().filter(|name| scopes.get(*name) == Some(&true)).cloned().collect()
    }
}

impl Core {
    /// The user of a sign-in, if that is still good for a tenant and an app.
    ///
    /// # Errors
    ///
    /// 50034 removed, 50057 disabled, 50020 not of this tenant, 50173 revoked, 50105 not assigned.
    pub(crate) fn still_good(
        &self,
        signed_in: &SignedIn,
        tenant: &str,
        app: &App,
    ) -> Result<User, EntraError> {
        let user = self.directory.user(&signed_in.user).ok_or_else(|| {
            EntraError::aadsts(50034).saying(format!(
                "The user account {} does not exist in the directory {tenant}.",
                echo(&signed_in.user)
            ))
        })?;
        self.may_enter(&user, tenant, app)?;
        if user.revoked != signed_in.revoked {
            return Err(EntraError::aadsts(50173));
        }
        Ok(user)
    }

    /// Whether a user may sign in to an app in a tenant at all.
    pub(crate) fn may_enter(&self, user: &User, tenant: &str, app: &App) -> Result<(), EntraError> {
        if !user.enabled {
            return Err(EntraError::aadsts(50057));
        }
        if !self.directory.belongs(user, tenant) {
            return Err(EntraError::aadsts(50020).saying(format!(
                "User account '{}' does not exist in tenant '{tenant}' and cannot access the application '{}' in that tenant. The account needs to be added as an external user in the tenant first.",
                user.name, app.client_id
            )));
        }
        let principal = self.directory.principal(tenant, &app.client_id);
        let assigned = principal.is_some_and(|principal| principal.assigned.contains(&user.name));
        if app.assignment_required && !assigned {
            return Err(EntraError::aadsts(50105).saying(format!(
                "The signed-in user '{}' is not assigned to a role for the application '{}'({}).",
                user.name, app.client_id, app.name
            )));
        }
        Ok(())
    }

    /// Signs a user in with a password; what else was fulfilled is for the caller to say.
    ///
    /// # Errors
    ///
    /// 50126 for a wrong password, 50057 for a disabled user.
    pub(crate) fn sign_in(
        &self,
        user: &User,
        password: &str,
        tenant: &str,
        fulfilled: BTreeSet<Requirement>,
    ) -> Result<SignedIn, EntraError> {
        if user.password.as_ref().is_some_and(|known| known != password) || password.is_empty() {
            return Err(EntraError::aadsts(50126));
        }
        if !user.enabled {
            return Err(EntraError::aadsts(50057));
        }
        let signed_in = SignedIn {
            sid: ids::guid(),
            user: user.name.clone(),
            tenant: tenant.to_owned(),
            at: self.time.now(),
            fulfilled,
            revoked: user.revoked,
        };
        self.grants.add_sign_in(&signed_in);
        Ok(signed_in)
    }

    /// Which permissions are asked for, and which of them are there.
    ///
    /// # Errors
    ///
    /// 500011, 650052 and 50001 for the resource, 650056 and 650057 where the registration does not list it, 650053 for a permission
    /// that it does not have.
    pub(crate) fn review(&self, of: &Review<'_>) -> Result<Reviewed, EntraError> {
        let Review { app, tenant, user, wanted } = of;
        let resource = self.directory.wanted_resource(wanted.resource_name(), tenant)?;
        let consented = self.directory.consented(tenant, &app.client_id, &user.name, &resource.app_id);
        let asked = match &wanted.permissions {
            Permissions::Named(named) => {
                let unknown =
                    |name: &&String| !resource.scopes.is_empty() && !resource.scopes.contains_key(*name);
                if let Some(unknown) = named.iter().find(unknown) {
                    return Err(EntraError::aadsts(650053).saying(format!(
                        "The application '{}' asked for scope '{}' that doesn't exist on the resource '{}'. Contact the app vendor.",
                        app.name,
                        echo(unknown),
                        resource.app_id
                    )));
                }
                named.clone()
            }
            Permissions::Default => {
                let mut all = listed(app, &resource)?;
                all.extend(consented.iter().cloned());
                all
            }
        };
        let (granted, missing) = asked.into_iter().partition(|name| consented.contains(name));
        Ok(Reviewed { resource, granted, missing })
    }

    /// Every policy that a sign-in does not fulfil.
    pub(crate) fn unfulfilled(
        &self,
        signed_in: &SignedIn,
        tenant: &str,
        app: &App,
        resource: &Resource,
        claims: &ClaimsRequest,
    ) -> Vec<Requirement> {
        let is_resource = |name: &str| resource.is(name);
        let wanted = self.directory.requirements(tenant, &app.client_id, &signed_in.user, is_resource);
        // An authentication context stands for a second factor.
        let context = (!claims.contexts.is_empty()).then_some(Requirement::Mfa);
        let age = self.time.now().duration_since(signed_in.at).unwrap_or_default();
        let is_open = |requirement: &Requirement| match requirement {
            Requirement::SignInFrequency(at_most) => age > *at_most,
            Requirement::Blocked => true,
            // What was proved to one tenant is nothing to another.
            other => signed_in.tenant != tenant || !signed_in.fulfilled.contains(other),
        };
        wanted.into_iter().chain(context).filter(is_open).collect()
    }

    /// The error of a request that no person can answer, for a policy that is not fulfilled.
    pub(crate) fn refusal(
        &self,
        requirement: Requirement,
        resource: &Resource,
        claims: &ClaimsRequest,
    ) -> EntraError {
        let error = EntraError::aadsts(requirement.aadsts());
        match requirement {
            Requirement::Blocked | Requirement::ExternalChallenge | Requirement::Mfa => {
                error.challenging(&challenge(resource, claims))
            }
            _ => error,
        }
    }

    /// Whether a token of now satisfies a challenge's `nbf`.
    pub(crate) fn is_recent_enough(&self, claims: &ClaimsRequest, now: SystemTime) -> bool {
        claims.not_before.is_none_or(|not_before| unix_seconds(now) >= not_before)
    }
}

/// What the registration lists on a resource, for `/.default`.
fn listed(app: &App, resource: &Resource) -> Result<BTreeSet<String>, EntraError> {
    let Some(permissions) = &app.permissions else {
        let open = || resource.scopes.iter().filter(|(_, admin)| !**admin).map(|(name, _)| name.clone());
        let mut all: BTreeSet<String> = open().collect();
        if resource.scopes.is_empty() {
            all.insert(USER_IMPERSONATION.to_owned());
        }
        return Ok(all);
    };
    if permissions.is_empty() {
        return Err(EntraError::aadsts(650056).saying(format!(
            "Misconfigured application: the client '{}' has not listed any permissions for '{}' in the requested permissions of its registration.",
            app.client_id, resource.identifier
        )));
    }
    let found = permissions.iter().find(|(name, _)| resource.is(name));
    found.map(|(_, scopes)| scopes.clone()).ok_or_else(|| {
        EntraError::aadsts(650057).saying(format!(
            "Invalid resource. The client '{}' has requested access to the resource '{}', which is not listed in the requested permissions of its registration.",
            app.client_id, resource.identifier
        ))
    })
}

/// What a client has to bring to the sign-in page.
fn challenge(resource: &Resource, claims: &ClaimsRequest) -> Value {
    match claims.contexts.first() {
        Some(context) => json!({"access_token": {"acrs": {"essential": true, "value": context}}}),
        None => json!({"access_token": {"capolids": {"essential": true, "values": [policy_id(resource)]}}}),
    }
}

/// The policy's id, the same in every run.
fn policy_id(resource: &Resource) -> String {
    ids::guid_of(&["policy", &resource.app_id])
}
