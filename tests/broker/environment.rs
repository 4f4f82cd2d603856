//! What the environment's variables make: an application, and the default chain.

use std::sync::Arc;

use entra_broker::{
    Broker, Chain, Env, Environment, Error, ErrorKind, Provider as _, WorkloadIdentity,
    emulator::{Endpoint, Fault, sample},
};

use crate::{overheard::Overheard, support::*};

fn application(world: &World) -> Env {
    Env::empty()
        .set("AZURE_TENANT_ID", sample::TENANT)
        .set("AZURE_CLIENT_ID", sample::SECRET_APP)
        .set("AZURE_AUTHORITY_HOST", world.emulator.authority())
}

fn environment(env: &Env) -> Environment {
    Environment::new(env).dangerous().allow_plain_http()
}

#[tokio::test]
async fn the_environment_makes_an_application_of_its_variables() {
    let world = World::new().await;
    let env = application(&world).set("AZURE_CLIENT_SECRET", sample::SECRET);
    let client = environment(&env).client().unwrap();
    assert_eq!(client.name(), "client-secret");
    world.get(world.builder().build(client).unwrap().get_token(VAULT)).await.unwrap();

    // Under another prefix, beside the platform's own.
    let env = Env::empty()
        .set("AZURE_CLIENT_SECRET", "somebody-elses")
        .set("BATON_ENTRA_TENANT_ID", sample::TENANT)
        .set("BATON_ENTRA_CLIENT_ID", sample::SECRET_APP)
        .set("BATON_ENTRA_CLIENT_SECRET", sample::SECRET)
        .set("BATON_ENTRA_AUTHORITY_HOST", world.emulator.authority());
    let client = environment(&env).prefix("BATON_ENTRA_").client().unwrap();
    world.get(world.builder().build(client).unwrap().get_token(VAULT)).await.unwrap();

    // Plain http is taken by name only.
    let error = Environment::new(&env).prefix("BATON_ENTRA_").client().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[test]
fn a_partial_set_of_variables_names_what_is_missing() {
    let (tenant, client) = (("TENANT_ID", sample::TENANT), ("CLIENT_ID", sample::SECRET_APP));
    let secret = ("CLIENT_SECRET", "s");
    let token = ("FEDERATED_TOKEN_FILE", "/nowhere/token");
    let certificate = ("CLIENT_CERTIFICATE_PATH", "/nowhere/cert.pem");
    for (set, missing) in [
        (&[secret][..], "TENANT_ID"),
        (&[secret, tenant], "CLIENT_ID"),
        (&[secret, client], "TENANT_ID"),
        (&[("CLIENT_SECRET_FILE", "/nowhere"), client], "TENANT_ID"),
        (&[token], "TENANT_ID"),
        (&[token, tenant], "CLIENT_ID"),
        (&[tenant], "CLIENT_ID"),
        (&[tenant, client], "CLIENT_SECRET"),
        (&[tenant, client, certificate], "cert.pem"),
        (&[tenant, ("CLIENT_ID", "not a guid"), secret], "client id"),
        (&[("TENANT_ID", "../x"), client, secret], "tenant"),
        (&[tenant, client, ("CLIENT_SECRET", "s\n")], "client secret"),
        (&[tenant, client, secret, ("AUTHORITY_HOST", "http://far.example")], "authority"),
        (&[tenant, client, secret, ("REGIONAL_AUTHORITY_NAME", "West Europe!")], "region"),
    ] {
        for prefix in ["AZURE_", "BATON_ENTRA_"] {
            let env: Env = set.iter().map(|(name, value)| (format!("{prefix}{name}"), *value)).collect();
            let environment = Environment::new(&env).prefix(prefix);
            let error = environment.client().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{set:?}: {error}");
            let told = format!("{error} {}", error.advice());
            assert!(told.contains(missing), "{set:?}: {told}");
            let by_chain = environment.default_chain().unwrap_err();
            assert_eq!(by_chain.to_string(), error.to_string(), "never silently passed over");
        }
    }
    for nothing in [&[][..], &[client]] {
        let env: Env = nothing.iter().map(|(name, value)| (format!("AZURE_{name}"), *value)).collect();
        assert_eq!(Environment::new(&env).client().unwrap_err().kind(), ErrorKind::NotAvailable);
    }
}

#[test]
fn a_malformed_variable_is_named_with_its_prefix() {
    let good = [("TENANT_ID", sample::TENANT), ("CLIENT_ID", sample::SECRET_APP), ("CLIENT_SECRET", "s")];
    for (name, bad) in [
        ("TENANT_ID", "hunter2"),
        ("CLIENT_ID", "hunter2"),
        ("CLIENT_SECRET", "hunter2\n"),
        ("AUTHORITY_HOST", "http://far.example"),
        ("REGIONAL_AUTHORITY_NAME", "West Europe!"),
    ] {
        for prefix in ["AZURE_", "BATON_ENTRA_"] {
            let env: Env = good.iter().map(|(name, value)| (format!("{prefix}{name}"), *value)).collect();
            let error = Environment::new(&env.set(format!("{prefix}{name}"), bad)).prefix(prefix).client();
            let error = error.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            assert!(error.to_string().contains(&format!("{prefix}{name}: ")), "{error}");
            assert!(!error.advice().is_empty() && !format!("{error:?}").contains("hunter2"), "{error}");
        }
    }
    let error =
        Environment::new(&Env::empty().set("AZURE_CLIENT_ID", "hunter2")).managed_identity().unwrap_err();
    assert!(error.to_string().contains("AZURE_CLIENT_ID: "), "{error}");
}

/// As a file or a secret of Kubernetes often ends. The secret's own value is told about it instead: it may be meant.
#[tokio::test]
async fn line_ends_around_what_is_no_secret_are_left_out() {
    let world = World::new().await;
    let env = Env::empty()
        .set("AZURE_TENANT_ID", format!("{}\n", sample::TENANT))
        .set("AZURE_CLIENT_ID", format!(" {}\r\n", sample::SECRET_APP))
        .set("AZURE_AUTHORITY_HOST", format!("{}\n", world.emulator.authority()))
        .set("AZURE_CLIENT_SECRET", sample::SECRET);
    let client = environment(&env).client().unwrap();
    world.get(world.builder().build(client).unwrap().get_token(VAULT)).await.unwrap();
    let env = env.set("AZURE_FEDERATED_TOKEN_FILE", "/nowhere/token").set("AZURE_AUTHORITY_HOST", "");
    WorkloadIdentity::from_env(&env).unwrap();
}

#[tokio::test]
async fn an_application_on_a_machine_that_takes_no_identity_by_name_has_its_chain() {
    let world = World::new().await;
    // Azure Arc has one identity only. The client id is the application's.
    let env = application(&world)
        .set("IDENTITY_ENDPOINT", "http://localhost:1/metadata/identity/oauth2/token")
        .set("IMDS_ENDPOINT", "http://localhost:1")
        .set("PATH", "/nonexistent");
    let alone = Env::empty()
        .set("AZURE_CLIENT_ID", sample::SECRET_APP)
        .set("IDENTITY_ENDPOINT", "http://localhost:1/")
        .set("IMDS_ENDPOINT", "http://localhost:1");
    let chain = environment(&env.set("AZURE_CLIENT_SECRET", sample::SECRET)).default_chain().unwrap();
    world.get(world.builder().build(chain).unwrap().get_token(VAULT)).await.unwrap();
    // Where it can only be meant for the machine's identity, it is a mistake.
    assert_eq!(environment(&alone).default_chain().unwrap_err().kind(), ErrorKind::Config);
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf8_is_named_and_ends_the_chain() {
    use std::os::unix::ffi::OsStringExt as _;
    for name in ["AZURE_CLIENT_SECRET", "AZURE_TENANT_ID", "AZURE_TOKEN_CREDENTIALS", "IDENTITY_ENDPOINT"] {
        let value = std::ffi::OsString::from_vec(b"hunter2\xff".to_vec());
        let error = Environment::new(&Env::empty().set(name, value)).default_chain().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(name) && !format!("{error:?}").contains("hunter2"), "{error}");
    }
}

/// Nobody is signed in, and no program is installed.
fn bare() -> Env {
    Env::empty().set("PATH", "/nonexistent")
}

/// Programs are looked for in real time.
async fn in_real_time(world: &World, chain: Chain) -> Error {
    let broker = Broker::builder().transport(world.transport()).build(chain).unwrap();
    world.see(broker.get_token(VAULT).await).unwrap_err()
}

#[tokio::test]
async fn the_default_chain_lists_all_that_it_looked_for() {
    let world = World::new().await;
    world.emulator.faults().add(Fault::on(Endpoint::Identity).refuse());
    let error = in_real_time(&world, environment(&bare()).default_chain().unwrap()).await;
    assert_eq!(error.kind(), ErrorKind::NotAvailable, "{error}");
    let told = error.to_string();
    let places: Vec<_> = [
        "environment: ",
        "workload-identity: ",
        "managed-identity: ",
        "azure-cli: ",
        "azure-developer-cli: ",
    ]
    .iter()
    .map(|link| told.find(link).unwrap_or_else(|| panic!("{link} in {told}")))
    .collect();
    assert!(places.is_sorted(), "{told}");
}

#[tokio::test]
async fn the_default_chain_takes_the_machines_identity_where_imds_answers() {
    let world = World::new().await;
    let chain = Arc::new(environment(&bare()).default_chain().unwrap());
    let broker = world.builder().build(Arc::clone(&chain)).unwrap();
    world.get(broker.get_token(VAULT)).await.unwrap();
    assert_eq!(chain.chosen(), Some("managed-identity"));
    let probe = &world.emulator.journal().entries()[0];
    assert_eq!(probe.header("metadata"), None, "asked first whether it is there");
    let asked = world.requests();
    world.get(broker.get_token(STORAGE)).await.unwrap();
    assert_eq!(world.requests(), asked + 1, "and not any more");
}

#[tokio::test]
async fn the_default_chain_prefers_the_applications_own_credential_and_stays_with_it() {
    let world = World::new().await;
    let env = application(&world).set("AZURE_CLIENT_SECRET", sample::SECRET).set("PATH", "/nonexistent");
    let chain = Arc::new(environment(&env).default_chain().unwrap());
    let broker = world.builder().build(Arc::clone(&chain)).unwrap();
    world.get(broker.get_token(VAULT)).await.unwrap();
    assert_eq!(chain.chosen(), Some("environment"));
    // Refused now: the machine's identity is not taken in its stead.
    world.emulator.faults().add(Fault::on(Endpoint::TokenService).error(7_000_222));
    let error = world.get(broker.get_token(STORAGE)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credential);
}

#[tokio::test]
async fn azure_token_credentials_chooses_among_the_links() {
    let world = World::new().await;
    world.emulator.faults().add(Fault::on(Endpoint::Identity).refuse());
    for (value, there, not) in [
        ("prod", &["environment: ", "managed-identity: "][..], &["azure-cli: "][..]),
        ("dev", &["azure-cli: ", "azure-developer-cli: "], &["environment: ", "managed-identity: "]),
        ("AzureCliCredential", &["azure-cli: "], &["azure-developer-cli: ", "environment: "]),
    ] {
        let env = bare().set("AZURE_TOKEN_CREDENTIALS", value);
        let told = in_real_time(&world, environment(&env).default_chain().unwrap()).await.to_string();
        assert!(there.iter().all(|link| told.contains(link)), "{value}: {told}");
        assert!(!not.iter().any(|link| told.contains(link)), "{value}: {told}");
    }
    let error = environment(&bare().set("AZURE_TOKEN_CREDENTIALS", "VisualStudioCredential"))
        .default_chain()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[cfg(feature = "certificate")]
#[test]
fn a_password_without_the_certificate_that_it_is_for_is_a_partial_set() {
    let (tenant, client) = (("TENANT_ID", sample::TENANT), ("CLIENT_ID", sample::CERT_APP));
    let password = ("CLIENT_CERTIFICATE_PASSWORD", "hunter2");
    for (set, missing) in [
        (&[password][..], "TENANT_ID"),
        (&[password, client], "TENANT_ID"),
        (&[password, tenant], "CLIENT_ID"),
        (&[password, tenant, client], "CLIENT_CERTIFICATE_PATH"),
    ] {
        for prefix in ["AZURE_", "BATON_ENTRA_"] {
            let env: Env = set.iter().map(|(name, value)| (format!("{prefix}{name}"), *value)).collect();
            let environment = Environment::new(&env).prefix(prefix);
            for error in [environment.client().unwrap_err(), environment.default_chain().unwrap_err()] {
                assert_eq!(error.kind(), ErrorKind::Config, "never silently the machine's identity: {error}");
                assert!(error.to_string().contains(&format!("{prefix}{missing}")), "{set:?}: {error}");
                assert!(!error.advice().is_empty() && !format!("{error:?}").contains("hunter2"));
            }
        }
    }
}

#[tokio::test]
async fn a_region_of_the_variables_is_asked() {
    let world = World::new().await;
    let env = Env::empty()
        .set("AZURE_TENANT_ID", sample::TENANT)
        .set("AZURE_CLIENT_ID", sample::SECRET_APP)
        .set("AZURE_CLIENT_SECRET", sample::SECRET)
        .set("AZURE_REGIONAL_AUTHORITY_NAME", "westeurope");
    let wire = Overheard::new(&world);
    let client = Environment::new(&env).client().unwrap();
    let broker = world.builder().transport(wire.clone()).build(client).unwrap();
    world.get(broker.get_token(VAULT)).await.unwrap();
    assert_eq!(wire.hosts(), ["westeurope.login.microsoft.com"]);
}

#[cfg(feature = "certificate")]
#[tokio::test]
async fn a_certificate_of_the_variables_gets_a_token_with_its_password_and_its_chain() {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    use crate::certificate_material::{PASSWORD, fixture, fixture_path};

    let pem = String::from_utf8(fixture("app.pem")).unwrap();
    for (chain, sent) in [(None, false), (Some("0"), false), (Some("1"), true), (Some("True"), true)] {
        let world = World::new().await;
        world.expect_unsaid(PASSWORD);
        let own = entra_broker::emulator::Certificate::from_pem(&pem).unwrap();
        assert!(world.emulator.directory().add_certificate(sample::CERT_APP, own));
        let mut env = Env::empty()
            .set("AZURE_TENANT_ID", sample::TENANT)
            .set("AZURE_CLIENT_ID", sample::CERT_APP)
            .set("AZURE_CLIENT_CERTIFICATE_PATH", fixture_path("modern.p12"))
            .set("AZURE_CLIENT_CERTIFICATE_PASSWORD", PASSWORD)
            .set("AZURE_AUTHORITY_HOST", world.emulator.authority());
        if let Some(chain) = chain {
            env = env.set("AZURE_CLIENT_SEND_CERTIFICATE_CHAIN", chain);
        }
        let client = Environment::new(&env).dangerous().allow_plain_http().client().unwrap();
        let wire = Overheard::new(&world);
        let broker = world.builder().transport(wire.clone()).build(client).unwrap();
        world.get_over_the_wire(async move { broker.get_token(VAULT).await }).await.unwrap();

        let [heard] = &wire.take()[..] else { panic!("one request") };
        let header = heard.form["client_assertion"].split('.').next().unwrap();
        let header = URL_SAFE_NO_PAD.decode(header).unwrap();
        let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
        assert_eq!(header.get("x5c").is_some(), sent, "{chain:?}: {header}");
    }
}
