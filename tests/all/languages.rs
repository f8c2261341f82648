//! The contract in seven languages: each guest is built from source with its own toolchain, counts the words of the example's text,
//! and passes the conformance scripts.
//!
//! Rust needs nothing else and always runs. The others run with `scripts/test --languages`; one whose toolchain is not there is
//! skipped with a loud line, and fails where `CI` is set.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use crate::contract::check_conformance;
use crate::examples::{check_counts, check_word_count, word_count_job};
use crate::harness::{Job, components, copy, in_repository};

/// A language, and what its toolchain is.
struct Language {
    name: &'static str,
    /// How an error names a line of the file that fails at the command `trap`.
    source: &'static str,
    /// The commands that its `build` uses.
    commands: &'static [&'static str],
    /// What its bindings cannot do: see `needs` of the conformance scripts.
    without: &'static [&'static str],
}

const LANGUAGES: [Language; 7] = [
    Language {
        name: "rust",
        source: "conformance.rs:",
        commands: &[],
        without: &[],
    },
    Language {
        name: "c",
        source: "commands.c:",
        commands: &["wit-bindgen", "zig", "wasm-tools"],
        without: &[],
    },
    Language {
        name: "cpp",
        source: "commands.cpp:",
        commands: &["wit-bindgen", "zig", "wasm-tools"],
        without: &[],
    },
    Language {
        name: "go",
        source: "commands.go:",
        commands: &["wit-bindgen", "go", "wasm-tools"],
        without: &[],
    },
    Language {
        name: "python",
        source: "commands.py\", line ",
        commands: &["componentize-py"],
        without: &[],
    },
    Language {
        name: "javascript",
        source: "conformance.js:",
        commands: &["componentize-qjs", "node"],
        without: &["wide"],
    },
    Language {
        name: "typescript",
        source: "conformance.js:",
        commands: &["componentize-qjs", "node", "tsc"],
        without: &["wide"],
    },
];

/// The folder with a language's components, built once; `None` where its toolchain is not there.
fn built(name: &str) -> Option<PathBuf> {
    static BUILT: OnceLock<Mutex<HashMap<&str, PathBuf>>> = OnceLock::new();
    let language = LANGUAGES
        .iter()
        .find(|language| language.name == name)
        .expect("a language of the table");
    let missing: Vec<&&str> = language
        .commands
        .iter()
        .filter(|command| !is_on_path(command))
        .collect();
    if !missing.is_empty() {
        let message =
            format!("{name} IS SKIPPED: {missing:?} not found; scripts/setup --languages");
        assert!(std::env::var_os("CI").is_none(), "{message}");
        eprintln!("\n    {message}\n");
        return None;
    }
    let mut built = BUILT
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(folder) = built.get(language.name) {
        return Some(folder.clone());
    }
    let folder = target().join("language-guests").join(name);
    build(&in_repository("tests/languages"), name, &folder, &[]);
    built.insert(language.name, folder.clone());
    Some(folder)
}

/// Builds the components of a language into a folder: all, or those that are named.
fn build(languages: &Path, name: &str, folder: &Path, components: &[&str]) {
    fs::create_dir_all(folder).expect("a folder");
    let done = Command::new(languages.join(name).join("build"))
        .arg(folder)
        .args(components)
        .env("CARGO_TARGET_DIR", target())
        .output()
        .expect("its build script can be started");
    assert!(
        done.status.success(),
        "{name} does not build:\n{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}

fn target() -> &'static Path {
    let target = components().ancestors().nth(2);
    target.expect("a target directory")
}

fn is_on_path(command: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(command).is_file())
}

/// The components of a kind that the language has: for either handler, where its toolchain can.
fn guests(folder: &Path, kind: &str) -> Vec<PathBuf> {
    let guests: Vec<PathBuf> = ["message", "batch"]
        .iter()
        .map(|handler| folder.join(format!("{kind}-{handler}.wasm")))
        .filter(|path| path.exists())
        .collect();
    assert!(!guests.is_empty(), "no {kind} in {}", folder.display());
    guests
}

fn counts_words(name: &str) {
    let Some(folder) = built(name) else { return };
    for guest in guests(&folder, "word-count") {
        let job = word_count_job(&guest);
        job.run().expect(0);
        check_word_count(&job);
    }
}

fn conforms(name: &str) {
    let Some(folder) = built(name) else { return };
    let language = LANGUAGES.iter().find(|language| language.name == name);
    let lacks = language
        .into_iter()
        .flat_map(|language| language.without)
        .flat_map(|lack| ["--without", *lack]);
    let options: Vec<&str> = lacks.collect();
    for guest in guests(&folder, "conformance") {
        check_conformance(&guest, &options);
    }
}

/// An uncaught error shows its message and the user's line of source.
fn names_the_line(name: &str) {
    let Some(folder) = built(name) else { return };
    let language = LANGUAGES.iter().find(|language| language.name == name);
    let source = language.expect("a language of the table").source;
    for guest in guests(&folder, "conformance") {
        let text = fs::read_to_string(in_repository("tests/languages/conformance/job.toml"));
        let mut job = Job::new(&text.expect("its job"));
        job.env("COMPONENT", guest.to_str().expect("UTF-8"));
        job.feed(&["log", "produce", "in"], b"trap because_of_this\n")
            .expect(0);
        let done = job.call(&["run", "--until-idle"]).expect(3);
        let error = done.stderr.split("error: stage").last().unwrap_or_default();
        assert!(
            error.contains("because of this"),
            "{}: {error}",
            guest.display()
        );
        let line = error
            .split(source)
            .nth(1)
            .and_then(|rest| rest.chars().next());
        assert!(
            line.is_some_and(|digit| digit.is_ascii_digit()),
            "{}: {source:?} and a line in: {error}",
            guest.display()
        );
    }
}

/// What one language has stored another goes on from, and back.
fn continues_the_other(name: &str) {
    let (Some(rust), Some(other)) = (built("rust"), built(name)) else {
        return;
    };
    for handler in ["message", "batch"] {
        let component = |folder: &Path| folder.join(format!("word-count-{handler}.wasm"));
        let job = word_count_job(&component(&rust));
        let text = job.read("data/alice.txt");
        job.write("data/alice.txt", b"");
        let (mut before, rust) = (component(&rust), component(&rust));
        let turns = [rust.clone(), component(&other), rust];
        let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
        for (lines, guest) in lines.chunks(lines.len().div_ceil(turns.len())).zip(turns) {
            let job_file = job.text("job.toml");
            let (was, is) = (
                before.to_str().expect("UTF-8"),
                guest.to_str().expect("UTF-8"),
            );
            job.write_job(&job_file.replace(was, is));
            job.append("data/alice.txt", &lines.concat());
            job.run().expect(0);
            before = guest;
        }
        check_counts(&job);
    }
}

macro_rules! languages {
    ($($(#[$ignored:meta])? $name:ident)*) => {$(
        mod $name {
            #[test]
            $(#[$ignored])?
            fn counts_words() {
                super::counts_words(stringify!($name));
            }

            #[test]
            $(#[$ignored])?
            fn conforms() {
                super::conforms(stringify!($name));
            }

            #[test]
            $(#[$ignored])?
            fn names_the_line() {
                super::names_the_line(stringify!($name));
            }
        }
    )*};
}

languages! {
    rust
    #[ignore = "scripts/test --languages"] c
    #[ignore = "scripts/test --languages"] cpp
    #[ignore = "scripts/test --languages"] go
    #[ignore = "scripts/test --languages"] python
    #[ignore = "scripts/test --languages"] javascript
    #[ignore = "scripts/test --languages"] typescript
}

#[test]
#[ignore = "scripts/test --languages"]
fn python_goes_on_from_rust_and_back() {
    continues_the_other("python");
}

#[test]
#[ignore = "scripts/test --languages"]
fn javascript_goes_on_from_rust_and_back() {
    continues_the_other("javascript");
}

#[test]
#[ignore = "scripts/test --languages"]
fn go_goes_on_from_rust_and_back() {
    continues_the_other("go");
}

/// Python's components are too large to be kept; it is built against the frozen contract instead.
#[test]
#[ignore = "scripts/test --languages"]
fn python_conforms_when_built_against_the_frozen_contract() {
    if built("python").is_none() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let languages = folder.path().join("tests/languages");
    let frozen = in_repository("tests/fixtures/contract-0.1.0/wit");
    copy(
        &in_repository("tests/languages/python"),
        &languages.join("python"),
    );
    fs::create_dir_all(languages.join("wit")).expect("a folder");
    let worlds = "wit/worlds.wit";
    fs::copy(
        in_repository("tests/languages").join(worlds),
        languages.join(worlds),
    )
    .expect("the worlds");
    copy(&frozen, &languages.join("wit/deps/task"));
    for package in ["config", "logging"] {
        let deps = format!("deps/{package}");
        copy(&frozen.join(&deps), &languages.join("wit").join(&deps));
    }
    for component in ["conformance-message", "conformance-batch"] {
        build(&languages, "python", folder.path(), &[component]);
        let component = folder.path().join(format!("{component}.wasm"));
        check_conformance(&component, &["--batch", "500"]);
    }
}

/// componentize-py never frees what it passes to imports. A million messages leak ten times the memory that an instance may have.
#[test]
#[ignore = "scripts/test --languages"]
fn a_python_guest_that_leaks_processes_a_million_messages() {
    let Some(folder) = built("python") else {
        return;
    };
    let guest = folder.join("word-count-message.wasm");
    let words = 100;
    let lines: String = (0..1_000_000)
        .map(|at| {
            let (tens, ones) = (at % words / 10, at % 10);
            let letter = |number: u8| char::from(b'a' + number);
            format!("word{}{}\n", letter(tens as u8), letter(ones as u8))
        })
        .collect();
    let job = word_count_job(&guest);
    job.write("data/alice.txt", lines.as_bytes());
    job.run().expect(0);
    let counts = job.state("counts");
    assert_eq!(counts.lines().count(), words);
    assert!(
        counts.lines().all(|line| line.ends_with("\t10000")),
        "{counts}"
    );
    assert_eq!(job.text("out/counts-0-0").lines().count(), 1_000_000);

    // Nothing else keeps it alive: an instance that is not replaced runs out of memory.
    let job = word_count_job(&guest);
    job.write("data/alice.txt", lines.as_bytes());
    let text = job.text("job.toml");
    job.write_job(&format!(
        "{text}\n[stage.limits]\nrecycle-memory = \"64MiB\"\n"
    ));
    let done = job.run().expect(3);
    assert!(done.stderr.contains("limit `memory`"), "{}", done.stderr);
}
