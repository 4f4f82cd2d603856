//! Azure Arc's key files: which are read, and that nothing is said of any other.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use proptest::prelude::*;

use super::{
    super::arc::{advised, authorization},
    *,
};

/// Stands in every file, and may stand in no error.
const CONTENTS: &str = "c0ntents-of-a-file";

/// A directory with `tokens` in it, which is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("entra-broker-arc-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(path.join("tokens")).unwrap();
        Self(path.canonicalize().unwrap())
    }

    fn tokens(&self) -> PathBuf {
        self.0.join("tokens")
    }

    fn write(&self, below: &str, contents: impl AsRef<[u8]>) -> String {
        let path = self.0.join(below);
        fs::write(&path, contents).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn arc(dir: &Path) -> ManagedIdentity {
    system("azure-arc").dangerous().trust_arc_keys_in(dir).unwrap()
}

/// A fetch on the real clock: files are read in real time. Nothing in it waits for time to pass.
async fn asked(
    identity: &ManagedIdentity,
    replies: impl IntoIterator<Item = Reply>,
) -> (Result<Fetched, Error>, Arc<Double>) {
    let (clock, double) = (Clock::system(), Double::new(replies));
    let cx = context(&double, &clock);
    let request = TokenRequest::new(format!("{VAULT}/.default")).unwrap();
    (identity.fetch(&cx, &request, Grant::App).await, double)
}

fn challenge(realm: &str) -> Reply {
    Reply::Headed(401, format!("Basic realm={realm}"))
}

#[tokio::test]
async fn the_contents_of_the_file_are_shown_in_a_second_request_like_the_first() {
    let scratch = Scratch::new();
    let largest = "k".repeat(4096);
    for contents in [CONTENTS, "c0ntents-of-a-file\r\n", &largest] {
        let path = scratch.write("tokens/a.key", contents);
        for realm in [path.clone(), format!("\"{path}\"")] {
            let (ended, double) =
                asked(&arc(&scratch.tokens()), [challenge(&realm), Reply::Answer(200, TOKEN)]).await;
            ended.unwrap();
            assert_eq!(double.requests(), 2);
            assert_eq!(double.header(0, "authorization"), None);
            assert_eq!(double.header(1, "authorization").unwrap(), format!("Basic {}", contents.trim()));
            assert!(double.seen.lock()[1].1.headers()["authorization"].is_sensitive());
            assert_eq!(double.header(1, "metadata").as_deref(), Some("true"));
            assert_eq!(double.query(0), double.query(1));
        }
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_directory_that_is_reached_by_a_link_is_the_directory() {
    let scratch = Scratch::new();
    scratch.write("tokens/a.key", CONTENTS);
    let link = scratch.0.join("link");
    std::os::unix::fs::symlink(scratch.tokens(), &link).unwrap();
    for (dir, realm) in [(&link, scratch.tokens().join("a.key")), (&scratch.tokens(), link.join("a.key"))] {
        let replies = [challenge(realm.to_str().unwrap()), Reply::Answer(200, TOKEN)];
        asked(&arc(dir), replies).await.0.unwrap();
    }
}

/// What a challenge may name that is no key file of the agent's.
fn traps(scratch: &Scratch) -> Vec<(String, &'static str)> {
    let tokens = scratch.tokens();
    let name = |below: &str| tokens.join(below).to_str().unwrap().to_owned();
    fs::create_dir(tokens.join("dir.key")).unwrap();
    fs::File::create(tokens.join("huge.key")).unwrap().set_len(1 << 30).unwrap();
    #[cfg_attr(not(unix), expect(unused_mut, reason = "links are made on Unix only"))]
    let mut traps = vec![
        (scratch.write("outside.key", CONTENTS), "does not lie in"),
        (scratch.write("tokens/a.txt", CONTENTS), "does not end in .key"),
        (scratch.write("tokens/key", CONTENTS), "does not end in .key"),
        (scratch.write("tokens/.key", CONTENTS), "does not end in .key"),
        (scratch.write("tokens/a.key.bak", CONTENTS), "does not end in .key"),
        (scratch.write("tokens/a.KEY", CONTENTS), "does not end in .key"),
        (scratch.write("tokens/large.key", CONTENTS.repeat(300)), "larger than 4096 bytes"),
        (scratch.write("tokens/empty.key", ""), "is empty"),
        (scratch.write("tokens/blank.key", " \r\n"), "holds no key"),
        (scratch.write("tokens/lines.key", format!("{CONTENTS}\nX-Evil: 1")), "holds no key"),
        (scratch.write("tokens/binary.key", format!("{CONTENTS}\u{fc}")), "holds no key"),
        (name("huge.key"), "larger than 4096 bytes"),
        (name("dir.key"), "is a directory"),
        (name("missing.key"), "does not exist"),
        (name("../outside.key"), "does not lie in"),
        (name("../tokens/../outside.key"), "does not lie in"),
        (tokens.to_str().unwrap().to_owned(), "does not end in .key"),
        ("tokens/a.key".to_owned(), "is not named by a whole path"),
        ("a.key".to_owned(), "is not named by a whole path"),
        (format!("/{}", name("a.key")), "is not named by a whole path"),
        (r"\\evil.example\share\a.key".to_owned(), "is not named by a whole path"),
    ];
    #[cfg(unix)]
    {
        let link = |to: &Path, below: &str| std::os::unix::fs::symlink(to, tokens.join(below)).unwrap();
        link(&scratch.0.join("outside.key"), "out.key");
        link(&tokens.join("a.txt"), "text.key");
        link(&tokens.join("loop.key"), "loop.key");
        link(Path::new("/dev/zero"), "zero.key");
        link(&scratch.0, "up");
        traps.extend([
            (name("out.key"), "does not lie in"),
            (name("text.key"), "does not end in .key"),
            (name("loop.key"), "cannot be read"),
            (name("zero.key"), "does not end in .key"),
            (name("up/outside.key"), "does not lie in"),
        ]);
    }
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        mknodat(CWD, tokens.join("pipe.key"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        traps.push((name("pipe.key"), "is a device or a pipe"));
    }
    traps
}

#[tokio::test]
async fn no_other_file_is_read_nothing_of_it_is_said_and_nothing_more_is_sent() {
    let scratch = Scratch::new();
    let identity = arc(&scratch.tokens());
    for (realm, why) in traps(&scratch) {
        let (ended, double) = asked(&identity, [challenge(&realm)]).await;
        let error = ended.unwrap_err();
        assert_eq!((error.kind(), double.requests()), (ErrorKind::Config, 1), "{realm}: {error}");
        assert!(error.to_string().contains(why), "{realm}: {error}");
        assert!(error.to_string().starts_with("the key file of Azure Arc "), "{error}");
        assert!(!error.advice().is_empty(), "{error}");
        assert!(!all_text(&error).contains("c0ntents"), "{error:?}");
    }
}

#[test]
fn who_may_not_read_the_file_is_told_of_the_agents_group() {
    use std::io;
    // As the reading of files says it: a test may run as root, which may read all of them.
    let unreadable = |kind| Error::config("x").with_advice("In general.").with_source(io::Error::from(kind));
    assert!(advised(unreadable(io::ErrorKind::PermissionDenied)).advice().contains("the group himds"));
    assert_eq!(advised(unreadable(io::ErrorKind::NotFound)).advice(), "In general.");
    assert_eq!(advised(Error::config("x").with_advice("In general.")).advice(), "In general.");
}

#[tokio::test]
async fn the_usual_directory_is_the_only_one_unless_somebody_says_otherwise() {
    let scratch = Scratch::new();
    let path = scratch.write("tokens/a.key", CONTENTS);
    let (ended, double) = asked(&system("azure-arc"), [challenge(&path)]).await;
    assert_eq!((ended.unwrap_err().kind(), double.requests()), (ErrorKind::Config, 1));
    let error = system("azure-arc").dangerous().trust_arc_keys_in("tokens").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    // On another platform it is of no consequence.
    system("imds").dangerous().trust_arc_keys_in(scratch.tokens()).unwrap();
}

#[tokio::test]
async fn a_refusal_that_names_no_file_is_nonsense() {
    for challenge in ["Basic", "Basic realm=", "Bearer realm=/var/opt/azcmagent/tokens/a.key", "Negotiate"] {
        let (ended, double) = asked(&system("azure-arc"), [Reply::Headed(401, challenge.to_owned())]).await;
        let error = ended.unwrap_err();
        assert_eq!((error.kind(), double.requests()), (ErrorKind::Protocol, 1), "{challenge}");
        assert!(error.to_string().contains("named no key file"), "{error}");
    }
    let (ended, double) = asked(&system("azure-arc"), [Reply::Answer(401, "")]).await;
    assert_eq!((ended.unwrap_err().kind(), double.requests()), (ErrorKind::Protocol, 1));
}

#[tokio::test]
async fn one_challenge_is_answered_and_no_second_one() {
    let scratch = Scratch::new();
    let path = scratch.write("tokens/a.key", CONTENTS);
    for status in [401, 404, 429, 500, 503] {
        let second = Reply::Headed(status, format!("Basic realm={path}"));
        let (ended, double) = asked(&arc(&scratch.tokens()), [challenge(&path), second]).await;
        let error = ended.unwrap_err();
        assert_eq!(double.requests(), 2, "{status}: a key is good for one request");
        let kind = if status == 429 { ErrorKind::Throttled } else { ErrorKind::Unavailable };
        assert_eq!((error.kind(), error.status()), (kind, Some(status)));
        assert!(!all_text(&error).contains("c0ntents"));
    }
}

#[tokio::test]
async fn a_challenge_from_any_other_platform_is_not_answered() {
    let scratch = Scratch::new();
    let path = scratch.write("tokens/a.key", CONTENTS);
    for (name, _) in platforms().into_iter().filter(|(name, _)| *name != "azure-arc") {
        let identity = system(name).dangerous().trust_arc_keys_in(scratch.tokens()).unwrap();
        let (ended, double) = asked(&identity, [challenge(&path)]).await;
        assert_eq!((ended.unwrap_err().kind(), double.requests()), (ErrorKind::Unavailable, 1), "{name}");
    }
}

proptest! {
    #[test]
    fn no_realm_leads_to_a_file_elsewhere(parts in prop::collection::vec(0_usize..12, 0..8), odd in "\\PC{0,12}") {
        thread_local!(static SCRATCH: Scratch = {
            let scratch = Scratch::new();
            scratch.write("tokens/good.key", "g00d");
            scratch.write("outside.key", CONTENTS);
            scratch.write("tokens/other.txt", CONTENTS);
            fs::create_dir(scratch.0.join("tokens-too")).unwrap();
            scratch.write("tokens-too/near.key", CONTENTS);
            #[cfg(unix)]
            for (to, from) in [("outside.key", "tokens/link.key"), ("", "tokens/up"), ("tokens-too", "tokens/beside")] {
                std::os::unix::fs::symlink(scratch.0.join(to), scratch.0.join(from)).unwrap();
            }
            scratch
        });
        SCRATCH.with(|scratch| {
            let pieces = [
                "/good.key", "/outside.key", "/link.key", "/other.txt", "/near.key", "/tokens", "/tokens-too", "/up",
                "/beside", "/..", "/.", odd.as_str(),
            ];
            let path = scratch.0.to_str().unwrap().to_owned() + &parts.iter().map(|at| pieces[*at]).collect::<String>();
            match authorization(Path::new(&path), &scratch.tokens()) {
                Ok(header) => prop_assert_eq!(header.as_bytes(), b"Basic g00d", "{}", path),
                Err(error) => prop_assert!(!all_text(&error).contains("c0ntents") && !all_text(&error).contains("g00d")),
            }
            Ok(())
        })?;
    }
}
