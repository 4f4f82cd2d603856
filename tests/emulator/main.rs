//! The emulator by itself: over sockets and in memory, as a client sees it.

mod device_code;
mod discovery;
mod fault_choice;
mod faults;
mod identity;
mod permissions;
mod refresh_token;
mod server;
mod support;
mod token;
