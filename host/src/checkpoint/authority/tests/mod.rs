//! Two orders over the same parts: the database decides, or a broker does. Both are stopped before every step.

mod broker;
mod job;

use std::fs;
use std::path::Path;

use broker::{Answer, Broker};
use job::{CrashAt, Decides, Run, expected, make, result, run};

use crate::connectors::testing::Folder;
use crate::state::Durability;

/// Runs to the end, and compares.
#[track_caller]
fn finish(folder: &Path, decides: &Decides, what: &str) {
    assert_eq!(
        run(folder, decides, &CrashAt::never()),
        Run::Ended,
        "{what}"
    );
    assert_eq!(result(folder, decides), expected(), "{what}");
}

/// Stops before each step of a run over a directory that is there, and before a step of the run after that; then runs to the end.
fn crash_at_every_step(decides: &dyn Fn() -> Decides) {
    let (folder, steps) = (Folder::new(), CrashAt::never());
    make(folder.path());
    assert_eq!(run(folder.path(), &decides(), &steps), Run::Ended);
    assert!(steps.come() > 20, "only {} steps", steps.come());
    for step in 0..steps.come() {
        let (folder, decides) = (Folder::new(), decides());
        make(folder.path());
        let crashed = run(folder.path(), &decides, &CrashAt::step(step));
        assert_eq!(crashed, Run::Crashed, "step {step}");
        let again = run(folder.path(), &decides, &CrashAt::step(step % 11));
        finish(
            folder.path(),
            &decides,
            &format!("step {step}, then {again:?}"),
        );
    }
}

#[test]
fn the_database_decides_and_a_crash_comes_before_each_step() {
    crash_at_every_step(&|| Decides::Database(Durability::Sync));
}

#[test]
fn the_database_decides_unsynced_and_a_crash_comes_before_each_step() {
    crash_at_every_step(&|| Decides::Database(Durability::Process));
}

#[test]
fn a_broker_decides_and_a_crash_comes_before_each_step() {
    crash_at_every_step(&|| Decides::Broker(Broker::default()));
}

#[test]
fn a_broker_that_does_not_answer_is_asked_by_the_next_start() {
    use Answer::{Committed, CommittedUnheard, Refused, RefusedUnheard};
    for answer in [Refused, CommittedUnheard, RefusedUnheard] {
        for epoch in 0..3 {
            let (folder, broker) = (Folder::new(), Broker::default());
            broker.answer_next((0..epoch).map(|_| Committed).chain([answer]));
            let decides = Decides::Broker(broker);
            let what = format!("{answer:?} in epoch {}", epoch + 1);
            let first = run(folder.path(), &decides, &CrashAt::never());
            // What is known not to have happened is tried again at once.
            let ended = first == Run::Ended;
            assert_eq!(ended, answer == Refused, "{what}");
            finish(folder.path(), &decides, &what);
        }
    }
}

#[test]
fn a_database_that_a_broker_has_left_behind_catches_up() {
    let (folder, broker) = (Folder::new(), Broker::default());
    let decides = Decides::Broker(broker.clone());
    // The second epoch's outcome is not heard of: a copy is made of what is there.
    broker.answer_next([Answer::Committed, Answer::CommittedUnheard]);
    assert_eq!(
        run(folder.path(), &decides, &CrashAt::never()),
        Run::Crashed
    );
    let (state, copy) = (folder.path().join("state"), folder.path().join("copy"));
    copy_folder(&state, &copy);
    finish(folder.path(), &decides, "the first time");
    fs::remove_dir_all(&state).expect("the state is removed");
    copy_folder(&copy, &state);
    finish(folder.path(), &decides, "from the copy");
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).expect("a folder");
    for entry in fs::read_dir(from).expect("entries") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy_folder(&entry.path(), &to),
            false => fs::copy(entry.path(), to).map(drop).expect("a copy"),
        }
    }
}
