//! The directory as a file: what it says, and where it is wrong.

#![expect(clippy::unwrap_used, reason = "what goes wrong here fails a test")]

use crate::signer::Signer;
use crate::support::*;
use entra_broker::emulator::{Directory, DirectoryError, Emulator, sample};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::Path;

/// Seven lines that every directory below begins with, so that line 8 is the first of a test's own.
const START: &str = r#"[[tenants]]
id = "11111111-2222-3333-4444-555555555555"
domains = ["contoso.test"]
[[users]]
name = "alice@contoso.test"
[[resources]]
identifier = "api://orders"
"#;

const APP: &str = "client_id = \"aaaaaaaa-0000-0000-0000-000000000009\"\ntenant = \"contoso.test\"";

fn mistake(text: &str) -> DirectoryError {
    Directory::from_toml(&format!("{START}{text}")).unwrap_err()
}

#[test]
fn the_sample_is_its_file_and_has_what_its_constants_name() {
    assert_eq!(Directory::from_toml(sample::TOML).unwrap().to_json(), Directory::sample().to_json());
    let shown = Directory::sample().to_json();
    let has = |list: &str, name: &str, value: &str| {
        let list = shown[list].as_array().unwrap();
        assert!(list.iter().any(|item| item[name] == value), "{value}");
    };
    for (id, domain) in [
        (sample::TENANT, sample::TENANT_DOMAIN),
        (sample::OTHER_TENANT, sample::OTHER_TENANT_DOMAIN),
        (sample::CUSTOMER_WITHOUT_CONSENT, sample::CUSTOMER_WITHOUT_CONSENT_DOMAIN),
    ] {
        has("tenants", "id", id);
        let tenants = shown["tenants"].as_array().unwrap();
        assert!(tenants.contains(&json!({"id": id, "domains": [domain]})));
    }
    for name in [sample::ALICE, sample::BOB, sample::CAROL] {
        has("users", "name", name);
    }
    for name in [sample::ADMIN, sample::OTHER_ADMIN, sample::CUSTOMER_ADMIN] {
        let users = shown["users"].as_array().unwrap();
        assert!(users.iter().any(|user| user["name"] == name && user["admin"] == true));
    }
    for client_id in [sample::PUBLIC_APP, sample::SECRET_APP, sample::CERT_APP] {
        has("apps", "client_id", client_id);
    }
    for client_id in [sample::SYSTEM_IDENTITY, sample::USER_IDENTITY] {
        has("managed_identities", "client_id", client_id);
    }
    has("managed_identities", "object_id", sample::USER_IDENTITY_OBJECT_ID);
    has("managed_identities", "resource_id", sample::USER_IDENTITY_RESOURCE_ID);
    for identifier in
        [sample::STORAGE, sample::GRAPH, sample::RESOURCE_MANAGER, sample::KEY_VAULT, sample::API]
    {
        has("resources", "identifier", identifier);
    }
    let app = &shown["apps"][1];
    assert_eq!(app["redirect_uris"], json!([sample::REDIRECT_URI]));
    assert_eq!(app["secrets"], json!([{"expired": false}, {"expired": true}]));
    let principals = shown["service_principals"].as_array().unwrap();
    let own = principals.iter().find(|found| found["client_id"] == sample::SECRET_APP).unwrap();
    assert_eq!(own["roles"], json!([{"resource": sample::API, "roles": [sample::API_ROLE]}]));
    assert!(sample::TOML.contains(sample::SECRET) && sample::TOML.contains(sample::EXPIRED_SECRET));
    assert!(sample::TOML.contains(sample::APP_SERVICE_HEADER) && sample::TOML.contains(sample::API_SCOPE));
}

#[test]
fn what_is_shown_holds_no_secret_and_can_be_read_again_once_they_are_given() {
    let directory = Directory::sample();
    directory.set_password(sample::ALICE, "only~this");
    let text = directory.to_json().to_string();
    for secret in [sample::SECRET, sample::EXPIRED_SECRET, sample::APP_SERVICE_HEADER, "only~this"] {
        assert!(!text.contains(secret), "{secret}");
    }
    let error = Directory::from_json(&text).unwrap_err();
    assert_eq!(error.field(), Some("users[3].has_password"));

    let mut shown = Directory::sample().to_json();
    shown["apps"][1]["secrets"] = json!([sample::SECRET, {"value": "b", "expired": true}]);
    let again = Directory::from_json(&shown.to_string()).unwrap();
    assert_eq!(again.to_json(), Directory::sample().to_json());
}

#[test]
fn everything_can_be_said_and_in_any_order() {
    let text = r#"
        [[policies]]
        tenant = "CONTOSO.test"
        requires = "sign-in-frequency"
        seconds = 60
        resource = "api://orders/"
        client = "aaaaaaaa-0000-0000-0000-000000000001"
        user = "alice@contoso.test"

        [[service_principals]]
        tenant = "contoso.test"
        client_id = "AAAAAAAA-0000-0000-0000-000000000001"
        enabled = false
        roles = [{ resource = "api://orders", roles = ["Read"] }]
        consents = [
            { resource = "api://orders", scopes = ["read"] },
            { user = "Alice@contoso.test", resource = "api://orders", scopes = ["write"] },
        ]
        assigned = ["alice@contoso.test"]

        [[managed_identities]]
        client_id = "bbbbbbbb-0000-0000-0000-000000000001"
        tenant = "contoso.test"
        roles = [{ resource = "api://orders", roles = ["Run"] }]

        [[apps]]
        client_id = "AAAAAAAA-0000-0000-0000-000000000001"
        tenant = "contoso.test"
        name = "Orders"
        secrets = ["a", { value = "b", expired = true }]
        federated = [{ issuer = "https://i.test", subject = "s" }]
        redirect_uris = ["https://orders.test/cb", "myapp://auth"]
        spa_redirect_uris = ["http://localhost/spa"]
        multi_tenant = true
        enabled = false
        assignment_required = true
        permissions = [{ resource = "api://orders", scopes = ["read"] }]
        cloud = "microsoftonline.us"

        [[users]]
        name = "alice@contoso.test"
        password = "p"
        display_name = "A"
        email = "a@example.test"
        object_id = "CCCCCCCC-0000-0000-0000-000000000001"
        groups = ["dddddddd-0000-0000-0000-000000000001"]
        guest_in = ["fabrikam.test"]
        admin = true
        enabled = false

        [[resources]]
        identifier = "api://orders"
        aliases = ["https://orders.test"]
        app_id = "eeeeeeee-0000-0000-0000-000000000001"
        v2 = true
        scopes = ["read"]
        admin_scopes = ["write"]
        only_in = ["contoso.test"]
        enabled = false

        [[tenants]]
        id = "11111111-2222-3333-4444-555555555555"
        domains = ["Contoso.test"]

        [[tenants]]
        id = "22222222-2222-3333-4444-555555555555"
        domains = ["fabrikam.test"]
        cloud = "microsoftonline.us"

        [settings]
        token_lifetime = 60
        identity_cache = true
        stale_expires_in = true
        expires_on = "iso8601"
        refresh_rotation = "revoke-family"
        device_interval = 1
    "#;
    let shown = Directory::from_toml(text).unwrap().to_json();
    assert_eq!(
        shown["settings"],
        json!({"token_lifetime": 60, "identity_cache": true, "stale_expires_in": true, "expires_on": "iso8601", "refresh_rotation": "revoke-family", "device_interval": 1})
    );
    assert_eq!(shown["users"][0]["object_id"], "cccccccc-0000-0000-0000-000000000001");
    assert_eq!(shown["users"][0]["guest_in"], json!(["22222222-2222-3333-4444-555555555555"]));
    assert_eq!(shown["resources"][0]["admin_scopes"], json!(["write"]));
    assert_eq!(shown["apps"][0]["federated"][0]["audience"], "api://AzureADTokenExchange");
    assert_eq!(shown["apps"][0]["enabled"], false);
    let principals = shown["service_principals"].as_array().unwrap();
    assert_eq!(principals[0]["consents"].as_array().unwrap().len(), 2);
    assert_eq!(principals[1]["roles"], json!([{"resource": "api://orders", "roles": ["Run"]}]));
    assert_eq!(shown["policies"][0]["seconds"], 60);
}

#[test]
fn a_mistake_is_told_with_its_line_and_field() {
    let guid = "aaaaaaaa-0000-0000-0000-000000000009";
    for (text, line, field, message) in [
        ("x = 1", 8, "resources[0].x", "unknown field"),
        ("[other]", 8, "other", "unknown field"),
        (
            "[settings]\ntoken_lifetime = \"1\"",
            9,
            "settings.token_lifetime",
            "expected a whole number, found a text",
        ),
        ("[settings]\ntoken_lifetime = -1", 9, "settings.token_lifetime", "not negative"),
        ("[settings]\nrefresh_rotation = \"no\"", 9, "settings.refresh_rotation", "keep-old"),
        ("[[tenants]]\nid = \"1\"", 9, "tenants[1].id", "\"1\" is no GUID"),
        ("[[tenants]]\nid = \"11111111-2222-3333-4444-555555555555\"", 9, "tenants[1].id", "twice"),
        (
            "[[tenants]]\nid = \"21111111-2222-3333-4444-555555555555\"\ndomains = [\n\"contoso.test\"]",
            11,
            "tenants[1].domains[0]",
            "already",
        ),
        (
            "[[users]]\nname = \"bob@contoso.tets\"",
            9,
            "users[1].name",
            "no tenant has the domain \"contoso.tets\"",
        ),
        ("[[users]]\nname = \"bob\"", 9, "users[1].name", "expected a name like"),
        ("[[users]]\nname = \"ALICE@contoso.test\"", 9, "users[1].name", "twice"),
        ("[[users]]\n", 8, "users[1].name", "missing"),
        (
            "[[users]]\nname = \"bob@contoso.test\"\nadmin = \"yes\"",
            10,
            "users[1].admin",
            "expected true or false, found a text",
        ),
        ("[[resources]]\nidentifier = \"api://orders/\"", 9, "resources[1].identifier", "twice"),
        (
            "[[resources]]\nidentifier = \"api://x\"\ntoken_version = 3",
            10,
            "resources[1].token_version",
            "1 or 2",
        ),
        ("[[apps]]\nclient_id = \"x\"\ntenant = \"contoso.test\"", 9, "apps[0].client_id", "no GUID"),
        (
            &format!("[[apps]]\nclient_id = \"{guid}\"\ntenant = \"contoso.tets\""),
            10,
            "apps[0].tenant",
            "no tenant \"contoso.tets\" in this file",
        ),
        (
            &format!("[[apps]]\n{APP}\nredirect_uris = [\n\"https://a.test\",\n\"/cb\",\n]"),
            13,
            "apps[0].redirect_uris[1]",
            "no absolute URI",
        ),
        (
            &format!("[[apps]]\n{APP}\nredirect_uris = [\"javascript:alert(1)\"]"),
            11,
            "apps[0].redirect_uris[0]",
            "javascript",
        ),
        (&format!("[[apps]]\n{APP}\npublic = true\nsecrets = [\"a\"]"), 12, "apps[0].secrets[0]", "public"),
        (
            &format!("[[apps]]\n{APP}\nsecrets = [{{ valeu = \"a\" }}]"),
            11,
            "apps[0].secrets[0].value",
            "missing",
        ),
        (
            &format!("[[apps]]\n{APP}\ncertificates = [\"app.crt\"]"),
            11,
            "apps[0].certificates[0]",
            "no files here",
        ),
        (&format!("[[apps]]\n{APP}\n[[apps]]\n{APP}"), 12, "apps[1].client_id", "twice"),
        (
            &format!("[[apps]]\n{APP}\npermissions = [{{ resource = \"api://x\", scopes = [] }}]"),
            11,
            "apps[0].permissions[0].resource",
            "no resource",
        ),
        (
            &format!("[[service_principals]]\n{APP}"),
            9,
            "service_principals[0].client_id",
            "no app or managed identity",
        ),
        (
            &format!("[[apps]]\n{APP}\n[[service_principals]]\n{APP}\nassigned = [\"bob@contoso.test\"]"),
            14,
            "service_principals[0].assigned[0]",
            "no user",
        ),
        (
            "[[policies]]\ntenant = \"contoso.test\"\nrequires = \"mfa\"\nuser = \"bob@contoso.test\"",
            11,
            "policies[0].user",
            "no user",
        ),
        (
            "[[policies]]\ntenant = \"contoso.test\"\nrequires = \"sign-in-frequency\"",
            10,
            "policies[0].requires",
            "seconds",
        ),
        (
            "[[policies]]\ntenant = \"contoso.test\"\nrequires = \"moon\"",
            10,
            "policies[0].requires",
            "expected",
        ),
        ("[[issuers]]\nurl = \"issuer\"", 9, "issuers[0].url", "http"),
    ] {
        let error = mistake(text);
        assert_eq!((error.line(), error.field()), (Some(line), Some(field)), "{text}\n{error}");
        assert!(error.message().contains(message), "{error}");
        assert!(error.to_string().starts_with(&format!("line {line}: {field}: ")), "{error}");
        assert!(!error.to_string().contains('\n'));
    }
}

#[test]
fn a_text_that_is_no_toml_or_json_is_told_with_its_line() {
    let error = mistake("[[users]\n");
    assert_eq!((error.line(), error.field()), (Some(8), None));
    let error = Directory::from_json("{\n  \"users\": [,]\n}").unwrap_err();
    assert_eq!((error.line(), error.column(), error.field()), (Some(2), Some(13), None));
    let error = Directory::from_json("{\n\"users\": [],\n\"users\": []}").unwrap_err();
    assert_eq!(error.line(), Some(3));
    assert!(error.message().contains("twice"));
    let error = Directory::from_json("[]").unwrap_err();
    assert_eq!(error.to_string(), "line 1: expected a table, found a list");
}

#[test]
fn json_mistakes_are_told_with_their_lines_too() {
    let text = "{\n\"tenants\": [{\"id\": \"11111111-2222-3333-4444-555555555555\"}],\n\"apps\": [\n{\n\"client_id\": \"aaaaaaaa-0000-0000-0000-000000000009\",\n  \"tenant\": \"contoso.tets\"}]}";
    let error = Directory::from_json(text).unwrap_err();
    assert_eq!((error.line(), error.column()), (Some(6), Some(13)));
    assert_eq!(error.to_string(), "line 6: apps[0].tenant: no tenant \"contoso.tets\" in this file");
}

#[test]
fn a_file_is_read_by_its_name_and_names_itself_in_a_mistake() {
    let folder = std::env::temp_dir().join(format!("entra-broker-directory-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let toml = write("directory.toml", &format!("\u{feff}{}", sample::TOML));
    assert_eq!(Directory::load(&toml, None).unwrap().to_json(), Directory::sample().to_json());
    let mut shown = Directory::sample().to_json();
    shown["apps"] = json!([]);
    shown["service_principals"] = json!([]);
    let json = write("directory.json", &shown.to_string());
    assert_eq!(Directory::load(&json, None).unwrap().to_json()["users"], shown["users"]);

    let wrong = write("wrong.toml", &format!("{START}[[apps]]\n{APP}\ncertificates = [\"none.crt\"]"));
    let error = Directory::load(&wrong, None).unwrap_err();
    assert_eq!(error.file(), Some(wrong.as_path()));
    let place = format!("{}:11: apps[0].certificates[0]: ", wrong.display());
    assert!(error.to_string().starts_with(&place), "{error}");
    assert!(error.to_string().contains("none.crt: it cannot be read"), "{error}");
    let error = Directory::load(Path::new("/no/such.toml"), None).unwrap_err();
    assert!(error.to_string().starts_with("/no/such.toml: it cannot be read: "), "{error}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn certificates_and_key_sets_are_texts_or_files() {
    let folder = std::env::temp_dir().join(format!("entra-broker-certs-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("certs")).unwrap();
    let known = Directory::sample();
    known.add_certificate(sample::CERT_APP, Signer::first().certificate());
    let pem = known.to_json()["apps"][2]["certificates"][0].as_str().unwrap().to_owned();
    let emulator = Emulator::in_memory();
    let jwks = ask(&emulator, get("/contoso.test/discovery/v2.0/keys", &[])).await.json();
    std::fs::write(folder.join("certs/app.crt"), &pem).unwrap();
    std::fs::write(folder.join("keys.json"), jwks.to_string()).unwrap();
    let issuer = |jwks: &str| format!("[[issuers]]\nurl = \"https://issuer.test\"\njwks = {jwks}\n");
    let app = format!(
        "{APP}\ncertificates = [\"app.crt\", '''{pem}''']\ntrusted_issuers = [{{ certificate = \"app.crt\", subject = \"a\" }}]"
    );
    let file = folder.join("directory.toml");
    std::fs::write(&file, format!("{START}[[apps]]\n{app}\n{}", issuer("\"keys.json\""))).unwrap();
    let shown = Directory::load(&file, Some(&folder.join("certs"))).unwrap().to_json();
    assert_eq!(shown["apps"][0]["certificates"], json!([pem, pem]));
    assert_eq!(shown["apps"][0]["trusted_issuers"], json!([{"certificate": pem, "subject": "a"}]));
    assert_eq!(shown["issuers"], json!([{"url": "https://issuer.test", "jwks": true}]));
    assert_eq!(Directory::load(&file, None).unwrap_err().field(), Some("apps[0].certificates[0]"));
    std::fs::remove_dir_all(&folder).unwrap();

    let inline =
        json!({"issuers": [{"url": "https://issuer.test", "jwks": jwks}, {"url": "https://own.test"}]});
    let shown = Directory::from_json(&inline.to_string()).unwrap().to_json();
    // By URL.
    assert_eq!(shown["issuers"][1], json!({"url": "https://own.test"}));
    let error = mistake(&issuer("'{}'"));
    assert_eq!((error.line(), error.field()), (Some(10), Some("issuers[0].jwks")), "{error}");
    let error = mistake(&format!("[[apps]]\n{APP}\ncertificates = [\n'-----BEGIN CERTIFICATE-----']"));
    assert_eq!((error.line(), error.field()), (Some(12), Some("apps[0].certificates[0]")), "{error}");
}

#[tokio::test]
async fn a_directory_takes_anothers_place_at_once_and_revoked_sessions_stay_revoked() {
    let emulator = Emulator::in_memory();
    emulator.directory().consent_for_all(sample::TENANT, sample::PUBLIC_APP, sample::GRAPH, &["User.Read"]);
    let form = [
        ("grant_type", "password"),
        ("client_id", sample::PUBLIC_APP),
        ("username", sample::ALICE),
        ("password", "any"),
        ("scope", "https://graph.microsoft.com/User.Read offline_access"),
    ];
    let given = ask(&emulator, post(TOKEN_PATH, &form)).await.json();
    emulator.directory().revoke_sessions(sample::ALICE);
    emulator.directory().replace(Directory::sample());
    let token = given["refresh_token"].as_str().unwrap();
    let form = [("grant_type", "refresh_token"), ("client_id", sample::PUBLIC_APP), ("refresh_token", token)];
    ask(&emulator, post(TOKEN_PATH, &form)).await.is_entra_error(400, "invalid_grant", 50173);
    emulator.directory().replace(Directory::new());
    ask(&emulator, post(TOKEN_PATH, &good())).await.is_entra_error(400, "invalid_request", 90002);
    // Nor do they come back to life with a user who was away.
    emulator.directory().replace(Directory::sample());
    ask(&emulator, post(TOKEN_PATH, &form)).await.is_entra_error(400, "invalid_grant", 50173);
}

#[test]
fn no_nesting_is_too_deep_to_be_refused() {
    for text in
        ["[".repeat(100_000), "{\"a\":".repeat(100_000), format!("{}1{}", "[".repeat(100), "]".repeat(100))]
    {
        assert!(Directory::from_json(&text).is_err());
    }
    for text in [
        format!("a = {}", "[".repeat(100_000)),
        format!("a{} = 1", ".a".repeat(100_000)),
        format!("[a{}]", ".a".repeat(100_000)),
        format!("a = {}1{}", "[".repeat(60), "]".repeat(60)),
    ] {
        assert!(Directory::from_toml(&text).is_err());
    }
}

/// The sample with one piece of it cut out, doubled or replaced.
fn spoiled() -> impl Strategy<Value = String> {
    let length = sample::TOML.len();
    (0..length, 0..200_usize, "[\\PC\n]{0,12}").prop_map(move |(at, cut, put)| {
        let mut bytes = sample::TOML.as_bytes().to_vec();
        let end = (at + cut).min(length);
        bytes.splice(at..end, put.into_bytes());
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_text_makes_the_reader_panic(text in "[\\PC\n]{0,200}") {
        for error in [Directory::from_toml(&text).err(), Directory::from_json(&text).err()].into_iter().flatten() {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn a_spoiled_file_is_read_or_refused_with_a_line_of_it(text in spoiled()) {
        if let Err(error) = Directory::from_toml(&text) {
            let lines = text.matches('\n').count() + 1;
            prop_assert!((1..=lines).contains(&error.line().unwrap_or(0)), "{error}");
            prop_assert!(!error.to_string().contains('\n'), "{error}");
        }
    }

    #[test]
    fn spoiled_json_never_panics(at in 0..4000_usize, put in "[\\PC\n]{0,4}") {
        let shown: Value = Directory::sample().to_json();
        let mut text: Vec<char> = serde_json::to_string_pretty(&shown).unwrap().chars().collect();
        let at = at.min(text.len() - 1);
        text.splice(at..=at, put.chars());
        let _ = Directory::from_json(&text.into_iter().collect::<String>());
    }
}

#[test]
fn a_certificate_may_be_missing_where_the_file_says_so() {
    let folder = std::env::temp_dir().join(format!("entra-broker-optional-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("sample.toml");
    std::fs::write(&file, sample::TOML).unwrap();
    let certificates =
        || Directory::load(&file, None).map(|d| d.to_json()["apps"][2]["certificates"].clone());
    assert_eq!(certificates().unwrap(), Value::Null, "the sample serves without its certificate");

    let known = Directory::sample();
    known.add_certificate(sample::CERT_APP, Signer::first().certificate());
    let pem = known.to_json()["apps"][2]["certificates"][0].clone();
    std::fs::write(folder.join("app.crt"), pem.as_str().unwrap()).unwrap();
    assert_eq!(certificates().unwrap(), json!([pem]));
    std::fs::write(folder.join("app.crt"), "no certificate").unwrap();
    assert!(certificates().unwrap_err().to_string().contains("apps[2].certificates[0]"));
    std::fs::remove_file(folder.join("app.crt")).unwrap();
    std::fs::write(&file, sample::TOML.replace("optional = true", "optional = false")).unwrap();
    assert!(certificates().unwrap_err().to_string().contains("app.crt: it cannot be read"));
    std::fs::remove_dir_all(&folder).unwrap();
}
