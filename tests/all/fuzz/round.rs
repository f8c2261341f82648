//! A round: a task with drawn content runs some scripts in a few batches, and everything that can be seen afterwards is checked.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;
use wasm_host::model::{Batch, InputIndex, MessageRef, Messages, PartitionId};
use wasm_host::runtime::{Component, Fault, FaultKind, Instance};

use super::guest::{Guest, Handler};
use super::script::{Reach, Writer, random_of};
use super::watch::BEGAN;
use super::world::{Components, DEADLINE, DESCRIPTORS, Database, Grants, Task, World, assert_same};

/// How much longer than its deadline a call may compute.
const MARGIN: Duration = Duration::from_millis(400);

/// What happened, added up.
#[derive(Debug, Default)]
pub struct Tally {
    pub rounds: u64,
    pub scripts: u64,
    pub done: u64,
    pub rejected: u64,
    pub traps: u64,
    pub limits: u64,
    pub deadlines: u64,
    pub memory: u64,
    pub compared: u64,
    /// The most files that a guest had open.
    pub files: usize,
    /// Messages of faults, without their numbers, and how often each was seen.
    pub messages: std::collections::BTreeMap<String, u64>,
}

/// What a call came to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Done,
    Rejected(String),
    Fault(FaultKind, String),
}

/// A batch of scripts.
struct Scripts {
    batch: Batch,
    called: Vec<Vec<String>>,
}

pub struct Rounds<'a> {
    pub components: &'a Components,
    pub writer: Writer<'a>,
    pub tally: Tally,
    /// Tells each script and what it came to.
    pub tells: bool,
}

/// A round that runs.
struct Round<'r, 'a> {
    rounds: &'r mut Rounds<'a>,
    world: World<'r>,
    random: StdRng,
    handler: Handler,
    grants: Grants,
    reach: Reach,
    /// Nothing is kept.
    undoes: bool,
    now: i64,
    /// Calls since the last seal.
    calls: usize,
}

impl<'a> Rounds<'a> {
    pub fn new(guest: &'a Guest, components: &'a Components, port: u16, tells: bool) -> Rounds<'a> {
        Rounds {
            components,
            writer: Writer::new(guest, port),
            tally: Tally::default(),
            tells,
        }
    }

    /// The round of this number. It depends on the seed and the number only.
    ///
    /// # Panics
    /// Something is not as it should be.
    pub fn run(&mut self, database: &Database, seed: u64, number: u64) {
        let mut random = random_of(seed, number);
        let world = World::new(database, number, &mut random);
        self.writer.begin(&mut random);
        let reach = match random.random_bool(0.65) {
            true => Reach::Pure,
            false => Reach::All,
        };
        let grants = match (reach, random.random_range(0..4)) {
            (Reach::Pure, _) | (Reach::All, 0) => Grants::None,
            (Reach::All, 1) => Grants::Network,
            (Reach::All, _) => Grants::Folder,
        };
        if grants != Grants::None {
            self.components.fill_folder();
        }
        let handler = match random.random_bool(0.7) {
            true => Handler::Message,
            false => Handler::Batch,
        };
        let undoes = reach == Reach::All && random.random_bool(0.5);
        self.tally.rounds += 1;
        let mut round = Round {
            rounds: self,
            world,
            random,
            handler,
            grants,
            reach,
            undoes,
            now: 1_000,
            calls: 0,
        };
        round.run();
        if grants != Grants::None {
            self.components.check_outside();
        }
    }
}

impl Round<'_, '_> {
    fn run(&mut self) {
        for _ in 0..self.random.random_range(1..12) {
            if !self.batch() {
                break;
            }
        }
        self.last_calls();
        match self.undoes || self.reach == Reach::Pure {
            true => self.world.compare(self.calls + 1),
            false => drop(self.world.task.seal(self.world.database, self.calls + 1)),
        }
        self.world.check_neighbours();
    }

    fn scripts(&mut self) -> Scripts {
        let count = match self.handler {
            Handler::Message => self.random.random_range(1..5),
            Handler::Batch => 1,
        };
        let mut messages = Messages::default();
        let mut called = Vec::new();
        for _ in 0..count {
            let (script, calls) = self.rounds.writer.write(self.reach, &mut self.random);
            messages.push(MessageRef::new(Some(b"key"), Some(&script), 7));
            called.push(calls);
        }
        Scripts {
            batch: Batch {
                input: InputIndex(0),
                partition: PartitionId(1),
                offsets: (0..count as u64).collect(),
                messages,
                origin: None,
            },
            called,
        }
    }

    /// A batch, and what follows from it. Whether the instance lives on.
    fn batch(&mut self) -> bool {
        let scripts = self.scripts();
        self.now += self.random.random_range(0..50);
        self.calls += scripts.batch.len();
        let seals = self.random.random_bool(0.3);
        let compares = self.reach == Reach::Pure;
        if seals && compares {
            self.world.compare(self.calls);
            self.calls = scripts.batch.len();
            self.rounds.tally.compared += 1;
        } else if seals && !self.undoes {
            self.world.task.seal(self.world.database, self.calls);
            self.calls = scripts.batch.len();
        }
        let before = (!compares).then(|| self.seen());
        let outcomes = self.run_on(false, &scripts, &[]);
        self.tell(&scripts, &outcomes);
        let faulted = matches!(outcomes.last(), Some(Outcome::Fault(..)));
        let keeps = !faulted && !self.undoes && self.random.random_bool(0.9);
        settle(&mut self.world.task, keeps);
        if let Some(before) = before.filter(|_| !keeps) {
            assert_same("what was before", &before, &self.seen());
        }
        self.check_files();
        if compares {
            self.follow(&scripts, &outcomes, keeps);
        }
        !faulted
    }

    /// Everything that can be seen of the task.
    fn seen(&mut self) -> String {
        self.world.task.entries() + &self.world.task.outside()
    }

    /// The twin does the same; or nothing, if nothing of it was kept and no instance is needed any more.
    fn follow(&mut self, scripts: &Scripts, outcomes: &[Outcome], keeps: bool) {
        let faulted = matches!(outcomes.last(), Some(Outcome::Fault(..)));
        if faulted && self.random.random_bool(0.5) {
            self.world.twin.instance = None;
            return;
        }
        let known = if keeps { outcomes } else { &[] };
        let twin = self.run_on(true, scripts, known);
        let is_late = |outcome: &Outcome| matches!(outcome, Outcome::Fault(FaultKind::Deadline, _));
        let late = outcomes.iter().chain(&twin).any(is_late);
        // What ran into its deadline may have done so anywhere.
        assert!(
            late || twin == outcomes,
            "the task came to {outcomes:#?} and its twin to {twin:#?}"
        );
        settle(&mut self.world.twin, keeps && !late);
        if late && keeps {
            panic!("a script that was done in time once was not a second time");
        }
    }

    /// Makes the instance, if there is none, and gives it the batch. A message of which it is known that it will be rejected is a batch of
    /// its own: undone in another way, it must come to the same.
    fn run_on(&mut self, twin: bool, scripts: &Scripts, known: &[Outcome]) -> Vec<Outcome> {
        let components = self.rounds.components;
        let component = components.get(self.handler, self.grants);
        let task = match twin {
            true => &mut self.world.twin,
            false => &mut self.world.task,
        };
        if task.instance.is_none() {
            task.instance = Some(new_instance(task, component));
        }
        task.context().set_now(self.now);
        task.context().timestamp = self.now - 1;
        let mut outcomes = Vec::new();
        for index in 0..scripts.batch.len() {
            let alone = matches!(known.get(index), Some(Outcome::Rejected(_)));
            if alone {
                task.context().keep_batch();
            }
            task.context().mark_message();
            let outcome = match self.handler {
                Handler::Message => timed(task, |instance, context| {
                    instance.process_message(context, &scripts.batch, index)
                }),
                Handler::Batch => timed(task, |instance, context| {
                    let (context, result) = instance.process_batch(context, &scripts.batch);
                    (context, result.map(|answer| answer.map(|_| ())))
                }),
            };
            match (&outcome, alone) {
                (Outcome::Rejected(_), true) => task.context().undo_batch(),
                (Outcome::Rejected(_), false) => task.context().undo_message(),
                _ => {}
            }
            outcomes.push(outcome);
            if task.instance.is_none() {
                break;
            }
        }
        outcomes
    }

    fn tell(&mut self, scripts: &Scripts, outcomes: &[Outcome]) {
        for (called, outcome) in scripts.called.iter().zip(outcomes) {
            if self.rounds.tells {
                println!(
                    "{:?} {:?} {:?}: {}\n  -> {outcome:?}",
                    self.handler,
                    self.reach,
                    self.grants,
                    called.join(" ")
                );
            }
            self.rounds.tally.scripts += 1;
            self.rounds.tally.note(outcome);
        }
    }

    /// `on-end` and `close`, which run the script that an earlier one has left for them. `close` may write nothing.
    fn last_calls(&mut self) {
        if self.world.task.instance.is_none() || !self.random.random_bool(0.5) {
            self.world.task.instance = None;
            self.world.twin.instance = None;
            return;
        }
        let before = (self.reach == Reach::All).then(|| self.seen());
        let keeps = !self.undoes && self.random.random_bool(0.5);
        let twins = self.reach == Reach::Pure;
        self.calls += 1;
        let mut outcomes = Vec::new();
        for task in [&mut self.world.task, &mut self.world.twin]
            .into_iter()
            .take(if twins { 2 } else { 1 })
        {
            let outcome = timed(task, |instance, context| {
                let (context, result) = instance.on_end(context);
                let done =
                    |answer: Option<Result<_, String>>| answer.expect("it has one").map(|_| ());
                (context, result.map(done))
            });
            let done = outcome == Outcome::Done;
            settle(task, keeps && done);
            outcomes.push(outcome);
        }
        let is_late = |outcome: &Outcome| matches!(outcome, Outcome::Fault(FaultKind::Deadline, _));
        if twins && !outcomes.iter().any(is_late) {
            assert!(outcomes[0] == outcomes[1], "two ends: {outcomes:#?}");
        }
        if let Some(before) = before.filter(|_| !keeps) {
            assert_same("what was before", &before, &self.seen());
        }
        let seen = (!twins).then(|| self.seen());
        // The twin's instance is dropped without being closed: it must make no difference.
        self.world.twin.instance = None;
        if self.world.task.instance.is_some() {
            self.world.task.call(|instance, context| {
                let instance = instance.take().expect("an instance");
                let (context, closed) = instance.close(context);
                if let Err(fault) = closed {
                    outcome_of(fault);
                }
                (context, ())
            });
        }
        // `close` may ask for metrics and checkpoints, which are the next batch's; they are dropped here.
        self.world.task.context().undo_batch();
        if let Some(seen) = seen {
            assert_same("what was before `close`", &seen, &self.seen());
        }
    }

    /// Guests have no more files open than they may.
    fn check_files(&mut self) {
        if self.grants == Grants::None || self.world.task.instance.is_none() {
            return;
        }
        let open = open_files(&self.rounds.components.granted());
        let most = &mut self.rounds.tally.files;
        *most = open.max(*most);
        assert!(
            open <= DESCRIPTORS,
            "a guest has {open} files open, and may have {DESCRIPTORS}"
        );
    }
}

/// How many files in a folder the process has open.
pub fn open_files(folder: &Path) -> usize {
    let files = std::fs::read_dir("/proc/self/fd").expect("open files");
    files
        .filter_map(|file| std::fs::read_link(file.ok()?.path()).ok())
        .filter(|path| path.starts_with(folder) && path != folder)
        .count()
}

/// Runs one script on a new instance, and looks at something while that lives, if it does.
pub fn run_alone<R>(component: &Arc<Component>, script: &[u8], look: impl FnOnce() -> R) -> R {
    let database = Database::create();
    let mut world = World::new(&database, 0, &mut random_of(0, 0));
    let task = &mut world.task;
    task.instance = Some(new_instance(task, component));
    let mut messages = Messages::default();
    messages.push(MessageRef::new(None, Some(script), 7));
    let batch = Batch {
        input: InputIndex(0),
        partition: PartitionId(1),
        offsets: vec![0],
        messages,
        origin: None,
    };
    let outcome = timed(task, |instance, context| {
        instance.process_message(context, &batch, 0)
    });
    println!("{outcome:?}");
    look()
}

/// Makes an instance. Its folders are opened within a deadline, which other work on the machine may use up.
fn new_instance(task: &mut Task, component: &Arc<Component>) -> Instance {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match task.call(|_, context| Instance::new(component, context)) {
            Ok(instance) => return instance,
            Err(fault) => assert!(
                attempts < 50 && fault.message.contains("could not be opened in time"),
                "no instance: {fault}"
            ),
        }
    }
}

/// The end of a batch.
fn settle(task: &mut Task, keeps: bool) {
    match keeps {
        true => task.context().keep_batch(),
        false => {
            task.context().undo_batch();
            // What was not undone would now be kept.
            task.context().keep_batch();
        }
    }
}

/// Calls the guest; a call that faults costs the instance.
fn timed(
    task: &mut Task,
    call: impl FnOnce(
        &mut Instance,
        Box<wasm_host::runtime::TaskContext>,
    ) -> (
        Box<wasm_host::runtime::TaskContext>,
        Result<Result<(), String>, Fault>,
    ),
) -> Outcome {
    BEGAN.fetch_add(1, Ordering::SeqCst);
    let (began, computed) = (Instant::now(), super::watch::thread_time());
    let result =
        task.call(|instance, context| call(instance.as_mut().expect("an instance"), context));
    let took = super::watch::thread_time() - computed;
    BEGAN.fetch_add(1, Ordering::SeqCst);
    assert!(
        took < DEADLINE + MARGIN,
        "a call computed for {took:?} ({:?} in all)",
        began.elapsed()
    );
    match result {
        Ok(Ok(())) => Outcome::Done,
        Ok(Err(reason)) => Outcome::Rejected(reason),
        Err(fault) => {
            task.instance = None;
            outcome_of(fault)
        }
    }
}

fn outcome_of(fault: Fault) -> Outcome {
    match fault.kind {
        FaultKind::Trap | FaultKind::Deadline | FaultKind::Limit | FaultKind::Memory => {
            // Times differ.
            let message = match fault.kind {
                FaultKind::Deadline => String::new(),
                _ => fault.message,
            };
            Outcome::Fault(fault.kind, message)
        }
        FaultKind::Instantiate | FaultKind::Host | FaultKind::Panic => {
            panic!("a fault of kind {:?}: {fault}", fault.kind)
        }
    }
}

impl Tally {
    fn note(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Done => self.done += 1,
            Outcome::Rejected(_) => self.rejected += 1,
            Outcome::Fault(kind, message) => {
                match kind {
                    FaultKind::Deadline => self.deadlines += 1,
                    FaultKind::Limit => self.limits += 1,
                    FaultKind::Memory => self.memory += 1,
                    _ => self.traps += 1,
                }
                let letters = |c: char| if c.is_ascii_digit() { '0' } else { c };
                let message: String = message.chars().take(70).map(letters).collect();
                if self.messages.len() < 2_000 {
                    *self.messages.entry(message).or_default() += 1;
                }
            }
        }
    }
}
