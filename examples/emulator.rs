//! A local Entra and managed-identity endpoint as a program, for tests in any language.
//!
//! ```text
//! cargo run --features emulator --example emulator -- --ca-out ca.pem
//! ```
//!
//! It serves until it gets SIGTERM or SIGINT. **It is not Entra, and nothing in it protects anything.** See `--help`.

use std::{
    fmt::Display,
    fs::{self, File},
    io::{self, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc,
    time::Duration,
};

use entra_broker::emulator::{Certificate, Directory, Emulator, Entry, sample};
use lexopt::{Arg, Parser, ValueExt as _};
use serde_json::{Value, json};

const USAGE: &str = "\
usage: emulator [OPTION...]

  --directory FILE         what it knows, as TOML or (.json) JSON; the sample by default
  --certs DIR              where the directory's certificates are; with the sample, app.crt there
                           is the certificate of its third app
  --print-sample           print the sample directory, to begin a file of your own, and end
  --listen ADDRESS         the token service; 127.0.0.1:8443 by default, port 0 takes a free one
  --authority URL          the token service's public address, for documents and issuers;
                           by default the name that each request asks for
  --identity ADDRESS       the managed-identity endpoint; 127.0.0.1:8445 by default
  --identity-tls ADDRESS   the managed-identity endpoint with TLS, for Service Fabric;
                           none by default
  --tls-cert FILE          the token service's certificate, with those that lead to its
                           authority (PEM); by default one is made, by an authority of its own
  --tls-key FILE           the certificate's key (PEM)
  --ca-out FILE            write the certificate of that authority there, for clients to trust
  --plain-http             no TLS for the token service
  --arc-key-dir DIR        where Azure Arc's key files are put; clients want
                           /var/opt/azcmagent/tokens
  --quiet                  do not tell of requests on stderr
  --dangerous-listen-anywhere
                           take addresses that others reach: everyone gets tokens here
  --help                   print this

When it serves it prints one line of JSON on stdout, with its addresses. SIGTERM and SIGINT end it.
exit code: 0 for an end that was asked for, 2 where it cannot start
";

/// A chain of certificates comes to some 10 KiB.
const LARGEST_PEM: u64 = 1 << 20;

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::parse(Parser::from_env()) {
        Ok(Wanted::Emulator(options)) => options,
        Ok(Wanted::Text(text)) => return print(text),
        Err(error) => return refuse(&format!("{error} (--help tells of the options)")),
    };
    match run(*options).await {
        Ok(code) => code,
        Err(message) => refuse(&message),
    }
}

async fn run(options: Options) -> Result<ExitCode, String> {
    let log = (!options.quiet).then(Log::start);
    let sampled = options.directory.is_none();
    let emulator = start(&options, log.as_ref().map(|log| log.lines.clone())).await?;
    let ca_file = match (&options.ca_out, emulator.ca_pem()) {
        (Some(path), Some(pem)) => {
            write(path, pem).map_err(|error| format!("--ca-out {}: {error}", path.display()))?;
            Some(path)
        }
        _ => None,
    };
    // Before anything is said, so that who has read the line can end the program; and not before a file was read that may be a pipe
    // in which nothing comes: until here a signal ends the program as it ends any other.
    let end = end()?;
    complain("emulator: this is not Entra, and everyone who reaches it gets tokens\n");
    match (ca_file, emulator.ca_pem()) {
        (Some(path), _) => complain(&format!("emulator: clients have to trust {}\n", path.display())),
        (None, Some(_)) => complain("emulator: --ca-out FILE tells clients which certificate to trust\n"),
        (None, None) => {}
    }
    let code = print(&format!("{}\n", ready(&emulator, ca_file, sampled)));
    if code != ExitCode::SUCCESS {
        return Ok(code);
    }
    end.await;
    drop(emulator);
    if let Some(log) = log {
        log.finish();
    }
    Ok(ExitCode::SUCCESS)
}

async fn start(options: &Options, log: Option<mpsc::SyncSender<String>>) -> Result<Emulator, String> {
    let builder = Emulator::builder().directory(directory(options)?);
    let mut builder = builder.listen(options.listen).identity_listen(options.identity);
    if let Some(address) = options.identity_tls {
        builder = builder.identity_tls_listen(address);
    }
    if let Some((certificate, key)) = &options.tls {
        let (certificate, key) = (read("--tls-cert", certificate)?, read("--tls-key", key)?);
        builder = builder.tls_pem(certificate, key);
    } else if !options.plain_http {
        builder = builder.tls();
    }
    if let Some(authority) = &options.authority {
        builder = builder.authority(authority);
    }
    if let Some(path) = &options.arc_key_dir {
        builder = builder.arc_key_dir(path);
    }
    if let Some(lines) = log {
        // Where nobody reads the log, lines are lost and requests are answered.
        builder = builder.on_answer(move |entry| drop(lines.try_send(line(entry))));
    }
    if options.anywhere {
        builder = builder.dangerous().listen_anywhere();
    }
    builder.start().await.map_err(|error| options.blame(&error))
}

/// The directory to be served.
fn directory(options: &Options) -> Result<Directory, String> {
    let certs = options.certs.as_deref();
    if let Some(path) = &options.directory {
        return Directory::load(path, certs).map_err(|error| format!("--directory {error}"));
    }
    let directory = Directory::sample();
    if let Some(certs) = certs {
        let path = certs.join("app.crt");
        let blame = |error: &dyn Display| format!("--certs {}: {error}", path.display());
        let pem = String::from_utf8(read("--certs", &path)?).map_err(|error| blame(&error))?;
        let certificate = Certificate::from_pem(&pem).map_err(|error| blame(&error))?;
        directory.add_certificate(sample::CERT_APP, certificate);
    }
    Ok(directory)
}

/// What the line on stdout says.
fn ready(emulator: &Emulator, ca_file: Option<&PathBuf>, sampled: bool) -> Value {
    json!({
        "authority": emulator.authority(),
        "identity_endpoint": emulator.identity_endpoint(),
        "identity_tls_endpoint": emulator.identity_tls_endpoint(),
        "identity_tls_thumbprint": emulator.identity_tls_thumbprint(),
        "ca_file": ca_file,
        "sample": sampled.then(|| json!({
            "tenant": sample::TENANT,
            "public_app": sample::PUBLIC_APP,
            "secret_app": sample::SECRET_APP,
            "certificate_app": sample::CERT_APP,
            "system_identity": sample::SYSTEM_IDENTITY,
            "user_identity": sample::USER_IDENTITY,
        })),
        "pid": std::process::id(),
    })
}

/// Resolves when the program is to end.
#[cfg(unix)]
fn end() -> Result<impl Future<Output = ()>, String> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|error| format!("signals: {error}"));
    let (mut term, mut int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}

/// Resolves when the program is to end.
#[cfg(not(unix))]
fn end() -> Result<impl Future<Output = ()>, String> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}

/// Lines for stderr, written by a thread of its own: a pipe that nobody empties holds up nothing else.
struct Log {
    lines: mpsc::SyncSender<String>,
    done: mpsc::Receiver<()>,
}

impl Log {
    fn start() -> Self {
        let (lines, taken) = mpsc::sync_channel::<String>(4096);
        let (written, done) = mpsc::channel();
        std::thread::spawn(move || {
            taken.iter().take_while(|line| !line.is_empty()).for_each(|line| complain(&line));
            drop(written);
        });
        Self { lines, done }
    }

    /// What was told before is written, if somebody reads it.
    fn finish(self) {
        let _ = self.lines.try_send(String::new());
        let _ = self.done.recv_timeout(Duration::from_millis(500));
    }
}

/// A request and its answer, for a person.
fn line(entry: &Entry) -> String {
    let at = jiff::Timestamp::try_from(entry.at).map(|at| format!("{at:.3}")).unwrap_or_default();
    let took = entry.took.unwrap_or_default();
    format!("{at} {entry} in {:.1} ms\n", took.as_secs_f64() * 1000.0)
}

/// What a client sent, without what a terminal would take for a command.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn read(argument: &str, path: &Path) -> Result<Vec<u8>, String> {
    let mut contents = Vec::new();
    // No more than that: it may be a device that never ends.
    let file = File::open(path).map(|file| io::Read::take(file, LARGEST_PEM));
    let read = file.and_then(|mut file| io::Read::read_to_end(&mut file, &mut contents));
    read.map_err(|error| format!("{argument} {}: {error}", path.display()))?;
    Ok(contents)
}

/// The whole file or none: who waits for it to appear can read it at once.
fn write(path: &Path, contents: &str) -> io::Result<()> {
    // What a link leads to is written, and not put in its place.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        // `/dev/null` would be a file from then on, where the program may do that.
        return fs::write(path, contents);
    }
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}", std::process::id()));
    let unfinished = path.with_file_name(name);
    let written = fs::write(&unfinished, contents).and_then(|()| fs::rename(&unfinished, path));
    written.inspect_err(|_| drop(fs::remove_file(&unfinished)))
}

fn refuse(message: &str) -> ExitCode {
    complain(&format!("emulator: {}\n", plain(message)));
    ExitCode::from(2)
}

fn complain(text: &str) {
    // Where nobody listens there is nobody left to tell.
    let _ = io::stderr().write_all(text.as_bytes());
}

/// `println!` would panic where nobody reads.
fn print(text: &str) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&format!("stdout: {error}")),
    }
}

struct Options {
    directory: Option<PathBuf>,
    certs: Option<PathBuf>,
    listen: SocketAddr,
    authority: Option<String>,
    identity: SocketAddr,
    identity_tls: Option<SocketAddr>,
    tls: Option<(PathBuf, PathBuf)>,
    ca_out: Option<PathBuf>,
    plain_http: bool,
    arc_key_dir: Option<PathBuf>,
    quiet: bool,
    anywhere: bool,
}

/// What the arguments ask for.
enum Wanted {
    Emulator(Box<Options>),
    Text(&'static str),
}

impl Options {
    fn parse(mut args: Parser) -> Result<Wanted, String> {
        let mut options = Self {
            directory: None,
            certs: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 8443)),
            authority: None,
            identity: SocketAddr::from(([127, 0, 0, 1], 8445)),
            identity_tls: None,
            tls: None,
            ca_out: None,
            plain_http: false,
            arc_key_dir: None,
            quiet: false,
            anywhere: false,
        };
        let (mut certificate, mut key) = (None, None);
        while let Some(arg) = args.next().map_err(|error| error.to_string())? {
            match arg {
                Arg::Long("directory") => options.directory = Some(path(&mut args)?),
                Arg::Long("certs") => options.certs = Some(path(&mut args)?),
                Arg::Long("listen") => options.listen = address("--listen", &mut args)?,
                Arg::Long("identity") => options.identity = address("--identity", &mut args)?,
                Arg::Long("authority") => {
                    options.authority = Some(text(&mut args)?);
                }
                Arg::Long("identity-tls") => {
                    options.identity_tls = Some(address("--identity-tls", &mut args)?);
                }
                Arg::Long("tls-cert") => certificate = Some(path(&mut args)?),
                Arg::Long("tls-key") => key = Some(path(&mut args)?),
                Arg::Long("ca-out") => options.ca_out = Some(path(&mut args)?),
                Arg::Long("plain-http") => options.plain_http = true,
                Arg::Long("arc-key-dir") => options.arc_key_dir = Some(path(&mut args)?),
                Arg::Long("quiet") => options.quiet = true,
                Arg::Long("dangerous-listen-anywhere") => options.anywhere = true,
                Arg::Long("help") | Arg::Short('h') => return Ok(Wanted::Text(USAGE)),
                Arg::Long("print-sample") => return Ok(Wanted::Text(sample::TOML)),
                other => return Err(other.unexpected().to_string()),
            }
        }
        options.tls = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => return Err("--tls-cert wants --tls-key too".to_owned()),
            (None, Some(_)) => return Err("--tls-key wants --tls-cert too".to_owned()),
        };
        options.consistent().map(|()| Wanted::Emulator(Box::new(options)))
    }

    fn consistent(&self) -> Result<(), String> {
        let own = self.tls.is_none() && (!self.plain_http || self.identity_tls.is_some());
        if self.plain_http && self.tls.is_some() {
            return Err("--plain-http and --tls-cert exclude each other".to_owned());
        }
        if self.ca_out.is_some() && !own {
            return Err("--ca-out: no certificate is made that it could tell of".to_owned());
        }
        let addresses = [
            ("--listen", Some(self.listen)),
            ("--identity", Some(self.identity)),
            ("--identity-tls", self.identity_tls),
        ];
        for (argument, address) in addresses {
            if let Some(address) = address.filter(|address| !self.anywhere && !address.ip().is_loopback()) {
                return Err(format!(
                    "{argument} {address}: only loopback addresses, unless --dangerous-listen-anywhere is said"
                ));
            }
        }
        Ok(())
    }

    /// What did not start, with the argument that it was given by.
    fn blame(&self, error: &io::Error) -> String {
        let error = error.to_string();
        let argument = match error.as_str() {
            _ if error.starts_with("TLS:") => "--tls-cert, --tls-key: ",
            _ if error.starts_with("the authority ") => "--authority: ",
            _ if error.contains("Azure Arc") => "--arc-key-dir: ",
            _ if error.contains(&format!(" {}:", self.listen)) => "--listen: ",
            _ if error.contains(&format!(" {}:", self.identity)) => "--identity: ",
            _ if self.identity_tls.is_some() => "--identity-tls: ",
            _ => "",
        };
        format!("{argument}{error}")
    }
}

fn address(argument: &str, args: &mut Parser) -> Result<SocketAddr, String> {
    let value = text(args)?;
    value.parse().map_err(|_| {
        format!("{argument} {value}: expected an address and a port, such as 127.0.0.1:8443 or [::1]:8443")
    })
}

fn text(args: &mut Parser) -> Result<String, String> {
    args.value().and_then(|value| value.string()).map_err(|error| error.to_string())
}

fn path(args: &mut Parser) -> Result<PathBuf, String> {
    args.value().map(PathBuf::from).map_err(|error| error.to_string())
}
