//! The audit trail: who asked for what, when, from where it was answered, with which outcome. Never the token.

use std::{
    io,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
};

use entra_broker::{
    Audit, AuditCalls, AuditEvent, AuditOutcome, AuditRecord, AuditSink, CallOptions, Env, ErrorKind,
    JsonLines, ManagedIdentity, ManagedIdentityId, StaticToken, Subject, TenantId, UserAssertion,
    emulator::{Endpoint, Fault, sample},
};
use serde_json::Value;

use crate::support::*;

/// Keeps what it is given.
#[derive(Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<Vec<AuditRecord>>>);

impl AuditSink for Kept {
    fn write(&mut self, record: &AuditRecord) -> io::Result<()> {
        self.0.lock().unwrap().push(record.clone());
        Ok(())
    }
}

impl Kept {
    pub(crate) async fn of(&self, audit: &Audit) -> Vec<AuditRecord> {
        audit.flush().await;
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

pub(crate) fn kept(calls: AuditCalls) -> (Kept, Audit) {
    let kept = Kept::default();
    (kept.clone(), Audit::builder(kept).calls(calls).build())
}

#[tokio::test]
async fn a_request_to_the_token_service_is_one_record_with_all_that_is_known() {
    let world = World::new().await;
    let (kept, audit) = kept(AuditCalls::None);
    let broker = world.builder().binding("billing-prod").audit(audit.clone()).build(world.client()).unwrap();
    let options = CallOptions::new().label("nightly sync");
    let token = world.get(broker.get_token_with(VAULT, &options)).await.unwrap();
    // Hits are not recorded unless asked for.
    world.at_once(broker.get_token(VAULT)).unwrap();

    let records = kept.of(&audit).await;
    let [record] = &records[..] else { panic!("{records:#?}") };
    assert_eq!((record.event, record.outcome), (AuditEvent::Request, AuditOutcome::Success));
    assert_eq!(record.time, world.clock.now().wall());
    assert_eq!(record.label.as_deref(), Some("nightly sync"));
    assert_eq!(record.binding.as_deref(), Some("billing-prod"));
    assert_eq!(record.provider, "client-secret");
    assert_eq!(record.identity.as_deref(), Some(sample::SECRET_APP));
    assert_eq!(record.tenant.as_deref(), Some(sample::TENANT));
    assert_eq!(&*record.resource, VAULT);
    assert_eq!((record.subject, record.reason, record.status), ("app", Some("miss"), Some(200)));
    assert_eq!(record.expires_on, Some(token.expires_on()));
    let host = world.emulator.authority().split("//").nth(1).unwrap();
    assert_eq!(record.answered_by.as_deref(), Some(host));
    let entry = &world.emulator.journal().entries()[0];
    assert_eq!(record.correlation_id.as_deref(), entry.header("client-request-id"));
    assert!(record.trace_id.is_some());
}

#[tokio::test]
async fn a_refusal_has_its_numbers_and_ids() {
    let world = World::new().await;
    let (kept, audit) = kept(AuditCalls::All);
    let broker = world.builder().audit(audit.clone()).build(world.client_with("wrong-secret")).unwrap();
    let error = world.get(broker.get_token(VAULT)).await.unwrap_err();
    world.get(broker.get_token(VAULT)).await.unwrap_err();
    let records = kept.of(&audit).await;
    let [request, first, second] = &records[..] else { panic!("{records:#?}") };
    assert_eq!((request.event, request.outcome), (AuditEvent::Request, AuditOutcome::Failure));
    assert_eq!((request.aadsts.as_slice(), request.status), (&[7_000_215][..], Some(401)));
    assert_eq!(request.error_kind, Some("credential"));
    assert_eq!(request.correlation_id.as_deref(), error.correlation_id());
    assert_eq!(request.trace_id.as_deref(), error.trace_id());
    assert_eq!((first.event, first.answered_by.as_deref()), (AuditEvent::Call, Some("fetch")));
    assert_eq!(second.answered_by.as_deref(), Some("remembered failure"));
    assert_eq!((second.outcome, second.aadsts.as_slice()), (AuditOutcome::Failure, &[7_000_215][..]));
    assert_eq!((first.reason, second.label.as_deref()), (None, None));
}

#[tokio::test]
async fn every_way_to_a_cached_token_is_recorded_where_all_calls_are() {
    let world = World::new().await;
    let (kept, audit) = kept(AuditCalls::All);
    let broker = world.builder().audit(audit.clone()).build(world.client()).unwrap();
    let prepared = request(VAULT);
    world.get(broker.get_token(&prepared)).await.unwrap();
    assert_eq!(kept.of(&audit).await.len(), 2, "the request and the call");

    let handle = broker.handle(&prepared).labelled("worker 3");
    let label = CallOptions::new().label("by hand");
    world.at_once(broker.get_token_with(&prepared, &label)).unwrap();
    world.at_once(broker.get_token(VAULT)).unwrap();
    broker.peek(&prepared).unwrap();
    ready(handle.get()).unwrap();
    handle.with(|_| ()).unwrap();
    handle.peek().unwrap();
    let mut reader = handle.reader();
    reader.get().unwrap();
    reader.get().unwrap();
    drop(reader);
    // One that is not hit but has to be looked for first: another spelling.
    world.at_once(broker.get_token(&format!("{VAULT} openid"))).unwrap();

    let records = kept.of(&audit).await;
    let labels: Vec<_> = records.iter().map(|record| record.label.as_deref()).collect();
    let worker = Some("worker 3");
    assert_eq!(labels, [Some("by hand"), None, None, worker, worker, worker, worker, worker, None]);
    for record in &records {
        assert_eq!((record.event, record.answered_by.as_deref()), (AuditEvent::Call, Some("cache")));
        assert_eq!((record.outcome, record.expires_on.is_some()), (AuditOutcome::Success, true));
        assert!(record.resource.starts_with(VAULT) && record.status.is_none());
    }
    assert_eq!(broker.metrics().hits, 9);
}

#[tokio::test]
async fn a_refresh_in_the_background_is_nobodys_call() {
    let world = World::new().await;
    let (kept, audit) = kept(AuditCalls::All);
    let broker = world.builder().audit(audit.clone()).build(world.client()).unwrap();
    let label = CallOptions::new().label("first");
    world.get(broker.get_token_with(VAULT, &label)).await.unwrap();
    world.pass(secs(3000)).await;
    let records = kept.of(&audit).await;
    let told: Vec<_> = records.iter().map(|r| (r.event, r.reason, r.label.as_deref())).collect();
    assert_eq!(
        told,
        [
            (AuditEvent::Request, Some("miss"), Some("first")),
            (AuditEvent::Call, None, Some("first")),
            (AuditEvent::Request, Some("due"), None),
        ]
    );
}

#[tokio::test]
async fn callers_who_share_a_fetch_are_recorded_each_and_the_request_once() {
    let world = World::new().await;
    let (kept, audit) = kept(AuditCalls::All);
    let broker = world.builder().audit(audit.clone()).build(world.client()).unwrap();
    let calls = (0..20).map(|_| broker.get_token(VAULT));
    for result in world.run(secs(60), futures_util::future::join_all(calls)).await {
        world.see(result).unwrap();
    }
    let records = kept.of(&audit).await;
    assert_eq!(records.iter().filter(|record| record.event == AuditEvent::Request).count(), 1);
    assert_eq!(records.iter().filter(|record| record.answered_by.as_deref() == Some("fetch")).count(), 20);
}

#[tokio::test]
async fn attempts_are_one_request_and_no_answer_is_said_so() {
    let world = World::new().await;
    let (kept, audit) = kept(AuditCalls::None);
    let broker = world.builder().audit(audit.clone()).build(world.client()).unwrap();
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).status(503).times(2));
    world.get(broker.get_token(VAULT)).await.unwrap();
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).refuse());
    world.get(broker.get_token(STORAGE)).await.unwrap_err();
    let records = kept.of(&audit).await;
    let told: Vec<_> = records.iter().map(|r| (r.outcome, r.attempts, r.status, r.error_kind)).collect();
    assert_eq!(
        told,
        [
            (AuditOutcome::Success, 3, Some(200), None),
            (AuditOutcome::Failure, 3, None, Some(ErrorKind::Unavailable.name())),
        ]
    );
    assert_eq!(records[1].answered_by, None);
    assert!(records[1].correlation_id.is_some(), "the service may have seen it all the same");
}

#[tokio::test]
async fn a_fetch_that_is_ended_leaves_its_request_as_abandoned() {
    let world = World::new().await;
    let (kept, audit) = kept(AuditCalls::None);
    let broker = world.builder().audit(audit.clone()).build(world.client()).unwrap();
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).hang());
    let call = tokio::spawn({
        let broker = broker.clone();
        async move { broker.get_token(VAULT).await }
    });
    settle().await;
    broker.close().await;
    let error = world.see(call.await.unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    settle().await;
    let records = kept.of(&audit).await;
    let [record] = &records[..] else { panic!("{records:#?}") };
    assert_eq!((record.outcome, record.status), (AuditOutcome::Abandoned, None));
}

#[tokio::test]
async fn users_are_named_and_assertions_are_not() {
    let world = World::new().await;
    let (kept, audit) = kept(AuditCalls::All);
    let broker = world.builder().audit(audit.clone()).build(world.client()).unwrap();
    let assertion = "eyJ.an-assertion-that-no-log-may-hold.sig";
    world.expect_unsaid(assertion);
    let subject = Subject::OnBehalfOf(UserAssertion::new(assertion).unwrap());
    world.get(broker.get_token(&request(VAULT).subject(subject))).await.unwrap_err();
    let records = kept.of(&audit).await;
    assert!(
        records.iter().all(|record| record.subject == "on_behalf_of" && record.user.is_none()),
        "{records:?}"
    );
    assert!(!format!("{records:?}").contains("an-assertion"));
}

#[tokio::test]
async fn the_checks_of_tenants_and_what_never_was_allowed_are_in_it() {
    let world = World::new().await;
    let (kept, audit) = kept(AuditCalls::All);
    let broker = world.builder().audit(audit.clone()).build(world.client()).unwrap();
    let customer = TenantId::parse(sample::CUSTOMER_WITHOUT_CONSENT).unwrap();
    world.run(secs(60), broker.check_tenant(&customer, "https://graph.microsoft.com")).await.unwrap();
    world.get(broker.get_token(&request(VAULT).tenant(customer.clone()))).await.unwrap_err();
    let records = kept.of(&audit).await;
    let [check, call] = &records[..] else { panic!("{records:#?}") };
    assert_eq!((check.event, check.aadsts.as_slice()), (AuditEvent::TenantCheck, &[7_000_229][..]));
    assert_eq!((call.answered_by.as_deref(), call.error_kind), (Some("broker"), Some("policy")));
    assert!(records.iter().all(|record| record.tenant.as_deref() == Some(customer.as_str())));
}

#[tokio::test]
async fn a_machines_identity_is_answered_by_its_endpoint() {
    let world = World::new().await;
    let (kept, audit) = kept(AuditCalls::None);
    let env = Env::empty().set("AZURE_POD_IDENTITY_AUTHORITY_HOST", world.emulator.identity_endpoint());
    let identity = ManagedIdentity::from_env(ManagedIdentityId::system(), &env).unwrap();
    let broker = world.builder().audit(audit.clone()).build(identity).unwrap();
    world.get(broker.get_token(VAULT)).await.unwrap();
    let records = kept.of(&audit).await;
    assert_eq!((records.len(), records[0].provider), (1, "managed-identity"));
    assert!(world.emulator.identity_endpoint().ends_with(records[0].answered_by.as_deref().unwrap()));
}

/// Waits for permission before each record.
struct Slow(Receiver<()>);

impl AuditSink for Slow {
    fn write(&mut self, _: &AuditRecord) -> io::Result<()> {
        self.0.recv().map_err(io::Error::other)
    }
}

fn slow() -> (Sender<()>, Slow) {
    let (permit, permits) = channel();
    (permit, Slow(permits))
}

#[tokio::test]
async fn a_full_sink_blocks_no_caller_and_counts_what_it_dropped() {
    let world = World::new().await;
    let (permit, sink) = slow();
    let audit = Audit::builder(sink).calls(AuditCalls::All).capacity(3).build();
    let provider = StaticToken::new("eyJ0eXAi").unwrap();
    let broker = world.builder().audit(audit.clone()).build(provider).unwrap();
    // The request, the call and 98 hits, of which the sink has written none.
    world.get(broker.get_token(VAULT)).await.unwrap();
    for _ in 0..98 {
        world.at_once(broker.get_token(VAULT)).unwrap();
    }
    assert_eq!((audit.written(), audit.dropped()), (0, 97));
    (0..3).for_each(|_| permit.send(()).unwrap());
    audit.flush().await;
    assert_eq!((audit.written(), audit.dropped()), (3, 97));
    // There is room again.
    permit.send(()).unwrap();
    world.at_once(broker.get_token(VAULT)).unwrap();
    audit.flush().await;
    assert_eq!((audit.written(), audit.dropped()), (4, 97));
    drop(permit);
}

#[tokio::test]
async fn a_sink_that_fails_or_panics_costs_records_and_nothing_else() {
    struct Bad(u32);
    impl AuditSink for Bad {
        fn write(&mut self, _: &AuditRecord) -> io::Result<()> {
            self.0 += 1;
            match self.0 {
                1 => Err(io::Error::other("disk full")),
                2 => Ok(()),
                _ => panic!("a sink that panics, as this test wants it"),
            }
        }
    }
    let world = World::new().await;
    let audit = Audit::builder(Bad(0)).calls(AuditCalls::All).build();
    let provider = StaticToken::new("eyJ0eXAi").unwrap();
    let broker = world.builder().audit(audit.clone()).build(provider).unwrap();
    world.get(broker.get_token(VAULT)).await.unwrap();
    audit.flush().await;
    assert_eq!((audit.written(), audit.dropped()), (1, 1));
    for lost in 2..5 {
        world.at_once(broker.get_token(VAULT)).unwrap();
        audit.flush().await;
        assert_eq!((audit.written(), audit.dropped()), (1, lost));
    }
}

#[tokio::test]
async fn of_hits_one_in_so_many_can_be_chosen() {
    let world = World::new().await;
    let (kept, audit) = kept(AuditCalls::Sampled(10));
    let provider = StaticToken::new("eyJ0eXAi").unwrap();
    let broker = world.builder().audit(audit.clone()).build(provider).unwrap();
    world.get(broker.get_token(VAULT)).await.unwrap();
    for _ in 0..10_000 {
        ready(broker.get_token(VAULT)).unwrap();
        if fastrand::u8(..) == 0 {
            audit.flush().await;
        }
    }
    let records = kept.of(&audit).await;
    let hits = records.iter().filter(|record| record.answered_by.as_deref() == Some("cache")).count();
    // Ten standard deviations to each side.
    assert!((700..1300).contains(&hits), "{hits}");
    assert_eq!(records.len() - hits, 2, "what was no hit is recorded always");
}

#[tokio::test]
async fn json_lines_are_whole_lines_of_json_without_a_token() {
    let world = World::new().await;
    let dir =
        std::env::temp_dir().join(format!("entra-broker-audit-{}-{}", std::process::id(), fastrand::u64(..)));
    std::fs::create_dir(&dir).unwrap();
    let path = dir.join("audit.jsonl");
    let audit = Audit::builder(JsonLines::append(&path).unwrap()).calls(AuditCalls::All).build();
    let broker = world.builder().binding("b").audit(audit).build(world.client()).unwrap();
    let label = CallOptions::new().label("a \"label\"\nwith odd \u{1}characters");
    let token = world.get(broker.get_token_with(VAULT, &label)).await.unwrap();
    world.at_once(broker.get_token(VAULT)).unwrap();
    world.get(broker.get_token("https://nothing.example.test/.default")).await.unwrap_err();
    broker.close().await;

    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains(token.secret()) && text.ends_with('\n'));
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 5);
    assert_eq!(lines[0]["event"], "request");
    assert_eq!(lines[0]["outcome"], "success");
    assert_eq!(lines[0]["label"], "a \"label\"\nwith odd \u{1}characters");
    assert_eq!(lines[0]["time"], "2027-01-15T08:00:00.000Z");
    assert!(lines[0]["expires_on"].as_str().unwrap().ends_with('Z'));
    assert_eq!(lines[2]["answered_by"], "cache");
    assert_eq!(lines[3]["aadsts"][0], 500_011);
    assert_eq!(lines[3].get("expires_on"), None, "what is not known is left out");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let error = JsonLines::append(&dir).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test]
async fn one_trail_serves_many_brokers_and_ends_with_the_last() {
    let world = World::new().await;
    let kept = Kept::default();
    let audit = Audit::builder(kept.clone()).calls(AuditCalls::All).build();
    for binding in ["first", "second"] {
        let broker = world.builder().binding(binding).audit(audit.clone()).build(world.client()).unwrap();
        world.get(broker.get_token(VAULT)).await.unwrap();
    }
    // The last clone writes what waits before it goes.
    drop(audit);
    let records = kept.0.lock().unwrap();
    let bindings: Vec<_> = records.iter().filter_map(|record| record.binding.as_deref()).collect();
    assert_eq!(bindings, ["first", "first", "second", "second"]);
}

#[tokio::test]
async fn a_token_that_is_due_is_served_from_the_cache_and_told_so() {
    let world = World::new().await;
    let (kept, audit) = kept(AuditCalls::All);
    let broker = world.builder().audit(audit.clone()).build(world.client()).unwrap();
    let handle = broker.handle(&request(VAULT));
    world.get(broker.get_token(VAULT)).await.unwrap();
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).status(503));
    // Due, and the refresh fails: whoever asks starts it or is served, and waits for nothing.
    world.pass(secs(2700)).await;
    kept.of(&audit).await;
    for _ in 0..20 {
        world.at_once(broker.get_token(VAULT)).unwrap();
        world.at_once(handle.get()).unwrap();
        world.pass(secs(7)).await;
    }
    let records = kept.of(&audit).await;
    let calls: Vec<_> = records.iter().filter(|record| record.event == AuditEvent::Call).collect();
    assert_eq!(calls.len(), 40);
    assert!(calls.iter().all(|call| call.answered_by.as_deref() == Some("cache")), "{calls:#?}");
}

#[tokio::test]
async fn a_resource_that_a_binding_is_not_good_for_is_denied_and_recorded() {
    let world = World::new().await;
    let (kept, audit) = kept(AuditCalls::All);
    let env = Env::empty().set("AZURE_POD_IDENTITY_AUTHORITY_HOST", world.emulator.identity_endpoint());
    let identity = ManagedIdentity::from_env(ManagedIdentityId::system(), &env).unwrap();
    let builder =
        world.builder().audit(audit.clone()).name("runner").allow_resources(["https://vault.azure.net"]);
    let broker = builder.build(identity).unwrap();
    world.get(broker.get_token(VAULT)).await.unwrap();
    let label = CallOptions::new().label("publish report");
    for _ in 0..2 {
        let error = world.at_once(broker.get_token_with(STORAGE, &label)).unwrap_err();
        assert_eq!((error.kind(), error.held_for()), (ErrorKind::Policy, None));
        assert!(error.to_string().contains("https://storage.azure.com"), "{error}");
    }
    let denied = broker.handle(&request(STORAGE));
    assert!(denied.peek().is_none() && broker.peek(STORAGE).is_none());
    assert_eq!(world.get(denied.get()).await.unwrap_err().kind(), ErrorKind::Policy);
    assert_eq!(world.requests(), 1);
    let records = kept.of(&audit).await;
    assert!(records.iter().all(|record| record.binding.as_deref() == Some("runner")));
    let told: Vec<_> = records.iter().map(|r| (r.answered_by.as_deref(), r.error_kind)).collect();
    let denied = (Some("broker"), Some("policy"));
    assert_eq!(told[1..], [(Some("fetch"), None), denied, denied, denied]);
    assert_eq!(records[2].label.as_deref(), Some("publish report"));
    let error = world.builder().allow_resources(["a b"]).build(world.client()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[tokio::test]
async fn a_sink_that_hangs_does_not_keep_a_broker_from_closing() {
    let world = World::new().await;
    let (permit, sink) = slow();
    let audit = Audit::builder(sink).calls(AuditCalls::All).build();
    let broker = world.builder().audit(audit.clone()).build(StaticToken::new("eyJ0eXAi").unwrap()).unwrap();
    world.get(broker.get_token(VAULT)).await.unwrap();
    let before = world.clock.now();
    world.run(secs(60), broker.close()).await;
    assert_eq!(before.until(world.clock.now()), secs(2));
    drop(permit);
    drop(audit);
}
