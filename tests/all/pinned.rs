//! A component file that is replaced: what a restart runs, with and without `--pinned`.

use std::fs;

use sha2::{Digest, Sha256};

use crate::harness::{Job, guest};
use crate::jobs::COUNT_LINES;

fn hash(guest_name: &str) -> String {
    let bytes = fs::read(guest(guest_name)).expect("the component");
    let hash = Sha256::digest(bytes);
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn put(job: &Job, guest_name: &str) {
    fs::copy(guest(guest_name), job.path("task.wasm")).expect("the component");
}

/// The component of the last checkpoint.
fn recorded(job: &Job) -> String {
    let status = job.json(&["status"]).remove(0);
    status["tasks"][0]["component"]
        .as_str()
        .expect("a hash")
        .to_owned()
}

#[test]
fn pinned_is_the_component_of_the_last_checkpoint() {
    let job = Job::new(&COUNT_LINES.replace("{guest:counter}", "task.wasm"));
    put(&job, "counter");
    job.write("in.txt", b"a\na\n");
    job.run().expect(0);
    assert_eq!(job.text("out/out-0-0"), "a 1\na 2\n");
    assert_eq!(recorded(&job), hash("counter"));

    put(&job, "obey");
    job.append("in.txt", b"a\n");
    let done = job.call(&["run", "--pinned"]).expect(0);
    assert!(
        !done.stderr.contains("component is another"),
        "{}",
        done.stderr
    );
    assert_eq!(job.text("out/out-0-0"), "a 1\na 2\na 3\n");
    assert_eq!(recorded(&job), hash("counter"));

    job.append("in.txt", b"b\n");
    job.run()
        .expect(0)
        .says("the component is another than at the last checkpoint")
        .says(&hash("counter"));
    assert_eq!(job.text("out/out-0-0"), "a 1\na 2\na 3\nb 1\n");
    assert_eq!(recorded(&job), hash("obey"));

    // Now the new one is that of the last checkpoint, and its file is not needed.
    fs::remove_file(job.path("task.wasm")).expect("the component");
    job.append("in.txt", b"c\n");
    job.run().expect(2).says("task.wasm");
    job.call(&["run", "--pinned"]).expect(0);
    assert_eq!(job.text("out/out-0-0"), "a 1\na 2\na 3\nb 1\nc 2\n");
}

#[test]
fn a_component_that_committed_nothing_is_not_pinned() {
    let text = COUNT_LINES.replace("{guest:counter}", "task.wasm");
    // Else the code before would come back at once.
    let job = Job::new(&text.replace(
        "[stage.stores.counts]",
        "swap = { probation = \"none\" }\n[stage.stores.counts]",
    ));
    put(&job, "counter");
    job.write("in.txt", b"a\n");
    job.run().expect(0);
    put(&job, "obey");
    job.append("in.txt", b"panic at once\n");
    job.run().expect(3).says("the guest says no: at once");
    assert_eq!(recorded(&job), hash("counter"));
    job.call(&["run", "--pinned"]).expect(0);
    assert_eq!(job.text("out/out-0-0"), "a 1\npanic at once 1\n");
}

#[test]
fn a_kept_component_that_was_changed_is_not_run() {
    let job = Job::new(&COUNT_LINES.replace("{guest:counter}", "task.wasm"));
    put(&job, "counter");
    job.write("in.txt", b"a\n");
    job.run().expect(0);
    job.append("in.txt", b"a\n");
    let kept = job
        .state_dir()
        .join("code")
        .join(format!("{}.wasm", hash("counter")));
    fs::copy(guest("obey"), &kept).expect("the kept component");
    let done = job.call(&["run", "--pinned"]);
    assert_ne!(done.code, 0, "another component ran as the pinned one");
    assert_eq!(job.text("out/out-0-0"), "a 1\n");
}

#[test]
fn without_state_there_is_nothing_to_pin() {
    let job = Job::new(COUNT_LINES);
    job.write("in.txt", b"a\n");
    job.call(&["run", "--pinned"])
        .expect(2)
        .says("has no state yet");
}
