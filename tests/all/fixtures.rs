//! Directories of formats that landed: every later host opens them, reads what is in them, and goes on.

use crate::contract::frozen_component;
use crate::harness::{Job, copy, in_repository, wait_until};
use crate::jobs::{COUNT_LOG, with_dead};
use crate::swaps::{Version, feed, stage};

#[test]
fn a_state_directory_of_format_1_is_continued() {
    let job = Job::new(COUNT_LOG);
    copy(
        &in_repository("tests/fixtures/state-1"),
        &job.path(".wasm-host/count"),
    );
    let counted = |job: &Job| {
        let mut values = job.values("out");
        values.sort();
        values
    };
    assert_eq!(counted(&job), ["a 1", "a 2", "b 1"]);
    // One message was appended after the last checkpoint.
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(counted(&job), ["a 1", "a 2", "b 1", "b 2"]);
    let appended = job.log("in");
    assert!(
        appended.contains(
            r#""timestamp":5,"key":"b","value":{"base64":"/w=="},"headers":[["h",null]]"#
        ),
        "{appended}"
    );
    let format = job.text(".wasm-host/count/FORMAT");
    assert!(format.starts_with("{\"format\":5,"), "{format}");
}

#[test]
fn a_state_directory_of_format_2_is_continued() {
    let job = Job::new(COUNT_LOG);
    let state = ".wasm-host/count";
    copy(&in_repository("tests/fixtures/state-2"), &job.path(state));
    let counted = |job: &Job| {
        let mut values = job.values("out");
        values.sort();
        values
    };
    assert_eq!(counted(&job), ["a 1", "a 2", "b 1", "c 1", "c 2"]);
    // Two messages were appended to a segment after the last checkpoint.
    job.call(&["run", "--until-idle"]).expect(0);
    let values = ["a 1", "a 2", "b 1", "c 1", "c 2", "d 1", "d 2"];
    assert_eq!(counted(&job), values);
    let appended = job.log("in");
    let large = |letter: &str| appended.matches(&letter.repeat(40_000)).count();
    assert_eq!((large("x"), large("y")), (2, 2));
}

/// Of format 3: letters of which one is queued and one dropped, keys that wait for theirs, and a task that is held.
#[test]
fn a_state_directory_of_format_3_is_continued() {
    let more = "dead-letters = \"dead\"\ndead-letter-order = \"key\"\n\
                breaker = { share = \"40%\", at-least = 3 }\n\
                [stage.capabilities]\ndirectories = [{ host = \"here\", guest = \"/here\" }]\n\
                [stage.stores.counts]";
    let text = COUNT_LOG
        .replace("{guest:counter}", "{guest:obey}")
        .replace("[stage.stores.counts]", more);
    let job = Job::new(&with_dead(&text));
    std::fs::create_dir(job.path("here")).expect("a folder");
    copy(
        &in_repository("tests/fixtures/state-3"),
        &job.path(".wasm-host/count"),
    );
    let letters = |job: &Job| -> Vec<String> {
        let letters = job.json(&["dlq", "list", "--letters"]);
        let shown = |letter: &serde_json::Value| {
            let text = |field: &str| letter[field].as_str().expect("text").to_owned();
            format!("{} {} {}", text("task"), text("kind"), text("state"))
        };
        letters.iter().map(shown).collect()
    };
    assert_eq!(letters(&job), LETTERS_OF_FORMAT_3);
    let task = &job.json(&["status"])[0]["tasks"][1];
    assert_eq!(task["state"], "held", "{task}");
    assert_eq!(task["held"]["kind"], "breaker", "{task}");
    assert_eq!(task["held"]["offset"], 4, "{task}");
    // The guest is mended: everything is processed in the order of its key.
    for key in ["a", "b", "x", "y", "z", "w"] {
        job.write(&format!("here/{key}"), b"");
    }
    job.call(&["run", "--until-idle"]).expect(0);
    job.call(&["dlq", "replay"]).expect(0);
    job.call(&["run", "--until-idle"]).expect(0);
    let left = letters(&job);
    let open = left.iter().filter(|letter| letter.ends_with(" open"));
    // What was rejected is rejected again.
    assert!(open.count() <= 1, "{left:?}");
    let sent = job.values("out");
    for value in ["after a", "after w", "panic-without /here/x"] {
        let found = sent.iter().filter(|sent| sent.starts_with(value));
        assert_eq!(found.count(), 1, "{value}: {sent:?}");
    }
}

const LETTERS_OF_FORMAT_3: [&str; 5] = [
    "count/1 trap open",
    "count/1 trap open",
    "count/1 trap open",
    "count/1 behind dropped",
    "count/0 trap queued",
];

/// Of format 4: a swap that is done, one that was rolled back, and one in its probation.
#[test]
fn a_state_directory_of_format_4_is_continued() {
    let text = COUNT_LOG
        .replace("partitions = 2", "partitions = 1")
        .replace("streams.out", "streams.results")
        .replace("{guest:counter}", "task.wasm")
        .replace("outputs = [\"out\"]", "outputs = [\"results\"]")
        .replace("stores.counts", "stores.a");
    let job = Job::new(&text);
    let versions = [1, 2].map(|number| Version::made(frozen_component("c-message"), number));
    versions[0].put(&job, "task.wasm");
    let state = ".wasm-host/count";
    copy(&in_repository("tests/fixtures/state-4"), &job.path(state));
    for version in &versions {
        version.put(&job, &format!("{state}/code/{}.wasm", version.sha256));
    }
    let swaps = |job: &Job| -> Vec<String> {
        let swaps = job.json(&["swap", "count", "--status"]);
        let shown = |swap: &serde_json::Value| {
            let (state, label) = (swap["state"].as_str(), swap["label"].as_str());
            format!("{} {}", label.expect("a label"), state.expect("a state"))
        };
        swaps.iter().map(shown).collect()
    };
    assert_eq!(
        swaps(&job),
        ["two done", "one rolled-back", "again probation"]
    );
    let running = job.answering();
    feed(&job, (0..4).map(|_| ("k".into(), "get a 6b".into())));
    wait_until("the probation is over", || swaps(&job)[2] == "again done");
    running.terminate().expect(0);
    assert_eq!(stage(&job)["component"], versions[0].sha256);
    assert_eq!(swaps(&job), ["two done", "one rolled-back", "again done"]);
    let expected = [
        "put; get 31",
        "put; get 32",
        "get 32",
        "put; get 33",
        "get 33",
        "get 33",
        "get 33",
        "get 33",
    ];
    assert_eq!(job.values("results"), expected);
}
