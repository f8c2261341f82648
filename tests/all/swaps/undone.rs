//! Random scripts for guests, with new code in the middle that does the same. Whether it stays or goes back, and whether its output is held
//! meanwhile or not, everything is as in a run without it, although the process is killed at any time.
//!
//! `SWAP_SEED=N` replays a case, `SWAP_CASES=N` runs so many, from that one on.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use wasm_host::state::{Db, DbOptions, Family, Order};

use super::{Version, last, stage};
use crate::harness::{Job, Running, wait_until};

/// What becomes of the new code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    GoesBack,
    Stays,
}

struct Case {
    guest: &'static str,
    partitions: u32,
    batch_messages: u32,
    /// The system of the output.
    out: &'static str,
    order: &'static str,
    holds: bool,
    end: End,
    kills: u32,
    /// Messages before the new code, with it, and after its end.
    parts: [Vec<String>; 3],
}

impl Case {
    fn of(random: &mut StdRng) -> Case {
        let mut at = 0;
        let special = *[2, 10, 30].choose(random).expect("some");
        let mut part = |random: &mut StdRng, most: usize| {
            let message = |_| {
                let words = [
                    "slow", "delete", "clear", "scan", "reject", "panic", "spread",
                ];
                let word = match random.random_range(0..100) < special {
                    true => words.choose(random).expect("some"),
                    false => "go",
                };
                at += 1;
                let key = random.random_range(0..12);
                format!("{{\"key\":\"k{key}\",\"value\":\"{at} {word}\"}}\n")
            };
            (0..most).map(message).collect()
        };
        let parts = [100, 200, 100].map(|most| {
            let most = random.random_range(1..most);
            part(random, most)
        });
        let mut one_of = |words: [&'static str; 2]| words[random.random_range(0..2)];
        Case {
            guest: one_of(["script", "script_batch"]),
            out: one_of(["log", "file"]),
            order: one_of(["message", "key"]),
            end: match one_of(["back", "on"]) {
                "back" => End::GoesBack,
                _ => End::Stays,
            },
            holds: random.random_range(0..4) > 0,
            partitions: random.random_range(1..4),
            batch_messages: *[1, 7, 500].choose(random).expect("some"),
            kills: random.random_range(1..6),
            parts,
        }
    }

    fn job(&self, version: &Version) -> Job {
        let Case {
            partitions,
            batch_messages,
            order,
            ..
        } = self;
        let out = match self.out {
            "file" => "system = \"file\"\npath = \"out\"\nformat = \"lines\"",
            _ => "system = \"log\"",
        };
        let job = Job::new(&format!(
            "[job]\nname = \"held\"\n[checkpoint]\ninterval = \"20ms\"\n\
             [streams.in]\nsystem = \"log\"\npartitions = {partitions}\n\
             retention = {{ bytes = \"100B\" }}\n\
             [streams.out]\n{out}\npartitions = {partitions}\n\
             [streams.dead]\nsystem = \"log\"\npartitions = {partitions}\n\
             [[stage]]\nname = \"s\"\ncomponent = \"task.wasm\"\n\
             inputs = [\"in\"]\noutputs = [\"out\"]\ndead-letters = \"dead\"\n\
             dead-letter-order = \"{order}\"\n\
             batch-messages = {batch_messages}\nbreaker = {{ share = \"100%\" }}\n\
             [stage.stores.counts]\n[stage.stores.last]\ntype = \"memory\"\n"
        ));
        version.put(&job, "task.wasm");
        job
    }

    /// All of it, without new code.
    fn run_plainly(&self, version: &Version) -> Job {
        let job = self.job(version);
        produce(&job, &self.parts.concat());
        job.call(&["run", "--until-idle"]).expect(0);
        job
    }

    /// With new code in between, and how many keys it had written then.
    fn run_held(&self, versions: &[Version; 2], random: &mut StdRng) -> (Job, u64) {
        let job = self.job(&versions[0]);
        let mut running = job.answering();
        produce(&job, &self.parts[0]);
        sleep(random, 60);
        let options: &[&str] = match self.holds {
            true => &["--hold-output", "--probation", "1h"],
            false => &["--probation", "1h"],
        };
        let path = versions[1].put(&job, "next.wasm");
        let path = path.to_str().expect("text");
        job.call(&[&["swap", "s", path], options].concat())
            .expect(0);
        produce(&job, &self.parts[1]);
        for _ in 0..self.kills {
            sleep(random, 120);
            running.kill();
            running = job.answering();
        }
        sleep(random, 200);
        let held = stage(&job)["hold"]["state-keys"].as_u64();
        let running = self.end(&job, running, random);
        running.kill();
        produce(&job, &self.parts[2]);
        job.call(&["run", "--until-idle"]).expect(0);
        assert_eq!(held.is_some(), self.holds);
        (job, held.unwrap_or(0))
    }

    /// Has it taken back or released, however often the process is killed in between.
    fn end(&self, job: &Job, mut running: Running, random: &mut StdRng) -> Running {
        let (option, end) = match self.end {
            End::GoesBack => ("--rollback", "rolled-back"),
            End::Stays => ("--promote", "done"),
        };
        for _ in 0..self.kills {
            std::thread::scope(|scope| {
                let asking = scope.spawn(|| job.call(&["swap", "s", option]));
                sleep(random, 30);
                running.kill();
                asking.join().expect("it was asked");
            });
            running = job.answering();
        }
        if ["holding", "probation"]
            .iter()
            .any(|state| last(job)["state"] == *state)
        {
            job.call(&["swap", "s", option]).expect(0);
        }
        wait_until(end, || last(job)["state"] == end);
        assert!(stage(job)["hold"].is_null());
        running
    }

    /// What came of a run.
    fn outcome(&self, job: &Job) -> Vec<(&'static str, Vec<String>)> {
        let text = |values: Vec<Value>| values.iter().map(Value::to_string).collect();
        let mut sent: Vec<String> = match self.out {
            "file" => files(job),
            _ => {
                let messages = job.json(&["log", "consume", "out"]).into_iter();
                messages
                    .map(|message| format!("{}: {}", message["partition"], message["value"]))
                    .collect()
            }
        };
        if self.partitions > 1 {
            // Tasks send to partitions in any order.
            sent.sort();
        }
        let letter = |letter: &Value| {
            let place = ["stream", "offset", "key", "kind", "task"].map(|field| &letter[field]);
            format!("{place:?}")
        };
        let letters = job.json(&["dlq", "list", "--letters"]);
        let mut letters: Vec<String> = letters.iter().map(letter).collect();
        letters.sort();
        let status = &job.json(&["status"])[0];
        let task = |task: &Value| {
            let fields = [
                "task",
                "processed",
                "rejected",
                "dead-lettered",
                "skipped",
                "parked",
            ];
            let fields = fields.map(|field| &task[field]);
            let inputs = task["inputs"].as_array().expect("inputs");
            let positions = inputs.iter().map(|input| &input["position"]);
            format!("{fields:?} {:?}", positions.collect::<Vec<_>>())
        };
        let tasks = status["tasks"].as_array().expect("tasks");
        vec![
            ("sent", sent),
            ("letters", letters),
            ("counts", text(job.json(&["state", "scan", "counts"]))),
            ("last", text(job.json(&["state", "scan", "last"]))),
            ("tasks", tasks.iter().map(task).collect()),
        ]
    }
}

fn produce(job: &Job, lines: &[String]) {
    job.feed(
        &["log", "produce", "in", "--jsonl"],
        lines.concat().as_bytes(),
    )
    .expect(0);
}

fn sleep(random: &mut StdRng, most: u64) {
    std::thread::sleep(Duration::from_millis(random.random_range(0..most)));
}

/// The lines of all files of the output, with the names of the files.
fn files(job: &Job) -> Vec<String> {
    let mut paths: Vec<_> = std::fs::read_dir(job.path("out"))
        .expect("the output")
        .map(|entry| entry.expect("a file").path())
        .collect();
    paths.sort();
    let mut lines = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("text");
        let lines_of_file = text.lines();
        lines.extend(
            lines_of_file
                .map(|line| format!("{}: {line}", path.file_name().unwrap_or_default().display())),
        );
    }
    lines
}

/// Nothing is left in the database of what was held.
fn check_nothing_is_left(job: &Job) {
    let db = Db::open_read_only(&job.state_dir().join("db"), &DbOptions::default());
    let db = db.expect("the database");
    for (family, lower) in [
        (Family::State, vec![0x80]),
        (Family::Log, b"H".to_vec()),
        (Family::Meta, b"held/".to_vec()),
        (Family::Meta, b"hold/".to_vec()),
    ] {
        let upper = match family {
            Family::State => vec![u8::MAX; 9],
            _ => [&lower[..lower.len() - 1], &[lower[lower.len() - 1] + 1]].concat(),
        };
        let walk = db.walk(family, lower.clone(), upper, Order::Up);
        let left = walk.entry().expect("it can be read");
        assert!(
            left.is_none(),
            "{:?}: {left:?}",
            lower.escape_ascii().to_string()
        );
    }
}

#[test]
fn a_run_with_new_code_that_is_killed_at_any_time_equals_one_without_it() {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().expect(name))
    };
    let (seed, cases) = (number("SWAP_SEED"), number("SWAP_CASES"));
    let first = seed.unwrap_or(0);
    let cases = cases.unwrap_or(if seed.is_some() { 1 } else { 20 });
    let (mut all_held, mut kills) = (0, 0);
    for seed in first..first + cases {
        println!("SWAP_SEED={seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let case = Case::of(&mut random);
        let versions = [64, 65].map(|number| Version::of(case.guest, number));
        let plain = case.outcome(&case.run_plainly(&versions[0]));
        let (job, held) = case.run_held(&versions, &mut random);
        all_held += held;
        // Before the end of the new code is asked for, and while it is.
        kills += 2 * case.kills;
        for (held, plain) in case.outcome(&job).iter().zip(&plain) {
            let Case { holds, end, .. } = case;
            assert_eq!(held, plain, "seed {seed}, {end:?}, held: {holds}");
        }
        check_nothing_is_left(&job);
    }
    println!("{kills} kills, {all_held} keys were held");
    assert!(all_held > 0, "nothing was held at all");
    assert!(kills >= 100 || cases < 20, "{kills} kills");
}
