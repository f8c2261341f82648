//! The contract is frozen: `wit/` is a superset of 0.1.0, and components that were built against 0.1.0 run on this host.

use std::collections::BTreeSet;
use std::path::Path;

use crate::harness::in_repository;

/// The items of all WIT files of a folder: each type, function, import and export as text, with the interface, world or resource
/// that it is in. Comments and white space are left out.
fn items(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "wit") {
            let text = std::fs::read_to_string(&path).expect("WIT");
            let code = text.lines().filter(|line| {
                let line = line.trim_start();
                !line.starts_with("//") && !line.starts_with("@since")
            });
            let words: Vec<&str> = code.flat_map(str::split_whitespace).collect();
            collect("", &words.join(" "), &mut found);
        }
    }
    found
}

/// Collects the items of a block.
fn collect(within: &str, text: &str, into: &mut BTreeSet<String>) {
    let mut rest = text.trim();
    while let Some(at) = rest.find(['{', ';']) {
        let head = rest[..at].trim();
        if rest[at..].starts_with(';') {
            into.insert(format!("{within}{head}"));
            rest = rest[at + 1..].trim();
            continue;
        }
        let end = at + closing(&rest[at..]);
        if ["interface ", "world ", "resource "]
            .iter()
            .any(|kind| head.starts_with(kind))
        {
            into.insert(format!("{within}{head}"));
            collect(&format!("{within}{head}: "), &rest[at + 1..end], into);
        } else {
            into.insert(format!("{within}{}", &rest[..=end]));
        }
        rest = rest[end + 1..].trim_start_matches(';').trim();
    }
    assert_eq!(rest, "", "after the last item of {within:?}");
}

/// Where the brace that `text` begins with is closed.
fn closing(text: &str) -> usize {
    let mut depth = 0;
    let at = text.bytes().position(|byte| {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    at.expect("a closing brace")
}

/// Interfaces that components export: they never change at all.
const EXPORTED: [&str; 4] = [
    "message-handler",
    "batch-handler",
    "lifecycle",
    "end-of-input",
];

/// What of the old contract the new one does not have, and where it has grown although it must not.
fn broken(old: &Path, new: &Path) -> Vec<String> {
    let (old, new) = (items(old), items(new));
    let gone = old.difference(&new).map(|item| format!("gone: {item}"));
    let grown = new.difference(&old).filter(|item| {
        EXPORTED
            .iter()
            .any(|name| item.starts_with(&format!("interface {name}:")))
    });
    gone.chain(grown.map(|item| format!("grown: {item}")))
        .collect()
}

#[test]
fn the_contract_is_a_superset_of_the_frozen_one() {
    let frozen = in_repository("tests/fixtures/contract-0.1.0/wit");
    assert_eq!(broken(&frozen, &in_repository("wit")), Vec::<String>::new());
    let found = items(&frozen);
    assert!(found.len() >= 60, "{found:#?}");
    for item in [
        "interface state: resource store: increment: func(key: list<u8>, by: s64) -> s64",
        "interface types: record bytes-column { ends: list<u8>, data: list<u8>, absent: list<u8>, }",
        "world message-task: export message-handler",
    ] {
        assert!(found.contains(item), "{item:?} is not in {found:#?}");
    }
}

#[test]
fn a_change_of_the_contract_is_noticed() {
    let frozen = in_repository("tests/fixtures/contract-0.1.0/wit");
    let changed = |file: &str, from: &str, to: &str| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        crate::harness::copy(&frozen, folder.path());
        let path = folder.path().join(file);
        let text = std::fs::read_to_string(&path).expect("WIT");
        assert!(text.contains(from), "{from:?} is not in {file}");
        std::fs::write(&path, text.replacen(from, to, 1)).expect("WIT");
        broken(&frozen, folder.path())
    };
    let get = "get: func(key: list<u8>) -> option<list<u8>>;";
    assert_eq!(
        changed(
            "imports.wit",
            get,
            "get: func(key: string) -> option<list<u8>>;"
        ),
        ["gone: interface state: resource store: get: func(key: list<u8>) -> option<list<u8>>"]
    );
    assert_eq!(
        changed("types.wit", "absent: list<u8>,", "missing: list<u8>,"),
        [
            "gone: interface types: record bytes-column { ends: list<u8>, data: list<u8>, absent: list<u8>, }"
        ]
    );
    assert_eq!(
        changed(
            "task.wit",
            "close: func();",
            "close: func();\n  more: func();"
        ),
        ["grown: interface lifecycle: more: func()"]
    );
    assert_eq!(
        changed("task.wit", "  import metrics;\n", ""),
        ["gone: world imports: import metrics"]
    );
    // An imported interface may grow.
    let more = format!("{get}\n    has: func(key: list<u8>) -> bool;");
    assert_eq!(changed("imports.wit", get, &more), Vec::<String>::new());
}
