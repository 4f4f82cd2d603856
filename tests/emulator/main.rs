//! The emulator by itself: over sockets and in memory, as a client sees it.

mod admin_consent;
mod browser;
mod device_page;
mod discovery;
mod fault_choice;
mod faults;
mod identity;
mod server;
mod sign_in;
mod sign_in_any;
mod sign_in_consent;
mod sign_in_users;
mod support;
mod token;
