//! Buffers of a keyed update that outlive it, so that a batch like the last one allocates next to nothing.

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher as _;

use crate::backend::types::BytesColumn;
use crate::column::{Column as _, RETAIN_BYTES, index};
use crate::{Error, packed};

/// The distinct keys of a batch, in the order of their first appearance, and the columns to write.
pub(crate) struct KeyScratch {
    pub(crate) keys: BytesColumn,
    places: HashTable<u32>,
    pub(crate) write_keys: BytesColumn,
    pub(crate) write_values: BytesColumn,
}

impl Default for KeyScratch {
    fn default() -> Self {
        Self {
            keys: BytesColumn::empty(),
            places: HashTable::new(),
            write_keys: BytesColumn::empty(),
            write_values: BytesColumn::empty(),
        }
    }
}

/// A fixed seed: with at most a batch of keys in it, a table that someone filled on purpose is slow for one batch.
const HASHER: FixedState = FixedState::with_seed(0x5761_736d_2d68_6f73);

impl KeyScratch {
    /// The place of a key among the distinct ones. Encodes it straight into the column, where it stays if it is new.
    #[inline]
    pub(crate) fn place(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>,
    ) -> Result<u32, Error> {
        let start = self.keys.data.len();
        if let Err(error) = encode(&mut self.keys.data) {
            self.keys.data.truncate(start);
            return Err(error);
        }
        let (known, key) = self.keys.data.split_at(start);
        let hash = HASHER.hash_one(Bytes(key));
        let ends = &self.keys.ends;
        let found = self
            .places
            .find(hash, |&place| entry(known, ends, place) == key)
            .copied();
        if let Some(place) = found {
            self.keys.data.truncate(start);
            return Ok(place);
        }
        let place = index(self.keys.count());
        self.keys.close();
        let keys = &self.keys;
        self.places.insert_unique(hash, place, |&place| {
            HASHER.hash_one(Bytes(keys.bytes(place as usize)))
        });
        Ok(place)
    }

    pub(crate) fn reset(&mut self) {
        self.keys.reset();
        self.write_keys.reset();
        self.write_values.reset();
        if self.places.capacity() * size_of::<u32>() > RETAIN_BYTES {
            self.places = HashTable::new();
        }
        self.places.clear();
    }
}

#[inline]
fn entry<'a>(data: &'a [u8], ends: &[u8], place: u32) -> &'a [u8] {
    let place = place as usize;
    let start = place
        .checked_sub(1)
        .and_then(|before| packed::get(ends, before))
        .map_or(0, u32::from_le_bytes);
    let end = packed::get(ends, place).map_or(0, u32::from_le_bytes);
    data.get(start as usize..end as usize).unwrap_or(&[])
}

/// Hashes the bytes alone: a slice's own `Hash` would hash its length in a step of its own.
struct Bytes<'a>(&'a [u8]);

impl std::hash::Hash for Bytes<'_> {
    #[inline]
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        state.write(self.0);
    }
}

/// Where the value of a distinct key lives during an update.
pub(crate) struct Slot<T> {
    pub(crate) value: Option<T>,
    /// The store has no value for the key.
    pub(crate) absent: bool,
    /// `value` is the key's, and not what an earlier batch left there.
    pub(crate) loaded: bool,
    /// A message has been applied to it.
    pub(crate) applied: bool,
}

impl<T> Slot<T> {
    pub(crate) fn new() -> Self {
        Self {
            value: None,
            absent: false,
            loaded: false,
            applied: false,
        }
    }
}
