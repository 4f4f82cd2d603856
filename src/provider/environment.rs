//! Providers as the environment configures them: the variables, and what a partial set of them lacks.

use super::{
    ClientAuth, ConfidentialClient, ManagedIdentity, SecretFile, WorkloadIdentity, credential::check_secret,
    variables,
};
#[cfg(feature = "certificate")]
use crate::provider::Certificate;
use crate::{Authority, ClientId, Env, Error, ManagedIdentityId, Secret, TenantId, error::ErrorKind};

/// Reads credentials from environment variables. With another [prefix](Self::prefix) than `AZURE_` they can stand beside
/// those of the platform or of another part of the program.
///
/// | variable | what |
/// |---|---|
/// | `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` | the application |
/// | `AZURE_CLIENT_SECRET` | its secret's value |
/// | `AZURE_CLIENT_SECRET_FILE` | or a file that holds it, read for each request: a secret can be changed without a restart |
/// | `AZURE_CLIENT_CERTIFICATE_PATH`, `AZURE_CLIENT_CERTIFICATE_PASSWORD` | or its certificate with the key, PEM or PKCS#12 (feature `certificate`), read again when it changes |
/// | `AZURE_CLIENT_SEND_CERTIFICATE_CHAIN` | `1` or `true` sends the certificate's chain along |
/// | `AZURE_FEDERATED_TOKEN_FILE` | or a token of a workload, read for each request |
/// | `AZURE_AUTHORITY_HOST` | another cloud than the public one |
/// | `AZURE_REGIONAL_AUTHORITY_NAME` | the region whose endpoint is asked first |
///
/// Where several credentials are set, the first in this order counts. A set that lacks something is an error that names what
/// is missing. Blanks and line ends around an id, a host or a region are left out; a secret with such is refused.
#[derive(Debug, Clone)]
pub struct Environment {
    pub(super) env: Env,
    pub(super) prefix: String,
    tenant: Option<String>,
    plain_http: bool,
}

impl Environment {
    /// Variables that begin with `AZURE_`.
    pub fn new(env: &Env) -> Self {
        Self { env: env.clone(), prefix: "AZURE_".to_owned(), tenant: None, plain_http: false }
    }

    /// Variables that begin with `prefix`, such as `BATON_ENTRA_`, instead of `AZURE_`. An underscore is put behind it where it
    /// has none.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        if !self.prefix.is_empty() && !self.prefix.ends_with('_') {
            self.prefix.push('_');
        }
        self
    }

    /// The tenant where no variable names one.
    #[must_use]
    pub fn tenant_or(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Where hazards are.
    #[must_use]
    pub fn dangerous(self) -> DangerousEnvironment {
        DangerousEnvironment(self)
    }

    /// The application, by whichever credential is set.
    ///
    /// # Errors
    ///
    /// `NotAvailable` where no variable of an application is set; `Config`, naming the variable, where one is missing,
    /// malformed or not UTF-8; and whatever is wrong with what it leads to.
    pub fn client(&self) -> Result<ConfidentialClient, Error> {
        match self.kind()? {
            Some(Kind::Secret) => self.client_secret(),
            Some(Kind::SecretFile) => self.client_secret_file(),
            Some(Kind::Certificate) => self.client_certificate(),
            Some(Kind::Federated) => self.workload_identity(),
            None => Err(self.nothing()),
        }
    }

    /// The application by its secret.
    ///
    /// # Errors
    ///
    /// As [`client`](Self::client).
    pub fn client_secret(&self) -> Result<ConfidentialClient, Error> {
        let secret = Secret::new(self.credential("CLIENT_SECRET")?);
        self.named("CLIENT_SECRET", check_secret(&secret))?;
        self.client_with(ClientAuth::Secret(secret))
    }

    /// The application by the secret in a file.
    ///
    /// # Errors
    ///
    /// As [`client`](Self::client).
    pub fn client_secret_file(&self) -> Result<ConfidentialClient, Error> {
        let file = SecretFile::new(self.credential("CLIENT_SECRET_FILE")?);
        self.client_with(ClientAuth::source(file))
    }

    /// The application by its certificate.
    ///
    /// # Errors
    ///
    /// As [`client`](Self::client). Without the feature `certificate`, `Config`.
    pub fn client_certificate(&self) -> Result<ConfidentialClient, Error> {
        #[cfg(feature = "certificate")]
        return self.client_with(ClientAuth::source(self.certificate()?));
        #[cfg(not(feature = "certificate"))]
        Err(Error::config(format!(
            "environment variable {}CLIENT_CERTIFICATE_PATH: certificates were not compiled in",
            self.prefix
        ))
        .with_advice("Build with the feature `certificate`."))
    }

    /// The certificate alone.
    ///
    /// # Errors
    ///
    /// `Config` where the path is not set, and whatever is wrong with the file.
    #[cfg(feature = "certificate")]
    pub fn certificate(&self) -> Result<Certificate, Error> {
        let path = self.credential("CLIENT_CERTIFICATE_PATH")?;
        let password = self.get("CLIENT_CERTIFICATE_PASSWORD")?.map(Secret::new);
        let certificate = Certificate::from_file(path, password)?;
        let chain = self.get("CLIENT_SEND_CERTIFICATE_CHAIN")?;
        let chain = chain.is_some_and(|chain| matches!(&*chain.trim().to_ascii_lowercase(), "1" | "true"));
        Ok(if chain { certificate.send_chain() } else { certificate })
    }

    /// The application by a workload's token, as Kubernetes mounts it.
    ///
    /// # Errors
    ///
    /// As [`client`](Self::client).
    pub fn workload_identity(&self) -> Result<ConfidentialClient, Error> {
        let file = WorkloadIdentity::new(self.credential("FEDERATED_TOKEN_FILE")?);
        self.client_with(ClientAuth::source(file))
    }

    /// The machine's identity: user-assigned where a client id is set.
    ///
    /// # Errors
    ///
    /// As [`ManagedIdentity::from_env`].
    pub fn managed_identity(&self) -> Result<ManagedIdentity, Error> {
        let id = match self.get("CLIENT_ID")? {
            Some(id) => self.named("CLIENT_ID", ManagedIdentityId::client_id(id.trim()))?,
            None => ManagedIdentityId::system(),
        };
        ManagedIdentity::from_env(id, &self.env)
    }

    /// The cloud, or what stands in for one: the public one where none is set.
    ///
    /// # Errors
    ///
    /// `Config` where it is malformed, or over plain http and that was not asked for.
    pub fn authority(&self) -> Result<Authority, Error> {
        const HOST: &str = "AUTHORITY_HOST";
        let Some(host) = self.get(HOST)? else { return Ok(Authority::public()) };
        let host = host.trim();
        let authority = if self.plain_http && host.starts_with("http://") {
            Authority::dangerous().allow_plain_http(host)
        } else {
            Authority::custom(host)
        };
        self.named(HOST, authority)
    }

    pub(super) fn secret_or_certificate(&self) -> Result<ConfidentialClient, Error> {
        match self.kind()? {
            Some(Kind::Federated) | None => Err(self.nothing()),
            Some(_) => self.client(),
        }
    }

    pub(super) fn federated(&self) -> Result<ConfidentialClient, Error> {
        match self.get("FEDERATED_TOKEN_FILE")? {
            Some(_) => self.workload_identity(),
            None => Err(Error::new(
                ErrorKind::NotAvailable,
                format!("{}FEDERATED_TOKEN_FILE is not set", self.prefix),
            )),
        }
    }

    /// Which credential is set.
    fn kind(&self) -> Result<Option<Kind>, Error> {
        for (name, kind) in [
            ("CLIENT_SECRET", Kind::Secret),
            ("CLIENT_SECRET_FILE", Kind::SecretFile),
            ("CLIENT_CERTIFICATE_PATH", Kind::Certificate),
            ("FEDERATED_TOKEN_FILE", Kind::Federated),
            // Of a certificate whose path is missing.
            ("CLIENT_CERTIFICATE_PASSWORD", Kind::Certificate),
        ] {
            if self.get(name)?.is_some() {
                return Ok(Some(kind));
            }
        }
        let Self { prefix, .. } = self;
        // A client id alone names a managed identity.
        if self.get("TENANT_ID")?.is_some() {
            let also = match self.get("CLIENT_ID")? {
                None => format!("{prefix}CLIENT_ID is not, and neither is "),
                Some(_) => String::new(),
            };
            return Err(Error::config(format!(
                "{prefix}TENANT_ID is set, but {also}one of {prefix}CLIENT_SECRET, {prefix}CLIENT_CERTIFICATE_PATH and \
                 {prefix}FEDERATED_TOKEN_FILE{}",
                if also.is_empty() { " is not" } else { "" }
            ))
            .with_advice(format!("Set what is missing, or take {prefix}TENANT_ID away.")));
        }
        Ok(None)
    }

    fn nothing(&self) -> Error {
        let Self { prefix, .. } = self;
        Error::new(
            ErrorKind::NotAvailable,
            format!("neither {prefix}CLIENT_SECRET nor {prefix}CLIENT_CERTIFICATE_PATH is set"),
        )
        .with_advice(format!(
            "Set {prefix}TENANT_ID, {prefix}CLIENT_ID and one of {prefix}CLIENT_SECRET, {prefix}CLIENT_CERTIFICATE_PATH \
             and {prefix}FEDERATED_TOKEN_FILE."
        ))
    }

    /// The application of the variables, by another credential than theirs.
    ///
    /// # Errors
    ///
    /// `Config`, naming the variable, where tenant or client id is missing or malformed.
    pub fn client_with(&self, auth: ClientAuth) -> Result<ConfidentialClient, Error> {
        const REGION: &str = "REGIONAL_AUTHORITY_NAME";
        let client =
            ConfidentialClient::new(&self.tenant()?, &self.client_id()?, auth)?.authority(self.authority()?);
        match self.get(REGION)? {
            Some(region) => self.named(REGION, client.region(region.trim())),
            None => Ok(client),
        }
    }

    fn tenant(&self) -> Result<String, Error> {
        const TENANT: &str = "TENANT_ID";
        match (self.get(TENANT)?, &self.tenant) {
            (None, Some(tenant)) => Ok(tenant.clone()),
            (None, None) => self.required(TENANT),
            (Some(tenant), _) => {
                self.named(TENANT, TenantId::parse(tenant.trim())).map(|tenant| tenant.to_string())
            }
        }
    }

    fn client_id(&self) -> Result<String, Error> {
        const CLIENT_ID: &str = "CLIENT_ID";
        let id = ClientId::parse(self.required(CLIENT_ID)?.trim());
        self.named(CLIENT_ID, id).map(|id| id.as_str().to_owned())
    }

    /// What was made of a variable, whose error then says of which.
    fn named<T>(&self, name: &str, made: Result<T, Error>) -> Result<T, Error> {
        made.map_err(|error| variables::named(&format!("environment variable {}{name}", self.prefix), &error))
    }

    pub(super) fn get(&self, name: &str) -> Result<Option<String>, Error> {
        self.env.get(&format!("{}{name}", self.prefix))
    }

    /// What the credential is made of. What is missing is told in the order of the table above.
    fn credential(&self, name: &str) -> Result<String, Error> {
        drop((self.tenant()?, self.client_id()?));
        self.required(name)
    }

    fn required(&self, name: &str) -> Result<String, Error> {
        let Self { prefix, .. } = self;
        self.get(name)?.ok_or_else(|| {
            Error::config(format!("environment variable {prefix}{name}: not set, or blank")).with_advice(format!(
                "An application needs {prefix}TENANT_ID, {prefix}CLIENT_ID and one of {prefix}CLIENT_SECRET, \
                 {prefix}CLIENT_CERTIFICATE_PATH and {prefix}FEDERATED_TOKEN_FILE. For a managed identity set none of them, \
                 or its {prefix}CLIENT_ID alone."
            ))
        })
    }
}

/// What should be typed only by someone who knows why. See [`Environment::dangerous`].
#[derive(Debug)]
pub struct DangerousEnvironment(Environment);

impl DangerousEnvironment {
    /// Takes an authority over plain http, on this machine alone: for an emulator. A secret travels in the open.
    #[must_use]
    pub fn allow_plain_http(self) -> Environment {
        Environment { plain_http: true, ..self.0 }
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Secret,
    SecretFile,
    Certificate,
    Federated,
}
