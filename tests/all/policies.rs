//! An operator's policy: the ceilings of `/etc/wasm-host/policy.toml` and of `--policy`, for every command that compiles components.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{Done, Job};
use crate::jobs::one_partition;

/// A command on a machine with this policy: its `/etc` is a folder of the job, in a mount namespace of its own.
fn on_machine(job: &Job, policy: &str, arguments: &[&str]) -> Done {
    job.write("etc/wasm-host/policy.toml", policy.as_bytes());
    let mut apart = Command::new("unshare");
    apart.args(["--mount", "--map-root-user", "sh", "-c"]);
    apart.arg("mount --bind \"$0\" /etc && exec \"$@\"");
    apart.arg(job.path("etc"));
    let output = job.command_under(apart, arguments).output();
    Done::of(&output.expect("unshare can be started"))
}

/// Whether there can be mount namespaces here.
fn can_be_apart() -> bool {
    let mut apart = Command::new("unshare");
    apart.args([
        "--mount",
        "--map-root-user",
        "mount",
        "--bind",
        "/tmp",
        "/etc",
    ]);
    let made = apart.stderr(Stdio::null()).status();
    let made = made.is_ok_and(|status| status.success());
    let must = rustix::process::geteuid().is_root() && std::env::var_os("CI").is_some();
    assert!(made || !must, "root cannot make a mount namespace");
    if !made {
        println!("NOT TESTED: no mount namespace can be made here");
    }
    made
}

/// A task that is held at the second of three messages.
fn held(limits: &str) -> Job {
    let text = one_partition("{guest:obey}");
    let job = Job::new(&format!("{text}[stage.limits]\n{limits}\n"));
    std::fs::create_dir_all(job.path("etc/wasm-host")).expect("a folder");
    job.feed(&["log", "produce", "in"], b"a\npanic x\nc\n")
        .expect(0);
    job.call(&["run", "--until-idle"]).expect(3);
    job
}

const SMALL: &str = "[limits]\nmemory = \"8MiB\"\ncompile-memory = \"2GiB\"\n";

#[test]
fn a_policy_of_the_machine_bounds_every_command_that_compiles() {
    if !can_be_apart() {
        return;
    }
    let job = held("memory = \"64MiB\"");
    for command in [&["run"][..], &["validate"], &["task", "skip", "count/0"]] {
        on_machine(&job, SMALL, command)
            .expect(2)
            .says("/etc/wasm-host/policy.toml");
    }
    // These compile nothing.
    on_machine(&job, SMALL, &["status"]).expect(0);
    on_machine(&job, SMALL, &["task", "list"]).expect(0);
    // Compilations of so little memory fail, also that of the recorded component.
    let little = "[limits]\ncompile-memory = \"16MiB\"\n";
    let mut job = held("");
    let cold = job.path("cold");
    job.env("XDG_CACHE_HOME", cold.to_str().expect("UTF-8"));
    on_machine(&job, little, &["task", "skip", "count/0"])
        .expect(2)
        .says("compile-memory");
    on_machine(&job, SMALL, &["task", "skip", "count/0"]).expect(0);
    on_machine(&job, SMALL, &["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out").len(), 2);
}

#[test]
fn a_job_keeps_within_the_policy_of_the_machine_and_the_given_one() {
    if !can_be_apart() {
        return;
    }
    let job = held("memory = \"32MiB\"");
    job.write("given.toml", b"[limits]\nmemory = \"16MiB\"\n");
    let given = job.path("given.toml");
    let given = Path::new(&given).to_str().expect("UTF-8");
    let wide = "[limits]\nmemory = \"1GiB\"\n";
    on_machine(&job, wide, &["validate"]).expect(0);
    let with_given = ["validate", "--policy", given];
    on_machine(&job, wide, &with_given)
        .expect(2)
        .says("given.toml");
    job.write("given.toml", wide.as_bytes());
    on_machine(&job, SMALL, &with_given)
        .expect(2)
        .says("/etc/wasm-host/policy.toml");
    on_machine(&job, wide, &with_given).expect(0);
    on_machine(&job, "[limit]\n", &with_given)
        .expect(2)
        .says("/etc/wasm-host/policy.toml");
}
