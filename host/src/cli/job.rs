//! What commands begin with: the job that is meant, and threads.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, exit, stderr};
use crate::checkpoint::directory;
use crate::config::{self, Job, Look};

/// Reads the job file, and prints its warnings.
pub(super) fn load(path: &Path) -> Result<Job, Failure> {
    load_looking(path, Look::Nothing, None)
}

/// The same for a job that is about to run, within a policy.
pub(super) fn load_looking(path: &Path, look: Look, policy: Option<&Path>) -> Result<Job, Failure> {
    let job = config::load(path, &variable, look, policy)?;
    for warning in &job.warnings {
        stderr::say(warning.to_string().trim_end());
    }
    Ok(job)
}

/// Reads the job file of a job again that was only to be asked, for a command that compiles its components: they keep within the
/// policy of the machine. Its warnings have been printed.
pub(super) fn load_again(job: &Job) -> Result<Job, Failure> {
    Ok(config::load(&job.file, &variable, Look::Folders, None)?)
}

pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Whether the job has a state directory.
pub(super) fn has_state(job: &Job) -> bool {
    directory::is_made(&job.general.state_dir)
}

/// Threads for everything that waits.
pub(super) fn io_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    threads("io", 2)
}

/// Threads for signals and the admin server, which are never held up by a slow reader.
pub(super) fn control_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    threads("control", 2)
}

/// Whether this process may start so many threads at a time: libraries end it, or hang, if they cannot start theirs.
pub(super) fn require_threads(threads: usize) -> Result<(), Failure> {
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let ended = Arc::new(Mutex::new(ended));
    let start = |_| {
        let ended = Arc::clone(&ended);
        let thread = std::thread::Builder::new().stack_size(64 << 10);
        thread.spawn(move || {
            let _ = ended.lock().recv();
        })
    };
    let (mut started, mut failed) = (Vec::new(), None);
    for thread in (0..threads).map(start) {
        match thread {
            Ok(thread) => started.push(thread),
            Err(error) => failed = Some(error),
        }
    }
    drop(end);
    for thread in started {
        let _ = thread.join();
    }
    let Some(error) = failed else { return Ok(()) };
    let why = format!(
        "{threads} threads are needed and cannot be started ({error}): raise `ulimit -u`, or the limit of processes of the service or container"
    );
    Err(Failure::new(exit::HOST, why))
}

fn threads(name: &str, workers: usize) -> Result<tokio::runtime::Runtime, Failure> {
    require_threads(workers + 1)?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name(name)
        .enable_all()
        .build()
        .inspect(report_file_limits)
        .map_err(|error| Failure::new(exit::HOST, format!("start the I/O threads: {error}")))
}

/// Makes a write beyond `ulimit -f` fail with an error instead of ending the process.
fn report_file_limits(io: &tokio::runtime::Runtime) {
    /// `SIGXFSZ`, on the processors that this is built for.
    const FILE_SIZE_EXCEEDED: SignalKind = SignalKind::from_raw(25);
    let _io = io.enter();
    // Its default is gone for as long as the process lives.
    if let Err(error) = signal(FILE_SIZE_EXCEEDED) {
        tracing::debug!("SIGXFSZ cannot be caught: {error}");
    }
}
