//! Instances that are worn out are replaced, and nothing else changes.

use crate::admin::metrics;
use crate::harness::{Job, wait_until};
use crate::jobs::{COUNT_LINES, one_partition};

/// A job whose guest does what each message says, one message a batch.
fn obedient(limits: &str) -> Job {
    let text = one_partition("{guest:obey}");
    Job::new(&text.replace(
        "[stage.stores.counts]",
        &format!("batch-messages = 1\n[stage.limits]\n{limits}\n[stage.stores.counts]"),
    ))
}

/// `count` times the same, between words that are counted.
fn lines(what: &str, count: usize) -> String {
    (0..count).map(|_| format!("{what}\nword\n")).collect()
}

fn expected(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("word {number}")).collect()
}

#[test]
fn a_guest_that_leaks_is_replaced_before_it_fails() {
    let job = obedient("memory = \"16MiB\"");
    let input = lines("hoard 1000000", 100);
    job.feed(&["log", "produce", "in"], input.as_bytes())
        .expect(0);
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out"), expected(100));

    // Where it is replaced too late, it fails, and a new instance goes on: what others left behind is no message's fault.
    let job = obedient("memory = \"16MiB\"\nrecycle-memory = \"16MiB\"");
    job.feed(&["log", "produce", "in"], input.as_bytes())
        .expect(0);
    job.call(&["run", "--until-idle"])
        .expect(0)
        .says("memory allocation of 1000000 bytes failed");
    assert_eq!(job.values("out"), expected(100));
}

/// As long as a batch may be, it is not one call.
#[test]
fn an_instance_is_replaced_within_a_batch_of_many_calls() {
    let job = obedient("memory = \"16MiB\"");
    let text = job.text("job.toml");
    job.write_job(&text.replace("batch-messages = 1", "batch-messages = 1000"));
    job.feed(
        &["log", "produce", "in"],
        lines("hoard 1000000", 100).as_bytes(),
    )
    .expect(0);
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out"), expected(100));
}

/// Memory that grows in `open` and in `on-end`.
fn growing(limits: &str, config: &str) -> Job {
    let job = Job::new(
        &COUNT_LINES
            .replace("{guest:counter}", "{guest:grower}")
            .replace(
                "[stage.stores.counts]",
                &format!("batch-messages = 1\n[stage.limits]\n{limits}\n[stage.config]\n{config}\n[stage.stores.counts]"),
            ),
    );
    job.write("in.txt", b"a\nb\nc\n");
    job
}

#[test]
fn an_instance_is_replaced_between_two_calls_of_on_end() {
    let calls: String = (1..=20).map(|call| format!("{call}\n")).collect();
    let job = growing("memory = \"8MiB\"", "");
    job.run().expect(0);
    assert_eq!(job.text("out/out-0-0"), format!("a\nb\nc\n{calls}"));
    let job = growing("memory = \"8MiB\"\nrecycle-memory = \"8MiB\"", "");
    job.run().expect(3).says("its limit `memory` is 8388608");
}

#[test]
fn an_instance_that_grows_too_large_in_open_is_logged() {
    let job = growing("recycle-memory = \"8MiB\"", "bytes-in-open = \"10000000\"");
    job.run()
        .expect(0)
        .says("more than `recycle-memory` as soon as it is made and opened");
}

/// A limit of a task is none of an instance.
#[test]
fn a_new_instance_does_not_log_more() {
    let job = obedient("recycle-messages = 1");
    job.feed(
        &["log", "produce", "in"],
        lines("say so it is", 300).as_bytes(),
    )
    .expect(0);
    let done = job.call(&["run", "--until-idle"]).expect(0);
    let said = done.stderr.matches("so it is").count();
    let dropped = done.stderr.matches("lines were dropped").count();
    assert!(said >= 50, "{said}: {}", done.stderr);
    assert!(said < 300 && dropped > 0, "{said} {dropped}");
}

/// How many instances were made and replaced while these limits held.
fn instances(limits: &str, messages: usize) -> (f64, f64) {
    let job = obedient(limits);
    let mut running = job.answering();
    job.feed(
        &["log", "produce", "in"],
        lines("say x", messages / 2).as_bytes(),
    )
    .expect(0);
    wait_until("all is out", || {
        assert!(running.is_running(), "it ended: {}", running.stderr());
        job.values("out").len() == messages / 2
    });
    assert_eq!(job.values("out"), expected(messages / 2));
    let found = metrics(&job);
    let sum = |name: &str| {
        let of = |(series, _): &(&String, &f64)| series.starts_with(name);
        found.iter().filter(of).map(|(_, value)| value).sum::<f64>()
    };
    let counted = (
        sum("wasm_host_instances_made_total"),
        sum("wasm_host_instances_recycled_total"),
    );
    running.terminate();
    counted
}

#[test]
fn instances_are_replaced_after_messages_and_by_age() {
    assert_eq!(instances("", 40), (1.0, 0.0));
    assert_eq!(instances("recycle-messages = 10", 40), (4.0, 3.0));
    let (made, recycled) = instances("recycle-age = \"1ms\"", 4_000);
    assert!(
        recycled >= 1.0 && made == recycled + 1.0,
        "{made} {recycled}"
    );
}

#[test]
fn an_instance_that_begins_too_large_is_logged() {
    let job = obedient("recycle-memory = \"100kB\"");
    job.feed(&["log", "produce", "in"], lines("say x", 5).as_bytes())
        .expect(0);
    job.call(&["run", "--until-idle"])
        .expect(0)
        .says("more than `recycle-memory` as soon as it is made and opened");
    assert_eq!(job.values("out"), expected(5));
}
