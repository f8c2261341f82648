//! Probations: new code stays, or the code before comes back.

use super::{Version, begun, feed, job_of, last, one, out, stage, stop, swap};
use crate::harness::{Job, wait_until};
use crate::jobs::with_dead;

/// A job with a stream for dead letters and more keys of its stage.
fn with(version: &Version, more: &str) -> Job {
    let job = job_of(version);
    let text = job.text("job.toml").replace(
        "[stage.stores.counts]",
        &format!("{more}\n[stage.stores.counts]"),
    );
    job.write_job(&with_dead(&text));
    job
}

fn swap_state(job: &Job) -> String {
    let state = last(job)["state"].clone();
    state.as_str().unwrap_or_default().to_owned()
}

#[test]
fn code_that_fails_at_a_message_that_the_old_code_passes_goes_back_and_loses_nothing() {
    for more in ["dead-letters = \"dead\"", "", "when-held = \"wait\""] {
        for guest_name in ["versions", "versions_message"] {
            let (first, second) = (Version::of(guest_name, 40), Version::of("versions", 41));
            let (job, running) = begun(with(&first, more));
            let done = swap(&job, &second, &[]).expect(0);
            assert!(done.stdout.contains("probation"), "{}", done.stdout);
            let poison = format!("panic {} x", second.short());
            feed(&job, one("b"));
            feed(
                &job,
                [poison.as_str(), "c"].map(|value| ("k".to_owned(), value.to_owned())),
            );
            let expected = [
                format!("a {} 1", first.short()),
                format!("b {} 2", second.short()),
                format!("{poison} {} 3", first.short()),
                format!("c {} 4", first.short()),
            ];
            assert_eq!(out(&job, 4), expected, "{more} {guest_name}");
            wait_until("it is said", || swap_state(&job) == "rolled-back");
            let swap = last(&job);
            assert_eq!(swap["regressions"], 1);
            let reason = swap["reason"].as_str().expect("a reason");
            assert!(
                reason.contains("the code before passes") && reason.contains("it says panic"),
                "{reason}"
            );
            assert_eq!(stage(&job)["component"], first.sha256);
            // The same is not swapped in again by itself.
            self::swap(&job, &second, &[])
                .expect(2)
                .says("was rolled back before");
            // A kill changes nothing, although the file is that of the new code.
            running.kill();
            second.put(&job, "task.wasm");
            let running = job.answering();
            feed(&job, one("d"));
            assert_eq!(out(&job, 5)[4], format!("d {} 5", first.short()));
            assert!(
                running.stderr().contains("was rolled back before"),
                "{}",
                running.stderr()
            );
            assert!(job.values("dead").is_empty());
            // Somebody insists.
            self::swap(&job, &second, &["--force", "--probation", "none"]).expect(0);
            feed(&job, one("e"));
            assert_eq!(out(&job, 6)[5], format!("e {} 6", second.short()));
            stop(running);
        }
    }
}

#[test]
fn poison_for_both_is_a_letter_and_the_new_code_stays() {
    let (first, second) = (Version::of("versions", 42), Version::of("versions", 43));
    let (job, running) = begun(with(
        &first,
        "dead-letters = \"dead\"\nbreaker = { share = \"100%\" }\nswap = { probation = \"40\" }",
    ));
    swap(&job, &second, &[]).expect(0);
    for _ in 0..30 {
        feed(&job, one("panic all x"));
    }
    feed(
        &job,
        (0..20).map(|number| ("k".to_owned(), number.to_string())),
    );
    wait_until("the letters are there", || job.values("dead").len() == 30);
    wait_until("it has passed", || swap_state(&job) == "done");
    let swap = last(&job);
    assert_eq!(
        (&swap["failed"], &swap["regressions"]),
        (&0.into(), &0.into())
    );
    assert_eq!(stage(&job)["component"], second.sha256);
    stop(running);
    assert_eq!(swap_state(&job), "done");
}

#[test]
fn a_probation_goes_on_after_a_kill() {
    let (first, second) = (Version::of("versions", 44), Version::of("versions", 45));
    let (job, running) = begun(with(&first, ""));
    swap(&job, &second, &[]).expect(0);
    feed(&job, one("b"));
    out(&job, 2);
    running.kill();
    let running = job.answering();
    assert_eq!(swap_state(&job), "probation");
    let poison = format!("panic {} x", second.short());
    feed(&job, one(&poison));
    assert_eq!(out(&job, 3)[2], format!("{poison} {} 3", first.short()));
    wait_until("it is said", || swap_state(&job) == "rolled-back");
    assert_eq!(last(&job)["processed"], 1);
    stop(running);
}

#[test]
fn a_start_with_other_code_has_a_probation_too() {
    let (first, second) = (Version::of("versions", 46), Version::of("versions", 47));
    let job = with(&first, "");
    feed(&job, one("a"));
    job.call(&["run", "--until-idle"]).expect(0);
    second.put(&job, "task.wasm");
    let poison = format!("panic {} x", second.short());
    feed(
        &job,
        ["b", &poison, "c"].map(|value| ("k".to_owned(), value.to_owned())),
    );
    job.call(&["run", "--until-idle"])
        .expect(0)
        .says("the code before is back");
    let values = job.values("out");
    assert_eq!(
        values[2..],
        [
            format!("{poison} {} 3", first.short()),
            format!("c {} 4", first.short())
        ]
    );
    assert_eq!(swap_state(&job), "rolled-back");
    // The file is not run again, until it is another.
    feed(&job, one("d"));
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out")[4], format!("d {} 5", first.short()));
    feed(&job, one("e"));
    job.call(&["run", "--until-idle", "--from-file"]).expect(0);
    assert_eq!(job.values("out")[5], format!("e {} 6", second.short()));
}

#[test]
fn code_of_which_too_many_messages_fail_or_that_cannot_be_opened_goes_back() {
    let first = Version::of("versions", 48);
    let job = with(&first, "dead-letters = \"dead\"");
    let running = job.answering();
    feed(
        &job,
        (0..200).map(|number| (format!("k{number}"), number.to_string())),
    );
    out(&job, 200);
    // It rejects what it does not know, which the first one does not.
    let script = Version::of("script", 1);
    let text = job.text("job.toml");
    job.write_job(&text.replace(
        "[stage.stores.counts]",
        "[stage.stores.last]\ntype = \"rocksdb\"\n[stage.stores.counts]",
    ));
    swap(&job, &script, &[]).expect(0);
    feed(
        &job,
        (0..100).map(|number| (format!("k{number}"), format!("{number} reject"))),
    );
    wait_until("it goes back", || swap_state(&job) == "rolled-back");
    let reason = last(&job)["reason"].as_str().expect("a reason").to_owned();
    assert!(reason.contains("messages failed"), "{reason}");
    assert_eq!(stage(&job)["component"], first.sha256);
    stop(running);
}

#[test]
fn a_person_goes_back_in_a_probation_and_after_it() {
    let (first, second) = (Version::of("versions", 49), Version::of("versions", 50));
    let (job, running) = begun(with(&first, ""));
    job.call(&["swap", "count", "--rollback"])
        .expect(2)
        .says("no code to go back to");
    swap(&job, &second, &[]).expect(0);
    let done = job.call(&["swap", "count", "--rollback"]).expect(0);
    assert!(done.stdout.contains("rolled-back"), "{}", done.stdout);
    assert_eq!(stage(&job)["component"], first.sha256);
    swap(&job, &second, &["--force", "--probation", "none"]).expect(0);
    assert_eq!(stage(&job)["component"], second.sha256);
    job.call(&["swap", "count", "--rollback"]).expect(0);
    assert_eq!(stage(&job)["component"], first.sha256);
    feed(&job, one("b"));
    assert_eq!(out(&job, 2)[1], format!("b {} 2", first.short()));
    stop(running);
}

#[test]
fn waiting_for_a_probation_says_how_it_ended() {
    let versions = [51, 52, 53].map(|number| Version::of("versions", number));
    let (job, running) = begun(with(&versions[0], ""));
    let fed = |value: &str, swapped: &Version, options: &[&str]| {
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| swap(&job, swapped, options));
            wait_until("it is watched", || {
                swap_state(&job) == "probation" && stage(&job)["component"] == swapped.sha256
            });
            feed(&job, one(value));
            waiting.join().expect("the command")
        })
    };
    let passed = fed("b", &versions[1], &["--wait", "--probation", "1"]);
    assert!(passed.expect(0).stdout.contains(": done: "));
    let poison = format!("panic {} x", versions[2].short());
    let back = fed(&poison, &versions[2], &["--wait", "--probation", "1h"]);
    back.expect(3).says("which the code before passes");
    stop(running);
}

#[test]
fn messages_that_the_job_leaves_out_say_nothing_about_code() {
    let versions = [54, 55].map(|number| Version::of("script", number));
    let job = job_of(&versions[0]);
    let text = job.text("job.toml");
    job.write_job(&text.replace(
        "[stage.stores.counts]",
        "on-rejected = \"skip\"\nswap = { probation = \"150\" }\n[stage.stores.last]\ntype = \"rocksdb\"\n[stage.stores.counts]",
    ));
    let running = job.answering();
    let half = |from: usize| {
        (from..from + 200).map(|number| {
            let word = if number % 2 == 0 { "reject" } else { "pass" };
            (format!("k{number}"), format!("{number} {word}"))
        })
    };
    feed(&job, half(0));
    out(&job, 100);
    swap(&job, &versions[1], &[]).expect(0);
    feed(&job, half(200));
    wait_until("it is over", || swap_state(&job) != "probation");
    assert_eq!(
        (swap_state(&job), &last(&job)["failed"]),
        ("done".to_owned(), &0.into())
    );
    stop(running);
}

#[test]
fn a_probation_outlives_more_refusals_than_are_remembered() {
    let versions = [56, 57].map(|number| Version::of("versions", number));
    let (job, running) = begun(with(&versions[0], ""));
    swap(&job, &versions[1], &["--probation", "1h"]).expect(0);
    job.write("bad.wasm", b"no wasm");
    let bad = job.path("bad.wasm");
    for _ in 0..110 {
        job.call(&["swap", "count", bad.to_str().expect("UTF-8")])
            .expect(2);
    }
    let poison = format!("panic {} x", versions[1].short());
    feed(&job, one(&poison));
    assert_eq!(
        out(&job, 2)[1],
        format!("{poison} {} 2", versions[0].short())
    );
    wait_until("it is back", || {
        stage(&job)["component"] == versions[0].sha256
    });
    stop(running);
}

#[test]
fn who_waits_for_a_probation_is_told_that_the_job_has_stopped() {
    let versions = [58, 59].map(|number| Version::of("versions", number));
    let (job, running) = begun(with(&versions[0], ""));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| swap(&job, &versions[1], &["--wait", "--probation", "1h"]));
        wait_until("it is watched", || swap_state(&job) == "probation");
        stop(running);
        let told = waiting.join().expect("the command");
        told.expect(1).says("goes on with this at its next start");
    });
    // Nobody holds the directory.
    job.call(&["run", "--until-idle"]).expect(0);
}

#[test]
fn other_settings_of_the_same_component_have_no_probation() {
    let version = Version::of("versions", 64);
    let (job, running) = begun(with(&version, ""));
    let text = job.text("job.toml");
    job.write_job(&text.replace(
        "[stage.stores.counts]",
        "[stage.config]\nx = \"1\"\n[stage.stores.counts]",
    ));
    let done = swap(&job, &version, &["--label", "again"]).expect(0);
    assert!(done.stdout.contains("done"), "{}", done.stdout);
    assert_eq!(stage(&job)["label"], "again");
    stop(running);
}

/// Tasks process what waits for them while a start still makes others.
#[test]
fn what_is_processed_while_a_job_starts_counts() {
    let [first, second] = [58, 59].map(|number| Version::of("versions", number));
    let job = job_of(&first);
    let text = job.text("job.toml");
    let many = "[streams.in]\nsystem = \"log\"\npartitions = 3000";
    job.write_job(&text.replace("[streams.in]\nsystem = \"log\"\npartitions = 2", many));
    let mut running = job.answering();
    swap(&job, &second, &["--probation", "1h"]).expect(0);
    for round in 1..=5 {
        stop(running);
        let line = b"{\"partition\":0,\"key\":\"k\",\"value\":\"a\"}\n";
        job.feed(&["log", "produce", "in", "--jsonl"], line)
            .expect(0);
        running = job.answering();
        out(&job, round);
        assert_eq!(last(&job)["processed"], round);
    }
    stop(running);
}
