//! The contract is frozen: `wit/` is a superset of 0.1.0, and components that were built against 0.1.0 run on this host.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{host, in_repository};

/// The items of all WIT files of a folder: each type, function, import and export as text, with the interface, world or resource
/// that it is in, and those of `deps` after the name of their folder. Comments, annotations, white space and the version of the
/// package itself are left out.
fn items(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect_files("", folder, &mut found);
    let deps = fs::read_dir(folder.join("deps")).expect("deps");
    for entry in deps {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy();
        collect_files(&format!("{name}: "), &path, &mut found);
    }
    let version = version(folder);
    let package = format!(
        "package wasm-host:task@{}",
        version.map_or(String::new(), dotted)
    );
    assert!(found.remove(&package), "no {package:?} in {found:#?}");
    found
}

fn collect_files(within: &str, folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "wit") {
            let text = fs::read_to_string(&path).expect("WIT");
            let code = text.lines().map(without_notes);
            let words: Vec<&str> = code.flat_map(str::split_whitespace).collect();
            let text = words.join(" ").replace("( ", "(").replace(" )", ")");
            collect(within, &text, found);
        }
    }
}

/// A line without its comments and `@since(…)`. `@unstable` stays, because such items do not exist for every guest.
fn without_notes(line: &str) -> &str {
    let line = line.trim_start();
    if line.starts_with("//") {
        ""
    } else if line.starts_with("@since(") || line.starts_with("@deprecated(") {
        line.split_once(')')
            .map_or("", |(_, rest)| without_notes(rest))
    } else {
        line
    }
}

/// Major, minor and patch version of the package.
fn version(folder: &Path) -> Option<[u32; 3]> {
    let text = fs::read_to_string(folder.join("types.wit")).expect("WIT");
    let package = text
        .lines()
        .find_map(|line| line.strip_prefix("package "))?;
    let version = package.strip_prefix("wasm-host:task@")?.strip_suffix(';')?;
    let parts = version.split('.').map(|part| part.parse().ok());
    parts.collect::<Option<Vec<u32>>>()?.try_into().ok()
}

fn dotted(version: [u32; 3]) -> String {
    version.map(|part| part.to_string()).join(".")
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
    let versions = version(old).zip(version(new));
    let compatible = versions.is_some_and(|(old, new)| old[..2] == new[..2] && old[2] <= new[2]);
    let incompatible = (!compatible).then(|| format!("incompatible: {versions:?}"));
    let (old, new) = (items(old), items(new));
    let gone = old.difference(&new).map(|item| format!("gone: {item}"));
    let grown = new.difference(&old).filter(|item| {
        // A world that exports more is one that guests of before do not fit; but `host` has all that there is.
        let task = item.starts_with("world ") && !item.starts_with("world host:");
        let more_to_export = task && item.contains(": export ");
        let exported = |name| item.starts_with(&format!("interface {name}:"));
        more_to_export || EXPORTED.into_iter().any(exported)
    });
    let changed = gone.chain(grown.map(|item| format!("grown: {item}")));
    incompatible.into_iter().chain(changed).collect()
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

/// Those of WASI are copied in `wit/deps`, and must be the ones that components in the field were built against.
#[test]
fn the_packages_of_wasi_are_the_published_ones() {
    for package in ["config", "logging"] {
        let items = |folder: &str| {
            let mut found = BTreeSet::new();
            collect_files("", &in_repository(folder).join(package), &mut found);
            // Worlds are for those who build components.
            found.retain(|item| !item.starts_with("world "));
            assert!(found.len() > 3, "{found:#?}");
            found
        };
        assert_eq!(items("wit/deps"), items("tests/wit"), "{package}");
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
    let gone =
        "gone: interface state: resource store: get: func(key: list<u8>) -> option<list<u8>>";
    let other = "get: func(key: string) -> option<list<u8>>;";
    assert_eq!(changed("imports.wit", get, other), [gone]);
    assert_eq!(
        changed("types.wit", "absent: list<u8>,", "missing: list<u8>,"),
        [
            "gone: interface types: record bytes-column { ends: list<u8>, data: list<u8>, absent: list<u8>, }"
        ]
    );
    let close = "close: func();";
    assert_eq!(
        changed("task.wit", close, &format!("{close}\n  more: func();")),
        ["grown: interface lifecycle: more: func()"]
    );
    assert_eq!(
        changed("task.wit", "  import metrics;\n", ""),
        ["gone: world imports: import metrics"]
    );
    let export = "\n  export message-handler;";
    assert_eq!(
        changed("task.wit", export, &format!("{export} export lifecycle;")),
        ["grown: world message-task: export lifecycle"]
    );
    assert_eq!(
        changed("deps/config/store.wit", "get-all: func", "all: func"),
        [
            "gone: config: interface store: get-all: func() -> result<list<tuple<string, string>>, error>"
        ]
    );
    let hidden = format!("@unstable(feature = later) {get}");
    assert_eq!(changed("imports.wit", get, &hidden), [gone]);
    let package = "package wasm-host:task@0.1.0;";
    let minor = "package wasm-host:task@0.2.0;";
    assert_eq!(
        changed("types.wit", package, minor),
        ["incompatible: Some(([0, 1, 0], [0, 2, 0]))"]
    );
    // An imported interface may grow, with the patch version.
    let patch = "package wasm-host:task@0.1.1;";
    assert_eq!(changed("types.wit", package, patch), Vec::<String>::new());
    let more = "@since(version = 0.1.1)\n    has: func(key: list<u8>) -> bool;";
    let more = format!("@deprecated(version = 0.1.1) {get}\n    {more}");
    assert_eq!(changed("imports.wit", get, &more), Vec::<String>::new());
}

/// Runs the conformance scripts of a folder on a component.
#[track_caller]
pub fn check_conformance(component: &Path, scripts: &str, options: &[&str]) {
    let entries = fs::read_dir(in_repository(scripts)).expect("the scripts");
    let mut scripts: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a script").path())
        .collect();
    assert!(scripts.len() > 20, "{scripts:?}");
    scripts.sort();
    let done = Command::new("python3")
        .arg(in_repository("tests/languages/conformance/run.py"))
        .arg(component)
        .args(scripts)
        .arg("--host")
        .arg(host())
        .args(options)
        .output()
        .expect("python3");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{}: {said}", component.display());
}

/// The scripts as they are.
pub const SCRIPTS: &str = "tests/languages/conformance/scripts";

/// The scripts as they were when the contract was frozen.
pub const FROZEN_SCRIPTS: &str = "tests/fixtures/contract-0.1.0/scripts";

/// What JavaScript lacks: numbers above 2^53.
const NARROW: [&str; 2] = ["--without", "wide"];

/// The bytes of a conformance guest that was built against 0.1.0.
pub fn frozen_component(name: &str) -> Vec<u8> {
    let packed = in_repository("tests/fixtures/contract-0.1.0/components");
    let packed = File::open(packed.join(format!("{name}.wasm.gz"))).expect("a component");
    let mut unpacked = Vec::new();
    let mut reader = flate2::read::GzDecoder::new(packed);
    reader.read_to_end(&mut unpacked).expect("whole");
    unpacked
}

/// A conformance guest that was built against 0.1.0 still conforms.
fn still_conforms(name: &str, without: &[&str]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let component = folder.path().join(format!("{name}.wasm"));
    fs::write(&component, frozen_component(name)).expect("a file");
    let options = [&["--batch", "500"], without].concat();
    check_conformance(&component, FROZEN_SCRIPTS, &options);
}

macro_rules! frozen {
    ($($test:ident $name:literal $without:expr;)*) => {
        pub const FROZEN: &[&str] = &[$($name),*];

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
