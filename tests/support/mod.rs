//! What test targets share: `#[path = "../support/mod.rs"] mod support;`.

mod world;

pub(crate) use world::*;
