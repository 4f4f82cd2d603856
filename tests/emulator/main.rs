//! The emulator by itself: over sockets and in memory, as a client sees it.

mod clock;
mod control;
mod directory_file;
mod discovery;
mod fault_choice;
mod faults;
mod identity;
mod journal;
mod server;
mod support;
mod token;
