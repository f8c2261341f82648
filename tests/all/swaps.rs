//! Swaps: other code takes over in a stage of a job that runs.

pub mod crashes;
mod holding;
mod load;
mod migrations;
mod moments;
mod probation;
mod settings;
mod shadows;
mod streams;
mod undone;

use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::harness::{Done, Job, Running, guest, wait_until};
use crate::jobs::COUNT_LOG;

/// A component that a test swaps in.
pub struct Version {
    pub bytes: Vec<u8>,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
}

impl Version {
    /// A guest of the tests, made another component by a custom section that says `number`.
    pub fn of(guest_name: &str, number: u8) -> Version {
        Version::made(fs::read(guest(guest_name)).expect("the component"), number)
    }

    /// The same of any component.
    pub fn made(mut bytes: Vec<u8>, number: u8) -> Version {
        // A section of 3 bytes: a name of one byte, and one byte more.
        bytes.extend([0, 3, 1, b'v', number]);
        let hash = Sha256::digest(&bytes);
        let sha256 = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Version { bytes, sha256 }
    }

    /// What the guests `versions` and `versions_message` say.
    pub fn short(&self) -> &str {
        &self.sha256[..8]
    }

    /// Puts it into a file of the job.
    pub fn put(&self, job: &Job, name: &str) -> PathBuf {
        job.write(name, &self.bytes);
        job.path(name)
    }
}

/// A job from a log to a log whose component is `task.wasm`.
pub fn job_of(version: &Version) -> Job {
    let job = Job::new(&COUNT_LOG.replace("{guest:counter}", "task.wasm"));
    version.put(&job, "task.wasm");
    job
}

/// Swaps the stage `count` to a component, and waits until that is committed.
pub fn swap(job: &Job, version: &Version, more: &[&str]) -> Done {
    let path = version.put(job, "swapped.wasm");
    let mut arguments = vec!["swap", "count", path.to_str().expect("UTF-8")];
    arguments.extend(more);
    job.call(&arguments)
}

pub fn stage(job: &Job) -> Value {
    job.json(&["status"])[0]["stages"][0].clone()
}

/// Feeds messages with a key each.
pub fn feed(job: &Job, messages: impl IntoIterator<Item = (String, String)>) {
    let line = |(key, value): (String, String)| {
        serde_json::json!({"key": key, "value": value}).to_string() + "\n"
    };
    let lines: String = messages.into_iter().map(line).collect();
    job.feed(&["log", "produce", "in", "--jsonl"], lines.as_bytes())
        .expect(0);
}

fn one(value: &str) -> [(String, String); 1] {
    [("k".to_owned(), value.to_owned())]
}

/// A job that runs, and has processed a first message.
pub fn begun(job: Job) -> (Job, Running) {
    let running = job.answering();
    feed(&job, one("a"));
    out(&job, 1);
    (job, running)
}

/// What came out, once there is as much as that.
fn out(job: &Job, messages: usize) -> Vec<String> {
    wait_until("everything came out", || {
        let logs = job.json(&["log", "list"]);
        let out = logs.iter().filter(|log| log["stream"] == "out");
        let ends = out.map(|log| log["end"].as_u64().expect("an offset"));
        ends.sum::<u64>() >= messages as u64
    });
    job.values("out")
}

/// The last swap of the stage.
fn last(job: &Job) -> Value {
    stage(job)["swap"].clone()
}

fn stop(running: Running) {
    running.terminate().expect(0);
}

#[test]
fn other_code_takes_over_and_the_state_stays() {
    let (first, second) = (Version::of("versions", 1), Version::of("versions", 2));
    let (job, running) = begun(job_of(&first));
    let done = swap(&job, &second, &["--label", "the second"]).expect(0);
    assert!(
        done.stdout
            .starts_with("swap 1 of stage count: probation: "),
        "{}",
        done.stdout
    );
    feed(&job, one("b"));
    let expected = [
        format!("a {} 1", first.short()),
        format!("b {} 2", second.short()),
    ];
    assert_eq!(out(&job, 2), expected);
    let stage = stage(&job);
    assert_eq!(stage["component"], second.sha256);
    assert_eq!(stage["label"], "the second");
    let swap = &stage["swap"];
    assert_eq!(
        (&swap["id"], &swap["state"]),
        (&1.into(), &"probation".into())
    );
    assert_eq!(
        (&swap["from"], &swap["to"]),
        (&(&*first.sha256).into(), &(&*second.sha256).into())
    );
    assert_eq!(swap["mode"], "code");
    assert!(
        swap["pause-us"].as_u64().is_some_and(|pause| pause > 0),
        "{swap}"
    );
    let triggers = job.json(&["checkpoint", "list"]);
    let cut = triggers
        .iter()
        .find(|checkpoint| checkpoint["epoch"] == swap["epoch"]);
    assert_eq!(cut.expect("the checkpoint")["trigger"], "swap");
    // The same is known of the stopped job.
    stop(running);
    let epoch = swap["epoch"].to_string();
    let cut = &job.json(&["checkpoint", "show", &epoch])[0]["swaps"][0];
    assert_eq!(
        (&cut["id"], &cut["to"]),
        (&1.into(), &(&*second.sha256).into())
    );
    let shown = job.call(&["checkpoint", "show", &epoch]).expect(0).stdout;
    let line = format!("swap 1 of stage count: from {}", first.sha256);
    assert!(shown.contains(&line), "{shown}");
    assert_eq!(last(&job)["state"], "probation");
    let shown = job.call(&["swap", "count", "--status"]).expect(0);
    assert!(shown.stdout.contains("the second"), "{}", shown.stdout);
}

#[test]
fn a_kill_after_a_swap_goes_on_with_the_swapped_code() {
    let (first, second) = (Version::of("versions", 3), Version::of("versions", 4));
    let (job, running) = begun(job_of(&first));
    swap(&job, &second, &[]).expect(0);
    running.kill();
    let running = job.answering();
    assert!(
        running.stderr().contains("--from-file"),
        "{}",
        running.stderr()
    );
    feed(&job, one("b"));
    assert_eq!(out(&job, 2)[1], format!("b {} 2", second.short()));
    stop(running);
}

/// What a start runs: each row of the table in the documents.
#[test]
fn a_start_runs_what_follows_from_the_directory_and_the_job_file() {
    let versions = [1, 2, 3].map(|number| Version::of("versions", 10 + number));
    let [a, b, c] = &versions;
    // (swapped to or not, then in the file, options, what runs)
    let rows: [(Option<&Version>, &Version, &[&str], &Version); 8] = [
        (None, a, &[], a),
        (None, b, &[], b),
        (None, b, &["--pinned"], a),
        (Some(b), a, &[], b),
        (Some(b), b, &[], b),
        (Some(b), c, &[], c),
        (Some(b), c, &["--pinned"], b),
        (Some(b), a, &["--from-file"], a),
    ];
    for (swapped, file, options, runs) in rows {
        let job = job_of(a);
        let running = job.answering();
        feed(&job, one("x"));
        out(&job, 1);
        if let Some(version) = swapped {
            swap(&job, version, &[]).expect(0);
        }
        stop(running);
        file.put(&job, "task.wasm");
        feed(&job, one("y"));
        let mut run = vec!["run", "--until-idle"];
        run.extend(options);
        job.call(&run).expect(0);
        assert_eq!(
            job.values("out")[1],
            format!("y {} 2", runs.short()),
            "{options:?}"
        );
        assert_eq!(stage(&job)["component"], runs.sha256, "{options:?}");
    }
}

#[test]
fn a_file_that_was_made_the_swapped_one_and_then_put_back_wins() {
    let (first, second) = (Version::of("versions", 5), Version::of("versions", 6));
    let (job, running) = begun(job_of(&first));
    swap(&job, &second, &[]).expect(0);
    stop(running);
    // Whoever deploys makes the file what runs; a start notes that, and nothing else is to be done.
    second.put(&job, "task.wasm");
    job.call(&["run", "--until-idle"]).expect(0);
    first.put(&job, "task.wasm");
    feed(&job, one("b"));
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out")[1], format!("b {} 2", first.short()));
}

#[test]
fn a_candidate_that_does_not_fit_is_refused_and_the_old_code_goes_on() {
    let first = Version::of("versions", 7);
    let (job, running) = begun(job_of(&first));
    let text = job.text("job.toml");
    let refused = |change: &str, component: &[u8], says: &str| {
        job.write_job(change);
        job.write("bad.wasm", component);
        let bad = job.path("bad.wasm");
        let done = job.call(&["swap", "count", bad.to_str().expect("UTF-8")]);
        done.expect(2).says(says);
        job.write_job(&text);
        assert_eq!(stage(&job)["component"], first.sha256);
    };
    let second = Version::of("versions", 8);
    refused(&text, b"", "it is empty");
    refused(&text, b"no wasm", "it is no WebAssembly");
    refused(
        &text,
        &second.bytes[..second.bytes.len() / 2],
        "it does not compile",
    );
    refused(
        "[job]\nname = 5",
        &second.bytes,
        "the job file cannot be used",
    );
    let with = |key: &str| {
        text.replace(
            "[stage.stores.counts]",
            &format!("{key}\n[stage.stores.counts]"),
        )
    };
    refused(
        &with("dead-letters = \"out\""),
        &second.bytes,
        "needs a restart",
    );
    refused(
        &with("batch-messages = 7"),
        &second.bytes,
        "`batch-messages` changed",
    );
    refused(
        &text.replace("[stage.stores.counts]\n", "[stage.stores.other]\n"),
        &second.bytes,
        "store \"counts\" is no longer declared",
    );
    refused(
        &text.replace("\"rocksdb\"", "\"memory\""),
        &second.bytes,
        "the type of store \"counts\" changed",
    );
    refused(
        &text.replace("name = \"count\"\ncomp", "name = \"recount\"\ncomp"),
        &second.bytes,
        "does not declare the stage any more",
    );
    refused(
        &format!("{text}[stage.limits]\nmemory = \"2GiB\"\n"),
        &second.bytes,
        "needs a restart",
    );
    refused(
        &format!("{text}[stage.limits]\nfuel = 1000000000\n"),
        &second.bytes,
        "needs a restart",
    );
    // A component that is no task.
    let careless = fs::read(guest("early_writer")).expect("the component");
    refused(&text, &careless, "cannot be made");
    job.write_job(&text);
    job.call(&["swap", "nobody"])
        .expect(2)
        .says("no stage \"nobody\"");
    let refusals = job.json(&["status"])[0]["swaps"]
        .as_array()
        .map_or(0, Vec::len);
    assert!(refusals >= 10, "{refusals}");
    feed(&job, one("b"));
    assert_eq!(out(&job, 2)[1], format!("b {} 2", first.short()));
    // A dry run swaps nothing.
    swap(&job, &second, &["--dry-run"]).expect(0);
    assert_eq!(stage(&job)["component"], first.sha256);
    stop(running);
    job.call(&["swap", "count"]).expect(2).says("does not run");
}

#[test]
fn new_stores_and_settings_come_with_the_code() {
    let text = COUNT_LOG.replace(
        "[stage.stores.counts]",
        "[stage.config]\nthreshold = \"1\"\n[stage.stores.counts]",
    );
    let job = Job::new(&text.replace("{guest:counter}", "{guest:script_batch}"));
    let two = "[stage.stores.last]\ntype = \"memory\"\n[stage.stores.counts]";
    // The guest wants two stores, of which one comes with the swap, and sorts behind and before the others.
    let wants = job.text("job.toml");
    job.write_job(&wants.replace("{guest:script_batch}", "{guest:versions}"));
    let first = Version::of("versions", 9);
    first.put(&job, "task.wasm");
    job.write_job(&COUNT_LOG.replace("{guest:counter}", "task.wasm"));
    let running = job.answering();
    feed(&job, one("a"));
    out(&job, 1);
    let text = COUNT_LOG.replace("{guest:counter}", "task.wasm");
    job.write_job(&text.replace(
        "[stage.stores.counts]",
        &format!("[stage.stores.another]\ntype = \"rocksdb\"\n{two}"),
    ));
    let script = Version::of("script_batch", 1);
    swap(&job, &script, &[]).expect(0);
    feed(&job, one("7 word"));
    out(&job, 2);
    stop(running);
    assert_eq!(
        job.state("counts").lines().count(),
        1,
        "{}",
        job.state("counts")
    );
    assert!(job.state("last").contains('7'), "{}", job.state("last"));
    // It is the same after a restart.
    feed(&job, one("8 word"));
    job.call(&["run", "--until-idle"]).expect(0);
    assert!(job.state("last").contains('8'), "{}", job.state("last"));
}

#[test]
fn a_swap_lets_held_tasks_go_on() {
    let (first, second) = (Version::of("versions", 20), Version::of("versions", 21));
    let job = job_of(&first);
    job.write_job(&job.text("job.toml").replace(
        "[stage.stores.counts]",
        "when-held = \"wait\"\n[stage.stores.counts]",
    ));
    let running = job.answering();
    feed(&job, one(&format!("panic {} x", first.short())));
    let state = || {
        job.json(&["task", "list"])
            .iter()
            .map(|task| task["state"].clone())
            .collect::<Vec<_>>()
    };
    wait_until("it is held", || state().contains(&"held".into()));
    swap(&job, &second, &[]).expect(0);
    let value = format!("panic {} x {} 1", first.short(), second.short());
    assert_eq!(out(&job, 1), [value]);
    assert_eq!(state(), ["running", "running"]);
    stop(running);
}

#[test]
fn components_of_the_past_are_kept_for_ten_swaps() {
    let versions: Vec<Version> = (100..116)
        .map(|number| Version::of("versions", number))
        .collect();
    let job = job_of(&versions[0]);
    let running = job.answering();
    for version in &versions[1..] {
        swap(&job, version, &[]).expect(0);
    }
    let is_kept = |version: &Version| {
        let kept = job.state_dir().join("code");
        kept.join(format!("{}.wasm", version.sha256)).exists()
    };
    let last = versions.len() - 1;
    // The first one is that of the file.
    assert!(is_kept(&versions[0]) && is_kept(&versions[last]));
    assert!(!is_kept(&versions[1]) && is_kept(&versions[last - 9]));
    stop(running);
}

#[test]
fn a_component_whose_file_changes_is_swapped_in_where_that_is_wanted() {
    let (first, second) = (Version::of("versions", 62), Version::of("versions", 63));
    let job = job_of(&first);
    let text = job.text("job.toml");
    job.write_job(&text.replace(
        "name = \"count\"\n[ch",
        "name = \"count\"\nwatch = true\n[ch",
    ));
    let running = job.answering();
    feed(&job, one("a"));
    out(&job, 1);
    // Half of it is no component, and is not taken for one for long.
    job.write("task.wasm", &second.bytes[..1_000]);
    second.put(&job, "task.wasm");
    wait_until("it is swapped in", || {
        stage(&job)["component"] == second.sha256
    });
    feed(&job, one("b"));
    assert_eq!(out(&job, 2)[1], format!("b {} 2", second.short()));
    stop(running);
}
