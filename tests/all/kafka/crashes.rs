//! A crash before each step of delivery and recovery, and then another in the recovery.

use std::collections::BTreeMap;

use super::broker::Record;
use super::{Between, COUNTS};
use crate::crash::STEPS_OF_KAFKA;
use crate::harness::{Job, KILLED};

const KEYS: usize = 5;
const MESSAGES: usize = 120;
const SIDE_BY_SIDE: usize = 4;

/// A job that takes some epochs for its input, and must come to the same whatever happens.
pub(super) struct Run {
    pub(super) between: Between,
    pub(super) job: Job,
}

impl Run {
    fn new() -> Option<Run> {
        Some(Run::of(Between::new("crash", 2)?))
    }

    pub(super) fn of(between: Between) -> Run {
        let keys: Vec<String> = (0..MESSAGES)
            .map(|at| format!("{}-k{}", between.name, at % KEYS))
            .collect();
        let records = keys.iter().enumerate().map(|(at, key)| Record {
            partition: i32::from(at % KEYS > 2),
            value: Some(key.as_bytes()),
            ..Record::default()
        });
        between.broker.write(&between.input, records);
        let settings = "[checkpoint]\ninterval = \"30ms\"\nearly = false";
        let input = "until = \"end\"\nmax-rate = \"600/s\"";
        let job = between.job(settings, input, COUNTS).with_steps();
        Run { between, job }
    }

    /// Runs it until a step, before which it is ended. Returns the steps, if it came so far.
    fn crash(&mut self, at: &str) -> Option<Vec<String>> {
        let log = self.job.path("steps.log");
        let _ = std::fs::remove_file(&log);
        self.job.env("STEPS_LOG", log.to_str().expect("UTF-8"));
        self.job.env("STEPS_ABORT", at);
        let done = self.job.run();
        self.job.clear_env();
        if done.code == 0 {
            return None;
        }
        assert_eq!(done.code, KILLED, "{}", done.stderr);
        let steps = self.job.text("steps.log");
        Some(steps.lines().map(str::to_owned).collect())
    }

    /// Runs it to its end.
    pub(super) fn finish(&self, what: &str) {
        let text = self
            .job
            .text("job.toml")
            .replace("max-rate = \"600/s\"", "");
        self.job.write_job(&text);
        println!("{}: {what}", self.between.name);
        self.job.run().expect(0);
    }
}

/// Each key of each run has each count once, in order: nothing is lost, repeated or out of order.
pub(super) fn judge(runs: &[Run]) {
    let Some(first) = runs.first() else { return };
    let topics: Vec<&str> = runs.iter().map(|run| run.between.output.as_str()).collect();
    let mut counts: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for line in first.between.broker.committed_of(&topics, &[]) {
        let value = line.rsplit('\t').next().unwrap_or_default();
        if let Some((key, count)) = value.split_once(' ') {
            let counts = counts.entry(key.to_owned()).or_default();
            counts.push(count.parse().expect("a count"));
        }
    }
    let expected: Vec<usize> = (1..=MESSAGES / KEYS).collect();
    for run in runs {
        for key in 0..KEYS {
            let key = format!("{}-k{key}", run.between.name);
            assert_eq!(counts.get(&key), Some(&expected), "{key}");
        }
    }
}

/// A run that is ended before a step, after it was ended before another if `first` says so, and goes on to its end. Returns the steps of
/// the last start that was ended, if it was.
fn crashed(first: Option<&str>, number: usize) -> Option<(Run, Option<Vec<String>>)> {
    let mut run = Run::new()?;
    if let Some(first) = first {
        assert!(run.crash(first).is_some(), "{first}");
    }
    let steps = run.crash(&number.to_string());
    let last = steps.as_ref().and_then(|steps| steps.last());
    run.finish(&format!(
        "crashes before {first:?} and step {number}: {last:?}"
    ));
    Some((run, steps))
}

/// They mostly wait: for brokers, and for tools of Kafka.
pub(super) fn side_by_side<I: Send, T: Send>(
    of: impl IntoIterator<Item = I>,
    run: impl Fn(I) -> T + Sync,
) -> Vec<T> {
    let run = &run;
    std::thread::scope(|scope| {
        let started: Vec<_> = of
            .into_iter()
            .map(|each| scope.spawn(move || run(each)))
            .collect();
        let done = started.into_iter().map(|each| each.join());
        done.map(|done| done.expect("it does not fail")).collect()
    })
}

#[test]
fn a_crash_before_any_step_loses_and_repeats_nothing() {
    let mut runs = Vec::new();
    let mut names = std::collections::BTreeSet::new();
    let mut is_last = false;
    for first in (1..).step_by(SIDE_BY_SIDE) {
        for done in side_by_side(first..first + SIDE_BY_SIDE, |number| crashed(None, number)) {
            let Some((run, steps)) = done else { return };
            runs.push(run);
            let steps = steps.unwrap_or_default();
            names.extend(steps.last().cloned());
            let delivered = steps.iter().filter(|step| *step == "kafka.committed");
            // The third delivery is done as the second was; and the job may have come to its end.
            is_last |= steps.is_empty() || delivered.count() >= 2;
        }
        if is_last {
            break;
        }
    }
    for step in STEPS_OF_KAFKA {
        assert!(names.contains(step), "{step} of {names:?}");
    }
    judge(&runs);
}

#[test]
fn a_crash_in_the_recovery_from_another_loses_and_repeats_nothing() {
    let crashes = [
        "commit.witness:3",
        "kafka.send:2",
        "kafka.commit:2",
        "kafka.committed:2",
    ];
    let runs = side_by_side(crashes, |first| {
        let mut runs = Vec::new();
        for number in 1.. {
            let Some((run, steps)) = crashed(Some(first), number) else {
                break;
            };
            runs.push(run);
            let steps = steps.unwrap_or_default();
            if steps.is_empty() || steps.iter().any(|step| step == "commit.publish") {
                break;
            }
        }
        runs
    });
    judge(&runs.into_iter().flatten().collect::<Vec<_>>());
}
