use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::wire::testing::{self, CLIENT, MARKER, now};

const RESOURCE: &str = "https://vault.azure.net";
const RESOURCE_ID: &str = "/subscriptions/s/resourceGroups/g/providers/x/y";

fn parse(identity: &ManagedIdentityId, status: u16, body: impl AsRef<[u8]>) -> Result<IdentityAnswer, Error> {
    parse_of(PlatformKind::Imds, identity, status, body)
}

fn parse_of(
    platform: PlatformKind,
    identity: &ManagedIdentityId,
    status: u16,
    body: impl AsRef<[u8]>,
) -> Result<IdentityAnswer, Error> {
    let cx = AskedIdentity { platform, identity, probing: false, sent: now(), now: now() };
    parse_identity_answer(status, &HeaderMap::new(), body.as_ref(), &cx)
}

fn refused(status: u16, body: &Value) -> Error {
    let error = parse(&ManagedIdentityId::system(), status, body.to_string()).unwrap_err();
    assert_eq!(error.status(), Some(status));
    error
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
fn in_a_chain_no_identity_is_no_provider_and_a_named_one_that_is_missing_is_a_mistake() {
    let body = json!({"error": "invalid_request", "error_description": "Identity not found"}).to_string();
    for (identity, kind) in [
        (ManagedIdentityId::system(), ErrorKind::NotAvailable),
        (ManagedIdentityId::client_id(CLIENT).unwrap(), ErrorKind::Config),
    ] {
        let platform = PlatformKind::Imds;
        let cx = AskedIdentity { platform, identity: &identity, probing: true, sent: now(), now: now() };
        let error = parse_identity_answer(400, &HeaderMap::new(), body.as_bytes(), &cx).unwrap_err();
        assert_eq!((error.kind(), error.blame()), (kind, Blame::Configuration), "{identity}");
    }
}

#[test]
fn of_several_identities_one_has_to_be_named() {
    let said = "Multiple user assigned identities exist, please specify the clientId / resourceId";
    let error = refused(400, &json!({"error": "invalid_request", "error_description": said}));
    assert_eq!((error.kind(), error.blame()), (ErrorKind::Config, Blame::Configuration));
    assert!(error.advice().contains("client id"), "{}", error.advice());
}

#[test]
fn a_token_that_says_that_it_is_anothers_is_refused_however_the_identity_was_named() {
    let other = "99999999-aaaa-2222-bbbb-3333cccc4444";
    let resource_id = "/SUBSCRIPTIONS/s/resourcegroups/g/providers/x/y/";
    for (asked, own, anothers) in [
        (
            ManagedIdentityId::client_id(CLIENT).unwrap(),
            json!({"client_id": CLIENT.to_uppercase()}),
            json!({"client_id": other}),
        ),
        (
            ManagedIdentityId::object_id(CLIENT).unwrap(),
            json!({"object_id": CLIENT.to_uppercase(), "client_id": other}),
            json!({"principal_id": other}),
        ),
        (
            ManagedIdentityId::resource_id(RESOURCE_ID).unwrap(),
            json!({"msi_res_id": resource_id, "client_id": other}),
            json!({"mi_res_id": "/subscriptions/s/another"}),
        ),
    ] {
        let answer = |members: Value| {
            let mut body = json!({"access_token": MARKER, "expires_in": 3600});
            body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            parse(&asked, 200, body.to_string())
        };
        assert!(answer(own).is_ok() && answer(json!({})).is_ok(), "{asked}");
        let error = answer(anothers).unwrap_err();
        assert_eq!((error.kind(), error.blame()), (ErrorKind::Protocol, Blame::Service), "{error}");
        assert!(!format!("{error} {error:?}").contains(MARKER));
    }
    let system = json!({"access_token": "a", "expires_in": 1, "client_id": other}).to_string();
    assert_eq!(parse(&ManagedIdentityId::system(), 200, system).unwrap().client_id.unwrap().as_str(), other);
}

#[test]
fn what_is_no_redirect_is_not_called_one() {
    let said = |status| refused(status, &json!({})).to_string();
    for status in [301, 302, 303, 307, 308] {
        assert!(said(status).contains("redirect"), "{status}");
    }
    for status in [304, 305, 306, 399, 199] {
        assert!(said(status).contains("a status that ends no request"), "{status}: {}", said(status));
    }
    assert!(!refused(302, &json!({})).advice().contains("authority"));
}

#[test]
fn each_platform_says_what_to_do_in_its_own_words() {
    use PlatformKind::{AppService, Arc, AzureMl, CloudShell, Imds, ServiceFabric};
    let not_found = json!({"error": {"code": "ManagedIdentityNotFound"}}).to_string();
    let mut names = std::collections::BTreeSet::new();
    for (platform, assign, refuses) in [
        (Imds, "portal", "proxy"),
        (AppService, "portal", "IDENTITY_HEADER"),
        (Arc, "Azure Arc", "agent"),
        (CloudShell, "shell", "proxy"),
        (AzureMl, "portal", "MSI_SECRET"),
        (ServiceFabric, "manifest", "IDENTITY_HEADER"),
    ] {
        assert!(names.insert(platform.name()));
        let system = ManagedIdentityId::system();
        let error = parse_of(platform, &system, 404, &not_found).unwrap_err();
        assert!(error.advice().contains(assign), "{platform:?}: {}", error.advice());
        assert!(error.to_string().starts_with(platform.what()));
        let error = parse_of(platform, &system, 401, "").unwrap_err();
        assert!(error.advice().contains(refuses), "{platform:?}: {}", error.advice());
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
        json!({"error": {"code": "BadRequest", "message": "AADSTS500011: x"}}),
    ] {
        let error = refused(400, &body);
        assert_eq!((error.kind(), error.aadsts()), (ErrorKind::Resource, &[500_011][..]));
    }
    let error = refused(400, &json!({"error": {"code": "AudienceNotSupported", "message": "Audience x"}}));
    assert_eq!(error.kind(), ErrorKind::Resource);
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
    for body in [json!({}), json!([MARKER]), json!({"access_token": MARKER}), json!({"message": MARKER})] {
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
    fn any_answer_of_any_platform_is_a_token_or_an_error(
        status in prop_oneof![Just(200), 0_u16..1000],
        body in testing::body(),
        header in "\\PC{0,30}",
        platform in 0_usize..6,
        named in any::<bool>(),
        probing in any::<bool>(),
    ) {
        use PlatformKind::{AppService, Arc, AzureMl, CloudShell, Imds, ServiceFabric};
        let mut headers = HeaderMap::new();
        for name in ["retry-after", "content-type", "x-ms-request-id"] {
            if let Ok(value) = http::HeaderValue::from_bytes(header.as_bytes()) {
                headers.insert(name, value);
            }
        }
        let id = if named { ManagedIdentityId::client_id(CLIENT).unwrap() } else { ManagedIdentityId::system() };
        let platform = [Imds, AppService, Arc, CloudShell, AzureMl, ServiceFabric][platform];
        let cx = AskedIdentity { platform, identity: &id, probing, sent: now(), now: now() };
        match parse_identity_answer(status, &headers, &body, &cx) {
            Ok(answer) => {
                prop_assert!(!answer.token.access_token.is_empty());
                prop_assert!(!named || answer.client_id.is_none_or(|id| id.as_str() == CLIENT));
            }
            // What belongs to an answer that was read is lost only where the token is another's.
            Err(error) => prop_assert!(error.status() == Some(status) || error.kind() == ErrorKind::Protocol),
        }
    }
}
