//! `run`.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use clap::Args;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::assemble::{Clusters, Missing};
use super::loader::Loader;
use super::watch::Watch;
use super::{Failure, Global, access, assemble, display, exit, job, stderr};
use crate::admin::{self, Serving, SocketPlace};
use crate::checkpoint::Holder;
use crate::checkpoint::decide::Wanted;
use crate::config::{Job, Look};
use crate::connectors::Lost;
use crate::coordinator::machine::{Ending, LAST_RESORT_AFTER};
use crate::coordinator::{Coordinator, Handle, JobOptions, Report};
use crate::crumbs;
use crate::disk::Disk;
use crate::runtime::{self as wasm, is_in_call};

#[derive(Args)]
pub(super) struct RunArgs {
    /// The job file, or a folder with a `job.toml`; default: --job
    #[arg(value_name = "JOB")]
    path: Option<PathBuf>,
    /// End when every input has been read to its end and a commit has published nothing new to them
    #[arg(long)]
    until_idle: bool,
    /// Run the recorded component, which the last checkpoint was made by, whatever the job's file is
    #[arg(long)]
    pinned: bool,
    /// Run the file that the job names, although a swap or a rollback has chosen another component since
    #[arg(long, conflicts_with = "pinned")]
    from_file: bool,
    /// Refuse to start where there is state already
    #[arg(long)]
    from_start: bool,
    /// A file of ceilings that the job must keep within, beside /etc/wasm-host/policy.toml
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Deliver to Kafka although another state directory has done so for this job, which must have stopped for good
    #[arg(long, conflicts_with = "undelivered")]
    take_over: bool,
    /// Kafka has lost the mark of what was delivered: what becomes of output that may not have been
    #[arg(long, value_name = "WHAT", value_parser = ["deliver", "skip"])]
    undelivered: Option<String>,
    /// Delete the state of a stage that is no longer declared
    #[arg(long, value_name = "STAGE")]
    drop_stage: Vec<String>,
    /// Delete a store that is no longer declared
    #[arg(long, value_name = "STAGE/STORE")]
    drop_store: Vec<String>,
}

impl RunArgs {
    fn lost(&self) -> Lost {
        match (self.take_over, self.undelivered.as_deref()) {
            (true, _) => Lost::TakeOver,
            (false, Some("deliver")) => Lost::Deliver,
            (false, Some(_)) => Lost::Skip,
            (false, None) => Lost::Refuse,
        }
    }

    fn wanted(&self) -> Wanted {
        match (self.pinned, self.from_file) {
            (true, _) => Wanted::Recorded,
            (false, true) => Wanted::File,
            (false, false) => Wanted::ByRule,
        }
    }
}

pub(super) fn run(global: &Global, args: RunArgs, disk: Disk) -> Result<(), Failure> {
    stderr::start_queue();
    // Before wasmtime handles signals.
    crumbs::watch();
    // The recorded component is kept, whatever became of the file.
    let look = match args.wanted() {
        Wanted::Recorded => Look::Folders,
        Wanted::ByRule | Wanted::File => Look::Components,
    };
    let path = args.path.as_ref().unwrap_or(&global.job);
    let mut job = job::load_looking(path, look, args.policy.as_deref())?;
    if args.from_start {
        refuse_state(&job)?;
    }
    // Two for each worker, and those of RocksDB, the commit, readers, the admin server and others.
    job::require_threads(2 * job.general.workers as usize + 24)?;
    // From here on a signal ends the process in good order, however long it compiles or waits.
    let (io, control) = (job::io_runtime()?, job::control_runtime()?);
    let opened = Arc::new(Opened::default());
    let bound = *job.general.drain_timeout + LAST_RESORT_AFTER;
    let signals = {
        let _control = control.enter();
        Signals::catch()
    };
    control.spawn(on_signals(signals, Arc::clone(&opened), bound));
    let runtime = assemble::runtime(Some(&job))?;
    let watch = job.general.watch.then(|| Watch::new(&job));
    let clusters = Clusters::new(&job, args.lost(), &disk);
    clusters.resolve(&mut job, Missing::Make)?;
    let options = options(&job, args, &runtime, clusters, &disk)?;
    abort_on_panic();
    let listener = listen(&job, &control)?;
    let socket = bind_socket();
    if let Some((place, _)) = &socket {
        let _ = opened.socket.set(place.path().to_owned());
    }
    let holder = Holder {
        pid: std::process::id(),
        socket: socket.as_ref().map(|(place, _)| place.path().to_owned()),
    };
    let coordinator = Coordinator::open(options, io.handle(), Some(&holder))?;
    let handle = coordinator.handle();
    let _ = opened.handle.set(handle.clone());
    let served = socket.map(|(place, listener)| serve(&control, place, listener, handle.clone()));
    if let Some(listener) = listener {
        control.spawn(admin::serve_tcp(listener, handle.clone()));
    }
    control.spawn(Watch::run(watch, handle.clone()));
    let shown = display::start(&control, handle, &job);
    let report = coordinator.run();
    shown.finish(&report);
    if let Some((place, serving)) = served {
        drop(place);
        serving
            .into_iter()
            .for_each(|serving| control.block_on(serving.finish()));
    }
    // What readers still do (a blocking read of a terminal, say) is not waited for.
    io.shutdown_background();
    control.shutdown_background();
    end(&job, report)
}

/// The job with what was typed.
fn options(
    job: &Job,
    args: RunArgs,
    runtime: &wasm::Runtime,
    clusters: Clusters,
    disk: &Disk,
) -> Result<JobOptions, Failure> {
    let codes = access::codes(job, args.wanted())?;
    let mut options = assemble::job(job, runtime, disk, &clusters, &codes)?;
    options.loader = Some(Loader::shared(
        job,
        args.policy.as_deref(),
        runtime,
        clusters,
        disk,
    ));
    options.until_idle = args.until_idle;
    options.drops.stages.extend(args.drop_stage);
    for store in &args.drop_store {
        options.drops.stores.insert(stage_and_store(store)?);
    }
    assemble::check_components(&options)?;
    Ok(options)
}

/// The listener for `listen`, if the job has one.
fn listen(job: &Job, control: &Runtime) -> Result<Option<tokio::net::TcpListener>, Failure> {
    let listener = job.general.listen.as_ref().map(|listen| {
        control
            .block_on(tokio::net::TcpListener::bind(**listen))
            .map_err(|error| Failure::new(exit::USAGE, format!("listen on {}: {error}", **listen)))
    });
    listener.transpose()
}

fn refuse_state(job: &Job) -> Result<(), Failure> {
    if !job::has_state(job) {
        return Ok(());
    }
    Err(Failure::new(
        exit::STATE,
        format!(
            "there is state in {} already, and --from-start was given; `wasm-host reset` moves it aside",
            job.general.state_dir.display()
        ),
    ))
}

fn stage_and_store(text: &str) -> Result<(String, String), Failure> {
    match text.split_once('/') {
        Some((stage, store)) => Ok((stage.to_owned(), store.to_owned())),
        None => Err(Failure::new(
            exit::USAGE,
            format!("--drop-store {text:?}: write STAGE/STORE"),
        )),
    }
}

/// Binds the admin socket before it is announced: a client that connects from then on is answered as soon as the job is open.
fn bind_socket() -> Option<(SocketPlace, UnixListener)> {
    let place = SocketPlace::new()?;
    match place.bind() {
        Ok(listener) => Some((place, listener)),
        Err(error) => {
            let path = place.path().display();
            tracing::warn!("the admin socket {path} cannot be made: {error}");
            None
        }
    }
}

/// Serves the admin socket, if it can be served, for as long as its file is there.
fn serve(
    control: &Runtime,
    place: SocketPlace,
    listener: UnixListener,
    handle: Handle,
) -> (SocketPlace, Option<Serving>) {
    let _entered = control.enter();
    let serving = Serving::start(listener, handle).inspect_err(|error| {
        let path = place.path().display();
        tracing::warn!("the admin socket {path} cannot be served: {error}");
    });
    (place, serving.ok())
}

/// A panic outside of a guest's call ends the process: a host that goes on without one of its threads is worse than a restart.
/// The hook does not wait for a reader of its message.
fn abort_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let trace = Backtrace::capture();
        let trace = (trace.status() == BacktraceStatus::Captured).then_some(&trace);
        stderr::say(format_args!(
            "thread {:?} {panic}{}",
            thread.name().unwrap_or_default(),
            trace.map(|trace| format!("\n{trace}")).unwrap_or_default()
        ));
        if !is_in_call() {
            stderr::flush();
            std::process::abort();
        }
    }));
}

fn end(job: &Job, report: Report) -> Result<(), Failure> {
    match report.ending {
        Ending::Finished if report.nothing_new => {
            tracing::info!(
                "job {:?} is finished at checkpoint {}: nothing new to process",
                job.general.name,
                report.epoch
            );
            Ok(())
        }
        Ending::Finished => {
            tracing::info!(
                "job {:?} finished at checkpoint {}, {} messages processed",
                job.general.name,
                report.epoch,
                report.processed
            );
            Ok(())
        }
        Ending::Drained => {
            tracing::info!(
                "job {:?} stopped at checkpoint {}, {} messages processed",
                job.general.name,
                report.epoch,
                report.processed
            );
            Ok(())
        }
        Ending::Failed => {
            let failures: Vec<String> = report.failures.iter().map(ToString::to_string).collect();
            Err(Failure::new(
                exit::TASK,
                format!(
                    "{}\nthe other tasks are drained; checkpoint {} holds everything before. A restart begins at the same messages",
                    failures.join("\n"),
                    report.epoch
                ),
            ))
        }
        Ending::Stuck => Err(Failure::new(
            exit::HOST,
            format!(
                "the job did not stop within drain-timeout and was abandoned at checkpoint {}: {}. A restart goes on there",
                report.epoch,
                report.stuck.as_deref().unwrap_or("its threads hang")
            ),
        )),
        Ending::Host => Err(match report.error {
            Some(error) => error.into(),
            None => Failure::new(
                exit::HOST,
                format!(
                    "too many checkpoints failed, or one is stuck: {}; see the log above",
                    report.stuck.as_deref().unwrap_or("none is being committed")
                ),
            ),
        }),
    }
}

/// What a signal finds.
#[derive(Default)]
struct Opened {
    handle: OnceLock<Handle>,
    /// The admin socket, which goes with the process.
    socket: OnceLock<PathBuf>,
}

impl Opened {
    fn leave(&self, code: u8) -> ! {
        if let Some(socket) = self.socket.get() {
            let _ = std::fs::remove_file(socket);
        }
        exit::leave(code)
    }
}

/// Signals of one kind that come within this are one.
const ONE_SIGNAL: Duration = Duration::from_millis(100);

/// The signals that end a job. From when they are caught none is missed.
struct Signals([Signal; 3]);

impl Signals {
    fn catch() -> std::io::Result<Signals> {
        Ok(Signals([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    /// The next one: which of them.
    async fn next(&mut self) -> usize {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => 0,
            _ = terminate.recv() => 1,
            _ = hangup.recv() => 2,
        }
    }

    /// Passes over another of the same kind that comes at once: whoever signals a process and its group, as `timeout` does, means
    /// one signal.
    async fn pass_same(&mut self, which: usize) {
        tokio::time::sleep(ONE_SIGNAL).await;
        let _ = tokio::time::timeout(Duration::ZERO, self.0[which].recv()).await;
    }
}

/// The first signal drains, the second ends the process at once. Before the job is opened there is nothing to drain, and
/// whatever step the opening has come to is one that a crash could have ended.
async fn on_signals(signals: std::io::Result<Signals>, opened: Arc<Opened>, bound: Duration) {
    let mut signals = match signals {
        Ok(signals) => signals,
        Err(error) => {
            tracing::warn!("signals cannot be waited for: {error}");
            return;
        }
    };
    for number in 1.. {
        let which = signals.next().await;
        match opened.handle.get() {
            None => {
                tracing::info!("stopped before the job was opened");
                opened.leave(0);
            }
            Some(handle) if number == 1 => {
                tracing::info!(
                    "stopping: a final checkpoint is taken; a second signal ends at once"
                );
                exit::leave_after(bound);
                handle.stop();
                signals.pass_same(which).await;
            }
            Some(_) => opened.leave(exit::INTERRUPTED),
        }
    }
}
