//! The token that a pipeline's platform gives to the job which asks for it.

use std::time::SystemTime;

use http::HeaderMap;
use serde_json::Value;

use super::{json, oauth_error};
use crate::{Blame, Error, ErrorKind, Secret};

/// The platforms, which differ in the name of one member and in what helps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pipeline {
    Azure,
    GitHub,
}

impl Pipeline {
    /// As the subject of a sentence.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Azure => "Azure Pipelines",
            Self::GitHub => "GitHub Actions",
        }
    }

    fn member(self) -> &'static str {
        match self {
            Self::Azure => "oidcToken",
            Self::GitHub => "value",
        }
    }

    fn refused(self) -> &'static str {
        match self {
            Self::Azure => {
                "Pass $(System.AccessToken) of the running job on as SYSTEM_ACCESSTOKEN, and see that the pipeline is \
                 permitted to use the service connection."
            }
            Self::GitHub => {
                "Give the job `permissions: id-token: write`. Its request token ends with the job and works for no other."
            }
        }
    }

    fn unknown(self) -> &'static str {
        match self {
            Self::Azure => {
                "Compare the service connection's id with the one in its URL in the project's settings, and see that its \
                 authentication is workload identity federation."
            }
            Self::GitHub => "See that ACTIONS_ID_TOKEN_REQUEST_URL is passed on as GitHub set it.",
        }
    }
}

/// Reads the answer to a request for a job's token.
pub(crate) fn parse_oidc_answer(
    pipeline: Pipeline,
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    now: SystemTime,
) -> Result<Secret, Error> {
    let mut members = json::object(body).unwrap_or_default();
    // First, so that it is overwritten when it goes, whatever the status.
    let token = match members.remove(pipeline.member()) {
        Some(Value::String(text)) => Some(Secret::new(text)).filter(|token| !token.is_empty()),
        _ => None,
    };
    let name = pipeline.name();
    let (kind, blame, message, advice) = match status {
        // 203, and a redirect, lead to a page to sign in at: that is how Azure DevOps refuses a token.
        203 | 300..=399 | 401 | 403 => (
            ErrorKind::Credential,
            Blame::Configuration,
            format!("{name} refused to give this job a token: status {status}"),
            pipeline.refused(),
        ),
        200..=299 => match token {
            Some(token) if token.expose().bytes().all(|byte| byte.is_ascii_graphic()) => return Ok(token),
            Some(_) => (
                ErrorKind::Protocol,
                Blame::Service,
                format!("{name} answered {status} with a token that is no JWT"),
                "A proxy on the way may have answered in its stead.",
            ),
            None => (
                ErrorKind::Protocol,
                Blame::Service,
                format!("{name} answered {status} with no token"),
                "A proxy on the way may have answered in its stead.",
            ),
        },
        400 | 404 => (
            ErrorKind::Config,
            Blame::Configuration,
            format!("{name} does not know what it was asked for: status {status}"),
            pipeline.unknown(),
        ),
        429 => (
            ErrorKind::Throttled,
            Blame::Service,
            format!("{name} asked this job to slow down"),
            "Wait for as long as it asked, and share one broker between all that ask for tokens.",
        ),
        408 | 500..=599 => (
            ErrorKind::Unavailable,
            Blame::Service,
            format!("{name} is not available at the moment: status {status}"),
            "It is on the service's side, and usually passes: try again later.",
        ),
        _ => (
            ErrorKind::Protocol,
            Blame::Service,
            format!("{name} answered {status}, which says nothing"),
            "A proxy on the way may have answered in its stead.",
        ),
    };
    // The status and what the headers say. The body is another service's, and may repeat what it was asked.
    let failure = oauth_error::read(status, headers, None, now);
    let error = Error::new(kind, message).with_blame(blame).with_advice(advice).with_answer(failure.answer);
    Err(match failure.retry_after {
        Some(after) => error.with_retry_after(after),
        None => error,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::wire::testing::{self, MARKER, now};

    fn of(pipeline: Pipeline, status: u16, body: &str) -> Result<Secret, Error> {
        parse_oidc_answer(pipeline, status, &HeaderMap::new(), body.as_bytes(), now())
    }

    #[test]
    fn each_platform_has_its_member() {
        let body = r#"{"oidcToken":"azures","value":"githubs","count":1}"#;
        assert_eq!(of(Pipeline::Azure, 200, body).unwrap().expose(), "azures");
        assert_eq!(of(Pipeline::GitHub, 200, body).unwrap().expose(), "githubs");
    }

    #[test]
    fn each_status_has_its_kind_and_says_what_to_do() {
        let good = format!(r#"{{"oidcToken":"{MARKER}","value":"{MARKER}"}}"#);
        for (status, kind) in [
            (203, ErrorKind::Credential),
            (302, ErrorKind::Credential),
            (401, ErrorKind::Credential),
            (403, ErrorKind::Credential),
            (400, ErrorKind::Config),
            (404, ErrorKind::Config),
            (429, ErrorKind::Throttled),
            (408, ErrorKind::Unavailable),
            (500, ErrorKind::Unavailable),
            (503, ErrorKind::Unavailable),
            (418, ErrorKind::Protocol),
            (100, ErrorKind::Protocol),
        ] {
            for pipeline in [Pipeline::Azure, Pipeline::GitHub] {
                let error = of(pipeline, status, &good).unwrap_err();
                assert_eq!((error.kind(), error.status()), (kind, Some(status)), "{error}");
                assert!(error.to_string().starts_with(pipeline.name()) && !error.advice().is_empty());
                assert!(!format!("{error:?}").contains(MARKER));
            }
        }
        assert!(of(Pipeline::GitHub, 403, "").unwrap_err().advice().contains("id-token: write"));
    }

    #[test]
    fn what_is_no_token_is_none() {
        for body in ["", "<html>", "[]", "{}", r#"{"value":""}"#, r#"{"value":1}"#, r#"{"value":"a b"}"#] {
            assert_eq!(of(Pipeline::GitHub, 200, body).unwrap_err().kind(), ErrorKind::Protocol, "{body}");
        }
    }

    #[test]
    fn a_pause_that_is_asked_for_is_kept() {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", HeaderValue::from_static("7"));
        let error = parse_oidc_answer(Pipeline::Azure, 429, &headers, b"", now()).unwrap_err();
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    }

    proptest! {
        #[test]
        fn any_answer_is_a_token_or_an_error_that_shows_nothing(status in 100_u16..600, body in testing::body()) {
            let mut body = body;
            body.extend_from_slice(MARKER.as_bytes());
            match parse_oidc_answer(Pipeline::GitHub, status, &HeaderMap::new(), &body, now()) {
                Ok(token) => prop_assert!(!token.is_empty()),
                Err(error) => {
                    let shown = format!("{error:?}");
                    prop_assert!(!shown.contains(MARKER));
                }
            }
        }
    }
}
