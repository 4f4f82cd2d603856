//! One run of a program: bounded in time and memory, and nothing of it left behind.

use std::{io, process::Stdio, time::Duration};

use bytes::BufMut as _;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
};
use zeroize::Zeroizing;

use super::super::FetchContext;

/// Far more than a token and what stands around it.
const STDOUT_LIMIT: usize = 1024 * 1024;
/// An error message and a stack trace. What comes after it is read and dropped.
const STDERR_LIMIT: usize = 64 * 1024;
/// For how long the output is read on after the program has ended, where another one that it started holds it open.
const GRACE: Duration = Duration::from_millis(500);

/// How a program ended by itself.
#[derive(Debug)]
pub(super) struct Ended {
    /// None where a signal ended it.
    pub(super) code: Option<i32>,
    pub(super) stdout: Zeroizing<Vec<u8>>,
    pub(super) stderr: Zeroizing<Vec<u8>>,
}

/// How a program did not end by itself.
#[derive(Debug)]
pub(super) enum Failed {
    NotStarted(io::Error),
    /// The runtime was built without I/O, which nothing but a panic of tokio's tells.
    NoRuntime,
    /// It ran into the fetch's deadline.
    TooLong,
    /// Its output was larger than [`STDOUT_LIMIT`].
    TooMuch,
    Broken(io::Error),
}

/// Whether a program was not started for a reason that passes, and that says nothing about the program.
pub(super) fn is_for_lack(error: &io::Error) -> bool {
    use io::ErrorKind::{ExecutableFileBusy, Interrupted, OutOfMemory, WouldBlock};
    // Open files, of the process and of the machine: no kind of its own.
    #[cfg(target_os = "linux")]
    let files = {
        use rustix::io::Errno;
        matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
    };
    #[cfg(not(target_os = "linux"))]
    let files = false;
    files || matches!(error.kind(), ExecutableFileBusy | Interrupted | OutOfMemory | WouldBlock)
}

/// Runs it until the fetch's deadline at most, without a shell, an input or a terminal. Where this is dropped, or ends with
/// an error, the program and on Linux all that it started are killed.
pub(super) async fn run(cx: &FetchContext, mut command: Command) -> Result<Ended, Failed> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    // A group of its own, to be killed as one: `az` is a script that starts Python.
    #[cfg(target_os = "linux")]
    command.process_group(0);
    let spawned = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| command.spawn()));
    let mut running = Running(spawned.map_err(|_| Failed::NoRuntime)?.map_err(Failed::NotStarted)?);
    tokio::select! {
        biased;
        ended = finish(cx, &mut running.0) => ended,
        () = cx.clock().sleep_until(cx.deadline()) => Err(Failed::TooLong),
    }
}

async fn finish(cx: &FetchContext, child: &mut Child) -> Result<Ended, Failed> {
    let gone = || Failed::Broken(io::ErrorKind::BrokenPipe.into());
    let out = child.stdout.take().ok_or_else(gone)?;
    let err = child.stderr.take().ok_or_else(gone)?;
    let (mut stdout, mut stderr) = (kept(STDOUT_LIMIT), kept(STDERR_LIMIT));
    let code = {
        let reading = async { tokio::try_join!(all(out, &mut stdout), beginning(err, &mut stderr)) };
        let mut reading = std::pin::pin!(reading);
        let mut read = false;
        let status = loop {
            tokio::select! {
                biased;
                ended = &mut reading, if !read => {
                    ended?;
                    read = true;
                }
                status = child.wait() => break status.map_err(Failed::Broken)?,
            }
        };
        if !read {
            tokio::select! {
                biased;
                ended = reading => { ended?; }
                () = cx.clock().sleep(GRACE) => {}
            }
        }
        status.code()
    };
    Ok(Ended { code, stdout, stderr })
}

/// All at once, so that no copies of a token stay behind as it grows. Pages that nothing is written to cost nothing.
fn kept(limit: usize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Vec::with_capacity(limit + 1))
}

async fn all(mut from: impl AsyncRead + Unpin, into: &mut Vec<u8>) -> Result<(), Failed> {
    while into.len() <= STDOUT_LIMIT {
        let room = STDOUT_LIMIT + 1 - into.len();
        if from.read_buf(&mut (&mut *into).limit(room)).await.map_err(Failed::Broken)? == 0 {
            return Ok(());
        }
    }
    Err(Failed::TooMuch)
}

async fn beginning(mut from: impl AsyncRead + Unpin, into: &mut Vec<u8>) -> Result<(), Failed> {
    let mut rest = Zeroizing::new([0; 4096]);
    loop {
        let room = STDERR_LIMIT - into.len();
        let read = if room == 0 {
            from.read(&mut *rest).await
        } else {
            from.read_buf(&mut (&mut *into).limit(room)).await
        };
        if read.map_err(Failed::Broken)? == 0 {
            return Ok(());
        }
    }
}

/// A program that does not outlive this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has an id as long as nobody has waited for it, so the number is still that of its group.
        #[cfg(target_os = "linux")]
        if let Some(group) = self.0.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn lack_that_passes_is_told_from_a_program_that_cannot_run() {
        for errno in [Errno::AGAIN, Errno::NOMEM, Errno::MFILE, Errno::NFILE, Errno::TXTBSY] {
            assert!(is_for_lack(&errno.into()), "{errno}");
        }
        for errno in [Errno::NOENT, Errno::ACCESS, Errno::NOEXEC, Errno::NOTDIR] {
            assert!(!is_for_lack(&errno.into()), "{errno}");
        }
    }
}
