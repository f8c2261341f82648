//! Stores of both types from beginning to end.

use crate::harness::{Job, wait_until};
use crate::jobs::COUNT_LINES;

fn in_memory(more: &str) -> Job {
    let text = COUNT_LINES
        .replace("type = \"rocksdb\"", "type = \"memory\"")
        .replace("[checkpoint]", &format!("{more}\n[checkpoint]"));
    Job::new(&text)
}

fn replace(job: &Job, from: &str, to: &str) {
    let text = job.text("job.toml");
    assert!(text.contains(from), "{from:?} is not in {text}");
    job.write("job.toml", text.replace(from, to).as_bytes());
}

#[test]
fn a_memory_store_is_as_durable_as_the_other() {
    let job = in_memory("");
    replace(
        &job,
        "path = \"in.txt\"",
        "path = \"in.txt\"\nfollow = true",
    );
    job.write("in.txt", b"a\nb\na\n");
    let running = job.answering();
    wait_until("three are out", || {
        job.text("out/out-0-0") == "a 1\nb 1\na 2\n"
    });
    running.kill();
    let shown = |count: i64| count.to_le_bytes().escape_ascii().to_string();
    assert_eq!(
        job.state("counts"),
        format!("a\t{}\nb\t{}\n", shown(2), shown(1))
    );
    job.append("in.txt", b"a\n");
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.text("out/out-0-0"), "a 1\nb 1\na 2\na 3\n");
    // The type is no part of what is stored.
    replace(&job, "type = \"memory\"", "type = \"rocksdb\"");
    job.append("in.txt", b"a\n");
    job.call(&["run", "--until-idle"]).expect(0);
    replace(&job, "type = \"rocksdb\"", "type = \"memory\"");
    job.append("in.txt", b"b\na\n");
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(
        job.text("out/out-0-0"),
        "a 1\nb 1\na 2\na 3\na 4\nb 2\na 5\n"
    );
}

#[test]
fn memory_stores_that_outgrow_the_cache_are_refused_with_the_way_out() {
    let job = in_memory("cache = \"1MiB\"");
    let lines: String = (0..30_000)
        .map(|at| format!("a key as long as {at:060}\n"))
        .collect();
    job.write("in.txt", lines.as_bytes());
    let says = "more than the 1048576 bytes of the job's cache; raise `cache` in [job], or make a store `type = \"rocksdb\"`";
    // First when a checkpoint has outgrown it, then at the start, with what that checkpoint holds.
    for _ in 0..2 {
        let done = job.run().says(says);
        assert_ne!(done.code, 0);
    }
    replace(&job, "cache = \"1MiB\"", "cache = \"64MiB\"");
    job.run().expect(0);
    let expected: String = (0..30_000)
        .map(|at| format!("a key as long as {at:060} 1\n"))
        .collect();
    assert!(job.text("out/out-0-0") == expected, "the output differs");
    assert_eq!(job.state("counts").lines().count(), 30_000);
}
