//! The broker as its users see it: real providers, the emulator's real protocol, and time that is moved.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod audit;
mod audit_more;
mod background;
mod bad_input;
#[cfg(feature = "certificate")]
mod certificate;
#[cfg(feature = "certificate")]
mod certificate_fetch;
#[cfg(feature = "certificate")]
mod certificate_material;
mod chain;
mod challenges;
mod check_tenant;
#[cfg(all(feature = "cli", target_os = "linux"))]
mod cli;
mod clocks;
mod environment;
mod errors;
mod flights;
mod forced;
mod hits;
mod holds;
mod keys;
mod lies;
mod managed_identity;
mod odd_providers;
mod off_threads;
mod outages;
mod overheard;
mod pipelines;
mod providers;
mod regions;
mod scheduler;
mod scratch;
mod simulation;
mod sources;
#[path = "../support/mod.rs"]
mod support;
mod tenants;
mod trouble;
#[cfg(feature = "validate")]
mod validate;
mod warm;
#[cfg(unix)]
mod workload_identity;
