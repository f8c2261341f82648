//! All orders in which the steps of readers, workers, the watchdog and the coordinator can come, for a few tasks and messages.
//!
//! [`Lists`] is the real one: each of its methods is one step, because a lock is held around it. What lies outside of that lock
//! (what a task was asked, the count of uncommitted bytes, the list of changed tasks, the drain) is modelled atomic by atomic, in
//! the order of the code. A state in which no party can make a step must be a good end.

use std::collections::HashSet;

use super::lists::{After, Lists, Reason, Seat, Taken, TaskIndex};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Worker {
    Take,
    TakeSeal(Taken),
    TakeRelease(Taken, bool),
    ClearEndBatch(Taken),
    KeepEndBatch(Taken),
    Unlist(Taken),
    Seal(Taken, bool),
    SaySealed(Taken),
    Obeyed(Taken),
    LookForRoom(Taken),
    Step(Taken),
    List(Taken),
    Count(Taken, bool),
    Dirty(Taken, bool, bool),
    SayBytes(Taken, bool),
    End(Taken, After),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Coordinator {
    Idle,
    TakeDirty,
    EndBatch(usize),
    AskToSeal(usize),
    AskErrand(usize),
    Await,
    Release,
    AskToRelease(usize),
    AskReleaseErrand(usize),
    ReleaseHeld,
    Exit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Task {
    to_deliver: u8,
    delivered_unwoken: bool,
    inbox: u8,
    seal: bool,
    release: bool,
    end_batch: bool,
    listed: bool,
    open: u8,
    sealed: bool,
    own_sealed: u8,
    running: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    lists: Lists,
    tasks: Vec<Task>,
    workers: Vec<(Worker, Seat, bool)>,
    coordinator: Coordinator,
    barrier: Vec<TaskIndex>,
    sealed_said: usize,
    dirty: Vec<TaskIndex>,
    open: u8,
    sealed: u8,
    said: bool,
    changed: bool,
    bytes_due: bool,
    draining: bool,
    drain_wanted: bool,
    quiet: bool,
    moves: u8,
}

#[derive(Debug, Clone, Copy)]
struct Setting {
    tasks: usize,
    messages: u8,
    workers: usize,
    seats: usize,
    /// Uncommitted messages at which no batch begins.
    bytes_max: u8,
    /// Whether a barrier can come at any time, or by bytes alone.
    interval: bool,
    drain: bool,
    /// How often the watchdog moves a task.
    moves: u8,
    /// Messages that the first task has beyond those of the others.
    more_of_first: u8,
}

impl World {
    fn new(setting: &Setting) -> World {
        let task = Task {
            to_deliver: setting.messages,
            ..Task::default()
        };
        World {
            lists: Lists::new(setting.tasks, setting.seats),
            tasks: vec![task; setting.tasks],
            workers: vec![(Worker::Take, Seat::None, false); setting.workers],
            coordinator: Coordinator::Idle,
            barrier: Vec::new(),
            sealed_said: 0,
            dirty: Vec::new(),
            open: 0,
            sealed: 0,
            said: false,
            changed: false,
            bytes_due: false,
            draining: false,
            drain_wanted: setting.drain,
            quiet: false,
            moves: setting.moves,
        }
    }

    /// Every world that is one step away.
    fn next(&self, setting: &Setting) -> Vec<World> {
        let mut next = Vec::new();
        let mut step = |make: &dyn Fn(&mut World) -> bool| {
            let mut world = self.clone();
            if make(&mut world) {
                next.push(world);
            }
        };
        for task in 0..self.tasks.len() {
            step(&|world| world.reader(task));
        }
        for worker in 0..self.workers.len() {
            step(&|world| world.worker(worker, setting));
            for uses_processor in [false, true] {
                step(&|world| world.watchdog(worker, uses_processor));
            }
        }
        step(&|world| world.coordinate(setting));
        step(&World::drain);
        next
    }

    fn reader(&mut self, task: usize) -> bool {
        let state = &mut self.tasks[task];
        if state.delivered_unwoken {
            state.delivered_unwoken = false;
            self.lists.wake(TaskIndex(task));
            return true;
        }
        if state.to_deliver == 0 {
            return false;
        }
        state.to_deliver -= 1;
        state.inbox += 1;
        state.delivered_unwoken = true;
        true
    }

    fn watchdog(&mut self, worker: usize, uses_processor: bool) -> bool {
        let (at, seat, moved) = &mut self.workers[worker];
        if self.moves == 0 || *moved || !matches!(at, Worker::Step(_)) {
            return false;
        }
        self.moves -= 1;
        *seat = self.lists.move_over(*seat, uses_processor);
        *moved = true;
        true
    }

    fn worker(&mut self, worker: usize, setting: &Setting) -> bool {
        let (at, seat, moved) = self.workers[worker];
        let next = match at {
            Worker::Take => match self.lists.take() {
                None => return false,
                Some(taken) => {
                    let task = &mut self.tasks[taken.task.0];
                    assert!(!task.running, "two threads run a task");
                    task.running = true;
                    self.workers[worker].1 = taken.seat;
                    self.workers[worker].2 = false;
                    Worker::TakeSeal(taken)
                }
            },
            Worker::TakeSeal(taken) => {
                let seal = std::mem::take(&mut self.tasks[taken.task.0].seal);
                Worker::TakeRelease(taken, seal)
            }
            Worker::TakeRelease(taken, seal) => {
                let task = &mut self.tasks[taken.task.0];
                if std::mem::take(&mut task.release) {
                    task.sealed = false;
                    task.own_sealed = 0;
                }
                match seal {
                    true => Worker::ClearEndBatch(taken),
                    false => Worker::Obeyed(taken),
                }
            }
            Worker::ClearEndBatch(taken) => {
                self.tasks[taken.task.0].end_batch = false;
                Worker::KeepEndBatch(taken)
            }
            Worker::KeepEndBatch(taken) => {
                self.tasks[taken.task.0].end_batch |= self.draining;
                Worker::Unlist(taken)
            }
            Worker::Unlist(taken) => {
                let listed = std::mem::take(&mut self.tasks[taken.task.0].listed);
                Worker::Seal(taken, listed)
            }
            Worker::Seal(taken, listed) => {
                let task = &mut self.tasks[taken.task.0];
                assert!(listed && task.open > 0, "a task seals without a change");
                assert!(
                    !task.sealed,
                    "a second epoch is sealed before the first is released"
                );
                let bytes = std::mem::take(&mut task.open);
                task.sealed = true;
                task.own_sealed += bytes;
                self.sealed += bytes;
                self.open -= bytes;
                if self.open < setting.bytes_max.div_ceil(2) {
                    self.said = false;
                }
                Worker::SaySealed(taken)
            }
            Worker::SaySealed(taken) => {
                self.sealed_said += 1;
                Worker::Obeyed(taken)
            }
            Worker::Obeyed(taken) => match (taken.reason, self.draining) {
                (Reason::Ready, false) => Worker::LookForRoom(taken),
                _ => Worker::End(taken, After::Idle),
            },
            Worker::LookForRoom(taken) => {
                let task = &self.tasks[taken.task.0];
                let full = self.open + self.sealed >= setting.bytes_max;
                match full && task.inbox > 0 {
                    true => Worker::End(taken, After::Held(taken.release)),
                    false => Worker::Step(taken),
                }
            }
            Worker::Step(taken) => {
                let task = &mut self.tasks[taken.task.0];
                match task.inbox {
                    0 => Worker::End(taken, After::Idle),
                    _ => {
                        task.inbox -= 1;
                        Worker::List(taken)
                    }
                }
            }
            Worker::List(taken) => {
                let new = !std::mem::replace(&mut self.tasks[taken.task.0].listed, true);
                Worker::Count(taken, new)
            }
            Worker::Count(taken, new) => {
                self.tasks[taken.task.0].open += 1;
                self.open += 1;
                let half = self.open >= setting.bytes_max.div_ceil(2)
                    && !std::mem::replace(&mut self.said, true);
                Worker::Dirty(taken, new, half)
            }
            Worker::Dirty(taken, new, half) => {
                if new {
                    self.dirty.push(taken.task);
                    // Reported right after the lock is released; a later report causes at most one more barrier.
                    self.changed |= self.dirty.len() == 1;
                }
                Worker::SayBytes(taken, half)
            }
            Worker::SayBytes(taken, half) => {
                self.bytes_due |= half;
                match moved {
                    true => Worker::End(taken, After::More),
                    false => Worker::TakeSeal(taken),
                }
            }
            Worker::End(taken, after) => {
                let heavy = (taken.reason == Reason::Ready).then_some(seat == Seat::Heavy);
                self.lists.end(taken.task, seat, after, heavy);
                self.tasks[taken.task.0].running = false;
                Worker::Take
            }
        };
        self.workers[worker].0 = next;
        true
    }

    fn coordinate(&mut self, setting: &Setting) -> bool {
        let next = match self.coordinator {
            Coordinator::Idle => {
                let due = self.changed && (setting.interval || self.bytes_due || self.draining);
                if !due && self.draining && self.lists.running() == 0 && !self.quiet {
                    self.quiet = true;
                    return true;
                }
                if !due && self.quiet {
                    Coordinator::Exit
                } else if due {
                    self.changed = false;
                    self.bytes_due = false;
                    self.said = false;
                    Coordinator::TakeDirty
                } else {
                    return false;
                }
            }
            Coordinator::TakeDirty => {
                self.barrier = std::mem::take(&mut self.dirty);
                self.barrier.sort_unstable();
                self.sealed_said = 0;
                Coordinator::EndBatch(0)
            }
            Coordinator::EndBatch(at) => match self.barrier.get(at) {
                None => Coordinator::Await,
                Some(task) => {
                    self.tasks[task.0].end_batch = true;
                    Coordinator::AskToSeal(at)
                }
            },
            Coordinator::AskToSeal(at) => {
                self.tasks[self.barrier[at].0].seal = true;
                Coordinator::AskErrand(at)
            }
            Coordinator::AskErrand(at) => {
                self.lists.ask(self.barrier[at]);
                Coordinator::EndBatch(at + 1)
            }
            Coordinator::Await if self.sealed_said < self.barrier.len() => return false,
            Coordinator::Await => Coordinator::Release,
            Coordinator::Release => {
                self.sealed = 0;
                Coordinator::AskToRelease(0)
            }
            Coordinator::AskToRelease(at) => match self.barrier.get(at) {
                None => Coordinator::ReleaseHeld,
                Some(task) => {
                    self.tasks[task.0].release = true;
                    Coordinator::AskReleaseErrand(at)
                }
            },
            Coordinator::AskReleaseErrand(at) => {
                self.lists.ask(self.barrier[at]);
                Coordinator::AskToRelease(at + 1)
            }
            Coordinator::ReleaseHeld => {
                self.lists.release();
                self.barrier.clear();
                Coordinator::Idle
            }
            Coordinator::Exit => return false,
        };
        self.coordinator = next;
        true
    }

    /// The coordinator is asked to stop while it waits for something.
    fn drain(&mut self) -> bool {
        let waits = matches!(self.coordinator, Coordinator::Idle | Coordinator::Await);
        if !self.drain_wanted || !waits {
            return false;
        }
        self.drain_wanted = false;
        self.draining = true;
        self.tasks.iter_mut().for_each(|task| task.end_batch = true);
        true
    }

    fn check_end(&self, setting: &Setting) {
        if setting.drain {
            assert_eq!(
                self.coordinator,
                Coordinator::Exit,
                "the drain does not end: {self:#?}"
            );
            assert!(
                self.tasks.iter().all(|task| task.open == 0),
                "something is left behind: {self:#?}"
            );
            return;
        }
        for task in &self.tasks {
            assert!(
                task.inbox == 0 && task.to_deliver == 0,
                "a message is never processed: {self:#?}"
            );
            assert!(
                !task.seal && !task.release,
                "a task has not done what it was asked: {self:#?}"
            );
            assert!(
                !task.end_batch,
                "batches end after each call for ever: {self:#?}"
            );
            assert!(
                !setting.interval || task.open == 0,
                "a change is never committed: {self:#?}"
            );
        }
        assert_eq!(
            self.coordinator,
            Coordinator::Idle,
            "a barrier does not end: {self:#?}"
        );
    }
}

/// Walks through every state. Returns how many there are.
fn explore(setting: &Setting) -> usize {
    let mut first = World::new(setting);
    // Tasks that differ in their number of messages differ in all else that can come of it.
    if let Some(task) = first.tasks.first_mut() {
        task.to_deliver += setting.more_of_first;
    }
    let mut seen = HashSet::from([first.clone()]);
    let mut open = vec![first];
    while let Some(world) = open.pop() {
        let next = world.next(setting);
        if next.is_empty() {
            world.check_end(setting);
        }
        for mut world in next {
            // Threads are alike.
            world.workers.sort_unstable();
            if seen.insert(world.clone()) {
                open.push(world);
            }
        }
    }
    seen.len()
}

const SMALL: Setting = Setting {
    tasks: 2,
    messages: 1,
    workers: 2,
    seats: 1,
    bytes_max: 2,
    interval: true,
    drain: false,
    moves: 0,
    more_of_first: 1,
};

#[test]
fn no_task_waits_for_ever_in_any_order_of_steps() {
    let more_workers = Setting {
        seats: 2,
        more_of_first: 0,
        ..SMALL
    };
    let by_bytes = Setting {
        interval: false,
        ..SMALL
    };
    let moved = Setting {
        more_of_first: 0,
        moves: 2,
        ..SMALL
    };
    let alone = Setting {
        tasks: 1,
        more_of_first: 3,
        moves: 1,
        ..SMALL
    };
    for setting in [SMALL, more_workers, by_bytes, moved, alone] {
        let states = explore(&setting);
        assert!(states > 1_000, "{setting:?}: {states} states");
    }
}

#[test]
fn every_drain_ends_in_any_order_of_steps() {
    let drained = Setting {
        drain: true,
        more_of_first: 0,
        ..SMALL
    };
    let alone = Setting {
        tasks: 1,
        more_of_first: 2,
        moves: 1,
        ..drained
    };
    for setting in [drained, alone] {
        let states = explore(&setting);
        assert!(states > 1_000, "{setting:?}: {states} states");
    }
}
