//! Records of the `meta` column family.
//!
//! | key | record |
//! | --- | --- |
//! | `commit` | [`CommitKey`](crate::model::CommitKey) |
//! | `unwitnessed` | [`Unwitnessed`], while writes are not synced |
//! | `stage/` name | [`StageRecord`] |
//! | `stream/` name | [`StreamRecord`] |
//! | `task/` stage (2) partition (4) | [`TaskRecord`] |
//! | `log/` stream (2) partition (4) | [`LogRecord`] |
//! | `outbox/` stream (2) partition (4) | [`OutboxRecord`] |
//! | `checkpoint/` epoch (8) | [`CheckpointRecord`], the last 100 |
//!
//! A record is one byte of version, 1, and the fields in their order in postcard's wire format. A record of a later
//! version is refused: the state directory's own version is raised with it.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::db::{Db, Family, Order, WriteSet};
use super::{StateError, keys};
use crate::model::{
    Epoch, Offset, PartitionId, Position, StageId, Stamp, StoreId, StreamId, TaskId, TimestampMs,
};

const VERSION: u8 = 1;

/// Since when commits are not synced, and under which boot of the machine: as long as it runs, nothing is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unwitnessed {
    /// The kernel's boot id.
    pub boot_id: String,
    /// The last epoch that was synced.
    pub synced: Epoch,
}

/// A stage that the state directory knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageRecord {
    /// Its number.
    pub id: StageId,
    /// How many tasks it has; fixed.
    pub partitions: u32,
    /// The component of the last checkpoint: SHA-256, hexadecimal.
    pub component: String,
    /// Its stores, by name.
    pub stores: BTreeMap<String, StoreId>,
}

/// A stream that the state directory knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRecord {
    /// Its number.
    pub id: StreamId,
    /// Its partitions where the state directory holds something of it; fixed.
    pub partitions: u32,
    /// The system it belonged to.
    pub system: String,
}

/// A task at its last checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TaskRecord {
    /// Names the checkpoint.
    pub stamp: Stamp,
    /// Store time.
    pub store_time: TimestampMs,
    /// The latest timestamp of any message it has processed.
    pub latest: TimestampMs,
    /// Where each input goes on.
    pub positions: BTreeMap<StreamId, Position>,
    /// For each output stream, where round robin goes on.
    pub round_robin: BTreeMap<StreamId, u64>,
    /// Messages processed in all.
    pub processed: u64,
    /// Messages rejected in all.
    pub rejected: u64,
    /// `on-end` has been called for these positions.
    pub ended: bool,
}

/// A partition of a log stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogRecord {
    /// The first offset that is there.
    pub start: Offset,
    /// The offset after the last.
    pub end: Offset,
    /// Bytes of its chunks.
    pub bytes: u64,
}

/// A partition of an output outside of the database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OutboxRecord {
    /// The first chunk that is not recorded as delivered.
    pub first: u64,
    /// The number of the next chunk.
    pub next: u64,
    /// Bytes in these chunks, as they will be delivered.
    pub bytes: u64,
    /// The offset of the next message.
    pub next_offset: Offset,
    /// The sink's own account of what it has delivered.
    pub sink: Option<Vec<u8>>,
}

/// What a checkpoint was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointRecord {
    /// Its epoch.
    pub epoch: Epoch,
    /// What asked for it.
    pub trigger: String,
    /// When the barrier was set.
    pub time: TimestampMs,
    /// Microseconds from the barrier until the checkpoint was durable; in the newest record, until its write was built.
    pub duration_us: u64,
    /// The longest pause of a task, microseconds.
    pub pause_us: u64,
    /// Tasks in it.
    pub tasks: u64,
    /// Entries of stores written.
    pub entries: u64,
    /// Messages sent.
    pub messages: u64,
    /// Bytes of the write.
    pub bytes: u64,
    /// Failed attempts before it.
    pub failed_attempts: u32,
}

/// The stored form of a record.
pub fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    match postcard::to_extend(record, vec![VERSION]) {
        Ok(bytes) => bytes,
        Err(error) => panic!("a record cannot be encoded: {error}"),
    }
}

/// Reads a record.
///
/// # Errors
/// It is damaged or of a later version.
pub fn decode<T: DeserializeOwned>(stored: &[u8], what: &str) -> Result<T, StateError> {
    match stored.split_first() {
        Some((&VERSION, rest)) => postcard::from_bytes(rest)
            .map_err(|error| StateError::Damaged(format!("the record of {what}: {error}"))),
        Some((version, _)) => Err(StateError::Damaged(format!(
            "the record of {what} has version {version}, which this version does not know"
        ))),
        None => Err(StateError::Damaged(format!(
            "the record of {what} is empty"
        ))),
    }
}

/// The key of the commit key.
pub const COMMIT: &[u8] = b"commit";
/// The key of [`Unwitnessed`].
pub const UNWITNESSED: &[u8] = b"unwitnessed";
/// What the keys of [`StageRecord`] begin with.
pub const STAGES: &str = "stage/";
/// What the keys of [`StreamRecord`] begin with.
pub const STREAMS: &str = "stream/";
/// What the keys of [`CheckpointRecord`] begin with.
pub const CHECKPOINTS: &str = "checkpoint/";

/// The key of a [`TaskRecord`].
pub fn task_key(task: TaskId) -> Vec<u8> {
    numbered(
        b"task/",
        &task.stage.0.to_be_bytes(),
        &task.partition.0.to_be_bytes(),
    )
}

/// The task of a key of [`task_key`], without its `task/`.
pub fn task_of_key(rest: &[u8]) -> Option<TaskId> {
    let (stage, partition) = rest.split_first_chunk::<2>()?;
    Some(TaskId {
        stage: StageId(u16::from_be_bytes(*stage)),
        partition: PartitionId(u32::from_be_bytes(partition.try_into().ok()?)),
    })
}

/// Stream and partition of a key of [`log_key`] or [`outbox_key`], without its tag.
pub fn place_of_key(rest: &[u8]) -> Option<(StreamId, PartitionId)> {
    let (stream, partition) = rest.split_first_chunk::<2>()?;
    let partition = u32::from_be_bytes(partition.try_into().ok()?);
    Some((
        StreamId(u16::from_be_bytes(*stream)),
        PartitionId(partition),
    ))
}

/// The key of a [`LogRecord`].
pub fn log_key(stream: StreamId, partition: PartitionId) -> Vec<u8> {
    numbered(b"log/", &stream.0.to_be_bytes(), &partition.0.to_be_bytes())
}

/// The key of an [`OutboxRecord`].
pub fn outbox_key(stream: StreamId, partition: PartitionId) -> Vec<u8> {
    numbered(
        b"outbox/",
        &stream.0.to_be_bytes(),
        &partition.0.to_be_bytes(),
    )
}

/// The key of a [`CheckpointRecord`].
pub fn checkpoint_key(epoch: Epoch) -> Vec<u8> {
    numbered(CHECKPOINTS.as_bytes(), &epoch.0.to_be_bytes(), &[])
}

fn numbered(tag: &[u8], first: &[u8], second: &[u8]) -> Vec<u8> {
    [tag, first, second].concat()
}

/// Reads the record under a key.
///
/// # Errors
/// The database cannot be read, or the record is damaged.
pub fn get<T: DeserializeOwned>(db: &Db, key: &[u8]) -> Result<Option<T>, StateError> {
    let what = String::from_utf8_lossy(key).into_owned();
    db.get_with(Family::Meta, key, |stored| {
        stored.map(|stored| decode(stored, &what)).transpose()
    })?
}

/// Sets the record under a key.
pub fn put<T: Serialize>(writes: &mut WriteSet<'_>, key: &[u8], record: &T) {
    writes.put(Family::Meta, key, &encode(record));
}

/// All records whose key begins with `prefix`, with the rest of their keys.
///
/// # Errors
/// The database cannot be read, or a record is damaged.
pub fn list<T: DeserializeOwned>(db: &Db, prefix: &[u8]) -> Result<Vec<(Vec<u8>, T)>, StateError> {
    let mut found = Vec::new();
    let end = keys::end_of_prefix(prefix);
    let mut walk = db.walk(Family::Meta, prefix.to_vec(), end, Order::Up);
    while let Some((key, stored)) = walk.entry()? {
        let what = String::from_utf8_lossy(key).into_owned();
        found.push((key[prefix.len()..].to_vec(), decode(stored, &what)?));
        walk.advance();
    }
    Ok(found)
}
