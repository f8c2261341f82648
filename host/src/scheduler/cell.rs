//! A task in the scheduler: its lock, and what it was asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::TaskIndex;
use super::lists::Seat;
use super::room::Share;
use crate::model::{Epoch, TaskId};
use crate::task::{StepControl, Task};

pub(super) struct Cell {
    pub(super) index: TaskIndex,
    pub(super) id: TaskId,
    pub(super) task: Mutex<Task>,
    pub(super) control: StepControl,
    /// Asked to seal for this epoch; 0: not asked.
    seal: AtomicU64,
    /// When it was asked.
    pub(super) asked: Mutex<Option<Instant>>,
    /// Asked to give up the sealed epoch.
    release: AtomicBool,
    /// It is in the list of tasks with changes.
    pub(super) listed: AtomicBool,
    /// Its part of what is uncommitted.
    pub(super) share: Share,
    /// `Ended` or `Failed` has been said.
    pub(super) over: AtomicBool,
    /// Its instance was used since somebody last looked for one to drop.
    pub(super) used: AtomicBool,
}

impl Cell {
    pub(super) fn new(index: TaskIndex, task: Task) -> Cell {
        Cell {
            index,
            id: task.id(),
            task: Mutex::new(task),
            control: StepControl::default(),
            seal: AtomicU64::new(0),
            asked: Mutex::new(None),
            release: AtomicBool::new(false),
            listed: AtomicBool::new(false),
            share: Share::default(),
            over: AtomicBool::new(false),
            used: AtomicBool::new(false),
        }
    }

    /// What the run that follows [`super::queue::Queue::ask`] finds.
    pub(super) fn ask_to_seal(&self, epoch: Epoch, now: Instant) {
        *self.asked.lock() = Some(now);
        // Before the epoch: whoever takes that clears this.
        self.control.end_batch.store(true, Ordering::SeqCst);
        self.seal.store(epoch.0, Ordering::SeqCst);
    }

    pub(super) fn ask_to_release(&self) {
        self.release.store(true, Ordering::SeqCst);
    }

    pub(super) fn take_seal(&self) -> Option<Epoch> {
        // Nearly always there is nothing to take: a look is cheaper than an exchange.
        match self.seal.load(Ordering::SeqCst) {
            0 => None,
            _ => match self.seal.swap(0, Ordering::SeqCst) {
                0 => None,
                epoch => Some(Epoch(epoch)),
            },
        }
    }

    pub(super) fn take_release(&self) -> bool {
        self.release.load(Ordering::SeqCst) && self.release.swap(false, Ordering::SeqCst)
    }

    /// The epoch for which it has yet to seal.
    pub(super) fn awaited(&self) -> Option<Epoch> {
        match self.seal.load(Ordering::SeqCst) {
            0 => None,
            epoch => Some(Epoch(epoch)),
        }
    }
}

/// What a worker thread shows to the watchdog.
pub(super) struct Beat {
    /// The task it runs.
    pub(super) cell: Mutex<Option<Arc<Cell>>>,
    /// Where it sits. Changed under the lock of the run queue.
    pub(super) seat: Mutex<Seat>,
    /// Its seat was taken away.
    pub(super) moved: AtomicBool,
    /// A call in the run that goes on used the processor for long.
    pub(super) heavy: AtomicBool,
    /// Since when the watchdog has seen the running call.
    pub(super) since: Mutex<Option<Instant>>,
    /// Tasks run so far.
    pub(super) runs: AtomicU64,
    /// The thread's number in the kernel; 0: not known yet.
    pub(super) thread: AtomicU64,
}

impl Default for Beat {
    fn default() -> Beat {
        Beat {
            cell: Mutex::default(),
            seat: Mutex::new(Seat::None),
            moved: AtomicBool::new(false),
            heavy: AtomicBool::new(false),
            since: Mutex::default(),
            runs: AtomicU64::new(0),
            thread: AtomicU64::new(0),
        }
    }
}
