//! Tens of thousands of schedules of the engine: callers, flights, scheduler, eviction and shutdown against one another.
//!
//! What runs is the library's own source, from the cells to the scheduler. Only `sync.rs` is another, in which shuttle
//! decides at each lock, atomic and await who goes on, by chance and by priorities that change at chance. The seed of
//! each run is printed where it fails, and so is the schedule: `shuttle::replay` runs that one again.
//!
//! Not modelled: weak memory (see the model `cell`), threads that are interrupted between two such points, and the
//! insides of tokio, `parking_lot` and `arc-swap`.

#[path = "../../../../src"]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "the models use a part of what the library has")]
mod library {
    pub(crate) mod cache;
    pub(crate) mod cell;
    pub(crate) mod claims;
    pub(crate) mod clock;
    pub(crate) mod error;
    pub(crate) mod fetched;
    pub(crate) mod refresh;
    pub(crate) mod request;
    pub(crate) mod scope;
    pub(crate) mod secret;
    pub(crate) mod subject;
    pub(crate) mod tenant;
    pub(crate) mod text;
    pub(crate) mod token;
}
#[allow(dead_code, reason = "the library takes what it needs of it")]
mod sync;

pub mod scenarios;
mod world;

use library::{
    cache, cell,
    claims::{self, Claims},
    clock,
    error::{self, Error},
    fetched, refresh, request, scope, secret,
    subject::{self, Subject},
    tenant, text, token,
};

/// As the library's root has it.
type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;
