//! The broker under a real client of the Azure SDK, and the SDK's credentials under a broker.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod clients;
mod credentials;
mod options;
mod support;
mod vault;
