//! What is asked of each platform's endpoint: each spells it in a way of its own.

use url::form_urlencoded::byte_serialize;

use crate::{ClientId, ManagedIdentityId, Secret, identity_id::IdentityKind};

/// The path of the token endpoint on IMDS.
pub(crate) const IMDS_PATH: &str = "/metadata/identity/oauth2/token";
/// IMDS answers in all versions from this one on; it is what every SDK asks for.
const IMDS_VERSION: &str = "2018-02-01";
/// App Service, Functions and Container Apps.
const APP_SERVICE_VERSION: &str = "2019-08-01";
const ARC_VERSION: &str = "2020-06-01";
const AZURE_ML_VERSION: &str = "2017-09-01";
const SERVICE_FABRIC_VERSION: &str = "2019-07-01-preview";

/// The parts of a request to an endpoint whose address the provider knows.
#[derive(Debug)]
pub(crate) struct IdentityRequest {
    /// The encoded query, without the question mark. Empty where there is none.
    pub(crate) query: String,
    /// Name and value; the value is a secret on some platforms.
    pub(crate) headers: Vec<(&'static str, Secret)>,
    /// The encoded form of a POST. None for a GET.
    pub(crate) form: Option<String>,
}

impl IdentityRequest {
    fn get(query: String, header: &'static str, value: Secret) -> Self {
        Self { query, headers: vec![(header, value)], form: None }
    }
}

/// Asks IMDS, at [`IMDS_PATH`].
pub(crate) fn imds_request(identity: &ManagedIdentityId, resource: &str) -> IdentityRequest {
    let query = query(IMDS_VERSION, resource) + &who(identity, "object_id", "msi_res_id");
    IdentityRequest::get(query, "metadata", metadata())
}

/// Finds out whether IMDS is there: without its header it refuses, as nothing else would, and nothing is asked of it.
pub(crate) fn imds_probe() -> IdentityRequest {
    IdentityRequest { query: format!("api-version={IMDS_VERSION}"), headers: Vec::new(), form: None }
}

/// Asks App Service, Functions or Container Apps, at `IDENTITY_ENDPOINT` with `IDENTITY_HEADER`. `refused` is the hash of
/// a token that is not to be given again.
pub(crate) fn app_service_request(
    identity: &ManagedIdentityId,
    resource: &str,
    identity_header: &Secret,
    refused: Option<&str>,
) -> IdentityRequest {
    let who = who(identity, "principal_id", "mi_res_id");
    let query = query(APP_SERVICE_VERSION, resource) + &who + &to_refresh(refused);
    IdentityRequest::get(query, "x-identity-header", identity_header.clone())
}

/// Asks the agent of Azure Arc, which answers with a challenge first. It has one identity, and a request has no say.
pub(crate) fn arc_request(resource: &str) -> IdentityRequest {
    IdentityRequest::get(query(ARC_VERSION, resource), "metadata", metadata())
}

/// Asks Cloud Shell at `MSI_ENDPOINT`: a form, and no version.
pub(crate) fn cloud_shell_request(resource: &str) -> IdentityRequest {
    let form = format!("resource={}", encoded(resource));
    IdentityRequest { query: String::new(), headers: vec![("metadata", metadata())], form: Some(form) }
}

/// Asks Azure ML at `MSI_ENDPOINT` with `MSI_SECRET`. `client_id` is that of the user-assigned identity, or the one that
/// the platform names as the default.
pub(crate) fn azure_ml_request(
    client_id: Option<&ClientId>,
    resource: &str,
    secret: &Secret,
) -> IdentityRequest {
    // Without the underscore that it has everywhere else, which selects nothing here.
    let who = client_id.map(|id| parameter("clientid", id.as_str())).unwrap_or_default();
    IdentityRequest::get(query(AZURE_ML_VERSION, resource) + &who, "secret", secret.clone())
}

/// Asks Service Fabric at `IDENTITY_ENDPOINT` with `IDENTITY_HEADER`, which stands for the application and its identity.
pub(crate) fn service_fabric_request(
    resource: &str,
    secret: &Secret,
    refused: Option<&str>,
) -> IdentityRequest {
    let query = query(SERVICE_FABRIC_VERSION, resource) + &to_refresh(refused);
    IdentityRequest::get(query, "secret", secret.clone())
}

fn metadata() -> Secret {
    Secret::new("true")
}

fn query(version: &str, resource: &str) -> String {
    format!("api-version={version}&resource={}", encoded(resource))
}

/// The platforms differ in how they spell the object id and the resource id: a wrong name is ignored by them, and the
/// token is another identity's.
fn who(identity: &ManagedIdentityId, object_id: &'static str, resource_id: &'static str) -> String {
    match &identity.0 {
        IdentityKind::System => String::new(),
        IdentityKind::ClientId(id) => parameter("client_id", id.as_str()),
        IdentityKind::ObjectId(id) => parameter(object_id, id),
        IdentityKind::ResourceId(id) => parameter(resource_id, id),
    }
}

/// Who has a token with this hash in its cache makes a new one; who has made one meanwhile gives that.
fn to_refresh(refused: Option<&str>) -> String {
    refused.map(|hash| parameter("token_sha256_to_refresh", hash)).unwrap_or_default()
}

fn parameter(name: &str, value: &str) -> String {
    format!("&{name}={}", encoded(value))
}

/// A blank as `%20`: not every server takes a plus for one. A plus itself is encoded at this point.
fn encoded(text: &str) -> String {
    byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::testing::CLIENT;

    const RESOURCE: &str = "https://vault.azure.net";
    const RESOURCE_ID: &str = "/subscriptions/s/resourceGroups/a&b=c/providers/x/\u{fc}+";

    fn ids() -> [ManagedIdentityId; 4] {
        [
            ManagedIdentityId::system(),
            ManagedIdentityId::client_id(CLIENT).unwrap(),
            ManagedIdentityId::object_id(CLIENT).unwrap(),
            ManagedIdentityId::resource_id(RESOURCE_ID).unwrap(),
        ]
    }

    fn pairs(encoded: &str) -> Vec<(String, String)> {
        url::form_urlencoded::parse(encoded.as_bytes()).into_owned().collect()
    }

    /// The names of a query in their order, with the first value: the version.
    fn shape(request: &IdentityRequest) -> (String, Vec<String>) {
        let pairs = pairs(&request.query);
        let version = pairs.first().map(|(_, value)| value.clone()).unwrap_or_default();
        (version, pairs.into_iter().map(|(name, _)| name).collect())
    }

    fn header(request: &IdentityRequest) -> (&'static str, &str) {
        assert_eq!(request.headers.len(), 1);
        (request.headers[0].0, request.headers[0].1.expose())
    }

    #[test]
    fn each_platform_is_asked_with_its_own_version_header_and_names() {
        let secret = Secret::new("hunter2");
        let client_id = ClientId::parse(CLIENT).unwrap();
        let (imds, app) =
            (&["client_id", "object_id", "msi_res_id"], &["client_id", "principal_id", "mi_res_id"]);
        for (at, id) in ids().iter().enumerate() {
            for (request, version, names, with) in [
                (imds_request(id, RESOURCE), "2018-02-01", imds, ("metadata", "true")),
                (
                    app_service_request(id, RESOURCE, &secret, None),
                    "2019-08-01",
                    app,
                    ("x-identity-header", "hunter2"),
                ),
            ] {
                let mut expected = vec!["api-version", "resource"];
                expected.extend(at.checked_sub(1).map(|at| names[at]));
                assert_eq!(
                    shape(&request),
                    (version.to_owned(), expected.iter().map(ToString::to_string).collect())
                );
                assert_eq!(header(&request), with);
                assert!(request.form.is_none());
            }
        }
        for (request, version, with) in [
            (arc_request(RESOURCE), "2020-06-01", ("metadata", "true")),
            (azure_ml_request(None, RESOURCE, &secret), "2017-09-01", ("secret", "hunter2")),
            (service_fabric_request(RESOURCE, &secret, None), "2019-07-01-preview", ("secret", "hunter2")),
        ] {
            assert_eq!(
                request.query,
                format!("api-version={version}&resource=https%3A%2F%2Fvault.azure.net")
            );
            assert_eq!(header(&request), with);
            assert!(!format!("{request:?}").contains("hunter2"));
        }
        let ml = azure_ml_request(Some(&client_id), RESOURCE, &secret);
        assert!(ml.query.ends_with(&format!("&clientid={CLIENT}")), "{}", ml.query);
    }

    #[test]
    fn cloud_shell_is_sent_a_form() {
        let request = cloud_shell_request("https://vault.azure.net/a b");
        assert_eq!(request.form.as_deref(), Some("resource=https%3A%2F%2Fvault.azure.net%2Fa%20b"));
        assert_eq!((request.query.as_str(), header(&request)), ("", ("metadata", "true")));
    }

    #[test]
    fn a_probe_asks_for_nothing_and_lacks_the_header_that_a_true_request_has() {
        let probe = imds_probe();
        assert_eq!((probe.query.as_str(), probe.headers.len()), ("api-version=2018-02-01", 0));
    }

    #[test]
    fn a_refused_token_is_named_by_its_hash_where_the_platform_can_be_told() {
        let secret = Secret::new("s");
        for request in [
            app_service_request(&ManagedIdentityId::system(), RESOURCE, &secret, Some("ab12")),
            service_fabric_request(RESOURCE, &secret, Some("ab12")),
        ] {
            assert!(request.query.ends_with("&token_sha256_to_refresh=ab12"), "{}", request.query);
        }
    }

    #[test]
    fn a_resource_id_is_one_value() {
        let id = ManagedIdentityId::resource_id(RESOURCE_ID).unwrap();
        let last = pairs(&imds_request(&id, RESOURCE).query).pop().unwrap();
        assert_eq!(last, ("msi_res_id".to_owned(), RESOURCE_ID.to_owned()));
    }

    proptest! {
        #[test]
        fn any_resource_is_one_value_of_the_query(resource in "\\PC{0,30}") {
            let secret = Secret::new("s");
            for encoded in [
                imds_request(&ManagedIdentityId::system(), &resource).query,
                arc_request(&resource).query,
                service_fabric_request(&resource, &secret, None).query,
                azure_ml_request(None, &resource, &secret).query,
                cloud_shell_request(&resource).form.unwrap(),
            ] {
                prop_assert!(encoded.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'+' && byte != b'#'));
                let pairs = pairs(&encoded);
                prop_assert_eq!(&pairs.last().unwrap().1, &resource);
                prop_assert!(pairs.len() <= 2);
            }
        }
    }
}
