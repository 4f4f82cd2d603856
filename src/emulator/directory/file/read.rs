//! From a tree to the directory's state: settings, tenants, resources, users and policies.

use crate::emulator::directory::file::Beside;
use crate::emulator::directory::file::fields::{Field, Table};
use crate::emulator::directory::file::node::{Mistake, Node};
use crate::emulator::directory::{
    ExpiresOn, Policy, RefreshRotation, Requirement, Resource, State, User, is_domain, lower,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The longest lifetime that a setting takes: with a longer one, sums of times overflow somewhere.
const LONGEST_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// A state in the making. It is given out whole or not at all.
pub(super) struct Reader<'a> {
    pub(super) state: State,
    /// Where things are missing, as messages say it.
    pub(super) here: &'static str,
    pub(super) beside: Beside<'a>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(here: &'static str, beside: Beside<'a>) -> Self {
        Self::onto(State::new(), here, beside)
    }

    pub(super) fn onto(state: State, here: &'static str, beside: Beside<'a>) -> Self {
        Self { state, here, beside }
    }

    /// Whatever the order in the text, what is referred to is read before what refers to it.
    pub(super) fn read(mut self, node: &Node) -> Result<State, Mistake> {
        let mut root = Field::root(node).table()?;
        let settings = root.take("settings");
        let [tenants, resources, users, apps, identities, issuers, principals, policies] = [
            "tenants",
            "resources",
            "users",
            "apps",
            "managed_identities",
            "issuers",
            "service_principals",
            "policies",
        ]
        .map(|name| root.list(name));
        root.finish()?;
        if let Some(settings) = settings {
            self.settings(settings.table()?)?;
        }
        self.tenants(&tenants?)?;
        self.resources(&resources?)?;
        self.users(&users?)?;
        let mut clients = Seen::default();
        self.apps(&apps?, &mut clients)?;
        let roles = self.identities(&identities?, &mut clients)?;
        self.issuers(&issuers?)?;
        self.principals(&principals?)?;
        self.grant(roles);
        self.policies(&policies?)?;
        Ok(self.state)
    }

    fn settings(&mut self, mut table: Table<'_>) -> Result<(), Mistake> {
        let state = &mut self.state;
        if let Some(field) = table.take("token_lifetime") {
            state.lifetime = field.seconds()?;
            if state.lifetime > LONGEST_LIFETIME {
                return Err(field.wrong("it is longer than ten years"));
            }
        }
        if let Some(header) = table.text("app_service_header")? {
            state.app_service_header = header;
        }
        state.identity_cache = table.flag("identity_cache", state.identity_cache)?;
        let answers = &mut state.identity_answers;
        answers.stale_expires_in = table.flag("stale_expires_in", answers.stale_expires_in)?;
        if let Some(field) = table.take("expires_on") {
            answers.expires_on = Some(match field.text()? {
                "text" => ExpiresOn::Text,
                "number" => ExpiresOn::Number,
                "iso8601" => ExpiresOn::Iso8601,
                "linux" => ExpiresOn::Linux,
                "windows" => ExpiresOn::Windows,
                _ => {
                    let known = "expected \"text\", \"number\", \"iso8601\", \"linux\" or \"windows\"";
                    return Err(field.wrong(known));
                }
            });
        }
        if let Some(field) = table.take("refresh_rotation") {
            state.refresh_rotation = match field.text()? {
                "keep-old" => RefreshRotation::KeepOld,
                "revoke-family" => RefreshRotation::RevokeFamily,
                _ => return Err(field.wrong("expected \"keep-old\" or \"revoke-family\"")),
            };
        }
        if let Some(field) = table.take("device_interval") {
            state.device_interval = field.seconds()?;
            if state.device_interval > LONGEST_LIFETIME {
                return Err(field.wrong("it is longer than ten years"));
            }
        }
        table.finish()
    }

    fn tenants(&mut self, fields: &[Field<'_>]) -> Result<(), Mistake> {
        let mut seen = Seen::default();
        for field in fields {
            let mut table = field.table()?;
            let id = table.need("id")?;
            let key = id.guid()?;
            seen.once(&id, &key)?;
            let mut domains = Vec::new();
            for field in table.list("domains")? {
                let domain = lower(field.text()?);
                if !is_domain(&domain) {
                    return Err(field.wrong(format!("\"{}\" is no domain", domain.escape_debug())));
                }
                let other =
                    self.state.tenants.iter().find(|(id, t)| **id != key && t.domains.contains(&domain));
                if let Some((other, _)) = other {
                    return Err(field.wrong(format!("\"{domain}\" is a domain of tenant {other} already")));
                }
                if !domains.contains(&domain) {
                    domains.push(domain);
                }
            }
            let cloud = table.text("cloud")?;
            table.finish()?;
            let tenant = self.state.tenants.entry(key).or_default();
            (tenant.domains, tenant.cloud) = (domains, cloud);
        }
        Ok(())
    }

    /// The id of the tenant that is named by its id or one of its domains.
    pub(super) fn tenant(&self, field: &Field<'_>) -> Result<String, Mistake> {
        let name = field.text()?;
        self.state
            .tenant_id(name)
            .ok_or_else(|| field.wrong(format!("no tenant \"{}\" {}", name.escape_debug(), self.here)))
    }

    fn resources(&mut self, fields: &[Field<'_>]) -> Result<(), Mistake> {
        let mut seen = Seen::default();
        // Where each one stands that is there: with a search for each of many, requests would wait for minutes.
        let mut places = BTreeMap::new();
        for (index, resource) in self.state.resources.iter().enumerate() {
            places.entry(bare(&resource.identifier)).or_insert(index);
        }
        for field in fields {
            let mut table = field.table()?;
            let identifier = table.need("identifier")?;
            let mut resource = Resource::new(identifier.word()?);
            seen.once(&identifier, &bare(&resource.identifier))?;
            for alias in table.list("aliases")? {
                resource = resource.alias(alias.word()?);
                seen.once(&alias, &bare(alias.word()?))?;
            }
            if let Some(app_id) = table.take("app_id") {
                resource = resource.app_id(app_id.guid()?);
                seen.once(&app_id, &resource.app_id)?;
            }
            let v2 = table.take("v2");
            resource.v2 = v2.as_ref().map_or(Ok(false), Field::flag)?;
            if let Some(version) = table.take("token_version") {
                if v2.is_some() {
                    return Err(version.wrong("v2 says the same: only one of them may be there"));
                }
                resource.v2 = match version.whole()? {
                    1 => false,
                    2 => true,
                    _ => return Err(version.wrong("expected 1 or 2")),
                };
            }
            for (name, admin) in [("scopes", false), ("admin_scopes", true)] {
                for scope in table.list(name)? {
                    if resource.scopes.insert(scope.word()?.to_owned(), admin).is_some() {
                        return Err(scope.wrong("this permission stands there already"));
                    }
                }
            }
            if let Some(tenants) = table.take("only_in") {
                let ids = tenants.list()?.iter().map(|field| self.tenant(field)).collect::<Result<_, _>>()?;
                resource.tenants = Some(ids);
            }
            resource.enabled = table.flag("enabled", true)?;
            table.finish()?;
            let resources = &mut self.state.resources;
            // None stands twice in one text, so that those added need no place.
            match places.get(&bare(&resource.identifier)).and_then(|index| resources.get_mut(*index)) {
                Some(found) => *found = resource,
                None => resources.push(resource),
            }
        }
        Ok(())
    }

    /// The resource that a request with this name would mean.
    pub(super) fn resource(&self, field: &Field<'_>) -> Result<&Resource, Mistake> {
        let name = field.text()?;
        let found = self.state.resources.iter().find(|resource| resource.is(name));
        found.ok_or_else(|| field.wrong(format!("no resource \"{}\" {}", name.escape_debug(), self.here)))
    }

    fn users(&mut self, fields: &[Field<'_>]) -> Result<(), Mistake> {
        let mut seen = Seen::default();
        for field in fields {
            let mut table = field.table()?;
            let name = table.need("name")?;
            let mut user = User::new(name.word()?);
            seen.once(&name, &user.name)?;
            match user.name.split_once('@') {
                Some((first, domain)) if !first.is_empty() && is_domain(domain) => {
                    if self.state.tenant_id(domain).is_none() {
                        return Err(
                            name.wrong(format!("no tenant has the domain \"{domain}\" {}", self.here))
                        );
                    }
                }
                _ => return Err(name.wrong("expected a name like alice@contoso.test")),
            }
            user.password = table.text("password")?;
            user.email = table.text("email")?;
            if let Some(display_name) = table.text("display_name")? {
                user.display_name = display_name;
            }
            if let Some(object_id) = table.take("object_id") {
                user.object_id = object_id.guid()?;
                seen.once(&object_id, &user.object_id)?;
            }
            user.groups = table.list("groups")?.iter().map(Field::guid).collect::<Result<_, _>>()?;
            let guest_in = table.list("guest_in")?;
            user.guest_in = guest_in.iter().map(|field| self.tenant(field)).collect::<Result<_, _>>()?;
            user.admin = table.flag("admin", false)?;
            user.enabled = table.flag("enabled", true)?;
            table.finish()?;
            user.revoked = self.state.revoked(&user.name);
            self.state.users.insert(user.name.clone(), user);
        }
        Ok(())
    }

    /// The name of a user who is there.
    pub(super) fn user(&self, field: &Field<'_>) -> Result<String, Mistake> {
        let name = lower(field.text()?);
        if !self.state.users.contains_key(&name) {
            return Err(field.wrong(format!("no user \"{}\" {}", name.escape_debug(), self.here)));
        }
        Ok(name)
    }

    fn policies(&mut self, fields: &[Field<'_>]) -> Result<(), Mistake> {
        for field in fields {
            let mut table = field.table()?;
            let tenant = self.tenant(&table.need("tenant")?)?;
            let requires = table.need("requires")?;
            let seconds = table.take("seconds");
            let requirement = match (requires.text()?, &seconds) {
                ("sign-in-frequency", Some(seconds)) => Requirement::SignInFrequency(seconds.seconds()?),
                ("sign-in-frequency", None) => {
                    return Err(requires.wrong("\"sign-in-frequency\" needs seconds beside it"));
                }
                (_, Some(seconds)) => return Err(seconds.wrong("only \"sign-in-frequency\" has seconds")),
                ("mfa", None) => Requirement::Mfa,
                ("mfa-enrolment", None) => Requirement::MfaEnrolment,
                ("strong-authentication", None) => Requirement::StrongAuthentication,
                ("external-challenge", None) => Requirement::ExternalChallenge,
                ("blocked", None) => Requirement::Blocked,
                _ => {
                    return Err(requires.wrong("expected \"mfa\", \"mfa-enrolment\", \"strong-authentication\", \"external-challenge\", \"blocked\" or \"sign-in-frequency\""));
                }
            };
            let mut policy = Policy::new(tenant, requirement);
            if let Some(resource) = table.take("resource") {
                self.resource(&resource)?;
                policy = policy.resource(resource.text()?);
            }
            if let Some(client) = table.take("client") {
                policy = policy.client(self.client(&client)?);
            }
            if let Some(user) = table.take("user") {
                policy = policy.user(self.user(&user)?);
            }
            table.finish()?;
            if !self.state.policies.contains(&policy) {
                self.state.policies.push(policy);
            }
        }
        Ok(())
    }

    /// Permissions or roles by resource: `[{ resource = "…", scopes = […] }]`. The keys are the resources' app ids.
    pub(super) fn by_resource(
        &self,
        fields: &[Field<'_>],
        names: &'static str,
    ) -> Result<BTreeMap<String, BTreeSet<String>>, Mistake> {
        let mut found = BTreeMap::<_, BTreeSet<String>>::new();
        for field in fields {
            let mut table = field.table()?;
            let (resource, listed) = self.names_on(&mut table, names)?;
            table.finish()?;
            found.entry(resource.app_id.clone()).or_default().extend(listed);
        }
        Ok(found)
    }

    /// A resource, and permissions or roles of it. A resource that declares permissions has no others; roles are not declared.
    pub(super) fn names_on(
        &self,
        table: &mut Table<'_>,
        names: &'static str,
    ) -> Result<(&Resource, BTreeSet<String>), Mistake> {
        let resource = self.resource(&table.need("resource")?)?;
        let mut listed = BTreeSet::new();
        for name in table.need(names)?.list()? {
            let word = name.word()?;
            if names == "scopes" && !resource.scopes.is_empty() && !resource.scopes.contains_key(word) {
                let known = resource.scopes.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                let message =
                    format!("the resource {} has no such permission; it has {known}", resource.identifier);
                return Err(name.wrong(message));
            }
            listed.insert(word.to_owned());
        }
        Ok((resource, listed))
    }
}

/// What stood in a text before, and in which field.
#[derive(Default)]
pub(super) struct Seen(BTreeSet<String>);

impl Seen {
    /// # Errors
    ///
    /// When it stood there before.
    pub(super) fn once(&mut self, field: &Field<'_>, key: &str) -> Result<(), Mistake> {
        if self.0.insert(key.to_owned()) {
            return Ok(());
        }
        Err(field.wrong(format!("\"{}\" stands there twice", key.escape_debug())))
    }
}

fn bare(name: &str) -> String {
    lower(name.strip_suffix('/').unwrap_or(name))
}
