//! A message at which the process dies is found and passed over; a process that is killed from outside makes nobody suspect.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::harness::{Done, Job, KILLED, Running, wait_until};
use crate::jobs::{one_partition, with_dead};

/// A job whose guest waits for files, as long as it takes.
fn patient() -> Job {
    let with = "dead-letters = \"dead\"\n[stage.capabilities]\n\
         directories = [{ host = \"here\", guest = \"/here\" }]\n[stage.limits]\n\
         call-deadline = \"10m\"\n[stage.stores.counts]";
    let text = one_partition("{guest:obey}").replace("[stage.stores.counts]", with);
    let text = with_dead(&text).replace(
        "[streams.dead]",
        "[streams.bell]\nsystem = \"log\"\n[streams.dead]",
    );
    let job = Job::new(&text).with_steps();
    std::fs::create_dir(job.path("here")).expect("a folder");
    // Its streams are known from then on.
    job.call(&["run", "--until-idle"]).expect(0);
    job
}

fn fed(job: &Job, lines: &[&str]) {
    let text = lines.join("\n") + "\n";
    job.feed(&["log", "produce", "in"], text.as_bytes())
        .expect(0);
}

/// A start that has come to the message that waits.
fn waiting(job: &Job) -> Running {
    let mut running = job.start_with(&["run", "--until-idle"]);
    running.until_says("waits for /here/there");
    running
}

/// A start that aborts while that message is in its call.
fn dies(job: &mut Job) {
    job.env("STEPS_DIE", "append.write:1");
    let running = waiting(job);
    job.clear_env();
    let _ = job.feed(&["log", "produce", "bell"], b"x\n");
    let done = running.wait();
    assert_eq!(done.code, 128 + 6, "{}", done.stderr);
}

/// A group of processes that may have so little memory together that the kernel ends one that wants more.
struct Cramped(PathBuf);

impl Cramped {
    const BYTES: &str = "400000000";

    /// Such a group, where this system lets one be made.
    fn new() -> Option<Cramped> {
        let name = format!("wasm-host-test-{}", std::process::id());
        let first = Path::new("/sys/fs/cgroup/memory").join(&name);
        if fs::create_dir(&first).is_ok() {
            let cramped = Cramped(first);
            let limit = fs::write(cramped.0.join("memory.limit_in_bytes"), Cramped::BYTES);
            return limit.is_ok().then_some(cramped);
        }
        // Where it is there already, or nothing may be changed, the group says so.
        let _ = fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
        let second = Path::new("/sys/fs/cgroup").join(&name);
        fs::create_dir(&second).ok()?;
        let cramped = Cramped(second);
        let _ = fs::write(cramped.0.join("memory.swap.max"), "0");
        let limit = fs::write(cramped.0.join("memory.max"), Cramped::BYTES);
        limit.is_ok().then_some(cramped)
    }

    /// Runs a job in it.
    fn run(&self, job: &Job) -> Done {
        let script = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", self.0.display());
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, "sh"]);
        let ran = job.command_under(shell, &["run", "--until-idle"]).output();
        Done::of(&ran.expect("a shell"))
    }
}

impl Drop for Cramped {
    fn drop(&mut self) {
        // The kernel takes a moment to see that nobody is in it.
        for _ in 0..50 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_message_at_which_the_kernel_runs_out_of_memory_is_passed_over() {
    let Some(cramped) = Cramped::new() else {
        println!("NOT TESTED: no control group can be made here");
        return;
    };
    let with = "dead-letters = \"dead\"\n[stage.limits]\nmemory = \"2GiB\"\n[stage.stores.counts]";
    let text = one_partition("{guest:obey}").replace("[stage.stores.counts]", with);
    let job = Job::new(&with_dead(&text));
    fed(&job, &["a", "hoard 1500000000", "b"]);
    let mut kills = 0;
    let done = loop {
        let done = cramped.run(&job);
        match done.code {
            KILLED => kills += 1,
            _ => break done,
        }
        assert!(kills < 10, "the message is not found");
    };
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!((3..=4).contains(&kills), "{kills} kills");
    assert_eq!(job.values("dead"), ["hoard 1500000000"]);
    assert!(job.log("dead").contains("[\"wasm-host.kind\",\"crash\"]"));
    assert_eq!(job.values("out"), ["a 1", "b 2"]);
}

const LINES: [&str; 5] = ["a", "b", "await /here/there", "c", "d"];

#[test]
fn a_message_at_which_the_process_has_died_three_times_is_passed_over_and_named() {
    let mut job = patient();
    fed(&job, &LINES);
    for _ in 0..3 {
        dies(&mut job);
    }
    let done = job.call(&["run", "--until-idle"]).expect(0);
    assert!(
        done.stderr.contains("the process died 3 times"),
        "{}",
        done.stderr
    );
    assert_eq!(job.values("dead"), ["await /here/there"]);
    assert!(job.log("dead").contains("[\"wasm-host.kind\",\"crash\"]"));
    assert_eq!(job.values("out"), ["a 1", "b 2", "c 3", "d 4"]);
    // Nobody is suspect any more.
    fed(&job, &["e"]);
    let done = job.call(&["run", "--until-idle"]).expect(0);
    assert!(!done.stderr.contains("died"), "{}", done.stderr);
}

#[test]
fn a_message_that_was_in_a_call_when_the_process_died_of_something_else_is_innocent() {
    let mut job = patient();
    fed(&job, &LINES);
    for _ in 0..2 {
        dies(&mut job);
    }
    job.write("here/there", b"");
    job.call(&["run", "--until-idle"]).expect(0);
    assert!(job.values("dead").is_empty());
    assert_eq!(job.values("out").len(), LINES.len());
}

#[test]
fn kills_from_outside_condemn_nobody_however_often_they_hit_the_same_message() {
    let job = patient();
    fed(&job, &LINES);
    for round in 0..30 {
        let running = waiting(&job);
        match round % 3 {
            0 => running.signal(rustix::process::Signal::ABORT),
            1 => running.signal(rustix::process::Signal::SEGV),
            _ => {}
        }
        match round % 3 {
            2 => running.kill(),
            _ => _ = running.wait(),
        }
    }
    job.write("here/there", b"");
    let done = job.call(&["run", "--until-idle"]).expect(0);
    assert!(!done.stderr.contains("died"), "{}", done.stderr);
    assert!(job.values("dead").is_empty());
    wait_until("all is there", || job.values("out").len() == LINES.len());
}
