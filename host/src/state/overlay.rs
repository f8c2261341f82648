//! The writes of one epoch to one store of one task: a hash table over an arena.
//!
//! Layers are kept by number, not by copying: every write takes the next number of the task's counter, an overwritten
//! version stays linked behind the new one until the batch is kept, and undoing a message or a batch walks the journal
//! back to a mark. So a batch merges into its epoch without touching a table twice.
//!
//! Invariants: the journal holds every record written since the last kept batch, in order; a record has a version
//! before it only while it is in the journal; a sealed overlay has an empty journal and never changes.

use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::sync::OnceLock;

use hashbrown::HashTable;
use hashbrown::hash_table;

use super::arena::{Arena, Record, Ref};
use super::ranges::Cover;

/// Hashes keys the same way in every layer, with a seed of the process.
#[derive(Debug, Clone, Default)]
pub(super) struct KeyHasher(foldhash::fast::RandomState);

/// A key's hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyHash(u32);

impl KeyHasher {
    pub(super) fn hash(&self, key: &[u8]) -> KeyHash {
        // The upper half: the table spreads it again.
        KeyHash((self.0.hash_one(key) >> 32) as u32)
    }
}

impl KeyHash {
    /// 64 bits for the table, whose place and tag bits come from both ends.
    fn spread(self) -> u64 {
        u64::from(self.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// A key's hash above a record's place: growing the table touches no record.
#[derive(Debug, Clone, Copy)]
struct Slot(u64);

impl Slot {
    fn new(hash: KeyHash, at: Ref) -> Slot {
        Slot(u64::from(hash.0) << 32 | u64::from(at.to_bits()))
    }

    fn hash(self) -> KeyHash {
        KeyHash((self.0 >> 32) as u32)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    fn at(self) -> Ref {
        Ref::from_bits(self.0 as u32)
    }
}

/// What a layer knows of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lookup<'a> {
    /// It has this value.
    Value(&'a [u8]),
    /// It was deleted, alone or with a range.
    Deleted,
    /// Nothing: ask the layer below.
    Unknown,
}

/// A key with its value; `None` is a tombstone.
pub(super) type Entry<'a> = (&'a [u8], Option<&'a [u8]>);

/// A point to which writes can be undone.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OverlayMark {
    journal: usize,
    ranges: usize,
    deletes_in_order: usize,
}

/// Bytes that a delete counts as uncommitted, in addition to its own, when many come in the order of their keys, such as those
/// of a queue: a scan passes over each of them until the commit has made a range of them.
const DELETE_IN_ORDER_BYTES: usize = 1 << 10;
/// The number of such deletes in a row that are free.
const DELETES_IN_ORDER_FREE: usize = 256;

/// One layer of one store.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    table: HashTable<Slot>,
    arena: Arena,
    /// Records written since the last kept batch.
    journal: Vec<Ref>,
    cover: Cover,
    /// The last deletes that came in the order of their keys, one after the other: the last key and how many.
    run: (Vec<u8>, usize),
    /// The number of deletes that count extra.
    deletes_in_order: usize,
    /// The keys in order; made by the first scan, kept up to date afterwards.
    index: OnceLock<BTreeSet<Box<[u8]>>>,
}

impl Overlay {
    /// An empty layer that keeps its keys in order from the start.
    pub(super) fn indexed() -> Overlay {
        let overlay = Overlay::default();
        overlay.index.get_or_init(BTreeSet::new);
        overlay
    }

    /// Whether there is nothing to commit.
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty() && self.cover.is_empty()
    }

    /// The number of keys that it covers.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Bytes held: versions, garbage, ranges and the table.
    pub(super) fn bytes(&self) -> usize {
        let in_order = self.deletes_in_order * DELETE_IN_ORDER_BYTES;
        self.arena.allocated() + self.cover.bytes() + self.table.len() * 9 + in_order
    }

    /// What the layer knows of a key now.
    pub(super) fn get(&self, hash: KeyHash, key: &[u8]) -> Lookup<'_> {
        let record = self.find(hash, key).map(|slot| self.arena.get(slot.at()));
        self.judge(record, key, &self.cover)
    }

    /// What the layer knew of a key after the write of number `number`, when `cover` were its range deletes.
    pub(super) fn get_at(
        &self,
        hash: KeyHash,
        key: &[u8],
        number: u64,
        cover: &Cover,
    ) -> Lookup<'_> {
        let mut at = self.find(hash, key).map_or(Ref::NONE, |slot| slot.at());
        while at != Ref::NONE {
            let record = self.arena.get(at);
            if record.number <= number {
                return self.judge(Some(record), key, cover);
            }
            at = record.previous;
        }
        self.judge(None, key, cover)
    }

    fn judge<'a>(&self, record: Option<Record<'a>>, key: &[u8], cover: &Cover) -> Lookup<'a> {
        let covered_at = cover.number_at(key);
        match record {
            Some(record) if record.number > covered_at => {
                record.value.map_or(Lookup::Deleted, Lookup::Value)
            }
            _ if covered_at > 0 => Lookup::Deleted,
            _ => Lookup::Unknown,
        }
    }

    /// Writes a value, or a tombstone. `overwritable_from`: no mark and no cursor was made after versions of this
    /// number or later, so they may be overwritten in place.
    pub(super) fn put(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        value: Option<&[u8]>,
        number: u64,
        overwritable_from: u64,
    ) {
        if value.is_none() {
            self.note_delete(key);
        }
        let arena = &mut self.arena;
        let entry = self.table.entry(
            hash.spread(),
            |slot| slot.hash() == hash && arena.key(slot.at()) == key,
            |slot| slot.hash().spread(),
        );
        match entry {
            hash_table::Entry::Occupied(mut entry) => {
                let before = entry.get().at();
                if arena.get(before).number >= overwritable_from
                    && arena.overwrite(before, number, value)
                {
                    return;
                }
                let at = arena.insert(number, before, key, value);
                *entry.get_mut() = Slot::new(hash, at);
                self.journal.push(at);
            }
            hash_table::Entry::Vacant(entry) => {
                let at = arena.insert(number, Ref::NONE, key, value);
                entry.insert(Slot::new(hash, at));
                self.journal.push(at);
                if let Some(index) = self.index.get_mut() {
                    index.insert(key.into());
                }
            }
        }
    }

    fn note_delete(&mut self, key: &[u8]) {
        let (last, count) = &mut self.run;
        *count = if **last < *key { *count + 1 } else { 0 };
        last.clear();
        last.extend_from_slice(key);
        self.deletes_in_order += usize::from(*count > DELETES_IN_ORDER_FREE);
    }

    /// Deletes a range: what was written before reads as deleted.
    pub(super) fn delete_range(&mut self, start: &[u8], end: Option<&[u8]>, number: u64) {
        self.cover.insert(start, end, number);
    }

    /// A point to return to when undoing.
    pub(super) fn mark(&self) -> OverlayMark {
        OverlayMark {
            journal: self.journal.len(),
            ranges: self.cover.mark(),
            deletes_in_order: self.deletes_in_order,
        }
    }

    /// Undoes every write since `mark`.
    pub(super) fn undo_to(&mut self, mark: OverlayMark, hasher: &KeyHasher) {
        while self.journal.len() > mark.journal {
            let Some(at) = self.journal.pop() else { break };
            let hash = hasher.hash(self.arena.key(at));
            let before = self.arena.take_previous(at);
            let found = self.table.find_entry(hash.spread(), |slot| slot.at() == at);
            let Ok(mut entry) = found else {
                panic!("the journal names a record that the table does not hold");
            };
            if before == Ref::NONE {
                entry.remove();
                if let Some(index) = self.index.get_mut() {
                    index.remove(self.arena.key(at));
                }
            } else {
                *entry.get_mut() = Slot::new(hash, before);
            }
            self.arena.free(at);
        }
        self.cover.undo_to(mark.ranges);
        self.deletes_in_order = mark.deletes_in_order;
        if self.journal.is_empty() {
            // Undone writes are garbage, in a layer that may never be sealed.
            self.rewrite_if_wasteful();
        }
    }

    /// Keeps every write: versions before them are freed, and nothing can be undone past this point.
    pub(super) fn keep(&mut self) {
        for index in 0..self.journal.len() {
            let mut before = self.arena.take_previous(self.journal[index]);
            while before != Ref::NONE {
                let next = self.arena.take_previous(before);
                self.arena.free(before);
                before = next;
            }
        }
        self.journal.clear();
        self.cover.keep();
        self.rewrite_if_wasteful();
    }

    /// Copies the live records to a new arena if more than half of the old one is garbage. Only when nothing can
    /// be undone.
    fn rewrite_if_wasteful(&mut self) {
        const WORTH_IT: usize = 1 << 20;
        if self.arena.garbage() < WORTH_IT || self.arena.garbage() * 2 < self.arena.allocated() {
            return;
        }
        assert!(
            self.journal.is_empty(),
            "an arena is rewritten inside a batch"
        );
        let old = std::mem::take(&mut self.arena);
        for slot in self.table.iter_mut() {
            let record = old.get(slot.at());
            let at = self
                .arena
                .insert(record.number, Ref::NONE, record.key, record.value);
            *slot = Slot::new(slot.hash(), at);
        }
    }

    /// What must be written: the ranges first, then the entries that survive them, in any order.
    pub(super) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        assert!(
            self.journal.is_empty(),
            "a layer is committed inside a batch"
        );
        self.arena
            .live()
            .filter(|(_, record)| record.number > self.cover.number_at(record.key))
            .map(|(_, record)| (record.key, record.value))
    }

    /// The result of [`Overlay::entries`], in the order of keys.
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

    /// The range deletes as they are now, for a cursor.
    pub(super) fn cover(&self) -> &Cover {
        &self.cover
    }

    /// The keys in order, made at the first call.
    pub(super) fn index(&self) -> &BTreeSet<Box<[u8]>> {
        self.index.get_or_init(|| {
            let keys = self
                .table
                .iter()
                .map(|slot| self.arena.key(slot.at()).into());
            keys.collect()
        })
    }

    fn find(&self, hash: KeyHash, key: &[u8]) -> Option<Slot> {
        self.table
            .find(hash.spread(), |slot| {
                slot.hash() == hash && self.arena.key(slot.at()) == key
            })
            .copied()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_undone_is_not_held_by_a_layer_without_entries() {
        let (mut overlay, hasher) = (Overlay::default(), KeyHasher::default());
        let value = vec![7; 100_000];
        let mut number = 0;
        for _ in 0..200 {
            let mark = overlay.mark();
            for key in 0..20_u8 {
                number += 1;
                overlay.put(hasher.hash(&[key]), &[key], Some(&value), number, 0);
            }
            overlay.delete_range(b"a", Some(b"b"), number + 1);
            overlay.undo_to(mark, &hasher);
            assert!(overlay.is_empty());
            assert!(overlay.bytes() < 4 << 20, "{} bytes", overlay.bytes());
        }
    }
}
