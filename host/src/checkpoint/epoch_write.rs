//! The one write of an epoch: all that it changes, and what follows from it once it is proved.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::time::Duration;

use super::BuildError;
use super::hold::{HeldOutput, HoldChanges, Holds, hold_output};
use super::logs::{Appended, LogAppender, LogParts, Part};
use super::outputs::{Outgoing, Outputs};
use super::read_up_to::ReadUpTo;
use crate::epoch::{SealedEpoch, SealedTask, Sent};
use crate::model::{
    CommitKey, Epoch, Messages, Offset, PartitionId, Stamp, StreamId, TaskId, TimestampMs,
};
use crate::records::{self, CheckpointRecord, Encoded, TaskRecord};
use crate::state::{Db, Flush, LISTED_KEYS_MAX, ResolvedRanges, StateError, WriteSet};

/// How many checkpoints are remembered.
const HISTORY: u64 = 100;

/// An epoch that is ready to be written.
pub(super) struct EpochWrite<'a> {
    pub(super) writes: WriteSet<'a>,
    /// The messages that are part of the decision.
    pub(super) carried: Sent,
    pub(super) then: Consequences,
}

/// What becomes true with an epoch's write.
pub(super) struct Consequences {
    pub(super) key: CommitKey,
    pub(super) appended: Appended,
    pub(super) outgoing: Vec<Outgoing>,
    /// For each task with changes, in order.
    pub(super) removed: Vec<ResolvedRanges>,
    pub(super) stamps: Vec<(TaskId, Stamp)>,
    pub(super) record: CheckpointRecord,
    pub(super) positions: Vec<(TaskId, StreamId, Offset)>,
    pub(super) holds: HoldChanges,
}

/// What a write is built from, in addition to the epoch.
pub(super) struct Parts<'a> {
    pub(super) appender: &'a LogAppender,
    pub(super) outputs: &'a Outputs,
    pub(super) stamps: &'a BTreeMap<TaskId, Stamp>,
    pub(super) read_up_to: &'a ReadUpTo,
    pub(super) holds: &'a Holds,
    /// Makes a write that means nothing without the next.
    pub(super) write_ahead: &'a Flush<'a>,
    /// Records that become true with the next checkpoint.
    pub(super) with_checkpoint: &'a [Encoded],
    /// The same, for the next epoch in which a component has done something.
    pub(super) components: &'a [Encoded],
    /// Whether the messages of a stream are part of the decision.
    pub(super) carries: &'a dyn Fn(StreamId) -> bool,
    pub(super) failed_attempts: u32,
}

/// What the tasks of an epoch come to, all together.
#[derive(Default)]
struct Gathered {
    removed: Vec<ResolvedRanges>,
    stamps: Vec<(TaskId, Stamp)>,
    positions: Vec<(TaskId, StreamId, Offset)>,
    entries: u64,
    messages: u64,
    pause: Duration,
}

/// Builds the write of an epoch, and makes durable what is beside the database. Nothing that exists is changed.
pub(super) fn build<'a>(
    db: &'a Db,
    parts: &Parts<'_>,
    sealed: &SealedEpoch,
    key: CommitKey,
) -> Result<EpochWrite<'a>, BuildError> {
    let mut writes = db.write_set();
    let mut holds = HoldChanges::default();
    let SortedOut {
        logged,
        held,
        mut sent,
    } = sort_out(parts, sealed);
    let carries =
        |(stream, _): &(StreamId, PartitionId), _: &mut Messages| (parts.carries)(*stream);
    let carried = sent.extract_if(.., carries).collect();
    let outgoing = parts.outputs.stage(&mut writes, &mut sent, &key);
    assert!(
        sent.is_empty(),
        "each message goes to a log or to an outbox"
    );
    let mut appended = Appended::default();
    hold_output(
        &mut writes,
        &mut appended,
        parts,
        &mut holds,
        held,
        sealed.time,
    )?;
    append(&mut writes, &mut appended, parts, logged, sealed.time)?;
    let tasks = while_synced(&appended, || {
        gather(db, &mut writes, parts, sealed, &key, &mut holds)
    })?;
    holds.write_into(db, parts, sealed, &mut writes)?;
    let record = CheckpointRecord {
        epoch: sealed.epoch,
        trigger: sealed.trigger.to_owned(),
        time: sealed.time,
        duration_us: micros(sealed.began.elapsed()),
        pause_us: micros(tasks.pause),
        tasks: sealed.tasks.len() as u64,
        entries: tasks.entries,
        messages: tasks.messages,
        bytes: writes.bytes() as u64 + appended.bytes_beside(),
        failed_attempts: parts.failed_attempts,
    };
    records::put(&mut writes, &sealed.epoch, &record);
    write_records(&mut writes, parts, sealed);
    Ok(EpochWrite {
        writes,
        carried,
        then: Consequences {
            key,
            appended,
            outgoing,
            removed: tasks.removed,
            stamps: tasks.stamps,
            record,
            positions: tasks.positions,
            holds,
        },
    })
}

/// Gathers the tasks. The disk is busy with the log while the state is put in order.
fn while_synced(
    appended: &Appended,
    gather: impl FnOnce() -> Result<Gathered, StateError>,
) -> Result<Gathered, BuildError> {
    std::thread::scope(|scope| {
        let syncs = appended.bytes_beside() > 0;
        let sync = syncs.then(|| scope.spawn(|| appended.sync()));
        let tasks = gather();
        if let Some(sync) = sync {
            let synced = sync.join().unwrap_or_else(|panic| resume_unwind(panic));
            synced.map_err(BuildError::Sync)?;
        }
        tasks.map_err(BuildError::State)
    })
}

/// Adds what becomes true with the epoch, and removes what is forgotten.
fn write_records(writes: &mut WriteSet<'_>, parts: &Parts<'_>, sealed: &SealedEpoch) {
    let components = parts.components.iter().filter(|_| sealed.has_work());
    for record in parts.with_checkpoint.iter().chain(components) {
        record.write_into(writes);
    }
    // What is newer comes last.
    for record in &sealed.records {
        record.write_into(writes);
    }
    if let Some(old) = sealed.epoch.0.checked_sub(HISTORY) {
        records::delete::<CheckpointRecord>(writes, &Epoch(old));
    }
}

/// Adds the changes and the record of each task.
fn gather(
    db: &Db,
    writes: &mut WriteSet<'_>,
    parts: &Parts<'_>,
    sealed: &SealedEpoch,
    key: &CommitKey,
    holds: &mut HoldChanges,
) -> Result<Gathered, StateError> {
    let mut gathered = Gathered::default();
    let mut listed = LISTED_KEYS_MAX;
    for task in &sealed.tasks {
        if let Some(state) = &task.state {
            let ranges = state.resolve_ranges(&mut listed)?;
            match holds.of(task.task.stage, parts.holds) {
                // What ends with this write need not be saved.
                Some(hold) if hold.saves() && !sealed.ends_hold(task.task.stage) => {
                    let (keys, bytes) =
                        parts
                            .holds
                            .write_saving(db, state, &ranges, writes, parts.write_ahead)?;
                    hold.undo_keys += keys;
                    hold.undo_bytes += bytes;
                }
                _ => state.write_into(writes, &ranges)?,
            }
            gathered.removed.push(ranges);
            gathered.entries += state.size().0 as u64;
        }
        parts
            .holds
            .keep_beginnings(db, (task.task, &task.record, &task.began), writes)?;
        let record = record_of(task, parts.stamps, key);
        gathered.stamps.push((task.task, record.stamp));
        for (stream, position) in &record.positions {
            parts.read_up_to.check(task.task, *stream, position.next);
            let position = (task.task, *stream, position.next);
            gathered.positions.push(position);
        }
        records::put(writes, &task.task, &record);
        gathered.messages += task.staged.len() as u64;
        gathered.pause = gathered.pause.max(task.pause);
    }
    Ok(gathered)
}

/// Appends messages to logs, and deletes what retention does not keep.
fn append(
    writes: &mut WriteSet<'_>,
    appended: &mut Appended,
    parts: &Parts<'_>,
    logged: LogParts<'_>,
    time: TimestampMs,
) -> Result<(), BuildError> {
    let appender = parts.appender;
    for (at, parts) in logged {
        appender.append(writes, appended, at, parts, time)?;
    }
    let unread = |stream, partition| parts.read_up_to.unread_from(stream, partition);
    appender.retain(writes, appended, &unread, time)?;
    appender.finish(writes, appended)
}

/// A task's record, with the stamp of this write.
fn record_of(task: &SealedTask, stamps: &BTreeMap<TaskId, Stamp>, key: &CommitKey) -> TaskRecord {
    let before = stamps.get(&task.task).copied().unwrap_or_default();
    let stamp = Stamp {
        task_epoch: before.task_epoch + 1,
        container_epoch: key.epoch,
        nonce: key.nonce,
    };
    TaskRecord {
        stamp,
        ..task.record.clone()
    }
}

/// The messages of an epoch, by where they go.
#[derive(Default)]
struct SortedOut<'a> {
    logged: LogParts<'a>,
    /// Of stages that hold.
    held: HeldOutput<'a>,
    sent: Sent,
}

/// Gives each message to its partition, in the order in which the task sent them: those for logs, and those that are held, as they lie,
/// the others as copies.
fn sort_out<'a>(parts: &Parts<'_>, sealed: &'a SealedEpoch) -> SortedOut<'a> {
    let SortedOut {
        mut logged,
        mut held,
        mut sent,
    } = SortedOut::default();
    for task in &sealed.tasks {
        let (routes, messages) = (&task.staged.routes, &task.staged.messages);
        let stage = task.task.stage;
        let mut held = parts
            .holds
            .get(stage)
            .map(|_| held.entry(stage).or_default());
        let mut from = 0;
        while from < routes.len() {
            let (port, partition) = routes[from];
            let same = |route: &&_| **route == (port, partition);
            let to = from + routes[from..].iter().take_while(same).count();
            let (at, range) = ((task.ports[port.index()], partition), from..to);
            if let Some(held) = &mut held {
                held.entry(at).or_default().push(Part { messages, range });
            } else if let Some(logged) = logged.get_mut(&at) {
                logged.push(Part { messages, range });
            } else if parts.appender.holds(at) && !(parts.carries)(at.0) {
                logged.insert(at, vec![Part { messages, range }]);
            } else {
                sent.entry(at).or_default().extend_from(messages, range);
            }
            from = to;
        }
    }
    SortedOut { logged, held, sent }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
