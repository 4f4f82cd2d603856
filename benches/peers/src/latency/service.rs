//! A token service in memory that takes its time, and fails as it is told to.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use azure_core::http::{
    AsyncRawResponse, HttpClient as AzureClient, Request as AzureRequest, StatusCode, headers::Headers,
};
use bytes::Bytes;
use entra_broker::{BoxFuture, Pool, Transport, TransportError};

use crate::service::answer;

/// What is answered with 500.
#[derive(Debug, Clone, Copy)]
pub(super) enum Faults {
    None,
    /// And the fiftieth first, so that a short run has one.
    EveryHundredth,
    Outage {
        from: Duration,
        until: Duration,
    },
}

#[derive(Debug, Clone)]
pub(super) struct Slow(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    takes: Duration,
    faults: Faults,
    answer: Bytes,
    begun: Mutex<Option<Instant>>,
    requests: AtomicU64,
    failed: AtomicU64,
    /// By the path of the request, which names the tenant: when its newest token was asked for.
    newest: Mutex<HashMap<String, Instant>>,
}

impl Slow {
    pub(super) fn new(takes: Duration, faults: Faults, life: u64) -> Self {
        Self(Arc::new(Inner {
            takes,
            faults,
            answer: answer(life),
            begun: Mutex::new(None),
            requests: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            newest: Mutex::new(HashMap::new()),
        }))
    }

    /// From now on faults count.
    pub(super) fn begin(&self) {
        *self.0.begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Requests since [`begin`](Self::begin), and how many of them were answered with an error.
    pub(super) fn seen(&self) -> (u64, u64) {
        (self.0.requests.load(Ordering::Relaxed), self.0.failed.load(Ordering::Relaxed))
    }

    /// When the newest token of this tenant was asked for.
    pub(super) fn newest(&self, tenant: &str) -> Option<Instant> {
        let newest = self.0.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.iter().find(|(path, _)| path.contains(tenant)).map(|(_, asked)| *asked)
    }

    async fn handle(&self, path: &str) -> Option<Bytes> {
        let asked = Instant::now();
        let begun = *self.0.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let fails = begun.is_some_and(|begun| {
            let number = self.0.requests.fetch_add(1, Ordering::Relaxed) + 1;
            match self.0.faults {
                Faults::None => false,
                Faults::EveryHundredth => number % 100 == 50,
                Faults::Outage { from, until } => (from..until).contains(&(asked - begun)),
            }
        });
        tokio::time::sleep(self.0.takes).await;
        if fails {
            self.0.failed.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.0.newest.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), asked);
        Some(self.0.answer.clone())
    }
}

impl Transport for Slow {
    fn send<'a>(
        &'a self,
        _: Pool,
        request: http::Request<Bytes>,
        _: usize,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, TransportError>> {
        Box::pin(async move {
            let answer = self.handle(request.uri().path()).await;
            let status = if answer.is_some() { 200 } else { 500 };
            let mut response = http::Response::new(answer.unwrap_or_default());
            *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
            Ok(response)
        })
    }
}

#[async_trait]
impl AzureClient for Slow {
    async fn execute_request(&self, request: &AzureRequest) -> azure_core::Result<AsyncRawResponse> {
        let answer = self.handle(request.url().path()).await;
        let status = if answer.is_some() { StatusCode::Ok } else { StatusCode::InternalServerError };
        Ok(AsyncRawResponse::from_bytes(status, Headers::new(), answer.unwrap_or_default()))
    }
}
