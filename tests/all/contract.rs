//! The contract is frozen: `wit/` is a superset of 0.1.0, and components that were built against 0.1.0 run on this host.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use crate::harness::{host, in_repository};

/// The items of all WIT files of a folder: each type, function, import and export as text, with the interface, world or resource
/// that it is in. Comments and white space are left out.
fn items(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "wit") {
            let text = fs::read_to_string(&path).expect("WIT");
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
        let text = fs::read_to_string(&path).expect("WIT");
        assert!(text.contains(from), "{from:?} is not in {file}");
        fs::write(&path, text.replacen(from, to, 1)).expect("WIT");
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

/// Runs the conformance scripts on a component.
#[track_caller]
pub fn check_conformance(component: &Path, options: &[&str]) {
    let done = Command::new("python3")
        .arg(in_repository("tests/languages/conformance/run.py"))
        .arg(component)
        .arg("--host")
        .arg(host())
        .args(options)
        .output()
        .expect("python3");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{}: {said}", component.display());
}

/// What JavaScript lacks: numbers above 2^53.
const NARROW: [&str; 2] = ["--without", "wide"];

/// A conformance guest that was built against 0.1.0.
fn still_conforms(name: &str, without: &[&str]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let component = folder.path().join(format!("{name}.wasm"));
    let packed = in_repository("tests/fixtures/contract-0.1.0/components");
    let packed = File::open(packed.join(format!("{name}.wasm.gz"))).expect("a component");
    let mut unpacked = File::create(&component).expect("a file");
    std::io::copy(&mut flate2::read::GzDecoder::new(packed), &mut unpacked).expect("whole");
    check_conformance(&component, &[&["--batch", "500"], without].concat());
}

macro_rules! frozen {
    ($($test:ident $name:literal $without:expr;)*) => {
        const FROZEN: &[&str] = &[$($name),*];

        mod frozen {
            $(
                #[test]
                fn $test() {
                    super::still_conforms($name, $without);
                }
            )*
        }
    };
}

frozen! {
    c_batch "c-batch" &[];
    c_message "c-message" &[];
    cpp_batch "cpp-batch" &[];
    go_batch "go-batch" &[];
    javascript_message "javascript-message" &super::NARROW;
    rust_batch "rust-batch" &[];
    rust_message "rust-message" &[];
    typescript_batch "typescript-batch" &super::NARROW;
}

#[test]
fn every_frozen_component_is_run() {
    let folder = in_repository("tests/fixtures/contract-0.1.0/components");
    let entries = fs::read_dir(folder).expect("the components");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = names
        .map(|name| name.into_string().expect("UTF-8"))
        .filter_map(|name| Some(name.strip_suffix(".wasm.gz")?.to_owned()))
        .collect();
    names.sort();
    assert_eq!(names, FROZEN);
}
