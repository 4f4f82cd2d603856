//! The Azure CLI and the Azure Developer CLI, played by shell scripts: real programs, whose time is not the world's.

mod ending;

use std::{
    fs,
    io::Write as _,
    os::unix::{ffi::OsStringExt as _, fs::symlink},
    path::PathBuf,
    process::{Command, Stdio},
};

use entra_broker::{
    AzureCli, AzureDeveloperCli, Broker, CallOptions, Claims, Env, ErrorKind, Provider, Subject, TenantId,
    UserAssertion, emulator::sample,
};

use crate::{scratch::*, support::*};

const TOKEN: &str = "ey.the-persons-own.token";

/// A machine with programs of our own on it.
struct Machine {
    world: World,
    dir: Scratch,
}

impl Machine {
    async fn new() -> Self {
        let world = World::new().await;
        world.expect_unsaid(TOKEN);
        world.expect_unsaid("hunter2");
        let dir = Scratch::new();
        fs::create_dir(dir.join("bin")).unwrap();
        Self { world, dir }
    }

    /// Written by a program of its own: what this process had open for writing while another test starts one, cannot be run.
    fn script(&self, name: &str, body: &str) -> PathBuf {
        let path = self.dir.join("bin").join(name);
        let mut shell = Command::new("sh");
        shell.args(["-c", "cat > \"$0\" && chmod 755 \"$0\""]).arg(&path).stdin(Stdio::piped());
        let mut shell = shell.spawn().unwrap();
        shell.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{body}\n").as_bytes()).unwrap();
        assert!(shell.wait().unwrap().success());
        path
    }

    fn env(&self) -> Env {
        let path = format!("{}:/usr/bin:/bin", self.dir.join("bin").display());
        Env::empty().set("PATH", path).set("SEEN", self.dir.path())
    }

    fn broker(&self, provider: impl Provider) -> Broker {
        self.world.builder().build(provider).unwrap()
    }

    /// What the script wrote to `$SEEN/name`, once it is all there: up to an end of line.
    async fn seen(&self, name: &str) -> String {
        let path = self.dir.join(name);
        until(|| fs::read_to_string(&path).is_ok_and(|text| text.ends_with('\n'))).await;
        fs::read_to_string(path).unwrap().trim_end().to_owned()
    }

    fn expires_on(&self) -> u64 {
        let now = self.world.clock.now().wall();
        now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 3600
    }

    /// What `az` prints.
    fn answer(&self) -> String {
        format!(
            r#"{{"accessToken": "{TOKEN}", "expiresOn": "x", "expires_on": {}, "tokenType": "Bearer"}}"#,
            self.expires_on()
        )
    }

    /// The error of `az` with this body.
    async fn error(&self, body: &str) -> entra_broker::Error {
        self.script("az", body);
        let broker = self.broker(AzureCli::from_env(&self.env()));
        let error = ask(&self.world, &broker).await.unwrap_err();
        assert!(!error.advice().is_empty(), "{error}");
        error
    }
}

/// Whether a program is no more, or is a corpse that its parent has not looked at yet.
fn is_dead(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| {
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X']))
    })
}

#[tokio::test]
async fn the_azure_cli_is_asked_without_a_shell_and_its_token_lives_as_it_says() {
    let machine = Machine::new().await;
    let body = format!(
        "for word in \"$@\"; do echo \"[$word]\"; done > \"$SEEN/args\"\nenv > \"$SEEN/env\"\npwd > \"$SEEN/pwd\"\n\
         cat > \"$SEEN/stdin\"\ncat <<'END'\n{}\nEND",
        machine.answer()
    );
    machine.script("az", &body);
    let env = machine.env().set("HTTPS_PROXY", "http://proxy.test:1").set("ODD", "$(touch \"$SEEN/odd\")");
    let cli = AzureCli::from_env(&env);
    assert_eq!(cli.name(), "azure-cli");
    let broker = machine.broker(cli);
    let token = ask(&machine.world, &broker).await.unwrap();
    assert_eq!(token.secret(), TOKEN);
    assert_eq!(token.expires_on(), start() + secs(3600));
    let args = machine.seen("args").await;
    assert_eq!(
        args.lines().collect::<Vec<_>>(),
        [
            "[account]",
            "[get-access-token]",
            "[--output]",
            "[json]",
            "[--resource]",
            "[https://vault.azure.net]"
        ]
    );
    let env = machine.seen("env").await;
    assert!(
        env.lines().any(|line| line == "HTTPS_PROXY=http://proxy.test:1"),
        "the environment is passed on"
    );
    assert!(!env.contains("CARGO"), "and no other than this");
    assert_eq!(machine.seen("pwd").await, machine.dir.join("bin").to_str().unwrap());
    assert_eq!(fs::read(machine.dir.join("stdin")).unwrap(), b"", "there is no input");
    assert!(!machine.dir.join("odd").exists());
    assert_eq!(machine.world.requests(), 0);
}

#[tokio::test]
async fn the_azure_developer_cli_is_asked_by_scope() {
    let machine = Machine::new().await;
    let at = start() + secs(1800);
    let at = at.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let date = format!("date -u -d @{at} +%Y-%m-%dT%H:%M:%SZ");
    machine.script(
        "azd",
        &format!(
            "echo \"$*\" > \"$SEEN/args\"\necho '{{\"token\":\"{TOKEN}\",\"expiresOn\":\"'$({date})'\"}}'"
        ),
    );
    let cli = AzureDeveloperCli::from_env(&machine.env()).tenant(sample::TENANT).unwrap();
    assert_eq!(cli.name(), "azure-developer-cli");
    let token = ask(&machine.world, &machine.broker(cli)).await.unwrap();
    assert_eq!((token.secret(), token.expires_on()), (TOKEN, start() + secs(1800)));
    let expected = format!(
        "auth token --output json --no-prompt --scope https://vault.azure.net/.default --tenant-id {}",
        sample::TENANT
    );
    assert_eq!(machine.seen("args").await, expected);
}

#[tokio::test]
async fn tenant_and_subscription_are_passed_on_as_one_word_each() {
    let machine = Machine::new().await;
    machine.script(
        "az",
        &format!(
            "printf '[%s]' \"$@\" > \"$SEEN/args\"; echo >> \"$SEEN/args\"; echo '{}'",
            machine.answer()
        ),
    );
    let cli = || AzureCli::from_env(&machine.env());
    let odd = "My \"subscription\"; $(touch x) & more";
    ask(&machine.world, &machine.broker(cli().subscription(odd).unwrap())).await.unwrap();
    assert!(machine.seen("args").await.ends_with(&format!("[--subscription][{odd}]")));
    ask(&machine.world, &machine.broker(cli().tenant("Contoso.com").unwrap())).await.unwrap();
    assert!(machine.seen("args").await.ends_with("[--tenant][contoso.com]"));

    let broker =
        machine.world.builder().allow_all_tenants().build(cli().tenant("contoso.com").unwrap()).unwrap();
    let other = request(VAULT).tenant(TenantId::parse("fabrikam.com").unwrap());
    let call = tokio::spawn(async move { broker.get_token(&other).await });
    until(|| call.is_finished()).await;
    machine.world.see(call.await.unwrap()).unwrap();
    assert!(machine.seen("args").await.ends_with("[--tenant][fabrikam.com]"));

    let both = cli().subscription("one").unwrap().tenant("contoso.com").unwrap();
    let error = ask(&machine.world, &machine.broker(both)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    for bad in ["", " ", "--debug", "a\nb", &"a".repeat(300)] {
        assert!(cli().subscription(bad).unwrap_err().to_string().starts_with("subscription: "), "{bad}");
    }
    for bad in ["common", "--debug", "organizations", ""] {
        assert!(cli().tenant(bad).unwrap_err().to_string().starts_with("tenant: "), "{bad}");
        assert!(AzureDeveloperCli::new().tenant(bad).is_err(), "{bad}");
    }
}

#[tokio::test]
async fn what_could_be_an_option_or_more_than_a_resource_is_not_run() {
    let machine = Machine::new().await;
    machine.script("az", "echo run >> \"$SEEN/run\"");
    let broker = machine.broker(AzureCli::from_env(&machine.env()));
    for scope in [
        "--debug/.default",
        "-o/.default",
        "https://a?b=c&d/.default",
        "a;b/.default",
        "%PATH%/.default",
        "$(x)/.default",
    ] {
        let asked = broker.clone();
        let call = tokio::spawn(async move { asked.get_token(scope).await });
        until(|| call.is_finished()).await;
        let error = machine.world.see(call.await.unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{scope}");
        assert!(error.to_string().starts_with("scope: "), "{error}");
    }
    assert!(!machine.dir.join("run").exists());
}

#[tokio::test]
async fn a_program_that_is_missing_nobody_signed_in_and_a_wrong_tenant_are_three_errors() {
    let machine = Machine::new().await;
    let broker = machine.broker(AzureCli::from_env(&Env::empty().set("PATH", machine.dir.join("bin"))));
    let missing = ask(&machine.world, &broker).await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotAvailable);
    assert_eq!(missing.to_string(), "the Azure CLI is not installed: there is no `az` on the PATH");
    assert!(missing.advice().contains("https://aka.ms/azcli"), "{}", missing.advice());

    let nobody = machine.error("echo \"ERROR: Please run 'az login' to setup account.\" >&2; exit 1").await;
    assert_eq!(
        (nobody.kind(), &*nobody.to_string()),
        (ErrorKind::NotAvailable, "nobody is signed in to the Azure CLI")
    );
    assert!(nobody.advice().contains("az login"));

    let wrong = machine.error("echo \"ERROR: AADSTS90002: Tenant 'hunter2' not found.\" >&2; exit 1").await;
    assert_eq!((wrong.kind(), wrong.aadsts()), (ErrorKind::Tenant, &[90002][..]), "{wrong}");

    let ended = machine
        .error("echo \"ERROR: AADSTS70043: The refresh token of hunter2 has expired\" >&2; exit 1")
        .await;
    assert_eq!(ended.kind(), ErrorKind::SignInRequired, "{ended}");
    let unknown = machine.error(&format!("echo '{TOKEN} hunter2' | tee /dev/stderr; exit 3")).await;
    assert_eq!(unknown.kind(), ErrorKind::Unavailable);
    assert!(unknown.to_string().contains("failed with code 3"), "{unknown}");
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_not_available() {
    let machine = Machine::new().await;
    let path = machine.script("az", "");
    fs::remove_file(&path).unwrap();
    // An interpreter that is not there.
    let mut shell = Command::new("sh");
    shell.args(["-c", "printf '#!/none/python\\n' > \"$0\" && chmod 755 \"$0\""]).arg(&path);
    assert!(shell.status().unwrap().success());
    let broker = machine.broker(AzureCli::from_env(&machine.env()));
    let error = ask(&machine.world, &broker).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAvailable, "{error}");
    assert!(error.to_string().contains("cannot be started"), "{error}");
    let error = machine.error("exec /none/python").await;
    assert_eq!(error.kind(), ErrorKind::NotAvailable, "{error}");
}

#[tokio::test]
async fn the_program_is_found_by_an_absolute_path_and_never_where_we_happen_to_be() {
    let machine = Machine::new().await;
    let real = machine.script("az", &format!("echo '{}'", machine.answer()));
    let bin = machine.dir.join("bin");
    // What is no program: a directory, a file that may not be run.
    let (folder, plain, linked) =
        (machine.dir.join("folder"), machine.dir.join("plain"), machine.dir.join("linked"));
    fs::create_dir_all(folder.join("az")).unwrap();
    for dir in [&plain, &linked] {
        fs::create_dir(dir).unwrap();
    }
    fs::write(plain.join("az"), "#!/bin/sh\n").unwrap();
    symlink(&real, linked.join("az")).unwrap();

    let up = "../".repeat(40);
    let relative = format!("{up}{}", bin.strip_prefix("/").unwrap().display());
    assert!(PathBuf::from(&relative).join("az").exists(), "it could be found, from here");
    let path = |dirs: &[&str]| Env::empty().set("PATH", dirs.join(":"));
    let [bin, folder, plain, linked] = [&bin, &folder, &plain, &linked].map(|path| path.to_str().unwrap());
    for (env, found) in [
        (path(&[folder, plain, bin, "/usr/bin"]), true),
        (path(&[linked]), true),
        (path(&[folder, plain]), false),
        (path(&["", ".", &relative]), false),
        (Env::empty(), false),
    ] {
        let got = ask(&machine.world, &machine.broker(AzureCli::from_env(&env))).await;
        match got {
            Ok(_) => assert!(found, "{env:?}"),
            Err(error) => assert!(!found && error.kind() == ErrorKind::NotAvailable, "{env:?}: {error}"),
        }
    }
    let named = AzureCli::from_env(&path(&["/usr/bin", "/bin"])).program(&real).unwrap();
    ask(&machine.world, &machine.broker(named)).await.unwrap();
    let gone = AzureCli::from_env(&machine.env()).program("/none/az").unwrap();
    let error = ask(&machine.world, &machine.broker(gone)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotAvailable, "{error}");
    assert!(AzureCli::new().program("az").is_err() && AzureDeveloperCli::new().program("./azd").is_err());
}

#[tokio::test]
async fn a_path_that_is_not_utf8_is_told() {
    let machine = Machine::new().await;
    let raw = std::ffi::OsString::from_vec(b"/usr/bin:/\xff".to_vec());
    let broker = machine.broker(AzureCli::from_env(&Env::empty().set("PATH", raw)));
    let error = ask(&machine.world, &broker).await.unwrap_err();
    assert_eq!(
        (error.kind(), &*error.to_string()),
        (ErrorKind::Config, "environment variable PATH: expected UTF-8")
    );
}

#[tokio::test]
async fn what_a_person_signed_in_for_is_asked_for_and_nothing_else() {
    let machine = Machine::new().await;
    machine.script("az", &format!("echo run >> \"$SEEN/run\"; echo '{}'", machine.answer()));
    let broker = machine.broker(AzureCli::from_env(&machine.env()));
    let user = request(VAULT).subject(Subject::OnBehalfOf(UserAssertion::new("an-assertion").unwrap()));
    let claims = Claims::parse(r#"{"access_token":{"acrs":{"essential":true,"value":"p1"}}}"#).unwrap();
    let with_claims = request(VAULT).claims(claims.clone());
    for asked in [user, with_claims] {
        let broker = broker.clone();
        let call = tokio::spawn(async move { broker.get_token(&asked).await });
        until(|| call.is_finished()).await;
        assert_eq!(machine.world.see(call.await.unwrap()).unwrap_err().kind(), ErrorKind::Config);
    }
    assert!(!machine.dir.join("run").exists());
    ask(&machine.world, &broker).await.unwrap();
    let demanded = CallOptions::new().challenge(claims);
    let error = ask_with(&machine.world, &broker, demanded).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SignInRequired, "{error}");
    assert!(error.advice().contains("az login --claims-challenge "), "{}", error.advice());
    let binding = machine.world.builder().binding("billing").build(AzureCli::new());
    assert_eq!(binding.unwrap_err().kind(), ErrorKind::Config, "its tokens never leave the process");
}
