//! Runtimes that are gone, parked or without a timer while keys are to be read.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use entra_broker::{Clock, ErrorKind};
use serde_json::json;
use tokio::runtime::{Builder, Runtime};

use super::forge::*;
use crate::support::*;

fn by(kid: &str) -> String {
    sign_with(header(kid), but(json!({ "exp": NOW + 40 * 86_400 })).to_string(), rs256(rsa()))
}

fn runtime() -> Runtime {
    Builder::new_current_thread().build().unwrap()
}

#[test]
fn a_runtime_that_is_shutting_down_takes_no_reading_and_blocks_nobody() {
    let (clock, _time) = Clock::manual(start());
    let (_, validator) = ours(&clock);
    let (done, ended) = mpsc::channel();
    let token = Arc::new(by("rsa"));
    std::thread::spawn({
        let (validator, token) = (validator.clone(), Arc::clone(&token));
        move || {
            let gone = runtime();
            let handle = gone.handle().clone();
            drop(gone);
            // Whatever is spawned here is dropped at once.
            let _here = handle.enter();
            done.send(ready(validator.validate(&token)).unwrap_err()).unwrap();
        }
    });
    let error = ended.recv_timeout(Duration::from_secs(20)).expect("it waits for itself");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    runtime().block_on(validator.validate(&token)).unwrap();
}

#[test]
fn a_reading_on_a_runtime_that_nobody_runs_any_more_holds_nobody_up_for_long() {
    let (clock, time) = Clock::manual(start());
    let (published, validator) = ours(&clock);
    let (parked, other) = (runtime(), runtime());
    let (old, new) = (by("rsa"), Arc::new(by("new")));
    parked.block_on(validator.validate(&old)).unwrap();
    time.advance(secs(86_400));
    // The keys are read anew behind the caller's back, on a runtime that then stands still.
    parked.block_on(validator.validate(&old)).unwrap();
    published.publish(&[rsa_jwk(rsa(), "rsa"), rsa_jwk(rsa(), "new")]);
    assert_eq!(published.asked(), 1);
    time.advance(secs(60));
    let call = other.spawn({
        let new = Arc::clone(&new);
        async move { validator.validate(&new).await }
    });
    other.block_on(settle());
    assert!(call.is_finished(), "it waits for the runtime that stands still");
    other.block_on(call).unwrap().unwrap();
    assert_eq!(published.asked(), 1);
    // What wakes there finds its place taken.
    parked.block_on(settle());
    assert_eq!(published.asked(), 0);
}

#[test]
fn a_runtime_without_a_timer_is_an_error_and_no_panic() {
    let (_, validator) = ours(&Clock::system());
    let error = runtime().block_on(validator.validate(&by("rsa"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
}
