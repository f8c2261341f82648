//! A disk without room: what waits, what ends, and that nothing is lost by either.
//!
//! The disk is a small tmpfs, or an ext4 in a file, which only root may mount.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Job, Running, wait_until};
use crate::jobs::COUNT_LINES;

const MIB: u64 = 1 << 20;

/// A file system of 64 MiB.
struct Disk {
    folder: TempDir,
}

impl Disk {
    /// `None`, and a line that says so, where it cannot be mounted.
    fn mount() -> Option<Disk> {
        let folder = temporary_folder();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"]);
        let mounted = run(mount.arg(folder.path()));
        let root = rustix::process::geteuid().is_root();
        assert!(
            mounted.is_ok() || !(root && std::env::var_os("CI").is_some()),
            "root cannot mount a tmpfs: {mounted:?}"
        );
        Disk::of(folder, mounted)
    }

    /// The same with the file system of most machines. Loop devices are not everywhere.
    fn mount_ext4() -> Option<Disk> {
        let (folder, image) = (temporary_folder(), tempfile::NamedTempFile::new());
        let image = image.expect("a file");
        image.as_file().set_len(64 * MIB).expect("a length");
        let made = run(Command::new("mkfs.ext4").arg("-q").arg(image.path()));
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop"]).arg(image.path());
        // A mounted image stays as long as it is mounted.
        let mounted = made.and_then(|()| run(mount.arg(folder.path())));
        Disk::of(folder, mounted)
    }

    fn of(folder: TempDir, mounted: Result<(), String>) -> Option<Disk> {
        match mounted {
            Ok(()) => Some(Disk { folder }),
            Err(why) => {
                println!("NOT TESTED: cannot be mounted here: {}", why.trim());
                None
            }
        }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn free(&self) -> u64 {
        let stat = statvfs(self.folder.path()).expect("the disk can be asked");
        stat.f_bavail * stat.f_frsize
    }

    /// Takes all room but this.
    fn leave(&self, bytes: u64) {
        let file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.folder.path().join("ballast"))
            .expect("a file");
        let length = file.metadata().expect("its length").len();
        let more = self.free().checked_sub(bytes).expect("so much is free");
        fallocate(&file, FallocateFlags::empty(), length, more).expect("room");
        assert!(self.free() <= bytes, "{} bytes are free", self.free());
    }

    fn make_room(&self) {
        fs::remove_file(self.folder.path().join("ballast")).expect("the ballast");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount")
            .arg("-l")
            .arg(self.folder.path())
            .status();
    }
}

fn temporary_folder() -> TempDir {
    let mut folder = tempfile::Builder::new();
    folder
        .prefix("wasm-host-disk-")
        .tempdir()
        .expect("a temporary folder")
}

fn run(command: &mut Command) -> Result<(), String> {
    match command.output() {
        Ok(done) if done.status.success() => Ok(()),
        Ok(done) => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}

/// Lines through the counter to lines, with the state on the disk.
fn counting(disk: &Disk, job: &str, checkpoint: &str) -> Job {
    let state = disk.state();
    let text = COUNT_LINES
        .replace(
            "[checkpoint]",
            &format!("state-dir = {state:?}\n{job}\n[checkpoint]\n{checkpoint}"),
        )
        .replace("path = \"in.txt\"", "path = \"in.txt\"\nfollow = true");
    Job::new(&text)
}

fn status(job: &Job) -> Value {
    job.json(&["status"]).remove(0)
}

/// A job that has committed `a 1`, and then has no room for what it has processed since.
fn waiting_to_commit(disk: &Disk, job: &Job) -> Running {
    job.write("in.txt", b"a\n");
    let mut running = job.answering();
    wait_until("the first line is out", || {
        job.text("out/out-0-0") == "a 1\n"
    });
    disk.leave(4 * MIB);
    job.append("in.txt", b"b\na\n");
    running.until_says("waits for room");
    running
}

/// ext4 keeps what it could of room that it was asked for and does not have.
#[test]
fn a_job_on_a_small_ext4_does_not_take_room_that_it_does_not_use() {
    let Some(disk) = Disk::mount_ext4() else {
        return;
    };
    let job = counting(&disk, "disk-reserve = \"8MiB\"", "");
    job.write("in.txt", b"a\nb\na\n");
    let free = disk.free();
    let running = job.answering();
    wait_until("the lines are out", || {
        job.text("out/out-0-0") == "a 1\nb 1\na 2\n"
    });
    assert!(disk.free() + 8 * MIB > free, "{} of {free}", disk.free());
    drop(running);
    job.call(&["run", "--until-idle"]).expect(0);
}

#[test]
fn a_start_waits_for_the_reserve() {
    let Some(disk) = Disk::mount() else { return };
    let job = counting(&disk, "disk-reserve = \"8MiB\"", "");
    job.write("in.txt", b"a\nb\na\n");
    disk.leave(4 * MIB);
    let mut running = job.start_with(&["run", "--until-idle"]);
    running.until_says("fewer than disk-reserve = 8388608 bytes; waiting for room");
    assert!(running.is_running());
    assert!(
        !disk.state().exists(),
        "nothing is made before there is room"
    );
    disk.make_room();
    running.ends().expect(0);
    assert_eq!(job.text("out/out-0-0"), "a 1\nb 1\na 2\n");
    // The same where there is state already.
    job.append("in.txt", b"b\n");
    disk.leave(4 * MIB);
    let mut running = job.start_with(&["run", "--until-idle"]);
    running.until_says("waiting for room");
    disk.make_room();
    running.ends().expect(0);
    assert_eq!(job.text("out/out-0-0"), "a 1\nb 1\na 2\nb 2\n");
}

#[test]
fn checkpoints_wait_for_the_reserve() {
    let Some(disk) = Disk::mount() else { return };
    let job = counting(&disk, "disk-reserve = \"8MiB\"", "");
    let running = waiting_to_commit(&disk, &job);
    let waiting = status(&job);
    assert_eq!(waiting["state"], "running");
    assert_eq!(
        waiting["tasks"][0]["processed"], 3,
        "guests do not wait for the disk"
    );
    assert!(waiting["sealed-bytes"].as_u64() > Some(0), "{waiting}");
    assert_eq!(waiting["failed-attempts"], 0, "to wait is not to fail");
    job.append("in.txt", b"c\n");
    wait_until("more is processed", || {
        status(&job)["tasks"][0]["processed"] == 4
    });
    assert_eq!(
        job.text("out/out-0-0"),
        "a 1\n",
        "what is not committed is not seen"
    );
    assert_eq!(status(&job)["epoch"], waiting["epoch"]);
    disk.make_room();
    wait_until("all of it is out", || {
        job.text("out/out-0-0") == "a 1\nb 1\na 2\nc 1\n"
    });
    running.terminate().expect(0);
    assert_eq!(job.text("out/out-0-0"), "a 1\nb 1\na 2\nc 1\n");
    assert_eq!(job.state("counts").lines().count(), 3);
}

#[test]
fn a_crash_while_a_checkpoint_waits_repeats_what_it_held() {
    let Some(disk) = Disk::mount() else { return };
    let job = counting(&disk, "disk-reserve = \"8MiB\"", "");
    waiting_to_commit(&disk, &job).kill();
    disk.make_room();
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.text("out/out-0-0"), "a 1\nb 1\na 2\n");
}

#[test]
fn a_full_disk_ends_the_process_and_costs_nothing() {
    let Some(disk) = Disk::mount() else { return };
    let text = counting(&disk, "disk-reserve = \"0B\"", "")
        .text("job.toml")
        .replace("follow = true", "")
        .replace("path = \"out\"\nformat = \"lines\"", "")
        .replace(
            "[streams.out]\nsystem = \"file\"",
            "[streams.out]\nsystem = \"log\"",
        );
    let job = Job::new(&text);
    // Keys that do not compress away, a few hundred of them; each line goes out again with its count.
    let key = |at: usize| {
        let hash = |part: usize| {
            use sha2::Digest;
            let hash = sha2::Sha256::digest(format!("{at} {part}"));
            hash.iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        };
        (0..16).map(hash).collect::<String>()
    };
    let keys: Vec<String> = (0..300).map(key).collect();
    let lines: Vec<&str> = (0..12_000).map(|at| keys[at * 7 % 300].as_str()).collect();
    job.write("in.txt", (lines.join("\n") + "\n").as_bytes());
    disk.leave(12 * MIB);
    let done = job.run().expect(75);
    assert!(
        done.stderr.contains("No space left on device"),
        "{}",
        done.stderr
    );
    // A restart meets the same disk, and says the same.
    job.run().expect(75);
    disk.make_room();
    job.run().expect(0);
    let expected: Vec<String> = lines
        .iter()
        .enumerate()
        .map(|(at, key)| format!("{key} {}", at / 300 + 1))
        .collect();
    assert!(job.values("out") == expected, "the output differs");
    let counts = job.state("counts");
    assert_eq!(counts.lines().count(), 300);
    let forty = 40i64.to_le_bytes().escape_ascii().to_string();
    for line in counts.lines() {
        assert!(line.ends_with(&format!("\t{forty}")), "{line}");
    }
}

#[test]
fn a_signal_ends_a_start_that_waits() {
    let Some(disk) = Disk::mount() else { return };
    let job = counting(&disk, "disk-reserve = \"8MiB\"\ndrain-timeout = \"1s\"", "");
    job.write("in.txt", b"a\n");
    disk.leave(4 * MIB);
    let mut running = job.start();
    running.until_says("waiting for room");
    let sent = Instant::now();
    let done = running.terminate();
    assert!(
        sent.elapsed() < Duration::from_secs(3),
        "{:?}",
        sent.elapsed()
    );
    done.expect(0).says("stopped before the job was opened");
    disk.make_room();
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.text("out/out-0-0"), "a 1\n");
}

#[test]
fn a_signal_ends_a_checkpoint_that_waits() {
    let Some(disk) = Disk::mount() else { return };
    let job = counting(&disk, "disk-reserve = \"8MiB\"\ndrain-timeout = \"1s\"", "");
    let running = waiting_to_commit(&disk, &job);
    running.signal(rustix::process::Signal::TERM);
    let sent = Instant::now();
    let done = running.ends();
    assert!(
        sent.elapsed() < Duration::from_secs(5),
        "{:?}",
        sent.elapsed()
    );
    done.expect(75).says("disk-reserve");
    disk.make_room();
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(
        job.text("out/out-0-0"),
        "a 1\nb 1\na 2\n",
        "what was not committed is processed again"
    );
}

/// A checkpoint's `timeout` must be longer than a call may last.
fn shorten_calls(job: &Job) {
    let text = job.text("job.toml").replace(
        "[stage.stores.counts]",
        "[stage.limits]\ncall-deadline = \"200ms\"\n[stage.stores.counts]",
    );
    job.write("job.toml", text.as_bytes());
}

#[test]
fn attempts_that_find_no_room_are_counted() {
    let Some(disk) = Disk::mount() else { return };
    let job = counting(
        &disk,
        "disk-reserve = \"8MiB\"",
        "timeout = \"1s\"\ntolerate-failures = 1000",
    );
    shorten_calls(&job);
    let mut running = waiting_to_commit(&disk, &job);
    running.until_says("attempt 2 failed");
    let failed = status(&job)["failed-attempts"].as_u64().expect("a count");
    assert!(failed >= 2, "{failed}");
    disk.make_room();
    wait_until("all of it is out", || {
        job.text("out/out-0-0") == "a 1\nb 1\na 2\n"
    });
    let failed = status(&job)["failed-attempts"].clone();
    running.terminate().expect(0);
    let recorded: Vec<Value> = job
        .json(&["checkpoint", "list"])
        .iter()
        .map(|checkpoint| checkpoint["failed-attempts"].clone())
        .filter(|failed| *failed != 0)
        .collect();
    assert_eq!(recorded, [failed]);
}

#[test]
fn too_many_failed_attempts_end_the_job() {
    let Some(disk) = Disk::mount() else { return };
    let job = counting(
        &disk,
        "disk-reserve = \"8MiB\"",
        "timeout = \"1s\"\ntolerate-failures = 2",
    );
    shorten_calls(&job);
    let done = waiting_to_commit(&disk, &job)
        .ends()
        .expect(75)
        .says("attempt 3 failed")
        .says("fewer than disk-reserve = 8388608 bytes; make room");
    assert!(!done.stderr.contains("attempt 4"), "{}", done.stderr);
    disk.make_room();
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.text("out/out-0-0"), "a 1\nb 1\na 2\n");
}

#[test]
fn the_state_may_be_a_file_system_of_its_own() {
    let Some(disk) = Disk::mount() else { return };
    let folder = disk.folder.path();
    fs::create_dir(folder.join("lost+found")).expect("a folder");
    let job = counting(&disk, "disk-reserve = \"1MiB\"", "");
    let text = job.text("job.toml");
    job.write_job(&text.replace(
        disk.state().to_str().expect("UTF-8"),
        folder.to_str().expect("UTF-8"),
    ));
    job.write("in.txt", b"a\n");
    job.call(&["status"]).expect(2).says("has no state yet");
    job.call(&["run", "--until-idle", "--from-start"]).expect(0);
    job.append("in.txt", b"a\n");
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.text("out/out-0-0"), "a 1\na 2\n");
    job.call(&["run", "--from-start"])
        .expect(4)
        .says("there is state in");
    let names = |folder: &std::path::Path| {
        let entries = fs::read_dir(folder).expect("the folder");
        let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
        let mut names: Vec<_> = entries.map(name).collect();
        names.sort();
        names
    };
    let state = [
        "FORMAT",
        "code",
        "crumbs",
        "db",
        "lock",
        "lost+found",
        "witness",
    ];
    assert_eq!(names(folder), state);
    // It cannot be renamed, so what is in it is.
    let done = job.call(&["reset"]).expect(0).says("/reset-");
    let left = names(folder);
    assert_eq!(left[..2], ["lock", "lost+found"], "{}", done.stderr);
    let aside = folder.join(&left[2]);
    assert_eq!(
        names(&aside),
        ["FORMAT", "code", "crumbs", "db", "lock", "witness"]
    );
    job.call(&["reset"]).expect(0).says("nothing to reset");
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.text("out/out-0-0"), "a 1\na 2\n");
    // What was moved is a state directory still.
    job.write_job(&text.replace(
        disk.state().to_str().expect("UTF-8"),
        aside.to_str().expect("UTF-8"),
    ));
    assert_eq!(job.state("counts").lines().count(), 1);
}

#[test]
fn a_file_that_may_not_grow_any_more_is_an_error() {
    let job = Job::new(&crate::jobs::one_partition("{guest:counter}"));
    let line = "x".repeat(1000) + "\n";
    job.feed(&["log", "produce", "in"], line.repeat(500).as_bytes())
        .expect(0);
    let command = job.command(&["run", "--until-idle"]);
    let done = std::process::Command::new("sh")
        .args(["-c", "ulimit -f 300 && exec \"$@\"", "sh"])
        .arg(command.get_program())
        .args(command.get_args())
        .env("NO_COLOR", "1")
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("File too large"), "{said}");
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out").len(), 500);
}

#[test]
fn an_output_file_that_is_taken_away_is_noticed_at_the_next_delivery() {
    for replaced in [false, true] {
        let job = Job::new(&COUNT_LINES.replace("[streams.out]", "follow = true\n[streams.out]"));
        job.write("in.txt", b"a\n");
        let running = job.start();
        wait_until("the first line is out", || {
            job.text("out/out-0-0") == "a 1\n"
        });
        let (out, aside) = (job.path("out/out-0-0"), job.path("aside"));
        fs::rename(&out, &aside).expect("it can be renamed");
        if replaced {
            fs::write(&out, "a 1\n").expect("it can be written");
        }
        job.append("in.txt", b"b\n");
        running
            .ends()
            .expect(1)
            .says("it was removed, renamed or replaced while the job wrote to it");
        job.call(&["run", "--until-idle"]).expect(4);
        fs::rename(&aside, &out).expect("it can be renamed");
        job.call(&["run", "--until-idle"]).expect(0);
        assert_eq!(job.text("out/out-0-0"), "a 1\nb 1\n");
    }
}

#[test]
fn a_state_directory_on_a_read_only_file_system_can_be_looked_at() {
    let Some(disk) = Disk::mount() else { return };
    let job = counting(&disk, "disk-reserve = \"1MiB\"", "");
    job.write("in.txt", b"a\n");
    job.call(&["run", "--until-idle"]).expect(0);
    let remount = |how: &str| {
        let done = Command::new("mount")
            .args(["-o", &format!("remount,{how}")])
            .arg(disk.folder.path())
            .status();
        assert!(done.expect("mount").success());
    };
    remount("ro");
    job.call(&["status"]).expect(0);
    assert!(!job.json(&["checkpoint", "list"]).is_empty());
    job.call(&["run"]).expect(1).says("Read-only file system");
    remount("rw");
    job.call(&["run", "--until-idle"]).expect(0);
}
