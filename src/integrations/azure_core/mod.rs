//! The Azure SDK for Rust: its clients over a broker, and a broker over its credentials.
//!
//! | file | what it holds |
//! |---|---|
//! | `broker` | the broker as a `TokenCredential` |
//! | `options` | what a caller says beyond scopes, and how it travels |
//! | `credential` | any `TokenCredential` as a provider |
//! | `error` | the SDK's errors as ours |

mod broker;
mod credential;
mod error;
mod options;

pub use credential::AzureCredential;
pub use options::AzureOptions;
