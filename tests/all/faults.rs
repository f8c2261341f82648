//! Guests that break rules: what is kept, what is reported, and where the job stops.

use std::time::{Duration, Instant};

use wasm_host::model::shown;

use crate::admin::metrics;
use crate::harness::{Done, Job, wait_until};
use crate::jobs::{COUNT_LOG, one_partition, with_dead};

fn obey(more: &str) -> Job {
    let text = one_partition("{guest:obey}");
    Job::new(&text.replace(
        "[stage.stores.counts]",
        &format!("batch-messages = 1\n{more}\n[stage.stores.counts]"),
    ))
}

/// Two good messages, then the bad one, then one that must not be reached.
fn stopped_by(job: &Job, bad: &str) -> Done {
    let lines = format!("one\ntwo\n{bad}\nfour\n");
    job.feed(&["log", "produce", "in"], lines.as_bytes())
        .expect(0);
    let done = job.call(&["run", "--until-idle"]).expect(3);
    assert!(
        done.stderr
            .contains("task count/0 stopped at stream \"in\", offset 2"),
        "{}",
        done.stderr
    );
    assert_eq!(
        job.values("out"),
        ["one 1", "two 2"],
        "what came before is committed, and nothing after"
    );
    done
}

#[test]
fn a_panic_stops_the_task_with_its_message_and_backtrace() {
    let job = obey("");
    let done = stopped_by(&job, "panic because");
    assert!(
        done.stderr.contains("the guest says no: because"),
        "{}",
        done.stderr
    );
    assert!(done.stderr.contains("backtrace"), "{}", done.stderr);
    for frame in ["obey", "/tests/guests/examples/obey.rs:"] {
        assert!(done.stderr.contains(frame), "{frame}: {}", done.stderr);
    }
    // A restart meets the same message.
    let again = job.call(&["run", "--until-idle"]).expect(3);
    assert!(again.stderr.contains("offset 2"), "{}", again.stderr);
    assert_eq!(job.values("out"), ["one 1", "two 2"]);
}

/// A job of the guest that changes everything that a guest can.
fn meddler(more: &str) -> Job {
    let text = one_partition("{guest:meddler}")
        .replace(
            "[streams.out]\nsystem = \"log\"\npartitions = 1",
            "[streams.out]\nsystem = \"log\"\npartitions = 3",
        )
        .replace(
            "[stage.stores.counts]",
            &format!(
                "{more}\n[stage.capabilities]\nrequest-stop = true\n\
                 [stage.stores.more]\ntype = \"memory\"\n[stage.stores.counts]"
            ),
        );
    Job::new(&text)
}

/// What a job has committed, without the times.
fn committed(job: &Job) -> (Vec<String>, [String; 2]) {
    let message = |line: &str| {
        let mut message: serde_json::Value = serde_json::from_str(line).expect("JSON");
        message
            .as_object_mut()
            .map(|fields| fields.remove("timestamp"));
        message.to_string()
    };
    let log = job.log("out").lines().map(message).collect();
    (log, ["counts", "more"].map(|store| job.state(store)))
}

/// What a job has committed after these lines and nothing else.
fn committed_after(lines: &str) -> (Vec<String>, [String; 2]) {
    let job = meddler("");
    job.feed(&["log", "produce", "in"], lines.as_bytes())
        .expect(0);
    job.call(&["run", "--until-idle"]).expect(0);
    committed(&job)
}

#[test]
fn a_rejected_message_changes_nothing_whatever_it_did() {
    let expected = committed_after("keep\nkeep\nkeep\n");
    assert_eq!(expected.0.len(), 9, "{expected:?}");
    for batch in ["", "batch-messages = 1"] {
        let job = meddler(&format!("on-rejected = \"skip\"\n{batch}"));
        job.feed(
            &["log", "produce", "in"],
            b"keep\nreject\nkeep\nreject\nreject\nkeep\n",
        )
        .expect(0);
        let mut running = job.answering();
        wait_until("all is committed", || {
            job.values("out").len() >= expected.0.len()
        });
        let metrics = metrics(&job);
        let figure = |name: &str| {
            let found = metrics.iter().find(|(series, _)| series.contains(name));
            found.map(|(_, value)| *value)
        };
        assert_eq!(figure("meddled_total"), Some(3.0), "{metrics:?}");
        assert_eq!(figure("meddled_size_count"), Some(3.0), "{metrics:?}");
        assert_eq!(figure("meddled_level"), Some(1.0), "{metrics:?}");
        assert!(running.is_running(), "it asked to be stopped, in vain");
        running.terminate().expect(0);
        assert_eq!(committed(&job), expected, "{batch}");
    }
}

#[test]
fn a_trap_changes_nothing_whatever_was_done_before_it() {
    let expected = committed_after("keep\nkeep\n");
    let job = meddler("batch-messages = 1");
    job.feed(&["log", "produce", "in"], b"keep\nkeep\ntrap\n")
        .expect(0);
    job.call(&["run", "--until-idle"]).expect(3);
    assert_eq!(committed(&job), expected);

    let expected = committed_after("keep\nkeep\nkeep\n");
    let job = meddler("batch-messages = 2");
    job.feed(&["log", "produce", "in"], b"keep\nkeep\nkeep\ntrap\n")
        .expect(0);
    let done = job.call(&["run", "--until-idle"]).expect(3);
    assert!(done.stderr.contains("offset 3 "), "{}", done.stderr);
    assert_eq!(
        committed(&job),
        expected,
        "what comes before it in its batch is kept"
    );
}

#[test]
fn a_clock_that_is_read_while_the_host_asks_for_memory_is_explained() {
    let text = obey("").text("job.toml");
    let job = Job::new(&text.replace("obey.wasm", "clock_allocator.wasm"));
    let done = stopped_by(&job, "three");
    for says in [
        "cannot leave component instance",
        "`cabi_realloc`",
        "a garbage collector that reads the clock does that",
    ] {
        assert!(done.stderr.contains(says), "{says}: {}", done.stderr);
    }
}

#[test]
fn loops_and_sleeps_end_at_the_deadline() {
    for bad in ["spin 0", "sleep 60000"] {
        let job = obey("[stage.limits]\ncall-deadline = \"100ms\"");
        let began = Instant::now();
        let done = stopped_by(&job, bad);
        assert!(
            done.stderr.contains("`call-deadline` = 100 ms"),
            "{bad}: {}",
            done.stderr
        );
        assert!(began.elapsed().as_secs() < 10, "{bad}");
    }
}

#[test]
fn limits_are_named() {
    let cases = [
        (
            "long-key 8193",
            "a key of 8193 bytes exceeds the limit `key-bytes` = 8192",
        ),
        (
            "long-value 1048577",
            "a value of 1048577 bytes exceeds the limit `value-bytes` = 1048576",
        ),
        (
            "many-bytes 20",
            "one call may write and send 16777216 bytes together",
        ),
        ("hoard 100000000", "its limit `memory` is 67108864"),
        ("port nowhere", "no output port \"nowhere\""),
        (
            "partition 1",
            "partition 1 of output port \"out\" does not exist",
        ),
        ("ttl 5", "`ttl-ms` is not supported yet"),
        ("stop now", "request-stop is not granted"),
    ];
    for (bad, says) in cases {
        let job = obey("");
        let done = stopped_by(&job, bad);
        assert!(done.stderr.contains(says), "{bad}: {}", done.stderr);
    }
}

/// Whether a terminal shows all of it as it is.
fn is_harmless(text: &str) -> bool {
    text.chars().all(|c| c == '\n' || shown::is_plain(c))
}

#[test]
fn a_name_that_a_guest_makes_up_is_cut_and_escaped() {
    for (bad, says) in [
        ("long-port 10000000", "no output port \"\\u{1b}\\u{1b}"),
        ("long-metric 2000000", "metric \"\\u{202e}\\u{202e}"),
        (
            "stop \u{202e}\u{2028}\u{9b}1m",
            "request-stop is not granted",
        ),
        (
            "panic \u{202e}\u{2028}\u{9b}1m",
            "no: \\u{202e}\\u{2028}\\u{9b}1m",
        ),
    ] {
        let done = stopped_by(&obey(""), bad).says(says);
        assert!(is_harmless(&done.stderr), "{bad}: {}", done.stderr);
        // It is reported as a line of the log, and at the end.
        let bytes = done.stderr.len();
        assert!(bytes < 64 << 10, "{bad}: {bytes} bytes");
    }
}

#[test]
fn a_reason_is_cut_and_escaped() {
    for (grant, bad) in [
        ("", "reject"),
        ("[stage.capabilities]\nrequest-stop = true", "stop"),
    ] {
        let job = obey(grant);
        let reason = "\u{202e}".repeat(100_000);
        job.feed(
            &["log", "produce", "in"],
            format!("{bad} {reason}\n").as_bytes(),
        )
        .expect(0);
        let done = job.call(&["run", "--until-idle"]).expect(3);
        let done = done.says("\\u{202e}\\u{202e}");
        assert!(is_harmless(&done.stderr), "{bad}: {}", done.stderr);
        let bytes = done.stderr.len();
        assert!(bytes < 32 << 10, "{bad}: {bytes} bytes");
    }
}

#[test]
fn a_limit_of_wasi_is_named_with_the_call() {
    let job = obey("[stage.capabilities]\ndirectories = [{ host = \"granted\", guest = \"/g\" }]");
    job.write("granted/file", b"what it says");
    stopped_by(&job, "files /g/file 1001")
        .says("an instance may hold 1000 streams, descriptors and pollables of WASI")
        .says("(in a call of the host by `filesystem_method_descriptor_open_at`)");
}

#[test]
fn lines_of_a_guest_are_told_from_those_of_the_host() {
    let job = obey("");
    let lines = "say 2026-01-01T00:00:00Z ERROR job \"count\" failed task=other/0\nsay a\u{2028}b\u{1b}[2J\n";
    job.feed(&["log", "produce", "in"], lines.as_bytes())
        .expect(0);
    let done = job.call(&["run", "--until-idle"]).expect(0);
    assert!(is_harmless(&done.stderr), "{}", done.stderr);
    let guest: Vec<&str> = done
        .stderr
        .lines()
        .filter_map(|line| line.split_once("Z  INFO guest: ").map(|(_, rest)| rest))
        .collect();
    assert_eq!(
        guest,
        [
            "2026-01-01T00:00:00Z ERROR job \"count\" failed task=other/0 task=count/0",
            "a\\u{2028}b\\u{1b}[2J task=count/0"
        ],
        "{}",
        done.stderr
    );
    assert!(
        done.stderr.contains("INFO job \"count\" stopped"),
        "{}",
        done.stderr
    );
}

#[test]
fn a_guest_reaches_nothing_that_was_not_granted() {
    let job = obey("on-rejected = \"skip\"");
    let lines = b"file /etc/passwd\nwrite /tmp/x\nconnect 127.0.0.1:1\nenv\n";
    job.feed(&["log", "produce", "in"], lines).expect(0);
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out"), ["0"], "no file, no socket, no variable");
}

#[test]
fn granted_variables_are_seen_and_no_others() {
    let mut job = obey(
        "on-rejected = \"skip\"\n[stage.capabilities]\nenvironment = [\"SECRET_OF_THE_TEST\"]",
    );
    let lines = b"variable SECRET_OF_THE_TEST\nvariable HOME\nvariable PATH\n";
    job.feed(&["log", "produce", "in"], lines).expect(0);
    job.call(&["run", "--until-idle"])
        .expect(2)
        .says("the environment variable SECRET_OF_THE_TEST is not set");
    job.env("SECRET_OF_THE_TEST", "s3cret");
    let shown = job.call(&["validate"]).expect(0);
    assert!(
        shown.stdout.contains("SECRET_OF_THE_TEST"),
        "{}",
        shown.stdout
    );
    assert!(!shown.stdout.contains("s3cret"), "{}", shown.stdout);
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out"), ["s3cret"]);
}

#[test]
fn with_store_time_the_messages_of_a_batch_see_one_time() {
    for (clocks, same) in [("real", false), ("store-time", true)] {
        let job = obey(&format!("[stage.capabilities]\nclocks = \"{clocks}\""));
        // One batch.
        let text = job.text("job.toml");
        let text = text.replace("\"50ms\"", "\"10s\"\nearly = false");
        let text = text.replace("batch-messages = 1\n", "");
        job.write("job.toml", text.as_bytes());
        job.feed(
            &["log", "produce", "in"],
            b"clock\nburn 20\nsleep 20\nclock\n",
        )
        .expect(0);
        job.call(&["run", "--until-idle"]).expect(0);
        let times = job.values("out");
        assert_eq!(times.len(), 2);
        assert_eq!(times[0] == times[1], same, "{clocks}: {times:?}");
        assert!(
            times[0]
                .parse::<u64>()
                .is_ok_and(|time| time > 1_700_000_000_000)
        );
    }
}

#[test]
fn a_guest_connects_to_what_was_granted_and_to_nothing_else() {
    let granted = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = |listener: &std::net::TcpListener| listener.local_addr().expect("a port").port();
    let (port, other) = (port(&granted), port(&other));
    let job = obey(&format!(
        "on-rejected = \"skip\"\n[stage.capabilities]\nnetwork = [\"localhost:{port}\"]"
    ));
    let lines = format!("connect 127.0.0.1:{port}\nconnect 127.0.0.1:{other}\nplain\n");
    job.feed(&["log", "produce", "in"], lines.as_bytes())
        .expect(0);
    job.call(&["run", "--until-idle"]).expect(0);
    granted.set_nonblocking(true).expect("set");
    assert!(granted.accept().is_ok(), "it has connected");
    assert_eq!(
        job.json(&["status"])[0]["tasks"][0]["rejected"],
        1,
        "and to nothing else"
    );
}

#[test]
fn a_granted_folder_can_be_read_and_not_written() {
    let job = obey(
        "on-rejected = \"skip\"\n[stage.capabilities]\ndirectories = [{ host = \"granted\", guest = \"/g\" }]",
    );
    job.write("granted/file", b"what it says");
    job.feed(&["log", "produce", "in"], b"file /g/file\nwrite /g/new\n")
        .expect(0);
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out"), ["what it says"]);
    assert!(!job.path("granted/new").exists());
}

#[test]
fn a_rejected_message_leaves_nothing_behind_and_becomes_a_dead_letter() {
    let job = obey("on-rejected = \"dead-letter\"\ndead-letters = \"dead\"");
    job.write_job(&with_dead(&job.text("job.toml")));
    job.feed(
        &["log", "produce", "in", "--key-separator", "="],
        b"k=one\nk=reject why\nk=three\n",
    )
    .expect(0);
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out"), ["one 1", "three 2"]);
    let letters = job.log("dead");
    assert_eq!(letters.lines().count(), 1, "{letters}");
    for part in [
        r#""key":"k","value":"reject why""#,
        r#"["wasm-host.job","count"]"#,
        r#"["wasm-host.stage","count"]"#,
        r#"["wasm-host.task","count/0"]"#,
        r#"["wasm-host.stream","in"]"#,
        r#"["wasm-host.partition","0"]"#,
        r#"["wasm-host.offset","1"]"#,
        r#"["wasm-host.reason","why"]"#,
        r#"["wasm-host.attempts","1"]"#,
    ] {
        assert!(letters.contains(part), "{part} is not in {letters}");
    }
    assert!(!job.state("counts").contains("rejected"));
}

#[test]
fn a_batch_that_fails_is_processed_one_by_one() {
    let text = one_partition("{guest:picky}");
    let text = text.replace(
        "[stage.stores.counts]",
        "on-rejected = \"skip\"\n[stage.stores.counts]",
    );
    let job = Job::new(&text);
    job.feed(&["log", "produce", "in"], b"a\nreject\nb\nerr\nc\nreject\n")
        .expect(0);
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out"), ["a", "b", "c"]);
    let status = job.json(&["status"]);
    assert_eq!(status[0]["tasks"][0]["rejected"], 3, "{status:?}");
}

#[test]
fn writing_in_open_traps() {
    let job = Job::new(&COUNT_LOG.replace("{guest:counter}", "{guest:early_writer}"));
    job.feed(&["log", "produce", "in"], b"a\n").expect(0);
    job.call(&["run", "--until-idle"])
        .expect(3)
        .says("put outside of a batch");
}

/// A job whose guest breaks the rule that a message names.
fn hostile(limits: &str) -> Job {
    let text = one_partition("{guest:hostile}");
    Job::new(&text.replace(
        "[stage.stores.counts]",
        &format!("[stage.limits]\n{limits}\n[stage.stores.counts]"),
    ))
}

#[test]
fn a_call_of_the_host_ends_at_the_deadline_too() {
    // Between two of its calls the guest would be interrupted; one takes longer than the deadline.
    let job = hostile("memory = \"256MiB\"\ncall-deadline = \"100ms\"");
    job.feed(&["log", "produce", "in"], b"slow-keys\n")
        .expect(0);
    let began = Instant::now();
    job.call(&["run", "--until-idle"])
        .expect(3)
        .says("the call took longer than `call-deadline` = 100 ms")
        .says("get_many");
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn malformed_rejections_trap_and_long_ones_are_cut() {
    let text = with_dead(&one_partition("{guest:careless}").replace(
        "[stage.stores.counts]",
        "on-fault = \"fail\"\ndead-letters = \"dead\"\n[stage.stores.counts]",
    ));
    for (lines, says) in [
        (
            "beyond\nb\n",
            "a rejection of message 1, but the batch has 1",
        ),
        ("twice\nb\n", "message 0 is rejected twice"),
    ] {
        let job = Job::new(&text);
        job.feed(&["log", "produce", "in"], lines.as_bytes())
            .expect(0);
        job.call(&["run", "--until-idle"]).expect(3).says(says);
        assert_eq!(job.values("dead"), Vec::<String>::new());
    }
    let job = Job::new(&text);
    job.feed(&["log", "produce", "in"], b"long\n").expect(0);
    job.call(&["run", "--until-idle"]).expect(0);
    let letter = job.log("dead");
    let header = |name: &str, byte: &str, bytes: usize| {
        format!("[\"wasm-host.{name}\",\"{}\"]", byte.repeat(bytes))
    };
    assert!(letter.contains(&header("reason", "x", 1 << 10)), "{letter}");
    assert!(
        letter.contains(&header("detail", "y", 16 << 10)),
        "{letter}"
    );
}

#[test]
fn a_guest_that_may_stop_its_task_does_so_after_the_batch() {
    let job = obey("[stage.capabilities]\nrequest-stop = true");
    job.feed(&["log", "produce", "in"], b"one\nstop all is said\nthree\n")
        .expect(0);
    job.call(&["run", "--until-idle"])
        .expect(3)
        .says("task count/0 stopped")
        .says("the guest asked to be stopped: all is said");
    assert_eq!(job.values("out"), ["one 1"]);
    let status = job.json(&["status"]);
    assert_eq!(
        status[0]["tasks"][0]["processed"], 2,
        "the batch in which it asked is kept: {status:?}"
    );
    // A restart goes on behind it.
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out"), ["one 1", "three 2"]);
}

#[test]
fn malformed_arguments_trap_with_a_sentence() {
    let cases = [
        ("decreasing", "`ends` decreases at index 1"),
        (
            "cut-end",
            "`ends` of keys has 7 bytes, which are no whole number of packed numbers of 4 bytes",
        ),
        ("cut-absent", "`absent` of keys has 1 bytes"),
        (
            "cut-time",
            "`timestamps` has 7 bytes, which are no whole number of packed numbers of 8 bytes",
        ),
        ("cut-partition", "`partitions` has 2 bytes"),
        (
            "too-long",
            "the last of `ends` is 9, but `data` has 2 bytes",
        ),
        ("absent-key", "a key in the column of keys is absent"),
        ("uneven", "put-many has 2 keys and 1 values"),
        ("zero-entries", "next asks for 0 entries"),
        ("bad-counter", "the value has 3 bytes, but a counter has 8"),
        ("overflow", "exceeds 64 bits"),
        ("many-cursors", "may have 16 cursors open"),
        ("many-stores", "may hold 1000 handles"),
        ("keep-cursor\nuse-cursor", "the cursor has ended"),
        ("headers-of-two", "headers of 2 messages for 1 messages"),
        ("headers-beyond", "speak of 2 headers"),
        ("headers-uneven", "there are 1 names and 2 values"),
        (
            "header-without-name",
            "the name of header 0 is absent or not UTF-8",
        ),
        (
            "header-not-text",
            "the name of header 0 is absent or not UTF-8",
        ),
        (
            "many-keys",
            "get-many has 2097153 keys, and one call returns at most 2097152 values",
        ),
        (
            "long-line",
            "one call of the host copies at most 67108864 bytes out of the guest",
        ),
    ];
    for (lines, says) in cases {
        let job = hostile("memory = \"256MiB\"");
        job.feed(&["log", "produce", "in"], lines.as_bytes())
            .expect(0);
        // A cursor is kept by the instance that failed first, which is logged, and not by the one that failed last.
        job.call(&["run", "--until-idle"]).expect(3).says(says);
    }
}
