//! `google_cloud_auth`: the credentials of a user, whose token endpoint is a loopback socket.

use google_cloud_auth::credentials::{
    AccessTokenCredentials, CacheableResource, Credentials, EntityTag, user_account::Builder,
};
use http::Extensions;
use serde_json::json;

use super::over_and_over;
use crate::{
    Failure,
    service::{CLIENT_ID, Memory, SECRET, TOKEN_LENGTH, listen},
    windows::Contestant,
};

pub(super) struct Google {
    credentials: Credentials,
    tokens: AccessTokenCredentials,
    known: EntityTag,
}

impl Google {
    pub(super) async fn new(service: &Memory) -> Result<Self, Failure> {
        let address = listen(service.body().to_vec())?;
        let builder = || {
            let user = json!({
                "type": "authorized_user", "client_id": CLIENT_ID, "client_secret": SECRET, "refresh_token": "0.AAAA",
            });
            Builder::new(user).with_token_uri(format!("http://{address}/token"))
        };
        let credentials = builder().build()?;
        let tokens = builder().build_access_token_credentials()?;
        assert_eq!(tokens.access_token().await?.token.len(), TOKEN_LENGTH);
        let CacheableResource::New { entity_tag: known, .. } = credentials.headers(Extensions::new()).await?
        else {
            return Err("the first headers are not new".into());
        };
        Ok(Self { credentials, tokens, known })
    }

    pub(super) fn contestants(&self) -> Vec<Contestant<'_>> {
        let Self { credentials, tokens, known } = self;
        vec![
            Contestant::new("google_cloud_auth.headers", move |hits| {
                over_and_over(hits, || credentials.headers(Extensions::new()));
            }),
            Contestant::new("google_cloud_auth.not_modified", move |hits| {
                over_and_over(hits, || async {
                    let mut extensions = Extensions::new();
                    extensions.insert(known.clone());
                    match credentials.headers(extensions).await {
                        Ok(CacheableResource::NotModified) => Ok(()),
                        Ok(CacheableResource::New { .. }) => Err("modified".to_owned()),
                        Err(error) => Err(error.to_string()),
                    }
                });
            }),
            Contestant::new("google_cloud_auth.access_token", move |hits| {
                over_and_over(hits, || tokens.access_token());
            }),
        ]
    }
}
