//! Bytes to types and back: requests to a token service, answers of it and of managed-identity endpoints.
//!
//! Pure: no IO, no clock. Every parser takes arbitrary bytes, in linear time and without unbounded recursion, and no
//! error that comes from here holds a part of a body beyond numbers and a few checked, bounded fields.

#[cfg(feature = "certificate")]
pub(crate) mod assertion;
pub(crate) mod callback;
mod challenge;
#[cfg(feature = "cli")]
pub(crate) mod cli;
mod codes;
mod explain;
pub(crate) mod form;
mod json;
pub(crate) mod jwt;
mod lifetime;
pub(crate) mod managed_identity;
pub(crate) mod oauth_error;
pub(crate) mod oidc;
pub(crate) mod token;

pub use challenge::BearerChallenge;

#[cfg(test)]
mod testing;
