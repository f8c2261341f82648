//! What comes with code, and what is refused because of where the job is or what its operator allows.

use super::{Version, begun, feed, job_of, last, one, out, stage, stop, swap};
use crate::admin::metrics;
use crate::contract::frozen_component;
use crate::harness::{Job, wait_until};

/// A job of the guest `obey`, with more for its stage.
fn obeying(version: &Version, more: &str) -> Job {
    let job = job_of(version);
    let text = job
        .text("job.toml")
        .replace("partitions = 2", "partitions = 1");
    let more =
        format!("on-rejected = \"skip\"\non-fault = \"skip\"\n{more}\n[stage.stores.counts]");
    job.write_job(&text.replace("[stage.stores.counts]", &more));
    job
}

fn say(job: &Job, line: &str) {
    job.feed(&["log", "produce", "in"], format!("{line}\n").as_bytes())
        .expect(0);
}

/// Whether the task has processed so many messages, and how many of them came to nothing.
fn passed_over(job: &Job, messages: u64) -> u64 {
    let task = || job.json(&["status"])[0]["tasks"][0].clone();
    wait_until("they are processed", || task()["processed"] == messages);
    task()["skipped"].as_u64().expect("a number")
}

#[test]
fn limits_and_capabilities_come_with_the_code() {
    let [first, second] = [120, 121].map(|number| Version::of("obey", number));
    let mut job = obeying(&first, "[stage.limits]\nmemory = \"64MiB\"");
    job.env("TOLD", "told");
    let running = job.answering();
    say(&job, "variable TOLD");
    say(&job, "hoard 20000000");
    assert_eq!(passed_over(&job, 2), 1);
    let text = job.text("job.toml").replace("64MiB", "8MiB");
    job.write_job(&(text + "[stage.capabilities]\nenvironment = [\"TOLD\"]\n"));
    swap(&job, &second, &["--probation", "none"]).expect(0);
    say(&job, "variable TOLD");
    say(&job, "hoard 20000000");
    assert_eq!(passed_over(&job, 4), 2);
    assert_eq!(out(&job, 1), ["told"]);
    assert!(running.stderr().contains("memory"), "{}", running.stderr());
    stop(running);
}

#[test]
fn what_the_operator_does_not_allow_is_refused() {
    let [first, second] = [122, 123].map(|number| Version::of("obey", number));
    let mut job = obeying(&first, "");
    job.env("TOLD", "told");
    job.write("policy.toml", b"[capabilities]\nenvironment = []\n");
    let policy = job.path("policy.toml");
    let policy = policy.to_str().expect("UTF-8");
    let running = job.answers(job.start_with(&["run", "--policy", policy]));
    say(&job, "a");
    out(&job, 1);
    let text = job.text("job.toml");
    job.write_job(&(text.clone() + "[stage.capabilities]\nenvironment = [\"TOLD\"]\n"));
    swap(&job, &second, &[]).expect(2).says("policy.toml");
    assert_eq!(stage(&job)["component"], first.sha256);
    job.write_job(&text);
    swap(&job, &second, &[]).expect(0);
    stop(running);
}

#[test]
fn one_swap_at_a_time_and_none_while_the_job_is_stopped() {
    let [first, second] = [124, 125].map(|number| Version::of("obey", number));
    let directories = "batch-messages = 1\n[stage.limits]\ncall-deadline = \"1m\"\n[stage.capabilities]\n\
                       directories = [{ host = \"gate\", guest = \"/gate\" }]";
    let job = obeying(&first, directories);
    job.write("gate/closed", b"");
    let mut running = job.answering();
    // One that takes a while to compile, and then does not fit.
    let large = Version::made(frozen_component("go-batch"), 126);
    let path = large.put(&job, "large.wasm");
    let slow = job.start_with(&["swap", "count", path.to_str().expect("UTF-8")]);
    wait_until("it is under way", || !last(&job).is_null());
    let done = swap(&job, &second, &[]);
    if last(&job)["id"] == 1 && last(&job)["state"] != "refused" {
        done.expect(2).says("is under way");
    }
    slow.wait();
    say(&job, "await /gate/open");
    running.until_says("waits for /gate/open");
    running.signal(rustix::process::Signal::TERM);
    wait_until("it is being stopped", || {
        let done = swap(&job, &second, &["--force"]);
        done.code == 2 && done.stderr.contains("the job is being stopped")
    });
    job.write("gate/open", b"");
    running.wait().expect(0);
    assert_eq!(job.values("out"), ["await /gate/open 1"]);
}

#[test]
fn code_that_cannot_be_opened_later_goes_back() {
    let [first, second] = [127, 128].map(|number| Version::of("obey", number));
    let directories =
        "[stage.capabilities]\ndirectories = [{ host = \"gate\", guest = \"/gate\" }]";
    let job = obeying(&first, directories);
    job.write("gate/open", b"");
    let running = job.answering();
    say(&job, "a");
    out(&job, 1);
    let text = job.text("job.toml");
    let more =
        "[stage.config]\nopen-needs = \"/gate/open\"\n[stage.limits]\nrecycle-messages = 1\n";
    job.write_job(&(text + more));
    swap(&job, &second, &["--probation", "1h"]).expect(0);
    std::fs::remove_file(job.path("gate/open")).expect("it can be removed");
    for line in ["b", "c", "d"] {
        say(&job, line);
    }
    assert_eq!(out(&job, 4), ["a 1", "b 2", "c 3", "d 4"]);
    wait_until("it is back", || last(&job)["state"] == "rolled-back");
    let reason = last(&job)["reason"].to_string();
    assert!(reason.contains("a file is not there"), "{reason}");
    stop(running);
}

#[test]
fn code_that_takes_many_times_as_long_goes_back_where_that_is_wanted() {
    for (factor, state) in [("10x", "rolled-back"), ("off", "probation")] {
        let [first, second] = [129, 130].map(|number| {
            let doubtful = std::fs::read(crate::harness::guest("doubtful"));
            Version::made(doubtful.expect("the component"), number)
        });
        let job = job_of(&first);
        let config = |kind| format!("[stage.config]\nkind = \"{kind}\"\n[stage.stores.counts]");
        let text = job.text("job.toml");
        job.write_job(&text.replace("[stage.stores.counts]", &config("slow 20000")));
        let running = job.answering();
        let messages = |range: std::ops::Range<usize>| {
            range.map(|number| (format!("k{}", number % 50), number.to_string()))
        };
        feed(&job, messages(0..3_000));
        out(&job, 3_000);
        job.write_job(&text.replace("[stage.stores.counts]", &config("slow 1000000")));
        let options = ["--max-slowdown", factor, "--probation", "1h"];
        swap(&job, &second, &options).expect(0);
        feed(&job, messages(3_000..4_500));
        out(&job, 4_500);
        wait_until(state, || last(&job)["state"] == state);
        let reason = last(&job)["reason"].to_string();
        assert_eq!(
            reason.contains("of processor time"),
            factor != "off",
            "{reason}"
        );
        stop(running);
    }
}

#[test]
fn metrics_say_what_runs_and_how_swaps_have_ended() {
    let [first, second] = [131, 132].map(|number| Version::of("versions", number));
    let (job, running) = begun(job_of(&first));
    swap(&job, &second, &["--hold-output", "--label", "two"]).expect(0);
    feed(&job, one("b"));
    super::holding::processed(&job, 2);
    let held = metrics(&job);
    let of_stage = |series: &str, more: &str| {
        format!("wasm_host_{series}{{job=\"count\",stage=\"count\"{more}}}")
    };
    assert!(held[&of_stage("hold_bytes", "")] > 0.0, "{held:#?}");
    assert!(held[&of_stage("swap_pause_seconds", "")] > 0.0, "{held:#?}");
    let info = format!(",component=\"{}\",label=\"two\"", second.sha256);
    assert!(
        held.contains_key(&of_stage("component_info", &info)),
        "{held:#?}"
    );
    job.call(&["swap", "count", "--rollback"]).expect(0);
    out(&job, 2);
    let back = metrics(&job);
    let ended = of_stage("swaps_total", ",outcome=\"rolled-back\"");
    assert!((back[&ended] - 1.0).abs() < f64::EPSILON, "{back:#?}");
    stop(running);
}
