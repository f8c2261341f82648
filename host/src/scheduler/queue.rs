//! The run queue as threads see it: [`Lists`] under a lock, and a place to wait.

use parking_lot::{Condvar, Mutex};

use super::TaskIndex;
use super::lists::{After, Lists, Seat, Taken};

struct Waiting {
    lists: Lists,
    /// Threads that wait for a task.
    parked: usize,
    stopped: bool,
}

pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

/// The outcome of a run.
pub(super) struct Run {
    pub(super) task: TaskIndex,
    pub(super) after: After,
    /// Whether a call in it used the processor for long; `None` if no batch was processed.
    pub(super) heavy: Option<bool>,
}

impl Queue {
    /// A queue of `tasks` idle tasks, with `seats` of each kind.
    pub(super) fn new(tasks: usize, seats: usize) -> Queue {
        let waiting = Waiting {
            lists: Lists::new(tasks, seats),
            parked: 0,
            stopped: false,
        };
        Queue {
            waiting: Mutex::new(waiting),
            changed: Condvar::new(),
        }
    }

    /// A place for one more task.
    pub(super) fn add(&self) -> TaskIndex {
        self.waiting.lock().lists.add()
    }

    /// There may be something for the task to process.
    pub(super) fn wake(&self, task: TaskIndex) {
        if self.waiting.lock().lists.wake(task) {
            self.changed.notify_one();
        }
    }

    /// Tasks were asked something. Their next runs find it in their mail.
    pub(super) fn ask(&self, tasks: impl Iterator<Item = TaskIndex>) {
        let mut waiting = self.waiting.lock();
        let asked = tasks.filter(|task| waiting.lists.ask(*task)).count();
        drop(waiting);
        // One wake-up for each of many tasks would cost more than their errands.
        match asked {
            0 => {}
            1 => _ = self.changed.notify_one(),
            _ => _ = self.changed.notify_all(),
        }
    }

    /// Ends a run and takes the next task; `seat` is the seat of the thread, which the watchdog changes under the same lock. `None`:
    /// the thread must end.
    pub(super) fn next(&self, ended: Option<Run>, seat: &Mutex<Seat>) -> Option<Taken> {
        let mut waiting = self.waiting.lock();
        if let Some(run) = ended {
            let seat = std::mem::replace(&mut *seat.lock(), Seat::None);
            waiting.lists.end(run.task, seat, run.after, run.heavy);
            // The task that is put back may need another kind of seat than this thread takes next.
            if waiting.parked > 0 && waiting.lists.has_waiting() {
                self.changed.notify_one();
            }
        }
        loop {
            if waiting.stopped {
                return None;
            }
            if let Some(taken) = waiting.lists.take() {
                *seat.lock() = taken.seat;
                return Some(taken);
            }
            waiting.parked += 1;
            self.changed.wait(&mut waiting);
            waiting.parked -= 1;
        }
    }

    /// The call of a task has lasted too long: it gives its seat away, if `still` returns true. Returns whether a thread must be
    /// started to use the seat.
    pub(super) fn move_over(
        &self,
        seat: &Mutex<Seat>,
        uses_processor: bool,
        still: impl FnOnce() -> bool,
    ) -> bool {
        let mut waiting = self.waiting.lock();
        let mut seat = seat.lock();
        if !still() {
            return false;
        }
        *seat = waiting.lists.move_over(*seat, uses_processor);
        self.changed.notify_one();
        waiting.parked == 0
    }

    /// Memory was released: tasks that wait for it may try again.
    pub(super) fn release(&self) {
        if self.waiting.lock().lists.release() {
            self.changed.notify_all();
        }
    }

    /// Whether others wait for a seat.
    pub(super) fn has_waiting(&self) -> bool {
        self.waiting.lock().lists.has_waiting()
    }

    /// Whether a task runs.
    pub(super) fn is_busy(&self) -> bool {
        self.waiting.lock().lists.running() > 0
    }

    /// What a task is doing or waiting for, in words.
    pub(super) fn describe(&self, task: TaskIndex) -> &'static str {
        self.waiting.lock().lists.describe(task)
    }

    pub(super) fn stop(&self) {
        self.waiting.lock().stopped = true;
        self.changed.notify_all();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.waiting.lock().stopped
    }
}
