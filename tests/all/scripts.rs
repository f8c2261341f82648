//! `scripts/rocksdb`, with a compiler that only notes what it is asked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::harness::in_repository;

const COMPILER: &str = r#"
[ "$1" != --version ] || { echo "a compiler that notes"; exit; }
for unit; do :; done
printf '%s\n' "$@" > "$NOTES.flags"
echo "$unit" >> "$NOTES"
[ "$unit" != "$FAILS_AT" ] || exit 1
cp "$unit" "${unit%.cc}.o"
"#;

/// A compiler, and a target folder whose path has a space.
struct Place(TempDir);

impl Place {
    fn new() -> Place {
        let folder = TempDir::new().expect("a folder");
        fs::write(folder.path().join("compiler"), COMPILER).expect("the folder can be written");
        Place(folder)
    }

    fn rocksdb(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        let compiler = self.0.path().join("compiler");
        Command::new(in_repository("scripts/rocksdb"))
            .args(arguments)
            .env("CARGO_TARGET_DIR", self.0.path().join("a target"))
            .env("CXX", format!("sh {}", compiler.display()))
            .env("NOTES", self.0.path().join("notes"))
            .env("FAILS_AT", "")
            .env_remove("CXXFLAGS")
            .envs(environment.iter().copied())
            .output()
            .expect("the script can be started")
    }

    fn library(&self, environment: &[(&str, &str)]) -> PathBuf {
        let done = self.rocksdb(&["--path"], environment);
        assert!(done.status.success(), "{done:?}");
        let text = String::from_utf8(done.stdout).expect("UTF-8");
        PathBuf::from(text.trim_end()).join("librocksdb.a")
    }

    /// What was compiled since it was asked last.
    fn compiled(&self) -> Vec<String> {
        let notes = self.0.path().join("notes");
        let text = fs::read_to_string(&notes).unwrap_or_default();
        let _ = fs::remove_file(notes);
        text.lines().map(str::to_owned).collect()
    }
}

#[test]
fn rocksdb_is_compiled_once_for_a_compiler_and_its_flags() {
    let place = Place::new();
    let done = place.rocksdb(&[], &[]);
    assert!(done.status.success(), "{done:?}");
    let compiled = place.compiled();
    assert!((9..=17).contains(&compiled.len()), "{compiled:?}");
    assert!(place.library(&[]).exists());

    assert!(place.rocksdb(&[], &[]).status.success());
    assert_eq!(place.compiled(), [""; 0]);

    let other = [("CXXFLAGS", "-mavx2 -g0")];
    assert!(!place.library(&other).exists());
    assert!(place.rocksdb(&[], &other).status.success());
    assert_eq!(place.compiled().len(), compiled.len());
    assert!(place.library(&other).exists());
    assert!(place.library(&[]).exists());
}

#[test]
fn a_library_that_is_not_whole_is_not_taken_for_one() {
    let place = Place::new();
    let fails = [("FAILS_AT", "build_version.cc")];
    assert!(!place.rocksdb(&[], &fails).status.success());
    assert!(!place.library(&[]).exists());
    place.compiled();

    // As a process that was killed leaves it.
    let unfinished = place.0.path().join("a target/rocksdb/.unfinished");
    fs::create_dir_all(&unfinished).expect("a folder");
    fs::write(unfinished.join("left.o"), b"").expect("a file");
    let done = place.rocksdb(&[], &[]);
    assert!(done.status.success(), "{done:?}");
    assert!(place.compiled().len() >= 9);
    let library = place.library(&[]);
    let names = Command::new("ar").arg("t").arg(&library).output();
    let names = String::from_utf8(names.expect("ar").stdout).expect("UTF-8");
    assert!(
        names.contains("unit0.o") && !names.contains("left.o"),
        "{names}"
    );
}

/// Every source is in one unit.
#[test]
fn nothing_of_rocksdb_is_left_out() {
    let place = Place::new();
    assert!(place.rocksdb(&[], &[]).status.success());
    let library = place.library(&[]);
    let units = Command::new("ar").arg("p").arg(&library).output();
    let units = String::from_utf8(units.expect("ar").stdout).expect("UTF-8");
    let mut included: Vec<&str> = units
        .lines()
        .filter_map(|line| line.strip_prefix("#include \"")?.strip_suffix('"'))
        .filter(|name| name.ends_with(".cc"))
        .collect();
    included.sort_unstable();

    let flags = fs::read_to_string(place.0.path().join("notes.flags")).expect("flags");
    let sources = flags
        .lines()
        .filter_map(|flag| flag.strip_prefix("-I"))
        .find(|folder| folder.ends_with("/rocksdb"))
        .expect("the folder of the sources");
    let list = Path::new(sources).join("../rocksdb_lib_sources.txt");
    let list = fs::read_to_string(list).expect("the crate's list");
    let mut wanted: Vec<&str> = list
        .lines()
        .filter(|name| *name != "util/build_version.cc")
        .collect();
    wanted.sort_unstable();
    assert!(wanted.len() > 300);
    assert_eq!(included, wanted);
}
