//! What is committed: the same answers for a job that runs and for one that does not.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::checkpoint::catalog::Catalog;
use crate::checkpoint::logs::Logs;
use crate::connectors::SourceError;
use crate::connectors::log::{LogRead, LogReader};
use crate::model::{CommitKey, Offset, PartitionId, StageId, StreamId, TaskId, TimestampMs};
use crate::records::{self, CheckpointRecord, HoldRecord, LetterRecord, SwapRecord, TaskRecord};
use crate::state::keys::StorePrefix;
use crate::state::{Db, Family, Order, Snapshot, StateError};

/// A view of committed state.
#[derive(Clone)]
pub struct View {
    db: Arc<Db>,
    logs: Arc<Logs>,
}

/// A task and its record.
pub struct TaskView {
    /// Its name: stage, slash, partition.
    pub task: String,
    /// Its number.
    pub id: TaskId,
    /// As committed.
    pub record: TaskRecord,
}

/// An entry of a store.
pub struct Entry {
    /// The task.
    pub task: String,
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

/// What to do about messages that retention has deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// Reading them is an error.
    Refused,
    /// Reading begins behind them.
    PassedOver,
}

/// A log cannot be read for a caller outside.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// There is no such log.
    #[error("the job has no log stream {0:?}")]
    NoStream(String),
    /// It has fewer partitions.
    #[error("stream {stream:?} has no partition {partition}: it has {partitions}")]
    NoPartition {
        /// The stream.
        stream: String,
        /// The partition that was asked for.
        partition: PartitionId,
        /// How many it has.
        partitions: u32,
    },
    /// It no longer has, or does not have yet, the offset.
    #[error(
        "offset {offset} does not exist: partition {partition} of stream {stream:?} holds {oldest} up to, not including, {end}; \
         what retention deletes before it is read cannot be read any more: go on with `--from oldest`"
    )]
    NotThere {
        /// The stream.
        stream: String,
        /// The partition.
        partition: PartitionId,
        /// The offset that was asked for.
        offset: Offset,
        /// The first offset that still exists.
        oldest: Offset,
        /// The offset after the last.
        end: Offset,
    },
    /// The log is damaged.
    #[error(transparent)]
    Damaged(#[from] SourceError),
    /// The database cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Which entries to show.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// From this key on.
    pub from: Option<Vec<u8>>,
    /// To before this key.
    pub to: Option<Vec<u8>>,
    /// Keys that begin with this.
    pub prefix: Option<Vec<u8>>,
    /// The most entries.
    pub limit: Option<usize>,
}

impl View {
    /// What is committed now, and stays as it is.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::new(Snapshot::take(&self.db))
    }

    pub(super) fn of_running(db: Arc<Db>, logs: Arc<Logs>) -> View {
        View { db, logs }
    }

    /// A view of a job that does not run.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn of_stopped(db: Arc<Db>, directory: &Path) -> Result<View, StateError> {
        let logs = Logs::open(&db, directory, &[])?;
        Ok(View { db, logs })
    }

    /// The last synced write.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn commit(&self) -> Result<CommitKey, StateError> {
        Ok(records::get(&self.db, &())?.unwrap_or_default())
    }

    /// The names and numbers of stages, stores and streams.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn catalog(&self) -> Result<Catalog, StateError> {
        Catalog::read(&self.db)
    }

    /// The last checkpoints, oldest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn checkpoints(&self) -> Result<Vec<CheckpointRecord>, StateError> {
        let found = records::list(&self.db)?;
        Ok(found.into_iter().map(|(_, record)| record).collect())
    }

    /// The last swaps that are recorded, by number.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn swaps(&self) -> Result<Vec<(u64, SwapRecord)>, StateError> {
        records::list(&self.db)
    }

    /// What stages hold.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn holds(&self) -> Result<BTreeMap<StageId, HoldRecord>, StateError> {
        Ok(records::list(&self.db)?.into_iter().collect())
    }

    /// Whether the state of a stage is not as any code has left it: the next start takes that back.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn is_between(&self) -> Result<bool, StateError> {
        Ok(self.holds()?.values().any(HoldRecord::is_between))
    }

    /// Every task that a checkpoint has contained, in order of stage and partition.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn tasks(&self) -> Result<Vec<TaskView>, StateError> {
        let catalog = self.catalog()?;
        let found = records::list::<TaskRecord>(&self.db)?;
        Ok(found
            .into_iter()
            .filter_map(|(id, record)| {
                let (stage, _) = catalog
                    .stages
                    .iter()
                    .find(|(_, stage)| stage.id == id.stage)?;
                Some(TaskView {
                    task: format!("{stage}/{}", id.partition),
                    id,
                    record,
                })
            })
            .collect())
    }

    /// A task as committed.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn task(&self, task: TaskId) -> Result<Option<TaskRecord>, StateError> {
        records::get(&self.db, &task)
    }

    /// What became of dead letters, by their offsets; of those without an entry nothing did.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn letter_marks(
        &self,
        stream: StreamId,
        partition: PartitionId,
        offsets: Range<Offset>,
    ) -> Result<BTreeMap<Offset, LetterRecord>, StateError> {
        let (first, end) = (
            (stream, partition, offsets.start),
            (stream, partition, offsets.end),
        );
        let mut marks = BTreeMap::new();
        records::each(&self.db, &first, &end, |(_, _, offset), mark| {
            marks.insert(offset, mark);
        })?;
        Ok(marks)
    }

    /// The first offset of a partition of a log, and the one after the last.
    pub fn log_bounds(&self, stream: StreamId, partition: PartitionId) -> (Offset, Offset) {
        self.logs.bounds(stream, partition)
    }

    /// Messages of a partition of a log: as many as are read at a time.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn log_read(
        &self,
        stream: &str,
        partition: PartitionId,
        mut from: Offset,
        deleted: Deleted,
    ) -> Result<LogRead, LogError> {
        const READ_BYTES: usize = 1 << 20;
        let id = self.log_partition(stream, partition)?;
        loop {
            let read = self.logs.read(id, partition, from, READ_BYTES);
            let Err(SourceError::OffsetOutOfRange { oldest, end, .. }) = read else {
                return Ok(read?);
            };
            if deleted == Deleted::Refused || oldest <= from {
                return Err(LogError::NotThere {
                    stream: stream.to_owned(),
                    partition,
                    offset: from,
                    oldest,
                    end,
                });
            }
            from = oldest;
        }
    }

    /// The first offset of a partition of a log whose message is not older than `time`, or the end.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn log_offset_at(
        &self,
        stream: &str,
        partition: PartitionId,
        time: TimestampMs,
    ) -> Result<Offset, LogError> {
        let id = self.log_partition(stream, partition)?;
        Ok(self.logs.offset_at(id, partition, time)?)
    }

    fn log_partition(&self, stream: &str, partition: PartitionId) -> Result<StreamId, LogError> {
        let catalog = self.catalog()?;
        match catalog.streams.get(stream) {
            Some(found) if found.is_in_log() && partition.0 < found.partitions => Ok(found.id),
            Some(found) if found.is_in_log() => Err(LogError::NoPartition {
                stream: stream.to_owned(),
                partition,
                partitions: found.partitions,
            }),
            _ => Err(LogError::NoStream(stream.to_owned())),
        }
    }

    /// Calls `each` with every entry of a stage's store, task by task in key order, until it returns false.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn scan(
        &self,
        stage: &str,
        store: &str,
        only: Option<PartitionId>,
        selection: &Selection,
        each: &mut dyn FnMut(Entry) -> bool,
    ) -> Result<(), StateError> {
        let catalog = self.catalog()?;
        // All tasks at the same checkpoint.
        let snapshot = self.snapshot();
        let Some(record) = catalog.stages.get(stage) else {
            return Ok(());
        };
        let Some(store) = record.stores.get(store) else {
            return Ok(());
        };
        let mut left = selection.limit.unwrap_or(usize::MAX);
        for partition in (0..record.partitions).map(PartitionId) {
            if only.is_some_and(|only| only != partition) {
                continue;
            }
            let id = TaskId {
                stage: record.id,
                partition,
            };
            let (lower, upper) = bounds(StorePrefix::new(id, *store), selection);
            if lower >= upper {
                continue;
            }
            let mut walk = snapshot.walk(Family::State, lower, upper, Order::Up);
            while let Some((key, stored)) = walk.entry()? {
                if left == 0 {
                    return Ok(());
                }
                left -= 1;
                let entry = Entry {
                    task: format!("{stage}/{partition}"),
                    key: key[StorePrefix::LEN..].to_vec(),
                    value: crate::state::decode_value(stored)?.to_vec(),
                };
                if !each(entry) {
                    return Ok(());
                }
                walk.advance();
            }
        }
        Ok(())
    }
}

fn bounds(prefix: StorePrefix, selection: &Selection) -> (Vec<u8>, Vec<u8>) {
    let (mut lower, mut upper) = prefix.range(selection.from.as_deref(), selection.to.as_deref());
    if let Some(begins) = &selection.prefix {
        let first = prefix.key(begins);
        let end = crate::state::keys::end_of_prefix(&first);
        lower = lower.max(first);
        upper = upper.min(end).min(prefix.end());
    }
    (lower, upper)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::checkpoint::Committer;
    use crate::checkpoint::logs::Retention;
    use crate::checkpoint::logs::testing::one_log;
    use crate::connectors::testing::Folder;
    use crate::model::{MessageRef, Messages};

    const PARTITION: PartitionId = PartitionId(0);
    const AGE_MS: TimestampMs = 1000;

    /// A log that keeps messages for a second.
    struct Log {
        folder: Folder,
        db: Arc<Db>,
        committer: Committer,
        id: StreamId,
    }

    impl Log {
        fn new() -> Log {
            let folder = Folder::new();
            let retention = Retention {
                age: Some(Duration::from_millis(1000)),
                ..Retention::default()
            };
            let (db, committer, id) = one_log(&folder, 1, retention);
            Log {
                folder,
                db,
                committer,
                id,
            }
        }

        fn append(&mut self, time: TimestampMs) {
            let mut messages = Messages::default();
            messages.push(MessageRef::new(None, Some(b"value"), time));
            let messages = BTreeMap::from([(PARTITION, messages)]);
            let appended = self.committer.append(self.id, &messages, time);
            appended.expect("it is appended");
        }

        /// A reader that has not been told what retention deletes from now on.
        fn view(&self) -> View {
            let directory = self.folder.path().join("state");
            View::of_stopped(Arc::clone(&self.db), &directory).expect("a view")
        }
    }

    #[test]
    fn a_reader_that_named_no_offset_passes_over_what_is_deleted_before_it_is_told() {
        let mut log = Log::new();
        log.append(0);
        log.append(0);
        log.append(AGE_MS);
        let view = log.view();
        log.committer.retain(AGE_MS + 1).expect("two are deleted");
        let read = view.log_read("in", PARTITION, 0, Deleted::PassedOver);
        let read = read.expect("one is there");
        assert_eq!((read.first, read.messages.len()), (2, 1));
        assert_eq!(view.log_offset_at("in", PARTITION, 0).expect("a time"), 2);
        let overtaken = view.log_read("in", PARTITION, 1, Deleted::Refused);
        let overtaken = overtaken.expect_err("it is deleted").to_string();
        assert!(
            overtaken.contains("offset 1 does not exist")
                && overtaken.contains("holds 2 up to, not including, 3")
                && overtaken.contains("--from oldest"),
            "{overtaken}"
        );
        let beyond = view.log_read("in", PARTITION, 4, Deleted::PassedOver);
        assert!(matches!(beyond, Err(LogError::NotThere { end: 3, .. })));
    }

    #[test]
    fn a_log_that_was_emptied_before_its_reader_is_told_is_not_damaged() {
        let mut log = Log::new();
        log.append(0);
        log.append(0);
        let view = log.view();
        log.committer.retain(2 * AGE_MS).expect("both are deleted");
        let read = view.log_read("in", PARTITION, 0, Deleted::PassedOver);
        let read = read.expect("nothing is there");
        assert_eq!((read.first, read.messages.len()), (2, 0));
        assert_eq!(view.log_offset_at("in", PARTITION, 0).expect("a time"), 2);
        let overtaken = view.log_read("in", PARTITION, 0, Deleted::Refused);
        assert!(matches!(
            overtaken,
            Err(LogError::NotThere {
                oldest: 2,
                end: 2,
                ..
            })
        ));
    }
}
