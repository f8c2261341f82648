//! A crash before every durable step: count the steps of a whole run, then end the process before each of them and start
//! again.

use std::collections::BTreeMap;

use crate::harness::Job;

/// File to file, log and dead letters, in several epochs.
const JOB: &str = r#"
[job]
name = "crash"
disk-reserve = "1MiB"
[checkpoint]
interval = "15ms"
[streams.lines]
system = "file"
path = "in.txt"
format = "lines"
max-rate = "2000/s"
[streams.out]
system = "file"
path = "out"
format = "lines"
[[stage]]
name = "count"
component = "{guest:counter}"
inputs = ["lines"]
outputs = ["out"]
batch-messages = 20
[stage.stores.counts]
type = "rocksdb"
"#;

const LINES: usize = 160;

fn job() -> Job {
    let job = Job::new(JOB).with_steps();
    let lines: String = (0..LINES)
        .map(|line| format!("k{}\n", line * 7 % 23))
        .collect();
    job.write("in.txt", lines.as_bytes());
    job
}

fn expected() -> (String, String) {
    let mut counts = BTreeMap::new();
    let mut out = String::new();
    for line in 0..LINES {
        let key = format!("k{}", line * 7 % 23);
        let count = counts.entry(key.clone()).or_insert(0i64);
        *count += 1;
        out += &format!("{key} {count}\n");
    }
    let state = counts
        .iter()
        .map(|(key, count)| format!("{key}\t{}\n", count.to_le_bytes().escape_ascii()))
        .collect();
    (out, state)
}

fn steps_of(job: &mut Job) -> Vec<String> {
    let log = job.path("steps.log");
    job.env("STEPS_LOG", log.to_str().expect("UTF-8"));
    job.run().expect(0);
    job.clear_env();
    job.text("steps.log").lines().map(str::to_owned).collect()
}

#[track_caller]
fn check(job: &Job, what: &str) {
    job.run().expect(0);
    let (out, state) = expected();
    assert_eq!(job.text("out/out-0-0"), out, "{what}");
    assert_eq!(job.state("counts"), state, "{what}");
}

const ABORTED: i32 = 128 + 6;

#[test]
fn a_crash_before_every_step_loses_and_repeats_nothing() {
    let mut counted = job();
    let steps = steps_of(&mut counted);
    check(&counted, "no crash at all");
    for name in [
        "init.make",
        "init.database",
        "init.commit",
        "witness.write",
        "witness.sync",
        "init.format",
        "init.sync",
        "init.rename",
        "init.sync-parent",
        "open.database",
        "commit.write",
        "commit.witness",
        "commit.publish",
        "deliver",
        "sink.write",
        "sink.sync",
    ] {
        assert!(
            steps.iter().any(|step| step == name),
            "step {name:?} was not seen in {steps:?}"
        );
    }
    // The number of epochs differs from run to run, so the last steps may not come.
    let mut crashed = 0;
    for number in 1..=steps.len() {
        let mut job = job();
        job.env("STEPS_ABORT", &number.to_string());
        let done = job.run();
        job.clear_env();
        match done.code {
            ABORTED => crashed += 1,
            0 => {}
            code => panic!("before step {number}: exit {code}: {}", done.stderr),
        }
        check(
            &job,
            &format!(
                "a crash before step {number}, {:?} in the first run",
                steps[number - 1]
            ),
        );
    }
    assert!(
        crashed >= steps.len() * 2 / 3,
        "{crashed} crashes in {} runs",
        steps.len()
    );
}

#[test]
fn crashes_in_a_row_between_write_and_witness() {
    for name in ["commit.witness", "witness.write", "witness.sync"] {
        let mut job = job();
        // The first witness is that of the new directory.
        for at in [3, 1, 1, 2] {
            job.env("STEPS_ABORT", &format!("{name}:{at}"));
            let done = job.run();
            assert!(
                done.code == ABORTED || done.code == 0,
                "{name}: {}",
                done.stderr
            );
        }
        job.clear_env();
        check(&job, name);
    }
}

#[test]
fn crashes_in_a_row_in_delivery() {
    for name in ["deliver", "sink.write", "sink.sync", "sink.truncate"] {
        let mut job = job();
        for at in [2, 1, 1, 3] {
            job.env("STEPS_ABORT", &format!("{name}:{at}"));
            let done = job.run();
            assert!(
                done.code == ABORTED || done.code == 0,
                "{name}: {}",
                done.stderr
            );
        }
        job.clear_env();
        check(&job, name);
    }
}
