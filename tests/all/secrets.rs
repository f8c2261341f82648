//! Values from the environment and from files are used, and shown nowhere: not by any command, not in the log, not in dead letters, and not
//! in the state directory, even if the component tells them when it fails.

use std::fs;
use std::path::Path;

use crate::harness::{Job, wait_until};

const SECRETS: [&str; 3] = [
    "s3cret-of-the-environment",
    "s3cret-of-a-file",
    "s3cret-variable",
];

fn job() -> Job {
    let mut job = Job::new(
        "[job]\nname = \"secrets\"\n\
         [streams.in]\nsystem = \"log\"\n[streams.out]\nsystem = \"log\"\n[streams.dead]\nsystem = \"log\"\n\
         [[stage]]\nname = \"s\"\ncomponent = \"{guest:obey}\"\ninputs = [\"in\"]\noutputs = [\"out\"]\n\
         dead-letters = \"dead\"\nwhen-held = \"wait\"\n\
         [stage.stores.counts]\n\
         [stage.config]\ntoken = \"${TOKEN}\"\nkey = \"<${file:key}>\"\n\
         [stage.capabilities]\nenvironment = [\"VARIABLE\"]\n",
    );
    job.env("TOKEN", SECRETS[0]);
    job.write("key", format!("{}\n", SECRETS[1]).as_bytes());
    job.env("VARIABLE", SECRETS[2]);
    job
}

fn shows_none(what: &str, shown: &[u8]) {
    for secret in SECRETS {
        let found = shown
            .windows(secret.len())
            .any(|part| part == secret.as_bytes());
        let shown = String::from_utf8_lossy(shown);
        assert!(!found, "{what} shows {secret}: {shown}");
    }
}

fn files_show_none(folder: &Path) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => files_show_none(&path),
            // A running job deletes files.
            false => shows_none(
                &path.display().to_string(),
                &fs::read(&path).unwrap_or_default(),
            ),
        }
    }
}

/// Every command that shows something.
fn commands_show_none(job: &Job) {
    for command in [
        &["status"][..],
        &["status", "--json"],
        &["validate"],
        &["validate", "--json"],
        &["task", "list"],
        &["dlq", "list"],
        &["dlq", "list", "--letters", "--json"],
        &["dlq", "show", "dead/0/0"],
        &["dlq", "show", "dead/0/1", "--json"],
        &["log", "consume", "dead", "--json"],
        &["checkpoint", "list", "--json"],
        &["offsets", "show"],
        &["state", "scan", "s", "counts"],
    ] {
        let done = job.call(command);
        shows_none(&format!("{command:?}"), done.stdout.as_bytes());
        shows_none(&format!("{command:?}"), done.stderr.as_bytes());
    }
}

#[test]
fn what_comes_from_the_environment_and_from_files_is_shown_nowhere() {
    let job = job();
    let lines = [
        "config-panic token",
        "config-panic key",
        "config-reject token",
        "config-say key",
        "config-count token",
        "variable-panic VARIABLE",
        "x",
    ];
    job.feed(&["log", "produce", "in"], lines.join("\n").as_bytes())
        .expect(0);
    let running = job.start();
    wait_until("all is processed", || {
        job.call(&["log", "consume", "out"]).stdout.contains("x 1")
    });
    commands_show_none(&job);
    files_show_none(&job.state_dir());
    let done = running.terminate().expect(0);
    shows_none("the log", done.stderr.as_bytes());
    shows_none("standard output", done.stdout.as_bytes());
    commands_show_none(&job);
    files_show_none(&job.state_dir());
    // It was used, and where it was told stands what the job file says.
    for shown in ["the value is ${TOKEN}", "the value is <${file:key}>"] {
        assert!(done.stderr.contains(shown), "{}", done.stderr);
    }
    let letters = job.json(&["dlq", "list", "--letters"]);
    assert_eq!(letters.len(), 5, "{letters:?}");
    let reasons: Vec<&str> = letters
        .iter()
        .filter_map(|letter| letter["reason"].as_str())
        .collect();
    for shown in [
        "${TOKEN}",
        "<${file:key}>",
        "${VARIABLE}",
        "the name of a metric is shown, and \"${TOKEN}\" has a value in it",
    ] {
        assert!(
            reasons.iter().any(|reason| reason.contains(shown)),
            "{reasons:?}"
        );
    }
}

#[test]
fn a_secret_is_what_the_component_sees() {
    let job = job();
    job.feed(
        &["log", "produce", "in"],
        b"config token\nconfig key\nvariable VARIABLE\n",
    )
    .expect(0);
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(
        job.values("out"),
        [SECRETS[0], &format!("<{}>", SECRETS[1]), SECRETS[2]]
    );
}

#[test]
fn a_value_that_cannot_be_read_is_named() {
    let job = job();
    fs::remove_file(job.path("key")).expect("it was written");
    job.call(&["run"])
        .expect(2)
        .says("the file \"key\" cannot be read: No such file or directory")
        .says("key = \"<${file:key}>\"");
}
