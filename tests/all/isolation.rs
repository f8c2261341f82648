//! Which of many messages a guest fails at: that one stops the task, what comes before it is committed, and nobody else is blamed.

use crate::admin::{metrics, of_task};
use crate::harness::{Done, Job, wait_until};
use crate::jobs::{one_partition, with_dead};

fn picky(more: &str) -> Job {
    let text = one_partition("{guest:picky}");
    Job::new(&text.replace(
        "[stage.stores.counts]",
        &format!("{more}\n[stage.stores.counts]"),
    ))
}

fn fed(job: &Job, lines: &[String]) {
    let text = lines.join("\n") + "\n";
    job.feed(&["log", "produce", "in"], text.as_bytes())
        .expect(0);
}

fn numbered(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("m{number}")).collect()
}

/// The task stops at an offset, and has committed exactly the messages before it.
fn stops_at(job: &Job, lines: &[String], offset: usize) -> Done {
    let done = job.call(&["run", "--until-idle"]).expect(3);
    let says = format!("task count/0 stopped at stream \"in\", offset {offset} ");
    assert!(done.stderr.contains(&says), "{says}: {}", done.stderr);
    assert_eq!(job.values("out"), lines[..offset]);
    done
}

#[test]
fn one_bad_message_of_a_batch_stops_the_task_at_itself() {
    for bad in [0, 1, 321, 499] {
        let job = picky("batch-messages = 500");
        let mut lines = numbered(500);
        lines[bad] = "trap".to_owned();
        fed(&job, &lines);
        stops_at(&job, &lines, bad).says("one of 1 messages says trap");
        // A restart meets the same message, and nothing else again.
        stops_at(&job, &lines, bad);
    }
}

#[test]
fn one_bad_message_of_500_costs_50_calls_and_5_faults_at_most() {
    for bad in [0, 250, 499] {
        let job = with_letters("batch-messages = 500");
        let mut lines = numbered(500);
        lines[bad] = "trap".to_owned();
        fed(&job, &lines);
        let _running = job.answering();
        wait_until("all is processed", || job.values("out").len() == 499);
        let metrics = metrics(&job);
        let figure = |name: &str| metrics[&of_task(name, 0)];
        let (kept, undone) = (figure("batches_total"), figure("batches_undone_total"));
        assert_eq!(figure("messages_condemned_total"), 1.0);
        // One of those that are kept is the message that is passed over.
        assert!(kept - 1.0 + undone <= 50.0, "{kept} and {undone} for {bad}");
        assert!(undone <= 5.0, "{undone} for {bad}");
    }
}

#[test]
fn a_rejected_message_that_stops_the_task_keeps_what_comes_before_it() {
    for (bad, says) in [
        ("reject", "it says reject"),
        ("err", "one of them says err"),
    ] {
        for at in [0, 1, 7, 19] {
            let job = picky("batch-messages = 20");
            let mut lines = numbered(20);
            lines[at] = bad.to_owned();
            fed(&job, &lines);
            stops_at(&job, &lines, at).says(says);
        }
    }
}

/// The guest has answered a call that is undone, and may remember what it did in it.
#[test]
fn an_instance_that_remembers_what_is_undone_is_not_asked_again() {
    let job = Job::new(&one_partition("{guest:cacher}"));
    fed(&job, &["a", "b", "reject", "c"].map(str::to_owned));
    job.call(&["run", "--until-idle"]).expect(3);
    assert_eq!(job.values("out"), ["1", "2"]);
    assert!(job.state("counts").contains("2"));
}

#[test]
fn a_message_of_a_component_that_takes_one_a_call_stops_the_task_at_itself() {
    let job = Job::new(&one_partition("{guest:obey}"));
    fed(&job, &["one", "two", "panic x", "four"].map(str::to_owned));
    let done = job.call(&["run", "--until-idle"]).expect(3);
    assert!(done.stderr.contains("offset 2 "), "{}", done.stderr);
    assert_eq!(job.values("out"), ["one 1", "two 2"]);
}

/// Each of them is tried by itself, and none is copied for each before it.
#[test]
fn one_bad_message_of_a_very_large_batch_costs_no_more_than_its_calls() {
    let job = with_letters("batch-messages = 200000\nbatch-bytes = \"32MiB\"");
    let mut lines = numbered(200_000);
    lines[123_456] = "trap".to_owned();
    fed(&job, &lines);
    let began = std::time::Instant::now();
    job.call(&["run", "--until-idle"]).expect(0);
    let took = began.elapsed();
    assert!(took.as_secs() < 20, "it took {took:?}");
    assert_eq!(job.values("dead"), ["trap"]);
    assert_eq!(job.values("out").len(), lines.len() - 1);
}

#[test]
fn a_batch_that_takes_too_long_together_is_processed_in_parts() {
    let job = picky("batch-messages = 60\n[stage.limits]\ncall-deadline = \"300ms\"");
    let lines: Vec<String> = (0..300).map(|number| format!("slow {number}")).collect();
    fed(&job, &lines);
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out"), lines);
}

#[test]
fn what_earlier_messages_left_in_memory_is_no_fault_of_the_next() {
    let text = one_partition("{guest:obey}");
    for batch in ["", "batch-messages = 1\n"] {
        let with = format!("{batch}[stage.stores.counts]");
        let job = Job::new(&text.replace("[stage.stores.counts]", &with));
        // Two of them fit.
        let mut lines = vec!["hoard 25000000".to_owned(); 7];
        lines.push("one".to_owned());
        fed(&job, &lines);
        job.call(&["run", "--until-idle"]).expect(0);
        assert_eq!(job.values("out"), ["one 1"]);
    }
}

#[test]
fn a_batch_that_takes_too_much_memory_together_is_processed_in_parts_and_the_limit_recovers() {
    let job = with_letters("batch-messages = 20");
    let mut lines: Vec<String> = (0..40).map(|number| format!("large {number}")).collect();
    lines.extend(numbered(2_000));
    fed(&job, &lines);
    let running = job.answering();
    wait_until("all is processed", || {
        job.values("out").len() == lines.len()
    });
    assert_eq!(job.values("out"), lines);
    assert!(job.values("dead").is_empty());
    let limit = || job.json(&["status"])[0]["tasks"][0]["batch-limit"].clone();
    assert_eq!(limit(), 20, "it has recovered");
    fed(&job, &lines[..20]);
    wait_until("they are processed", || {
        job.values("out").len() == lines.len() + 20
    });
    assert!(limit().as_u64() < Some(20), "it has adapted: {}", limit());
    running.terminate().expect(0);
}

/// A job of the obeying guest with letters, and a deadline of a second.
fn obeying_with_letters(more: &str) -> Job {
    let text = one_partition("{guest:obey}").replace(
        "[stage.stores.counts]",
        &format!("dead-letters = \"dead\"\n{more}\n[stage.limits]\ncall-deadline = \"1s\"\n[stage.stores.counts]"),
    );
    Job::new(&with_dead(&text))
}

#[test]
fn a_message_that_fails_once_is_processed() {
    let grant = "[stage.capabilities]\ndirectories = [{ host = \"here\", guest = \"/here\", write = true }]";
    let job = obeying_with_letters(grant);
    std::fs::create_dir(job.path("here")).expect("a folder");
    fed(
        &job,
        &["a", "once /here/x", "b", "once /here/y"].map(str::to_owned),
    );
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(
        job.values("out"),
        ["a 1", "once /here/x 2", "b 3", "once /here/y 4"]
    );
    assert!(job.values("dead").is_empty());
}

#[test]
fn a_host_that_stands_still_condemns_nobody() {
    let job = obeying_with_letters("");
    fed(
        &job,
        &["a", "sleep 600", "b", "burn 200", "c"].map(str::to_owned),
    );
    let running = job.answering();
    for _ in 0..2 {
        running.signal(rustix::process::Signal::STOP);
        std::thread::sleep(std::time::Duration::from_millis(2_500));
        running.signal(rustix::process::Signal::CONT);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    wait_until("all is processed", || job.values("out").len() == 3);
    assert!(job.values("dead").is_empty());
    assert_eq!(job.json(&["status"])[0]["tasks"][0]["condemned"], 0);
    running.terminate().expect(0);
}

#[test]
fn a_busy_machine_condemns_nobody() {
    let mut busy: Vec<_> = (0..20)
        .map(|_| {
            let mut command = std::process::Command::new("sh");
            command
                .args(["-c", "while :; do :; done"])
                .spawn()
                .expect("a shell")
        })
        .collect();
    let job = obeying_with_letters("");
    let mut lines = vec!["burn 100".to_owned(); 6];
    lines.push("last".to_owned());
    fed(&job, &lines);
    let done = job.call(&["run", "--until-idle"]);
    for process in &mut busy {
        let _ = process.kill();
        let _ = process.wait();
    }
    done.expect(0);
    assert_eq!(job.values("out"), ["last 1"]);
    assert!(job.values("dead").is_empty());
}

/// A job with a stream of dead letters.
fn with_letters(more: &str) -> Job {
    let job = picky(&format!("dead-letters = \"dead\"\n{more}"));
    job.write_job(&with_dead(&job.text("job.toml")));
    job
}

#[test]
fn bad_messages_become_dead_letters_and_the_others_are_processed_in_order() {
    let job = with_letters("batch-messages = 100");
    let mut lines = numbered(300);
    for (at, bad) in [
        (0, "trap"),
        (7, "reject"),
        (8, "trap"),
        (150, "trap"),
        (151, "trap"),
        (299, "trap"),
    ] {
        lines[at] = bad.to_owned();
    }
    fed(&job, &lines);
    job.call(&["run", "--until-idle"]).expect(0);
    let good: Vec<&String> = lines.iter().filter(|line| line.starts_with('m')).collect();
    assert_eq!(
        job.values("out"),
        good.into_iter().cloned().collect::<Vec<_>>()
    );
    let letters: Vec<String> = job.log("dead").lines().map(str::to_owned).collect();
    let has = |at: usize, kind: &str| {
        let letter = letters
            .iter()
            .find(|letter| letter.contains(&format!("[\"wasm-host.offset\",\"{at}\"]")));
        letter.is_some_and(|letter| letter.contains(&format!("[\"wasm-host.kind\",\"{kind}\"]")))
    };
    assert_eq!(letters.len(), 6, "{letters:?}");
    for (at, kind) in [
        (0, "trap"),
        (7, "rejected"),
        (8, "trap"),
        (150, "trap"),
        (151, "trap"),
        (299, "trap"),
    ] {
        assert!(has(at, kind), "{at}: {letters:?}");
    }
    // Nothing of it comes twice.
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("dead").len(), 6);
}

#[test]
fn bad_messages_and_records_may_be_skipped() {
    let job = picky("on-fault = \"skip\"");
    let lines = ["trap", "a", "trap", "b"].map(str::to_owned);
    fed(&job, &lines);
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out"), ["a", "b"]);
    // Rejected messages are another matter.
    fed(&job, &["reject".to_owned()]);
    job.call(&["run", "--until-idle"]).expect(3);
}

#[test]
fn a_record_that_is_no_message_becomes_a_dead_letter_as_it_is() {
    let job = with_letters("");
    let text = job.text("job.toml").replace(
        "[streams.in]\nsystem = \"log\"\npartitions = 1",
        "[streams.in]\nsystem = \"file\"\npath = \"in.txt\"\nformat = \"lines\"\nrecord-bytes = \"10B\"",
    );
    job.write("job.toml", text.as_bytes());
    job.write("in.txt", b"first\nmuch more than ten bytes\nlast\n");
    for _ in 0..2 {
        job.call(&["run", "--until-idle"]).expect(0);
        assert_eq!(job.values("out"), ["first", "last"]);
        let letters = job.log("dead");
        assert_eq!(letters.lines().count(), 1, "{letters}");
        for header in [
            "[\"wasm-host.kind\",\"undecodable\"]",
            "[\"wasm-host.cut\",\"24;\"]",
        ] {
            assert!(letters.contains(header), "{header}: {letters}");
        }
    }
}
