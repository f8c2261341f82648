//! Directories of formats that landed: every later host opens them, reads what is in them, and goes on.

use crate::harness::{Job, copy, in_repository};
use crate::jobs::COUNT_LOG;

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
    assert!(format.starts_with("{\"format\":3,"), "{format}");
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
