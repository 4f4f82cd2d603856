//! Tenants that come and go while a broker runs.

use entra_broker::{
    Broker, CallOptions, ErrorKind, Fetched, FnProvider, TenantId,
    emulator::{Endpoint, Fault, sample},
};

use crate::support::*;

fn other() -> TenantId {
    TenantId::parse(sample::OTHER_TENANT).unwrap()
}

#[tokio::test]
async fn a_handle_that_was_made_before_its_tenant_was_allowed_works_from_then_on() {
    let world = World::new().await;
    let broker = world.broker();
    let handle = broker.handle(&request(VAULT).tenant(other()));
    let mut reader = handle.reader();
    for _ in 0..2 {
        assert_eq!(world.get(handle.get()).await.unwrap_err().kind(), ErrorKind::Policy);
        assert!(handle.peek().is_none() && handle.with(|_| ()).is_none() && reader.get().is_none());
        broker.allow_tenant(&other());
        let token = world.get(handle.get()).await.unwrap();
        assert!(handle.peek().unwrap().is_same(&token) && reader.get().unwrap().is_same(&token));
        assert!(handle.with(|_| ()).is_some());
        broker.deny_tenant(&other());
    }
}

#[test]
fn a_tenant_that_is_denied_while_it_is_asked_for_stays_denied() {
    let tenant = other();
    let token = FnProvider::new(|cx, _| {
        let sent = cx.clock().now();
        Box::pin(async move { Ok(Fetched::new("tok-x9", sent, secs(3_600))) })
    });
    let broker = Broker::new(token).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    for _ in 0..5_000 {
        broker.allow_tenant(&tenant);
        let prepared = request(VAULT).tenant(tenant.clone());
        std::thread::scope(|scope| {
            scope.spawn(|| broker.deny_tenant(&tenant));
            let _begun = runtime.block_on(broker.get_token(&prepared));
        });
        let error = runtime.block_on(broker.get_token(&prepared)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Policy);
    }
}

#[tokio::test]
async fn who_waits_for_a_tenant_that_is_denied_meanwhile_does_not_ask_there_again() {
    let world = World::new().await;
    let broker = world.builder().allow_all_tenants().build(world.client()).unwrap();
    let asked = request(VAULT).tenant(other());
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).delay(secs(3)));
    let call = |options: CallOptions| {
        let (broker, asked) = (broker.clone(), asked.clone());
        tokio::spawn(async move { broker.get_token_with(&asked, &options).await })
    };
    let first = call(CallOptions::new());
    settle().await;
    // It waits for the first to be over, and begins one of its own then.
    let forced = call(CallOptions::new().force_refresh());
    settle().await;
    assert_eq!(broker.deny_tenant(&other()), 1);
    world.pass(secs(20)).await;
    world.see(first.await.unwrap()).unwrap();
    let error = world.see(forced.await.unwrap()).unwrap_err();
    assert_eq!((error.kind(), world.requests()), (ErrorKind::Policy, 1), "{error}");
    // And nothing of that is in the way once it may be asked again.
    broker.allow_tenant(&other());
    world.get(broker.get_token(&asked)).await.unwrap();
}
