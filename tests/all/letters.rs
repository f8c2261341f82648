//! Dead letters: listed, shown, processed again and given up, of a running job and of a stopped one.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;

use crate::admin::{metrics, of_task};
use crate::harness::{Job, wait_until};
use crate::jobs::{COUNT_LOG, one_partition, with_dead};

/// A job whose guest fails at messages that say `panic-without`, as long as a file is not there.
fn mendable(text: &str, more: &str) -> Job {
    let with = format!(
        "dead-letters = \"dead\"\nbreaker = {{ share = \"100%\" }}\n{more}\n[stage.capabilities]\n\
         directories = [{{ host = \"here\", guest = \"/here\" }}]\n[stage.stores.counts]"
    );
    let text = text.replace("{guest:counter}", "{guest:obey}");
    let job = Job::new(&with_dead(&text.replace("[stage.stores.counts]", &with)));
    std::fs::create_dir(job.path("here")).expect("a folder");
    job
}

fn fed(job: &Job, lines: &[&str]) {
    let text = lines.join("\n") + "\n";
    job.feed(&["log", "produce", "in"], text.as_bytes())
        .expect(0);
}

fn groups(job: &Job) -> Vec<Value> {
    job.json(&["dlq", "list"])
}

fn letters(job: &Job) -> Vec<Value> {
    job.json(&["dlq", "list", "--letters"])
}

fn states(job: &Job) -> Vec<String> {
    let state = |letter: &Value| letter["state"].as_str().expect("a word").to_owned();
    letters(job).iter().map(state).collect()
}

#[test]
fn letters_are_grouped_shown_and_processed_again_once_the_guest_is_mended() {
    let job = mendable(&one_partition("{guest:obey}"), "");
    let bad = "panic-without /here/there";
    fed(
        &job,
        &[
            "a",
            bad,
            "b",
            bad,
            "reject 17 of them",
            "reject 4 of them",
            bad,
        ],
    );
    job.call(&["run", "--until-idle"]).expect(0);
    let check = |job: &Job| {
        let groups = groups(job);
        assert_eq!(groups.len(), 2, "{groups:?}");
        let (trap, rejected) = (&groups[0], &groups[1]);
        assert_eq!((&trap["kind"], &trap["count"]), (&"trap".into(), &3.into()));
        assert_eq!(
            (&rejected["kind"], &rejected["count"]),
            (&"rejected".into(), &2.into())
        );
        let reason = trap["reason"].as_str().expect("a reason");
        assert!(reason.contains("a file is not there (at "), "{reason}");
        assert_eq!(trap["group"].as_str().map(str::len), Some(8));
        let example = trap["example"].as_str().expect("a letter");
        let shown = &job.json(&["dlq", "show", example])[0];
        assert_eq!(shown["value"], bad);
        assert_eq!(
            (&shown["stream"], &shown["partition"]),
            (&"in".into(), &0.into())
        );
        assert!(
            shown["backtrace"]
                .as_str()
                .is_some_and(|text| text.contains("obey.rs"))
        );
        assert!(
            shown["stderr"]
                .as_str()
                .is_some_and(|text| text.contains("panicked at"))
        );
        assert_eq!(states(job), ["open"; 5]);
        let one = &letters(job)[0];
        assert_eq!(
            (&one["id"], &one["offset"]),
            (&"dead/0/0".into(), &1.into())
        );
        assert_eq!((&one["attempts"], &one["replays"]), (&2.into(), &0.into()));
        let kinds = ["list", "--letters", "--kind", "rejected", "--limit", "1"];
        let command: Vec<&str> = ["dlq"].into_iter().chain(kinds).collect();
        assert_eq!(job.json(&command).len(), 1);
        trap["group"].as_str().expect("a group").to_owned()
    };
    let group = check(&job);
    let running = job.answering();
    assert_eq!(check(&job), group);
    let would = &job.json(&["dlq", "replay", "--group", &group, "--dry-run"])[0];
    assert_eq!(would["queued"], 3);
    assert_eq!(states(&job), ["open"; 5]);
    // It still fails: each is a letter again.
    assert_eq!(
        job.json(&["dlq", "replay", "--group", &group])[0]["queued"],
        3
    );
    wait_until("they are letters again", || letters(&job).len() == 8);
    let again = &letters(&job)[5];
    assert_eq!(
        (&again["offset"], &again["replays"]),
        (&1.into(), &1.into())
    );
    assert_eq!(
        (&again["stream"], &again["group"]),
        (&"in".into(), &group.clone().into())
    );
    assert_eq!(states(&job)[..5], ["done", "done", "open", "open", "done"]);
    // Mended.
    job.write("here/there", b"");
    assert_eq!(
        job.json(&["dlq", "replay", "--group", &group])[0]["queued"],
        3
    );
    wait_until("they are processed", || job.values("out").len() == 5);
    let asked = &job.json(&["dlq", "replay", "--group", &group])[0];
    assert_eq!(
        (&asked["queued"], &asked["already"]),
        (&0.into(), &6.into())
    );
    running.terminate().expect(0);
    assert_eq!(groups(&job).len(), 1);
    job.call(&["dlq", "drop"]).expect(2).says("--all");
    assert_eq!(job.json(&["dlq", "drop", "dead/0/2"])[0]["dropped"], 1);
    assert_eq!(job.json(&["dlq", "drop", "--all"])[0]["dropped"], 1);
    assert!(groups(&job).is_empty());
    // What is given up or done is not processed again.
    assert_eq!(job.json(&["dlq", "replay"])[0]["queued"], 0);
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out").len(), 5);
    let text = job.call(&["dlq", "list", "--letters"]).expect(0).stdout;
    assert!(text.contains("dropped"), "{text}");
}

#[test]
fn a_bounded_job_that_is_over_processes_what_is_replayed_at_its_next_start() {
    let text = one_partition("{guest:obey}").replace(
        "[streams.in]\nsystem = \"log\"\npartitions = 1",
        "[streams.in]\nsystem = \"file\"\npath = \"in.txt\"\nformat = \"lines\"",
    );
    let job = mendable(&text, "");
    job.write("in.txt", b"a\npanic-without /here/there\nb\n");
    job.run().expect(0);
    job.write("here/there", b"");
    // A stopped job takes them as well.
    assert_eq!(job.json(&["dlq", "replay"])[0]["queued"], 1);
    assert_eq!(job.json(&["dlq", "replay"])[0]["already"], 1);
    assert_eq!(states(&job), ["queued"]);
    job.run().expect(0);
    assert_eq!(states(&job), ["done"]);
    assert_eq!(job.values("out").len(), 3);
    job.run().expect(0).says("nothing new to process");
    assert!(!job.call(&["log", "list"]).stdout.contains("replay"));
    assert!(!job.call(&["offsets", "show"]).stdout.contains("replay"));
}

#[test]
fn a_limit_is_about_letters_that_are_open_and_records_that_are_no_messages_are_not_replayed() {
    let text = one_partition("{guest:obey}").replace(
        "[streams.in]\nsystem = \"log\"\npartitions = 1",
        "[streams.in]\nsystem = \"file\"\npath = \"in.txt\"\nformat = \"lines\"\nrecord-bytes = \"40B\"",
    );
    let job = mendable(&text, "on-fault = \"fail\"\non-rejected = \"dead-letter\"");
    let (reject, long) = ("reject-without /here/there\n", "x".repeat(50));
    job.write(
        "in.txt",
        format!("{reject}{reject}{reject}{long}\n{reject}").as_bytes(),
    );
    job.run().expect(3).says("(undecodable)");
    job.call(&["task", "skip", "count/0"]).expect(0);
    job.run().expect(0);
    assert_eq!(letters(&job).len(), 5);
    job.write("here/there", b"");
    for _ in 0..2 {
        assert_eq!(
            job.json(&["dlq", "replay", "--kind", "rejected", "--limit", "2"])[0]["queued"],
            2
        );
    }
    job.run().expect(0);
    assert_eq!(job.values("out").len(), 4);
    assert_eq!(groups(&job)[0]["kind"], "undecodable");
    job.call(&["dlq", "replay"]).expect(2).says("dead/0/3: it");
    assert_eq!(
        job.json(&["dlq", "drop", "--limit", "9", "--kind", "undecodable"])[0]["dropped"],
        1
    );
}

#[test]
fn edited_letters_are_processed_and_wrong_ones_refused_by_name() {
    let job = mendable(&one_partition("{guest:obey}"), "");
    fed(&job, &["a", "panic-without /here/there"]);
    job.call(&["run", "--until-idle"]).expect(0);
    let line = job
        .log("dead")
        .replace("panic-without /here/there", "mended");
    job.write("edited.jsonl", line.as_bytes());
    let edited = job.path("edited.jsonl");
    let edited = edited.to_str().expect("a path");
    let queued = &job.json(&["dlq", "replay", "--jsonl", edited])[0];
    assert_eq!(queued["queued"], 1);
    assert_eq!(
        job.json(&["dlq", "replay", "--jsonl", edited])[0]["already"],
        1
    );
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out"), ["a 1", "mended 2"]);
    assert_eq!(states(&job), ["done"]);
    let none = b"{\"value\":\"x\"}\n";
    job.feed(&["dlq", "replay", "--jsonl", "-"], none)
        .expect(2)
        .says("line 1: it has no headers of a dead letter");
    let elsewhere = line.replace(
        "[\"wasm-host.stream\",\"in\"]",
        "[\"wasm-host.stream\",\"far\"]",
    );
    job.feed(&["dlq", "replay", "--jsonl", "-"], elsewhere.as_bytes())
        .expect(2)
        .says("reads no stream \"far\"");
    job.feed(&["dlq", "replay", "--jsonl", "-"], b"no JSON\n")
        .expect(2)
        .says("line 1: not the JSON of a message");
    job.call(&["dlq", "show", "dead/0/99"]).expect(2);
    for place in ["dead/7/0", "dead/0/18446744073709551615"] {
        job.call(&["dlq", "drop", place]).expect(2);
        job.call(&["dlq", "show", place]).expect(2);
    }
    let other = line.replace(
        "[\"wasm-host.offset\",\"1\"]",
        "[\"wasm-host.offset\",\"0\"]",
    );
    job.feed(&["dlq", "replay", "--jsonl", "-"], other.as_bytes())
        .expect(2)
        .says("another letter in its place");
    job.call(&["dlq", "show", "out/0/0"])
        .expect(2)
        .says("no stage has its dead letters there");
    job.call(&["dlq", "show", "dead"]).expect(2);
    job.call(&["dlq", "list", "--stage", "other"])
        .expect(2)
        .says("no stage \"other\"");
    let long = format!("{{\"value\":\"{}\"}}\n", "x".repeat(32 << 20));
    job.feed(&["dlq", "replay", "--jsonl", "-"], long.as_bytes())
        .expect(2)
        .says("line 1: a message of 33554432 bytes");
}

/// A number that can be raised by the environment, to try it for longer.
fn more_than(least: usize, name: &str) -> usize {
    let given = std::env::var(name).ok();
    given.map_or(least, |text| text.parse().expect(name))
}

/// Letters of several tasks, asked for twice under load while the process is killed: each is processed once.
#[test]
fn replayed_letters_are_processed_once_whatever_kills_the_job() {
    let tasks = more_than(4, "LETTERS_TASKS");
    let count = more_than(2_000, "LETTERS");
    let text = COUNT_LOG.replace("partitions = 2", &format!("partitions = {tasks}"));
    let job = mendable(&text, "");
    let mut random = StdRng::seed_from_u64(11);
    let lines: String = (0..count)
        .map(|at| format!("{{\"key\":\"k{at}\",\"value\":\"panic-without /here/there {at}\"}}\n"))
        .collect();
    job.feed(&["log", "produce", "in", "--jsonl"], lines.as_bytes())
        .expect(0);
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(letters(&job).len(), count);
    std::fs::create_dir(job.path("here/there ")).expect("a folder");
    for at in 0..count {
        job.write(&format!("here/there {at}"), b"");
    }
    let mut live = 0;
    for _ in 0..more_than(12, "LETTERS_KILLS") {
        let running = job.answering();
        let more: String = (0..50)
            .map(|_| {
                live += 1;
                format!("live{live}\n")
            })
            .collect();
        job.feed(&["log", "produce", "in"], more.as_bytes())
            .expect(0);
        let limit = random.random_range(1..400).to_string();
        job.call(&["dlq", "replay", "--limit", &limit]).expect(0);
        job.call(&["dlq", "replay"]).expect(0);
        std::thread::sleep(std::time::Duration::from_millis(
            random.random_range(0..150),
        ));
        running.kill();
    }
    job.call(&["dlq", "replay"]).expect(0);
    job.call(&["run", "--until-idle"]).expect(0);
    assert!(states(&job).iter().all(|state| state == "done"));
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for value in job.values("out") {
        let (value, _) = value.rsplit_once(' ').expect("a count");
        *seen.entry(value.to_owned()).or_default() += 1;
    }
    let twice: BTreeSet<_> = seen.iter().filter(|(_, times)| **times != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert_eq!(seen.len(), count + live);
}

/// One in a hundred messages fails, letters are replayed and dropped again and again while the process is killed: each key's messages are
/// processed in the order of the input.
#[test]
fn each_key_is_processed_in_its_order_through_letters_replays_and_kills() {
    let all_keys = more_than(300, "LETTERS_KEYS");
    let messages = more_than(6_000, "LETTERS_MESSAGES");
    for (guest, seed) in [("ordered", 5), ("ordered_batch", 6)] {
        let text = COUNT_LOG.replace("partitions = 2", "partitions = 3");
        let job = mendable(&text, "dead-letter-order = \"key\"\nbatch-messages = 50");
        job.write_job(&job.text("job.toml").replace("obey", guest));
        let mut random = StdRng::seed_from_u64(seed);
        // Each value is its number; some are not processed until a file is there, or are rejected once and for all.
        let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut lines = Vec::new();
        let mut bad = Vec::new();
        for at in 0..messages {
            let key = format!("k{}", random.random_range(0..all_keys));
            let is_bad = random.random_range(0..100) == 0;
            let value = match (is_bad, at % 2) {
                (true, 0) => format!("panic-without /here/{at}"),
                (true, _) => format!("reject-without /here/{at}"),
                (false, _) => format!("m {at}"),
            };
            if is_bad {
                bad.push(at);
            }
            keys.entry(key.clone()).or_default().push(value.clone());
            lines.push(format!("{{\"key\":\"{key}\",\"value\":\"{value}\"}}"));
        }
        let mut fed = 0;
        let mut dropped: BTreeSet<String> = BTreeSet::new();
        for round in 0..14 {
            let running = job.answering();
            let more = lines[fed..(fed + messages / 10).min(messages)].join("\n") + "\n";
            fed = (fed + messages / 10).min(messages);
            if more.len() > 1 {
                job.feed(&["log", "produce", "in", "--jsonl"], more.as_bytes())
                    .expect(0);
            }
            // Some are mended by now.
            for at in &bad {
                if random.random_range(0..4) == 0 {
                    job.write(&format!("here/{at}"), b"");
                }
            }
            let limit = random.random_range(1..60).to_string();
            match random.random_range(0..4) {
                0 => {
                    let open = job.json(&[
                        "dlq",
                        "list",
                        "--letters",
                        "--state",
                        "open",
                        "--limit",
                        "1",
                    ]);
                    if let Some(id) = open.first().and_then(|letter| letter["id"].as_str()) {
                        let value = job.json(&["dlq", "show", id])[0]["value"].clone();
                        if job.json(&["dlq", "drop", id])[0]["dropped"] == 1 {
                            dropped.insert(value.as_str().expect("text").to_owned());
                        }
                    }
                }
                1 => _ = job.call(&["dlq", "replay"]).expect(0),
                _ => _ = job.call(&["dlq", "replay", "--limit", &limit]).expect(0),
            }
            std::thread::sleep(std::time::Duration::from_millis(
                random.random_range(0..200),
            ));
            match round % 3 {
                0 => _ = running.terminate().expect(0),
                _ => running.kill(),
            }
        }
        for at in &bad {
            job.write(&format!("here/{at}"), b"");
        }
        for _ in 0..20 {
            job.call(&["run", "--until-idle"]).expect(0);
            if job.json(&["dlq", "replay"])[0]["queued"] == 0 {
                break;
            }
        }
        job.call(&["run", "--until-idle"]).expect(0);
        assert!(groups(&job).is_empty(), "{:?}", groups(&job));
        let mut seen: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in job.log("out").lines() {
            let line: Value = serde_json::from_str(line).expect("JSON");
            let text = |name: &str| line[name].as_str().expect("text").to_owned();
            seen.entry(text("key")).or_default().push(text("value"));
        }
        for values in keys.values_mut() {
            values.retain(|value| !dropped.contains(value));
        }
        keys.retain(|_, values| !values.is_empty());
        for (key, values) in &keys {
            assert_eq!(seen.get(key), Some(values), "seed {seed}, key {key}");
        }
        let running = job.answering();
        for partition in 0..3 {
            let parked = of_task("parked_keys", partition);
            assert_eq!(metrics(&job)[&parked], 0.0);
        }
        running.terminate().expect(0);
    }
}

/// A key that waits is not forgotten by another job file, and a key that is freed in the replay queue is freed before the task is held.
#[test]
fn keys_that_wait_are_freed_by_replays_and_drops_alone() {
    let job = mendable(
        &one_partition("{guest:ordered}"),
        "dead-letter-order = \"key\"",
    );
    let line = |key: usize, value: &str| format!("{{\"key\":\"k{key}\",\"value\":\"{value}\"}}\n");
    let bad = "reject-without /here/there";
    let lines = line(1, bad) + &line(1, "m 1");
    job.feed(&["log", "produce", "in", "--jsonl"], lines.as_bytes())
        .expect(0);
    job.call(&["run", "--until-idle"]).expect(0);
    let text = job.text("job.toml");
    job.write(
        "job.toml",
        text.replace("order = \"key\"", "order = \"message\"")
            .as_bytes(),
    );
    job.call(&["run", "--until-idle"])
        .expect(4)
        .says("keys of task count/0 wait for their dead letters");
    job.write("job.toml", text.as_bytes());
    job.call(&["dlq", "drop", "--all"]).expect(0);
    job.call(&["run", "--until-idle"]).expect(0);
    job.write(
        "job.toml",
        text.replace("order = \"key\"", "order = \"message\"")
            .as_bytes(),
    );
    job.call(&["run", "--until-idle"]).expect(0);
    job.write("job.toml", text.as_bytes());
    // As many keys wait as may.
    let lines: String = (0..10_010).map(|key| line(key, bad)).collect();
    job.feed(&["log", "produce", "in", "--jsonl"], lines.as_bytes())
        .expect(0);
    job.call(&["run", "--until-idle"])
        .expect(3)
        .says("(parked)");
    job.call(&["dlq", "drop", "--limit", "100"]).expect(0);
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(letters(&job).len(), 2 + 10_010);
}

#[test]
fn a_replayed_letter_that_holds_a_task_is_known_by_its_own_place() {
    let job = mendable(&one_partition("{guest:obey}"), "");
    fed(&job, &["a", "panic-without /here/there"]);
    job.call(&["run", "--until-idle"]).expect(0);
    let text = job
        .text("job.toml")
        .replace("dead-letters", "on-fault = \"fail\"\ndead-letters");
    job.write("job.toml", text.as_bytes());
    job.call(&["dlq", "replay"]).expect(0);
    job.call(&["run", "--until-idle"])
        .expect(3)
        .says("stopped at stream \"in\", offset 1 (trap)");
    let held = &job.json(&["task", "list"])[0]["held"];
    assert_eq!(
        (&held["stream"], &held["offset"]),
        (&"in".into(), &1.into())
    );
    assert_eq!(job.json(&["task", "skip", "count/0"])[0]["offset"], 1);
    assert_eq!(letters(&job).len(), 2);
    job.call(&["run", "--until-idle"]).expect(0);
}

/// `dead_letters_open` of a job that runs, once it is known.
fn open_letters(job: &Job) -> Option<f64> {
    let samples = metrics(job);
    let series = "wasm_host_dead_letters_open{job=\"count\",stream=\"dead\"}";
    samples.get(series).copied()
}

#[test]
fn open_letters_are_counted_through_drops_replays_restarts_and_retention() {
    let job = mendable(&one_partition("{guest:obey}"), "");
    let reject = |count: usize| fed(&job, &vec!["reject it"; count]);
    reject(10);
    let running = job.answering();
    wait_until("ten are open", || open_letters(&job) == Some(10.0));
    for id in ["dead/0/0", "dead/0/1", "dead/0/1"] {
        job.call(&["dlq", "drop", id]);
    }
    job.call(&["dlq", "replay", "dead/0/2"]).expect(0);
    // The replayed one is a letter again.
    wait_until("eight are open", || {
        open_letters(&job) == Some(8.0) && letters(&job).len() == 11
    });
    running.kill();
    let running = job.answering();
    wait_until("that is known again", || open_letters(&job) == Some(8.0));
    running.terminate().expect(0);
    // Dropped while it does not run.
    job.call(&["dlq", "drop", "dead/0/3"]).expect(0);
    let retention = "system = \"log\"\nretention = { bytes = \"1B\" }\n[[stage]]";
    job.write_job(
        &job.text("job.toml")
            .replace("system = \"log\"\n[[stage]]", retention),
    );
    let running = job.answering();
    // Retention deletes whole chunks, and is asked at each checkpoint.
    wait_until("retention has deleted", || {
        reject(1);
        letters(&job).len() <= 2
    });
    // A message that was fed meanwhile may still become a letter: the two are read until they
    // agree.
    wait_until("those that are left are open", || {
        let left = letters(&job);
        let open = left.iter().filter(|letter| letter["state"] == "open");
        open_letters(&job) == Some(open.count() as f64)
    });
    let expired =
        metrics(&job)["wasm_host_dead_letters_expired_total{job=\"count\",stream=\"dead\"}"];
    assert!(expired >= 7.0, "{expired}");
    running
        .terminate()
        .expect(0)
        .says("dead letters that nobody had replayed or dropped");
}
