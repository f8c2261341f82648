//! Worker threads: which task runs, for how long, and who takes over from a slow one.
//!
//! Runnable tasks wait in one queue that all workers share. A worker runs a task for a slice of time and puts it back. A
//! watchdog looks at the workers: where a single call of a guest lasts, it gives the worker's place to another thread,
//! so a slow guest delays nobody but itself. Must never know checkpoints, connectors or configuration: a barrier is a
//! number, and what a task seals is handed on.
//!
//! Invariants: a task is run by one thread at a time; at most [`SchedulerOptions::workers`] threads hold a place; a task
//! that is woken is looked at again, whatever it was doing.

mod cell;
mod queue;
mod watchdog;
mod worker;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::thread::{JoinHandle, Thread};
use std::time::Instant;

use parking_lot::Mutex;

use cell::{Beat, Cell};
use queue::Queue;

use crate::model::{Epoch, TaskId};
use crate::runtime::Requests;
use crate::state::SealedTask;
use crate::task::{Task, TaskFailure};

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

/// Threads that may run tasks at a time, slow ones included: so many instances more than the bound may live for a moment.
pub fn threads_max(workers: usize) -> usize {
    workers + watchdog::SPARE_THREADS
}

/// A task by its place in the scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskIndex(pub usize);

/// What the scheduler has to say.
pub enum Notice {
    /// The open epoch has its first change.
    Changed,
    /// Half of the bytes that may be uncommitted are.
    Bytes,
    /// A guest asked for something, in a batch that is kept.
    Requested(TaskIndex, Requests),
    /// A task has sealed for a barrier; `None`: nothing had changed in the end.
    Sealed(TaskIndex, Epoch, Option<Box<SealedTask>>),
    /// A task has nothing more to do: its inputs have ended.
    Ended(TaskIndex),
    /// A task stopped.
    Failed(TaskIndex, Box<TaskFailure>),
}

struct Shared {
    cells: Vec<Arc<Cell>>,
    by_id: HashMap<TaskId, TaskIndex>,
    queue: Queue,
    options: SchedulerOptions,
    notices: Box<dyn Fn(Notice) + Send + Sync>,
    /// Tasks with changes in the open epoch.
    dirty: Mutex<Vec<TaskIndex>>,
    /// Bytes of open epochs.
    open_bytes: AtomicUsize,
    /// Bytes of the epoch that is sealed or being committed.
    sealed_bytes: AtomicUsize,
    /// `Notice::Bytes` has been sent for the open epoch.
    bytes_said: AtomicBool,
    /// Instances alive.
    instances: AtomicUsize,
    /// No batch starts any more.
    draining: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// What each thread shows to the watchdog.
    beats: Mutex<Vec<Arc<Beat>>>,
    /// The watchdog sleeps because nobody works.
    asleep: AtomicBool,
    watchdog: std::sync::OnceLock<Thread>,
    /// Threads that run a task.
    running: AtomicUsize,
    /// Counts uses of instances.
    uses: AtomicU64,
}

/// The scheduler. Dropping it stops its threads after the calls that run.
pub struct Scheduler {
    shared: Arc<Shared>,
    watchdog: Option<JoinHandle<()>>,
}

impl Scheduler {
    /// Starts the workers. Tasks run once they are woken.
    pub fn start(
        tasks: Vec<Task>,
        options: SchedulerOptions,
        notices: Sender<Notice>,
    ) -> Scheduler {
        let notices = move |notice| {
            // The coordinator is gone only when the process is about to be.
            let _ = notices.send(notice);
        };
        Scheduler::with(tasks, options, Box::new(notices))
    }

    /// As [`Scheduler::start`], with a function that takes the notices.
    pub fn with(
        tasks: Vec<Task>,
        options: SchedulerOptions,
        notices: Box<dyn Fn(Notice) + Send + Sync>,
    ) -> Scheduler {
        let cells = tasks
            .into_iter()
            .enumerate()
            .map(|(index, task)| Arc::new(Cell::new(TaskIndex(index), task)));
        let cells: Vec<Arc<Cell>> = cells.collect();
        let workers = options.workers;
        let shared = Arc::new(Shared {
            by_id: cells.iter().map(|cell| (cell.id, cell.index)).collect(),
            cells,
            queue: Queue::new(workers),
            options,
            notices,
            dirty: Mutex::default(),
            open_bytes: AtomicUsize::new(0),
            sealed_bytes: AtomicUsize::new(0),
            bytes_said: AtomicBool::new(false),
            instances: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            threads: Mutex::default(),
            beats: Mutex::default(),
            asleep: AtomicBool::new(false),
            watchdog: std::sync::OnceLock::new(),
            running: AtomicUsize::new(0),
            uses: AtomicU64::new(1),
        });
        for _ in 0..workers {
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

    /// Sets a barrier: every task with changes seals, and answers with [`Notice::Sealed`]. Returns how many will.
    pub fn barrier(&self, epoch: Epoch) -> usize {
        // Said again for the next epoch, however much of it is there by the time the last task has sealed.
        self.shared.bytes_said.store(false, Ordering::Release);
        let dirty = std::mem::take(&mut *self.shared.dirty.lock());
        for index in &dirty {
            self.shared.cells[index.0].ask_to_seal(epoch, Instant::now());
            self.shared.queue.push_control(&self.shared.cells[index.0]);
        }
        dirty.len()
    }

    /// The epoch is committed: the tasks in it give up their sealed layers, and processing may go on.
    pub fn released(&self, tasks: impl IntoIterator<Item = TaskId>, epoch: Epoch) {
        self.shared.sealed_bytes.store(0, Ordering::Release);
        for task in tasks {
            if let Some(index) = self.shared.by_id.get(&task) {
                let cell = &self.shared.cells[index.0];
                cell.ask_to_release(epoch);
                self.shared.queue.push_control(cell);
            }
        }
        self.shared.queue.reopen(!self.shared.is_full());
    }

    /// No batch starts any more, and the ones that run end after their running call.
    pub fn drain(&self) {
        self.shared.draining.store(true, Ordering::SeqCst);
        for cell in &self.shared.cells {
            cell.control.end_batch.store(true, Ordering::SeqCst);
        }
    }

    /// Whether a thread runs a task, slow ones included. What it had to say was said before it is no longer counted.
    pub fn is_busy(&self) -> bool {
        self.shared.running.load(Ordering::SeqCst) > 0
    }

    /// The drain's time is over: calls that are interrupted from now on are undone, and that is no fault.
    pub fn give_up(&self) {
        for cell in &self.shared.cells {
            cell.control.give_up.store(true, Ordering::SeqCst);
        }
        (self.shared.options.interrupt)();
    }

    /// Uncommitted bytes: of the open epoch, and of the one that is being committed.
    pub fn uncommitted(&self) -> (usize, usize) {
        (
            self.shared.open_bytes.load(Ordering::Relaxed),
            self.shared.sealed_bytes.load(Ordering::Relaxed),
        )
    }

    /// Instances alive.
    pub fn instances(&self) -> usize {
        self.shared.instances.load(Ordering::Relaxed)
    }

    /// Stops the threads and ends the instances in good order, unless the time for that is over. A call that runs is waited
    /// for.
    pub fn stop(mut self) {
        self.halt();
        for cell in &self.shared.cells {
            if !cell.control.give_up.load(Ordering::SeqCst) {
                cell.task.lock().drop_instance();
            }
        }
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
        self.0.queue.push(&self.0.cells[task.0]);
    }
}

impl Shared {
    /// Whether no batch may start because too much is uncommitted.
    fn is_full(&self) -> bool {
        let open = self.open_bytes.load(Ordering::Acquire);
        let sealed = self.sealed_bytes.load(Ordering::Acquire);
        open.saturating_add(sealed) >= self.options.bytes_max
    }

    /// A worker has found work.
    fn wake_watchdog(&self) {
        if self.asleep.load(Ordering::SeqCst)
            && let Some(watchdog) = self.watchdog.get()
        {
            watchdog.unpark();
        }
    }

    fn say(&self, notice: Notice) {
        (self.notices)(notice);
    }
}
