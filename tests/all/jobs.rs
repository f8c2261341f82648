//! Jobs from beginning to end, as a user runs them.

use crate::harness::{Job, wait_until};

/// Lines through the counter to lines.
pub const COUNT_LINES: &str = r#"
[job]
name = "count"
[checkpoint]
interval = "100ms"
[streams.lines]
system = "file"
path = "in.txt"
format = "lines"
[streams.out]
system = "file"
path = "out"
format = "lines"
[[stage]]
name = "count"
component = "{guest:counter}"
inputs = ["lines"]
outputs = ["out"]
[stage.stores.counts]
type = "rocksdb"
"#;

/// A log through the counter to a log.
pub const COUNT_LOG: &str = r#"
[job]
name = "count"
[checkpoint]
interval = "50ms"
[streams.in]
system = "log"
partitions = 2
[streams.out]
system = "log"
partitions = 2
[[stage]]
name = "count"
component = "{guest:counter}"
inputs = ["in"]
outputs = ["out"]
[stage.stores.counts]
type = "rocksdb"
"#;

/// [`COUNT_LOG`] with another component, and one partition of its streams.
pub fn one_partition(component: &str) -> String {
    COUNT_LOG
        .replace("{guest:counter}", component)
        .replace("partitions = 2", "partitions = 1")
}

#[test]
fn a_bounded_job_ends_and_says_so_again() {
    let job = Job::new(COUNT_LINES);
    job.write("in.txt", b"a\nb\na\n");
    job.run().expect(0).says("finished at checkpoint");
    assert_eq!(job.text("out/out-0-0"), "a 1\nb 1\na 2\n");
    job.run().expect(0).says("nothing new to process");
    assert_eq!(job.text("out/out-0-0"), "a 1\nb 1\na 2\n");
    job.append("in.txt", b"b\n");
    job.run().expect(0);
    assert_eq!(job.text("out/out-0-0"), "a 1\nb 1\na 2\nb 2\n");
}

#[test]
fn what_is_produced_comes_out() {
    let job = Job::new(COUNT_LOG);
    let done = job
        .feed(
            &["log", "produce", "in", "--key-separator", "="],
            b"a=1\nb=2\na=3\n",
        )
        .expect(0);
    assert!(
        done.stderr.contains("3 messages appended"),
        "{}",
        done.stderr
    );
    job.call(&["run", "--until-idle"]).expect(0);
    let mut values = job.values("out");
    values.sort();
    assert_eq!(values, ["a 1", "a 2", "b 1"]);
}

#[test]
fn a_running_job_answers_like_a_stopped_one() {
    let job = Job::new(COUNT_LOG);
    let running = job.start();
    wait_until("the job answers", || job.call(&["status"]).code == 0);
    job.feed(
        &["log", "produce", "in", "--key-separator", "="],
        b"a=1\nb=2\na=3\n",
    )
    .expect(0);
    wait_until("three counts are visible", || job.values("out").len() == 3);
    let taken = job.json(&["checkpoint", "trigger"]);
    assert!(taken[0]["epoch"].as_u64() > Some(0), "{taken:?}");
    let while_running = [
        job.log("out"),
        job.call(&["log", "list"]).stdout,
        job.call(&["offsets", "show"]).stdout,
    ];
    let listed = job.json(&["checkpoint", "list"]);
    assert_eq!(job.json(&["status"])[0]["state"], "running");
    job.call(&["state", "scan", "counts"])
        .expect(2)
        .says("not supported yet");
    running.terminate().expect(0);
    let stopped = [
        job.log("out"),
        job.call(&["log", "list"]).stdout,
        job.call(&["offsets", "show"]).stdout,
    ];
    assert_eq!(while_running, stopped);
    assert_eq!(
        job.json(&["checkpoint", "list"])[..listed.len()],
        listed[..]
    );
    assert_eq!(job.json(&["status"])[0]["state"], "stopped");
}

#[test]
fn a_second_process_is_told_who_holds_the_state() {
    let job = Job::new(COUNT_LOG);
    let running = job.start();
    wait_until("the job answers", || job.call(&["status"]).code == 0);
    job.run()
        .expect(4)
        .says(&format!("in use by process {}", running.pid()));
}

#[test]
fn a_guest_without_sdk_keeps_headers() {
    let job = Job::new(&COUNT_LOG.replace("{guest:counter}", "{guest:raw_relay}"));
    let message =
        br#"{"key":"k","value":"v","timestamp":5,"partition":1,"headers":[["h","1"],["n",null]]}"#;
    job.feed(&["log", "produce", "in", "--jsonl"], message)
        .expect(0);
    job.call(&["run", "--until-idle"]).expect(0);
    let out = job.log("out");
    assert!(
        out.contains(r#""timestamp":5,"key":"k","value":"1 v","headers":[["h","1"],["n",null]]"#),
        "{out}"
    );
}

#[test]
fn on_end_is_called_until_it_is_done_and_again_when_inputs_grow() {
    let job = Job::new(&COUNT_LINES.replace("{guest:counter}", "{guest:ender}"));
    job.write("in.txt", &b"x\n".repeat(123));
    job.run().expect(0);
    assert_eq!(job.text("out/out-0-0"), "1\n2\n3\n");
    job.run().expect(0).says("nothing new");
    assert_eq!(job.text("out/out-0-0"), "1\n2\n3\n");
}

#[test]
fn what_on_end_sends_has_the_latest_timestamp_even_before_1970() {
    let job = Job::new(
        &COUNT_LINES
            .replace("{guest:counter}", "{guest:ender}")
            .replace("in.txt\"\nformat = \"lines\"", "in.jsonl\"\nformat = \"jsonl\"\ntimestamp = { field = \"t\", format = \"unix-ms\" }")
            .replace("path = \"out\"\nformat = \"lines\"", "path = \"out\"\nformat = \"message\""),
    );
    let sent = || job.text("out/out-0-0");
    job.write("in.jsonl", b"{\"t\":-50}\n{\"t\":-20}\n{\"t\":-30}\n");
    job.run().expect(0);
    assert!(sent().contains("\"timestamp\":-20,"), "{}", sent());
    assert_eq!(sent().lines().count(), 1);
    job.append("in.jsonl", b"{\"t\":-40}\n");
    job.run().expect(0);
    let last = sent().lines().last().map(str::to_owned);
    assert!(
        last.is_some_and(|last| last.contains("\"timestamp\":-20,")),
        "{}",
        sent()
    );
}

#[test]
fn reset_moves_everything_aside() {
    let job = Job::new(COUNT_LINES);
    job.write("in.txt", b"a\n");
    job.run().expect(0);
    job.call(&["reset"]).expect(0);
    job.run().expect(0);
    assert_eq!(job.text("out/out-0-0"), "a 1\n");
    job.call(&["run", "--from-start"])
        .expect(4)
        .says("wasm-host reset");
}

/// A job file with one stage, and a log `dead` beside its streams.
pub fn with_dead(text: &str) -> String {
    text.replace("[[stage]]", "[streams.dead]\nsystem = \"log\"\n[[stage]]")
}
