//! The runbook `docs/operations.md`: its commands are run in their order, and print what stands there.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::harness::{Job, in_repository};
use crate::jobs::{one_partition, with_dead};
use crate::swaps::Version;

/// Whether a text is as a pattern says, in which `…` stands for anything but an end of a line, or for lines where it is alone.
pub fn is_like(text: &[&str], pattern: &[&str]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((&"…", rest)) => (0..=text.len()).any(|skipped| is_like(&text[skipped..], rest)),
        Some((first, rest)) => match text.split_first() {
            Some((line, others)) => is_line_like(line, first) && is_like(others, rest),
            None => false,
        },
    }
}

fn is_line_like(line: &str, pattern: &str) -> bool {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (mut rest, pattern) = (words(line), words(pattern));
    let parts: Vec<&str> = pattern.split('…').map(str::trim).collect();
    for (at, part) in parts.iter().enumerate() {
        let found = match at {
            0 => rest.starts_with(part).then_some(0),
            _ if at == parts.len() - 1 && !part.is_empty() => {
                rest.ends_with(part).then(|| rest.len() - part.len())
            }
            _ => rest.find(part),
        };
        match found {
            Some(begin) => rest = rest[begin + part.len()..].to_owned(),
            None => return false,
        }
    }
    rest.is_empty() || parts.len() > 1 && parts.last() == Some(&"")
}

/// Whether a line is one of the log: what a command on a stopped job does is logged as what a running one does.
fn is_logged(line: &str) -> bool {
    [" WARN ", " INFO "]
        .iter()
        .any(|level| line.contains(level))
}

#[test]
fn every_command_prints_what_the_runbook_says() {
    let text = one_partition("{guest:obey}").replace(
        "[stage.stores.counts]",
        "dead-letters = \"dead\"\non-fault = \"fail\"\n[stage.stores.counts]",
    );
    let job = Job::new(&with_dead(&text));
    job.feed(&["log", "produce", "in"], b"a\nb\npanic x\nc\n")
        .expect(0);
    let runbook = fs::read_to_string(in_repository("docs/operations.md")).expect("the runbook");
    let blocks = runbook.split("```console\n").skip(1);
    let blocks: Vec<&str> = blocks.filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 5, "{} blocks of commands", blocks.len());
    for block in blocks {
        for command in block.split("$ ").skip(1) {
            let (command, printed) = command.split_once('\n').expect("a line end");
            let words: Vec<&str> = command.split_whitespace().skip(1).collect();
            if words.contains(&"--past") {
                // There is nothing that the breaker holds here; that it is understood is enough.
                job.call(&words).expect(2).says("is not held");
                continue;
            }
            let done = job.call(&words);
            let said = done.stdout + &done.stderr;
            let (said, expected): (Vec<_>, Vec<_>) = (
                said.lines().filter(|line| !is_logged(line)).collect(),
                printed.lines().collect(),
            );
            // What a start or a stop logs beside it is not told.
            let is_told = words.first() != Some(&"run");
            let found = match is_told {
                true => is_like(&said, &expected),
                false => {
                    expected[0] == "…" || said.iter().any(|line| is_line_like(line, expected[0]))
                }
            };
            assert!(found, "{command}: {said:#?} is not {expected:#?}");
        }
    }
}

/// The blocks of the runbook that are for a job that runs: deploys, while messages come in.
#[test]
fn every_deploy_of_the_runbook_goes_as_it_says() {
    let first = Version::of("versions", 80);
    let job = Job::new(&one_partition("task.wasm"));
    first.put(&job, "task.wasm");
    let faulty = Version::of("versions", 81);
    faulty.put(&job, "faulty.wasm");
    Version::of("versions", 82).put(&job, "mended.wasm");
    Version::of("versions", 83).put(&job, "new.wasm");
    Version::of("migrating_1", 84).put(&job, "new-form.wasm");
    let running = job.answering();
    let runbook = fs::read_to_string(in_repository("docs/operations.md")).expect("the runbook");
    let blocks = runbook.split("```console running\n").skip(1);
    let blocks = blocks.filter_map(|rest| rest.split("```").next());
    let commands: Vec<&str> = blocks.flat_map(|block| block.split("$ ").skip(1)).collect();
    assert!(commands.len() >= 12, "{} commands", commands.len());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let poison = format!("panic {} x\n", faulty.short());
            // It ends by itself if the test fails.
            for _ in 0..1_000 {
                job.feed(&["log", "produce", "in"], poison.as_bytes());
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        for command in commands {
            let (command, printed) = command.split_once('\n').expect("a line end");
            let mut words: Vec<String> = command
                .split_whitespace()
                .skip(1)
                .map(str::to_owned)
                .collect();
            for word in &mut words {
                if word.ends_with(".wasm") {
                    *word = job.path(word).to_string_lossy().into_owned();
                }
            }
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let done = job.call(&words);
            let said = done.stdout + &done.stderr;
            let said: Vec<&str> = said.lines().collect();
            let expected: Vec<&str> = printed.lines().filter(|line| !line.is_empty()).collect();
            assert!(
                is_like(&said, &expected),
                "{command}: {said:#?} is not {expected:#?}"
            );
        }
        is_over.store(true, Ordering::Relaxed);
    });
    running.terminate().expect(0);
}
