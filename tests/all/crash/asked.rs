//! A crash before each step of what a person asks for about dead letters and held tasks: it is done, or it is not, and asked again it is done
//! once.

use std::collections::BTreeMap;

use super::Aborted;
use super::case::watched;
use crate::harness::{Job, KILLED, wait_until};
use crate::jobs::{one_partition, with_dead};

/// Two messages fail as long as a file is not there.
const LINES: &str = "a\npanic-without /here/there\nb\npanic-without /here/there\n";

struct Asked {
    command: &'static [&'static str],
    /// What becomes of messages at fault.
    on_fault: &'static str,
    /// The output in the end, without counts, in its order.
    out: &'static [&'static str],
    /// What became of each letter in the end.
    letters: &'static [&'static str],
}

const BAD: &str = "panic-without /here/there";

const ALL: [Asked; 4] = [
    Asked {
        command: &["dlq", "replay"],
        on_fault: "dead-letter",
        out: &["a", "b", BAD, BAD],
        letters: &["done", "done"],
    },
    Asked {
        command: &["dlq", "drop", "dead/0/0"],
        on_fault: "dead-letter",
        out: &["a", "b"],
        letters: &["dropped", "open"],
    },
    Asked {
        command: &["task", "skip", "count/0"],
        on_fault: "fail",
        // The second one passes: the file is there by then.
        out: &["a", "b", BAD],
        letters: &["open"],
    },
    Asked {
        command: &["task", "resume", "count/0", "--past", "10"],
        on_fault: "fail",
        out: &["a", BAD, "b", BAD],
        letters: &[],
    },
];

impl Asked {
    /// A job that has met the messages at fault, and does not run. The guest is mended.
    fn job(&self) -> Job {
        let more = format!(
            "dead-letters = \"dead\"\non-fault = \"{}\"\n[stage.capabilities]\n\
             directories = [{{ host = \"here\", guest = \"/here\" }}]\n[stage.stores.counts]",
            self.on_fault
        );
        let text = one_partition("{guest:obey}").replace("[stage.stores.counts]", &more);
        let job = Job::new(&with_dead(&text)).with_steps();
        std::fs::create_dir(job.path("here")).expect("a folder");
        job.feed(&["log", "produce", "in"], LINES.as_bytes())
            .expect(0);
        let done = job.call(&["run", "--until-idle"]);
        assert!([0, 3].contains(&done.code), "{}", done.stderr);
        job.write("here/there", b"");
        job
    }

    /// It is asked for again, and the job runs to its end.
    fn finish(&self, job: &Job, what: &str) {
        let again = job.call(self.command);
        // A task that was let go on is not held any more.
        assert!([0, 2].contains(&again.code), "{what}: {}", again.stderr);
        job.call(&["run", "--until-idle"]).expect(0);
        let sent = job.values("out");
        let sent: Vec<&str> = sent
            .iter()
            .filter_map(|value| Some(value.rsplit_once(' ')?.0))
            .collect();
        assert_eq!(sent, self.out, "{what}");
        let letters = job.json(&["dlq", "list", "--letters"]);
        let states: Vec<&str> = letters
            .iter()
            .filter_map(|letter| letter["state"].as_str())
            .collect();
        assert_eq!(states, self.letters, "{what}");
    }

    /// Of a job that does not run: a crash before each step of the command.
    fn of_a_stopped_job(&self) -> Aborted {
        let mut aborted = Aborted::new();
        for number in 1.. {
            let mut job = self.job();
            let (done, steps) =
                watched(&mut job, &number.to_string(), |job| job.call(self.command));
            let what = format!(
                "{:?}, crash before step {number} of {steps:?}",
                self.command
            );
            if done.code != KILLED {
                assert_eq!(done.code, 0, "{what}: {}", done.stderr);
                return aborted;
            }
            aborted.extend(steps.last().cloned());
            self.finish(&job, &what);
        }
        aborted
    }

    /// Of a job that runs: a crash of the job before the write, and behind it.
    fn of_a_running_job(&self) -> Aborted {
        let mut aborted = Aborted::new();
        for step in ["append.write", "commit.witness", "commit.publish"] {
            // One of the first few is that of the command; the job's own come before and after it.
            for which in 1..4 {
                let mut job = self.job();
                let at = format!("{step}:{which}");
                let ((), steps) = watched(&mut job, &at, |job| {
                    let mut running = job.start_with(&["run"]);
                    wait_until("it answers, or has crashed", || {
                        !running.is_running() || job.call(&["status"]).code == 0
                    });
                    job.call(self.command);
                    if running.is_running() {
                        running.kill();
                    }
                });
                let what = format!("{:?}, crash of the job before {at}", self.command);
                aborted.extend(steps.last().filter(|last| *last == step).cloned());
                self.finish(&job, &what);
            }
        }
        aborted
    }
}

/// Those of a job that does not run.
fn of_stopped_jobs() -> Aborted {
    ALL.iter().flat_map(Asked::of_a_stopped_job).collect()
}

#[test]
fn what_is_asked_of_a_running_job_is_done_once_whatever_crashes() {
    let mut times: BTreeMap<String, u32> = BTreeMap::new();
    for asked in ALL.iter().filter(|asked| asked.command[0] == "dlq") {
        for step in asked.of_a_running_job() {
            *times.entry(step).or_default() += 1;
        }
    }
    assert!(times.contains_key("append.write"), "{times:?}");
}

#[test]
fn what_is_asked_of_a_stopped_job_is_done_once_whatever_crashes() {
    assert!(of_stopped_jobs().contains("append.write"));
}
