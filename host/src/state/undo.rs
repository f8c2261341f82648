//! Undo records: what keys had at one moment, so that everything that a stage has written since can be taken back.
//!
//! The first write of a key after that moment also saves the value that it had. Whether it is the first is asked of the database, which
//! has the undo record of every key that was written since. So neither a restart nor an attempt that is made again makes a difference,
//! and reads, scans and caches know nothing of it. A range delete saves every key that it deletes.
//!
//! An undo record is an entry of the family `state`. Its key is that of the entry with the top bit of the stage's number set, and its
//! value is one byte and what follows:
//!
//! | byte | what |
//! | --- | --- |
//! | 0 | the key was absent |
//! | 1 | it had the value that follows, as it was stored |

use std::cmp::Ordering;

use super::StateError;
use super::db::{Db, Family, Walk, WriteSet};
use super::keys::{Order, StorePrefix, end_of_prefix, stage_start, undo_key, undone_key};
use crate::model::StageId;

const ABSENT: u8 = 0;
const PRESENT: u8 = 1;

/// Undo records that are written at a time, in bytes; and what is taken back at a time.
const UNDO_BYTES: usize = 64 << 20;
/// Keys that are asked for together.
const TOGETHER: usize = 512;

/// Makes a write.
pub type Flush<'a> = dyn Fn(WriteSet<'_>) -> Result<(), StateError> + 'a;

/// Saves what a stage is about to overwrite.
pub struct Undo<'a> {
    db: &'a Db,
    saved: WriteSet<'a>,
    /// Makes a write of its own, where there is too much for one. What it writes means nothing without what follows.
    flush: &'a Flush<'a>,
    bytes: u64,
    keys: u64,
}

impl<'a> Undo<'a> {
    /// Nothing is saved yet.
    pub fn new(db: &'a Db, flush: &'a Flush<'a>) -> Undo<'a> {
        Undo {
            db,
            saved: db.write_set(),
            flush,
            bytes: 0,
            keys: 0,
        }
    }

    /// How many keys were saved, and bytes.
    pub fn size(&self) -> (u64, u64) {
        (self.keys, self.bytes)
    }

    /// Writes what is saved and not yet written: before what overwrites it. How many keys were saved, and bytes.
    ///
    /// # Errors
    /// What the write says.
    pub fn finish(self) -> Result<(u64, u64), StateError> {
        let size = self.size();
        match self.saved.is_empty() {
            true => Ok(size),
            false => (self.flush)(self.saved).map(|()| size),
        }
    }

    /// These keys of a store, which are in order, are about to be written.
    pub(super) fn save_keys<'k>(
        &mut self,
        prefix: StorePrefix,
        keys: impl Iterator<Item = &'k [u8]>,
    ) -> Result<(), StateError> {
        let mut keys = keys.map(|key| prefix.key(key)).peekable();
        while keys.peek().is_some() {
            let together: Vec<Vec<u8>> = keys.by_ref().take(TOGETHER).collect();
            self.save_together(&together)?;
        }
        Ok(())
    }

    fn save_together(&mut self, keys: &[Vec<u8>]) -> Result<(), StateError> {
        let db = self.db;
        let undo: Vec<Vec<u8>> = keys.iter().map(|key| undo_key(key)).collect();
        let mut first: Vec<usize> = Vec::new();
        db.get_each(Family::State, &undo, |index, found| {
            if found.is_none() {
                first.push(index);
            }
        })?;
        let unsaved: Vec<&[u8]> = first.iter().map(|index| &*keys[*index]).collect();
        db.get_each(Family::State, &unsaved, |index, stored| {
            self.save(&undo[first[index]], stored);
        })?;
        self.flush_if_large()
    }

    /// All that a store has in a range is about to be deleted.
    pub(super) fn save_range(
        &mut self,
        prefix: StorePrefix,
        start: &[u8],
        end: Option<&[u8]>,
    ) -> Result<(), StateError> {
        let (lower, upper) = prefix.range(Some(start), end);
        let db = self.db;
        let walk = |lower, upper| db.walk(Family::State, lower, upper, Order::Up);
        let mut saved = walk(undo_key(&lower), undo_key(&upper));
        let mut entries = walk(lower, upper);
        while let Some((key, stored)) = entries.entry()? {
            let undo = undo_key(key);
            if !is_at(&mut saved, &undo)? {
                self.save(&undo, Some(stored));
                self.flush_if_large()?;
            }
            entries.advance();
        }
        Ok(())
    }

    fn save(&mut self, undo_key: &[u8], stored: Option<&[u8]>) {
        let mut value = Vec::with_capacity(1 + stored.map_or(0, <[u8]>::len));
        value.push(if stored.is_some() { PRESENT } else { ABSENT });
        value.extend_from_slice(stored.unwrap_or_default());
        self.keys += 1;
        self.bytes += (undo_key.len() + value.len()) as u64;
        self.saved.put(Family::State, undo_key, &value);
    }

    fn flush_if_large(&mut self) -> Result<(), StateError> {
        if self.saved.bytes() < UNDO_BYTES {
            return Ok(());
        }
        let saved = std::mem::replace(&mut self.saved, self.db.write_set());
        (self.flush)(saved)
    }
}

/// Whether a walk, which goes on as far as that, has an entry with this key.
fn is_at(walk: &mut Walk<'_>, key: &[u8]) -> Result<bool, StateError> {
    while let Some((at, _)) = walk.entry()? {
        match at.cmp(key) {
            Ordering::Less => walk.advance(),
            Ordering::Equal => return Ok(true),
            Ordering::Greater => return Ok(false),
        }
    }
    Ok(false)
}

/// Adds to a write that keys of a stage have again what they had, from the undo record `from` on, as many as fit. The records stay, so
/// that it may be repeated. Returns where to go on; `None`: all have.
///
/// # Errors
/// The database cannot be read, or a record is damaged.
pub fn take_back(
    db: &Db,
    stage: StageId,
    from: Option<Vec<u8>>,
    writes: &mut WriteSet<'_>,
) -> Result<Option<Vec<u8>>, StateError> {
    let (first, end) = undo_range(stage);
    let mut walk = db.walk(Family::State, from.unwrap_or(first), end, Order::Up);
    while let Some((undo, saved)) = walk.entry()? {
        if writes.bytes() >= UNDO_BYTES {
            return Ok(Some(undo.to_vec()));
        }
        let key = undone_key(undo);
        match saved.split_first() {
            Some((&ABSENT, [])) => writes.delete(Family::State, &key),
            Some((&PRESENT, stored)) => writes.put(Family::State, &key, stored),
            _ => {
                let what = format!("the undo record {} is none", undo.escape_ascii());
                return Err(StateError::Damaged(what));
            }
        }
        walk.advance();
    }
    Ok(None)
}

/// Adds to a write that nothing of a stage can be taken back any more.
pub fn forget_undo(stage: StageId, writes: &mut WriteSet<'_>) {
    let (first, end) = undo_range(stage);
    writes.delete_range(Family::State, &first, &end);
}

/// The keys of the undo records of a stage.
fn undo_range(stage: StageId) -> (Vec<u8>, Vec<u8>) {
    let first = undo_key(&stage_start(stage));
    let end = end_of_prefix(&first);
    (first, end)
}
