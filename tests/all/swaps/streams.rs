//! Streams that come with new code.

use super::{Version, begun, feed, job_of, one, out, stage, stop, swap};
use crate::harness::{Job, wait_until};

/// Binds the port `out` to a stream that the job does not have yet.
fn bring(job: &Job, stream: &str) {
    let text = job.text("job.toml");
    let outputs = "outputs = { out = \"new\" }";
    job.write_job(&(text.replace("outputs = [\"out\"]", outputs) + stream));
}

const LOG: &str = "[streams.new]\nsystem = \"log\"\npartitions = 3\n";
const FILE: &str = "[streams.new]\nsystem = \"file\"\npath = \"new\"\n";

/// What is in the new stream.
fn lines(job: &Job, stream: &str) -> Vec<String> {
    match stream == LOG {
        true => job.values("new"),
        false => job.lines("new/new-0-0"),
    }
}

#[test]
fn a_new_stream_is_written_from_the_cut_on() {
    for stream in [LOG, FILE] {
        let [first, second] = [110, 111].map(|number| Version::of("versions", number));
        let (job, running) = begun(job_of(&first));
        bring(&job, stream);
        swap(&job, &second, &["--dry-run"]).expect(0);
        swap(&job, &second, &[]).expect(0);
        assert!(lines(&job, stream).is_empty());
        feed(&job, one("b"));
        let b = format!("b {} 2", second.short());
        wait_until("it is there", || lines(&job, stream) == [b.clone()]);
        assert_eq!(job.values("out").len(), 1);
        if stream == LOG {
            // Others can append to it, too.
            job.feed(&["log", "produce", "new"], b"x\n").expect(0);
            assert_eq!(job.values("new").len(), 2);
        }
        running.kill();
        let running = job.answering();
        feed(&job, one("c"));
        let c = format!("c {} 3", second.short());
        wait_until("it goes on", || lines(&job, stream).contains(&c));
        // The code before goes on with its own stream.
        stop(running);
        let text = job.text("job.toml");
        job.write_job(&text.replace("outputs = { out = \"new\" }", "outputs = [\"out\"]"));
        let running = job.answering();
        feed(&job, one("d"));
        assert_eq!(out(&job, 2)[1], format!("d {} 4", second.short()));
        stop(running);
    }
}

#[test]
fn what_is_held_of_a_new_stream_is_released_or_taken_back() {
    for stream in [LOG, FILE] {
        for command in ["--promote", "--rollback"] {
            let [first, second] = [112, 113].map(|number| Version::of("versions", number));
            let (job, mut running) = begun(job_of(&first));
            bring(&job, stream);
            swap(&job, &second, &["--hold-output"]).expect(0);
            feed(&job, one("b"));
            super::holding::processed(&job, 2);
            assert!(lines(&job, stream).is_empty());
            if stream == FILE {
                running.kill();
                running = job.answering();
            }
            job.call(&["swap", "count", command]).expect(0);
            match command {
                "--promote" => {
                    let b = format!("b {} 2", second.short());
                    wait_until("it is released", || lines(&job, stream) == [b.clone()]);
                }
                // A start has taken the stream from the job file for the code before as well.
                _ if stream == FILE => {
                    let b = format!("b {} 2", first.short());
                    wait_until("it is done again", || lines(&job, stream) == [b.clone()]);
                }
                _ => {
                    assert_eq!(out(&job, 2)[1], format!("b {} 2", first.short()));
                    assert!(lines(&job, stream).is_empty());
                }
            }
            stop(running);
        }
    }
}

#[test]
fn a_stream_that_cannot_be_written_is_refused_and_nothing_changes() {
    let [first, second] = [114, 115].map(|number| Version::of("versions", number));
    let (job, running) = begun(job_of(&first));
    let text = job.text("job.toml");
    let refused = |stream: &str, says: &str| {
        bring(&job, stream);
        swap(&job, &second, &[]).expect(2).says(says);
        job.write_job(&text);
        assert_eq!(stage(&job)["component"], first.sha256);
    };
    job.write("new/new-0-0", b"somebody's\n");
    refused(FILE, "new-0-0");
    assert_eq!(job.text("new/new-0-0"), "somebody's\n");
    // It cannot be made, which only shows when that is tried.
    std::fs::remove_dir_all(job.path("new")).expect("it can be removed");
    std::os::unix::fs::symlink("/nowhere/at/all", job.path("new")).expect("a link");
    refused(FILE, "stream \"new\"");
    std::fs::remove_file(job.path("new")).expect("it can be removed");
    refused("[streams.new]\nsystem = \"generate\"\nkeys = 1\n", "new");
    // One that the state knows by another number of partitions.
    bring(&job, LOG);
    swap(&job, &second, &["--probation", "none"]).expect(0);
    stop(running);
    job.write_job(&text);
    let running = job.answering();
    let other = LOG.replace('3', "4");
    bring(&job, &other);
    swap(&job, &first, &[])
        .expect(2)
        .says("give the new stream another name");
    feed(&job, one("b"));
    assert_eq!(out(&job, 2)[1], format!("b {} 2", second.short()));
    // As it was it can be had again.
    job.write_job(&text);
    bring(&job, LOG);
    swap(&job, &first, &[]).expect(0);
    feed(&job, one("c"));
    wait_until("it is written again", || lines(&job, LOG).len() == 1);
    stop(running);
}

#[test]
fn code_that_is_tried_may_bring_a_stream_and_leaves_nothing_of_it() {
    for stream in [LOG, FILE] {
        let [first, second] = [116, 117].map(|number| Version::of("versions", number));
        let (job, running) = begun(job_of(&first));
        bring(&job, stream);
        swap(&job, &second, &["--shadow"]).expect(0);
        feed(&job, one("b"));
        wait_until("it is compared", || super::last(&job)["compared"] == 1);
        let made = super::last(&job)["differences"][0]["to"]["sent"][0].clone();
        assert_eq!(made[0], "new", "{made}");
        job.call(&["swap", "count", "--drop"]).expect(0);
        assert_eq!(out(&job, 2)[1], format!("b {} 2", first.short()));
        assert!(!job.path("new").exists());
        stop(running);
        let logs = job.json(&["log", "list"]);
        assert!(logs.iter().all(|log| log["stream"] != "new"), "{logs:?}");
    }
}
