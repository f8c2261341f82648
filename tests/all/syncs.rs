//! The order in which things become durable, as the kernel sees it: the write-ahead log before the witness that speaks of it, a
//! file's data before the length that is recorded of it.

use std::process::{Command, Stdio};

use crate::harness::Job;
use crate::jobs::COUNT_LINES;

/// What a system call did, to which kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    WriteLog,
    SyncLog,
    WriteWitness,
    SyncWitness,
    WriteOut,
    SyncOut,
}

fn call_of(line: &str) -> Option<Call> {
    // strace -y: `fdatasync(7</path/to/file>) = 0`; of a call that was interrupted, the part that began counts.
    let (name, rest) = line.split_once('(')?;
    let name = name.rsplit(' ').next()?;
    let path = rest.split_once('<')?.1.split_once('>')?.0;
    let file = path.rsplit('/').next()?;
    let sync = matches!(name, "fdatasync" | "fsync");
    let write = matches!(name, "write" | "pwrite64" | "writev" | "pwritev");
    let log = path.contains("/db/") && file.ends_with(".log");
    match (sync, write) {
        (true, _) if log => Some(Call::SyncLog),
        (_, true) if log => Some(Call::WriteLog),
        (true, _) if file == "witness" => Some(Call::SyncWitness),
        (_, true) if file == "witness" => Some(Call::WriteWitness),
        (true, _) if file == "out-0-0" => Some(Call::SyncOut),
        (_, true) if file == "out-0-0" => Some(Call::WriteOut),
        _ => None,
    }
}

#[test]
fn logs_are_synced_before_the_witness_and_output_before_its_length() {
    let job = Job::new(
        &COUNT_LINES
            .replace("interval = \"100ms\"", "interval = \"20ms\"")
            .replace(
                "format = \"lines\"\n[streams.out]",
                "format = \"lines\"\nmax-rate = \"1000/s\"\n[streams.out]",
            ),
    );
    job.write("in.txt", "a\nb\nc\n".repeat(100).as_bytes());
    let trace = job.path("trace");
    let command = job.command(&["run"]);
    let mut traced = Command::new("strace");
    traced
        .args([
            "-f",
            "-y",
            "-e",
            "trace=write,pwrite64,writev,pwritev,fsync,fdatasync",
            "-o",
        ])
        .arg(&trace);
    traced.arg(command.get_program()).args(command.get_args());
    traced.envs(
        command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let output = traced
        .stdin(Stdio::null())
        .output()
        .expect("strace: scripts/setup --tests installs it");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&job.read("trace")).into_owned();
    let calls: Vec<Call> = text.lines().filter_map(call_of).collect();
    let count = |call| calls.iter().filter(|found| **found == call).count();
    assert!(
        count(Call::WriteWitness) >= 5 && count(Call::WriteOut) >= 3,
        "{} witnesses",
        count(Call::WriteWitness)
    );
    let (mut log_is_synced, mut witness_is_synced, mut out_is_synced) = (true, true, true);
    for (at, call) in calls.iter().enumerate() {
        match call {
            Call::WriteLog => {
                assert!(
                    witness_is_synced,
                    "call {at}: the next write begins before the witness of the last is synced"
                );
                assert!(
                    out_is_synced,
                    "call {at}: a length is recorded before the data is synced"
                );
                log_is_synced = false;
            }
            Call::SyncLog => log_is_synced = true,
            Call::WriteWitness => {
                assert!(
                    log_is_synced,
                    "call {at}: the witness speaks of a write that is not synced"
                );
                witness_is_synced = false;
            }
            Call::SyncWitness => witness_is_synced = true,
            Call::WriteOut => {
                assert!(
                    log_is_synced && witness_is_synced,
                    "call {at}: output is shown before it is committed"
                );
                out_is_synced = false;
            }
            Call::SyncOut => out_is_synced = true,
        }
    }
}
