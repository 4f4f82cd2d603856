//! What a `scope` parameter asks for.

use crate::emulator::directory::{Directory, Resource};
use crate::emulator::error::{EntraError, echo};
use std::collections::BTreeSet;

/// The resource of a scope that names none, as `User.Read` does, and of a request that only wants to sign in.
const GRAPH: &str = "https://graph.microsoft.com";

/// The scopes of OpenID Connect, which belong to no resource. Serving them needs no consent here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SignIn {
    pub(crate) openid: bool,
    pub(crate) profile: bool,
    pub(crate) email: bool,
    pub(crate) offline_access: bool,
}

impl SignIn {
    fn take(&mut self, scope: &str) -> bool {
        let flag = match scope {
            "openid" => &mut self.openid,
            "profile" => &mut self.profile,
            "email" => &mut self.email,
            "offline_access" => &mut self.offline_access,
            _ => return false,
        };
        *flag = true;
        true
    }

    /// Those that an answer's `scope` repeats.
    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> {
        [(self.openid, "openid"), (self.profile, "profile"), (self.email, "email")]
            .into_iter()
            .filter_map(|(asked, name)| asked.then_some(name))
    }
}

/// Permissions on one resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The resource as the request spelled it; nothing where it was left out.
    pub(crate) asked_as: Option<String>,
    pub(crate) permissions: Permissions,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Permissions {
    /// `/.default`: what the registration lists and what was consented to.
    Default,
    Named(BTreeSet<String>),
}

impl Wanted {
    /// The resource's name, to look it up by.
    pub(crate) fn resource_name(&self) -> &str {
        self.asked_as.as_deref().unwrap_or(GRAPH)
    }

    /// A permission with its resource, spelled as the request spelled it.
    fn spelled(&self, permission: &str) -> String {
        match &self.asked_as {
            Some(resource) => format!("{resource}/{permission}"),
            None => permission.to_owned(),
        }
    }
}

/// A parsed `scope` parameter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Scopes {
    pub(crate) sign_in: SignIn,
    /// By resource, in the order of the request. A token is for the first; consent is asked for all.
    pub(crate) wanted: Vec<Wanted>,
}

impl Scopes {
    /// # Errors
    ///
    /// AADSTS70011 where `/.default` and another permission come together, or a scope is only a resource.
    pub(crate) fn parse(text: &str) -> Result<Self, EntraError> {
        let mut scopes = Self::default();
        for scope in text.split_whitespace() {
            if !scopes.sign_in.take(scope) {
                scopes.add(scope)?;
            }
        }
        let defaults = scopes.wanted.iter().filter(|wanted| wanted.permissions == Permissions::Default);
        if defaults.count() > 0 && scopes.wanted.len() > 1 {
            return Err(invalid(text, ".default scope can't be combined with resource-specific scopes."));
        }
        Ok(scopes)
    }

    fn add(&mut self, scope: &str) -> Result<(), EntraError> {
        let (asked_as, permission) = match scope.rsplit_once('/') {
            // `https:` of a bare `https://resource`, or nothing at all.
            Some((resource, _)) if resource.is_empty() || resource.ends_with(":/") => {
                return Err(invalid(scope, "It names no permission."));
            }
            Some((resource, permission)) => (Some(resource.to_owned()), permission),
            None => (None, scope),
        };
        if permission.is_empty() {
            return Err(invalid(scope, "It names no permission."));
        }
        let index = self.wanted.iter().position(|wanted| wanted.asked_as == asked_as);
        match index.map(|index| &mut self.wanted[index].permissions) {
            None if permission == ".default" => {
                self.wanted.push(Wanted { asked_as, permissions: Permissions::Default });
            }
            None => {
                let permissions = Permissions::Named(BTreeSet::from([permission.to_owned()]));
                self.wanted.push(Wanted { asked_as, permissions });
            }
            Some(Permissions::Default) if permission == ".default" => {}
            Some(Permissions::Named(named)) if permission != ".default" => {
                named.insert(permission.to_owned());
            }
            Some(_) => {
                return Err(invalid(
                    scope,
                    ".default scope can't be combined with resource-specific scopes.",
                ));
            }
        }
        Ok(())
    }

    /// What a token is asked for: the first resource, or only to sign in, for which the token is Graph's.
    pub(crate) fn first(&self) -> Wanted {
        let sign_in = || Wanted { asked_as: None, permissions: Permissions::Named(BTreeSet::new()) };
        self.wanted.first().cloned().unwrap_or_else(sign_in)
    }

    /// The `scope` of an answer: what was granted, spelled as it was asked for.
    pub(crate) fn answered(&self, granted: &BTreeSet<String>) -> String {
        let first = self.first();
        let mut scopes: Vec<String> = granted.iter().map(|permission| first.spelled(permission)).collect();
        if first.permissions == Permissions::Default {
            scopes.push(first.spelled(".default"));
        }
        scopes.extend(self.sign_in.names().map(str::to_owned));
        scopes.join(" ")
    }
}

impl Directory {
    /// The resource that a token is asked for, provided that the tenant has it.
    ///
    /// # Errors
    ///
    /// 500011 where no resource has the name, 650052 where only other tenants have it, 50001 where it is disabled.
    pub(crate) fn wanted_resource(&self, name: &str, tenant: &str) -> Result<Resource, EntraError> {
        let unknown = || {
            EntraError::aadsts(500011).saying(format!(
                "The resource principal named {} was not found in the tenant named {tenant}. It may not have been installed by the administrator of the tenant or consented to by any user in it.",
                echo(name)
            ))
        };
        let resource = self.resource(name).ok_or_else(unknown)?;
        if !resource.is_in(tenant) {
            return Err(EntraError::aadsts(650052).saying(format!(
                "The app is trying to access a service '{}' ({}) that your organization '{tenant}' lacks a service principal for.",
                resource.app_id, resource.identifier
            )));
        }
        if !resource.enabled {
            return Err(EntraError::aadsts(50001).saying(format!(
                "The resource named {} is disabled in the tenant named {tenant}.",
                resource.identifier
            )));
        }
        Ok(resource)
    }
}

/// The one resource of the scopes of an app that acts for itself: it can ask for nothing but all that it was granted there.
pub(crate) fn only_resource(scope: &str) -> Result<String, EntraError> {
    let suffix = || {
        EntraError::aadsts(1002012).saying(format!(
            "The provided value for scope {} is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI).",
            echo(scope)
        ))
    };
    let named: Vec<&str> = scope.split_whitespace().filter(|scope| !SignIn::default().take(scope)).collect();
    match named.as_slice() {
        [] => Err(suffix()),
        [only] => match only.strip_suffix("/.default") {
            None => Err(suffix()),
            Some("") => Err(invalid(scope, "It names no resource.")),
            Some(resource) => Ok(resource.to_owned()),
        },
        _ => Err(invalid(scope, "It names more than one resource or permission.")),
    }
}

fn invalid(scope: &str, why: &str) -> EntraError {
    EntraError::aadsts(70011).saying(format!(
        "The provided value for the input parameter 'scope' is not valid. The scope {} is not valid. {why}",
        echo(scope)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Scopes {
        Scopes::parse(text).unwrap()
    }

    #[test]
    fn permissions_are_gathered_by_resource_in_the_order_of_the_request() {
        let scopes = parse("openid https://a.test/Read User.Read https://a.test/Write offline_access");
        assert!(scopes.sign_in.openid && scopes.sign_in.offline_access && !scopes.sign_in.profile);
        let names: Vec<_> = scopes.wanted.iter().map(Wanted::resource_name).collect();
        assert_eq!(names, ["https://a.test", "https://graph.microsoft.com"]);
        let granted = BTreeSet::from(["Read".to_owned(), "Write".to_owned()]);
        assert_eq!(scopes.answered(&granted), "https://a.test/Read https://a.test/Write openid");
    }

    #[test]
    fn only_the_last_segment_is_the_permission() {
        let scopes = parse("https://management.core.windows.net//user_impersonation");
        assert_eq!(scopes.first().resource_name(), "https://management.core.windows.net/");
        assert_eq!(parse("api://aaaa/access").first().resource_name(), "api://aaaa");
        assert_eq!(parse("aaaa/.default").first().permissions, Permissions::Default);
    }

    #[test]
    fn a_request_to_sign_in_only_is_one_for_graph() {
        let scopes = parse("openid profile");
        assert_eq!(scopes.first().resource_name(), GRAPH);
        assert_eq!(scopes.answered(&BTreeSet::new()), "openid profile");
    }

    #[test]
    fn default_stands_alone() {
        for bad in
            ["https://a.test/.default https://a.test/Read", "https://a.test/Read https://a.test/.default"]
        {
            assert!(Scopes::parse(bad).is_err(), "{bad}");
        }
        for bad in
            ["https://a.test/.default User.Read", "https://a.test", "/", "/.default", "https://a.test/"]
        {
            assert!(Scopes::parse(bad).is_err(), "{bad}");
        }
        assert!(Scopes::parse("https://a.test/.default https://a.test/.default openid").is_ok());
    }
}
