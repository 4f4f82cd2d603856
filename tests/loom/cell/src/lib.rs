//! Every interleaving of an entry's readers and writers: `src/cell.rs` as it is, over loom's locks and atomics.
//!
//! What runs is the library's own source. Only `sync.rs` is another, in which loom schedules the threads and decides
//! what a load sees, weak orderings included. Each model visits every execution that there is, none left out. Taken on
//! trust are `arc-swap`, of which its promise stands here, and the reference counts of [`std::sync::Arc`].

#[path = "../../../../src"]
#[allow(dead_code, unreachable_pub, reason = "the models use a part of what the library has")]
mod library {
    pub(crate) mod cell;
    pub(crate) mod claims;
    pub(crate) mod clock;
    pub(crate) mod error;
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

pub mod models;

use library::{
    cell, claims, clock,
    error::{self, Error},
    request, scope, secret, subject, tenant, text, token,
};
