//! Undo records: what keys had at one moment, so that everything that a stage has written since can be taken back.
//!
//! The first write of a key after that moment also saves the value that it had. Whether it is the first, the database knows, which has the
//! undo record of every key that was written since: neither a restart nor an attempt that is made again makes a difference, and reads,
//! scans and caches know nothing of it. What it knows is at hand in [`Saved`], as far as that has room. A range delete saves every key
//! that it deletes.
//!
//! An undo record is an entry of the family `state`. Its key is that of the entry with the top bit of the stage's number set, and its
//! value is one byte and what follows:
//!
//! | byte | what |
//! | --- | --- |
//! | 0 | the key was absent |
//! | 1 | it had the value that follows, as it was stored |

use std::cmp::Ordering;
use std::collections::HashSet;

use foldhash::fast::RandomState;

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

/// Bytes of keys that are at hand.
const AT_HAND: usize = 64 << 20;

/// Keys that have undo records, at hand: so the database need not be asked for each write.
pub struct Saved {
    keys: HashSet<Box<[u8]>, RandomState>,
    bytes: usize,
    /// All keys with undo records are here.
    is_complete: bool,
}

impl Saved {
    /// There are no undo records yet.
    pub fn of_none() -> Saved {
        Saved {
            keys: HashSet::default(),
            bytes: 0,
            is_complete: true,
        }
    }

    /// There may be some.
    pub fn of_some() -> Saved {
        Saved {
            is_complete: false,
            ..Saved::of_none()
        }
    }

    /// A key has an undo record.
    fn note(&mut self, key: Box<[u8]>) {
        // With the table's part, and what an allocation takes.
        let bytes = key.len() + 48;
        match self.bytes + bytes > AT_HAND {
            true => self.is_complete = false,
            false => {
                self.bytes += bytes;
                self.keys.insert(key);
            }
        }
    }
}

/// Makes a write.
pub type Flush<'a> = dyn Fn(WriteSet<'_>) -> Result<(), StateError> + 'a;

/// Saves what a stage is about to overwrite.
pub struct Undo<'a> {
    db: &'a Db,
    saved: WriteSet<'a>,
    /// Makes a write of its own, where there is too much for one. What it writes means nothing without what follows.
    flush: &'a Flush<'a>,
    known: &'a mut Saved,
    /// Keys whose records are not written yet.
    unwritten: HashSet<Box<[u8]>, RandomState>,
    bytes: u64,
    keys: u64,
}

impl<'a> Undo<'a> {
    /// Nothing is saved yet.
    pub fn new(db: &'a Db, flush: &'a Flush<'a>, known: &'a mut Saved) -> Undo<'a> {
        Undo {
            db,
            saved: db.write_set(),
            flush,
            known,
            unwritten: HashSet::default(),
            bytes: 0,
            keys: 0,
        }
    }

    /// Writes what is saved and not yet written: before what overwrites it. How many keys were saved, and bytes.
    ///
    /// # Errors
    /// What the write says.
    pub fn finish(mut self) -> Result<(u64, u64), StateError> {
        if !self.saved.is_empty() {
            self.write()?;
        }
        Ok((self.keys, self.bytes))
    }

    /// These keys of a store, which are in order, are about to be written.
    pub(super) fn save_keys<'k>(
        &mut self,
        prefix: StorePrefix,
        keys: impl Iterator<Item = &'k [u8]>,
    ) -> Result<(), StateError> {
        let (mut together, mut key) = (Vec::new(), Vec::new());
        for of_store in keys {
            prefix.key_into(of_store, &mut key);
            // A range delete of the same epoch may have saved it.
            if self.known.keys.contains(&*key) || self.unwritten.contains(&*key) {
                continue;
            }
            together.push(key.clone());
            if together.len() == TOGETHER {
                self.save_together(&mut together)?;
            }
        }
        self.save_together(&mut together)
    }

    /// Saves the keys that have no undo record.
    fn save_together(&mut self, keys: &mut Vec<Vec<u8>>) -> Result<(), StateError> {
        let db = self.db;
        if !self.known.is_complete {
            let undo: Vec<Vec<u8>> = keys.iter().map(|key| undo_key(key)).collect();
            let mut is_saved = vec![false; keys.len()];
            db.get_each(Family::State, &undo, |index, found| {
                is_saved[index] = found.is_some();
            })?;
            let mut is_saved = is_saved.into_iter();
            let known = keys.extract_if(.., |_| is_saved.next().unwrap_or_default());
            known.for_each(|key| self.known.note(key.into()));
        }
        db.get_each(Family::State, keys, |index, stored| {
            self.save(&keys[index], stored);
        })?;
        keys.clear();
        self.write_if_large()
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
            if !self.unwritten.contains(key) && !is_at(&mut saved, &undo_key(key))? {
                self.save(key, Some(stored));
                self.write_if_large()?;
            }
            entries.advance();
        }
        Ok(())
    }

    fn save(&mut self, key: &[u8], stored: Option<&[u8]>) {
        let undo = undo_key(key);
        let mut value = Vec::with_capacity(1 + stored.map_or(0, <[u8]>::len));
        value.push(if stored.is_some() { PRESENT } else { ABSENT });
        value.extend_from_slice(stored.unwrap_or_default());
        self.keys += 1;
        self.bytes += (undo.len() + value.len()) as u64;
        self.saved.put(Family::State, &undo, &value);
        self.unwritten.insert(key.into());
    }

    fn write_if_large(&mut self) -> Result<(), StateError> {
        match self.saved.bytes() < UNDO_BYTES {
            true => Ok(()),
            false => self.write(),
        }
    }

    /// Writes what is saved: from then on it is known.
    fn write(&mut self) -> Result<(), StateError> {
        let saved = std::mem::replace(&mut self.saved, self.db.write_set());
        (self.flush)(saved)?;
        let written = self.unwritten.drain();
        written.for_each(|key| self.known.note(key));
        Ok(())
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
