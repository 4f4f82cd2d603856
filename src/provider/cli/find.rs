//! Where a program is: on the `PATH`, and nowhere else.

use std::path::{Path, PathBuf};

use crate::{Env, Error};

/// The first program of this name on the `PATH`. Relative entries are passed over, and an empty one, which shells take for
/// the current directory: whoever can write there would be the one to be asked for tokens.
///
/// # Errors
///
/// `Config` where `PATH` is not UTF-8.
pub(super) fn on_path(name: &str, env: &Env) -> Result<Option<PathBuf>, Error> {
    let Some(path) = env.get("PATH")? else { return Ok(None) };
    let mut places = std::env::split_paths(&path).filter(|dir| dir.is_absolute());
    Ok(places.find_map(|dir| {
        suffixes().iter().map(|suffix| dir.join(format!("{name}{suffix}"))).find(|at| is_program(at))
    }))
}

fn suffixes() -> &'static [&'static str] {
    if cfg!(windows) { &[".exe", ".cmd"] } else { &[""] }
}

pub(super) fn is_program(path: &Path) -> bool {
    let Ok(metadata) = std::fs::metadata(path) else { return false };
    #[cfg(unix)]
    let may_run = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o111 != 0;
    #[cfg(not(unix))]
    let may_run = true;
    metadata.is_file() && may_run
}
