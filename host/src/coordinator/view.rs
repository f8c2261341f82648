//! What is committed: the same answers for a job that runs and for one that does not.

use std::sync::Arc;

use crate::checkpoint::catalog::Catalog;
use crate::checkpoint::logs::{LogStream, Logs, Retention};
use crate::connectors::SourceError;
use crate::connectors::log::{LogRead, LogReader};
use crate::model::{CommitKey, Offset, PartitionId, StreamId, TaskId, TimestampMs};
use crate::records::{self, CheckpointRecord, StreamRecord, TaskRecord};
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
    /// How much of a log is read at a time for a caller outside.
    pub const READ_BYTES: usize = 1 << 20;

    pub(super) fn of_running(db: Arc<Db>, logs: Arc<Logs>) -> View {
        View { db, logs }
    }

    /// A view of a job that does not run.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn of_stopped(db: Arc<Db>) -> Result<View, StateError> {
        let catalog = Catalog::read(&db)?;
        let streams: Vec<LogStream> = catalog
            .streams
            .values()
            .filter(|stream| stream.is_in_log())
            .map(|stream| LogStream {
                id: stream.id,
                partitions: stream.partitions,
                retention: Retention::default(),
            })
            .collect();
        let logs = Logs::open(&db, &streams)?;
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

    /// A log stream by name.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn log_stream(&self, name: &str) -> Result<Option<StreamRecord>, StateError> {
        let mut catalog = self.catalog()?;
        Ok(catalog.streams.remove(name).filter(StreamRecord::is_in_log))
    }

    /// The first offset of a partition of a log, and the one after the last.
    pub fn log_bounds(&self, stream: StreamId, partition: PartitionId) -> (Offset, Offset) {
        self.logs.bounds(stream, partition)
    }

    /// Messages of a partition of a log.
    ///
    /// # Errors
    /// The offset does not exist, or the log is damaged.
    pub fn log_read(
        &self,
        stream: StreamId,
        partition: PartitionId,
        from: Offset,
        bytes_max: usize,
    ) -> Result<LogRead, SourceError> {
        self.logs.read(stream, partition, from, bytes_max)
    }

    /// The first offset of a partition of a log whose message is not older than `time`, or the end.
    ///
    /// # Errors
    /// The log is damaged.
    pub fn log_offset_at(
        &self,
        stream: StreamId,
        partition: PartitionId,
        time: TimestampMs,
    ) -> Result<Offset, SourceError> {
        self.logs.offset_at(stream, partition, time)
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
        let snapshot = Snapshot::take(&self.db);
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
