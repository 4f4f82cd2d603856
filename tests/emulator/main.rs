//! The emulator by itself: over sockets and in memory, as a client sees it.

mod assertion;
mod certificate;
mod clock;
mod control;
mod device_code;
mod directory_file;
mod discovery;
mod fault_choice;
mod faults;
mod federated;
mod identity;
mod identity_arc;
mod identity_platforms;
mod journal;
mod keys;
mod on_behalf_of;
mod permissions;
mod process;
mod refresh_token;
mod server;
mod server_clients;
mod server_scratch;
mod server_tls;
mod signer;
mod support;
mod token;
