//! What a cached token costs: entra-broker and its peers side by side, in one run.
//!
//! `cargo run --release --manifest-path benches/peers/Cargo.toml`, with `-- --smoke` just to see that it works. The last line
//! of the output is one JSON object with what was found. `--only hits|scale|latency` runs one part; `--write` writes what was
//! found to `benches/results` as tables and pictures, and `--draw` makes those again of what was written before. In full it
//! takes some eight minutes and 8 GB of memory.
//!
//! - `hits`: one key, on one thread and on two that ask for the same. All take turns in 21 short windows.
//! - `scale`: 10 to 1,000,000 keys at random.
//! - `latency`: what callers feel while tokens are refreshed.
//!
//! Everyone is given the same token of 1,500 bytes, and is asked in the same way: an async function awaits it over and over.

mod charts;
mod contestants;
mod counting;
mod hits;
mod latency;
mod report;
mod results;
mod scale;
mod service;
mod svg;
#[path = "../../support/windows.rs"]
mod windows;

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    thread,
};

use counting::Counting;
use lexopt::{Arg, Parser, ValueExt as _};
use results::Results;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Whatever went wrong.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// What is asked for on the command line.
#[derive(Debug, Default)]
struct Args {
    smoke: bool,
    only: Option<String>,
    write: bool,
    draw: bool,
}

const PARTS: [&str; 3] = ["hits", "scale", "latency"];

impl Args {
    fn parse() -> Result<Self, lexopt::Error> {
        let mut args = Self::default();
        let mut parser = Parser::from_env();
        while let Some(arg) = parser.next()? {
            match arg {
                Arg::Long("smoke") => args.smoke = true,
                Arg::Long("write") => args.write = true,
                Arg::Long("draw") => args.draw = true,
                Arg::Long("only") => {
                    let part = parser.value()?.string()?;
                    if !PARTS.contains(&part.as_str()) {
                        return Err(format!("--only: one of {}", PARTS.join(", ")).into());
                    }
                    args.only = Some(part);
                }
                other => return Err(other.unexpected()),
            }
        }
        if args.smoke && args.write {
            return Err("--smoke measures nothing that should be written".into());
        }
        Ok(args)
    }

    fn runs(&self, part: &str) -> bool {
        !self.draw && self.only.as_deref().is_none_or(|only| only == part)
    }
}

fn main() -> Result<(), Failure> {
    // One of the peers asks a loopback socket through a client of its own, which would ask a proxy.
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        // SAFETY: there is no other thread yet.
        unsafe { env::remove_var(name) };
    }
    let args = Args::parse()?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../results");
    if args.draw {
        return write(&folder, &read(&folder)?);
    }

    let found = Results {
        machine: format!("{} cores", thread::available_parallelism()?),
        hits: args.runs("hits").then(|| hits::hits(args.smoke)).transpose()?,
        latency: args.runs("latency").then(|| latency::latency(args.smoke)).transpose()?,
        // Last, since the allocator keeps most of the gigabytes.
        scale: args.runs("scale").then(|| scale::scale(args.smoke)).transpose()?,
    };
    println!("{}", report::plain(&found));
    if args.smoke {
        // A picture that cannot be drawn is found out here, too.
        draw(&found).for_each(drop);
    }
    let line = serde_json::to_string(&found)?;
    if args.write {
        let before = if args.only.is_some() { read(&folder).unwrap_or_default() } else { Results::default() };
        write(&folder, &found.or(before))?;
    }
    println!("{line}");
    Ok(())
}

fn json(folder: &Path) -> PathBuf {
    folder.join("peers.json")
}

fn read(folder: &Path) -> Result<Results, Failure> {
    Ok(serde_json::from_slice(&fs::read(json(folder))?)?)
}

fn write(folder: &Path, results: &Results) -> Result<(), Failure> {
    fs::create_dir_all(folder)?;
    fs::write(json(folder), serde_json::to_string(results)? + "\n")?;
    fs::write(folder.join("peers.md"), report::markdown(results))?;
    for (name, svg) in draw(results) {
        fs::write(folder.join(name), svg)?;
    }
    Ok(())
}

/// All pictures of what there is.
fn draw(results: &Results) -> impl Iterator<Item = (&'static str, String)> {
    let Results { hits, scale, latency, .. } = results;
    [
        hits.as_ref().map(|part| ("hits.svg", charts::hits(part))),
        scale.as_ref().map(|part| ("scaling.svg", charts::scaling(part))),
        latency.as_ref().map(|part| ("refresh.svg", charts::refresh(part))),
    ]
    .into_iter()
    .flatten()
}
