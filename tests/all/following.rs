//! Files that are followed while they are rotated, deleted, and more than can be open at a time.

use std::fs;
use std::io::Write as _;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;

use crate::harness::{Job, Running, wait_until};
use crate::jobs::COUNT_LINES;

/// Lines of files that match through a guest that sends each on, with a count.
fn following(path: &str) -> Job {
    let text = COUNT_LINES
        .replace(
            "path = \"in.txt\"",
            &format!("path = \"{path}\"\nfollow = true"),
        )
        .replace("{guest:counter}", "{guest:obey}");
    Job::new(&text)
}

fn lines(job: &Job) -> Vec<String> {
    let text = job.text("out/out-0-0");
    let line = |line: &str| line.rsplit_once(' ').expect("a count").0.to_owned();
    text.lines().map(line).collect()
}

fn sorted(job: &Job) -> Vec<String> {
    let mut lines = lines(job);
    lines.sort();
    lines
}

/// The files that lines are from, in their order, and how many lines in a row.
fn runs(lines: &[String]) -> Vec<(&str, usize)> {
    let file = |line: &String| line.split('/').next().expect("a file").to_owned();
    let runs = lines.chunk_by(|a, b| file(a) == file(b));
    runs.map(|run| (run[0].as_str(), run.len())).collect()
}

/// `count` different lines.
fn some(name: &str, count: usize) -> String {
    (0..count).map(|at| format!("{name}/{at:05}\n")).collect()
}

fn expected(files: &[(&str, usize)]) -> Vec<String> {
    let all: String = files
        .iter()
        .map(|(name, count)| some(name, *count))
        .collect();
    let mut lines: Vec<String> = all.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Renames as logrotate does, the oldest first.
fn rotate(job: &Job, name: &str, kept: usize) {
    for number in (1..kept).rev() {
        let from = job.path(&format!("{name}.{number}"));
        if from.exists() {
            fs::rename(from, job.path(&format!("{name}.{}", number + 1))).expect("a rename");
        }
    }
    fs::rename(job.path(name), job.path(&format!("{name}.1"))).expect("a rename");
}

#[test]
fn a_lagging_reader_loses_no_rotated_file() {
    let job = following("app.log");
    let text = job.text("job.toml");
    job.write_job(&text.replace("follow = true", "follow = true\nmax-rate = \"1000/s\""));
    // It was rotated away before the job was there, and is none of the stream's.
    job.write("app.log.1", b"foreign\n");
    job.write("app.log", some("a", 800).as_bytes());
    let running = job.answering();
    wait_until("it reads", || !lines(&job).is_empty());
    for name in ["b", "c", "d"] {
        rotate(&job, "app.log", 9);
        job.write("app.log", some(name, 800).as_bytes());
    }
    assert!(lines(&job).len() < 800, "the reader did not lag");
    wait_until("all lines are out", || lines(&job).len() >= 3200);
    running.terminate().expect(0);
    let all = [("a", 800), ("b", 800), ("c", 800), ("d", 800)];
    assert_eq!(sorted(&job), expected(&all));
    assert!(
        lines(&job).is_sorted(),
        "in the order of the rotations: {:?}",
        runs(&lines(&job))
    );
}

#[test]
fn rotations_that_nobody_looked_at_are_found() {
    let job = following("app.log");
    job.write("app.log", b"a/00000\n");
    let running = job.answering();
    wait_until("it reads", || lines(&job).len() == 1);
    running.signal(Signal::STOP);
    for name in ["b", "c", "d"] {
        rotate(&job, "app.log", 9);
        job.write("app.log", some(name, 3).as_bytes());
    }
    // One that is gone altogether cannot be read any more.
    job.write("lost", b"lost\n");
    fs::rename(job.path("lost"), job.path("app.log.lost")).expect("a rename");
    rotate(&job, "app.log", 9);
    job.write("app.log", b"gone\n");
    fs::remove_file(job.path("app.log")).expect("the file");
    job.write("app.log", b"e/00000\n");
    running.signal(Signal::CONT);
    wait_until("all are found", || lines(&job).len() >= 11);
    let done = running.terminate().expect(0);
    let all = [("a", 1), ("b", 3), ("c", 3), ("d", 3), ("e", 1)];
    assert_eq!(sorted(&job), expected(&all));
    done.says("app.log: a file had this name and was gone before it could be read");
}

#[test]
fn a_rotation_that_may_have_been_missed_is_logged() {
    let job = following("app.log");
    job.write("app.log", some("a", 3).as_bytes());
    job.call(&["run", "--until-idle"]).expect(0);
    job.append("app.log", b"a/00003\n");
    rotate(&job, "app.log", 9);
    job.write("app.log", some("b", 3).as_bytes());
    job.call(&["run", "--until-idle"])
        .expect(0)
        .says("may have been missed")
        .says("app.log*");
    assert_eq!(sorted(&job), expected(&[("a", 4), ("b", 3)]));
    // A pattern that matches both names misses nothing, and there is no warning.
    let job = following("app.log*");
    job.write("app.log", some("a", 3).as_bytes());
    job.call(&["run", "--until-idle"]).expect(0);
    for name in ["b", "c"] {
        rotate(&job, "app.log", 9);
        job.write("app.log", some(name, 3).as_bytes());
    }
    let done = job.call(&["run", "--until-idle"]).expect(0);
    assert!(!done.stderr.contains("missed"), "{}", done.stderr);
    assert_eq!(sorted(&job), expected(&[("a", 3), ("b", 3), ("c", 3)]));
}

#[test]
fn what_was_read_to_its_end_may_go() {
    for path in ["app.log", "app.log*"] {
        let job = following(path);
        job.write("app.log", some("a", 3).as_bytes());
        job.call(&["run", "--until-idle"]).expect(0);
        fs::remove_file(job.path("app.log")).expect("the file");
        job.call(&["run", "--until-idle"])
            .expect(0)
            .says("whether it had more when it went is not known");
        job.write("app.log", some("b", 3).as_bytes());
        let running = job.answering();
        wait_until("the new one is read", || lines(&job).len() == 6);
        // While the job runs, nothing is lost, and nothing is to be said.
        job.write("new", some("c", 3).as_bytes());
        fs::rename(job.path("new"), job.path("app.log")).expect("a rename");
        wait_until("the third is read", || lines(&job).len() == 9);
        running.kill();
        job.call(&["run", "--until-idle"]).expect(0);
        assert_eq!(sorted(&job), expected(&[("a", 3), ("b", 3), ("c", 3)]));
    }
}

#[test]
fn what_was_not_read_to_its_end_must_not_go() {
    let job = following("app.log");
    job.write("app.log", b"a/00000\nhalf");
    job.call(&["run", "--until-idle"]).expect(0);
    fs::remove_file(job.path("app.log")).expect("the file");
    job.call(&["run", "--until-idle"])
        .expect(3)
        .says("it was read in part, up to byte 8, and is gone");
}

#[test]
fn what_was_read_and_not_committed_before_its_file_went_is_lost_only_if_it_may_be() {
    let job = following("app.log");
    let text = job.text("job.toml").replace("100ms", "1h");
    job.write_job(&text);
    let read = |count: usize| {
        wait_until("it reads", || {
            job.json(&["status"])[0]["tasks"][0]["processed"] == count
        });
    };
    job.write("app.log", (some("a", 3) + "half").as_bytes());
    let running = job.answering();
    read(3);
    job.call(&["checkpoint", "trigger"]).expect(0);
    job.append("app.log", b" a line\nb/00000\n");
    read(5);
    fs::remove_file(job.path("app.log")).expect("the file");
    running.kill();
    // The record shows that there was more, but not how much.
    for _ in 0..2 {
        job.call(&["run", "--until-idle"])
            .expect(3)
            .says("app.log: it was read in part, up to byte 24, and is gone")
            .says("set `drop-unread = true` to go on without the rest");
        assert_eq!(sorted(&job), expected(&[("a", 3)]));
    }
    job.write_job(&text.replace("follow = true", "follow = true\ndrop-unread = true"));
    job.write("app.log", some("c", 2).as_bytes());
    job.call(&["run", "--until-idle"])
        .expect(0)
        .says("read in part, up to byte 24. What it had after that and was not committed is lost");
    assert_eq!(sorted(&job), expected(&[("a", 3), ("c", 2)]));
    // It is logged once, and a stricter job has nothing left to refuse.
    job.write_job(&text);
    let done = job.call(&["run", "--until-idle"]).expect(0);
    assert!(!done.stderr.contains("lost"), "{}", done.stderr);
}

#[test]
fn a_partition_remembers_the_end_that_belongs_to_another() {
    let job = keyed("app.log*", 3, "100ms");
    let text: String = (0..300)
        .map(|n| format!("{{\"k\":\"x\",\"n\":{n}}}\n"))
        .collect();
    job.write("app.log", text.as_bytes());
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(numbers(&job, 3).len(), 300);
    fs::remove_file(job.path("app.log")).expect("the file");
    job.call(&["run", "--until-idle"]).expect(0);
}

/// JSON lines by key through a guest that sends each on.
fn keyed(path: &str, partitions: u32, interval: &str) -> Job {
    Job::new(&format!(
        r#"
[job]
name = "keyed"
[checkpoint]
interval = "{interval}"
[streams.in]
system = "file"
path = "{path}"
format = "jsonl"
key = "k"
partitions = {partitions}
follow = true
[streams.out]
system = "file"
path = "out"
partitions = {partitions}
[[stage]]
name = "keyed"
component = "{{guest:raw_relay}}"
inputs = ["in"]
outputs = ["out"]
[stage.stores.counts]
type = "rocksdb"
"#
    ))
}

/// The numbers of the lines that are out.
fn numbers(job: &Job, partitions: u32) -> Vec<u64> {
    let mut numbers = Vec::new();
    for partition in 0..partitions {
        let text = job.text(&format!("out/out-{partition}-0"));
        // A delivery may be under way.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for line in whole.lines() {
            let (_, number) = line.rsplit_once("\"n\":").expect("a number");
            numbers.push(number.trim_end_matches('}').parse().expect("a number"));
        }
    }
    numbers
}

#[test]
fn more_files_are_followed_than_can_be_open() {
    let job = keyed("in/*.jsonl", 4, "100ms");
    let line = |n: usize| format!("{{\"k\":\"{}\",\"n\":{n}}}\n", n % 97);
    for at in 0..2000 {
        job.write(&format!("in/{at}.jsonl"), line(at).as_bytes());
    }
    let running = job.limited(1024);
    wait_until("all are read", || numbers(&job, 4).len() == 2000);
    // Closed files grow, are renamed and grow again.
    for at in 0..2000 {
        let (name, renamed) = (format!("in/{at}.jsonl"), format!("in/{at}.old"));
        job.append(&name, line(2000 + at).as_bytes());
        if at % 4 == 0 {
            fs::rename(job.path(&name), job.path(&renamed)).expect("a rename");
            job.append(&renamed, line(4000 + at).as_bytes());
        }
    }
    wait_until("all is read", || numbers(&job, 4).len() == 4500);
    running.kill();
    let running = job.limited(256);
    job.write("in/last.jsonl", line(9999).as_bytes());
    wait_until("the last is read", || numbers(&job, 4).len() == 4501);
    running.terminate().expect(0);
    let mut all = numbers(&job, 4);
    all.sort_unstable();
    let mut expected: Vec<u64> = (0..4000).chain((4000..6000).step_by(4)).collect();
    expected.push(9999);
    assert!(all == expected, "{} numbers", all.len());
}

#[test]
fn two_hundred_partitions_follow_a_file() {
    let job = keyed("in.jsonl", 200, "100ms");
    let line = |n: usize| format!("{{\"k\":\"{n}\",\"n\":{n}}}\n");
    job.write(
        "in.jsonl",
        (0..1000).map(line).collect::<String>().as_bytes(),
    );
    let running = job.limited(256);
    wait_until("all is read", || numbers(&job, 200).len() == 1000);
    job.append("in.jsonl", line(1000).as_bytes());
    wait_until("the last is read", || numbers(&job, 200).len() == 1001);
    running.terminate().expect(0);
}

#[test]
fn many_files_are_read_in_time_that_grows_with_their_number() {
    let text = COUNT_LINES
        .replace("in.txt", "in/*.txt")
        .replace("{guest:counter}", "{guest:obey}");
    let job = Job::new(&text);
    for at in 0..8000 {
        job.write(&format!("in/{at:04}.txt"), format!("{at:04}\n").as_bytes());
    }
    let began = Instant::now();
    job.run().expect(0);
    let first = began.elapsed();
    let expected: Vec<String> = (0..8000).map(|at| format!("{at:04}")).collect();
    assert!(
        lines(&job) == expected,
        "the order of bounded inputs is by name"
    );
    job.append("in/0000.txt", b"more\n");
    let began = Instant::now();
    job.run().expect(0);
    let second = began.elapsed();
    assert_eq!(lines(&job).len(), 8001);
    println!("{first:?}, again {second:?}");
    assert!(first < Duration::from_secs(12), "{first:?}");
    assert!(second < Duration::from_secs(6), "{second:?}");
}

/// A log that is written and rotated while a job follows it, and what was written to it.
struct Soak {
    job: Job,
    running: Option<Running>,
    random: StdRng,
    /// A pattern fits the renamed files too, so that rotations may happen while the job does not run.
    literal: bool,
    log: fs::File,
    next: u64,
    /// The greatest number in each generation that is still there, the newest last.
    generations: Vec<u64>,
    renames: usize,
    deleted: usize,
}

const PARTITIONS: u32 = 3;
const KEPT: usize = 12;

impl Soak {
    fn new(literal: bool, random: StdRng) -> Soak {
        let path = if literal { "app.log" } else { "app.log*" };
        let job = keyed(path, PARTITIONS, "20ms");
        job.write("app.log", b"");
        let log = fs::File::options().append(true).open(job.path("app.log"));
        Soak {
            log: log.expect("the log"),
            running: None,
            random,
            literal,
            job,
            next: 0,
            generations: vec![0],
            renames: 0,
            deleted: 0,
        }
    }

    fn write(&mut self, lines: u64) {
        let line = |n: u64| format!("{{\"k\":\"{}\",\"n\":{n}}}\n", n % 41);
        let text: String = (self.next..self.next + lines).map(line).collect();
        self.log.write_all(text.as_bytes()).expect("it is written");
        self.next += lines;
        *self.generations.last_mut().expect("a generation") = self.next;
    }

    fn rotate(&mut self) {
        rotate(&self.job, "app.log", KEPT);
        self.renames += self.generations.len();
        // The writer notices only now, and has written to the old file meanwhile.
        let lines = self.random.random_range(0..30);
        self.write(lines);
        let mut options = fs::File::options();
        let options = options.append(true).create_new(true);
        self.log = options.open(self.job.path("app.log")).expect("a new log");
        self.generations.push(self.next);
    }

    fn start(&mut self) {
        self.running = Some(self.job.answering());
        self.write(1);
        // From here on the present file is known.
        self.catch_up();
    }

    /// Waits until all that was written is out.
    fn catch_up(&mut self) {
        let running = self.running.as_mut().expect("it runs");
        let (job, next) = (&self.job, self.next);
        wait_until("all is out", || {
            assert!(running.is_running(), "it ended: {}", running.stderr());
            numbers(job, PARTITIONS).len() as u64 >= next
        });
        self.check();
    }

    fn check(&self) {
        let mut numbers = numbers(&self.job, PARTITIONS);
        numbers.sort_unstable();
        let unique = numbers.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(unique, "a line is out twice");
        assert!(
            numbers.iter().copied().eq(0..self.next),
            "a line is missing"
        );
    }

    /// Waits until each partition has read all there is, and has recorded it.
    fn record(&mut self) {
        self.catch_up();
        let job = &self.job;
        wait_until("each partition has read all", || {
            let status = job.json(&["status"]).remove(0);
            let tasks = status["tasks"].as_array().expect("tasks").iter();
            let read = |task: &serde_json::Value| {
                let progress = &task["inputs"][0]["progress"];
                progress["done"] == progress["total"]
            };
            tasks.filter(|task| read(task)).count() == PARTITIONS as usize
        });
        // What a reader found is with its task when the second is taken.
        for _ in 0..2 {
            job.call(&["checkpoint", "trigger"]).expect(0);
        }
    }

    /// Deletes old files.
    fn delete(&mut self) {
        self.record();
        while self.generations.len() > 2 {
            let name = format!("app.log.{}", self.generations.len() - 1);
            fs::remove_file(self.job.path(&name)).expect("an old file");
            self.generations.remove(0);
            self.deleted += 1;
        }
    }

    fn step(&mut self) {
        let lines = self.random.random_range(0..400);
        self.write(lines);
        if self.generations.len() >= KEPT - 4 {
            self.delete();
        }
        let rotations = self.random.random_range(1..4);
        match self.random.random_range(0..5) {
            0 => {
                let running = self.running.as_ref().expect("it runs");
                running.signal(Signal::STOP);
                for _ in 0..rotations {
                    self.rotate();
                    self.write(lines / 2);
                }
                self.running.as_ref().expect("it runs").signal(Signal::CONT);
            }
            1 => {
                // What has none of the stream's names is known after a kill only if it was recorded.
                if self.literal {
                    self.record();
                }
                self.running.take().expect("it runs").kill();
                for _ in 0..if self.literal { 1 } else { rotations } {
                    self.rotate();
                    self.write(lines / 2);
                }
                self.start();
            }
            2 => {
                if self.literal {
                    self.record();
                }
                self.rotate();
                self.running.take().expect("it runs").kill();
                self.write(lines / 2);
                self.start();
            }
            _ => {
                for _ in 0..rotations {
                    self.rotate();
                    self.write(lines / 2);
                }
            }
        }
    }

    /// Copies the log and truncates it: the job must refuse to go on.
    fn copy_and_truncate(mut self) {
        // An empty one cannot be truncated.
        self.write(1);
        self.catch_up();
        fs::copy(self.job.path("app.log"), self.job.path("copy")).expect("a copy");
        self.log.set_len(0).expect("it is truncated");
        let running = self.running.take().expect("it runs");
        running
            .ends()
            .expect(3)
            .says("it was truncated or replaced");
        self.check();
    }
}

#[test]
fn every_line_comes_once_whatever_becomes_of_its_file() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().expect(name))
    };
    let renames = number("SOAK_RENAMES").unwrap_or(120) as usize;
    let seed = number("SOAK_SEED").unwrap_or_else(|| rand::random::<u32>().into());
    println!("following: SOAK_SEED={seed}");
    for literal in [false, true] {
        let mut soak = Soak::new(literal, StdRng::seed_from_u64(seed));
        soak.write(10);
        soak.start();
        while soak.renames < renames / 2 || soak.deleted == 0 {
            soak.step();
        }
        soak.catch_up();
        let (renames, deleted, lines) = (soak.renames, soak.deleted, soak.next);
        println!("{renames} renames, {deleted} deleted, {lines} lines");
        soak.copy_and_truncate();
    }
}

#[test]
fn an_unfinished_line_that_is_too_long_is_logged() {
    let job = Job::new(&crate::jobs::COUNT_LINES.replace(
        "[streams.out]",
        "follow = true\nrecord-bytes = \"1kB\"\n[streams.out]",
    ));
    job.write("in.txt", b"a\n");
    let mut running = job.start();
    wait_until("the first line is out", || {
        job.text("out/out-0-0") == "a 1\n"
    });
    job.append("in.txt", "x".repeat(5_000).as_bytes());
    running.until_says(
        "in.txt, line 2: it has 5000 bytes so far, more than `record-bytes` = 1000, and no end",
    );
    running.terminate().expect(0);
}
