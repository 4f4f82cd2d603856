//! What a token is asked for.

use std::{fmt, str::FromStr};

use arcstr::ArcStr;

use crate::{
    Error,
    text::{Quoted, guid},
};

/// What stands behind a resource to ask for everything that was granted on it.
const DEFAULT: &str = "/.default";
/// Scopes that concern the sign-in and belong to no resource.
const OIDC: [&str; 4] = ["email", "offline_access", "openid", "profile"];
/// The scopes travel in the query of an authorize request, and 8 KiB is what common servers and proxies take for a
/// whole request line. Hundreds of scopes fit.
const MAX_LENGTH: usize = 8 * 1024;

/// A set of scopes, sorted and without duplicates: the order in which they were typed does not matter.
///
/// The spelling is kept as it is, and compared exactly.
///
/// ```
/// use entra_broker::ScopeSet;
///
/// let scopes = ScopeSet::parse("openid  https://vault.azure.net/.default openid")?;
/// assert_eq!(scopes.to_string(), "https://vault.azure.net/.default openid");
/// assert_eq!(scopes.resource(), Some("https://vault.azure.net"));
/// # Ok::<(), entra_broker::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScopeSet(ArcStr);

impl ScopeSet {
    /// Reads scopes that are separated by blanks or line breaks.
    ///
    /// # Errors
    /// `Config` where there are none, where they are longer than 8 KiB, where one holds a character that RFC 6749
    /// does not allow, or where `<resource>/.default` stands beside a scope of a resource: Entra takes it only alone
    /// or beside `openid`, `profile`, `email` and `offline_access`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > MAX_LENGTH {
            return Err(Error::config(format!(
                "scope: {} bytes are too many, at most {MAX_LENGTH} fit into a request",
                text.len()
            )));
        }
        let set = Self::join(text.split_ascii_whitespace());
        let mut default = None;
        let mut other = None;
        for scope in set.iter() {
            if !is_scope_token(scope) {
                return Err(Error::config(format!(
                    "scope: {} holds a character that no scope may hold",
                    Quoted(scope)
                ))
                .with_advice("Separate scopes by blanks, and leave out quotes, backslashes and accents."));
            }
            match scope.strip_suffix(DEFAULT) {
                Some("") => return Err(no_resource(scope)),
                None if scope == ".default" => return Err(no_resource(scope)),
                Some(_) if default.is_some() => other = other.or(Some(scope)),
                Some(_) => default = Some(scope),
                None if OIDC.contains(&scope) => {}
                None => other = other.or(Some(scope)),
            }
        }
        match (default, other) {
            _ if set.0.is_empty() => Err(Error::config(
                "scope: expected one such as https://vault.azure.net/.default; got nothing",
            )),
            (Some(default), Some(other)) => Err(Error::config(format!(
                "scope: {} cannot stand beside {}",
                Quoted(default),
                Quoted(other)
            ))
            .with_advice("Ask for each resource in a request of its own: one token is for one resource.")),
            _ => Ok(set),
        }
    }

    /// The scopes of an answer, which keeps to fewer rules than a request: Entra lists `.default` beside what it
    /// stands for. What cannot be a scope is left out; `None` where nothing remains.
    pub(crate) fn granted(text: &str) -> Option<Self> {
        let set = Self::join(text.split_ascii_whitespace().filter(|scope| is_scope_token(scope)));
        (!set.0.is_empty()).then_some(set)
    }

    fn join<'a>(scopes: impl Iterator<Item = &'a str>) -> Self {
        let mut scopes: Vec<_> = scopes.collect();
        scopes.sort_unstable();
        scopes.dedup();
        Self(scopes.join(" ").into())
    }

    /// The scopes, separated by single blanks.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The scopes one by one, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split(' ')
    }

    /// The resource of a `<resource>/.default`: what stands before exactly `/.default`, so that
    /// `https://management.core.windows.net//.default` is `https://management.core.windows.net/`.
    pub fn resource(&self) -> Option<&str> {
        self.iter().find_map(|scope| scope.strip_suffix(DEFAULT))
    }

    /// True where one of the scopes is a `<resource>/.default`.
    pub fn is_default(&self) -> bool {
        self.resource().is_some()
    }

    /// The set without `openid`, `profile`, `email` and `offline_access`; `None` where nothing remains.
    pub fn without_oidc(&self) -> Option<Self> {
        if !self.iter().any(|scope| OIDC.contains(&scope)) {
            return Some(self.clone());
        }
        let set = Self::join(self.iter().filter(|scope| !OIDC.contains(scope)));
        (!set.0.is_empty()).then_some(set)
    }

    /// The set for an app token, which is never signed in and has one resource.
    ///
    /// # Errors
    /// `Config` where it is not one `<resource>/.default`.
    pub(crate) fn for_app(&self) -> Result<Self, Error> {
        let set = self.without_oidc();
        match &set {
            Some(set) if set.is_default() => Ok(set.clone()),
            _ => Err(needs_default(set.as_ref().unwrap_or(self))),
        }
    }
}

/// RFC 6749, section 3.3: visible ASCII but for the double quote and the backslash.
fn is_scope_token(scope: &str) -> bool {
    scope.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}

fn no_resource(scope: &str) -> Error {
    Error::config(format!("scope: {} names no resource", Quoted(scope)))
        .with_advice("Write the resource in front, as in https://graph.microsoft.com/.default.")
}

fn needs_default(got: &ScopeSet) -> Error {
    let advice = "An app token carries all roles that were granted to the application on one resource; the roles \
                  are not chosen by scope.";
    let hint = match meant(got.as_str()) {
        Some(meant) => format!("scope: app tokens need `<resource>/.default`; did you mean `{meant}`?"),
        None => format!("scope: app tokens need `<resource>/.default`; got {}", Quoted(got.as_str())),
    };
    Error::config(hint).with_advice(advice)
}

/// What someone who typed a bare resource, or a permission of one, most likely meant.
fn meant(scope: &str) -> Option<String> {
    if scope.len() > 200 || scope.contains(' ') {
        return None;
    }
    if guid(scope).is_some() {
        return Some(format!("{scope}{DEFAULT}"));
    }
    let host = scope.find("://")? + 3;
    let resource = match scope[host..].rfind('/') {
        Some(slash) => &scope[..host + slash],
        None => scope,
    };
    (resource.len() > host).then(|| format!("{resource}{DEFAULT}"))
}

impl FromStr for ScopeSet {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl AsRef<str> for ScopeSet {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ScopeSet").field(&&*self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ErrorKind;

    const VAULT: &str = "https://vault.azure.net/.default";
    const DATABRICKS: &str = "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d/.default";

    fn refused(text: &str) -> String {
        let error = ScopeSet::parse(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        let words = error.to_string();
        assert!(words.starts_with("scope: ") && !words.ends_with('.') && words.len() < 300, "{words}");
        words
    }

    #[test]
    fn order_duplicates_and_blanks_do_not_matter() {
        let one = ScopeSet::parse("b a\t\r\n  c a").unwrap();
        assert_eq!(one.as_str(), "a b c");
        assert_eq!(one, ScopeSet::parse(" c b a ").unwrap());
        assert_eq!(one.iter().collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn case_matters() {
        assert_ne!(ScopeSet::parse("user.read").unwrap(), ScopeSet::parse("User.Read").unwrap());
    }

    #[test]
    fn what_administrators_type_is_taken() {
        let set = ScopeSet::parse(&format!("{DATABRICKS} offline_access")).unwrap();
        assert_eq!(set.resource(), Some("2ff814a6-3304-4ab8-85cb-cd0e6f879c1d"));
        assert_eq!(set.for_app().unwrap().as_str(), DATABRICKS);
        assert_eq!(set.without_oidc().unwrap().as_str(), DATABRICKS);
    }

    #[test]
    fn a_resource_loses_exactly_the_suffix() {
        let set = ScopeSet::parse("https://management.core.windows.net//.default").unwrap();
        assert_eq!(set.resource(), Some("https://management.core.windows.net/"));
        assert!(set.is_default());
        assert_eq!(ScopeSet::parse("https://vault.azure.net/.Default").unwrap().resource(), None);
        assert_eq!(ScopeSet::parse("User.Read").unwrap().resource(), None);
    }

    #[test]
    fn default_stands_beside_oidc_scopes_only() {
        assert!(ScopeSet::parse(&format!("openid profile email offline_access {VAULT}")).is_ok());
        assert!(ScopeSet::parse(&format!("{VAULT} {VAULT}")).is_ok());
        let mixed = refused(&format!("{VAULT} https://graph.microsoft.com/User.Read"));
        assert!(mixed.contains("cannot stand beside"), "{mixed}");
        let two = refused(&format!("{VAULT} {DATABRICKS}"));
        assert!(two.contains(VAULT) && two.contains(DATABRICKS), "{two}");
    }

    #[test]
    fn what_cannot_be_a_scope_is_refused_and_named() {
        assert!(refused("").contains("got nothing"));
        assert!(refused(" \n\t").contains("got nothing"));
        assert!(refused("/.default").contains("names no resource"));
        assert!(refused("openid .default").contains("names no resource"));
        for bad in ["\"a\"", "a\\b", "ü", "a\u{b}b", "a\0b", "a\u{7f}", "a\u{a0}b"] {
            assert!(refused(bad).contains("holds a character"), "{bad:?}");
        }
        assert!(refused(&"a ".repeat(5000)).contains("10000 bytes are too many"));
    }

    #[test]
    fn an_app_token_needs_one_default_and_the_error_says_which() {
        for (typed, meant) in [
            ("https://vault.azure.net", "did you mean `https://vault.azure.net/.default`?"),
            ("https://vault.azure.net/ openid", "did you mean `https://vault.azure.net/.default`?"),
            ("https://graph.microsoft.com/User.Read", "did you mean `https://graph.microsoft.com/.default`?"),
            ("https://vault.azure.net/.Default", "did you mean `https://vault.azure.net/.default`?"),
            ("api://app/access_as_user", "did you mean `api://app/.default`?"),
            (&DATABRICKS[..36], "did you mean `2ff814a6-3304-4ab8-85cb-cd0e6f879c1d/.default`?"),
            ("User.Read", "got \"User.Read\""),
            ("openid profile", "got \"openid profile\""),
            ("a b", "got \"a b\""),
            ("https://", "got \"https://\""),
        ] {
            let error = ScopeSet::parse(typed).unwrap().for_app().unwrap_err();
            let words = error.to_string();
            assert!(
                words.contains("app tokens need `<resource>/.default`") && words.ends_with(meant),
                "{words}"
            );
            assert_eq!(error.kind(), ErrorKind::Config);
        }
    }

    #[test]
    fn nothing_remains_of_oidc_scopes_alone() {
        assert_eq!(ScopeSet::parse("openid email").unwrap().without_oidc(), None);
    }

    #[test]
    fn an_answer_may_list_default_beside_what_it_stands_for() {
        let set = ScopeSet::granted("openid a/b a/.default ü").unwrap();
        assert_eq!(set.as_str(), "a/.default a/b openid");
        assert_eq!(ScopeSet::granted("  "), None);
    }

    proptest! {
        #[test]
        fn parsing_is_total_and_what_comes_out_reads_as_itself(text in "\\PC{0,60}|[a-c/. \t]{0,30}") {
            if let Ok(set) = ScopeSet::parse(&text) {
                prop_assert_eq!(&ScopeSet::parse(set.as_str()).unwrap(), &set);
                prop_assert_eq!(ScopeSet::granted(&text), Some(set));
            }
        }

        #[test]
        fn any_order_and_any_number_of_repeats_is_one_set(
            mut scopes in prop::collection::vec("[a-z]{1,3}(/[A-Z.]{1,4})?", 1..8),
            turn in 0_usize..8,
        ) {
            let one = ScopeSet::parse(&scopes.join(" ")).unwrap();
            let middle = turn % scopes.len();
            scopes.rotate_left(middle);
            scopes.push(scopes[0].clone());
            prop_assert_eq!(ScopeSet::parse(&scopes.join("\n ")).unwrap(), one);
        }
    }
}
