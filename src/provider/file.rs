//! Files that hold a credential: small, regular, and read in bounded time whatever stands at their path.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read as _},
    path::Path,
};

use zeroize::Zeroizing;

use crate::{Error, Secret, error::ErrorKind};

/// The bytes of a regular file of at most `limit` bytes. `what` names the file in errors, as the subject of a sentence
/// such as `the federated token file`. It blocks: call it through [`FetchContext::blocking`](super::FetchContext::blocking),
/// or at construction.
///
/// # Errors
///
/// `Config` where it is missing, unreadable, empty, too large or no regular file: a directory, a device, a pipe that would
/// be waited at for ever.
pub(super) fn read(what: &str, path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, Error> {
    read_by(what, path, limit, Links::Followed)
}

/// As [`read`], of a file that was found by following all links: one that stands at the path by now is not followed.
fn read_found(what: &str, path: &Path, limit: usize) -> Result<Zeroizing<Vec<u8>>, Error> {
    read_by(what, path, limit, Links::Refused)
}

/// What becomes of a link at the end of a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Links {
    Followed,
    Refused,
}

fn read_by(what: &str, path: &Path, limit: usize, links: Links) -> Result<Zeroizing<Vec<u8>>, Error> {
    // Looked at twice: to open a device may do something, and what is looked at may be another file by the time it is open.
    let metadata = match links {
        Links::Followed => std::fs::metadata(path),
        Links::Refused => std::fs::symlink_metadata(path),
    };
    let metadata = metadata.map_err(|error| unreadable(what, path, error))?;
    check(what, path, &metadata, limit)?;
    let file = open(path, links).map_err(|error| unreadable(what, path, error))?;
    read_open(what, path, &file, limit)
}

/// As [`read`], where the path leads somebody else's choice: the file has to lie in `dir` once all links are followed.
///
/// # Errors
///
/// As [`read`], and `Config` where it lies elsewhere.
pub(super) fn read_within(
    what: &str,
    path: &Path,
    dir: &Path,
    limit: usize,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let canonical = |path: &Path| path.canonicalize().map_err(|error| unreadable(what, path, error));
    let (real, dir) = (canonical(path)?, canonical(dir)?);
    if !real.starts_with(&dir) {
        return Err(Error::config(format!("{what} {} does not lie in {}", shown(path), shown(&dir)))
            .with_advice(
                "Nothing was read. Where the path is not yours, something pretends to be the platform.",
            ));
    }
    read_found(what, &real, limit)
}

/// As [`read`], for text that is a secret by itself: UTF-8, without a byte-order mark and the blanks around it.
///
/// # Errors
///
/// As [`read`], and `Config` where it is not UTF-8 or blank.
pub(super) fn read_secret(what: &str, path: &Path, limit: usize) -> Result<Secret, Error> {
    let bytes = read(what, path, limit)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| {
        Error::config(format!("{what} {} is not UTF-8 text", shown(path)))
            .with_advice("Write it anew as UTF-8: some editors and shells write UTF-16.")
    })?;
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() {
        return Err(empty(what, path));
    }
    Ok(Secret::new(text))
}

fn read_open(what: &str, path: &Path, file: &File, limit: usize) -> Result<Zeroizing<Vec<u8>>, Error> {
    let metadata = file.metadata().map_err(|error| unreadable(what, path, error))?;
    check(what, path, &metadata, limit)?;
    // All of it at once: a vector that grows leaves copies of a secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit.min(metadata.len() as usize) + 1));
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(|error| unreadable(what, path, error))?;
    match bytes.len() {
        0 => Err(empty(what, path)),
        length if length > limit => Err(too_large(what, path, limit)),
        _ => Ok(bytes),
    }
}

fn check(what: &str, path: &Path, metadata: &Metadata, limit: usize) -> Result<(), Error> {
    if !metadata.is_file() {
        let is = match metadata {
            _ if metadata.is_dir() => "a directory",
            _ if metadata.is_symlink() => "a link",
            _ => "a device or a pipe",
        };
        return Err(Error::config(format!("{what} {} is {is}, not a file", shown(path)))
            .with_advice("Give the path of the file itself."));
    }
    if metadata.len() > limit as u64 {
        return Err(too_large(what, path, limit));
    }
    Ok(())
}

fn too_large(what: &str, path: &Path, limit: usize) -> Error {
    Error::config(format!("{what} {} is larger than {limit} bytes, so it is something else", shown(path)))
        .with_advice("Look at what the path leads to. Nothing of it was kept.")
}

/// Without waiting: to open a pipe that nobody writes to takes for ever.
fn open(path: &Path, links: Links) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(not(target_os = "linux"))]
    let _ = links;
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        flags.set(OFlags::NOFOLLOW, links == Links::Refused);
        options.custom_flags(flags.bits().cast_signed());
    }
    options.open(path)
}

fn unreadable(what: &str, path: &Path, error: io::Error) -> Error {
    let (how, advice) = match error.kind() {
        io::ErrorKind::NotFound => {
            ("does not exist", "Check the path, and that what should put the file there has done so.")
        }
        io::ErrorKind::PermissionDenied => (
            "may not be read by this process",
            "Let the user that the process runs as read it, and pass the directories above it.",
        ),
        _ => ("cannot be read", "Look at what the path leads to."),
    };
    let message = format!("{what} {} {how}", shown(path));
    Error::new(ErrorKind::Config, message).with_advice(advice).with_source(error)
}

fn empty(what: &str, path: &Path) -> Error {
    Error::config(format!("{what} {} is empty", shown(path))).with_advice(
        "Whatever writes it may be in the middle of doing so: it is read again at the next request.",
    )
}

/// A path is the user's own text: shown, escaped and cut.
fn shown(path: &Path) -> String {
    crate::text::Quoted(&path.to_string_lossy()).to_string()
}

/// When and how large a file is, to tell whether it has changed.
#[cfg(feature = "certificate")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    modified: Option<std::time::SystemTime>,
    length: u64,
    /// Where a link leads: a mounted secret is replaced by turning one around.
    real: Option<std::path::PathBuf>,
    /// Which file it is: one that was put in its place can be as old and as large.
    #[cfg(unix)]
    number: u64,
}

#[cfg(feature = "certificate")]
impl Stamp {
    /// None where there is no such file.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            modified: metadata.modified().ok(),
            length: metadata.len(),
            real: path.canonicalize().ok(),
            #[cfg(unix)]
            number: std::os::unix::fs::MetadataExt::ino(&metadata),
        })
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
#[path = "file_tests.rs"]
mod tests;
