//! The attempts of an exchange, with a double of the transport and a clock that is moved.

use std::{collections::VecDeque, sync::Mutex};

use super::*;

/// What the double does with one attempt.
enum Step {
    Status(u16, &'static [(&'static str, &'static str)]),
    Fail(TransportErrorKind),
    Hang,
}
use Step::{Fail, Hang, Status};

/// Answers by a script, and notes what was asked.
#[derive(Default)]
struct Double {
    script: Mutex<VecDeque<Step>>,
    requests: Mutex<Vec<http::Request<Bytes>>>,
}

impl Double {
    fn new(script: impl IntoIterator<Item = Step>) -> Self {
        Self { script: Mutex::new(script.into_iter().collect()), requests: Mutex::default() }
    }

    fn attempts(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

impl fmt::Debug for Double {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Double")
    }
}

impl Transport for Double {
    fn send<'a>(
        &'a self,
        _: Pool,
        request: http::Request<Bytes>,
        _: usize,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, TransportError>> {
        self.requests.lock().unwrap().push(request);
        let step = self.script.lock().unwrap().pop_front().expect("an attempt too many");
        Box::pin(async move {
            match step {
                Status(status, headers) => {
                    let mut response = http::Response::builder().status(status);
                    for (name, value) in headers {
                        response = response.header(*name, *value);
                    }
                    Ok(response.body(Bytes::from_static(b"body")).unwrap())
                }
                Fail(kind) => Err(TransportError::new(kind, "scripted")),
                Hang => std::future::pending().await,
            }
        })
    }
}

const URI: &str = "https://login.microsoftonline.com/tenant/token";

/// Runs an exchange to its end, moving time to the next timer whenever nothing else happens. Gives its result and how
/// long it took.
fn finish(control: &ManualClock, exchange: &Exchange<'_>) -> (Result<Answer, Error>, Duration) {
    let begun = exchange.clock.now();
    let mut run = Box::pin(exchange.run(Pool::TokenService, post(URI)));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    loop {
        if let std::task::Poll::Ready(result) = run.as_mut().poll(&mut cx) {
            return (result, begun.until(exchange.clock.now()));
        }
        control.advance(control.next_timer().expect("it waits for nothing"));
    }
}

fn run(double: &Double, policy: &RetryPolicy, budget: u64) -> (Result<Answer, Error>, Duration) {
    let (clock, control) = clock();
    let deadline = clock.now().after(Duration::from_secs(budget));
    finish(&control, &exchange(double, &clock, policy, deadline))
}

const fn seconds(seconds: f64) -> Duration {
    Duration::from_millis((seconds * 1000.0) as u64)
}

#[test]
fn a_passing_failure_is_tried_again_and_sent_is_of_the_attempt_that_was_answered() {
    let double = Double::new([Status(503, &[]), Fail(TransportErrorKind::Connect), Status(200, &[])]);
    let (clock, control) = clock();
    let begun = clock.now();
    let policy = RetryPolicy::token_service();
    let (answer, took) =
        finish(&control, &exchange(&double, &clock, &policy, begun.after(Duration::from_secs(60))));
    let answer = answer.unwrap();
    assert_eq!(answer.response.status(), 200);
    assert_eq!(took, seconds(1.5));
    assert_eq!(begun.until(answer.sent), took);
}

#[test]
fn the_last_answer_is_given_though_it_is_a_failure() {
    let double = Double::new([Status(500, &[]), Status(500, &[]), Status(503, &[])]);
    let (answer, _) = run(&double, &RetryPolicy::token_service(), 60);
    assert_eq!(answer.unwrap().response.status(), 503);
}

#[test]
fn what_another_attempt_would_not_change_is_given_at_once() {
    for status in [200, 302, 400, 401, 404] {
        let double = Double::new([Status(status, &[])]);
        let (answer, took) = run(&double, &RetryPolicy::token_service(), 60);
        assert_eq!(answer.unwrap().response.status(), status);
        assert_eq!(took, Duration::ZERO);
    }
}

#[test]
fn time_outs_are_counted_and_told() {
    let double = Double::new([Hang, Hang, Hang]);
    let (error, took) = run(&double, &RetryPolicy::token_service(), 60);
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(error.to_string(), "no answer from login.microsoftonline.com within 10 s, 3 attempts");
    assert_eq!(took, seconds(31.5));
}

#[test]
fn an_attempt_ends_with_the_budget() {
    let double = Double::new([Hang, Hang]);
    let (error, took) = run(&double, &RetryPolicy::token_service(), 14);
    assert_eq!(
        error.unwrap_err().to_string(),
        "no answer from login.microsoftonline.com within 3.5 s, 2 attempts"
    );
    assert_eq!(took, seconds(14.0));
}

#[test]
fn without_a_budget_nothing_is_sent() {
    let double = Double::default();
    let (error, _) = run(&double, &RetryPolicy::imds(), 0);
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(double.attempts(), 0);
}

#[test]
fn failed_connections_say_how_often_it_was_tried() {
    let connect = || Fail(TransportErrorKind::Connect);
    let double = Double::new([connect(), connect(), connect()]);
    let (error, _) = run(&double, &RetryPolicy::token_service(), 60);
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(error.to_string(), "could not connect to login.microsoftonline.com: scripted, 3 attempts");
}

#[test]
fn retry_after_is_obeyed_where_it_fits_the_budget() {
    let throttled = || Status(429, &[("retry-after", "20")]);
    let double = Double::new([throttled(), throttled(), Status(200, &[])]);
    let (answer, took) = run(&double, &RetryPolicy::token_service(), 60);
    assert_eq!((answer.unwrap().response.status().as_u16(), took), (200, seconds(40.0)));

    let double = Double::new([throttled(), throttled()]);
    let (answer, took) = run(&double, &RetryPolicy::token_service(), 30);
    assert_eq!((answer.unwrap().response.status().as_u16(), took), (429, seconds(20.0)));
}

#[test]
fn imds_is_waited_for_through_an_update() {
    let double = Double::new((0..7).map(|_| Status(410, &[])).chain([Status(200, &[])]));
    let (answer, took) = run(&double, &RetryPolicy::imds(), 90);
    assert_eq!((answer.unwrap().response.status().as_u16(), took), (200, seconds(63.0)));

    let double = Double::new((0..9).map(|_| Status(410, &[])));
    let (answer, took) = run(&double, &RetryPolicy::imds(), 90);
    assert_eq!((answer.unwrap().response.status().as_u16(), took), (410, seconds(79.0)));
}

#[test]
fn what_may_be_spent_once_is_sent_once() {
    let policy = RetryPolicy::token_service().unless_sent();
    for spent in [Status(503, &[]), Hang, Fail(TransportErrorKind::Interrupted)] {
        let double = Double::new([Fail(TransportErrorKind::Connect), spent]);
        let _result = run(&double, &policy, 60);
        assert_eq!(double.attempts(), 2);
    }
}

#[test]
fn a_gate_that_closes_ends_it_before_anything_more_is_sent() {
    let double = Double::new([Status(503, &[]), Status(503, &[])]);
    let (clock, control) = clock();
    let begun = clock.now();
    let asked = Mutex::new(0);
    let gate = || {
        let mut asked = asked.lock().unwrap();
        *asked += 1;
        // Attempt, wait, attempt, and no more.
        if *asked > 3 { Err(Error::new(ErrorKind::Closed, "the lead is lost")) } else { Ok(()) }
    };
    let policy = RetryPolicy::token_service();
    let exchange =
        Exchange { gate: &gate, ..exchange(&double, &clock, &policy, begun.after(Duration::from_secs(10))) };
    let (error, took) = finish(&control, &exchange);
    assert_eq!(error.unwrap_err().to_string(), "the lead is lost");
    assert_eq!((double.attempts(), took), (2, seconds(0.5)));
    assert_eq!(*asked.lock().unwrap(), 4);
}

#[test]
fn all_attempts_carry_one_request_id() {
    let double = Double::new([Status(503, &[]), Status(200, &[])]);
    let (answer, _) = run(&double, &RetryPolicy::token_service(), 60);
    answer.unwrap();
    let requests = double.requests.lock().unwrap();
    let id = |at: usize| requests[at].headers()["client-request-id"].to_str().unwrap().to_owned();
    assert_eq!(id(0).len(), 36);
    assert_eq!(id(0), id(1));
    assert_eq!(requests[0].headers()["return-client-request-id"], "true");
    assert_eq!(requests[1].body(), "client_secret=hunter2");
}

#[test]
fn a_request_id_of_the_callers_own_is_kept_and_managed_identity_gets_none() {
    let double = Double::new([Status(200, &[]), Status(200, &[])]);
    let (clock, _) = clock();
    let policy = RetryPolicy::none();
    let exchange = exchange(&double, &clock, &policy, clock.now().after(Duration::from_secs(10)));
    let mut request = get(URI);
    request.headers_mut().insert("client-request-id", http::HeaderValue::from_static("mine"));
    let runtime = current_thread();
    runtime.block_on(exchange.run(Pool::TokenService, request)).unwrap();
    runtime.block_on(exchange.run(Pool::ManagedIdentity, get(URI))).unwrap();
    let requests = double.requests.lock().unwrap();
    assert_eq!(requests[0].headers()["client-request-id"], "mine");
    assert!(requests[1].headers().is_empty());
}

#[test]
fn an_answer_does_not_show_its_body() {
    let response = http::Response::new(Bytes::from_static(b"hunter2"));
    assert!(!format!("{:#?}", Answer::new(response, clock().0.now())).contains("hunter2"));
}

/// Compiles where the future may be spawned.
#[test]
fn an_exchange_may_move_between_threads() {
    fn is_send(_: &impl Send) {}
    let (clock, _) = clock();
    let (double, policy) = (Double::default(), RetryPolicy::none());
    let exchange = exchange(&double, &clock, &policy, clock.now());
    is_send(&exchange.run(Pool::TokenService, get(URI)));
}
