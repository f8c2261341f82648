//! Engines with one mistake each. A run that does not notice them would notice nothing.

use std::collections::BTreeMap;

use wasm_host::state::Family;
use wasm_host::state::keys::StorePrefix;

use super::engine::{Commit, Engine, Epoch, Setup, commit, resolve};
use super::operation::{Answer, CommitStep, KeyRange, Operation, Place, Subject};

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mistake {
    /// The commit deletes ranges after it has written the entries that survive them.
    RangesAfterEntries,
    /// The commit writes nothing.
    NothingWritten,
    /// The commit asks which keys a range delete removes when they are gone: the cache keeps them.
    KeysOfRangesAskedLate,
    /// Reads ask the database for what is on its way there.
    ReadsSkipSealed,
    /// Undoing brings entries back, but not what a range delete took.
    UndoForgetsRanges,
    /// Undoing a batch undoes its last message.
    UndoBatchAsMessage,
    /// A cursor shows the store at its first use.
    CursorsSeeLaterWrites,
    /// An open range goes on in the next store.
    RangesReachNextStore,
}

impl Mistake {
    pub(super) const ALL: [Mistake; 8] = [
        Mistake::RangesAfterEntries,
        Mistake::NothingWritten,
        Mistake::KeysOfRangesAskedLate,
        Mistake::ReadsSkipSealed,
        Mistake::UndoForgetsRanges,
        Mistake::UndoBatchAsMessage,
        Mistake::CursorsSeeLaterWrites,
        Mistake::RangesReachNextStore,
    ];

    fn commit(self) -> Commit {
        match self {
            Mistake::NothingWritten => |epoch, next_step| {
                let steps = [next_step(), next_step(), next_step()];
                if steps == [true; 3] {
                    publish(epoch);
                    next_step();
                }
            },
            Mistake::KeysOfRangesAskedLate => |epoch, next_step| {
                if next_step() && next_step() {
                    write(epoch);
                    if next_step() {
                        publish(epoch);
                        next_step();
                    }
                }
            },
            _ => commit,
        }
    }
}

fn write(epoch: &Epoch<'_>) {
    let mut writes = epoch.db.write_set();
    for state in epoch.sealed {
        state
            .write_into(&mut writes, &resolve(state))
            .expect("the database can be read");
    }
    writes
        .commit(epoch.durability)
        .expect("the database can be written");
}

fn publish(epoch: &Epoch<'_>) {
    for state in epoch.sealed {
        state
            .note_durable(&resolve(state))
            .expect("the `memory` stores fit");
    }
}

/// The engine, but for the mistake.
pub(super) struct Wrong {
    engine: Engine,
    mistake: Mistake,
    setup: Setup,
    /// Ranges that each task has deleted since its last undo or seal.
    open: BTreeMap<usize, Vec<(Place, KeyRange)>>,
    /// Ranges of the epoch that is sealed.
    sealed: Vec<(Place, KeyRange)>,
    /// Cursors that were not used yet.
    unused: BTreeMap<u32, Operation>,
    step: Option<CommitStep>,
}

impl Wrong {
    pub(super) fn new(setup: &Setup, mistake: Mistake) -> Wrong {
        Wrong {
            engine: Engine::new(setup, mistake.commit()),
            mistake,
            setup: setup.clone(),
            open: BTreeMap::new(),
            sealed: Vec::new(),
            unused: BTreeMap::new(),
            step: None,
        }
    }

    fn apply_ranges_after_entries(&mut self, operation: &Operation) -> Answer {
        let answer = self.engine.apply(operation);
        match operation {
            Operation::DeleteRange { at, range } => self.note_range(*at, range),
            Operation::UndoMessage { task } | Operation::UndoBatch { task } => {
                self.open.remove(task);
            }
            Operation::Seal { task } => self
                .sealed
                .extend(self.open.remove(task).unwrap_or_default()),
            Operation::Begin(step) => self.step = Some(*step),
            Operation::Finish if self.step == Some(CommitStep::Write) => {
                let mut writes = self.engine.db().write_set();
                for (at, range) in self.sealed.drain(..) {
                    let prefix =
                        StorePrefix::new(self.setup.tasks[at.task], self.setup.stores[at.store].0);
                    let (lower, upper) = prefix.range(range.start.as_deref(), range.end.as_deref());
                    if lower < upper {
                        writes.delete_range(Family::State, &lower, &upper);
                    }
                }
                writes
                    .commit(self.setup.durability)
                    .expect("the database can be written");
            }
            Operation::Reopen => {
                self.open.clear();
                self.sealed.clear();
            }
            _ => {}
        }
        answer
    }

    fn apply_undo_forgets_ranges(&mut self, operation: &Operation) -> Answer {
        let answer = self.engine.apply(operation);
        match operation {
            Operation::DeleteRange { at, range } => self.note_range(*at, range),
            Operation::UndoMessage { task } => {
                for (at, range) in self.open.remove(task).unwrap_or_default() {
                    self.engine.apply(&Operation::DeleteRange { at, range });
                }
            }
            Operation::MarkMessage { task }
            | Operation::KeepBatch { task }
            | Operation::UndoBatch { task } => {
                self.open.remove(task);
            }
            Operation::Reopen => self.open.clear(),
            _ => {}
        }
        answer
    }

    fn apply_late_cursors(&mut self, operation: &Operation) -> Answer {
        match operation {
            Operation::Scan { cursor, .. } => {
                self.unused.insert(*cursor, operation.clone());
            }
            Operation::ScanNext { task, cursor, .. } => {
                if let Some(scan) = self.unused.remove(cursor) {
                    self.engine.apply(&Operation::ScanClose {
                        task: *task,
                        cursor: *cursor,
                    });
                    self.engine.apply(&scan);
                }
            }
            Operation::ScanClose { cursor, .. } => {
                self.unused.remove(cursor);
            }
            Operation::EndCall { task }
            | Operation::UndoMessage { task }
            | Operation::KeepBatch { task }
            | Operation::UndoBatch { task } => {
                let of_another = |scan: &Operation| matches!(scan, Operation::Scan { at, .. } if at.task != *task);
                self.unused.retain(|_, scan| of_another(scan));
            }
            Operation::Reopen => self.unused.clear(),
            _ => {}
        }
        self.engine.apply(operation)
    }

    fn note_range(&mut self, at: Place, range: &KeyRange) {
        self.open
            .entry(at.task)
            .or_default()
            .push((at, range.clone()));
    }
}

impl Subject for Wrong {
    fn apply(&mut self, operation: &Operation) -> Answer {
        match (self.mistake, operation) {
            (Mistake::RangesAfterEntries, _) => self.apply_ranges_after_entries(operation),
            (Mistake::UndoForgetsRanges, _) => self.apply_undo_forgets_ranges(operation),
            (Mistake::CursorsSeeLaterWrites, _) => self.apply_late_cursors(operation),
            (Mistake::ReadsSkipSealed, Operation::Seal { task }) => {
                let answer = self.engine.apply(operation);
                self.engine.apply(&Operation::Release { task: *task });
                answer
            }
            (Mistake::UndoBatchAsMessage, Operation::UndoBatch { task }) => {
                self.engine.apply(&Operation::UndoMessage { task: *task });
                self.engine.apply(&Operation::KeepBatch { task: *task })
            }
            (Mistake::RangesReachNextStore, Operation::DeleteRange { at, range })
                if range.end.is_none() =>
            {
                let next = Place {
                    task: at.task,
                    store: (at.store + 1) % self.setup.stores.len(),
                };
                self.engine.apply(&Operation::DeleteRange {
                    at: next,
                    range: KeyRange::ALL,
                });
                self.engine.apply(operation)
            }
            _ => self.engine.apply(operation),
        }
    }
}
