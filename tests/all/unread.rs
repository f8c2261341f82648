//! The output of the host is not read, or its reader goes away. That neither holds up nor ends a job that does not write its
//! results there, and a signal always works.

use std::io::Read;
use std::process::{Child, ChildStderr, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::{Done, Job, wait_until};
use crate::jobs::one_partition;

/// A job with pipes that are not read.
struct Unread {
    child: Child,
    stderr: Option<ChildStderr>,
}

impl Unread {
    fn start(job: &Job) -> Unread {
        let mut child = job
            .command(&["run"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the host can be started");
        let stderr = child.stderr.take();
        Unread { child, stderr }
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process id"), signal).expect("it can be signalled");
    }

    /// Waits until it ends by itself, and no longer than a signal may take.
    #[track_caller]
    fn ends_soon(&mut self) -> Option<i32> {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            match self.child.try_wait().expect("it can be asked") {
                Some(status) => return status.code(),
                None => assert!(Instant::now() < until, "it does not end"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn obey() -> Job {
    Job::new(&one_partition("{guest:obey}"))
}

fn produce(job: &Job, lines: &str) -> Done {
    job.feed(&["log", "produce", "in"], lines.as_bytes())
        .expect(0)
}

/// Whether the job runs and has processed this many messages in all.
fn has_processed(job: &Job, messages: u64) -> bool {
    let done = job.call(&["status", "--json"]);
    let status: Value = serde_json::from_str(&done.stdout).unwrap_or_default();
    status["state"] == "running" && status["tasks"][0]["processed"] == messages
}

/// More than a pipe holds, in lines that one second of a task's log may have.
fn much() -> String {
    format!("say {}\n", "x".repeat(4_000)).repeat(45)
}

#[test]
fn a_reader_of_standard_error_that_goes_away_ends_nothing() {
    let job = obey();
    produce(&job, "one\n");
    let mut running = Unread::start(&job);
    wait_until("it works", || has_processed(&job, 1));
    drop(running.stderr.take());
    produce(&job, &format!("say more\n{}two\n", much()));
    wait_until("it goes on", || job.values("out").len() == 2);
    running.signal(Signal::TERM);
    assert_eq!(running.ends_soon(), Some(0));
    assert_eq!(job.values("out"), ["one 1", "two 2"]);
}

#[test]
fn a_reader_of_standard_error_that_is_stuck_holds_up_nothing() {
    let job = obey();
    produce(&job, &format!("{}one\n", much()));
    let mut running = Unread::start(&job);
    wait_until("it works", || has_processed(&job, 46));
    produce(&job, "two\n");
    wait_until("it goes on", || job.values("out").len() == 2);
    running.signal(Signal::TERM);
    assert_eq!(running.ends_soon(), Some(0));
    // What the pipe held is whole lines but for the last.
    let mut said = String::new();
    let mut stderr = running.stderr.take().expect("a pipe");
    stderr.read_to_string(&mut said).expect("it can be read");
    assert!(said.contains("guest: xxxx"), "{said}");
}

#[test]
fn a_failure_behind_a_stuck_reader_has_its_exit_code() {
    let job = obey();
    produce(&job, &format!("{}panic now\n", much()));
    assert_eq!(Unread::start(&job).ends_soon(), Some(3));
}

#[test]
fn a_second_signal_ends_a_job_whose_output_nobody_reads() {
    let text = one_partition("{guest:obey}").replace(
        "[streams.out]\nsystem = \"log\"\npartitions = 1",
        "[streams.out]\nsystem = \"stdout\"\nformat = \"lines\"",
    );
    let job = Job::new(&text);
    produce(&job, &format!("{}\n", "x".repeat(4_000)).repeat(45));
    let mut running = Unread::start(&job);
    let stdout = running.child.stdout.take().expect("a pipe");
    wait_until("the pipe is full", || {
        rustix::io::ioctl_fionread(&stdout).expect("it can be asked") == 64 << 10
    });
    running.signal(Signal::TERM);
    running.signal(Signal::INT);
    assert_eq!(running.ends_soon(), Some(130));
}
