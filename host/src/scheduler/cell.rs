//! A task in the scheduler: its lock, and its mail.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::TaskIndex;
use super::gate::Share;
use super::lists::Seat;
use crate::model::Epoch;
use crate::task::{CodeSource, Resume, StepControl, Task};

/// What a task is asked. Asks are taken in their order, between two batches.
#[derive(Clone)]
pub(super) enum Ask {
    /// Freeze what the open epoch has, for this epoch. Asked at this time. If there is other code, it has the next batch.
    Seal(Epoch, Instant, Option<Arc<dyn CodeSource>>),
    /// The sealed epoch is committed.
    Release,
    /// Begin no batch any more, and end the instance.
    Stop,
    /// Go on although it is held.
    Resume(Resume),
    /// Go on although the code before does not come back, if it has this code.
    GoOn(u64),
    /// Leave the scheduler. Nothing is asked after that.
    Leave,
}

#[derive(Default)]
struct Mail {
    asks: Mutex<VecDeque<Ask>>,
    /// Whether there are any. Usually there are none, and reading this is cheaper than the lock.
    any: AtomicBool,
}

pub(super) struct Cell {
    pub(super) index: TaskIndex,
    pub(super) task: Mutex<Task>,
    pub(super) control: StepControl,
    mail: Mail,
    /// The epoch that it was asked to seal for and has not; 0: none.
    awaited: AtomicU64,
    /// Whether it has reported changes in the open epoch.
    pub(super) changed: AtomicBool,
    /// Its part of what is uncommitted.
    pub(super) share: Share,
    /// Whether it has ended, failed or stopped, and has reported so: it processes no more batches.
    pub(super) over: AtomicBool,
    /// Whether its instance was used since the ring of instances last looked.
    pub(super) used: AtomicBool,
    /// Whether it is in the ring of instances. Changed under the ring's lock.
    pub(super) in_ring: AtomicBool,
    /// It has left the scheduler. Set under the ring's lock.
    pub(super) gone: AtomicBool,
}

impl Cell {
    pub(super) fn new(index: TaskIndex, task: Task) -> Cell {
        Cell {
            index,
            task: Mutex::new(task),
            control: StepControl::default(),
            mail: Mail::default(),
            awaited: AtomicU64::new(0),
            changed: AtomicBool::new(false),
            share: Share::default(),
            over: AtomicBool::new(false),
            used: AtomicBool::new(false),
            in_ring: AtomicBool::new(false),
            gone: AtomicBool::new(false),
        }
    }

    /// Puts something into the mail. The run that follows [`super::queue::Queue::ask`] finds it.
    pub(super) fn ask(&self, ask: Ask) {
        if let Ask::Seal(epoch, ..) = ask {
            self.awaited.store(epoch.0, Ordering::SeqCst);
        }
        let ends_batch = matches!(ask, Ask::Seal(..) | Ask::Stop);
        let mut asks = self.mail.asks.lock();
        asks.push_back(ask);
        self.mail.any.store(true, Ordering::SeqCst);
        if ends_batch {
            // Under the lock, so that the run that takes the ask clears this after it.
            self.control.end_batch.store(true, Ordering::SeqCst);
        }
    }

    /// Takes the oldest ask.
    pub(super) fn take_ask(&self) -> Option<Ask> {
        if !self.mail.any.load(Ordering::SeqCst) {
            return None;
        }
        let mut asks = self.mail.asks.lock();
        let ask = asks.pop_front();
        if asks.is_empty() {
            self.mail.any.store(false, Ordering::SeqCst);
        }
        ask
    }

    /// It has sealed for the epoch that it was asked for.
    pub(super) fn note_sealed(&self) {
        self.awaited.store(0, Ordering::SeqCst);
    }

    /// The epoch for which it has yet to seal.
    pub(super) fn awaited(&self) -> Option<Epoch> {
        match self.awaited.load(Ordering::SeqCst) {
            0 => None,
            epoch => Some(Epoch(epoch)),
        }
    }
}

/// What a worker thread shows to the watchdog.
pub(super) struct Beat {
    /// The task it runs.
    pub(super) cell: Mutex<Option<Arc<Cell>>>,
    /// Its seat. Changed under the lock of the run queue.
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
