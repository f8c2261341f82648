//! Hostile guests as new code: what a job does with them while code that does nothing works. Whatever they do, they are refused, go back, or
//! are taken back, and nothing of them is left: every tick comes through once, and the message that attacks is no letter.
//!
//! A part of the catalogue is run; `HOSTILE_CANDIDATES=all` runs all of it.

use serde_json::Value;

use super::components::{Attack, Outcome};
use super::{ATTACK_BYTES, NAMES, TICKS, Turn, check_ticks};
use crate::harness::{Job, wait_until};

/// One of so many is run.
const ONE_OF: usize = 5;

fn stage(job: &Job) -> Value {
    job.json(&["status"])[0]["stages"][0].clone()
}

fn state(job: &Job) -> String {
    let state = stage(job)["swap"]["state"].clone();
    state.as_str().unwrap_or_default().to_owned()
}

/// Whether the message that attacks was processed.
fn is_processed(job: &Job) -> bool {
    let status = &job.json(&["status"])[0]["tasks"][0];
    let inputs = status["inputs"].as_array().expect("inputs");
    let attacks = inputs.iter().find(|input| input["stream"] == "attacks");
    attacks.is_some_and(|input| input["position"] == 1)
}

fn check(name: &str) {
    let _turn = Turn::wait();
    let attack = Attack::read(name);
    let job = attack.job();
    let text = job.text("job.toml").replace("8000/s", "1500/s");
    // What bounds the component is for the new one.
    let is_bound = |line: &&str| {
        ["component-", "compile-"]
            .iter()
            .any(|key| line.starts_with(key))
    };
    let of_start: Vec<&str> = text.lines().filter(|line| !is_bound(line)).collect();
    job.write_job(&of_start.join("\n"));
    job.write("component.wasm", &Attack::read("nothing").component());
    job.write("attack.wasm", &attack.component());
    let running = job.answering();
    job.write_job(&text);
    let before = stage(&job)["component"].clone();
    let path = job.path("attack.wasm");
    let path = path.to_str().expect("text");
    let options = ["--hold-output", "--probation", "1h"];
    let done = job.call(&[&["swap", "hostile", path][..], &options].concat());
    println!("{}{}", done.stdout, done.stderr);
    let is_refused = done.code == 2;
    match attack.outcome {
        Outcome::Refused(_) => assert!(is_refused, "exit code {}", done.code),
        Outcome::Held(_) => {}
        Outcome::Letter(..) | Outcome::Harmless => assert_eq!(done.code, 0),
    }
    let line = format!(
        "{{\"partition\":0,\"value\":\"{}\"}}\n",
        "a".repeat(ATTACK_BYTES)
    );
    job.feed(&["log", "produce", "attacks", "--jsonl"], line.as_bytes())
        .expect(0);
    wait_until("the attack is judged", || match &*state(&job) {
        "refused" | "rolled-back" => true,
        "holding" => is_processed(&job),
        _ => false,
    });
    if state(&job) == "holding" {
        // What it rejects is its own answer.
        let stays = match &attack.outcome {
            Outcome::Letter(kind, _) => kind == "rejected",
            Outcome::Harmless => true,
            Outcome::Refused(_) | Outcome::Held(_) => false,
        };
        assert!(stays, "{name} fails, and the code before passes");
        job.call(&["swap", "hostile", "--rollback"]).expect(0);
    }
    let end = if is_refused { "refused" } else { "rolled-back" };
    assert_eq!(state(&job), end);
    assert_eq!(stage(&job)["component"], before);
    wait_until("all ticks are through", || {
        is_processed(&job) && job.log("out").lines().count() >= TICKS
    });
    running.terminate().expect(0);
    check_ticks(&job, 0);
    let letters = job.json(&["dlq", "list", "--letters"]);
    assert!(letters.is_empty(), "{letters:?}");
}

#[test]
fn hostile_code_that_takes_over_leaves_nothing_behind() {
    let all = std::env::var("HOSTILE_CANDIDATES").is_ok_and(|which| which == "all");
    let one_of = if all { 1 } else { ONE_OF };
    // What the others take over from does not.
    let others = NAMES.iter().filter(|name| **name != "nothing");
    let mut names = others.step_by(one_of);
    let next = parking_lot::Mutex::new(&mut names);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(name) = { next.lock().next() } {
                    println!("{name}");
                    check(name);
                }
            });
        }
    });
}
