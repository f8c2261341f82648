//! What the command line says about itself and about components, and how.

use std::process::{Command, Output};

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::harness::{ABORTED, Job, guest, host};
use crate::jobs::COUNT_LINES;

fn wasm_host(arguments: &[&str]) -> Output {
    Command::new(host())
        .args(arguments)
        .output()
        .expect("the host can be started")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_version_names_what_decides_compatibility() {
    let done = wasm_host(&["--version"]);
    assert_eq!(done.status.code(), Some(0));
    let version = text(&done.stdout);
    let rest = version
        .strip_prefix(concat!(
            "wasm-host ",
            env!("CARGO_PKG_VERSION"),
            " (wasmtime "
        ))
        .and_then(|rest| rest.strip_suffix(")\n"));
    let (wasmtime, rocksdb) = rest
        .and_then(|rest| rest.split_once(", RocksDB "))
        .unwrap_or_else(|| panic!("{version}"));
    for version in [wasmtime, rocksdb] {
        let numbers: Vec<&str> = version.split('.').collect();
        assert_eq!(numbers.len(), 3, "{version}");
        assert!(numbers.iter().all(|number| number.parse::<u32>().is_ok()));
    }
}

#[test]
fn what_is_typed_wrong_is_exit_2_and_nothing_on_standard_output() {
    for (arguments, says) in [
        (&["frobnicate"][..], "unrecognized subcommand 'frobnicate'"),
        (&["run", "--until-idel"], "--until-idle"),
        (&["state"], "Usage"),
        (&["log", "consume"], "<STREAM>"),
        (&[], "Usage"),
        (&["status", "--job", "/nowhere"], "/nowhere"),
        (&["run", "/nowhere/job.toml"], "/nowhere/job.toml"),
        (&["inspect", "/nowhere.wasm"], "/nowhere.wasm"),
    ] {
        let done = wasm_host(arguments);
        assert_eq!(done.status.code(), Some(2), "{arguments:?}");
        assert!(
            text(&done.stderr).contains(says),
            "{arguments:?}: {}",
            text(&done.stderr)
        );
        assert_eq!(text(&done.stdout), "", "{arguments:?}");
    }
}

#[test]
fn the_binary_is_small_enough_to_be_carried_about() {
    let bytes = std::fs::metadata(host()).expect("the binary").len();
    assert!(bytes <= 70_000_000, "it has {bytes} bytes");
}

#[test]
fn a_panic_names_function_and_line() {
    let mut job = Job::new(COUNT_LINES).with_steps();
    job.write("in.txt", b"a\n");
    job.env("RUST_BACKTRACE", "1");
    job.env("STEPS_PANIC", "commit.write:1");
    let done = job.run().expect(ABORTED);
    // A frame is a line with its function, and one with its place.
    let lines: Vec<&str> = done.stderr.lines().collect();
    let is_named = |frame: &[&str]| {
        frame[0].ends_with(": advance") && frame[1].contains("src/checkpoint/committer.rs:")
    };
    assert!(lines.windows(2).any(is_named), "{}", done.stderr);
}

#[test]
fn every_command_has_help() {
    let done = wasm_host(&["--help"]);
    assert_eq!(done.status.code(), Some(0));
    let help = text(&done.stdout);
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split_once(' '))
        .map(|(command, _)| command)
        .filter(|command| !["", "help"].contains(command))
        .collect();
    for command in [
        "run",
        "validate",
        "new",
        "inspect",
        "status",
        "checkpoint",
        "state",
        "log",
        "offsets",
        "reset",
    ] {
        assert!(commands.contains(&command), "{command}: {help}");
    }
    for command in commands {
        let done = wasm_host(&[command, "--help"]);
        assert_eq!(done.status.code(), Some(0), "{command}");
        let usage = format!(" {command} ");
        let shown = text(&done.stdout);
        let line = shown.lines().find(|line| line.starts_with("Usage: "));
        assert!(line.is_some_and(|line| line.contains(&usage)), "{shown}");
    }
}

#[test]
fn inspect_says_what_a_component_is() {
    let path = guest("counter");
    let path = path.to_str().expect("UTF-8");
    let done = wasm_host(&["inspect", path, "--json"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let shown: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    let bytes = std::fs::read(path).expect("the component");
    let hash: String = Sha256::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(shown["sha256"], hash);
    assert_eq!(shown["bytes"], bytes.len());
    assert_eq!(shown["world"], "batch-handler");
    assert_eq!(shown["unfit"], Value::Null);
    let names = |field: &str| -> Vec<String> {
        let names = shown[field].as_array().expect("names");
        names
            .iter()
            .map(|name| name.as_str().expect("a name").to_owned())
            .collect()
    };
    for interface in ["state", "output"] {
        let name = format!("wasm-host:task/{interface}@0.1.1");
        assert!(names("imports").contains(&name), "{:?}", names("imports"));
    }
    let handler = "wasm-host:task/batch-handler@0.1.1";
    assert!(names("exports").iter().any(|name| name == handler));
    let people = text(&wasm_host(&["inspect", path]).stdout);
    for line in [
        format!("sha256: {hash}"),
        format!("size: {} bytes", bytes.len()),
        "handler: batch-handler".to_owned(),
    ] {
        assert!(people.lines().any(|shown| shown == line), "{people}");
    }
    let obey = guest("obey");
    let obey = wasm_host(&["inspect", obey.to_str().expect("UTF-8"), "--json"]);
    let obey: Value = serde_json::from_slice(&obey.stdout).expect("JSON");
    let needs = obey["needs"].as_object().expect("what it needs");
    let keys: Vec<&str> = needs.keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "config",
            "directories",
            "environment",
            "network",
            "outputs",
            "request-stop",
            "stores"
        ]
    );
    let raw = guest("raw_relay");
    let raw = wasm_host(&["inspect", raw.to_str().expect("UTF-8"), "--json"]);
    let raw: Value = serde_json::from_slice(&raw.stdout).expect("JSON");
    assert_eq!(raw["world"], "message-handler");
}

#[test]
fn colour_is_for_terminals_and_can_be_turned_off() {
    let job = Job::new(COUNT_LINES);
    job.write("in.txt", b"a\n");
    let coloured = |text: &str| text.contains("\u{1b}[32m") || text.contains("\u{1b}[2m");
    // `script` gives a command a terminal.
    let on_a_terminal = |no_colour: Option<&str>| {
        let line = format!(
            "'{}' run --job '{}'",
            host().display(),
            job.folder.path().display()
        );
        let mut command = Command::new("script");
        command.args(["-q", "-e", "-c", &line, "/dev/null"]);
        command.env_remove("NO_COLOR").env("TERM", "xterm");
        command.envs(no_colour.map(|value| ("NO_COLOR", value)));
        let done = command.output().expect("script");
        let said = text(&done.stdout);
        assert!(said.contains("checkpoint"), "{said}");
        said
    };
    assert!(coloured(&on_a_terminal(None)));
    let plain = on_a_terminal(Some("1"));
    assert!(!coloured(&plain), "{plain:?}");
    assert!(coloured(&on_a_terminal(Some(""))), "empty is not set");
    let piped = job.command(&["run"]).env_remove("NO_COLOR").output();
    let piped = text(&piped.expect("the host can be started").stderr);
    assert!(piped.contains("nothing new to process"), "{piped}");
    assert!(!piped.contains('\u{1b}'), "{piped:?}");
}

#[test]
fn log_lines_can_be_json() {
    let job = Job::new(COUNT_LINES);
    job.write("in.txt", b"a\n");
    let done = job.call(&["run", "--log-format", "json"]).expect(0);
    let last = done.stderr.lines().last().expect("a line");
    for line in done.stderr.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(line["level"], "INFO");
    }
    assert!(last.contains("finished at checkpoint"), "{last}");
    let quiet = job.call(&["run", "--log-level", "error"]).expect(0);
    assert_eq!(quiet.stderr, "");
}

#[test]
fn what_is_said_of_a_job_file_is_bounded() {
    let job = Job::new("");
    let many: String = (0..20_000)
        .map(|at| format!("[streams.s{at}]\nsystem = \"log\"\n"))
        .collect();
    let unknown: String = (0..20_000).map(|at| format!("k{at} = 1\n")).collect();
    for text in ["[".repeat(100_000), many, unknown] {
        job.write("job.toml", text.as_bytes());
        let began = std::time::Instant::now();
        let done = job.call(&["validate"]).expect(2);
        assert!(done.stderr.len() < 100_000, "{} bytes", done.stderr.len());
        assert!(began.elapsed() < std::time::Duration::from_secs(20));
    }
}
