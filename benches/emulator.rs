//! What a token of the emulator costs beside its signature, how soon the emulator is there, and whether a crowd of connections
//! brings it down. This exits with 1 if tokens cost much more than their signatures, or if it no longer answers after a crowd.
//!
//! `cargo bench --bench emulator --features emulator`, or with `-- --smoke` just to see that it works.

#![expect(clippy::print_stdout, reason = "a benchmark prints what it found")]

#[path = "support/crowd.rs"]
mod crowd;
#[path = "support/light_client.rs"]
mod light_client;

use std::{
    env,
    error::Error,
    hint::black_box,
    process::{Command, ExitCode},
    sync::mpsc,
    thread,
    time::Duration,
};

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair, KeySize},
    signature::RSA_PKCS1_SHA256,
};
use bytes::Bytes;
use crowd::{Crowd, Manner};
use entra_broker::emulator::{Emulator, Endpoint};
use http_body_util::BodyExt as _;
use light_client::{Connection, address, now, tokens_per_second};
use tokio::{runtime::Runtime, time::timeout};

/// As many as it takes for the server never to wait for the client.
const CONNECTIONS: usize = 8;

/// What tokens have to reach of the signing rate, in memory and over sockets.
const TARGET: f64 = 0.6;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("--crowd") => return crowd::child(&args[1..]).map(|()| ExitCode::SUCCESS),
        Some("--first-token") => return first_token().map(|()| ExitCode::SUCCESS),
        _ => {}
    }
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    // `cargo bench` says `--bench`; `cargo test --benches` does not.
    let smoke = has("--smoke") || has("--test") || !has("--bench");

    let plain = Served::start(false)?;
    let reached = speed(&plain.emulator, smoke)?;
    start_up(smoke)?;
    let answers = crowds(&plain.emulator, smoke)?;
    if !answers {
        println!("\nFAILED: the emulator has to answer after a crowd");
        return Ok(ExitCode::FAILURE);
    }
    if !reached && !smoke {
        println!("\nFAILED: tokens cost too much beside their signatures");
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// An emulator on a thread of its own, and so on one core.
struct Served {
    emulator: Emulator,
    /// Dropping it ends the thread.
    _over: tokio::sync::oneshot::Sender<()>,
}

impl Served {
    fn start(tls: bool) -> Result<Self, Box<dyn Error>> {
        let (sender, emulator) = mpsc::channel();
        let (over, ended) = tokio::sync::oneshot::channel();
        thread::spawn(move || {
            let started = runtime().and_then(|runtime| {
                let builder = Emulator::builder();
                let builder = if tls { builder.tls() } else { builder };
                runtime.block_on(builder.start()).map(|emulator| (runtime, emulator))
            });
            let (runtime, started) = match started {
                Ok((runtime, emulator)) => (Some(runtime), Ok(emulator)),
                Err(error) => (None, Err(error)),
            };
            let _ = sender.send(started);
            if let Some(runtime) = runtime {
                let _ = runtime.block_on(ended);
            }
        });
        Ok(Self { emulator: emulator.recv()??, _over: over })
    }
}

/// Tokens a second in four ways, in turns, so that what disturbs the machine disturbs them alike.
fn speed(plain: &Emulator, smoke: bool) -> Result<bool, Box<dyn Error>> {
    let (windows, window) = if smoke { (3, 10) } else { (41, 50) };
    let window = Duration::from_millis(window);
    let served_with_tls = Served::start(true)?;
    let with_tls = &served_with_tls.emulator;
    let in_memory = Emulator::in_memory();
    let client = runtime()?;
    let request = light_client::request();

    // What is signed: a token up to its signature.
    let token = client.block_on(in_memory_token(&in_memory))?;
    let message = token.rsplit_once('.').ok_or("not a token")?.0;
    let key = KeyPair::generate(KeySize::Rsa2048)?;

    let mut connections = Vec::new();
    let mut tls_connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(client.block_on(Connection::open(address(plain)?))?);
        let ca = with_tls.ca_pem().ok_or("no certificate")?;
        tls_connections.push(client.block_on(Connection::open_tls(address(with_tls)?, ca))?);
    }

    let mut rates = [const { Vec::new() }; 4];
    for round in 0..=windows {
        let signatures = per_second(window, || sign(&key, message))?;
        let tokens = client.block_on(async {
            let start = now();
            let mut tokens = 0_u32;
            while start.elapsed() < window {
                black_box(in_memory_token(&in_memory).await?);
                tokens += 1;
            }
            Ok::<_, Box<dyn Error>>(f64::from(tokens) / start.elapsed().as_secs_f64())
        })?;
        let (http, kept) = client.block_on(tokens_per_second(connections, &request, window))?;
        connections = kept;
        let (tls, kept) = client.block_on(tokens_per_second(tls_connections, &request, window))?;
        tls_connections = kept;
        // The first is the warm-up.
        if round > 0 {
            for (all, rate) in rates.iter_mut().zip([signatures, tokens, http, tls]) {
                all.push(rate);
            }
        }
    }

    println!(
        "one core of the emulator; medians of {windows} windows of {} ms, in turns\n",
        window.as_millis()
    );
    println!("{:<44} {:>9} {:>8}", "", "a second", "× RS256");
    let names = [
        format!("RS256 over {} bytes, RSA 2048", message.len()),
        "tokens in memory, Emulator::call".to_owned(),
        format!("tokens over HTTP, {CONNECTIONS} connections kept"),
        format!("tokens over TLS, {CONNECTIONS} connections kept"),
    ];
    let mut reached = true;
    for (name, all) in names.iter().zip(&rates) {
        // Within a round: the next one may have met a slower machine.
        let share = median(all.iter().zip(&rates[0]).map(|(rate, signatures)| rate / signatures).collect());
        println!("{name:<44} {:>9.0} {share:>8.2}", median(all.clone()));
        reached &= share >= TARGET;
    }
    println!("\n× RS256: has to be {TARGET} or more; the median of each round's own share.");
    Ok(reached)
}

fn sign(key: &KeyPair, message: &str) -> Result<(), Box<dyn Error>> {
    let mut signature = [0; 256];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature)?;
    black_box(signature);
    Ok(())
}

fn per_second(
    window: Duration,
    mut run: impl FnMut() -> Result<(), Box<dyn Error>>,
) -> Result<f64, Box<dyn Error>> {
    let start = now();
    let mut count = 0_u32;
    while start.elapsed() < window {
        run()?;
        count += 1;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

async fn in_memory_token(emulator: &Emulator) -> Result<String, Box<dyn Error>> {
    let request = http::Request::post(light_client::PATH)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Bytes::from(light_client::form()))?;
    let answer = emulator.call(Endpoint::TokenService, request).await?;
    let body = answer.into_body().collect().await?.to_bytes();
    let answer: serde_json::Value = serde_json::from_slice(&body)?;
    Ok(answer["access_token"].as_str().ok_or("no token")?.to_owned())
}

/// How long until an emulator is there, and until the first token of a process: its key is made meanwhile.
fn start_up(smoke: bool) -> Result<(), Box<dyn Error>> {
    let (starts, processes) = if smoke { (3, 2) } else { (101, 41) };
    let runtime = runtime()?;
    let mut took = [const { Vec::new() }; 4];
    for _ in 0..starts {
        for (tls, took) in [false, true].into_iter().zip(&mut took) {
            let builder = Emulator::builder();
            let builder = if tls { builder.tls() } else { builder };
            let start = now();
            let emulator = runtime.block_on(builder.start())?;
            took.push(ms(start.elapsed()));
            drop(emulator);
        }
    }
    for _ in 0..processes {
        let output = Command::new(env::current_exe()?).arg("--first-token").output()?;
        let said = String::from_utf8(output.stdout)?;
        let (started, token) = said.trim().split_once(' ').ok_or("a process that got no token")?;
        took[2].push(started.parse()?);
        took[3].push(token.parse()?);
    }

    println!("\n{:<44} {:>9} {:>8} {:>8}", "ms until", "median", "most", "of");
    let names = [
        "Emulator::start() returns",
        "builder().tls().start() returns",
        "in a new process: Emulator::start() returns",
        "in a new process: the first token over HTTP",
    ];
    for (name, took) in names.into_iter().zip(took) {
        let most = took.iter().copied().fold(0.0, f64::max);
        println!("{name:<44} {:>9.2} {most:>8.2} {:>8}", median(took.clone()), took.len());
    }
    println!(
        "\nin a new process: from the first line of `main`; an RSA key is searched for, so the time varies."
    );
    Ok(())
}

/// A child of this benchmark.
fn first_token() -> Result<(), Box<dyn Error>> {
    let start = now();
    runtime()?.block_on(async {
        let emulator = Emulator::start().await?;
        let started = start.elapsed();
        Connection::open(address(&emulator)?).await?.token(&light_client::request()).await?;
        println!("{} {}", ms(started), ms(start.elapsed()));
        Ok(())
    })
}

/// Whether it answers after each.
fn crowds(emulator: &Emulator, smoke: bool) -> Result<bool, Box<dyn Error>> {
    let size = if smoke { 300 } else { 10_000 };
    let client = runtime()?;
    let address = address(emulator)?;
    let request = light_client::request();
    // Of someone else, who comes alone.
    let answered_within = |patience| {
        #[expect(clippy::disallowed_methods, reason = "patience is real time")]
        client.block_on(async {
            let start = now();
            let token = async { Connection::open(address).await?.token(&request).await };
            let token = timeout(patience, token).await;
            token.is_ok_and(|token| token.is_ok()).then(|| ms(start.elapsed()))
        })
    };
    let told = |answered: Option<f64>| answered.map_or_else(|| "none".to_owned(), |ms| format!("{ms:.1}"));

    println!(
        "\n{:<26} {:>7} {:>7} {:>7} {:>8} {:>8} {:>10} {:>9}",
        format!("{size} connections at once"),
        "served",
        "refused",
        "broken",
        "waiting",
        "last ms",
        "meanwhile",
        "after it"
    );
    let mut answers = true;
    for (name, manner, patience) in [
        ("each asks and leaves", Manner::Asks, 60),
        // They are in once the kernel has them: as many as are served, and as many as may wait to be accepted.
        ("each says nothing", Manner::Silent, 3),
    ] {
        let crowd = Crowd::come(address, size, manner, Duration::from_secs(patience))?;
        let outcome = crowd.outcome;
        let meanwhile = answered_within(Duration::from_secs(2));
        crowd.go()?;
        let after = answered_within(Duration::from_secs(60));
        println!(
            "{name:<26} {:>7} {:>7} {:>7} {:>8} {:>8} {:>10} {:>9}",
            outcome.served,
            outcome.refused,
            outcome.broken,
            outcome.waiting,
            outcome.last_ms,
            told(meanwhile),
            told(after),
        );
        answers &= after.is_some();
        answers &= manner == Manner::Silent || outcome.served == size;
    }
    println!(
        "\nserved: got a token, or for who says nothing a connection, within 60 s and 3 s; waiting: not by then.\nmeanwhile, after it: ms until someone who comes alone has a token, while the silent are there and when they have gone."
    );
    Ok(answers)
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
