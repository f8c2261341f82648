//! Topics beside other streams, on several clusters, without transactions, and in swaps.

use std::collections::{BTreeMap, BTreeSet};

use super::broker::{Broker, Record};
use super::moments::{OFTEN, cluster, numbered, own, says, until_delivered, write};
use super::{Between, COUNTS, FORWARDS, fresh};
use crate::harness::{Job, KILLED, wait_until};
use crate::swaps::{Version, stage, swap};

/// Runs a job to its end, and kills it on the way when it has processed so many messages, each time anew.
fn killed_on_the_way(job: &Job, kills: &[u64]) {
    for kill in kills {
        let mut running = job.answering();
        wait_until("it is on its way", || {
            assert!(running.is_running(), "it ended: {}", running.stderr());
            job.processed() >= *kill
        });
        running.kill();
    }
    job.run().expect(0);
}

/// A job file with several clusters.
fn of_clusters(name: &str, clusters: &[(&str, &Broker)], rest: &str) -> String {
    let cluster = |(name, broker): &(&str, &Broker)| {
        format!("[clusters.{name}]\nbrokers = [{:?}]\n", broker.address())
    };
    let clusters: String = clusters.iter().map(cluster).collect();
    format!(
        "[job]\nname = {name:?}\ndisk-reserve = \"1MiB\"\n{OFTEN}\nearly = false\n{clusters}{rest}"
    )
}

/// What the guest `versions` has sent, without its version: value and count.
fn counted(lines: &[String]) -> Vec<String> {
    let counted = |line: &String| {
        let words: Vec<&str> = line.split(' ').collect();
        format!("{} {}", words[0], words[2])
    };
    let mut counted: Vec<String> = lines.iter().map(counted).collect();
    counted.sort();
    counted
}

/// Each of these, with its key for the first time.
fn once(values: &[String]) -> Vec<String> {
    values.iter().map(|value| format!("{value} 1")).collect()
}

/// A stage that sends everything to two streams.
const BOTH: &str = r#"[[stage]]
name = "work"
component = "{guest:versions}"
inputs = ["in"]
outputs = ["out", "copy"]
[stage.config]
also = "copy"
[stage.stores.counts]
type = "rocksdb"
"#;

#[test]
fn each_record_of_a_file_comes_into_a_topic_once() {
    for format in ["lines", "csv"] {
        let Some(between) = Between::new("from-file", 3) else {
            return;
        };
        let topic = format!("system = \"kafka\"\ntopic = {:?}", between.input);
        let file = format!("system = \"file\"\npath = \"in.{format}\"\nformat = {format:?}");
        let settings = format!("{OFTEN}\nearly = false");
        let text = between.text(&settings, "max-rate = \"500/s\"", FORWARDS);
        let job = Job::new(&text.replace(&topic, &file));
        let values = numbered(0, 500);
        let (head, expected) = match format {
            "csv" => {
                let row = |value| format!("{{\"word\":{value:?}}}");
                ("word\n", values.iter().map(row).collect())
            }
            _ => ("", values.clone()),
        };
        let content = head.to_owned() + &values.join("\n") + "\n";
        job.write(&format!("in.{format}"), content.as_bytes());
        killed_on_the_way(&job, &[100, 100]);
        assert_eq!(between.broker.values(&between.output), expected, "{format}");
    }
}

#[test]
fn each_message_of_a_topic_comes_into_a_file_and_a_log_once() {
    let Some(between) = Between::new("to-file", 2) else {
        return;
    };
    let rest = format!(
        "[streams.in]\nsystem = \"kafka\"\ntopic = {:?}\nuntil = \"end\"\nmax-rate = \"500/s\"\n[streams.out]\nsystem = \"file\"\npath = \"out\"\n[streams.copy]\nsystem = \"log\"\n{BOTH}",
        between.input
    );
    let job = Job::new(&of_clusters(
        &between.name,
        &[("local", between.broker)],
        &rest,
    ));
    let values = numbered(0, 500);
    write(between.broker, &between.input, 0, &values[..250]);
    write(between.broker, &between.input, 1, &values[250..]);
    killed_on_the_way(&job, &[100, 100]);
    assert_eq!(counted(&job.lines("out/out-0-0")), once(&values));
    assert_eq!(counted(&job.values("copy")), once(&values));
    assert!(!between.broker.has(&format!("{}.delivered", between.name)));
}

#[test]
fn messages_of_two_clusters_are_counted_together_once() {
    const KEYS: usize = 6;
    const EACH: usize = 50;
    let (Some(between), Some((other, _turn))) = (Between::new("two-in", 2), own()) else {
        return;
    };
    let more = fresh("two-in.more");
    other.create(&more, 2, &[]);
    let keys = [(); KEYS].map(|()| fresh("key"));
    for (broker, topic) in [(between.broker, &between.input), (other, &more)] {
        let records = (0..KEYS * EACH).map(|at| Record {
            partition: i32::from(at % KEYS > 2),
            value: Some(keys[at % KEYS].as_bytes()),
            ..Record::default()
        });
        broker.write(topic, records);
    }
    let stream = |name: &str, cluster: &str, topic: &str| {
        format!(
            "[streams.{name}]\nsystem = \"kafka\"\ncluster = {cluster:?}\ntopic = {topic:?}\nmax-rate = \"300/s\"\nuntil = \"end\"\n"
        )
    };
    let rest = format!(
        "{}{}[streams.out]\nsystem = \"kafka\"\ncluster = \"local\"\ntopic = {:?}\n[[stage]]\nname = \"work\"\ninputs = [\"in\", \"more\"]\noutputs = [\"out\"]\n{COUNTS}",
        stream("in", "local", &between.input),
        stream("more", "other", &more),
        between.output
    );
    let clusters = [("local", between.broker), ("other", other)];
    let job = Job::new(&of_clusters(&between.name, &clusters, &rest));
    killed_on_the_way(&job, &[100, 150]);
    let mut counts: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for line in between.broker.committed(&between.output, &[]) {
        let value = line.rsplit('\t').next().unwrap_or_default();
        let (key, count) = value.split_once(' ').expect("a key and a count");
        let counts = counts.entry(key.to_owned()).or_default();
        counts.push(count.parse().expect("a count"));
    }
    assert_eq!(counts.len(), KEYS);
    for (key, counts) in counts {
        assert_eq!(counts, (1..=2 * EACH).collect::<Vec<_>>(), "{key}");
    }
}

#[test]
fn each_message_comes_into_topics_of_two_clusters_once() {
    let (Some(between), Some((other, _turn))) = (Between::new("two-out", 2), own()) else {
        return;
    };
    let copy = fresh("two-out.copy");
    other.create(&copy, 1, &[]);
    let stream = |name: &str, cluster: &str, topic: &str| {
        format!("[streams.{name}]\nsystem = \"kafka\"\ncluster = {cluster:?}\ntopic = {topic:?}\n")
    };
    let rest = format!(
        "{}max-rate = \"500/s\"\nuntil = \"end\"\n{}{}{BOTH}",
        stream("in", "local", &between.input),
        stream("out", "local", &between.output),
        stream("copy", "other", &copy)
    );
    let clusters = [("local", between.broker), ("other", other)];
    let job = Job::new(&of_clusters(&between.name, &clusters, &rest));
    let values = numbered(0, 500);
    write(between.broker, &between.input, 0, &values[..250]);
    write(between.broker, &between.input, 1, &values[250..]);
    killed_on_the_way(&job, &[100, 100]);
    let out = between.broker.values(&between.output);
    assert_eq!(counted(&out), once(&values));
    assert_eq!(counted(&other.values(&copy)), once(&values));
    for broker in [between.broker, other] {
        assert!(broker.has(&format!("{}.delivered", between.name)));
    }
}

/// A job that writes at least once.
fn at_least_once(between: &Between) -> Job {
    let settings = "[checkpoint]\ninterval = \"30ms\"\nearly = false";
    let input = "until = \"end\"\nmax-rate = \"600/s\"";
    let text = between.text(settings, input, FORWARDS);
    let plainly = "delivery = \"at-least-once\"\n[[stage]]";
    Job::new(&text.replace("[[stage]]", plainly)).with_steps()
}

#[test]
fn a_crash_loses_nothing_of_what_is_written_at_least_once() {
    let mut repeated = 0;
    // The last one would record that something was delivered.
    for step in ["kafka.send:2", "kafka.drain:2", "commit.write:3"] {
        let Some(between) = Between::new("at-least", 1) else {
            return;
        };
        let values = numbered(0, 240);
        write(between.broker, &between.input, 0, &values);
        let mut job = at_least_once(&between);
        job.env("STEPS_ABORT", step);
        let crashed = job.run();
        assert_eq!(crashed.code, KILLED, "{step}: {}", crashed.stderr);
        job.clear_env();
        job.run().expect(0);
        let lines = between.broker.values(&between.output);
        repeated = lines.len() - values.len();
        let found: BTreeSet<String> = lines.into_iter().collect();
        assert!(found.iter().eq(&values), "{step}: {found:?}");
    }
    // Else the step was another one.
    assert!(repeated > 0);
}

#[test]
fn what_is_written_at_least_once_is_not_repeated_without_a_crash_and_needs_no_mark() {
    let Some(between) = Between::new("plainly", 1) else {
        return;
    };
    let values = numbered(0, 120);
    write(between.broker, &between.input, 0, &values);
    let job = at_least_once(&between);
    job.run().expect(0);
    job.run().expect(0);
    assert_eq!(between.broker.values(&between.output), values);
    assert!(!between.broker.has(&format!("{}.delivered", between.name)));
}

/// A job between topics whose component is `task.wasm`, and which has sent a first message.
fn begun(between: &Between, version: &Version) -> (Job, crate::harness::Running) {
    let component = "component = \"task.wasm\"\n[stage.stores.counts]\ntype = \"rocksdb\"";
    let text = between.text(OFTEN, "", component);
    let job = Job::new(&text.replace("name = \"work\"", "name = \"count\""));
    version.put(&job, "task.wasm");
    let running = job.answering();
    feed(between, "a");
    until_delivered(between.broker, &between.output, 1);
    (job, running)
}

fn feed(between: &Between, value: &str) {
    write(between.broker, &between.input, 0, &[value.to_owned()]);
}

#[test]
fn held_output_is_not_seen_in_a_topic_before_it_is_released_and_never_if_it_is_taken_back() {
    for command in ["--promote", "--rollback"] {
        let [first, second] = [120, 121].map(|number| Version::of("versions", number));
        let Some(between) = Between::new("held", 1) else {
            return;
        };
        let (job, mut running) = begun(&between, &first);
        swap(&job, &second, &["--hold-output"]).expect(0);
        let seen = || between.broker.count_all_committed(&between.output);
        for (value, processed) in [("b", 2), ("c", 1)] {
            feed(&between, value);
            wait_until("it is processed", || job.processed() >= processed);
            job.call(&["checkpoint", "trigger"]).expect(0);
            assert_eq!(seen(), 1);
            if value == "b" {
                running.kill();
                running = job.answering();
            }
        }
        job.call(&["swap", "count", command]).expect(0);
        until_delivered(between.broker, &between.output, 3);
        feed(&between, "d");
        until_delivered(between.broker, &between.output, 4);
        running.terminate().expect(0);
        let then = match command {
            "--promote" => second.short(),
            _ => first.short(),
        };
        let expected = [
            format!("a {} 1", first.short()),
            format!("b {then} 1"),
            format!("c {then} 1"),
            format!("d {then} 1"),
        ];
        assert_eq!(
            between.broker.values(&between.output),
            expected,
            "{command}"
        );
    }
}

/// The job file, whose port `out` is bound to a stream that is a topic.
fn bring(job: &Job, topic: &str) {
    let text = job.text("job.toml");
    let outputs = "outputs = { out = \"new\" }";
    let stream = format!("[streams.new]\nsystem = \"kafka\"\ntopic = {topic:?}\n[[stage]]");
    job.write_job(
        &text
            .replace("outputs = [\"out\"]", outputs)
            .replace("[[stage]]", &stream),
    );
}

#[test]
fn a_topic_that_comes_with_new_code_is_written_from_then_on() {
    let [first, second] = [122, 123].map(|number| Version::of("versions", number));
    let Some(between) = Between::new("brought", 1) else {
        return;
    };
    let broker = between.broker;
    let (job, running) = begun(&between, &first);
    let new = fresh("brought.new");
    bring(&job, &new);
    says(&swap(&job, &second, &[]), 2, &["has no topic", &new]);
    assert_eq!(stage(&job)["component"], first.sha256);
    // The job goes on.
    feed(&between, "b");
    until_delivered(broker, &between.output, 2);
    broker.create(&new, 2, &[]);
    swap(&job, &second, &["--dry-run"]).expect(0);
    swap(&job, &second, &[]).expect(0);
    feed(&between, "c");
    until_delivered(broker, &new, 1);
    running.kill();
    let running = job.answering();
    feed(&between, "d");
    until_delivered(broker, &new, 2);
    running.terminate().expect(0);
    let said = |value: &str, version: &Version| format!("{value} {} 1", version.short());
    let [old, new] = [&between.output, &new].map(|topic| broker.values(topic));
    assert_eq!(old, [said("a", &first), said("b", &first)]);
    assert_eq!(new, [said("c", &second), said("d", &second)]);
}

#[test]
fn a_stop_while_brokers_are_away_ends_in_time_and_the_next_start_delivers() {
    let Some((broker, _turn)) = own() else { return };
    let between = Between::on(broker, "stopped", 1);
    let topic = format!("system = \"kafka\"\ntopic = {:?}", between.input);
    let file = "system = \"file\"\npath = \"in.txt\"\nformat = \"lines\"\nfollow = true";
    let settings = format!("drain-timeout = \"2s\"\n{OFTEN}");
    let text = between.text(&settings, "", FORWARDS);
    let text = text.replace(&topic, file).replace("\"10s\"", "\"2s\"");
    let job = Job::new(&text);
    job.write("in.txt", b"a\n");
    let mut running = job.answering();
    until_delivered(broker, &between.output, 1);
    broker.stop();
    job.append("in.txt", b"b\nc\n");
    running.until_says("output waits");
    assert!(cluster(&job)["undelivered-since"].is_i64());
    let words = [
        "drain-timeout has passed",
        "deliver to stream \"out\"",
        "refused",
    ];
    says(&running.terminate(), 1, &words);
    broker.restart();
    job.append("in.txt", b"d\n");
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(broker.values(&between.output), ["a", "b", "c", "d"]);
}
