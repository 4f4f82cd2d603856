//! Tenants that come and go while a broker runs.

use entra_broker::{Broker, ErrorKind, Fetched, FnProvider, TenantId, emulator::sample};

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
    for _ in 0..20_000 {
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
