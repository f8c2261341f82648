//! A crash of the job before each durable step of a swap, a probation and a way back: whatever is left, the next start goes on, and
//! nothing is lost, repeated or out of order.

use std::collections::BTreeMap;

use super::{Version, feed, job_of, one, out, stop, swap};
use crate::crash::case::watched;
use crate::harness::{Job, Running, wait_until};

/// Each message has its number, and the third is one that the second version fails at.
fn message(number: usize, versions: &[Version; 2]) -> String {
    match number {
        3 => format!("panic {} 3", versions[1].short()),
        number => number.to_string(),
    }
}

const MESSAGES: usize = 6;

/// Swaps, feeds what makes the new code go back, and waits until it is, or the process has crashed.
fn scene(job: &Job, versions: &[Version; 2]) {
    let mut running = job.start_with(&["run"]);
    let fed = |number: usize| {
        let line = serde_json::json!({"key": "k", "value": message(number, versions)});
        let line = line.to_string() + "\n";
        job.feed(&["log", "produce", "in", "--jsonl"], line.as_bytes())
            .code
            == 0
    };
    let is_over = |running: &mut Running| {
        !running.is_running()
            || job
                .call(&["status", "--json"])
                .stdout
                .contains("rolled-back")
    };
    wait_until("it answers, or has crashed", || {
        !running.is_running() || job.call(&["status"]).code == 0
    });
    if running.is_running() && fed(1) && swap(job, &versions[1], &[]).code == 0 && fed(2) && fed(3)
    {
        wait_until("it is back, or has crashed", || is_over(&mut running));
    }
    running.kill();
}

/// What was fed comes out once, in its order, and what the second version fails at was processed by the first.
fn finish(job: &Job, versions: &[Version; 2], what: &str) {
    let logs = job.json(&["log", "list"]);
    let fed = logs.iter().filter(|log| log["stream"] == "in");
    let fed: u64 = fed.map(|log| log["end"].as_u64().expect("an offset")).sum();
    let fed = usize::try_from(fed).expect("few");
    for number in fed + 1..=MESSAGES {
        feed(job, one(&message(number, versions)));
    }
    let running = job.answering();
    let values = out(job, MESSAGES);
    stop(running);
    assert_eq!(values.len(), MESSAGES, "{what}: {values:?}");
    for (at, value) in values.iter().enumerate() {
        let (rest, count) = value.rsplit_once(' ').expect("a count");
        let (message_of, version) = rest.rsplit_once(' ').expect("a version");
        assert_eq!(message_of, message(at + 1, versions), "{what}: {values:?}");
        assert_eq!(count, (at + 1).to_string(), "{what}: {values:?}");
        if at + 1 == 3 {
            assert_eq!(version, versions[0].short(), "{what}: {values:?}");
        }
    }
}

#[test]
fn a_crash_in_a_swap_or_a_way_back_loses_and_repeats_nothing() {
    let versions = [60, 61].map(|number| Version::of("versions", number));
    let mut times: BTreeMap<&str, u32> = BTreeMap::new();
    for step in [
        "code.write",
        "append.write",
        "commit.write",
        "commit.witness",
        "commit.publish",
    ] {
        for which in 1..5 {
            let mut job = job_of(&versions[0]).with_steps();
            let at = format!("{step}:{which}");
            let ((), steps) = watched(&mut job, &at, |job| scene(job, &versions));
            let is_hit = steps.last().is_some_and(|last| last == step)
                && steps.iter().filter(|other| *other == step).count() == which;
            *times.entry(step).or_default() += u32::from(is_hit);
            finish(
                &job,
                &versions,
                &format!("a crash before {at}, of {steps:?}"),
            );
        }
    }
    let all: u32 = times.values().sum();
    assert!(times["code.write"] == 2 && all >= 8, "{times:?}");
}
