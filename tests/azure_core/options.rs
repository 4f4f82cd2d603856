//! What a caller of the SDK may say, asked of the credential itself.

use azure_core::{
    credentials::{AccessToken, TokenCredential, TokenRequestOptions},
    http::{ClientMethodOptions, Context},
    time::OffsetDateTime,
};
use entra_broker::{
    AzureOptions, BoxFuture, Broker, CallOptions, Claims, ErrorKind, FetchContext, Fetched, FnProvider,
    Provider, TokenRequest,
};

use crate::support::{VAULT, at_once, forced, ours, secs, tenant};

const GRAPH: &str = "https://graph.microsoft.com/User.Read https://graph.microsoft.com/Mail.Read";

/// Its tokens say what was asked for, and which fetch it was.
fn saying() -> impl Provider {
    let fetches = std::sync::atomic::AtomicUsize::new(0);
    FnProvider::new(move |cx: &FetchContext, request: &TokenRequest| -> BoxFuture<'_, _> {
        let number = fetches.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        let tenant = request.requested_tenant().map_or("home", |tenant| tenant.as_str());
        let claims = request.requested_claims().map_or(0, |claims| claims.as_str().len());
        let challenge = cx.challenge().map_or(0, |claims| claims.as_str().len());
        let scopes = request.scopes().iter().count();
        let text = format!("{number}:{tenant}:{scopes}:{claims}:{challenge}");
        let fetched = Fetched::new(text, cx.clock().now(), secs(3600));
        Box::pin(async { Ok(fetched) })
    })
}

fn broker() -> Broker {
    Broker::builder().allow_tenants([tenant("a.test"), tenant("b.test")]).build(saying()).unwrap()
}

fn with(options: AzureOptions) -> Option<TokenRequestOptions<'static>> {
    Some(with_context(Context::new().with_value(options)))
}

fn with_context(context: Context<'_>) -> TokenRequestOptions<'_> {
    TokenRequestOptions { method_options: ClientMethodOptions { context } }
}

fn text(token: azure_core::Result<AccessToken>) -> String {
    token.unwrap().token.secret().to_owned()
}

async fn get(
    credential: &dyn TokenCredential,
    options: Option<TokenRequestOptions<'_>>,
) -> azure_core::Result<AccessToken> {
    credential.get_token(&[VAULT], options).await
}

fn claims(name: &str) -> Claims {
    Claims::parse(&format!(r#"{{"access_token":{{"{name}":{{"essential":true}}}}}}"#)).unwrap()
}

#[tokio::test]
async fn a_token_is_the_brokers_with_its_end_and_a_hit_is_ready_at_once() {
    let broker = broker();
    let ours = broker.get_token(VAULT).await.unwrap();
    let theirs = at_once(get(&broker, None)).unwrap();
    assert_eq!(theirs.token.secret(), ours.secret());
    assert_eq!(theirs.expires_on, OffsetDateTime::from(ours.expires_on()));
    // What others put into a context is none of ours.
    let context = Context::new().with_value(7_u32);
    assert_eq!(at_once(get(&broker, Some(with_context(context)))).unwrap().token.secret(), ours.secret());
}

#[tokio::test]
async fn nothing_is_asked_for_before_the_first_poll() {
    let broker = broker();
    drop(get(&broker, None));
    drop(TokenCredential::get_token(&broker, &[VAULT], None));
    assert_eq!((broker.metrics().entries, broker.metrics().fetches), (0, 0));
}

#[tokio::test]
async fn several_scopes_are_one_request_in_whatever_order() {
    let broker = broker();
    let scopes: Vec<&str> = GRAPH.split(' ').collect();
    let token = text(TokenCredential::get_token(&broker, &scopes, None).await);
    assert_eq!(token, "1:home:2:0:0");
    let turned: Vec<&str> = scopes.into_iter().rev().collect();
    assert_eq!(text(TokenCredential::get_token(&broker, &turned, None).await), token);
    assert_eq!(broker.get_token(GRAPH).await.unwrap().secret(), token);
}

#[tokio::test]
async fn scopes_that_make_no_sense_are_errors_that_name_them() {
    let broker = broker();
    for scopes in [&[][..], &[""], &[VAULT, "https://storage.azure.com/.default"]] {
        let error = TokenCredential::get_token(&broker, scopes, None).await.unwrap_err();
        assert_eq!(*error.kind(), azure_core::error::ErrorKind::Credential);
        assert!(error.to_string().contains(scopes.first().copied().unwrap_or_default()), "{error}");
        assert_eq!(error.downcast_ref::<entra_broker::Error>().unwrap().kind(), ErrorKind::Config);
    }
}

#[tokio::test]
async fn tenant_and_claims_are_of_the_key_and_each_has_its_own_token() {
    let broker = broker();
    let options = AzureOptions::new();
    for (options, expected) in [
        (options.clone(), "1:home:1:0:0"),
        (options.clone().tenant(tenant("a.test")), "2:a.test:1:0:0"),
        (options.clone().tenant(tenant("b.test")), "3:b.test:1:0:0"),
        (options.clone().claims(claims("x")), "4:home:1:41:0"),
        (options.clone().tenant(tenant("a.test")).claims(claims("x")), "5:a.test:1:41:0"),
    ] {
        assert_eq!(text(get(&broker, with(options.clone())).await), expected);
        assert_eq!(text(at_once(get(&broker, with(options)))), expected);
    }
    let error = get(&broker, with(options.tenant(tenant("c.test")))).await.unwrap_err();
    assert_eq!(ours(&error).kind(), ErrorKind::Policy);
    assert_eq!(broker.metrics().fetches, 5);
}

#[tokio::test]
async fn options_that_are_used_with_other_scopes_ask_for_those() {
    let broker = broker();
    let options = AzureOptions::new().tenant(tenant("a.test"));
    let vault = text(get(&broker, with(options.clone())).await);
    let storage = ["https://storage.azure.com/.default"];
    let other = TokenCredential::get_token(&broker, &storage, with(options.clone())).await;
    assert_eq!((vault.as_str(), text(other).as_str()), ("1:a.test:1:0:0", "2:a.test:1:0:0"));
    // Changed after they were used: they ask for what they now say.
    assert_eq!(text(get(&broker, with(options.tenant(tenant("b.test")))).await), "3:b.test:1:0:0");
}

#[tokio::test]
async fn options_that_were_used_with_one_broker_work_with_another() {
    let (one, other) = (broker(), Broker::new(saying()).unwrap());
    let options = AzureOptions::new().tenant(tenant("a.test"));
    assert_eq!(text(get(&one, with(options.clone())).await), "1:a.test:1:0:0");
    assert_eq!(ours(&get(&other, with(options)).await.unwrap_err()).kind(), ErrorKind::Policy);
}

#[tokio::test]
async fn forced_and_challenged_calls_pass_the_cached_token_over_and_replace_it() {
    let broker = broker();
    assert_eq!(text(get(&broker, None).await), "1:home:1:0:0");
    assert_eq!(text(get(&broker, with(forced())).await), "2:home:1:0:0");
    assert_eq!(text(get(&broker, None).await), "2:home:1:0:0");
    let challenged = AzureOptions::new().call(CallOptions::new().challenge(claims("y")));
    assert_eq!(text(get(&broker, with(challenged)).await), "3:home:1:0:41");
    assert_eq!(text(get(&broker, None).await), "3:home:1:0:41");
    assert_eq!(broker.metrics().entries, 1);
}

#[tokio::test]
async fn what_is_bound_holds_for_all_calls_and_a_call_may_say_more() {
    let broker = broker();
    let bound = broker.azure_credential(AzureOptions::new().tenant(tenant("a.test")));
    assert_eq!(text(get(&*bound, None).await), "1:a.test:1:0:0");
    // To force a token does not lead out of the tenant.
    assert_eq!(text(get(&*bound, with(forced())).await), "2:a.test:1:0:0");
    assert_eq!(text(get(&*bound, None).await), "2:a.test:1:0:0");
    assert_eq!(text(get(&*bound, with(AzureOptions::new().claims(claims("x")))).await), "3:a.test:1:41:0");
    let elsewhere = AzureOptions::new().tenant(tenant("b.test"));
    assert_eq!(text(get(&*bound, with(elsewhere)).await), "4:b.test:1:0:0");
    assert_eq!(text(get(&broker, None).await), "5:home:1:0:0");
    assert!(!format!("{bound:?}").contains("1:a.test"), "no token is shown");
}

#[tokio::test]
async fn how_the_broker_is_called_stays_bound_where_a_call_says_nothing_of_it() {
    let broker = broker();
    let bound = broker.azure_credential(forced().tenant(tenant("a.test")));
    assert_eq!(text(get(&*bound, None).await), "1:a.test:1:0:0");
    assert_eq!(text(get(&*bound, with(AzureOptions::new())).await), "2:a.test:1:0:0");
    let demands = || with(AzureOptions::new().claims(claims("x")));
    assert_eq!(text(get(&*bound, demands()).await), "3:a.test:1:41:0");
    assert_eq!(text(get(&*bound, demands()).await), "4:a.test:1:41:0");
    let plain = with(AzureOptions::new().call(CallOptions::new()));
    assert_eq!(text(get(&*bound, plain).await), "2:a.test:1:0:0", "it says that the cached one will do");
}
