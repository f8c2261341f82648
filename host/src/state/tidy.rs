//! What is committed of a store and at hand: how it comes, and how it is given up.
//!
//! Chunks of a released epoch are taken over as they are. They are given up one by one, record by record, between batches and a little at
//! a time: a chunk of which most is superseded, to have its memory back; the oldest chunk, when the container holds more than it may.
//! Of that one the values that were used again since they came are moved to a new chunk, and the others are forgotten: a clock, whose
//! hand is the age of the chunks. Reading once through a large store so displaces little that is in use.

use std::collections::VecDeque;
use std::sync::Arc;

use super::arena::{Kind, Record, Ref, UNIT};
use super::cache::CleanCache;
use super::frozen::Frozen;
use super::memory::Begun;
use super::retired::Retired;
use super::table::{Lookup, Slot, Table, is_covered};

/// Records looked at after a batch, and as many more for each one written.
const RECORDS_MIN: usize = 256;
const RECORDS_A_WRITE: usize = 4;
/// Records looked at where that is not enough: some milliseconds.
const RECORDS_MAX: usize = 64 << 10;
/// Chunks of an epoch up to this size are not taken over: what is in them is moved together.
const SMALL_CHUNK: usize = 64 << 10;
/// A table with room for no more keys than this keeps it.
const SLOTS_MIN: usize = 1 << 10;
/// Bytes of the table for each key that it has room for.
const SLOT_BYTES: usize = 9;

/// A chunk that is being given up.
#[derive(Debug)]
struct Sweep {
    number: usize,
    unit: usize,
    /// Whether everything in it is kept, or what was used again.
    keeps_all: bool,
}

/// What is committed, and what of it is given up.
#[derive(Debug)]
pub(super) struct Tidy {
    cache: Arc<CleanCache>,
    /// A `memory` store: what it does not hold does not exist.
    is_pinned: bool,
    /// Chunks and their birth, the oldest first.
    queue: VecDeque<(usize, u64)>,
    /// The birth of the chunk that is being filled.
    filling_birth: u64,
    /// Chunks of which most is superseded.
    wasteful: VecDeque<usize>,
    sweep: Option<Sweep>,
    pub(super) retired: Vec<Retired>,
    /// What was written or read before this is not to be used.
    floor: u64,
    /// Bytes in the account.
    chunk_bytes: u64,
    table_bytes: u64,
    /// Bytes of clean chunks that are superseded.
    gone_bytes: u64,
    /// What a `memory` store needed when it was last sealed.
    needed_bytes: u64,
}

impl Tidy {
    /// Of a `rocksdb` store, or of a `memory` store.
    pub(super) fn new(cache: Arc<CleanCache>, is_pinned: bool) -> Tidy {
        Tidy {
            cache,
            is_pinned,
            queue: VecDeque::new(),
            filling_birth: 0,
            wasteful: VecDeque::new(),
            sweep: None,
            retired: Vec::new(),
            floor: 0,
            chunk_bytes: 0,
            table_bytes: 0,
            gone_bytes: 0,
            needed_bytes: 0,
        }
    }

    /// What it means that nothing is known of a key.
    pub(super) fn unknown(&self) -> Lookup<'static> {
        match self.is_pinned {
            true => Lookup::Deleted,
            false => Lookup::Unknown,
        }
    }

    /// Records of a smaller number are not to be used.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// The number of the newest committed range delete that covers a key; 0 if none does.
    pub(super) fn covered_at(&self, key: &[u8]) -> u64 {
        let covers = self.retired.iter();
        covers
            .map(|retired| retired.covered_at(key))
            .max()
            .unwrap_or(0)
    }

    fn add(&mut self, bytes: usize) -> u64 {
        self.chunk_bytes += bytes as u64;
        self.cache.add(self.is_pinned, bytes as u64)
    }

    fn remove(&mut self, bytes: usize) {
        self.chunk_bytes -= bytes as u64;
        self.cache.remove(self.is_pinned, bytes as u64);
    }

    fn note_table(&mut self, bytes: u64) {
        match bytes.checked_sub(self.table_bytes) {
            Some(more) => _ = self.cache.add(self.is_pinned, more),
            None => self.cache.remove(self.is_pinned, self.table_bytes - bytes),
        }
        self.table_bytes = bytes;
    }

    /// What is to be forgotten because of the range deletes of an epoch that is committed.
    pub(super) fn retire(&mut self, frozen: &Frozen) -> Option<Retired> {
        if frozen.cover.is_empty() {
            return None;
        }
        let listed = frozen.removed.get();
        let listed = listed.filter(|lists| lists.iter().all(Option::is_some));
        if listed.is_none() && !self.is_pinned {
            self.floor = self.floor.max(frozen.cover.newest());
            return None;
        }
        Some(Retired::new(frozen.cover.view(), listed.cloned()))
    }

    /// A `memory` store is sealed, with so many bytes of records in its open epoch.
    pub(super) fn note_needed(&mut self, open_bytes: usize) {
        if self.is_pinned {
            let clean = self.chunk_bytes.saturating_sub(self.gone_bytes);
            let needed = clean + self.table_bytes + open_bytes as u64;
            let before = std::mem::replace(&mut self.needed_bytes, needed);
            self.cache.note_needed(before, needed);
        }
    }

    fn is_idle(&self) -> bool {
        self.retired.is_empty() && self.sweep.is_none() && self.wasteful.is_empty()
    }
}

impl Drop for Tidy {
    fn drop(&mut self) {
        let bytes = self.chunk_bytes + self.table_bytes;
        self.cache.remove(self.is_pinned, bytes);
        self.cache.note_needed(self.needed_bytes, 0);
    }
}

impl Table {
    /// A clean chunk begins, and another may be full.
    pub(super) fn note_begun(&mut self, begun: Begun) {
        if begun.bytes > 0 {
            let birth = self.tidy.add(begun.bytes);
            let before = std::mem::replace(&mut self.tidy.filling_birth, birth);
            if let Some(full) = begun.full {
                self.enqueue(full, before);
            }
        }
    }

    fn enqueue(&mut self, number: usize, birth: u64) {
        self.tidy.queue.push_back((number, birth));
        let (used, gone) = self.memory.waste(number);
        if gone * 2 > used {
            self.tidy.wasteful.push_back(number);
        }
    }

    /// A committed record does not count any more.
    pub(super) fn pass(&mut self, at: Ref) {
        let (number, units) = (at.chunk(), self.memory.pass(at));
        let (used, gone) = self.memory.waste(number);
        // Of a sealed epoch that is looked at when it is released, of the chunk that is filled when it is full.
        if !self.memory.is_clean(number) {
            return;
        }
        self.tidy.gone_bytes += (units * UNIT) as u64;
        let is_whole = self.memory.filling() != Some(number);
        let crossed = gone * 2 > used && (gone - units) * 2 <= used;
        if crossed && is_whole && !self.is_swept(number) {
            self.tidy.wasteful.push_back(number);
        }
    }

    fn is_swept(&self, number: usize) -> bool {
        let sweep = self.tidy.sweep.as_ref();
        sweep.is_some_and(|sweep| sweep.number == number)
    }

    /// The sealed epoch is committed: takes over its chunks.
    pub(super) fn adopt(
        &mut self,
        numbers: &[usize],
        has_tombstones: bool,
        retired: Option<Retired>,
    ) {
        // What a `memory` store does not know does not exist, so it needs no tombstones.
        let is_moved = self.tidy.is_pinned && has_tombstones;
        for number in numbers {
            let size = self.memory.chunk(*number).size();
            let birth = self.tidy.add(size);
            let (_, gone) = self.memory.waste(*number);
            self.tidy.gone_bytes += (gone * UNIT) as u64;
            self.enqueue(*number, birth);
            let is_moved = is_moved || size <= SMALL_CHUNK;
            if is_moved && self.tidy.wasteful.back() != Some(number) {
                self.tidy.wasteful.push_back(*number);
            }
        }
        let Some(mut retired) = retired else {
            return;
        };
        match retired.is_listed() {
            true => retired.look_through(numbers.iter().copied()),
            false => {
                let swept = self.tidy.sweep.as_ref().map(|sweep| sweep.number);
                let queue = self.tidy.queue.iter().map(|(number, _)| *number);
                retired.look_through(queue.chain(self.memory.filling()).chain(swept));
            }
        }
        self.tidy.retired.push(retired);
    }

    /// Brings the table's part of the account up to date.
    pub(super) fn note_table(&mut self) {
        let bytes = self.slots.capacity() * SLOT_BYTES;
        self.tidy.note_table(bytes as u64);
    }

    /// A `memory` store is filled.
    pub(super) fn note_filled(&mut self) {
        self.note_table();
        self.tidy.note_needed(0);
    }

    /// Gives up a little of what is not needed. Only between batches; `written`: records written since the last time. Whether anything
    /// was to be given up.
    pub(super) fn tidy_up(&mut self, written: usize) -> bool {
        self.note_table();
        // Undoing leads back to records that are passed over already.
        if self.is_in_batch() {
            return false;
        }
        let is_over = !self.tidy.is_pinned && self.tidy.cache.is_over();
        if !is_over && self.tidy.is_idle() {
            return false;
        }
        // What is moved now is not given up now.
        let born = self.tidy.cache.born();
        let mut left = RECORDS_MIN + RECORDS_A_WRITE * written;
        if is_over && self.tidy.cache.is_much_too_full() {
            left = left.max(RECORDS_MAX);
        }
        let mut has_begun = false;
        self.forget_retired(&mut left);
        while left > 0 {
            if self.tidy.sweep.is_none() && !self.begin_next_sweep(born) {
                break;
            }
            has_begun = true;
            self.sweep(&mut left);
        }
        // Growing again costs less than room that nothing uses.
        if self.slots.capacity() > SLOTS_MIN && self.slots.len() * 4 < self.slots.capacity() {
            let hash = |slot: &Slot| slot.hash().spread();
            self.slots.shrink_to(self.slots.len() * 2, hash);
        }
        has_begun
    }

    /// `born`: chunks that were born since are left alone.
    fn begin_next_sweep(&mut self, born: u64) -> bool {
        if let Some(number) = self.tidy.wasteful.pop_front() {
            self.begin_sweep(number, true);
            return true;
        }
        if self.memory.fills_too_large(self.slots.len())
            && let Some(number) = self.memory.end_filling()
        {
            self.begin_sweep(number, true);
            return true;
        }
        if self.tidy.is_pinned {
            return false;
        }
        if !self.tidy.cache.is_over() {
            return false;
        }
        if self.tidy.queue.is_empty()
            && let Some(number) = self.memory.end_filling()
        {
            let birth = self.tidy.filling_birth;
            self.tidy.queue.push_back((number, birth));
        }
        match self.tidy.queue.front().copied() {
            Some((number, birth)) if birth < born => {
                self.begin_sweep(number, false);
                true
            }
            _ => false,
        }
    }

    fn begin_sweep(&mut self, number: usize, keeps_all: bool) {
        self.tidy.queue.retain(|(other, _)| *other != number);
        self.tidy.wasteful.retain(|other| *other != number);
        let (used, gone) = self.memory.waste(number);
        // Nothing leads to it.
        let unit = match gone >= used && !self.tidy.is_pinned {
            true => used,
            false => 0,
        };
        self.tidy.sweep = Some(Sweep {
            number,
            unit,
            keeps_all,
        });
    }

    /// Goes on with the chunk that is being given up, for so many records.
    fn sweep(&mut self, left: &mut usize) {
        let Some(mut sweep) = self.tidy.sweep.take() else {
            return;
        };
        // So that its records can be read while others are written.
        let clean = self.memory.take_clean(sweep.number);
        while let Some((unit, record)) = clean.chunk().next_live(sweep.unit) {
            if *left == 0 {
                self.memory.put_back(sweep.number, clean);
                self.tidy.sweep = Some(sweep);
                return;
            }
            *left -= 1;
            sweep.unit = unit + record.units();
            let at = Ref::new(sweep.number, unit);
            let hash = self.hasher.hash(record.key);
            let keys = self.slots.len();
            let found = self.slots.find_entry(hash.spread(), |slot| slot.at() == at);
            let Ok(mut entry) = found else {
                continue;
            };
            let is_dead = record.number < self.tidy.floor
                || is_covered(record.number, self.tidy.covered_at(record.key))
                || self.tidy.is_pinned && record.kind == Kind::Tombstone;
            if is_dead || !(sweep.keeps_all || entry.get().is_used_again()) {
                entry.remove();
                continue;
            }
            let Record { kind, number, .. } = record;
            let (to, begun) = self
                .memory
                .write_clean(kind, number, record.key, record.bytes, keys);
            *entry.get_mut() = match sweep.keeps_all {
                // One that is kept only because the chunk is wasteful does not lose its claim.
                true => entry.get().moved_to(to),
                false => Slot::new(hash, to),
            };
            self.note_begun(begun);
        }
        self.tidy.remove(clean.chunk().size());
        let gone = self.memory.gone_of(sweep.number) * UNIT;
        self.tidy.gone_bytes -= gone as u64;
        for retired in &mut self.tidy.retired {
            retired.pass_over(sweep.number);
        }
        self.memory.give_up(sweep.number);
    }
}

#[cfg(test)]
mod tests {
    use super::super::retired::RETIRED_MAX;
    use super::*;

    fn table(cache: &Arc<CleanCache>) -> Table {
        Table::new(Tidy::new(Arc::clone(cache), false))
    }

    fn key(number: u32) -> [u8; 4] {
        number.to_be_bytes()
    }

    #[test]
    fn a_read_through_a_large_store_displaces_little_that_is_in_use() {
        let cache = Arc::new(CleanCache::new(256 << 10));
        let mut table = table(&cache);
        for number in 0..20_000 {
            table.note_read(&key(number), &[7; 100], 0);
            if number % 100 == 99 {
                for hot in 0..50 {
                    let is_there = matches!(table.get(&key(hot)), Lookup::Value(_));
                    assert!(is_there, "{hot} is gone after {number}");
                }
                table.tidy_up(100);
            }
            let (used, budget) = cache.usage();
            assert!(used <= budget * 5 / 4, "{used} of {budget}");
        }
        for cold in 100..15_000 {
            assert_eq!(table.get(&key(cold)), Lookup::Unknown, "{cold}");
        }
    }

    #[test]
    fn a_store_that_is_not_used_gives_up_what_another_needs() {
        let cache = Arc::new(CleanCache::new(256 << 10));
        let (mut idle, mut busy) = (table(&cache), table(&cache));
        for number in 0..2_000 {
            idle.note_read(&key(number), &[7; 100], 0);
            idle.tidy_up(1);
        }
        for number in 0..20_000 {
            busy.note_read(&key(number), &[7; 100], 0);
            busy.tidy_up(1);
            idle.tidy_up(0);
        }
        let (used, budget) = cache.usage();
        assert!(used <= budget * 9 / 8, "{used} of {budget}");
        assert_eq!(idle.get(&key(0)), Lookup::Unknown);
        assert_eq!(busy.get(&key(19_999)), Lookup::Value(&[7; 100]));
        drop((idle, busy));
        assert_eq!(cache.usage().0, 0, "what is dropped is given back");
    }

    #[test]
    fn what_is_superseded_is_given_back() {
        let cache = Arc::new(CleanCache::new(1 << 30));
        for keys in [10, 1_000, 100_000] {
            let mut table = table(&cache);
            let mut number = 0;
            for _ in 0..20 {
                for at in 0..keys {
                    number += 1;
                    table.put(&key(at), Some(&[7; 100]), number, u64::MAX);
                    if at % 100 == 99 {
                        table.keep();
                    }
                }
                table.keep();
                assert!(table.seal().is_some());
                table.release();
            }
            for _ in 0..1_000 {
                table.tidy_up(1_000);
            }
            let record = 144;
            let (used, live) = (cache.usage().0, u64::from(keys) * (record + 20));
            assert!(used < 3 * live + (16 << 10), "{used} for {live}");
            for at in 0..keys {
                assert_eq!(table.get(&key(at)), Lookup::Value(&[7; 100]));
            }
        }
    }

    #[test]
    fn a_memory_store_that_was_emptied_holds_nothing() {
        let cache = Arc::new(CleanCache::new(1 << 30));
        let mut table = Table::new(Tidy::new(Arc::clone(&cache), true));
        let mut number = 0;
        for value in [Some(&[7; 8][..]), None] {
            for at in 0..100_000 {
                number += 1;
                table.put(&key(at), value, number, u64::MAX);
            }
            table.keep();
            assert!(table.seal().is_some());
            table.release();
        }
        for _ in 0..1_000 {
            table.tidy_up(1_000);
        }
        assert!(cache.usage().0 < 64 << 10, "{}", cache.usage().0);
        assert_eq!(cache.needed_over_budget(), None);
        assert_eq!(table.get(&key(5)), Lookup::Deleted);
    }

    #[test]
    fn range_deletes_of_many_epochs_do_not_pile_up() {
        let cache = Arc::new(CleanCache::new(1 << 30));
        let mut table = Table::new(Tidy::new(Arc::clone(&cache), true));
        let mut number = 0;
        for epoch in 0..50 {
            for at in 0..2_000 {
                number += 1;
                table.put(&key(epoch * 2_000 + at), Some(&[7; 8]), number, u64::MAX);
            }
            number += 1;
            let (start, end) = (key(epoch * 2_000), key(epoch * 2_000 + 1_000));
            table.delete_range(&start, Some(&end), number);
            table.keep();
            // The commit has listed no keys.
            assert!(table.seal().is_some());
            table.release();
            assert!(table.tidy.retired.len() <= RETIRED_MAX + 1);
        }
        for at in 0..100_000 {
            let is_there = table.get(&key(at)) == Lookup::Value(&[7; 8]);
            assert_eq!(is_there, at % 2_000 >= 1_000, "{at}");
        }
    }
}
