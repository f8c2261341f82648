//! When checkpoints come, what they hold up, and what they do not.

use std::time::{Duration, Instant};

use crate::harness::{Job, wait_until};
use crate::jobs::COUNT_LOG;

fn answering(job: &Job) -> crate::harness::Running {
    job.answering()
}

#[test]
fn a_lone_message_after_silence_comes_out_within_its_epoch() {
    let job = Job::new(&COUNT_LOG.replace("interval = \"50ms\"", "interval = \"200ms\""));
    let _running = answering(&job);
    std::thread::sleep(Duration::from_millis(500));
    let mut times = Vec::new();
    for at in 1..=5 {
        job.feed(&["log", "produce", "in", "--key-separator", "="], b"k=v\n")
            .expect(0);
        let appended = Instant::now();
        wait_until("it comes out", || job.values("out").len() == at);
        times.push(appended.elapsed());
        std::thread::sleep(Duration::from_millis(300));
    }
    // The command line that looks takes a few tens of milliseconds itself, and other tests run beside this one: of five
    // messages the middle one counts.
    times.sort();
    assert!(
        times[2] < Duration::from_millis(200 + 50 + 150),
        "{times:?}"
    );
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
    wait_until("both are processed", || {
        let status = job.json(&["status"]).remove(0);
        status["tasks"]
            .as_array()
            .expect("tasks")
            .iter()
            .map(|task| task["processed"].as_u64().unwrap_or(0))
            .sum::<u64>()
            == 2
    });
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
        .replace("interval = \"50ms\"", "interval = \"1h\"");
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
fn a_slow_guest_delays_only_itself() {
    // Partitions 0 and 1 sleep and spin for a second each; the others must not wait for them.
    let text = COUNT_LOG
        .replace("{guest:counter}", "{guest:obey}")
        .replace("partitions = 2", "partitions = 6")
        .replace("interval = \"50ms\"", "interval = \"20ms\"")
        .replace(
            "[stage.stores.counts]",
            "[stage.limits]\ncall-deadline = \"5s\"\n[stage.stores.counts]",
        );
    let job = Job::new(&text.replace(
        "name = \"count\"\n[checkpoint]",
        "name = \"count\"\nworkers = 2\n[checkpoint]",
    ));
    let _running = answering(&job);
    let to = |partition: u32, text: &str| {
        format!("{{\"partition\":{partition},\"value\":\"{text}\"}}\n")
    };
    job.feed(
        &["log", "produce", "in", "--jsonl"],
        (0..6).map(|p| to(p, "warm")).collect::<String>().as_bytes(),
    )
    .expect(0);
    wait_until("all are warm", || job.values("out").len() == 6);
    let slow = to(0, "sleep 1500") + &to(1, "spin 1500");
    job.feed(&["log", "produce", "in", "--jsonl"], slow.as_bytes())
        .expect(0);
    let began = Instant::now();
    let processed = || -> u64 {
        let status = job.json(&["status"]).remove(0);
        status["tasks"].as_array().expect("tasks")[2..]
            .iter()
            .map(|task| task["processed"].as_u64().unwrap_or(0))
            .sum()
    };
    let before = processed();
    let others: String = (0..400)
        .map(|at| to(2 + at % 4, &format!("m{at}")))
        .collect();
    job.feed(&["log", "produce", "in", "--jsonl"], others.as_bytes())
        .expect(0);
    wait_until("the others are processed", || processed() == before + 400);
    let took = began.elapsed();
    assert!(
        took < Duration::from_millis(1000),
        "the others waited {took:?} beside guests that take 1.5 s"
    );
}
