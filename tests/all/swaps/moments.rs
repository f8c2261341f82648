//! Swaps at odd moments: of a stage that has done nothing, of very many tasks, and where the input comes to its end.

use super::{Version, feed, job_of, last, one, out, stage, stop, swap};
use crate::harness::wait_until;

#[test]
fn a_stage_that_is_idle_takes_other_code_and_goes_back() {
    for options in [&[][..], &["--hold-output"]] {
        let [first, second] = [80, 81].map(|number| Version::of("versions", number));
        let job = job_of(&first);
        let running = job.answering();
        swap(&job, &second, options).expect(0);
        assert_eq!(stage(&job)["component"], second.sha256);
        job.call(&["swap", "count", "--rollback"]).expect(0);
        assert_eq!(stage(&job)["component"], first.sha256);
        assert_eq!(last(&job)["state"], "rolled-back");
        swap(&job, &second, &[options, &["--force"]].concat()).expect(0);
        job.call(&["swap", "count", "--promote"]).expect(0);
        feed(&job, one("a"));
        assert_eq!(out(&job, 1), [format!("a {} 1", second.short())]);
        stop(running);
    }
}

/// Of each partition one message, and then of every hundredth.
#[test]
fn ten_thousand_tasks_of_which_a_hundred_are_busy_take_other_code_and_go_back() {
    const TASKS: usize = 10_000;
    let [first, second] = [82, 83].map(|number| Version::of("versions", number));
    let job = job_of(&first);
    let text = job.text("job.toml");
    let many = "[streams.in]\nsystem = \"log\"\npartitions = 10000";
    job.write_job(&text.replace("[streams.in]\nsystem = \"log\"\npartitions = 2", many));
    let running = job.answering();
    let feed_each = |step: usize, says: &str| {
        let line = |partition: usize| {
            format!("{{\"partition\":{partition},\"key\":\"k\",\"value\":\"{says}\"}}\n")
        };
        let lines: String = (0..TASKS).step_by(step).map(line).collect();
        job.feed(&["log", "produce", "in", "--jsonl"], lines.as_bytes())
            .expect(0);
    };
    let by = |version: &Version, says: &str| {
        let says = format!("{says} {} ", version.short());
        let values = job.values("out");
        values
            .iter()
            .filter(|value| value.starts_with(&says))
            .count()
    };
    feed_each(1, "all");
    wait_until("each has processed one", || by(&first, "all") == TASKS);
    swap(&job, &second, &["--hold-output"]).expect(0);
    feed_each(100, "busy");
    wait_until("a hundred have", || {
        stage(&job)["hold"]["state-keys"] == 100
    });
    job.call(&["swap", "count", "--rollback"]).expect(0);
    wait_until("they have again", || by(&first, "busy") == TASKS / 100);
    swap(&job, &second, &["--force", "--probation", "none"]).expect(0);
    feed_each(1, "again");
    wait_until("each has the new code", || by(&second, "again") == TASKS);
    assert_eq!(job.values("out").len(), 2 * TASKS + TASKS / 100);
    stop(running);
}

#[test]
fn a_swap_where_the_input_ends_loses_nothing() {
    let [first, second] = [84, 85].map(|number| Version::of("versions", number));
    let lines: Vec<String> = (0..400).map(|number| number.to_string()).collect();
    for wait in [0, 100, 150, 200, 250] {
        let job = job_of(&first);
        let file = "[streams.in]\nsystem = \"file\"\npath = \"in.txt\"\nformat = \"lines\"\nmax-rate = \"2000/s\"";
        let log = "[streams.in]\nsystem = \"log\"\npartitions = 2";
        job.write_job(&job.text("job.toml").replace(log, file));
        job.write("in.txt", (lines.join("\n") + "\n").as_bytes());
        let running = job.answering();
        std::thread::sleep(std::time::Duration::from_millis(wait));
        // It is done, or refused because the job is over.
        let done = swap(&job, &second, &[]);
        running.wait().expect(0);
        let values = job.values("out");
        let words = values
            .iter()
            .map(|value| value.split(' ').collect::<Vec<_>>());
        let (numbers, versions): (Vec<_>, Vec<_>) = words.map(|words| (words[0], words[1])).unzip();
        assert_eq!(numbers, lines, "after {wait} ms");
        assert!(
            versions.is_sorted_by_key(|version| *version == second.short()),
            "each of one version: {}{}",
            done.stdout,
            done.stderr
        );
    }
}
