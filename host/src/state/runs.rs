//! Runs of deletes whose keys follow one another, as in a queue. One range delete replaces many deletes, so scans need not pass
//! over them key by key afterwards.
//!
//! The database is asked what it has between the first and the last of them: a range that holds nothing else is deleted as
//! one, and a key that it does not have is not deleted at all.

use super::StateError;
use super::db::{Db, Family, Stored, WriteSet};
use super::keys::{Order, StorePrefix};

/// The shortest run of deletes that is considered, and the fewest keys that a range delete is used for: every reader pays for each
/// range delete.
pub(super) const RUN_MIN: usize = 256;
/// Limits of the walk: bytes of values for each key, and one key that stays for this many that go; this much more is
/// always allowed.
const VALUE_BYTES: usize = 512;
const KEYS_FOR_ONE_THAT_STAYS: usize = 64;
const WALKED_KEYS: usize = 1_024;

/// Adds the deletes of `keys`, which are in order, to a checkpoint. Nothing between them is written by it.
///
/// # Errors
/// The database cannot be read.
pub(super) fn write(
    db: &Db,
    prefix: StorePrefix,
    keys: &[&[u8]],
    writes: &mut WriteSet<'_>,
) -> Result<(), StateError> {
    let (Some(first), Some(last)) = (keys.first(), keys.last()) else {
        return Ok(());
    };
    let mut upper = prefix.key(last);
    upper.push(0);
    let mut walk = db.walk_in_steps(Family::State, prefix.key(first), upper, Order::Up);
    let mut runs = Runs {
        keys,
        next: 0,
        run: 0,
        found: Vec::new(),
        walked: Walked::default(),
    };
    let mut writer = Writer {
        prefix,
        writes,
        key: Vec::new(),
    };
    loop {
        // It may pass over keys that were deleted earlier, but not over very many.
        if !walk.arrive(&mut || true)? || runs.walked.is_too_much() {
            for key in &keys[runs.run..] {
                writer.delete(key);
            }
            return Ok(());
        }
        let Some(entry) = walk.entry()? else { break };
        if runs.stays(entry) {
            writer.end_run(keys, &runs.found);
            runs.begin();
        }
        walk.advance();
    }
    writer.end_run(keys, &runs.found);
    Ok(())
}

/// The progress of the walk.
struct Runs<'a> {
    keys: &'a [&'a [u8]],
    /// The first of the keys that the walk has not reached.
    next: usize,
    /// The first of the keys of the run.
    run: usize,
    /// Which keys of the run the database has.
    found: Vec<usize>,
    walked: Walked,
}

impl Runs<'_> {
    /// The walk has reached an entry. Returns whether the entry stays, and the run ends before it.
    fn stays(&mut self, (key, value): Stored<'_>) -> bool {
        let key = &key[StorePrefix::LEN..];
        while self.keys.get(self.next).is_some_and(|next| *next < key) {
            self.next += 1;
        }
        let goes = self.keys.get(self.next).is_some_and(|next| *next == key);
        if goes {
            self.found.push(self.next);
            self.next += 1;
        }
        self.walked.keys += 1;
        self.walked.stay += usize::from(!goes);
        self.walked.value_bytes += value.len();
        !goes
    }

    fn begin(&mut self) {
        self.found.clear();
        self.run = self.next;
    }
}

#[derive(Default)]
struct Walked {
    keys: usize,
    stay: usize,
    value_bytes: usize,
}

impl Walked {
    fn is_too_much(&self) -> bool {
        let keys = self.keys + WALKED_KEYS;
        self.stay * KEYS_FOR_ONE_THAT_STAYS > keys || self.value_bytes > VALUE_BYTES * keys
    }
}

struct Writer<'a, 'b> {
    prefix: StorePrefix,
    writes: &'a mut WriteSet<'b>,
    key: Vec<u8>,
}

impl Writer<'_, '_> {
    fn delete(&mut self, key: &[u8]) {
        self.prefix.key_into(key, &mut self.key);
        self.writes.delete(Family::State, &self.key);
    }

    /// Deletes those of the keys that were found, between which nothing else is.
    fn end_run(&mut self, keys: &[&[u8]], found: &[usize]) {
        match found {
            [first, .., last] if found.len() >= RUN_MIN => {
                self.prefix.key_into(keys[*first], &mut self.key);
                let mut end = self.prefix.key(keys[*last]);
                end.push(0);
                self.writes.delete_range(Family::State, &self.key, &end);
            }
            _ => {
                for index in found {
                    self.delete(keys[*index]);
                }
            }
        }
    }
}
