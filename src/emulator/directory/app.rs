//! App registrations.

use crate::emulator::directory::certificate::Certificate;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use url::{Host, Url};

/// The audience that a federated credential has unless it is given another.
pub(crate) const TOKEN_EXCHANGE: &str = "api://AzureADTokenExchange";

/// An app registration.
///
/// ```
/// # use entra_broker::emulator::{App, Directory, sample};
/// let directory = Directory::sample();
/// directory.add_app(App::new("cccccccc-0000-0000-0000-000000000009", sample::TENANT).secret("hush"));
/// ```
#[derive(Clone)]
#[must_use = "an app exists once it is added to a directory"]
pub struct App {
    pub(crate) client_id: String,
    pub(crate) home_tenant: String,
    pub(crate) name: String,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) certificates: Vec<Certificate>,
    /// Authorities, each with the subject that its certificates for the app have.
    pub(crate) trusted_issuers: Vec<(Certificate, String)>,
    pub(crate) federated: Vec<FederatedCredential>,
    pub(crate) redirects: Vec<Redirect>,
    /// The permissions listed in the registration, by resource. `None`: whatever is asked for counts as listed.
    pub(crate) permissions: Option<BTreeMap<String, BTreeSet<String>>>,
    pub(crate) public: bool,
    pub(crate) multi_tenant: bool,
    pub(crate) enabled: bool,
    pub(crate) assignment_required: bool,
    /// The cloud that it is registered in, if that is another one.
    pub(crate) cloud: Option<String>,
}

#[derive(Clone)]
pub(crate) struct Secret {
    pub(crate) value: String,
    pub(crate) expired: bool,
}

/// Trust in another issuer's tokens as an app's credential. All three values have to match to the letter.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a federated credential counts once an app has it"]
pub struct FederatedCredential {
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) audience: String,
}

/// A place to which answers of the authorize endpoint may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Redirect {
    pub(crate) uri: String,
    /// Of a single-page app: its codes are redeemed without a credential, and its refresh tokens live for a day.
    pub(crate) spa: bool,
}

impl FederatedCredential {
    /// Trusts this subject of this issuer, with the audience `api://AzureADTokenExchange`.
    pub fn new(issuer: impl Into<String>, subject: impl Into<String>) -> Self {
        Self { issuer: issuer.into(), subject: subject.into(), audience: TOKEN_EXCHANGE.to_owned() }
    }

    /// Trusts a user-assigned managed identity of the app's own tenant, by the object id of its principal.
    ///
    /// ```
    /// # use entra_broker::emulator::{Directory, FederatedCredential, sample};
    /// let credential = FederatedCredential::managed_identity(sample::TENANT, sample::USER_IDENTITY_OBJECT_ID);
    /// assert!(Directory::sample().add_federated(sample::CERT_APP, credential));
    /// ```
    pub fn managed_identity(tenant_id: impl AsRef<str>, object_id: impl AsRef<str>) -> Self {
        let tenant_id = tenant_id.as_ref().to_ascii_lowercase();
        Self::new(
            format!("https://login.microsoftonline.com/{tenant_id}/v2.0"),
            object_id.as_ref().to_ascii_lowercase(),
        )
    }

    /// Another audience.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = audience.into();
        self
    }
}

impl App {
    /// A confidential, single-tenant app without credentials.
    pub fn new(client_id: impl AsRef<str>, home_tenant: impl AsRef<str>) -> Self {
        let client_id = client_id.as_ref().to_ascii_lowercase();
        Self {
            name: client_id.clone(),
            client_id,
            home_tenant: home_tenant.as_ref().to_ascii_lowercase(),
            secrets: Vec::new(),
            certificates: Vec::new(),
            trusted_issuers: Vec::new(),
            federated: Vec::new(),
            redirects: Vec::new(),
            permissions: None,
            public: false,
            multi_tenant: false,
            enabled: true,
            assignment_required: false,
            cloud: None,
        }
    }

    /// The name that pages show; the client id otherwise.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Adds a secret; an app may have several.
    pub fn secret(mut self, value: impl Into<String>) -> Self {
        self.secrets.push(Secret { value: value.into(), expired: false });
        self
    }

    /// Adds a certificate whose key may sign the app's assertions; an app may have several.
    pub fn certificate(mut self, certificate: Certificate) -> Self {
        self.certificates.push(certificate);
        self
    }

    /// Trusts every certificate with this subject name that this authority issued: a renewed certificate need not be registered.
    ///
    /// The name is the whole subject, the common name or a DNS name. The assertion has to bring the certificate, and those between it and
    /// the authority's, in its `x5c` header.
    pub fn trusted_issuer(mut self, authority: Certificate, subject_name: impl Into<String>) -> Self {
        self.trusted_issuers.push((authority, subject_name.into()));
        self
    }

    /// Adds trust in another issuer's tokens; an app may have several.
    pub fn federated(mut self, credential: FederatedCredential) -> Self {
        self.federated.push(credential);
        self
    }

    /// Adds a redirect URI. With `localhost`, or a loopback address, any port fits it.
    pub fn redirect_uri(mut self, uri: impl Into<String>) -> Self {
        self.redirects.push(Redirect { uri: uri.into(), spa: false });
        self
    }

    /// Adds a redirect URI of a single-page app: a code sent there is redeemed without a credential, and refresh tokens live for a day.
    pub fn spa_redirect_uri(mut self, uri: impl Into<String>) -> Self {
        self.redirects.push(Redirect { uri: uri.into(), spa: true });
        self
    }

    /// Lists delegated permissions of a resource in the registration.
    ///
    /// An app that lists none may ask for everything. One that lists some may ask with `/.default` for what it lists only.
    pub fn permissions<S: Into<String>>(
        mut self,
        resource: impl Into<String>,
        scopes: impl IntoIterator<Item = S>,
    ) -> Self {
        let listed = self.permissions.get_or_insert_default().entry(resource.into()).or_default();
        listed.extend(scopes.into_iter().map(Into::into));
        self
    }

    /// Lists no permission at all in the registration, so that `/.default` asks for nothing.
    pub fn no_permissions(mut self) -> Self {
        self.permissions = Some(BTreeMap::new());
        self
    }

    /// Makes it a public client, which has no credentials.
    pub fn public(mut self) -> Self {
        self.public = true;
        self
    }

    /// Lets other tenants have a service principal of it.
    pub fn multi_tenant(mut self) -> Self {
        self.multi_tenant = true;
        self
    }

    /// Lets only users sign in who were [assigned](crate::emulator::Directory::assign) to it.
    pub fn assignment_required(mut self) -> Self {
        self.assignment_required = true;
        self
    }

    /// Registers it in another cloud, such as `microsoftonline.us`: here it cannot be used.
    pub fn cloud(mut self, instance: impl Into<String>) -> Self {
        self.cloud = Some(instance.into());
        self
    }

    /// The redirect URI of a request that names none, provided that there is only one.
    pub(crate) fn only_redirect(&self) -> Option<&Redirect> {
        self.redirects.first().filter(|_| self.redirects.len() == 1)
    }

    /// The registered redirect URI that this one fits.
    pub(crate) fn redirect(&self, asked: &str) -> Option<&Redirect> {
        self.redirects.iter().find(|registered| fits(&registered.uri, asked))
    }
}

/// Letter by letter, except that a loopback address has any port, and that an empty path is `/`.
fn fits(registered: &str, asked: &str) -> bool {
    if registered == asked {
        return true;
    }
    let (Ok(registered), Ok(mut asked)) = (Url::parse(registered), Url::parse(asked)) else {
        return false;
    };
    let is_loopback = match asked.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    };
    is_loopback && asked.set_port(registered.port()).is_ok() && registered == asked
}

impl fmt::Debug for App {
    /// Without the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("client_id", &self.client_id)
            .field("home_tenant", &self.home_tenant)
            .field("name", &self.name)
            .field("secrets", &self.secrets.len())
            .field("certificates", &self.certificates)
            .field("trusted_issuers", &self.trusted_issuers)
            .field("federated", &self.federated)
            .field("redirects", &self.redirects)
            .field("permissions", &self.permissions)
            .field("public", &self.public)
            .field("multi_tenant", &self.multi_tenant)
            .field("enabled", &self.enabled)
            .field("assignment_required", &self.assignment_required)
            .field("cloud", &self.cloud)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_redirect_fits_at_any_port_and_no_other_does() {
        for (registered, asked, fit) in [
            ("http://localhost", "http://localhost:5000", true),
            ("http://localhost", "http://localhost:5000/", true),
            ("http://localhost:9999/cb", "http://localhost:1/cb", true),
            ("http://127.0.0.1", "http://127.0.0.1:80", true),
            ("http://localhost", "http://localhost:5000/cb", false),
            ("http://localhost", "http://localhost.evil.test", false),
            ("http://localhost", "http://user@localhost", false),
            ("http://localhost", "http://localhost:1/?a=b", false),
            ("http://localhost", "https://localhost", false),
            ("https://app.test/cb", "https://app.test/cb", true),
            ("https://app.test/cb", "https://app.test:8443/cb", false),
            ("https://app.test/cb", "https://app.test/cb/", false),
            ("https://app.test/cb", "https://app.test/CB", false),
        ] {
            assert_eq!(fits(registered, asked), fit, "{registered} {asked}");
        }
    }
}
