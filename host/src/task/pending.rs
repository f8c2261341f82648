//! What the running batch adds to the counts of its task: kept with it, or forgotten with it.

use super::Task;
use super::parked::ParkedChange;
use super::rules::Breaker;
use crate::records::{Failing, FaultCounts, TaskRecord};

/// The counts as they are if the batch is kept.
#[derive(Debug, Clone, Default)]
pub(super) struct Pending {
    failing: Failing,
    counts: FaultCounts,
    rejected: u64,
    /// Messages that failed, as the breaker counts them.
    failed: u64,
    /// So many messages of the batch, from the first on, are in `failing`.
    through: usize,
    /// The breaker has tripped and lets one message pass all the same.
    spares_one: bool,
    /// The messages that become letters.
    letters: Vec<usize>,
    /// What becomes of keys that are parked.
    pub(super) parked: Vec<ParkedChange>,
}

impl Pending {
    /// Of a batch that begins.
    pub(super) fn new(record: &TaskRecord, spares_one: bool) -> Pending {
        Pending {
            failing: record.failing,
            counts: record.counts,
            rejected: 0,
            failed: 0,
            through: 0,
            spares_one,
            letters: Vec::new(),
            parked: Vec::new(),
        }
    }

    /// The messages before the one at `index` passed, as far as nothing else was said of them.
    pub(super) fn passed_before(&mut self, breaker: &Breaker, index: usize) {
        let passed = index.saturating_sub(self.through);
        breaker.passed(&mut self.failing, passed as u64);
        self.through = self.through.max(index);
    }

    /// Of the first `messages` nothing is judged.
    pub(super) fn leave_out(&mut self, messages: usize) {
        self.through = messages;
    }

    /// Whether the next message must not fail and be passed over.
    pub(super) fn trips(&self, breaker: &Breaker) -> bool {
        breaker.trips(&self.failing) && !self.spares_one
    }

    /// The message after those that passed failed, and is passed over.
    pub(super) fn failed(&mut self, breaker: &Breaker) {
        if breaker.trips(&self.failing) {
            self.spares_one = false;
        }
        breaker.failed(&mut self.failing);
        self.failed += 1;
        self.through += 1;
    }

    /// How many of the last messages failed, and how many they were.
    pub(super) fn failed_of(&self) -> (u32, u32) {
        let Failing { passed, failed, .. } = self.failing;
        (failed, failed + passed)
    }

    pub(super) fn note_rejected(&mut self) {
        self.rejected += 1;
    }

    pub(super) fn note_condemned(&mut self) {
        self.counts.condemned += 1;
    }

    /// A message of the batch becomes a letter.
    pub(super) fn note_letter(&mut self, index: usize) {
        self.counts.dead_lettered += 1;
        self.letters.push(index);
    }

    pub(super) fn is_letter(&self, index: usize) -> bool {
        // They come in order.
        self.letters.binary_search(&index).is_ok()
    }

    pub(super) fn note_skipped(&mut self) {
        self.counts.skipped += 1;
    }
}

impl Task {
    /// A batch begins.
    pub(super) fn begin_counts(&mut self) {
        self.pending = Pending::new(&self.record, self.spares_one);
    }

    /// The first `messages` of the batch are kept, and what was counted for them.
    pub(super) fn keep_counts(&mut self, messages: usize) {
        let mut pending = std::mem::take(&mut self.pending);
        pending.passed_before(&self.options.rules.breaker, messages);
        self.record.failing = pending.failing;
        // Faults are counted when they happen, and undo nothing of this.
        let faults = self.record.counts.faults;
        let counts = FaultCounts {
            faults,
            ..pending.counts
        };
        // Nearly always nothing has gone wrong.
        if counts != self.record.counts {
            self.record.counts = counts;
            self.figures.note_counts(counts);
        }
        self.record.rejected += pending.rejected;
        self.failed += pending.failed;
        self.spares_one = pending.spares_one;
        if let Some(parked) = &mut self.parked
            && !pending.parked.is_empty()
        {
            parked.keep(pending.parked);
            self.figures.note_parked(parked.len());
        }
    }
}
