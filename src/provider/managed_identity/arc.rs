//! Azure Arc: who can read a file that only the agent's users can read may have the token.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use zeroize::Zeroizing;

use crate::{
    Env, Error, ErrorKind,
    provider::{FetchContext, file},
    sync::Arc,
    text::Quoted,
    wire::managed_identity::key_file,
};

/// Where the agent listens unless `IDENTITY_ENDPOINT` says otherwise.
pub(super) const ENDPOINT: &str = "http://localhost:40342/metadata/identity/oauth2/token";

/// The largest key file that the agent's documentation allows.
const LARGEST_KEY: usize = 4096;

const WHAT: &str = "the key file of Azure Arc";

/// Where the agent puts its key files.
pub(super) fn key_dir(env: &Env) -> Result<PathBuf, Error> {
    Ok(match in_windows(env, "ProgramData", r"C:\ProgramData")? {
        Some(data) => data.join("AzureConnectedMachineAgent").join("Tokens"),
        None => PathBuf::from("/var/opt/azcmagent/tokens"),
    })
}

/// True where the agent is installed, whose own variables only its login shells have.
pub(super) fn is_installed(env: &Env) -> bool {
    match in_windows(env, "ProgramFiles", r"C:\Program Files") {
        Ok(Some(programs)) => programs.join("AzureConnectedMachineAgent").join("himds.exe").exists(),
        Ok(None) => Path::new("/var/opt/azcmagent/bin/himds").exists(),
        Err(_) => false,
    }
}

fn in_windows(env: &Env, variable: &str, usual: &str) -> Result<Option<PathBuf>, Error> {
    if cfg!(windows) {
        Ok(Some(env.get(variable)?.unwrap_or_else(|| usual.to_owned()).into()))
    } else {
        Ok(None)
    }
}

/// What answers a challenge: the header with the contents of the file that it names. The file is the endpoint's choice, so
/// it is read only where the agent's files are, and nothing of any other reaches whoever asks for it.
pub(super) async fn answer(
    cx: &FetchContext,
    headers: &HeaderMap,
    dir: &Arc<Path>,
) -> Result<HeaderValue, Error> {
    let Some(path) = key_file(headers) else {
        return Err(Error::new(
            ErrorKind::Protocol,
            "the identity endpoint of Azure Arc refused with status 401 and named no key file",
        )
        .with_advice("See whether what listens there is the agent of Azure Arc."));
    };
    let (path, dir) = (PathBuf::from(path), Arc::clone(dir));
    cx.blocking(move || authorization(&path, &dir)).await
}

pub(super) fn authorization(path: &Path, dir: &Path) -> Result<HeaderValue, Error> {
    let key = read_key(path, dir)?;
    let key = key.trim_ascii();
    let mut text = Zeroizing::new(Vec::with_capacity("Basic ".len() + key.len()));
    text.extend_from_slice(b"Basic ");
    text.extend_from_slice(key);
    let fits = !key.is_empty() && key.is_ascii();
    match HeaderValue::from_maybe_shared(Bytes::from_owner(text)) {
        Ok(mut value) if fits => {
            value.set_sensitive(true);
            Ok(value)
        }
        // Its source is left out: nothing of a file may be said.
        _ => Err(Error::config(format!("{WHAT} {} holds no key", shown(path)))
            .with_advice("The agent writes a new one for each request: see that nothing else writes there.")),
    }
}

fn read_key(path: &Path, dir: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let refuse = |why: &str| {
        Err(Error::config(format!("{WHAT} {} {why}", shown(path)))
            .with_advice("Nothing was read. Something may pretend to be the platform."))
    };
    // On Windows this is another machine's share, which would be told who asks before anything is read.
    let begin = path.as_os_str().as_encoded_bytes();
    let is_separator = |byte: &u8| matches!(byte, b'/' | b'\\');
    if !path.is_absolute() || begin.iter().take(2).filter(|byte| is_separator(byte)).count() == 2 {
        return refuse("is not named by a whole path of this machine");
    }
    // What counts is the file that is read in the end. Where it cannot be found, `read_within` says why.
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if real.extension().is_none_or(|extension| extension != "key") {
        return refuse("does not end in .key");
    }
    file::read_within(WHAT, &real, dir, LARGEST_KEY).map_err(advised)
}

/// What helps who may not read the file.
pub(super) fn advised(error: Error) -> Error {
    let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<io::Error>());
    if source.is_none_or(|source| source.kind() != io::ErrorKind::PermissionDenied) {
        return error;
    }
    error.with_advice(
        "The agent's files are for administrators and its own users: on Linux, add this process's user to the group \
         himds; on Windows, to the group Hybrid agent extension applications.",
    )
}

fn shown(path: &Path) -> String {
    Quoted(&path.to_string_lossy()).to_string()
}
