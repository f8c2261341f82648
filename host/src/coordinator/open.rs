//! Opening a job: the state directory, then what the job declares held against it, then tasks, workers and readers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use super::commit::{self, CommitOptions, CommitThread, LongWork, Work};
use super::letters::Letters;
use super::machine::{Machine, MachineOptions};
use super::mail::Mail;
use super::options::{JobOptions, Reads, StageOptions};
use super::status::Figures;
use super::swap::{Swaps, start};
use super::tasks::{Made, TaskEntry, TaskFactory};
use super::view::View;
use super::{Coordinator, StreamEntry, Timeouts, Waiting};
use crate::checkpoint::catalog::Catalog;
use crate::checkpoint::check;
use crate::checkpoint::directory::{self, CodeFolder, DirectoryOptions};
use crate::checkpoint::logs::Logs;
use crate::checkpoint::outputs::{self, ExternalStream};
use crate::checkpoint::{
    Beginning, CommitError, Committer, CommitterOptions, HoldEnd, Holder, OpenError, Progressed,
    StateId,
};
use crate::connectors::Input;
use crate::connectors::log::start_of;
use crate::crumbs::Crumbs;
use crate::disk::DiskError;
use crate::model::{PartitionId, Position, StageId, StartAt, StreamId, TaskId};
use crate::records::{self, StageRecord, SwapRecord, TaskRecord};
use crate::scheduler::{Scheduler, SchedulerOptions};
use crate::state::{CleanCache, Db, StateError};

pub(super) fn open(
    options: JobOptions,
    io: &tokio::runtime::Handle,
    holder: Option<&Holder>,
) -> Result<Coordinator, OpenError> {
    let TakenOver {
        committer,
        catalog,
        db,
        swaps,
        released,
    } = take_over(&options, holder)?;
    let holds = committer.hold_figures();
    let cache = cache(&options);
    let logs = committer.logs();
    let letters = letters(&options, &db, &logs);
    let crumbs = crumbs(&options.state_dir)?;
    let streams = streams(&options, &catalog);
    let (options, factory) = factory(options, &db, &cache, catalog, &logs, crumbs);
    let made: Result<Vec<Made>, _> = factory.specs().map(|spec| factory.make(spec)).collect();
    let made = made.map_err(unreadable(&options))?;
    let (sender, mail) = channel();
    let scheduler = start_scheduler(&options, interrupt(&factory), io, sender.clone());
    let machine = new_machine(&options, &committer, made.len());
    let figures = new_figures(&options, &committer, &factory, cache, db);
    let hurry = Arc::new(AtomicBool::new(false));
    let commit = start_commit(committer, &options, &hurry, sender.clone());
    let watches = start::watches(&factory, &swaps, &made);
    let tasks = put(made, &options, &scheduler, io);
    Ok(Coordinator {
        machine,
        mail,
        sender,
        io: io.clone(),
        scheduler,
        releasing: release(released, &commit),
        watches,
        commit,
        streams,
        declared: None,
        successors: successors(&factory),
        factory,
        tasks,
        made: BTreeMap::new(),
        loader: options.loader.clone(),
        code: CodeFolder::of(&options.state_dir, &options.disk),
        shadows: BTreeMap::new(),
        unwanted: Vec::new(),
        lately: BTreeMap::new(),
        holds,
        swaps,
        swap: None,
        letters,
        logs,
        clock: Arc::clone(&options.clock),
        figures,
        timeouts: Timeouts::of(&options),
        until_idle: options.until_idle,
        barrier: None,
        waiting: Waiting::default(),
        draining: None,
        last_resort: Some(Arc::clone(&options.last_resort)),
        failures: Vec::new(),
        resuming: BTreeMap::new(),
        error: None,
        hurry,
        round_robin: 0,
    })
}

/// The code for which the state of stages has to be migrated, by their places.
fn successors(factory: &TaskFactory) -> BTreeMap<usize, Box<StageOptions>> {
    let stages = factory.stages().enumerate();
    let successors = stages.filter_map(|(at, now)| Some((at, now.options.successor.clone()?)));
    successors.collect()
}

/// Goes on with what goes out. Returns the swaps of the stages.
fn release(released: Vec<(u64, HoldEnd)>, commit: &CommitThread) -> BTreeMap<StageId, u64> {
    let mut releasing = BTreeMap::new();
    for (swap, end) in released {
        releasing.insert(end.stage, swap);
        commit.give(Work::End(LongWork::Release(end)));
    }
    releasing
}

/// State could not be read.
fn unreadable(options: &JobOptions) -> impl Fn(StateError) -> OpenError + Copy + '_ {
    |source| OpenError::State {
        path: options.state_dir.clone(),
        source,
    }
}

/// What makes tasks. The stages and streams are its own, because code may become another and bring streams with it.
fn factory(
    mut options: JobOptions,
    db: &Arc<Db>,
    cache: &Arc<CleanCache>,
    catalog: Catalog,
    logs: &Arc<Logs>,
    crumbs: Crumbs,
) -> (Arc<JobOptions>, Arc<TaskFactory>) {
    let stages = std::mem::take(&mut options.stages);
    let streams = std::mem::take(&mut options.streams);
    let options = Arc::new(options);
    let factory = TaskFactory::new(
        Arc::clone(&options),
        (stages, streams),
        Arc::clone(db),
        Arc::clone(cache),
        catalog,
        Arc::clone(logs),
        Arc::new(crumbs),
    );
    (options, Arc::new(factory))
}

/// What is kept at hand of committed values.
fn cache(options: &JobOptions) -> Arc<CleanCache> {
    let blocks = (options.db.block_cache_bytes as u64).min(options.cache_bytes / 4);
    Arc::new(CleanCache::with_reserve(options.cache_bytes, blocks))
}

/// The crumbs of this process. A disk that is full or can only be read is no reason not to run.
fn crumbs(path: &Path) -> Result<Crumbs, DiskError> {
    Crumbs::open(&path.join("crumbs")).or_else(|error| {
        tracing::warn!("the file `crumbs` cannot be written, so a message at which the process dies will not be found: {error}");
        let nowhere = Path::new("/dev/null");
        Crumbs::open(nowhere).map_err(DiskError::of("open", nowhere))
    })
}

/// The tasks take their places, and are read for.
fn put(
    made: Vec<Made>,
    options: &JobOptions,
    scheduler: &Scheduler,
    io: &tokio::runtime::Handle,
) -> Vec<TaskEntry> {
    let mut tasks = Vec::new();
    for made in made {
        let (place, mut entry) = (scheduler.add_place(), made.entry);
        scheduler.put(place, made.task);
        entry.read(made.readers, place, &scheduler.waker(), io);
        if options.skips.is_some() {
            // It may have nothing to read.
            scheduler.waker().wake(place);
        }
        tasks.push(entry);
    }
    tasks
}

/// A state directory that is this process's.
struct TakenOver {
    committer: Committer,
    catalog: Catalog,
    db: Arc<Db>,
    swaps: Swaps,
    /// Held output that goes out, and the swaps that it is of.
    released: Vec<(u64, HoldEnd)>,
}

/// Takes over the state directory, or makes it, and writes down what is new in the job.
fn take_over(options: &JobOptions, holder: Option<&Holder>) -> Result<TakenOver, OpenError> {
    let path = &options.state_dir;
    let directory = directory::open_or_create(&directory_options(options))?;
    let db = Arc::clone(&directory.db);
    let mut catalog = Catalog::resolve(path, &db, &options.shape(), &options.drops)?;
    let misfit = start::misfit_of_holds(options, &db, &catalog);
    if let Some(why) = misfit.map_err(unreadable(options))? {
        return Err(OpenError::Refused {
            path: path.clone(),
            why,
        });
    }
    let swaps = start::swaps(options, &db, &mut catalog);
    let mut swaps = swaps.map_err(unreadable(options))?;
    let ends = start::ends(&db, &mut catalog, &mut swaps).map_err(unreadable(options))?;
    for (stage, before) in &catalog.components_changed {
        tracing::info!(
            stage,
            "the component is another than at the last checkpoint, which was made by {before}"
        );
    }
    for stage in &catalog.queues_that_wait {
        tracing::warn!(
            stage,
            "letters wait to be processed again, and the stage declares no `dead-letters` any more: they wait until it does"
        );
    }
    keep_code(options, &db, &catalog, swaps.values())?;
    let mut committer = open_committer(directory, options, &catalog)?;
    if let Some(holder) = holder {
        let announced = committer.lock_mut().announce(holder);
        announced.map_err(DiskError::of("write the lock file of", path))?;
    }
    let failed = |source| OpenError::Begin {
        path: path.clone(),
        source: Box::new(source),
    };
    for end in ends.taken_back {
        take_back(&mut committer, end).map_err(failed)?;
    }
    let begins = begins(options, &db, &catalog, &committer.logs())?;
    committer.register(&catalog, &begins).map_err(failed)?;
    Ok(TakenOver {
        committer,
        catalog,
        db,
        swaps: Swaps::new(swaps),
        released: ends.released,
    })
}

/// Finishes a way back that the last process has begun.
fn take_back(committer: &mut Committer, mut end: HoldEnd) -> Result<(), CommitError> {
    tracing::info!("what new code has done is taken back");
    while committer.take_back(&mut end)? == Progressed::Partly {}
    Ok(())
}

/// Keeps the components of the stages, and no more of the others than can be of use.
fn keep_code<'a>(
    options: &JobOptions,
    db: &Db,
    catalog: &'a Catalog,
    swaps: impl DoubleEndedIterator<Item = &'a SwapRecord>,
) -> Result<(), OpenError> {
    let recorded = records::list::<StageRecord>(db).map_err(unreadable(options))?;
    let recorded = recorded.iter().map(|(_, stage)| stage);
    let code = CodeFolder::of(&options.state_dir, &options.disk);
    let stages = catalog.stages.values().chain(recorded);
    code.tidy_up(&directory::needed(stages, swaps));
    let stages = options.stages.iter();
    let successors = stages
        .clone()
        .filter_map(|stage| stage.successor.as_deref());
    for stage in stages.chain(successors) {
        code.keep(stage.component.sha256(), stage.component.bytes())?;
    }
    Ok(())
}

fn new_figures(
    options: &JobOptions,
    committer: &Committer,
    factory: &TaskFactory,
    cache: Arc<CleanCache>,
    db: Arc<Db>,
) -> Figures {
    Figures {
        job: options.name.clone(),
        started: options.clock.now_ms(),
        epoch: committer.epoch(),
        last_checkpoint: None,
        checkpoints: 0,
        failed_attempts: 0,
        bytes_max: options.cadence.bytes_max,
        progress: committer.progress(),
        metrics: factory.metrics(),
        cache,
        db,
        remotes: options.remotes.clone(),
    }
}

fn new_machine(options: &JobOptions, committer: &Committer, tasks: usize) -> Machine {
    let machine = MachineOptions {
        cadence: options.cadence.clone(),
        tolerate_failures: options.tolerate_failures,
        timeout: options.checkpoint_timeout,
        drain_timeout: options.drain_timeout,
        tasks,
    };
    let deliveries = commit::deliveries(committer);
    Machine::new(machine, committer.epoch(), deliveries, Instant::now())
}

fn letters(options: &JobOptions, db: &Arc<Db>, logs: &Arc<Logs>) -> Letters {
    let view = View::of_running(Arc::clone(db), Arc::clone(logs));
    Letters::new(view, options.name.clone(), options.letters())
}

fn start_scheduler(
    options: &JobOptions,
    interrupt: Arc<dyn Fn() + Send + Sync>,
    io: &tokio::runtime::Handle,
    sender: Sender<Mail>,
) -> Scheduler {
    let scheduler = SchedulerOptions {
        workers: options.workers,
        bytes_max: options.cadence.bytes_max,
        instances_max: options.instances_max,
        interrupt,
        io: io.clone(),
    };
    Scheduler::start(scheduler, move |notice| {
        // The loop is gone only when the process is about to be.
        let _ = sender.send(Mail::Notice(notice));
    })
}

fn start_commit(
    mut committer: Committer,
    options: &JobOptions,
    hurry: &Arc<AtomicBool>,
    sender: Sender<Mail>,
) -> CommitThread {
    committer.heed(hurry);
    let commit = CommitOptions {
        directory: options.state_dir.clone(),
        disk_reserve: options.disk_reserve,
        timeout: options.checkpoint_timeout,
        clock: Arc::clone(&options.clock),
        hurry: Arc::clone(hurry),
    };
    CommitThread::start(committer, commit, move |done| {
        let _ = sender.send(Mail::Done(done));
    })
}

fn streams(options: &JobOptions, catalog: &Catalog) -> BTreeMap<String, StreamEntry> {
    let streams = options.streams.iter().map(|(name, stream)| {
        let entry = StreamEntry::of(catalog.streams[name].id, stream);
        (name.clone(), entry)
    });
    streams.collect()
}

/// Whether the state directory and the outputs are what the job's last checkpoint has left, and fit the job. Changes nothing.
///
/// # Errors
/// What [`open`] would refuse.
pub(super) fn check(options: &JobOptions) -> Result<(), OpenError> {
    directory::check(&directory_options(options))
}

fn directory_options(options: &JobOptions) -> DirectoryOptions<'_> {
    DirectoryOptions {
        path: options.state_dir.clone(),
        job: options.name.clone(),
        disk_reserve: options.disk_reserve,
        db: options.db.clone(),
        disk: options.disk.clone(),
        check: Box::new(|made| check_contents(options, made)),
    }
}

fn check_contents(options: &JobOptions, made: Option<(&Db, StateId)>) -> Result<(), OpenError> {
    let path = &options.state_dir;
    if let Some((db, state)) = made {
        let catalog = Catalog::resolve(path, db, &options.shape(), &options.drops)?;
        check::check_tasks(path, db)?;
        check_mirrors(options, Some((db, state, &catalog)))?;
        return outputs::check_outputs(path, db, &external_streams(options, &catalog));
    }
    check_mirrors(options, None)?;
    // They have no numbers yet.
    let streams = options.streams.iter();
    let external = streams.filter_map(|(name, of)| of.external(StreamId::default(), name));
    outputs::check_new(path, &external.collect::<Vec<_>>())
}

/// Whether what is noted of positions outside of the job is what it has noted.
fn check_mirrors(
    options: &JobOptions,
    made: Option<(&Db, StateId, &Catalog)>,
) -> Result<(), OpenError> {
    for (name, stream) in &options.streams {
        let Some(mirror) = stream.input().and_then(|input| input.mirror()) else {
            continue;
        };
        let (mut recorded, mut state) = (Vec::new(), None);
        if let Some((db, id, catalog)) = made {
            state = Some(id.0);
            let stream = catalog.streams[name].id;
            let tasks = records::list::<TaskRecord>(db).map_err(unreadable(options))?;
            recorded.extend(tasks.iter().filter_map(|(task, record)| {
                Some((task.partition, record.positions.get(&stream)?.next))
            }));
        }
        let checked = mirror.check(state.as_ref(), &recorded);
        checked.map_err(|source| OpenError::Input {
            stream: name.clone(),
            source,
        })?;
    }
    Ok(())
}

fn external_streams(options: &JobOptions, catalog: &Catalog) -> Vec<ExternalStream> {
    let streams = options.streams.iter();
    let external = streams.filter_map(|(name, of)| of.external(catalog.streams[name].id, name));
    external.collect()
}

/// What ends the running calls of every stage.
fn interrupt(factory: &Arc<TaskFactory>) -> Arc<dyn Fn() + Send + Sync> {
    let factory = Arc::clone(factory);
    Arc::new(move || factory.interrupt())
}

fn open_committer(
    directory: directory::Directory,
    options: &JobOptions,
    catalog: &Catalog,
) -> Result<Committer, OpenError> {
    let letters = options.letters();
    let logs = options.streams.iter().filter_map(|(name, stream)| {
        let letters = letters.iter().any(|of| of.stream == *name);
        stream.log_of(catalog.streams[name].id, letters)
    });
    let logs = logs.collect();
    let external = external_streams(options, catalog);
    let mut reads = Vec::new();
    for stage in &options.stages {
        let inputs = stage.inputs.iter().map(|input| &input.stream);
        for stream in inputs.chain(&stage.replay_queue) {
            let id = catalog.streams[stream].id;
            reads.extend(tasks_of(stage, catalog).map(|task| (task, id)));
        }
    }
    let options = CommitterOptions {
        logs,
        external,
        mirrored: mirrored(options, catalog),
        reads,
        durability: options.durability,
        disk: options.disk.clone(),
    };
    Committer::open(directory, &options)
}

/// The inputs whose positions are noted outside of the job, too.
fn mirrored(options: &JobOptions, catalog: &Catalog) -> Vec<(StreamId, Arc<dyn Input>)> {
    let inputs = options.streams.iter();
    let inputs = inputs.filter_map(|(name, stream)| {
        let input = stream.input().filter(|input| input.mirror().is_some())?;
        Some((catalog.streams[name].id, Arc::clone(input)))
    });
    inputs.collect()
}

fn tasks_of<'a>(
    stage: &'a StageOptions,
    catalog: &'a Catalog,
) -> impl Iterator<Item = TaskId> + 'a {
    (0..stage.partitions).map(|partition| TaskId {
        stage: catalog.stages[&stage.name].id,
        partition: PartitionId(partition),
    })
}

/// The records of tasks that begin to read a log at a place that another start would choose otherwise: they are written before
/// anybody can append to it. What other systems choose is recorded by the first checkpoint, before anything is read.
fn begins(
    options: &JobOptions,
    db: &Db,
    catalog: &Catalog,
    logs: &Logs,
) -> Result<Vec<Beginning>, OpenError> {
    let state = unreadable(options);
    let mut begins = Vec::new();
    for stage in &options.stages {
        let chosen = stage.inputs.iter().filter(|input| {
            matches!(
                input.start,
                StartAt::Latest | StartAt::Time(_) | StartAt::Group
            ) && matches!(options.streams[&input.stream].reads, Some(Reads::Log(_)))
        });
        let streams: Vec<_> = chosen
            .map(|input| (catalog.streams[&input.stream].id, input.start))
            .collect();
        if streams.is_empty() {
            continue;
        }
        for task in tasks_of(stage, catalog) {
            let known: Option<TaskRecord> = records::get(db, &task).map_err(state)?;
            let mut record = known.unwrap_or_default();
            let mut began = Vec::new();
            for (stream, start) in &streams {
                if record.positions.contains_key(stream) {
                    continue;
                }
                let next = start_of(logs, *stream, task.partition, *start)
                    .map_err(|error| state(StateError::Damaged(error.to_string())))?;
                let position = Position { next, detail: None };
                record.positions.insert(*stream, position);
                began.push(*stream);
            }
            if !began.is_empty() {
                begins.push(Beginning {
                    task,
                    record,
                    began,
                });
            }
        }
    }
    Ok(begins)
}
