//! State directories that are moved or changed while a process waits for them or uses them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::{CWD, FlockOperation, RenameFlags};

use crate::harness::{Job, copy, wait_until};
use crate::jobs::{COUNT_LINES, one_partition};

const STATE: &str = ".wasm-host/count";

/// Holds the lock of a state directory, as a command on a stopped job does.
fn hold(state: &Path) -> File {
    let lock = state.join("lock");
    let file = File::options().read(true).write(true).open(lock);
    let file = file.expect("the lock file");
    rustix::fs::flock(&file, FlockOperation::LockExclusive).expect("nobody else holds it");
    file
}

/// Starts a command, and returns when it waits for the lock of the state directory.
fn waiting(job: &Job, arguments: &[&str]) -> Child {
    let mut command: Command = job.command(arguments);
    let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = piped.spawn().expect("the host can be started");
    let lock = job.path(STATE).join("lock");
    let open = PathBuf::from(format!("/proc/{}/fd", child.id()));
    wait_until("it waits for the lock", || {
        let files = fs::read_dir(&open).into_iter().flatten().flatten();
        let mut targets = files.filter_map(|file| fs::read_link(file.path()).ok());
        targets.any(|target| target == lock)
    });
    child
}

/// The exit code of a command, and what it has said.
fn end(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().expect("it ends");
    let text = [output.stdout, output.stderr].concat();
    let code = output.status.code();
    (code, String::from_utf8(text).expect("UTF-8"))
}

/// A job that has counted a line.
fn counted() -> Job {
    let job = Job::new(COUNT_LINES);
    job.write("in.txt", b"a\n");
    job.run().expect(0);
    job
}

/// What `reset` does: it moves the directory.
fn move_whole(state: &Path) {
    let aside = state.with_file_name("aside");
    fs::rename(state, aside).expect("it can be moved");
}

/// What `reset` does to a mount point: it moves what is in it. The lock stays.
fn move_content(state: &Path) {
    let aside = state.join("reset-1");
    fs::create_dir(&aside).expect("a folder");
    for name in ["FORMAT", "db", "code", "witness", "crumbs"] {
        fs::rename(state.join(name), aside.join(name)).expect("it can be moved");
    }
}

#[test]
fn what_waited_for_a_reset_finds_no_state() {
    for reset in [move_whole, move_content] {
        for command in ["validate", "run"] {
            let job = counted();
            let held = hold(&job.path(STATE));
            let waiting = waiting(&job, &[command]);
            reset(&job.path(STATE));
            fs::remove_dir_all(job.path("out")).expect("the output can be removed");
            drop(held);
            let (code, said) = end(waiting);
            assert_eq!(code, Some(0), "{command}: {said}");
            let out = if command == "run" { "a 1\n" } else { "" };
            assert_eq!(job.text("out/out-0-0"), out, "{command}: {said}");
        }
    }
}

#[test]
fn what_is_locked_is_what_is_at_the_path() {
    for (other_is_held, command) in [(false, "run"), (false, "validate"), (true, "run")] {
        let job = Job::new(&one_partition("{guest:counter}"));
        let count = |line: &[u8]| {
            job.feed(&["log", "produce", "in"], line).expect(0);
            job.call(&["run", "--until-idle"]).expect(0);
        };
        count(b"a\n");
        let (state, other) = (job.path(STATE), job.path("other"));
        copy(&state, &other);
        count(b"b\n");
        let old = hold(&state);
        let held = other_is_held.then(|| hold(&other));
        let arguments = match command {
            "run" => &["run", "--until-idle"][..],
            other => &[other],
        };
        let waiting = waiting(&job, arguments);
        rustix::fs::renameat_with(CWD, &state, CWD, &other, RenameFlags::EXCHANGE)
            .expect("they can be exchanged");
        if other_is_held {
            drop(old);
            let (code, said) = end(waiting);
            assert_eq!(code, Some(4), "{said}");
            let by = format!("is in use by process {}", std::process::id());
            assert!(said.contains(&by), "{said}");
            drop(held);
        } else {
            // The lock of what was there before is not waited for.
            let (code, said) = end(waiting);
            assert_eq!(code, Some(0), "{said}");
        }
        assert_eq!(job.values("out"), ["a 1"]);
    }
}

#[test]
fn a_witness_that_is_taken_away_is_noticed_before_the_next_commit() {
    for replaced in [false, true] {
        let job = Job::new(&one_partition("{guest:counter}"));
        let running = job.answering();
        job.feed(&["log", "produce", "in"], b"a\n").expect(0);
        wait_until("it is counted", || job.values("out") == ["a 1"]);
        let (witness, aside) = (job.path(STATE).join("witness"), job.path("aside"));
        fs::rename(&witness, &aside).expect("it can be renamed");
        if replaced {
            fs::copy(&aside, &witness).expect("it can be copied");
        }
        job.feed(&["log", "produce", "in"], b"b\n").expect(1);
        let what = format!("{} was removed or replaced", witness.display());
        running
            .ends()
            .expect(1)
            .says(&what)
            .says("put that file back");
        fs::rename(&aside, &witness).expect("it can be renamed");
        job.call(&["run", "--until-idle"]).expect(0);
        assert_eq!(job.values("out"), ["a 1"], "nothing else was committed");
    }
}
