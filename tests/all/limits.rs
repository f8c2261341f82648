//! Each key of `[stage.limits]` is what ends a call, and the letter says so.

use crate::harness::Job;
use crate::jobs::{one_partition, with_dead};

/// A job of this guest that goes on behind dead letters.
fn with_letters(guest: &str) -> String {
    let text = with_dead(&one_partition(&format!("{{guest:{guest}}}")));
    let stores = "[stage.stores.counts]";
    text.replace(stores, &format!("dead-letters = \"dead\"\n{stores}"))
}

#[test]
fn each_limit_of_the_job_file_is_what_ends_the_call() {
    let cases = [
        (
            "obey",
            "staged-bytes = \"2MiB\"",
            "many-bytes 3",
            "limit",
            "2097152 bytes together (`staged-bytes`)",
        ),
        (
            "obey",
            "operations = 10",
            "ranges 11",
            "limit",
            "10 operations of the host (`operations`)",
        ),
        (
            "obey",
            "fuel = 10_000_000",
            "spin 0",
            "limit",
            "the call took more than `fuel` = 10000000",
        ),
        (
            "obey",
            "call-deadline = \"100ms\"",
            "spin 0",
            "deadline",
            "`call-deadline` = 100 ms",
        ),
        (
            "obey",
            "key-bytes = \"1KiB\"",
            "long-key 1025",
            "limit",
            "`key-bytes` = 1024",
        ),
        (
            "obey",
            "value-bytes = \"1KiB\"",
            "long-value 1025",
            "limit",
            "`value-bytes` = 1024",
        ),
        (
            "obey",
            "memory = \"4MiB\"",
            "hoard 9000000",
            "memory",
            "its limit `memory` is 4194304",
        ),
        (
            "hostile",
            "cursors = 2",
            "many-cursors",
            "limit",
            "2 cursors open (`cursors`)",
        ),
        (
            "hostile",
            "handles = 16",
            "many-stores",
            "limit",
            "16 handles to stores (`handles`)",
        ),
        (
            "hostile",
            "memory = \"256MiB\"",
            "many-keys",
            "limit",
            "returns at most 2097152 values",
        ),
        (
            "hostile",
            "headers = 0",
            "one-header",
            "limit",
            "0 headers (`headers`)",
        ),
        (
            "hostile",
            "header-bytes = \"1B\"",
            "one-header",
            "limit",
            "1 bytes (`header-bytes`)",
        ),
        (
            "hostile",
            "metric-names = 1",
            "two-metrics",
            "limit",
            "may use 1 names (`metric-names`)",
        ),
    ];
    for (guest, limit, bad, kind, says) in cases {
        let text = with_letters(guest);
        let job = Job::new(&format!("{text}\n[stage.limits]\n{limit}\n"));
        let lines = format!("one\n{bad}\nthree\n");
        job.feed(&["log", "produce", "in"], lines.as_bytes())
            .expect(0);
        job.call(&["run", "--until-idle"]).expect(0);
        let letters = job.json(&["dlq", "list", "--letters"]);
        assert_eq!(letters.len(), 1, "{limit}: {letters:?}");
        assert_eq!(letters[0]["kind"], kind, "{limit}: {letters:?}");
        let reason = letters[0]["reason"].as_str().expect("a reason");
        assert!(reason.contains(says), "{limit}: {reason}");
    }
}

#[test]
fn fuel_ends_a_call_at_the_same_instruction_each_time() {
    // How far it comes is what it has said by then.
    let text = with_letters("obey");
    let said = |fuel: u64| {
        let limits = format!("[stage.limits]\nfuel = {fuel}\nlog-rate = \"1000000/s\"\n");
        let job = Job::new(&format!("{text}\n{limits}"));
        job.feed(&["log", "produce", "in"], b"count-aloud\n")
            .expect(0);
        let done = job.call(&["run", "--until-idle"]).expect(0);
        done.stderr.matches("counts to ").count()
    };
    let first = said(3_000_000);
    assert!(first > 100, "{first} lines");
    assert_eq!(said(3_000_000), first);
    let twice = said(6_000_000);
    assert!(twice > first * 3 / 2, "{first}, then {twice}");
}

#[test]
fn lines_beyond_the_log_rate_are_counted() {
    let text = one_partition("{guest:obey}");
    let job = Job::new(&format!("{text}\n[stage.limits]\nlog-rate = \"10/m\"\n"));
    let lines = "say this\n".repeat(25);
    job.feed(&["log", "produce", "in"], lines.as_bytes())
        .expect(0);
    let done = job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(done.stderr.matches("this").count(), 10, "{}", done.stderr);
    assert!(
        done.stderr
            .contains("15 lines were dropped: `log-rate` is 10 in 60 s"),
        "{}",
        done.stderr
    );
}
