//! The examples, against what scripts in another language expect.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::{Job, components, host, in_repository};
use crate::runbook::is_like;

fn example(name: &str) -> Job {
    let folder = in_repository(&format!("examples/{name}"));
    let mut job = Job::new(&fs::read_to_string(folder.join("job.toml")).expect("its job file"));
    job.env("COMPONENTS", components().to_str().expect("UTF-8"));
    for entry in fs::read_dir(folder.join("data")).expect("its data") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        job.write(&format!("data/{name}"), &fs::read(&path).expect("data"));
    }
    job
}

fn checked_by_its_script(name: &str) {
    let script = in_repository(&format!("examples/{name}/expected.py"));
    let done = Command::new("python3")
        .arg(&script)
        .arg("--check")
        .output()
        .expect("python3");
    assert!(
        done.status.success(),
        "{}: {}",
        script.display(),
        String::from_utf8_lossy(&done.stderr)
    );
}

#[test]
fn expectations_are_what_their_scripts_make() {
    checked_by_its_script("word-count");
    checked_by_its_script("flight-delays");
}

pub fn expected(name: &str, file: &str) -> String {
    fs::read_to_string(in_repository(&format!("examples/{name}/expected/{file}")))
        .expect("an expectation")
}

/// The entries of a store, of all tasks, in the order of keys.
fn entries(job: &Job, store: &str) -> String {
    let mut lines: Vec<String> = job.state(store).lines().map(str::to_owned).collect();
    lines.sort();
    lines.into_iter().map(|line| line + "\n").collect()
}

/// The job of the word count with another component.
pub fn word_count_job(component: &Path) -> Job {
    let job = example("word-count");
    let ours = "${COMPONENTS:-../../target/wasm32-wasip2/release}/word_count.wasm";
    let text = job.text("job.toml");
    assert!(text.contains(ours), "{text}");
    job.write_job(&text.replace(ours, component.to_str().expect("UTF-8")));
    job
}

/// Whether a word count has left what it should.
pub fn check_word_count(job: &Job) {
    check_counts(job);
    assert_eq!(job.text("out/top-0-0"), expected("word-count", "top.jsonl"));
}

/// Whether it has sent and stored what it should, however often the text has ended.
pub fn check_counts(job: &Job) {
    assert!(
        job.text("out/counts-0-0") == expected("word-count", "counts.jsonl"),
        "the counts differ"
    );
    assert!(
        entries(job, "counts") == expected("word-count", "counts.tsv"),
        "the store differs"
    );
}

#[test]
fn word_count() {
    let job = example("word-count");
    job.run().expect(0);
    check_word_count(&job);
}

#[test]
fn flight_delays() {
    let job = example("flight-delays");
    job.run().expect(0);
    for partition in 0..4 {
        let done = job
            .call(&[
                "log",
                "consume",
                "delays",
                "--partition",
                &partition.to_string(),
                "--json",
            ])
            .expect(0);
        let values = done.stdout.lines().map(|line| {
            let message: serde_json::Value = serde_json::from_str(line).expect("JSON");
            message["value"].as_str().expect("text").to_owned() + "\n"
        });
        let values: String = values.collect();
        let file = format!("delays-{partition}.jsonl");
        assert!(values == expected("flight-delays", &file), "{file} differs");
    }
    assert!(
        entries(&job, "by-origin") == expected("flight-delays", "by-origin.tsv"),
        "the store differs"
    );
}

/// The script of an example that a person can watch comes to its end, and says all of this.
#[track_caller]
fn says(example: &str, texts: &[&str]) {
    let said = watched(example);
    for text in texts {
        assert!(said.contains(text), "{text:?} is not in: {said}");
    }
}

/// What the script of an example prints.
fn watched(example: &str) -> String {
    let done = Command::new(in_repository(&format!("examples/{example}/watch")))
        .env("HOST", host())
        .env("COMPONENTS", components())
        .output()
        .expect("the script");
    let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    said.into_owned()
}

/// The script that a person can watch: a task that is deployed four times while it runs.
#[test]
fn hot_swap() {
    let said = watched("hot-swap");
    let readme = fs::read_to_string(in_repository("examples/hot-swap/README.md"));
    let readme = readme.expect("the README");
    let shown = readme.split("```text\n").nth(1);
    let shown = shown.and_then(|rest| rest.split("```").next());
    let (said, shown): (Vec<_>, Vec<_>) = (
        said.lines().collect(),
        shown.expect("what it prints").lines().collect(),
    );
    assert!(is_like(&said, &shown), "{said:#?} is not {shown:#?}");
}

/// The script that a person can watch: a guest with a bug and damaged rows, mended and replayed, equal a clean run.
#[test]
fn poison() {
    says(
        "poison",
        &[
            "state and output are equal",
            "attempt to divide by zero",
            "src/lib.rs",
            "is no number of minutes",
        ],
    );
}
