use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    sync::atomic::{AtomicUsize, Ordering},
};

use proptest::prelude::*;

use super::*;

/// A directory of its own for a test, which goes with it.
struct Dir(std::path::PathBuf);

impl Dir {
    fn new() -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("entra-broker-files-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> std::path::PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The error, which has to say what to do, and may show nothing of the file.
fn refused<T>(result: Result<T, Error>, why: &str) -> Error {
    let error = result.map(drop).expect_err(why);
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().starts_with("the key \"") && error.to_string().contains(why), "{why}: {error}");
    assert!(!error.advice().is_empty(), "{error}");
    assert!(!format!("{error:?}").contains("hunter2"));
    error
}

#[test]
fn a_small_file_is_read_whole() {
    let dir = Dir::new();
    let path = dir.write("key", b"hunter2\0\xff");
    assert_eq!(**read("the key", &path, 9).unwrap(), *b"hunter2\0\xff");
    symlink("key", dir.0.join("link")).unwrap();
    assert_eq!(read("the key", &dir.0.join("link"), 100).unwrap().len(), 9);
}

#[test]
fn a_link_that_came_in_the_place_of_a_file_since_it_was_found_is_not_followed() {
    let dir = Dir::new();
    let path = dir.write("key", b"hunter2");
    assert_eq!(**read_found("the key", &path, 9).unwrap(), *b"hunter2");
    dir.write("elsewhere", b"hunter2");
    fs::remove_file(&path).unwrap();
    symlink("elsewhere", &path).unwrap();
    refused(read_found("the key", &path, 9), "is a link");
    // Were it put there at the last moment.
    assert!(open(&path, Links::Refused).is_err() && open(&path, Links::Followed).is_ok());
}

#[test]
fn what_is_no_small_file_is_refused_at_once() {
    let dir = Dir::new();
    refused(read("the key", &dir.0.join("none"), 10), "does not exist");
    refused(read("the key", &dir.0, 10), "is a directory");
    refused(read("the key", Path::new("/dev/zero"), 10), "is a device or a pipe");
    refused(read("the key", &dir.write("empty", ""), 10), "is empty");
    refused(read("the key", &dir.write("large", "hunter2hunter2"), 13), "is larger than 13 bytes");
    let through = dir.write("file", "hunter2").join("more");
    refused(read("the key", &through, 10), "cannot be read");
    symlink("loop", dir.0.join("loop")).unwrap();
    refused(read("the key", &dir.0.join("loop"), 10), "cannot be read");
}

#[test]
fn a_file_of_a_gigabyte_is_not_read() {
    let dir = Dir::new();
    let path = dir.0.join("key");
    File::create(&path).unwrap().set_len(1 << 30).unwrap();
    refused(read("the key", &path, 64 * 1024), "is larger than 65536 bytes");
}

#[test]
fn a_file_without_a_size_of_its_own_is_read_no_further_than_the_limit() {
    // The kernel says of these that they hold nothing.
    let path = Path::new("/proc/self/mountinfo");
    assert_eq!(fs::metadata(path).unwrap().len(), 0);
    assert!(!read("the key", path, 1 << 24).unwrap().is_empty());
    refused(read("the key", path, 7), "is larger than 7 bytes");
}

#[test]
fn a_pipe_is_not_waited_at() {
    let dir = Dir::new();
    let path = dir.0.join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    refused(read("the key", &path, 10), "is a device or a pipe");
    // One that takes the place of a file between the look and the opening.
    refused(read_open("the key", &path, &open(&path, Links::Followed).unwrap(), 10), "is a device or a pipe");
}

#[test]
fn a_file_that_may_not_be_read_says_so() {
    let dir = Dir::new();
    let path = dir.write("key", "hunter2");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    // Root may read all the same.
    if fs::read(&path).is_err() {
        refused(read("the key", &path, 10), "may not be read by this process");
    }
    let denied = unreadable("the key", &path, io::ErrorKind::PermissionDenied.into());
    refused(Err::<(), _>(denied), "may not be read by this process");
}

#[test]
fn a_file_in_a_directory_lies_there_when_all_links_were_followed() {
    let dir = Dir::new();
    let (inside, outside) = (dir.0.join("in"), dir.0.join("in-and-out"));
    fs::create_dir_all(inside.join("deep")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(inside.join("deep/key"), "hunter2").unwrap();
    fs::write(outside.join("key"), "hunter2").unwrap();
    symlink("deep/key", inside.join("near")).unwrap();
    symlink("../in-and-out/key", inside.join("far")).unwrap();
    symlink("../in-and-out", inside.join("way")).unwrap();
    symlink(&inside, dir.0.join("alias")).unwrap();
    let of = |path: std::path::PathBuf| read_within("the key", &path, &inside, 100);
    for good in ["deep/key", "near", "deep/../deep/key", "../alias/near"] {
        assert_eq!(of(inside.join(good)).unwrap().len(), 7, "{good}");
    }
    assert_eq!(read_within("the key", &inside.join("near"), &dir.0.join("alias"), 100).unwrap().len(), 7);
    for bad in ["far", "way/key", "../in-and-out/key"] {
        refused(of(inside.join(bad)), "does not lie in");
    }
    refused(of(outside.join("key")), "does not lie in");
    refused(of(inside.join("none")), "does not exist");
    refused(of(inside.clone()), "is a directory");
}

#[test]
fn a_secret_has_nothing_around_it() {
    let dir = Dir::new();
    let of = |bytes: &[u8]| read_secret("the key", &dir.write("key", bytes), 100);
    for bytes in [&b"hunter2"[..], b"hunter2\n", b"hunter2\r\n", b"\xef\xbb\xbfhunter2\n", b" \thunter2 \n\n"]
    {
        assert_eq!(of(bytes).unwrap().expose(), "hunter2", "{bytes:?}");
    }
    assert_eq!(of("hun ter2é".as_bytes()).unwrap().expose(), "hun ter2é");
    for bytes in [&b"\n"[..], b" \t", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n"] {
        refused(of(bytes), "is empty");
    }
    refused(of(b"hunter2\xff"), "is not UTF-8 text");
    refused(of(b"\xff\xfeh\0u\0"), "is not UTF-8 text");
}

#[test]
fn a_path_is_shown_escaped_and_cut() {
    let error = read("the key", Path::new("/none/\n\u{202e}evil"), 10).unwrap_err();
    assert!(error.to_string().contains(r"/none/\n\u{202e}evil"), "{error}");
    let error = read("the key", Path::new(&"/none".repeat(100)), 10).unwrap_err();
    assert!(error.to_string().len() < 200, "{error}");
}

#[cfg(feature = "certificate")]
#[test]
fn a_stamp_changes_with_the_file() {
    let dir = Dir::new();
    let path = dir.write("key", "one");
    let stamp = Stamp::of(&path).unwrap();
    assert_eq!(Stamp::of(&path), Some(stamp.clone()));
    // Put in its place: as old and as large.
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let other = dir.write("other", "two");
    File::options().write(true).open(&other).unwrap().set_modified(modified).unwrap();
    fs::rename(&other, &path).unwrap();
    assert_ne!(Stamp::of(&path), Some(stamp));

    let stamp = Stamp::of(&path);
    fs::write(&path, "three").unwrap();
    assert_ne!(Stamp::of(&path), stamp, "larger");
    fs::remove_file(&path).unwrap();
    assert_eq!(Stamp::of(&path), None);

    // As Kubernetes does it: a link to a link to a file, of which the middle one is turned around.
    for version in ["v1", "v2"] {
        fs::create_dir(dir.0.join(version)).unwrap();
        fs::write(dir.0.join(version).join("token"), "same").unwrap();
        File::options()
            .write(true)
            .open(dir.0.join(version).join("token"))
            .unwrap()
            .set_modified(modified)
            .unwrap();
    }
    symlink("v1", dir.0.join("data")).unwrap();
    symlink("data/token", dir.0.join("token")).unwrap();
    let stamp = Stamp::of(&dir.0.join("token"));
    symlink("v2", dir.0.join("next")).unwrap();
    fs::rename(dir.0.join("next"), dir.0.join("data")).unwrap();
    assert_ne!(Stamp::of(&dir.0.join("token")), stamp, "turned around");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_bytes_are_a_trimmed_secret_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..40), limit in 0_usize..40) {
        let dir = Dir::new();
        let path = dir.write("key", &bytes);
        match read_secret("the key", &path, limit) {
            Ok(secret) => {
                let text = secret.expose();
                let bare = text.trim();
                prop_assert!(!text.is_empty() && text == bare);
                prop_assert!(bytes.len() <= limit && std::str::from_utf8(&bytes).unwrap().contains(text));
            }
            Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Config),
        }
    }
}
