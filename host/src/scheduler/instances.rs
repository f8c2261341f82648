//! Which instances live, and which one is dropped to make room for another.
//!
//! The tasks with an instance stand in a ring. To make room, the first one is taken out: if its instance was used since the
//! last time, or a thread is at work with it, it goes to the end; otherwise its instance is dropped. (The clock algorithm, F. J.
//! Corbató, 1968, an approximation of the least recently used.) Each use buys a task one more round, so a drop takes constant
//! time, amortised over the uses.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::TaskIndex;
use super::cell::Cell;

pub(super) struct Instances {
    max: usize,
    alive: AtomicUsize,
    ring: Mutex<VecDeque<Arc<Cell>>>,
}

impl Instances {
    pub(super) fn new(max: usize) -> Instances {
        Instances {
            max,
            alive: AtomicUsize::new(0),
            ring: Mutex::default(),
        }
    }

    pub(super) fn alive(&self) -> usize {
        self.alive.load(Ordering::Relaxed)
    }

    /// The tasks that have one, or have had it a moment ago.
    pub(super) fn tasks(&self) -> Vec<TaskIndex> {
        self.ring.lock().iter().map(|cell| cell.index).collect()
    }

    /// Counts an instance that is about to be made, and makes room for it.
    pub(super) fn reserve(&self) {
        let one_more = |alive: usize| (alive < self.max).then_some(alive + 1);
        while self
            .alive
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more)
            .is_err()
        {
            if !self.drop_one() {
                // All of them are in use: briefly exceed the bound, rather than make a task wait.
                self.alive.fetch_add(1, Ordering::AcqRel);
                return;
            }
        }
    }

    /// Notes whether a task had a counted instance before a step, and has one after it.
    pub(super) fn note(&self, cell: &Arc<Cell>, before: bool, after: bool) {
        match (before, after) {
            (false, true) => {
                self.alive.fetch_add(1, Ordering::AcqRel);
            }
            (true, false) => {
                self.alive.fetch_sub(1, Ordering::AcqRel);
            }
            _ => {}
        }
        // A look is cheaper than a write to what other threads read.
        if after && !cell.used.load(Ordering::Relaxed) {
            cell.used.store(true, Ordering::Relaxed);
            let mut ring = self.ring.lock();
            if !cell.in_ring.swap(true, Ordering::Relaxed) {
                ring.push_back(Arc::clone(cell));
            }
        }
    }

    /// A task leaves the scheduler.
    pub(super) fn forget(&self, cell: &Arc<Cell>) {
        let mut ring = self.ring.lock();
        cell.gone.store(true, Ordering::Release);
        ring.retain(|other| !Arc::ptr_eq(other, cell));
    }

    /// Drops an instance that no thread is using; returns whether there was one.
    fn drop_one(&self) -> bool {
        // Two rounds: the first one clears every mark of use.
        let mut looks = 2 * self.ring.lock().len();
        while looks > 0 {
            looks -= 1;
            let Some(cell) = self.ring.lock().pop_front() else {
                return false;
            };
            if !cell.used.swap(false, Ordering::Relaxed)
                && let Some(mut task) = cell.task.try_lock()
            {
                // Out of the ring under the task's lock: its next use puts it back.
                let ring = self.ring.lock();
                cell.in_ring.store(false, Ordering::Relaxed);
                drop(ring);
                if !task.has_instance() {
                    continue;
                }
                task.drop_instance(&cell.control);
                self.alive.fetch_sub(1, Ordering::AcqRel);
                return true;
            }
            let mut ring = self.ring.lock();
            // It may have left while it was out of the ring.
            if !cell.gone.load(Ordering::Acquire) {
                ring.push_back(cell);
            }
        }
        false
    }
}
