//! What an error of reqwest means, said so that a person can act on it.

use std::{borrow::Cow, error::Error as StdError, io};

use super::{TransportError, TransportErrorKind, target::Route};

const ADD_ROOTS: &str = "Where a proxy that inspects traffic or a private cloud signs with an authority of its own, \
     add that one with `root_certificates_pem`.";

/// What reqwest's error means. The URL is taken out of it: its query may be secret.
pub(super) fn explain(error: reqwest::Error, route: Route) -> TransportError {
    let error = error.without_url();
    let what = if error.is_builder() {
        TransportError::refused("the request is malformed")
    } else if error.is_connect() {
        explain_connect(&error, route)
    } else {
        let reason =
            find::<io::Error>(&error).map_or("it ended within the exchange", |io| io_reason(io.kind()));
        TransportError::new(TransportErrorKind::Interrupted, reason).with_advice(match route {
            Route::Plain => "Check whether the port speaks https: plain http was used.",
            _ => "It usually passes. Where it does not, look at what stands between: a proxy, a firewall, a gateway.",
        })
    };
    what.with_source(error)
}

fn explain_connect(error: &reqwest::Error, route: Route) -> TransportError {
    use rustls::{CertificateError as Certificate, Error as Tls};

    let tls = |reason: &'static str| TransportError::new(TransportErrorKind::Tls, reason);
    match find::<Tls>(error) {
        Some(Tls::InvalidCertificate(why)) if matches!(route, Route::Pinned(_)) => {
            let reason = match why {
                Certificate::ApplicationVerificationFailure => {
                    "its certificate is not the one with the expected thumbprint"
                }
                Certificate::BadSignature => "it does not have the key of the certificate that it shows",
                _ => "its certificate cannot be read",
            };
            return tls(reason).with_advice(
                "Nothing was sent to it. The platform starts the application anew when it renews its certificate; \
                 where that is not it, something else answers in its place.",
            );
        }
        // A bad signature is what an authority looks like that was renewed with another key under the same name.
        Some(Tls::InvalidCertificate(Certificate::UnknownIssuer | Certificate::BadSignature)) => {
            return tls("its certificate was issued by nobody who is trusted here").with_advice(ADD_ROOTS);
        }
        Some(Tls::InvalidCertificate(
            Certificate::Expired
            | Certificate::ExpiredContext { .. }
            | Certificate::NotValidYet
            | Certificate::NotValidYetContext { .. },
        )) => {
            return tls("its certificate is not valid at this time")
                .with_advice("Check the clock of this machine, then the certificate of the server.");
        }
        Some(Tls::InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        )) => {
            return tls("its certificate is for another name")
                .with_advice("Check the host name, and whether a proxy or a name server leads elsewhere.");
        }
        Some(Tls::InvalidCertificate(_)) => {
            return tls("its certificate is not trusted").with_advice(ADD_ROOTS);
        }
        Some(_) => {
            return tls("TLS came to no agreement")
                .with_advice("Check that the server speaks TLS 1.2 or newer at this port.");
        }
        None => {}
    }

    let reason = if error.is_timeout() {
        "timed out"
    } else if error.is_dns() {
        "name not found"
    } else if mentions(error, "proxy authorization required") {
        "the proxy wants other credentials"
    } else {
        find::<io::Error>(error).map_or("it was refused", |io| io_reason(io.kind()))
    };
    let (reason, advice) = match route {
        Route::Proxied => (
            format!("{reason} (through a proxy)").into(),
            "Check the proxy that HTTPS_PROXY or ALL_PROXY names, and whether it lets this host pass.",
        ),
        Route::Direct if error.is_dns() => {
            (reason.into(), "Check the host name and the name servers of this machine.")
        }
        Route::Direct => (
            reason.into(),
            "Check whether a firewall stands between; where a proxy is needed, set HTTPS_PROXY.",
        ),
        Route::Plain | Route::Pinned(_) => {
            (reason.into(), "Check that something listens there and that this program may reach it.")
        }
    };
    let reason: Cow<'static, str> = reason;
    TransportError::new(TransportErrorKind::Connect, reason).with_advice(advice)
}

fn io_reason(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "connection reset",
        io::ErrorKind::ConnectionAborted | io::ErrorKind::UnexpectedEof => "connection closed",
        io::ErrorKind::HostUnreachable => "host unreachable",
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => "network unreachable",
        io::ErrorKind::PermissionDenied => "not permitted",
        io::ErrorKind::TimedOut => "timed out",
        _ => "the connection failed",
    }
}

/// The first error of this type in the chain.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    layers(error).find_map(|layer| layer.downcast_ref())
}

/// The tunnel's error has a private type, so its text has to do. A test holds it.
fn mentions(error: &(dyn StdError + 'static), text: &str) -> bool {
    layers(error).any(|layer| layer.to_string().contains(text))
}

/// The chain, with what an `io::Error` wraps: its `source` skips that.
fn layers<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |layer: &&'a (dyn StdError + 'static)| {
        let layer: &'a (dyn StdError + 'static) = *layer;
        match layer.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as _),
            None => layer.source(),
        }
    })
}
