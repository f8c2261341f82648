//! Range deletes of committed epochs: they stand above what is at hand until what they removed is forgotten.
//!
//! That is done key by key where the commit has listed the keys, and by a look at the epoch's own records, which may have been written
//! before the range delete. If the keys were too many to list, a `memory` store looks through all of its chunks. (A `rocksdb` store
//! forgets everything older instead.)

use std::collections::VecDeque;
use std::sync::Arc;

use super::arena::Ref;
use super::frozen::Listed;
use super::ranges::Cover;
use super::table::{Slot, Table, is_covered};

/// If more epochs with range deletes are not done with, the oldest is done with at once.
pub(super) const RETIRED_MAX: usize = 3;

/// The range deletes of an epoch, and what is left to be forgotten because of them.
#[derive(Debug)]
pub(super) struct Retired {
    cover: Cover,
    /// The keys that each range removed from the database, from a range and a key in it on.
    listed: Option<(Arc<Vec<Listed>>, usize, usize)>,
    /// Chunks with records that ranges may cover.
    chunks: VecDeque<usize>,
    /// How far the first of them was looked at.
    unit: usize,
}

impl Retired {
    /// `listed`: the keys that each range removed, if they are known.
    pub(super) fn new(cover: Cover, listed: Option<Arc<Vec<Listed>>>) -> Retired {
        Retired {
            cover,
            listed: listed.map(|lists| (lists, 0, 0)),
            chunks: VecDeque::new(),
            unit: 0,
        }
    }

    pub(super) fn is_listed(&self) -> bool {
        self.listed.is_some()
    }

    /// The number of the range delete that covers a key; 0 if none does.
    pub(super) fn covered_at(&self, key: &[u8]) -> u64 {
        self.cover.number_at(key)
    }

    /// Chunks that may have records which the ranges cover.
    pub(super) fn look_through(&mut self, chunks: impl Iterator<Item = usize>) {
        self.chunks.extend(chunks);
    }

    /// A chunk is given up, and its number may be used again.
    pub(super) fn pass_over(&mut self, chunk: usize) {
        if self.chunks.front() == Some(&chunk) {
            self.unit = 0;
        }
        self.chunks.retain(|other| *other != chunk);
    }
}

impl Table {
    /// Goes on with what committed range deletes remove.
    pub(super) fn forget_retired(&mut self, left: &mut usize) {
        // The oldest first. Nothing is swept before all are done with, because a value that is forgotten under a range delete that is
        // still looked at would read as deleted.
        while *left > 0 && !self.tidy.retired.is_empty() {
            let mut unbounded = usize::MAX;
            let left = match self.tidy.retired.len() > RETIRED_MAX {
                true => &mut unbounded,
                false => &mut *left,
            };
            let mut retired = self.tidy.retired.remove(0);
            let is_done =
                self.forget_keys(&mut retired, left) && self.forget_covered(&mut retired, left);
            if !is_done {
                self.tidy.retired.insert(0, retired);
            }
        }
    }

    fn forget_keys(&mut self, retired: &mut Retired, left: &mut usize) -> bool {
        let Some((lists, range, key)) = &mut retired.listed else {
            return true;
        };
        while let Some(list) = lists.get(*range) {
            let Some(found) = list.as_ref().and_then(|keys| keys.get(*key)) else {
                (*range, *key) = (*range + 1, 0);
                continue;
            };
            if *left == 0 {
                return false;
            }
            (*left, *key) = (*left - 1, *key + 1);
            self.forget(found, retired.cover.number_at(found));
        }
        true
    }

    fn forget_covered(&mut self, retired: &mut Retired, left: &mut usize) -> bool {
        let Retired { chunks, unit, .. } = retired;
        while let Some(number) = chunks.front().copied() {
            let Some((at, record)) = self.memory.chunk(number).next_live(*unit) else {
                _ = chunks.pop_front();
                *unit = 0;
                continue;
            };
            if *left == 0 {
                return false;
            }
            *left -= 1;
            *unit = at + record.units();
            let covered_at = retired.cover.number_at(record.key);
            if is_covered(record.number, covered_at) {
                let at = Ref::new(number, at);
                let hash = self.hasher.hash(record.key);
                if let Ok(entry) = self.slots.find_entry(hash.spread(), |slot| slot.at() == at) {
                    entry.remove();
                    self.pass(at);
                }
            }
        }
        true
    }

    /// Forgets what was committed of a key up to a number.
    fn forget(&mut self, key: &[u8], covered_at: u64) {
        let hash = self.hasher.hash(key);
        let memory = &self.memory;
        let is_it = |slot: &Slot| slot.hash() == hash && memory.key(slot.at()) == key;
        if let Ok(entry) = self.slots.find_entry(hash.spread(), is_it) {
            let at = entry.get().at();
            if is_covered(self.memory.record(at).number, covered_at) {
                entry.remove();
                self.pass(at);
            }
        }
    }
}
