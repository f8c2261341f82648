//! Jobs that sync less, or not at all, and the way back: a crash of the process costs nothing that was committed.

use std::fs;
use std::path::PathBuf;

use wasm_host::records::{self, Unwitnessed};
use wasm_host::state::{Db, DbOptions, Durability};

use crate::harness::{Job, copy, wait_until};
use crate::jobs::{COUNT_LINES, COUNT_LOG};

fn set(job: &Job, from: &str, to: &str) {
    let text = job.text("job.toml");
    assert!(text.contains(from), "{from:?} is not in {text}");
    job.write("job.toml", text.replace(from, to).as_bytes());
}

fn produce(job: &Job, lines: &str) {
    job.feed(
        &["log", "produce", "in", "--key-separator", "="],
        lines.as_bytes(),
    )
    .expect(0);
}

#[test]
fn without_syncs_a_crash_of_the_process_costs_nothing() {
    let text = COUNT_LOG.replace("partitions = 2", "partitions = 1");
    let job = Job::new(&text);
    produce(&job, "a=1\n");
    job.call(&["run", "--until-idle"]).expect(0);
    set(
        &job,
        "[checkpoint]",
        "[checkpoint]\ndurability = \"process\"",
    );
    let mut expected = vec!["a 1".to_owned()];
    for round in 2..=4 {
        let running = job.answering();
        produce(&job, "a=1\n");
        expected.push(format!("a {round}"));
        wait_until("it is committed", || job.values("out") == expected);
        running.kill();
        assert_eq!(job.values("out"), expected, "what was seen stays");
    }
    // What was committed without syncs is as good for a job that syncs.
    set(&job, "durability = \"process\"", "durability = \"sync\"");
    let running = job.answering();
    produce(&job, "a=1\nb=1\n");
    expected.extend(["a 5".to_owned(), "b 1".to_owned()]);
    wait_until("it is committed", || job.values("out") == expected);
    running.kill();
    assert_eq!(job.values("out"), expected);
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out"), expected);
    assert_eq!(job.state("counts").lines().count(), 2);
}

/// The write-ahead log that was written last.
fn newest_log(job: &Job) -> PathBuf {
    fs::read_dir(job.state_dir().join("db"))
        .expect("the database")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|found| found == "log"))
        .max()
        .expect("a write-ahead log")
}

#[test]
fn back_at_sync_lost_commits_are_seen_again() {
    let job =
        Job::new(&COUNT_LINES.replace("[checkpoint]", "[checkpoint]\ndurability = \"process\""));
    job.write("in.txt", b"a\nb\n");
    job.run().expect(0);
    set(&job, "durability = \"process\"", "durability = \"sync\"");
    job.append("in.txt", b"a\n");
    job.run().expect(0);
    assert_eq!(job.text("out/out-0-0"), "a 1\nb 1\na 2\n");
    let newest = newest_log(&job);
    let length = fs::metadata(&newest).expect("its length").len();
    fs::OpenOptions::new()
        .write(true)
        .open(&newest)
        .and_then(|log| log.set_len(length - 100))
        .expect("it can be cut");
    job.run().expect(4).says("commits are lost");
}

#[test]
fn a_damaged_log_is_noticed_without_syncs_too_as_long_as_the_machine_runs() {
    let job =
        Job::new(&COUNT_LINES.replace("[checkpoint]", "[checkpoint]\ndurability = \"process\""));
    job.write("in.txt", b"a\nb\n");
    job.run().expect(0);
    let newest = newest_log(&job);
    let mut bytes = fs::read(&newest).expect("the log");
    let length = bytes.len();
    bytes[length - 50] ^= 1;
    fs::write(&newest, bytes).expect("it can be damaged");
    job.run().expect(4).says("commits are lost");
}

/// The machine was restarted and has lost several writes that the witness has seen. What is written then is not refused because of
/// what the witness saw before.
#[test]
fn what_comes_after_a_loss_of_unsynced_writes_stands() {
    let text = COUNT_LOG.replace("partitions = 2", "partitions = 1");
    let job = Job::new(&text.replace("[checkpoint]", "[checkpoint]\ndurability = \"process\""));
    produce(&job, "a=1\n");
    job.call(&["run", "--until-idle"]).expect(0);
    let (db, old) = (job.state_dir().join("db"), job.path("old"));
    copy(&db, &old);
    for _ in 0..3 {
        produce(&job, "a=1\n");
        job.call(&["run", "--until-idle"]).expect(0);
    }
    fs::remove_dir_all(&db).expect("the database");
    fs::rename(&old, &db).expect("the database");
    {
        let db = Db::open(&db, &DbOptions::default()).expect("it opens");
        let mut marked: Unwitnessed = records::get(&db, &()).expect("a record").expect("the mark");
        marked.boot_id = "another".to_owned();
        let mut writes = db.write_set();
        records::put(&mut writes, &(), &marked);
        writes.commit(Durability::Sync).expect("it is marked");
    }
    // It ends before it has written anything but that it goes on.
    job.answering().kill();
    job.call(&["status"]).expect(0);
    produce(&job, "a=1\n");
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out"), ["a 1", "a 2"]);
}

#[test]
fn without_checkpoints_a_crash_goes_back_to_the_last_and_the_result_is_the_same() {
    let follow = COUNT_LINES.replace("path = \"in.txt\"", "path = \"in.txt\"\nfollow = true");
    let job = Job::new(&follow.replace(
        "interval = \"100ms\"",
        "interval = \"100ms\"\nenabled = false",
    ));
    let processed = |job: &Job| job.json(&["status"])[0]["tasks"][0]["processed"].clone();
    job.write("in.txt", b"a\nb\na\n");
    let running = job.answering();
    wait_until("three are processed", || processed(&job) == 3);
    running.terminate().expect(0);
    assert_eq!(
        job.text("out/out-0-0"),
        "a 1\nb 1\na 2\n",
        "a drain commits"
    );
    let last = job.json(&["checkpoint", "list"]);
    let last: Vec<_> = last.iter().map(|found| &found["trigger"]).collect();
    assert!(last.iter().all(|trigger| *trigger == "drain"), "{last:?}");

    job.append("in.txt", b"c\na\n");
    let running = job.answering();
    wait_until("all are processed", || processed(&job) == 5);
    running.kill();
    assert_eq!(job.text("out/out-0-0"), "a 1\nb 1\na 2\n");
    assert_eq!(processed(&job), 3, "what was not committed is undone");

    // On demand there are checkpoints all the same.
    let running = job.answering();
    wait_until("all are processed", || processed(&job) == 5);
    job.call(&["checkpoint", "trigger"]).expect(0);
    assert_eq!(job.text("out/out-0-0"), "a 1\nb 1\na 2\nc 1\na 3\n");
    job.append("in.txt", b"b\n");
    wait_until("one more is processed", || processed(&job) == 6);
    running.kill();

    set(&job, "enabled = false", "enabled = true");
    let running = job.answering();
    job.append("in.txt", b"b\n");
    wait_until("checkpoints come by time again", || {
        job.text("out/out-0-0") == "a 1\nb 1\na 2\nc 1\na 3\nb 2\nb 3\n"
    });
    running.kill();
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(
        job.text("out/out-0-0"),
        "a 1\nb 1\na 2\nc 1\na 3\nb 2\nb 3\n"
    );
    assert_eq!(processed(&job), 7);
}
