//! A job of GitHub Actions, with the token that GitHub signs for it.

use std::fmt;

use http::{HeaderValue, Request, header::ACCEPT};
use url::Url;

use super::{
    ClientAuth, ClientCredential, ConfidentialClient, CredentialRequest, CredentialSource, FetchContext,
    pipeline, variables,
};
use crate::{BoxFuture, Env, Error, Secret, error::ErrorKind, wire::oidc::Pipeline};

const REQUEST_URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
const REQUEST_TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";
const TENANT: &str = "AZURE_TENANT_ID";
const CLIENT_ID: &str = "AZURE_CLIENT_ID";
const ADVICE: &str = "Give the job `permissions: id-token: write`: GitHub then sets both variables.";

/// A job of GitHub Actions, whose repository, branch or environment an application trusts by a federated credential.
///
/// A new assertion is had from GitHub for each request to Entra, for as long as the job runs.
///
/// ```
/// use entra_broker::{Broker, Env, GitHubActions};
///
/// # fn main() -> Result<(), entra_broker::Error> {
/// # let env = Env::empty()
/// #     .set("ACTIONS_ID_TOKEN_REQUEST_URL", "https://run.actions.githubusercontent.com/1/idtoken?api-version=2.0")
/// #     .set("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "the-jobs")
/// #     .set("AZURE_TENANT_ID", "contoso.com")
/// #     .set("AZURE_CLIENT_ID", "00001111-aaaa-2222-bbbb-3333cccc4444");
/// // In a job with `permissions: id-token: write`:
/// // let env = Env::process();
/// let broker = Broker::new(GitHubActions::from_env(&env)?)?;
/// # drop(broker); Ok(()) }
/// ```
#[derive(Clone)]
pub struct GitHubActions {
    endpoint: Url,
    authorization: HeaderValue,
}

impl GitHubActions {
    /// Of the job that runs, for [`ClientAuth::source`]: by `ACTIONS_ID_TOKEN_REQUEST_URL` and
    /// `ACTIONS_ID_TOKEN_REQUEST_TOKEN`.
    ///
    /// # Errors
    ///
    /// `NotAvailable` where neither is set; `Config` where one of them is missing or malformed.
    pub fn new(env: &Env) -> Result<Self, Error> {
        if env.get(REQUEST_URL)?.is_none() && env.get(REQUEST_TOKEN)?.is_none() {
            let message = format!("GitHub Actions: {REQUEST_URL} is not set");
            return Err(Error::new(ErrorKind::NotAvailable, message).with_advice(ADVICE));
        }
        let [url, token] = variables::all(env, "GitHub Actions", [REQUEST_URL, REQUEST_TOKEN], ADVICE)?;
        Ok(Self {
            endpoint: pipeline::endpoint(REQUEST_URL, &url)?,
            authorization: pipeline::bearer(REQUEST_TOKEN, &Secret::new(token))?,
        })
    }

    /// The application of `AZURE_CLIENT_ID` in `AZURE_TENANT_ID`, at `AZURE_AUTHORITY_HOST` where that is set, with the
    /// job's token.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and `Config`, with the names of the variables, where the other two are missing or malformed.
    pub fn from_env(env: &Env) -> Result<ConfidentialClient, Error> {
        let source = Self::new(env)?;
        let advice = "Set both in the job's env, from its secrets or variables: neither is a secret.";
        let [tenant, client_id] = variables::all(env, "GitHub Actions", [TENANT, CLIENT_ID], advice)?;
        variables::ids((TENANT, &tenant), (CLIENT_ID, &client_id))?;
        let client = ConfidentialClient::new(&tenant, &client_id, ClientAuth::source(source))?;
        Ok(client.authority(variables::authority(env)?))
    }

    async fn ask(&self, cx: &FetchContext, audience: &str) -> Result<ClientCredential, Error> {
        let mut url = self.endpoint.clone();
        url.query_pairs_mut().append_pair("audience", audience);
        let request = Request::get(url.as_str()).header(ACCEPT, "application/json");
        pipeline::ask(cx, Pipeline::GitHub, request, &self.authorization).await
    }
}

impl CredentialSource for GitHubActions {
    fn name(&self) -> &'static str {
        "github-actions"
    }

    fn credential<'a>(
        &'a self,
        cx: &'a FetchContext,
        asked: &'a CredentialRequest<'a>,
    ) -> BoxFuture<'a, Result<ClientCredential, Error>> {
        Box::pin(self.ask(cx, asked.authority().federation_audience()))
    }
}

impl fmt::Debug for GitHubActions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitHubActions").field("host", &self.endpoint.host_str()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [(&str, &str); 4] = [
        (REQUEST_URL, "https://run.example/idtoken?api-version=2.0"),
        (REQUEST_TOKEN, "hunter2"),
        (TENANT, "contoso.com"),
        (CLIENT_ID, "00001111-aaaa-2222-bbbb-3333cccc4444"),
    ];

    fn told(variables: &[(&str, &str)]) -> (ErrorKind, String) {
        let error = GitHubActions::from_env(&variables.iter().copied().collect()).unwrap_err();
        assert!(!error.advice().is_empty() && !format!("{error:?}").contains("hunter2"));
        (error.kind(), error.to_string())
    }

    #[test]
    fn the_environment_is_taken_whole_or_the_gap_is_named() {
        let client = GitHubActions::from_env(&ALL.into_iter().collect()).unwrap();
        assert_eq!(super::super::Provider::name(&client), "github-actions");
        assert!(!format!("{client:?}").contains("hunter2"));

        assert_eq!(told(&[]), (ErrorKind::NotAvailable, format!("GitHub Actions: {REQUEST_URL} is not set")));
        assert_eq!(told(&ALL[2..]).0, ErrorKind::NotAvailable);
        let gap = |names: &str| (ErrorKind::Config, format!("GitHub Actions: {names}"));
        assert_eq!(told(&ALL[..1]), gap("ACTIONS_ID_TOKEN_REQUEST_TOKEN is not set"));
        assert_eq!(told(&ALL[1..]), gap("ACTIONS_ID_TOKEN_REQUEST_URL is not set"));
        assert_eq!(told(&ALL[..2]), gap("AZURE_TENANT_ID and AZURE_CLIENT_ID are not set"));
        assert!(told(&[ALL[0], ALL[1], (TENANT, "x"), ALL[3]]).1.starts_with("AZURE_TENANT_ID: "));
    }
}
