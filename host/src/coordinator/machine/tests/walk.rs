//! Random walks: a machine beside a toy of everything else, which answers in any order that the real ones can.

use std::collections::{BTreeMap, VecDeque};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;

const TASKS: usize = 4;

/// A task in the toy scheduler.
#[derive(Default)]
struct Task {
    is_here: bool,
    has_stopped: bool,
    /// Changes of the open epoch, and of the sealed one.
    open: u64,
    sealed: u64,
    /// What it was asked, in order.
    mail: VecDeque<Ask>,
    /// It processes nothing any more.
    over: bool,
}

#[derive(Clone, Copy)]
enum Ask {
    Seal(Epoch),
    Release,
    Stop,
    Resume,
    Leave,
}

/// Everything but the machine.
struct World {
    random: StdRng,
    machine: Machine,
    tasks: Vec<Task>,
    /// What the machine will be told, in the order of each sender: the scheduler's threads share one.
    from_scheduler: VecDeque<Event>,
    from_commit: VecDeque<Event>,
    /// Tasks that are being made.
    making: Vec<TaskIndex>,
    sealed: BTreeMap<TaskIndex, u64>,
    now: Instant,
    draining: bool,
    made: u64,
    committed: u64,
    /// Changes of tasks that were abandoned.
    dropped: u64,
    goings: u64,
    resumptions: u64,
    ending: Option<Ending>,
}

impl World {
    fn new(seed: u64) -> World {
        let Script { machine, t0 } = Script::of(TASKS);
        let here = || Task {
            is_here: true,
            ..Task::default()
        };
        World {
            random: StdRng::seed_from_u64(seed),
            machine,
            tasks: (0..TASKS).map(|_| here()).collect(),
            from_scheduler: VecDeque::new(),
            from_commit: VecDeque::new(),
            making: Vec::new(),
            sealed: BTreeMap::new(),
            now: t0,
            draining: false,
            made: 0,
            committed: 0,
            dropped: 0,
            goings: 0,
            resumptions: 0,
            ending: None,
        }
    }

    fn any_task(&mut self) -> TaskIndex {
        TaskIndex(self.random.random_range(0..TASKS))
    }

    /// Something happens, of all that can.
    fn step(&mut self, wishes: bool) {
        self.now += Duration::from_millis(self.random.random_range(0..40));
        match self.random.random_range(0..13) {
            0..=2 => self.work(),
            3..=5 => self.obey(),
            6 | 7 => {
                if let Some(event) = self.from_scheduler.pop_front() {
                    self.tell(event);
                }
            }
            8 | 9 => {
                if let Some(event) = self.from_commit.pop_front() {
                    self.tell(event);
                }
            }
            10 if wishes => {
                let task = self.any_task();
                let wish = match self.random.random_range(0..7) {
                    6 => Wish::Abandon,
                    0 => Wish::Suspend,
                    1 => Wish::Retire,
                    2 => Wish::Restart(self.now + Duration::from_millis(50)),
                    3 => Wish::Start,
                    _ => Wish::Resume,
                };
                self.tell(Event::Wish(task, wish));
            }
            11 if wishes => self.hold(),
            10 | 11 => {
                let is_busy = self.tasks.iter().any(|task| !task.mail.is_empty());
                if self.draining && !is_busy && self.from_scheduler.is_empty() {
                    self.tell(Event::Quiet);
                }
            }
            _ => match self.making.pop() {
                Some(task) => self.tell(Event::Made(task)),
                None => self.tell(Event::Tick),
            },
        }
    }

    /// A task processes a batch.
    fn work(&mut self) {
        let index = self.any_task();
        let task = &mut self.tasks[index.0];
        if task.is_here && !task.over && !self.draining {
            self.made += 1;
            task.open += 1;
            if task.open == 1 {
                self.from_scheduler.push_back(Event::Changed(index));
            }
        }
    }

    /// A task fails, at what it met first or later, and is not wanted anew. Whether one could.
    fn fail(&mut self) -> bool {
        let index = self.any_task();
        let is_running = self.machine.phase(index) == Phase::Running;
        let task = &mut self.tasks[index.0];
        if !is_running || !task.is_here || task.over {
            return false;
        }
        task.over = true;
        let met = match self.random.random() {
            true => Met::First,
            false => Met::Later,
        };
        self.from_scheduler.push_back(Event::Failed(index, met));
        true
    }

    /// A task is held, if it can be: its last changes say so.
    fn hold(&mut self) {
        let index = self.any_task();
        let task = &mut self.tasks[index.0];
        if !task.is_here || task.over || self.draining {
            return;
        }
        self.made += 1;
        task.open += 1;
        if task.open == 1 {
            self.from_scheduler.push_back(Event::Changed(index));
        }
        task.over = true;
        self.from_scheduler.push_back(Event::Held(index));
    }

    /// A task does the first of what it was asked.
    fn obey(&mut self) {
        let index = self.any_task();
        let task = &mut self.tasks[index.0];
        match task.mail.pop_front() {
            None => {}
            Some(Ask::Seal(epoch)) => {
                assert_eq!(task.sealed, 0, "it seals twice without a release");
                task.sealed = std::mem::take(&mut task.open);
                let content = match task.sealed {
                    0 => Content::None,
                    changes => {
                        self.sealed.insert(index, changes);
                        Content::Some
                    }
                };
                let event = Event::Sealed(index, epoch, content);
                self.from_scheduler.push_back(event);
            }
            Some(Ask::Release) => task.sealed = 0,
            Some(Ask::Resume) => {
                assert!(task.over && !task.has_stopped, "it goes on unheld");
                task.over = false;
                self.resumptions += 1;
            }
            Some(Ask::Stop) => {
                task.over = true;
                task.has_stopped = true;
                self.from_scheduler.push_back(Event::Stopped(index));
            }
            Some(Ask::Leave) => {
                assert!(task.over && task.has_stopped, "it leaves at work");
                assert_eq!(task.sealed, 0, "it leaves what is being committed");
                let is_abandoned = self.machine.phase(index) == Phase::Leaving(Then::Abandon);
                assert!(task.open == 0 || is_abandoned, "it leaves changes behind");
                self.dropped += task.open;
                assert!(task.mail.is_empty(), "it is asked after it left");
                *task = Task::default();
                self.goings += 1;
                self.from_scheduler.push_back(Event::Left(index));
            }
        }
    }

    fn tell(&mut self, event: Event) {
        if self.ending.is_some() {
            return;
        }
        for command in self.machine.step(&event, self.now) {
            self.execute(command);
        }
    }

    /// Changes that were committed, or dropped, as those are of a task that is still to leave.
    fn over(&self) -> u64 {
        let tasks = self.tasks.iter().enumerate();
        let leaving = tasks.filter(|(index, _)| {
            self.machine.phase(TaskIndex(*index)) == Phase::Leaving(Then::Abandon)
        });
        let left: u64 = leaving.map(|(_, task)| task.open).sum();
        self.committed + self.dropped + left
    }

    fn ask(&mut self, task: TaskIndex, ask: Ask) {
        let task = &mut self.tasks[task.0];
        assert!(task.is_here, "a task is asked that is away");
        task.mail.push_back(ask);
    }

    fn execute(&mut self, command: Command) {
        match command {
            Command::Seal(epoch, _, tasks, _) => {
                for task in tasks {
                    self.ask(task, Ask::Seal(epoch));
                }
            }
            Command::Commit(epoch) => {
                self.committed += std::mem::take(&mut self.sealed).values().sum::<u64>();
                self.from_commit.push_back(committed(epoch.0));
                self.from_commit.push_back(delivered(epoch.0));
            }
            Command::Release(tasks) => {
                for task in tasks {
                    self.ask(task, Ask::Release);
                }
            }
            Command::StopTask(task) => self.ask(task, Ask::Stop),
            Command::Resume(task) => self.ask(task, Ask::Resume),
            Command::Remove(task) => self.ask(task, Ask::Leave),
            Command::Make(task) => {
                assert!(!self.tasks[task.0].is_here, "it is made while it is here");
                self.making.push(task);
            }
            Command::Put(task) => {
                assert!(!self.tasks[task.0].is_here, "it takes its place twice");
                self.tasks[task.0].is_here = true;
            }
            Command::Drain => self.draining = true,
            Command::Exit(ending) => self.ending = Some(ending),
            Command::Discard(_) | Command::GiveUp | Command::Answer(_) => {}
        }
    }
}

#[test]
fn tasks_come_and_go_in_any_order_and_everything_is_committed() {
    let (mut goings, mut resumptions, mut dropped) = (0, 0, 0);
    for seed in 0..300 {
        let mut world = World::new(seed);
        for _ in 0..3_000 {
            world.step(true);
        }
        while !world.from_scheduler.is_empty() {
            world.step(false);
        }
        // One that was held when it was taken away counts until it is made again.
        let ending = match world.machine.failed.is_empty() {
            true => Ending::Drained,
            false => Ending::Failed,
        };
        world.tell(Event::Stop);
        let mut steps = 0;
        while world.ending.is_none() {
            world.step(false);
            steps += 1;
            assert!(steps < 20_000, "seed {seed}: the drain does not end");
        }
        assert_eq!(world.ending, Some(ending), "seed {seed}");
        assert_eq!(world.over(), world.made, "seed {seed}");
        goings += world.goings;
        resumptions += world.resumptions;
        dropped += world.dropped;
    }
    assert!(dropped > 500, "{dropped} changes were dropped only");
    assert!(goings > 10_000, "tasks have gone {goings} times only");
    assert!(
        resumptions > 2_000,
        "tasks were resumed {resumptions} times only"
    );
}

#[test]
fn a_task_that_fails_ends_the_job_with_everything_committed() {
    for seed in 0..300 {
        let mut world = World::new(seed);
        for _ in 0..seed * 5 {
            world.step(true);
        }
        while !world.fail() {
            world.step(true);
        }
        let mut steps = 0;
        while world.ending.is_none() {
            // The others catch up at some time, or the reprieve ends.
            if seed % 2 == 0 && steps == 200 {
                world.tell(Event::CaughtUp);
            }
            // Nobody makes it again, which would be the end of its failure.
            world.step(false);
            steps += 1;
            assert!(steps < 20_000, "seed {seed}: the drain does not end");
        }
        assert_eq!(world.ending, Some(Ending::Failed), "seed {seed}");
        assert_eq!(world.over(), world.made, "seed {seed}");
    }
}
