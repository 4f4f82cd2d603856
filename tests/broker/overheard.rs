//! A wire that is listened to, on which some hosts are in trouble.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use entra_broker::{BoxFuture, Pool, Transport, TransportError, TransportErrorKind};

use crate::support::{InMemory, World};

/// Every host is the emulator, unless it is in trouble.
#[derive(Debug, Clone)]
pub(crate) struct Overheard {
    wire: InMemory,
    heard: Arc<Mutex<Vec<Heard>>>,
    troubles: Arc<Mutex<HashMap<String, Trouble>>>,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) host: String,
    pub(crate) form: HashMap<String, String>,
}

/// What a host does instead of answering as the emulator does.
#[derive(Debug, Clone)]
pub(crate) enum Trouble {
    NoConnection,
    NoTls,
    Cut,
    Silence,
    Says(u16, &'static str),
}

impl Overheard {
    pub(crate) fn new(world: &World) -> Self {
        Self { wire: world.transport(), heard: Arc::default(), troubles: Arc::default() }
    }

    pub(crate) fn trouble(&self, host: &str, trouble: Trouble) {
        self.troubles.lock().unwrap().insert(host.to_owned(), trouble);
    }

    pub(crate) fn heal(&self) {
        self.troubles.lock().unwrap().clear();
    }

    /// What was heard since the last time.
    pub(crate) fn take(&self) -> Vec<Heard> {
        std::mem::take(&mut self.heard.lock().unwrap())
    }

    /// The hosts that were asked since the last time.
    pub(crate) fn hosts(&self) -> Vec<String> {
        self.take().into_iter().map(|heard| heard.host).collect()
    }
}

impl Transport for Overheard {
    fn send<'a>(
        &'a self,
        pool: Pool,
        request: http::Request<Bytes>,
        limit: usize,
    ) -> BoxFuture<'a, Result<http::Response<Bytes>, TransportError>> {
        let host = request.uri().host().unwrap().to_owned();
        let form = url::form_urlencoded::parse(request.body()).into_owned().collect();
        let trouble = self.troubles.lock().unwrap().get(&host).cloned();
        self.heard.lock().unwrap().push(Heard { host, form });
        Box::pin(async move {
            let failed = |kind| Err(TransportError::new(kind, "in trouble"));
            match trouble {
                None => self.wire.send(pool, request, limit).await,
                Some(Trouble::NoConnection) => failed(TransportErrorKind::Connect),
                Some(Trouble::NoTls) => failed(TransportErrorKind::Tls),
                Some(Trouble::Cut) => failed(TransportErrorKind::Interrupted),
                Some(Trouble::Silence) => std::future::pending().await,
                Some(Trouble::Says(status, body)) => Ok(http::Response::builder()
                    .status(status)
                    .body(Bytes::from_static(body.as_bytes()))
                    .unwrap()),
            }
        })
    }
}
