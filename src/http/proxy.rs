//! The proxy that the environment names.

use std::fmt;

use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

use crate::{env::Env, error::Error};

/// What the environment says of proxies. `HTTP_PROXY` is for plain http, which never leaves the machine here, and so
/// plays no part.
#[derive(Default)]
pub(super) struct Proxies(Option<Proxy>);

struct Proxy {
    url: Url,
    matcher: Matcher,
}

impl Proxies {
    /// `HTTPS_PROXY`, else `ALL_PROXY`, but for `NO_PROXY`; each in capitals or small letters. Empty is unset.
    pub(super) fn from_env(env: &Env) -> Result<Self, Error> {
        let first = |names: &[&'static str]| -> Result<Option<(&'static str, String)>, Error> {
            for name in names {
                if let Some(value) = env.get(name)? {
                    return Ok(Some((*name, value.trim().to_owned())));
                }
            }
            Ok(None)
        };
        let Some((name, value)) = first(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])? else {
            return Ok(Self(None));
        };
        let url = parse(&value).ok_or_else(|| {
            // The value may hold a password.
            Error::config(format!("the environment variable {name} is not the URL of a proxy")).with_advice(
                "Write it as http://host:port; https, socks5 and socks5h are understood as well.",
            )
        })?;
        let exempt = first(&["NO_PROXY", "no_proxy"])?.map(|(_, list)| list).unwrap_or_default();
        let matcher = Matcher::builder().https(String::from(url.as_str())).no(exemptions(&exempt)).build();
        Ok(Self(Some(Proxy { url, matcher })))
    }

    /// True where requests to `url` go through the proxy.
    pub(super) fn intercept(&self, url: &Url) -> bool {
        let (Some(proxy), Ok(uri)) = (&self.0, url.as_str().parse()) else { return false };
        proxy.matcher.intercept(&uri).is_some()
    }

    /// The proxy, for a client that sends all its requests through it.
    pub(super) fn proxy(&self) -> Option<&Url> {
        self.0.as_ref().map(|proxy| &proxy.url)
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Proxies(set)" } else { "Proxies(none)" })
    }
}

/// `None` where the client below would take it for no proxy at all: it must not fall silently back to a direct
/// connection.
fn parse(value: &str) -> Option<Url> {
    let url = if value.contains("://") { Url::parse(value) } else { Url::parse(&format!("http://{value}")) };
    let url = url.ok()?;
    let known = matches!(url.scheme(), "http" | "https" | "socks4" | "socks4a" | "socks5" | "socks5h");
    let uri: http::Uri = url.as_str().parse().ok()?;
    (known && uri.host().is_some_and(|host| !host.is_empty())).then_some(url)
}

/// Separated by commas or blanks; `*.corp` means what `.corp` does. The matcher below knows commas and `.corp`.
fn exemptions(list: &str) -> String {
    let parts = list.split([',', ' ', '\t']).filter(|part| !part.is_empty());
    parts.map(|part| part.strip_prefix("*.").unwrap_or(part)).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Result<Proxies, Error> {
        Proxies::from_env(&variables.iter().fold(Env::empty(), |env, (name, value)| env.set(*name, *value)))
    }

    fn chosen(variables: &[(&str, &str)]) -> Option<String> {
        proxies(variables).unwrap().proxy().map(ToString::to_string)
    }

    #[test]
    fn the_first_variable_that_is_set_wins() {
        assert_eq!(chosen(&[]), None);
        assert_eq!(chosen(&[("HTTP_PROXY", "http://plain:1")]), None);
        assert_eq!(chosen(&[("all_proxy", "socks5://a:1080")]).unwrap(), "socks5://a:1080");
        assert_eq!(chosen(&[("ALL_PROXY", "http://a:1"), ("https_proxy", "b:2")]).unwrap(), "http://b:2/");
        assert_eq!(chosen(&[("HTTPS_PROXY", " "), ("ALL_PROXY", "http://a:1")]).unwrap(), "http://a:1/");
        assert_eq!(chosen(&[("HTTPS_PROXY", "user:p%40ss@b:2")]).unwrap(), "http://user:p%40ss@b:2/");
    }

    #[test]
    fn a_malformed_one_is_named_and_not_shown() {
        for value in
            ["http://user:hunter2@", "ftp://user:hunter2@proxy:21", "http://user:hunter2@pr oxy:1", "::::"]
        {
            let error = proxies(&[("https_proxy", value)]).unwrap_err();
            assert!(error.to_string().contains("https_proxy"), "{error}");
            assert!(!format!("{error:?}").contains("hunter2"));
        }
    }

    #[test]
    fn exempt_hosts_go_straight() {
        let exempt = |list: &str, url: &str| {
            let proxies = proxies(&[("HTTPS_PROXY", "proxy:1"), ("no_proxy", list)]).unwrap();
            !proxies.intercept(&Url::parse(url).unwrap())
        };
        assert!(!exempt("", "https://login.microsoftonline.com/"));
        assert!(exempt("*", "https://login.microsoftonline.com/"));
        assert!(exempt("a.example, microsoftonline.com", "https://login.microsoftonline.com/"));
        assert!(exempt("a.example *.microsoftonline.com", "https://login.microsoftonline.com/"));
        assert!(exempt(".microsoftonline.com", "https://login.microsoftonline.com/"));
        assert!(!exempt("online.com", "https://login.microsoftonline.com/"));
        assert!(exempt("10.0.0.0/8", "https://10.1.2.3/"));
        assert!(!exempt("10.0.0.0/8", "https://11.1.2.3/"));
    }

    #[test]
    fn debug_does_not_show_the_password() {
        let proxies = proxies(&[("HTTPS_PROXY", "http://user:hunter2@proxy:1")]).unwrap();
        assert!(!format!("{proxies:#?}").contains("hunter2"));
    }
}
