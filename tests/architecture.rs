//! The shape of the crate: which room may know which, how large a file may grow, and what may stand in none.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The files beside `lib.rs`: no IO, known to all rooms, knowing none.
const VOCABULARY: &str = "vocabulary";

/// Each room with the rooms that it may import. What stands here is all there is: a new room has to be added.
const ROOMS: &[(&str, &[&str])] = &[
    (VOCABULARY, &[]),
    ("wire", &[VOCABULARY]),
    ("http", &[VOCABULARY, "wire"]),
    ("provider", &[VOCABULARY, "wire", "http"]),
    ("cache", &[VOCABULARY]),
    ("refresh", &[VOCABULARY, "cache"]),
    ("broker", &[VOCABULARY, "wire", "http", "provider", "cache", "refresh"]),
    ("consent", &[VOCABULARY, "wire"]),
    ("validate", &[VOCABULARY, "wire", "http"]),
    ("guide", &[]),
    // What the crate exports, wherever that is from: see the test on it.
    ("integrations", &[VOCABULARY, "http", "provider", "broker"]),
    // A misread protocol or a wrong normalisation must not cancel out on both sides.
    ("emulator", &[]),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The room of a file or module below `src`: a folder of its own, or the vocabulary.
fn room_of(module: &str) -> &str {
    let known = ROOMS.iter().find(|(room, _)| *room == module);
    known.map_or(VOCABULARY, |(room, _)| room)
}

/// The code without comments, which may speak of whatever they like.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let code = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    code.collect::<Vec<_>>().join("\n")
}

/// The first names after each `crate::`, whether in a `use` or not, one or a braced list of them.
fn names_after_crate(code: &str) -> BTreeSet<String> {
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(list) = rest.strip_prefix('{') else {
            names.insert(word(rest));
            continue;
        };
        let mut depth = 0;
        let mut start = 0;
        for (i, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => {
                    names.insert(word(&list[start..i]));
                    break;
                }
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    names.insert(word(&list[start..i]));
                    start = i + 1;
                }
                _ => {}
            }
        }
    }
    names.remove("");
    names
}

/// What `lib.rs` re-exports, with the module that it comes from.
fn exports() -> BTreeMap<String, String> {
    let lib = code(&root().join("src/lib.rs"));
    let mut exports = BTreeMap::new();
    for statement in lib.split(';').filter_map(|statement| statement.split("pub use ").nth(1)) {
        let (module, names) = statement.trim().trim_start_matches("self::").split_once("::").unwrap();
        for name in
            names.trim_matches(['{', '}']).split(',').map(|name| name.trim_matches(['{', '}', ' ', '\n']))
        {
            exports.insert(name.to_owned(), module.to_owned());
        }
    }
    assert_eq!(exports["Broker"], "broker", "the re-exports were read");
    exports
}

#[test]
fn no_room_imports_one_that_it_may_not_know() {
    let (src, exports) = (root().join("src"), exports());
    let mut crossings = Vec::new();
    let mut seen = BTreeSet::new();
    for path in rust_files(&src) {
        let below = path.strip_prefix(&src).unwrap();
        if below == Path::new("lib.rs") {
            continue;
        }
        let first = below.components().next().unwrap().as_os_str().to_str().unwrap();
        let room = room_of(first.trim_end_matches(".rs"));
        seen.insert(room.to_owned());
        let allowed = ROOMS.iter().find(|(name, _)| *name == room).unwrap().1;
        let mut names = names_after_crate(&code(&path));
        // What belongs to the root of the crate itself is everyone's.
        names.remove("BoxFuture");
        for name in names {
            let module = exports.get(&name).map_or(name.as_str(), String::as_str);
            let target = room_of(module);
            if target != room && !allowed.contains(&target) {
                crossings.push(format!("{} knows {target} by crate::{name}", below.display()));
            }
        }
    }
    assert!(crossings.is_empty(), "{crossings:#?}");
    assert!(
        ["vocabulary", "wire", "http", "refresh", "broker", "emulator"]
            .iter()
            .all(|room| seen.contains(*room))
    );
}

#[test]
fn the_emulator_knows_nothing_of_the_crate() {
    for path in rust_files(&root().join("src/emulator")) {
        let code = code(&path).replace("crate::emulator", "");
        for foreign in ["crate::", "super::super", "entra_broker::"] {
            assert!(!code.contains(foreign), "{} has {foreign}", path.display());
        }
    }
    let entrance = code(&root().join("src/emulator/mod.rs"));
    assert!(!entrance.contains("super::"), "the entrance reaches out of the room");
}

/// The names of all functions of the rest of the crate whose visibility is `seen`.
fn functions(seen: &str) -> BTreeSet<String> {
    let src = root().join("src");
    let files = rust_files(&src).into_iter();
    let others = files.filter(|path| {
        !path.starts_with(src.join("integrations")) && !path.starts_with(src.join("emulator"))
    });
    let code: String = others.map(|path| code(&path)).collect();
    let rest = code.split(seen).skip(1).filter_map(|rest| {
        let rest = rest.trim_start_matches("const ").trim_start_matches("async ");
        rest.strip_prefix("fn ")
    });
    rest.map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()).collect()
}

#[test]
fn integrations_use_what_any_user_of_the_crate_could() {
    let (exports, public) = (exports(), functions("pub "));
    let inner: Vec<String> = ["pub(crate) ", "pub(super) "].iter().flat_map(|seen| functions(seen)).collect();
    assert!(
        public.contains("get_token") && inner.iter().any(|name| name == "get_challenge"),
        "they were read"
    );
    let dir = root().join("src/integrations");
    // What the integrations' own files have of each other is theirs.
    let all: String = rust_files(&dir).iter().map(|path| code(path)).collect();
    let own = |name: &str| all.contains(&format!("fn {name}("));
    // A short name may well be that of another crate's method.
    let telling = |name: &str| name.contains('_') && name != "is_empty";
    for path in rust_files(&dir) {
        let code = code(&path);
        for name in names_after_crate(&code) {
            let known = exports.contains_key(&name) || name == "BoxFuture";
            assert!(known, "{} has crate::{name}, which is not exported", path.display());
        }
        for name in inner.iter().filter(|name| !public.contains(*name) && !own(name) && telling(name)) {
            let method = code.contains(&format!(".{name}("));
            let called = method
                || exports
                    .keys()
                    .filter(|of| !of.is_empty())
                    .any(|of| code.contains(&format!("{of}::{name}(")));
            assert!(!called, "{} calls {name}, which is the crate's own", path.display());
        }
        assert!(!code.contains("super::super"), "{} reaches out of the room", path.display());
    }
}

#[test]
fn no_rooms_entrance_reaches_around_the_crate_root() {
    for (room, _) in ROOMS.iter().filter(|(room, _)| ![VOCABULARY, "guide"].contains(room)) {
        let code = code(&root().join("src").join(room).join("mod.rs"));
        let outside_of_tests = code.split("mod tests").next().unwrap();
        assert!(!outside_of_tests.contains("super::"), "{room}/mod.rs uses super::");
    }
}

#[test]
fn refresh_sees_no_http_and_the_cache_no_runtime() {
    for (room, words) in
        [("refresh", &["http::", "reqwest"][..]), ("cache", &["tokio", "async ", "http::"][..])]
    {
        for path in rust_files(&root().join("src").join(room)) {
            let code = code(&path);
            for word in words {
                assert!(!code.contains(word), "{} has {word}", path.display());
            }
        }
    }
}

#[test]
fn the_decision_reads_no_clock() {
    let code = code(&root().join("src/refresh/decide.rs"));
    assert!(!code.contains("Clock") && !code.contains(".now()"));
}

#[test]
fn no_file_grows_past_what_one_reading_takes_in() {
    for dir in ["src", "tests", "examples", "benches"] {
        for path in rust_files(&root().join(dir)) {
            if path.components().any(|part| part.as_os_str() == "target") {
                continue;
            }
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            assert!(lines <= 500, "{} has {lines} lines", path.display());
        }
    }
}

#[test]
fn every_dependency_can_be_built_with_the_stated_compiler() {
    let host = std::process::Command::new("rustc").args(["--print", "host-tuple"]).output().unwrap();
    let host = String::from_utf8(host.stdout).unwrap();
    // Only this platform's: a machine that has just built the tests has downloaded no others.
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--all-features", "--locked", "--offline"])
        .args(["--filter-platform", host.trim()])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let version = |text: &str| -> Vec<u32> {
        let mut parts: Vec<u32> = text.split('.').map(|part| part.parse().unwrap_or(0)).collect();
        parts.resize(3, 0);
        parts
    };
    let packages = metadata["packages"].as_array().unwrap();
    let ours = packages.iter().find(|package| package["name"] == env!("CARGO_PKG_NAME")).unwrap();
    let stated = version(ours["rust_version"].as_str().unwrap());
    for package in packages {
        if let Some(needed) = package["rust_version"].as_str() {
            assert!(version(needed) <= stated, "{} needs {needed}", package["name"]);
        }
    }
}
