//! The sample directory: what [`Directory::sample`](crate::emulator::Directory::sample) holds, and so every emulator that is given no other.
//!
//! It is made of [`TOML`]; the constants name what is in there.

use crate::emulator::directory::{Directory, State};
use std::sync::OnceLock;

/// The tenant in which everything lives.
pub const TENANT: &str = "11111111-2222-3333-4444-555555555555";
/// A verified domain of [`TENANT`], good wherever the id is.
pub const TENANT_DOMAIN: &str = "contoso.test";
/// A customer's tenant, where [`SECRET_APP`] has a service principal.
pub const OTHER_TENANT: &str = "22222222-3333-4444-5555-666666666666";
/// A verified domain of [`OTHER_TENANT`].
pub const OTHER_TENANT_DOMAIN: &str = "fabrikam.test";
/// A customer's tenant that never consented: [`SECRET_APP`] has no service principal there.
pub const CUSTOMER_WITHOUT_CONSENT: &str = "33333333-4444-5555-6666-777777777777";
/// A verified domain of [`CUSTOMER_WITHOUT_CONSENT`].
pub const CUSTOMER_WITHOUT_CONSENT_DOMAIN: &str = "tailspin.test";

/// A user of [`TENANT`], like [`BOB`]; any password signs in.
pub const ALICE: &str = "alice@contoso.test";
/// A user of [`TENANT`].
pub const BOB: &str = "bob@contoso.test";
/// The administrator of [`TENANT`].
pub const ADMIN: &str = "admin@contoso.test";
/// A user of [`OTHER_TENANT`].
pub const CAROL: &str = "carol@fabrikam.test";
/// The administrator of [`OTHER_TENANT`].
pub const OTHER_ADMIN: &str = "admin@fabrikam.test";
/// The administrator of [`CUSTOMER_WITHOUT_CONSENT`].
pub const CUSTOMER_ADMIN: &str = "admin@tailspin.test";

/// A public client, with `http://localhost` and `http://127.0.0.1` at any port as redirect URIs.
pub const PUBLIC_APP: &str = "aaaaaaaa-0000-0000-0000-000000000001";
/// A confidential, multi-tenant app with [`SECRET`] and [`EXPIRED_SECRET`]; the resource `api://{SECRET_APP}` is its own.
pub const SECRET_APP: &str = "aaaaaaaa-0000-0000-0000-000000000002";
/// The secret of [`SECRET_APP`], full of characters that need encoding.
pub const SECRET: &str = "s3cr3t~with%odd+chars/=";
/// A secret of [`SECRET_APP`] that has expired.
pub const EXPIRED_SECRET: &str = "an0ther~secret-long-since-expired";
/// The redirect URI of [`SECRET_APP`]; any port fits it.
pub const REDIRECT_URI: &str = "http://localhost:9999/cb";
/// A confidential app without a secret, meant for a certificate.
pub const CERT_APP: &str = "aaaaaaaa-0000-0000-0000-000000000003";
/// [`SECRET_APP`]'s own API; its access tokens have the v2 shape.
pub const API: &str = "api://aaaaaaaa-0000-0000-0000-000000000002";
/// The delegated permission of [`API`].
pub const API_SCOPE: &str = "access_as_user";
/// The role that [`SECRET_APP`] was granted on its own API in [`TENANT`].
pub const API_ROLE: &str = "Orders.Read.All";

/// Client id of the system-assigned managed identity.
pub const SYSTEM_IDENTITY: &str = "bbbbbbbb-0000-0000-0000-000000000000";
/// Client id of the user-assigned managed identity.
pub const USER_IDENTITY: &str = "bbbbbbbb-0000-0000-0000-000000000001";
/// Object id of the user-assigned managed identity.
pub const USER_IDENTITY_OBJECT_ID: &str = "bbbbbbbb-1111-0000-0000-000000000001";
/// Azure resource id of the user-assigned managed identity.
pub const USER_IDENTITY_RESOURCE_ID: &str = "/subscriptions/bbbbbbbb-2222-0000-0000-000000000001/resourcegroups/sample/providers/Microsoft.ManagedIdentity/userAssignedIdentities/sample";
/// What App Service's endpoint wants in `X-IDENTITY-HEADER`.
pub const APP_SERVICE_HEADER: &str = "app-secret";

/// Azure Storage.
pub const STORAGE: &str = "https://storage.azure.com";
/// Microsoft Graph.
pub const GRAPH: &str = "https://graph.microsoft.com";
/// Azure Resource Manager.
pub const RESOURCE_MANAGER: &str = "https://management.azure.com";
/// Azure Key Vault.
pub const KEY_VAULT: &str = "https://vault.azure.net";

/// The sample directory as a file, with a comment on everything that a directory's file can say: a start for one's own.
pub const TOML: &str = include_str!("sample.toml");

pub(crate) fn directory() -> Directory {
    static STATE: OnceLock<State> = OnceLock::new();
    // Read once in a process: a test suite starts many emulators.
    let state = STATE.get_or_init(|| {
        #[expect(clippy::expect_used, reason = "a text of our own, which tests read")]
        let state = State::from_toml(TOML).expect("the sample is without mistakes");
        state
    });
    Directory::of(state.clone())
}
