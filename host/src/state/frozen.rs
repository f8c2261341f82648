//! The writes of one epoch to one store of one task, frozen: what the task reads through, and what the commit writes.
//!
//! Invariant: it never changes, and may be read by several threads.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use super::arena::{Chunk, Record};
use super::ranges::Cover;

/// A key with its value; `None` is a tombstone.
pub(super) type Entry<'a> = (&'a [u8], Option<&'a [u8]>);

/// The keys of a range; `None` if they are too many to list.
pub(super) type Listed = Option<Vec<Box<[u8]>>>;

/// Keys in their order.
pub(super) type Index = BTreeSet<Box<[u8]>>;

/// One epoch of one store.
#[derive(Debug)]
pub(super) struct Frozen {
    pub(super) chunks: Vec<Chunk>,
    pub(super) cover: Cover,
    /// How many keys it has records of.
    pub(super) keys: usize,
    /// Whether keys were deleted one by one.
    pub(super) has_tombstones: bool,
    /// What it counts as uncommitted.
    pub(super) bytes: usize,
    /// The keys in order, if a scan has asked for them.
    pub(super) index: OnceLock<Index>,
    /// For each range of the cover the keys that it removes from the database, once the commit has listed them.
    pub(super) removed: OnceLock<Arc<Vec<Listed>>>,
}

impl Frozen {
    /// What must be written after the ranges: the entries that survive them, in any order.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.live()
            .filter(|record| record.number > self.cover.number_at(record.key))
            .map(|record| (record.key, record.value()))
    }

    /// The result of [`Frozen::entries`], in the order of keys.
    pub(super) fn entries_sorted(&self) -> Vec<Entry<'_>> {
        let mut entries: Vec<(u64, Entry<'_>)> = self.entries().map(|entry| (0, entry)).collect();
        let common = common_prefix(entries.iter().map(|(_, (key, _))| *key));
        for (rank, (key, _)) in &mut entries {
            *rank = rank_of(&key[common..]);
        }
        entries.sort_unstable_by(|(a, (left, _)), (b, (right, _))| {
            a.cmp(b).then_with(|| left.cmp(right))
        });
        entries.into_iter().map(|(_, entry)| entry).collect()
    }

    /// The deleted ranges: start, end (`None`: open).
    pub(super) fn ranges(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.cover.iter()
    }

    /// The keys in order, made at the first call.
    pub(super) fn index(&self) -> &Index {
        self.index
            .get_or_init(|| self.live().map(|record| record.key.into()).collect())
    }

    fn live(&self) -> impl Iterator<Item = Record<'_>> {
        let chunks = self.chunks.iter();
        chunks.flat_map(|chunk| chunk.live().map(|(_, record)| record))
    }
}

/// The length of the common prefix of all keys.
fn common_prefix<'a>(mut keys: impl Iterator<Item = &'a [u8]>) -> usize {
    let Some(first) = keys.next() else { return 0 };
    keys.fold(first.len(), |common, key| {
        let same = first[..common].iter().zip(key).take_while(|(a, b)| a == b);
        same.count()
    })
}

/// Orders most keys as their bytes do, without reading the bytes; keys of the same rank may differ.
fn rank_of(key: &[u8]) -> u64 {
    let mut first = [0; 8];
    let length = key.len().min(8);
    first[..length].copy_from_slice(&key[..length]);
    u64::from_be_bytes(first)
}
