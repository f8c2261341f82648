//! New code that reads another version of the state: each task is migrated before any goes on, or everything is as it was.

use std::fs;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::{Version, begun, feed, last, one, out, stage, stop, swap};
use crate::harness::{Job, Running, guest, wait_until};
use crate::jobs::COUNT_LOG;

/// Keys that a job has state for, over both of its tasks.
const KEYS: usize = 12;

fn component(name: &str) -> Version {
    Version::made(fs::read(guest(name)).expect("the component"), 1)
}

fn versions() -> [Version; 3] {
    ["versions", "migrating_1", "migrating_2"].map(component)
}

/// A job with a setting of how its code migrates, and more of its stage.
fn job_that(version: &Version, migrates: &str, more: &str) -> Job {
    let config = format!("{more}\n[stage.config]\nmigrate = \"{migrates}\"\n[stage.stores.counts]");
    let job = Job::new(
        &COUNT_LOG
            .replace("{guest:counter}", "task.wasm")
            .replace("[stage.stores.counts]", &config),
    );
    version.put(&job, "task.wasm");
    job
}

fn keys(value: &str) -> Vec<(String, String)> {
    (0..KEYS)
        .map(|key| (format!("k{key}"), value.to_owned()))
        .collect()
}

/// A job that runs, and has counted each key once.
fn counted(version: &Version, migrates: &str, more: &str) -> (Job, Running) {
    let job = job_that(version, migrates, more);
    let running = job.answering();
    feed(&job, keys("a"));
    out(&job, KEYS);
    (job, running)
}

/// What the store of a job has that runs: it is stopped for that, once no way back is under way.
fn looked_at(job: &Job, running: Running) -> (Vec<String>, Running) {
    wait_until("no way back is under way", || stage(job)["hold"].is_null());
    stop(running);
    (state(job), job.answering())
}

/// What the store of a stopped job has, as it is stored.
fn state(job: &Job) -> Vec<String> {
    let scanned = job.json(&["state", "scan", "counts"]);
    scanned.iter().map(ToString::to_string).collect()
}

/// The last lines that came out, sorted: one for each key.
fn lines(job: &Job, rounds: usize) -> Vec<String> {
    let values = out(job, rounds * KEYS);
    assert_eq!(values.len(), rounds * KEYS, "{values:?}");
    let mut lines = values;
    lines.sort();
    lines.dedup();
    lines
}

#[test]
fn every_task_is_migrated_before_new_code_processes_anything() {
    let [first, second, third] = versions();
    let (job, running) = counted(&first, "", "");
    assert_eq!(stage(&job)["state-version"], 0);
    let done = swap(&job, &second, &[]).expect(0);
    assert!(done.stdout.contains(": done: "), "{}", done.stdout);
    assert_eq!(stage(&job)["state-version"], 1);
    feed(&job, keys("b"));
    let expected = [
        format!("a {} 1", first.short()),
        format!("b {} 2", second.short()),
    ];
    assert_eq!(lines(&job, 2), expected);
    swap(&job, &third, &[]).expect(0);
    assert_eq!(stage(&job)["state-version"], 2);
    feed(&job, keys("c"));
    assert!(lines(&job, 3).contains(&format!("c {} 3", third.short())));
    assert!(running.stderr().contains("the state is of version 2 now"));
    // Nothing of the way back is left.
    assert!(stage(&job)["hold"].is_null());
    // State does not go back.
    let refused = swap(&job, &second, &[]).expect(2);
    refused.says("the state is of version 2, and the component reads version 1");
    swap(&job, &first, &[])
        .expect(2)
        .says("it does not export `wasm-host:task/migration`");
    job.call(&["swap", "count", "--rollback"])
        .expect(2)
        .says("state does not go back");
    // Code of the same version needs nothing.
    let same = Version::made(fs::read(guest("migrating_2")).expect("the component"), 2);
    let done = swap(&job, &same, &[]).expect(0);
    assert!(done.stdout.contains(": probation: "), "{}", done.stdout);
    stop(running);
    // The same holds for starts.
    second.put(&job, "task.wasm");
    job.call(&["run", "--until-idle"])
        .expect(4)
        .says("the component reads version 1: state does not go back");
    job.call(&["run", "--until-idle", "--pinned"]).expect(0);
    assert_eq!(stage(&job)["state-version"], 2);
}

#[test]
fn a_dry_run_says_that_the_state_would_be_migrated() {
    let [first, _, third] = versions();
    let (job, running) = counted(&first, "", "");
    let done = swap(&job, &third, &["--dry-run"]).expect(0);
    assert!(
        done.stdout.contains("migrated from version 0 to 2"),
        "{}",
        done.stdout
    );
    assert_eq!(stage(&job)["state-version"], 0);
    stop(running);
}

/// What goes wrong in a migration, in which call of which task, and what is said of it.
const FAILURES: [(&str, &str); 10] = [
    ("err 1", "`migrate` failed: it says err"),
    ("err 3", "`migrate` failed: it says err"),
    ("panic 1", "it says panic"),
    ("panic 3", "it says panic"),
    ("loop 2", "call-deadline"),
    ("send 2", "in `migrate`"),
    ("resume 2", "`resume` has 2097152 bytes"),
    ("large 2", "value-bytes"),
    ("forever 0", "`migration-timeout` = 1.5s has passed"),
    ("err 4", "it says err"),
];

#[test]
fn what_fails_half_way_leaves_the_old_state_and_the_old_code() {
    let [first, second, _] = versions();
    for (fails, says) in FAILURES {
        let more = match fails {
            "forever 0" => "swap = { migration-timeout = \"1500ms\" }",
            _ => "",
        };
        let (job, running) = counted(&first, fails, more);
        let (before, running) = looked_at(&job, running);
        let failed = swap(&job, &second, &[]).expect(3);
        failed.says("rolled-back").says(says);
        let (after, running) = looked_at(&job, running);
        assert_eq!(after, before, "{fails}");
        feed(&job, keys("b"));
        let expected = [
            format!("a {} 1", first.short()),
            format!("b {} 2", first.short()),
        ];
        assert_eq!(lines(&job, 2), expected, "{fails}");
        let now = stage(&job);
        assert_eq!(now["state-version"], 0, "{fails}");
        assert_eq!(now["component"], first.sha256, "{fails}");
        assert!(now["hold"].is_null(), "{fails}");
        // Not again by itself.
        swap(&job, &second, &[]).expect(2).says("--force");
        stop(running);
        let running = job.answering();
        feed(&job, keys("c"));
        assert!(
            lines(&job, 3).contains(&format!("c {} 3", first.short())),
            "{fails}"
        );
        stop(running);
    }
}

#[test]
fn a_start_with_other_code_migrates_first() {
    let [first, second, third] = versions();
    let (job, running) = counted(&first, "", "");
    stop(running);
    feed(&job, keys("b"));
    second.put(&job, "task.wasm");
    job.call(&["run", "--until-idle"]).expect(0);
    let expected = [
        format!("a {} 1", first.short()),
        format!("b {} 2", second.short()),
    ];
    assert_eq!(lines(&job, 2), expected);
    assert_eq!(last(&job)["state"], "done");
    assert_eq!(stage(&job)["state-version"], 1);
    // What reads the state is kept, whatever becomes of the file.
    first.put(&job, "task.wasm");
    job.call(&["run", "--until-idle", "--pinned"]).expect(0);
    second.put(&job, "task.wasm");
    // The next start has nothing to migrate.
    feed(&job, keys("c"));
    job.call(&["run", "--until-idle"]).expect(0);
    assert!(lines(&job, 3).contains(&format!("c {} 3", second.short())));
    // What came in meanwhile waits for the migration, and nothing is there to be processed by the old code.
    third.put(&job, "task.wasm");
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(stage(&job)["state-version"], 2);
}

#[test]
fn a_start_whose_migration_fails_goes_on_with_the_old_code() {
    let [first, second, _] = versions();
    let (job, running) = counted(&first, "panic 3", "");
    stop(running);
    let before = state(&job);
    second.put(&job, "task.wasm");
    job.call(&["run", "--until-idle"])
        .expect(0)
        .says("cannot migrate its state");
    assert_eq!(state(&job), before);
    assert_eq!(last(&job)["state"], "rolled-back");
    feed(&job, keys("b"));
    // The same file is not tried again by itself.
    job.call(&["run", "--until-idle"]).expect(0);
    let expected = [
        format!("a {} 1", first.short()),
        format!("b {} 2", first.short()),
    ];
    assert_eq!(lines(&job, 2), expected);
    assert_eq!(stage(&job)["state-version"], 0);
}

#[test]
fn a_start_that_cannot_go_back_does_not_migrate() {
    let [first, second, _] = versions();
    let (job, running) = counted(&first, "", "");
    stop(running);
    second.put(&job, "task.wasm");
    let kept = job.state_dir().join(format!("code/{}.wasm", first.sha256));
    fs::remove_file(&kept).expect("it is kept there");
    job.call(&["run", "--until-idle"])
        .expect(2)
        .says("has to be migrated from version 0 to 1");
    assert_eq!(stage(&job)["state-version"], 0);
}

#[test]
fn a_kill_in_a_migration_leaves_the_old_state() {
    let [first, second, _] = versions();
    let (job, running) = counted(&first, "forever 0", "");
    let (before, running) = looked_at(&job, running);
    let path = second.put(&job, "swapped.wasm");
    let swapping = job.start_with(&["swap", "count", path.to_str().expect("UTF-8")]);
    wait_until("it migrates", || {
        last(&job)["state"] == "migrating" && stage(&job)["hold"]["state-keys"] != 0
    });
    let tasks = job.json(&["status"])[0]["tasks"].clone();
    let tasks = tasks.as_array().expect("tasks");
    assert!(
        tasks.iter().all(|task| task["state"] == "migrating"),
        "{tasks:?}"
    );
    assert_eq!(stage(&job)["component"], first.sha256);
    job.call(&["swap", "count"])
        .expect(2)
        .says("migrates its state");
    running.kill();
    drop(swapping);
    job.call(&["state", "scan", "counts"])
        .expect(4)
        .says("was interrupted");
    let (after, running) = looked_at(&job, job.answering());
    assert_eq!(after, before);
    assert_eq!(last(&job)["state"], "rolled-back");
    assert!(stage(&job)["hold"].is_null());
    feed(&job, keys("b"));
    assert!(lines(&job, 2).contains(&format!("b {} 2", first.short())));
    // An interruption says nothing about the code.
    job.write_job(&job.text("job.toml").replace("forever 0", ""));
    swap(&job, &second, &[]).expect(0);
    assert_eq!(stage(&job)["state-version"], 1);
    stop(running);
}

#[test]
fn a_person_can_end_a_migration() {
    let [first, second, _] = versions();
    let (job, running) = counted(&first, "forever 0", "");
    let (before, running) = looked_at(&job, running);
    let path = second.put(&job, "swapped.wasm");
    let swapping = job.start_with(&["swap", "count", path.to_str().expect("UTF-8")]);
    wait_until("it migrates", || last(&job)["state"] == "migrating");
    // Epochs go on meanwhile.
    job.call(&["checkpoint", "trigger"]).expect(0);
    assert_eq!(last(&job)["state"], "migrating");
    job.call(&["swap", "count", "--rollback"]).expect(0);
    drop(swapping);
    assert_eq!(last(&job)["state"], "rolled-back");
    stop(running);
    assert_eq!(state(&job), before);
}

#[test]
fn a_stop_in_a_migration_leaves_it_to_the_next_start() {
    let [first, second, _] = versions();
    let (job, running) = counted(&first, "forever 0", "");
    let (before, running) = looked_at(&job, running);
    let path = second.put(&job, "swapped.wasm");
    let swapping = job.start_with(&["swap", "count", path.to_str().expect("UTF-8")]);
    wait_until("it migrates", || last(&job)["state"] == "migrating");
    let ended = running.terminate().expect(0);
    ended.says("its state is not migrated yet");
    drop(swapping);
    let running = job.answering();
    let (after, running) = looked_at(&job, running);
    assert_eq!(after, before);
    assert_eq!(last(&job)["state"], "rolled-back");
    assert_eq!(stage(&job)["component"], first.sha256);
    stop(running);
}

#[test]
fn with_held_output_the_migration_is_taken_back_with_all_that_came_after() {
    for (promoted, restarted) in [(false, false), (true, false), (false, true), (true, true)] {
        let [first, second, _] = versions();
        let (job, mut running) = counted(&first, "", "");
        let done = swap(&job, &second, &["--hold-output"]).expect(0);
        assert!(done.stdout.contains(": holding: "), "{}", done.stdout);
        feed(&job, keys("b"));
        super::holding::processed(&job, 2 * KEYS as u64);
        if restarted {
            running.kill();
            running = job.answering();
        }
        let (command, by) = match promoted {
            true => ("--promote", &second),
            false => ("--rollback", &first),
        };
        job.call(&["swap", "count", command]).expect(0);
        let expected = [
            format!("a {} 1", first.short()),
            format!("b {} 2", by.short()),
        ];
        assert_eq!(lines(&job, 2), expected, "{command}");
        assert_eq!(stage(&job)["state-version"], u32::from(promoted));
        assert!(stage(&job)["hold"].is_null());
        stop(running);
    }
}

#[test]
fn tasks_that_are_idle_held_or_at_their_end_are_migrated_as_well() {
    let [first, second, _] = versions();
    let text = COUNT_LOG
        .replace("{guest:counter}", "task.wasm")
        .replace("partitions = 2", "partitions = 40")
        .replace(
            "inputs = [\"in\"]",
            "inputs = [\"in\"]\nwhen-held = \"wait\"\non-fault = \"fail\"",
        );
    let job = Job::new(&text);
    first.put(&job, "task.wasm");
    let (job, running) = begun(job);
    feed(&job, one(&format!("panic {} x", first.short())));
    wait_until("a task is held", || {
        let status = job.json(&["status"]);
        let tasks = status[0]["tasks"].as_array().expect("tasks");
        tasks.iter().any(|task| task["state"] == "held")
    });
    swap(&job, &second, &[]).expect(0);
    let values = out(&job, 2);
    assert_eq!(
        values[1],
        format!("panic {} x {} 2", first.short(), second.short())
    );
    stop(running);
}

#[test]
fn a_job_that_has_ended_is_migrated_by_its_next_run() {
    let [first, second, _] = versions();
    let text = COUNT_LOG
        .replace("{guest:counter}", "task.wasm")
        .replace(
            "[streams.in]\nsystem = \"log\"\npartitions = 2",
            "[streams.in]\nsystem = \"file\"\npath = \"in.txt\"\nformat = \"lines\"",
        )
        .replace(
            "[streams.out]\nsystem = \"log\"\npartitions = 2",
            "[streams.out]\nsystem = \"log\"\npartitions = 1",
        );
    let job = Job::new(&text);
    first.put(&job, "task.wasm");
    job.write("in.txt", b"x\ny\n");
    job.run().expect(0);
    second.put(&job, "task.wasm");
    job.run().expect(0);
    assert_eq!(stage(&job)["state-version"], 1);
    job.append("in.txt", b"z\n");
    job.run().expect(0);
    assert_eq!(job.values("out")[2], format!("z {} 3", second.short()));
}

#[test]
fn an_input_that_cannot_be_read_again_is_no_input_of_a_stage_that_migrates() {
    let [first, second, _] = versions();
    let text = COUNT_LOG.replace("{guest:counter}", "task.wasm").replace(
        "[streams.in]\nsystem = \"log\"\npartitions = 2",
        "[streams.in]\nsystem = \"stdin\"\nformat = \"lines\"",
    );
    let job = Job::new(&text);
    first.put(&job, "task.wasm");
    job.feed(&["run"], b"x\n").expect(0);
    second.put(&job, "task.wasm");
    job.feed(&["run"], b"y\n")
        .expect(4)
        .says("cannot be read again");
    first.put(&job, "task.wasm");
    job.feed(&["run"], b"y\n").expect(0);
    assert_eq!(job.values("out").len(), 2);
}

/// Kills the job again and again (`MIGRATION_KILLS=N`: so often) while it is swapped to code of the next version, back and forth between success and failure: at any time
/// what it has is what it counted, in the form of the version that is recorded.
#[test]
fn a_job_that_is_killed_at_any_time_of_a_migration_has_all_of_its_state_in_one_form() {
    let seed = std::env::var("SWAP_SEED").map_or(7, |seed| seed.parse().expect("a number"));
    let mut random = StdRng::seed_from_u64(seed);
    let [first, second, third] = versions();
    let (mut job, mut running) = counted(&first, "", "swap = { probation = \"none\" }");
    let (mut rounds, mut kills, mut interrupted) = (1, 0, 0);
    let most =
        std::env::var("MIGRATION_KILLS").map_or(20, |kills| kills.parse().expect("a number"));
    while kills < most {
        let version = stage(&job)["state-version"].as_u64().expect("a version");
        let next = match version {
            0 => &second,
            _ => &third,
        };
        let fails = ["", "", "err 3", "panic 2"];
        let fails = fails.choose(&mut random).expect("one");
        let text = job.text("job.toml");
        let old = text.lines().find(|line| line.starts_with("migrate = "));
        let pause = [0, 5, 40].choose(&mut random).expect("one");
        let new = format!("pause-ms = {pause}\nmigrate = \"{fails}\"");
        let others = text.lines().filter(|line| !line.starts_with("pause-ms"));
        let text: Vec<&str> = others.collect();
        job.write_job(&text.join("\n").replace(old.expect("a setting"), &new));
        let holds: &[&str] = match random.random_range(0..3) {
            0 => &["--hold-output", "--probation", "1h"],
            _ => &[],
        };
        let options = [&["--force"], holds].concat();
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| swap(&job, next, &options));
            std::thread::sleep(Duration::from_millis(random.random_range(0..400)));
            running.kill();
            asking.join().expect("it was asked");
        });
        kills += 1;
        interrupted += u32::from(last(&job)["state"] == "migrating");
        running = job.answering();
        if last(&job)["state"] == "holding" {
            let option = ["--rollback", "--promote"]
                .choose(&mut random)
                .expect("one");
            job.call(&["swap", "count", option]).expect(0);
        }
        wait_until("nothing is held", || stage(&job)["hold"].is_null());
        feed(&job, keys("a"));
        rounds += 1;
        out(&job, rounds * KEYS);
        stop(running);
        let version = stage(&job)["state-version"].as_u64().expect("a version");
        for entry in job.json(&["state", "scan", "counts"]) {
            let value = entry["value"].as_str().expect("text");
            let number = u32::try_from(rounds).expect("few");
            let expected = match version {
                0 => String::from_utf8(i64::from(number).to_le_bytes().to_vec()).expect("ASCII"),
                version => format!("{version}:{number}"),
            };
            let swaps = job.call(&["swap", "count", "--status"]).stdout;
            assert_eq!(value, expected, "version {version}, kill {kills}\n{swaps}");
        }
        if version == 2 || rounds > 100 {
            (job, running) = counted(&first, "", "swap = { probation = \"none\" }");
            rounds = 1;
        } else {
            running = job.answering();
        }
    }
    println!("{kills} kills, {interrupted} in a migration");
    assert!(interrupted > 0, "no migration was interrupted");
}

/// Chunk by chunk: the state of a task is several times as large as its instance may be.
#[test]
fn state_that_is_larger_than_memory_is_migrated() {
    const MANY: usize = 100_000;
    let [first, second, _] = versions();
    let limits = "[stage.limits]\nmemory = \"3MiB\"";
    let job = job_that(&first, "\"\nchunk = \"1000", limits);
    let running = job.answering();
    // 10 MB for each of the two tasks.
    let padded = |key| (format!("{key:0>200}"), "a".to_owned());
    feed(&job, (0..MANY).map(padded));
    out(&job, MANY);
    swap(&job, &second, &[]).expect(0);
    assert_eq!(stage(&job)["state-version"], 1);
    stop(running);
    let state = state(&job);
    assert_eq!(state.len(), MANY);
    assert!(
        state.iter().all(|entry| entry.contains("1:1")),
        "{}",
        state[0]
    );
}
