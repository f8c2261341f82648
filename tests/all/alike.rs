//! A command says the same of a job that runs and of one that does not: output, error and exit code.

use serde_json::Value;
use wasm_host::state::{Db, DbOptions, Durability, Family, Order};

use crate::harness::{Done, Job};
use crate::jobs::one_partition;

/// A job that has processed two messages, and has a log that no stage uses.
fn job() -> Job {
    let text = one_partition("{guest:counter}");
    let job = Job::new(&format!("{text}\n[streams.spare]\nsystem = \"log\"\n"));
    let lines = [
        r#"{"key":"a","value":"a","timestamp":1000,"headers":[["h",{"base64":"/w=="}]]}"#,
        r#"{"key":"b","value":null,"timestamp":2000}"#,
        r#"{"value":"b","timestamp":3000}"#,
    ];
    job.feed(
        &["log", "produce", "in", "--jsonl"],
        lines.join("\n").as_bytes(),
    )
    .expect(0);
    job.call(&["run", "--until-idle"]).expect(0);
    job
}

/// Runs each command with its input: on the stopped job, on the running one, and on the stopped one again.
fn assert_alike(job: &Job, commands: &[(&[&str], &str, i32)], seen: impl Fn(&Done) -> String) {
    let all = || -> Vec<String> {
        let shown = |(command, input, code): &(&[&str], &str, i32)| {
            let done = job.feed(command, input.as_bytes()).expect(*code);
            format!("{command:?} {}", seen(&done))
        };
        commands.iter().map(shown).collect()
    };
    let stopped = all();
    let running = job.answering();
    let asked = all();
    running.terminate().expect(0);
    for (stopped, asked) in stopped.iter().zip(&asked) {
        assert_eq!(asked, stopped, "running, and stopped");
    }
    assert_eq!(all(), stopped, "stopped again");
}

fn everything(done: &Done) -> String {
    format!("{}\n{}\n{}", done.code, done.stdout, done.stderr)
}

#[test]
fn what_reads_says_the_same() {
    let commands: [(&[&str], i32); 31] = [
        (&["log", "list"], 0),
        (&["log", "list", "--json"], 0),
        (&["log", "consume", "in"], 0),
        (&["log", "consume", "in", "--json"], 0),
        (&["log", "consume", "out", "--json", "--limit", "1"], 0),
        (
            &["log", "consume", "in", "--partition", "0", "--from", "1"],
            0,
        ),
        (&["log", "consume", "in", "--from", "latest"], 0),
        (
            &[
                "log",
                "consume",
                "in",
                "--json",
                "--from",
                "1970-01-01T00:00:02Z",
            ],
            0,
        ),
        (
            &["log", "consume", "in", "--from", "1970-01-01T00:00:09Z"],
            0,
        ),
        (&["log", "consume", "spare"], 0),
        (
            &["log", "consume", "spare", "--from", "1970-01-01T00:00:00Z"],
            0,
        ),
        (
            &["log", "consume", "spare", "--partition", "0", "--from", "1"],
            2,
        ),
        (
            &["log", "consume", "in", "--partition", "0", "--from", "9"],
            2,
        ),
        (
            &["log", "consume", "in", "--from", "99999999999999999999"],
            2,
        ),
        (&["log", "consume", "in", "--from", "yesterday"], 2),
        (&["log", "consume", "in", "--partition", "7"], 2),
        (&["log", "consume", "nowhere"], 2),
        (&["log", "consume", "in", "--limit", "0"], 0),
        (&["offsets", "show"], 0),
        (&["offsets", "show", "--json"], 0),
        (&["checkpoint", "list"], 0),
        (&["checkpoint", "list", "--json"], 0),
        (&["checkpoint", "show"], 0),
        (&["checkpoint", "show", "1", "--json"], 0),
        (&["checkpoint", "show", "99"], 2),
        (&["state", "stores"], 0),
        (&["state", "stores", "--json"], 0),
        (&["log", "consume", "in", "--json", "--from", "1"], 0),
        (&["task", "skip", "count/0"], 2),
        (&["task", "resume", "count/0", "--past", "5"], 2),
        (&["task", "resume", "count/7"], 2),
    ];
    let commands = commands.map(|(command, code)| (command, "", code));
    assert_alike(&job(), &commands, everything);
}

#[test]
fn the_status_says_the_same() {
    let job = job();
    // All but what only a process has.
    let shared = |done: &Done| -> String {
        let status: Value = serde_json::from_str(&done.stdout).expect("JSON");
        let mut tasks = status["tasks"].clone();
        for task in tasks.as_array_mut().expect("tasks") {
            for field in ["batches", "state", "batch-limit"] {
                task[field] = Value::Null;
            }
            for input in task["inputs"].as_array_mut().expect("inputs") {
                input["progress"] = Value::Null;
            }
        }
        let fields = ["job", "epoch", "last-checkpoint", "failures"];
        format!("{tasks} {:?}", fields.map(|field| status[field].clone()))
    };
    assert_alike(&job, &[(&["status", "--json"], "", 0)], shared);
    let text = |done: &Done| done.stdout.replace("running", "stopped");
    assert_alike(
        &job,
        &[(&["status"], "", 0), (&["task", "list"], "", 0)],
        text,
    );
}

#[test]
fn what_appends_says_the_same() {
    let jsonl = &["log", "produce", "spare", "--jsonl"][..];
    let commands = [
        (&["log", "produce", "spare"][..], "a\nb\n", 0),
        (&["log", "produce", "spare"], "", 0),
        (&["log", "produce", "spare", "--batch", "1"], "a\nb\n", 0),
        (&["log", "produce", "spare", "--batch", "0"], "", 2),
        (
            &["log", "produce", "spare", "--key-separator", "="],
            "a=b\nc\n",
            2,
        ),
        (
            &[
                "log",
                "produce",
                "spare",
                "--batch",
                "1",
                "--key-separator",
                "=",
            ],
            "a=b\nc\n",
            2,
        ),
        (&["log", "produce", "nowhere"], "a\n", 2),
        (jsonl, r#"{"value":"a","partition":0}"#, 0),
        (jsonl, r#"{"value":"a","partition":7}"#, 2),
        (jsonl, r#"{"value":7}"#, 2),
        (jsonl, "no JSON", 2),
    ];
    let job = job();
    assert_alike(&job, &commands, everything);
    // Six at a time, the same both ways and in the same order.
    let values = job.values("spare");
    assert_eq!(values.len(), 18, "{values:?}");
    assert_eq!(values[..6], ["a", "b", "a", "b", "b", "a"]);
    assert_eq!(
        (&values[..6], &values[..6]),
        (&values[6..12], &values[12..])
    );
}

#[test]
fn a_log_that_the_job_file_no_longer_declares_is_read_alike() {
    let job = job();
    job.feed(&["log", "produce", "spare"], b"one\ntwo\n")
        .expect(0);
    let text = job.text("job.toml");
    job.write_job(&text.replace("\n[streams.spare]\nsystem = \"log\"\n", ""));
    let commands = [
        (&["log", "list", "--json"][..], "", 0),
        (&["log", "consume", "spare"], "", 0),
        (&["log", "consume", "spare", "--from", "1"], "", 0),
        (
            &["log", "consume", "spare", "--from", "2020-01-01T00:00:00Z"],
            "",
            0,
        ),
        (&["log", "produce", "spare"], "three\n", 2),
    ];
    assert_alike(&job, &commands, everything);
    let shown = job.call(&["log", "consume", "spare"]).expect(0).stdout;
    assert_eq!(shown, "one\ntwo\n");
}

#[test]
fn the_longest_lines_are_appended_alike() {
    // Six bytes of JSON for each: more than fits into one request if the lines themselves are counted.
    let line = |bytes: usize| "\u{1}".repeat(bytes) + "\n";
    let lines = line(1 << 20).repeat(15) + &line((32 << 20) - 2);
    let job = job();
    let produce = &["log", "produce", "spare"][..];
    let list = &["log", "list"][..];
    assert_alike(&job, &[(produce, &lines, 0)], everything);
    let listed = job.call(list).expect(0).stdout;
    assert!(
        listed.contains("spare           0       0   48"),
        "{listed}"
    );
}

#[test]
fn what_a_damaged_log_holds_is_refused_alike() {
    let job = job();
    let db = Db::open(&job.state_dir().join("db"), &DbOptions::default()).expect("the database");
    let mut writes = db.write_set();
    let mut chunks = db.walk(Family::Log, Vec::new(), vec![0xff; 16], Order::Up);
    let mut damaged = 0;
    while let Some((key, chunk)) = chunks.entry().expect("it can be read") {
        let mut chunk = chunk.to_vec();
        *chunk.last_mut().expect("a chunk") ^= 1;
        writes.put(Family::Log, key, &chunk);
        damaged += 1;
        chunks.advance();
    }
    assert!(damaged >= 2, "{damaged}");
    writes.commit(Durability::Sync).expect("it can be written");
    drop(chunks);
    drop(db);
    let time = "1970-01-01T00:00:02Z";
    let commands = [
        (&["log", "consume", "out"][..], "", 4),
        (&["log", "consume", "out", "--json", "--limit", "1"], "", 4),
        (&["log", "consume", "in", "--from", time], "", 4),
        (&["log", "consume", "in", "--from", "latest"], "", 0),
        (&["log", "list"], "", 0),
        (&["log", "produce", "spare"], "a\n", 0),
    ];
    assert_alike(&job, &commands[..5], everything);
    assert_alike(&job, &commands[5..], |done| done.stderr.clone());
}
