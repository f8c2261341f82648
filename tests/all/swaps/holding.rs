//! New code whose output is held: released, or taken back with all that it has done.

use super::{Version, begun, feed, job_of, last, one, out, stage, stop, swap};
use crate::harness::{Job, wait_until};

fn state(job: &Job) -> String {
    last(job)["state"].as_str().expect("a state").to_owned()
}

fn is(job: &Job, expected: &str) {
    wait_until(expected, || state(job) == expected);
}

/// Whether the tasks have processed so many messages.
fn processed(job: &Job, messages: u64) {
    wait_until("they are processed", || {
        let status = job.json(&["status"]);
        let tasks = status[0]["tasks"].as_array().expect("tasks");
        let processed = tasks.iter().map(|task| task["processed"].as_u64());
        let processed: u64 = processed.map(|count| count.expect("a count")).sum();
        processed >= messages && stage(job)["hold"]["state-keys"] != 0
    });
}

#[test]
fn output_is_held_until_the_probation_is_over() {
    let (first, second) = (Version::of("versions", 60), Version::of("versions", 61));
    let (job, running) = begun(job_of(&first));
    let done = swap(&job, &second, &["--hold-output", "--probation", "4"]).expect(0);
    assert!(done.stdout.contains("holding"), "{}", done.stdout);
    assert_eq!(last(&job)["mode"], "hold-output");
    for value in ["b", "c", "d"] {
        feed(&job, one(value));
    }
    processed(&job, 4);
    assert_eq!(job.values("out").len(), 1);
    assert!(stage(&job)["hold"]["output-bytes"].as_u64() > Some(0));
    feed(&job, one("e"));
    is(&job, "done");
    let expected = [
        ("a", &first, 1),
        ("b", &second, 2),
        ("c", &second, 3),
        ("d", &second, 4),
        ("e", &second, 5),
    ];
    let expected =
        expected.map(|(value, version, count)| format!("{value} {} {count}", version.short()));
    assert_eq!(out(&job, 5), expected);
    assert!(stage(&job)["hold"].is_null());
    stop(running);
}

#[test]
fn what_was_held_is_taken_back_and_done_again_by_the_code_before() {
    for wish in ["a regression", "a person"] {
        let (first, second) = (Version::of("versions", 62), Version::of("versions", 63));
        let (job, running) = begun(job_of(&first));
        swap(&job, &second, &["--hold-output"]).expect(0);
        let poison = format!("panic {} x", second.short());
        for value in ["b", "c"] {
            feed(&job, one(value));
        }
        processed(&job, 3);
        assert_eq!(job.values("out").len(), 1);
        if wish == "a person" {
            job.call(&["swap", "count", "--rollback"]).expect(0);
        }
        feed(&job, one(&poison));
        is(&job, "rolled-back");
        feed(&job, one("d"));
        let values = ["a", "b", "c", &poison, "d"];
        let expected = values
            .iter()
            .zip(1..)
            .map(|(value, count)| format!("{value} {} {count}", first.short()));
        assert_eq!(out(&job, 5), expected.collect::<Vec<_>>(), "{wish}");
        assert!(stage(&job)["hold"].is_null());
        assert_eq!(stage(&job)["component"], first.sha256);
        stop(running);
    }
}
