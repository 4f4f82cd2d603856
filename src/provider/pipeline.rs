//! What the pipelines have in common: a URL of the platform, asked with a token of the job's.

use bytes::Bytes;
use http::{HeaderValue, Request, header::AUTHORIZATION};
use url::{Host, Url};

use super::{ClientCredential, FetchContext};
use crate::{
    Error, Secret,
    http::{Pool, RetryPolicy},
    wire::oidc::{Pipeline, parse_oidc_answer},
};

/// A URL that the platform gave in a variable, read with care: the job's token goes there.
///
/// # Errors
///
/// `Config`, which names the variable and does not show the value.
pub(super) fn endpoint(variable: &str, text: &str) -> Result<Url, Error> {
    let refused = || {
        Error::config(format!("{variable}: expected an https URL"))
            .with_advice("The platform sets this variable. Pass it on as it is.")
    };
    let url = Url::parse(text.trim()).map_err(|_| refused())?;
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return Err(refused()),
    };
    let clean = url.username().is_empty() && url.password().is_none();
    match url.scheme() {
        "https" if clean => Ok(url),
        "http" if clean && loopback => Ok(url),
        _ => Err(refused()),
    }
}

/// The header that the job proves itself with.
///
/// # Errors
///
/// `Config`, which names the variable and does not show the value.
pub(super) fn bearer(variable: &str, token: &Secret) -> Result<HeaderValue, Error> {
    let refused = || {
        Error::config(format!("{variable}: expected a token without blanks, of visible ASCII characters"))
            .with_advice(
                "The platform makes this token. Pass it on as it is: `$(System.AccessToken)` that was not \
                          replaced is none.",
            )
    };
    let text = token.expose().trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.starts_with("$(") {
        return Err(refused());
    }
    let mut value = HeaderValue::try_from(format!("Bearer {text}")).map_err(|_| refused())?;
    value.set_sensitive(true);
    Ok(value)
}

/// Sends the request, with the job's token, and reads the assertion in the answer.
pub(super) async fn ask(
    cx: &FetchContext,
    pipeline: Pipeline,
    request: http::request::Builder,
    authorization: &HeaderValue,
) -> Result<ClientCredential, Error> {
    let request: Request<Bytes> =
        request.header(AUTHORIZATION, authorization).body(Bytes::new()).map_err(|error| {
            Error::config(format!("{}: the URL of its tokens is none", pipeline.name())).with_source(error)
        })?;
    let answer = cx.send(Pool::TokenService, request, &RetryPolicy::token_service()).await?;
    let (parts, body) = answer.response.into_parts();
    let now = cx.clock().now().wall();
    let token = parse_oidc_answer(pipeline, parts.status.as_u16(), &parts.headers, &body, now)?;
    Ok(ClientCredential::Assertion(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_jobs_token_goes_to_https_or_to_this_machine_only() {
        for good in [
            "https://vstoken.actions.githubusercontent.com/_apis/x?api-version=2.0",
            " https://dev.azure.com/o/p ",
            "http://127.0.0.1:1/token?x=1",
            "http://localhost/",
            "http://[::1]:8080/",
        ] {
            assert!(endpoint("V", good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "token",
            "http://vstoken.example/",
            "http://localhost.evil.example/",
            "https://user:hunter2@host/",
            "file:///hunter2",
            "https://",
        ] {
            let error = endpoint("V", bad).unwrap_err();
            assert!(error.to_string().starts_with("V: expected"), "{bad}: {error}");
            assert!(!format!("{error:?}").contains("hunter2"));
        }
    }

    #[test]
    fn the_jobs_token_is_one_and_is_not_shown() {
        let value = bearer("V", &"hunter2\n".into()).unwrap();
        assert_eq!(value, "Bearer hunter2");
        assert!(!format!("{value:?}").contains("hunter2"));
        for bad in ["", " ", "hun ter2", "hunter2\r\nx: y", "$(System.AccessToken)", "é"] {
            let error = bearer("V", &bad.into()).unwrap_err();
            assert!(error.to_string().starts_with("V: expected"), "{bad}: {error}");
            assert!(!format!("{error:?}").contains("hunter"));
        }
    }
}
