//! Jobs that are ended before a step and started again, and what must come of them.

use std::collections::BTreeMap;
use std::fs;

use crate::harness::{Job, KILLED};

/// File to file.
const FILES: &str = r#"
[job]
name = "crash"
disk-reserve = "1MiB"
[checkpoint]
interval = "15ms"
[streams.lines]
system = "file"
path = "in.txt"
format = "lines"
max-rate = "2000/s"
[streams.out]
system = "file"
path = "out"
format = "lines"
[[stage]]
name = "count"
component = "{guest:counter}"
inputs = ["lines"]
outputs = ["out"]
batch-messages = 20
[stage.stores.counts]
type = "rocksdb"
"#;

/// File to log, with dead letters in another.
const LOGS: &str = r#"
[job]
name = "crash"
disk-reserve = "1MiB"
[checkpoint]
interval = "15ms"
[streams.lines]
system = "file"
path = "in.txt"
format = "lines"
max-rate = "2000/s"
[streams.out]
system = "log"
[streams.rejected]
system = "log"
[[stage]]
name = "count"
component = "{guest:obey}"
inputs = ["lines"]
outputs = ["out"]
batch-messages = 20
on-rejected = "dead-letter"
dead-letters = "rejected"
[stage.stores.counts]
type = "rocksdb"
"#;

/// What a log keeps in a job over segments.
const KEEPS: &str = "retention = { bytes = \"1kB\" }";

const MAX_RATE: &str = "max-rate = \"2000/s\"";

/// A job over a file of lines, and what must come of it.
#[derive(Clone, Copy)]
pub(super) struct Case {
    pub(super) text: &'static str,
    pub(super) lines: usize,
    /// There is a folder for the state, as a mount point is.
    pub(super) in_place: bool,
    /// The logs are in segments, each of some epochs, and one of them is kept in part.
    pub(super) segments: bool,
}

/// Enough that chains of crashes do not come to their end.
pub(super) const FROM_FILE_TO_FILE: Case = Case {
    text: FILES,
    lines: 3000,
    in_place: false,
    segments: false,
};
pub(super) const FROM_FILE_TO_LOGS: Case = Case {
    text: LOGS,
    lines: 3000,
    in_place: false,
    segments: false,
};
pub(super) const FROM_FILE_TO_SEGMENTS: Case = Case {
    segments: true,
    ..FROM_FILE_TO_LOGS
};

impl Case {
    fn line(self, at: usize) -> String {
        // Where segments have dead letters and where they have none, they go in part or as a whole.
        let may_reject = self.text == LOGS && !(self.segments && at / 600 % 2 == 1);
        // Room is freed in blocks of 4 KiB.
        let more = if self.segments { 250 } else { 0 };
        match may_reject && at % 10 == 3 {
            true => format!("reject line {at}"),
            false => format!("k{}{}", at * 7 % 23, "x".repeat(more)),
        }
    }

    pub(super) fn job(self) -> Job {
        let mut job = Job::new(self.text).with_steps();
        if self.segments {
            let keeping = format!("[streams.out]\n{KEEPS}");
            job.write_job(&job.text("job.toml").replace("[streams.out]", &keeping));
            job = job.with_env("STEPS_SIZES", "60000:64");
        }
        let lines: String = (0..self.lines).map(|at| self.line(at) + "\n").collect();
        job.write("in.txt", lines.as_bytes());
        if self.in_place {
            let lost = job.path(".wasm-host/crash/lost+found");
            fs::create_dir_all(lost).expect("a folder");
        }
        job
    }

    /// Runs the job to its end at full speed, and compares.
    #[track_caller]
    pub(super) fn finish(self, job: &Job, what: &str) {
        job.write_job(&job.text("job.toml").replace(MAX_RATE, ""));
        job.run().expect(0);
        let position = &job.json(&["offsets", "show"])[0]["position"];
        assert_eq!(position.as_u64(), Some(self.lines as u64), "{what}");
        let (out, rejected, state) = self.expected();
        if self.text == LOGS {
            let (oldest, end) = bounds(job, "out");
            assert_eq!(end, out.len(), "{what}");
            assert!(self.segments || oldest == 0, "{what}: output was deleted");
            assert!(
                job.values("out") == out[oldest..],
                "{what}: the output differs"
            );
            assert_eq!(job.values("rejected"), rejected, "{what}");
        } else {
            let out: String = out.iter().map(|line| format!("{line}\n")).collect();
            assert!(job.text("out/out-0-0") == out, "{what}: the output differs");
        }
        assert_eq!(job.state("counts"), state, "{what}");
    }

    /// Output, dead letters and state.
    fn expected(self) -> (Vec<String>, Vec<String>, String) {
        let mut counts = BTreeMap::new();
        let (mut out, mut rejected) = (Vec::new(), Vec::new());
        for line in (0..self.lines).map(|at| self.line(at)) {
            if line.starts_with("reject") {
                rejected.push(line);
                continue;
            }
            // The guest of the job over logs counts all messages together.
            let key = if self.text == LOGS { "count" } else { &line };
            let count = counts.entry(key.to_owned()).or_insert(0i64);
            *count += 1;
            out.push(format!("{line} {count}"));
        }
        let state = counts
            .iter()
            .map(|(key, count)| format!("{key}\t{}\n", count.to_le_bytes().escape_ascii()));
        (out, rejected, state.collect())
    }
}

/// The first offset of a log that there is, and the one after the last.
fn bounds(job: &Job, stream: &str) -> (usize, usize) {
    let logs = job.json(&["log", "list"]);
    let log = logs.iter().find(|log| log["stream"] == stream);
    let number = |name: &str| log.map_or(0, |log| log[name].as_u64().expect("a number") as usize);
    (number("oldest"), number("end"))
}

/// Runs a command until it aborts before a step: a number, or a name and which of that name. The steps of the run; `None`:
/// the command ended before.
#[track_caller]
pub(super) fn crash_in(job: &mut Job, arguments: &[&str], before: &str) -> Option<Vec<String>> {
    let (done, steps) = watched(job, before, |job| job.call(arguments));
    match done.code {
        KILLED => Some(steps),
        0 => None,
        code => panic!(
            "{arguments:?} before {before}: exit {code}: {}",
            done.stderr
        ),
    }
}

pub fn watched<R>(job: &mut Job, abort: &str, run: impl FnOnce(&Job) -> R) -> (R, Vec<String>) {
    let log = job.path("steps.log");
    let _ = fs::remove_file(&log);
    job.env("STEPS_LOG", log.to_str().expect("UTF-8"));
    // A name alone is the first of it.
    let abort = match abort.contains(':') || abort.parse::<u64>().is_ok() {
        true => abort.to_owned(),
        false => format!("{abort}:1"),
    };
    job.env("STEPS_ABORT", &abort);
    let result = run(job);
    job.clear_env();
    let steps = job.text("steps.log").lines().map(str::to_owned).collect();
    (result, steps)
}

/// Runs a job, which must abort before a step.
#[track_caller]
pub(super) fn crash(job: &mut Job, before: &str) -> String {
    let steps = crash_in(job, &["run"], before);
    let steps = steps.unwrap_or_else(|| panic!("the job ended before {before}"));
    steps.last().expect("a step").clone()
}
