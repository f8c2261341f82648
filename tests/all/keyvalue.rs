//! Components that were built against the published `wasi:keyvalue` packages run unchanged on our stores.

use crate::harness::Job;
use crate::jobs::one_partition;

fn job(guest: &str) -> Job {
    let text = one_partition(&format!("{{guest:{guest}}}"));
    Job::new(&format!("{text}\n[stage.config]\nunit = \"minutes\"\n"))
}

/// Tells the guest these things, and compares what it answers.
fn answers(job: &Job, expected: &[(&str, &str)]) {
    let input: String = expected
        .iter()
        .map(|(line, _)| format!("{line}\n"))
        .collect();
    job.feed(&["log", "produce", "in"], input.as_bytes())
        .expect(0);
    job.call(&["run", "--until-idle"]).expect(0);
    let found = job.values("out");
    let expected: Vec<String> = expected
        .iter()
        .map(|(line, answer)| format!("{line}: {answer}"))
        .collect();
    assert_eq!(found[found.len() - expected.len()..], expected);
}

/// What both drafts say alike.
const ALIKE: &[(&str, &str)] = &[
    ("open counts", "opened"),
    ("open", "opened"),
    ("open other", "no such store"),
    ("config unit", "minutes"),
    ("log line", "logged"),
    ("get a", "absent"),
    ("exists a", "false"),
    ("list", "0 keys   sorted=true many-pages=false"),
    ("set a 1", "done"),
    ("get a", "1"),
    ("exists a", "true"),
    ("set a 2", "done"),
    ("set-many b=3 c= a=4", "done"),
    ("get a", "4"),
    ("get c", ""),
    ("exists c", "true"),
    ("delete b", "done"),
    ("delete b", "done"),
    ("get b", "absent"),
    ("set-many x=1 y=2 z=3", "done"),
    ("delete-many x nothing z", "done"),
    ("list", "3 keys a y sorted=true many-pages=false"),
    ("increment n 5", "5"),
    ("increment n 37", "42"),
    (
        "increment a 1",
        "error: the value has 1 bytes, but a counter has 8",
    ),
    (
        "set-long v 1048577",
        "error: a value of 1048577 bytes exceeds the limit `value-bytes` = 1048576",
    ),
    (
        "get-long 8193",
        "error: a key of 8193 bytes exceeds the limit `key-bytes` = 8192",
    ),
    ("get v", "absent"),
];

#[test]
fn the_first_draft_runs_on_our_stores() {
    let job = job("keyvalue_draft");
    answers(&job, ALIKE);
    answers(
        &job,
        &[
            ("get-many a nothing y", "a=4 absent y=2"),
            (
                "increment n 18446744073709551615",
                "error: a counter ends at 2^63 - 1",
            ),
            ("fill 5000", "done"),
            ("list", "5004 keys a y sorted=true many-pages=true"),
        ],
    );
    // It is the store that everybody else sees.
    let done = job.call(&["state", "get", "counts", "y"]).expect(0);
    assert_eq!(done.stdout.trim_end(), "y\t2");
}

#[test]
fn the_second_draft_runs_on_our_stores() {
    let job = job("keyvalue_draft2");
    answers(&job, ALIKE);
    answers(
        &job,
        &[
            ("get-many a nothing y", "a=4 nothing=absent y=2"),
            ("increment n -50", "-8"),
            ("swap s 1", "swapped absent"),
            ("swap s 2", "swapped 1"),
            ("swap-late s 3 4", "failed, then 3, then true"),
            ("get s", "4"),
            ("fill 5000", "done"),
            ("list", "5005 keys a y sorted=true many-pages=true"),
        ],
    );
}

#[test]
fn both_drafts_and_our_own_interface_see_one_store() {
    let job = job("keyvalue_draft");
    answers(&job, &[("set a 1", "done"), ("increment n 7", "7")]);
    let text = job.text("job.toml");
    job.write_job(&text.replace("keyvalue_draft.wasm", "keyvalue_draft2.wasm"));
    answers(
        &job,
        &[
            ("get a", "1"),
            ("increment n -8", "-1"),
            ("set a 2", "done"),
        ],
    );
    job.write_job(&text);
    answers(
        &job,
        &[
            ("get a", "2"),
            (
                "increment n 0",
                "error: the counter would be -1, and this draft has no negative ones",
            ),
        ],
    );
    // What cannot be answered is not done either.
    job.write_job(&text.replace("keyvalue_draft.wasm", "keyvalue_draft2.wasm"));
    answers(&job, &[("increment n -9", "-10")]);
    job.write_job(&text);
    answers(
        &job,
        &[
            (
                "increment n 5",
                "error: the counter would be -5, and this draft has no negative ones",
            ),
            ("increment n 15", "5"),
        ],
    );
}

#[test]
fn a_key_that_is_not_text_is_an_error() {
    let job = Job::new(&one_partition("{guest:raw_relay}"));
    job.feed(
        &["log", "produce", "in", "--jsonl"],
        b"{\"key\":{\"base64\":\"/w==\"},\"value\":\"x\"}\n",
    )
    .expect(0);
    job.call(&["run", "--until-idle"]).expect(0);
    let text = job.text("job.toml");
    job.write_job(&text.replace("raw_relay.wasm", "keyvalue_draft2.wasm"));
    answers(
        &job,
        &[
            ("list", "error: the store has a key that is not UTF-8"),
            ("get a", "absent"),
        ],
    );
}
