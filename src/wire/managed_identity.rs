//! Managed identity: what is asked of the platform's endpoint, and what it answers.

use std::time::SystemTime;

use http::HeaderMap;
use serde_json::Value;
use url::form_urlencoded::byte_serialize;

use super::{
    json::{self, Members},
    oauth_error::{self, Failure},
    token::{Answered, TokenAnswer, parse_success},
};
use crate::{Blame, ClientId, Error, ErrorKind, ManagedIdentityId, Secret, identity_id::IdentityKind};

/// The path of the token endpoint on IMDS.
pub(crate) const IMDS_PATH: &str = "/metadata/identity/oauth2/token";
/// IMDS answers in all versions from this one on; it is what every SDK asks for.
const IMDS_VERSION: &str = "2018-02-01";
/// App Service, Functions and Container Apps.
const APP_SERVICE_VERSION: &str = "2019-08-01";

/// The parts of a GET request to an endpoint whose address the provider knows.
#[derive(Debug)]
pub(crate) struct IdentityRequest {
    /// The encoded query, without the question mark.
    pub(crate) query: String,
    /// Name and value; the value is a secret on some platforms.
    pub(crate) headers: Vec<(&'static str, Secret)>,
}

/// Asks IMDS, at [`IMDS_PATH`].
pub(crate) fn imds_request(identity: &ManagedIdentityId, resource: &str) -> IdentityRequest {
    IdentityRequest {
        query: query(IMDS_VERSION, resource, identity, "object_id", "msi_res_id"),
        headers: vec![("metadata", Secret::new("true"))],
    }
}

/// Asks App Service, Functions or Container Apps, at `IDENTITY_ENDPOINT` with `IDENTITY_HEADER`.
pub(crate) fn app_service_request(
    identity: &ManagedIdentityId,
    resource: &str,
    identity_header: &Secret,
) -> IdentityRequest {
    IdentityRequest {
        query: query(APP_SERVICE_VERSION, resource, identity, "principal_id", "mi_res_id"),
        headers: vec![("x-identity-header", identity_header.clone())],
    }
}

/// The platforms differ in how they spell the object id and the resource id: a wrong name is ignored by them, and the
/// token is another identity's.
fn query(
    version: &str,
    resource: &str,
    identity: &ManagedIdentityId,
    object_id: &'static str,
    resource_id: &'static str,
) -> String {
    let who = match &identity.0 {
        IdentityKind::System => None,
        IdentityKind::ClientId(id) => Some(("client_id", id.as_str())),
        IdentityKind::ObjectId(id) => Some((object_id, &**id)),
        IdentityKind::ResourceId(id) => Some((resource_id, &**id)),
    };
    let mut query = format!("api-version={version}&resource={}", encoded(resource));
    if let Some((name, value)) = who {
        query.push('&');
        query.push_str(name);
        query.push('=');
        query.push_str(&encoded(value));
    }
    query
}

/// A blank as `%20`: not every server takes a plus for one. A plus itself is encoded at this point.
fn encoded(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

/// What was asked of a managed-identity endpoint, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AskedIdentity<'a> {
    /// Who answers, as the subject of a sentence: `the instance metadata service`.
    pub(crate) what: &'static str,
    pub(crate) identity: &'a ManagedIdentityId,
    /// When the request was sent.
    pub(crate) sent: SystemTime,
    /// When the answer came.
    pub(crate) now: SystemTime,
}

/// A token, and whose it is.
#[derive(Debug)]
pub(crate) struct IdentityAnswer {
    pub(crate) token: TokenAnswer,
    /// The identity that answered, where the endpoint says so. A machine with one user-assigned identity and none of
    /// its own gives that one's token to who asks for the system-assigned identity: compare.
    pub(crate) client_id: Option<ClientId>,
}

/// Reads the answer of a managed-identity endpoint: IMDS, App Service and their kin.
pub(crate) fn parse_identity_answer(
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    cx: &AskedIdentity<'_>,
) -> Result<IdentityAnswer, Error> {
    let members = json::object(body);
    let is_error = |members: &Members| json::has_error(members) || members.contains_key("statusCode");
    if status >= 400 || members.as_ref().is_some_and(is_error) {
        let failure = oauth_error::read(status, headers, members.as_ref(), cx.now);
        return Err(explain(failure, &members.unwrap_or_default(), status, cx));
    }
    let client_id = members.as_ref().and_then(|members| json::text(members, "client_id"));
    let client_id = client_id.and_then(|id| ClientId::parse(id).ok());
    let (what, carried) = (cx.what, "the endpoint's secret header");
    let answered = Answered { status, headers, what, carried, sent: cx.sent, now: cx.now };
    Ok(IdentityAnswer { token: parse_success(&answered, members)?, client_id })
}

/// What these endpoints tell apart only in words that are meant for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    NoIdentity,
    NoHeader,
    NoResource,
    Nothing,
}

fn said(failure: &Failure, members: &Members) -> Said {
    // The words stand in any of these, by platform. Looked through, never shown.
    let inner = members.get("error").and_then(Value::as_object);
    let texts = ["error", "error_description", "message", "code"].map(|name| members.get(name));
    let inner_texts = ["code", "message"].map(|name| inner.and_then(|inner| inner.get(name)));
    let texts = texts.into_iter().chain(inner_texts).flatten().filter_map(Value::as_str);
    let words: Vec<String> =
        texts.map(|text| text.chars().take(2048).collect::<String>().to_ascii_lowercase()).collect();
    let has = |needles: &[&str]| words.iter().any(|text| needles.iter().any(|needle| text.contains(needle)));
    // Entra's numbers for an unknown resource, passed on by the platform.
    if failure.answer.aadsts.iter().any(|code| matches!(code, 500_011 | 50_001)) || has(&["invalid_resource"])
    {
        Said::NoResource
    } else if has(&[
        "identity not found",
        "identitynotfound",
        "no managed identity",
        "no user assigned",
        "no msi found",
        "has not been assigned",
    ]) {
        Said::NoIdentity
    } else if has(&["bad_request_102", "metadata header not specified", "secretheadernotfound"]) {
        Said::NoHeader
    } else {
        Said::Nothing
    }
}

fn explain(failure: Failure, members: &Members, status: u16, cx: &AskedIdentity<'_>) -> Error {
    use ErrorKind::{Config, Protocol, Resource, Throttled, Unavailable};
    let (what, identity) = (cx.what, cx.identity);
    // App Service may tell the true status in the body of a 200.
    let inner = members.get("statusCode").and_then(json::number).filter(|code| (400.0..600.0).contains(code));
    let meant = if status < 400 { inner.map_or(status, |code| code as u16) } else { status };
    let (kind, blame, message, advice) = match (said(&failure, members), meant) {
        (_, 429) => (
            Throttled,
            Blame::Service,
            format!("{what} asked to slow down"),
            "Wait for as long as it asked, and share one broker between all that ask for tokens.",
        ),
        (Said::NoIdentity, _) => (
            Config,
            Blame::Configuration,
            match cx.identity.is_system() {
                true => format!("{what} has no identity of its own to give a token of"),
                false => format!("{what} does not have {identity}"),
            },
            "Assign the identity to this machine, site or app in the portal, under Identity, and check how it is \
             named here: client id, object id and resource id are three different things.",
        ),
        (Said::NoHeader, _) => (
            Config,
            Blame::Network,
            format!("{what} misses a header in the request"),
            "A proxy may have removed it: managed identity must not go through one.",
        ),
        (Said::NoResource, _) => (
            Resource,
            Blame::Configuration,
            format!("{what} knows no such resource"),
            "Check its spelling, and that it exists in the identity's tenant.",
        ),
        (_, 401 | 403) => (
            Unavailable,
            Blame::Network,
            format!("{what} refused with status {meant}"),
            "A proxy or a firewall may have answered in its stead. On App Service, IDENTITY_HEADER may be of an earlier \
             start of the app.",
        ),
        // A machine that was just started answers 404 or 410 for up to 70 s.
        (_, 404 | 408 | 410 | 500..) => (
            Unavailable,
            Blame::Service,
            format!("{what} is not available at the moment: status {meant}"),
            "It usually passes: try again later. Where it does not, this platform has no such endpoint.",
        ),
        _ => (
            Protocol,
            Blame::Service,
            format!("{what} refused in a way that is not understood: status {meant}"),
            "",
        ),
    };
    let error = Error::new(kind, message).with_blame(blame).with_advice(advice).with_answer(failure.answer);
    match failure.retry_after {
        Some(after) => error.with_retry_after(after),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::wire::testing::{self, CLIENT, MARKER, now};

    const RESOURCE: &str = "https://vault.azure.net";
    const RESOURCE_ID: &str = "/subscriptions/s/resourceGroups/a&b=c/providers/x/\u{fc}+";

    fn parse(
        identity: &ManagedIdentityId,
        status: u16,
        body: impl AsRef<[u8]>,
    ) -> Result<IdentityAnswer, Error> {
        let cx = AskedIdentity { what: "the metadata service", identity, sent: now(), now: now() };
        parse_identity_answer(status, &HeaderMap::new(), body.as_ref(), &cx)
    }

    fn refused(status: u16, body: &Value) -> Error {
        let error = parse(&ManagedIdentityId::system(), status, body.to_string()).unwrap_err();
        assert_eq!(error.status(), Some(status));
        error
    }

    #[test]
    fn imds_is_asked_with_its_own_names() {
        let request = imds_request(&ManagedIdentityId::system(), RESOURCE);
        assert_eq!(request.query, "api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net");
        assert_eq!((request.headers[0].0, request.headers[0].1.expose()), ("metadata", "true"));
        let by = |id: ManagedIdentityId| imds_request(&id, "r").query;
        assert!(by(ManagedIdentityId::client_id(CLIENT).unwrap()).ends_with(&format!("&client_id={CLIENT}")));
        assert!(by(ManagedIdentityId::object_id(CLIENT).unwrap()).ends_with(&format!("&object_id={CLIENT}")));
        assert!(
            by(ManagedIdentityId::resource_id(RESOURCE_ID).unwrap())
                .contains("&msi_res_id=%2Fsubscriptions%2F")
        );
    }

    #[test]
    fn app_service_is_asked_with_its_own_names() {
        let header = Secret::new("hunter2");
        let by = |id: ManagedIdentityId| app_service_request(&id, RESOURCE, &header);
        let request = by(ManagedIdentityId::resource_id(RESOURCE_ID).unwrap());
        assert!(
            request.query.starts_with("api-version=2019-08-01&resource=https")
                && !request.query.contains("msi_")
        );
        let pairs: Vec<_> = url::form_urlencoded::parse(request.query.as_bytes()).into_owned().collect();
        assert_eq!(pairs[2], ("mi_res_id".to_owned(), RESOURCE_ID.to_owned()));
        assert_eq!((request.headers[0].0, request.headers[0].1.expose()), ("x-identity-header", "hunter2"));
        assert!(!format!("{request:?}").contains("hunter2"));
        let object = by(ManagedIdentityId::object_id(CLIENT).unwrap()).query;
        assert!(object.ends_with(&format!("&principal_id={CLIENT}")));
    }

    #[test]
    fn answers_of_all_strings_and_of_few_members_are_read() {
        let system = ManagedIdentityId::system();
        let imds = json!({
            "access_token": "a", "client_id": CLIENT.to_uppercase(), "expires_in": "3599", "expires_on": "1767927731",
            "ext_expires_in": "3599", "not_before": "1767924132", "refresh_token": "", "resource": RESOURCE,
            "token_type": "Bearer",
        });
        let answer = parse(&system, 200, imds.to_string()).unwrap();
        assert_eq!(answer.token.lifetime, Duration::from_secs(3599));
        assert!(answer.token.refresh_token.is_none());
        assert_eq!(answer.client_id.unwrap().as_str(), CLIENT);
        for expires_on in
            [json!(1_767_927_732), json!("1767927732"), json!("1/9/2026 3:02:12 AM +00:00"), json!(3600)]
        {
            let body = json!({"access_token": "a", "expires_on": expires_on, "client_id": "none"});
            let answer = parse(&system, 200, body.to_string()).unwrap();
            assert_eq!(answer.token.lifetime, Duration::from_secs(3600));
            assert_eq!(answer.client_id, None);
        }
    }

    #[test]
    fn an_identity_that_is_not_there_is_a_matter_of_configuration() {
        for (status, body) in [
            (400, json!({"error": "invalid_request", "error_description": "Identity not found"})),
            (
                400,
                json!({"statusCode": 400, "message": "No User Assigned or Delegated Managed Identity found for x"}),
            ),
            (404, json!({"error": {"code": "ManagedIdentityNotFound", "message": "x"}})),
            (500, json!({"statusCode": 500, "message": "No MSI found for specified ClientId/ResourceId."})),
        ] {
            let error = refused(status, &body);
            assert_eq!((error.kind(), error.blame()), (ErrorKind::Config, Blame::Configuration), "{body}");
            assert!(error.to_string().contains("no identity of its own"), "{error}");
            let named =
                parse(&ManagedIdentityId::client_id(CLIENT).unwrap(), status, body.to_string()).unwrap_err();
            assert!(named.to_string().contains(CLIENT), "{named}");
        }
    }

    #[test]
    fn a_missing_header_points_at_a_proxy() {
        for body in [
            json!({"error": "bad_request_102", "error_description": "Required metadata header not specified"}),
            json!({"error": {"code": "SecretHeaderNotFound", "message": "x"}}),
        ] {
            let error = refused(400, &body);
            assert_eq!((error.kind(), error.blame()), (ErrorKind::Config, Blame::Network));
        }
    }

    #[test]
    fn an_unknown_resource_is_the_resources() {
        for body in [
            json!({"error": "invalid_resource", "error_description": "AADSTS500011: x"}),
            json!({"statusCode": 400, "message": "AADSTS500011: x", "correlationId": "aa-1"}),
        ] {
            let error = refused(400, &body);
            assert_eq!((error.kind(), error.aadsts()), (ErrorKind::Resource, &[500_011][..]));
        }
        let error = refused(400, &json!({"statusCode": 400, "message": "x", "correlationId": "aa-1"}));
        assert_eq!(error.correlation_id(), Some("aa-1"));
    }

    #[test]
    fn other_refusals_go_by_status() {
        for (status, kind) in [
            (400, ErrorKind::Protocol),
            (401, ErrorKind::Unavailable),
            (403, ErrorKind::Unavailable),
            (404, ErrorKind::Unavailable),
            (410, ErrorKind::Unavailable),
            (429, ErrorKind::Throttled),
            (500, ErrorKind::Unavailable),
            (503, ErrorKind::Unavailable),
        ] {
            assert_eq!(refused(status, &json!({"error": "odd"})).kind(), kind, "{status}");
            assert_eq!(refused(status, &Value::Null).kind(), kind, "{status}");
        }
        assert_eq!(refused(200, &json!({"statusCode": 500, "message": "x"})).kind(), ErrorKind::Unavailable);
        assert_eq!(refused(200, &json!({"error": "x", "statusCode": 1e300})).kind(), ErrorKind::Protocol);
    }

    #[test]
    fn garbage_is_a_protocol_error_and_nothing_of_it_is_shown() {
        for body in [json!({}), json!([MARKER]), json!({"access_token": MARKER}), json!({"message": MARKER})]
        {
            let error = refused(200, &body);
            assert_eq!(error.kind(), ErrorKind::Protocol);
            assert!(!format!("{error} {error:?}").contains(MARKER));
        }
        for said in ["Identity not found", "bad_request_102", "AADSTS500011", "x"] {
            let text = format!("{said} {MARKER}");
            let body = json!({
                "error": text, "error_description": text, "message": text, "correlationId": text, "claims": text,
            });
            for status in [200, 302, 400, 401, 429, 500] {
                assert!(!format!("{:?}", refused(status, &body)).contains(MARKER));
            }
        }
        let deep = parse(&ManagedIdentityId::system(), 200, "[".repeat(100_000)).unwrap_err();
        assert_eq!(deep.kind(), ErrorKind::Protocol);
    }

    proptest! {
        #[test]
        fn any_answer_is_a_token_or_an_error(status in prop_oneof![Just(200), 0_u16..1000], body in testing::body()) {
            match parse(&ManagedIdentityId::system(), status, &body) {
                Ok(answer) => prop_assert!(!answer.token.access_token.is_empty()),
                Err(error) => prop_assert_eq!(error.status(), Some(status)),
            }
        }

        #[test]
        fn any_resource_is_one_value_of_the_query(resource in "\\PC{0,30}") {
            let query = imds_request(&ManagedIdentityId::system(), &resource).query;
            prop_assert!(query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'+' && byte != b'#'));
            let pairs: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
            prop_assert_eq!(&pairs[1].1, &resource);
            prop_assert_eq!(pairs.len(), 2);
        }
    }
}
