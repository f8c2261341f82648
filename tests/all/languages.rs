//! The contract in seven languages: each guest is built from source with its own toolchain, counts the words of the example's text,
//! and passes the conformance scripts.
//!
//! Rust needs nothing else and always runs. The others run with `scripts/test --languages`; one whose toolchain is not there is
//! skipped with a loud line, and fails where `CI` is set.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use crate::contract::{FROZEN_SCRIPTS, SCRIPTS, check_conformance};
use crate::examples::{check_counts, check_word_count, expected, word_count_job};
use crate::harness::{Job, components, copy, in_repository};

/// A language, and what its toolchain is.
struct Language {
    name: &'static str,
    /// The source file that fails at the command `trap`, and the statement that does it.
    trap: (&'static str, &'static str),
    /// How an error names a line of this file.
    line: &'static str,
    /// What its `build` uses: commands, and the file that `WASI_ADAPTER` names.
    commands: &'static [&'static str],
    /// What its bindings cannot do: see `needs` of the conformance scripts.
    without: &'static [&'static str],
}

const LANGUAGES: [Language; 7] = [
    Language {
        name: "rust",
        trap: ("rust/src/conformance.rs", "panic!(\"{}\", text(message))"),
        line: "conformance.rs:",
        commands: &[],
        without: &[],
    },
    Language {
        name: "c",
        trap: ("c/commands.c", "fail(\"%s\", read_text(word(run)))"),
        line: "commands.c:",
        commands: &["wit-bindgen", "zig", "wasm-tools", "WASI_ADAPTER"],
        without: &[],
    },
    Language {
        name: "cpp",
        trap: ("cpp/commands.cpp", "fail(read_text(run.word()))"),
        line: "commands.cpp:",
        commands: &["wit-bindgen", "zig", "wasm-tools", "WASI_ADAPTER"],
        without: &[],
    },
    Language {
        name: "go",
        trap: ("go/commands/commands.go", "panic(words.text())"),
        line: "commands.go:",
        commands: &["wit-bindgen", "go", "wasm-tools", "WASI_ADAPTER"],
        without: &[],
    },
    Language {
        name: "python",
        trap: ("python/commands.py", "raise RuntimeError(read_text(text))"),
        line: "commands.py\", line ",
        commands: &["componentize-py"],
        without: &[],
    },
    Language {
        name: "javascript",
        trap: (
            "javascript/conformance.js",
            "throw new Error(text(message))",
        ),
        line: "conformance.js:",
        commands: &["componentize-qjs", "node"],
        without: &["wide"],
    },
    Language {
        name: "typescript",
        trap: (
            "typescript/conformance.ts",
            "throw new Error(text(message))",
        ),
        line: "conformance.js:",
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
    let commands = language.commands.iter().copied();
    let missing: Vec<&str> = commands.filter(|command| !is_there(command)).collect();
    if !missing.is_empty() {
        let message =
            format!("{name} IS SKIPPED: {missing:?} not found; scripts/setup --languages");
        assert!(std::env::var_os("CI").is_none(), "{message}");
        // Not `eprintln`, which a test that passes keeps for itself.
        writeln!(std::io::stderr(), "\n    {message}\n").expect("standard error");
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
    if folder.exists() {
        fs::remove_dir_all(&folder).expect("an older build can be removed");
    }
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

/// Whether a command is on the path; of `WASI_ADAPTER` whether the file that it names exists.
fn is_there(command: &str) -> bool {
    if command == "WASI_ADAPTER" {
        return std::env::var_os(command).is_some_and(|path| Path::new(&path).is_file());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(command).is_file())
}

/// The components of a kind, one for either handler.
fn guests(folder: &Path, kind: &str) -> [PathBuf; 2] {
    ["message", "batch"].map(|handler| folder.join(format!("{kind}-{handler}.wasm")))
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
        check_conformance(&guest, SCRIPTS, &options);
    }
}

/// An uncaught error shows its message and the user's line of source.
fn names_the_line(name: &str) {
    let Some(folder) = built(name) else { return };
    let language = LANGUAGES.iter().find(|language| language.name == name);
    let Language { trap, line, .. } = language.expect("a language of the table");
    let (file, statement) = trap;
    let source = fs::read_to_string(in_repository("tests/languages").join(file)).expect(file);
    let at = source.lines().position(|line| line.contains(statement));
    let named = format!("{line}{}", at.expect(statement) + 1);
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
        let mut after = error.split(&named).skip(1);
        assert!(
            after.any(|rest| !rest.starts_with(|next: char| next.is_ascii_digit())),
            "{}: no {named:?} in: {error}",
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
            assert!(job_file.contains(was), "{was} is not in {job_file}");
            job.write_job(&job_file.replace(was, is));
            job.append("data/alice.txt", &lines.concat());
            job.run().expect(0);
            before = guest;
        }
        check_counts(&job);
        let top = job.text("out/top-0-0");
        // The text has ended three times, and the last time it was whole.
        assert!(top.ends_with(&expected("word-count", "top.jsonl")), "{top}");
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
    let text = fs::read_to_string(in_repository("tests/languages").join(worlds));
    let text = text.expect("the worlds").replace("@0.1.1", "@0.1.0");
    fs::write(languages.join(worlds), text).expect("the worlds");
    copy(&frozen, &languages.join("wit/deps/task"));
    for package in ["config", "logging"] {
        let deps = format!("deps/{package}");
        copy(&frozen.join(&deps), &languages.join("wit").join(&deps));
    }
    for component in ["conformance-message", "conformance-batch"] {
        build(&languages, "python", folder.path(), &[component]);
        let component = folder.path().join(format!("{component}.wasm"));
        check_conformance(&component, FROZEN_SCRIPTS, &["--batch", "500"]);
    }
}

/// A million messages through a word count, one call for each. The instance may have so much memory.
fn a_million_messages(guest: &Path, limits: &str) -> Job {
    let words = 100;
    let lines: String = (0..1_000_000)
        .map(|at| {
            let (tens, ones) = (at % words / 10, at % 10);
            let letter = |number: u8| char::from(b'a' + number);
            format!("word{}{}\n", letter(tens as u8), letter(ones as u8))
        })
        .collect();
    let job = word_count_job(guest);
    job.write("data/alice.txt", lines.as_bytes());
    let text = job.text("job.toml");
    job.write_job(&format!("{text}\n[stage.limits]\n{limits}\n"));
    job
}

fn all_counted(job: &Job) {
    let counts = job.state("counts");
    assert_eq!(counts.lines().count(), 100);
    assert!(
        counts.lines().all(|line| line.ends_with("\t10000")),
        "{counts}"
    );
    assert_eq!(job.text("out/counts-0-0").lines().count(), 1_000_000);
}

/// componentize-py never frees what it passes to imports: a million messages leak more than an instance may have.
#[test]
#[ignore = "scripts/test --languages"]
fn a_python_guest_that_leaks_processes_a_million_messages() {
    let Some(folder) = built("python") else {
        return;
    };
    let guest = folder.join("word-count-message.wasm");
    let job = a_million_messages(&guest, "memory = \"64MiB\"");
    job.run().expect(0);
    all_counted(&job);

    // Nothing else keeps it small: an instance that is not replaced runs out of memory, and a new one goes on.
    let limits = "memory = \"64MiB\"\nrecycle-memory = \"64MiB\"";
    let job = a_million_messages(&guest, limits);
    let done = job.run().expect(0);
    assert!(done.stderr.contains("MemoryError"), "{}", done.stderr);
    all_counted(&job);
}

/// Go's collector runs between calls only, and often enough: the one instance stays small.
#[test]
#[ignore = "scripts/test --languages"]
fn a_go_guest_processes_a_million_messages_in_little_memory() {
    let Some(folder) = built("go") else { return };
    let guest = folder.join("word-count-message.wasm");
    let limits = "memory = \"24MiB\"\nrecycle-memory = \"24MiB\"";
    let job = a_million_messages(&guest, limits);
    job.run().expect(0);
    all_counted(&job);
}
