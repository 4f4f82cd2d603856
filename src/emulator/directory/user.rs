//! Users.

use crate::emulator::ids::guid_of;
use std::collections::BTreeSet;
use std::fmt;

/// A user. The domain of the name says which tenant it lives in.
///
/// ```
/// # use entra_broker::emulator::{Directory, User};
/// let directory = Directory::sample();
/// assert!(directory.add_user(User::new("carol@contoso.test").password("only this one")));
/// ```
#[derive(Clone)]
#[must_use = "a user exists once it is added to a directory"]
pub struct User {
    /// The user principal name, in lower case.
    pub(crate) name: String,
    pub(crate) object_id: String,
    pub(crate) display_name: String,
    pub(crate) email: Option<String>,
    /// `None`: any password signs in.
    pub(crate) password: Option<String>,
    pub(crate) groups: Vec<String>,
    /// Other tenants that invited this user.
    pub(crate) guest_in: BTreeSet<String>,
    pub(crate) admin: bool,
    pub(crate) enabled: bool,
    /// How often all sessions were revoked; a sign-in counts only as long as this stands where it stood.
    pub(crate) revoked: u64,
}

impl User {
    /// A user with this principal name, such as `alice@contoso.test`, whom any password signs in.
    pub fn new(name: impl AsRef<str>) -> Self {
        let name = name.as_ref().to_ascii_lowercase();
        let first = name.split('@').next().unwrap_or_default();
        let mut letters = first.chars();
        let display_name = letters.next().map(|c| c.to_uppercase().chain(letters).collect());
        Self {
            object_id: guid_of(&["user", &name]),
            display_name: display_name.unwrap_or_default(),
            name,
            email: None,
            password: None,
            groups: Vec::new(),
            guest_in: BTreeSet::new(),
            admin: false,
            enabled: true,
            revoked: 0,
        }
    }

    /// The only password that signs this user in.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// The object id; without it one is derived from the name.
    pub fn object_id(mut self, object_id: impl AsRef<str>) -> Self {
        self.object_id = object_id.as_ref().to_ascii_lowercase();
        self
    }

    /// The name that people see; without it the name's first part with a capital letter.
    pub fn display_name(mut self, name: impl Into<String>) -> Self {
        self.display_name = name.into();
        self
    }

    /// An address for the `email` claim.
    pub fn email(mut self, email: impl Into<String>) -> Self {
        self.email = Some(email.into());
        self
    }

    /// Adds the object id of a group that this user is in.
    pub fn group(mut self, object_id: impl AsRef<str>) -> Self {
        self.groups.push(object_id.as_ref().to_ascii_lowercase());
        self
    }

    /// Makes this user a guest in another tenant.
    pub fn guest_in(mut self, tenant_id: impl AsRef<str>) -> Self {
        self.guest_in.insert(tenant_id.as_ref().to_ascii_lowercase());
        self
    }

    /// Makes this user an administrator, who may consent for everyone in the tenant.
    pub fn admin(mut self) -> Self {
        self.admin = true;
        self
    }

    pub(crate) fn domain(&self) -> &str {
        self.name.rsplit('@').next().unwrap_or_default()
    }
}

impl fmt::Debug for User {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .field("object_id", &self.object_id)
            .field("admin", &self.admin)
            .field("enabled", &self.enabled)
            .finish_non_exhaustive()
    }
}
