//! The host on a disk that can be told what to do. The environment says it:
//!
//! | variable | meaning |
//! | --- | --- |
//! | `STEPS_LOG` | append the name of each step to this file |
//! | `STEPS_ABORT` | `AT`: end the process, as a crash does |
//! | `STEPS_DIE` | `AT`: abort, as a host does that finds itself broken |
//! | `STEPS_PANIC` | `AT`: panic |
//! | `STEPS_CUT` | `WHAT:AT`: forget what is not synced, as a power cut does, and end the process. `all`; `content`: of files, but names are kept |
//! | `STEPS_FAIL` | `EIO:AT` or `ENOSPC:AT`: from then on everything fails with that error |
//! | `STEPS_FAIL_ONCE` | the same, for that one only |
//! | `STEPS_HOLD` | `NAME:MS`: wait so long before each step of that name |
//! | `STEPS_LIE` | `PATH`: a sync of a file or folder whose path ends with this does nothing for a power cut, as if the host had left it out |
//! | `STEPS_SIZES` | `FILE:SYNC`: the bytes at which a file is followed by a new one, and those that are worth a sync of their own |
//! | `STEPS_TRUST_ENDS` | a producer is used again although the end of its transaction was sent more than once |
//!
//! `AT` is before step number N (counted from 1), before the N-th step of a name, `NAME:N`, or before the N-th operation, `operation:N`.

mod unsynced;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use unsynced::{Forgets, Unsynced};
use wasm_host::disk::{Disk, Operation, Sizes, Steps};

/// What operations are called where steps have their names.
const OPERATION: &str = "operation";

/// A point of a run.
struct At {
    /// `None`: any step.
    name: Option<String>,
    number: u64,
    come: AtomicU64,
}

impl At {
    fn parse(text: &str) -> At {
        let (name, number) = match text.rsplit_once(':') {
            None => (None, text),
            Some((name, number)) => (Some(name.to_owned()), number),
        };
        At {
            name,
            number: number.parse().expect("a point ends with a number"),
            come: AtomicU64::new(0),
        }
    }

    /// Whether it is this one, of all of that name.
    fn is(&self, name: &str) -> bool {
        let counts = match &self.name {
            None => name != OPERATION,
            Some(wanted) => wanted == name,
        };
        counts && self.come.fetch_add(1, Ordering::SeqCst) + 1 == self.number
    }
}

/// Ends the process without a word, as a crash of the machine does.
fn end() -> ! {
    let own = rustix::process::getpid();
    let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
    loop {
        std::thread::park();
    }
}

struct Watched {
    log: Option<Mutex<File>>,
    abort: Option<At>,
    die: Option<At>,
    panic: Option<At>,
    cut: Option<(Forgets, At)>,
    fail: Option<Fail>,
    hold: Option<(String, Duration)>,
    lie: Option<PathBuf>,
    sizes: Sizes,
    trusts_ends: bool,
    unsynced: Mutex<Unsynced>,
}

struct Fail {
    error: i32,
    at: At,
    once: bool,
    has_begun: AtomicBool,
}

impl Watched {
    fn point(&self, name: &str) -> io::Result<()> {
        if let Some(log) = &self.log
            && name != OPERATION
        {
            let mut log = log.lock().expect("the log's lock");
            writeln!(log, "{name}").expect("the log can be written");
        }
        if self.abort.as_ref().is_some_and(|at| at.is(name)) {
            end();
        }
        if self.die.as_ref().is_some_and(|at| at.is(name)) {
            std::process::abort();
        }
        assert!(
            !self.panic.as_ref().is_some_and(|at| at.is(name)),
            "before {name}, as STEPS_PANIC says"
        );
        if let Some((forgets, at)) = &self.cut
            && at.is(name)
        {
            // Nobody else goes on: the lock is never given back.
            let mut unsynced = self.unsynced.lock().expect("the journal's lock");
            unsynced.forget(*forgets);
            end();
        }
        if let Some(fail) = &self.fail {
            let is_now = fail.at.is(name);
            let begun = fail.has_begun.fetch_or(is_now, Ordering::SeqCst);
            if is_now || begun && !fail.once {
                return Err(io::Error::from_raw_os_error(fail.error));
            }
        }
        Ok(())
    }

    /// Whether it is a sync that `STEPS_LIE` leaves out.
    fn is_left_out(&self, operation: &Operation<'_>) -> bool {
        let (Operation::Sync(path) | Operation::SyncFolder(path)) = operation else {
            return false;
        };
        self.lie.as_ref().is_some_and(|lie| path.ends_with(lie))
    }
}

impl Steps for Watched {
    fn before(&self, name: &'static str) -> io::Result<()> {
        self.point(name)?;
        if let Some((held, time)) = &self.hold
            && held == name
        {
            std::thread::sleep(*time);
        }
        Ok(())
    }

    fn trusts_ends(&self) -> bool {
        self.trusts_ends
    }

    fn sizes(&self) -> Sizes {
        self.sizes
    }

    fn operation(&self, operation: &Operation<'_>) -> io::Result<()> {
        self.point(OPERATION)?;
        if self.cut.is_some() && !self.is_left_out(operation) {
            let mut unsynced = self.unsynced.lock().expect("the journal's lock");
            unsynced.note(operation);
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    let of = |name| std::env::var(name).ok();
    let log = of("STEPS_LOG").map(|path| {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Mutex::new(file.expect("STEPS_LOG can be opened"))
    });
    let cut = of("STEPS_CUT").map(|cut| {
        let (what, at) = cut.split_once(':').expect("STEPS_CUT is WHAT:AT");
        let forgets = match what {
            "all" => Forgets::All,
            "content" => Forgets::Content,
            _ => panic!("STEPS_CUT begins with all or content"),
        };
        (forgets, At::parse(at))
    });
    let failing = |text: String, once| {
        let (error, at) = text.split_once(':').expect("a failure is ERROR:AT");
        Fail {
            error: match error {
                "EIO" => 5,
                "ENOSPC" => 28,
                _ => panic!("a failure begins with EIO or ENOSPC"),
            },
            at: At::parse(at),
            once,
            has_begun: AtomicBool::new(false),
        }
    };
    let fail = of("STEPS_FAIL")
        .map(|text| failing(text, false))
        .or_else(|| of("STEPS_FAIL_ONCE").map(|text| failing(text, true)));
    let hold = of("STEPS_HOLD").map(|hold| {
        let (name, ms) = hold.split_once(':').expect("STEPS_HOLD is NAME:MS");
        (
            name.to_owned(),
            Duration::from_millis(ms.parse().expect("STEPS_HOLD ends with milliseconds")),
        )
    });
    let sizes = of("STEPS_SIZES").map_or_else(Sizes::default, |sizes| {
        let (file, sync) = sizes.split_once(':').expect("STEPS_SIZES is FILE:SYNC");
        Sizes {
            file: file.parse().expect("a number of bytes"),
            sync: sync.parse().expect("a number of bytes"),
        }
    });
    let steps = Watched {
        log,
        abort: of("STEPS_ABORT").map(|at| At::parse(&at)),
        die: of("STEPS_DIE").map(|at| At::parse(&at)),
        panic: of("STEPS_PANIC").map(|at| At::parse(&at)),
        cut,
        fail,
        hold,
        lie: of("STEPS_LIE").map(PathBuf::from),
        sizes,
        trusts_ends: of("STEPS_TRUST_ENDS").is_some(),
        unsynced: Mutex::default(),
    };
    wasm_host::cli::main(std::env::args_os(), Disk::new(Arc::new(steps)))
}
