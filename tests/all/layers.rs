//! The arrows of the architecture: a module uses those below it, and nothing else.

use std::fs;
use std::path::Path;

use crate::harness::in_repository;

/// Each module of the host and what it may use.
const MAY_USE: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("disk", &[]),
    ("state", &["model"]),
    ("records", &["model", "state"]),
    ("epoch", &["model", "state", "records"]),
    ("connectors", &["model", "disk"]),
    (
        "checkpoint",
        &["model", "disk", "state", "records", "epoch", "connectors"],
    ),
    ("runtime", &["model", "state"]),
    ("crumbs", &["model"]),
    (
        "task",
        &[
            "model",
            "state",
            "records",
            "epoch",
            "connectors",
            "runtime",
            "crumbs",
        ],
    ),
    ("scheduler", &["model", "epoch", "runtime", "task"]),
    (
        "coordinator",
        &[
            "model",
            "disk",
            "state",
            "records",
            "epoch",
            "connectors",
            "checkpoint",
            "runtime",
            "task",
            "scheduler",
            "crumbs",
        ],
    ),
    (
        "admin",
        &[
            "model",
            "state",
            "records",
            "connectors",
            "runtime",
            "coordinator",
        ],
    ),
    ("config", &["model"]),
    (
        "cli",
        &[
            "model",
            "disk",
            "state",
            "connectors",
            "checkpoint",
            "runtime",
            "task",
            "scheduler",
            "coordinator",
            "admin",
            "config",
            "crumbs",
        ],
    ),
];

/// What only one module may name.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("rocksdb::", &["state/db/"]),
    ("wasmtime::", &["runtime/"]),
    ("axum::", &["admin/"]),
    ("rdkafka::", &["connectors/kafka/"]),
    ("rdkafka::bindings", &["connectors/kafka/native/"]),
    (
        "postcard::",
        &["records/", "model/position.rs", "connectors/file/detail.rs"],
    ),
    // What must be there after a crash.
    (
        "fs::rename(",
        &["disk/", "runtime/code_cache.rs", "connectors/testing.rs"],
    ),
    ("sync_all()", &["disk/"]),
    ("sync_data()", &["disk/", "runtime/code_cache.rs"]),
    (
        "set_len(",
        &[
            "disk/",
            "checkpoint/directory/lock.rs",
            "connectors/conformance/",
        ],
    ),
    ("clap::", &["cli/"]),
    // Whether a job runs is asked in one place, and messages are JSON in one place.
    ("directory::held(", &["cli/access/mod.rs"]),
    ("write_message(", &["connectors/"]),
    // The name of the embedded log: what is declared, what is recorded, and a column family. Elsewhere it is an enum.
    (
        "\"log\"",
        &[
            "config/systems/mod.rs",
            "records/stream.rs",
            "state/db/",
            "checkpoint/authority/tests/",
            "checkpoint/logs/mod.rs",
        ],
    ),
    (
        "JsonMessage::parse(",
        &["connectors/json.rs", "cli/log/produce.rs"],
    ),
];

/// The sources below a folder.
pub fn sources(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn modules_use_what_lies_below_them() {
    let root = in_repository("host/src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 50, "the sources were found");
    let mut wrong = Vec::new();
    for file in &files {
        let relative = file
            .strip_prefix(&root)
            .expect("below the root")
            .to_string_lossy()
            .into_owned();
        let text = fs::read_to_string(file).expect("a source");
        let module = relative.split(['/', '.']).next().expect("a module");
        let allowed = MAY_USE
            .iter()
            .find(|(name, _)| *name == module)
            .map(|(_, allowed)| *allowed);
        for used in text.match_indices("crate::").map(|(at, _)| &text[at + 7..]) {
            let used: String = used
                .chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect();
            let known = MAY_USE.iter().any(|(name, _)| *name == used);
            if let Some(allowed) = allowed
                && known
                && used != module
                && !allowed.contains(&used.as_str())
            {
                wrong.push(format!("{relative} uses {used}"));
            }
        }
        for (name, places) in ONLY_IN {
            if text.contains(name) && !places.iter().any(|place| relative.starts_with(place)) {
                wrong.push(format!("{relative} names {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What decides about new code is plain data: it can be tested without a job, and read without one.
#[test]
fn decisions_about_code_know_no_thread_clock_or_disk() {
    for file in [
        "checkpoint/decide/code.rs",
        "coordinator/shadow/report.rs",
        "coordinator/swap/fit.rs",
        "coordinator/swap/judge.rs",
    ] {
        let path = in_repository("host/src").join(file);
        let text = std::fs::read_to_string(path).expect(file);
        let unknown = [
            "std::thread",
            "std::fs",
            "Instant",
            "SystemTime",
            "Mutex",
            "Atomic",
            "Db",
            "tokio",
        ];
        let known: Vec<_> = unknown.iter().filter(|word| text.contains(*word)).collect();
        assert!(known.is_empty(), "{file} knows {known:?}");
    }
}
