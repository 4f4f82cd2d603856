//! The broker as its users see it: real providers, the emulator's real protocol, and time that is moved.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod background;
mod bad_input;
#[cfg(feature = "certificate")]
mod certificate;
#[cfg(feature = "certificate")]
mod certificate_fetch;
#[cfg(feature = "certificate")]
mod certificate_material;
mod clocks;
mod errors;
mod flights;
mod forced;
mod hits;
mod holds;
mod keys;
mod lies;
mod odd_providers;
mod outages;
mod providers;
mod scheduler;
mod simulation;
#[path = "../support/mod.rs"]
mod support;
mod trouble;
mod warm;
