//! `get_token` by every provider that there is, each as its user would have it run.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::Stdio,
};

use entra_broker::emulator::{Emulator, FederatedCredential, Issuer, sample};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
};

use super::{Ended, Program, VAULT, claims, get_token};

const CLUSTER: &str = "https://oidc.cluster.test/1/";
const SUBJECT: &str = "system:serviceaccount:shop:orders";
const EXCHANGE: &str = "api://AzureADTokenExchange";

/// A directory of this test alone, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        let dir =
            std::env::temp_dir().join(format!("entra-broker-{}-{}", std::process::id(), fastrand::u64(..)));
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.0.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A program on the path.
    #[cfg(unix)]
    fn program(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.write(name, format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn path(&self) -> String {
        self.0.to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// An emulator where the application without a secret trusts a cluster.
async fn trusting() -> Emulator {
    let emulator = Emulator::start().await.unwrap();
    emulator.directory().add_issuer(Issuer::new(CLUSTER));
    assert!(emulator.directory().add_federated(sample::CERT_APP, FederatedCredential::new(CLUSTER, SUBJECT)));
    emulator
}

async fn assertion(emulator: &Emulator) -> String {
    emulator.federated_token(CLUSTER, SUBJECT, EXCHANGE).await.unwrap()
}

fn application(emulator: &Emulator, provider: &str) -> Program {
    get_token()
        .args(["--scope", VAULT, "--dangerous-plain-http", "--show-token", "--provider", provider])
        .env("AZURE_TENANT_ID", sample::TENANT)
        .env("AZURE_CLIENT_ID", sample::CERT_APP)
        .env("AZURE_AUTHORITY_HOST", emulator.authority())
}

/// The claims of the one token that was shown.
fn token_of(ended: &Ended, provider: &str) -> Value {
    let lines = ended.tokens();
    assert_eq!((&lines[0]["provider"], &lines[0]["source"]), (&json!(provider), &json!("fetched")));
    claims(lines[0]["token"].as_str().unwrap())
}

/// The token is the application's, which showed an assertion.
fn is_the_applications(ended: &Ended, provider: &str) {
    let claims = token_of(ended, provider);
    assert_eq!((claims["appid"].as_str(), claims["appidacr"].as_str()), (Some(sample::CERT_APP), Some("2")));
}

#[tokio::test]
async fn a_workloads_token_file() {
    let (emulator, scratch) = (trusting().await, Scratch::new());
    // As it comes: with a byte-order mark and a line end.
    let file = scratch.write("token", format!("\u{feff}{}\r\n", assertion(&emulator).await));
    for provider in [Some("workload-identity"), None] {
        let mut program =
            application(&emulator, "workload-identity").env("AZURE_FEDERATED_TOKEN_FILE", file.as_str());
        if provider.is_none() {
            // The environment decides.
            program.args.truncate(program.args.len() - 2);
        }
        is_the_applications(&program.run().await, "workload-identity");
    }
}

#[tokio::test]
async fn an_assertion_of_a_callback() {
    let (emulator, scratch) = (trusting().await, Scratch::new());
    let file = scratch.write("assertion", assertion(&emulator).await);
    let program = application(&emulator, "client-assertion");
    let mut command = program.command();
    command.stdin(Stdio::from(File::open(file).unwrap()));
    let output = tokio::process::Command::from(command).kill_on_drop(true).output().await.unwrap();
    is_the_applications(&Ended::from(output), "client-assertion");
}

#[tokio::test]
async fn a_managed_identity_as_an_applications_credential() {
    let emulator = Emulator::start().await.unwrap();
    let trusted = FederatedCredential::managed_identity(sample::TENANT, sample::USER_IDENTITY_OBJECT_ID);
    assert!(emulator.directory().add_federated(sample::CERT_APP, trusted));
    let program = application(&emulator, "federated-managed-identity")
        .args(["--identity", sample::USER_IDENTITY])
        .env("AZURE_POD_IDENTITY_AUTHORITY_HOST", emulator.identity_endpoint());
    is_the_applications(&program.run().await, "federated-managed-identity");
    assert_eq!(emulator.journal().len(), 2, "one for the identity, one for the application");
}

/// PKCS#12 as today's and yesterday's programs write it, signed both ways.
#[cfg(feature = "certificate")]
#[tokio::test]
async fn an_applications_certificate() {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/broker/fixtures/certificate");
    let emulator = Emulator::start().await.unwrap();
    let own = fs::read_to_string(format!("{fixtures}/app.pem")).unwrap();
    let own = entra_broker::emulator::Certificate::from_pem(&own).unwrap();
    assert!(emulator.directory().add_certificate(sample::CERT_APP, own));
    for (file, algorithm) in [("modern.p12", None), ("legacy.p12", Some("--rs256"))] {
        let program = || {
            let mut program = application(&emulator, "client-certificate");
            program.args.extend(algorithm.map(str::to_owned));
            program.env("AZURE_CLIENT_CERTIFICATE_PATH", format!("{fixtures}/{file}"))
        };
        let with_password = program().env("AZURE_CLIENT_CERTIFICATE_PASSWORD", "pass-of-the-fixture");
        is_the_applications(&with_password.run().await, "client-certificate");
        assert_eq!(program().run().await.error()["kind"], "config", "{file}: without its password");
    }
    let mut decides = application(&emulator, "client-certificate")
        .env("AZURE_CLIENT_CERTIFICATE_PATH", format!("{fixtures}/modern.p12"))
        .env("AZURE_CLIENT_CERTIFICATE_PASSWORD", "pass-of-the-fixture");
    // The environment decides.
    decides.args.truncate(decides.args.len() - 2);
    is_the_applications(&decides.run().await, "client-certificate");
}

/// An endpoint of a pipeline: gives what it is told to whoever shows the job's token.
async fn pipeline(answer: Value) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let (mut line, mut shown) = (String::new(), false);
            while stream.read_line(&mut line).await.is_ok_and(|read| read > 2) {
                shown |= line.eq_ignore_ascii_case("authorization: bearer the-jobs-token\r\n");
                line.clear();
            }
            let (status, body) =
                if shown { ("200 OK", answer.to_string()) } else { ("401 No", String::new()) };
            let head =
                format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).await.ok();
        }
    });
    format!("http://{address}/oidc")
}

#[tokio::test]
async fn a_job_of_github_actions() {
    let emulator = trusting().await;
    let url = pipeline(json!({"value": assertion(&emulator).await})).await;
    let program = application(&emulator, "github-actions")
        .env("ACTIONS_ID_TOKEN_REQUEST_URL", format!("{url}?api-version=2.0"))
        .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "the-jobs-token");
    is_the_applications(&program.run().await, "github-actions");
}

#[tokio::test]
async fn a_job_of_azure_pipelines() {
    let emulator = trusting().await;
    let url = pipeline(json!({"oidcToken": assertion(&emulator).await})).await;
    let program = get_token()
        .args(["--scope", VAULT, "--dangerous-plain-http", "--show-token", "--provider", "azure-pipelines"])
        .env("AZURE_AUTHORITY_HOST", emulator.authority())
        .env("SYSTEM_OIDCREQUESTURI", url)
        .env("SYSTEM_ACCESSTOKEN", "the-jobs-token")
        .env("AZURESUBSCRIPTION_TENANT_ID", sample::TENANT)
        .env("AZURESUBSCRIPTION_CLIENT_ID", sample::CERT_APP)
        .env("AZURESUBSCRIPTION_SERVICE_CONNECTION_ID", "99999999-0000-0000-0000-000000000001");
    is_the_applications(&program.run().await, "azure-pipelines");
}

#[tokio::test]
async fn a_secret_in_a_file_and_variables_of_another_prefix() {
    let (emulator, scratch) = (Emulator::start().await.unwrap(), Scratch::new());
    let file = scratch.write("secret", format!("{}\n", sample::SECRET));
    let program = get_token()
        .args(["--scope", VAULT, "--dangerous-plain-http", "--prefix", "BATON_ENTRA"])
        .env("BATON_ENTRA_TENANT_ID", sample::TENANT)
        .env("BATON_ENTRA_CLIENT_ID", sample::SECRET_APP)
        .env("BATON_ENTRA_CLIENT_SECRET_FILE", file)
        .env("BATON_ENTRA_AUTHORITY_HOST", emulator.authority());
    assert_eq!(program.run().await.tokens()[0]["provider"], "client-secret");
}

#[cfg(unix)]
#[tokio::test]
async fn who_is_signed_in_to_the_azure_cli_or_the_developer_cli() {
    let scratch = Scratch::new();
    scratch.program(
        "az",
        r#"echo '{"accessToken":"opaque.of.az","expires_on":4102444800,"tokenType":"Bearer"}'"#,
    );
    scratch.program("azd", r#"echo '{"token":"opaque.of.azd","expiresOn":"2100-01-01T00:00:00Z"}'"#);
    for (provider, token) in [("azure-cli", "opaque.of.az"), ("azure-developer-cli", "opaque.of.azd")] {
        let program = get_token()
            .args(["--scope", VAULT, "--show-token", "--provider", provider])
            .env("PATH", scratch.path());
        let lines = program.run().await.tokens();
        assert_eq!((&lines[0]["provider"], &lines[0]["token"]), (&json!(provider), &json!(token)));
    }
}

#[cfg(unix)]
#[tokio::test]
async fn the_first_of_the_default_chain_that_is_there() {
    let (emulator, scratch) = (Emulator::start().await.unwrap(), Scratch::new());
    scratch.program("az", r#"echo '{"accessToken":"opaque.of.az","expires_on":4102444800}'"#);
    let chain =
        || get_token().args(["--scope", VAULT, "--provider", "default-chain"]).env("PATH", scratch.path());

    let imds = chain().env("AZURE_POD_IDENTITY_AUTHORITY_HOST", emulator.identity_endpoint());
    assert_eq!(imds.run().await.tokens()[0]["provider"], "managed-identity");
    assert_eq!(emulator.journal().len(), 2, "a look whether it is there, and the request");

    let developer = chain().env("AZURE_TOKEN_CREDENTIALS", "dev");
    assert_eq!(developer.run().await.tokens()[0]["provider"], "azure-cli");

    let nothing = Scratch::new();
    let mut bare = chain().env("AZURE_TOKEN_CREDENTIALS", "dev");
    bare.env.retain(|(name, _)| *name != "PATH");
    let error = bare.env("PATH", nothing.path()).run().await.error();
    assert_eq!(error["kind"], "not_available");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("azure-cli: ") && message.contains("azure-developer-cli: "), "{message}");
}

#[tokio::test]
async fn an_audit_trail_of_the_program() {
    let (emulator, scratch) = (Emulator::start().await.unwrap(), Scratch::new());
    let file = scratch.path() + "/audit.jsonl";
    let program = super::with_secret(&emulator, sample::SECRET).args(["--repeat", "3", "--audit", &file]);
    assert_eq!(program.run().await.tokens().len(), 3);
    let lines: Vec<Value> =
        fs::read_to_string(&file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> =
        lines.iter().map(|line| (line["event"].as_str(), line["answered_by"].as_str())).collect();
    let host = emulator.authority().trim_start_matches("http://");
    let (request, call) = (Some("request"), Some("call"));
    assert_eq!(
        told,
        [(request, Some(host)), (call, Some("fetch")), (call, Some("cache")), (call, Some("cache"))]
    );
}
