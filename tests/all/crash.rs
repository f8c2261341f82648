//! A crash before every durable step: of a first run, of the run after a crash, and of that after a change of the job. The
//! process is ended by `abort`, started again, and what comes of it is what comes of a run without crashes.

mod asked;
pub mod case;
mod failing_disk;
mod in_a_row;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use wasm_host::records::{self, StageRecord};
use wasm_host::state::{Db, DbOptions};

use case::{
    Case, FROM_FILE_TO_FILE, FROM_FILE_TO_LOGS, FROM_FILE_TO_SEGMENTS, crash, crash_in, watched,
};

use crate::harness::found::state_dir;
use crate::harness::{Job, KILLED, copy, guest, in_repository};
use crate::jobs::COUNT_LOG;
use crate::swaps::crashes::STEPS_OF_HOLDS;

/// The steps of a delivery to Kafka, and of a recovery. A test with brokers ends the process before each.
pub const STEPS_OF_KAFKA: [&str; 7] = [
    "kafka.init",
    "kafka.marker",
    "kafka.begin",
    "kafka.send",
    "kafka.drain",
    "kafka.commit",
    "kafka.committed",
];

/// The names of steps before which a process was ended.
type Aborted = BTreeSet<String>;

/// Whether a run has come so far that nothing new can come.
type IsEnough = fn(&[String]) -> bool;

/// The first epoch after an opening is delivered.
fn one_epoch(steps: &[String]) -> bool {
    steps.iter().filter(|step| *step == "commit.write").count() == 2
}

/// A state directory is open.
fn opened(steps: &[String]) -> bool {
    steps.iter().any(|step| step == "open.database")
}

/// The job is open.
fn begun(steps: &[String]) -> bool {
    steps.iter().any(|step| step == "commit.write")
}

impl Case {
    /// A crash before each step of a first run.
    fn first_run(self) -> Aborted {
        let mut aborted = Aborted::new();
        for number in 1.. {
            let mut job = self.job();
            let steps = crash_in(&mut job, &["run"], &number.to_string());
            self.finish(&job, &format!("a crash before step {number}, of {steps:?}"));
            match steps {
                Some(steps) => aborted.extend(steps.last().cloned()),
                None => break,
            }
        }
        aborted
    }

    /// After crashes before these steps, one a run, a crash before each step of the next run, until it is enough. One job is
    /// crashed again and again, and a new one taken when there is nothing left in it that could crash in this way.
    fn after(self, crashes: &[&str], is_enough: IsEnough) -> Aborted {
        let mut aborted = Aborted::new();
        let (mut job, mut is_new, mut number) = (self.job(), true, 1);
        loop {
            let mut hit = crashes.iter().map(|at| crash_in(&mut job, &["run"], at));
            let all_hit = hit.all(|steps| steps.is_some());
            let next = match all_hit {
                true => crash_in(&mut job, &["run"], &number.to_string()),
                false => None,
            };
            let what = format!("crashes before {crashes:?}, then before step {number}: {next:?}");
            match next {
                Some(steps) => {
                    aborted.extend(steps.last().cloned());
                    if is_enough(&steps) {
                        self.finish(&job, &what);
                        return aborted;
                    }
                    (is_new, number) = (false, number + 1);
                }
                None => {
                    assert!(!is_new, "{what}");
                    self.finish(&job, &what);
                    (job, is_new) = (self.job(), true);
                }
            }
        }
    }

    /// The same after a crash before each of these steps.
    fn after_each(self, crashes: &[&str], is_enough: IsEnough) -> Aborted {
        let aborted = crashes.iter().map(|step| self.after(&[step], is_enough));
        aborted.flatten().collect()
    }
}

fn first_runs() -> Aborted {
    let short = |case: Case| Case { lines: 80, ..case }.first_run();
    let cases = [FROM_FILE_TO_FILE, FROM_FILE_TO_LOGS, FROM_FILE_TO_SEGMENTS];
    cases.into_iter().flat_map(short).collect()
}

// Below, the first crashes are before those steps that leave different things behind.

fn making() -> Aborted {
    let steps = [
        "init.database",
        "init.commit",
        "witness.sync",
        "init.format",
        "init.rename",
    ];
    let case = Case {
        lines: 200,
        ..FROM_FILE_TO_FILE
    };
    case.after_each(&steps, opened)
}

/// The same in a folder that is there.
fn making_in_place() -> Aborted {
    let steps = [
        "init.mark",
        "init.database",
        "init.commit",
        "witness.sync",
        "init.format",
        "init.sync",
        "init.rename",
        "init.sync-folder",
        "init.unmark",
    ];
    let case = Case {
        lines: 200,
        in_place: true,
        ..FROM_FILE_TO_FILE
    };
    case.after_each(&steps, opened)
}

fn opening() -> Aborted {
    let steps = [
        "init.sync-parent",
        "sink.create-folder",
        "sink.sync",
        "append.write",
        "commit.witness",
    ];
    let case = Case {
        lines: 200,
        ..FROM_FILE_TO_FILE
    };
    case.after_each(&steps, begun)
}

fn committing() -> Aborted {
    let steps: [&[&str]; 6] = [
        &["commit.write:2"],
        &["commit.witness:2"],
        &["witness.sync:3"],
        &["deliver:2"],
        &["sink.sync:3"],
        // Only a file that is longer than recorded is cut back.
        &["sink.sync:3", "sink.truncate"],
    ];
    let case = FROM_FILE_TO_FILE;
    let aborted = steps.iter().map(|steps| case.after(steps, one_epoch));
    aborted.flatten().collect()
}

fn committing_to_logs() -> Aborted {
    let steps = [
        "append.write",
        "commit.write:2",
        "commit.witness:2",
        "commit.publish:2",
    ];
    let case = FROM_FILE_TO_LOGS;
    case.after_each(&steps, one_epoch)
}

fn committing_to_segments() -> Aborted {
    let steps = [
        "log.create:2",
        "log.write:3",
        "log.sync:2",
        "commit.write:3",
        "commit.witness:4",
        "log.remove:1",
        "log.free:1",
    ];
    let case = FROM_FILE_TO_SEGMENTS;
    case.after_each(&steps, one_epoch)
}

/// A crash in the first start after an older version.
fn upgrading() -> Aborted {
    let steps = ["open.format", "open.database"];
    let crashed = steps.iter().map(|step| {
        let mut job = Job::new(COUNT_LOG).with_steps();
        copy(
            &in_repository("tests/fixtures/state-1"),
            &job.path(".wasm-host/count"),
        );
        let step = crash(&mut job, step);
        job.call(&["run", "--until-idle"]).expect(0);
        let mut values = job.values("out");
        values.sort();
        assert_eq!(values, ["a 1", "a 2", "b 1", "b 2"], "{step}");
        step
    });
    crashed.collect()
}

/// A crash before each step with a component that is new, twice in a row where it is kept; it is the checkpoint's component
/// from the first commit on and not before.
fn with_another_component() -> Aborted {
    let case = FROM_FILE_TO_FILE;
    let mut aborted = Aborted::new();
    // The same code with a custom section is another component.
    let old = fs::read(guest("counter")).expect("a component");
    let new = [old.as_slice(), b"\x00\x04\x03new".as_slice()].concat();
    let recorded = |job: &Job| {
        let folder = state_dir(job).expect("a state directory");
        let db = Db::open_read_only(&folder.join("db"), &DbOptions::default());
        let db = db.expect("the database opens");
        let stage = records::get::<StageRecord>(&db, &"count".to_owned()).expect("a record");
        stage.expect("the stage is recorded").code.component
    };
    for steps in [
        [
            "commit.publish:2",
            "code.write",
            "code.write",
            "commit.write",
        ],
        ["deliver:2", "code.write", "sink.sync", "commit.write"],
        ["sink.sync:3", "code.write", "sink.truncate", "commit.write"],
    ] {
        let mut job = case.job();
        let path = guest("counter");
        let text = job.text("job.toml");
        aborted.insert(crash(&mut job, steps[0]));
        let before = recorded(&job);
        job.write("new.wasm", &new);
        job.write_job(&text.replace(path.to_str().expect("UTF-8"), "new.wasm"));
        for step in &steps[1..] {
            aborted.insert(crash(&mut job, step));
            assert_eq!(recorded(&job), before, "{step}: nothing is committed yet");
        }
        aborted.insert(crash(&mut job, "commit.witness"));
        assert_ne!(recorded(&job), before, "an epoch is");
        case.finish(&job, &format!("another component, {steps:?}"));
    }
    aborted
}

/// A crash before each step from synced commits to such that are not, and back.
fn without_sync_and_back() -> Aborted {
    let case = FROM_FILE_TO_FILE;
    let mut aborted = Aborted::new();
    let mut job = case.job();
    let synced = job.text("job.toml");
    let unsynced = synced.replace("[checkpoint]", "[checkpoint]\ndurability = \"process\"");
    for (from, to) in [(&synced, &unsynced), (&unsynced, &synced)] {
        for number in 1.. {
            job.write_job(from);
            aborted.insert(crash(&mut job, "commit.publish:2"));
            job.write_job(to);
            let steps = crash_in(&mut job, &["run"], &number.to_string());
            let steps = steps.expect("the input does not end");
            aborted.extend(steps.last().cloned());
            if one_epoch(&steps) {
                assert!(steps.contains(&"begin.write".to_owned()), "{steps:?}");
                break;
            }
        }
        // Three times in a row at the write that makes the change.
        job.write_job(from);
        crash(&mut job, "commit.publish:2");
        job.write_job(to);
        for step in [
            "begin.write",
            "witness.write",
            "witness.sync",
            "begin.write",
        ] {
            aborted.insert(crash(&mut job, step));
        }
    }
    job.write_job(&synced);
    case.finish(&job, "synced, not synced, and synced again");
    aborted
}

/// A crash before each step of an append to a job that does not run: wholly there, or not at all.
fn appending_to_a_stopped_job() -> Aborted {
    let mut aborted = Aborted::new();
    let mut job = Job::new(&COUNT_LOG.replace("partitions = 2", "partitions = 1")).with_steps();
    let (mut round, mut number, mut is_registered, mut expected) = (0, 1, false, Vec::new());
    loop {
        round += 1;
        let lines = [format!("a{round}"), format!("b{round}")];
        let text = lines.join("\n");
        let (done, steps) = watched(&mut job, &number.to_string(), |job| {
            job.feed(&["log", "produce", "in"], text.as_bytes())
        });
        // The first write registers the stream's name.
        let written = steps
            .iter()
            .filter(|step| *step == "commit.witness")
            .count();
        let was_registered = is_registered;
        is_registered |= written > 0;
        if written > usize::from(!was_registered) {
            expected.extend(lines);
        }
        if done.code == KILLED {
            aborted.extend(steps.last().cloned());
            number += 1;
            continue;
        }
        assert_eq!(done.code, 0, "{}", done.stderr);
        assert_eq!(
            job.values("in"),
            expected,
            "a crash before each of {steps:?}"
        );
        // A compaction may bring steps of the witness, or bring none.
        if was_registered && number > steps.len() {
            return aborted;
        }
        number = 1;
    }
}

/// A crash in a write of a job that does nothing but delete old messages, every half minute. What was
/// to be deleted is there, or it is gone; nothing else is.
fn retention_of_an_idle_job() -> Aborted {
    let text = COUNT_LOG
        .replace("partitions = 2", "partitions = 1")
        .replace(
            "[streams.out]",
            "retention = { age = \"1s\" }\n[streams.out]",
        );
    // The first writes register names and make the epoch.
    let steps = [
        ("append.write:2", 0),
        ("commit.witness:3", 3),
        ("witness.write:3", 3),
        ("witness.sync:3", 3),
        ("commit.publish:3", 3),
    ];
    let jobs = steps.map(|(step, oldest)| {
        let mut job = Job::new(&text).with_steps();
        job.feed(&["log", "produce", "in"], b"a\nb\na\n").expect(0);
        job.env("STEPS_ABORT", step);
        let running = job.start();
        job.clear_env();
        (job, running, step, oldest)
    });
    for (job, running, step, oldest) in jobs {
        let done = running.wait();
        assert_eq!(done.code, KILLED, "{step}: {}", done.stderr);
        let logs = job.json(&["log", "list"]);
        let log = logs
            .iter()
            .find(|log| log["stream"] == "in")
            .expect("the stream");
        assert_eq!(
            (&log["oldest"], &log["end"]),
            (&oldest.into(), &3.into()),
            "{step}"
        );
        job.feed(&["log", "produce", "in"], b"b\n").expect(0);
        job.call(&["run", "--until-idle"]).expect(0);
        assert_eq!(job.values("out"), ["a 1", "b 1", "a 2", "b 2"], "{step}");
    }
    let name = |(step, _): (&str, _)| step.split_once(':').map(|(name, _)| name.to_owned());
    steps.into_iter().filter_map(name).collect()
}

/// Every step of the host's sources.
fn steps_of_the_sources() -> Aborted {
    fn collect(folder: &Path, found: &mut Aborted) {
        for entry in fs::read_dir(folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                // A test's own steps are made by that test.
                if path.file_name().is_some_and(|name| name != "tests") {
                    collect(&path, found);
                }
                continue;
            }
            let text = fs::read_to_string(&path).expect("a source");
            for call in [
                "before",
                "before_at",
                "before_write",
                "write_at",
                "truncate",
                "free",
                "sync",
                "sync_data",
                "write_step",
                "write_keyed_step",
            ] {
                let call = format!(".{call}(");
                let calls = text.split(&call).skip(1);
                let name = |rest: &str| {
                    Some(
                        rest.trim_start()
                            .strip_prefix('"')?
                            .split_once('"')?
                            .0
                            .to_owned(),
                    )
                };
                found.extend(calls.filter_map(name));
            }
        }
    }
    let mut found = Aborted::new();
    collect(&in_repository("host/src"), &mut found);
    found
}

#[test]
fn a_crash_before_any_step_loses_and_repeats_nothing() {
    let scenarios: [&[fn() -> Aborted]; 4] = [
        &[first_runs, with_another_component],
        &[committing, appending_to_a_stopped_job],
        &[
            making,
            making_in_place,
            opening,
            committing_to_logs,
            without_sync_and_back,
        ],
        &[retention_of_an_idle_job, committing_to_segments, upgrading],
    ];
    let aborted = std::thread::scope(|scope| {
        let run = |scenarios: &'static [fn() -> Aborted]| {
            scope.spawn(move || -> Aborted { scenarios.iter().flat_map(|run| run()).collect() })
        };
        let threads = scenarios.map(run);
        let aborted = threads.map(|thread| thread.join().expect("a thread's crashes"));
        aborted.into_iter().flatten().collect::<Aborted>()
    });
    let elsewhere = STEPS_OF_HOLDS.iter().chain(&STEPS_OF_KAFKA);
    let elsewhere = elsewhere.map(|step| (*step).to_owned());
    assert_eq!(
        aborted.into_iter().chain(elsewhere).collect::<Aborted>(),
        steps_of_the_sources()
    );
}
