//! Marks of deliveries that are lost, and transactions of others that do not end.

use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::broker::Record;
use super::{Between, FORWARDS};
use crate::harness::{Job, KILLED};

const UNTIL_END: &str = "until = \"end\"";

fn one(value: &[u8]) -> [Record<'_>; 1] {
    [Record {
        value: Some(value),
        ..Record::default()
    }]
}

/// A job with output that waits for delivery, and a topic of marks that is gone.
fn without_marks() -> Option<(Between, Job)> {
    let between = Between::new("marks", 1)?;
    let mut job = between.job("", UNTIL_END, FORWARDS).with_steps();
    between.broker.write(&between.input, one(b"a"));
    job.run().expect(0);
    between.broker.write(&between.input, one(b"b"));
    // It takes the id when it starts, and delivers later.
    job.env("STEPS_ABORT", "kafka.send:1");
    job.run().expect(KILLED);
    job.clear_env();
    between
        .broker
        .delete(&format!("{}.delivered", between.name));
    let refused = job.run().expect(4);
    assert!(
        refused.stderr.contains("--undelivered"),
        "{}",
        refused.stderr
    );
    Some((between, job))
}

#[test]
fn output_whose_mark_is_lost_is_delivered_or_not_as_the_operator_says() {
    for (word, expected) in [("deliver", 2), ("skip", 1)] {
        let Some((between, job)) = without_marks() else {
            return;
        };
        job.call(&["run", "--undelivered", word]).expect(0);
        let count = || between.broker.count_committed(&between.output, 0);
        assert_eq!(count(), expected, "{word}");
        // It was said once, and goes on as ever.
        between.broker.write(&between.input, one(b"c"));
        job.run().expect(0);
        assert_eq!(count(), expected + 1, "{word}");
    }
}

/// A transaction that somebody else has left open on a topic.
fn left_open(between: &Between, topic: &str) -> BaseProducer {
    let seconds = Duration::from_secs(20);
    let mut config = between.broker.client();
    config.set("transactional.id", format!("{}-other", between.name));
    let producer: BaseProducer = config.create().expect("a producer");
    producer.init_transactions(seconds).expect("an id");
    producer.begin_transaction().expect("it begins");
    let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic)
        .partition(0)
        .key(&b"other"[..])
        .payload(&b"open"[..]);
    producer
        .send(record)
        .map_err(|(error, _)| error)
        .expect("it is queued");
    producer.flush(seconds).expect("it is written");
    producer
}

#[test]
fn a_transaction_that_others_leave_open_on_the_input_does_not_keep_a_job_from_its_end() {
    let Some(between) = Between::new("left-open", 1) else {
        return;
    };
    between.broker.write(&between.input, one(b"a"));
    let open = left_open(&between, &between.input);
    between.broker.write(&between.input, one(b"behind it"));
    let job = between.job("", UNTIL_END, FORWARDS);
    job.run().expect(0);
    assert_eq!(between.broker.count_committed(&between.output, 0), 1);
    open.abort_transaction(Duration::from_secs(20))
        .expect("it ends");
    job.run().expect(0);
    assert_eq!(
        between.broker.committed(&between.output, &[]),
        ["Partition:0\ta", "Partition:0\tbehind it"]
    );
}

#[test]
fn a_transaction_that_never_ends_on_the_marks_is_named_with_what_helps() {
    let Some(between) = Between::new("hanging", 1) else {
        return;
    };
    let job = between.job("", UNTIL_END, FORWARDS);
    between.broker.write(&between.input, one(b"a"));
    job.run().expect(0);
    let marks = format!("{}.delivered", between.name);
    let open = left_open(&between, &marks);
    between.broker.write(&between.input, one(b"b"));
    let refused = job.run().expect(1).stderr;
    assert!(refused.contains("find-hanging"), "{refused}");
    assert!(refused.contains(&marks), "{refused}");
    open.abort_transaction(Duration::from_secs(20))
        .expect("it ends");
    job.run().expect(0);
    assert_eq!(between.broker.count_committed(&between.output, 0), 2);
}
