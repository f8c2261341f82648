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

use crate::examples::{check_word_count, word_count_job};
use crate::harness::{components, host, in_repository};

/// A language, and what its toolchain is.
struct Language {
    name: &'static str,
    /// The commands that its `build` uses.
    commands: &'static [&'static str],
    /// What its bindings cannot do: see `needs` of the conformance scripts.
    without: &'static [&'static str],
}

const LANGUAGES: [Language; 7] = [
    Language {
        name: "rust",
        commands: &[],
        without: &[],
    },
    Language {
        name: "c",
        commands: &["wit-bindgen", "zig", "wasm-tools"],
        without: &[],
    },
    Language {
        name: "cpp",
        commands: &["wit-bindgen", "zig", "wasm-tools"],
        without: &[],
    },
    Language {
        name: "go",
        commands: &["wit-bindgen", "go", "wasm-tools"],
        without: &[],
    },
    Language {
        name: "python",
        commands: &["componentize-py"],
        without: &[],
    },
    Language {
        name: "javascript",
        commands: &["componentize-qjs", "node"],
        without: &["wide"],
    },
    Language {
        name: "typescript",
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
    let target = components()
        .ancestors()
        .nth(2)
        .expect("a target directory")
        .to_path_buf();
    let folder = target.join("language-guests").join(name);
    fs::create_dir_all(&folder).expect("a folder");
    let done = Command::new(in_repository(&format!("tests/languages/{name}/build")))
        .arg(&folder)
        .env("CARGO_TARGET_DIR", &target)
        .output()
        .expect("its build script can be started");
    assert!(
        done.status.success(),
        "{name} does not build:\n{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    built.insert(language.name, folder.clone());
    Some(folder)
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
    for guest in guests(&folder, "conformance") {
        let mut run = Command::new("python3");
        run.arg(in_repository("tests/languages/conformance/run.py"))
            .arg(&guest)
            .arg("--host")
            .arg(host());
        for lack in language.into_iter().flat_map(|language| language.without) {
            run.args(["--without", lack]);
        }
        let done = run.output().expect("python3");
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
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
