//! What an administrator does to one thing.

use crate::emulator::control::refusal::Refused;
use crate::emulator::directory::file::fields::{Field, Table};
use crate::emulator::directory::file::node::{Kind, Mistake};
use crate::emulator::directory::{Certificate, Directory, FederatedCredential};
use http::StatusCode;

/// The names that [`act`] knows.
const ACTIONS: &[&str] = &[
    "add_certificate",
    "add_federated",
    "add_secret",
    "add_service_principal",
    "assign",
    "clear_policies",
    "consent",
    "expire_secret",
    "grant_role",
    "remove_app",
    "remove_certificate",
    "remove_federated",
    "remove_identity",
    "remove_resource",
    "remove_secret",
    "remove_service_principal",
    "remove_tenant",
    "remove_user",
    "revoke_sessions",
    "set_app_enabled",
    "set_password",
    "set_resource_enabled",
    "set_service_principal_enabled",
    "set_user_enabled",
    "unassign",
    "withdraw_consent",
];

/// Does what the one member of an object names.
pub(super) fn act(directory: &Directory, root: &Field<'_>) -> Result<(), Refused> {
    let one = match &root.node().kind {
        Kind::Table(members) if members.len() == 1 => members.first().map(|(name, _)| name.as_str()),
        _ => None,
    };
    let Some(asked) = one else {
        return Err(root.wrong("expected an object with one member, the action").into());
    };
    let mut table = root.table()?;
    let known = ACTIONS.iter().find(|name| **name == asked);
    let Some(field) = known.and_then(|name| table.take(name)) else {
        let asked = asked.chars().take(100).collect::<String>();
        return Err(root
            .wrong(format!("no action \"{}\"; there are {}", asked.escape_debug(), ACTIONS.join(", ")))
            .into());
    };
    let mut action = Action { directory, table: field.table()? };
    let done = action.named(asked)?;
    if !done() {
        let mistake = field.wrong("nothing that fits is in the directory");
        return Err(Refused { status: StatusCode::NOT_FOUND, mistake });
    }
    Ok(())
}

/// What is left to be done once everything was read; whether the thing was there.
type Deed<'a> = Box<dyn FnOnce() -> bool + 'a>;

struct Action<'a> {
    directory: &'a Directory,
    table: Table<'a>,
}

impl<'a> Action<'a> {
    /// Reads all members first, so that an unknown one keeps the deed from being done.
    fn named(&mut self, name: &str) -> Result<Deed<'a>, Mistake> {
        let directory = self.directory;
        let deed: Deed<'a> = match name {
            "revoke_sessions" => {
                let user = self.text("user")?;
                Box::new(move || directory.revoke_sessions(user))
            }
            "remove_user" => {
                let user = self.text("user")?;
                Box::new(move || directory.remove_user(user))
            }
            "set_user_enabled" => {
                let (user, enabled) = (self.text("user")?, self.flag("enabled")?);
                Box::new(move || directory.set_user_enabled(user, enabled))
            }
            "set_password" => {
                let (user, password) = (self.text("user")?, self.text("password")?);
                Box::new(move || directory.set_password(user, password))
            }
            "add_secret" => {
                let (client, secret) = (self.text("client_id")?, self.text("secret")?);
                Box::new(move || directory.add_secret(client, secret))
            }
            "expire_secret" => {
                let (client, secret) = (self.text("client_id")?, self.text("secret")?);
                Box::new(move || directory.expire_secret(client, secret))
            }
            "remove_secret" => {
                let (client, secret) = (self.text("client_id")?, self.text("secret")?);
                Box::new(move || directory.remove_secret(client, secret))
            }
            "add_certificate" => {
                let (client, pem) = (self.text("client_id")?, self.table.need("pem")?);
                let certificate = Certificate::from_pem(pem.text()?);
                let certificate = certificate.map_err(|error| pem.wrong(error.to_string()))?;
                Box::new(move || directory.add_certificate(client, certificate))
            }
            "remove_certificate" => {
                let (client, thumbprint) = (self.text("client_id")?, self.text("thumbprint")?);
                Box::new(move || directory.remove_certificate(client, thumbprint))
            }
            "add_federated" => {
                let (client, credential) = (self.text("client_id")?, self.federated()?);
                Box::new(move || directory.add_federated(client, credential))
            }
            "remove_federated" => {
                let (client, credential) = (self.text("client_id")?, self.federated()?);
                Box::new(move || directory.remove_federated(client, &credential))
            }
            "set_app_enabled" => {
                let (client, enabled) = (self.text("client_id")?, self.flag("enabled")?);
                Box::new(move || directory.set_app_enabled(client, enabled))
            }
            "remove_app" => {
                let client = self.text("client_id")?;
                Box::new(move || directory.remove_app(client))
            }
            "remove_identity" => {
                let client = self.text("client_id")?;
                Box::new(move || directory.remove_identity(client))
            }
            "set_resource_enabled" => {
                let (resource, enabled) = (self.text("resource")?, self.flag("enabled")?);
                Box::new(move || directory.set_resource_enabled(resource, enabled))
            }
            "remove_resource" => {
                let resource = self.text("resource")?;
                Box::new(move || directory.remove_resource(resource))
            }
            "remove_tenant" => {
                let tenant = self.tenant()?;
                Box::new(move || directory.remove_tenant(&tenant))
            }
            "clear_policies" => {
                let tenant = self.tenant()?;
                Box::new(move || {
                    directory.clear_policies(&tenant);
                    true
                })
            }
            _ => self.of_principal(name)?,
        };
        self.table.done()?;
        Ok(deed)
    }

    /// Those that name a tenant and an app.
    fn of_principal(&mut self, name: &str) -> Result<Deed<'a>, Mistake> {
        let directory = self.directory;
        let (tenant, client) = (self.tenant()?, self.text("client_id")?);
        Ok(match name {
            "add_service_principal" => Box::new(move || directory.add_service_principal(&tenant, client)),
            "remove_service_principal" => {
                Box::new(move || directory.remove_service_principal(&tenant, client))
            }
            "withdraw_consent" => Box::new(move || directory.withdraw_consent(&tenant, client)),
            "set_service_principal_enabled" => {
                let enabled = self.flag("enabled")?;
                Box::new(move || directory.set_service_principal_enabled(&tenant, client, enabled))
            }
            "grant_role" => {
                let (resource, role) = (self.text("resource")?, self.text("role")?);
                Box::new(move || directory.grant_role(&tenant, client, resource, role))
            }
            "assign" => {
                let user = self.text("user")?;
                Box::new(move || directory.assign(&tenant, client, user))
            }
            "unassign" => {
                let user = self.text("user")?;
                Box::new(move || directory.unassign(&tenant, client, user))
            }
            "consent" => {
                let (resource, user) = (self.text("resource")?, self.table.take("user"));
                let user = user.map(|user| user.text()).transpose()?;
                let scopes = self.table.need("scopes")?.list()?;
                let scopes = scopes.iter().map(Field::word).collect::<Result<Vec<_>, _>>()?;
                Box::new(move || directory.add_consent(&tenant, client, user, resource, scopes.into_iter()))
            }
            _ => Box::new(|| false),
        })
    }

    fn federated(&mut self) -> Result<FederatedCredential, Mistake> {
        let credential = FederatedCredential::new(self.text("issuer")?, self.text("subject")?);
        Ok(match self.table.take("audience") {
            Some(audience) => credential.audience(audience.text()?),
            None => credential,
        })
    }

    fn text(&mut self, name: &'static str) -> Result<&'a str, Mistake> {
        self.table.need(name)?.text()
    }

    fn flag(&mut self, name: &'static str) -> Result<bool, Mistake> {
        self.table.need(name)?.flag()
    }

    /// A tenant's id, also where it is named by a domain.
    fn tenant(&mut self) -> Result<String, Mistake> {
        let field = self.table.need("tenant")?;
        let name = field.text()?;
        let found = self.directory.tenant_id(name);
        found.ok_or_else(|| field.wrong(format!("no tenant \"{}\" in this directory", name.escape_debug())))
    }
}
