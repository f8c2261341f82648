//! Who runs when, and who waits for whom: many tasks, guests that compute, a process that stands still, drains that hang.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Job, wait_until};

/// One stage that obeys what comes in a log, message by message.
fn obeying(partitions: usize, more: &str) -> Job {
    Job::new(&format!(
        "[job]\nname = \"obey\"\nworkers = 2\ndrain-timeout = \"1s\"\n\
         [streams.in]\nsystem = \"log\"\npartitions = {partitions}\n\
         [streams.out]\nsystem = \"log\"\n\
         [checkpoint]\ninterval = \"50ms\"\n\
         [[stage]]\nname = \"obey\"\ncomponent = \"{{guest:obey}}\"\n\
         inputs = [\"in\"]\noutputs = [\"out\"]\n\
         [stage.stores.counts]\ntype = \"rocksdb\"\n{more}"
    ))
}

fn produce(job: &Job, messages: impl Iterator<Item = (usize, String)>) {
    let line =
        |(to, text): (usize, String)| format!("{{\"partition\":{to},\"value\":\"{text}\"}}\n");
    let lines: String = messages.map(line).collect();
    job.feed(&["log", "produce", "in", "--jsonl"], lines.as_bytes())
        .expect(0);
}

#[test]
fn a_thousand_tasks_work_at_once() {
    // More than instances may live, so each makes room for the next.
    let job = Job::new(
        "[job]\nname = \"many\"\nworkers = 2\n\
         [streams.in]\nsystem = \"generate\"\npartitions = 1000\nkeys = 5000\ncount = 20000\n\
         [streams.out]\nsystem = \"log\"\n\
         [[stage]]\nname = \"count\"\ncomponent = \"{guest:counter}\"\nbatch-messages = 4\n\
         inputs = [\"in\"]\noutputs = [\"out\"]\n\
         [stage.stores.counts]\ntype = \"rocksdb\"\n",
    );
    job.run().expect(0).says("20000 messages processed");
    assert_eq!(job.values("out").len(), 20_000);
}

#[test]
fn guests_that_compute_do_not_use_up_each_others_time() {
    const TASKS: usize = 60;
    let job = obeying(TASKS, "[stage.limits]\ncall-deadline = \"400ms\"\n");
    // Some tens of milliseconds each: all at once they would take seconds of the clock on the wall.
    produce(
        &job,
        (0..2 * TASKS).map(|at| (at % TASKS, "burn 100".to_owned())),
    );
    job.call(&["run", "--until-idle"])
        .expect(0)
        .says(&format!("{} messages processed", 2 * TASKS));
}

#[test]
fn a_guest_that_computes_for_ever_is_ended() {
    let job = obeying(1, "[stage.limits]\ncall-deadline = \"300ms\"\n");
    produce(&job, std::iter::once((0, "spin 0".to_owned())));
    let began = Instant::now();
    job.run().expect(3).says("`call-deadline` = 300 ms");
    assert!(began.elapsed() >= Duration::from_millis(300));
}

#[test]
fn a_process_that_stood_still_condemns_nobody() {
    let job = obeying(2, "[stage.limits]\ncall-deadline = \"1s\"\n");
    let messages = [(0, "say now"), (0, "sleep 700"), (1, "spin 700")];
    let mut running = job.answering();
    produce(
        &job,
        messages.into_iter().map(|(to, text)| (to, text.to_owned())),
    );
    running.until_says("now");
    running.signal(Signal::STOP);
    std::thread::sleep(Duration::from_millis(1500));
    running.signal(Signal::CONT);
    wait_until("all is processed", || processed(&job) == 3);
    running.terminate().expect(0);
}

#[test]
fn a_guest_that_waits_is_not_charged_for_the_time_in_which_the_process_stood_still() {
    let job = obeying(1, "[stage.limits]\ncall-deadline = \"150ms\"\n");
    let mut running = job.answering();
    produce(&job, (0..80).map(|_| (0, "sleep 30".to_owned())));
    let mut stops = 0;
    while job.json(&["status"])[0]["tasks"][0]["processed"].as_u64() != Some(80) {
        assert!(running.is_running(), "{}", running.stderr());
        running.signal(Signal::STOP);
        std::thread::sleep(Duration::from_millis(400));
        running.signal(Signal::CONT);
        std::thread::sleep(Duration::from_millis(250));
        stops += 1;
        assert!(stops < 200, "the messages are not processed");
    }
    assert!(stops > 2);
    running.terminate().expect(0);
}

#[test]
fn a_late_barrier_names_the_tasks_that_it_waits_for_and_what_they_do() {
    let more = "[stage.limits]\ncall-deadline = \"3s\"\n\
                [stage.capabilities]\ndirectories = [{ host = \"gate\", guest = \"/gate\" }]\n";
    let text = obeying(3, more)
        .text("job.toml")
        .replace("\"50ms\"", "\"1h\"\ntimeout = \"3s\"")
        .replace("outputs = [", "batch-messages = 1\noutputs = [");
    let job = Job::new(&text);
    job.write("gate/closed", b"");
    let mut running = job.answering();
    let messages = [
        (0, "a"),
        (0, "await /gate/open"),
        (1, "b"),
        (1, "spin 8500"),
        (2, "c"),
    ];
    produce(
        &job,
        messages.into_iter().map(|(to, text)| (to, text.to_owned())),
    );
    running.until_says("waits for /gate/open");
    wait_until("the other has begun", || processed(&job) == 3);
    let mut trigger = job
        .command(&["checkpoint", "trigger"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("a checkpoint is asked for");
    let waits_for = || job.json(&["status"])[0]["waits-for"].clone();
    let mut shown = String::new();
    wait_until("status tells of a task that waits", || {
        shown = waits_for().as_str().unwrap_or_default().to_owned();
        shown.contains(" s and waits for something")
    });
    // A call ends within its deadline, and `timeout` is not below that: a barrier is late only where the process does not run. So it
    // stands still, for more than twice as long as the barrier may take.
    running.signal(Signal::STOP);
    std::thread::sleep(Duration::from_millis(6_200));
    running.signal(Signal::CONT);
    running.until_says(" has waited for ");
    job.write("gate/open", b"");
    wait_until("all is processed", || processed(&job) == 5);
    assert!(trigger.wait().expect("it ends").success());
    assert!(waits_for().is_null());
    let done = running.terminate().expect(0);
    let late = |line: &&str| line.contains(" has waited for ");
    let late: Vec<&str> = done.stderr.lines().filter(late).collect();
    assert_eq!(late.len(), 1, "it is logged once: {}", done.stderr);
    for said in [late[0], &shown] {
        let (first, second) = said.split_once("; task obey/1: ").expect("both tasks");
        let waits = "checkpoint 1 has waited for ";
        let (_, first) = first.split_once(waits).expect("what waits");
        let (_, first) = first
            .split_once(" s for 2 tasks to seal: task obey/0: ")
            .expect("a task");
        assert!(
            first.starts_with("a call of its guest has lasted for "),
            "{said}"
        );
        // The guest looks for the file again and again: a look that comes right after the stop finds it between two waits.
        let between = said != shown && first.ends_with(" s and computes");
        let waits_now = first.ends_with(" s and waits for something");
        assert!(waits_now || between, "{said}");
        assert!(second.ends_with(" s and computes"), "{said}");
    }
}

/// Messages processed by all tasks.
fn processed(job: &Job) -> u64 {
    let status = job.json(&["status"]);
    let tasks = status[0]["tasks"].as_array().expect("tasks");
    let processed = |task: &serde_json::Value| task["processed"].as_u64().unwrap_or(0);
    tasks.iter().map(processed).sum()
}

#[test]
fn a_drain_ends_although_a_checkpoint_hangs() {
    let mut job = obeying(1, "").with_steps();
    job.env("STEPS_HOLD", "commit.write:600000");
    produce(&job, std::iter::once((0, "say done".to_owned())));
    let mut running = job.start();
    running.until_says("done");
    let began = Instant::now();
    running.signal(Signal::TERM);
    running
        .ends()
        .expect(1)
        .says("did not stop within drain-timeout")
        .says("checkpoint 1 has been at its stage `write` for ");
    let took = began.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
    // What it was about to write is processed again.
    job.clear_env();
    job.call(&["run", "--until-idle"]).expect(0);
    assert!(job.json(&["status"])[0]["epoch"].as_u64() > Some(0));
}

/// What grants the folder of the job file, `in`, as `/data`.
const GRANTED: &str = "[stage.limits]\ncall-deadline = \"300ms\"\n\
                       [stage.capabilities]\ndirectories = [{ host = \"granted\", guest = \"/data\" }]\n";

#[test]
fn a_pipe_in_a_granted_folder_cannot_be_opened() {
    let job = obeying(1, GRANTED);
    std::fs::create_dir(job.path("granted")).expect("a folder");
    let pipe = job.path("granted/pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("mkfifo").success());
    produce(&job, std::iter::once((0, "file /data/pipe".to_owned())));
    job.call(&["run", "--until-idle"])
        .expect(3)
        .says("Operation not permitted");
}

#[test]
fn a_file_system_that_hangs_costs_the_task_that_waits_for_it() {
    let job = obeying(2, GRANTED);
    std::fs::create_dir(job.path("granted")).expect("a folder");
    let file = job.path("granted/file");
    std::fs::write(&file, "content").expect("a file");
    produce(
        &job,
        [(0, "file /data/file"), (1, "say hello")]
            .into_iter()
            .map(|(to, text)| (to, text.to_owned())),
    );
    // Each call that looks at the file takes a minute.
    let command = job.command(&["run"]);
    let said = job.path("stderr.log");
    let mut traced = std::process::Command::new("strace")
        .args(["-f", "-qq", "-o"])
        .arg(job.path("trace"))
        .args(["-e", "trace=openat,openat2,statx,newfstatat"])
        .args([
            "-e",
            "inject=openat,openat2,statx,newfstatat:delay_enter=60000000",
        ])
        .arg("-P")
        .arg(&file)
        .arg(command.get_program())
        .args(command.get_args())
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .stdin(std::process::Stdio::null())
        .stderr(std::fs::File::create(&said).expect("a log file"))
        .spawn()
        .expect("strace: scripts/setup --tests installs it");
    let began = Instant::now();
    wait_until("the job ends", || {
        job.text("stderr.log")
            .contains("the other tasks are drained")
    });
    let took = began.elapsed();
    // It holds the thread that hangs until its minute is over.
    traced.kill().expect("strace can be killed");
    traced.wait().expect("strace ends");
    let stderr = job.text("stderr.log");
    assert!(stderr.contains("`call-deadline` = 300 ms"), "{stderr}");
    assert!(took < Duration::from_secs(40), "{took:?}: {stderr}");
}

/// Ten thousand tasks that send to one another: what one checkpoint publishes is what the next epoch processes, so that a barrier that
/// does not end, or a task that is not woken, stops everything. Some messages are small and some take a large part of `bytes`, and more
/// come from outside all the time. `scripts/soak --tasks` takes longer.
#[test]
fn barriers_of_ten_thousand_busy_tasks_end_one_after_the_other() {
    let soak: Option<u64> = std::env::var("SOAK_BARRIERS")
        .ok()
        .and_then(|count| count.parse().ok());
    let (wanted, messages) = soak.map_or((2_000, 60), |count| (count, 100));
    let job = Job::new(
        "[job]\nname = \"loop\"\nworkers = 2\n\
         [checkpoint]\ninterval = \"10ms\"\nmin-pause = \"0s\"\nbytes = \"1MiB\"\ndurability = \"process\"\n\
         [streams.loop]\nsystem = \"log\"\npartitions = 10000\nretention = { bytes = \"1kB\" }\n\
         [[stage]]\nname = \"relay\"\ncomponent = \"{guest:counter}\"\n\
         inputs = [\"loop\"]\noutputs = { out = \"loop\" }\n\
         [stage.stores.counts]\ntype = \"rocksdb\"\n",
    );
    let mut produced = 0_u64;
    let mut produce = |count: u64| {
        let line = |number: u64| {
            // The relay sends the key twice.
            let length = if number.is_multiple_of(20) { 8_000 } else { 5 };
            format!("{number:0length$}=begin\n")
        };
        let lines: String = (produced..produced + count).map(line).collect();
        job.feed(
            &["log", "produce", "loop", "--key-separator", "="],
            lines.as_bytes(),
        )
        .expect(0);
        produced += count;
    };
    produce(messages / 2);
    let mut running = job.answering();
    let epoch = |job: &Job| {
        let newest = job.json(&["checkpoint", "list"]).pop();
        newest.map_or(0, |newest| newest["epoch"].as_u64().unwrap_or(0))
    };
    let (mut last, mut since, mut left) = (0, Instant::now(), messages / 2);
    while last < wanted {
        assert!(running.is_running(), "{}", running.stderr());
        std::thread::sleep(Duration::from_millis(200));
        if left > 0 {
            produce(left.min(7));
            left -= left.min(7);
        }
        let now = epoch(&job);
        if now > last {
            (last, since) = (now, Instant::now());
        }
        assert!(
            since.elapsed() < Duration::from_secs(10),
            "no checkpoint for ten seconds after {last}"
        );
    }
    running.terminate().expect(0);
    // Every message that was processed has come to one that was sent.
    let status = job.json(&["status"]);
    let tasks = status[0]["tasks"].as_array().expect("tasks");
    let processed: u64 = tasks
        .iter()
        .map(|task| task["processed"].as_u64().unwrap_or(0))
        .sum();
    let logs = job.json(&["log", "list"]);
    let sent: u64 = logs
        .iter()
        .map(|log| log["end"].as_u64().unwrap_or(0))
        .sum();
    assert_eq!(sent, produced + processed);
}

/// How many of a neighbour's messages, a millisecond of work each, wait longer than `over` milliseconds next to busy tasks.
fn late_beside(tasks: usize, heavy: &str, over: u64) -> usize {
    let job = obeying(tasks + 1, "");
    let text = job
        .text("job.toml")
        .replace("interval = \"50ms\"", "bytes = \"16MiB\"")
        .replace(
            "[stage.stores.counts]",
            "batch-messages = 1\n[stage.stores.counts]",
        );
    job.write("job.toml", text.as_bytes());
    let work = (0..2_000).map(|at| (tasks, format!("work {at}")));
    let heavy = (0..10 * tasks).map(|at| (at % tasks, heavy.to_owned()));
    produce(&job, work.chain(heavy));
    job.call(&["run", "--until-idle"]).expect(0);
    let when = |line: String| line.split_once(' ')?.1.parse::<u64>().ok();
    let when: Vec<u64> = job.values("out").into_iter().filter_map(when).collect();
    assert_eq!(when.len(), 2_000);
    when.windows(2)
        .filter(|pair| pair[1].saturating_sub(pair[0]) > over * 1000)
        .count()
}

#[test]
fn a_task_that_does_much_holds_up_itself_alone() {
    // Eight that compute have two seats: who waits with them waits for most of a second, however busy the machine is besides.
    for (tasks, heavy, over) in [
        (1, "send-bytes 15", 50),
        (1, "ranges 20000", 50),
        (8, "spin 200", 400),
    ] {
        // Other tests run at the same time: a second measurement may do.
        let late = late_beside(tasks, heavy, over);
        if late > 2 {
            let again = late_beside(tasks, heavy, over);
            assert!(again <= 2, "{heavy}: {late} and {again} messages were late");
        }
    }
}
