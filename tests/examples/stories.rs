//! The programs that tell a story: each is run to its end, where it has checked what it told.

use std::{env, fs};

use entra_broker::emulator::{Emulator, Endpoint, Fault, Policy, Requirement, sample};

use super::{Ended, Program};

/// What a program told that ended well.
fn told(ended: &Ended, parts: &[&str]) {
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{}", ended.stdout);
    for part in parts {
        assert!(ended.stdout.contains(part), "{part:?} is missing:\n{}", ended.stdout);
    }
}

/// What a program said that could not begin.
fn refused(ended: &Ended, part: &str) {
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains(part), "{}", ended.stderr);
}

const CHECKED: &str = "\nAll of this was checked while it was told.\n";

#[tokio::test]
async fn the_integrations_of_many_customers_are_told_to_the_end() {
    let ended = Program::example("multi_tenant_integration").run().await;
    let told_customers = ["consent_missing", "tenant_unknown", "app_disabled", "blocked_by_policy"];
    told(&ended, &told_customers);
    told(
        &ended,
        &["to ourselves: The application's own credential", "az ad sp create --id", "adminconsent?", CHECKED],
    );
    for tenant in [sample::OTHER_TENANT, sample::CUSTOMER_WITHOUT_CONSENT] {
        told(&ended, &[&format!("  a token of tenant {tenant}\n")]);
    }
}

#[tokio::test]
async fn a_real_application_is_checked_in_the_tenants_that_are_named() {
    let emulator = Emulator::builder().tls().start().await.unwrap();
    let policy = Policy::new(sample::OTHER_TENANT, Requirement::Blocked).client(sample::SECRET_APP);
    emulator.directory().add_policy(policy);
    let ca = env::temp_dir().join(format!("entra-broker-stories-{}.crt", std::process::id()));
    fs::write(&ca, emulator.ca_pem().unwrap()).unwrap();
    let real = || {
        Program::example("multi_tenant_integration")
            .env("AZURE_TENANT_ID", sample::TENANT)
            .env("AZURE_CLIENT_ID", sample::SECRET_APP)
            .env("AZURE_AUTHORITY_HOST", emulator.authority())
            .env("SSL_CERT_FILE", ca.to_str().unwrap())
    };
    let with_secret = || real().env("AZURE_CLIENT_SECRET", sample::SECRET);
    let ended = with_secret().args([sample::OTHER_TENANT_DOMAIN, sample::TENANT, "nowhere.test"]).run().await;
    let (no_tenant, no_secret) = (with_secret().run().await, real().args([sample::TENANT]).run().await);
    fs::remove_file(&ca).unwrap();

    told(
        &ended,
        &["fabrikam.test: blocked_by_policy\n", "555555555555: trusted\n", "nowhere.test: tenant_unknown\n"],
    );
    assert!(!ended.stdout.contains("checked while it was told"), "it told the other story");
    assert_eq!(emulator.journal().count(|entry| entry.grant_type.is_some()), 3);
    refused(&no_tenant, "usage: ");
    refused(&no_secret, "AZURE_CLIENT_SECRET");
    assert_eq!(emulator.journal().count(|entry| entry.grant_type.is_some()), 3, "nothing was asked");
}

#[tokio::test]
async fn the_connectors_sync_is_told_to_the_end() {
    let ended = Program::example("iam_connector").run().await;
    told(
        &ended,
        &["2800 users and role assignments on 140 pages", "Graph refused 1 token", "expired: 401", CHECKED],
    );
}

#[tokio::test]
async fn a_connector_that_is_half_configured_says_what_is_missing() {
    let half = Program::example("iam_connector").env("BATON_ENTRA_TENANT_ID", sample::TENANT);
    refused(&half.run().await, "BATON_ENTRA_CLIENT_ID");
    let blank = Program::example("iam_connector")
        .env("BATON_ENTRA_TENANT_ID", sample::TENANT)
        .env("BATON_ENTRA_CLIENT_SECRET", sample::SECRET);
    refused(&blank.run().await, "BATON_ENTRA_CLIENT_ID");
}

#[tokio::test]
async fn the_pipelines_night_is_told_to_the_end_with_its_trail() {
    let ended = Program::example("pipeline_managed_identity").run().await;
    told(&ended, &["22:00  The pipeline begins.", "06:00  The pipeline ends.", "no step noticed", CHECKED]);
    // Refreshes, hits and failures of both bindings, and what the broker denied.
    let table = ended.stdout.split("\nfirst ").nth(1).unwrap();
    for row in [
        ["request  (refresh)", "runner", "vault.azure.net", "127.0.0.1:", "token"],
        ["request  (refresh)", "warehouse", "storage.azure.com", "127.0.0.1:", "token"],
        ["call     copy exports", "warehouse", "storage.azure.com", "cache", "token"],
        ["request  (refresh)", "", "", "127.0.0.1:", "unavailable 503"],
        ["call     publish report", "runner", "graph.microsoft.com", "broker", "policy"],
    ] {
        let found = table.lines().any(|line| row.iter().all(|cell| line.contains(cell)));
        assert!(found, "{row:?} is missing:\n{table}");
    }
}

#[tokio::test]
async fn a_real_machines_identities_are_asked_only_where_that_is_said() {
    let emulator = Emulator::start().await.unwrap();
    let program = || {
        Program::example("pipeline_managed_identity")
            .env("AZURE_POD_IDENTITY_AUTHORITY_HOST", emulator.identity_endpoint())
    };
    told(&program().run().await, &[CHECKED]);
    assert_eq!(emulator.journal().len(), 0, "the night is on a machine of its own");

    let ended = program().args(["--real", sample::USER_IDENTITY]).run().await;
    told(&ended, &["load tables: a token", "publish report: this broker may not ask", "\nfirst "]);
    let assigned =
        emulator.journal().count(|entry| entry.client_id.as_deref() == Some(sample::USER_IDENTITY));
    assert_eq!((assigned, emulator.journal().len()), (2, 3));
    let ended = program().args(["--real"]).run().await;
    told(&ended, &["read settings: a token", "copy exports: there is no binding warehouse"]);
    assert_eq!(emulator.journal().len(), 4);
    let refusal = emulator.faults().add(Fault::on(Endpoint::Identity).status(400));
    let ended = program().args(["--real"]).run().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), "not every step got its token\n"));
    assert!(emulator.faults().remove(refusal));
    assert_eq!(emulator.journal().len(), 5);
    refused(&program().args(["--really"]).run().await, "usage: ");
    assert_eq!(emulator.journal().len(), 5);
}
