//! What a browser brings back from Entra's pages: the query of a redirect URI.

use std::collections::BTreeMap;

use http::HeaderMap;
use url::form_urlencoded;

use super::{explain::explain, json::Members, oauth_error, token::Asked};
use crate::Error;

/// Servers take no longer line of a request than 8 KiB, some 16.
const MAX_LENGTH: usize = 16 * 1024;

/// The parameters of a callback, each of them once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Callback(BTreeMap<String, String>);

impl Callback {
    /// From the URL that was called, or its path and query, or its query alone.
    ///
    /// # Errors
    /// What is wrong with it, without any of its text.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_LENGTH {
            return Err("it is longer than 16 KiB");
        }
        let text = text.split('#').next().unwrap_or_default();
        let is_url = ["https://", "http://", "/"].iter().any(|start| text.starts_with(start));
        let query = match text.split_once('?') {
            // A question mark may stand in the value of a bare query, and `=` in a path.
            Some((before, query)) if is_url || !before.contains('=') => query,
            _ => text,
        };
        let mut parameters = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            // Whoever reads the first and whoever reads the last would believe different things.
            if parameters.insert(name.into_owned(), value.into_owned()).is_some() {
                return Err("a parameter stands in it twice");
            }
        }
        Ok(Self(parameters))
    }

    /// A parameter that is not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The error that it tells of, as one of an answer would be.
    pub(crate) fn error(&self, asked: &Asked<'_>) -> Option<Error> {
        self.get("error")?;
        let members: Members =
            self.0.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        // A callback has no status. One is needed only where neither name nor number is known.
        let mut failure = oauth_error::read(400, &HeaderMap::new(), Some(&members), asked.now);
        failure.answer.status = None;
        Some(explain(failure, asked))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::testing::App;

    #[test]
    fn a_url_a_path_and_a_query_are_one_callback() {
        let one = Callback::parse("state=a%20b&tenant=x&empty=").unwrap();
        for text in [
            "https://app.test/cb?state=a+b&tenant=x&empty=",
            "/cb?tenant=x&state=a%20b&empty=#f",
            "?state=a+b&tenant=x&empty",
            "https://app.test/to=b/cb?state=a+b&tenant=x&empty=",
            "/to=b;c=d?state=a+b&tenant=x&empty=",
        ] {
            assert_eq!(Callback::parse(text).unwrap(), one, "{text}");
        }
        assert_eq!((one.get("state"), one.get("empty"), one.get("other")), (Some("a b"), None, None));
        assert_eq!(Callback::parse("state=a?b").unwrap().get("state"), Some("a?b"));
        assert_eq!(Callback::parse("https://app.test/cb").unwrap().get("state"), None);
    }

    #[test]
    fn what_stands_twice_or_is_too_long_is_refused() {
        assert!(Callback::parse("state=a&state=a").is_err() && Callback::parse("state=a&%73tate=b").is_err());
        assert!(Callback::parse(&"a".repeat(MAX_LENGTH + 1)).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "\\PC{0,80}|[a-z=&%?#+0-9]{0,80}") {
            if let Ok(callback) = Callback::parse(&text) {
                let app = App::new();
                prop_assert_eq!(callback.error(&app.asked()).is_some(), callback.get("error").is_some());
            }
        }
    }
}
