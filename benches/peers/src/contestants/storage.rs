//! `object_store`'s own credential for Azure's storage.

use object_store::{
    ClientOptions,
    azure::{AzureCredential, AzureCredentialProvider, MicrosoftAzureBuilder},
    client::{HttpClient, HttpConnector},
};

use super::over_and_over;
use crate::{
    Failure,
    service::{CLIENT_ID, Memory, SECRET, TENANT, TOKEN_LENGTH},
    windows::Contestant,
};

pub(super) struct Storage(AzureCredentialProvider);

impl Storage {
    pub(super) async fn new(service: Memory) -> Result<Self, Failure> {
        let store = MicrosoftAzureBuilder::new()
            .with_account("contoso")
            .with_container_name("one")
            .with_client_secret_authorization(CLIENT_ID, SECRET, TENANT)
            .with_http_connector(Connector(service))
            .build()?;
        let credentials = store.credentials().clone();
        let AzureCredential::BearerToken(token) = &*credentials.get_credential().await? else {
            return Err("object_store has no bearer token".into());
        };
        assert_eq!(token.len(), TOKEN_LENGTH);
        Ok(Self(credentials))
    }

    pub(super) fn contestant(&self) -> Contestant<'_> {
        Contestant::new("object_store.azure", move |hits| over_and_over(hits, || self.0.get_credential()))
    }
}

#[derive(Debug)]
struct Connector(Memory);

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}
