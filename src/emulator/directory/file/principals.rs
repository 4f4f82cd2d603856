//! From a tree to the directory's state: managed identities, and what tenants granted to apps.

use crate::emulator::directory::file::fields::Field;
use crate::emulator::directory::file::node::Mistake;
use crate::emulator::directory::file::read::{Reader, Seen};
use crate::emulator::directory::{ManagedIdentity, Principal, State};
use std::collections::{BTreeMap, BTreeSet};

/// Roles by tenant, client id and the resource's app id.
pub(super) type Roles = Vec<(String, String, BTreeMap<String, BTreeSet<String>>)>;

impl State {
    /// An app's service principal in a tenant that is there, made if need be.
    pub(super) fn principal_mut(&mut self, tenant: &str, client_id: &str) -> &mut Principal {
        let principals = &mut self.tenants.entry(tenant.to_owned()).or_default().principals;
        principals.entry(client_id.to_owned()).or_insert_with(|| Principal::new(tenant, client_id))
    }
}

impl Reader<'_> {
    /// Gives back the roles, which come on top of what is said of service principals.
    pub(super) fn identities(&mut self, fields: &[Field<'_>], seen: &mut Seen) -> Result<Roles, Mistake> {
        let mut granted = Roles::new();
        for field in fields {
            let mut table = field.table()?;
            let client_id = table.need("client_id")?;
            let tenant = self.tenant(&table.need("tenant")?)?;
            let system = table.take("system");
            let make = match system.as_ref().map_or(Ok(false), Field::flag)? {
                true => ManagedIdentity::system,
                false => ManagedIdentity::user,
            };
            let mut identity = make(client_id.guid()?, tenant.clone());
            seen.once(&client_id, &identity.client_id)?;
            if let Some(object_id) = table.take("object_id") {
                identity = identity.object_id(object_id.guid()?);
                seen.once(&object_id, &identity.object_id)?;
            }
            if let Some(resource_id) = table.text("resource_id")? {
                identity = identity.resource_id(resource_id);
            }
            let roles = self.by_resource(&table.list("roles")?, "roles")?;
            table.finish()?;
            let identities = &mut self.state.identities;
            identities.retain(|found| found.client_id != identity.client_id);
            if let Some(system) =
                system.filter(|_| identity.system && identities.iter().any(|found| found.system))
            {
                return Err(
                    system.wrong("there is a system-assigned identity already, and a machine has one")
                );
            }
            identities.push(identity.clone());
            let principal = self.state.principal_mut(&tenant, &identity.client_id);
            *principal = Principal::new(&tenant, &identity.client_id);
            principal.object_id = identity.object_id;
            granted.push((tenant, identity.client_id, roles));
        }
        Ok(granted)
    }

    pub(super) fn principals(&mut self, fields: &[Field<'_>]) -> Result<(), Mistake> {
        let mut seen = Seen::default();
        for field in fields {
            let mut table = field.table()?;
            let tenant = self.tenant(&table.need("tenant")?)?;
            let client = table.need("client_id")?;
            let client_id = self.client(&client)?;
            seen.once(&client, &format!("{client_id} in {tenant}"))?;
            let mut principal = Principal::new(&tenant, &client_id);
            principal.enabled = table.flag("enabled", true)?;
            principal.roles = self.by_resource(&table.list("roles")?, "roles")?;
            for field in table.list("consents")? {
                let mut table = field.table()?;
                let user = table.take("user").map(|user| self.user(&user)).transpose()?;
                let (resource, scopes) = self.names_on(&mut table, "scopes")?;
                let by = (user, resource.app_id.clone());
                principal.consents.entry(by).or_default().extend(scopes);
                table.finish()?;
            }
            let assigned = table.list("assigned")?;
            principal.assigned = assigned.iter().map(|field| self.user(field)).collect::<Result<_, _>>()?;
            table.finish()?;
            let found = self.state.principal_mut(&tenant, &client_id);
            principal.object_id.clone_from(&found.object_id);
            *found = principal;
        }
        Ok(())
    }

    pub(super) fn grant(&mut self, roles: Roles) {
        for (tenant, client_id, roles) in roles {
            let principal = self.state.principal_mut(&tenant, &client_id);
            for (resource, roles) in roles {
                principal.roles.entry(resource).or_default().extend(roles);
            }
        }
    }
}
