//! The emulator by itself: over sockets and in memory, as a client sees it.

mod device_code;
mod discovery;
mod fault_choice;
mod faults;
mod identity;
mod identity_arc;
mod identity_platforms;
mod permissions;
mod process;
mod refresh_token;
mod server;
mod server_clients;
mod server_scratch;
mod server_tls;
mod support;
mod token;
