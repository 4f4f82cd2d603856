//! What test targets share: `#[path = "../support/mod.rs"] mod support;`.
//!
//! | file | what it holds |
//! |---|---|
//! | `world` | a clock that is moved, an emulator on it, brokers over both, and a search for secrets at the end |
//! | `quiet` | a runtime that tells when nothing can happen any more until time passes, and an ear for its log |
//! | `weather` | what goes wrong when, drawn from a seed |
//! | `truth` | the time as it is, and what was given, refused, failed: what no broker is asked for |
//! | `fetch` | which fetches may go out, and what follows from what they bring |
//! | `oracle` | what a broker may return |
//! | `service` | a token service as a provider |
//! | `week` | seven days of trouble: workers, a restart, a machine that sleeps |
//! | `wire` | the same over the protocol: the emulator's faults, and what passes seen at the transport |

mod fetch;
mod oracle;
mod quiet;
mod service;
mod truth;
mod weather;
mod week;
mod wire;
mod world;

pub(crate) use oracle::*;
pub(crate) use quiet::*;
pub(crate) use service::*;
pub(crate) use truth::*;
pub(crate) use weather::*;
pub(crate) use week::*;
pub(crate) use wire::*;
pub(crate) use world::*;
