//! The broker as its users see it: real providers, the emulator's real protocol, and time that is moved.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod audit;
mod background;
mod bad_input;
mod chain;
mod challenges;
mod check_tenant;
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
mod overheard;
mod providers;
mod regions;
mod scheduler;
mod simulation;
#[path = "../support/mod.rs"]
mod support;
mod trouble;
#[cfg(feature = "validate")]
mod validate;
mod warm;
