//! `azure_identity` and `azure_core`: the SDK's own.

use std::{hint::black_box, sync::Arc};

use async_trait::async_trait;
use azure_core::{
    credentials::TokenCredential,
    http::{
        AsyncRawResponse, Context, Method, Request, StatusCode, Url,
        headers::Headers,
        policies::{Policy, PolicyResult, auth::BearerTokenAuthorizationPolicy},
    },
};
use azure_identity::{ClientSecretCredential, ClientSecretCredentialOptions};
use bytes::Bytes;

use super::{BUILDING, PEER, POLICY, over_and_over};
use crate::{
    Failure,
    service::{CLIENT_ID, Memory, SECRET, TENANT, TOKEN_LENGTH, azure_options},
    windows::Contestant,
};

const SCOPE: &str = "https://vault.azure.net/.default";

pub(crate) struct Azure {
    direct: Arc<ClientSecretCredential>,
    dynamic: Arc<dyn TokenCredential>,
    policy: BearerTokenAuthorizationPolicy,
    /// What comes after the policy.
    end: [Arc<dyn Policy>; 1],
    context: Context<'static>,
    url: Url,
}

impl Azure {
    pub(crate) fn credential(service: Memory) -> azure_core::Result<Arc<ClientSecretCredential>> {
        let options = ClientSecretCredentialOptions { client_options: azure_options(service) };
        ClientSecretCredential::new(TENANT, CLIENT_ID.to_owned(), SECRET.into(), Some(options))
    }

    pub(super) async fn new(service: Memory) -> Result<Self, Failure> {
        let direct = Self::credential(service)?;
        assert_eq!(direct.get_token(&[SCOPE], None).await?.token.secret().len(), TOKEN_LENGTH);
        let dynamic = Arc::clone(&direct) as Arc<dyn TokenCredential>;
        let policy = BearerTokenAuthorizationPolicy::new(Arc::clone(&dynamic), [SCOPE]);
        let url = Url::parse("https://contoso.vault.azure.net/secrets/one")?;
        let azure = Self { direct, dynamic, policy, end: [Arc::new(End)], context: Context::default(), url };
        azure.authorized().await?;
        Ok(azure)
    }

    /// A request with a header, and the answer to it.
    async fn authorized(&self) -> azure_core::Result<(Request, AsyncRawResponse)> {
        let mut request = Request::new(self.url.clone(), Method::Get);
        let answer = self.policy.send(black_box(&self.context), &mut request, &self.end).await?;
        Ok((request, answer))
    }

    /// The same without the policy.
    async fn bare(&self) -> azure_core::Result<(Request, AsyncRawResponse)> {
        let mut request = Request::new(self.url.clone(), Method::Get);
        let answer = self.end[0].send(black_box(&self.context), &mut request, &[]).await?;
        Ok((request, answer))
    }

    pub(super) fn contestants(&self) -> Vec<Contestant<'_>> {
        let Self { direct, dynamic, .. } = self;
        vec![
            Contestant::new(PEER, move |hits| {
                over_and_over(hits, || direct.get_token(black_box(&[SCOPE]), None));
            }),
            Contestant::new("azure_identity.dyn", move |hits| {
                over_and_over(hits, || black_box(dynamic).get_token(black_box(&[SCOPE]), None));
            }),
            Contestant::new(POLICY, move |hits| over_and_over(hits, || self.authorized())),
            Contestant::new(BUILDING, move |hits| over_and_over(hits, || self.bare())),
        ]
    }
}

/// The end of the pipeline.
#[derive(Debug)]
struct End;

#[async_trait]
#[expect(elided_lifetimes_in_paths, reason = "as the trait spells it: another spelling is another signature")]
impl Policy for End {
    async fn send(&self, _: &Context, _: &mut Request, _: &[Arc<dyn Policy>]) -> PolicyResult {
        Ok(AsyncRawResponse::from_bytes(StatusCode::Ok, Headers::new(), Bytes::new()))
    }
}
