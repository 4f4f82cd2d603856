//! The environment, behind a shim: a test brings its own.

use std::{collections::BTreeMap, ffi::OsString, fmt, sync::Arc};

use crate::Error;

/// Where variables such as `AZURE_CLIENT_ID` are read from: the process, or a map of your own.
///
/// `Debug` shows names and never values.
///
/// ```
/// use entra_broker::Env;
///
/// let env = Env::empty().set("AZURE_TENANT_ID", "contoso.onmicrosoft.com").set("AZURE_CLIENT_ID", " ");
/// assert_eq!(env.get("AZURE_TENANT_ID")?.as_deref(), Some("contoso.onmicrosoft.com"));
/// assert_eq!(env.get("AZURE_CLIENT_ID")?, None);
/// # Ok::<(), entra_broker::Error>(())
/// ```
#[derive(Clone)]
pub struct Env {
    process: bool,
    set: Arc<BTreeMap<String, OsString>>,
}

impl Env {
    /// The environment of the process, read at each [`get`](Self::get).
    pub fn process() -> Self {
        Self { process: true, ..Self::empty() }
    }

    /// An environment without any variable.
    pub fn empty() -> Self {
        Self { process: false, set: Arc::default() }
    }

    /// Sets a variable, here only: the process's own environment stays as it is.
    #[must_use]
    pub fn set(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        Arc::make_mut(&mut self.set).insert(name.into(), value.into());
        self
    }

    /// Reads a variable. An empty or blank one counts as not set.
    ///
    /// # Errors
    /// `Config` where the value is not UTF-8. The error names the variable and does not show the value.
    pub fn get(&self, name: &str) -> Result<Option<String>, Error> {
        let value = match self.set.get(name) {
            Some(value) => Some(value.clone()),
            None if self.process => process_variable(name),
            None => None,
        };
        match value.map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text).filter(|text| !text.trim().is_empty())),
            Some(Err(_)) => Err(Error::config(format!("environment variable {name}: expected UTF-8"))),
        }
    }

    /// Whether the process's variables lie beneath, and those that were set: what a child is given.
    #[cfg(feature = "cli")]
    pub(crate) fn layers(&self) -> (bool, &BTreeMap<String, OsString>) {
        (self.process, &self.set)
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the process's environment")]
fn process_variable(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

impl<K: Into<String>, V: Into<OsString>> FromIterator<(K, V)> for Env {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        let set = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { process: false, set: Arc::new(set) }
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.set.keys().collect();
        f.debug_struct("Env").field("process", &self.process).field("set", &names).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn a_map_hides_the_process() {
        let env = Env::from_iter([("A", "1")]);
        assert_eq!(env.get("A").unwrap().as_deref(), Some("1"));
        assert_eq!(env.get("PATH").unwrap(), None);
    }

    #[test]
    fn the_process_is_read_beneath_what_was_set() {
        let env = Env::process().set("A_NAME_OF_OUR_OWN", "1");
        assert_eq!(env.get("A_NAME_OF_OUR_OWN").unwrap().as_deref(), Some("1"));
        assert!(env.get("PATH").unwrap().is_some());
        assert_eq!(env.get("A=B\0").unwrap(), None);
    }

    #[test]
    fn empty_and_blank_count_as_unset() {
        let env = Env::from_iter([("A", ""), ("B", " \t\n"), ("C", " x ")]);
        assert_eq!(env.get("A").unwrap(), None);
        assert_eq!(env.get("B").unwrap(), None);
        assert_eq!(env.get("C").unwrap().as_deref(), Some(" x "));
    }

    #[test]
    fn debug_shows_names_and_no_values() {
        let shown = format!("{:?}", Env::empty().set("AZURE_CLIENT_SECRET", "hunter2"));
        assert!(shown.contains("AZURE_CLIENT_SECRET") && !shown.contains("hunter2"));
    }

    #[cfg(unix)]
    #[test]
    fn a_value_that_is_not_utf8_is_named_and_not_shown() {
        use std::os::unix::ffi::OsStringExt;
        let env = Env::empty().set("AZURE_CLIENT_SECRET", OsString::from_vec(b"hunter2\xff".to_vec()));
        let error = env.get("AZURE_CLIENT_SECRET").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert_eq!(error.to_string(), "environment variable AZURE_CLIENT_SECRET: expected UTF-8");
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}
