//! A crash of the job before each durable step of a swap, a probation and a way back: whatever is left, the next start goes on, and
//! nothing is lost, repeated or out of order.

use std::collections::BTreeMap;

use super::{Version, feed, job_of, one, out, stop, swap};
use crate::crash::case::watched;
use crate::harness::{Job, Running, wait_until};

/// What happens until the crash.
struct Scene {
    /// How other code takes over.
    options: &'static [&'static str],
    /// Whether the third message is one that it fails at.
    is_faulty: bool,
    /// How the swap ends.
    end: &'static str,
    /// The guest that takes over, and what it is told of its migration.
    guest: &'static str,
    migrate: &'static str,
}

const MESSAGES: usize = 6;

/// What is written where output is held, released or taken back, and state migrated: a crash comes before each of these here.
pub const STEPS_OF_HOLDS: [&str; 6] = [
    "migrate.last",
    "undo.write",
    "release.write",
    "release.last",
    "rollback.write",
    "rollback.last",
];

impl Scene {
    /// Each message has its number.
    fn message(&self, number: usize, versions: &[Version; 2]) -> String {
        match (number, self.is_faulty) {
            (3, true) => format!("panic {} 3", versions[1].short()),
            _ => number.to_string(),
        }
    }

    /// Swaps, feeds what makes the new code go back, or stay, and waits until it has, or the process has crashed.
    fn play(&self, job: &Job, versions: &[Version; 2]) {
        let mut running = job.start_with(&["run"]);
        let fed = |number: usize| {
            let line = serde_json::json!({"key": "k", "value": self.message(number, versions)});
            let line = line.to_string() + "\n";
            job.feed(&["log", "produce", "in", "--jsonl"], line.as_bytes())
                .code
                == 0
        };
        let is_over = |running: &mut Running| {
            let end = format!("\"state\":\"{}\"", self.end);
            !running.is_running() || job.call(&["status", "--json"]).stdout.contains(&end)
        };
        wait_until("it answers, or has crashed", || {
            !running.is_running() || job.call(&["status"]).code == 0
        });
        if running.is_running()
            && fed(1)
            && self.brings_a_stream(job)
            && swap(job, &versions[1], self.options).code == 0
            && fed(2)
        {
            if self.options.contains(&"--hold-output") {
                let done = || job.call(&["status", "--json"]).stdout;
                wait_until("a message is held, or it has crashed", || {
                    !running.is_running() || !done().contains("\"state-keys\":0")
                });
            }
            // What is fed to a job that has crashed makes steps too.
            if !running.is_running() || !fed(3) {
                return running.kill();
            }
            wait_until("it is over, or has crashed", || is_over(&mut running));
        }
        running.kill();
    }

    /// The next swap brings a file with it that the guests write as well.
    fn brings_a_stream(&self, job: &Job) -> bool {
        let text = job.text("job.toml");
        let more = "[streams.more]\nsystem = \"file\"\npath = \"more\"\n";
        let text = text
            .replace("outputs = [\"out\"]", "outputs = [\"out\", \"more\"]")
            .replace("[stage.config]", "[stage.config]\nalso = \"more\"");
        job.write_job(&format!("{text}{more}"));
        true
    }

    /// Each line that the new code has sent is in the file that came with it, and none is there twice.
    fn check_stream(job: &Job, new: &Version, values: &[String], what: &str) {
        let lines = job.lines("more/more-0-0");
        let by_new = |line: &&String| line.rsplit(' ').nth(1) == Some(new.short());
        let (sent, found): (Vec<_>, Vec<_>) = (
            values.iter().filter(by_new).collect(),
            lines.iter().filter(by_new).collect(),
        );
        assert_eq!(found, sent, "{what}");
        let mut others = lines.iter();
        // What the old code has sent there since, too.
        let is_there = |line: &String| values.iter().filter(|value| *value == line).count() == 1;
        assert!(others.all(is_there), "{what}: {lines:?}, {values:?}");
    }

    /// What was fed comes out once, in its order, and what the second version fails at was processed by the first.
    fn finish(&self, job: &Job, versions: &[Version; 2], what: &str) {
        let logs = job.json(&["log", "list"]);
        let fed = logs.iter().filter(|log| log["stream"] == "in");
        let fed: u64 = fed.map(|log| log["end"].as_u64().expect("an offset")).sum();
        let fed = usize::try_from(fed).expect("few");
        for number in fed + 1..=MESSAGES {
            feed(job, one(&self.message(number, versions)));
        }
        println!("{what}");
        let running = job.answering();
        let values = out(job, MESSAGES);
        stop(running);
        assert_eq!(values.len(), MESSAGES, "{what}: {values:?}");
        if self.guest == "versions" {
            Scene::check_stream(job, &versions[1], &values, what);
        }
        for (at, value) in values.iter().enumerate() {
            let (rest, count) = value.rsplit_once(' ').expect("a count");
            let (message_of, version) = rest.rsplit_once(' ').expect("a version");
            assert_eq!(
                message_of,
                self.message(at + 1, versions),
                "{what}: {values:?}"
            );
            assert_eq!(count, (at + 1).to_string(), "{what}: {values:?}");
            if at + 1 == 3 && self.is_faulty {
                assert_eq!(version, versions[0].short(), "{what}: {values:?}");
            }
        }
    }

    /// Crashes before each of these steps, as often as they come. How often each was hit.
    fn crash_before(&self, steps: &[&'static str]) -> BTreeMap<&'static str, u32> {
        let versions = [("versions", 60), (self.guest, 61)];
        let versions = versions.map(|(guest, number)| Version::of(guest, number));
        let mut times: BTreeMap<&str, u32> = BTreeMap::new();
        for step in steps {
            for which in 1..8 {
                let job = job_of(&versions[0]);
                let config = format!(
                    "[stage.config]\nmigrate = \"{}\"\npause-ms = 120\n[stage.stores.counts]",
                    self.migrate
                );
                let text = job.text("job.toml");
                job.write_job(&text.replace("[stage.stores.counts]", &config));
                let mut job = job.with_steps();
                let at = format!("{step}:{which}");
                let ((), seen) = watched(&mut job, &at, |job| self.play(job, &versions));
                let is_hit = seen.last().is_some_and(|last| last == step)
                    && seen.iter().filter(|other| *other == step).count() == which;
                self.finish(
                    &job,
                    &versions,
                    &format!("a crash before {at}, of {seen:?}"),
                );
                if !is_hit {
                    break;
                }
                *times.entry(step).or_default() += 1;
            }
        }
        times
    }
}

#[test]
fn a_crash_in_a_swap_or_a_way_back_loses_and_repeats_nothing() {
    let scene = Scene {
        options: &[],
        is_faulty: true,
        end: "rolled-back",
        guest: "versions",
        migrate: "",
    };
    let times = scene.crash_before(&[
        "code.write",
        "append.write",
        "commit.write",
        "commit.witness",
        "commit.publish",
    ]);
    let all: u32 = times.values().sum();
    assert!(times["code.write"] == 2 && all >= 8, "{times:?}");
}

#[test]
fn a_crash_where_output_is_held_or_taken_back_loses_and_repeats_nothing() {
    let scene = Scene {
        options: &["--hold-output"],
        is_faulty: true,
        end: "rolled-back",
        guest: "versions",
        migrate: "",
    };
    let of_way_back = STEPS_OF_HOLDS
        .iter()
        .filter(|step| !step.starts_with("release") && !step.starts_with("migrate"));
    let steps: Vec<&str> = ["commit.write"]
        .iter()
        .chain(of_way_back)
        .copied()
        .collect();
    let times = scene.crash_before(&steps);
    assert!(
        steps.iter().all(|step| times.contains_key(step)),
        "{times:?}"
    );
}

#[test]
fn a_crash_where_held_output_is_released_loses_and_repeats_nothing() {
    let scene = Scene {
        options: &["--hold-output", "--probation", "2"],
        is_faulty: false,
        end: "done",
        guest: "versions",
        migrate: "",
    };
    let of_release = STEPS_OF_HOLDS
        .iter()
        .filter(|step| !step.starts_with("rollback") && !step.starts_with("migrate"));
    let steps: Vec<&str> = ["commit.write"].iter().chain(of_release).copied().collect();
    let times = scene.crash_before(&steps);
    assert!(
        steps.iter().all(|step| times.contains_key(step)),
        "{times:?}"
    );
}

#[test]
fn a_crash_in_a_migration_leaves_it_to_be_done_again() {
    let scene = Scene {
        options: &[],
        is_faulty: false,
        end: "done",
        guest: "migrating_1",
        migrate: "",
    };
    let steps = ["code.write", "commit.write", "undo.write", "migrate.last"];
    let times = scene.crash_before(&steps);
    assert!(
        steps.iter().all(|step| times.contains_key(step)),
        "{times:?}"
    );
}

#[test]
fn a_crash_where_a_migration_fails_leaves_the_old_state() {
    let scene = Scene {
        options: &[],
        is_faulty: false,
        end: "rolled-back",
        guest: "migrating_1",
        migrate: "err 2",
    };
    let steps = ["undo.write", "rollback.write", "rollback.last"];
    let times = scene.crash_before(&steps);
    assert!(
        steps.iter().all(|step| times.contains_key(step)),
        "{times:?}"
    );
}
