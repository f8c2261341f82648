//! The layout of keys in the database.
//!
//! | column family | key |
//! | --- | --- |
//! | `state` | stage (2) task (4) store (2) key; of an undo record the same, with the top bit of the stage set |
//! | `log` | `L` stream (2) partition (4) base offset (8), or `O` stream (2) partition (4) number (8) for outboxes, or `H` stage (2) number (8) stream (2) partition (4) for held output |
//! | `meta` | the tag of a kind and a key; see the module `records` |
//!
//! Numbers are big-endian, so that the order of bytes is the order of numbers. A prefix has a fixed length, so any key of a
//! guest stays within the store's range.

use crate::model::{Offset, PartitionId, StageId, StoreId, StreamId, TaskId};

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

/// The number of a stage in the keys of undo records has this bit. No stage has it in its own.
const UNDO: u8 = 0x80;

/// What every key of a stage's stores begins with.
///
/// # Panics
/// There are 32,768 stages or more.
pub fn stage_start(stage: StageId) -> Vec<u8> {
    let start = stage.0.to_be_bytes();
    assert!(start[0] & UNDO == 0, "there are too many stages");
    start.to_vec()
}

/// The key of the undo record of an entry.
pub fn undo_key(key: &[u8]) -> Vec<u8> {
    let mut undo = key.to_vec();
    undo[0] |= UNDO;
    undo
}

/// The key of the entry that an undo record is of.
pub fn undone_key(undo: &[u8]) -> Vec<u8> {
    let mut key = undo.to_vec();
    key[0] &= !UNDO;
    key
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

/// The key of a chunk of output that a stage holds: its number, and where it is to go.
pub fn held_chunk(stage: StageId, number: u64, at: (StreamId, PartitionId)) -> Vec<u8> {
    let mut key = held_chunks_from(stage, number);
    key.extend_from_slice(&at.0.0.to_be_bytes());
    key.extend_from_slice(&at.1.0.to_be_bytes());
    key
}

/// What is before the keys of the held chunks of a stage from a number on, and behind those before.
pub fn held_chunks_from(stage: StageId, number: u64) -> Vec<u8> {
    let mut key = vec![b'H'];
    key.extend_from_slice(&stage.0.to_be_bytes());
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// The number of a held chunk, and where it is to go.
pub fn of_held_chunk(key: &[u8]) -> Option<(u64, (StreamId, PartitionId))> {
    let (number, at) = key.get(3..)?.split_first_chunk::<8>()?;
    let (stream, partition) = at.split_first_chunk::<2>()?;
    let partition = u32::from_be_bytes(partition.try_into().ok()?);
    let at = (
        StreamId(u16::from_be_bytes(*stream)),
        PartitionId(partition),
    );
    Some((u64::from_be_bytes(*number), at))
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
    fn held_chunks_come_in_the_order_of_their_numbers_and_say_where_they_go() {
        let at = (StreamId(700), PartitionId(1 << 20));
        let key = held_chunk(StageId(3), 258, at);
        assert_eq!(of_held_chunk(&key), Some((258, at)));
        assert!(held_chunks_from(StageId(3), 258) < key);
        assert!(key < held_chunks_from(StageId(3), 259));
        assert!(key < held_chunks_from(StageId(4), 0));
        assert_eq!(of_held_chunk(&key[..key.len() - 1]), None);
    }

    #[test]
    fn an_undo_record_is_outside_of_every_stage() {
        let start = stage_start(StageId(0x7fff));
        let task = TaskId {
            stage: StageId(0x7fff),
            partition: PartitionId(7),
        };
        let key = StorePrefix::new(task, StoreId(1)).key(b"key");
        let first_undo = undo_key(&stage_start(StageId(0)));
        assert!(start < key && key < end_of_prefix(&start) && end_of_prefix(&start) <= first_undo);
        let (undo, start) = (undo_key(&key), undo_key(&start));
        assert!(start < undo && undo < end_of_prefix(&start));
        assert_eq!(undone_key(&undo), key);
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
