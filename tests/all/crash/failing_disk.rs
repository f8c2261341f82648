//! A disk that fails, is full for a moment, or loses power, at every step and at every operation of a run. What comes of the job when
//! the disk works again is what comes of a run without it.

use super::case::{Case, FROM_FILE_TO_FILE, FROM_FILE_TO_LOGS, FROM_FILE_TO_SEGMENTS};
use crate::harness::{Done, Job, KILLED};

/// Runs a job with a variable of the host's disk. Whether what the variable says has come to pass.
fn run_with(job: &mut Job, variable: &str, value: &str) -> Done {
    job.env(variable, value);
    let done = job.call(&["run"]);
    job.clear_env();
    done
}

/// At each step, and at each operation, of a first run and of the run after it.
fn at_every_point(case: Case, variable: &str, what: &str, met: fn(&Done) -> bool) {
    for of in ["", "operation:"] {
        let mut job = case.job();
        let (mut number, mut is_new) = (1, true);
        loop {
            let value = format!("{what}:{of}{number}");
            let done = run_with(&mut job, variable, &value);
            let said = &done.stderr;
            assert!(!said.contains("panicked"), "{value}: {said}");
            if met(&done) {
                (number, is_new) = (number + 1, false);
                continue;
            }
            // It came to the end of its input before.
            assert_eq!(done.code, 0, "{value}: {said}");
            case.finish(&job, &value);
            if is_new {
                break;
            }
            (job, is_new) = (case.job(), true);
        }
    }
}

fn short(case: Case) -> Case {
    Case { lines: 60, ..case }
}

fn failed(done: &Done) -> bool {
    matches!(done.code, 1 | 4 | 75)
}

#[test]
fn a_disk_that_fails_from_some_point_on_costs_nothing() {
    std::thread::scope(|scope| {
        for error in ["EIO", "ENOSPC"] {
            for case in [FROM_FILE_TO_FILE, FROM_FILE_TO_LOGS, FROM_FILE_TO_SEGMENTS] {
                scope.spawn(move || at_every_point(short(case), "STEPS_FAIL", error, failed));
            }
        }
    });
}

#[test]
fn a_disk_that_fails_once_costs_nothing() {
    std::thread::scope(|scope| {
        for case in [FROM_FILE_TO_FILE, FROM_FILE_TO_LOGS, FROM_FILE_TO_SEGMENTS] {
            scope.spawn(move || at_every_point(short(case), "STEPS_FAIL_ONCE", "EIO", failed));
        }
    });
}

#[test]
fn a_power_cut_at_any_point_costs_nothing() {
    let cut = |done: &Done| done.code == KILLED;
    std::thread::scope(|scope| {
        for what in ["all", "content"] {
            for case in [FROM_FILE_TO_FILE, FROM_FILE_TO_LOGS, FROM_FILE_TO_SEGMENTS] {
                scope.spawn(move || at_every_point(short(case), "STEPS_CUT", what, cut));
            }
        }
    });
}

/// A sync that the host leaves out is found by the test above: at some point the output, the positions or the state differ, or the job
/// refuses what it finds.
#[test]
fn a_power_cut_finds_each_sync_that_is_left_out() {
    std::thread::scope(|scope| {
        let files = ["out/out-0-0", "out", "witness"].map(|path| (FROM_FILE_TO_FILE, path));
        let log = ["segments/000000000001", "segments"].map(|path| (FROM_FILE_TO_SEGMENTS, path));
        for (case, left_out) in files.into_iter().chain(log) {
            scope.spawn(move || {
                let case = short(case);
                let differs = |number: u64| {
                    let mut job = case.job();
                    job.env("STEPS_LIE", left_out);
                    let done = run_with(&mut job, "STEPS_CUT", &format!("all:{number}"));
                    assert_eq!(done.code, KILLED, "nothing was found: {}", done.stderr);
                    let finish = || case.finish(&job, left_out);
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(finish)).is_err()
                };
                assert!((1..).any(differs), "{left_out}");
            });
        }
    });
}
