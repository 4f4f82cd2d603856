//! A string that must not be seen: zeroised when dropped, never printed.

use std::{fmt, sync::Arc};

use zeroize::Zeroizing;

/// A client secret, an assertion or a refresh token.
///
/// Clones share one buffer, which is overwritten when the last of them goes. `Debug` shows neither the text nor
/// its length, and there is no `Display`, no `PartialEq` and no serialisation: to use the text, say
/// [`expose`](Self::expose).
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// Takes the text over. A `String` is not copied, so no second copy stays behind.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Arc::new(Zeroizing::new(text.into())))
    }

    /// The text itself. Keep it out of logs, errors and long-lived copies.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_neither_text_nor_length() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), format!("{:?}", Secret::new("")));
        assert!(!format!("{:#?}", Secret::new("hunter2")).contains("hunter2"));
    }
}
