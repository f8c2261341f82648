//! Crashes one after the other, each in the recovery from the one before.

use super::case::{FROM_FILE_TO_FILE, crash};
use crate::harness::Job;
use crate::harness::found::{Found, Phase};

#[test]
fn crashes_in_a_row_between_write_and_witness() {
    for name in ["commit.witness", "witness.write"] {
        let case = FROM_FILE_TO_FILE;
        let mut job = case.job();
        // A new directory has a witness, and so has the write that registers names.
        crash(&mut job, &format!("{name}:4"));
        let first = Found::of(&job).expect("a state directory");
        assert_ne!(first.epoch(), 0);
        // Recovery writes the witness before anything else, and is ended there again and again.
        for at in ["witness.write", "witness.write", "witness.sync"] {
            crash(&mut job, at);
            let found = Found::of(&job).expect("a state directory");
            assert_eq!(
                found.commit, first.commit,
                "{name}: no write before the witness"
            );
        }
        for step in ["commit.witness:2", "commit.witness", "commit.witness"] {
            crash(&mut job, step);
            let found = Found::of(&job).expect("a state directory");
            assert_eq!(found.phase(), Phase::BeforeWitness);
            assert_eq!(found.witness.epoch, found.epoch() - 1);
        }
        case.finish(&job, name);
    }
}

#[test]
fn crashes_in_a_row_in_delivery() {
    for (steps, phase) in [
        (
            ["deliver:2", "sink.write", "sink.write", "deliver:2"],
            Phase::InDelivery,
        ),
        (
            ["sink.write:3", "sink.write", "deliver", "sink.write:2"],
            Phase::InDelivery,
        ),
        (
            [
                "sink.sync:4",
                "sink.truncate",
                "sink.truncate",
                "sink.sync:2",
            ],
            Phase::Delivered,
        ),
        (
            ["sink.sync:4", "sink.sync", "sink.write", "sink.sync:2"],
            Phase::Delivered,
        ),
    ] {
        let case = FROM_FILE_TO_FILE;
        let mut job = case.job();
        crash(&mut job, steps[0]);
        assert_eq!(Found::of(&job).map(|found| found.phase()), Some(phase));
        for step in &steps[1..] {
            crash(&mut job, step);
        }
        case.finish(&job, &format!("{steps:?}"));
    }
}

#[test]
fn crashes_in_deliveries_to_many_partitions_at_once() {
    let text = "
[job]
name = \"many\"
disk-reserve = \"1MiB\"
[checkpoint]
interval = \"50ms\"
[streams.lines]
system = \"file\"
path = \"in.txt\"
[streams.out]
system = \"file\"
path = \"out\"
partitions = 100
[[stage]]
name = \"count\"
component = \"{guest:counter}\"
inputs = [\"lines\"]
outputs = [\"out\"]
[stage.stores.counts]
type = \"rocksdb\"
";
    let mut job = Job::new(text).with_steps();
    let lines: Vec<String> = (0..2000).map(|at| format!("k{at:04}")).collect();
    job.write("in.txt", (lines.join("\n") + "\n").as_bytes());
    // While they are made, while they are written to, and while they are cut back.
    for step in [
        "sink.create:50",
        "sink.sync-folder:50",
        "sink.write:50",
        "sink.truncate:20",
        "sink.sync:70",
        "sink.write:70",
    ] {
        crash(&mut job, step);
    }
    job.run().expect(0);
    let all = (0..100).map(|partition| job.text(&format!("out/out-{partition}-0")));
    let all = all.collect::<String>();
    let mut all: Vec<&str> = all.lines().collect();
    all.sort_unstable();
    let expected = lines.iter().map(|line| format!("{line} 1"));
    assert!(expected.eq(all), "a line is missing, or there twice");
}
