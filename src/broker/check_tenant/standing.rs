//! What an answer says of the application's standing in a tenant.

use crate::error::{Error, ErrorKind};

/// How an application stands in a tenant, as far as a token for one resource shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TenantStanding {
    /// A token came: the tenant knows the application, and has the resource.
    Trusted,
    /// Nobody there has consented, so the application has no service principal in the tenant.
    ConsentMissing,
    /// There is no such tenant in this cloud.
    TenantUnknown,
    /// The tenant does not have the resource: its service was never added or subscribed to.
    ResourceMissing,
    /// The application is disabled, in the tenant or at home.
    AppDisabled,
    /// A policy of the tenant forbids it, such as Conditional Access for workloads.
    BlockedByPolicy,
    /// Our own credential is wrong or has expired: nothing that the customer could mend.
    OwnCredentialBad,
    /// The application takes no tenants but its own.
    NotMultiTenant,
    /// The service or the network failed: nothing is known of the tenant. Ask again later.
    Transient,
    /// The answer was a token of another tenant, which was thrown away.
    AnotherTenant,
    /// It was refused for another reason: see [`TenantCheck::error`](crate::TenantCheck::error).
    Refused,
}

impl TenantStanding {
    /// Its name in `snake_case`, as it is meant for logs and interfaces.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::ConsentMissing => "consent_missing",
            Self::TenantUnknown => "tenant_unknown",
            Self::ResourceMissing => "resource_missing",
            Self::AppDisabled => "app_disabled",
            Self::BlockedByPolicy => "blocked_by_policy",
            Self::OwnCredentialBad => "own_credential_bad",
            Self::NotMultiTenant => "not_multi_tenant",
            Self::Transient => "transient",
            Self::AnotherTenant => "another_tenant",
            Self::Refused => "refused",
        }
    }

    pub(super) fn of(error: &Error) -> Self {
        let has = |codes: &[u32]| error.aadsts().iter().any(|code| codes.contains(code));
        match error.kind() {
            ErrorKind::Throttled
            | ErrorKind::Unavailable
            | ErrorKind::Timeout
            | ErrorKind::Protocol
            | ErrorKind::TokenRefused
            | ErrorKind::Store
            | ErrorKind::Closed => Self::Transient,
            _ if has(&[7_000_112, 70_001]) => Self::AppDisabled,
            _ if has(&[50_194]) => Self::NotMultiTenant,
            _ if has(&[7_000_229, 700_016, 65_001]) => Self::ConsentMissing,
            ErrorKind::ConsentRequired => Self::ConsentMissing,
            ErrorKind::Tenant => Self::TenantUnknown,
            ErrorKind::Resource => Self::ResourceMissing,
            ErrorKind::Policy | ErrorKind::SignInRequired => Self::BlockedByPolicy,
            ErrorKind::Credential => Self::OwnCredentialBad,
            ErrorKind::Config | ErrorKind::NotAvailable => Self::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_transient() {
        for kind in [ErrorKind::Throttled, ErrorKind::Unavailable, ErrorKind::Timeout] {
            assert_eq!(TenantStanding::of(&Error::new(kind, "x")), TenantStanding::Transient);
        }
    }
}
