//! What other libraries want of a broker. Built on what the crate's root exports, and on nothing else of it: what can
//! be done here, a user of the crate could have done.

#[cfg(feature = "azure-core")]
mod azure_core;

#[cfg(feature = "azure-core")]
pub use azure_core::{AzureCredential, AzureOptions};
