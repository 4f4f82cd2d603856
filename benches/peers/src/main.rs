//! What a cached token costs: entra-broker and `azure_identity` side by side, in one run.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml`, or with `-- --smoke` just to see that it works. The
//! last line of the output is one JSON object with the medians.
//!
//! Both are given the same client id and secret, a transport that answers from memory, and the same token of 1,500
//! bytes. Both are asked in the same way: an async function awaits `get_token` over and over. Both take turns in 21
//! windows, on one thread and then on two threads that ask for the same token.

mod counting;
#[path = "../../support/windows.rs"]
mod windows;

use std::{env, error::Error, hint::black_box, sync::Arc};

use async_trait::async_trait;
use azure_core::{
    credentials::TokenCredential,
    http::{
        AsyncRawResponse, ClientOptions, HttpClient, Request, StatusCode, Transport as AzureTransport,
        headers::Headers,
    },
};
use azure_identity::{ClientSecretCredential, ClientSecretCredentialOptions};
use bytes::Bytes;
use counting::{Counting, counted};
use entra_broker::{BoxFuture, Broker, ClientSecret, Handle, Pool, TokenRequest, Transport, TransportError};
use serde_json::{Map, Value, json};
use windows::{Contestant, Plan, measure, ready, take};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const TENANT: &str = "11111111-2222-3333-4444-555555555555";
const CLIENT_ID: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";
const SCOPE: &str = "https://vault.azure.net/.default";
const TOKEN_LENGTH: usize = 1500;

/// To which all others are compared.
const PEER: &str = "azure_identity";

fn main() -> Result<(), Box<dyn Error>> {
    let smoke = env::args().any(|arg| arg == "--smoke");
    let fixture = Fixture::new()?;
    let contestants = fixture.contestants();
    let plan = Plan::new(smoke);
    let speeds = measure(&contestants, &plan);
    let allocations: Vec<_> = contestants.iter().map(allocations).collect();
    let Some(peer) = contestants.iter().position(|contestant| contestant.name == PEER) else {
        return Err("nothing to compare with".into());
    };

    println!(
        "A cached token of {TOKEN_LENGTH} bytes, read again and again. Medians of {} windows.\n",
        plan.windows
    );
    println!(
        "{:<28} {:>9} {:>8} {:>13} {:>8} {:>12} {:>9}",
        "", "ns a hit,", "times", "M hits/s in", "times", "allocations", "bytes"
    );
    println!(
        "{:<28} {:>9} {:>8} {:>13} {:>8} {:>12} {:>9}",
        "", "1 thread", "faster", "all, 2 threads", "as many", "a hit", "a hit"
    );
    for (at, contestant) in contestants.iter().enumerate() {
        println!(
            "{:<28} {:>9.1} {:>8.1} {:>13.1} {:>8.1} {:>12} {:>9}",
            contestant.name,
            speeds[at].ns,
            speeds[peer].ns / speeds[at].ns,
            speeds[at].total_mops,
            speeds[at].total_mops / speeds[peer].total_mops,
            allocations[at].0,
            allocations[at].1,
        );
    }
    println!(
        "
entra_broker.request      broker.get_token(&request).await, a TokenRequest made once
entra_broker.str          broker.get_token(\"{SCOPE}\").await
entra_broker.handle       handle.get().await, a Handle bound once
entra_broker.handle_with  handle.with(|token| …), which lends the token instead of giving it
azure_identity            ClientSecretCredential 1.0.0, get_token(&[\"{SCOPE}\"], None).await
azure_identity.dyn        the same through Arc<dyn TokenCredential>, as Azure's clients hold it

times faster, times as many: compared with azure_identity. 2 threads: both ask for the same token.
"
    );

    let object = |value: &dyn Fn(usize) -> f64| -> Value {
        let members = contestants.iter().enumerate();
        members
            .map(|(at, contestant)| (contestant.name.to_owned(), json!(value(at))))
            .collect::<Map<_, _>>()
            .into()
    };
    let medians = json!({
        "hit_ns": object(&|at| rounded(speeds[at].ns)),
        "total_mops_2_threads": object(&|at| rounded(speeds[at].total_mops)),
        "allocs_per_hit": object(&|at| allocations[at].0),
    });
    println!("{medians}");
    Ok(())
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Allocations and bytes for each hit.
fn allocations(contestant: &Contestant<'_>) -> (f64, f64) {
    const HITS: u64 = 1_000;
    (contestant.run)(1);
    let (allocations, bytes) = counted(|| (contestant.run)(HITS));
    (allocations as f64 / HITS as f64, bytes as f64 / HITS as f64)
}

struct Fixture {
    broker: Broker,
    request: TokenRequest,
    handle: Handle,
    peer: Arc<ClientSecretCredential>,
    dynamic: Arc<dyn TokenCredential>,
    /// On which both were warmed up.
    _runtime: tokio::runtime::Runtime,
}

impl Fixture {
    fn new() -> Result<Self, Box<dyn Error>> {
        let answer = Memory(Bytes::from(
            json!({ "token_type": "Bearer", "expires_in": 86_399, "access_token": "e".repeat(TOKEN_LENGTH) })
                .to_string(),
        ));

        let broker = Broker::builder().transport(answer.clone()).build(ClientSecret::new(
            TENANT,
            CLIENT_ID,
            "the secret's value",
        )?)?;
        let request = TokenRequest::new(SCOPE)?;
        let handle = broker.handle(&request);

        let client_options = ClientOptions {
            transport: Some(AzureTransport::new(Arc::new(answer))),
            ..ClientOptions::default()
        };
        let peer = ClientSecretCredential::new(
            TENANT,
            CLIENT_ID.to_owned(),
            "the secret's value".into(),
            Some(ClientSecretCredentialOptions { client_options }),
        )?;

        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mine = broker.get_token(&request).await?;
            assert_eq!(mine.secret().len(), TOKEN_LENGTH);
            broker.get_token(SCOPE).await?;
            let theirs = peer.get_token(&[SCOPE], None).await?;
            assert_eq!(theirs.token.secret(), mine.secret());
            Ok::<_, Box<dyn Error>>(())
        })?;
        let dynamic = Arc::clone(&peer) as _;
        Ok(Self { broker, request, handle, peer, dynamic, _runtime: runtime })
    }

    fn contestants(&self) -> Vec<Contestant<'_>> {
        let Self { broker, request, handle, peer, dynamic, .. } = self;
        vec![
            Contestant::new("entra_broker.request", move |hits| {
                ready(async {
                    for _ in 0..hits {
                        take(broker.get_token(black_box(request)).await);
                    }
                });
            }),
            Contestant::new("entra_broker.str", move |hits| {
                ready(async {
                    for _ in 0..hits {
                        take(broker.get_token(black_box(SCOPE)).await);
                    }
                });
            }),
            Contestant::new("entra_broker.handle", move |hits| {
                ready(async {
                    for _ in 0..hits {
                        take(black_box(handle).get().await);
                    }
                });
            }),
            Contestant::new("entra_broker.handle_with", move |hits| {
                ready(async {
                    for _ in 0..hits {
                        take(black_box(handle).with(|token| token.secret().len()).ok_or("nothing at hand"));
                    }
                });
            }),
            Contestant::new(PEER, move |hits| {
                ready(async {
                    for _ in 0..hits {
                        take(peer.get_token(black_box(&[SCOPE]), None).await);
                    }
                });
            }),
            Contestant::new("azure_identity.dyn", move |hits| {
                ready(async {
                    for _ in 0..hits {
                        take(black_box(dynamic).get_token(black_box(&[SCOPE]), None).await);
                    }
                });
            }),
        ]
    }
}

/// A token service in memory, for both.
#[derive(Debug, Clone)]
struct Memory(Bytes);

impl Transport for Memory {
    fn send<'a>(
        &'a self,
        _: Pool,
        _: http::Request<Bytes>,
        _: usize,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, TransportError>> {
        Box::pin(async { Ok(http::Response::new(self.0.clone())) })
    }
}

#[async_trait]
impl HttpClient for Memory {
    async fn execute_request(&self, _: &Request) -> azure_core::Result<AsyncRawResponse> {
        Ok(AsyncRawResponse::from_bytes(StatusCode::Ok, Headers::new(), self.0.clone()))
    }
}
