//! New code that is only tried, beside the code that runs: what differs is shown, and nothing of it is kept.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Version, begun, feed, job_of, last, one, out, stage, stop, swap};
use crate::harness::{Job, Running, guest, wait_until};
use crate::jobs::COUNT_LOG;

fn component(name: &str, number: u8) -> Version {
    Version::made(fs::read(guest(name)).expect("the component"), number)
}

/// A job of a guest, with a setting.
fn job_with(version: &Version, config: &str) -> Job {
    let text = COUNT_LOG.replace("{guest:counter}", "task.wasm").replace(
        "[stage.stores.counts]",
        &format!("[stage.config]\n{config}\n[stage.stores.counts]"),
    );
    let job = Job::new(&text);
    version.put(&job, "task.wasm");
    job
}

fn numbers(range: std::ops::Range<usize>, keys: usize) -> Vec<(String, String)> {
    range
        .map(|number| (format!("k{}", number % keys), format!("v{number}")))
        .collect()
}

/// 600 messages for the guests that follow a script, with these words in turn.
fn scripted(words: &[&str]) -> impl Iterator<Item = (String, String)> {
    (0..600).map(|number| {
        let word = words[number % words.len()];
        (format!("k{}", number % 7), format!("{number} {word}"))
    })
}

fn tried(job: &Job) -> (u64, u64, u64) {
    let swap = last(job);
    let number = |field: &str| swap[field].as_u64().expect("a number");
    (number("compared"), number("equal"), number("differing"))
}

fn compared(job: &Job, messages: u64) {
    wait_until("they are compared", || {
        last(job)["compared"]
            .as_u64()
            .is_some_and(|compared| compared >= messages)
    });
}

/// A job that runs slow code, so that there is something to read behind its checkpoints.
fn with_backlog(version: &Version, config: &str, messages: usize) -> (Job, Running) {
    let (job, running) = begun(job_with(version, config));
    feed(&job, numbers(0..messages, 50));
    (job, running)
}

#[test]
fn the_same_code_does_the_same_over_checkpoints() {
    let (first, second) = (component("doubtful", 1), component("doubtful", 2));
    let (job, running) = begun(job_with(&first, "kind = \"right\""));
    let done = swap(&job, &second, &["--shadow", "--messages", "3000"]).expect(0);
    assert!(done.stdout.contains(": probation: "), "{}", done.stdout);
    assert_eq!(last(&job)["mode"], "shadow");
    for round in 0..6 {
        feed(&job, numbers(round * 600..(round + 1) * 600, 50));
        std::thread::sleep(Duration::from_millis(60));
    }
    wait_until("it is over", || last(&job)["state"] == "done");
    let (compared, equal, differing) = tried(&job);
    assert!(compared >= 3_000, "{compared}");
    assert_eq!((equal, differing), (compared, 0), "{}", last(&job));
    // Nothing has come of it.
    assert_eq!(stage(&job)["component"], first.sha256);
    assert_eq!(out(&job, 3_601).len(), 3_601);
    stop(running);
    let counts = job.json(&["state", "scan", "counts"]);
    assert_eq!(counts.len(), 51);
}

#[test]
fn code_that_is_wrong_for_some_keys_is_shown_with_its_first_message() {
    wrong_for_some_keys("");
}

#[test]
fn what_code_remembers_of_a_batch_that_is_compared_again_goes_with_it() {
    wrong_for_some_keys("cached ");
}

fn wrong_for_some_keys(cached: &str) {
    let (first, second) = (component("doubtful", 3), component("doubtful", 4));
    let (job, running) = begun(job_with(&first, &format!("kind = \"{cached}right\"")));
    // The new settings come with the new code.
    let text = job.text("job.toml");
    job.write_job(&text.replace("right\"", "wrong for k7\""));
    swap(&job, &second, &["--shadow"]).expect(0);
    feed(&job, numbers(0..20_000, 10_000));
    compared(&job, 20_000);
    let swap_of = last(&job);
    let (compared, equal, differing) = tried(&job);
    assert_eq!((equal, differing), (compared - 2, 2), "{swap_of}");
    assert_eq!(swap_of["unstable"], false);
    let difference = &swap_of["differences"][0];
    assert_eq!(difference["key"], "k7");
    assert_eq!(
        difference["kinds"],
        serde_json::json!(["output", "state"]),
        "{difference}"
    );
    assert_eq!(difference["from"]["sent"][0][2], "v7 1");
    assert_eq!(difference["to"]["sent"][0][2], "v7 2");
    assert_eq!(
        difference["from"]["state"][0],
        serde_json::json!(["counts", "k7", "1"])
    );
    assert_eq!(
        difference["to"]["state"][0],
        serde_json::json!(["counts", "k7", "2"])
    );
    assert_eq!(swap_of["differences"].as_array().map(Vec::len), Some(2));
    // A person sees the same.
    let shown = job.call(&["swap", "count", "--status"]).expect(0);
    assert!(
        shown.stdout.contains("key k7: output, state"),
        "{}",
        shown.stdout
    );
    let dropped = job.call(&["swap", "count", "--drop"]).expect(0);
    assert!(dropped.stdout.contains(" of "), "{}", dropped.stdout);
    assert_eq!(last(&job)["state"], "dropped");
    assert_eq!(out(&job, 20_001).len(), 20_001);
    // What was dropped is no way back's work: the same code may be swapped in.
    swap(&job, &second, &["--dry-run"]).expect(0);
    stop(running);
}

/// Each message alone is right, so no message differs, but the batches do.
#[test]
fn code_that_is_wrong_in_batches_alone_is_not_called_equal() {
    let (first, second) = (component("doubtful", 19), component("doubtful", 20));
    let (job, running) = begun(job_with(&first, "kind = \"right\""));
    let text = job.text("job.toml");
    job.write_job(&text.replace("\"right\"", "\"wrong in batches\""));
    swap(&job, &second, &["--shadow"]).expect(0);
    feed(&job, numbers(0..500, 10));
    compared(&job, 500);
    let (compared, equal, differing) = tried(&job);
    assert!(differing > 0 && differing < 20, "{}", last(&job));
    assert_eq!(equal, compared - differing);
    let difference = &last(&job)["differences"][0];
    assert_eq!(difference["kinds"], serde_json::json!(["batch"]));
    let made = difference["to"]["outcome"].to_string();
    assert!(made.contains("too many at once"), "{made}");
    stop(running);
}

#[test]
fn a_shadow_that_is_waited_for_says_with_its_exit_code_whether_it_differs() {
    for (kind, code) in [("right", 0), ("wrong for k7", 3)] {
        let (first, second) = (component("doubtful", 5), component("doubtful", 6));
        let (job, running) = begun(job_with(&first, "kind = \"right\""));
        let text = job.text("job.toml");
        job.write_job(&text.replace("\"right\"", &format!("\"{kind}\"")));
        let path = second.put(&job, "swapped.wasm");
        let path = path.to_str().expect("UTF-8");
        let done = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let shadow = ["swap", "count", path, "--shadow", "--for", "3s", "--wait"];
                job.call(&shadow)
            });
            wait_until("it is tried", || last(&job)["state"] == "probation");
            feed(&job, numbers(0..300, 10));
            waiting.join().expect("it was waited for")
        });
        let said = done.stdout.clone() + &done.stderr;
        assert!(said.contains("compared"), "{said}");
        done.expect(code);
        stop(running);
    }
}

#[test]
fn what_was_tried_can_be_promoted() {
    let (first, second) = (Version::of("versions", 71), Version::of("versions", 72));
    let (job, running) = begun(job_of(&first));
    swap(&job, &second, &["--shadow", "--label", "tried"]).expect(0);
    job.call(&["swap", "count"]).expect(0);
    let done = job.call(&["swap", "count", "--promote"]);
    // The swap to the file has taken over meanwhile: what was tried was compared with other code.
    done.expect(2);
    swap(&job, &second, &["--shadow", "--label", "tried"]).expect(0);
    feed(&job, one("b"));
    compared(&job, 1);
    // They say which they are, so they differ.
    assert_eq!(tried(&job).2, 1);
    let done = job.call(&["swap", "count", "--promote"]).expect(0);
    assert!(done.stdout.contains("(tried)"), "{}", done.stdout);
    feed(&job, one("c"));
    assert_eq!(out(&job, 3)[2], format!("c {} 3", second.short()));
    assert_eq!(stage(&job)["component"], second.sha256);
    let swaps = job.json(&["status"])[0]["swaps"].clone();
    let shadow = swaps.as_array().expect("swaps").iter().rev().nth(1);
    assert_eq!(shadow.expect("the shadow")["state"], "dropped");
    stop(running);
}

#[test]
fn faults_and_rejections_of_either_are_compared_message_by_message() {
    let (first, second) = (component("script", 7), component("script", 8));
    let text = COUNT_LOG
        .replace("{guest:counter}", "task.wasm")
        .replace(
            "[stage.stores.counts]",
            "dead-letters = \"dead\"\nbreaker = { share = \"100%\" }\n[stage.stores.last]\n[stage.stores.counts]",
        )
        .replace("[[stage]]", "[streams.dead]\nsystem = \"log\"\npartitions = 2\n[[stage]]");
    let job = Job::new(&text);
    first.put(&job, "task.wasm");
    let running = job.answering();
    swap(&job, &second, &["--shadow"]).expect(0);
    let words = ["go", "reject", "panic", "delete", "clear", "scan"];
    feed(&job, scripted(&words));
    compared(&job, 600);
    assert_eq!(tried(&job), (600, 600, 0), "{}", last(&job));
    assert_eq!(last(&job)["failing"], 100);
    stop(running);
}

/// The same code for batches: a call that fails leaves nothing in either.
#[test]
fn the_two_worlds_are_compared_by_what_they_do() {
    for guests in [["script", "script_batch"], ["script_batch", "script"]] {
        let [first, second] = guests.map(|name| component(name, 21));
        let text = COUNT_LOG.replace("{guest:counter}", "task.wasm").replace(
            "[stage.stores.counts]",
            "on-fault = \"skip\"\non-rejected = \"skip\"\nbreaker = { share = \"100%\" }\n\
                 [stage.stores.last]\n[stage.stores.counts]",
        );
        let job = Job::new(&text);
        first.put(&job, "task.wasm");
        let running = job.answering();
        swap(&job, &second, &["--shadow"]).expect(0);
        let words = ["go", "spread", "panic", "delete", "reject", "go"];
        feed(&job, scripted(&words));
        compared(&job, 600);
        assert_eq!(tried(&job), (600, 600, 0), "{guests:?}: {}", last(&job));
        stop(running);
    }
}

/// One rejects every other message, and the other the rest, for the same reason.
#[test]
fn what_is_rejected_is_compared_message_by_message() {
    let [first, second] = [22, 23].map(|number| component("doubtful", number));
    let job = job_with(&first, "kind = \"rejects 0\"");
    let text = job.text("job.toml");
    job.write_job(&text.replace("[stage.config]", "on-rejected = \"skip\"\n[stage.config]"));
    let running = job.answering();
    let text = job.text("job.toml");
    job.write_job(&text.replace("rejects 0", "rejects 1"));
    swap(&job, &second, &["--shadow"]).expect(0);
    feed(&job, numbers(0..100, 10));
    compared(&job, 100);
    assert_eq!(tried(&job), (100, 0, 100), "{}", last(&job));
    stop(running);
}

#[test]
fn code_that_differs_from_itself_is_said_to() {
    let (first, second) = (component("doubtful", 9), component("doubtful", 10));
    let job = job_with(&first, "kind = \"moody\"");
    let text = job.text("job.toml");
    let folders = "directories = [{ host = \"mood\", guest = \"/mood\" }]";
    job.write_job(&format!("{text}[stage.capabilities]\n{folders}\n"));
    job.write("mood/now", b"0");
    let running = job.answering();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // It ends by itself if the test fails.
            for mood in 0..100_000 {
                job.write("mood/next", format!("{mood}").as_bytes());
                fs::rename(job.path("mood/next"), job.path("mood/now")).expect("it is moved");
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        swap(&job, &second, &["--shadow"]).expect(0);
        feed(&job, numbers(0..500, 10));
        compared(&job, 500);
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(last(&job)["unstable"], true, "{}", last(&job));
    stop(running);
}

#[test]
fn a_migration_is_tried_as_well_and_its_failure_said() {
    for (migrate, state) in [("", "probation"), ("err 2", "dropped")] {
        let (first, second) = (component("versions", 11), component("migrating_1", 12));
        let (job, running) = begun(job_with(&first, &format!("migrate = \"{migrate}\"")));
        // One that fails may have done so before this returns.
        let begun = swap(&job, &second, &["--shadow"]);
        assert!([0, 3].contains(&begun.code), "{}", begun.stderr);
        feed(&job, one("b"));
        match state {
            "probation" => {
                compared(&job, 1);
                let made = &last(&job)["differences"][0]["to"];
                // It counts on from what it has migrated.
                assert_eq!(
                    made["sent"][0][2],
                    format!("b {} 2", second.short()),
                    "{made}"
                );
            }
            _ => {
                wait_until("it has failed", || last(&job)["state"] == state);
                let reason = last(&job)["reason"].to_string();
                assert!(reason.contains("it says err"), "{reason}");
            }
        }
        assert_eq!(stage(&job)["state-version"], 0);
        stop(running);
    }
}

#[test]
fn a_kill_or_a_stop_ends_a_shadow_and_nothing_of_it_is_left() {
    for is_killed in [true, false] {
        let (first, second) = (component("doubtful", 13), component("doubtful", 14));
        let (job, running) = with_backlog(&first, "kind = \"right\"", 2_000);
        swap(&job, &second, &["--shadow"]).expect(0);
        let kept = |version: &Version| {
            let name = format!("code/{}.wasm", version.sha256);
            job.state_dir().join(name).exists()
        };
        assert!(kept(&first) && !kept(&second));
        match is_killed {
            true => running.kill(),
            false => stop(running),
        }
        let running = job.answering();
        assert_eq!(out(&job, 2_001).len(), 2_001);
        assert!(last(&job).is_null(), "{}", last(&job));
        stop(running);
    }
}

#[test]
fn code_that_reaches_outside_is_not_tried() {
    let (first, second) = (Version::of("versions", 73), Version::of("versions", 74));
    let (job, running) = begun(job_of(&first));
    let refused = |capabilities: &str, says: &str| {
        let text = job.text("job.toml");
        job.write_job(&format!("{text}[stage.capabilities]\n{capabilities}\n"));
        let done = swap(&job, &second, &["--shadow"]).expect(2);
        done.says(says);
        job.write_job(&text);
    };
    refused("network = [\"localhost:1\"]", "without effect");
    job.call(&["swap", "count", "--drop"])
        .expect(2)
        .says("tries no code");
    for options in [["--shadow", "--hold-output"], ["--messages", "5"]] {
        swap(&job, &second, &options).expect(2);
    }
    stop(running);
}

#[test]
fn code_that_loops_holds_up_nobody() {
    let (first, second) = (component("versions", 15), component("script", 16));
    let text = COUNT_LOG
        .replace("{guest:counter}", "task.wasm")
        .replace("partitions = 2", "partitions = 1")
        .replace(
            "[stage.stores.counts]",
            "[stage.stores.last]\n[stage.stores.counts]",
        );
    let job = Job::new(&text);
    first.put(&job, "task.wasm");
    let running = job.answering();
    for end in ["--drop", "a swap", "a stop"] {
        // The last trial may be in its last call.
        wait_until("it is tried", || {
            swap(&job, &second, &["--shadow", "--force"]).code == 0
        });
        let before = job.values("out").len();
        feed(
            &job,
            (0..30).map(|at| ("k".to_owned(), format!("{at} loop"))),
        );
        let began = Instant::now();
        match end {
            "--drop" => {
                job.call(&["swap", "count", "--drop"]).expect(0);
            }
            "a swap" => {
                let other = component("versions", 17);
                swap(&job, &other, &["--probation", "none"]).expect(0);
            }
            _ => {
                stop(running);
                assert!(
                    began.elapsed() < Duration::from_secs(8),
                    "{:?}",
                    began.elapsed()
                );
                return;
            }
        }
        feed(&job, one("live"));
        assert_eq!(out(&job, before + 31).len(), before + 31);
        assert!(
            began.elapsed() < Duration::from_secs(8),
            "{end}: {:?}",
            began.elapsed()
        );
    }
}

#[test]
fn a_migration_that_does_not_end_ends_its_shadow() {
    for (options, says) in [
        (["--for", "1s"], "0 messages"),
        (["--messages", "9"], "`migration-timeout` has passed"),
    ] {
        let (first, second) = (component("versions", 18), component("migrating_1", 19));
        let job = job_with(&first, "migrate = \"forever 0\"");
        let text = job.text("job.toml");
        let text = text.replace(
            "[stage.config]",
            "swap = { migration-timeout = \"3s\" }\n[stage.config]",
        );
        job.write_job(&text);
        let (job, running) = begun(job);
        swap(&job, &second, &[&["--shadow"], &options[..]].concat()).expect(0);
        wait_until("it is over", || last(&job)["state"] != "probation");
        let reason = last(&job)["reason"].to_string();
        assert!(reason.contains(says), "{reason}");
        stop(running);
    }
}
