//! Figures of a task, for readers on any thread.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Task;
use crate::model::{InputIndex, StreamId};
use crate::records::{FaultCounts, Held, TaskRecord};
use crate::runtime::{CallTimes, FaultKind};

/// Figures of a task.
#[derive(Debug, Default)]
pub struct TaskFigures {
    /// Messages processed since the start of the job, kept batches only.
    pub processed: AtomicU64,
    /// Messages rejected.
    pub rejected: AtomicU64,
    /// Batches kept since the start of the process.
    pub batches: AtomicU64,
    /// Batches undone since the start of the process.
    pub undone: AtomicU64,
    /// Instances made.
    pub instances: AtomicU64,
    /// Instances that were replaced because they were worn out.
    pub recycled: AtomicU64,
    /// The offset of the next message of each input.
    pub positions: Vec<AtomicU64>,
    /// What went wrong with messages since the start of the job, kept batches only.
    counts: Mutex<FaultCounts>,
    /// Calls that failed since the start of the process, by kind.
    faults: [AtomicU64; FaultKind::ALL.len()],
    /// Searches for a message that is to blame since the start of the process, and how long they took together.
    isolations: AtomicU64,
    isolation_ns: AtomicU64,
    /// Where its calls spent their time since the start of the process.
    guest_ns: AtomicU64,
    host_ns: AtomicU64,
    /// How often it tried again to go on, since the start of the process.
    restarts: AtomicU64,
    /// Messages of a batch at most.
    batch_limit: AtomicU64,
    /// Keys that are parked.
    parked: AtomicU64,
    /// How many microseconds it was away when other code took over last.
    pause_at_swap_us: AtomicU64,
    waiting: AtomicBool,
    migrating: AtomicBool,
    /// Since when it searches for a message that is to blame.
    isolating: Mutex<Option<Instant>>,
    held: Mutex<Option<Held>>,
}

/// What a task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// It processes what arrives.
    Running,
    /// It looks for the message that is to blame for a fault.
    Isolating,
    /// It waits to try again.
    Waiting,
    /// It waits for a person.
    Held,
    /// Its state is migrated, or waits for that of the stage's other tasks.
    Migrating,
}

impl TaskFigures {
    pub(super) fn new(
        record: &TaskRecord,
        inputs: impl Iterator<Item = StreamId>,
        batch_messages: usize,
    ) -> TaskFigures {
        let next = |stream| {
            record
                .positions
                .get(&stream)
                .map_or(0, |position| position.next)
        };
        TaskFigures {
            processed: AtomicU64::new(record.processed),
            rejected: AtomicU64::new(record.rejected),
            positions: inputs.map(next).map(AtomicU64::new).collect(),
            counts: Mutex::new(record.counts),
            batch_limit: AtomicU64::new(batch_messages as u64),
            ..TaskFigures::default()
        }
    }

    /// What it does.
    pub fn doing(&self) -> Doing {
        if self.held.lock().is_some() {
            Doing::Held
        } else if self.migrating.load(Ordering::Relaxed) {
            Doing::Migrating
        } else if self.waiting.load(Ordering::Relaxed) {
            Doing::Waiting
        } else if self.isolating.lock().is_some() {
            Doing::Isolating
        } else {
            Doing::Running
        }
    }

    /// What it is held at.
    pub fn held(&self) -> Option<Held> {
        self.held.lock().clone()
    }

    /// What went wrong with messages since the start of the job.
    pub fn counts(&self) -> FaultCounts {
        *self.counts.lock()
    }

    /// Calls that failed since the start of the process, by kind.
    pub fn faults(&self) -> impl Iterator<Item = (FaultKind, u64)> {
        let counts = self
            .faults
            .iter()
            .map(|count| count.load(Ordering::Relaxed));
        FaultKind::ALL.into_iter().zip(counts)
    }

    /// Searches for a message that is to blame, and how many nanoseconds they took, since the start of the process.
    pub fn isolations(&self) -> (u64, u64) {
        let (count, time) = (&self.isolations, &self.isolation_ns);
        (count.load(Ordering::Relaxed), time.load(Ordering::Relaxed))
    }

    /// How many nanoseconds its calls spent in the component, and in functions of the host, since the start of the process.
    pub fn call_times(&self) -> (u64, u64) {
        let (guest, host) = (&self.guest_ns, &self.host_ns);
        (guest.load(Ordering::Relaxed), host.load(Ordering::Relaxed))
    }

    /// How often it tried again to go on, since the start of the process.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Messages of a batch at most.
    pub fn batch_limit(&self) -> u64 {
        self.batch_limit.load(Ordering::Relaxed)
    }

    /// Keys that are parked.
    pub fn parked(&self) -> u64 {
        self.parked.load(Ordering::Relaxed)
    }

    /// How many microseconds it was away when other code took over last.
    pub fn pause_at_swap_us(&self) -> u64 {
        self.pause_at_swap_us.load(Ordering::Relaxed)
    }

    /// Goes on with the figures that a former task of the same name had.
    pub fn follow(&self, before: &TaskFigures) {
        let pairs = [
            (&before.batches, &self.batches),
            (&before.undone, &self.undone),
            (&before.instances, &self.instances),
            (&before.recycled, &self.recycled),
            (&before.isolations, &self.isolations),
            (&before.isolation_ns, &self.isolation_ns),
            (&before.guest_ns, &self.guest_ns),
            (&before.host_ns, &self.host_ns),
            (&before.restarts, &self.restarts),
        ];
        for (before, now) in pairs
            .into_iter()
            .chain(before.faults.iter().zip(&self.faults))
        {
            now.fetch_add(before.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    pub(super) fn note_held(&self, held: Option<Held>) {
        *self.held.lock() = held;
    }

    pub(super) fn note_waiting(&self, waiting: bool) {
        self.waiting.store(waiting, Ordering::Relaxed);
    }

    pub(super) fn note_migrating(&self, migrating: bool) {
        self.migrating.store(migrating, Ordering::Relaxed);
    }

    pub(super) fn note_pause_at_swap(&self, away: Duration) {
        let micros = u64::try_from(away.as_micros()).unwrap_or(u64::MAX);
        self.pause_at_swap_us.store(micros, Ordering::Relaxed);
    }

    pub(super) fn note_parked(&self, keys: usize) {
        self.parked.store(keys as u64, Ordering::Relaxed);
    }

    pub(super) fn note_times(&self, spent: CallTimes) {
        for (sum, spent) in [(&self.guest_ns, spent.guest), (&self.host_ns, spent.host)] {
            if !spent.is_zero() {
                let ns = u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX);
                sum.fetch_add(ns, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn note_restart(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    /// A call failed. `all`: how many have since the start of the job.
    pub(super) fn note_fault(&self, kind: FaultKind, all: u64) {
        self.faults[kind as usize].fetch_add(1, Ordering::Relaxed);
        self.counts.lock().faults = all;
    }

    pub(super) fn note_counts(&self, counts: FaultCounts) {
        *self.counts.lock() = counts;
    }
}

impl Task {
    /// The message that is to blame is one of an input.
    pub(super) fn note_suspects(&mut self, input: InputIndex) {
        self.suspected = input;
        let mut isolating = self.figures.isolating.lock();
        if isolating.is_none() {
            *isolating = Some(Instant::now());
            self.figures.isolations.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Suspects were processed or passed over.
    pub(super) fn note_isolation(&mut self) {
        let most = self.options.batch_messages;
        let limit = self.isolation.limit().map_or(most, |limit| limit.min(most));
        self.figures
            .batch_limit
            .store(limit as u64, Ordering::Relaxed);
        if !self.isolation.has_suspects()
            && let Some(since) = self.figures.isolating.lock().take()
        {
            let took = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.figures.isolation_ns.fetch_add(took, Ordering::Relaxed);
        }
    }
}
