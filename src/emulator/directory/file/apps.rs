//! From a tree to the directory's state: apps, what they prove themselves with, and the issuers that are trusted for them.

use crate::emulator::directory::app::{Redirect, Secret};
use crate::emulator::directory::file::fields::{Field, Table};
use crate::emulator::directory::file::node::Mistake;
use crate::emulator::directory::file::read::{Reader, Seen};
use crate::emulator::directory::{App, Certificate, FederatedCredential, Issuer, lower};
use std::collections::BTreeMap;
use url::Url;

/// Schemes of which no browser may be sent anywhere.
const NOWHERE: &[&str] = &["about", "blob", "data", "javascript", "vbscript"];

impl Reader<'_> {
    pub(super) fn apps(&mut self, fields: &[Field<'_>], seen: &mut Seen) -> Result<(), Mistake> {
        for field in fields {
            let mut table = field.table()?;
            let client_id = table.need("client_id")?;
            let tenant = self.tenant(&table.need("tenant")?)?;
            let mut app = App::new(client_id.guid()?, &tenant);
            seen.once(&client_id, &app.client_id)?;
            if let Some(name) = table.text("name")? {
                app.name = name;
            }
            app.public = table.flag("public", false)?;
            app.multi_tenant = table.flag("multi_tenant", false)?;
            app.enabled = table.flag("enabled", true)?;
            app.assignment_required = table.flag("assignment_required", false)?;
            app.cloud = table.text("cloud")?;
            self.credentials(&mut table, &mut app)?;
            for (name, spa) in [("redirect_uris", false), ("spa_redirect_uris", true)] {
                for field in table.list(name)? {
                    app.redirects.push(redirect(&field, spa)?);
                }
            }
            if let Some(permissions) = table.take("permissions") {
                let mut listed = BTreeMap::new();
                for field in permissions.list()? {
                    let mut table = field.table()?;
                    let (resource, scopes) = self.names_on(&mut table, "scopes")?;
                    listed.insert(resource.identifier.clone(), scopes);
                    table.finish()?;
                }
                app.permissions = Some(listed);
            }
            table.finish()?;
            self.state.principal_mut(&tenant, &app.client_id);
            self.state.apps.insert(app.client_id.clone(), app);
        }
        Ok(())
    }

    fn credentials(&self, table: &mut Table<'_>, app: &mut App) -> Result<(), Mistake> {
        let public = |field: &Field<'_>| match app.public {
            true => Err(field.wrong("a public app has no credentials")),
            false => Ok(()),
        };
        for field in table.list("secrets")? {
            public(&field)?;
            app.secrets.push(secret(&field)?);
        }
        for field in table.list("certificates")? {
            public(&field)?;
            app.certificates.extend(self.certificate_if_there(&field)?);
        }
        for field in table.list("trusted_issuers")? {
            public(&field)?;
            let mut table = field.table()?;
            let authority = self.certificate(&table.need("certificate")?)?;
            let subject = table.need("subject")?.text()?.to_owned();
            table.finish()?;
            app.trusted_issuers.push((authority, subject));
        }
        for field in table.list("federated")? {
            public(&field)?;
            let mut table = field.table()?;
            let (issuer, subject) = (table.need("issuer")?, table.need("subject")?);
            let mut credential = FederatedCredential::new(issuer.text()?, subject.text()?);
            if let Some(audience) = table.text("audience")? {
                credential = credential.audience(audience);
            }
            table.finish()?;
            app.federated.push(credential);
        }
        Ok(())
    }

    /// A certificate, or a table with the name of a file that may be missing.
    fn certificate_if_there(&self, field: &Field<'_>) -> Result<Option<Certificate>, Mistake> {
        if !field.is_table() {
            return self.certificate(field).map(Some);
        }
        let mut table = field.table()?;
        let (file, optional) = (table.need("file")?, table.flag("optional", false)?);
        table.finish()?;
        match (self.beside)(file.text()?) {
            Err(unread) if unread.is_missing && optional => Ok(None),
            _ => self.certificate(&file).map(Some),
        }
    }

    /// A PEM text, or the name of a file with one.
    fn certificate(&self, field: &Field<'_>) -> Result<Certificate, Mistake> {
        let text = field.text()?;
        let pem = match text.contains("-----BEGIN") {
            true => text.to_owned(),
            false => (self.beside)(text).map_err(|unread| field.wrong(unread.message))?,
        };
        Certificate::from_pem(&pem).map_err(|error| field.wrong(error.to_string()))
    }

    pub(super) fn issuers(&mut self, fields: &[Field<'_>]) -> Result<(), Mistake> {
        let mut seen = Seen::default();
        for field in fields {
            let mut table = field.table()?;
            let url = table.need("url")?;
            seen.once(&url, url.word()?)?;
            let parsed = Url::parse(url.word()?);
            if !parsed.is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
                return Err(url.wrong("expected an http or https address"));
            }
            let jwks = table.take("jwks");
            let keys = match &jwks {
                None => None,
                Some(field) if field.is_table() => Some(field.node().value().to_string()),
                Some(field) => match field.text()? {
                    text if text.trim_start().starts_with('{') => Some(text.to_owned()),
                    name => Some((self.beside)(name).map_err(|unread| field.wrong(unread.message))?),
                },
            };
            table.finish()?;
            let issuer = match (&jwks, keys) {
                (Some(field), Some(keys)) => {
                    Issuer::with_jwks(url.word()?, &keys).map_err(|error| field.wrong(error.to_string()))?
                }
                _ => Issuer::new(url.word()?),
            };
            self.state.issuers.insert(issuer.url.clone(), issuer);
        }
        Ok(())
    }

    /// The client id of an app or managed identity that is there.
    pub(super) fn client(&self, field: &Field<'_>) -> Result<String, Mistake> {
        let id = lower(field.text()?);
        let is_identity = self.state.identities.iter().any(|identity| identity.client_id == id);
        if !is_identity && !self.state.apps.contains_key(&id) {
            let id = id.escape_debug();
            return Err(field.wrong(format!("no app or managed identity \"{id}\" {}", self.here)));
        }
        Ok(id)
    }
}

/// A text, or `{ value, expired }`.
fn secret(field: &Field<'_>) -> Result<Secret, Mistake> {
    if !field.is_table() {
        return Ok(Secret { value: field.text()?.to_owned(), expired: false });
    }
    let mut table = field.table()?;
    let value = table.need("value")?.text()?.to_owned();
    let expired = table.flag("expired", false)?;
    table.finish()?;
    Ok(Secret { value, expired })
}

fn redirect(field: &Field<'_>, spa: bool) -> Result<Redirect, Mistake> {
    let uri = field.word()?;
    let parsed = Url::parse(uri).map_err(|error| field.wrong(format!("it is no absolute URI: {error}")))?;
    if NOWHERE.contains(&parsed.scheme()) {
        return Err(field.wrong(format!("{}: is nowhere that an answer can be sent to", parsed.scheme())));
    }
    if parsed.fragment().is_some() {
        return Err(field.wrong("a redirect URI has no fragment"));
    }
    Ok(Redirect { uri: uri.to_owned(), spa })
}
