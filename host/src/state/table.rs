//! What a task knows of the keys of a store: the writes of its open epoch, those of the epoch that is being committed, and committed
//! values at hand, in one hash table over chunks of records.
//!
//! A key has one slot, which leads to its newest record; so a read is one probe, whatever it finds. Layers are kept by number, not by
//! copying: every write takes the next number of the task's counter, an overwritten version stays linked behind the new one until the
//! batch is kept, and undoing a message or a batch walks the journal back to a mark. When an epoch is committed, its records are
//! committed values where they lie.
//!
//! Invariants: the journal holds every record written since the last kept batch, in order; a record has a version before it only while
//! it is in the journal; a slot leads to a record of the open epoch, of the sealed one, or to what is committed.

use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::sync::{Arc, OnceLock};

use hashbrown::HashTable;
use hashbrown::hash_table;

use super::arena::{Kind, Record, Ref};
use super::frozen::{Frozen, Index};
use super::memory::Memory;
use super::ranges::Cover;
use super::tidy::Tidy;

/// Hashes keys with a seed of the process.
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
    pub(super) fn spread(self) -> u64 {
        u64::from(self.0).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// A key's hash, whether it was used again since it came, and its newest record: growing the table touches no record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot(u64);

const USED_AGAIN: u64 = 1 << Ref::BITS;

impl Slot {
    pub(super) fn new(hash: KeyHash, at: Ref) -> Slot {
        Slot(u64::from(hash.0) << 32 | u64::from(at.to_bits()))
    }

    pub(super) fn used_again(self) -> Slot {
        Slot(self.0 | USED_AGAIN)
    }

    pub(super) fn is_used_again(self) -> bool {
        self.0 & USED_AGAIN != 0
    }

    /// The same key, whose newest record lies elsewhere now.
    pub(super) fn moved_to(self, at: Ref) -> Slot {
        Slot(self.0 & !(USED_AGAIN - 1) | u64::from(at.to_bits()))
    }

    pub(super) fn hash(self) -> KeyHash {
        KeyHash((self.0 >> 32) as u32)
    }

    pub(super) fn at(self) -> Ref {
        Ref::from_bits((self.0 & (USED_AGAIN - 1)) as u32)
    }
}

/// What is known of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lookup<'a> {
    /// It has this value.
    Value(&'a [u8]),
    /// It has none: it was deleted, alone or with a range.
    Deleted,
    /// Nothing: ask the database.
    Unknown,
}

/// Whether a range delete of number `covered_at` (0: there is none) takes what was written or read at `number`.
pub(super) fn is_covered(number: u64, covered_at: u64) -> bool {
    covered_at > 0 && number <= covered_at
}

/// A point to which writes can be undone.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mark {
    journal: usize,
    ranges: usize,
    deletes_in_order: usize,
}

/// Bytes that a delete counts as uncommitted, in addition to its own, when many come in the order of their keys, such as those
/// of a queue: a scan passes over each of them until the commit has made a range of them.
const DELETE_IN_ORDER_BYTES: usize = 1 << 10;
/// The number of such deletes in a row that are free.
const DELETES_IN_ORDER_FREE: usize = 256;

/// What was written to a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// The keys.
    pub keys: BTreeSet<Vec<u8>>,
    /// The ranges that were deleted, each from its start to before its end; `None` is open.
    pub ranges: BTreeSet<(Vec<u8>, Option<Vec<u8>>)>,
}

/// One store of one task.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) slots: HashTable<Slot>,
    pub(super) memory: Memory,
    pub(super) hasher: KeyHasher,
    /// Records written since the last kept batch.
    journal: Vec<Ref>,
    /// Range deletes of the open epoch.
    cover: Cover,
    /// Keys with a record of the open epoch.
    keys: usize,
    /// The last deletes that came in the order of their keys, one after the other: the last key and how many.
    run: (Vec<u8>, usize),
    /// The number of deletes that count extra.
    deletes_in_order: usize,
    /// Whether keys were deleted one by one in the open epoch.
    has_tombstones: bool,
    /// The keys of the open epoch in order: from the first scan on.
    index: Option<Index>,
    sealed: Option<Arc<Frozen>>,
    /// What is committed, and what of it is given up.
    pub(super) tidy: Tidy,
}

impl Table {
    /// A store of which nothing is known.
    pub(super) fn new(tidy: Tidy) -> Table {
        Table {
            slots: HashTable::new(),
            memory: Memory::new(),
            hasher: KeyHasher::default(),
            journal: Vec::new(),
            cover: Cover::default(),
            keys: 0,
            run: (Vec::new(), 0),
            deletes_in_order: 0,
            has_tombstones: false,
            index: None,
            sealed: None,
            tidy,
        }
    }

    /// Bytes that count as uncommitted: versions and garbage of the open epoch, ranges, its part of the table.
    pub(super) fn open_bytes(&self) -> usize {
        let in_order = self.deletes_in_order * DELETE_IN_ORDER_BYTES;
        self.memory.open_bytes().0 + self.cover.bytes() + self.keys * 9 + in_order
    }

    /// What is known of a key.
    pub(super) fn get(&mut self, key: &[u8]) -> Lookup<'_> {
        let hash = self.hasher.hash(key);
        let memory = &self.memory;
        let is_it = |slot: &Slot| slot.hash() == hash && memory.key(slot.at()) == key;
        let at = match self.slots.find_mut(hash.spread(), is_it) {
            None => return self.judge(None, key, &self.cover),
            Some(slot) => {
                if !slot.is_used_again() {
                    *slot = slot.used_again();
                }
                slot.at()
            }
        };
        self.judge(Some(self.memory.record(at)), key, &self.cover)
    }

    /// Brings what is known of some keys into the processor's caches. The loads for one key wait for each other; those for several
    /// keys overlap.
    pub(super) fn warm<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) {
        let touch = |key: &[u8]| {
            let hash = self.hasher.hash(key);
            let found = self.slots.find(hash.spread(), |slot| slot.hash() == hash);
            found.map_or(0, |slot| self.memory.touch(slot.at()))
        };
        std::hint::black_box(keys.fold(0, |all, key| all ^ touch(key)));
    }

    /// What was known of a key after the write of number `number`, when `cover` were the range deletes of the open epoch.
    pub(super) fn get_at(&self, key: &[u8], number: u64, cover: &Cover) -> Lookup<'_> {
        let hash = self.hasher.hash(key);
        let is_it = |slot: &Slot| slot.hash() == hash && self.memory.key(slot.at()) == key;
        let found = self.slots.find(hash.spread(), is_it);
        let mut at = found.map_or(Ref::NONE, |slot| slot.at());
        while at != Ref::NONE {
            let record = self.memory.record(at);
            if record.number <= number {
                return self.judge(Some(record), key, cover);
            }
            at = record.previous;
        }
        self.judge(None, key, cover)
    }

    /// What a record says under the range deletes above it.
    fn judge<'a>(&self, record: Option<Record<'a>>, key: &[u8], cover: &Cover) -> Lookup<'a> {
        let number = record.map_or(0, |record| record.number);
        let sealed = self.sealed.as_ref().map_or(0, |it| it.cover.number_at(key));
        let covered_at = cover.number_at(key).max(sealed);
        let covered_at = covered_at.max(self.tidy.covered_at(key));
        match record {
            _ if is_covered(number, covered_at) => Lookup::Deleted,
            Some(record) if number >= self.tidy.floor() => {
                record.value().map_or(Lookup::Deleted, Lookup::Value)
            }
            _ => self.tidy.unknown(),
        }
    }

    /// Writes a value, or a tombstone. `overwritable_from`: no mark and no cursor was made after versions of this
    /// number or later, so they may be overwritten in place.
    pub(super) fn put(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        number: u64,
        overwritable_from: u64,
    ) {
        if value.is_none() {
            self.note_delete(key);
            self.has_tombstones = true;
        }
        let hash = self.hasher.hash(key);
        let memory = &mut self.memory;
        let entry = self.slots.entry(
            hash.spread(),
            |slot| slot.hash() == hash && memory.key(slot.at()) == key,
            |slot| slot.hash().spread(),
        );
        let is_first = match entry {
            hash_table::Entry::Occupied(mut entry) => {
                let before = entry.get().at();
                let is_open = memory.is_open(before);
                if is_open
                    && memory.record(before).number >= overwritable_from
                    && memory.overwrite(before, number, value)
                {
                    return;
                }
                let at = memory.write(number, before, key, value);
                *entry.get_mut() = Slot::new(hash, at).used_again();
                self.journal.push(at);
                !is_open
            }
            hash_table::Entry::Vacant(entry) => {
                let at = memory.write(number, Ref::NONE, key, value);
                entry.insert(Slot::new(hash, at));
                self.journal.push(at);
                true
            }
        };
        if is_first {
            self.keys += 1;
            if let Some(index) = &mut self.index {
                index.insert(key.into());
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

    /// Keeps a value at hand that was read from the database, after the write of number `number`.
    pub(super) fn note_read(&mut self, key: &[u8], value: &[u8], number: u64) {
        let hash = self.hasher.hash(key);
        let (at, begun) =
            self.memory
                .write_clean(Kind::Cached, number, key, value, self.slots.len());
        self.note_begun(begun);
        let memory = &self.memory;
        let entry = self.slots.entry(
            hash.spread(),
            |slot| slot.hash() == hash && memory.key(slot.at()) == key,
            |slot| slot.hash().spread(),
        );
        match entry {
            // It was there, and not to be used any more.
            hash_table::Entry::Occupied(mut entry) => {
                let before = entry.get().at();
                *entry.get_mut() = Slot::new(hash, at);
                self.pass(before);
            }
            hash_table::Entry::Vacant(entry) => _ = entry.insert(Slot::new(hash, at)),
        }
    }

    /// A point to return to when undoing.
    pub(super) fn mark(&self) -> Mark {
        Mark {
            journal: self.journal.len(),
            ranges: self.cover.mark(),
            deletes_in_order: self.deletes_in_order,
        }
    }

    /// Undoes every write since `mark`.
    pub(super) fn undo_to(&mut self, mark: Mark) {
        while self.journal.len() > mark.journal {
            let Some(at) = self.journal.pop() else { break };
            let hash = self.hasher.hash(self.memory.key(at));
            let before = self.memory.take_previous(at);
            let found = self.slots.find_entry(hash.spread(), |slot| slot.at() == at);
            let Ok(mut entry) = found else {
                panic!("the journal names a record that the table does not hold");
            };
            if before == Ref::NONE {
                entry.remove();
            } else {
                *entry.get_mut() = Slot::new(hash, before).used_again();
            }
            if before == Ref::NONE || !self.memory.is_open(before) {
                self.keys -= 1;
                if let Some(index) = &mut self.index {
                    index.remove(self.memory.key(at));
                }
            }
            self.memory.free(at);
        }
        self.cover.undo_to(mark.ranges);
        self.deletes_in_order = mark.deletes_in_order;
        if self.journal.is_empty() {
            // Undone writes are garbage, in an epoch that may never be sealed.
            self.rewrite_if_wasteful();
        }
    }

    /// Whether there is something that can be undone.
    pub(super) fn is_in_batch(&self) -> bool {
        !self.journal.is_empty()
    }

    /// What was written since the last kept batch.
    pub(super) fn written(&self) -> Written {
        let keys = self.journal.iter().map(|at| self.memory.key(*at).to_vec());
        let owned =
            |(start, end): (&[u8], Option<&[u8]>)| (start.to_vec(), end.map(<[u8]>::to_vec));
        Written {
            keys: keys.collect(),
            ranges: self.cover.changed().map(owned).collect(),
        }
    }

    /// Keeps every write: versions before them do not count any more, and nothing can be undone past this point.
    pub(super) fn keep(&mut self) {
        let written = self.journal.len();
        for index in 0..written {
            let mut before = self.memory.take_previous(self.journal[index]);
            while before != Ref::NONE {
                if !self.memory.is_open(before) {
                    self.pass(before);
                    break;
                }
                let next = self.memory.take_previous(before);
                self.memory.free(before);
                before = next;
            }
        }
        self.journal.clear();
        self.cover.keep();
        self.rewrite_if_wasteful();
        self.tidy_up(written);
    }

    /// Writes the live records of the open epoch anew if more than half of its memory is garbage. Only when nothing can be undone.
    fn rewrite_if_wasteful(&mut self) {
        const WORTH_IT: usize = 1 << 20;
        let (allocated, garbage) = self.memory.open_bytes();
        if garbage < WORTH_IT || garbage * 2 < allocated {
            return;
        }
        assert!(
            self.journal.is_empty(),
            "an arena is rewritten inside a batch"
        );
        let (numbers, chunks) = self.memory.take_open();
        for (number, chunk) in numbers.iter().zip(&chunks) {
            for (unit, record) in chunk.live() {
                let before = Ref::new(*number, unit);
                let hash = self.hasher.hash(record.key);
                let slot = self
                    .slots
                    .find_mut(hash.spread(), |slot| slot.at() == before);
                let Some(slot) = slot else {
                    panic!("the table does not hold a live record");
                };
                let at = self
                    .memory
                    .write(record.number, Ref::NONE, record.key, record.value());
                *slot = slot.moved_to(at);
            }
        }
        for number in numbers {
            self.memory.give_up(number);
        }
    }

    /// The range deletes as they are now, for a cursor.
    pub(super) fn cover(&self) -> &Cover {
        &self.cover
    }

    /// The sealed epoch.
    pub(super) fn sealed(&self) -> Option<&Arc<Frozen>> {
        self.sealed.as_ref()
    }

    /// Keeps the keys of the open epoch in order from now on.
    pub(super) fn begin_index(&mut self) {
        if self.index.is_none() {
            self.index = Some(self.memory.open_keys());
        }
    }

    /// The keys of the open epoch in order.
    ///
    /// # Panics
    /// [`Table::begin_index`] was never called.
    pub(super) fn index(&self) -> &Index {
        match &self.index {
            Some(index) => index,
            None => panic!("a scan without an index"),
        }
    }

    /// Freezes the open epoch: constant time, whatever was written. `None`: nothing was.
    ///
    /// # Panics
    /// Inside a batch, or while an earlier epoch is not released.
    pub(super) fn seal(&mut self) -> Option<Arc<Frozen>> {
        if self.keys == 0 && self.cover.is_empty() {
            return None;
        }
        assert!(self.journal.is_empty(), "an epoch is sealed inside a batch");
        let bytes = self.open_bytes();
        let (allocated, garbage) = self.memory.open_bytes();
        self.note_table();
        self.tidy.note_needed(allocated - garbage);
        let index = self.index.replace(Index::new());
        if index.is_none() {
            self.index = None;
        }
        let (cover, keys) = (std::mem::take(&mut self.cover), self.keys);
        let has_tombstones = std::mem::take(&mut self.has_tombstones);
        let frozen = self.memory.seal(|chunks| Frozen {
            chunks,
            cover,
            keys,
            has_tombstones,
            bytes,
            index: index.map_or_else(OnceLock::new, OnceLock::from),
            removed: OnceLock::new(),
        });
        self.keys = 0;
        self.deletes_in_order = 0;
        self.run.0.clear();
        self.run.1 = 0;
        self.sealed = Some(Arc::clone(&frozen));
        Some(frozen)
    }

    /// The sealed epoch is committed: its records are committed values.
    pub(super) fn release(&mut self) {
        let Some(frozen) = self.sealed.take() else {
            return;
        };
        let retired = self.tidy.retire(&frozen);
        let has_tombstones = frozen.has_tombstones;
        // The chunks are the store's own, once nobody else holds the epoch.
        drop(frozen);
        let numbers = self.memory.release();
        self.adopt(&numbers, has_tombstones, retired);
        self.tidy_up(0);
    }
}
