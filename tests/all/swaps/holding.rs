//! New code whose output is held: released, or taken back with all that it has done.

use super::{Version, begun, feed, job_of, last, one, out, stage, stop, swap};
use crate::harness::{Job, wait_until};

fn state(job: &Job) -> String {
    last(job)["state"].as_str().expect("a state").to_owned()
}

fn is(job: &Job, expected: &str) {
    wait_until(expected, || state(job) == expected);
}

/// Whether the tasks have processed so many messages.
pub fn processed(job: &Job, messages: u64) {
    wait_until("they are processed", || {
        job.processed() >= messages && stage(job)["hold"]["state-keys"] != 0
    });
}

#[test]
fn output_is_held_until_the_probation_is_over() {
    let (first, second) = (Version::of("versions", 60), Version::of("versions", 61));
    let (job, running) = begun(job_of(&first));
    let done = swap(&job, &second, &["--hold-output", "--probation", "4"]).expect(0);
    assert!(done.stdout.contains("holding"), "{}", done.stdout);
    assert_eq!(last(&job)["mode"], "hold-output");
    for value in ["b", "c", "d"] {
        feed(&job, one(value));
    }
    processed(&job, 4);
    assert_eq!(job.values("out").len(), 1);
    assert!(stage(&job)["hold"]["output-bytes"].as_u64() > Some(0));
    feed(&job, one("e"));
    is(&job, "done");
    let expected = [
        ("a", &first, 1),
        ("b", &second, 2),
        ("c", &second, 3),
        ("d", &second, 4),
        ("e", &second, 5),
    ];
    let expected =
        expected.map(|(value, version, count)| format!("{value} {} {count}", version.short()));
    assert_eq!(out(&job, 5), expected);
    assert!(stage(&job)["hold"].is_null());
    stop(running);
}

#[test]
fn what_was_held_is_taken_back_and_done_again_by_the_code_before() {
    for wish in ["a regression", "a person"] {
        let (first, second) = (Version::of("versions", 62), Version::of("versions", 63));
        let (job, running) = begun(job_of(&first));
        swap(&job, &second, &["--hold-output"]).expect(0);
        let poison = format!("panic {} x", second.short());
        for value in ["b", "c"] {
            feed(&job, one(value));
        }
        processed(&job, 3);
        assert_eq!(job.values("out").len(), 1);
        if wish == "a person" {
            job.call(&["swap", "count", "--rollback"]).expect(0);
        }
        feed(&job, one(&poison));
        is(&job, "rolled-back");
        feed(&job, one("d"));
        let values = ["a", "b", "c", &poison, "d"];
        let expected = values
            .iter()
            .zip(1..)
            .map(|(value, count)| format!("{value} {} {count}", first.short()));
        assert_eq!(out(&job, 5), expected.collect::<Vec<_>>(), "{wish}");
        assert!(stage(&job)["hold"].is_null());
        assert_eq!(stage(&job)["component"], first.sha256);
        stop(running);
    }
}

/// A job whose new code holds its output, and has processed a message.
fn held(first: &Version, second: &Version, more: &str) -> (Job, crate::harness::Running) {
    let job = job_of(first);
    let text = job.text("job.toml").replace(
        "[stage.stores.counts]",
        &format!("{more}\n[stage.stores.counts]"),
    );
    job.write_job(&text);
    let (job, running) = begun(job);
    swap(&job, second, &["--hold-output"]).expect(0);
    feed(&job, one("b"));
    processed(&job, 2);
    (job, running)
}

/// What came out, all by one version.
fn lines(version: &Version, values: &[&str]) -> Vec<String> {
    let numbered = values.iter().zip(1..);
    let line = |(value, count)| format!("{value} {} {count}", version.short());
    numbered.map(line).collect()
}

#[test]
fn a_stage_that_holds_more_than_it_may_goes_back() {
    let (first, second) = (Version::of("versions", 66), Version::of("versions", 67));
    let (job, running) = held(&first, &second, "swap = { hold-bytes = \"1MiB\" }");
    let large = "x".repeat(600_000);
    feed(&job, one(&large));
    feed(&job, one(&large));
    is(&job, "rolled-back");
    let reason = last(&job)["reason"].to_string();
    assert!(
        reason.contains("more than `hold-bytes` = 1048576"),
        "{reason}"
    );
    assert_eq!(out(&job, 4), lines(&first, &["a", "b", &large, &large]));
    stop(running);
}

#[test]
fn a_hold_goes_on_at_the_next_start_and_other_code_waits_for_its_end() {
    let [first, second, third] = [68, 69, 70].map(|number| Version::of("versions", number));
    let (job, running) = held(&first, &second, "");
    let ended = running.terminate().expect(0);
    ended.says("the output of its new code is still held");
    third.put(&job, "task.wasm");
    job.call(&["run", "--from-file"])
        .expect(2)
        .says("holds the output of the code that runs");
    let running = job.answering();
    assert!(
        running.stderr().contains("because its output is held"),
        "{}",
        running.stderr()
    );
    feed(&job, one("c"));
    processed(&job, 1);
    assert_eq!(
        (state(&job), &stage(&job)["component"]),
        ("holding".into(), &(&*second.sha256).into())
    );
    assert_eq!(job.values("out").len(), 1);
    job.call(&["swap", "count", "--rollback"]).expect(0);
    assert_eq!(out(&job, 3), lines(&first, &["a", "b", "c"]));
    stop(running);
    let running = job.answering();
    feed(&job, one("d"));
    assert_eq!(out(&job, 4)[3], format!("d {} 4", third.short()));
    stop(running);
}

/// What was the code before the swap is put back into the file: that decides nothing.
#[test]
fn a_start_with_the_code_before_in_its_file_releases_nothing() {
    let [first, second] = [90, 91].map(|number| Version::of("versions", number));
    let job = job_of(&first);
    let (job, running) = begun(job);
    second.put(&job, "task.wasm");
    job.call(&["swap", "count", "--hold-output"]).expect(0);
    feed(&job, one("b"));
    processed(&job, 2);
    stop(running);
    first.put(&job, "task.wasm");
    let running = job.answering();
    assert_eq!(state(&job), "holding");
    assert_eq!(job.values("out").len(), 1);
    job.call(&["swap", "count", "--rollback"]).expect(0);
    assert_eq!(out(&job, 2), lines(&first, &["a", "b"]));
    stop(running);
}

#[test]
fn a_job_that_has_lost_the_stream_of_held_output_is_refused() {
    let [first, second] = [92, 93].map(|number| Version::of("versions", number));
    let (job, running) = held(&first, &second, "");
    stop(running);
    let before = job.text("job.toml");
    job.write_job(
        &before
            .replace("streams.out", "streams.other")
            .replace("outputs = [\"out\"]", "outputs = { out = \"other\" }"),
    );
    job.call(&["run"])
        .expect(4)
        .says("holds output for a stream that the job file does not write any more");
    job.write_job(&before);
    let running = job.answering();
    job.call(&["swap", "count", "--promote"]).expect(0);
    let values = [
        format!("a {} 1", first.short()),
        format!("b {} 2", second.short()),
    ];
    assert_eq!(out(&job, 2), values);
    stop(running);
}

/// A message counts as appended when it comes out.
#[test]
fn what_was_held_for_long_is_not_too_old_for_its_log() {
    let [first, second] = [94, 95].map(|number| Version::of("versions", number));
    let job = job_of(&first);
    let text = job.text("job.toml");
    let aged = "[streams.out]\nsystem = \"log\"\nretention = { age = \"2s\" }\n";
    job.write_job(&text.replace("[streams.out]\nsystem = \"log\"\n", aged));
    let running = job.answering();
    swap(&job, &second, &["--hold-output"]).expect(0);
    feed(&job, one("a"));
    processed(&job, 1);
    std::thread::sleep(std::time::Duration::from_millis(2_500));
    job.call(&["swap", "count", "--promote"]).expect(0);
    assert_eq!(out(&job, 1), [format!("a {} 1", second.short())]);
    // A checkpoint asks for what is too old.
    feed(&job, one("b"));
    assert_eq!(out(&job, 2).len(), 2);
    stop(running);
}

#[test]
fn a_store_that_came_with_code_that_went_back_with_its_state_is_gone() {
    let (first, second) = (Version::of("versions", 71), Version::of("versions", 72));
    let (job, running) = begun(job_of(&first));
    let before = job.text("job.toml");
    job.write_job(&(before.clone() + "[stage.stores.between]\n"));
    swap(&job, &second, &["--hold-output"]).expect(0);
    feed(&job, one("b"));
    processed(&job, 2);
    job.call(&["swap", "count", "--rollback"]).expect(0);
    assert_eq!(out(&job, 2), lines(&first, &["a", "b"]));
    stop(running);
    // Nobody has to drop it.
    job.write_job(&before);
    let running = job.answering();
    feed(&job, one("c"));
    assert_eq!(out(&job, 3), lines(&first, &["a", "b", "c"]));
    stop(running);
}

#[test]
fn a_job_that_comes_to_its_end_releases_what_it_holds() {
    let [first, second] = [73, 74].map(|number| Version::of("versions", number));
    let job = job_of(&first);
    let log = "[streams.in]\nsystem = \"log\"\npartitions = 2";
    let file = "[streams.in]\nsystem = \"file\"\npath = \"in.txt\"\nformat = \"lines\"\nmax-rate = \"100/s\"";
    assert!(job.text("job.toml").contains(log));
    job.write_job(&job.text("job.toml").replace(log, file));
    let values: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    job.write("in.txt", (values.join("\n") + "\n").as_bytes());
    let running = job.answering();
    swap(&job, &second, &["--hold-output", "--probation", "1h"]).expect(0);
    running.wait().expect(0);
    let values = job.values("out");
    assert_eq!(values.len(), 300);
    assert!(
        values[299].starts_with(&format!("299 {} ", second.short())),
        "{}",
        values[299]
    );
    assert_eq!(last(&job)["state"], "done");
}

#[test]
fn what_cannot_be_held_is_refused_and_the_old_code_goes_on() {
    let [first, second] = [75, 76].map(|number| Version::of("versions", number));
    let (job, running) = begun(job_of(&first));
    let refused = |options: &[&str], version: &Version, says: &str| {
        let done = swap(&job, version, options).expect(2);
        assert!(done.stderr.contains(says), "{}", done.stderr);
    };
    refused(
        &["--hold-output", "--probation", "none"],
        &second,
        "leave `hold-output` or `probation` out",
    );
    refused(
        &["--hold-output"],
        &first,
        "runs already, so there is no code to go back to",
    );
    let promoted = job.call(&["swap", "count", "--promote"]).expect(2);
    assert!(
        promoted.stderr.contains("has no code in a probation"),
        "{}",
        promoted.stderr
    );
    swap(&job, &second, &[]).expect(0);
    let third = Version::of("versions", 77);
    refused(&["--hold-output"], &third, "is in its probation itself");
    job.call(&["swap", "count", "--promote"]).expect(0);
    swap(&job, &third, &["--hold-output"]).expect(0);
    refused(
        &[],
        &first,
        "holds its output: `wasm-host swap count --promote` releases it",
    );
    refused(
        &["--hold-output"],
        &first,
        "holds its output: `wasm-host swap count --promote` releases it",
    );
    stop(running);
    // Nothing of what it holds may be dropped.
    let before = job.text("job.toml");
    job.write_job(&before.replace("name = \"count\"\ncomponent", "name = \"other\"\ncomponent"));
    let done = job.call(&["run", "--drop-stage", "count"]).expect(4);
    assert!(
        done.stderr
            .contains("stage \"count\" holds its output, so nothing of it can be dropped"),
        "{}",
        done.stderr
    );
}

#[test]
fn an_input_that_cannot_be_read_again_is_refused() {
    let [first, second] = [78, 79].map(|number| Version::of("versions", number));
    let job = job_of(&first);
    let keeps = "[streams.in]\nsystem = \"log\"\n";
    let drops = format!("{keeps}retention = {{ bytes = \"1kB\" }}\ndrop-unread = true\n");
    job.write_job(&job.text("job.toml").replace(keeps, &drops));
    let (job, running) = begun(job);
    let done = swap(&job, &second, &["--hold-output"]).expect(2);
    assert!(
        done.stderr
            .contains("may be deleted before it is read (`drop-unread`)"),
        "{}",
        done.stderr
    );
    stop(running);
}

/// A message that both fail at stops the job: the code is not judged by that, and not by what is asked of the stopped job.
#[test]
fn a_message_that_is_skipped_in_a_stopped_job_decides_nothing() {
    let [first, second] = [96, 97].map(|number| Version::of("versions", number));
    let (job, running) = held(&first, &second, "on-fault = \"fail\"");
    feed(&job, one("panic all x"));
    running.wait().expect(3);
    assert_eq!(state(&job), "holding");
    let tasks = job.json(&["task", "list"]);
    let held = tasks.iter().find(|task| !task["held"].is_null());
    let task = held.expect("a task that is held")["task"].clone();
    job.call(&["task", "skip", task.as_str().expect("a name")])
        .expect(0);
    assert_eq!(state(&job), "holding");
    assert_eq!(job.values("out").len(), 1);
    let running = job.answering();
    job.call(&["swap", "count", "--promote"]).expect(0);
    assert_eq!(out(&job, 2).len(), 2);
    stop(running);
}

/// What was the latest message when it was first read has others behind it by then.
#[test]
fn an_input_that_is_new_in_a_hold_begins_at_the_same_place_after_a_way_back() {
    let log = "[streams.more]\nsystem = \"log\"\n";
    let file = "[streams.more]\nsystem = \"file\"\npath = \"more.txt\"\nformat = \"lines\"\nfollow = true\n";
    for more in [log, file] {
        let [first, second] = [76, 77].map(|number| Version::of("versions", number));
        let job = job_of(&first);
        let text = job
            .text("job.toml")
            .replace("partitions = 2", "partitions = 1");
        job.write_job(&format!("{text}{more}"));
        job.write("more.txt", b"old\n");
        let say = |value: &str| match more == log {
            true => drop(
                job.feed(&["log", "produce", "more"], value.as_bytes())
                    .expect(0),
            ),
            false => job.append("more.txt", value.as_bytes()),
        };
        let running = job.answering();
        if more == log {
            say("old\n");
        }
        feed(&job, one("a"));
        out(&job, 1);
        swap(&job, &second, &["--hold-output"]).expect(0);
        feed(&job, one("b"));
        processed(&job, 2);
        stop(running);
        let inputs = "inputs = { in = \"in\", more = { stream = \"more\", start = \"latest\" } }";
        job.write_job(&job.text("job.toml").replace("inputs = [\"in\"]", inputs));
        let running = job.answering();
        wait_until("it has begun", || {
            let offsets = job.json(&["offsets", "show"]);
            offsets.iter().any(|offset| offset["stream"] == "more")
        });
        say("new\n");
        processed(&job, 1);
        job.call(&["swap", "count", "--rollback"]).expect(0);
        let values = out(&job, 3);
        let mut words: Vec<&str> = values
            .iter()
            .filter_map(|value| value.split(' ').next())
            .collect();
        words.sort_unstable();
        assert_eq!(words, ["a", "b", "new"], "{more}");
        let by = format!(" {} ", first.short());
        assert!(values.iter().all(|value| value.contains(&by)), "{values:?}");
        stop(running);
    }
}

/// A range that is deleted, and keys of it that are written again before the next checkpoint.
#[test]
fn a_key_whose_old_value_is_saved_counts_once() {
    let [first, second] = [78, 79].map(|number| Version::of("script_batch", number));
    let job = job_of(&first);
    let text = job
        .text("job.toml")
        .replace("interval = \"50ms\"", "interval = \"1h\"\nearly = false")
        .replace(
            "[stage.stores.counts]",
            "[stage.stores.last]\n[stage.stores.counts]",
        );
    job.write_job(&text);
    let running = job.answering();
    let each = |word: &str| {
        let message = |key| (format!("k{key}"), format!("1 {word}"));
        (0..10).map(message).collect::<Vec<_>>()
    };
    feed(&job, each("go"));
    wait_until("they are processed", || job.processed() == 10);
    swap(&job, &second, &["--hold-output"]).expect(0);
    feed(&job, each("clear"));
    feed(&job, each("go"));
    wait_until("they are processed again", || job.processed() == 30);
    job.call(&["checkpoint", "trigger"]).expect(0);
    assert_eq!(stage(&job)["hold"]["state-keys"], 20);
    stop(running);
}
