//! How much memory a job takes: what docs/job-file.md says, for the shapes of job that could take more.

use std::time::{Duration, Instant};

use crate::harness::{Done, Job, Running};

pub const MIB: u64 = 1 << 20;

/// The formula of docs/job-file.md, without instances: `bytes` and `cache` of the job file, and how many readers of how large a
/// message there are.
fn allowed(bytes: u64, cache: u64, workers: u64, readers: u64, message: u64) -> u64 {
    let read_ahead = bytes.clamp(16 * MIB, 64 * MIB);
    let each = readers * message.max(16 << 10);
    256 * MIB + cache + 3 * bytes + workers * 80 * MIB + 2 * read_ahead.max(each)
}

/// Waits until a job ends, and gives the most that it has had resident, in bytes, and how it ended.
#[track_caller]
pub fn ends_with_peak(mut running: Running, within: Duration) -> (u64, Done) {
    let path = format!("/proc/{}/status", running.pid());
    let began = Instant::now();
    let mut peak = 0;
    while running.is_running() {
        assert!(began.elapsed() < within, "it runs: {}", running.stderr());
        let status = std::fs::read_to_string(&path).unwrap_or_default();
        let kib = status.lines().find_map(|line| {
            let rest = line.strip_prefix("VmHWM:")?;
            rest.trim().trim_end_matches(" kB").parse::<u64>().ok()
        });
        peak = kib.map_or(peak, |kib| kib << 10);
        std::thread::sleep(Duration::from_millis(5));
    }
    (peak, running.wait())
}

/// Runs a job to its end and gives the most that it has had resident, in bytes.
fn peak(job: &Job, arguments: &[&str]) -> u64 {
    let (peak, done) = ends_with_peak(job.start_with(arguments), Duration::MAX);
    done.expect(0);
    peak
}

#[track_caller]
fn stays_within(job: &Job, arguments: &[&str], allowed: u64) {
    let peak = peak(job, arguments);
    assert!(
        peak <= allowed + 64 * MIB,
        "{} MiB resident, {} MiB are allowed",
        peak / MIB,
        allowed / MIB
    );
}

#[test]
fn many_partitions_of_large_messages_do_not_read_ahead_without_bound() {
    let job = Job::new(
        "[job]\nname = \"many\"\nworkers = 2\ncache = \"16MiB\"\n\
         [checkpoint]\nbytes = \"1MiB\"\n\
         [streams.in]\nsystem = \"generate\"\npartitions = 256\nkeys = 20000\ncount = 130000\nvalue-bytes = \"10kB\"\n\
         [streams.out]\nsystem = \"log\"\n\
         [[stage]]\nname = \"count\"\ncomponent = \"{guest:counter}\"\n\
         inputs = [\"in\"]\noutputs = [\"out\"]\n\
         [stage.stores.counts]\ntype = \"rocksdb\"\n",
    );
    // Each commit takes most of a second, in which readers go on.
    let mut job = job.with_steps();
    job.env("STEPS_HOLD", "commit.write:700");
    // 256 instances of a MiB and a half each beside the rest.
    let instances = 256 * 3 * MIB / 2;
    stays_within(
        &job,
        &["run"],
        allowed(MIB, 16 * MIB, 2, 256, 10_000) + instances,
    );
}

fn obeying(bytes: &str) -> Job {
    Job::new(&format!(
        "[job]\nname = \"obey\"\nworkers = 2\ncache = \"16MiB\"\n\
         [checkpoint]\nbytes = \"{bytes}\"\n\
         [streams.in]\nsystem = \"log\"\npartitions = 2\n\
         [streams.out]\nsystem = \"log\"\n\
         [[stage]]\nname = \"obey\"\ncomponent = \"{{guest:obey}}\"\n\
         inputs = [\"in\"]\noutputs = [\"out\"]\n\
         [stage.stores.counts]\ntype = \"rocksdb\"\n"
    ))
}

fn produce(job: &Job, line: &str, times: usize) {
    job.feed(
        &["log", "produce", "in"],
        format!("{line}\n").repeat(times).as_bytes(),
    )
    .expect(0);
}

#[test]
fn large_sends_take_a_few_times_what_may_be_uncommitted() {
    let job = obeying("16MiB");
    produce(&job, "send-bytes 15", 40);
    stays_within(
        &job,
        &["run", "--until-idle"],
        allowed(16 * MIB, 16 * MIB, 2, 2, 100) + 2 * 20 * MIB,
    );
}

#[test]
fn empty_range_deletes_take_nothing() {
    let job = obeying("8MiB");
    produce(&job, "empty-ranges 200000", 30);
    stays_within(
        &job,
        &["run", "--until-idle"],
        allowed(8 * MIB, 16 * MIB, 2, 2, 100),
    );
}

#[test]
fn the_end_of_the_input_sends_a_few_times_what_may_be_uncommitted() {
    let job = Job::new(
        "[job]\nname = \"grow\"\nworkers = 2\ncache = \"16MiB\"\n\
         [checkpoint]\nbytes = \"16MiB\"\n\
         [streams.in]\nsystem = \"generate\"\ncount = 1\n\
         [streams.out]\nsystem = \"log\"\n\
         [[stage]]\nname = \"grow\"\ncomponent = \"{guest:grower}\"\n\
         inputs = [\"in\"]\noutputs = [\"out\"]\n\
         [stage.config]\nmegabytes-at-end = 15\n\
         [stage.stores.counts]\ntype = \"rocksdb\"\n",
    );
    // Twenty calls, one after the other.
    stays_within(
        &job,
        &["run"],
        allowed(16 * MIB, 16 * MIB, 2, 1, 100) + 64 * MIB,
    );
    let logs = job.json(&["log", "list"]);
    assert!(logs.iter().any(|log| log["end"] == 1 + 20 * 16), "{logs:?}");
}
