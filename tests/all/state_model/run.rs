//! A run: operations drawn from a seed, each done by the engine and by the model, and their answers compared.
//!
//! The operations of a seed are always the same. What is not: which entries the cache evicts, as its hashes have a seed of
//! the process, and how far the commit's thread is when the tasks go on. No answer may depend on either.

use std::collections::VecDeque;
use std::fmt;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use wasm_host::state::{Order, ScanOptions};

use super::engine::Setup;
use super::keys::{KeySpace, ValueLengths};
use super::model::Model;
use super::operation::{Answer, Bytes, CommitStep, KeyRange, Operation, Place, Subject};

/// How many operations before a mismatch are printed.
const TRACE: usize = 40;
/// After how many operations every store is compared as a whole.
const COMPARE_EVERY: u64 = 700;

/// What a run is made of.
#[derive(Debug, Clone)]
pub(super) struct Profile {
    pub(super) setup: Setup,
    pub(super) keys: KeySpace,
    pub(super) values: ValueLengths,
    /// Range deletes, of about 1,000 operations.
    pub(super) ranges: u32,
    /// Steps of barriers and commits, of about 1,000 operations.
    pub(super) barriers: u32,
    /// Operations between two reopens, about.
    pub(super) reopen_every: u32,
}

/// Where the engine and the model differ.
pub(super) struct Mismatch {
    seed: u64,
    number: u64,
    operation: Operation,
    expected: Answer,
    found: Answer,
    trace: VecDeque<Operation>,
}

/// An operation of a run, and where its share of the dice ends.
type Choice<R> = (u32, fn(&mut R) -> Checked);

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}: operation {} differs from the model",
            self.seed, self.number
        )?;
        writeln!(f, "the last operations before it:")?;
        for operation in &self.trace {
            writeln!(f, "  {operation:?}")?;
        }
        writeln!(f, "operation: {:?}", self.operation)?;
        let (expected, found) = (format!("{:?}", self.expected), format!("{:?}", self.found));
        let common = expected
            .bytes()
            .zip(found.bytes())
            .take_while(|(a, b)| a == b)
            .count();
        writeln!(f, "the answers differ from byte {common} of their text on:")?;
        writeln!(f, "  model:   {}", window(&expected, common))?;
        write!(f, "  subject: {}", window(&found, common))
    }
}

fn window(text: &str, around: usize) -> String {
    let bytes = text.as_bytes();
    let (from, to) = (around.saturating_sub(200), (around + 400).min(bytes.len()));
    String::from_utf8_lossy(&bytes[from.min(to)..to]).into_owned()
}

/// What a run did.
pub(super) struct Report {
    /// How often each of [`Operation::KINDS`] was done.
    pub(super) counts: [u64; Operation::KINDS.len()],
    /// How many of them met a sealed layer.
    pub(super) while_sealed: u64,
    /// How many of them were done while the commit's thread was at a step.
    pub(super) while_committing: u64,
    started: Instant,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: u64 = self.counts.iter().sum();
        write!(f, "{total} operations in {:?}: ", self.started.elapsed())?;
        for (kind, count) in Operation::KINDS.iter().zip(self.counts) {
            write!(f, "{kind} {count}, ")?;
        }
        write!(
            f,
            "{} above a sealed layer, {} beside a commit",
            self.while_sealed, self.while_committing
        )
    }
}

/// Where a task is in its epochs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// It waits for the others, or for the commit.
    Sealed,
    /// Its sealed epoch is published.
    Published,
}

/// A run that goes on.
pub(super) struct Run<'a> {
    seed: u64,
    profile: &'a Profile,
    rng: StdRng,
    model: Model,
    subject: &'a mut dyn Subject,
    phases: Vec<Phase>,
    /// The step of the commit that is next, or running (`true`).
    step: Option<(CommitStep, bool)>,
    /// The names of each task's latest cursors, ended ones included.
    cursors: Vec<VecDeque<u32>>,
    cursors_named: u32,
    /// Most operations stay where the one before was.
    focus: Place,
    recent: VecDeque<Bytes>,
    trace: VecDeque<Operation>,
    report: Report,
}

type Checked = Result<(), Box<Mismatch>>;

/// Drives `subject` through about `operations` operations.
pub(super) fn run(
    profile: &Profile,
    seed: u64,
    operations: u64,
    subject: &mut dyn Subject,
) -> Result<Report, Box<Mismatch>> {
    let mut run = Run::new(profile, seed, subject);
    let mut compared = 0;
    while run.done() < operations {
        run.next()?;
        if run.done() >= compared + COMPARE_EVERY {
            run.compare_everything()?;
            compared = run.done();
        }
    }
    run.compare_everything()?;
    run.reopen()?;
    Ok(run.report)
}

impl<'a> Run<'a> {
    /// A run over empty stores.
    pub(super) fn new(profile: &'a Profile, seed: u64, subject: &'a mut dyn Subject) -> Run<'a> {
        let tasks = profile.setup.tasks.len();
        Run {
            seed,
            profile,
            rng: StdRng::seed_from_u64(seed),
            model: Model::new(&profile.setup),
            subject,
            phases: vec![Phase::Open; tasks],
            step: None,
            cursors: vec![VecDeque::new(); tasks],
            cursors_named: 0,
            focus: Place { task: 0, store: 0 },
            recent: VecDeque::new(),
            trace: VecDeque::new(),
            report: Report {
                counts: [0; Operation::KINDS.len()],
                while_sealed: 0,
                while_committing: 0,
                started: Instant::now(),
            },
        }
    }

    /// Operations so far.
    pub(super) fn done(&self) -> u64 {
        self.report.counts.iter().sum()
    }

    /// Does one operation and compares its answers.
    pub(super) fn step(&mut self, operation: Operation) -> Checked {
        self.report.counts[operation.kind()] += 1;
        self.report.while_sealed += u64::from(self.phases[self.focus.task] != Phase::Open);
        self.report.while_committing += u64::from(matches!(self.step, Some((_, true))));
        let expected = self.model.apply(&operation);
        let found = self.subject.apply(&operation);
        if expected != found {
            return Err(Box::new(Mismatch {
                seed: self.seed,
                number: self.done(),
                operation,
                expected,
                found,
                trace: std::mem::take(&mut self.trace),
            }));
        }
        if self.trace.len() == TRACE {
            self.trace.pop_front();
        }
        self.trace.push_back(operation);
        Ok(())
    }

    /// Scans every store as a whole, and reads what is stored if no step of a commit is running.
    pub(super) fn compare_everything(&mut self) -> Checked {
        for at in places(&self.profile.setup) {
            let keys_only = self.rng.random_ratio(1, 4);
            for order in [Order::Up, Order::Down] {
                let entries_max = self.entries_max();
                self.step(Operation::Walk {
                    at,
                    range: KeyRange::ALL,
                    options: ScanOptions { order, keys_only },
                    entries_max: entries_max.max(10),
                })?;
            }
        }
        match self.step {
            Some((_, true)) => Ok(()),
            _ => self.step(Operation::Stored),
        }
    }

    /// Takes one task, or the commit, one step further to the end of its epoch.
    pub(super) fn advance(&mut self) -> Checked {
        match self.step {
            Some((step, false)) => {
                self.step = Some((step, true));
                return self.step(Operation::Begin(step));
            }
            Some((step, true)) => {
                self.step(Operation::Finish)?;
                self.step = match step {
                    CommitStep::Prepare => Some((CommitStep::Write, false)),
                    CommitStep::Write => Some((CommitStep::Publish, false)),
                    CommitStep::Publish => None,
                };
                if self.step.is_none() {
                    self.phases.fill(Phase::Published);
                }
                return Ok(());
            }
            None => {}
        }
        let waiting: Vec<usize> = (0..self.phases.len())
            .filter(|task| self.phases[*task] != Phase::Sealed)
            .collect();
        let task = waiting[self.rng.random_range(0..waiting.len())];
        if self.phases[task] == Phase::Published {
            self.phases[task] = Phase::Open;
            return self.step(Operation::Release { task });
        }
        let end_batch = match self.rng.random_ratio(1, 8) {
            true => Operation::UndoBatch { task },
            false => Operation::KeepBatch { task },
        };
        self.step(end_batch)?;
        self.step(Operation::Seal { task })?;
        self.phases[task] = Phase::Sealed;
        if waiting.len() == 1 {
            self.step = Some((CommitStep::Prepare, false));
        }
        Ok(())
    }

    /// Goes on to where every task is in an epoch of its own, and nothing is sealed.
    pub(super) fn finish_epoch(&mut self) -> Checked {
        self.advance()?;
        while self.step.is_some() || self.phases.iter().any(|phase| *phase != Phase::Open) {
            self.advance()?;
        }
        Ok(())
    }

    /// Opens everything again. What was not committed is gone.
    pub(super) fn reopen(&mut self) -> Checked {
        self.step(Operation::Reopen)?;
        self.step = None;
        self.phases.fill(Phase::Open);
        self.cursors.iter_mut().for_each(VecDeque::clear);
        self.compare_everything()
    }

    fn next(&mut self) -> Checked {
        if self.rng.random_ratio(1, self.profile.reopen_every) {
            return self.reopen();
        }
        if self.rng.random_ratio(3, 10) {
            let places = places(&self.profile.setup);
            self.focus = places[self.rng.random_range(0..places.len())];
        }
        let choices: [Choice<Self>; 17] = [
            (210, Self::put),
            (50, |run| {
                let (at, key) = (run.focus, run.key());
                run.step(Operation::Delete { at, key })
            }),
            (50, Self::increment),
            (self.profile.ranges, |run| {
                let (at, range) = (run.focus, run.profile.keys.range(&mut run.rng));
                run.step(Operation::DeleteRange { at, range })
            }),
            (200, |run| {
                let (at, key) = (run.focus, run.key());
                run.step(Operation::Get { at, key })
            }),
            (30, |run| {
                let count = run.rng.random_range(0..8);
                let (at, keys) = (run.focus, (0..count).map(|_| run.key()).collect());
                run.step(Operation::GetMany { at, keys })
            }),
            (50, Self::scan),
            (110, Self::scan_next),
            (10, |run| match run.any_cursor() {
                Some(cursor) => run.step(Operation::ScanClose {
                    task: run.focus.task,
                    cursor,
                }),
                None => Ok(()),
            }),
            (8, |run| {
                let (at, range) = (run.focus, run.profile.keys.range(&mut run.rng));
                let (options, entries_max) = (run.scan_options(), run.entries_max());
                run.step(Operation::Walk {
                    at,
                    range,
                    options,
                    entries_max,
                })
            }),
            (5, |run| {
                run.step(Operation::CountCursors {
                    task: run.focus.task,
                })
            }),
            (60, |run| {
                run.step(Operation::EndCall {
                    task: run.focus.task,
                })
            }),
            (80, |run| {
                run.step(Operation::MarkMessage {
                    task: run.focus.task,
                })
            }),
            (30, |run| {
                run.step(Operation::UndoMessage {
                    task: run.focus.task,
                })
            }),
            (40, |run| {
                run.step(Operation::KeepBatch {
                    task: run.focus.task,
                })
            }),
            (10, |run| {
                run.step(Operation::UndoBatch {
                    task: run.focus.task,
                })
            }),
            (self.profile.barriers, Self::advance),
        ];
        let mut drawn = self
            .rng
            .random_range(0..choices.iter().map(|(weight, _)| weight).sum());
        for (weight, choice) in choices {
            if drawn < weight {
                return choice(self);
            }
            drawn -= weight;
        }
        Ok(())
    }

    fn put(&mut self) -> Checked {
        let (at, key) = (self.focus, self.key());
        let value = self.profile.values.value(self.done(), &mut self.rng);
        self.step(Operation::Put { at, key, value })
    }

    fn increment(&mut self) -> Checked {
        let (at, key) = (self.focus, self.key());
        let by = match self.rng.random_range(0..10) {
            0 => i64::MAX,
            1 => i64::MIN,
            _ => self.rng.random_range(-5..=5),
        };
        self.step(Operation::Increment { at, key, by })
    }

    fn scan(&mut self) -> Checked {
        let cursor = self.cursors_named;
        self.cursors_named += 1;
        let names = &mut self.cursors[self.focus.task];
        if names.len() == 6 {
            names.pop_front();
        }
        names.push_back(cursor);
        let (at, range) = (self.focus, self.profile.keys.range(&mut self.rng));
        let options = self.scan_options();
        self.step(Operation::Scan {
            at,
            range,
            options,
            cursor,
        })
    }

    fn scan_next(&mut self) -> Checked {
        let Some(cursor) = self.any_cursor() else {
            return Ok(());
        };
        let task = self.focus.task;
        let entries_max = self.entries_max();
        let bytes_max = [0, 1, 30, 500, 1 << 20, usize::MAX][self.rng.random_range(0..6)];
        self.step(Operation::ScanNext {
            task,
            cursor,
            entries_max,
            bytes_max,
        })
    }

    fn any_cursor(&mut self) -> Option<u32> {
        let names = &self.cursors[self.focus.task];
        match names.len() {
            0 => None,
            len => Some(names[self.rng.random_range(0..len)]),
        }
    }

    fn scan_options(&mut self) -> ScanOptions {
        ScanOptions {
            order: if self.rng.random() {
                Order::Up
            } else {
                Order::Down
            },
            keys_only: self.rng.random_ratio(1, 4),
        }
    }

    fn entries_max(&mut self) -> usize {
        [0, 1, 2, 3, 7, 50, 1000, usize::MAX][self.rng.random_range(0..8)]
    }

    /// Any key; often one that was used lately.
    fn key(&mut self) -> Bytes {
        if !self.recent.is_empty() && self.rng.random_ratio(4, 10) {
            return self.recent[self.rng.random_range(0..self.recent.len())].clone();
        }
        if self.recent.len() == 8 {
            self.recent.pop_front();
        }
        let key = self.profile.keys.key(&mut self.rng);
        self.recent.push_back(key.clone());
        key
    }
}

/// Every store of every task.
pub(super) fn places(setup: &Setup) -> Vec<Place> {
    let stores = 0..setup.stores.len();
    let place = |task| stores.clone().map(move |store| Place { task, store });
    (0..setup.tasks.len()).flat_map(place).collect()
}
