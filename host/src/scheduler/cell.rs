//! A task in the scheduler: its lock, where it stands, and what it was asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::TaskIndex;
use crate::model::{Epoch, TaskId};
use crate::task::{StepControl, Task};

/// Nothing to do.
const IDLE: u8 = 0;
/// In the queue.
const QUEUED: u8 = 1;
/// A thread runs it.
const RUNNING: u8 = 2;
/// A thread runs it, and it was woken meanwhile.
const WOKEN: u8 = 3;

pub(super) struct Cell {
    pub(super) index: TaskIndex,
    pub(super) id: TaskId,
    pub(super) task: Mutex<Task>,
    pub(super) control: StepControl,
    place: AtomicU8,
    /// Asked to seal for this epoch; 0: not asked.
    seal: AtomicU64,
    /// When it was asked.
    pub(super) asked: Mutex<Option<Instant>>,
    /// Asked to give up the sealed epoch of this number or before; 0: not asked.
    release: AtomicU64,
    /// It is in the list of tasks with changes.
    pub(super) listed: AtomicBool,
    /// Bytes of its open epoch, as last reported.
    pub(super) reported: AtomicU64,
    /// `Ended` or `Failed` has been said.
    pub(super) over: AtomicBool,
    /// The order in which instances were last used.
    pub(super) last_used: AtomicU64,
}

impl Cell {
    pub(super) fn new(index: TaskIndex, task: Task) -> Cell {
        Cell {
            index,
            id: task.id(),
            task: Mutex::new(task),
            control: StepControl::default(),
            place: AtomicU8::new(IDLE),
            seal: AtomicU64::new(0),
            asked: Mutex::new(None),
            release: AtomicU64::new(0),
            listed: AtomicBool::new(false),
            reported: AtomicU64::new(0),
            over: AtomicBool::new(false),
            last_used: AtomicU64::new(0),
        }
    }

    pub(super) fn ask_to_seal(&self, epoch: Epoch, now: Instant) {
        *self.asked.lock() = Some(now);
        self.seal.store(epoch.0, Ordering::Release);
        self.control.end_batch.store(true, Ordering::Release);
    }

    pub(super) fn ask_to_release(&self, epoch: Epoch) {
        self.release.store(epoch.0, Ordering::Release);
    }

    pub(super) fn take_seal(&self) -> Option<Epoch> {
        match self.seal.swap(0, Ordering::AcqRel) {
            0 => None,
            epoch => Some(Epoch(epoch)),
        }
    }

    pub(super) fn take_release(&self) -> bool {
        self.release.swap(0, Ordering::AcqRel) != 0
    }

    /// It was asked something that it must do before its next batch.
    pub(super) fn is_asked(&self) -> bool {
        self.seal.load(Ordering::Acquire) != 0 || self.release.load(Ordering::Acquire) != 0
    }

    /// Wakes it. Whether it must be put into the queue.
    pub(super) fn wake(&self) -> bool {
        let mut place = self.place.load(Ordering::Acquire);
        loop {
            let next = match place {
                IDLE => QUEUED,
                RUNNING => WOKEN,
                _ => return false,
            };
            match self
                .place
                .compare_exchange_weak(place, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return next == QUEUED,
                Err(now) => place = now,
            }
        }
    }

    /// A thread takes it out of the queue.
    pub(super) fn begin(&self) {
        self.place.store(RUNNING, Ordering::Release);
    }

    /// A thread is done with it. Whether it must be put into the queue again.
    pub(super) fn end(&self, again: bool) -> bool {
        if again {
            self.place.store(QUEUED, Ordering::Release);
            return true;
        }
        match self
            .place
            .compare_exchange(RUNNING, IDLE, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => false,
            Err(_) => {
                self.place.store(QUEUED, Ordering::Release);
                true
            }
        }
    }
}

/// What a worker thread shows to the watchdog.
#[derive(Default)]
pub(super) struct Beat {
    /// The task it runs.
    pub(super) cell: Mutex<Option<Arc<Cell>>>,
    /// Its place was taken away.
    pub(super) taken: AtomicBool,
    /// Tasks run so far.
    pub(super) runs: AtomicU64,
}
