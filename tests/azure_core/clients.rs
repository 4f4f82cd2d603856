//! A Key Vault client of the SDK over a broker.

use std::sync::Arc;

use azure_core::http::StatusCode;
use entra_broker::{
    AzureOptions, Broker, CallOptions, Claims, ErrorKind, StaticToken,
    emulator::{Resource, sample},
};

use crate::support::{Azure, VAULT, forced, ours, read, read_with, secs, tenant};

#[tokio::test]
async fn a_client_reads_secrets_with_tokens_that_the_vault_believes() {
    let azure = Azure::with_tokens_of(secs(3600)).await;
    let broker = azure.broker();
    let client = azure.vault.client(Arc::new(broker.clone())).unwrap();
    for _ in 0..3 {
        assert_eq!(read(&client).await.unwrap(), "door-value");
    }
    let another = azure.vault.client(Arc::new(broker)).unwrap();
    assert_eq!(read(&another).await.unwrap(), "door-value");
    let visits = azure.vault.visits();
    assert!(visits.iter().all(|visit| visit.refused.is_none() && visit.token["tid"] == sample::TENANT));
    assert_eq!((visits.len(), azure.token_requests()), (4, 1));
}

#[tokio::test]
async fn the_vault_looks_at_signature_and_end_so_being_let_in_means_something() {
    let azure = Azure::with_tokens_of(secs(3600)).await;
    let good = azure.broker().get_token(VAULT).await.unwrap().secret().to_owned();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let forged = format!("{signed}.{}", signature.chars().rev().collect::<String>());
    let sent = async |text: &str| {
        let broker = Broker::new(StaticToken::new(text).unwrap()).unwrap();
        let result = read(&azure.vault.client(Arc::new(broker)).unwrap()).await;
        let refused: Vec<_> = azure.vault.visits().into_iter().map(|visit| visit.refused).collect();
        (result.is_ok(), refused)
    };
    assert_eq!(sent(&good).await, (true, vec![None]));
    assert_eq!(sent(&forged).await, (false, vec![Some("signature")]));
    assert_eq!(sent("eyJ0eXAi").await, (false, vec![Some("no JWT")]));
    // Nobody told this broker when the token ends, but the vault knows.
    azure.time.advance(secs(3600));
    assert_eq!(sent(&good).await, (false, vec![Some("expired")]));
}

#[tokio::test]
async fn a_token_that_was_refreshed_between_two_calls_is_the_one_that_is_sent() {
    let azure = Azure::with_tokens_of(secs(120)).await;
    let broker = azure.broker();
    let client = azure.vault.client(Arc::new(broker.clone())).unwrap();
    read(&client).await.unwrap();
    let first = azure.visit();
    // Due, and not yet in its last call: served once more, and refreshed meanwhile.
    azure.time.advance(secs(90));
    read(&client).await.unwrap();
    assert_eq!(azure.visit().token, first.token);
    while broker.metrics().in_flight > 0 {
        tokio::task::yield_now().await;
    }
    read(&client).await.unwrap();
    let second = azure.visit();
    assert_eq!(second.token["exp"].as_u64().unwrap(), first.token["exp"].as_u64().unwrap() + 90);
    assert_eq!(azure.token_requests(), 2);
    // Long after its end nobody is sent there with it.
    azure.time.advance(secs(200));
    read(&client).await.unwrap();
    assert!(azure.visit().token["exp"].as_u64() > second.token["exp"].as_u64());
}

#[tokio::test]
async fn a_vault_that_wants_another_audience_than_it_asks_for_refuses_and_the_client_says_so() {
    let azure = Azure::with_tokens_of(secs(3600)).await;
    // The client checks that the challenge fits the vault's name.
    azure.vault.desk.rules().asks_for = sample::STORAGE;
    let client = azure.vault.client(Arc::new(azure.broker())).unwrap();
    let error = read(&client).await.unwrap_err();
    assert!(format!("{error:?}").contains("doesn't match the requested domain"), "{error:?}");
    assert_eq!((azure.token_requests(), azure.vault.visits().len()), (0, 0));

    // One that fits, and is not what the vault accepts.
    azure.emulator.directory().add_resource(Resource::new("https://azure.net"));
    azure.vault.desk.rules().asks_for = "https://azure.net";
    let client = azure.vault.client(Arc::new(azure.broker())).unwrap();
    let error = read(&client).await.unwrap_err();
    assert_eq!(error.http_status(), Some(StatusCode::Unauthorized));
    let refused: Vec<_> = azure.vault.visits().into_iter().map(|visit| visit.refused).collect();
    assert_eq!(refused, [Some("audience")]);
}

#[tokio::test]
async fn each_tenant_has_a_client_of_its_own_over_one_broker() {
    let azure = Azure::with_tokens_of(secs(3600)).await;
    let customer = tenant(sample::OTHER_TENANT);
    let provider = azure.provider_with(sample::SECRET);
    let broker = azure.builder().allow_tenants([customer.clone()]).build(provider).unwrap();
    let home = azure.vault.client(Arc::new(broker.clone())).unwrap();
    let theirs = azure.vault.client(broker.azure_credential(AzureOptions::new().tenant(customer))).unwrap();
    for (client, tenant) in
        [(&home, sample::TENANT), (&theirs, sample::OTHER_TENANT), (&home, sample::TENANT)]
    {
        read(client).await.unwrap();
        assert_eq!(azure.visit().token["tid"], tenant);
    }
    assert_eq!(azure.token_requests(), 2);
}

#[tokio::test]
async fn a_tenant_in_the_context_has_to_be_allowed() {
    let azure = Azure::with_tokens_of(secs(240)).await;
    let customer = tenant(sample::OTHER_TENANT);
    let provider = azure.provider_with(sample::SECRET);
    let broker = azure.builder().allow_tenants([customer.clone()]).build(provider).unwrap();
    let client = azure.vault.client(Arc::new(broker)).unwrap();
    read_with(&client, AzureOptions::new().tenant(customer)).await.unwrap();
    assert_eq!(azure.visit().token["tid"], sample::OTHER_TENANT);
    let stranger = AzureOptions::new().tenant(tenant(sample::CUSTOMER_WITHOUT_CONSENT));
    let error = read_with(&client, stranger.clone()).await;
    // The client still has a token that lives, and would rather send that than give an error.
    assert_eq!(error.unwrap(), "door-value");
    assert_eq!(azure.visit().token["tid"], sample::OTHER_TENANT);
    let client = azure.vault.client(Arc::new(azure.broker())).unwrap();
    let error = ours(&read_with(&client, stranger).await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Policy);
    assert_eq!((azure.token_requests(), azure.vault.visits().len()), (1, 0));
}

#[tokio::test]
async fn after_a_401_a_forced_call_brings_a_token_that_counts() {
    let azure = Azure::with_tokens_of(secs(3600)).await;
    let client = azure.vault.client(Arc::new(azure.broker())).unwrap();
    read(&client).await.unwrap();
    azure.visit();
    azure.vault.revoke();
    azure.time.advance(secs(2));
    let error = read(&client).await.unwrap_err();
    assert_eq!(error.http_status(), Some(StatusCode::Unauthorized));
    assert!(azure.vault.visits().iter().all(|visit| visit.refused == Some("revoked")));
    assert_eq!(azure.token_requests(), 1);
    assert_eq!(read_with(&client, forced()).await.unwrap(), "door-value");
    // And the client goes on with it.
    read(&client).await.unwrap();
    assert!(azure.vault.visits().iter().rev().take(2).all(|visit| visit.refused.is_none()));
    assert_eq!(azure.token_requests(), 2);
}

#[tokio::test]
async fn claims_that_a_resource_demands_reach_the_provider_through_the_context() {
    let azure = Azure::with_tokens_of(secs(240)).await;
    let client = azure.vault.client(Arc::new(azure.broker())).unwrap();
    read(&client).await.unwrap();
    let text = r#"{"access_token":{"acrs":{"essential":true,"value":"c1"}}}"#;
    let challenge = CallOptions::new().challenge(Claims::parse(text).unwrap());
    azure.time.advance(secs(1));
    read_with(&client, AzureOptions::new().call(challenge)).await.unwrap();
    read(&client).await.unwrap();
    assert_eq!(*azure.challenges.lock().unwrap(), [None, Some(text.to_owned())]);
    assert_eq!(azure.token_requests(), 2);
}

#[tokio::test]
async fn what_went_wrong_is_found_below_the_sdks_error_and_was_tried_once() {
    let azure = Azure::with_tokens_of(secs(3600)).await;
    let broker = azure.builder().build(azure.provider_with("wrong-secret")).unwrap();
    let client = azure.vault.client(Arc::new(broker)).unwrap();
    let error = read(&client).await.unwrap_err();
    assert_eq!(*error.kind(), azure_core::error::ErrorKind::Credential);
    let below = ours(&error);
    assert_eq!((below.kind(), below.aadsts()), (ErrorKind::Credential, &[7_000_215][..]));
    assert_eq!((azure.token_requests(), azure.vault.visits().len()), (1, 0));
    assert!(ours(&read(&client).await.unwrap_err()).held_for().is_some());
    assert_eq!(azure.token_requests(), 1);
}
