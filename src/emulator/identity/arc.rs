//! Azure Arc: who can read a file that only administrators can read may have the token.

use crate::emulator::answer::Answer;
use crate::emulator::error::EntraError;
use crate::emulator::identity::mint::{Wanted, serve};
use crate::emulator::identity::{bad, parameters, select, wants_metadata};
use crate::emulator::ids::guid;
use crate::emulator::request::Asked;
use crate::emulator::service::Core;
use axum::extract::State;
use axum::routing::get;
use axum::{Extension, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use http::header::{HeaderValue, WWW_AUTHENTICATE};
use parking_lot::Mutex;
use serde_json::json;
use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The versions that Microsoft's clients have asked for.
const VERSIONS: [&str; 3] = ["2020-06-01", "2019-11-01", "2019-08-15"];

/// So long a key is good for.
const LIFE: Duration = Duration::from_secs(300);

/// So many keys wait for their use at most; the oldest make way.
const KEYS: usize = 64;

pub(super) fn router() -> Router<Arc<Core>> {
    Router::new().route("/arc/token", get(token)).route("/arc/token/", get(token))
}

async fn token(
    State(core): State<Arc<Core>>,
    Extension(asked): Extension<Arc<Asked>>,
) -> Result<Answer, EntraError> {
    wants_metadata(&asked)?;
    let resource = parameters(&asked)?;
    if !asked.query.get("api-version").is_some_and(|version| VERSIONS.contains(&version)) {
        return Err(bad("invalid_request", "The api-version is not supported: 2020-06-01 is."));
    }
    // As the newer agents have it; the older ones have the system-assigned identity only.
    let selected = select(&asked, &["client_id", "object_id", "msi_res_id"])?;
    let keys = &core.identity.arc_keys;
    let shown = asked.header("authorization").and_then(basic);
    if !shown.is_some_and(|shown| keys.take(shown, core.time.now())) {
        return keys.challenge(core.time.now());
    }
    let given = serve(&core, Wanted { selected, resource, refused: None }).await.map_err(|error| {
        let unknown = selected.is_some() && error.code().is_none();
        let not_found = || EntraError::plain(StatusCode::NOT_FOUND, "not_found", "Identity not found");
        if unknown { not_found() } else { error }
    })?;
    let mut body = given.strings(resource);
    if selected.is_some() {
        // Clients throw a token away that does not say whose it is.
        body["client_id"] = json!(given.identity.client_id);
        body["object_id"] = json!(given.identity.object_id);
        body["msi_res_id"] = json!(given.identity.resource_id);
    }
    Ok(Answer::ok(&body))
}

/// What stands behind the scheme. It is the key as it is, and no name with a password.
fn basic(header: &str) -> Option<&str> {
    let (scheme, key) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("basic").then(|| key.trim())
}

/// The key files that wait for their use. Each is removed when it was used, when it is too old, and when the emulator ends.
#[derive(Default)]
pub(crate) struct Keys {
    /// Absolute; none where no directory was given.
    dir: Option<PathBuf>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    keys: VecDeque<Key>,
    closed: bool,
}

struct Key {
    path: PathBuf,
    contents: String,
    made: SystemTime,
}

impl Drop for Key {
    fn drop(&mut self) {
        // A file that somebody else removed is gone as well.
        let _ = fs::remove_file(&self.path);
    }
}

impl Keys {
    /// The directory is made if it is not there, and stays when the emulator ends.
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: Some(std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned())), ..Self::default() }
    }

    /// Whether files can be made there.
    pub(crate) fn check(&self) -> io::Result<()> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let named = |error: io::Error| {
            io::Error::new(
                error.kind(),
                format!("the directory for Azure Arc's keys, {}: {error}", dir.display()),
            )
        };
        header(dir).map_err(named)?;
        make(dir, SystemTime::UNIX_EPOCH).map(drop).map_err(named)
    }

    /// Removes all files and makes no more of them.
    pub(crate) fn close(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        waiting.keys.clear();
    }

    /// Whether this is a key that was not used yet; now it is.
    fn take(&self, contents: &str, now: SystemTime) -> bool {
        let mut waiting = self.waiting.lock();
        waiting.forget(now);
        let found = waiting.keys.iter().position(|key| key.contents == contents);
        found.and_then(|index| waiting.keys.remove(index)).is_some()
    }

    /// A new key, and where it is.
    fn challenge(&self, now: SystemTime) -> Result<Answer, EntraError> {
        let dir = self.dir.as_deref().ok_or_else(|| {
            EntraError::internal(
                "The emulator was given no directory for Azure Arc's keys: set Builder::arc_key_dir",
            )
        })?;
        let failed = |error: io::Error| {
            EntraError::internal(&format!("No key can be made in {}: {error}", dir.display()))
        };
        let mut waiting = self.waiting.lock();
        waiting.forget(now);
        if waiting.closed {
            return Err(EntraError::internal("The emulator ends"));
        }
        // A few bytes for a file system of this machine, for one client at a time: not worth another thread.
        let key = make(dir, now).map_err(failed)?;
        let realm = header(&key.path).map_err(failed)?;
        if waiting.keys.len() >= KEYS {
            waiting.keys.pop_front();
        }
        waiting.keys.push_back(key);
        let body = json!({
            "error": "unauthorized",
            "error_description": "The key in the file that WWW-Authenticate names has to be shown",
        });
        let mut answer = Answer::json(StatusCode::UNAUTHORIZED, &body);
        answer.headers.insert(WWW_AUTHENTICATE, realm);
        Ok(answer)
    }
}

impl fmt::Debug for Keys {
    /// Without the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Waiting {
    fn forget(&mut self, now: SystemTime) {
        // A clock that was set back makes no key older.
        self.keys.retain(|key| now.duration_since(key.made).map_or(true, |age| age < LIFE));
    }
}

/// Clients cut the challenge at its `=` and take the rest as it is, without quotes.
fn header(path: &Path) -> io::Result<HeaderValue> {
    let path = path.to_str().filter(|path| !path.contains('='));
    let value = path.and_then(|path| HeaderValue::from_str(&format!("Basic realm={path}")).ok());
    value.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a header cannot hold this path"))
}

fn make(dir: &Path, made: SystemTime) -> io::Result<Key> {
    let mut random = [0; 48];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| io::Error::other("no randomness"))?;
    let contents = STANDARD.encode(random);
    fs::create_dir_all(dir)?;
    let path = dir.join(format!("{}.key", guid()));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&path)?;
    let key = Key { path, contents, made };
    file.write_all(key.contents.as_bytes())?;
    Ok(key)
}
