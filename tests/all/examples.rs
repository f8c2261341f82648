//! The examples, against what scripts in another language expect.

use std::fs;
use std::process::Command;

use crate::harness::{Job, components, in_repository};

fn example(name: &str) -> Job {
    let folder = in_repository(&format!("examples/{name}"));
    let mut job = Job::new(&fs::read_to_string(folder.join("job.toml")).expect("its job file"));
    job.env("COMPONENTS", components().to_str().expect("UTF-8"));
    for entry in fs::read_dir(folder.join("data")).expect("its data") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        job.write(&format!("data/{name}"), &fs::read(&path).expect("data"));
    }
    job
}

fn checked_by_its_script(name: &str) {
    let script = in_repository(&format!("examples/{name}/expected.py"));
    let done = Command::new("python3").arg(&script).arg("--check").output().expect("python3");
    assert!(done.status.success(), "{}: {}", script.display(), String::from_utf8_lossy(&done.stderr));
}

#[test]
fn expectations_are_what_their_scripts_make() {
    checked_by_its_script("word-count");
    checked_by_its_script("flight-delays");
}
