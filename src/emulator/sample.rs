//! The sample directory: what [`Directory::sample`](crate::emulator::Directory::sample) holds, and so every emulator that is given no other.

use crate::emulator::directory::Directory;
use crate::emulator::directory::{App, ManagedIdentity, Resource, User};

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

pub(crate) fn directory() -> Directory {
    let directory = Directory::new();
    directory.add_tenant(TENANT, &[TENANT_DOMAIN]);
    directory.add_tenant(OTHER_TENANT, &[OTHER_TENANT_DOMAIN]);
    directory.add_tenant(CUSTOMER_WITHOUT_CONSENT, &[CUSTOMER_WITHOUT_CONSENT_DOMAIN]);
    for resource in resources() {
        directory.add_resource(resource);
    }

    for name in [ALICE, BOB, CAROL] {
        directory.add_user(User::new(name));
    }
    for name in [ADMIN, OTHER_ADMIN, CUSTOMER_ADMIN] {
        directory.add_user(User::new(name).display_name("Administrator").admin());
    }

    let app = App::new(PUBLIC_APP, TENANT).name("Sample desktop app").public();
    directory.add_app(app.redirect_uri("http://localhost").redirect_uri("http://127.0.0.1"));
    let app = App::new(SECRET_APP, TENANT).name("Sample web app").multi_tenant().redirect_uri(REDIRECT_URI);
    directory.add_app(app.secret(SECRET).secret(EXPIRED_SECRET));
    directory.expire_secret(SECRET_APP, EXPIRED_SECRET);
    directory.add_service_principal(OTHER_TENANT, SECRET_APP);
    directory.grant_role(TENANT, SECRET_APP, API, API_ROLE);
    directory.add_app(App::new(CERT_APP, TENANT).name("Sample daemon"));
    // Its own API calls Graph on behalf of whoever calls it, and nobody is asked when that happens.
    directory.consent_for_all(TENANT, SECRET_APP, GRAPH, &["User.Read"]);

    directory.add_identity(ManagedIdentity::system(SYSTEM_IDENTITY, TENANT));
    directory.add_identity(
        ManagedIdentity::user(USER_IDENTITY, TENANT)
            .object_id(USER_IDENTITY_OBJECT_ID)
            .resource_id(USER_IDENTITY_RESOURCE_ID),
    );
    directory.set_app_service_header(APP_SERVICE_HEADER);
    directory
}

/// The services that connectors ask for, with the app ids that they have in Azure where those are commonly seen.
fn resources() -> impl Iterator<Item = Resource> {
    [
        Resource::new(STORAGE)
            .alias("https://*.blob.core.windows.net")
            .alias("https://*.queue.core.windows.net")
            .app_id("e406a681-f3d4-42a8-90b6-c2b029497af1"),
        Resource::new(GRAPH).app_id("00000003-0000-0000-c000-000000000000"),
        Resource::new(RESOURCE_MANAGER)
            .alias("https://management.core.windows.net")
            .app_id("797f4846-ba00-4fd7-ba43-dac1f8f63013"),
        Resource::new(KEY_VAULT).app_id("cfa8b339-82a2-471a-a3c9-0fc0be7a4093"),
        Resource::new("https://database.windows.net").app_id("022907d3-0f1b-48f7-badc-1ba6abab6d66"),
        Resource::new("https://ossrdbms-aad.database.windows.net")
            .app_id("123cd850-d9df-40bd-94d5-c9f07b7fa203"),
        Resource::new("https://eventhubs.azure.net"),
        Resource::new("https://servicebus.azure.net")
            .alias("https://*.servicebus.windows.net")
            .app_id("80a10ef9-8168-493d-abf9-3297c4ef6e3c"),
        Resource::new("https://azuredatabricks.net").app_id("2ff814a6-3304-4ab8-85cb-cd0e6f879c1d"),
        Resource::new("https://app.vssps.visualstudio.com").app_id("499b84ac-1321-427f-aa17-267ca6975798"),
        Resource::new("https://cognitiveservices.azure.com"),
        Resource::new("api://AzureADTokenExchange").app_id("fb60f99c-7a34-4190-8149-302f77469936").v2(),
        Resource::new(API).app_id(SECRET_APP).v2().scope(API_SCOPE),
    ]
    .into_iter()
}
