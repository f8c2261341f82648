//! Where a first start begins, and what a start leaves to others that meets a failure again.

use serde_json::Value;

use crate::harness::{Job, wait_until};
use crate::jobs::{COUNT_LINES, one_partition};

/// Only what a test asks for takes a checkpoint.
fn seldom(text: &str) -> String {
    text.replace("interval = \"50ms\"", "interval = \"1h\"")
        .replace("interval = \"100ms\"", "interval = \"1h\"")
}

#[test]
fn what_comes_to_a_log_after_the_first_start_is_read_after_a_crash() {
    let latest = one_partition("{guest:counter}").replace(
        "inputs = [\"in\"]",
        "inputs = { in = { stream = \"in\", start = \"latest\" } }",
    );
    let job = Job::new(&seldom(&latest));
    job.feed(&["log", "produce", "in"], b"before\n").expect(0);
    let running = job.answering();
    job.feed(&["log", "produce", "in"], b"acknowledged\n")
        .expect(0);
    running.kill();
    job.feed(&["log", "produce", "in"], b"later\n").expect(0);
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out"), ["acknowledged 1", "later 1"]);
}

#[test]
fn what_comes_to_a_file_after_the_first_start_is_read_after_a_crash() {
    let latest = COUNT_LINES
        .replace("path = \"in.txt\"", "path = \"in.txt\"\nfollow = true")
        .replace(
            "inputs = [\"lines\"]",
            "inputs = { lines = { stream = \"lines\", start = \"latest\" } }",
        );
    let job = Job::new(&seldom(&latest));
    job.write("in.txt", b"before\n");
    let running = job.answering();
    wait_until("the place is recorded", || {
        let checkpoints = job.json(&["checkpoint", "list"]);
        checkpoints.iter().any(|found| found["trigger"] == "start")
    });
    job.append("in.txt", b"after\n");
    wait_until("it is processed", || {
        job.json(&["status"])[0]["tasks"][0]["processed"] == 1
    });
    running.kill();
    job.append("in.txt", b"later\n");
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.text("out/out-0-0"), "after 1\nlater 1\n");
}

#[test]
fn a_task_that_fails_at_every_start_leaves_the_others_time_to_catch_up() {
    const EACH: usize = 200;
    let job = Job::new(&one_partition("{guest:obey}").replace("partitions = 1", "partitions = 3"));
    let mut lines = String::from("{\"partition\":0,\"value\":\"panic always\"}\n");
    for at in 0..2 * EACH {
        lines += &format!("{{\"partition\":{},\"value\":\"work {at}\"}}\n", 1 + at % 2);
    }
    job.feed(&["log", "produce", "in", "--jsonl"], lines.as_bytes())
        .expect(0);
    for _ in 0..2 {
        job.run().expect(3).says("the guest says no: always");
    }
    let processed = |task: &Value| task["processed"].as_u64().unwrap_or(0) as usize;
    let status = job.json(&["status"]);
    let tasks = status[0]["tasks"].as_array().expect("tasks");
    let done: usize = tasks.iter().map(processed).sum();
    assert_eq!(done, 2 * EACH, "the others are not held up");
}
