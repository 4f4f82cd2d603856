//! Tenants that come and go while a broker runs.

use entra_broker::{Broker, ErrorKind, Fetched, FnProvider, TenantId, emulator::sample};

use crate::support::*;

fn other() -> TenantId {
    TenantId::parse(sample::OTHER_TENANT).unwrap()
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
