//! Commands and job files that are wrong in ways that only a look at the world shows, and what they leave alone.

use std::net::TcpListener;
use std::time::Duration;

use crate::harness::{Job, Running, guest, host, steps, wait_until};
use crate::jobs::{COUNT_LINES, COUNT_LOG, one_partition};

const STATE: &str = ".wasm-host/count";

#[test]
fn more_tasks_than_instances() {
    let lines = "[streams.lines]\nsystem = \"file\"\npath = \"in.txt\"\nformat = \"lines\"";
    let generated = "[streams.lines]\nsystem = \"generate\"\ncount = 3000\nkeys = 3000\npartitions = 700\ndistribution = \"sequential\"";
    let job = Job::new(
        &COUNT_LINES
            .replace(lines, generated)
            .replace("[checkpoint]", "workers = 4\n[checkpoint]"),
    );
    job.run().expect(0);
    assert_eq!(job.text("out/out-0-0").lines().count(), 3000);
}

#[test]
fn another_key_would_divide_the_records_otherwise() {
    let text = COUNT_LINES.replace("in.txt", "in.csv").replace(
        "format = \"lines\"\n[streams.out]",
        "format = \"csv\"\nkey = \"a\"\npartitions = 3\n[streams.out]",
    );
    let job = Job::new(&text);
    job.write("in.csv", b"a,b\n1,2\n3,4\n5,6\n");
    job.run().expect(0);
    job.append("in.csv", b"7,8\n");
    job.write_job(&text.replace("key = \"a\"", "key = \"b\""));
    job.run().expect(3).says("`key` or `format` has changed");
    job.write_job(&text);
    job.run().expect(0);
    assert_eq!(job.text("out/out-0-0").lines().count(), 4);
}

#[test]
fn a_line_that_is_too_long_is_not_cut() {
    let job = Job::new(COUNT_LOG);
    let mut lines = b"first\n".to_vec();
    lines.resize(lines.len() + (33 << 20), b'x');
    job.feed(&["log", "produce", "in"], &lines)
        .expect(2)
        .says("line 2: it has 33554432 bytes or more");
    assert_eq!(job.log("in"), "", "nothing of the batch is appended");
}

#[test]
fn an_address_in_use_costs_no_input() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address");
    let job = Job::new(&COUNT_LINES.replace(
        "[checkpoint]",
        &format!("listen = \"{address}\"\n[checkpoint]"),
    ));
    job.write("in.txt", b"a\n");
    job.run().expect(2).says(&format!("listen on {address}"));
    assert!(!job.path(STATE).exists());
}

#[test]
fn what_run_would_refuse_validate_refuses() {
    let job = Job::new(COUNT_LINES);
    job.write("in.txt", b"a\n");
    job.call(&["validate"]).expect(0);
    assert!(!job.path(STATE).exists(), "a look makes nothing");
    job.write("out/out-0-0", b"of somebody else\n");
    for command in ["validate", "run"] {
        job.call(&[command])
            .expect(4)
            .says("that this job has not written");
        assert!(!job.path(STATE).exists());
    }
    std::fs::remove_dir_all(job.path("out")).expect("the folder can be removed");
    job.run().expect(0);
    job.call(&["validate"]).expect(0);
    let other = COUNT_LINES.replace(
        "name = \"count\"\n[checkpoint]",
        "name = \"other\"\nstate-dir = \".wasm-host/count\"\n[checkpoint]",
    );
    assert_ne!(other, COUNT_LINES);
    job.write_job(&other);
    for command in ["validate", "run"] {
        job.call(&[command])
            .expect(4)
            .says("it belongs to job \"count\"");
    }
}

#[test]
fn a_missing_input_is_named() {
    let job = Job::new(COUNT_LINES);
    job.call(&["validate"])
        .expect(0)
        .says("stream \"lines\": no file matches");
}

#[test]
fn a_folder_that_cannot_be_granted_is_found_before_anything_is_read() {
    let job = Job::new(&COUNT_LINES.replace(
        "[stage.stores.counts]",
        "[[stage.capabilities.directories]]\nhost = \"nowhere\"\nguest = \"/data\"\n[stage.stores.counts]",
    ));
    job.write("in.txt", b"a\n");
    job.run().expect(2).says("nowhere");
    assert!(!job.path(STATE).exists());
}

#[test]
fn stores_are_listed_while_the_job_runs() {
    let job = Job::new(COUNT_LOG);
    let running = job.start();
    wait_until("the job answers", || job.call(&["status"]).code == 0);
    let listed = job.call(&["state", "stores"]).expect(0).stdout;
    assert!(listed.contains("count  counts      2"), "{listed}");
    running.terminate().expect(0);
    assert_eq!(job.call(&["state", "stores"]).expect(0).stdout, listed);
}

#[test]
fn ports_of_one_stream_take_turns_across_restarts() {
    let job = Job::new(
        &COUNT_LOG
            .replace("{guest:counter}", "{guest:obey}")
            .replace(
                "[streams.in]\nsystem = \"log\"\npartitions = 2",
                "[streams.in]\nsystem = \"log\"",
            )
            .replace(
                "[streams.out]\nsystem = \"log\"\npartitions = 2",
                "[streams.out]\nsystem = \"log\"\npartitions = 3",
            )
            .replace(
                "outputs = [\"out\"]",
                "outputs = { out = \"out\", more = \"out\" }",
            ),
    );
    for line in ["one", "port more", "two", "port more"] {
        job.feed(&["log", "produce", "in"], format!("{line}\n").as_bytes())
            .expect(0);
        job.call(&["run", "--until-idle"]).expect(0);
    }
    let partitions: Vec<String> = (0..3)
        .map(|partition| {
            let partition = partition.to_string();
            job.call(&["log", "consume", "out", "--partition", &partition])
                .expect(0)
                .stdout
        })
        .collect();
    assert_eq!(partitions, ["one 1\nx\n", "x\n", "two 2\n"]);
}

#[test]
fn an_unknown_log_level_is_refused() {
    let job = Job::new(COUNT_LINES);
    job.write("in.txt", b"a\n");
    job.call(&["run", "--log-level", "warning"])
        .expect(2)
        .says("valid are off, error, warn, info, debug, trace");
    job.call(&["run", "--log-level", "wasm_host=debug,warn"])
        .expect(0);
}

#[test]
fn control_characters_of_a_guest_do_not_reach_the_terminal() {
    let job = Job::new(&COUNT_LINES.replace("{guest:counter}", "{guest:obey}"));
    job.write("in.txt", b"reject \x1b[31mred\x07\n");
    let done = job.run().expect(3);
    assert!(!done.stderr.contains(['\x1b', '\x07']), "{:?}", done.stderr);
    assert!(
        done.stderr.contains("\\u{1b}[31mred\\u{7}"),
        "{:?}",
        done.stderr
    );
}

#[test]
fn consuming_from_beyond_the_end_is_an_error() {
    let job = Job::new(COUNT_LOG);
    job.feed(&["log", "produce", "in"], b"a\nb\n").expect(0);
    job.call(&["log", "consume", "in", "--partition", "0", "--from", "7"])
        .expect(2)
        .says("--from 7: partition 0 holds offsets 0 to before 1");
}

/// Starts the job and waits until it is about to make a step, where it stays for a while.
fn held_at(job: &mut Job, step: &str, ms: u64) -> Running {
    job.binary = steps();
    let log = job.path("steps.log");
    let _ = std::fs::remove_file(&log);
    job.env("STEPS_LOG", log.to_str().expect("UTF-8"));
    job.env("STEPS_HOLD", &format!("{step}:{ms}"));
    let running = job.start();
    job.binary = host();
    job.clear_env();
    wait_until("it comes to the step", || {
        job.text("steps.log").lines().any(|line| line == step)
    });
    running
}

#[test]
fn a_job_that_is_just_starting_is_waited_for() {
    let mut job = Job::new(&one_partition("{guest:counter}"));
    // The first start makes the state directory; a later one has taken the lock and not yet said who it is.
    for (step, first) in [("init.commit", true), ("open.database", false)] {
        for command in [
            &["status"][..],
            &["offsets", "show"],
            &["log", "list"],
            &["checkpoint", "list"],
            &["checkpoint", "trigger"],
            &["state", "stores"],
        ] {
            let running = held_at(&mut job, step, 700);
            job.call(command).expect(0);
            running.terminate().expect(0);
            if first {
                std::fs::remove_dir_all(job.state_dir()).expect("the state");
            }
        }
        let running = held_at(&mut job, step, 700);
        job.feed(&["log", "produce", "in"], b"a\n").expect(0);
        wait_until("it is processed", || {
            let said = job.call(&["log", "consume", "out"]).stdout;
            said.lines().count() == if first { 1 } else { 2 }
        });
        running.terminate().expect(0);
    }
    assert_eq!(job.values("out"), ["a 1", "a 2"]);
}

#[test]
fn a_job_that_is_just_ending_is_waited_for() {
    let job = Job::new(&one_partition("{guest:counter}"));
    for _ in 0..5 {
        let running = job.answering();
        running.signal(rustix::process::Signal::TERM);
        for _ in 0..4 {
            job.call(&["status"]).expect(0);
            job.feed(&["log", "produce", "in"], b"a\n").expect(0);
        }
        running.wait().expect(0);
    }
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out").len(), 20);
}

#[test]
fn a_job_starts_while_a_command_ends_that_changed_the_state() {
    let job = Job::new(&one_partition("{guest:counter}"));
    job.feed(&["log", "produce", "in"], b"a\n").expect(0);
    for at in 0..20 {
        std::thread::scope(|scope| {
            let produced = scope.spawn(|| job.feed(&["log", "produce", "in"], b"a\n"));
            std::thread::sleep(Duration::from_millis(at * 3));
            job.call(&["run", "--until-idle"]).expect(0);
            produced.join().expect("the thread ends").expect(0);
        });
    }
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out").len(), 21);
}

#[test]
fn of_two_first_starts_one_reports_that_the_state_is_in_use() {
    for in_place in [false, true] {
        for _ in 0..5 {
            let job = Job::new(&one_partition("{guest:counter}"));
            if in_place {
                std::fs::create_dir_all(job.state_dir()).expect("a folder");
            }
            let mut starts: Vec<_> = (0..3)
                .map(|_| {
                    job.command(&["run"])
                        .stderr(std::process::Stdio::piped())
                        .spawn()
                        .expect("the host can be started")
                })
                .collect();
            wait_until("all but one have ended", || {
                let running = |start: &mut std::process::Child| {
                    start.try_wait().expect("it can be asked").is_none()
                };
                starts
                    .iter_mut()
                    .filter_map(|start| running(start).then_some(()))
                    .count()
                    == 1
            });
            let beside = std::fs::read_dir(job.path(".wasm-host")).expect("the folder");
            let names: Vec<_> = beside
                .map(|entry| entry.expect("an entry").file_name())
                .collect();
            assert_eq!(names, ["count"], "in place: {in_place}");
            for mut start in starts {
                if start.try_wait().expect("it can be asked").is_none() {
                    start.kill().expect("it can be killed");
                    start.wait().expect("it ends");
                    continue;
                }
                let done = start.wait_with_output().expect("it has ended");
                let said = String::from_utf8_lossy(&done.stderr).into_owned();
                assert_eq!(done.status.code(), Some(4), "{said}");
                // By whom is not always known: that process may just have ended.
                let path = format!("{} is in use", job.state_dir().display());
                assert!(said.contains(&path), "{said}");
            }
        }
    }
}

#[test]
fn a_missing_component_is_one_of_the_mistakes_of_the_job_file() {
    let text = one_partition("missing.wasm").replace("interval = \"50ms\"", "interval = \"50\"");
    let job = Job::new(&text);
    for command in [&["run"][..], &["validate"]] {
        let done = job.call(command).expect(2);
        let done = done.says("job.toml:14:13: there is no such component");
        let done = done.says("component = \"missing.wasm\"\n     |             ^^^^^^^^^^^^^^");
        done.says("job.toml:5:12: ");
    }
    // Who only asks needs no component, nor does a run of the recorded one.
    let text = one_partition("component.wasm");
    job.write_job(&text);
    std::fs::copy(guest("counter"), job.path("component.wasm")).expect("a copy");
    job.call(&["run", "--until-idle"]).expect(0);
    std::fs::remove_file(job.path("component.wasm")).expect("the component");
    job.call(&["status"]).expect(0);
    job.call(&["run", "--pinned", "--until-idle"]).expect(0);
    job.run().expect(2);
}

#[test]
fn a_grant_that_reaches_what_is_the_hosts_is_refused() {
    let text = one_partition("{guest:obey}")
        .replace(
            "[streams.out]\nsystem = \"log\"\npartitions = 1",
            "[streams.out]\nsystem = \"file\"\npath = \"out/counts\"\nformat = \"lines\"",
        )
        .replace(
            "[stage.stores.counts]",
            "[stage.capabilities]\ndirectories = [{ host = \"GRANT\", guest = \"/g\" }]\n[stage.stores.counts]",
        );
    let job = Job::new(&text);
    for folder in ["data", "state", "out/counts"] {
        std::fs::create_dir_all(job.path(folder)).expect("a folder");
    }
    let state = "the guest would reach the state directory";
    let output = "the guest could write to the files of output \"out\"";
    std::os::unix::fs::symlink(".", job.path("data/up")).expect("a link");
    std::os::unix::fs::symlink("../.wasm-host", job.path("data/state")).expect("a link");
    for (grant, write, says) in [
        (".", false, Some(state)),
        (".wasm-host", false, Some(state)),
        (".wasm-host/count", true, Some(state)),
        (".wasm-host/count/db", false, Some(state)),
        ("data/state/count", true, Some(state)),
        ("out", true, Some(output)),
        ("out/counts", true, Some(output)),
        ("out/counts/deeper", true, Some(output)),
        ("out", false, None),
        ("data", true, None),
        ("data/up", true, None),
    ] {
        let write = format!("\"{grant}\", write = {write}");
        job.write_job(&text.replace("\"GRANT\"", &write));
        // The state is there or not yet.
        for made in [false, true] {
            if made {
                std::fs::create_dir_all(job.path(".wasm-host/count/db")).expect("a folder");
            }
            let done = job.call(&["validate"]);
            let caret = format!("{}\n", "^".repeat(grant.len() + 2));
            match says {
                Some(says) => {
                    assert!(done.stderr.contains(&caret), "{grant}: {}", done.stderr);
                    done.expect(2).says("job.toml:").says(says);
                }
                None if !made => drop(done.expect(0)),
                None => assert!(!done.stderr.contains("the guest"), "{}", done.stderr),
            }
        }
        std::fs::remove_dir_all(job.path(".wasm-host")).expect("the state");
    }
}
