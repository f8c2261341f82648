//! What guests could do to the host and to their neighbours, one test for each class. The host survives, its message is short and names
//! the thing, and the neighbours go on.
//!
//! In other modules: names of megabytes, control characters, WASI's handles and malformed arguments in `faults`, names in components in
//! `components`, memory in `memory`, guests that compute or write much next to others and file systems that hang in `scheduling`,
//! grants that reach the state in `cli`.

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use crate::harness::{Job, wait_until};

/// One stage of this guest.
fn job_of(guest: &str, partitions: usize, checkpoint: &str, store: &str, stage: &str) -> Job {
    Job::new(&format!(
        "[job]\nname = \"hostile\"\nworkers = 2\n\
         [checkpoint]\n{checkpoint}\n\
         [streams.in]\nsystem = \"log\"\npartitions = {partitions}\n\
         [streams.out]\nsystem = \"log\"\n\
         [[stage]]\nname = \"hostile\"\ncomponent = \"{{guest:{guest}}}\"\n\
         inputs = [\"in\"]\noutputs = [\"out\"]\non-rejected = \"skip\"\n\
         [stage.stores.counts]\ntype = \"{store}\"\n{stage}"
    ))
}

fn produce(job: &Job, lines: &[String]) {
    job.feed(&["log", "produce", "in"], lines.join("\n").as_bytes())
        .expect(0);
}

/// Lets it process these. How long that took, and the last word of what it sent for each.
fn done(job: &Job, lines: &[String]) -> (Duration, Vec<u64>) {
    produce(job, lines);
    let before = sent(job).len();
    let began = Instant::now();
    job.call(&["run", "--until-idle"]).expect(0);
    let took = began.elapsed();
    let last = |line: &String| line.rsplit(' ').next()?.parse().ok();
    (took, sent(job)[before..].iter().filter_map(last).collect())
}

/// What is in the output, if it is there yet.
fn sent(job: &Job) -> Vec<String> {
    match job.call(&["log", "consume", "out"]).code {
        0 => job.values("out"),
        _ => Vec::new(),
    }
}

fn millis(took: Duration) -> u128 {
    took.as_millis()
}

#[test]
fn tens_of_thousands_of_scans_in_a_call_take_their_number() {
    let job = job_of("greedy", 1, "interval = \"50ms\"", "rocksdb", "");
    let (_, took) = done(&job, &["fill 0 1000".into(), "scans 81000".into()]);
    println!("81,000 scans in a call: {} ms", took[1] / 1000);
    assert!(took[1] < 900_000, "{} µs", took[1]);
}

#[test]
fn an_undone_message_costs_what_it_did_however_much_is_deleted() {
    let job = job_of(
        "greedy",
        1,
        "interval = \"1h\"\nbytes = \"2GiB\"",
        "rocksdb",
        "",
    );
    let ranges = |at: u64| format!("ranges {} 50000 1", at * 100_000);
    let mut lines: Vec<String> = (0..3).map(ranges).collect();
    lines.push("now".into());
    lines.extend((0..200).map(|at| format!("undone {}", 2 * at + 1)));
    lines.push("now".into());
    let (_, _) = done(&job, &lines);
    let times = job.values("out");
    let time = |line: &&String| line.strip_prefix("now: ")?.split(' ').next()?.parse().ok();
    let times: Vec<u64> = times.iter().filter_map(|line| time(&line)).collect();
    assert_eq!(times.len(), 2);
    let each = (times[1] - times[0]) / 200;
    println!("undo of a message that deleted a range, after 150,000: {each} µs");
    assert!(each < 5_000, "{each} µs");
    assert_eq!(job.json(&["status"])[0]["tasks"][0]["rejected"], 200);
}

#[test]
fn range_deletes_of_a_memory_store_cost_what_they_delete() {
    let job = job_of("greedy", 1, "interval = \"50ms\"", "memory", "");
    done(&job, &["fill 0 100000".into()]);
    for (what, lines) in [
        ("ten keys each", "ranges 0 10000 9"),
        ("of no key", "ranges 200000 10000 9"),
    ] {
        let (took, _) = done(&job, &[lines.into()]);
        let newest = job.json(&["checkpoint", "list"]);
        let commit = |record: &serde_json::Value| record["duration-us"].as_u64().unwrap_or(0);
        let commit = newest.iter().map(commit).max().unwrap_or(0) / 1000;
        println!(
            "10,000 range deletes, {what}, of a memory store: run {} ms, longest commit {commit} ms",
            millis(took)
        );
        assert!(took < Duration::from_secs(10), "{what}: {took:?}");
    }
    // One key in ten is left.
    assert_eq!(job.state("counts").lines().count(), 10_000);
}

#[test]
fn keys_deleted_in_order_do_not_slow_down_the_first_scan() {
    let job = job_of("greedy", 1, "", "rocksdb", "");
    let part = |word: &str, at: u64| format!("{word} {} {}", at * 200_000, (at + 1) * 200_000);
    let mut lines: Vec<String> = (0..10).map(|at| part("fill", at)).collect();
    lines.push("fill 2000000 2000001".into());
    lines.extend((0..10).map(|at| part("take", at)));
    done(&job, &lines);
    // In a process that has not seen them being deleted.
    let (_, took) = done(&job, &["first".into(), "first".into()]);
    println!(
        "first of 2,000,000 deleted keys: {} µs, then {} µs",
        took[0], took[1]
    );
    let first = job.values("out");
    assert!(
        first
            .last()
            .expect("sent")
            .contains("[0, 0, 0, 0, 0, 30, 132, 128]")
    );
    assert!(took[0] < 500_000 && took[1] < 50_000, "{took:?}");
}

#[test]
fn files_that_guests_hold_are_bounded_together() {
    const TASKS: usize = 64;
    let grant = "[stage.capabilities]\ndirectories = [{ host = \"granted\", guest = \"/g\" }]\n";
    let job = job_of("greedy", TASKS + 1, "interval = \"50ms\"", "rocksdb", grant);
    job.write("granted/file", b"content");
    let hold = |to: usize| format!("{{\"partition\":{to},\"value\":\"hold /g/file 900\"}}\n");
    let neighbour = format!("{{\"partition\":{TASKS},\"value\":\"x\"}}\n").repeat(1000);
    let lines: String = (0..TASKS).map(hold).chain([neighbour]).collect();
    job.feed(&["log", "produce", "in", "--jsonl"], lines.as_bytes())
        .expect(0);
    let running = job.limited(1024);
    wait_until("all is processed", || sent(&job).len() == TASKS + 1000);
    let open = std::fs::read_dir(format!("/proc/{}/fd", running.pid())).expect("its files");
    let open = open.count();
    running.terminate().expect(0);
    let held = |line: &String| {
        let held = line.strip_prefix("hold /g/file 900: ")?.split(' ').next()?;
        held.parse::<usize>().ok()
    };
    let held: Vec<usize> = job.values("out").iter().filter_map(held).collect();
    println!(
        "{open} files open, {} of them of guests",
        held.iter().sum::<usize>()
    );
    assert_eq!(held.len(), TASKS);
    assert!(held.iter().sum::<usize>() <= 256, "{held:?}");
    assert!(open < 512, "{open} files are open");
}

#[test]
fn only_regular_files_are_read_and_written() {
    let grant = "[stage.capabilities]\ndirectories = [\
                 { host = \"granted\", guest = \"/g\", write = true }, { host = \"/dev\", guest = \"/dev\", write = true }]\n";
    let job = job_of("obey", 2, "interval = \"50ms\"", "rocksdb", grant);
    std::fs::create_dir(job.path("granted")).expect("a folder");
    let pipe = job.path("granted/pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo").success());
    let _socket = UnixListener::bind(job.path("granted/socket")).expect("a socket");
    std::os::unix::fs::symlink("pipe", job.path("granted/link")).expect("a link");
    std::os::unix::fs::symlink("/dev/zero", job.path("granted/out")).expect("a link");
    let paths = [
        "/g/pipe",
        "/g/socket",
        "/g/link",
        "/g/out",
        "/g",
        "/dev/zero",
        "/dev/full",
        "/dev/ptmx",
        "/dev/tty",
    ];
    let mut lines = String::new();
    for path in paths {
        for word in ["file", "write"] {
            lines += &format!("{{\"partition\":0,\"value\":\"{word} {path}\"}}\n");
        }
    }
    for to in [0, 1] {
        lines += &format!("{{\"partition\":{to},\"value\":\"x\"}}\n");
    }
    job.feed(&["log", "produce", "in", "--jsonl"], lines.as_bytes())
        .expect(0);
    let began = Instant::now();
    job.call(&["run", "--until-idle"]).expect(0);
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(job.values("out"), ["x 1", "x 1"]);
    let status = job.json(&["status"]);
    assert_eq!(
        status[0]["tasks"][0]["rejected"],
        2 * paths.len(),
        "{status:?}"
    );
}

#[test]
fn the_first_entry_behind_deletes_that_are_not_committed_is_found_in_time() {
    // The deadline is the default one, and no checkpoint comes but for bytes.
    let job = job_of("greedy", 1, "interval = \"1h\"", "rocksdb", "");
    let mut text = job.text("job.toml");
    text = text.replace("on-rejected", "batch-messages = 1\non-rejected");
    job.write("job.toml", text.as_bytes());
    let of = |word: &str| {
        (0..20)
            .map(|at| format!("{word} {} {}", at * 50_000, (at + 1) * 50_000))
            .collect::<Vec<_>>()
    };
    done(&job, &of("fill"));
    let mut lines = of("take");
    lines.extend(["fill 7000000 7000001".into(), "first".into()]);
    let (_, took) = done(&job, &lines);
    let first = took.last().expect("the last line");
    println!("first entry behind a million deletes: {first} us");
    // Within the deadline, also on a machine with other work: found one by one, they would take seconds.
    assert!(*first < 800_000, "{first} µs");
}
