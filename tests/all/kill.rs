//! kill -9 again and again: state, positions and output are those of a run without kills.
//!
//! Half of the kills come at random times. The others are aimed: at a guest's call, or at a step of a commit, where `strace` kills the
//! host as it enters a system call, or a host that waits before a step is killed there. Whether that step was hit is read from what
//! is left on the disk. `SOAK_KILLS` sets how many, `SOAK_SEED` replays.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::harness::found::{Found, Phase, state_dir};
use crate::harness::{Job, host, steps, wait_until};
use crate::jobs::{COUNT_LINES, COUNT_LOG, one_partition};

/// Kills of all tests here together.
fn kills() -> usize {
    let kills = std::env::var("SOAK_KILLS").ok();
    kills.map_or(100, |kills| kills.parse().expect("SOAK_KILLS is a number"))
}

/// Kills at random times, in each of the two tests that have them.
fn at_random() -> usize {
    kills() / 4
}

/// Kills at each aim of each test.
fn at_each() -> usize {
    kills().div_ceil(20)
}

fn seed(what: &str) -> StdRng {
    let seed = match std::env::var("SOAK_SEED") {
        Ok(seed) => seed.parse().expect("SOAK_SEED is a number"),
        Err(_) => rand::random::<u32>().into(),
    };
    println!("{what}: SOAK_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// When the host is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Aim {
    AtRandom,
    /// All tasks have sealed an epoch; its write has not begun.
    Sealed,
    /// In the write of an epoch, before its bytes are in the write-ahead log.
    Write,
    /// In the write of an epoch, before its bytes are synced.
    Sync,
    /// The epoch is written, and the witness is not.
    Witness,
    /// In delivery, before the bytes are in the file.
    Deliver,
    /// In delivery, before the bytes in the file are synced.
    DeliverSync,
}

const IN_COMMIT: &[Aim] = &[Aim::Sealed, Aim::Write, Aim::Sync, Aim::Witness];
const IN_DELIVERY: &[Aim] = &[Aim::Deliver, Aim::DeliverSync];

/// Each aim equally often among kills at random times, in an order that the seed gives.
fn schedule(aims: &[&[Aim]], random: &mut StdRng) -> Vec<Aim> {
    let mut schedule = vec![Aim::AtRandom; at_random()];
    for aim in aims.iter().copied().flatten() {
        schedule.extend(std::iter::repeat_n(*aim, at_each()));
    }
    schedule.shuffle(random);
    schedule
}

/// Kills a job at each aim of the schedule, and reads from the disk that it was hit.
fn kill_at_each(job: &mut Job, schedule: &[Aim], arguments: &[&str], random: &mut StdRng) {
    // The first start registers names.
    kill_before("commit.write", job, arguments);
    let (mut hit, mut phases) = (BTreeMap::new(), BTreeMap::new());
    for aim in schedule {
        let before = Found::of(job).expect("a state directory").epoch();
        aim.kill(job, arguments, random);
        let found = Found::of(job).expect("a state directory");
        aim.check(job, before, &found);
        *hit.entry(aim).or_insert(0) += 1;
        if *aim == Aim::AtRandom {
            *phases.entry(found.phase()).or_insert(0) += 1;
        }
    }
    println!("hit {hit:?}; at random times {phases:?}");
    assert!(hit.values().all(|count| *count >= 5 || kills() < 100));
}

impl Aim {
    fn kill(self, job: &mut Job, arguments: &[&str], random: &mut StdRng) {
        let at = random.random_range(1..=4);
        let out = [job.path("out/out-0-0")];
        match self {
            Aim::AtRandom => {
                let mut running = job.start_with(arguments);
                std::thread::sleep(Duration::from_millis(random.random_range(0..220)));
                assert!(running.is_running(), "it ended: {}", running.stderr());
                running.kill();
            }
            Aim::Sealed => kill_before("commit.write", job, arguments),
            Aim::Write => kill_in_log("write", at, job, arguments),
            Aim::Sync => kill_in_log("fdatasync", at, job, arguments),
            Aim::Witness => {
                let witness = state_dir(job).expect("a state directory").join("witness");
                job.killed_in("pwrite64", at, &[witness], arguments);
            }
            Aim::Deliver => job.killed_in("pwrite64", at, &out, arguments),
            Aim::DeliverSync => job.killed_in("fdatasync", at, &out, arguments),
        }
    }

    /// Whether what is on the disk is what such a kill leaves.
    fn check(self, job: &Job, before: u64, found: &Found) {
        let phase = found.phase();
        let steps = job.text("steps.log");
        let begun = steps.lines().filter(|step| *step == "commit.write").count() as u64;
        match self {
            Aim::AtRandom => {}
            Aim::Sealed => {
                assert_eq!((found.epoch(), begun), (before, 1));
                assert_ne!(phase, Phase::BeforeWitness);
                let listed = job.json(&["checkpoint", "list"]);
                let last = listed
                    .last()
                    .map_or(0, |last| last["epoch"].as_u64().expect("a number"));
                assert_eq!(last, before);
            }
            Aim::Write => {
                assert_eq!(steps.lines().last(), Some("commit.write"));
                assert_eq!(found.epoch(), before + begun - 1, "the epoch is not there");
                assert_ne!(phase, Phase::BeforeWitness);
            }
            Aim::Sync => {
                assert_eq!(steps.lines().last(), Some("commit.write"));
                assert_eq!(found.epoch(), before + begun, "the epoch is there");
                assert_eq!(phase, Phase::BeforeWitness);
            }
            Aim::Witness => {
                assert_eq!(phase, Phase::BeforeWitness);
                assert_eq!(found.witness.epoch, found.epoch() - 1);
            }
            Aim::Deliver => assert_eq!(phase, Phase::InDelivery),
            Aim::DeliverSync => assert_eq!(phase, Phase::Delivered),
        }
    }
}

/// Runs the host that tells of its steps.
fn with_steps<R>(job: &mut Job, run: impl FnOnce(&mut Job) -> R) -> R {
    let log = job.path("steps.log");
    let _ = fs::remove_file(&log);
    job.binary = steps();
    job.env("STEPS_LOG", log.to_str().expect("UTF-8"));
    let result = run(job);
    job.clear_env();
    job.binary = host();
    result
}

/// Kills it while it waits before a step.
fn kill_before(step: &str, job: &mut Job, arguments: &[&str]) {
    with_steps(job, |job| {
        job.env("STEPS_HOLD", &format!("{step}:60000"));
        let running = job.start_with(arguments);
        wait_until(step, || job.text("steps.log").lines().last() == Some(step));
        running.kill();
    });
}

/// Kills it in a system call to the database's write-ahead log, whose name is the next number or one soon after it.
fn kill_in_log(call: &str, at: u64, job: &mut Job, arguments: &[&str]) {
    let db = state_dir(job).expect("a state directory").join("db");
    let number = |entry: std::io::Result<fs::DirEntry>| {
        let name = entry.expect("an entry").file_name();
        name.to_str()?
            .split(['-', '.'])
            .find_map(|part| part.parse::<u64>().ok())
    };
    let last = fs::read_dir(&db)
        .expect("the database")
        .filter_map(number)
        .max();
    let last = last.expect("files of the database");
    let logs = (1..=24).map(|more| db.join(format!("{:06}.log", last + more)));
    let logs: Vec<PathBuf> = logs.collect();
    with_steps(job, |job| job.killed_in(call, at, &logs, arguments))
}

/// What a job has made of its input.
#[derive(PartialEq)]
struct Outcome {
    output: String,
    state: String,
    positions: Vec<Value>,
}

impl Outcome {
    fn of(job: &Job) -> Outcome {
        let mut positions = job.json(&["offsets", "show"]);
        for position in &mut positions {
            // How many epochs it took is not the same.
            let epoch = position
                .as_object_mut()
                .and_then(|fields| fields.remove("epoch"));
            assert!(epoch.is_some_and(|epoch| epoch.as_u64() > Some(0)));
        }
        Outcome {
            output: match job.path("out").is_dir() {
                true => job.text("out/out-0-0"),
                false => job.log("out"),
            },
            state: job.state("counts"),
            positions,
        }
    }

    #[track_caller]
    fn is(&self, other: &Outcome) {
        assert_eq!(self.positions, other.positions);
        assert_eq!(self.state, other.state);
        let lines = self.output.lines().zip(other.output.lines());
        if let Some((ours, theirs)) = lines.clone().find(|(ours, theirs)| ours != theirs) {
            panic!("the output differs: {ours:?} instead of {theirs:?}");
        }
        assert!(self.output == other.output, "one output is longer");
        assert!(!self.output.is_empty());
    }
}

/// Slow enough for all of the kills.
const MAX_RATE: &str = "max-rate = \"1000/s\"";

fn slowly(text: &str, stream: &str) -> String {
    let stream = format!("[streams.{stream}]\n");
    text.replace(&stream, &format!("{stream}{MAX_RATE}\n"))
}

fn at_full_speed(job: &Job) {
    job.write_job(&job.text("job.toml").replace(MAX_RATE, ""));
}

/// More than is read in the time that the kills take.
fn messages() -> usize {
    20_000 + kills() * 1000
}

#[test]
fn kills_of_a_job_from_file_to_file_change_nothing() {
    let mut random = seed("kills_of_a_job_from_file_to_file_change_nothing");
    let text = COUNT_LINES.replace("100ms", "20ms");
    let lines: String = (0..messages())
        .map(|at| format!("k{}\n", at * 31 % 97))
        .collect();
    let mut job = Job::new(&slowly(&text, "lines"));
    job.write("in.txt", lines.as_bytes());
    let schedule = schedule(&[IN_COMMIT, IN_DELIVERY], &mut random);
    kill_at_each(&mut job, &schedule, &["run"], &mut random);
    at_full_speed(&job);
    job.run().expect(0);

    let uninterrupted = Job::new(&text);
    uninterrupted.write("in.txt", lines.as_bytes());
    uninterrupted.run().expect(0);
    Outcome::of(&job).is(&Outcome::of(&uninterrupted));
}

#[test]
fn kills_of_a_job_from_log_to_log_change_nothing() {
    let mut random = seed("kills_of_a_job_from_log_to_log_change_nothing");
    let text = COUNT_LOG.replace("50ms", "20ms");
    let lines: String = (0..messages())
        .map(|at| {
            format!(
                "{{\"timestamp\":{at},\"key\":\"k{}\",\"value\":\"v{at}\"}}\n",
                at * 31 % 97
            )
        })
        .collect();
    let produce = |job: &Job| {
        let done = job.feed(&["log", "produce", "in", "--jsonl"], lines.as_bytes());
        done.expect(0);
    };
    let mut job = Job::new(&slowly(&text, "in"));
    produce(&job);
    let schedule = schedule(&[IN_COMMIT], &mut random);
    kill_at_each(&mut job, &schedule, &["run"], &mut random);
    at_full_speed(&job);
    job.call(&["run", "--until-idle"]).expect(0);

    let uninterrupted = Job::new(&text);
    produce(&uninterrupted);
    uninterrupted.call(&["run", "--until-idle"]).expect(0);
    Outcome::of(&job).is(&Outcome::of(&uninterrupted));
}

fn obey() -> String {
    let text = one_partition("{guest:obey}").replace("50ms", "20ms");
    text.replace("[stage.stores", "batch-messages = 3\n[stage.stores")
}

#[test]
fn kills_during_a_guest_call_change_nothing() {
    let job = Job::new(&obey());
    let (mut lines, mut hit, mut round) = (Vec::new(), 0, 0);
    let produce = |job: &Job, lines: &[String]| {
        let text: String = lines
            .iter()
            .map(|line| format!("{{\"timestamp\":5,\"value\":\"{line}\"}}\n"))
            .collect();
        job.feed(&["log", "produce", "in", "--jsonl"], text.as_bytes())
            .expect(0);
    };
    while hit < at_each() {
        round += 1;
        assert!(round <= 3 * at_each(), "{hit} kills hit a call");
        let more = [
            "one",
            "two",
            &format!("say round {round}"),
            "sleep 700",
            "five",
        ];
        let more = more.map(str::to_owned);
        produce(&job, &more);
        lines.extend(more);
        let running = job.start();
        wait_until("the guest sleeps", || {
            running.stderr().contains(&format!("round {round} task="))
        });
        running.kill();
        // The batch of the message that sleeps is in no checkpoint.
        let position = Found::of(&job).and_then(|found| found.positions.get("count/0").copied());
        let slept = position > Some(lines.len() as u64 - 2);
        hit += usize::from(!slept);
    }
    println!("{hit} kills in a call");
    job.call(&["run", "--until-idle"]).expect(0);

    let uninterrupted = Job::new(&obey());
    produce(&uninterrupted, &lines);
    uninterrupted.call(&["run", "--until-idle"]).expect(0);
    Outcome::of(&job).is(&Outcome::of(&uninterrupted));
}

/// A job that has read one message, and three large ones that it is to send on in one write; and their texts.
fn before_a_large_write(settings: &str) -> (Job, Vec<String>) {
    let text = obey().replace("20ms\"", &format!("500ms\"\n{settings}"));
    let job = Job::new(&text);
    job.feed(&["log", "produce", "in"], b"one\n").expect(0);
    job.call(&["run", "--until-idle"]).expect(0);
    let large: Vec<String> = (0..3).map(|at| at.to_string().repeat(900_000)).collect();
    job.feed(&["log", "produce", "in"], large.join("\n").as_bytes())
        .expect(0);
    (job, large)
}

fn after_a_large_write(job: &Job, large: &[String]) {
    job.call(&["run", "--until-idle"]).expect(0);
    let large = large
        .iter()
        .zip(2..)
        .map(|(text, count)| format!("{text} {count}"));
    let expected: Vec<String> = std::iter::once("one 1".to_owned()).chain(large).collect();
    assert!(job.values("out") == expected, "the output differs");
}

#[test]
fn kills_during_a_large_write_change_nothing() {
    // Without syncs all of it is in the database's log.
    let (mut job, large) = before_a_large_write("durability = \"process\"");
    let before = Found::of(&job).expect("a state directory").epoch();
    // After the mark of unsynced writes, the first 1 MiB is in the log.
    for _ in 0..3 {
        kill_in_log("write", 3, &mut job, &["run", "--until-idle"]);
        assert_eq!(job.text("steps.log").lines().last(), Some("commit.write"));
        let found = Found::of(&job).expect("a state directory");
        assert_eq!(found.epoch(), before);
    }
    after_a_large_write(&job, &large);
}

#[test]
fn kills_during_a_write_to_a_segment_change_nothing() {
    let (mut job, large) = before_a_large_write("");
    let before = Found::of(&job).expect("a state directory").epoch();
    let segment = state_dir(&job).expect("a state directory");
    let segment = [segment.join("segments/000000000001")];
    for (call, at, step) in [
        ("pwrite64", 1, "log.write"),
        ("pwrite64", 2, "log.write"),
        ("fdatasync", 1, "log.sync"),
        ("pwrite64", 2, "log.write"),
    ] {
        let run = ["run", "--until-idle"];
        with_steps(&mut job, |job| job.killed_in(call, at, &segment, &run));
        assert_eq!(job.text("steps.log").lines().last(), Some(step));
        let found = Found::of(&job).expect("a state directory");
        assert_eq!(found.epoch(), before);
        assert_eq!(found.phase(), Phase::Between);
    }
    after_a_large_write(&job, &large);
}
