//! Where reading begins and goes on, what of it Kafka's own tools show, and what is refused where it is sent.

use super::broker::Record;
use super::{Between, FORWARDS};

const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";

fn values(count: usize) -> Vec<String> {
    (0..count).map(|at| format!("m{at}")).collect()
}

fn records(values: &[String]) -> impl Iterator<Item = Record<'_>> {
    values.iter().map(|value| Record {
        key: Some(value.as_bytes()),
        value: Some(value.as_bytes()),
        ..Record::default()
    })
}

#[test]
fn kafkas_own_tools_show_positions_and_may_not_move_them() {
    let Some(between) = Between::new("shown", 1) else {
        return;
    };
    let (broker, group) = (between.broker, &between.name);
    broker.write(&between.input, records(&values(7)));
    let job = between.job("", "until = \"end\"", FORWARDS);
    job.run().expect(0);
    broker.write(&between.input, records(&values(2)));
    let described = broker
        .tool(GROUPS, &["--describe", "--group", group])
        .stdout;
    let words = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let line = described
        .lines()
        .map(words)
        .find(|words| words.get(1) == Some(&between.input));
    let line = line.unwrap_or_else(|| panic!("{described}"));
    // Topic, partition, current offset, end, lag.
    assert_eq!(
        line[1..6],
        [&between.input, "0", "7", "9", "2"].map(str::to_owned)
    );
    let offsets = job.json(&["offsets", "show"]);
    for (name, number) in [("position", 7), ("end", 9), ("lag", 2), ("committed", 7)] {
        assert_eq!(offsets[0][name], number, "{offsets:?}");
    }
    // Somebody moves them with Kafka's tools.
    let to = ["--reset-offsets", "--to-earliest", "--execute"];
    let topic = ["--topic", &between.input, "--group", group];
    broker
        .tool(GROUPS, &[&to[..], &topic[..]].concat())
        .expect(0);
    let refused = job.run().expect(4);
    let said = &refused.stderr;
    assert!(said.contains("something else has committed"), "{said}");
    assert!(said.contains("`wasm-host offsets set`"), "{said}");
    job.call(&["offsets", "set", "in", "5"]).expect(0);
    assert_eq!(job.json(&["offsets", "show"])[0]["position"], 5);
    job.run().expect(0);
    assert_eq!(broker.committed(&between.output, &[]).len(), 7 + 4);
    job.call(&["offsets", "set", "in", "oldest", "--partition", "0"])
        .expect(0);
    assert_eq!(job.json(&["offsets", "show"])[0]["position"], 0);
    for wrong in [
        &["in", "soon"][..],
        &["out", "5"],
        &["in", "5", "--partition", "7"],
    ] {
        job.call(&[&["offsets", "set"], wrong].concat()).expect(2);
    }
}

#[test]
fn reading_begins_at_a_time_an_offset_or_where_another_group_stands() {
    let Some(between) = Between::new("begins", 1) else {
        return;
    };
    let broker = between.broker;
    let values = values(6);
    let timed = records(&values).enumerate().map(|(at, record)| Record {
        timestamp: Some(1_700_000_000_000 + 1000 * i64::try_from(at).expect("few")),
        ..record
    });
    broker.write(&between.input, timed);
    let starts = [
        ("\"oldest\"", 6),
        ("\"latest\"", 0),
        ("{ offset = 4 }", 2),
        ("{ time = \"2023-11-14T22:13:23Z\" }", 3),
        ("{ group = \"another\" }", 5),
    ];
    let group = super::fresh("another");
    broker.commit(&group, &between.input, 1);
    let mut seen = 0;
    for (at, (start, expected)) in starts.into_iter().enumerate() {
        let start = start.replace("another", &group);
        let inputs = format!("inputs = {{ in = {{ stream = \"in\", start = {start} }} }}");
        let outputs = "outputs = { out = \"out\" }";
        let text = between.text("", "", FORWARDS);
        let text = text
            .replace("inputs = [\"in\"]", &inputs)
            .replace("outputs = [\"out\"]", outputs);
        let own = format!("group-id = \"{}-{at}\"\ntransaction-timeout", between.name);
        let job = crate::harness::Job::new(&text.replace("transaction-timeout", &own));
        job.call(&["run", "--until-idle"]).expect(0);
        let now = broker.count_committed(&between.output, 0);
        assert_eq!(now - seen, expected, "{start}");
        seen = now;
    }
}

#[test]
fn what_a_topic_would_refuse_is_refused_where_it_is_sent() {
    let Some(between) = Between::new("bounds", 1) else {
        return;
    };
    let broker = between.broker;
    let (small, letters) = (
        format!("{}.small", between.name),
        format!("{}.letters", between.name),
    );
    let compact = ("cleanup.policy", "compact");
    broker.create(&small, 1, &[("max.message.bytes", "2000"), compact]);
    broker.create(&letters, 1, &[("max.message.bytes", "3000")]);
    let long = vec![b'x'; 5000];
    let fits = vec![b'y'; 1500];
    let record = |key, value| Record {
        key,
        value: Some(value),
        ..Record::default()
    };
    broker.write(
        &between.input,
        [
            record(Some(b"a"), &fits),
            record(Some(b"b"), &long),
            record(None, b"without a key"),
            record(Some(b"c"), b"what follows"),
        ],
    );
    let text = between
        .text("", "until = \"end\"", FORWARDS)
        .replace(&between.output, &small);
    let dead = "on-fault = \"dead-letter\"\ndead-letters = \"dead\"\noutputs = [\"out\"]";
    let stream = format!("[streams.dead]\nsystem = \"kafka\"\ntopic = \"{letters}\"\n[[stage]]");
    let text = text
        .replace("outputs = [\"out\"]", dead)
        .replace("[[stage]]", &stream);
    let job = crate::harness::Job::new(&text);
    job.run().expect(0);
    assert_eq!(broker.count_committed(&small, 0), 2);
    let shown = ["print.key=true", "print.headers=true", "null.literal=NULL"];
    // A backtrace has lines of its own.
    let dead = broker.committed(&letters, &shown).join(" ");
    let dead: Vec<&str> = dead.split("Partition:0\t").skip(1).collect();
    let [first, second] = dead[..] else {
        panic!("{dead:?}");
    };
    assert!(first.contains("max.message.bytes"), "{first}");
    // Its value is cut to what the topic of the letters takes, and the letter says so.
    assert!(first.contains("wasm-host.cut:5000;"), "{first}");
    assert!(
        second.contains("takes no message without a key"),
        "{second}"
    );
}
