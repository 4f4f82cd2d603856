//! A network of its own, in which the addresses of Azure are this machine's: nothing is overridden, and `get_token` is run as
//! it would be there.

use std::{
    env, fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use entra_broker::emulator::sample;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use serde_json::Value;

use super::{VAULT, claims, example};

/// Makes the network, starts the emulator where Azure is, and runs what is given.
const SCRIPT: &str = r#"
set -e
ip link set lo up
ip address add 169.254.169.254/32 dev lo
mount -t tmpfs none /etc/ssl
mkdir /etc/ssl/certs
cp "$DIR/ca.pem" /etc/ssl/certs/ca-certificates.crt
mount --bind "$DIR/hosts" /etc/hosts
mount -t tmpfs none /var/opt
mkdir -p /var/opt/azcmagent/tokens
"$EMULATOR" --dangerous-listen-anywhere --quiet --listen 127.0.0.1:443 --identity 169.254.169.254:80 \
  --identity-tls 127.0.0.1:2377 --tls-cert "$DIR/cert.pem" --tls-key "$DIR/key.pem" \
  --arc-key-dir /var/opt/azcmagent/tokens > "$DIR/ready" 2> "$DIR/log" &
emulator=$!
trap 'kill $emulator' EXIT
tries=0
until [ -s "$DIR/ready" ]; do
  tries=$((tries + 1))
  [ $tries -lt 100 ] || { cat "$DIR/log" >&2; exit 3; }
  sleep 0.1
done
env -i "$@"
"#;

struct Net {
    dir: PathBuf,
}

impl Net {
    /// None where this machine lets nobody have one.
    fn new() -> Option<Self> {
        let tries = ["--user", "--map-root-user", "--net", "--mount", "ip", "link", "set", "lo", "up"];
        let mut unshare = Command::new("unshare");
        unshare.args(tries).stdout(Stdio::null()).stderr(Stdio::null());
        if !unshare.status().is_ok_and(|status| status.success()) {
            skip();
            return None;
        }
        let dir =
            env::temp_dir().join(format!("entra-broker-net-{}-{}", std::process::id(), fastrand::u64(..)));
        fs::create_dir(&dir).unwrap();
        certify(&dir);
        fs::write(dir.join("hosts"), "127.0.0.1 localhost login.microsoftonline.com\n").unwrap();
        Some(Self { dir })
    }

    /// Runs `get_token` with these variables alone.
    async fn get_token(&self, env: &[(&str, &str)], args: &[&str]) -> super::Ended {
        let _ = fs::remove_file(self.dir.join("ready"));
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "--mount", "sh", "-c", SCRIPT, "sh"]);
        command.args(env.iter().map(|(name, value)| format!("{name}={value}")));
        command.arg(example("get_token")).args(["--scope", VAULT, "--show-token"]).args(args);
        command.env("DIR", &self.dir).env("EMULATOR", example("emulator")).stdin(Stdio::null());
        let output = tokio::process::Command::from(command).kill_on_drop(true).output().await.unwrap();
        super::Ended::from(output)
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.dir).ok();
    }
}

#[expect(clippy::disallowed_methods, clippy::print_stdout, reason = "it is for who runs the tests")]
fn skip() {
    let required = env::var("REQUIRE").unwrap_or_default();
    assert!(!required.contains("namespace"), "there are no network namespaces here");
    println!("SKIPPED: unshare and ip do not make a network namespace here");
}

/// An authority, and a certificate of the token service by it.
fn certify(dir: &Path) {
    let authority = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(dir.join("ca.pem"), params.self_signed(&authority).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, authority);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["login.microsoftonline.com".to_owned()]).unwrap();
    params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    let certificate = params.signed_by(&key, &issuer).unwrap();
    fs::write(dir.join("cert.pem"), certificate.pem()).unwrap();
    fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
}

const APPLICATION: [(&str, &str); 3] = [
    ("AZURE_TENANT_ID", sample::TENANT),
    ("AZURE_CLIENT_ID", sample::SECRET_APP),
    ("AZURE_CLIENT_SECRET", sample::SECRET),
];

fn app(token: &Value) -> Value {
    claims(token["token"].as_str().unwrap())["appid"].take()
}

#[tokio::test]
async fn with_nothing_overridden_every_address_is_azures() {
    let Some(net) = Net::new() else { return };
    // The token service by its name, over TLS of the system's authorities.
    let secret = net.get_token(&APPLICATION, &[]).await.tokens().remove(0);
    assert_eq!(
        (secret["provider"].as_str(), app(&secret).as_str()),
        (Some("client-secret"), Some(sample::SECRET_APP))
    );

    // The machine's identity at its address, which nothing but the link knows.
    let imds = net.get_token(&[], &[]).await.tokens().remove(0);
    assert_eq!(
        (imds["provider"].as_str(), app(&imds).as_str()),
        (Some("managed-identity"), Some(sample::SYSTEM_IDENTITY))
    );
    let assigned = net.get_token(&[("AZURE_CLIENT_ID", sample::USER_IDENTITY)], &[]).await.tokens().remove(0);
    assert_eq!(app(&assigned), sample::USER_IDENTITY);

    // The default chain finds it, and an application's credential before it.
    for (env, who) in [(&[][..], sample::SYSTEM_IDENTITY), (&APPLICATION[..], sample::SECRET_APP)] {
        let chain = net.get_token(env, &["--provider", "default-chain"]).await.tokens().remove(0);
        assert_eq!(app(&chain), who);
    }

    // Azure Arc's key file is read where Arc puts it.
    let arc = [
        ("IDENTITY_ENDPOINT", "http://169.254.169.254/arc/token"),
        ("IMDS_ENDPOINT", "http://169.254.169.254"),
    ];
    let arc = net.get_token(&arc, &["--provider", "managed-identity"]).await.tokens().remove(0);
    assert_eq!(app(&arc), sample::SYSTEM_IDENTITY);
}

#[tokio::test]
async fn an_authority_that_the_system_does_not_trust_is_sent_nothing() {
    let Some(net) = Net::new() else { return };
    let other = KeyPair::generate().unwrap();
    let stranger = CertificateParams::new(Vec::new()).unwrap().self_signed(&other).unwrap();
    fs::write(net.dir.join("ca.pem"), stranger.pem()).unwrap();
    let error = net.get_token(&APPLICATION, &[]).await.error();
    assert_eq!((&error["kind"], &error["blame"]), (&"unavailable".into(), &"network".into()), "{error}");
}
