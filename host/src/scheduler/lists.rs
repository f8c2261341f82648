//! Which tasks wait, run, or may run: every decision of the run queue, as plain data.
//!
//! One lock is held around each method, so each is one step to every thread. The tests walk through all orders in which the
//! steps of readers, workers, the watchdog and the coordinator can come.
//!
//! A task can be wanted for two reasons, which are kept apart. It was *asked* something (to seal, to give up a sealed epoch):
//! an errand, done before anything else and whatever else the task waits for. Or it was *woken*, because there may be a batch
//! to process.
//!
//! A running task has a *seat*. There are as many light seats as workers, and as many heavy ones. Tasks begin in a light seat.
//! One whose calls use the processor for long is moved to a heavy seat, even if none is free, and next time waits for one:
//! so it holds up only others of its kind. One whose call waits for something has no seat for as long as that lasts.
//!
//! Invariants: a task runs once at a time; a task that was asked or woken is run after that, whatever it was doing; in each
//! list a task stands at most once.

use std::collections::VecDeque;

/// A task by its place in the scheduler. The place stays its own while it is away, so it comes back to the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskIndex(pub usize);

/// The standing of a task. It may be in several lists; taking it from one leaves its entries in the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Standing {
    running: bool,
    /// Woken while it ran.
    woken: bool,
    /// Asked since its last run began.
    asked: bool,
    in_errands: bool,
    in_ready: bool,
    held: bool,
    /// Its last run used the processor for long.
    heavy: bool,
}

/// What a running task occupies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Seat {
    /// One of the places for tasks with short calls.
    Light,
    /// One of the places for tasks whose calls use the processor for long.
    Heavy,
    /// None: its call waits.
    None,
}

/// Why a task is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Reason {
    /// To do what it was asked, and process no batch.
    Errand,
    /// To process batches, after what it was asked.
    Ready,
}

/// A task to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Taken {
    pub(super) task: TaskIndex,
    pub(super) reason: Reason,
    pub(super) seat: Seat,
    /// The release of memory that had happened when it was taken: see [`After::Held`].
    pub(super) release: u64,
}

/// The outcome of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum After {
    /// Nothing is left to do until it is woken.
    Idle,
    /// There is more.
    More,
    /// There is more, but too much is uncommitted: it waits for the release after this one.
    Held(u64),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Lists {
    tasks: Vec<Standing>,
    errands: VecDeque<TaskIndex>,
    ready: VecDeque<TaskIndex>,
    ready_heavy: VecDeque<TaskIndex>,
    held: Vec<TaskIndex>,
    /// Seats of each kind.
    seats: usize,
    light: usize,
    heavy: usize,
    running: usize,
    /// How often memory has been released.
    releases: u64,
}

impl Lists {
    /// Starts with `tasks` idle tasks, and `seats` of each kind.
    pub(super) fn new(tasks: usize, seats: usize) -> Lists {
        Lists {
            tasks: vec![Standing::default(); tasks],
            seats,
            ..Lists::default()
        }
    }

    /// A place for one more task.
    pub(super) fn add(&mut self) -> TaskIndex {
        self.tasks.push(Standing::default());
        TaskIndex(self.tasks.len() - 1)
    }

    /// There may be something for the task to process. Returns whether a thread has work.
    pub(super) fn wake(&mut self, task: TaskIndex) -> bool {
        let standing = &mut self.tasks[task.0];
        if standing.running {
            standing.woken = true;
            return false;
        }
        if standing.held || standing.in_ready {
            return false;
        }
        self.make_ready(task);
        true
    }

    /// The task was asked something; its next run finds the mail. Returns whether a thread has work.
    pub(super) fn ask(&mut self, task: TaskIndex) -> bool {
        let standing = &mut self.tasks[task.0];
        standing.asked = true;
        if standing.running || standing.in_errands {
            return false;
        }
        self.add_errand(task);
        true
    }

    /// The next task, and a seat for it.
    pub(super) fn take(&mut self) -> Option<Taken> {
        if self.light < self.seats {
            while let Some(task) = self.errands.pop_front() {
                self.tasks[task.0].in_errands = false;
                // A running task is listed again when its run ends, unless it has done the errand by then.
                if !self.tasks[task.0].running {
                    return Some(self.begin(task, Reason::Errand, Seat::Light));
                }
            }
            while let Some(task) = self.ready.pop_front() {
                if self.leave_ready(task) {
                    return Some(self.begin(task, Reason::Ready, Seat::Light));
                }
            }
        }
        while self.heavy < self.seats
            && let Some(task) = self.ready_heavy.pop_front()
        {
            if self.leave_ready(task) {
                return Some(self.begin(task, Reason::Ready, Seat::Heavy));
            }
        }
        None
    }

    /// Clears a task's mark when it leaves a ready list. Returns whether it can run now.
    fn leave_ready(&mut self, task: TaskIndex) -> bool {
        let standing = &mut self.tasks[task.0];
        standing.in_ready = false;
        standing.woken |= standing.running;
        !standing.running
    }

    fn begin(&mut self, task: TaskIndex, reason: Reason, seat: Seat) -> Taken {
        let standing = &mut self.tasks[task.0];
        standing.running = true;
        standing.asked = false;
        self.running += 1;
        self.sit(seat);
        Taken {
            task,
            reason,
            seat,
            release: self.releases,
        }
    }

    /// A run has ended. `heavy`: whether a call in it used the processor for long; `None` if no batch was processed.
    pub(super) fn end(&mut self, task: TaskIndex, seat: Seat, after: After, heavy: Option<bool>) {
        self.leave(seat);
        self.running -= 1;
        let standing = &mut self.tasks[task.0];
        standing.running = false;
        standing.heavy = heavy.unwrap_or(standing.heavy);
        let woken = std::mem::take(&mut standing.woken);
        let (in_ready, asked) = (standing.in_ready, standing.asked && !standing.in_errands);
        if asked {
            self.add_errand(task);
        }
        match after {
            After::Held(release) if release == self.releases => {
                if !std::mem::replace(&mut self.tasks[task.0].held, true) {
                    self.held.push(task);
                }
            }
            After::Idle if !woken => {}
            After::Idle | After::More | After::Held(_) => {
                if !in_ready && !self.tasks[task.0].held {
                    self.make_ready(task);
                }
            }
        }
    }

    /// A call of a running task has lasted too long. Returns its seat from now on.
    pub(super) fn move_over(&mut self, from: Seat, uses_processor: bool) -> Seat {
        let to = match (from, uses_processor) {
            (Seat::None, _) => Seat::None,
            (_, true) => Seat::Heavy,
            (_, false) => Seat::None,
        };
        self.leave(from);
        self.sit(to);
        to
    }

    /// Memory was released: tasks that wait for it may try again. Returns whether there are any.
    pub(super) fn release(&mut self) -> bool {
        self.releases += 1;
        let held = std::mem::take(&mut self.held);
        for task in &held {
            let standing = &mut self.tasks[task.0];
            standing.held = false;
            if standing.running {
                standing.woken = true;
            } else if !standing.in_ready {
                self.make_ready(*task);
            }
        }
        !held.is_empty()
    }

    /// Whether others could have the seat of a light task.
    pub(super) fn has_waiting(&self) -> bool {
        !self.errands.is_empty() || !self.ready.is_empty() || !self.ready_heavy.is_empty()
    }

    /// How many tasks run.
    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// What a task is doing or waiting for, in words.
    pub(super) fn describe(&self, task: TaskIndex) -> &'static str {
        let standing = &self.tasks[task.0];
        if standing.running {
            "it runs"
        } else if standing.in_errands {
            "it waits for a worker"
        } else if standing.held {
            "it waits until less is uncommitted"
        } else if standing.in_ready {
            "it waits for its turn"
        } else {
            "it is idle"
        }
    }

    fn make_ready(&mut self, task: TaskIndex) {
        let standing = &mut self.tasks[task.0];
        standing.in_ready = true;
        match standing.heavy {
            true => self.ready_heavy.push_back(task),
            false => self.ready.push_back(task),
        }
    }

    fn add_errand(&mut self, task: TaskIndex) {
        self.tasks[task.0].in_errands = true;
        self.errands.push_back(task);
    }

    fn sit(&mut self, seat: Seat) {
        match seat {
            Seat::Light => self.light += 1,
            Seat::Heavy => self.heavy += 1,
            Seat::None => {}
        }
    }

    fn leave(&mut self, seat: Seat) {
        match seat {
            Seat::Light => self.light -= 1,
            Seat::Heavy => self.heavy -= 1,
            Seat::None => {}
        }
    }
}
