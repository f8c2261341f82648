//! Swaps while messages come in: nothing is lost, nothing is done twice, and each key keeps its order.

use std::collections::BTreeMap;

use super::{Version, feed, job_of, last, out, stop, swap};
use crate::contract::{FROZEN, frozen_component};
use crate::harness::{Job, wait_until};

const KEYS: usize = 40;

/// How many swaps there are: `SWAPS`, or so many.
fn swaps(or: usize) -> usize {
    let wanted = std::env::var("SWAPS").ok();
    wanted.and_then(|text| text.parse().ok()).unwrap_or(or)
}

fn key(number: usize) -> String {
    format!("k{}", number % KEYS)
}

/// Feeds messages with numbers from 0 on while something is done. Returns how many they are.
fn fed_during(job: &Job, value: impl Fn(usize) -> String + Sync, work: impl FnOnce()) -> usize {
    std::thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let value = &value;
        let feeder = scope.spawn(move || {
            let mut next = 0;
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                feed(
                    job,
                    (next..next + 500).map(|number| (key(number), value(number))),
                );
                next += 500;
            }
            next
        });
        work();
        drop(stop);
        feeder.join().expect("the feeder")
    })
}

/// Whether lines of `NUMBER VERSION COUNT` count each key from 1 on, in the order of the numbers.
fn check_counts(lines: &[String], fed: usize) {
    assert_eq!(lines.len(), fed);
    let mut counts: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    for line in lines {
        let words: Vec<&str> = line.split(' ').collect();
        let (number, count): (usize, usize) = (
            words[0].parse().expect("a number"),
            words[2].parse().expect("a count"),
        );
        let (last, before) = counts.entry(number % KEYS).or_insert((0, 0));
        assert_eq!(count, *before + 1, "{line}");
        assert!(
            *before == 0 || number == *last + KEYS,
            "{line} after {last}"
        );
        (*last, *before) = (number, count);
    }
}

/// The versions come in the order of the swaps in each task.
#[test]
fn swaps_under_load_lose_and_repeat_nothing() {
    let swaps = swaps(60);
    let versions = [
        Version::of("versions", 30),
        Version::of("versions_message", 31),
        Version::of("versions", 32),
    ];
    let job = job_of(&versions[0]);
    let paths: Vec<_> = versions
        .iter()
        .enumerate()
        .map(|(at, version)| version.put(&job, &format!("{at}.wasm")))
        .collect();
    let running = job.answering();
    let fed = fed_during(
        &job,
        |number| number.to_string(),
        || {
            for number in 1..=swaps {
                let path = paths[number % versions.len()].to_str().expect("UTF-8");
                job.call(&["swap", "count", path]).expect(0);
            }
        },
    );
    let lines = out(&job, fed);
    stop(running);
    check_counts(&lines, fed);
    for partition in ["0", "1"] {
        let mut expected = 0;
        let values = job.json(&["log", "consume", "out", "--partition", partition]);
        assert!(!values.is_empty());
        for message in values {
            let value = message["value"].as_str().expect("a value").to_owned();
            let version = value.split(' ').nth(1).expect("a version").to_owned();
            // A task that had nothing to do under a version has not shown it.
            while versions[expected % versions.len()].short() != version {
                expected += 1;
            }
        }
        assert!(expected <= swaps, "{expected} of {swaps}");
    }
}

/// A job for the conformance guests. Nothing but a swap commits, so the positions after a swap are those of its cut.
const COMMANDED: &str = r#"
[job]
name = "commanded"
[checkpoint]
interval = "1h"
early = false
[streams.in]
system = "log"
partitions = 2
[streams.results]
system = "log"
[streams.out]
system = "log"
[[stage]]
name = "count"
component = "task.wasm"
inputs = ["in"]
outputs = ["results", "out"]
[stage.config]
by = 0
[stage.stores.a]
[stage.stores.b]
"#;

/// A message that was processed: which it is, its count, and the number of the swap whose code did it.
struct Processed {
    partition: usize,
    offset: u64,
    key: String,
    count: u64,
    by: usize,
}

impl Processed {
    fn read(line: &str) -> Processed {
        let field = |name: &str| {
            let mut words = line.split([' ', ';']);
            let found = words.find_map(|word| word.strip_prefix(name));
            found.unwrap_or_else(|| panic!("no {name} in {line}"))
        };
        let command = |name: &str| {
            let mut commands = line.split("; ");
            let found = commands.find_map(|command| command.strip_prefix(name));
            found.and_then(|result| result.parse().ok()).expect(line)
        };
        Processed {
            partition: field("partition=").parse().expect(line),
            offset: field("offset=").parse().expect(line),
            key: field("key=").to_owned(),
            count: command("increment "),
            by: command("config ") as usize,
        }
    }
}

/// Components in five languages, of either world, one after the other: for each task the code that has processed an offset changes exactly
/// at the positions that the cut has committed.
#[test]
fn other_languages_take_over_exactly_where_the_cut_is() {
    let swaps = swaps(2 * FROZEN.len());
    let versions: Vec<Version> = (200..)
        .zip(FROZEN)
        .map(|(number, name)| Version::made(frozen_component(name), number))
        .collect();
    let job = Job::new(COMMANDED);
    versions[0].put(&job, "task.wasm");
    let running = job.answering();
    let mut cuts: Vec<[u64; 2]> = Vec::new();
    let commands = |number: usize| {
        let key: String = key(number)
            .bytes()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("see; increment a {key} 1; config by")
    };
    let fed = fed_during(&job, commands, || {
        for number in 1..=swaps {
            job.write_job(&COMMANDED.replace("by = 0", &format!("by = {number}")));
            let version = &versions[number % versions.len()];
            swap(&job, version, &["--force", "--probation", "none"]).expect(0);
            let cut = last(&job)["epoch"].as_u64().expect("an epoch");
            let mut positions = [0; 2];
            for offset in job.json(&["offsets", "show"]) {
                assert!(
                    offset["epoch"].as_u64() <= Some(cut),
                    "{offset} after {cut}"
                );
                let partition = offset["partition"].as_u64().expect("a partition") as usize;
                positions[partition] = offset["position"].as_u64().expect("a position");
            }
            cuts.push(positions);
        }
    });
    wait_until("all are processed", || job.processed() == fed as u64);
    stop(running);
    let values = job.values("results");
    let mut processed: Vec<Processed> = values.iter().map(|line| Processed::read(line)).collect();
    assert_eq!(processed.len(), fed);
    processed.sort_by_key(|one| (one.partition, one.offset));
    let mut next = [0; 2];
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for one in &processed {
        let Processed {
            partition, offset, ..
        } = *one;
        assert_eq!(offset, next[partition]);
        next[partition] += 1;
        let count = counts.entry(&one.key).or_default();
        *count += 1;
        assert_eq!(one.count, *count, "{} at {offset}", one.key);
        let by = cuts.iter().filter(|cut| cut[partition] <= offset).count();
        assert_eq!(
            one.by, by,
            "partition {partition}, offset {offset}, cuts {cuts:?}"
        );
    }
    let moved = cuts.windows(2).filter(|cuts| cuts[0] != cuts[1]).count();
    assert!(moved >= swaps / 2, "there was no load: {cuts:?}");
}

#[test]
fn code_that_becomes_worse_after_a_thousand_messages_loses_nothing() {
    let rows = [
        ("trap", "rolled-back"),
        ("loop", "rolled-back"),
        ("trap at times", ""),
        ("leak", ""),
        ("close", "probation"),
    ];
    for (fault, state) in rows {
        let [first, third] = [90, 92].map(|number| Version::of("versions", number));
        let second = Version::of("worsens", 91);
        let job = job_of(&first);
        let limits = "[stage.limits]\nmemory = \"64MiB\"\ncall-deadline = \"300ms\"\n";
        let text = job.text("job.toml") + limits;
        job.write_job(&text);
        let running = job.answering();
        let messages =
            |range: std::ops::Range<usize>| range.map(|number| (key(number), number.to_string()));
        feed(&job, messages(0..500));
        out(&job, 500);
        job.write_job(&format!("{text}[stage.config]\nfault = \"{fault}\"\n"));
        swap(&job, &second, &["--probation", "1h"]).expect(0);
        feed(&job, messages(500..4_000));
        check_counts(&out(&job, 4_000), 4_000);
        if !state.is_empty() {
            wait_until("it is judged", || last(&job)["state"] == state);
        }
        // Others can follow it, whatever has become of it.
        job.write_job(&text);
        swap(&job, &third, &[]).expect(0);
        feed(&job, messages(4_000..4_100));
        let lines = out(&job, 4_100);
        check_counts(&lines, 4_100);
        let by_third = lines.iter().filter(|line| line.contains(third.short()));
        assert_eq!(by_third.count(), 100, "{fault}");
        assert!(
            lines.iter().any(|line| line.contains(second.short())),
            "{fault}"
        );
        stop(running);
    }
}
