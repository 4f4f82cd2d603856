//! The audit trail where something is odd: what is told of it is still true.

use std::{
    io::{self, Write},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use entra_broker::{
    Audit, AuditCalls, AuditEvent, AuditOutcome, AuditRecord, AuditSink, CallOptions, Chain, Env, FnProvider,
    JsonLines, ManagedIdentity, ManagedIdentityId, StaticToken, TenantId,
    emulator::{Endpoint, Fault},
};
use serde_json::Value;

use crate::{audit::kept, support::*};

#[tokio::test]
async fn a_link_that_was_asked_in_vain_is_not_told_to_have_given_the_token() {
    let world = World::new().await;
    let (kept, audit) = kept(AuditCalls::None);
    let env = Env::empty().set("AZURE_POD_IDENTITY_AUTHORITY_HOST", world.emulator.identity_endpoint());
    // The machine has no identity, and the next link needs no request.
    world.emulator.faults().add(
        Fault::on(Endpoint::Identity).status(400).body(
            "application/json",
            r#"{"error":"invalid_request","error_description":"Identity not found"}"#,
        ),
    );
    let chain = Chain::new()
        .then("machine", ManagedIdentity::from_env(ManagedIdentityId::system(), &env))
        .unwrap()
        .then("fixed", StaticToken::new("tok-fixed-x9"))
        .unwrap();
    let broker = world.builder().audit(audit.clone()).build(chain).unwrap();
    world.get(broker.get_token(VAULT)).await.unwrap();
    let records = kept.of(&audit).await;
    let (last, before) = records.split_last().unwrap();
    assert_eq!((last.provider, last.outcome, last.status), ("fixed", AuditOutcome::Success, None));
    assert_eq!((last.answered_by.as_deref(), last.attempts), (Some("fixed"), 0));
    let host = world.emulator.identity_endpoint().split("//").nth(1).unwrap();
    assert!(!before.is_empty());
    for record in before {
        assert_eq!((record.outcome, record.status), (AuditOutcome::Failure, Some(400)));
        assert_eq!((record.answered_by.as_deref(), record.expires_on), (Some(host), None));
    }
}

#[tokio::test]
async fn a_handles_label_stands_with_a_token_that_is_due_and_with_the_refresh_that_it_starts() {
    let world = World::new().await;
    let (kept, audit) = kept(AuditCalls::All);
    let broker = world.builder().background_fetches(1).audit(audit.clone()).build(world.client()).unwrap();
    let handle = broker.handle(&request(VAULT)).labelled("worker 3");
    world.get(handle.get()).await.unwrap();
    let mut reader = handle.reader();
    // It is due, and nobody has looked at it yet.
    world.time.advance(secs(3_000));
    handle.peek().unwrap();
    world.pass(secs(1)).await;
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).status(503));
    world.time.advance(secs(3_000));
    reader.get().unwrap();
    handle.with(|_| ()).unwrap();
    world.pass(secs(1)).await;
    let records = kept.of(&audit).await;
    assert!(records.len() >= 6, "{records:#?}");
    for record in &records {
        assert_eq!(record.label.as_deref(), Some("worker 3"), "{record:#?}");
    }
}

#[tokio::test]
async fn calls_that_warm_are_recorded_whatever_comes_of_them() {
    let world = World::new().await;
    let (kept, audit) = kept(AuditCalls::All);
    let broker = world.builder().audit(audit.clone()).build(world.client()).unwrap();
    let denied = TenantId::parse("fabrikam.test").unwrap();
    let requests =
        [request(VAULT), request(VAULT).tenant(denied), request("https://nothing.example.test/.default")];
    let label = CallOptions::new().label("start");
    let warmed = world.run(secs(60), broker.warm_with(&requests, &label)).await;
    assert_eq!(warmed.ready(), 1);
    let warmed = world.run(secs(60), broker.warm_with(&requests, &label)).await;
    assert_eq!(warmed.ready(), 1);
    let records = kept.of(&audit).await;
    let mut calls: Vec<_> = records
        .iter()
        .filter(|record| record.event == AuditEvent::Call)
        .map(|r| (r.answered_by.as_deref().unwrap(), r.error_kind.unwrap_or("none")))
        .collect();
    calls.sort_unstable();
    assert_eq!(
        calls,
        [
            ("broker", "policy"),
            ("broker", "policy"),
            ("cache", "none"),
            ("fetch", "none"),
            ("fetch", "resource"),
            ("remembered failure", "resource"),
        ]
    );
    assert!(records.iter().all(|record| record.label.as_deref() == Some("start")));
}

#[tokio::test]
async fn a_fetch_that_sent_nothing_and_was_given_up_is_in_the_trail() {
    let world = World::new().await;
    let (kept, audit) = kept(AuditCalls::None);
    let provider = FnProvider::new(|_, _| Box::pin(std::future::pending()));
    let broker = world.builder().audit(audit.clone()).build(provider).unwrap();
    world.get(broker.get_token(VAULT)).await.unwrap_err();
    world.pass(secs(60)).await;
    let provider = FnProvider::new(|_, _| Box::pin(async { panic!("as this test wants it") }));
    let broker = world.builder().audit(audit.clone()).build(provider).unwrap();
    world.get(broker.get_token(VAULT)).await.unwrap_err();
    let records = kept.of(&audit).await;
    assert_eq!(records.len(), 2, "{records:#?}");
    for record in &records {
        assert_eq!((record.event, record.outcome), (AuditEvent::Request, AuditOutcome::Abandoned));
        assert_eq!((record.attempts, record.answered_by.as_deref()), (0, None));
    }
}

/// Takes half of what it is given, once, and fails then.
#[derive(Clone, Default)]
struct Torn(Arc<Mutex<(Vec<u8>, u32)>>);

impl Write for Torn {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (written, calls) = &mut *self.0.lock().unwrap();
        *calls += 1;
        match *calls {
            1 => {
                written.extend_from_slice(&bytes[..bytes.len() / 2]);
                Ok(bytes.len() / 2)
            }
            2 => Err(io::Error::other("no space left")),
            _ => {
                written.extend_from_slice(bytes);
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_line_that_was_written_by_half_spoils_no_other() {
    for label in ["short", &"long ".repeat(4_000)] {
        let world = World::new().await;
        let torn = Torn::default();
        let audit = Audit::builder(JsonLines::to(torn.clone())).calls(AuditCalls::All).build();
        let broker =
            world.builder().audit(audit.clone()).build(StaticToken::new("tok-fixed-x9").unwrap()).unwrap();
        let options = CallOptions::new().label(label.to_owned());
        world.get(broker.get_token_with(VAULT, &options)).await.unwrap();
        audit.flush().await;
        for _ in 0..3 {
            world.at_once(broker.get_token(VAULT)).unwrap();
        }
        audit.flush().await;
        let text = String::from_utf8(torn.0.lock().unwrap().0.clone()).unwrap();
        let whole = text.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count() as u64;
        assert_eq!(whole, audit.written(), "{} dropped", audit.dropped());
    }
}

#[tokio::test]
async fn a_sink_that_has_the_last_clone_of_its_trail_does_not_wait_for_itself() {
    struct Holds(Receiver<Audit>, Sender<()>);
    impl AuditSink for Holds {
        fn write(&mut self, _: &AuditRecord) -> io::Result<()> {
            drop(self.0.recv());
            self.1.send(()).map_err(io::Error::other)
        }
    }
    let world = World::new().await;
    let ((give, given), (tell, told)) = (channel(), channel());
    let audit = Audit::new(Holds(given, tell));
    let provider = StaticToken::new("tok-fixed-x9").unwrap();
    let broker = world.builder().audit(audit.clone()).build(provider).unwrap();
    world.get(broker.get_token(VAULT)).await.unwrap();
    drop(broker);
    settle().await;
    give.send(audit).unwrap();
    // Others wait two seconds for what is still to be written.
    told.recv_timeout(Duration::from_millis(1_500)).expect("its thread waits for its own end");
    assert!(told.recv().is_err(), "and the thread ends");
}

#[tokio::test]
async fn of_what_is_no_scope_at_all_a_record_holds_no_more_than_the_error_shows() {
    let world = World::new().await;
    let (kept, audit) = kept(AuditCalls::All);
    let broker = world.builder().audit(audit.clone()).build(world.client()).unwrap();
    for wrong in ["x".repeat(1_000_000), format!("{VAULT} {}\\", "y".repeat(8_000)), "z\"".to_owned()] {
        world.at_once(broker.get_token(&wrong)).unwrap_err();
        let records = kept.of(&audit).await;
        assert_eq!((records.len(), records[0].error_kind), (1, Some("config")));
        assert!(records[0].resource.len() < 120, "{} bytes", records[0].resource.len());
        assert!(records[0].resource.starts_with('"'));
    }
}

#[tokio::test]
async fn what_a_sink_does_when_it_goes_is_waited_for_too() {
    struct Footer(Arc<Mutex<bool>>);
    impl AuditSink for Footer {
        fn write(&mut self, _: &AuditRecord) -> io::Result<()> {
            Ok(())
        }
    }
    impl Drop for Footer {
        fn drop(&mut self) {
            // Long enough to be overtaken by who does not wait, and well within the two seconds that are waited for.
            let (_nobody, never) = channel::<()>();
            never.recv_timeout(Duration::from_millis(100)).unwrap_err();
            *self.0.lock().unwrap() = true;
        }
    }
    let world = World::new().await;
    let written = Arc::new(Mutex::new(false));
    let audit = Audit::new(Footer(Arc::clone(&written)));
    let provider = StaticToken::new("tok-fixed-x9").unwrap();
    let broker = world.builder().audit(audit.clone()).build(provider).unwrap();
    world.get(broker.get_token(VAULT)).await.unwrap();
    drop(broker);
    settle().await;
    drop(audit);
    assert!(*written.lock().unwrap());
}
