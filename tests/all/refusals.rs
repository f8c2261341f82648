//! State directories that are not what they were: refused with exit 4, and not a byte of them is changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::harness::{Job, copy};
use crate::jobs::COUNT_LINES;

const STATE: &str = ".wasm-host/count";

fn finished() -> Job {
    let job = Job::new(COUNT_LINES);
    job.write("in.txt", b"a\nb\na\n");
    job.run().expect(0);
    job.append("in.txt", b"c\n");
    job
}

/// Every file below a folder with its content.
fn bytes_of(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path
                    .strip_prefix(folder)
                    .expect("below")
                    .to_string_lossy()
                    .into_owned();
                found.insert(name, fs::read(&path).expect("a file"));
            }
        }
    }
    found
}

/// Damages a finished job, and checks that it is refused, says why, and is left as it is.
#[track_caller]
fn refused(says: &str, damage: impl FnOnce(&Path)) {
    let job = finished();
    let state = job.path(STATE);
    damage(&state);
    let before = bytes_of(&state);
    for command in [&["run"][..], &["status"], &["run"]] {
        let done = job.call(command).expect(4);
        assert!(
            done.stderr.contains(says),
            "{command:?}: {says:?} is not in {}",
            done.stderr
        );
    }
    let after = bytes_of(&state);
    let names: (Vec<_>, Vec<_>) = (before.keys().collect(), after.keys().collect());
    assert_eq!(names.0, names.1);
    for (name, bytes) in &before {
        assert!(after[name] == *bytes, "{name} was changed");
    }
}

#[test]
fn a_refused_output_leaves_the_directory_as_it_is() {
    let job = finished();
    let state = job.path(STATE);
    let before = bytes_of(&state);
    job.write("out/out-0-0", b"shorter\n");
    job.run().expect(4).says("but the job has written");
    assert!(before == bytes_of(&state), "the directory was changed");
    assert_eq!(job.text("out/out-0-0"), "shorter\n");
}

fn only(folder: &Path, extension: &str) -> std::path::PathBuf {
    let mut found: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .filter(|path| fs::metadata(path).is_ok_and(|found| found.len() > 0))
        .collect();
    found.sort();
    found.pop().expect("such a file")
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("a file");
    bytes[at] ^= 0x40;
    fs::write(path, bytes).expect("the file can be written");
}

#[test]
fn the_state_of_another_job_is_refused() {
    let job = finished();
    job.write_job(&COUNT_LINES.replace(
        "name = \"count\"\n[checkpoint]",
        "name = \"other\"\nstate-dir = \".wasm-host/count\"\n[checkpoint]",
    ));
    job.run()
        .expect(4)
        .says("belongs to job \"count\", not \"other\"");
}

#[test]
fn a_link_to_nothing_is_no_place_for_state() {
    let job = Job::new(COUNT_LINES);
    job.write("in.txt", b"a\n");
    fs::create_dir(job.path(".wasm-host")).expect("a folder");
    std::os::unix::fs::symlink("elsewhere", job.path(STATE)).expect("a link");
    job.run().expect(4).says("it is a symbolic link to nothing");
    fs::create_dir(job.path(".wasm-host/elsewhere")).expect("a folder");
    job.run().expect(0);
}

#[test]
fn a_newer_format_is_refused() {
    refused("it has format 6, this wasm-host knows 1 to 5", |state| {
        let text = fs::read_to_string(state.join("FORMAT")).expect("FORMAT");
        fs::write(
            state.join("FORMAT"),
            text.replace("\"format\":5", "\"format\":6"),
        )
        .expect("FORMAT");
    });
}

#[test]
fn damaged_and_missing_files_are_refused() {
    refused("FORMAT file", |state| {
        fs::write(state.join("FORMAT"), "{").expect("FORMAT")
    });
    refused("FORMAT file", |state| {
        fs::remove_file(state.join("FORMAT")).expect("FORMAT")
    });
    refused("no CURRENT file", |state| {
        fs::remove_file(state.join("db/CURRENT")).expect("CURRENT")
    });
    refused("its witness cannot be read", |state| {
        fs::remove_file(state.join("witness")).expect("witness")
    });
    refused("no valid block", |state| {
        fs::write(state.join("witness"), [0; 8192]).expect("witness")
    });
    refused("database is damaged", |state| flip(&manifest(state), 20));
}

fn manifest(state: &Path) -> std::path::PathBuf {
    fs::read_dir(state.join("db"))
        .expect("db")
        .map(|entry| entry.expect("an entry").path())
        .find(|path| path.to_string_lossy().contains("MANIFEST"))
        .expect("a manifest")
}

/// RocksDB itself takes such a list for one that a crash has left.
#[test]
fn a_list_of_files_that_lost_its_end_is_refused() {
    for left in [1, 50, 90, 99] {
        refused("MANIFEST-", |state| {
            let manifest = manifest(state);
            let whole = fs::read(&manifest).expect("the manifest");
            fs::write(&manifest, &whole[..whole.len() * left / 100]).expect("it is cut");
        });
    }
    refused("has lost its end", |state| {
        let manifest = manifest(state);
        let whole = fs::read(&manifest).expect("the manifest");
        fs::write(&manifest, &whole[..whole.len() - 1]).expect("it is cut");
    });
    // A start that commits nothing makes a new list, and a flush adds to it: both are witnessed without a commit.
    let job = finished();
    job.run().expect(0);
    job.run().expect(0);
    let (state, cut) = (job.path(STATE), |path: &Path| {
        let whole = fs::read(path).expect("the manifest");
        fs::write(path, &whole[..whole.len() - 1]).expect("it is cut");
    });
    cut(&manifest(&state));
    job.run().expect(4).says("has lost its end");
}

#[test]
fn a_write_ahead_log_that_lost_acknowledged_writes_is_refused() {
    refused("commits are lost", |state| {
        let log = only(&state.join("db"), "log");
        let middle = fs::metadata(&log).expect("the log").len() as usize / 2;
        flip(&log, middle);
    });
    refused("commits are lost", |state| {
        let log = only(&state.join("db"), "log");
        let length = fs::metadata(&log).expect("the log").len();
        fs::OpenOptions::new()
            .write(true)
            .open(&log)
            .and_then(|file| file.set_len(length - 200))
            .expect("the log");
    });
}

#[test]
fn a_witness_of_another_directory_is_refused() {
    let other = finished();
    refused("the witness belongs to state", |state| {
        fs::copy(other.path(STATE).join("witness"), state.join("witness")).expect("the witness");
    });
}

#[test]
fn an_older_copy_of_the_database_is_refused() {
    let job = finished();
    let state = job.path(STATE);
    let old = job.path("old");
    copy(&state.join("db"), &old);
    job.run().expect(0);
    fs::remove_dir_all(state.join("db")).expect("db");
    fs::rename(&old, state.join("db")).expect("db");
    job.run().expect(4).says("commits are lost");
}

#[test]
fn a_copy_of_a_stopped_directory_is_a_backup() {
    let job = finished();
    let copied = job.path("backup");
    copy(&job.path(STATE), &copied);
    job.run().expect(0);
    job.write_job(&COUNT_LINES.replace("[checkpoint]", "state-dir = \"backup\"\n[checkpoint]"));
    // Its state is that of the copy, but the output file has gone on with the other.
    job.call(&["status"]).expect(0);
    job.run().expect(4).says("out-0-0");
}

#[test]
fn output_files_that_are_not_what_was_recorded_are_refused() {
    let job = finished();
    job.append("out/out-0-0", b"somebody else's line\n");
    job.run().expect(4).says("out-0-0");
    let job = finished();
    job.write("out/out-0-0", b"a");
    job.run().expect(4).says("out-0-0");
    let job = Job::new(COUNT_LINES);
    job.write("in.txt", b"a\n");
    job.write("out/out-0-0", b"from an earlier life\n");
    job.run().expect(4).says("out-0-0");
    assert_eq!(job.text("out/out-0-0"), "from an earlier life\n");
}

#[test]
fn what_is_no_longer_declared_must_be_dropped_by_name() {
    let job = finished();
    let text = COUNT_LINES.replace("stores.counts", "stores.sums");
    job.write_job(&text.replace("{guest:counter}", "{guest:picky}"));
    job.run().expect(4).says("--drop-store count/counts");
    job.call(&["run", "--drop-store", "count/counts"]).expect(0);
    assert_eq!(
        job.call(&["state", "stores"])
            .stdout
            .matches("sums")
            .count(),
        1
    );
}

#[test]
fn another_number_of_partitions_is_refused() {
    let job = Job::new(crate::jobs::COUNT_LOG);
    job.feed(&["log", "produce", "in"], b"a\n").expect(0);
    job.write_job(&crate::jobs::COUNT_LOG.replace("partitions = 2", "partitions = 3"));
    job.call(&["run", "--until-idle"])
        .expect(4)
        .says("has 2 partitions in the state and 3 in the job file");
}

#[test]
fn a_task_ahead_of_its_checkpoint_or_log_is_refused() {
    use wasm_host::model::{Epoch, Position};
    use wasm_host::records::{self, TaskRecord};
    use wasm_host::state::{Db, DbOptions, Durability};

    for ahead in [
        "is at checkpoint 1000",
        "has read up to offset 1000 of a log that ends at 2",
    ] {
        let job = Job::new(&crate::jobs::one_partition("{guest:counter}"));
        job.feed(&["log", "produce", "in"], b"a\nb\n").expect(0);
        job.call(&["run", "--until-idle"]).expect(0);
        let db =
            Db::open(&job.state_dir().join("db"), &DbOptions::default()).expect("the database");
        let tasks = records::list::<TaskRecord>(&db).expect("the records of tasks");
        let (key, mut record) = tasks.into_iter().next().expect("a task");
        match ahead.contains("checkpoint") {
            true => record.stamp.container_epoch = Epoch(1000),
            false => record.positions.values_mut().for_each(|position| {
                *position = Position {
                    next: 1000,
                    detail: None,
                };
            }),
        }
        let mut writes = db.write_set();
        records::put(&mut writes, &key, &record);
        writes.commit(Durability::Sync).expect("it is written");
        drop(db);
        job.run().expect(4).says(ahead);
        job.call(&["validate"]).expect(4).says(ahead);
    }
}
