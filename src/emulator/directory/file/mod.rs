//! The directory as a text: a TOML or JSON file, or the body of a request.

mod apps;
mod error;
pub(crate) mod fields;
pub(crate) mod node;
mod principals;
mod read;
mod snapshot;

pub use error::DirectoryError;

use crate::emulator::directory::file::node::{LONGEST, Mistake, Node};
use crate::emulator::directory::{Directory, State};
use crate::emulator::keys::Keys;
use parking_lot::RwLock;
use read::Reader;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// The longest certificate or key set that is read.
const LONGEST_BESIDE: usize = 1024 * 1024;

/// Reads a file that the text names.
pub(crate) type Beside<'a> = &'a dyn Fn(&str) -> Result<String, Unread>;

/// Why a file that the text names was not read.
pub(crate) struct Unread {
    pub(crate) message: String,
    /// It is not there at all.
    pub(crate) is_missing: bool,
}

/// A text that came alone, so that there is nothing beside it.
pub(crate) fn nothing_beside(name: &str) -> Result<String, Unread> {
    let name = name.escape_debug();
    let message =
        format!("\"{name}\" is a file's name, and there are no files here: put the text itself in its place");
    Err(Unread { message, is_missing: true })
}

impl State {
    pub(crate) fn from_toml(text: &str) -> Result<Self, DirectoryError> {
        let state =
            Node::toml(text).and_then(|node| Reader::new("in this file", &nothing_beside).read(&node));
        state.map_err(|mistake| DirectoryError::of(mistake, text))
    }
}

impl Directory {
    /// The directory that a TOML text describes. [`sample::TOML`](crate::emulator::sample::TOML) is an example with all that there is.
    ///
    /// # Errors
    ///
    /// For the first mistake, with its line and field: see [`DirectoryError`].
    pub fn from_toml(text: &str) -> Result<Self, DirectoryError> {
        State::from_toml(text).map(Self::of)
    }

    /// The directory that a JSON text describes, in the same form.
    ///
    /// # Errors
    ///
    /// For the first mistake, with its line and field: see [`DirectoryError`].
    pub fn from_json(text: &str) -> Result<Self, DirectoryError> {
        let state =
            Node::json(text).and_then(|node| Reader::new("in this file", &nothing_beside).read(&node));
        state.map(Self::of).map_err(|mistake| DirectoryError::of(mistake, text))
    }

    /// The directory that a file describes: JSON where its name ends in `.json`, TOML otherwise.
    ///
    /// Files named in it, certificates and key sets, are looked for in `certs`, then beside the file itself.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or for the first mistake in it: see [`DirectoryError`].
    pub fn load(path: &Path, certs: Option<&Path>) -> Result<Self, DirectoryError> {
        let text = text_of(path, LONGEST).map_err(|message| DirectoryError::of_file(path, message))?;
        let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        let own = path.parent().unwrap_or(Path::new(""));
        let beside = |name: &str| {
            let mut places = certs.into_iter().chain([own]).map(|place| place.join(name));
            let found = places.find(|place| place.exists());
            let (is_missing, found) = (found.is_none(), found.unwrap_or_else(|| own.join(name)));
            text_of(&found, LONGEST_BESIDE)
                .map_err(|message| Unread { message: format!("{}: {message}", found.display()), is_missing })
        };
        let node = if is_json { Node::json(&text) } else { Node::toml(&text) };
        let state = node.and_then(|node| Reader::new("in this file", &beside).read(&node));
        state.map(Self::of).map_err(|mistake| DirectoryError::of(mistake, &text).within(path))
    }

    /// Puts everything of another directory in the place of what is here, at once: no request sees a part of both.
    ///
    /// Signing keys stay, and so do codes and tokens that were given before, as far as the new directory still has their users and apps.
    pub fn replace(&self, with: Self) {
        self.put(with.state.into_inner());
    }

    pub(crate) fn of(state: State) -> Self {
        Self { state: RwLock::new(state), keys: Keys::start() }
    }

    /// The id of the tenant with this id or domain.
    pub(crate) fn tenant_id(&self, name: &str) -> Option<String> {
        self.state.read().tenant_id(name)
    }

    fn put(&self, mut next: State) {
        let mut state = self.state.write();
        // Else sessions that were revoked would come back to life, now or with a later directory that has the user again.
        for (name, user) in &mut next.users {
            user.revoked = user.revoked.max(state.revoked(name));
        }
        next.gone = std::mem::take(&mut state.gone);
        let revoked = state.users.values().filter(|user| user.revoked > 0);
        next.gone.extend(revoked.map(|user| (user.name.clone(), user.revoked)));
        *state = next;
    }

    /// Replaces everything by what a tree describes.
    pub(crate) fn replace_by(&self, node: &Node) -> Result<(), Mistake> {
        self.put(Reader::new("in this directory", &nothing_beside).read(node)?);
        Ok(())
    }

    /// Adds what a tree describes, and replaces those things in it that are there already.
    pub(crate) fn patch_by(&self, node: &Node) -> Result<(), Mistake> {
        let mut state = self.state.write();
        *state = Reader::onto(state.clone(), "in this directory", &nothing_beside).read(node)?;
        Ok(())
    }
}

/// A file's text, unless it is too long.
fn text_of(path: &Path, longest: usize) -> Result<String, String> {
    let read = || -> io::Result<String> {
        let mut text = String::new();
        let limit = u64::try_from(longest).unwrap_or(u64::MAX);
        File::open(path)?.take(limit.saturating_add(1)).read_to_string(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|error| format!("it cannot be read: {error}"))?;
    if text.len() > longest {
        return Err(format!("it is longer than {longest} bytes"));
    }
    // Editors on Windows begin a file with a byte order mark.
    match text.strip_prefix('\u{feff}') {
        Some(rest) => Ok(rest.to_owned()),
        None => Ok(text),
    }
}
