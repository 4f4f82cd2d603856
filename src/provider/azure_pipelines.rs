//! A job of Azure Pipelines, with the token of a service connection.

use std::fmt;

use http::{
    HeaderValue, Request,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use url::Url;

use super::{
    ClientAuth, ClientCredential, ConfidentialClient, CredentialRequest, CredentialSource, FetchContext,
    pipeline, variables,
};
use crate::{BoxFuture, Env, Error, Secret, error::ErrorKind, wire::oidc::Pipeline};

const REQUEST_URI: &str = "SYSTEM_OIDCREQUESTURI";
const ACCESS_TOKEN: &str = "SYSTEM_ACCESSTOKEN";
const TENANT: &str = "AZURESUBSCRIPTION_TENANT_ID";
const CLIENT_ID: &str = "AZURESUBSCRIPTION_CLIENT_ID";
const CONNECTION: &str = "AZURESUBSCRIPTION_SERVICE_CONNECTION_ID";
const API_VERSION: &str = "7.1";
const PASS_ON: &str =
    "Pass the job's token on in the step: `env: SYSTEM_ACCESSTOKEN: $(System.AccessToken)`.";

/// The service connection of a job of Azure Pipelines, which has to use workload identity federation.
///
/// A new assertion is had from Azure DevOps for each request to Entra, for as long as the job runs.
///
/// ```
/// use entra_broker::{AzurePipelines, Broker, Env};
///
/// # fn main() -> Result<(), entra_broker::Error> {
/// # let env = Env::empty()
/// #     .set("SYSTEM_OIDCREQUESTURI", "https://dev.azure.com/o/p/_apis/distributedtask/hubs/build/plans/1/jobs/2/oidctoken")
/// #     .set("SYSTEM_ACCESSTOKEN", "the-jobs")
/// #     .set("AZURESUBSCRIPTION_SERVICE_CONNECTION_ID", "11112222-aaaa-2222-bbbb-3333cccc4444")
/// #     .set("AZURESUBSCRIPTION_TENANT_ID", "contoso.com")
/// #     .set("AZURESUBSCRIPTION_CLIENT_ID", "00001111-aaaa-2222-bbbb-3333cccc4444");
/// // In an AzureCLI@2 or AzurePowerShell@5 task, with SYSTEM_ACCESSTOKEN: $(System.AccessToken) in its env:
/// // let env = Env::process();
/// let broker = Broker::new(AzurePipelines::from_env(&env)?)?;
/// # drop(broker); Ok(()) }
/// ```
#[derive(Clone)]
pub struct AzurePipelines {
    endpoint: Url,
    authorization: HeaderValue,
}

impl AzurePipelines {
    /// Of the service connection with this id, for [`ClientAuth::source`]. `access_token` is the job's
    /// `$(System.AccessToken)`; where to ask is read from `SYSTEM_OIDCREQUESTURI`, which each job has.
    ///
    /// # Errors
    ///
    /// `NotAvailable` where there is no `SYSTEM_OIDCREQUESTURI`, so that this is no job; `Config` where it, the id or the
    /// token is malformed.
    pub fn new(
        service_connection_id: &str,
        access_token: impl Into<Secret>,
        env: &Env,
    ) -> Result<Self, Error> {
        let Some(uri) = env.get(REQUEST_URI)? else { return Err(not_here(REQUEST_URI)) };
        let mut endpoint = pipeline::endpoint(REQUEST_URI, &uri)?;
        let id = service_connection_id.trim();
        if id.is_empty()
            || id.len() > 128
            || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        {
            return Err(Error::config("service connection id: expected the GUID of a service connection")
                .with_advice(
                    "It stands in the URL of the service connection's page in the project's settings.",
                ));
        }
        endpoint
            .query_pairs_mut()
            .append_pair("api-version", API_VERSION)
            .append_pair("serviceConnectionId", id);
        let authorization = pipeline::bearer(ACCESS_TOKEN, &access_token.into())?;
        Ok(Self { endpoint, authorization })
    }

    /// The application of the service connection that the task was given: of `AZURESUBSCRIPTION_CLIENT_ID` in
    /// `AZURESUBSCRIPTION_TENANT_ID` with `AZURESUBSCRIPTION_SERVICE_CONNECTION_ID`, as the tasks for the Azure CLI and
    /// Azure PowerShell set them, and `SYSTEM_ACCESSTOKEN`, which has to be passed on by hand.
    ///
    /// # Errors
    ///
    /// `NotAvailable` where this is no job or the task has no service connection; `Config`, with the names of the
    /// variables, where some of them are missing or malformed.
    pub fn from_env(env: &Env) -> Result<ConfidentialClient, Error> {
        if env.get(REQUEST_URI)?.is_none() {
            return Err(not_here(REQUEST_URI));
        }
        let mut connected = false;
        for name in [CONNECTION, TENANT, CLIENT_ID] {
            connected |= env.get(name)?.is_some();
        }
        if !connected {
            return Err(not_here(CONNECTION));
        }
        let advice = "The tasks AzureCLI@2 and AzurePowerShell@5 set the variables of their service connection. The \
                      job's token is passed on in the step: `env: SYSTEM_ACCESSTOKEN: $(System.AccessToken)`.";
        let names = [CONNECTION, TENANT, CLIENT_ID, ACCESS_TOKEN];
        let [connection, tenant, client_id, access_token] =
            variables::all(env, "Azure Pipelines", names, advice)?;
        variables::ids((TENANT, &tenant), (CLIENT_ID, &client_id))?;
        let source = Self::new(&connection, access_token, env)?;
        ConfidentialClient::new(&tenant, &client_id, ClientAuth::source(source))
    }

    async fn ask(&self, cx: &FetchContext) -> Result<ClientCredential, Error> {
        let request = Request::post(self.endpoint.as_str())
            .header(CONTENT_TYPE, "application/json")
            // Said aloud: not every server takes a POST that does not tell how long its body is.
            .header(CONTENT_LENGTH, "0")
            // Otherwise a token that is refused is answered by a redirect to a page to sign in at.
            .header("x-tfs-fedauthredirect", "Suppress");
        pipeline::ask(cx, Pipeline::Azure, request, &self.authorization).await
    }
}

fn not_here(missing: &str) -> Error {
    Error::new(ErrorKind::NotAvailable, format!("Azure Pipelines: {missing} is not set"))
        .with_advice(format!("Run it in a task of a pipeline that has a service connection. {PASS_ON}"))
}

impl CredentialSource for AzurePipelines {
    fn name(&self) -> &'static str {
        "azure-pipelines"
    }

    fn credential<'a>(
        &'a self,
        cx: &'a FetchContext,
        _asked: &'a CredentialRequest<'a>,
    ) -> BoxFuture<'a, Result<ClientCredential, Error>> {
        Box::pin(self.ask(cx))
    }
}

impl fmt::Debug for AzurePipelines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AzurePipelines").field("host", &self.endpoint.host_str()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(&str, &str); 5] = [
        (REQUEST_URI, "https://dev.azure.com/o/p/oidctoken"),
        (ACCESS_TOKEN, "hunter2"),
        (CONNECTION, "11112222-aaaa-2222-bbbb-3333cccc4444"),
        (TENANT, "contoso.com"),
        (CLIENT_ID, "00001111-aaaa-2222-bbbb-3333cccc4444"),
    ];

    fn told(variables: &[(&str, &str)]) -> (ErrorKind, String) {
        let error = AzurePipelines::from_env(&variables.iter().copied().collect()).unwrap_err();
        assert!(!error.advice().is_empty() && !format!("{error:?}").contains("hunter2"));
        (error.kind(), error.to_string())
    }

    #[test]
    fn the_environment_is_taken_whole_or_the_gap_is_named() {
        let client = AzurePipelines::from_env(&ALL.into_iter().collect()).unwrap();
        assert_eq!(super::super::Provider::name(&client), "azure-pipelines");
        assert!(!format!("{client:?}").contains("hunter2"));

        let (not_here, config) = (ErrorKind::NotAvailable, ErrorKind::Config);
        assert_eq!(told(&[]), (not_here, format!("Azure Pipelines: {REQUEST_URI} is not set")));
        assert_eq!(told(&ALL[1..]), (not_here, format!("Azure Pipelines: {REQUEST_URI} is not set")));
        assert_eq!(told(&ALL[..2]), (not_here, format!("Azure Pipelines: {CONNECTION} is not set")));
        assert_eq!(
            told(&[ALL[0], ALL[2], ALL[3]]),
            (config, format!("Azure Pipelines: {CLIENT_ID} and {ACCESS_TOKEN} are not set"))
        );
        let unreplaced = [ALL[0], ALL[2], ALL[3], ALL[4], (ACCESS_TOKEN, "$(System.AccessToken)")];
        assert!(told(&unreplaced).1.starts_with(ACCESS_TOKEN));
        assert!(
            told(&[(REQUEST_URI, "http://far.example/"), ALL[1], ALL[2], ALL[3], ALL[4]])
                .1
                .starts_with(REQUEST_URI)
        );
    }

    #[test]
    fn a_service_connection_is_named_by_its_id() {
        let env: Env = [(REQUEST_URI, "https://dev.azure.com/p/oidctoken?x=1")].into_iter().collect();
        let source = AzurePipelines::new("  11112222-aaaa ", "t", &env).unwrap();
        assert_eq!(
            source.endpoint.as_str(),
            "https://dev.azure.com/p/oidctoken?x=1&api-version=7.1&serviceConnectionId=11112222-aaaa"
        );
        for bad in ["", "a&b=c", "my connection"] {
            let error = AzurePipelines::new(bad, "t", &env).unwrap_err();
            assert!(error.to_string().starts_with("service connection id: "), "{error}");
        }
    }
}
