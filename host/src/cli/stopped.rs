//! What commands share: loading a job, opening the state of one that does not run, moving it aside.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Failure, Global, exit, stderr};
use tokio::signal::unix::{SignalKind, signal};

use crate::checkpoint::catalog::{Catalog, StreamShape};
use crate::checkpoint::directory::{self, DirectoryOptions, Inspected};
use crate::checkpoint::{Directory, Held, Holder};
use crate::config::{self, Job, Look, System};
use crate::coordinator::View;
use crate::disk::Disk;
use crate::state::DbOptions;

/// Reads the job file, and says its warnings.
pub(super) fn load(path: &Path) -> Result<Job, Failure> {
    load_looking(path, Look::Nothing)
}

/// The same for a job that is about to run.
pub(super) fn load_looking(path: &Path, look: Look) -> Result<Job, Failure> {
    let job = config::load(path, &|name| std::env::var(name).ok(), look)?;
    for warning in &job.warnings {
        stderr::say(warning.to_string().trim_end());
    }
    Ok(job)
}

/// Threads for everything that waits.
pub(super) fn io_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    threads("io", 2)
}

/// Threads for signals and those who ask, which wait for no reader.
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

/// A file that would exceed `ulimit -f` is an error of its write, and not the end of the process.
fn report_file_limits(io: &tokio::runtime::Runtime) {
    /// `SIGXFSZ`, on the processors that this is built for.
    const FILE_SIZE_EXCEEDED: SignalKind = SignalKind::from_raw(25);
    let _io = io.enter();
    // Its default is gone for as long as the process lives.
    if let Err(error) = signal(FILE_SIZE_EXCEEDED) {
        tracing::debug!("SIGXFSZ cannot be caught: {error}");
    }
}

/// Whether the job has a state directory.
pub(super) fn has_state(job: &Job) -> bool {
    directory::is_made(&job.general.state_dir)
}

/// So long a command waits for a job that is just starting or ending.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(10);

/// Does a command with the job that runs, or with the state of one that does not. One that is just starting or ending is waited
/// for.
pub(super) fn either<T>(
    job: &Job,
    mut running: impl FnMut(Holder) -> Result<T, Failure>,
    mut stopped: impl FnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let until = Instant::now() + PATIENCE;
    loop {
        let done = match directory::held(&job.general.state_dir) {
            Held::By(holder) => running(holder),
            Held::Free => stopped(),
            Held::Unannounced(pid) => Err(unannounced(job, pid)),
        };
        match done {
            Err(failure) if failure.moved && Instant::now() < until => std::thread::sleep(LOOK),
            done => return done,
        }
    }
}

fn unannounced(job: &Job, pid: Option<u32>) -> Failure {
    let by = pid.map(|pid| format!(" by process {pid}"));
    let text = format!(
        "state directory {} is held{}, and there is no admin socket to ask: a job that starts, or a command on a stopped one; try again",
        job.general.state_dir.display(),
        by.unwrap_or_default()
    );
    Failure {
        moved: true,
        ..Failure::new(exit::HOST, text)
    }
}

/// Opens the state of a job that does not run.
pub(super) fn open(job: &Job, disk: Disk) -> Result<Directory, Failure> {
    Ok(directory::open(&options(job, disk, 0))?)
}

fn options(job: &Job, disk: Disk, disk_reserve: u64) -> DirectoryOptions<'static> {
    DirectoryOptions {
        path: job.general.state_dir.to_path_buf(),
        job: job.general.name.clone(),
        disk_reserve,
        db: DbOptions::default(),
        disk,
        check: Box::new(|_| Ok(())),
    }
}

/// Makes the state directory of a job that has not run yet.
pub(super) fn create(job: &Job, disk: Disk) -> Result<Directory, Failure> {
    let reserve = job.general.disk_reserve.bytes();
    Ok(directory::open_or_create(&options(job, disk, reserve))?)
}

/// The catalog with one log stream, which may be new to it.
pub(super) fn stream_catalog(
    path: &Path,
    directory: &Directory,
    stream: &str,
    partitions: u32,
) -> Result<Catalog, Failure> {
    let shape = StreamShape {
        partitions,
        system: "log".to_owned(),
    };
    Ok(Catalog::resolve_stream(path, &directory.db, stream, shape)?)
}

/// A view of the state of a job that does not run, and does not begin to as long as it is used.
pub(super) fn view(job: &Job) -> Result<(Inspected, View), Failure> {
    if !has_state(job) {
        return Err(Failure::new(
            exit::USAGE,
            format!(
                "job {:?} has no state yet: there is none in {}; `wasm-host run` makes it",
                job.general.name,
                job.general.state_dir.display()
            ),
        ));
    }
    let looking = directory::look(&options(job, Disk::default(), 0))?;
    let view = View::of_stopped(Arc::clone(&looking.db))
        .map_err(|error| Failure::of(exit::STATE, &error))?;
    Ok((looking, view))
}

/// The component of a stage's last checkpoint.
pub(super) struct Pinned {
    /// Where it is kept.
    pub(super) path: PathBuf,
    /// What it must be.
    pub(super) sha256: String,
}

/// The components of the last checkpoint, by stage.
pub(super) fn pinned(job: &Job) -> Result<BTreeMap<String, Pinned>, Failure> {
    let (looking, view) = view(job)?;
    let catalog = view
        .catalog()
        .map_err(|error| Failure::of(exit::STATE, &error))?;
    let pinned = |sha256: String| Pinned {
        path: directory::code_path(&looking.path, &sha256),
        sha256,
    };
    let stages = catalog.stages.into_iter();
    Ok(stages
        .map(|(name, stage)| (name, pinned(stage.component)))
        .collect())
}

/// `reset`.
pub(super) fn reset(global: &Global) -> Result<(), Failure> {
    let job = load(&global.job)?;
    let stamp = jiff::Timestamp::now()
        .strftime("%Y%m%dT%H%M%SZ")
        .to_string();
    let state = &*job.general.state_dir;
    let mut moved = Vec::new();
    if state.exists() {
        let aside = directory::move_aside(&Disk::default(), state, &stamp)?;
        moved.extend(aside.map(|aside| (state.to_path_buf(), aside)));
    }
    for (name, stream) in &job.streams {
        if let System::FileOutput(file) = &stream.system {
            moved.extend(move_outputs(&file.path, name, &stamp)?);
        }
    }
    if moved.is_empty() {
        stderr::say(format_args!(
            "nothing to reset: there is no state in {}",
            state.display()
        ));
    }
    for (from, to) in moved {
        stderr::say(format_args!("{} is now {}", from.display(), to.display()));
    }
    Ok(())
}

/// Moves the files of an output stream aside, into a folder beside theirs.
fn move_outputs(
    folder: &Path,
    stream: &str,
    stamp: &str,
) -> Result<Vec<(PathBuf, PathBuf)>, Failure> {
    let failed = |what: &str, path: &Path, error: std::io::Error| {
        Failure::new(exit::HOST, format!("{what} {}: {error}", path.display()))
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("read", folder, error)),
    };
    let is_ours = |name: &str| {
        let numbers = name
            .strip_prefix(stream)
            .and_then(|rest| rest.strip_prefix('-'));
        numbers
            .and_then(|rest| rest.split_once('-'))
            .is_some_and(|(partition, number)| {
                partition.parse::<u32>().is_ok() && number.parse::<u64>().is_ok()
            })
    };
    let mut moved = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| failed("read", folder, error))?;
        let name = entry.file_name();
        if !name.to_str().is_some_and(is_ours) {
            continue;
        }
        let aside = folder.join(format!("reset-{stamp}"));
        std::fs::create_dir_all(&aside).map_err(|error| failed("make", &aside, error))?;
        let to = aside.join(&name);
        std::fs::rename(entry.path(), &to).map_err(|error| failed("move", &entry.path(), error))?;
        moved.push((entry.path(), to));
    }
    Ok(moved)
}
