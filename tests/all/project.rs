//! `new`: a project that builds, passes its test and runs, wherever it is made.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::harness::{host, in_repository, steps};

fn wasm_host(folder: &Path, arguments: &[&str]) -> std::process::Output {
    Command::new(host())
        .current_dir(folder)
        .args(arguments)
        .output()
        .expect("the host can be started")
}

fn code(output: &std::process::Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A folder below a workspace that knows nothing of what is made in it.
fn below_a_workspace() -> TempDir {
    let parent = in_repository("target");
    fs::create_dir_all(&parent).expect("the folder");
    tempfile::Builder::new()
        .prefix("new-project-")
        .tempdir_in(parent)
        .expect("a temporary folder")
}

/// What is built is kept from run to run.
fn built() -> PathBuf {
    let kept = steps()
        .parent()
        .and_then(Path::parent)
        .expect("a target directory")
        .join("test-project");
    fs::create_dir_all(&kept).expect("the folder");
    kept
}

fn cargo(project: &Path, arguments: &[&str]) {
    let done = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(project)
        .env_remove("CARGO_TARGET_DIR")
        .args(arguments)
        .args(["--quiet", "--offline"])
        .output()
        .expect("cargo can be started");
    assert!(
        done.status.success(),
        "cargo {arguments:?}: {}{}",
        String::from_utf8_lossy(&done.stdout),
        said(&done)
    );
    assert_eq!(said(&done), "", "a new project builds without a warning");
}

#[test]
fn a_new_project_builds_passes_its_test_and_runs() {
    let folder = below_a_workspace();
    let made = wasm_host(folder.path(), &["new", "many-words"]);
    assert_eq!(code(&made), 0, "{}", said(&made));
    let project = folder.path().join("many-words");
    // What it says to do next is what is done here.
    for line in [
        "cd many-words",
        "cargo build --release --target wasm32-wasip2",
        "wasm-host run",
    ] {
        assert!(said(&made).contains(line), "{}", said(&made));
    }
    symlink(built(), project.join("target")).expect("a place for what is built");
    cargo(
        &project,
        &["build", "--release", "--target", "wasm32-wasip2"],
    );
    cargo(&project, &["test"]);
    let run = wasm_host(&project, &["run"]);
    assert_eq!(code(&run), 0, "{}", said(&run));
    let input = fs::read_to_string(project.join("input.txt")).expect("its input");
    let mut counts = std::collections::BTreeMap::new();
    let expected: String = input
        .split_whitespace()
        .map(|word| {
            let word = word.to_lowercase();
            let count = counts.entry(word.clone()).or_insert(0);
            *count += 1;
            format!("{{\"word\":\"{word}\",\"count\":{count}}}\n")
        })
        .collect();
    assert!(!expected.is_empty());
    let out = fs::read_to_string(project.join("out/counts-0-0")).expect("its output");
    assert_eq!(out, expected);
    let again = wasm_host(&project, &["run"]);
    assert!(
        said(&again).contains("nothing new to process"),
        "{}",
        said(&again)
    );
    let ignored = fs::read_to_string(project.join(".gitignore")).expect("a .gitignore");
    for name in ["target", "out", ".wasm-host"] {
        assert!(ignored.contains(name), "{name}: {ignored}");
    }
}

#[test]
fn nothing_is_overwritten_and_names_are_checked() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(folder.path().join("mine")).expect("a folder");
    fs::write(folder.path().join("mine/notes"), "kept").expect("a file");
    let refused = wasm_host(folder.path(), &["new", "mine"]);
    assert_eq!(code(&refused), 2);
    assert!(said(&refused).contains("mine exists and is not empty"));
    assert_eq!(
        fs::read_dir(folder.path().join("mine"))
            .expect("the folder")
            .count(),
        1
    );
    for name in ["Words", "1st", "a_b", "ä", "a.b", &"a".repeat(65)] {
        let refused = wasm_host(folder.path(), &["new", name]);
        assert_eq!(code(&refused), 2, "{name}");
        assert!(
            said(&refused).contains("is no name for a project"),
            "{name}"
        );
        assert!(!folder.path().join(name).exists());
    }
    // An empty folder, or one that is not there yet with those above it, is fine.
    fs::create_dir(folder.path().join("empty")).expect("a folder");
    for name in ["empty", "some/where/else"] {
        assert_eq!(code(&wasm_host(folder.path(), &["new", name])), 0, "{name}");
        let manifest = fs::read_to_string(folder.path().join(name).join("Cargo.toml"));
        let last = name.rsplit('/').next().expect("a name");
        assert!(
            manifest
                .expect("a manifest")
                .contains(&format!("name = \"{last}\""))
        );
    }
}
