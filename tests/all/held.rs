//! Tasks that are held: the others go on or are drained, `status` says what happened and what helps, and a person lets the task go
//! on.

use std::process::Command;

use serde_json::Value;

use crate::admin::{metrics, of_task};
use crate::harness::{Job, wait_until};
use crate::jobs::{COUNT_LOG, one_partition, with_dead};

/// The obeying guest, one partition, and more keys of its stage.
fn obeying(more: &str) -> Job {
    let text = one_partition("{guest:obey}");
    Job::new(&text.replace(
        "[stage.stores.counts]",
        &format!("{more}\n[stage.stores.counts]"),
    ))
}

/// The same with a stream of dead letters.
fn lettered(more: &str) -> Job {
    let job = obeying(&format!("dead-letters = \"dead\"\n{more}"));
    job.write_job(&with_dead(&job.text("job.toml")));
    job
}

/// The folder of the job as the guest sees it.
const FOLDER: &str = "[stage.capabilities]\ndirectories = [{ host = \"here\", guest = \"/here\" }]";

/// A command that succeeds and prints a text.
fn prints(job: &Job, command: &[&str], text: &str) {
    let done = job.call(command).expect(0);
    let printed = done.stdout + &done.stderr;
    assert!(printed.contains(text), "{text:?} is not in: {printed}");
}

fn fed(job: &Job, lines: &[&str]) {
    let text = lines.join("\n") + "\n";
    job.feed(&["log", "produce", "in"], text.as_bytes())
        .expect(0);
}

fn task(job: &Job, at: usize) -> Value {
    job.json(&["status"])[0]["tasks"][at].clone()
}

fn state(job: &Job, at: usize) -> String {
    task(job, at)["state"].as_str().expect("a word").to_owned()
}

#[test]
fn a_job_whose_task_is_held_says_where_and_goes_on_when_the_message_is_skipped() {
    for letters in [false, true] {
        let job = match letters {
            true => lettered("on-fault = \"fail\""),
            false => obeying(""),
        };
        fed(&job, &["a", "b", "panic x", "c"]);
        let done = job.call(&["run", "--until-idle"]).expect(3);
        assert!(done.stderr.contains("offset 2 (trap)"), "{}", done.stderr);
        let held = task(&job, 0)["held"].clone();
        assert_eq!(task(&job, 0)["state"], "held");
        assert_eq!(
            (&held["stream"], &held["offset"]),
            (&"in".into(), &2.into())
        );
        assert_eq!(
            (&held["partition"], &held["kind"]),
            (&0.into(), &"trap".into())
        );
        let since = held["since"].as_i64().expect("a time");
        assert!(
            held["detail"]
                .as_str()
                .is_some_and(|detail| detail.contains("the guest says no"))
        );
        prints(&job, &["status"], "wasm-host task skip count/0");
        prints(&job, &["task", "list"], "wasm-host task skip count/0");
        job.call(&["task", "resume", "count/0"])
            .expect(2)
            .says("`wasm-host run`");
        // Another start is held at the same message since the same time.
        job.call(&["run", "--until-idle"]).expect(3);
        assert_eq!(task(&job, 0)["held"]["since"], since);
        assert!(task(&job, 0)["faults"].as_u64() > Some(4));
        let before = job.json(&["checkpoint", "show"])[0]["epoch"].as_u64();
        let skipped = &job.json(&["task", "skip", "count/0"])[0];
        assert_eq!(
            (&skipped["stream"], &skipped["offset"]),
            (&"in".into(), &2.into())
        );
        assert!(skipped["epoch"].as_u64() > before);
        let now = task(&job, 0);
        assert_eq!(
            (&now["held"], &now["inputs"][0]["position"]),
            (&Value::Null, &3.into())
        );
        let (lettered, passed_over) = (u64::from(letters), u64::from(!letters));
        assert_eq!(now["dead-lettered"], lettered);
        assert_eq!(now["skipped"], passed_over);
        if letters {
            let letter = job.log("dead");
            assert!(
                letter.contains("[\"wasm-host.kind\",\"skipped\"]"),
                "{letter}"
            );
            assert!(letter.contains("[\"wasm-host.offset\",\"2\"]"), "{letter}");
            assert_eq!(job.values("dead"), ["panic x"]);
        }
        job.call(&["task", "skip", "count/0"])
            .expect(2)
            .says("is not held");
        job.call(&["run", "--until-idle"]).expect(0);
        assert_eq!(job.values("out"), ["a 1", "b 2", "c 3"]);
    }
}

#[test]
fn a_task_that_waits_does_not_hold_up_the_others_and_goes_on_when_it_is_asked() {
    let text = COUNT_LOG
        .replace("{guest:counter}", "{guest:obey}")
        .replace("partitions = 2", "partitions = 8");
    let with =
        "when-held = \"wait\"\non-fault = \"fail\"\ndead-letters = \"dead\"\n[stage.stores.counts]";
    let job = Job::new(&with_dead(&text.replace("[stage.stores.counts]", with)));
    let lines: String = (0..8)
        .map(|partition| {
            let value = if partition < 3 { "panic x" } else { "good" };
            let line =
                |value: &str| format!("{{\"partition\":{partition},\"value\":\"{value}\"}}\n");
            format!("{}{}{}", line("first"), line(value), line("last"))
        })
        .collect();
    job.feed(&["log", "produce", "in", "--jsonl"], lines.as_bytes())
        .expect(0);
    let running = job.answering();
    wait_until("the others are done", || {
        job.values("out").len() == 5 * 3 + 3
    });
    wait_until("three are held", || {
        metrics(&job)["wasm_host_tasks_held{job=\"count\"}"] == 3.0
    });
    for at in 0..8 {
        assert_eq!(state(&job, at), if at < 3 { "held" } else { "running" });
    }
    prints(&job, &["task", "list"], "wasm-host task resume count/1");
    // It fails again.
    let since = task(&job, 0)["held"]["since"].clone();
    prints(&job, &["task", "resume", "count/0"], "offset 1");
    wait_until("it is held again", || state(&job, 0) == "held");
    assert_eq!(task(&job, 0)["held"]["since"], since);
    prints(&job, &["task", "skip", "count/0"], "offset 1; checkpoint");
    assert_eq!(job.values("dead"), ["panic x"]);
    wait_until("it goes on", || job.values("out").len() == 5 * 3 + 3 + 1);
    assert_eq!(state(&job, 0), "running");
    job.call(&["task", "skip", "count/0"])
        .expect(2)
        .says("is not held");
    job.call(&["task", "skip", "count/99"])
        .expect(2)
        .says("no task");
    // The job is as it was when it is killed, and the others have nothing twice.
    running.kill();
    assert_eq!(state(&job, 1), "held");
    job.call(&["run", "--until-idle"])
        .expect(3)
        .says("task count/1 is held");
    assert_eq!(job.values("out").len(), 5 * 3 + 3 + 1);
    for name in ["count/1", "count/2"] {
        job.call(&["task", "skip", name]).expect(0);
    }
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out").len(), 8 * 3 - 3);
    assert_eq!(job.values("dead").len(), 3);
}

#[test]
fn a_message_that_fails_for_a_while_is_tried_again_after_a_while() {
    for (word, retry) in [
        ("reject-without", "rejected-attempts = 100"),
        ("panic-without", "attempts = 100"),
    ] {
        let retry = format!(
            "on-rejected = \"dead-letter\"\nretry = {{ {retry}, backoff = \"50ms\", backoff-max = \"100ms\" }}\n{FOLDER}"
        );
        let job = lettered(&retry);
        std::fs::create_dir(job.path("here")).expect("a folder");
        let line = format!("{word} /here/there");
        fed(&job, &["a", "b", &line, "c", &line]);
        let running = job.answering();
        wait_until("it waits", || state(&job, 0) == "waiting");
        wait_until("what came before is there", || {
            job.values("out") == ["a 1", "b 2"]
        });
        job.write("here/there", b"");
        wait_until("it goes on", || job.values("out").len() == 5);
        assert_eq!(state(&job, 0), "running");
        assert_eq!(job.values("dead").len(), 0);
        assert_eq!(task(&job, 0)["condemned"], 0);
        running.terminate().expect(0);
    }
}

#[test]
fn a_message_that_is_rejected_as_often_as_it_may_be_becomes_one_dead_letter() {
    let retry =
        format!("on-rejected = \"dead-letter\"\nretry = {{ rejected-attempts = 3 }}\n{FOLDER}");
    let job = lettered(&retry);
    std::fs::create_dir(job.path("here")).expect("a folder");
    let line = "reject-without /here/there";
    fed(&job, &["a", line, line, "b", line, "c"]);
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out"), ["a 1", "b 2", "c 3"]);
    let letters = job.log("dead");
    let attempts = letters.matches("[\"wasm-host.attempts\",\"3\"]").count();
    assert_eq!((attempts, letters.lines().count()), (3, 3), "{letters}");
}

#[test]
fn a_guest_that_cannot_be_opened_is_tried_again_and_held_in_the_end() {
    let wait = format!(
        "when-held = \"wait\"\nrestart = {{ attempts = 3, backoff = \"30ms\" }}\n{FOLDER}\n[stage.config]\nopen-needs = \"/here/there\""
    );
    let job = obeying(&wait);
    std::fs::create_dir(job.path("here")).expect("a folder");
    fed(&job, &["a", "b"]);
    let running = job.answering();
    wait_until("it is held", || state(&job, 0) == "held");
    let held = task(&job, 0)["held"].clone();
    assert_eq!(
        (&held["kind"], &held["offset"]),
        (&"instantiate".into(), &Value::Null)
    );
    assert_eq!(metrics(&job)[&of_task("task_restarts_total", 0)], 3.0);
    job.call(&["task", "skip", "count/0"])
        .expect(2)
        .says("not held at a message");
    job.write("here/there", b"");
    job.call(&["task", "resume", "count/0"]).expect(0);
    wait_until("it goes on", || job.values("out").len() == 2);
    assert_eq!(task(&job, 0)["held"], Value::Null);
    running.terminate().expect(0);
}

#[test]
fn an_input_that_cannot_be_read_is_read_again_and_its_task_held_in_the_end() {
    let text = with_dead(&one_partition("{guest:obey}")).replace(
        "[streams.in]\nsystem = \"log\"\npartitions = 1",
        "[streams.in]\nsystem = \"file\"\npath = \"in/*\"\nformat = \"lines\"",
    );
    let more = "when-held = \"wait\"\nrestart = { attempts = 100, backoff = \"100ms\", backoff-max = \"100ms\" }\n[stage.stores.counts]";
    let job = Job::new(&text.replace("[stage.stores.counts]", more));
    std::fs::create_dir(job.path("in")).expect("a folder");
    std::os::unix::fs::symlink(job.path("gone"), job.path("in/a")).expect("a link");
    let mut running = job.start();
    running.until_says("it is read again in 0.1 s, 2 of 100");
    job.write("gone", b"one\ntwo\n");
    wait_until("it goes on", || job.values("out").len() == 2);
    running.ends().expect(0);
}

#[test]
fn records_that_are_no_messages_hold_a_task_until_they_are_skipped() {
    let job = lettered("on-fault = \"fail\"");
    let text = job.text("job.toml").replace(
        "[streams.in]\nsystem = \"log\"\npartitions = 1",
        "[streams.in]\nsystem = \"file\"\npath = \"in.txt\"\nformat = \"lines\"\nrecord-bytes = \"10B\"",
    );
    job.write("job.toml", text.as_bytes());
    job.write("in.txt", b"first\nmuch more than ten bytes\nlast\n");
    job.run().expect(3).says("(undecodable)");
    assert_eq!(task(&job, 0)["held"]["kind"], "undecodable");
    job.call(&["task", "skip", "count/0"]).expect(0);
    assert_eq!(job.values("dead"), ["much more "]);
    job.run().expect(0);
    assert_eq!(job.values("out"), ["first 1", "last 2"]);
}

/// A stream that goes bad does not drain into the dead letters, however often the process is started again.
#[test]
fn a_stream_of_nothing_but_poison_holds_the_task_after_a_window() {
    const GOOD: usize = 10_000;
    const BAD: usize = 3_000;
    const STARTS: usize = 50;
    let job = lettered("batch-messages = 500");
    let lines: Vec<String> = (0..GOOD + BAD)
        .map(|at| match at < GOOD {
            true => format!("m{at}"),
            false => "panic x".to_owned(),
        })
        .collect();
    fed(&job, &lines.iter().map(String::as_str).collect::<Vec<_>>());
    let done = job.call(&["run", "--until-idle"]).expect(3);
    assert!(done.stderr.contains("(breaker)"), "{}", done.stderr);
    let first = job.values("dead").len();
    assert!((300..=1_000).contains(&first), "{first} letters");
    for _ in 1..STARTS {
        job.call(&["run", "--until-idle"]).expect(3);
    }
    let letters = job.values("dead").len();
    assert!(letters <= first + STARTS, "{letters} letters after {first}");
    assert_eq!(job.values("out").len(), GOOD);
    assert_eq!(
        task(&job, 0)["inputs"][0]["position"],
        (GOOD + letters) as u64
    );
    assert_eq!(task(&job, 0)["dead-lettered"], letters as u64);
    // Somebody wants the next hundred of them passed over.
    job.call(&["task", "resume", "count/0", "--past", "100"])
        .expect(0);
    job.call(&["run", "--until-idle"]).expect(3);
    let now = job.values("dead").len();
    assert!(
        (letters + 100..=letters + 102).contains(&now),
        "{now} after {letters}"
    );
}

#[test]
fn a_breaker_counts_rejections_in_their_order_in_the_batch() {
    // Each batch has more good messages than bad ones, but the first has the bad ones first.
    let job = lettered(
        "batch-messages = 1000\nbreaker = { share = \"40%\", window = 100, at-least = 10 }",
    );
    job.write_job(&job.text("job.toml").replace("obey", "picky"));
    let text = job.text("job.toml");
    assert!(text.contains("picky"), "{text}");
    let mut lines = vec!["good"; 100];
    lines.extend(["reject"; 60]);
    lines.extend(["good"; 200]);
    fed(&job, &lines);
    let done = job.call(&["run", "--until-idle"]).expect(3);
    assert!(done.stderr.contains("(breaker)"), "{}", done.stderr);
    let letters = job.values("dead").len();
    assert!((30..50).contains(&letters), "{letters} letters");
    assert_eq!(task(&job, 0)["held"]["offset"], 100 + letters as u64);
    assert_eq!(job.values("out").len(), 100);
}

/// Two inputs whose first messages are rejected: neither makes the other begin again.
#[test]
fn messages_of_two_inputs_that_are_rejected_again_and_again_are_through_in_the_end() {
    let job = lettered("retry = { rejected-attempts = 3 }");
    let text = job
        .text("job.toml")
        .replace(
            "[streams.out]",
            "[streams.also]\nsystem = \"log\"\n[streams.out]",
        )
        .replace("inputs = [\"in\"]", "inputs = [\"in\", \"also\"]");
    job.write_job(&text);
    fed(&job, &["reject a", "one", "reject b"]);
    job.feed(&["log", "produce", "also"], b"reject c\ntwo\nreject d\n")
        .expect(0);
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out").len(), 2);
    let letters = job.log("dead");
    let attempts = letters.matches("[\"wasm-host.attempts\",\"3\"]").count();
    assert_eq!((attempts, letters.lines().count()), (4, 4), "{letters}");
}

#[test]
fn what_cannot_be_skipped_any_more_is_said_so_and_nothing_else_is_skipped() {
    // Standard input cannot be read again: another line would be in the place of that one.
    let text = one_partition("{guest:obey}").replace(
        "[streams.in]\nsystem = \"log\"\npartitions = 1",
        "[streams.in]\nsystem = \"stdin\"",
    );
    let job = Job::new(&text);
    job.feed(&["run"], b"a\npanic x\nb\n").expect(3);
    job.feed(&["task", "skip", "count/0"], b"innocent\n")
        .expect(2)
        .says("cannot be read again");
    assert_eq!(task(&job, 0)["state"], "held");
    // What retention has deleted is not there.
    let text = one_partition("{guest:obey}").replace(
        "partitions = 1",
        "partitions = 1\nretention = { bytes = \"1B\" }\ndrop-unread = true",
    );
    let job = Job::new(&text);
    fed(&job, &["a", "panic x"]);
    job.call(&["run", "--until-idle"]).expect(3);
    for _ in 0..3 {
        fed(&job, &["z"; 3]);
    }
    let before = task(&job, 0);
    let answering = Job::new(&text);
    drop(answering);
    let done = job.call(&["task", "skip", "count/0"]);
    if done.code != 0 {
        assert!(
            done.stderr.contains("is not there any more"),
            "{}",
            done.stderr
        );
        assert_eq!(task(&job, 0)["held"], before["held"]);
    }
}

#[test]
fn a_job_that_ends_when_it_is_idle_waits_for_a_task_that_tries_again() {
    let wait = format!(
        "restart = {{ attempts = 100, backoff = \"100ms\", backoff-max = \"100ms\" }}\n{FOLDER}\n[stage.config]\nopen-needs = \"/here/there\""
    );
    let job = obeying(&wait);
    std::fs::create_dir(job.path("here")).expect("a folder");
    fed(&job, &["a", "b"]);
    let mut running = job.start_with(&["run", "--until-idle"]);
    running.until_says("it tries again in 0.1 s, 3 of 100");
    job.write("here/there", b"");
    running.ends().expect(0);
    assert_eq!(job.values("out").len(), 2);
}

/// A task that is made again when all its input is read has nothing to do but its end, and the job must not take that for idleness.
#[test]
fn a_job_with_only_its_end_left_calls_it_before_it_ends() {
    let text = "[job]\nname = \"ends\"\n\
        [streams.in]\nsystem = \"file\"\npath = \"in.jsonl\"\nformat = \"jsonl\"\nkey = \"key\"\npartitions = 2\n\
        [streams.out]\nsystem = \"log\"\n[streams.dead]\nsystem = \"log\"\n\
        [[stage]]\nname = \"end\"\ndead-letters = \"dead\"\ncomponent = \"{guest:ender}\"\ninputs = [\"in\"]\noutputs = [\"out\"]\n\
        [stage.stores.counts]\n[stage.config]\nend-needs = \"/here/there\"\n";
    let lines = (0..20).map(|at| format!("{{\"key\":\"k{at}\"}}\n"));
    let lines: String = lines.collect();
    for round in 0..6 {
        let job = Job::new(&format!("{text}{FOLDER}\n"));
        std::fs::create_dir(job.path("here")).expect("a folder");
        job.write("in.jsonl", lines.as_bytes());
        job.call(&["run", "--until-idle"]).expect(3);
        job.write("here/there0", b"");
        job.call(&["run", "--until-idle"]).expect(3);
        job.write("here/there1", b"");
        job.call(&["run", "--until-idle"]).expect(0);
        for at in 0..2 {
            assert_eq!(task(&job, at)["held"], Value::Null, "round {round}");
        }
    }
}

#[test]
fn commands_wait_for_one_that_skips() {
    let job = obeying("");
    fed(&job, &["a", "panic x", "c"]);
    job.call(&["run", "--until-idle"]).expect(3);
    let mut slow = Command::new("strace");
    slow.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"]);
    slow.args(["-e", "inject=fdatasync:delay_enter=300000"]);
    let mut skipping = job
        .command_under(slow, &["task", "skip", "count/0"])
        .spawn()
        .expect("strace: scripts/setup --tests installs it");
    let mut asked = 0;
    while skipping.try_wait().expect("a child").is_none() {
        job.call(&["status"]).expect(0);
        asked += 1;
    }
    assert!(asked > 0);
    assert!(skipping.wait().expect("it ends").success());
    assert_eq!(task(&job, 0)["held"], Value::Null);
}

#[test]
fn of_many_who_skip_at_once_one_does() {
    let job = obeying("");
    fed(&job, &["a", "panic x", "c"]);
    job.call(&["run", "--until-idle"]).expect(3);
    let skip = || job.call(&["task", "skip", "count/0"]).code;
    let codes = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(skip)).collect();
        let codes = threads
            .into_iter()
            .map(|thread| thread.join().expect("a code"));
        codes.collect::<Vec<_>>()
    });
    assert_eq!(
        codes.iter().filter(|code| **code == 0).count(),
        1,
        "{codes:?}"
    );
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out"), ["a 1", "c 2"]);
}
