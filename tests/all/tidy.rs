//! What the sources and documents keep to: short functions and files, documents that name what exists, one word for each idea,
//! and output that is shown only with the proof of a write.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::in_repository;
use crate::layers::sources;

const FUNCTION_LINES: usize = 70;
const FILE_LINES: usize = 600;

/// Functions that are longer, and how long they may be. The list only shrinks.
const LONG_FUNCTIONS: &[(&str, &str, usize)] = &[
    ("connectors/conformance.rs", "check_partition", 75),
    ("connectors/file/source.rs", "read", 76),
    ("scheduler/interleavings.rs", "worker", 120),
    ("state/scan.rs", "collect", 73),
];

/// Words for one idea: the file that may define a type of this name. `None`: no file may.
const WORDS: &[(&str, Option<&str>)] = &[
    ("Arrival", Some("task/inbox/mod.rs")),
    ("Ask", Some("scheduler/cell.rs")),
    ("Batch", Some("model/message.rs")),
    ("CommitStage", Some("checkpoint/stage.rs")),
    ("Delivery", None),
    ("Epoch", Some("model/epoch.rs")),
    ("Job", Some("config/job.rs")),
    ("Message", None),
    ("Outbox", Some("checkpoint/outputs/outbox.rs")),
    ("Phase", Some("coordinator/machine/tasks.rs")),
    ("Stage", Some("config/stage.rs")),
];

/// Documents that name files, and folders of such documents.
const DOCUMENTS: &[&str] = &[
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "tests/README.md",
    "docs",
];

/// The files below a folder, by their paths in it.
fn texts(folder: &str) -> BTreeMap<String, String> {
    let root = in_repository(folder);
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 20, "the sources were found");
    let read = |file: PathBuf| {
        let relative = file.strip_prefix(&root).expect("below the root");
        let text = fs::read_to_string(&file).expect("a source");
        (relative.to_string_lossy().into_owned(), text)
    };
    files.into_iter().map(read).collect()
}

/// A file without its module of tests.
fn without_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or(text)
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs")
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// The name of the function that begins in a line.
fn function_name(line: &str) -> Option<String> {
    let (before, after) = line.trim_start().split_once("fn ")?;
    let is_modifier = |word: &str| {
        word.starts_with("pub")
            || word.ends_with(')')
            || ["async", "const", "unsafe", "extern", "\"C\""].contains(&word)
    };
    let is_name = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
    let name: String = after.chars().take_while(is_name).collect();
    (before.split_whitespace().all(is_modifier) && !name.is_empty()).then_some(name)
}

/// The functions of a formatted file and how many lines each has. A function ends at the indent at which it begins, and so does
/// a declaration without a body.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else {
            continue;
        };
        let ends = |other: &&str| {
            indent(other) == indent(line) && (other.ends_with('}') || other.ends_with(';'))
        };
        if let Some(last) = lines[at..].iter().position(ends) {
            found.push((name, last + 1));
        }
    }
    found
}

#[test]
fn functions_are_short() {
    let mut wrong = Vec::new();
    let mut found = 0;
    let mut named = LONG_FUNCTIONS.to_vec();
    for (path, text) in texts("host/src") {
        if is_test(&path) {
            continue;
        }
        for (name, lines) in functions(without_tests(&text)) {
            found += 1;
            if lines <= FUNCTION_LINES {
                continue;
            }
            let is_it = |long: &(&str, &str, usize)| long.0 == path && long.1 == name;
            match named.iter().position(is_it).map(|at| named.remove(at)) {
                Some((_, _, most)) if lines <= most => {}
                Some((_, _, most)) => {
                    wrong.push(format!(
                        "{path}: `{name}` has grown from {most} to {lines} lines"
                    ));
                }
                None => wrong.push(format!("{path}: `{name}` has {lines} lines")),
            }
        }
    }
    let needless = |(path, name, _): (&str, &str, usize)| {
        format!("{path}: `{name}` is short: take it out of LONG_FUNCTIONS")
    };
    wrong.extend(named.into_iter().map(needless));
    assert!(found > 1_000, "only {found} functions were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_are_short() {
    for folder in ["host/src", "tests/all"] {
        for (path, text) in texts(folder) {
            let lines = without_tests(&text).lines().count();
            assert!(
                lines <= FILE_LINES,
                "{folder}/{path} has {lines} lines without its tests"
            );
        }
    }
}

fn documents() -> Vec<PathBuf> {
    fn add(path: &Path, found: &mut Vec<PathBuf>) {
        if path.is_dir() {
            for entry in fs::read_dir(path).expect("a folder of documents") {
                add(&entry.expect("an entry").path(), found);
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path.to_path_buf());
        }
    }
    let mut found = Vec::new();
    for document in DOCUMENTS {
        add(&in_repository(document), &mut found);
    }
    assert!(found.len() > 10, "the documents were found");
    found
}

/// What stands between backticks. Blocks of code are left out.
fn in_backticks(text: &str) -> Vec<&str> {
    let prose = text.split("```").step_by(2);
    prose
        .flat_map(|part| part.split('`').skip(1).step_by(2))
        .collect()
}

/// Where a path of the repository, or of `host/src` without its ending, leads to; `None`: it is no such path.
fn named_path(text: &str) -> Option<Vec<PathBuf>> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let (first, _) = text.split_once('/')?;
    if first.is_empty() || !text.chars().all(is_plain) {
        return None;
    }
    let text = text.trim_end_matches('/');
    let top = ["host", "tests", "docs", "scripts", "examples", "benches"];
    if top.contains(&first) || ["guest-sdk", "wit"].contains(&first) {
        return Some(vec![in_repository(text)]);
    }
    let module = in_repository(&format!("host/src/{text}"));
    in_repository(&format!("host/src/{first}"))
        .is_dir()
        .then(|| vec![module.with_extension("rs"), module])
}

#[test]
fn documents_name_what_exists() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).expect("a document");
        for name in in_backticks(&text) {
            if let Some(places) = named_path(name) {
                checked += 1;
                if !places.iter().any(|place| place.exists()) {
                    wrong.push(format!("{}: `{name}`", document.display()));
                }
            }
        }
        let folder = document.parent().expect("a folder");
        for (_, link) in text
            .match_indices("](")
            .map(|(at, _)| text.split_at(at + 2))
        {
            let target = link.split([')', '#']).next().expect("a target");
            if target.is_empty() || target.contains("://") {
                continue;
            }
            checked += 1;
            if !folder.join(target).exists() {
                wrong.push(format!("{}: link to {target}", document.display()));
            }
        }
    }
    assert!(checked > 150, "only {checked} names were checked");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_map_of_the_tests_names_tests() {
    let map = fs::read_to_string(in_repository("tests/README.md")).expect("the map");
    let tests = texts("tests/all");
    let mut named = 0;
    for name in in_backticks(&map) {
        let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:".contains(c);
        let Some((module, test)) = name.split_once("::") else {
            continue;
        };
        if module.is_empty() || !name.chars().all(is_word) {
            continue;
        }
        named += 1;
        let is_there = tests.iter().any(|(path, text)| {
            (*path == format!("{module}.rs") || path.starts_with(&format!("{module}/")))
                && text.contains(&format!("fn {test}()"))
        });
        assert!(is_there, "there is no test {name}");
    }
    assert!(named > 50, "only {named} tests are named");
}

#[test]
fn output_is_shown_with_the_proof_of_a_write() {
    let sources = texts("host/src/checkpoint");
    for (path, text) in &sources {
        for line in text.lines().filter(|line| line.contains("Written {")) {
            let declares = line.contains("struct Written {") || line.contains("impl Written {");
            assert!(
                declares || path == "ledger.rs",
                "{path} makes a proof by itself: {line}"
            );
        }
    }
    for (path, function) in [("logs/append.rs", "publish"), ("outputs/mod.rs", "deliver")] {
        let text = &sources[path];
        let (_, from) = text
            .split_once(&format!("fn {function}("))
            .expect("the function that shows output");
        let (signature, _) = from.split_once('{').expect("a body");
        assert!(
            signature.contains("&Written"),
            "{path}: `{function}` shows output without a proof"
        );
    }
}

#[test]
fn a_word_is_one_idea() {
    for (path, text) in texts("host/src") {
        if is_test(&path) {
            continue;
        }
        for line in without_tests(&text).lines() {
            let words: Vec<&str> = line
                .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .filter(|word| !word.is_empty())
                .collect();
            for (kind, name) in words.iter().zip(words.iter().skip(1)) {
                let is_type = ["struct", "enum", "trait", "type"].contains(kind)
                    && !line.trim_start().starts_with("//");
                let word = WORDS.iter().find(|(word, _)| word == name);
                if let (true, Some((word, home))) = (is_type, word) {
                    assert!(
                        *home == Some(path.as_str()),
                        "{path} has another type `{word}`: {line}"
                    );
                }
            }
        }
    }
}

/// The names of the guests in a folder.
fn guests(folder: &str) -> Vec<String> {
    fs::read_dir(in_repository(folder))
        .expect("the guests")
        .map(|entry| entry.expect("a guest").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect()
}

/// They are built into one folder, and one would take the place of the other.
#[test]
fn no_guest_of_the_benchmarks_has_the_name_of_a_guest_for_tests() {
    let tests = guests("tests/guests/examples");
    let both: Vec<String> = guests("benches/guests/examples")
        .into_iter()
        .filter(|name| tests.contains(name))
        .collect();
    assert!(both.is_empty(), "{both:?}");
}

#[test]
fn every_guest_for_tests_is_used_by_a_test() {
    let guests = guests("tests/guests/examples");
    let all: String = texts("tests/all").into_values().collect();
    let is_used = |guest: &String| {
        let quoted = format!("\"{guest}\"");
        let in_job = format!("{{guest:{guest}}}");
        let as_file = format!("{guest}.wasm");
        [quoted, in_job, as_file]
            .iter()
            .any(|name| all.contains(name))
    };
    let unused: Vec<&String> = guests.iter().filter(|guest| !is_used(guest)).collect();
    assert!(guests.len() > 10, "the guests were found");
    assert!(unused.is_empty(), "guests without a test: {unused:?}");
}

/// A handle that is dropped detaches its thread. In glibc 2.36 that reads the thread's memory after the thread may have ended and given
/// it back: a process ended by a signal now and then. A thread that ends soon is joined.
#[test]
fn scoped_threads_are_joined() {
    for (path, text) in texts("host/src") {
        let text = without_tests(&text);
        assert!(
            !text.contains("spawn_scoped(") || text.contains(".join()"),
            "{path} drops the handle of a thread"
        );
    }
}
