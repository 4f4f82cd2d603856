//! A workload whose platform puts a signed token of its own into a file: Kubernetes, and what does as it does.

use std::path::PathBuf;

use super::{
    ClientAuth, ClientCredential, ConfidentialClient, CredentialRequest, CredentialSource, FetchContext,
    client_assertion::checked, file, variables,
};
use crate::{BoxFuture, Env, Error, error::ErrorKind};

const WHAT: &str = "the federated token file";
const FILE: &str = "AZURE_FEDERATED_TOKEN_FILE";
const TENANT: &str = "AZURE_TENANT_ID";
const CLIENT_ID: &str = "AZURE_CLIENT_ID";
/// A token is a few KiB, and no server takes one that is much longer.
const LONGEST: usize = 64 * 1024;
const ADVICE: &str = "On Kubernetes the workload-identity webhook sets them for pods with the label \
     azure.workload.identity/use: \"true\" whose service account has the annotation azure.workload.identity/client-id.";

/// A federated credential whose assertion is in a file that the platform replaces every so often.
///
/// The file is read again for each request to the token service, so a token that was rotated needs no restart. Where it
/// cannot be read, a cached access token is served for as long as it lives. Where Entra refuses the assertion and the file
/// holds another one by then, that one is tried at once.
///
/// ```
/// use entra_broker::{Broker, Env, WorkloadIdentity};
///
/// # fn main() -> Result<(), entra_broker::Error> {
/// # let env = Env::empty()
/// #     .set("AZURE_TENANT_ID", "contoso.com")
/// #     .set("AZURE_CLIENT_ID", "00001111-aaaa-2222-bbbb-3333cccc4444")
/// #     .set("AZURE_FEDERATED_TOKEN_FILE", "/var/run/secrets/azure/tokens/azure-identity-token");
/// // let env = Env::process();
/// let broker = Broker::new(WorkloadIdentity::from_env(&env)?)?;
/// # drop(broker); Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct WorkloadIdentity {
    path: PathBuf,
}

impl WorkloadIdentity {
    /// Of the file at `path`, for [`ClientAuth::source`]. It need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The application of `AZURE_CLIENT_ID` in `AZURE_TENANT_ID` with the file of `AZURE_FEDERATED_TOKEN_FILE`, at
    /// `AZURE_AUTHORITY_HOST` where that is set.
    ///
    /// # Errors
    ///
    /// `NotAvailable` where there is no `AZURE_FEDERATED_TOKEN_FILE`; `Config`, with the names of the variables, where it
    /// is set and others are missing or malformed.
    pub fn from_env(env: &Env) -> Result<ConfidentialClient, Error> {
        if env.get(FILE)?.is_none() {
            return Err(Error::new(ErrorKind::NotAvailable, format!("workload identity: {FILE} is not set"))
                .with_advice(ADVICE));
        }
        let [file, tenant, client_id] =
            variables::all(env, "workload identity", [FILE, TENANT, CLIENT_ID], ADVICE)?;
        variables::ids((TENANT, &tenant), (CLIENT_ID, &client_id))?;
        let client = ConfidentialClient::new(&tenant, &client_id, ClientAuth::source(Self::new(file)))?;
        Ok(client.authority(variables::authority(env)?))
    }

    async fn read(&self, cx: &FetchContext) -> Result<ClientCredential, Error> {
        let path = self.path.clone();
        let assertion = cx.blocking(move || file::read_secret(WHAT, &path, LONGEST)).await?;
        checked("the token in the federated token file", assertion)
    }
}

impl CredentialSource for WorkloadIdentity {
    fn name(&self) -> &'static str {
        "workload-identity"
    }

    fn credential<'a>(
        &'a self,
        cx: &'a FetchContext,
        _asked: &'a CredentialRequest<'a>,
    ) -> BoxFuture<'a, Result<ClientCredential, Error>> {
        Box::pin(self.read(cx))
    }

    /// Whatever was wrong with it: a token of another issuer, or signed by another key, is replaced in the same way as one
    /// that has expired.
    fn another<'a>(
        &'a self,
        cx: &'a FetchContext,
        _asked: &'a CredentialRequest<'a>,
        _refused: &'a ClientCredential,
        _error: &'a Error,
    ) -> BoxFuture<'a, Option<ClientCredential>> {
        Box::pin(async move { self.read(cx).await.ok() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Authority;

    const ALL: [(&str, &str); 3] = [
        (FILE, "/var/run/secrets/azure/tokens/azure-identity-token"),
        (TENANT, "contoso.com"),
        (CLIENT_ID, "00001111-aaaa-2222-bbbb-3333cccc4444"),
    ];

    fn told(variables: &[(&str, &str)]) -> (ErrorKind, String) {
        let error = WorkloadIdentity::from_env(&variables.iter().copied().collect()).unwrap_err();
        assert!(!error.advice().is_empty());
        (error.kind(), error.to_string())
    }

    #[test]
    fn the_environment_is_taken_whole_or_the_gap_is_named() {
        let client = WorkloadIdentity::from_env(&ALL.into_iter().collect()).unwrap();
        assert_eq!(client.to_string(), format!("application {} in tenant contoso.com", ALL[2].1));
        assert_eq!(super::super::Provider::name(&client), "workload-identity");

        let not_here = (ErrorKind::NotAvailable, format!("workload identity: {FILE} is not set"));
        assert_eq!(told(&[]), not_here);
        assert_eq!(told(&ALL[1..]), not_here, "these two are there for a secret as well");
        let gap = |names| (ErrorKind::Config, format!("workload identity: {names}"));
        assert_eq!(told(&ALL[..1]), gap("AZURE_TENANT_ID and AZURE_CLIENT_ID are not set"));
        assert_eq!(told(&ALL[..2]), gap("AZURE_CLIENT_ID is not set"));
        assert!(told(&[ALL[0], ALL[1], (CLIENT_ID, "x")]).1.starts_with("AZURE_CLIENT_ID: "));
    }

    #[test]
    fn the_cloud_is_the_environments() {
        let with = |host: &str| {
            WorkloadIdentity::from_env(&ALL.into_iter().chain([(variables::AUTHORITY, host)]).collect())
        };
        let identity = super::super::Provider::identity(&with("https://login.microsoftonline.us/").unwrap());
        assert_eq!(identity.authority(), Some(&Authority::us_government()));
        let error = with("http://login.microsoftonline.us").unwrap_err();
        assert!(error.to_string().starts_with("AZURE_AUTHORITY_HOST: authority: "), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_not_utf8_is_named() {
        use std::os::unix::ffi::OsStringExt as _;
        let raw = std::ffi::OsString::from_vec(vec![b'/', 0xff]);
        let error = WorkloadIdentity::from_env(&Env::empty().set(FILE, raw)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(FILE), "{error}");
    }
}
