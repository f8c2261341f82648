//! When checkpoints come, what they hold up, and what they do not.

use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::harness::{Job, wait_until};
use crate::jobs::{COUNT_LINES, COUNT_LOG};

fn answering(job: &Job) -> crate::harness::Running {
    job.answering()
}

#[test]
fn a_lone_message_after_silence_comes_out_within_its_epoch() {
    let epoch = Duration::from_millis(200);
    let text = COUNT_LINES
        .replace("100ms", "200ms")
        .replace("system = \"file\"\npath = \"in.txt\"", "system = \"stdin\"");
    let job = Job::new(&text);
    let mut command = job.command(&["run"]);
    let command = command.stdin(Stdio::piped()).stderr(Stdio::null());
    let mut running = command.spawn().expect("the host can be started");
    let mut stdin = running.stdin.take().expect("a pipe");
    let length = || fs::metadata(job.path("out/out-0-0")).map_or(0, |file| file.len());
    let mut times = Vec::new();
    for at in 0..6 {
        // A silence of more than an epoch.
        std::thread::sleep(epoch + Duration::from_millis(150));
        let before = length();
        let written = Instant::now();
        stdin.write_all(b"k\n").expect("the job reads");
        while length() == before {
            assert!(
                written.elapsed() < Duration::from_secs(60),
                "it never comes out"
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        // The first also waits for the job's start.
        if at > 0 {
            times.push(written.elapsed());
        }
    }
    drop(stdin);
    assert!(running.wait().expect("the host ends").success());
    // Other tests run at the same time: of five messages the median counts.
    times.sort();
    assert!(times[2] <= epoch + Duration::from_millis(50), "{times:?}");
}

#[test]
fn a_job_without_work_burns_no_cpu() {
    let job = Job::new(COUNT_LOG);
    let running = answering(&job);
    let cpu = || {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", running.pid())).expect("its stat");
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .expect("fields")
            .split_whitespace()
            .collect();
        fields[11].parse::<u64>().expect("user time")
            + fields[12].parse::<u64>().expect("system time")
    };
    std::thread::sleep(Duration::from_millis(500));
    let before = cpu();
    std::thread::sleep(Duration::from_secs(3));
    // In ticks of 10 ms.
    let used = cpu() - before;
    assert!(used <= 5, "{used} ticks of 10 ms in 3 s");
}

#[test]
fn processing_goes_on_while_a_commit_is_held_open_and_stops_at_the_bound() {
    let text = r#"
[job]
name = "held"
[checkpoint]
interval = "300ms"
bytes = "4MiB"
[streams.made]
system = "generate"
keys = 1000000
value-bytes = "100B"
[streams.out]
system = "log"
[[stage]]
name = "count"
component = "{guest:counter}"
inputs = ["made"]
outputs = ["out"]
[stage.stores.counts]
type = "rocksdb"
"#;
    let mut job = Job::new(text).with_steps();
    job.env("STEPS_HOLD", "commit.witness:5000");
    let running = job.start();
    let status = || job.json(&["status"]).remove(0);
    wait_until("the job answers", || job.call(&["status"]).code == 0);
    wait_until("an epoch is being committed", || {
        status()["sealed-bytes"].as_u64() > Some(0)
    });
    let processed =
        |status: &serde_json::Value| status["tasks"][0]["processed"].as_u64().expect("a count");
    let begin = status();
    wait_until("processing goes on", || {
        processed(&status()) > processed(&begin) + 1000
    });
    wait_until("it comes to the bound", || {
        let status = status();
        status["open-bytes"].as_u64().unwrap_or(0) + status["sealed-bytes"].as_u64().unwrap_or(0)
            >= 4 << 20
    });
    std::thread::sleep(Duration::from_millis(300));
    let full = status();
    std::thread::sleep(Duration::from_millis(700));
    let later = status();
    assert_eq!(
        processed(&full),
        processed(&later),
        "no batch starts at the bound"
    );
    assert_eq!(
        full["checkpoints"], later["checkpoints"],
        "the commit is still held"
    );
    let waits = later["waits-for"].as_str().unwrap_or_default();
    assert!(
        waits.contains("has been at its stage `confirm` for "),
        "{waits}"
    );
    let bytes =
        later["open-bytes"].as_u64().unwrap_or(0) + later["sealed-bytes"].as_u64().unwrap_or(0);
    assert!(
        bytes < (4 << 20) + (1 << 20),
        "{bytes} bytes are uncommitted: one batch beyond the bound at most"
    );
    wait_until("the commit ends and processing goes on", || {
        processed(&status()) > processed(&later)
    });
    drop(running);
}

#[test]
fn sigterm_takes_a_last_checkpoint() {
    let job = Job::new(&COUNT_LOG.replace("interval = \"50ms\"", "interval = \"1h\""));
    let running = answering(&job);
    job.feed(
        &["log", "produce", "in", "--key-separator", "="],
        b"a=1\nb=2\n",
    )
    .expect(0);
    wait_until("both are processed", || job.processed() == 2);
    running.terminate().expect(0).says("stopped at checkpoint");
    assert_eq!(job.values("out").len(), 2);
    let last = job.json(&["checkpoint", "show"]);
    assert_eq!(last[0]["trigger"], "drain");
    job.call(&["run", "--until-idle"]).expect(0);
    assert_eq!(job.values("out").len(), 2);
}

#[test]
fn a_guest_and_an_operator_can_ask_for_one() {
    let text = COUNT_LOG
        .replace("{guest:counter}", "{guest:obey}")
        .replace("interval = \"50ms\"", "interval = \"1h\"\nearly = false");
    let job = Job::new(&text.replace("partitions = 2", "partitions = 1"));
    let running = answering(&job);
    job.feed(&["log", "produce", "in"], b"one\ncheckpoint\n")
        .expect(0);
    wait_until("the guest's checkpoint is there", || {
        job.values("out").len() == 1
    });
    job.feed(&["log", "produce", "in"], b"two\n").expect(0);
    wait_until("it is processed", || {
        job.json(&["status"])[0]["tasks"][0]["processed"] == 3
    });
    job.call(&["checkpoint", "trigger"]).expect(0);
    assert_eq!(job.values("out").len(), 2);
    running.terminate().expect(0);
    let triggers: Vec<String> = job
        .json(&["checkpoint", "list"])
        .iter()
        .map(|checkpoint| checkpoint["trigger"].as_str().expect("a word").to_owned())
        .collect();
    assert_eq!(triggers, ["guest", "operator"]);
}

#[test]
fn a_lone_message_does_not_wait_for_the_interval() {
    let job = Job::new(&COUNT_LOG.replace("interval = \"50ms\"", "interval = \"1h\""));
    let running = answering(&job);
    for number in 1..=3 {
        job.feed(&["log", "produce", "in"], b"a\n").expect(0);
        wait_until("it is committed", || job.values("out").len() == number);
    }
    running.terminate().expect(0);
    let checkpoints = job.json(&["checkpoint", "list"]);
    let is_early = |checkpoint: &serde_json::Value| checkpoint["trigger"] == "early";
    assert!(
        checkpoints.iter().filter(|it| is_early(it)).count() >= 3,
        "{checkpoints:?}"
    );
}

/// How many of its neighbours' messages wait longer than 50 ms next to a guest that sleeps for a second and one that spins, of a
/// hundred that come at times of chance. Of messages at even distances each stands for the time since the one before.
fn late_beside_slow_guests() -> f64 {
    const NEIGHBOURS: usize = 4;
    // Readers take turns message by message. Each is a millisecond of work: half of the one core that is left.
    const RATE: usize = 500;
    let text = COUNT_LOG
        .replace("{guest:counter}", "{guest:obey}")
        .replace("partitions = 2", "partitions = 6")
        .replace("interval = \"50ms\"", "interval = \"20ms\"")
        .replace(
            "[streams.out]",
            &format!("max-rate = \"{RATE}/s\"\n[streams.out]"),
        )
        .replace(
            "name = \"count\"\n[checkpoint]",
            "name = \"count\"\nworkers = 2\n[checkpoint]",
        )
        .replace(
            "[stage.stores",
            "batch-messages = 1\n[stage.limits]\ncall-deadline = \"5s\"\n[stage.stores",
        );
    let job = Job::new(&text);
    let produce = |lines: &str| {
        job.feed(&["log", "produce", "in", "--jsonl"], lines.as_bytes())
            .expect(0);
    };
    let to = |partition: usize, text: &str| {
        format!("{{\"partition\":{partition},\"value\":\"{text}\"}}\n")
    };
    let steady = (0..RATE * 20).map(|at| 2 + at % NEIGHBOURS);
    produce(
        &steady
            .map(|task| to(task, &format!("work {task}")))
            .collect::<String>(),
    );
    let running = job.start();
    // A command that comes before the job is open would hold the directory itself.
    wait_until("the job is open", || {
        job.text(".wasm-host/count/lock").contains("socket")
    });
    wait_until("the neighbours work", || {
        let done = job.call(&["log", "consume", "out"]);
        done.stdout.lines().count() > 100
    });
    let slow = [(0, "sleep 1000"), (1, "spin 1000")].map(|(task, slow)| {
        to(task, &format!("work {task}")) + &to(task, slow) + &to(task, &format!("work {task}"))
    });
    produce(&slow.concat());
    let when = || {
        let mut when = vec![Vec::new(); 2 + NEIGHBOURS];
        for value in job.values("out") {
            let (task, micros) = value.split_once(' ').expect("a task and a time");
            let task: usize = task.parse().expect("a task");
            when[task].push(micros.parse::<f64>().expect("microseconds") / 1e3);
        }
        when
    };
    wait_until("the slow ones are done", || {
        when()[..2].iter().all(|slow| slow.len() == 2)
    });
    running.terminate().expect(0);
    let mut when = when();
    let began = when[0][0].max(when[1][0]);
    let ended = when[0][1].min(when[1][1]);
    assert!(ended - began > 500.0, "they were slow at the same time");
    let allowed = 50.0 + 1e3 * NEIGHBOURS as f64 / RATE as f64;
    let late = when[2..].iter_mut().map(|when| {
        when.sort_by(f64::total_cmp);
        let gaps = when
            .windows(2)
            .map(|pair| (pair[0].max(began), pair[1].min(ended)));
        let gaps: Vec<f64> = gaps
            .map(|(from, to)| to - from)
            .filter(|gap| *gap > 0.0)
            .collect();
        gaps.iter().map(|gap| (gap - allowed).max(0.0)).sum::<f64>()
    });
    100.0 * late.sum::<f64>() / (NEIGHBOURS as f64 * (ended - began))
}

#[test]
fn a_slow_guest_delays_only_itself() {
    // Other tests run at the same time: a second measurement may do.
    let late = late_beside_slow_guests();
    if late > 1.0 {
        let again = late_beside_slow_guests();
        assert!(
            again <= 1.0,
            "{late} % and {again} % of the messages waited longer than 50 ms"
        );
    }
}
