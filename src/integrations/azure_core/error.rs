//! The SDK's errors as ours, as far as they say what happened.

use std::{error::Error as StdError, time::Duration};

use azure_core::{
    error::ErrorKind as Theirs,
    http::{StatusCode, headers::RETRY_AFTER},
};

use crate::{Blame, Error, ErrorKind};

/// The first layer that says what happened decides; the SDK's `Credential` and `Other` say that something did.
pub(super) fn ours(error: azure_core::Error) -> Error {
    let mut layer: Option<&(dyn StdError + 'static)> = Some(&error);
    let mut told = None;
    while let (Some(at), None) = (layer, &told) {
        // A broker below: it has said it all.
        if let Some(error) = at.downcast_ref::<Error>() {
            return error.clone();
        }
        told = at.downcast_ref().and_then(told_by);
        layer = at.source();
    }
    told.unwrap_or_else(unexplained).with_source(error)
}

fn told_by(error: &azure_core::Error) -> Option<Error> {
    const MESSAGE: &str = "the SDK's credential got no token";
    let kind = match error.kind() {
        Theirs::HttpResponse { status, raw_response, .. } => {
            let after =
                raw_response.as_ref().and_then(|response| response.headers().get_optional_str(&RETRY_AFTER));
            let error = Error::new(of_status(*status), format!("{MESSAGE}: status {}", u16::from(*status)));
            let after = after.and_then(|after| after.trim().parse().ok()).map(Duration::from_secs);
            return Some(after.into_iter().fold(error, Error::with_retry_after));
        }
        Theirs::Connection | Theirs::Io => ErrorKind::Unavailable,
        Theirs::DataConversion => ErrorKind::Protocol,
        Theirs::Credential | Theirs::Other => return None,
    };
    Some(Error::new(kind, MESSAGE))
}

fn of_status(status: StatusCode) -> ErrorKind {
    match u16::from(status) {
        401 => ErrorKind::Credential,
        403 => ErrorKind::Policy,
        // Managed identity's endpoints answer so for a while after a start.
        404 | 410 => ErrorKind::Unavailable,
        408 => ErrorKind::Timeout,
        429 => ErrorKind::Throttled,
        400..500 => ErrorKind::Config,
        500.. => ErrorKind::Unavailable,
        _ => ErrorKind::Protocol,
    }
}

/// A command that is missing, a sign-in that has ended, a chain in which nothing worked. It is held for a short time and
/// for its key alone, since it may be anything.
fn unexplained() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the SDK's credential got no token, and does not say why in a way to act upon",
    )
    .with_blame(Blame::Configuration)
    .with_advice("Its own error is the source of this one, and its text says more.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use azure_core::http::{RawResponse, headers::Headers};

    fn answered(status: u16, headers: Headers) -> azure_core::Error {
        let status = StatusCode::from(status);
        let raw_response = Some(Box::new(RawResponse::from_bytes(status, headers, "a body")));
        let answered = Theirs::HttpResponse { status, error_code: None, raw_response };
        let below = azure_core::Error::with_message(answered, "AADSTS");
        // As `azure_identity` wraps it.
        azure_core::Error::with_error(
            Theirs::Credential,
            below,
            "ClientSecretCredential authentication failed.",
        )
    }

    #[test]
    fn a_status_decides_wherever_it_stands() {
        for (status, kind) in [
            (400, ErrorKind::Config),
            (401, ErrorKind::Credential),
            (403, ErrorKind::Policy),
            (404, ErrorKind::Unavailable),
            (408, ErrorKind::Timeout),
            (429, ErrorKind::Throttled),
            (500, ErrorKind::Unavailable),
            (503, ErrorKind::Unavailable),
            (302, ErrorKind::Protocol),
        ] {
            let error = ours(answered(status, Headers::new()));
            assert_eq!((error.kind(), error.retry_after()), (kind, None), "{status}");
            let source = error.source().unwrap().to_string();
            assert!(source.starts_with("ClientSecretCredential"), "{source}");
            assert!(!format!("{error:?}").contains("a body"));
        }
    }

    #[test]
    fn a_pause_that_is_asked_for_is_kept() {
        let after = |value: &'static str| {
            let mut headers = Headers::new();
            headers.insert(RETRY_AFTER, value);
            ours(answered(429, headers)).retry_after()
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(after("soon"), None);
    }

    #[test]
    fn what_says_nothing_is_held_like_something_that_may_pass() {
        let kind = |theirs: Theirs| ours(azure_core::Error::with_message(theirs, "az login")).kind();
        assert_eq!(kind(Theirs::Credential), ErrorKind::Unavailable);
        assert_eq!(kind(Theirs::Other), ErrorKind::Unavailable);
        assert_eq!(kind(Theirs::Connection), ErrorKind::Unavailable);
        assert_eq!(kind(Theirs::Io), ErrorKind::Unavailable);
        assert_eq!(kind(Theirs::DataConversion), ErrorKind::Protocol);
    }

    #[test]
    fn a_broker_below_keeps_its_error() {
        let below =
            Error::new(ErrorKind::ConsentRequired, "consent").with_retry_after(Duration::from_secs(3));
        let theirs = azure_core::Error::with_error(Theirs::Credential, below, "the broker has no token");
        let error = ours(theirs);
        assert_eq!(
            (error.kind(), error.retry_after()),
            (ErrorKind::ConsentRequired, Some(Duration::from_secs(3)))
        );
    }
}
