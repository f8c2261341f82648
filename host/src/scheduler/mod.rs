//! Worker threads: which task runs, for how long, and who takes over from a slow one.
//!
//! Runnable tasks wait in one queue that all workers share. A worker runs a task for a slice of time and puts it back. A
//! watchdog looks at the workers: if a single call of a guest lasts, it gives the worker's seat to another thread,
//! so a slow guest delays only itself. Must never know checkpoints, connectors or configuration: a barrier is a
//! number, and what a task seals is handed on.
//!
//! Tasks come and go: each has a place of its own, which is empty while it is away. What a task is asked (to seal, to release a
//! sealed epoch, to stop, to leave) lies in its mail, and is done in that order between two batches.
//!
//! [`lists`] decides who runs, [`gate`] who may begin a batch, [`instances`] which instances live.
//!
//! Invariants: a task is run by one thread at a time; at most [`SchedulerOptions::workers`] threads run tasks with short calls,
//! and as many start tasks with long ones; a task that is woken is looked at again, whatever it was doing.

mod cell;
mod gate;
mod instances;
mod lists;
mod queue;
mod watchdog;
mod worker;

#[cfg(test)]
mod interleavings;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::thread::{JoinHandle, Thread};
use std::time::Instant;

use parking_lot::{Mutex, RwLock};

use cell::{Ask, Beat, Cell};
use gate::Gate;
use instances::Instances;
pub use lists::TaskIndex;
use queue::Queue;

use crate::epoch::SealedTask;
use crate::model::Epoch;
use crate::runtime::Requests;
use crate::task::{CodeSource, Resume, Task, TaskFailure};

/// Settings of the scheduler.
#[derive(Clone)]
pub struct SchedulerOptions {
    /// Threads that run guests at a time.
    pub workers: usize,
    /// Uncommitted bytes at half of which [`Notice::Bytes`] is sent, and at all of which no batch starts.
    pub bytes_max: usize,
    /// Instances that may live at a time.
    pub instances_max: usize,
    /// Ends every call that runs, as its deadline would.
    pub interrupt: Arc<dyn Fn() + Send + Sync>,
    /// Entered by each worker thread: what guests wait for is driven by this runtime.
    pub io: tokio::runtime::Handle,
}

/// The most threads that can run tasks at once, slow ones included. Live instances may briefly exceed their bound by this many.
pub fn threads_max(workers: usize) -> usize {
    2 * workers + watchdog::SPARE_THREADS
}

/// What the scheduler reports.
pub enum Notice {
    /// A task has its first change in the open epoch.
    Changed(TaskIndex),
    /// Half of the bytes that may be uncommitted are.
    Bytes,
    /// A guest asked for something, in a batch that is kept.
    Requested(TaskIndex, Requests),
    /// A task has sealed for a barrier; `None`: nothing had changed in the end.
    Sealed(TaskIndex, Epoch, Option<Box<SealedTask>>),
    /// A task has nothing more to do: its inputs have ended.
    Ended(TaskIndex),
    /// An input begins at a place that a checkpoint must record before anything of it is read.
    Begun,
    /// A task that was asked to stop processes no batch any more.
    Stopped(TaskIndex),
    /// A task has left, and its place is empty.
    Left(TaskIndex),
    /// A task waits for the code before, which passes what it failed at.
    Regressed(TaskIndex, Box<TaskFailure>),
    /// The state of a task is migrated, and it waits for the others.
    Migrated(TaskIndex),
    /// A task failed.
    Failed(TaskIndex, Box<TaskFailure>, Met),
}

/// When a task met what it failed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Met {
    /// First of all, as it may have done at every start before.
    First,
    /// After it had processed something.
    Later,
}

struct Shared {
    /// The place of each task.
    cells: RwLock<Vec<Option<Arc<Cell>>>>,
    queue: Queue,
    options: SchedulerOptions,
    notices: Box<dyn Fn(Notice) + Send + Sync>,
    gate: Gate,
    instances: Instances,
    /// The place whose task was last asked to give up committed values.
    trimmed: AtomicUsize,
    /// No batch starts any more.
    draining: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// What each thread shows to the watchdog.
    beats: Mutex<Vec<Arc<Beat>>>,
    /// The watchdog sleeps because no worker is busy.
    asleep: AtomicBool,
    watchdog: std::sync::OnceLock<Thread>,
}

/// The scheduler. Dropping it stops its threads after the calls that run.
pub struct Scheduler {
    shared: Arc<Shared>,
    watchdog: Option<JoinHandle<()>>,
}

impl Scheduler {
    /// Starts the workers. There are no tasks yet.
    pub fn start(
        options: SchedulerOptions,
        notices: impl Fn(Notice) + Send + Sync + 'static,
    ) -> Scheduler {
        let workers = options.workers;
        let shared = Arc::new(Shared {
            cells: RwLock::default(),
            queue: Queue::new(0, workers),
            gate: Gate::new(options.bytes_max),
            instances: Instances::new(options.instances_max),
            trimmed: AtomicUsize::new(0),
            options,
            notices: Box::new(notices),
            draining: AtomicBool::new(false),
            threads: Mutex::default(),
            beats: Mutex::default(),
            asleep: AtomicBool::new(false),
            watchdog: std::sync::OnceLock::new(),
        });
        // One for each seat.
        for _ in 0..2 * workers {
            worker::spawn(&shared);
        }
        let watchdog = watchdog::spawn(Arc::clone(&shared));
        let _ = shared.watchdog.set(watchdog.thread().clone());
        Scheduler {
            shared,
            watchdog: Some(watchdog),
        }
    }

    /// How a reader wakes its task.
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.shared))
    }

    /// A place for one more task. It is empty.
    pub fn add_place(&self) -> TaskIndex {
        let mut cells = self.shared.cells.write();
        cells.push(None);
        let place = self.shared.queue.add();
        assert_eq!(place.0 + 1, cells.len(), "each place has its standing");
        place
    }

    /// A task takes its place, and runs once it is woken.
    ///
    /// # Panics
    /// The place is not empty.
    pub fn put(&self, place: TaskIndex, task: Task) {
        let cell = Arc::new(Cell::new(place, task));
        // Either a drain that begins now finds this cell, or this finds the drain.
        let before = self.shared.cells.write()[place.0].replace(Arc::clone(&cell));
        assert!(before.is_none(), "a task takes the place of another");
        if self.shared.draining.load(Ordering::SeqCst) {
            cell.control.end_batch.store(true, Ordering::SeqCst);
        }
    }

    /// Asks a task to begin no batch any more and to end its instance. It reports [`Notice::Stopped`].
    pub fn stop_task(&self, task: TaskIndex) {
        self.ask([task], |_| Ask::Stop);
    }

    /// Asks a held task to go on.
    pub fn resume(&self, task: TaskIndex, how: Resume) {
        self.ask([task], |_| Ask::Resume(how));
        self.shared.queue.wake(task);
    }

    /// Asks a task that waits for the code before to go on without it.
    pub fn go_on(&self, task: TaskIndex, generation: u64) {
        self.ask([task], |_| Ask::GoOn(generation));
        self.shared.queue.wake(task);
    }

    /// Asks a task that has stopped, ended or failed to leave. It reports [`Notice::Left`].
    pub fn remove(&self, task: TaskIndex) {
        self.ask([task], |_| Ask::Leave);
    }

    /// Asks tasks to seal. Each reports [`Notice::Sealed`]. `code_of`: with which other code a task has its next batch.
    pub fn seal(
        &self,
        tasks: impl IntoIterator<Item = TaskIndex>,
        epoch: Epoch,
        code_of: impl Fn(TaskIndex) -> Option<Arc<dyn CodeSource>>,
    ) {
        // Reported again for the next epoch, however much of it is there by the time the last task has sealed.
        self.shared.gate.begin_epoch();
        let now = Instant::now();
        self.ask(tasks, |cell| {
            cell.share.ask_to_seal();
            Ask::Seal(epoch, now, code_of(cell.index))
        });
    }

    /// The epoch of these tasks is committed: they give up their sealed layers, and processing may go on.
    pub fn release(&self, tasks: impl IntoIterator<Item = TaskIndex>) {
        self.shared.gate.release();
        self.ask(tasks, |_| Ask::Release);
        self.shared.queue.release();
    }

    fn ask(&self, tasks: impl IntoIterator<Item = TaskIndex>, ask: impl Fn(&Cell) -> Ask) {
        let mut asked = Vec::new();
        let cells = self.shared.cells.read();
        for task in tasks {
            let Some(Some(cell)) = cells.get(task.0) else {
                panic!("task {task:?} is asked, and is away");
            };
            cell.ask(ask(cell));
            asked.push(task);
        }
        drop(cells);
        self.shared.queue.ask(asked.into_iter());
    }

    /// The tasks that have yet to seal, and what each of them is doing, in words.
    pub fn awaited(&self) -> Vec<(TaskIndex, String)> {
        let mut cells = self.shared.all_cells();
        cells.retain(|cell| cell.awaited().is_some());
        let doing = |cell: &Arc<Cell>| (cell.index, self.doing(cell));
        cells.iter().map(doing).collect()
    }

    /// The running tasks, and what each of them is doing, in words.
    pub fn running(&self) -> Vec<(TaskIndex, String)> {
        let beats = self.shared.beats.lock().clone();
        let cells = beats.iter().filter_map(|beat| beat.cell.lock().clone());
        cells.map(|cell| (cell.index, self.doing(&cell))).collect()
    }

    fn doing(&self, cell: &Arc<Cell>) -> String {
        let beats = self.shared.beats.lock().clone();
        let at_it = |beat: &&Arc<Beat>| {
            let running = beat.cell.lock();
            running
                .as_ref()
                .is_some_and(|other| Arc::ptr_eq(other, cell))
        };
        let Some(beat) = beats.iter().find(at_it) else {
            return self.shared.queue.describe(cell.index).to_owned();
        };
        let since = *beat.since.lock();
        match since {
            None => "it runs".to_owned(),
            Some(since) => format!(
                "a call of its guest has lasted for {:.1} s and {}",
                since.elapsed().as_secs_f64(),
                match watchdog::uses_processor(beat) {
                    true => "computes",
                    false => "waits for something",
                }
            ),
        }
    }

    /// No batch starts any more, and the ones that run end after their running call.
    pub fn drain(&self) {
        self.shared.draining.store(true, Ordering::SeqCst);
        for cell in self.shared.all_cells() {
            cell.control.end_batch.store(true, Ordering::SeqCst);
        }
    }

    /// Whether a thread runs a task, slow ones included. A thread counts as running until its last notice was sent.
    pub fn is_busy(&self) -> bool {
        self.shared.queue.is_busy()
    }

    /// The drain's time is over: calls that are interrupted from now on are undone, which is not a fault.
    pub fn give_up(&self) {
        for cell in self.shared.all_cells() {
            cell.control.give_up.store(true, Ordering::SeqCst);
        }
        (self.shared.options.interrupt)();
    }

    /// Uncommitted bytes: of the open epoch, and of the one that is being committed.
    pub fn uncommitted(&self) -> (usize, usize) {
        self.shared.gate.uncommitted()
    }

    /// The tasks with an instance.
    pub fn with_instances(&self) -> Vec<TaskIndex> {
        self.shared.instances.tasks()
    }

    /// Instances alive.
    pub fn instances(&self) -> usize {
        self.shared.instances.alive()
    }

    /// Stops the threads and closes the instances in order, as many as `until` allows. A running call is
    /// waited for.
    pub fn stop(mut self, until: Instant) {
        self.halt();
        let (next, cells) = (AtomicUsize::new(0), self.shared.all_cells());
        let close = || {
            let _io = self.shared.options.io.enter();
            while Instant::now() < until
                && let Some(cell) = cells.get(next.fetch_add(1, Ordering::Relaxed))
            {
                if !cell.control.give_up.load(Ordering::SeqCst) {
                    cell.task.lock().drop_instance(&cell.control);
                }
            }
        };
        let (done, all_done) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let start = |_| {
                let done = done.clone();
                let thread = std::thread::Builder::new().stack_size(worker::STACK);
                // If no thread can be started, instances end with the process.
                let started = thread.spawn_scoped(scope, move || {
                    close();
                    drop(done);
                });
                started.ok()
            };
            let threads: Vec<_> = (0..self.shared.options.workers).filter_map(start).collect();
            drop(done);
            let left = until.saturating_duration_since(Instant::now());
            if all_done.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
                tracing::warn!(
                    "drain-timeout has passed: instances that are still being closed are dropped"
                );
                self.give_up();
            }
            // A handle that is dropped detaches its thread, which glibc does wrongly to one that is ending.
            for thread in threads {
                let _ = thread.join();
            }
        });
    }

    fn halt(&mut self) {
        self.shared.queue.stop();
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.thread().unpark();
            let _ = watchdog.join();
        }
        loop {
            let Some(thread) = self.shared.threads.lock().pop() else {
                break;
            };
            let _ = thread.join();
        }
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.halt();
    }
}

/// Wakes tasks.
#[derive(Clone)]
pub struct Waker(Arc<Shared>);

impl Waker {
    /// The task has something to do.
    pub fn wake(&self, task: TaskIndex) {
        self.0.queue.wake(task);
    }
}

impl Shared {
    /// A worker has found work.
    fn wake_watchdog(&self) {
        if self.asleep.load(Ordering::SeqCst)
            && let Some(watchdog) = self.watchdog.get()
        {
            watchdog.unpark();
        }
    }

    fn report(&self, notice: Notice) {
        (self.notices)(notice);
    }

    /// Wakes a task at a time.
    fn wake_at(self: &Arc<Shared>, task: TaskIndex, at: Instant) {
        let waker = Waker(Arc::clone(self));
        self.options.io.spawn(async move {
            tokio::time::sleep_until(at.into()).await;
            waker.wake(task);
        });
    }

    /// The task in a place.
    fn cell(&self, place: TaskIndex) -> Option<Arc<Cell>> {
        self.cells.read().get(place.0)?.clone()
    }

    /// Tasks that run give up committed values when all together hold too many. Those that do not run are seen to here: the next that has
    /// something to give up.
    fn trim_one(&self) {
        const LOOKS: usize = 16;
        let cells = self.cells.read();
        for _ in 0..LOOKS.min(cells.len()) {
            let next = self.trimmed.fetch_add(1, Ordering::Relaxed);
            let Some(cell) = &cells[next % cells.len()] else {
                continue;
            };
            if let Some(mut task) = cell.task.try_lock()
                && task.trim()
            {
                return;
            }
        }
    }

    fn all_cells(&self) -> Vec<Arc<Cell>> {
        self.cells.read().iter().flatten().cloned().collect()
    }

    /// A task leaves its place. That is reported when it is dropped.
    fn leave(&self, cell: &Arc<Cell>) {
        self.instances.forget(cell);
        self.cells.write()[cell.index.0] = None;
    }
}
