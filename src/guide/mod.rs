//! The manual, page by page.
//!
//! | page | what it answers |
//! |---|---|
//! | [`quickstart`] | how do I get a token, and how do I try it offline? |
//! | [`providers`] | which credential do I have, and what does it need? |
//! | [`azure_sdk`] | how do I use it with the clients of the Azure SDK? |
//! | [`caching`] | when is a token served, refreshed, dropped? |
//! | [`errors`] | what does this failure mean, and what do I do? |
//! | [`security`] | what is protected, and what is left to me? |
//! | [`testing`] | how do I test code that needs tokens? |
//! | `validation` (feature `validate`) | how do I check the tokens that others send me? |
//! | [`scaling`] | many scopes, many tenants, many tasks: what does it cost? |
//! | [`defaults`] | every number, with its reason |

#[doc = include_str!("quickstart.md")]
pub mod quickstart {}

#[doc = include_str!("providers.md")]
pub mod providers {}

#[doc = include_str!("azure_sdk.md")]
pub mod azure_sdk {}

#[doc = include_str!("caching.md")]
pub mod caching {}

#[doc = include_str!("errors.md")]
pub mod errors {}

#[doc = include_str!("security.md")]
pub mod security {}

#[doc = include_str!("testing.md")]
pub mod testing {}

#[cfg(feature = "validate")]
#[doc = include_str!("validation.md")]
pub mod validation {}

#[doc = include_str!("scaling.md")]
pub mod scaling {}

#[doc = include_str!("defaults.md")]
pub mod defaults {}
