//! Logs that are appended to in bulk: their chunks are in files of their own beside the database.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::harness::{Job, copy, wait_until};
use crate::jobs::COUNT_LOG;

const LOG: &str = ".wasm-host/count/segments";

/// One partition of `in` with these settings.
fn job(settings: &str) -> Job {
    let text = COUNT_LOG
        .replace("partitions = 2", "partitions = 1")
        .replace(
            "[streams.in]\nsystem = \"log\"",
            &format!("[streams.in]\nsystem = \"log\"\n{settings}"),
        );
    Job::new(&text)
}

/// Appends messages of 30 kB in one write.
fn append(job: &Job, count: usize) {
    let line = format!("k={}\n", "v".repeat(30_000));
    let arguments = ["log", "produce", "in", "--key-separator", "="];
    job.feed(&arguments, line.repeat(count).as_bytes())
        .expect(0);
}

/// The segments, in order.
fn files(job: &Job) -> Vec<PathBuf> {
    let Ok(found) = fs::read_dir(job.path(LOG)) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = found.map(|entry| entry.expect("an entry").path()).collect();
    found.sort();
    found
}

/// Bytes that files take on the disk.
fn taken(files: &[PathBuf]) -> u64 {
    let blocks = |file: &PathBuf| fs::metadata(file).expect("a file").blocks() * 512;
    files.iter().map(blocks).sum()
}

#[test]
fn what_is_appended_in_bulk_is_in_a_segment_and_a_little_is_not() {
    let job = job("");
    append(&job, 1);
    assert_eq!(files(&job), [] as [PathBuf; 0]);
    append(&job, 20);
    assert_eq!(files(&job), [job.path(LOG).join("000000000001")]);
    append(&job, 1);
    assert_eq!(job.log("in").lines().count(), 22);
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out").last().map(String::as_str), Some("k 22"));
    let running = job.answering();
    append(&job, 20);
    wait_until("all are counted", || job.values("out").len() == 42);
    running.terminate().expect(0);
    assert_eq!(job.log("in").lines().count(), 42);
    assert_eq!(files(&job).len(), 1);
}

#[test]
fn without_syncs_there_are_no_segments() {
    let job = job("");
    append(&job, 3);
    let lines: String = (0..20_000).map(|at| format!("key {at}\n")).collect();
    job.feed(&["log", "produce", "in"], lines.as_bytes())
        .expect(0);
    let before = fs::metadata(&files(&job)[0]).expect("a segment").len();
    let text = job.text("job.toml");
    job.write_job(&text.replace("[checkpoint]", "[checkpoint]\ndurability = \"process\""));
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out").len(), 20_003);
    assert_eq!(
        fs::metadata(&files(&job)[0]).expect("a segment").len(),
        before
    );
}

#[test]
fn a_damaged_segment_is_found_by_who_reads_it() {
    let job = job("");
    append(&job, 10);
    let segment = &files(&job)[0];
    let mut bytes = fs::read(segment).expect("a segment");
    bytes[100_000] ^= 1;
    fs::write(segment, bytes).expect("a segment");
    let says = "a log chunk: its checksum does not match";
    job.call(&["log", "consume", "in"]).expect(4).says(says);
    job.call(&["run", "--until-idle"]).expect(3).says(says);
}

#[test]
fn a_chunk_in_the_place_of_another_is_found() {
    let job = job("");
    let line = |letter: &str| format!("k={}\n", letter.repeat(60_000));
    let lines = line("a") + &line("b");
    let arguments = ["log", "produce", "in", "--key-separator", "="];
    job.feed(&arguments, lines.as_bytes()).expect(0);
    let segment = &files(&job)[0];
    let bytes = fs::read(segment).expect("a segment");
    let (first, second) = bytes.split_at(bytes.len() / 2);
    fs::write(segment, [second, first].concat()).expect("a segment");
    let says = "segments/000000000001 has another chunk than was written";
    job.call(&["log", "consume", "in"]).expect(4).says(says);
    job.call(&["run", "--until-idle"]).expect(3).says(says);
    fs::write(segment, bytes).expect("a segment");
    job.call(&["log", "consume", "in"]).expect(0);
}

#[test]
fn a_segment_that_is_gone_or_too_short_is_refused_at_the_start() {
    let job = job("");
    append(&job, 10);
    let segment = &files(&job)[0];
    let aside = job.path("aside");
    fs::rename(segment, &aside).expect("a segment");
    job.run()
        .expect(4)
        .says("segments/000000000001 is missing, and ");
    fs::copy(&aside, segment).expect("a segment");
    let file = fs::OpenOptions::new().write(true).open(segment);
    file.and_then(|file| file.set_len(1000)).expect("a segment");
    job.run()
        .expect(4)
        .says("segments/000000000001 has 1000 bytes, and ");
    // Put back, nothing was lost.
    fs::rename(&aside, segment).expect("a segment");
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out").len(), 10);
}

#[test]
fn what_lies_beyond_the_end_of_a_segment_never_happened() {
    let job = job("");
    append(&job, 10);
    let segment = &files(&job)[0];
    let mut bytes = fs::read(segment).expect("a segment");
    bytes.extend_from_slice(&[0xff; 300_000]);
    fs::write(segment, bytes).expect("a segment");
    // What a crash leaves that came before the first write to a new segment.
    job.write(&format!("{LOG}/000000000002"), b"left over");
    // Not ours.
    job.write("mine/000000000003/file", b"kept");
    fs::rename(
        job.path("mine/000000000003"),
        job.path(LOG).join("000000000003"),
    )
    .expect("a folder");
    append(&job, 5);
    assert_eq!(job.log("in").lines().count(), 15);
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out").len(), 15);
    assert_eq!(job.text(&format!("{LOG}/000000000003/file")), "kept");
    let names = ["000000000001", "000000000003"].map(|name| job.path(LOG).join(name));
    assert_eq!(files(&job), names);
}

#[test]
fn retention_removes_segments_and_frees_what_is_deleted_of_others() {
    // `kept` is in the same segments and loses nothing.
    let job = job(
        "retention = { bytes = \"100kB\" }\ndrop-unread = true\n[streams.kept]\nsystem = \"log\"",
    )
    .with_steps()
    .with_env("STEPS_SIZES", "500000:64000");
    for _ in 0..4 {
        append(&job, 40);
    }
    let kept = format!("{}\n", "w".repeat(70_000));
    job.feed(&["log", "produce", "kept"], kept.as_bytes())
        .expect(0);
    append(&job, 40);
    let before = files(&job);
    assert_eq!(before.len(), 5, "a write is in one segment");
    let running = job.answering();
    wait_until("retention has run", || {
        let logs = job.json(&["log", "list"]);
        logs.iter()
            .any(|log| log["stream"] == "in" && log["oldest"].as_u64() > Some(190))
    });
    running.terminate().expect(0);
    let after = files(&job);
    assert_eq!(
        after,
        before[4..],
        "the last one stays, and has what is kept"
    );
    assert!(taken(&after) < 400_000, "{} bytes", taken(&after));
    assert_eq!(job.values("kept").len(), 1);
    assert_eq!(job.log("in").lines().count(), 2, "a chunk of 60 kB");
}

/// The files below a folder, with what is in them.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(contents(&path)),
            false => _ = found.insert(path.clone(), fs::read(&path).expect("a file")),
        }
    }
    found
}

#[test]
fn the_segments_of_a_directory_that_was_put_in_the_place_of_the_jobs_are_left_alone() {
    let job = job("retention = { bytes = \"1.1MB\" }\ndrop-unread = true");
    append(&job, 40);
    let running = job.answering();
    wait_until("some of a segment is deleted", || {
        let logs = job.json(&["log", "list"]);
        logs.iter()
            .any(|log| log["stream"] == "in" && log["oldest"].as_u64() > Some(0))
    });
    let (state, aside) = (job.path(".wasm-host/count"), job.path("aside"));
    fs::rename(&state, &aside).expect("the state directory");
    copy(&aside, &state);
    let before = contents(&state);
    // The end would free the room of what is deleted.
    running.terminate();
    assert!(contents(&state) == before, "the copy was changed");
}
