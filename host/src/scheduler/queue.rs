//! The run queue, and the places of the workers.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::cell::Cell;

#[derive(Default)]
struct Waiting {
    /// Tasks that were asked something: served first, also while no batch may start.
    control: VecDeque<Arc<Cell>>,
    run: VecDeque<Arc<Cell>>,
    /// Threads that hold a place.
    active: usize,
    /// Threads that wait for one.
    parked: usize,
    /// Whether batches may start.
    open: bool,
    stopped: bool,
}

pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    places: usize,
}

impl Queue {
    pub(super) fn new(places: usize) -> Queue {
        let waiting = Waiting {
            open: true,
            ..Waiting::default()
        };
        Queue {
            waiting: Mutex::new(waiting),
            changed: Condvar::new(),
            places,
        }
    }

    /// Wakes a task.
    pub(super) fn push(&self, cell: &Arc<Cell>) {
        if cell.wake() {
            self.waiting.lock().run.push_back(Arc::clone(cell));
            self.changed.notify_one();
        }
    }

    /// Wakes a task that was asked something.
    pub(super) fn push_control(&self, cell: &Arc<Cell>) {
        if cell.wake() {
            self.waiting.lock().control.push_back(Arc::clone(cell));
            self.changed.notify_one();
            return;
        }
        // It waits in the queue already, perhaps behind others or a closed gate: it comes first now.
        let mut waiting = self.waiting.lock();
        if let Some(at) = waiting
            .run
            .iter()
            .position(|other| Arc::ptr_eq(other, cell))
            && let Some(cell) = waiting.run.remove(at)
        {
            waiting.control.push_back(cell);
            self.changed.notify_one();
        }
    }

    /// Puts a task back that has more to do.
    pub(super) fn push_again(&self, cell: &Arc<Cell>) {
        let mut waiting = self.waiting.lock();
        if cell.is_asked() {
            waiting.control.push_back(Arc::clone(cell));
        } else {
            waiting.run.push_back(Arc::clone(cell));
        }
        self.changed.notify_one();
    }

    /// The next task, and a place to run it. `None`: the threads are to end.
    pub(super) fn take(&self) -> Option<Arc<Cell>> {
        let mut waiting = self.waiting.lock();
        loop {
            if waiting.stopped {
                return None;
            }
            if waiting.active < self.places {
                let open = waiting.open;
                let next = waiting.control.pop_front();
                if let Some(cell) =
                    next.or_else(|| if open { waiting.run.pop_front() } else { None })
                {
                    waiting.active += 1;
                    return Some(cell);
                }
            }
            waiting.parked += 1;
            self.changed.wait(&mut waiting);
            waiting.parked -= 1;
        }
    }

    /// A thread gives its place back, unless the watchdog took it away: both decide under the same lock.
    pub(super) fn give_back(&self, was_taken: impl FnOnce() -> bool) {
        let mut waiting = self.waiting.lock();
        if !was_taken() {
            waiting.active -= 1;
            self.changed.notify_one();
        }
    }

    /// Takes the place of a thread that is slow, if `still` says so. Returns whether a thread must be made to use it.
    pub(super) fn take_place(&self, still: impl FnOnce() -> bool) -> Option<NeedsThread> {
        let mut waiting = self.waiting.lock();
        if !still() {
            return None;
        }
        waiting.active -= 1;
        self.changed.notify_one();
        Some(NeedsThread(waiting.parked == 0))
    }

    /// Whether others wait for a place.
    pub(super) fn has_waiting(&self) -> bool {
        let waiting = self.waiting.lock();
        !waiting.run.is_empty() || !waiting.control.is_empty()
    }

    pub(super) fn is_busy(&self) -> bool {
        self.waiting.lock().active > 0
    }

    pub(super) fn reopen(&self, open: bool) {
        self.waiting.lock().open = open;
        if open {
            self.changed.notify_all();
        }
    }

    pub(super) fn stop(&self) {
        self.waiting.lock().stopped = true;
        self.changed.notify_all();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.waiting.lock().stopped
    }
}

/// Whether no thread is parked.
pub(super) struct NeedsThread(pub(super) bool);
