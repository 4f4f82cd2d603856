//! What may be asked for at all, where a broker is bound to some resources.

use crate::{
    error::{Blame, Error, ErrorKind},
    scope::ScopeSet,
    text::Quoted,
};

/// The resources that requests may name; `None` for any.
#[derive(Debug, Default)]
pub(super) struct Resources(Option<Box<[Box<str>]>>);

impl Resources {
    /// # Errors
    ///
    /// `Config` where one of them is no resource.
    pub(super) fn read(given: Option<Vec<String>>) -> Result<Self, Error> {
        let Some(given) = given else { return Ok(Self(None)) };
        let read = |text: &String| {
            let resource = text.strip_suffix("/.default").unwrap_or(text);
            let scopes = ScopeSet::parse(&format!("{resource}/.default"))?;
            if scopes.iter().count() == 1 && scopes.resource() == Some(resource) && !resource.is_empty() {
                return Ok(Box::from(resource));
            }
            Err(Error::config(format!("allowed resource: {} is none", Quoted(text)))
                .with_advice("Write it as in its scope, such as https://vault.azure.net."))
        };
        Ok(Self(Some(given.iter().map(read).collect::<Result<_, _>>()?)))
    }

    pub(super) fn check(&self, scopes: &ScopeSet) -> Result<(), Error> {
        let Some(allowed) = &self.0 else { return Ok(()) };
        let scopes = scopes.without_oidc();
        let is_of = |scope: &str, resource: &str| {
            // Exactly one name behind it: `<resource>/../other/.default` is of another resource.
            scope
                .strip_prefix(resource)
                .and_then(|rest| rest.strip_prefix('/'))
                .is_some_and(|n| !n.contains('/'))
        };
        let denied = match &scopes {
            None => None,
            Some(scopes) => {
                scopes.iter().find(|scope| !allowed.iter().any(|resource| is_of(scope, resource)))
            }
        };
        match denied {
            None if scopes.is_some() => Ok(()),
            denied => Err(Error::new(
                ErrorKind::Policy,
                format!("this broker may not ask for {}", Quoted(denied.unwrap_or("a user's sign-in alone"))),
            )
            .with_blame(Blame::Configuration)
            .with_advice("Allow the resource with `Broker::builder().allow_resources(…)`, or take it out of the request.")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(resources: &[&str], scope: &str) -> bool {
        let given = resources.iter().map(|resource| (*resource).to_owned()).collect();
        Resources::read(Some(given)).unwrap().check(&ScopeSet::parse(scope).unwrap()).is_ok()
    }

    #[test]
    fn what_is_listed_is_allowed_and_nothing_that_looks_like_it() {
        let list = &["https://vault.azure.net", "https://management.core.windows.net/"];
        for scope in [
            "https://vault.azure.net/.default",
            "openid https://vault.azure.net/.default",
            "https://management.core.windows.net//.default",
            "https://vault.azure.net/user_impersonation",
        ] {
            assert!(allows(list, scope), "{scope}");
        }
        for scope in [
            "https://vault.azure.net.evil.test/.default",
            "https://vault.azure.net/x/.default",
            "https://vault.azure.net//.default",
            "https://graph.microsoft.com/.default",
            "openid offline_access",
            "https://vault.azure.net/user_impersonation https://graph.microsoft.com/User.Read",
        ] {
            assert!(!allows(list, scope), "{scope}");
        }
        assert!(!allows(&[], "https://vault.azure.net/.default"), "an empty list allows nothing");
        assert!(Resources::default().check(&ScopeSet::parse("a://b/.default").unwrap()).is_ok());
    }

    #[test]
    fn what_is_no_resource_is_not_listed() {
        for bad in ["", " ", "a b", "/.default", "openid"] {
            let read = Resources::read(Some(vec![bad.to_owned()]));
            assert!(bad == "openid" || read.is_err(), "{bad:?}");
        }
    }
}
