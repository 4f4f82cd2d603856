//! Which way a request may take, decided from the very URL that is then sent.

use url::{Host, Url};

use super::{Pool, TransportError, proxy::Proxies};

/// The way to a target. Each has a client of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// Plain http, to this machine or its link.
    Plain,
    /// https, straight.
    Direct,
    /// https, through the proxy.
    Proxied,
    /// https, straight, to the one server whose certificate has this thumbprint.
    Pinned([u8; 20]),
}

const PLAIN_ADVICE: &str = "Use https: plain http is for endpoints of the machine itself.";

/// The URL as it will be sent. What is checked is what is sent: `http://2130706433/` is `127.0.0.1` here and there.
pub(super) fn parse(uri: &http::Uri) -> Result<Url, TransportError> {
    let url = Url::parse(&uri.to_string())
        .map_err(|error| TransportError::refused("the URL is malformed").with_source(error))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(TransportError::refused("the URL holds a user name"));
    }
    Ok(url)
}

pub(super) fn route(pool: Pool, url: &Url, proxies: &Proxies) -> Result<Route, TransportError> {
    let host = url.host().ok_or_else(|| TransportError::refused("the URL has no host"))?;
    match (url.scheme(), pool) {
        ("https", Pool::TokenService) if !is_loopback(&host) && proxies.intercept(url) => Ok(Route::Proxied),
        ("https", Pool::ServiceFabric { thumbprint }) => Ok(Route::Pinned(thumbprint)),
        ("https", Pool::TokenService | Pool::ManagedIdentity) => Ok(Route::Direct),
        ("http", Pool::TokenService) if is_loopback(&host) => Ok(Route::Plain),
        ("http", Pool::ManagedIdentity) if is_loopback(&host) || is_link_local(&host) => Ok(Route::Plain),
        ("http", Pool::TokenService) => {
            Err(TransportError::refused("plain http goes to loopback only").with_advice(PLAIN_ADVICE))
        }
        ("http", Pool::ManagedIdentity) => {
            Err(TransportError::refused("plain http goes to loopback and link-local addresses only")
                .with_advice(PLAIN_ADVICE))
        }
        ("http", Pool::ServiceFabric { .. }) => {
            Err(TransportError::refused("plain http shows no certificate, and so not who answers")
                .with_advice(PLAIN_ADVICE))
        }
        _ => Err(TransportError::refused("neither http nor https")),
    }
}

/// `localhost` counts because every client resolves it to loopback without asking anyone.
fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

fn is_link_local(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(_) => false,
        Host::Ipv4(address) => address.is_link_local(),
        Host::Ipv6(address) => address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_route(pool: Pool, uri: &str) -> Option<Route> {
        let proxies =
            Proxies::from_env(&crate::Env::empty().set("HTTPS_PROXY", "http://proxy:3128")).unwrap();
        route(pool, &parse(&uri.parse().unwrap()).ok()?, &proxies).ok()
    }

    #[test]
    fn each_target_has_its_way() {
        for (uri, token_service, managed_identity) in [
            ("https://login.microsoftonline.com/t", Some(Route::Proxied), Some(Route::Direct)),
            ("https://localhost:8443/", Some(Route::Direct), Some(Route::Direct)),
            ("https://LOCALHOST/", Some(Route::Direct), Some(Route::Direct)),
            ("https://127.8.9.1/", Some(Route::Direct), Some(Route::Direct)),
            ("https://[::1]/", Some(Route::Direct), Some(Route::Direct)),
            ("http://localhost:8443/", Some(Route::Plain), Some(Route::Plain)),
            ("http://127.0.0.1/", Some(Route::Plain), Some(Route::Plain)),
            ("http://2130706433/", Some(Route::Plain), Some(Route::Plain)),
            ("http://[::1]:80/", Some(Route::Plain), Some(Route::Plain)),
            ("http://169.254.169.254/metadata", None, Some(Route::Plain)),
            ("http://[fe80::1]/", None, Some(Route::Plain)),
            ("http://10.0.0.1/", None, None),
            ("http://169.255.0.1/", None, None),
            ("http://0.0.0.0/", None, None),
            ("http://[::ffff:10.0.0.1]/", None, None),
            ("http://localhost.evil.example/", None, None),
            ("http://login.microsoftonline.com/t", None, None),
            ("http://127.0.0.1@evil.example/", None, None),
            ("https://user@login.microsoftonline.com/", None, None),
            ("https://10.0.0.4:2377/metadata/identity", Some(Route::Proxied), Some(Route::Direct)),
            ("ftp://localhost/", None, None),
            ("/relative", None, None),
        ] {
            assert_eq!(try_route(Pool::TokenService, uri), token_service, "{uri}");
            assert_eq!(try_route(Pool::ManagedIdentity, uri), managed_identity, "{uri}");
            let https = uri.starts_with("https://") && !uri.contains('@');
            let pinned = Pool::ServiceFabric { thumbprint: [7; 20] };
            assert_eq!(try_route(pinned, uri), https.then_some(Route::Pinned([7; 20])), "{uri}");
        }
    }
}
