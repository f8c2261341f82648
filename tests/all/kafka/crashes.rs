//! A crash before each step of delivery and recovery, and then another in the recovery.

use std::collections::BTreeMap;

use super::broker::Record;
use super::{Between, COUNTS};
use crate::crash::STEPS_OF_KAFKA;
use crate::harness::{Job, KILLED};

const KEYS: usize = 5;
const MESSAGES: usize = 120;

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

#[test]
fn a_crash_before_any_step_loses_and_repeats_nothing() {
    let mut runs = Vec::new();
    let mut names = std::collections::BTreeSet::new();
    for number in 1.. {
        let Some(mut run) = Run::new() else { return };
        let steps = run.crash(&number.to_string());
        let last = steps.as_ref().and_then(|steps| steps.last().cloned());
        run.finish(&format!("a crash before step {number}: {last:?}"));
        runs.push(run);
        let Some(steps) = steps else { break };
        names.extend(last);
        // The third delivery is done as the second was.
        if steps
            .iter()
            .filter(|step| *step == "kafka.committed")
            .count()
            == 2
        {
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
    let mut runs = Vec::new();
    let crashes = [
        "commit.witness:3",
        "kafka.send:2",
        "kafka.commit:2",
        "kafka.committed:2",
    ];
    for first in crashes {
        for number in 1.. {
            let Some(mut run) = Run::new() else { return };
            assert!(run.crash(first).is_some(), "{first}");
            let steps = run.crash(&number.to_string());
            let last = steps.as_ref().and_then(|steps| steps.last().cloned());
            run.finish(&format!("crashes before {first} and {number}: {last:?}"));
            runs.push(run);
            let Some(steps) = steps else { break };
            if steps.iter().any(|step| step == "commit.publish") {
                break;
            }
        }
    }
    judge(&runs);
}
