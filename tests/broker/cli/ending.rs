//! Programs that print garbage, too much or nothing, and those that do not end.

use std::process::Command;

use entra_broker::{AzureCli, CallOptions, Chain, ErrorKind, StaticToken};

use super::{Machine, TOKEN, is_dead};
use crate::{scratch::*, support::*};

#[tokio::test]
async fn garbage_is_told_and_not_shown() {
    let machine = Machine::new().await;
    for (body, why) in [
        ("echo hunter2", "not JSON"),
        ("true", "not JSON"),
        ("printf '\\377\\376hunter2'", "not JSON"),
        ("echo '[\"hunter2\"]'", "not JSON"),
        ("echo '{\"a\":\"hunter2\"}'", "no token"),
        ("echo '{\"accessToken\":\"hunter2\"}'", "unknown lifetime"),
        ("echo '{\"accessToken\":\"hunter2\",\"expires_on\":1500000000}'", "already expired"),
    ] {
        let error = machine.error(body).await;
        assert_eq!(error.kind(), ErrorKind::Protocol, "{body}");
        assert!(error.to_string().contains(why), "{body}: {error}");
    }
}

#[tokio::test]
async fn an_output_without_end_is_cut_off_and_the_program_killed() {
    let machine = Machine::new().await;
    let error = machine.error("echo $$ > \"$SEEN/pid\"; head -c 10000000 /dev/zero; sleep 1000").await;
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert_eq!(error.to_string(), "the Azure CLI printed more than 1 MiB, and was killed");
    let pid = machine.seen("pid").await;
    until(|| is_dead(&pid)).await;
    let error = machine.error("exec cat /dev/zero").await;
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
}

#[tokio::test]
async fn a_talkative_program_that_answers_in_the_end_is_listened_to() {
    let machine = Machine::new().await;
    machine.script("az", &format!("head -c 10000000 /dev/zero >&2; echo '{}'", machine.answer()));
    let broker = machine.broker(AzureCli::from_env(&machine.env()));
    assert_eq!(ask(&machine.world, &broker).await.unwrap().secret(), TOKEN);
}

/// Starts one more program, as `az` starts Python, and never ends.
const NEVER_ENDS: &str = "sleep 1000 & echo $! > \"$SEEN/grandchild\"\necho $$ > \"$SEEN/pid\"\nwait";

#[tokio::test]
async fn a_program_that_never_ends_is_killed_at_the_deadline_with_all_that_it_started() {
    let machine = Machine::new().await;
    machine.script("az", NEVER_ENDS);
    let broker = machine.broker(AzureCli::from_env(&machine.env()));
    let options = CallOptions::new().timeout(secs(100));
    let call = tokio::spawn({
        let broker = broker.clone();
        async move { broker.get_token_with(VAULT, &options).await }
    });
    let (pid, grandchild) = (machine.seen("pid").await, machine.seen("grandchild").await);
    machine.world.pass(secs(59)).await;
    assert!(!call.is_finished() && !is_dead(&pid) && !is_dead(&grandchild));
    machine.world.pass(secs(1)).await;
    until(|| call.is_finished()).await;
    let error = machine.world.see(call.await.unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(error.to_string(), "the Azure CLI did not end in time, and was killed");
    until(|| is_dead(&pid) && is_dead(&grandchild)).await;
}

#[tokio::test]
async fn a_fetch_that_is_dropped_leaves_nothing_running() {
    let machine = Machine::new().await;
    machine.script("az", NEVER_ENDS);
    let broker = machine.broker(AzureCli::from_env(&machine.env()));
    let call = tokio::spawn({
        let broker = broker.clone();
        async move { broker.get_token(VAULT).await }
    });
    let (pid, grandchild) = (machine.seen("pid").await, machine.seen("grandchild").await);
    assert!(!is_dead(&pid));
    broker.close().await;
    machine.world.see(call.await.unwrap()).unwrap_err();
    until(|| is_dead(&pid) && is_dead(&grandchild)).await;
}

#[tokio::test]
async fn one_that_it_left_behind_with_its_output_open_is_not_waited_for() {
    let machine = Machine::new().await;
    let body = format!("echo '{}'; sleep 1000 & echo $! > \"$SEEN/left\"", machine.answer());
    machine.script("az", &body);
    let broker = machine.broker(AzureCli::from_env(&machine.env()));
    let call = tokio::spawn(async move { broker.get_token(VAULT).await });
    let left = machine.seen("left").await;
    // It has ended, and what it printed has been read: now only the end of the output is missing.
    until(|| {
        if let Some(pause) = machine.world.time.next_timer().filter(|next| *next <= secs(1)) {
            machine.world.time.advance(pause);
        }
        call.is_finished()
    })
    .await;
    assert_eq!(machine.world.see(call.await.unwrap()).unwrap().secret(), TOKEN);
    assert!(!is_dead(&left), "it may do whatever it was left for");
    assert!(Command::new("kill").arg(&left).status().unwrap().success());
}

#[test]
fn a_runtime_without_io_is_told_so() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let machine = Machine::new().await;
        let error = machine.error("true").await;
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("a runtime that was built with I/O"), "{error}");
    });
}

#[tokio::test]
async fn a_program_that_cannot_be_started_at_the_moment_is_not_passed_over_in_a_chain() {
    let machine = Machine::new().await;
    let path = machine.script("az", "true");
    // As while it is replaced.
    let _open = std::fs::File::options().append(true).open(path).unwrap();
    let chain = Chain::new().then("az", Ok(AzureCli::from_env(&machine.env()))).unwrap();
    let broker = machine.broker(chain.then("static", StaticToken::new(TOKEN)).unwrap());
    let error = ask(&machine.world, &broker).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("at the moment") && !error.advice().is_empty(), "{error}");
}
