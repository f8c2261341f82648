//! What watches the process that fuzzes: time, memory, and where it is.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How often calls have begun and ended: odd, one runs.
pub static BEGAN: AtomicU64 = AtomicU64::new(0);
/// The round that runs.
static ROUND: AtomicU64 = AtomicU64::new(0);
/// No call takes so long, whatever else the machine does.
const FOR_EVER: Duration = Duration::from_secs(60);

/// A round begins. Its number is left in a file for the one who finds the process dead.
pub fn begin_round(number: u64, file: &File) {
    ROUND.store(number, Ordering::SeqCst);
    let text = format!("{number:020}");
    file.write_all_at(text.as_bytes(), 0)
        .expect("the file for the round");
}

/// Ends the process if a call does not end.
pub fn watch_calls() {
    std::thread::spawn(|| {
        let mut seen = 0;
        loop {
            std::thread::sleep(FOR_EVER);
            let now = BEGAN.load(Ordering::SeqCst);
            if now == seen && now % 2 == 1 {
                let round = ROUND.load(Ordering::SeqCst);
                eprintln!("a call of round {round} has not ended after {FOR_EVER:?}");
                std::process::abort();
            }
            seen = now;
        }
    });
}

/// What this thread has computed.
pub fn thread_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("a time")
}

/// A number that the system tells of this process.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("the process's status");
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.unwrap_or_else(|| panic!("a number after {name}"))
}

/// Bytes of memory that the process has.
pub fn resident() -> u64 {
    status("VmRSS:") << 10
}

/// Threads of the process.
pub fn threads() -> u64 {
    status("Threads:")
}

/// Files that the process has open.
pub fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd")
        .expect("open files")
        .count()
}
