//! Managed identity on Azure Arc: the challenge, the key file, and what becomes of it.

#![expect(clippy::unwrap_used, reason = "what goes wrong here fails a test")]

use crate::server_scratch::Scratch;
use crate::support::*;
use entra_broker::emulator::{Emulator, sample};
use std::fs;
use std::path::Path;
use std::time::Duration;

const ARC: &str = "/arc/token?api-version=2020-06-01&resource=https://storage.azure.com";
const METADATA: (&str, &str) = ("metadata", "true");

fn emulator(keys: &Scratch) -> Emulator {
    Emulator::builder().arc_key_dir(keys.path()).in_memory()
}

async fn ask_arc(emulator: &Emulator, key: Option<&str>) -> Answer {
    let authorization = key.map(|key| format!("Basic {key}"));
    let mut headers = vec![METADATA];
    headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
    identify(emulator, get(ARC, &headers)).await
}

/// The path of the challenge's file, and what is in it.
fn key(answer: &Answer) -> (String, String) {
    assert_eq!(answer.status, 401, "{:?}", answer.body);
    let path = answer.header("www-authenticate").strip_prefix("Basic realm=").unwrap();
    (path.to_owned(), fs::read_to_string(path).unwrap())
}

#[tokio::test]
async fn the_token_is_for_who_can_read_the_file() {
    let keys = Scratch::new();
    let emulator = emulator(&keys);
    let (path, contents) = key(&ask_arc(&emulator, None).await);
    assert_eq!(Path::new(&path).parent().unwrap(), keys.path());
    assert!(Path::new(&path).is_absolute() && path.ends_with(".key"));
    assert!((32..=4096).contains(&contents.len()));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let answer = ask_arc(&emulator, Some(&contents)).await;
    assert_eq!(answer.claims()["appid"], sample::SYSTEM_IDENTITY);
    assert_eq!(answer.json()["expires_in"], "3599");
    assert_eq!(answer.json()["resource"], "https://storage.azure.com");
    assert!(keys.files().is_empty(), "a used key's file is removed");
}

#[tokio::test]
async fn a_wrong_or_used_key_is_challenged_anew() {
    let keys = Scratch::new();
    let emulator = emulator(&keys);
    let (first, contents) = key(&ask_arc(&emulator, None).await);
    let (second, _) = key(&ask_arc(&emulator, Some("d3Jvbmc=")).await);
    assert_ne!(first, second);
    assert_eq!(ask_arc(&emulator, Some(&contents)).await.status, 200);
    let (third, _) = key(&ask_arc(&emulator, Some(&contents)).await);
    assert!(third != first && third != second);
    // The scheme has to be right, too.
    let bearer = format!("Bearer {contents}");
    assert_eq!(identify(&emulator, get(ARC, &[METADATA, ("authorization", &bearer)])).await.status, 401);
}

#[tokio::test]
async fn an_old_key_is_refused_and_its_file_removed() {
    let (keys, clock) = (Scratch::new(), Clock::new());
    let emulator = clock.builder().arc_key_dir(keys.path()).in_memory();
    let (path, contents) = key(&ask_arc(&emulator, None).await);
    clock.advance(Duration::from_secs(301));
    let (fresh, _) = key(&ask_arc(&emulator, Some(&contents)).await);
    assert!(!Path::new(&path).exists() && Path::new(&fresh).exists());
}

#[tokio::test]
async fn key_files_are_few_and_end_with_the_emulator() {
    let keys = Scratch::new();
    keys.write("other.key", "somebody else's");
    let emulator = emulator(&keys);
    let (oldest, contents) = key(&ask_arc(&emulator, None).await);
    for _ in 0..100 {
        ask_arc(&emulator, None).await;
    }
    assert!(keys.files().len() <= 65, "{}", keys.files().len());
    assert!(!Path::new(&oldest).exists());
    assert_eq!(ask_arc(&emulator, Some(&contents)).await.status, 401);
    drop(emulator);
    assert_eq!(keys.files(), ["other.key"]);
}

#[tokio::test]
async fn without_a_directory_the_error_says_what_to_set() {
    let answer = ask_arc(&Emulator::in_memory(), None).await;
    assert_eq!(answer.status, 500);
    let description = answer.json()["error_description"].as_str().unwrap().to_owned();
    assert!(description.contains("Builder::arc_key_dir"), "{description}");
}

#[tokio::test]
async fn a_directory_that_cannot_be_used_is_an_error_at_the_start() {
    let scratch = Scratch::new();
    let file = scratch.write("file", "");
    for dir in [file.clone(), format!("{file}/below"), format!("{}/a=b", scratch.path().display())] {
        let error = Emulator::builder().arc_key_dir(&dir).start().await.unwrap_err();
        assert!(error.to_string().contains(&dir), "{error}");
    }
    let new = scratch.path().join("made/for/it");
    Emulator::builder().arc_key_dir(&new).start().await.unwrap();
    assert_eq!(fs::read_dir(new).unwrap().count(), 0);
}

#[tokio::test]
async fn a_user_assigned_identity_is_found_by_each_of_its_ids_and_named_in_the_answer() {
    let keys = Scratch::new();
    let emulator = emulator(&keys);
    for (name, id) in [
        ("client_id", sample::USER_IDENTITY),
        ("object_id", sample::USER_IDENTITY_OBJECT_ID),
        ("msi_res_id", sample::USER_IDENTITY_RESOURCE_ID),
    ] {
        let path = format!("{ARC}&{name}={id}");
        let (_, contents) = key(&identify(&emulator, get(&path, &[METADATA])).await);
        let shown = format!("Basic {contents}");
        let answer = identify(&emulator, get(&path, &[METADATA, ("authorization", &shown)])).await;
        assert_eq!(answer.claims()["oid"], sample::USER_IDENTITY_OBJECT_ID);
        assert_eq!(answer.json()[name], id);
    }
    let path = format!("{ARC}&client_id=99999999-0000-0000-0000-000000000000");
    let (_, contents) = key(&identify(&emulator, get(&path, &[METADATA])).await);
    let shown = format!("Basic {contents}");
    let answer = identify(&emulator, get(&path, &[METADATA, ("authorization", &shown)])).await;
    assert_eq!((answer.status.as_u16(), answer.json()["error"].as_str()), (404, Some("not_found")));
}

#[tokio::test]
async fn other_versions_and_requests_without_the_header_are_refused() {
    let keys = Scratch::new();
    let emulator = emulator(&keys);
    let wrong = ARC.replace("2020-06-01", "2018-02-01");
    assert_eq!(identify(&emulator, get(&wrong, &[METADATA])).await.status, 400);
    assert_eq!(identify(&emulator, get(ARC, &[])).await.json()["error"], "bad_request_102");
    assert!(keys.files().is_empty());
}

#[tokio::test]
async fn no_key_is_in_a_debug_text_or_in_the_journal() {
    let keys = Scratch::new();
    let emulator = emulator(&keys);
    let (_, contents) = key(&ask_arc(&emulator, None).await);
    assert_eq!(ask_arc(&emulator, Some(&contents)).await.status, 200);
    let told = format!("{emulator:?} {:?}", emulator.journal().entries());
    assert!(!told.contains(&contents));
}
