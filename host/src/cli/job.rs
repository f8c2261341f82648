//! What commands begin with: the job that is meant, and threads.

use std::path::Path;

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
    let job = config::load(path, &|name| std::env::var(name).ok(), look, policy)?;
    for warning in &job.warnings {
        stderr::say(warning.to_string().trim_end());
    }
    Ok(job)
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

fn threads(name: &str, workers: usize) -> Result<tokio::runtime::Runtime, Failure> {
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
