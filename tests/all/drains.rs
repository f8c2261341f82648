//! Stopping a job whose guest does not return.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Done, Job, Running, wait_until};
use crate::jobs::one_partition;

/// A job in a call that lasts until the file `gate/open` is there.
fn in_a_call(drain_timeout: &str) -> (Job, Running) {
    let text = one_partition("{guest:obey}")
        .replace(
            "[checkpoint]",
            &format!("drain-timeout = \"{drain_timeout}\"\n[checkpoint]"),
        )
        .replace(
            "[stage.stores.counts]",
            "batch-messages = 1\n[stage.limits]\ncall-deadline = \"10m\"\n[stage.capabilities]\n\
             directories = [{ host = \"gate\", guest = \"/gate\" }]\n[stage.stores.counts]",
        );
    let job = Job::new(&text);
    job.write("gate/closed", b"");
    job.feed(&["log", "produce", "in"], b"one\nawait /gate/open\nthree\n")
        .expect(0);
    let mut running = job.answering();
    running.until_says("waits for /gate/open");
    (job, running)
}

/// Runs it once more, with the gate open: each message has its effect once.
fn goes_on_exactly(job: &Job) {
    job.write("gate/open", b"");
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(
        job.values("out"),
        ["one 1", "await /gate/open 2", "three 3"]
    );
    assert_eq!(job.json(&["status"])[0]["tasks"][0]["processed"], 3);
}

#[test]
fn a_second_signal_ends_at_once() {
    for (first, second) in [
        (Signal::TERM, Signal::INT),
        (Signal::INT, Signal::TERM),
        (Signal::INT, Signal::INT),
    ] {
        let (job, mut running) = in_a_call("10m");
        running.signal(first);
        running.until_says("a second signal ends at once");
        assert!(running.is_running(), "{first:?} waits for the call");
        if first == second {
            // Within a tenth of a second they would be one.
            std::thread::sleep(Duration::from_millis(200));
        }
        let sent = Instant::now();
        running.signal(second);
        running.ends().expect(130);
        assert!(
            sent.elapsed() < Duration::from_secs(5),
            "{:?}",
            sent.elapsed()
        );
        goes_on_exactly(&job);
    }
}

#[test]
fn a_call_that_outlasts_the_drain_is_undone_and_is_not_a_fault() {
    let (job, running) = in_a_call("300ms");
    let sent = Instant::now();
    running.signal(Signal::TERM);
    let done = running.ends().expect(0);
    assert!(
        sent.elapsed() >= Duration::from_millis(300),
        "the call had no time to end"
    );
    let done = done.says("drain-timeout has passed");
    assert!(!done.stderr.contains("ERROR"), "{}", done.stderr);
    assert_eq!(
        job.values("out"),
        ["one 1"],
        "what came before is in the last checkpoint"
    );
    assert_eq!(job.json(&["offsets", "show"])[0]["position"], 1);
    goes_on_exactly(&job);
}

#[test]
fn a_call_that_ends_in_time_is_kept() {
    let (job, mut running) = in_a_call("10m");
    running.signal(Signal::TERM);
    running.until_says("stopping");
    job.write("gate/open", b"");
    running.ends().expect(0);
    assert_eq!(
        job.values("out"),
        ["one 1", "await /gate/open 2"],
        "no batch starts in a drain"
    );
    goes_on_exactly(&job);
}

/// Runs a job of `tasks` tasks whose `close` takes the given time until it has read everything, and stops it. Returns how long that took.
fn closing(tasks: u32, close: &str, drain_timeout: &str) -> (Done, Duration) {
    let job = Job::new(&format!(
        "[job]\nname = \"close\"\nworkers = 2\ndrain-timeout = \"{drain_timeout}\"\n\
         [streams.in]\nsystem = \"log\"\npartitions = {tasks}\n\
         [streams.out]\nsystem = \"log\"\n\
         [[stage]]\nname = \"obey\"\ncomponent = \"{{guest:obey}}\"\n\
         inputs = [\"in\"]\noutputs = [\"out\"]\n\
         [stage.limits]\ncall-deadline = \"10m\"\n\
         [stage.stores.counts]\ntype = \"rocksdb\"\n"
    ));
    let message = |to: u32| {
        format!(
            "{{\"partition\":{to},\"value\":\"{close}\"}}\n{{\"partition\":{to},\"value\":\"x\"}}\n"
        )
    };
    let lines: String = (0..tasks).map(message).collect();
    job.feed(&["log", "produce", "in", "--jsonl"], lines.as_bytes())
        .expect(0);
    let running = job.answering();
    let all = usize::try_from(tasks).expect("few");
    wait_until("all is processed", || job.values("out").len() == all);
    let sent = Instant::now();
    running.signal(Signal::TERM);
    let done = running.ends().expect(0).says("stopped at checkpoint");
    let took = sent.elapsed();
    // Whatever its instances did at their end, the job has lost nothing.
    assert_eq!(job.values("out").len(), all);
    (done, took)
}

#[test]
fn instances_that_take_long_to_close_together_are_dropped_in_time() {
    let (done, took) = closing(100, "close 100", "1s");
    let done =
        done.says("drain-timeout has passed: instances that are still being closed are dropped");
    assert!(took < Duration::from_secs(6), "{took:?}");
    let closed = done.stderr.matches("guest: closed").count();
    assert!(closed > 0 && closed < 100, "{closed} were closed");
    // That they were interrupted is no fault of theirs.
    assert!(!done.stderr.contains("`close` failed"), "{}", done.stderr);
}

#[test]
fn a_close_that_never_returns_is_interrupted() {
    let (done, took) = closing(1, "close 0", "1s");
    done.says("drain-timeout has passed: instances that are still being closed are dropped");
    assert!(took >= Duration::from_secs(1), "{took:?}");
    assert!(took < Duration::from_secs(6), "{took:?}");
}

#[test]
fn instances_are_closed_side_by_side() {
    let (done, took) = closing(4, "close 1000", "30s");
    assert_eq!(done.stderr.matches("guest: closed").count(), 4);
    assert!(took < Duration::from_millis(3500), "{took:?}");
}

#[test]
fn signals_that_come_together_are_one() {
    let job = Job::new(&one_partition("{guest:counter}"));
    for _ in 0..5 {
        let running = job.answering();
        job.feed(&["log", "produce", "in"], b"a\n").expect(0);
        running.signal(Signal::TERM);
        running.signal(Signal::TERM);
        running.wait().expect(0).says("stopping");
    }
    let hung_up = job.answering();
    hung_up.signal(Signal::HUP);
    hung_up.wait().expect(0);
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out").len(), 5);
}
