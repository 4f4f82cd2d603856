//! What a tenant wants of a sign-in before it gives a token.

use std::time::Duration;

/// What is wanted. A sign-in page can fulfil all but [`Blocked`](Self::Blocked); a refresh or on-behalf-of request cannot, and is answered with
/// the error and, where Entra does so, with the `claims` that a client has to bring to the sign-in page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Requirement {
    /// A second factor: AADSTS50076.
    Mfa,
    /// A second factor that has to be set up first: AADSTS50079.
    MfaEnrolment,
    /// Strong authentication: AADSTS50074.
    StrongAuthentication,
    /// Something that another provider checks: AADSTS50158.
    ExternalChallenge,
    /// Nothing helps: AADSTS53003.
    Blocked,
    /// A sign-in that is not older than this: AADSTS70043.
    SignInFrequency(Duration),
}

impl Requirement {
    /// The number of the error that is answered where this is not fulfilled.
    pub(crate) fn aadsts(self) -> u32 {
        match self {
            Self::Mfa => 50076,
            Self::MfaEnrolment => 50079,
            Self::StrongAuthentication => 50074,
            Self::ExternalChallenge => 50158,
            Self::Blocked => 53003,
            Self::SignInFrequency(_) => 70043,
        }
    }
}

/// A Conditional Access policy: for whom and what a [`Requirement`] holds.
///
/// ```
/// # use entra_broker::emulator::{Directory, Policy, Requirement, sample};
/// let directory = Directory::sample();
/// directory.add_policy(Policy::new(sample::TENANT, Requirement::Mfa).resource(sample::KEY_VAULT).user("alice@contoso.test"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a policy holds once it is added to a directory"]
pub struct Policy {
    pub(crate) tenant: String,
    pub(crate) requirement: Requirement,
    pub(crate) resource: Option<String>,
    pub(crate) client: Option<String>,
    pub(crate) user: Option<String>,
}

impl Policy {
    /// A policy for all users, apps and resources of a tenant.
    ///
    /// It concerns users; apps that act for themselves are concerned only where the policy names them, and only by [`Requirement::Blocked`].
    pub fn new(tenant_id: impl AsRef<str>, requirement: Requirement) -> Self {
        let tenant = tenant_id.as_ref().to_ascii_lowercase();
        Self { tenant, requirement, resource: None, client: None, user: None }
    }

    /// Only tokens for this resource.
    pub fn resource(mut self, resource: impl Into<String>) -> Self {
        self.resource = Some(resource.into());
        self
    }

    /// Only this app.
    pub fn client(mut self, client_id: impl AsRef<str>) -> Self {
        self.client = Some(client_id.as_ref().to_ascii_lowercase());
        self
    }

    /// Only this user.
    pub fn user(mut self, name: impl AsRef<str>) -> Self {
        self.user = Some(name.as_ref().to_ascii_lowercase());
        self
    }
}
