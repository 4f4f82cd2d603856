//! The provider on a transport that answers as it is told: what only a chain, a file or a fault brings about.

mod arc;
mod chain;
mod detect;

use std::{
    collections::VecDeque,
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
    time::UNIX_EPOCH,
};

use bytes::Bytes;
use http::{Request, Response};

use super::*;
use crate::{
    Clock, ManualClock, Transport, TransportError, TransportErrorKind,
    http::Pool,
    provider::Trail,
    sync::{Arc, Mutex},
};

const VAULT: &str = "https://vault.azure.net";
const USER: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";
const NOT_FOUND: &str = r#"{"error":"invalid_request","error_description":"Identity not found"}"#;
const TOKEN: &str = r#"{"access_token":"a-token-of-the-platform","expires_in":"3599","token_type":"Bearer"}"#;

fn env(variables: &[(&str, &str)]) -> Env {
    variables.iter().copied().collect()
}

/// The variables of each platform, all leading to this machine.
fn platforms() -> [(&'static str, Env); 6] {
    let endpoint = ("IDENTITY_ENDPOINT", "http://127.0.0.1:1/here");
    let header = ("IDENTITY_HEADER", "hunter2");
    let msi = ("MSI_ENDPOINT", "http://127.0.0.1:1/msi");
    let thumbprint = ("IDENTITY_SERVER_THUMBPRINT", "00112233445566778899AABBCCDDEEFF00112233");
    [
        ("imds", env(&[("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1")])),
        ("app-service", env(&[endpoint, header])),
        ("azure-arc", env(&[endpoint, ("IMDS_ENDPOINT", "http://127.0.0.1:1")])),
        ("cloud-shell", env(&[msi])),
        ("azure-ml", env(&[msi, ("MSI_SECRET", "hunter2")])),
        ("service-fabric", env(&[("IDENTITY_ENDPOINT", "https://127.0.0.1:1/sf"), header, thumbprint])),
    ]
}

fn on(platform: &str, id: ManagedIdentityId) -> ManagedIdentity {
    let (_, env) = platforms().into_iter().find(|(name, _)| *name == platform).unwrap();
    ManagedIdentity::detect(id, &env, |_| false).unwrap()
}

fn system(platform: &str) -> ManagedIdentity {
    on(platform, ManagedIdentityId::system())
}

/// What the transport does with a request.
enum Reply {
    Answer(u16, &'static str),
    Headed(u16, String),
    Fails(TransportErrorKind),
    Silence,
}

/// Gives its replies in their order, the last one again and again.
struct Double {
    replies: Mutex<VecDeque<Reply>>,
    seen: Mutex<Vec<(Pool, Request<Bytes>)>>,
}

impl std::fmt::Debug for Double {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Double")
    }
}

impl Double {
    fn new(replies: impl IntoIterator<Item = Reply>) -> Arc<Self> {
        Arc::new(Self { replies: Mutex::new(replies.into_iter().collect()), seen: Mutex::default() })
    }

    fn requests(&self) -> usize {
        self.seen.lock().len()
    }

    fn header(&self, at: usize, name: &str) -> Option<String> {
        let seen = self.seen.lock();
        seen[at].1.headers().get(name).map(|value| String::from_utf8(value.as_bytes().to_vec()).unwrap())
    }

    fn query(&self, at: usize) -> String {
        self.seen.lock()[at].1.uri().query().unwrap_or_default().to_owned()
    }
}

impl Transport for Double {
    fn send<'a>(
        &'a self,
        pool: Pool,
        request: Request<Bytes>,
        _: usize,
    ) -> BoxFuture<'a, Result<Response<Bytes>, TransportError>> {
        self.seen.lock().push((pool, request));
        let mut replies = self.replies.lock();
        let last = replies.len() == 1;
        let answer =
            |status, body: &'static str| Response::builder().status(status).body(Bytes::from(body)).unwrap();
        let ended = match replies.front().expect("nothing more was to be sent") {
            Reply::Answer(status, body) => Ok(answer(*status, body)),
            Reply::Headed(status, challenge) => {
                let mut answer = answer(*status, "");
                answer.headers_mut().insert("www-authenticate", challenge.parse().unwrap());
                Ok(answer)
            }
            Reply::Fails(kind) => Err(TransportError::new(*kind, "on command")),
            Reply::Silence => return Box::pin(std::future::pending()),
        };
        if !last {
            replies.pop_front();
        }
        Box::pin(async move { ended })
    }
}

fn context(transport: &Arc<Double>, clock: &Clock) -> FetchContext {
    FetchContext {
        transport: Arc::clone(transport) as Arc<dyn Transport>,
        clock: clock.clone(),
        deadline: clock.now().after(BUDGET),
        reason: Reason::Miss,
        attended: true,
        challenge: None,
        previous: None,
        refused: None,
        gate: Arc::new(|| Ok(())),
        random: Arc::new(|| 0.5),
        in_chain: false,
        trail: Trail::default(),
    }
}

/// A clock that is moved, and what has passed on it.
struct Time(Clock, ManualClock);

impl Time {
    fn new() -> Self {
        let (clock, time) = Clock::manual(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        Self(clock, time)
    }

    /// The output of a future, with time moved where it waits for that; and how much was.
    fn run<T>(&self, future: impl Future<Output = T>) -> (T, Duration) {
        let (begin, mut future) = (self.0.now(), pin!(future));
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return (output, begin.until(self.0.now()));
            }
            self.1.advance(self.1.next_timer().expect("it waits for time to pass"));
        }
    }
}

/// One fetch, in a chain or not, what was sent for it, and how long it took.
fn fetch(
    identity: &ManagedIdentity,
    in_chain: bool,
    replies: impl IntoIterator<Item = Reply>,
) -> (Result<Fetched, Error>, Arc<Double>, Duration) {
    let (time, double) = (Time::new(), Double::new(replies));
    let cx = context(&double, &time.0);
    let cx = if in_chain { cx.for_link() } else { cx };
    let request = TokenRequest::new(format!("{VAULT}/.default")).unwrap();
    let (ended, took) = time.run(identity.fetch(&cx, &request, Grant::App));
    (ended, double, took)
}

/// Everything that a log could show of an error.
fn all_text(error: &Error) -> String {
    let mut text = format!("{error:?} {}", error.advice());
    let mut layer: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = layer {
        text.push_str(&error.to_string());
        layer = error.source();
    }
    text
}
