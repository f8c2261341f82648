//! What may happen to brokers, topics and the host while a job runs, or while it is stopped.
//!
//! `KAFKA_AWAY_SECONDS` (10) says how long the brokers are away from a busy job.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use rustix::process::Signal;
use serde_json::Value;

use super::broker::{Broker, Record};
use super::{Between, FORWARDS};
use crate::harness::{Done, Job, Running, wait_until};

pub(super) const OFTEN: &str = "[checkpoint]\ninterval = \"50ms\"";

/// A broker that one test at a time has for itself. It ends soon what hosts leave open.
pub(super) fn own() -> Option<(&'static Broker, MutexGuard<'static, ()>)> {
    static SHARED: OnceLock<Option<(Broker, Mutex<()>)>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        let soon = "transaction.abort.timed.out.transaction.cleanup.interval.ms=500";
        let broker = Broker::start_with(|_| soon.to_owned(), "")?;
        Some((broker, Mutex::default()))
    });
    let (broker, turn) = shared.as_ref()?;
    let turn = turn.lock();
    broker.ensure();
    Some((broker, turn))
}

/// Values of their numbers.
pub(super) fn numbered(from: usize, until: usize) -> Vec<String> {
    (from..until).map(|at| format!("m{at:06}")).collect()
}

/// Writes values to a partition, each as its own key.
pub(super) fn write(broker: &Broker, topic: &str, partition: i32, values: &[String]) {
    let records = values.iter().map(|value| Record {
        partition,
        key: Some(value.as_bytes()),
        value: Some(value.as_bytes()),
        ..Record::default()
    });
    broker.write(topic, records);
}

/// It ended so, and says all of this.
#[track_caller]
pub(super) fn says(done: &Done, code: i32, words: &[&str]) {
    assert_eq!(done.code, code, "{}", done.stderr);
    for word in words {
        let said = done.stderr.contains(word);
        assert!(said, "{word:?} is not in {}", done.stderr);
    }
}

#[track_caller]
pub(super) fn until_delivered(broker: &Broker, topic: &str, count: usize) {
    wait_until("everything is delivered", || {
        broker.count_all_committed(topic) >= count
    });
}

/// What a job that runs says of its cluster.
pub(super) fn cluster(job: &Job) -> Value {
    job.json(&["status"])[0]["clusters"][0].clone()
}

/// Why output waits, if it does.
fn why_it_waits(job: &Job) -> Option<String> {
    let why = cluster(job)["undelivered-why"].clone();
    why.as_str().map(str::to_owned)
}

/// Where the tasks of a stopped job go on, in the order of their partitions.
fn positions(job: &Job) -> Vec<u64> {
    let status = job.json(&["status"]);
    let tasks = status[0]["tasks"].as_array().expect("tasks").iter();
    let position = |task: &Value| task["inputs"][0]["position"].as_u64().expect("a position");
    tasks.map(position).collect()
}

/// The memory of a process that is in use, bytes.
fn resident(running: &Running) -> u64 {
    let path = format!("/proc/{}/status", running.pid());
    let status = std::fs::read_to_string(path).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.map_or(0, |number| number.parse::<u64>().expect("a number") << 10)
}

#[test]
fn a_host_that_stands_still_longer_than_its_transaction_may_loses_and_repeats_nothing() {
    let Some((broker, _turn)) = own() else { return };
    std::thread::scope(|scope| {
        let started = ["kafka.drain", "kafka.commit"]
            .map(|step| scope.spawn(move || stand_still(broker, step)));
        for each in started {
            each.join().expect("it does not fail");
        }
    });
}

/// Stops the process of a host in a transaction that is held up before a step, until the broker has ended it.
fn stand_still(broker: &'static Broker, step: &str) {
    let between = Between::on(broker, "frozen", 1);
    let text = between.text(OFTEN, "", FORWARDS);
    let mut job = Job::new(&text.replace("\"10s\"", "\"4s\"")).with_steps();
    job.env("STEPS_HOLD", &format!("{step}:2000"));
    let running = job.answering();
    let values = numbered(0, 300);
    let end = || broker.end(&between.output, 0);
    write(broker, &between.input, 0, &values[..10]);
    until_delivered(broker, &between.output, 10);
    let before = end();
    write(broker, &between.input, 0, &values[10..]);
    wait_until("a transaction has begun", || end() > before);
    running.signal(Signal::STOP);
    // What is under way comes in.
    let mut stopped = before;
    wait_until("nothing comes any more", || {
        std::thread::sleep(Duration::from_millis(300));
        std::mem::replace(&mut stopped, end()) == stopped
    });
    wait_until("the broker ends the transaction", || end() > stopped);
    running.signal(Signal::CONT);
    until_delivered(broker, &between.output, values.len());
    running.terminate().expect(0);
    assert_eq!(broker.values(&between.output), values, "{step}");
}

#[test]
fn an_input_topic_that_vanishes_stops_the_task_and_loses_no_position() {
    let Some(between) = Between::new("vanishes", 2) else {
        return;
    };
    let broker = between.broker;
    let job = between.job(OFTEN, "", FORWARDS);
    let running = job.answering();
    write(broker, &between.input, 0, &numbered(0, 10));
    write(broker, &between.input, 1, &numbered(10, 15));
    until_delivered(broker, &between.output, 15);
    broker.delete(&between.input);
    let topic = format!("topic {:?}, partition ", between.input);
    says(
        &running.ends(),
        3,
        &["cluster \"local\"", &topic, "offset "],
    );
    assert_eq!(positions(&job), [10, 5]);
    says(&job.run(), 2, &["has no topic", &between.input]);
    broker.create(&between.input, 2, &[]);
    says(&job.run(), 4, &["was deleted and made anew"]);
    assert_eq!(positions(&job), [10, 5]);
    assert_eq!(broker.values(&between.output), numbered(0, 15));
}

#[test]
fn a_topic_that_grows_goes_on_with_its_partitions_and_is_refused_at_the_next_start() {
    let Some(between) = Between::new("grows", 2) else {
        return;
    };
    let broker = between.broker;
    let job = between.job(OFTEN, "", FORWARDS);
    let running = job.answering();
    write(broker, &between.input, 0, &numbered(0, 5));
    until_delivered(broker, &between.output, 5);
    broker.grow(&between.input, 3);
    write(broker, &between.input, 1, &numbered(5, 10));
    write(broker, &between.input, 2, &numbered(10, 15));
    until_delivered(broker, &between.output, 10);
    let done = running.terminate().expect(0);
    assert!(!done.stderr.contains("panic"), "{}", done.stderr);
    let refused = job.run();
    assert!([2, 4].contains(&refused.code), "{}", refused.stderr);
    let in_words = ["\"in\"", "3", "2", "another name"];
    says(&refused, refused.code, &in_words);
    assert_eq!(positions(&job), [5, 5]);
    assert_eq!(broker.values(&between.output), numbered(0, 10));
}

#[test]
fn records_that_were_deleted_beyond_the_position_stop_the_task_with_what_is_there() {
    for input in ["until = \"end\"", ""] {
        let Some(between) = Between::new("deleted", 1) else {
            return;
        };
        let broker = between.broker;
        let job = between.job("", input, FORWARDS);
        let run = || job.call(&["run", "--until-idle"]);
        write(broker, &between.input, 0, &numbered(0, 5));
        run().expect(0);
        write(broker, &between.input, 0, &numbered(5, 8));
        // What is below the position is of no interest.
        broker.delete_before(&between.input, 0, 3);
        run().expect(0);
        write(broker, &between.input, 0, &numbered(8, 15));
        broker.delete_before(&between.input, 0, 12);
        let topic = format!("topic {:?}, partition 0", between.input);
        let words = [
            "cluster \"local\"",
            &topic,
            "offset 8 does not exist",
            "holds 12 up to, not including, 15",
            "`wasm-host offsets set`",
        ];
        for _ in 0..2 {
            says(&run(), 3, &words);
            assert_eq!(positions(&job), [8]);
        }
        job.call(&["offsets", "set", "in", "oldest"]).expect(0);
        run().expect(0);
        let expected = [numbered(0, 8), numbered(12, 15)].concat();
        assert_eq!(broker.values(&between.output), expected);
    }
}

#[test]
fn a_topic_without_enough_copies_holds_output_up_until_it_has_them() {
    const MESSAGES: usize = 30_000;
    let Some(brokers) = Broker::start_three() else {
        return;
    };
    let brokers: &'static [Broker; 3] = Box::leak(Box::new(brokers));
    let broker = &brokers[0];
    let between = Between::on(broker, "copies", 1);
    let text = between.text(&format!("{OFTEN}\nbytes = \"1MiB\""), "", FORWARDS);
    let job = Job::new(&text.replace("\"10s\"", "\"2s\"\nfetch-memory = \"4MiB\""));
    let values: Vec<String> = numbered(0, MESSAGES)
        .iter()
        .map(|value| format!("{value} {}", "x".repeat(1000)))
        .collect();
    let mut running = job.answering();
    write(broker, &between.input, 0, &values[..10]);
    until_delivered(broker, &between.output, 10);
    broker.configure(&between.output, "min.insync.replicas", "3");
    brokers[2].stop();
    let before = resident(&running);
    write(broker, &between.input, 0, &values[10..]);
    running.until_says("output waits");
    let mut processed = 0;
    wait_until("the tasks wait", || {
        std::thread::sleep(Duration::from_secs(1));
        let last = std::mem::replace(&mut processed, job.processed());
        last > 10 && last == processed
    });
    assert!(processed < MESSAGES as u64, "{processed}");
    assert!(broker.count_all_committed(&between.output) < MESSAGES);
    let more = resident(&running).saturating_sub(before) >> 20;
    assert!(more < 64, "{more} MiB more");
    let why = why_it_waits(&job).expect("it waits");
    broker.configure(&between.output, "min.insync.replicas", "2");
    running.until_says("output is delivered again");
    until_delivered(broker, &between.output, MESSAGES);
    running.terminate().expect(0);
    assert!(
        broker.values(&between.output) == values,
        "the output differs"
    );
    assert!(why.to_lowercase().contains("replica"), "{why}");
}

#[test]
fn a_damaged_batch_stops_the_task_at_its_first_message() {
    let Some((broker, _turn)) = own() else { return };
    let between = Between::on(broker, "damaged", 1);
    // Three batches.
    for part in [(0, 100), (100, 200), (200, 300)] {
        write(broker, &between.input, 0, &numbered(part.0, part.1));
    }
    broker.stop();
    broker.damage(&between.input, 0);
    broker.restart();
    let job = between.job(OFTEN, "", FORWARDS);
    let topic = format!("topic {:?}, partition 0, offset 100", between.input);
    let words = ["cluster \"local\"", &topic, "CRC"];
    says(&job.start().ends(), 3, &words);
    assert_eq!(positions(&job), [100]);
    // The same again, and to the end of the topic.
    let text = between.text(OFTEN, "until = \"end\"", FORWARDS);
    job.write_job(&text);
    says(&job.run(), 3, &words);
    assert_eq!(broker.values(&between.output), numbered(0, 100));
    // Somebody gives it up.
    job.call(&["offsets", "set", "in", "200"]).expect(0);
    job.run().expect(0);
    let expected = [numbered(0, 100), numbered(200, 300)].concat();
    assert_eq!(broker.values(&between.output), expected);
}

#[test]
fn brokers_that_are_away_from_a_busy_job_cost_no_memory_and_no_message() {
    const MESSAGES: usize = 60_000;
    let Some((broker, _turn)) = own() else { return };
    let seconds = std::env::var("KAFKA_AWAY_SECONDS");
    let seconds = seconds.map_or(10, |seconds| seconds.parse().expect("a number"));
    let between = Between::on(broker, "busy", 2);
    let values = numbered(0, MESSAGES);
    for (partition, part) in (0..).zip(values.chunks(MESSAGES / 2)) {
        write(broker, &between.input, partition, part);
    }
    let job = between.job(OFTEN, "max-rate = \"10000/s\"", FORWARDS);
    let mut running = job.answering();
    wait_until("it is busy", || job.processed() > 10_000);
    let before = resident(&running);
    broker.stop();
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut most = 0;
    while Instant::now() < until {
        most = most.max(resident(&running));
        assert!(running.is_running(), "{}", running.stderr());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(cluster(&job)["away-since"].is_i64(), "{:?}", cluster(&job));
    broker.restart();
    wait_until("all of it is processed", || {
        job.processed() == MESSAGES as u64
    });
    let after = resident(&running);
    running.terminate().expect(0);
    let mib = |bytes: u64| bytes >> 20;
    let (before, most, after) = (mib(before), mib(most), mib(after));
    println!("away for {seconds} s: {before} MiB before, at most {most}, {after} after");
    assert!(most < before + 64 && after < before + 64);
    assert!(
        broker.values(&between.output) == values,
        "the output differs"
    );
}

#[test]
fn an_output_topic_that_vanishes_takes_nothing_for_delivered() {
    let Some(between) = Between::new("unwritten", 1) else {
        return;
    };
    let broker = between.broker;
    let job = between.job(&format!("drain-timeout = \"2s\"\n{OFTEN}"), "", FORWARDS);
    let running = job.answering();
    write(broker, &between.input, 0, &numbered(0, 10));
    until_delivered(broker, &between.output, 10);
    broker.delete(&between.output);
    let marks = format!("{}.delivered", between.name);
    let delivered = broker.count_all_committed(&marks);
    write(broker, &between.input, 0, &numbered(10, 20));
    let mut why = None;
    wait_until("output waits", || {
        why = why_it_waits(&job);
        why.is_some()
    });
    let words = ["drain-timeout has passed", "deliver to stream \"out\""];
    says(&running.terminate(), 1, &words);
    assert_eq!(broker.count_all_committed(&marks), delivered);
    says(&job.run(), 2, &["has no topic", &between.output]);
    broker.create(&between.output, 1, &[]);
    says(
        &job.run(),
        4,
        &["was deleted and made anew", &between.output],
    );
    assert_eq!(broker.count_all_committed(&between.output), 0);
    assert_eq!(broker.count_all_committed(&marks), delivered);
    let why = why.unwrap_or_default();
    let is_named = why.contains("nknown topic") && why.contains(&between.output);
    assert!(is_named, "{why}");
}
