//! `entra_broker`.

use std::{hint::black_box, sync::Arc};

use azure_core::credentials::TokenCredential;
use entra_broker::{Broker, ClientSecret, Handle, TokenRequest};

use super::over_and_over;
use crate::{
    Failure,
    service::{CLIENT_ID, Memory, SECRET, TENANT, TOKEN_LENGTH},
    windows::{Contestant, ready, take},
};

const SCOPE: &str = "https://vault.azure.net/.default";

pub(crate) struct Ours {
    broker: Broker,
    request: TokenRequest,
    handle: Handle,
    /// As Azure's clients hold it.
    dynamic: Arc<dyn TokenCredential>,
}

impl Ours {
    pub(super) async fn new(service: Memory) -> Result<Self, Failure> {
        let provider = ClientSecret::new(TENANT, CLIENT_ID, SECRET)?;
        let broker = Broker::builder().transport(service).build(provider)?;
        let request = TokenRequest::new(SCOPE)?;
        let handle = broker.handle(&request);
        assert_eq!(broker.get_token(&request).await?.secret().len(), TOKEN_LENGTH);
        broker.get_token(SCOPE).await?;
        let dynamic = Arc::new(broker.clone()) as Arc<dyn TokenCredential>;
        assert_eq!(dynamic.get_token(&[SCOPE], None).await?.token.secret().len(), TOKEN_LENGTH);
        Ok(Self { broker, request, handle, dynamic })
    }

    pub(super) fn contestants(&self) -> Vec<Contestant<'_>> {
        let Self { broker, request, handle, dynamic } = self;
        vec![
            Contestant::new("entra_broker.request", move |hits| {
                over_and_over(hits, || broker.get_token(black_box(request)));
            }),
            Contestant::new("entra_broker.str", move |hits| {
                over_and_over(hits, || broker.get_token(black_box(SCOPE)));
            }),
            Contestant::new("entra_broker.handle", move |hits| {
                over_and_over(hits, || black_box(handle).get());
            }),
            Contestant::new("entra_broker.handle_with", move |hits| {
                for _ in 0..hits {
                    take(black_box(handle).with(|token| token.secret().len()).ok_or("nothing at hand"));
                }
            }),
            Contestant::new("entra_broker.reader", move |hits| {
                // One a thread.
                let mut reader = handle.reader();
                for _ in 0..hits {
                    let length = black_box(&mut reader).get().map(|token| token.secret().len());
                    take(length.ok_or("nothing at hand"));
                }
            }),
            Contestant::new("entra_broker.authorization", move |hits| {
                ready(async {
                    for _ in 0..hits {
                        take(broker.get_token(black_box(request)).await.map(|token| token.authorization()));
                    }
                });
            }),
            Contestant::new("entra_broker.azure_core", move |hits| {
                over_and_over(hits, || black_box(dynamic).get_token(black_box(&[SCOPE]), None));
            }),
        ]
    }
}
