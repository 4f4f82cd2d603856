//! The emulator as a program: what it says, what it serves, and how it ends.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "what goes wrong here fails a test")]

use crate::server_scratch::{Scratch, soon};
use crate::support::*;
use entra_broker::emulator::sample;
use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Child;

/// The program, built anew where it is not up to date: `cargo test --test emulator` does not see to that.
fn program() -> &'static PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR")).stderr(Stdio::null());
        cargo.args(["build", "--example", "emulator", "--all-features", "--message-format", "json"]);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        let built = cargo.output().unwrap();
        assert!(built.status.success(), "the example does not build");
        let messages =
            serde_json::Deserializer::from_slice(&built.stdout).into_iter::<Value>().map(Result::unwrap);
        let mut mine = messages.filter(|message| message["target"]["name"] == "emulator");
        mine.find_map(|message| message["executable"].as_str().map(PathBuf::from)).unwrap()
    })
}

fn spawn(args: &[&str]) -> Child {
    let mut command = tokio::process::Command::new(program());
    command.args(args).env_clear().kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// The program while it serves.
struct Running {
    child: Child,
    stdout: BufReader<tokio::process::ChildStdout>,
    ready: Value,
}

impl Running {
    async fn start(args: &[&str]) -> Self {
        let ports = ["--listen", "127.0.0.1:0", "--identity", "127.0.0.1:0"];
        let mut child = spawn(&[&ports, args].concat());
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        soon(stdout.read_line(&mut line)).await.unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{args:?} said {line:?}"));
        Self { child, stdout, ready }
    }

    fn says(&self, name: &str) -> &str {
        self.ready[name].as_str().unwrap_or_else(|| panic!("no {name} in {}", self.ready))
    }

    /// How it ends after a signal, and what it wrote on stderr. After the first line, stdout is silent.
    async fn end(mut self, signal: &str) -> (ExitStatus, String) {
        let pid = self.ready["pid"].to_string();
        assert_eq!(self.child.id().unwrap().to_string(), pid);
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        let (mut rest, mut log) = (String::new(), String::new());
        let mut stderr = self.child.stderr.take().unwrap();
        let status = soon(async {
            self.stdout.read_to_string(&mut rest).await.unwrap();
            stderr.read_to_string(&mut log).await.unwrap();
            self.child.wait().await.unwrap()
        });
        let status = status.await;
        assert_eq!(rest, "");
        assert!(!log.contains("panicked") && !log.contains(sample::SECRET) && !log.contains("eyJ"), "{log}");
        (status, log)
    }
}

/// Exit code 2, nothing on stdout, and one line on stderr that is returned.
async fn refused(args: &[&str]) -> String {
    let output = soon(spawn(args).wait_with_output()).await.unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?}: {stderr}");
    assert_eq!(stderr.matches('\n').count(), 1, "{args:?}: {stderr}");
    assert!(stderr.starts_with("emulator: "), "{stderr}");
    stderr
}

fn trusting(pem: &str) -> reqwest::Client {
    let ca = reqwest::Certificate::from_pem(pem.as_bytes()).unwrap();
    reqwest::Client::builder().no_proxy().tls_certs_only([ca]).build().unwrap()
}

#[tokio::test]
async fn it_serves_with_a_certificate_that_it_tells_of() {
    let scratch = Scratch::new();
    let ca = scratch.path().join("ca.pem").to_str().unwrap().to_owned();
    let running = Running::start(&["--ca-out", &ca, "--identity-tls", "127.0.0.1:0"]).await;
    assert_eq!(running.says("ca_file"), ca);
    assert_eq!(scratch.files(), ["ca.pem"]);
    assert_eq!(running.ready["sample"]["secret_app"], sample::SECRET_APP);
    assert_eq!(running.says("identity_tls_thumbprint").len(), 40);

    let client = trusting(&std::fs::read_to_string(&ca).unwrap());
    let authority = running.says("authority");
    let localhost = authority.replace("127.0.0.1", "localhost");
    for base in [authority, &localhost] {
        let response = soon(send(&client, base, post(TOKEN_PATH, &good()))).await.unwrap();
        assert_eq!(response.status(), 200);
    }
    let wrong = post(TOKEN_PATH, &with("client_secret", "wr0ng"));
    assert_eq!(soon(send(&client, authority, wrong)).await.unwrap().status(), 401);
    for base in [running.says("identity_endpoint"), running.says("identity_tls_endpoint")] {
        let request = get(IMDS, &[("metadata", "true")]);
        assert_eq!(soon(send(&client, base, request)).await.unwrap().status(), 200);
    }

    let (status, log) = running.end("-TERM").await;
    assert_eq!(status.code(), Some(0), "{log}");
    let told = |parts: &[&str]| log.lines().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(
        told(&["POST", TOKEN_PATH, "client_credentials", sample::SECRET_APP, STORAGE_SCOPE, "200", " ms"]),
        "{log}"
    );
    assert!(told(&["POST", "401", "AADSTS7000215"]), "{log}");
    assert!(told(&["identity", "GET", "/metadata/identity/oauth2/token", "200"]), "{log}");
    assert!(!log.contains("wr0ng"));
}

#[tokio::test]
async fn it_serves_with_a_given_certificate() {
    let scratch = Scratch::new();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap().pem();
    let files = (scratch.write("c.pem", &certificate), scratch.write("k.pem", &key.serialize_pem()));
    let running = Running::start(&["--tls-cert", &files.0, "--tls-key", &files.1, "--quiet"]).await;
    assert!(running.ready["ca_file"].is_null() && running.ready["identity_tls_endpoint"].is_null());
    let response = soon(send(&trusting(&certificate), running.says("authority"), get("/x", &[]))).await;
    assert_eq!(response.unwrap().status(), 404);
    let (status, log) = running.end("-INT").await;
    assert_eq!(status.code(), Some(0));
    assert!(!log.contains("404"), "quiet is quiet: {log}");
}

#[tokio::test]
async fn it_leaves_no_key_behind() {
    let keys = Scratch::new();
    let running = Running::start(&["--plain-http", "--arc-key-dir", keys.path().to_str().unwrap()]).await;
    assert!(running.says("authority").starts_with("http://"));
    let arc =
        get("/arc/token?api-version=2020-06-01&resource=https://storage.azure.com", &[("metadata", "true")]);
    let response = soon(send(&client(), running.says("identity_endpoint"), arc)).await.unwrap();
    assert_eq!((response.status().as_u16(), keys.files().len()), (401, 1));
    assert_eq!(running.end("-TERM").await.0.code(), Some(0));
    assert!(keys.files().is_empty());
}

#[tokio::test]
async fn an_unread_log_holds_nothing_up() {
    let running = Running::start(&["--plain-http"]).await;
    let client = client();
    // Nobody reads stderr, and a pipe holds some 64 KiB.
    let path = format!("/{}", "x".repeat(400));
    for _ in 0..400 {
        let response = soon(send(&client, running.says("authority"), get(&path, &[]))).await;
        assert_eq!(response.unwrap().status(), 404);
    }
    assert_eq!(running.end("-TERM").await.0.code(), Some(0));
}

fn fifo(scratch: &Scratch, name: &str) -> String {
    let path = scratch.path().join(name).to_str().unwrap().to_owned();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

#[tokio::test]
async fn a_file_that_never_ends_does_not_keep_it_from_ending() {
    let scratch = Scratch::new();
    let path = fifo(&scratch, "directory.toml");
    let mut child = spawn(&["--directory", &path]);
    // It opens once the program reads, and nothing is ever written.
    let open = tokio::task::spawn_blocking(move || std::fs::OpenOptions::new().write(true).open(path));
    let writer = soon(open).await.unwrap().unwrap();
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(!soon(child.wait()).await.unwrap().success());
    drop(writer);
}

#[tokio::test]
async fn what_is_no_file_is_written_to_and_not_replaced() {
    let scratch = Scratch::new();
    let path = fifo(&scratch, "ca.pem");
    let reader = path.clone();
    let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(reader));
    let running = Running::start(&["--ca-out", &path]).await;
    assert!(soon(read).await.unwrap().unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    assert!(!std::fs::metadata(&path).unwrap().is_file());
    assert_eq!(running.end("-TERM").await.0.code(), Some(0));

    let file = scratch.write("linked.pem", "");
    let link = scratch.path().join("link.pem");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let running = Running::start(&["--ca-out", link.to_str().unwrap()]).await;
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    assert!(link.is_symlink());
    assert_eq!(running.end("-TERM").await.0.code(), Some(0));
}

#[tokio::test]
async fn help_is_printed() {
    let output = soon(spawn(&["--help"]).wait_with_output()).await.unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(help.starts_with("usage: emulator") && help.lines().all(|line| line.len() <= 100));
}

#[tokio::test]
async fn wrong_arguments_are_named() {
    let scratch = Scratch::new();
    let nothing = scratch.path().join("nothing.pem").to_str().unwrap().to_owned();
    let text = scratch.write("text.pem", "no PEM");
    let nowhere = format!("{nothing}/ca.pem");
    let taken = Running::start(&["--plain-http"]).await;
    let taken_address = taken.says("authority").strip_prefix("http://").unwrap().to_owned();
    let free = ["--listen", "127.0.0.1:0", "--identity", "127.0.0.1:0"];
    for (args, parts) in [
        (&["--nonsense"][..], &["--nonsense"][..]),
        (&["something"], &["something"]),
        (&["--listen"], &["--listen"]),
        (&["--listen", "localhost"], &["--listen", "localhost", "127.0.0.1:8443"]),
        (&["--identity", "10.0.0.1:80"], &["--identity", "10.0.0.1:80", "--dangerous-listen-anywhere"]),
        (&["--identity-tls", "0.0.0.0:0"], &["--identity-tls", "--dangerous-listen-anywhere"]),
        (&["--tls-cert", &text], &["--tls-cert", "--tls-key"]),
        (&["--tls-key", &text], &["--tls-key", "--tls-cert"]),
        (&["--tls-cert", &nothing, "--tls-key", &text], &["--tls-cert", &nothing]),
        (&["--tls-cert", &text, "--tls-key", &nothing], &["--tls-key", &nothing]),
        (&["--tls-cert", &text, "--tls-key", &text], &["--tls-cert", "no certificate"]),
        (&["--tls-cert", &text, "--tls-key", &text, "--plain-http"], &["--plain-http", "--tls-cert"]),
        (&["--plain-http", "--ca-out", &text], &["--ca-out"]),
        (&["--ca-out", &nowhere], &["--ca-out", &nowhere]),
        (&["--arc-key-dir", &text], &["--arc-key-dir", &text]),
        (&["--plain-http", "--listen", &taken_address], &["--listen", &taken_address]),
        (&["--plain-http", "--identity", &taken_address], &["--identity", &taken_address]),
    ] {
        let told = refused(&[&free, args].concat()).await;
        assert!(parts.iter().all(|part| told.contains(part)), "{args:?}: {told}");
    }
    assert_eq!(scratch.files(), ["text.pem"]);
}
