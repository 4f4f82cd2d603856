//! Which platform it is, and for whom it can be asked.

use super::*;

fn detected(variables: &[(&str, &str)], arc_is_installed: bool) -> String {
    match Platform::detect(&env(variables), |_| arc_is_installed) {
        Ok(platform) => {
            let request = platform.request(&ManagedIdentityId::system(), "r", None).unwrap();
            let host = request.uri().authority().unwrap().as_str();
            format!("{} at {host}{}", platform.kind().name(), request.uri().path())
        }
        Err(error) => format!("{}: {error}", error.kind().name()),
    }
}

const ENDPOINT: (&str, &str) = ("IDENTITY_ENDPOINT", "https://127.0.0.1:41741/msi/token");
const HEADER: (&str, &str) = ("IDENTITY_HEADER", "h");
const THUMBPRINT: (&str, &str) = ("IDENTITY_SERVER_THUMBPRINT", "00112233445566778899AABBCCDDEEFF00112233");
const IMDS: (&str, &str) = ("IMDS_ENDPOINT", "http://localhost:40342");
const MSI: (&str, &str) = ("MSI_ENDPOINT", "http://localhost:50342/oauth2/token");
const SECRET: (&str, &str) = ("MSI_SECRET", "s");
const POD: (&str, &str) = ("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://169.254.1.2/");

#[test]
fn the_platform_is_told_by_its_variables_in_the_order_in_which_all_clients_look() {
    let path = "/metadata/identity/oauth2/token";
    let imds = format!("imds at 169.254.169.254{path}");
    let arc = format!("azure-arc at localhost:40342{path}");
    let (endpoint, msi) = ("127.0.0.1:41741/msi/token", "localhost:50342/oauth2/token");
    for (variables, installed, expected) in [
        (&[][..], false, imds.clone()),
        (&[POD], false, format!("imds at 169.254.1.2{path}")),
        (&[IMDS], false, imds),
        (&[], true, arc.clone()),
        (&[IMDS], true, arc.clone()),
        (&[MSI], true, arc),
        (&[MSI], false, format!("cloud-shell at {msi}")),
        (&[MSI, SECRET], false, format!("azure-ml at {msi}")),
        (&[MSI, SECRET], true, format!("azure-ml at {msi}")),
        (&[MSI, SECRET, ENDPOINT, IMDS], true, format!("azure-ml at {msi}")),
        (&[ENDPOINT, IMDS], false, format!("azure-arc at {endpoint}")),
        (&[ENDPOINT, IMDS, MSI], true, format!("azure-arc at {endpoint}")),
        (&[ENDPOINT, HEADER], false, format!("app-service at {endpoint}")),
        (&[ENDPOINT, HEADER, IMDS, MSI, SECRET], true, format!("app-service at {endpoint}")),
        (&[ENDPOINT, HEADER, THUMBPRINT, IMDS, MSI, SECRET], true, format!("service-fabric at {endpoint}")),
        // A half is not passed over.
        (&[ENDPOINT], false, "config: IDENTITY_ENDPOINT is set, but IDENTITY_HEADER is not".into()),
        (&[ENDPOINT, MSI], true, "config: IDENTITY_ENDPOINT is set, but IDENTITY_HEADER is not".into()),
        (&[HEADER], true, "config: IDENTITY_HEADER is set, but IDENTITY_ENDPOINT is not".into()),
        (&[SECRET], true, "config: MSI_SECRET is set, but MSI_ENDPOINT is not".into()),
        (
            &[THUMBPRINT],
            false,
            "config: IDENTITY_SERVER_THUMBPRINT is set, but IDENTITY_ENDPOINT is not".into(),
        ),
    ] {
        assert_eq!(detected(variables, installed), expected, "{variables:?} {installed}");
    }
}

#[test]
fn a_variable_that_makes_no_sense_is_named_and_its_value_is_not_shown() {
    let http = ("IDENTITY_ENDPOINT", "http://127.0.0.1:1/hunter2");
    let bad_header = ("IDENTITY_HEADER", "hunter2\r\nX-Evil: 1");
    for (variables, name) in [
        (&[ENDPOINT, bad_header][..], "IDENTITY_HEADER"),
        (&[("IDENTITY_ENDPOINT", "hunter2"), HEADER], "IDENTITY_ENDPOINT"),
        (&[("IDENTITY_ENDPOINT", "http://hunter2.example/"), IMDS], "IDENTITY_ENDPOINT"),
        (&[http, HEADER, THUMBPRINT], "IDENTITY_ENDPOINT: expected an https URL"),
        (&[ENDPOINT, HEADER, ("IDENTITY_SERVER_THUMBPRINT", "hunter2")], "IDENTITY_SERVER_THUMBPRINT"),
        (&[("MSI_ENDPOINT", "http://10.0.0.1/hunter2")], "MSI_ENDPOINT"),
        (&[("MSI_ENDPOINT", "ftp://localhost/hunter2"), SECRET], "MSI_ENDPOINT"),
        (&[MSI, ("MSI_SECRET", "hunter2\n")], "MSI_SECRET"),
        (&[MSI, SECRET, ("DEFAULT_IDENTITY_CLIENT_ID", "hunter2")], "DEFAULT_IDENTITY_CLIENT_ID"),
        (&[("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://169.254.1.2/hunter2")], "nothing behind it"),
        (&[("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://169.254.1.2/?hunter2")], "nothing behind it"),
    ] {
        let told = detected(variables, false);
        assert!(told.starts_with("config: ") && told.contains(name), "{variables:?}: {told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
}

#[test]
fn plain_http_goes_to_this_machine_or_a_link_local_address_only() {
    for near in [
        "http://localhost:1/",
        "http://[::1]:1/",
        "http://169.254.130.4:8081/msi/token",
        "https://far.example/",
    ] {
        let told = detected(&[("IDENTITY_ENDPOINT", near), HEADER], false);
        assert!(told.starts_with("app-service"), "{near}: {told}");
    }
    for far in [
        "http://10.0.0.1/",
        "http://far.example/",
        "http://localhost.far.example/",
        "http://user:hunter2@localhost/",
        "http://localhost/#f",
        "ftp://localhost/",
        "localhost",
    ] {
        let told = detected(&[("IDENTITY_ENDPOINT", far), HEADER], false);
        assert!(told.starts_with("config: IDENTITY_ENDPOINT") && !told.contains("hunter2"), "{far}: {told}");
    }
}

#[test]
fn a_platform_that_takes_no_identity_by_name_refuses_one_and_never_gives_another() {
    let ids = || {
        [
            ManagedIdentityId::client_id(USER).unwrap(),
            ManagedIdentityId::object_id(USER).unwrap(),
            ManagedIdentityId::resource_id("/subscriptions/s/x").unwrap(),
        ]
    };
    for (name, env) in platforms() {
        let takes = match name {
            "imds" | "app-service" => 3,
            "azure-ml" => 1,
            _ => 0,
        };
        assert!(ManagedIdentity::detect(ManagedIdentityId::system(), &env, |_| false).is_ok());
        for (at, id) in ids().into_iter().enumerate() {
            match ManagedIdentity::detect(id, &env, |_| false) {
                Ok(identity) => assert!(at < takes && !identity.is_system(), "{name} {at}"),
                Err(error) => {
                    assert!(at >= takes, "{name} {at}: {error}");
                    assert_eq!(error.kind(), ErrorKind::Config);
                    assert!(error.to_string().contains("takes") && !error.advice().is_empty(), "{error}");
                }
            }
        }
    }
}

#[test]
fn azure_ml_is_asked_for_the_default_that_it_names_and_held_to_it() {
    let default = ("DEFAULT_IDENTITY_CLIENT_ID", USER);
    let own = ManagedIdentity::detect(ManagedIdentityId::system(), &env(&[MSI, SECRET, default]), |_| false)
        .unwrap();
    let (ended, double, _) = fetch(&own, false, [Reply::Answer(200, TOKEN)]);
    ended.unwrap();
    assert!(double.query(0).ends_with(&format!("&clientid={USER}")), "{}", double.query(0));
    let others =
        r#"{"access_token":"t","expires_on":"3600","client_id":"99999999-aaaa-2222-bbbb-3333cccc4444"}"#;
    let (ended, ..) = fetch(&own, false, [Reply::Answer(200, others)]);
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Protocol);
    let (ended, ..) = fetch(&system("azure-ml"), false, [Reply::Answer(200, others)]);
    assert_eq!(ended.unwrap().account.as_deref(), Some("99999999-aaaa-2222-bbbb-3333cccc4444"));
}
