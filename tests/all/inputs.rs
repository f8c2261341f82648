//! Where messages come from: paces, compressed and growing files, several inputs; and where they go: several outputs.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Job, wait_until};
use crate::jobs::{COUNT_LINES, COUNT_LOG, one_partition};

fn processed(job: &Job) -> u64 {
    let status = job.json(&["status"]).remove(0);
    let tasks = status["tasks"].as_array().expect("tasks");
    tasks
        .iter()
        .map(|task| task["processed"].as_u64().expect("a count"))
        .sum()
}

fn gzip(bytes: &[u8], path: &Path) {
    let plain = path.with_extension("plain");
    fs::write(&plain, bytes).expect("a file");
    let done = Command::new("gzip")
        .arg("-c")
        .stdin(fs::File::open(&plain).expect("the file"))
        .stderr(Stdio::inherit())
        .output()
        .expect("gzip");
    assert!(done.status.success());
    fs::remove_file(&plain).expect("the file");
    let mut file = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .expect("a file");
    std::io::Write::write_all(&mut file, &done.stdout).expect("it can be written");
}

#[test]
fn a_rate_is_that_of_all_partitions_together() {
    let job = Job::new(&COUNT_LOG.replace(
        "[streams.in]\nsystem = \"log\"",
        "[streams.in]\nsystem = \"log\"\nmax-rate = \"1000/s\"",
    ));
    let lines: String = (0..20_000).map(|at| format!("k{}=v\n", at % 50)).collect();
    job.feed(
        &["log", "produce", "in", "--key-separator", "="],
        lines.as_bytes(),
    )
    .expect(0);
    let running = job.answering();
    wait_until("it is at its pace", || processed(&job) > 300);
    let look = || {
        let before = Instant::now();
        let count = processed(&job);
        (before + before.elapsed() / 2, count)
    };
    let (began, first) = look();
    std::thread::sleep(Duration::from_millis(2500));
    let (ended, last) = look();
    let rate = (last - first) as f64 / (ended - began).as_secs_f64();
    assert!((800.0..1200.0).contains(&rate), "{rate} messages a second");
    running.terminate().expect(0);
    assert!(processed(&job) < 20_000, "the pace was never waited for");
}

#[test]
fn a_compressed_file_is_read_on_where_a_crash_left_it() {
    let text = COUNT_LINES
        .replace("in.txt", "in.gz")
        .replace("interval = \"100ms\"", "interval = \"20ms\"")
        .replace(
            "format = \"lines\"\n[streams.out]",
            "format = \"lines\"\nmax-rate = \"4000/s\"\n[streams.out]",
        );
    let job = Job::new(&text);
    let line = |at: usize| format!("key {}\n", at % 37);
    let first: String = (0..3000).map(line).collect();
    let second: String = (3000..6000).map(line).collect();
    // Two members, as `cat a.gz b.gz` makes them; the break is in the middle of a line.
    let whole = first + &second;
    gzip(&whole.as_bytes()[..20_003], &job.path("in.gz"));
    gzip(&whole.as_bytes()[20_003..], &job.path("in.gz"));
    let mut done = 0;
    for _ in 0..3 {
        let running = job.answering();
        wait_until("more comes out", || {
            job.text("out/out-0-0").lines().count() > done
        });
        running.kill();
        done = job.text("out/out-0-0").lines().count();
    }
    assert!(done < 6000, "it was killed before the end");
    job.write_job(&job.text("job.toml").replace("max-rate = \"4000/s\"", ""));
    job.run().expect(0);
    let expected: String = (0..6000)
        .map(|at| format!("key {} {}\n", at % 37, at / 37 + 1))
        .collect();
    assert!(job.text("out/out-0-0") == expected, "the output differs");
}

#[test]
fn followed_files_grow_by_halves_of_lines_and_in_number() {
    let text = COUNT_LINES
        .replace("path = \"in.txt\"", "path = \"in/*.txt\"\nfollow = true")
        .replace("{guest:counter}", "{guest:obey}");
    let job = Job::new(&text);
    job.write("in/a.txt", b"a1\na2\n");
    job.write("in/b.txt", b"b1\n");
    job.write("in/other", b"not of the pattern\n");
    let lines = |job: &Job| -> Vec<String> {
        let text = job.text("out/out-0-0");
        text.lines()
            .map(|line| line.rsplit_once(' ').expect("a count").0.to_owned())
            .collect()
    };
    let running = job.answering();
    wait_until("what is there is out", || lines(&job) == ["a1", "a2", "b1"]);
    job.append("in/a.txt", b"a half");
    job.append("in/b.txt", b"b2\n");
    wait_until("the whole line is out", || lines(&job).len() == 4);
    assert_eq!(lines(&job)[3], "b2", "half a line is none");
    job.append("in/a.txt", b" and its other half\nagain hal");
    wait_until("it is whole now", || lines(&job).len() == 5);
    assert_eq!(lines(&job)[4], "a half and its other half");
    job.write("in/c.txt", b"c1\n");
    wait_until("the new file is found", || lines(&job).len() == 6);
    assert_eq!(lines(&job)[5], "c1");
    running.kill();
    // While the job does not run: an old file grows, and one comes that is first by name.
    job.append("in/a.txt", b"f\n");
    job.write("in/0.txt", b"0\n");
    job.call(&["run", "--until-idle"]).expect(0);
    let mut after = lines(&job).split_off(6);
    after.sort();
    assert_eq!(after, ["0", "again half"]);
    assert_eq!(
        job.state("counts"),
        format!("count\t{}\n", 8i64.to_le_bytes().escape_ascii())
    );
}

#[test]
fn a_stage_reads_two_systems_and_knows_them_apart() {
    let text = one_partition("{guest:obey}")
        .replace(
            "[streams.out]",
            "[streams.lines]\nsystem = \"file\"\npath = \"in.txt\"\nfollow = true\n[streams.out]",
        )
        .replace(
            "inputs = [\"in\"]",
            "inputs = { fresh = \"in\", old = \"lines\" }",
        );
    let job = Job::new(&text);
    job.write("in.txt", b"from a file\nfrom it again\n");
    job.feed(&["log", "produce", "in"], b"from a log\n")
        .expect(0);
    job.call(&["run", "--until-idle"]).expect(0);
    let mut seen = job.values("out");
    seen.sort();
    assert_eq!(
        seen,
        [
            "a file from old/0",
            "a log from fresh/0",
            "it again from old/0"
        ]
    );
    // Each has a position of its own, also over a crash.
    let running = job.answering();
    job.append("in.txt", b"from the end\n");
    wait_until("it is out", || job.values("out").len() == 4);
    running.kill();
    let mut positions: Vec<(String, u64)> = job
        .json(&["offsets", "show"])
        .iter()
        .map(|offset| {
            (
                offset["stream"].as_str().expect("a name").to_owned(),
                offset["position"].as_u64().expect("a number"),
            )
        })
        .collect();
    positions.sort();
    assert_eq!(positions, [("in".to_owned(), 1), ("lines".to_owned(), 3)]);
    job.feed(&["log", "produce", "in"], b"from afar\n")
        .expect(0);
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(
        job.values("out")[3..],
        ["the end from old/0", "afar from fresh/0"]
    );
}

#[test]
fn each_output_port_has_its_stream() {
    let text = one_partition("{guest:obey}")
        .replace(
            "[streams.out]",
            "[streams.side]\nsystem = \"file\"\npath = \"side\"\n[streams.third]\nsystem = \"log\"\npartitions = 3\n[streams.out]",
        )
        .replace(
            "outputs = [\"out\"]",
            "outputs = { out = \"out\", left = \"side\", right = \"third\" }",
        );
    let job = Job::new(&text);
    let lines = b"one\nport left\nport right\ntwo\nport right\nport left\nport left\n";
    job.feed(&["log", "produce", "in"], lines).expect(0);
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out"), ["one 1", "two 2"]);
    assert_eq!(job.text("side/side-0-0"), "x\nx\nx\n");
    assert_eq!(job.values("third"), ["x", "x"]);
    job.feed(&["log", "produce", "in"], b"port out\nport side\n")
        .expect(0);
    job.call(&["run", "--until-idle"])
        .expect(3)
        .says("no output port \"side\"");
    assert_eq!(job.values("out").len(), 3, "the message before it is kept");
}

#[test]
fn until_idle_ends_when_all_is_read_and_committed() {
    let followed = COUNT_LINES.replace("path = \"in.txt\"", "path = \"in.txt\"\nfollow = true");
    let job = Job::new(&followed);
    job.write("in.txt", b"a\nb\nhalf");
    job.start_with(&["run", "--until-idle"]).ends().expect(0);
    assert_eq!(job.text("out/out-0-0"), "a 1\nb 1\n");
    job.start_with(&["run", "--until-idle"]).ends().expect(0);
    assert_eq!(job.text("out/out-0-0"), "a 1\nb 1\n");
    job.append("in.txt", b" a line\n");
    job.start_with(&["run", "--until-idle"]).ends().expect(0);
    assert_eq!(job.text("out/out-0-0"), "a 1\nb 1\nhalf a line 1\n");
}

#[test]
fn until_idle_does_not_wait_for_a_checkpoint_by_time() {
    for interval in ["interval = \"1h\"", "enabled = false"] {
        let job = Job::new(&COUNT_LOG.replace("interval = \"50ms\"", interval));
        job.feed(
            &["log", "produce", "in", "--key-separator", "="],
            b"a=1\na=2\n",
        )
        .expect(0);
        job.start_with(&["run", "--until-idle"]).ends().expect(0);
        assert_eq!(job.values("out"), ["a 1", "a 2"]);
    }
}
