//! The emulator by itself: over sockets and in memory, as a client sees it.

mod assertion;
mod certificate;
mod discovery;
mod fault_choice;
mod faults;
mod federated;
mod identity;
mod keys;
mod on_behalf_of;
mod server;
mod signer;
mod support;
mod token;
