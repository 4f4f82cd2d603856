//! The broker as its users see it: real providers, the emulator's real protocol, and time that is moved.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod bad_input;
mod clocks;
mod errors;
mod flights;
mod forced;
mod hits;
mod holds;
mod keys;
mod lies;
mod outages;
mod providers;
mod scheduler;
mod simulation;
mod support;
mod trouble;
