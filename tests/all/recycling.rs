//! Instances that are worn out are replaced, and nothing else changes.

use crate::admin::metrics;
use crate::harness::{Job, wait_until};
use crate::jobs::COUNT_LOG;

/// A job whose guest does what each message says, one message a batch.
fn obedient(limits: &str) -> Job {
    let text = COUNT_LOG
        .replace("{guest:counter}", "{guest:obey}")
        .replace("partitions = 2", "partitions = 1");
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

    // Where it is replaced too late, it fails: the guest does leak.
    let job = obedient("memory = \"16MiB\"\nrecycle-memory = \"16MiB\"");
    job.feed(&["log", "produce", "in"], input.as_bytes())
        .expect(0);
    job.call(&["run", "--until-idle"])
        .expect(3)
        .says("its limit `memory` is 16777216");
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
    let (made, recycled) = instances("recycle-age = \"1ms\"", 40);
    assert!(
        recycled >= 1.0 && made == recycled + 1.0,
        "{made} {recycled}"
    );
}

#[test]
fn an_instance_that_begins_too_large_is_said() {
    let job = obedient("recycle-memory = \"100kB\"");
    job.feed(&["log", "produce", "in"], lines("say x", 5).as_bytes())
        .expect(0);
    job.call(&["run", "--until-idle"])
        .expect(0)
        .says("more than `recycle-memory` as soon as it is made");
    assert_eq!(job.values("out"), expected(5));
}
