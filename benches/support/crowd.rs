//! A crowd at the door: many connections opened at once, by a child process, since both sides together would need more file
//! descriptors than a process has.

use std::{
    error::Error,
    io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpStream, task::JoinSet, time::timeout};

use crate::light_client::{Connection, now, request};

/// What everyone in it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Asks for a token, and leaves when it is there.
    Asks,
    /// Opens a connection and says nothing.
    Silent,
}

impl Manner {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Asks => "asks",
            Self::Silent => "silent",
        }
    }
}

/// How it went for them.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Outcome {
    /// Got what they came for.
    pub(crate) served: usize,
    pub(crate) refused: usize,
    /// Other errors: resets, and no more file descriptors on the crowd's own side.
    pub(crate) broken: usize,
    /// Not yet served at the end of their patience.
    pub(crate) waiting: usize,
    /// When the last of the served was.
    pub(crate) last_ms: u64,
}

/// A crowd that has done what it came to do, and that is still there.
pub(crate) struct Crowd {
    child: Child,
    pub(crate) outcome: Outcome,
}

impl Crowd {
    /// Comes, in a process of its own, and waits for its outcome.
    pub(crate) fn come(
        address: SocketAddr,
        size: usize,
        manner: Manner,
        patience: Duration,
    ) -> Result<Self, Box<dyn Error>> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--crowd", &address.to_string(), &size.to_string(), manner.name()])
            .arg(patience.as_millis().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        let mut numbers = line.split_whitespace().map(str::parse::<usize>);
        let mut next = || numbers.next().ok_or("the crowd said nothing");
        let outcome = Outcome {
            served: next()??,
            refused: next()??,
            broken: next()??,
            waiting: next()??,
            last_ms: next()?? as u64,
        };
        Ok(Self { child, outcome })
    }

    /// Goes, all at once.
    pub(crate) fn go(mut self) -> io::Result<()> {
        drop(self.child.stdin.take());
        self.child.wait().map(drop)
    }
}

/// The child's side: `ADDRESS SIZE MANNER PATIENCE`.
pub(crate) fn child(args: &[String]) -> Result<(), Box<dyn Error>> {
    let [address, size, manner, patience] = args else {
        return Err("not what a crowd is told".into());
    };
    let (address, size) = (address.parse()?, size.parse()?);
    let manner = if manner == Manner::Asks.name() { Manner::Asks } else { Manner::Silent };
    let patience = Duration::from_millis(patience.parse()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (outcome, held) = runtime.block_on(all(address, size, manner, patience))?;
    let Outcome { served, refused, broken, waiting, last_ms } = outcome;
    let mut output = io::stdout().lock();
    writeln!(output, "{served} {refused} {broken} {waiting} {last_ms}")?;
    output.flush()?;
    // Until it is told to go.
    io::stdin().read_to_end(&mut Vec::new())?;
    drop(held);
    Ok(())
}

async fn all(
    address: SocketAddr,
    size: usize,
    manner: Manner,
    patience: Duration,
) -> Result<(Outcome, Vec<TcpStream>), Box<dyn Error>> {
    let request = request();
    let start = now();
    let mut crowd = JoinSet::new();
    for _ in 0..size {
        let request = Arc::clone(&request);
        crowd.spawn(async move {
            #[expect(clippy::disallowed_methods, reason = "a crowd loses its patience in real time")]
            let one = timeout(patience, one(address, manner, &request)).await;
            (one, start.elapsed())
        });
    }
    let mut outcome = Outcome::default();
    let mut held = Vec::new();
    while let Some(one) = crowd.join_next().await {
        let (one, when) = one?;
        match one {
            Ok(Ok(stream)) => {
                outcome.served += 1;
                outcome.last_ms = outcome.last_ms.max(u64::try_from(when.as_millis())?);
                held.extend(stream);
            }
            Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => outcome.refused += 1,
            Ok(Err(_)) => outcome.broken += 1,
            Err(_) => outcome.waiting += 1,
        }
    }
    Ok((outcome, held))
}

async fn one(address: SocketAddr, manner: Manner, request: &[u8]) -> io::Result<Option<TcpStream>> {
    match manner {
        Manner::Silent => TcpStream::connect(address).await.map(Some),
        Manner::Asks => {
            Connection::open(address).await?.token(request).await?;
            Ok(None)
        }
    }
}
