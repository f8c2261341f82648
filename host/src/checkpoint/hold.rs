//! Holds: what a stage does after a moment can be taken back, all of it, until it is released.
//!
//! While a stage holds, its state and its positions go on in their places, and each write of an epoch first saves what it overwrites
//! ([`Undo`]). Its output waits in chunks of its own; nobody reads it. What its tasks were at that moment is kept, and retention goes by
//! their positions then.
//!
//! Either end takes several writes. The first says which end it is, and from then on a start goes on with it: a release while the stage
//! works, with new output behind, and a way back before any task of the stage runs.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;

use super::committer::Committer;
use super::epoch_write::Parts;
use super::logs::{Appended, LogParts};
use super::outputs::Outgoing;
use super::{BuildError, CommitError};
use crate::epoch::{HoldBegin, SealedEpoch};
use crate::model::{CommitKey, Offset, PartitionId, StageId, StreamId, TaskId};
use crate::records::{self, Encoded, HeldTask, HoldPhase, HoldRecord, TaskRecord};
use crate::state::{
    Db, Flush, ResolvedRanges, Saved, SealedState, StateError, Undo, WriteSet, forget_undo,
    take_back,
};

/// Bytes of output that go out in a write.
const RELEASED_BYTES: u64 = 64 << 20;

/// What every stage holds.
#[derive(Default)]
pub(super) struct Holds {
    records: BTreeMap<StageId, HoldRecord>,
    /// What is known of the undo records of each.
    saved: RefCell<BTreeMap<StageId, Saved>>,
    figures: HoldFigures,
}

/// What every stage holds, for those who ask.
#[derive(Debug, Clone, Default)]
pub struct HoldFigures(Arc<Mutex<BTreeMap<StageId, HoldRecord>>>);

/// What becomes of a hold, or of a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progressed {
    /// There is more.
    Partly,
    /// The stage holds nothing any more.
    Entirely,
}

/// The end of a hold, with the records that belong to it.
#[derive(Debug, Clone)]
pub struct HoldEnd {
    /// The stage.
    pub stage: StageId,
    /// Written when it begins.
    pub first: Vec<Encoded>,
    /// Written when it is over.
    pub last: Vec<Encoded>,
    /// Where a way back goes on.
    from: Option<Vec<u8>>,
    /// Bytes of output that the last part of a release has left.
    left: u64,
}

impl HoldEnd {
    /// One that begins, or that a start goes on with.
    pub fn new(stage: StageId, first: Vec<Encoded>, last: Vec<Encoded>) -> HoldEnd {
        HoldEnd {
            stage,
            first,
            last,
            from: None,
            left: 0,
        }
    }
}

impl HoldFigures {
    /// What a stage holds.
    pub fn of(&self, stage: StageId) -> Option<HoldRecord> {
        self.0.lock().get(&stage).cloned()
    }

    /// What they hold.
    pub fn all(&self) -> BTreeMap<StageId, HoldRecord> {
        self.0.lock().clone()
    }
}

impl Holds {
    pub(super) fn open(db: &Db) -> Result<Holds, StateError> {
        let records: BTreeMap<_, _> = records::list::<HoldRecord>(db)?.into_iter().collect();
        let figures = HoldFigures(Arc::new(Mutex::new(records.clone())));
        let saved = records.keys().map(|stage| (*stage, Saved::of_some()));
        Ok(Holds {
            saved: RefCell::new(saved.collect()),
            records,
            figures,
        })
    }

    /// Adds the changes of a task to a write, after what a stage that holds needs to take them back. How many keys that are, and bytes.
    pub(super) fn write_saving(
        &self,
        db: &Db,
        state: &SealedState,
        ranges: &ResolvedRanges,
        writes: &mut WriteSet<'_>,
        write_ahead: &Flush<'_>,
    ) -> Result<(u64, u64), StateError> {
        let mut saved = self.saved.borrow_mut();
        let saved = saved
            .entry(state.task().stage)
            .or_insert_with(Saved::of_some);
        let mut undo = Undo::new(db, write_ahead, saved);
        state.write_saving(writes, ranges, &mut undo)?;
        undo.finish()
    }

    /// Streams of a task have begun: after a way back they begin there as well, and not at the message that is the latest by then.
    pub(super) fn keep_beginnings(
        &self,
        db: &Db,
        (task, record, began): (TaskId, &TaskRecord, &[StreamId]),
        writes: &mut WriteSet<'_>,
    ) -> Result<(), StateError> {
        let saves = self.get(task.stage).is_some_and(HoldRecord::saves);
        if began.is_empty() || !saves {
            return Ok(());
        }
        let HeldTask(mut held) = records::get(db, &task)?.unwrap_or_default();
        for stream in began {
            if let Some(position) = record.positions.get(stream) {
                let held = held.positions.entry(*stream);
                held.or_insert_with(|| position.clone());
            }
        }
        records::put(writes, &task, &HeldTask(held));
        Ok(())
    }

    pub(super) fn get(&self, stage: StageId) -> Option<&HoldRecord> {
        self.records.get(&stage)
    }

    pub(super) fn stages(&self) -> impl Iterator<Item = StageId> {
        self.records.keys().copied()
    }

    pub(super) fn figures(&self) -> HoldFigures {
        self.figures.clone()
    }

    /// A write has made it so.
    pub(super) fn set(&mut self, stage: StageId, record: Option<HoldRecord>) {
        match record {
            Some(record) => {
                let mut saved = self.saved.borrow_mut();
                // One that begins has nothing yet.
                saved.entry(stage).or_insert_with(Saved::of_none);
                drop(saved);
                self.figures.0.lock().insert(stage, record.clone());
                self.records.insert(stage, record);
            }
            None => {
                self.saved.borrow_mut().remove(&stage);
                self.figures.0.lock().remove(&stage);
                self.records.remove(&stage);
            }
        }
    }
}

/// What of the holds an epoch's write changes.
#[derive(Default)]
pub(super) struct HoldChanges {
    changed: BTreeMap<StageId, HoldRecord>,
    /// Stages that hold nothing any more.
    ended: Vec<StageId>,
}

impl HoldChanges {
    /// What a stage holds as it will be.
    pub(super) fn of(&mut self, stage: StageId, holds: &Holds) -> Option<&mut HoldRecord> {
        match self.changed.entry(stage) {
            Entry::Occupied(known) => Some(known.into_mut()),
            Entry::Vacant(unknown) => Some(unknown.insert(holds.get(stage)?.clone())),
        }
    }

    /// Adds to the write what they are then, and the beginning of others.
    pub(super) fn write_into(
        &mut self,
        db: &Db,
        parts: &Parts<'_>,
        sealed: &SealedEpoch,
        writes: &mut WriteSet<'_>,
    ) -> Result<(), StateError> {
        for begin in &sealed.holds {
            assert!(
                parts.holds.get(begin.stage).is_none(),
                "a stage holds twice"
            );
            keep_tasks(db, sealed, begin, writes)?;
            let record = HoldRecord::begin(begin.phase, begin.state_version, begin.stores.clone());
            self.changed.insert(begin.stage, record);
        }
        for migrated in &sealed.migrated {
            let stage = migrated.stage;
            match self.of(stage, parts.holds) {
                Some(hold) if migrated.holds => hold.phase = HoldPhase::Holding,
                _ => {
                    self.changed.remove(&stage);
                    self.ended.push(stage);
                    forget_hold(stage, writes);
                }
            }
        }
        for (stage, record) in &self.changed {
            records::put(writes, stage, record);
        }
        Ok(())
    }
}

/// Keeps what the tasks of a stage are with this epoch.
fn keep_tasks(
    db: &Db,
    sealed: &SealedEpoch,
    begin: &HoldBegin,
    writes: &mut WriteSet<'_>,
) -> Result<(), StateError> {
    let (first, end) = tasks_of(begin.stage);
    records::each::<TaskRecord>(db, &first, &end, |task, record| {
        records::put(writes, &task, &HeldTask(record));
    })?;
    // What is newer comes last.
    let now = sealed.tasks.iter();
    for task in now.filter(|task| task.task.stage == begin.stage) {
        records::put(writes, &task.task, &HeldTask(task.record.clone()));
    }
    Ok(())
}

fn tasks_of(stage: StageId) -> (TaskId, TaskId) {
    let first = |stage| TaskId {
        stage,
        partition: PartitionId(0),
    };
    (first(stage), first(StageId(stage.0 + 1)))
}

/// How far retention may go for the tasks of the stages that hold.
pub(super) fn kept_positions(
    db: &Db,
    holds: &Holds,
) -> Result<Vec<(TaskId, StreamId, Offset)>, StateError> {
    let mut kept = Vec::new();
    for stage in holds.stages() {
        let (first, end) = tasks_of(stage);
        records::each::<HeldTask>(db, &first, &end, |task, HeldTask(record)| {
            let positions = record.positions.iter();
            kept.extend(positions.map(|(stream, at)| (task, *stream, at.next)));
        })?;
    }
    Ok(kept)
}

impl Committer {
    /// Whether a stage holds what it does, or has not come to the end of that.
    pub fn is_holding(&self) -> bool {
        !self.holds.records.is_empty()
    }

    /// What every stage holds.
    pub fn hold_figures(&self) -> HoldFigures {
        self.holds.figures()
    }

    /// Lets a part of what a stage holds go out: durable, shown and delivered when it returns. While it lasts, new output goes behind.
    ///
    /// # Errors
    /// What happened is unknown: the process must end.
    pub fn release(&mut self, end: &mut HoldEnd, now: i64) -> Result<Progressed, CommitError> {
        let progressed = self.release_part(end, now)?;
        // Before anything comes behind it again.
        match progressed == Progressed::Partly && end.left == 0 {
            true => self.release_part(end, now),
            false => Ok(progressed),
        }
    }

    fn release_part(&mut self, end: &mut HoldEnd, now: i64) -> Result<Progressed, CommitError> {
        let stage = end.stage;
        let Some(mut hold) = self.holds.get(stage).cloned() else {
            return Ok(Progressed::Entirely);
        };
        let is_first = hold.phase == HoldPhase::Holding;
        // The last write holds nothing else, and records what was delivered before it.
        let is_last = !is_first && hold.first == hold.next;
        hold.phase = HoldPhase::Releasing;
        if is_first {
            self.supersede(&end.first);
        }
        // More than has come since the last part, so that it comes to its end.
        let bytes = RELEASED_BYTES + hold.output_bytes.saturating_sub(end.left);
        let mut outgoing: Vec<Outgoing> = Vec::new();
        let fill = |committer: &Committer,
                    writes: &mut WriteSet<'_>,
                    appended: &mut Appended,
                    key: &CommitKey| {
            let mut sent = match is_last {
                true => BTreeMap::new(),
                false => {
                    committer
                        .appender
                        .release(writes, appended, stage, &mut hold, (bytes, now))?
                }
            };
            outgoing = committer.outputs.stage(writes, &mut sent, key);
            if let Some(((stream, partition), _)) = sent.first_key_value() {
                let what = format!(
                    "stage {stage} holds output for stream {stream}, partition {partition}, which the job does not write any more"
                );
                return Err(StateError::Damaged(what).into());
            }
            let unread = |stream, partition| committer.read_up_to.unread_from(stream, partition);
            committer.appender.retain(writes, appended, &unread, now)?;
            let records: &[Encoded] = match (is_first, is_last) {
                (true, _) => &end.first,
                (_, true) => &end.last,
                (false, false) => &[],
            };
            records.iter().for_each(|record| record.write_into(writes));
            match is_last {
                true => forget_hold(stage, writes),
                false => records::put(writes, &stage, &hold),
            }
            Ok(())
        };
        let written = match is_last {
            true => self.write_keyed_step("release.last", fill),
            false => self.write_keyed_step("release.write", fill),
        }?;
        if let Some(written) = written {
            self.outputs.deliver(outgoing, &written)?;
        }
        if !is_last {
            end.left = hold.output_bytes;
            self.holds.set(stage, Some(hold));
            return Ok(Progressed::Partly);
        }
        self.end_hold(stage)?;
        Ok(Progressed::Entirely)
    }

    /// What a stage has done is final: retention goes by where its tasks are.
    fn end_hold(&mut self, stage: StageId) -> Result<(), StateError> {
        self.holds.set(stage, None);
        self.read_up_to.thaw(stage);
        let (first, end) = tasks_of(stage);
        let db = Arc::clone(&self.db);
        records::each::<TaskRecord>(&db, &first, &end, |task, record| {
            self.note_positions(task, &record);
        })
    }

    /// What an epoch's write has made of the holds.
    pub(super) fn note_holds(&mut self, changes: HoldChanges) -> Result<(), StateError> {
        for (stage, record) in changes.changed {
            // What its tasks are now, with the last work before it.
            self.read_up_to.freeze(stage);
            self.holds.set(stage, Some(record));
        }
        changes
            .ended
            .into_iter()
            .try_for_each(|stage| self.end_hold(stage))
    }

    /// Takes back a part of what a stage has done since it holds. No task of it may be there.
    ///
    /// # Errors
    /// What happened is unknown: the process must end.
    pub fn take_back(&mut self, end: &mut HoldEnd) -> Result<Progressed, CommitError> {
        let stage = end.stage;
        let Some(mut hold) = self.holds.get(stage).cloned() else {
            return Ok(Progressed::Entirely);
        };
        assert!(
            hold.phase != HoldPhase::Releasing,
            "what goes out is taken back"
        );
        let is_first = hold.phase != HoldPhase::RollingBack;
        hold.phase = HoldPhase::RollingBack;
        let (mut from, db) = (end.from.take(), Arc::clone(&self.db));
        if is_first {
            self.supersede(&end.first);
        }
        self.write_step("rollback.write", |_, writes, _| {
            if is_first {
                end.first
                    .iter()
                    .for_each(|record| record.write_into(writes));
                records::put(writes, &stage, &hold);
            }
            from = take_back(&db, stage, from.take(), writes)?;
            Ok(())
        })?;
        if from.is_some() {
            end.from = from;
            self.holds.set(stage, Some(hold));
            return Ok(Progressed::Partly);
        }
        self.write_step("rollback.last", |committer, writes, appended| {
            committer.restore_tasks(stage, writes)?;
            let appender = &committer.appender;
            appender.drop_held(writes, appended, stage, &mut hold)?;
            forget_hold(stage, writes);
            end.last.iter().for_each(|record| record.write_into(writes));
            Ok(())
        })?;
        self.holds.set(stage, None);
        // Their positions are again what retention goes by.
        self.read_up_to.thaw(stage);
        Ok(Progressed::Entirely)
    }

    /// The tasks of a stage are again what they were, each with its last stamp.
    fn restore_tasks(&self, stage: StageId, writes: &mut WriteSet<'_>) -> Result<(), StateError> {
        let (first, end) = tasks_of(stage);
        records::delete_range::<TaskRecord>(writes, &first, &end);
        records::each::<HeldTask>(&self.db, &first, &end, |task, HeldTask(mut record)| {
            record.stamp = self.stamps.get(&task).copied().unwrap_or_default();
            records::put(writes, &task, &record);
        })
    }
}

/// Adds to a write that a stage holds nothing any more.
fn forget_hold(stage: StageId, writes: &mut WriteSet<'_>) {
    let (first, end) = tasks_of(stage);
    records::delete_range::<HeldTask>(writes, &first, &end);
    records::delete::<HoldRecord>(writes, &stage);
    forget_undo(stage, writes);
}

/// What the tasks of a stage have sent.
pub(super) type HeldOutput<'a> = BTreeMap<StageId, LogParts<'a>>;

/// Adds to a write what stages have sent that hold.
pub(super) fn hold_output(
    writes: &mut WriteSet<'_>,
    appended: &mut Appended,
    parts: &Parts<'_>,
    changes: &mut HoldChanges,
    held: HeldOutput<'_>,
    now: i64,
) -> Result<(), BuildError> {
    for (stage, sent) in held {
        if let Some(hold) = changes.of(stage, parts.holds) {
            parts
                .appender
                .hold(writes, appended, stage, hold, sent, now)?;
        }
    }
    Ok(())
}
