//! Every example, run as a program: what it prints, how it ends, and that nothing secret is said.

#![expect(clippy::unwrap_used, reason = "tests: helpers too")]

#[path = "examples/every_provider.rs"]
mod every_provider;
#[cfg(target_os = "linux")]
#[path = "examples/namespace.rs"]
mod namespace;
#[path = "examples/stories.rs"]
mod stories;

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
    time::Duration,
};

use entra_broker::{
    Clock,
    emulator::{Emulator, Endpoint, Fault, sample},
};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

const VAULT: &str = "https://vault.azure.net/.default";
const WRONG_SECRET: &str = "wr0ng~secret";

/// What no program may say. All tokens of the emulator begin as the last of them.
const UNSAID: [&str; 5] =
    [sample::SECRET, sample::EXPIRED_SECRET, sample::APP_SERVICE_HEADER, WRONG_SECRET, "eyJ"];

/// An example with its arguments and all of its environment: nothing of this machine's leaks in.
struct Program {
    path: PathBuf,
    args: Vec<String>,
    env: Vec<(&'static str, String)>,
}

/// What became of it.
struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Program {
    fn example(name: &str) -> Self {
        Self { path: example(name), args: Vec::new(), env: Vec::new() }
    }

    fn args<const N: usize>(mut self, args: [&str; N]) -> Self {
        self.args.extend(args.map(str::to_owned));
        self
    }

    fn env(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.env.push((name, value.into()));
        self
    }

    /// Runs it, within a minute. It may show what it was asked to show, and no secret.
    async fn run(self) -> Ended {
        let showing = self.args.iter().any(|arg| arg == "--show-token");
        let mut command = tokio::process::Command::from(self.command());
        let child = command.kill_on_drop(true).spawn().unwrap();
        let output = tokio::select! {
            output = child.wait_with_output() => output.unwrap(),
            () = Clock::system().sleep(Duration::from_secs(60)) => panic!("{:?} does not end", self.args),
        };
        let ended = Ended::from(output);
        for secret in UNSAID.iter().filter(|secret| !showing || **secret != "eyJ") {
            assert!(!ended.stdout.contains(secret), "stdout of {:?} holds a secret", self.args);
            assert!(!ended.stderr.contains(secret), "stderr of {:?} holds a secret", self.args);
        }
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        ended
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.args).env_clear().envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ended {
    /// The lines of tokens of a program that ended well.
    fn tokens(&self) -> Vec<Value> {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{}", self.stdout);
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The one line of a failure.
    fn error(&self) -> Value {
        assert_eq!((self.code, self.stdout.as_str()), (Some(1), ""), "{}", self.stderr);
        assert_eq!(self.stderr.matches('\n').count(), 1, "{}", self.stderr);
        let mut line: Value = serde_json::from_str(&self.stderr).unwrap();
        let members = line["error"].as_object().unwrap().keys().map(String::as_str).collect::<BTreeSet<_>>();
        let wanted = BTreeSet::from([
            "kind",
            "blame",
            "message",
            "advice",
            "status",
            "oauth_error",
            "aadsts",
            "suberror",
            "claims",
            "correlation_id",
            "trace_id",
            "retry_after",
        ]);
        assert_eq!(members, wanted);
        line["error"].take()
    }

    fn wrong_usage(&self) {
        assert_eq!((self.code, self.stdout.as_str()), (Some(2), ""), "{}", self.stderr);
        assert!(
            self.stderr.starts_with("get_token: ") && self.stderr.contains("\nusage: "),
            "{}",
            self.stderr
        );
    }
}

/// The program of an example, built anew where it is not up to date: `cargo test --test examples` does not see to that.
fn example(name: &str) -> PathBuf {
    static BUILT: OnceLock<Vec<u8>> = OnceLock::new();
    let messages = BUILT.get_or_init(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR")).stderr(Stdio::null());
        cargo.args(["build", "--examples", "--all-features", "--message-format", "json"]);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        let built = cargo.output().unwrap();
        assert!(built.status.success(), "the examples do not build");
        built.stdout
    });
    let messages = serde_json::Deserializer::from_slice(messages).into_iter::<Value>().map(Result::unwrap);
    let mut mine = messages.filter(|message| message["target"]["name"] == name);
    mine.find_map(|message| message["executable"].as_str().map(PathBuf::from)).unwrap()
}

fn get_token() -> Program {
    Program::example("get_token")
}

/// With the secret of the sample directory, at an emulator over plain http.
fn with_secret(emulator: &Emulator, secret: &str) -> Program {
    get_token()
        .args(["--scope", VAULT, "--dangerous-plain-http"])
        .env("AZURE_TENANT_ID", sample::TENANT)
        .env("AZURE_CLIENT_ID", sample::SECRET_APP)
        .env("AZURE_CLIENT_SECRET", secret)
        .env("AZURE_AUTHORITY_HOST", emulator.authority())
}

fn on_imds(emulator: &Emulator) -> Program {
    get_token()
        .args(["--scope", VAULT])
        .env("AZURE_POD_IDENTITY_AUTHORITY_HOST", emulator.identity_endpoint())
}

fn on_app_service(emulator: &Emulator) -> Program {
    get_token()
        .args(["--scope", VAULT])
        .env("IDENTITY_ENDPOINT", format!("{}/msi/token", emulator.identity_endpoint()))
        .env("IDENTITY_HEADER", sample::APP_SERVICE_HEADER)
}

/// The port was free a moment ago, and nobody listens on it.
fn nowhere() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn every_example_is_run_here() {
    let these = [include_str!("examples.rs"), include_str!("examples/stories.rs")];
    let files = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")).unwrap();
    for file in files {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let run = format!("Program::example(\"{name}\")");
        assert!(these.iter().any(|this| this.contains(&run)), "{name} is run by no test");
    }
}

#[tokio::test]
async fn the_emulator_says_how_it_is_used() {
    let ended = Program::example("emulator").args(["--help"]).run().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert!(ended.stdout.starts_with("usage: emulator "));
}

#[tokio::test]
async fn the_quickstart_tells_its_story_to_the_end() {
    let ended = Program::example("quickstart").run().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{}", ended.stdout);
    for part in ["\n1. ", "\n2. ", "\n3. ", "\n4. ", "\n5. ", "\n6. ", "Calls that waited: 0.", "7000222"] {
        assert!(ended.stdout.contains(part), "{part:?} is missing:\n{}", ended.stdout);
    }
}

#[cfg(feature = "azure-core")]
#[tokio::test]
async fn a_client_of_the_azure_sdk_tells_its_story_to_the_end() {
    let ended = Program::example("azure_sdk").run().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{}", ended.stdout);
    for part in ["1. ", "\n2. ", "\n3. ", "mail: mail-value", "status 401", sample::OTHER_TENANT] {
        assert!(ended.stdout.contains(part), "{part:?} is missing:\n{}", ended.stdout);
    }
}

#[tokio::test]
async fn a_secret_gets_a_token_and_a_line_about_it() {
    let emulator = Emulator::start().await.unwrap();
    let tokens = with_secret(&emulator, sample::SECRET).run().await.tokens();
    let [line] = tokens.as_slice() else { panic!("{tokens:?}") };
    for member in ["expires_on", "refresh_on"] {
        let at: jiff::Timestamp = line[member].as_str().unwrap().parse().unwrap();
        assert!(at > jiff::Timestamp::UNIX_EPOCH);
    }
    let mut line = line.clone();
    let times = line.as_object_mut().unwrap();
    times.retain(|name, _| !name.ends_with("_on"));
    assert_eq!(
        line,
        json!({"provider": "client-secret", "tenant": sample::TENANT, "scopes": [VAULT], "source": "fetched"})
    );
    assert_eq!(emulator.journal().len(), 1);
}

#[tokio::test]
async fn a_token_is_shown_only_on_demand() {
    let emulator = Emulator::start().await.unwrap();
    let tokens = with_secret(&emulator, sample::SECRET).args(["--show-token"]).run().await.tokens();
    assert!(tokens[0]["token"].as_str().unwrap().starts_with("eyJ"));
    assert!(with_secret(&emulator, sample::SECRET).run().await.tokens()[0].get("token").is_none());
}

#[tokio::test]
async fn repeated_it_fetches_once() {
    let emulator = Emulator::start().await.unwrap();
    let tokens = with_secret(&emulator, sample::SECRET).args(["--repeat", "3"]).run().await.tokens();
    let sources: Vec<_> = tokens.iter().map(|line| line["source"].as_str().unwrap()).collect();
    assert_eq!(sources, ["fetched", "cached", "cached"]);
    assert_eq!(emulator.journal().len(), 1);
}

#[tokio::test]
async fn scopes_may_be_given_one_by_one_or_together() {
    let emulator = Emulator::start().await.unwrap();
    let one_by_one = with_secret(&emulator, sample::SECRET).args(["--scope", "openid"]);
    let together = with_secret(&emulator, sample::SECRET).args(["--scope", &format!("{VAULT} profile")]);
    for program in [one_by_one, together] {
        assert_eq!(program.run().await.tokens()[0]["scopes"], json!([VAULT]));
    }
}

#[tokio::test]
async fn a_tenant_that_is_asked_for_is_asked() {
    let emulator = Emulator::start().await.unwrap();
    let other = with_secret(&emulator, sample::SECRET).args(["--tenant", sample::OTHER_TENANT]);
    assert_eq!(other.run().await.tokens()[0]["tenant"], sample::OTHER_TENANT);
    assert_eq!(emulator.journal().entries()[0].tenant.as_deref(), Some(sample::OTHER_TENANT));

    let stranger =
        with_secret(&emulator, sample::SECRET).args(["--tenant", sample::CUSTOMER_WITHOUT_CONSENT]);
    assert_eq!(stranger.run().await.error()["kind"], "tenant");
    let evil = with_secret(&emulator, sample::SECRET).args(["--tenant", "../evil"]);
    assert_eq!(evil.run().await.error()["kind"], "config");
    let identity = on_imds(&emulator).args(["--tenant", sample::OTHER_TENANT]);
    assert_eq!(identity.run().await.error()["kind"], "config");
    assert_eq!(emulator.journal().len(), 2, "what is malformed is not sent");

    let mut instead = with_secret(&emulator, sample::SECRET).args(["--tenant", sample::TENANT]);
    instead.env.retain(|(name, _)| *name != "AZURE_TENANT_ID");
    assert_eq!(instead.run().await.tokens()[0]["tenant"], sample::TENANT);
}

#[tokio::test]
async fn tls_needs_an_authority_that_is_trusted() {
    let emulator = Emulator::builder().tls().start().await.unwrap();
    let dir = env::temp_dir().join(format!("entra-broker-examples-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let ca = dir.join("ca.crt");
    fs::write(&ca, emulator.ca_pem().unwrap()).unwrap();
    let trusting = with_secret(&emulator, sample::SECRET).args(["--ca", ca.to_str().unwrap()]).run().await;
    let not_there = with_secret(&emulator, sample::SECRET).args(["--ca", dir.to_str().unwrap()]).run().await;
    fs::remove_dir_all(&dir).unwrap();
    trusting.tokens();
    assert_eq!(not_there.error()["kind"], "config");

    let error = with_secret(&emulator, sample::SECRET).run().await.error();
    assert_eq!((&error["kind"], &error["blame"]), (&json!("unavailable"), &json!("network")));
    assert_eq!(emulator.journal().len(), 1, "nothing was sent to a server that was not trusted");
}

#[tokio::test]
async fn plain_http_is_taken_only_by_name() {
    let emulator = Emulator::start().await.unwrap();
    let mut program = with_secret(&emulator, sample::SECRET);
    program.args.retain(|arg| arg != "--dangerous-plain-http");
    assert_eq!(program.run().await.error()["kind"], "config");
    assert_eq!(emulator.journal().len(), 0);
}

#[tokio::test]
async fn without_an_application_it_is_the_managed_identity() {
    let emulator = Emulator::start().await.unwrap();
    for platform in [on_imds, on_app_service] {
        for (client_id, who) in
            [(None, sample::SYSTEM_IDENTITY), (Some(sample::USER_IDENTITY), sample::USER_IDENTITY)]
        {
            let mut program = platform(&emulator).args(["--show-token"]);
            if let Some(client_id) = client_id {
                program = program.env("AZURE_CLIENT_ID", client_id);
            }
            let tokens = program.run().await.tokens();
            let line = &tokens[0];
            assert_eq!((&line["provider"], &line["tenant"]), (&json!("managed-identity"), &Value::Null));
            assert_eq!(claims(line["token"].as_str().unwrap())["appid"], who);
        }
    }
}

/// The claims of a token, unchecked: the emulator made it.
fn claims(token: &str) -> Value {
    use base64::Engine as _;
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[tokio::test]
async fn the_provider_can_be_chosen() {
    let emulator = Emulator::start().await.unwrap();
    let identity = with_secret(&emulator, sample::SECRET)
        .args(["--provider", "managed-identity"])
        .env("AZURE_POD_IDENTITY_AUTHORITY_HOST", emulator.identity_endpoint())
        .env("AZURE_CLIENT_ID", sample::USER_IDENTITY);
    assert_eq!(identity.run().await.tokens()[0]["provider"], "managed-identity");

    let secret = on_imds(&emulator).args(["--provider", "client-secret"]).run().await.error();
    assert_eq!(secret["kind"], "config");
    assert!(secret["message"].as_str().unwrap().contains("AZURE_TENANT_ID"), "{secret}");
}

#[tokio::test]
async fn half_an_application_is_an_error_that_names_what_is_missing() {
    let all = [
        ("AZURE_TENANT_ID", sample::TENANT),
        ("AZURE_CLIENT_ID", sample::SECRET_APP),
        ("AZURE_CLIENT_SECRET", sample::SECRET),
    ];
    for (missing, _) in all {
        let mut program = get_token().args(["--scope", VAULT]);
        program.env.extend(
            all.iter().filter(|(name, _)| *name != missing).map(|(name, value)| (*name, (*value).to_owned())),
        );
        let error = program.run().await.error();
        assert_eq!((&error["kind"], &error["blame"]), (&json!("config"), &json!("configuration")));
        assert!(error["message"].as_str().unwrap().contains(missing), "{error}");
        assert_eq!((&error["aadsts"], &error["status"]), (&json!([]), &Value::Null));
    }
    let alone = get_token().args(["--scope", VAULT]).env("AZURE_CLIENT_SECRET", sample::SECRET);
    assert!(alone.run().await.error()["message"].as_str().unwrap().contains("AZURE_TENANT_ID"));
}

#[tokio::test]
async fn a_secret_that_is_refused_is_told_from_one_that_has_expired() {
    let emulator = Emulator::start().await.unwrap();
    for (secret, code) in [(WRONG_SECRET, 7_000_215), (sample::EXPIRED_SECRET, 7_000_222)] {
        let error = with_secret(&emulator, secret).run().await.error();
        assert_eq!(error["aadsts"], json!([code]));
        assert_eq!((&error["kind"], &error["blame"]), (&json!("credential"), &json!("configuration")));
        assert_eq!((&error["status"], &error["oauth_error"]), (&json!(401), &json!("invalid_client")));
        assert!(
            error["advice"].is_string()
                && error["correlation_id"].is_string()
                && error["trace_id"].is_string()
        );
        assert_eq!(
            (&error["suberror"], &error["claims"], &error["retry_after"]),
            (&Value::Null, &Value::Null, &Value::Null)
        );
    }
}

#[tokio::test]
async fn a_line_break_after_the_secret_is_named_and_not_sent() {
    let emulator = Emulator::start().await.unwrap();
    let error = with_secret(&emulator, &format!("{}\n", sample::SECRET)).run().await.error();
    assert_eq!(error["kind"], "config");
    assert!(error["advice"].as_str().unwrap().contains("newline"), "{error}");
    assert_eq!(emulator.journal().len(), 0);
}

#[tokio::test]
async fn retry_after_is_told_in_seconds() {
    let emulator = Emulator::start().await.unwrap();
    let fault = Fault::on(Endpoint::TokenService).status(429).retry_after(Duration::from_secs(120));
    emulator.faults().add(fault);
    let error = with_secret(&emulator, sample::SECRET).run().await.error();
    assert_eq!((&error["kind"], &error["retry_after"]), (&json!("throttled"), &json!(120)));
}

#[tokio::test]
async fn where_nobody_listens_the_network_is_to_blame() {
    let emulator = Emulator::start().await.unwrap();
    let dead = with_secret(&emulator, sample::SECRET).env("AZURE_AUTHORITY_HOST", nowhere());
    let imds = on_imds(&emulator).env("AZURE_POD_IDENTITY_AUTHORITY_HOST", nowhere());
    for program in [dead, imds] {
        let error = program.run().await.error();
        assert_eq!((&error["kind"], &error["blame"]), (&json!("unavailable"), &json!("network")), "{error}");
    }
    assert_eq!(emulator.journal().len(), 0);
}

#[tokio::test]
async fn nobody_waits_longer_than_they_said() {
    let emulator = Emulator::start().await.unwrap();
    emulator.faults().add(Fault::on(Endpoint::TokenService).hang());
    // Three attempts of ten seconds would take longer than the program is given here.
    let error = with_secret(&emulator, sample::SECRET).args(["--timeout", "0.5"]).run().await.error();
    assert_eq!(error["kind"], "timeout");
}

#[tokio::test]
async fn wrong_usage_is_told_from_failure() {
    for args in [
        &[][..],
        &["--scope"],
        &["--scope", VAULT, "--provider", "magic"],
        &["--scope", VAULT, "--timeout", "soon"],
        &["--scope", VAULT, "--timeout", "0"],
        &["--scope", VAULT, "--timeout", "-1"],
        &["--scope", VAULT, "--timeout", "NaN"],
        &["--scope", VAULT, "--timeout", "1e300"],
        &["--scope", VAULT, "--repeat", "0"],
        &["--scope", VAULT, "--repeat", "99999999999999999999"],
        &["--scope", VAULT, "--show-token=yes"],
        &["--scope", VAULT, "--verbose"],
        &["--scope", VAULT, "and more"],
    ] {
        let mut program = get_token();
        program.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        program.run().await.wrong_usage();
    }
    let malformed = get_token().args(["--scope", "https://vault.azure.net/ünicode/.default"]).run().await;
    assert_eq!(malformed.error()["kind"], "config");
    let help = get_token().args(["--help"]).run().await;
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    assert!(help.stdout.starts_with("usage: "));
}

#[tokio::test]
async fn who_stops_reading_ends_it_without_a_fuss() {
    let emulator = Emulator::start().await.unwrap();
    let program = with_secret(&emulator, sample::SECRET).args(["--repeat", "1000000000"]);
    let mut child = tokio::process::Command::from(program.command()).kill_on_drop(true).spawn().unwrap();
    let mut first = [0; 100];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut first).await.unwrap();
    drop(stdout);
    let ended = Ended::from(child.wait_with_output().await.unwrap());
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
}
