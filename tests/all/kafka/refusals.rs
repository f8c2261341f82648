//! What does not belong together is refused before anything of it is disturbed.

use super::broker::Record;
use super::{Between, COUNTS, fresh};
use crate::harness::{Done, copy};

fn one(value: &[u8]) -> [Record<'_>; 1] {
    [Record {
        value: Some(value),
        ..Record::default()
    }]
}

#[track_caller]
fn refused(done: &Done, code: i32, words: &[&str]) {
    assert_eq!(done.code, code, "{}", done.stderr);
    for word in words {
        assert!(
            done.stderr.contains(word),
            "{word:?} is not in {}",
            done.stderr
        );
    }
}

#[test]
fn topics_that_are_not_as_the_job_says_are_refused() {
    let Some(between) = Between::new("wrong-topics", 2) else {
        return;
    };
    let job = between.job("", "topic-is = 1", COUNTS);
    refused(&job.run(), 2, &["topic-is"]);
    let job = between.job("", "partitions = 3", COUNTS);
    refused(&job.run(), 2, &["2 partitions", "the job file says 3"]);
    let missing = fresh("missing");
    let text = between
        .text("", "", COUNTS)
        .replace(&between.input, &missing);
    job.write_job(&text);
    refused(
        &job.run(),
        2,
        &["has no topic", &missing, "create = { partitions"],
    );
    refused(&job.call(&["validate"]), 2, &["has no topic", &missing]);
    // Nobody is asked.
    job.call(&["validate", "--offline"]).expect(0);
}

#[test]
fn a_topic_that_was_made_anew_is_refused() {
    let Some(between) = Between::new("remade", 1) else {
        return;
    };
    let job = between.job("", "until = \"end\"", COUNTS);
    between.broker.write(&between.input, one(b"a"));
    job.run().expect(0);
    between.broker.delete(&between.input);
    std::thread::sleep(std::time::Duration::from_secs(1));
    between.broker.create(&between.input, 1, &[]);
    refused(
        &job.run(),
        4,
        &["was deleted and made anew", "another name"],
    );
}

#[test]
fn another_state_directory_of_the_same_job_is_refused_and_disturbs_nobody() {
    let Some(between) = Between::new("second", 1) else {
        return;
    };
    let settings = "[checkpoint]\ninterval = \"50ms\"";
    let first = between.job(settings, "", COUNTS);
    let running = first.answering();
    between.broker.write(&between.input, one(b"a"));
    crate::harness::wait_until("it is processed", || first.processed() == 1);
    // Its output, and with it the mark.
    crate::harness::wait_until("it is delivered", || {
        between.broker.committed(&between.output, &[]).len() == 1
    });
    let second = between.job(settings, "", COUNTS);
    refused(
        &second.run(),
        4,
        &["another state directory", "--take-over", "group-id"],
    );
    between.broker.write(&between.input, one(b"a"));
    crate::harness::wait_until("the first goes on", || first.processed() == 2);
    running.terminate().expect(0);
    let values = between.broker.committed(&between.output, &[]);
    assert_eq!(values.len(), 2, "{values:?}");
    // The first has stopped for good.
    second
        .call(&["run", "--until-idle", "--take-over"])
        .expect(0);
    let values = between.broker.committed(&between.output, &[]);
    assert_eq!(values.len(), 4, "{values:?}");
    refused(&first.run(), 4, &["another state directory"]);
}

#[test]
fn an_older_copy_of_the_state_directory_is_refused() {
    let Some(between) = Between::new("copied", 1) else {
        return;
    };
    let job = between.job("", "until = \"end\"", COUNTS);
    between.broker.write(&between.input, one(b"a"));
    job.run().expect(0);
    let older = job.path("older");
    copy(&job.state_dir(), &older);
    between.broker.write(&between.input, one(b"a"));
    job.run().expect(0);
    let state = job.state_dir();
    std::fs::rename(&state, job.path("newest")).expect("it can be moved");
    copy(&older, &state);
    refused(
        &job.run(),
        4,
        &["a copy, or an older one", "Use the newest"],
    );
    std::fs::remove_dir_all(&state).expect("it can be removed");
    std::fs::rename(job.path("newest"), &state).expect("it can be moved");
    job.run().expect(0);
    assert_eq!(between.broker.committed(&between.output, &[]).len(), 2);
}
