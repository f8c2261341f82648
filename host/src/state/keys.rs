//! The layout of keys in the database.
//!
//! | column family | key |
//! | --- | --- |
//! | `state` | stage (2) task (4) store (2) key |
//! | `log` | `L` stream (2) partition (4) base offset (8), or `O` stream (2) partition (4) number (8) for outboxes |
//! | `meta` | the tag of a kind and a key; see the module `records` |
//!
//! Numbers are big-endian, so that the order of bytes is the order of numbers. A prefix has a fixed length, so any key of a
//! guest stays within the store's range.

use crate::model::{Offset, PartitionId, StoreId, StreamId, TaskId};

/// The order of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Smallest key first.
    Up,
    /// Greatest key first.
    Down,
}

/// The prefix of every key of one store of one task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorePrefix([u8; StorePrefix::LEN]);

impl StorePrefix {
    /// Bytes of a prefix.
    pub const LEN: usize = 8;

    /// The prefix of a store of a task.
    pub fn new(task: TaskId, store: StoreId) -> StorePrefix {
        let mut bytes = [0; Self::LEN];
        bytes[0..2].copy_from_slice(&task.stage.0.to_be_bytes());
        bytes[2..6].copy_from_slice(&task.partition.0.to_be_bytes());
        bytes[6..8].copy_from_slice(&store.0.to_be_bytes());
        StorePrefix(bytes)
    }

    /// Writes the database's key for a key of the store.
    pub fn key_into(self, key: &[u8], into: &mut Vec<u8>) {
        into.clear();
        into.extend_from_slice(&self.0);
        into.extend_from_slice(key);
    }

    /// The database's key for a key of the store.
    pub fn key(self, key: &[u8]) -> Vec<u8> {
        let mut full = Vec::with_capacity(Self::LEN + key.len());
        self.key_into(key, &mut full);
        full
    }

    /// The first database key after all of the store's.
    pub fn end(self) -> Vec<u8> {
        end_of_prefix(&self.0)
    }

    /// The database's bounds for a range of the store: start inclusive, end exclusive.
    pub fn range(self, start: Option<&[u8]>, end: Option<&[u8]>) -> (Vec<u8>, Vec<u8>) {
        (
            self.key(start.unwrap_or_default()),
            end.map_or_else(|| self.end(), |end| self.key(end)),
        )
    }
}

/// The first key after all that begin with `prefix`. A prefix of 0xFF bytes only has no such key; no
/// prefix of ours is like that, because ids stop short of it.
pub fn end_of_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            return end;
        }
        end.pop();
    }
    vec![u8::MAX; prefix.len() + 1]
}

fn tagged(tag: u8, stream: StreamId, partition: PartitionId) -> Vec<u8> {
    let mut key = Vec::with_capacity(15);
    key.push(tag);
    key.extend_from_slice(&stream.0.to_be_bytes());
    key.extend_from_slice(&partition.0.to_be_bytes());
    key
}

/// The key of the log chunk that begins at `base`.
pub fn log_chunk(stream: StreamId, partition: PartitionId, base: Offset) -> Vec<u8> {
    let mut key = tagged(b'L', stream, partition);
    key.extend_from_slice(&base.to_be_bytes());
    key
}

/// The key of outbox chunk `number`.
pub fn outbox_chunk(stream: StreamId, partition: PartitionId, number: u64) -> Vec<u8> {
    let mut key = tagged(b'O', stream, partition);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// The number at the end of a key of [`log_chunk`] or [`outbox_chunk`].
pub fn trailing_number(key: &[u8]) -> Option<u64> {
    key.last_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::StageId;

    #[test]
    fn the_end_of_a_prefix_is_after_every_key_with_it() {
        for prefix in [&b"a"[..], b"a\xff", b"a\xff\xff", b"\x00"] {
            let end = end_of_prefix(prefix);
            for tail in [&b""[..], b"\x00", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff"] {
                let key = [prefix, tail].concat();
                assert!(key < end, "{key:?} {end:?}");
            }
        }
    }

    #[test]
    fn neighbouring_stores_do_not_touch() {
        let prefix = |stage, partition, store| {
            let task = TaskId {
                stage: StageId(stage),
                partition: PartitionId(partition),
            };
            StorePrefix::new(task, StoreId(store))
        };
        let order = [
            prefix(0, 0, 0),
            prefix(0, 0, 0xff),
            prefix(0, 0, 0x100),
            prefix(0, 1, 0),
            prefix(1, 0, 0),
        ];
        for pair in order.windows(2) {
            assert!(pair[0].end() <= pair[1].key(b""));
            assert!(pair[0].key(&[0xff; 64]) < pair[0].end());
        }
    }
}
