//! Who knocks where connections are refused: control requests are let in all the same.

#![expect(
    clippy::disallowed_methods,
    reason = "how long a socket is waited for is real time, whatever clock the emulator runs on"
)]

use crate::emulator::control::BELOW;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// How long a client may take to say what it wants, before it is refused like everyone else.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether a connection begins with a control request. Nothing is taken from it.
pub(crate) async fn is_control(stream: &TcpStream) -> bool {
    let looked = timeout(PATIENCE, async {
        let mut start = [0; 64];
        loop {
            let Ok(length @ 1..) = stream.peek(&mut start).await else {
                return false;
            };
            let start = &start[..length];
            match start.iter().position(|byte| *byte == b' ') {
                Some(space) if start.len() > space + BELOW.len() => {
                    return start[space + 1..].starts_with(BELOW.as_bytes());
                }
                // Some method, and the path is still under way.
                Some(space) if space < 8 && BELOW.as_bytes().starts_with(&start[space + 1..]) => {}
                None if start.len() < 8 => {}
                _ => return false,
            }
            // What was looked at stays, so that there is no waiting for more of it.
            sleep(Duration::from_millis(5)).await;
        }
    });
    looked.await.unwrap_or(false)
}
