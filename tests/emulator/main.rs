//! The emulator by itself: over sockets and in memory, as a client sees it.

mod discovery;
mod fault_choice;
mod faults;
mod identity;
mod server;
mod support;
mod token;
