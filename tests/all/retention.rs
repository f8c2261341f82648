//! What retention deletes, and what a reader of deleted messages gets.

use std::time::Duration;

use crate::harness::{Job, wait_until};
use crate::jobs::COUNT_LOG;

/// One partition of `in` with these settings. Only what stops the job takes a checkpoint.
fn keeping(settings: &str) -> Job {
    let text = COUNT_LOG
        .replace("partitions = 2", "partitions = 1")
        .replace("interval = \"50ms\"", "interval = \"1h\"")
        .replace(
            "[streams.in]\nsystem = \"log\"",
            &format!("[streams.in]\nsystem = \"log\"\n{settings}"),
        );
    Job::new(&text)
}

/// A job that stops at `panic` with what came before it committed.
fn obeying(settings: &str) -> Job {
    let job = keeping(settings);
    let text = job
        .text("job.toml")
        .replace("/counter.wasm", "/obey.wasm")
        .replace(
            "[stage.stores.counts]",
            "batch-messages = 1\n[stage.stores.counts]",
        );
    job.write("job.toml", text.as_bytes());
    // Built with all the others.
    assert!(crate::harness::guest("obey").exists());
    job
}

/// Appends messages, each a chunk of its own of about 30 kB.
fn append_chunks(job: &Job, count: usize) {
    let line = format!("k={}\n", "v".repeat(30_000));
    let arguments = [
        "log",
        "produce",
        "in",
        "--key-separator",
        "=",
        "--batch",
        "1",
    ];
    job.feed(&arguments, line.repeat(count).as_bytes())
        .expect(0);
}

/// Runs the job until this many messages are processed in all, and stops it: one checkpoint.
fn run_to(job: &Job, processed: u64) {
    let running = job.answering();
    wait_until("all are processed", || {
        job.json(&["status"])[0]["tasks"][0]["processed"] == processed
    });
    running.terminate().expect(0);
}

/// The first offset that is there, and the one after the last.
fn bounds(job: &Job, stream: &str) -> (u64, u64) {
    let logs = job.json(&["log", "list"]);
    let log = logs
        .iter()
        .find(|log| log["stream"] == stream)
        .expect("the stream");
    let number = |name: &str| log[name].as_u64().expect("a number");
    (number("oldest"), number("end"))
}

#[test]
fn by_bytes_the_oldest_chunks_go_and_what_is_unread_stays() {
    let job = keeping("retention = { bytes = \"100kB\" }");
    append_chunks(&job, 10);
    assert_eq!(bounds(&job, "in"), (0, 10), "a command removes nothing");
    run_to(&job, 10);
    assert_eq!(
        bounds(&job, "in"),
        (0, 10),
        "at the first checkpoint nothing was read yet"
    );
    append_chunks(&job, 5);
    run_to(&job, 15);
    // Of 15 chunks 3 fit; those from 10 on were unread when the checkpoint was taken.
    assert_eq!(bounds(&job, "in"), (10, 15));
    assert_eq!(job.values("out").len(), 15);
    let left = job.log("in");
    assert_eq!(left.lines().count(), 5);
    assert!(left.starts_with("{\"stream\":\"in\",\"partition\":0,\"offset\":10,"));
    append_chunks(&job, 1);
    run_to(&job, 16);
    assert_eq!(bounds(&job, "in"), (13, 16), "three fit");
    assert_eq!(job.values("out").last().map(String::as_str), Some("k 16"));
}

#[test]
fn reading_a_deleted_offset_names_the_offsets_that_are_left() {
    let job = keeping("retention = { bytes = \"100kB\" }\ndrop-unread = true");
    append_chunks(&job, 10);
    run_to(&job, 10);
    assert_eq!(bounds(&job, "in"), (7, 10), "three fit");
    assert_eq!(job.values("out").len(), 10, "and all were read in time");
    let from = ["log", "consume", "in", "--from", "2"];
    let says = "--from 2: partition 0 holds offsets 7 to before 10";
    job.call(&from).expect(2).says(says);
    let running = job.answering();
    job.call(&from).expect(2).says(says);
    running.terminate().expect(0);
    let oldest = job.call(&["log", "consume", "in", "--json", "--limit", "1"]);
    assert!(oldest.expect(0).stdout.contains("\"offset\":7,"));
}

#[test]
fn a_task_that_stopped_finds_its_messages_unless_they_may_be_dropped() {
    for drop_unread in [false, true] {
        let job = obeying(&format!(
            "retention = {{ bytes = \"100kB\" }}\ndrop-unread = {drop_unread}"
        ));
        job.feed(
            &["log", "produce", "in", "--batch", "1"],
            b"one\ntwo\npanic now\n",
        )
        .expect(0);
        append_chunks(&job, 10);
        let stopped = job.call(&["run", "--until-idle"]).expect(3);
        assert!(stopped.stderr.contains("offset 2 "), "{}", stopped.stderr);
        assert_eq!(job.values("out"), ["one 1", "two 2"]);
        let again = job.call(&["run", "--until-idle"]);
        if drop_unread {
            assert_eq!(bounds(&job, "in"), (10, 13));
            again
                .expect(0)
                .says("8 messages that were not read are gone")
                .says("reading goes on at offset 10");
            assert_eq!(job.values("out").len(), 5, "what is there is processed");
        } else {
            assert_eq!(bounds(&job, "in"), (2, 13));
            again.expect(3).says("the guest says no: now");
            assert_eq!(job.values("out"), ["one 1", "two 2"], "nothing is skipped");
        }
    }
}

#[test]
fn a_running_task_goes_on_when_what_it_has_not_read_is_dropped() {
    let job = obeying("retention = { bytes = \"100kB\" }\ndrop-unread = true\nmax-rate = \"5/s\"");
    let text = job
        .text("job.toml")
        .replace("interval = \"1h\"", "interval = \"50ms\"");
    job.write("job.toml", text.as_bytes());
    append_chunks(&job, 40);
    let mut running = job.answering();
    running.until_says("messages that were not read are gone");
    wait_until("it has come to the end", || {
        let status = &job.json(&["status"])[0];
        status["tasks"][0]["inputs"][0]["position"] == 40
    });
    let skipped: f64 = crate::admin::metrics(&job)
        .iter()
        .filter(|(name, _)| name.starts_with("wasm_host_messages_skipped_total"))
        .map(|(_, count)| count)
        .sum();
    running.terminate().expect(0);
    let processed = job.json(&["status"])[0]["tasks"][0]["processed"].clone();
    assert_eq!(processed.as_f64(), Some(40.0 - skipped));
}

#[test]
fn what_a_dropped_stage_has_read_is_unread_by_the_one_in_its_place() {
    let job = keeping("retention = { bytes = \"100kB\" }");
    append_chunks(&job, 20);
    run_to(&job, 20);
    assert_eq!(bounds(&job, "in"), (0, 20));
    let text = job
        .text("job.toml")
        .replace(
            "name = \"count\"\ncomponent",
            "name = \"another\"\ncomponent",
        )
        .replace("interval = \"1h\"", "interval = \"50ms\"")
        .replace("retention =", "max-rate = \"20/s\"\nretention =")
        .replace(
            "[stage.stores.counts]",
            "batch-bytes = \"1kB\"\n[stage.stores.counts]",
        );
    job.write("job.toml", text.as_bytes());
    // Its first checkpoint comes long before it has read all.
    job.call(&["run", "--until-idle", "--drop-stage", "count"])
        .expect(0);
    assert_eq!(job.values("out").len(), 40, "all of them were read again");
}

#[test]
fn a_start_offset_before_the_first_of_the_log_is_an_error() {
    let job = keeping("retention = { bytes = \"100kB\" }\ndrop-unread = true");
    append_chunks(&job, 10);
    run_to(&job, 10);
    let text = job
        .text("job.toml")
        .replace("interval = \"1h\"", "interval = \"50ms\"");
    let begun = |start: &str| {
        text.replace(
            "name = \"count\"\ncomponent",
            "name = \"another\"\ncomponent",
        )
        .replace(
            "inputs = [\"in\"]",
            &format!("inputs = {{ in = {{ stream = \"in\", start = {start} }} }}"),
        )
    };
    job.write("job.toml", begun("{ offset = 2 }").as_bytes());
    let drop = ["run", "--until-idle", "--drop-stage", "count"];
    job.call(&drop)
        .expect(3)
        .says("offset 2 does not exist: the partition holds 7 up to, not including, 10");
    job.write("job.toml", begun("\"oldest\"").as_bytes());
    job.call(&drop).expect(0);
    assert_eq!(
        job.values("out").last().map(String::as_str),
        Some("k 3"),
        "the three that are there"
    );
}

#[test]
fn by_age_what_is_old_goes_with_a_checkpoint() {
    let job = keeping("retention = { age = \"2s\" }");
    let text = job
        .text("job.toml")
        .replace("interval = \"1h\"", "interval = \"50ms\"")
        .replace(
            "[streams.out]\nsystem = \"log\"",
            "[streams.out]\nsystem = \"log\"\nretention = { age = \"1h\" }",
        );
    job.write("job.toml", text.as_bytes());
    append_chunks(&job, 3);
    let running = job.answering();
    wait_until("the first three have gone", || {
        append_chunks(&job, 1);
        std::thread::sleep(Duration::from_millis(100));
        bounds(&job, "in").0 >= 3
    });
    let (oldest, end) = bounds(&job, "in");
    assert!(oldest < end, "the last is younger than two seconds");
    running.terminate().expect(0);
    assert_eq!(job.values("out").len() as u64, end);
    assert_eq!(bounds(&job, "out"), (0, end), "an hour has not passed");
    let when = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).expect("JSON");
        message["timestamp"].as_i64().expect("a time")
    };
    let left: Vec<i64> = job.log("in").lines().map(when).collect();
    assert!(
        left[left.len() - 1] - left[0] < 10_000,
        "what is left is of the last seconds: {left:?}"
    );
}
