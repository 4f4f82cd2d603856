//! A directory that goes away with its test, and a bound on how long a test may wait.

#![expect(clippy::unwrap_used, reason = "what goes wrong here fails a test")]

use entra_broker::Clock;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("entra-broker-emulator-{}-{number}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, contents: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, contents).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The names of the files in it.
    pub(crate) fn files(&self) -> Vec<String> {
        let files = fs::read_dir(&self.0).unwrap();
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What becomes of this within a minute.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::select! {
        done = future => done,
        () = pause(60_000) => panic!("this takes too long"),
    }
}

/// Real time, for sockets know no other.
pub(crate) async fn pause(milliseconds: u64) {
    Clock::system().sleep(Duration::from_millis(milliseconds)).await;
}
