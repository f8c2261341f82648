//! Components that cannot be tasks: each is refused by `validate` with what it lacks.
//!
//! `tests/components/wrong/NAME.wat` and `NAME.expected`; `UPDATE_GOLDEN=1` writes the latter anew.

use std::fs;

use crate::harness::{Job, in_repository};

const JOB: &str = r#"
[job]
name = "wrong"
[streams.in]
system = "log"
[[stage]]
name = "wrong"
component = "component.wasm"
inputs = ["in"]
"#;

#[test]
fn wrong_components_are_refused_with_what_they_lack() {
    let folder = in_repository("tests/components/wrong");
    let mut checked = 0;
    let mut wrong = Vec::new();
    for entry in fs::read_dir(&folder).expect("the folder") {
        let path = entry.expect("an entry").path();
        let bytes = match path.extension().and_then(|extension| extension.to_str()) {
            Some("wat") => wat::parse_file(&path).expect("WAT"),
            Some("bytes") => fs::read(&path).expect("bytes"),
            _ => continue,
        };
        let job = Job::new(JOB);
        job.write("component.wasm", &bytes);
        let done = job.call(&["validate"]).expect(2);
        let said = done
            .stderr
            .replace(job.folder.path().to_str().expect("UTF-8"), "JOB");
        let expected = path.with_extension("expected");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&expected, &said).expect("the golden file");
        }
        if fs::read_to_string(&expected).ok().as_deref() != Some(said.as_str()) {
            wrong.push(format!("{}:\n{said}", path.display()));
        }
        checked += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked >= 10, "{checked} components");
}

#[test]
fn a_missing_and_an_unpinned_component_are_named() {
    let job = Job::new(JOB);
    job.call(&["validate"])
        .expect(2)
        .says("read component")
        .says("component.wasm");
    let pinned = JOB.replace(
        "component = \"component.wasm\"",
        &format!(
            "component = \"{{guest:counter}}\"\nsha256 = \"{}\"",
            "0".repeat(64)
        ),
    );
    Job::new(&pinned)
        .call(&["validate"])
        .expect(2)
        .says("but the job pins 0000");
}

#[test]
fn a_flipped_byte_in_the_cache_compiles_again() {
    let mut job = Job::new(&JOB.replace("component.wasm", "{guest:counter}"));
    let cache = job.path("cache");
    job.env("XDG_CACHE_HOME", cache.to_str().expect("UTF-8"));
    job.call(&["validate"]).expect(0);
    let files: Vec<_> = fs::read_dir(cache.join("wasm-host"))
        .expect("the cache")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "code")
        })
        .collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let whole = fs::read(&files[0]).expect("compiled code");
    for at in [0, 20, 100, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&files[0], damaged).expect("the file");
        job.call(&["validate"])
            .expect(0)
            .says("is damaged and is made again");
        assert!(
            fs::read(&files[0]).expect("compiled code") == whole,
            "byte {at}"
        );
    }
}
