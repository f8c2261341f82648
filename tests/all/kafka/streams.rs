//! What comes through, and how reading and writing begin and end.

use super::broker::Record;
use super::{Between, COUNTS, FORWARDS};
use crate::harness::wait_until;

const UNTIL_END: &str = "until = \"end\"";

/// A record of a number, by a key of its own.
fn numbered(partition: i32, value: &[u8]) -> Record<'_> {
    Record {
        partition,
        value: Some(value),
        ..Record::default()
    }
}

#[test]
fn messages_come_through_unchanged() {
    let Some(between) = Between::new("unchanged", 3) else {
        return;
    };
    let long = vec![b'x'; 70_000];
    let keep = ("keep-partition", Some(&b"1"[..]));
    let with = |headers: &[(&'static str, Option<&'static [u8]>)]| {
        headers.iter().copied().chain([keep]).collect()
    };
    let records = [
        Record {
            key: Some(b"k"),
            value: Some(b"v"),
            timestamp: Some(1_700_000_000_000),
            headers: with(&[("a", Some(b"1")), ("a", None), ("b", Some(b""))]),
            partition: 0,
        },
        Record {
            timestamp: Some(1),
            headers: with(&[]),
            partition: 1,
            ..Record::default()
        },
        Record {
            key: Some(b""),
            value: Some(b""),
            timestamp: Some(2),
            headers: with(&[]),
            partition: 2,
        },
        Record {
            key: Some(b"gone"),
            timestamp: Some(3),
            headers: with(&[]),
            partition: 2,
            ..Record::default()
        },
        Record {
            value: Some(&long),
            timestamp: Some(4),
            headers: with(&[]),
            partition: 1,
            ..Record::default()
        },
    ];
    between.broker.write(&between.input, records);
    between.job("", UNTIL_END, FORWARDS).run().expect(0);
    let shown = [
        "print.timestamp=true",
        "print.key=true",
        "print.headers=true",
        "null.literal=NULL",
        "headers.separator=;",
    ];
    let mut before = between.broker.committed(&between.input, &shown);
    let mut after = between.broker.committed(&between.output, &shown);
    before.sort();
    after.sort();
    assert_eq!(before.len(), 5);
    assert!(
        before.iter().any(|line| line.contains("NULL")),
        "{before:?}"
    );
    assert_eq!(before, after);
}

#[test]
fn keys_are_routed_as_javas_producer_does() {
    let Some(between) = Between::new("routed", 7) else {
        return;
    };
    let keys: Vec<String> = (0..200)
        .map(|at| format!("key {at}{}", "é".repeat(at % 9)))
        .collect();
    // Java's own producer writes to one topic, and ours to the other.
    let lines: String = keys.iter().map(|key| format!("{key}\tv\n")).collect();
    between.broker.produce(&between.input, &lines);
    between.job("", UNTIL_END, FORWARDS).run().expect(0);
    let shown = ["print.key=true"];
    let mut java = between.broker.committed(&between.input, &shown);
    let mut ours = between.broker.committed(&between.output, &shown);
    java.sort();
    ours.sort();
    assert_eq!(java.len(), 200);
    assert_eq!(java, ours);
}

#[test]
fn reading_ends_behind_control_records_and_aborted_messages() {
    let Some(between) = Between::new("ends", 2) else {
        return;
    };
    let broker = between.broker;
    broker.write_together(&between.input, true, [numbered(0, b"a"), numbered(1, b"b")]);
    broker.write_together(
        &between.input,
        false,
        [numbered(0, b"never"), numbered(1, b"never")],
    );
    let job = between.job("", UNTIL_END, FORWARDS);
    job.run().expect(0);
    let mut out = broker.committed(&between.output, &[]);
    out.sort();
    let value = |line: &String| line.rsplit('\t').next().map(str::to_owned);
    let mut values: Vec<_> = out.iter().filter_map(value).collect();
    values.sort();
    assert_eq!(values, ["a", "b"]);
    // A message, the mark of its transaction, another, and its mark.
    let positions: Vec<_> = job.json(&["offsets", "show"]);
    for position in &positions {
        assert_eq!(position["position"], 4, "{positions:?}");
    }
    // Nothing more is there, and a second start sees so at once.
    job.run().expect(0);
}

#[test]
fn a_job_goes_on_with_what_comes_and_ends_when_it_is_idle() {
    let Some(between) = Between::new("goes-on", 2) else {
        return;
    };
    let job = between.job("[checkpoint]\ninterval = \"50ms\"", "", COUNTS);
    let running = job.answering();
    for round in 0..3u64 {
        let values: Vec<String> = (0..10).map(|at| format!("k{at}")).collect();
        let records = values
            .iter()
            .map(|value| numbered(i32::from(round == 1), value.as_bytes()));
        between.broker.write(&between.input, records);
        wait_until("they are processed", || job.processed() == (round + 1) * 10);
    }
    running.terminate().expect(0);
    let values = ["k0"].into_iter();
    between.broker.write(
        &between.input,
        values.map(|value| numbered(0, value.as_bytes())),
    );
    job.call(&["run", "--until-idle"]).expect(0);
    let out = between.broker.committed(&between.output, &[]);
    assert_eq!(out.len(), 31, "{out:?}");
    assert_eq!(
        out.iter().filter(|line| line.ends_with("k0 3")).count(),
        1,
        "{out:?}"
    );
}
