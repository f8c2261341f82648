//! Worker threads: which task runs, for how long, and who takes over from a slow one.
//!
//! Runnable tasks wait in one queue that all workers share. A worker runs a task for a slice of time and puts it back. A
//! watchdog looks at the workers: where a single call of a guest lasts, it gives the worker's seat to another thread,
//! so a slow guest delays nobody but itself. Must never know checkpoints, connectors or configuration: a barrier is a
//! number, and what a task seals is handed on.
//!
//! [`lists`] decides who runs, [`room`] how much may be uncommitted, [`instances`] which instances live.
//!
//! Invariants: a task is run by one thread at a time; at most [`SchedulerOptions::workers`] threads run tasks with short calls,
//! and so many begin tasks with long ones; a task that is woken is looked at again, whatever it was doing.

mod cell;
mod instances;
mod lists;
mod queue;
mod room;
mod watchdog;
mod worker;

#[cfg(test)]
mod interleavings;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender};
use std::thread::{JoinHandle, Thread};
use std::time::Instant;

use parking_lot::Mutex;

use cell::{Beat, Cell};
use instances::Instances;
pub use lists::TaskIndex;
use queue::Queue;
use room::Room;

use crate::epoch::SealedTask;
use crate::model::{Epoch, TaskId};
use crate::runtime::Requests;
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
    2 * workers + watchdog::SPARE_THREADS
}

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
    /// An input begins at a place that a checkpoint must record before anything of it is read.
    Begun,
    /// A task stopped. `true`: at what it met first, as it may have done at every start before.
    Failed(TaskIndex, Box<TaskFailure>, bool),
}

struct Shared {
    cells: Vec<Arc<Cell>>,
    by_id: HashMap<TaskId, TaskIndex>,
    queue: Queue,
    options: SchedulerOptions,
    notices: Box<dyn Fn(Notice) + Send + Sync>,
    /// Tasks with changes in the open epoch.
    dirty: Mutex<Vec<TaskIndex>>,
    room: Room,
    instances: Instances,
    /// No batch starts any more.
    draining: AtomicBool,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// What each thread shows to the watchdog.
    beats: Mutex<Vec<Arc<Beat>>>,
    /// The watchdog sleeps because nobody works.
    asleep: AtomicBool,
    watchdog: std::sync::OnceLock<Thread>,
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
            queue: Queue::new(cells.len(), workers),
            cells,
            room: Room::new(options.bytes_max),
            instances: Instances::new(options.instances_max),
            options,
            notices,
            dirty: Mutex::default(),
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

    /// Sets a barrier: every task with changes seals, and answers with [`Notice::Sealed`]. Returns how many will.
    pub fn barrier(&self, epoch: Epoch) -> usize {
        // Said again for the next epoch, however much of it is there by the time the last task has sealed.
        self.shared.room.begin_epoch();
        let dirty = std::mem::take(&mut *self.shared.dirty.lock());
        let now = Instant::now();
        for index in &dirty {
            self.shared.cells[index.0].ask_to_seal(epoch, now);
        }
        self.shared.queue.ask(dirty.iter().copied());
        dirty.len()
    }

    /// The epoch is committed: the tasks in it give up their sealed layers, and processing may go on.
    pub fn released(&self, tasks: impl IntoIterator<Item = TaskId>) {
        self.shared.room.release();
        let known = |task: TaskId| self.shared.by_id.get(&task).copied();
        let tasks: Vec<TaskIndex> = tasks.into_iter().filter_map(known).collect();
        for index in &tasks {
            self.shared.cells[index.0].ask_to_release();
        }
        self.shared.queue.ask(tasks.into_iter());
        self.shared.queue.release();
    }

    /// The tasks that have yet to seal, and what each of them does, in words.
    pub fn awaited(&self) -> Vec<(TaskIndex, String)> {
        let awaited = |cell: &&Arc<Cell>| cell.awaited().is_some();
        let cells = self.shared.cells.iter().filter(awaited);
        cells.map(|cell| (cell.index, self.doing(cell))).collect()
    }

    /// The tasks that run, and what each of them does, in words.
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
        for cell in &self.shared.cells {
            cell.control.end_batch.store(true, Ordering::SeqCst);
        }
    }

    /// Whether a thread runs a task, slow ones included. What it had to say was said before it is no longer counted.
    pub fn is_busy(&self) -> bool {
        self.shared.queue.is_busy()
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
        self.shared.room.uncommitted()
    }

    /// Instances alive.
    pub fn instances(&self) -> usize {
        self.shared.instances.alive()
    }

    /// Stops the threads and ends the instances in good order, as far as that is done until `until`. A call that runs is
    /// waited for.
    pub fn stop(mut self, until: Instant) {
        self.halt();
        let next = AtomicUsize::new(0);
        let close = || {
            let _io = self.shared.options.io.enter();
            while Instant::now() < until
                && let Some(cell) = self.shared.cells.get(next.fetch_add(1, Ordering::Relaxed))
            {
                if !cell.control.give_up.load(Ordering::SeqCst) {
                    cell.task.lock().drop_instance(&cell.control);
                }
            }
        };
        let (done, all_done) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            for _ in 0..self.shared.options.workers {
                let done = done.clone();
                let thread = std::thread::Builder::new().stack_size(worker::STACK);
                // Where no thread can be had, instances end with the process.
                let _ = thread.spawn_scoped(scope, move || {
                    close();
                    drop(done);
                });
            }
            drop(done);
            let left = until.saturating_duration_since(Instant::now());
            if all_done.recv_timeout(left) == Err(RecvTimeoutError::Timeout) {
                tracing::warn!(
                    "drain-timeout has passed: instances that are still being closed are dropped"
                );
                self.give_up();
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

    fn say(&self, notice: Notice) {
        (self.notices)(notice);
    }
}
