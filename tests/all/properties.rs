//! Random scripts for guests, on the real host, with random rules and kills: each message of the input is processed once, is a dead letter
//! once, or is passed over, and never two of these; whoever is innocent is processed; state is what the processed ones leave.
//!
//! `PROPERTY_SEED=N` replays a case, `PROPERTY_CASES=N` runs more of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;

use crate::harness::Job;

/// What a message makes the guest do, and the kind of failure, if it fails alone.
const WORDS: [(&str, Option<&str>); 13] = [
    ("go", None),
    ("go", None),
    ("once", None),
    ("slow", None),
    ("heavy", None),
    ("delete", None),
    ("scan", None),
    ("reject", Some("rejected")),
    ("reject", Some("rejected")),
    ("panic", Some("trap")),
    ("panic", Some("trap")),
    ("large", Some("limit")),
    ("grow", Some("memory")),
];

struct Message {
    key: String,
    word: &'static str,
    fails: Option<&'static str>,
}

/// A case: the rules of the stage, and the messages of its input.
struct Case {
    guest: &'static str,
    partitions: u32,
    batch_messages: u32,
    attempts: u32,
    on_fault: &'static str,
    on_rejected: &'static str,
    kills: u32,
    messages: Vec<Message>,
}

impl Case {
    fn of(random: &mut StdRng) -> Case {
        let mut one_of = |words: [&'static str; 2]| words[random.random_range(0..2)];
        let guest = one_of(["script", "script_batch"]);
        let on_fault = one_of(["dead-letter", "skip"]);
        let on_rejected = one_of(["dead-letter", "skip"]);
        let count = random.random_range(40..400);
        // From nearly none to a third.
        let special = *[1, 5, 20, 60].choose(random).expect("some");
        let mut loops = 2;
        let message = |_| {
            let mut word = match random.random_range(0..100) < special {
                true => *WORDS.choose(random).expect("some"),
                false => ("go", None),
            };
            // Each of these takes the deadline several times.
            if loops > 0 && random.random_range(0..100) == 0 {
                loops -= 1;
                word = ("loop", Some("deadline"));
            }
            Message {
                key: format!("k{}", random.random_range(0..12)),
                word: word.0,
                fails: word.1,
            }
        };
        let messages = (0..count).map(message).collect();
        Case {
            guest,
            partitions: random.random_range(1..4),
            batch_messages: *[1, 7, 50, 500].choose(random).expect("some"),
            // With one attempt a message that fails once, alone by chance, is condemned.
            attempts: random.random_range(2..4),
            on_fault,
            on_rejected,
            kills: random.random_range(0..4),
            messages,
        }
    }

    fn job(&self) -> Job {
        let Case {
            guest,
            partitions,
            batch_messages,
            attempts,
            on_fault,
            on_rejected,
            ..
        } = self;
        let job = Job::new(&format!(
            "[job]\nname = \"scripts\"\n[checkpoint]\ninterval = \"20ms\"\n\
             [streams.in]\nsystem = \"log\"\npartitions = {partitions}\n\
             [streams.out]\nsystem = \"log\"\npartitions = {partitions}\n\
             [streams.dead]\nsystem = \"log\"\npartitions = {partitions}\n\
             [[stage]]\nname = \"s\"\ncomponent = \"{{guest:{guest}}}\"\n\
             inputs = [\"in\"]\noutputs = [\"out\"]\ndead-letters = \"dead\"\n\
             on-fault = \"{on_fault}\"\non-rejected = \"{on_rejected}\"\n\
             batch-messages = {batch_messages}\nbreaker = {{ share = \"100%\" }}\n\
             retry = {{ attempts = {attempts} }}\n\
             [stage.stores.counts]\n[stage.stores.last]\ntype = \"memory\"\n\
             [stage.limits]\nmemory = \"8MiB\"\ncall-deadline = \"200ms\"\n\
             [stage.capabilities]\ndirectories = [{{ host = \"here\", guest = \"/here\", write = true }}]\n"
        ));
        std::fs::create_dir(job.path("here")).expect("a folder");
        job
    }

    /// Runs it, and compares what came of it with what should.
    fn check(&self, random: &mut StdRng) {
        let job = self.job();
        let line = |(at, message): (usize, &Message)| {
            let Message { key, word, .. } = message;
            format!("{{\"key\":\"{key}\",\"value\":\"{at} {word} /here/{at}\"}}\n")
        };
        let lines: String = self.messages.iter().enumerate().map(line).collect();
        job.feed(&["log", "produce", "in", "--jsonl"], lines.as_bytes())
            .expect(0);
        for _ in 0..self.kills {
            let running = job.start();
            std::thread::sleep(Duration::from_millis(random.random_range(20..400)));
            running.kill();
        }
        job.call(&["run", "--until-idle"]).expect(0);
        self.check_messages(&job);
        self.check_state(&job);
    }

    /// What becomes of a message that fails so.
    fn policy(&self, kind: &str) -> &'static str {
        match kind {
            "rejected" => self.on_rejected,
            _ => self.on_fault,
        }
    }

    fn check_messages(&self, job: &Job) {
        let number = |value: &str| -> usize {
            let number = value.split(' ').next().expect("a word");
            number.parse().expect("a number")
        };
        let sent: Vec<usize> = job
            .values("out")
            .iter()
            .map(|value| number(value))
            .collect();
        let letters = job.json(&["dlq", "list", "--letters"]);
        let mut kinds = BTreeMap::new();
        for letter in &letters {
            let id = letter["id"].as_str().expect("an id");
            let shown = &job.json(&["dlq", "show", id])[0];
            let at = number(shown["value"].as_str().expect("a value"));
            let kind = letter["kind"].as_str().expect("a kind").to_owned();
            assert_eq!(kinds.insert(at, kind), None, "two letters of message {at}");
        }
        let unique: BTreeSet<usize> = sent.iter().copied().collect();
        assert_eq!(unique.len(), sent.len(), "a message was processed twice");
        let mut skipped = 0;
        for (at, message) in self.messages.iter().enumerate() {
            let expected = message.fails.map(|kind| (kind, self.policy(kind)));
            let what = format!("message {at}, {:?}, letters {kinds:?}", message.word);
            assert_eq!(unique.contains(&at), expected.is_none(), "{what}");
            let letter = kinds.get(&at).map(String::as_str);
            match expected {
                Some((kind, "dead-letter")) => assert_eq!(letter, Some(kind), "{what}"),
                Some(_) => {
                    skipped += 1;
                    assert_eq!(letter, None, "{what}");
                }
                None => assert_eq!(letter, None, "{what}"),
            }
        }
        let status = &job.json(&["status"])[0];
        let tasks = status["tasks"].as_array().expect("tasks");
        let sum =
            |field: &str| -> u64 { tasks.iter().filter_map(|task| task[field].as_u64()).sum() };
        assert_eq!(sum("skipped"), skipped, "{tasks:?}");
        assert_eq!(sum("dead-lettered"), letters.len() as u64, "{tasks:?}");
        let processed = (sent.len() + letters.len()) as u64 + skipped;
        assert_eq!(processed, self.messages.len() as u64);
    }

    /// The stores hold what the processed messages leave, in their order.
    fn check_state(&self, job: &Job) {
        let (mut counts, mut last) = (BTreeMap::new(), BTreeMap::new());
        for (at, message) in self.messages.iter().enumerate() {
            if message.fails.is_some() {
                continue;
            }
            *counts.entry(message.key.clone()).or_insert(0) += 1;
            match message.word {
                "delete" => _ = last.remove(&message.key),
                _ => _ = last.insert(message.key.clone(), at),
            }
        }
        let stored = |store: &str| -> Vec<Value> { job.json(&["state", "scan", store]) };
        let text = |entry: &Value, field: &str| -> Vec<u8> {
            let text = entry[field].as_str().expect("text");
            text.as_bytes().to_vec()
        };
        let found: BTreeMap<String, usize> = stored("last")
            .iter()
            .map(|entry| {
                let (key, value) = (text(entry, "key"), text(entry, "value"));
                let value = String::from_utf8_lossy(&value).into_owned();
                (
                    String::from_utf8_lossy(&key).into_owned(),
                    value.parse().expect("a number"),
                )
            })
            .collect();
        assert_eq!(found, last, "store `last`");
        assert_eq!(stored("counts").len(), counts.len(), "store `counts`");
    }
}

#[test]
fn each_message_is_processed_or_a_letter_or_passed_over_and_never_two_of_these() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().expect(name))
    };
    let seeds = match number("PROPERTY_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("PROPERTY_CASES").unwrap_or(12)).collect(),
    };
    for seed in seeds {
        println!("PROPERTY_SEED={seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let case = Case::of(&mut random);
        case.check(&mut random);
    }
}
