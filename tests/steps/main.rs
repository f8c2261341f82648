//! The host with a hand on every durable step. What it does is said by the environment:
//!
//! | variable | meaning |
//! | --- | --- |
//! | `STEPS_LOG` | append the name of each step to this file |
//! | `STEPS_ABORT` | end the process, as a crash does, before step number N (counted from 1), or before the N-th step of a name: `NAME:N` |
//! | `STEPS_HOLD` | `NAME:MS`: wait so long before each step of that name |

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wasm_host::model::Steps;

struct Watched {
    log: Option<Mutex<File>>,
    abort: Option<(Option<String>, u64)>,
    hold: Option<(String, Duration)>,
    steps: AtomicU64,
    named: AtomicU64,
}

impl Steps for Watched {
    fn before(&self, step: &'static str) {
        let number = self.steps.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(log) = &self.log {
            let mut log = log.lock().expect("the log's lock");
            writeln!(log, "{step}").expect("the log can be written");
        }
        match &self.abort {
            Some((None, at)) if *at == number => std::process::abort(),
            Some((Some(name), at))
                if name == step && self.named.fetch_add(1, Ordering::SeqCst) + 1 == *at =>
            {
                std::process::abort();
            }
            _ => {}
        }
        if let Some((name, time)) = &self.hold
            && name == step
        {
            std::thread::sleep(*time);
        }
    }
}

fn main() -> ExitCode {
    let log = std::env::var_os("STEPS_LOG").map(|path| {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Mutex::new(file.expect("STEPS_LOG can be opened"))
    });
    let abort = std::env::var("STEPS_ABORT")
        .ok()
        .map(|at| match at.split_once(':') {
            None => (None, at.parse().expect("STEPS_ABORT is a number")),
            Some((name, at)) => (
                Some(name.to_owned()),
                at.parse().expect("STEPS_ABORT ends with a number"),
            ),
        });
    let hold = std::env::var("STEPS_HOLD").ok().map(|hold| {
        let (name, ms) = hold.split_once(':').expect("STEPS_HOLD is NAME:MS");
        (
            name.to_owned(),
            Duration::from_millis(ms.parse().expect("STEPS_HOLD ends with milliseconds")),
        )
    });
    let steps = Watched {
        log,
        abort,
        hold,
        steps: AtomicU64::new(0),
        named: AtomicU64::new(0),
    };
    wasm_host::cli::main(std::env::args_os(), Arc::new(steps))
}
