//! kill -9 again and again on the real binary: state, positions and output are those of a run without kills.
//!
//! `SOAK_KILLS` sets how many, `SOAK_SEED` replays.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::harness::{Job, wait_until};
use crate::jobs::COUNT_LOG;

fn kills() -> usize {
    std::env::var("SOAK_KILLS")
        .ok()
        .and_then(|kills| kills.parse().ok())
        .unwrap_or(100)
}

fn seed(what: &str) -> StdRng {
    let seed = match std::env::var("SOAK_SEED") {
        Ok(seed) => seed.parse().expect("SOAK_SEED is a number"),
        Err(_) => rand::random::<u32>().into(),
    };
    println!("{what}: SOAK_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// Keys and values of `count` messages.
fn messages(count: usize) -> Vec<(String, String)> {
    (0..count)
        .map(|at| (format!("k{}", at * 31 % 97), format!("v{at}")))
        .collect()
}

fn counted(keys: impl Iterator<Item = String>) -> (Vec<String>, BTreeMap<String, i64>) {
    let mut counts = BTreeMap::new();
    let lines = keys.map(|key| {
        let count = counts.entry(key.clone()).or_insert(0i64);
        *count += 1;
        format!("{key} {count}")
    });
    let lines = lines.collect();
    (lines, counts)
}

fn shown(counts: &BTreeMap<String, i64>) -> Vec<String> {
    counts
        .iter()
        .map(|(key, count)| format!("{key}\t{}", count.to_le_bytes().escape_ascii()))
        .collect()
}

#[test]
fn from_file_to_file() {
    let mut random = seed("from_file_to_file");
    let kills = kills() / 2;
    let lines = 40_000 + kills * 400;
    let job = Job::new(
        &crate::jobs::COUNT_LINES
            .replace("interval = \"100ms\"", "interval = \"20ms\"")
            .replace(
                "format = \"lines\"\n[streams.out]",
                "format = \"lines\"\nmax-rate = \"8000/s\"\n[streams.out]",
            ),
    );
    let keys: Vec<String> = messages(lines).into_iter().map(|(key, _)| key).collect();
    job.write("in.txt", (keys.join("\n") + "\n").as_bytes());
    let mut done = 0;
    while done < kills {
        let mut running = job.start();
        std::thread::sleep(Duration::from_millis(random.random_range(0..220)));
        if !running.is_running() {
            running.wait().expect(0);
            break;
        }
        running.kill();
        done += 1;
    }
    println!("{done} kills");
    assert!(done * 2 >= kills, "the input ended after {done} kills");
    // What is left is read at full speed.
    job.write_job(&job.text("job.toml").replace("max-rate = \"8000/s\"", ""));
    job.run().expect(0);
    let (out, counts) = counted(keys.into_iter());
    assert!(
        job.text("out/out-0-0") == out.join("\n") + "\n",
        "the output differs"
    );
    assert_eq!(
        job.state("counts").lines().collect::<Vec<_>>(),
        shown(&counts)
    );
}

#[test]
fn from_log_to_log() {
    let mut random = seed("from_log_to_log");
    let kills = kills() - kills() / 2;
    let text = COUNT_LOG.replace("interval = \"50ms\"", "interval = \"20ms\"");
    let job = Job::new(&text.replace(
        "system = \"log\"\npartitions = 2\n[streams.out]",
        "system = \"log\"\npartitions = 2\nmax-rate = \"8000/s\"\n[streams.out]",
    ));
    let messages = messages(30_000 + kills * 400);
    let lines: String = messages
        .iter()
        .map(|(key, value)| format!("{key}={value}\n"))
        .collect();
    job.feed(
        &["log", "produce", "in", "--key-separator", "="],
        lines.as_bytes(),
    )
    .expect(0);
    for _ in 0..kills {
        let running = job.start();
        std::thread::sleep(Duration::from_millis(random.random_range(0..220)));
        running.kill();
    }
    job.write_job(&job.text("job.toml").replace("max-rate = \"8000/s\"", ""));
    job.call(&["run", "--until-idle"]).expect(0);
    let (_, counts) = counted(messages.iter().map(|(key, _)| key.clone()));
    let mut state: Vec<String> = job.state("counts").lines().map(str::to_owned).collect();
    state.sort();
    assert_eq!(state, shown(&counts));
    // Each key belongs to one task, and a task's output is in its order.
    let mut seen = BTreeMap::new();
    for value in job.values("out") {
        let (key, count) = value.split_once(' ').expect("a key and a count");
        let last = seen.entry(key.to_owned()).or_insert(0i64);
        assert_eq!(count, (*last + 1).to_string(), "key {key}");
        *last += 1;
    }
    assert_eq!(seen, counts);
}

#[test]
fn in_a_guest_call() {
    let text = COUNT_LOG
        .replace("{guest:counter}", "{guest:obey}")
        .replace("partitions = 2", "partitions = 1");
    for _ in 0..5 {
        let job = Job::new(&text);
        job.feed(&["log", "produce", "in"], b"one\ntwo\n").expect(0);
        let running = job.start();
        wait_until("two are counted", || {
            let done = job.call(&["log", "consume", "out"]);
            done.code == 0 && done.stdout.lines().count() == 2
        });
        job.feed(&["log", "produce", "in"], b"three\nsleep 700\nfour\n")
            .expect(0);
        std::thread::sleep(Duration::from_millis(200));
        running.kill();
        assert_eq!(
            job.values("out"),
            ["one 1", "two 2"],
            "the batch that slept is not in any checkpoint"
        );
        job.call(&["run", "--until-idle"]).expect(0);
        assert_eq!(job.values("out"), ["one 1", "two 2", "three 3", "four 4"]);
    }
}
