//! Chunks of memory with records in them, one after the other.
//!
//! A record is a header of 24 bytes, the key, the value, rounded up to units of 16 bytes:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..8 | the number of the write |
//! | 8..12 | the version before, or [`Ref::NONE`] |
//! | 12..16 | length of the key |
//! | 16..20 | length of the value |
//! | 20..24 | kind: see [`Kind`] |
//!
//! Key and value directly follow the header, so a probe that finds its key has the value in the same cache lines. A chunk begins at a
//! cache line. This format lives in memory only.

/// Bytes of the header.
const HEADER: usize = 24;
/// The unit of allocation, and of a [`Ref`].
pub(super) const UNIT: usize = 16;
/// Units of a full-size chunk: 1 MiB.
pub(super) const CHUNK_UNITS: usize = 1 << 16;
/// Bytes of a cache line.
const LINE: usize = 64;

/// The place of a record: the number of its chunk, and the unit in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ref(u32);

impl Ref {
    /// How many bits one has.
    pub(super) const BITS: u32 = 31;
    /// No record.
    pub(super) const NONE: Ref = Ref((1 << Self::BITS) - 1);

    /// The record at a unit of a chunk.
    ///
    /// # Panics
    /// There are more than 32 GiB of chunks.
    pub(super) fn new(chunk: usize, unit: usize) -> Ref {
        match u32::try_from(chunk * CHUNK_UNITS + unit) {
            Ok(bits) if bits < Self::NONE.0 => Ref(bits),
            _ => panic!("a store of a task holds more than 32 GiB in memory"),
        }
    }

    /// As a part of a table slot.
    pub(super) fn to_bits(self) -> u32 {
        self.0
    }

    /// The reverse of [`Ref::to_bits`].
    pub(super) fn from_bits(bits: u32) -> Ref {
        Ref(bits)
    }

    /// The number of the chunk.
    pub(super) fn chunk(self) -> usize {
        self.0 as usize / CHUNK_UNITS
    }

    /// The unit in it.
    pub(super) fn unit(self) -> usize {
        self.0 as usize % CHUNK_UNITS
    }
}

/// What a record says of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Kind {
    /// It was given a value.
    Value = 0,
    /// It was deleted.
    Tombstone = 1,
    /// Nothing: its place may be used again.
    Free = 2,
    /// It has this value in the database, from which it was read.
    Cached = 3,
}

/// A record, borrowed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    /// The number of the write that made it; of one that was read from the database, the number of the last write before.
    pub number: u64,
    /// The version before it.
    pub previous: Ref,
    pub kind: Kind,
    /// The key.
    pub key: &'a [u8],
    /// The value; empty for a tombstone.
    pub bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// The value; `None` is a tombstone.
    pub(super) fn value(&self) -> Option<&'a [u8]> {
        (self.kind != Kind::Tombstone).then_some(self.bytes)
    }

    /// Units that it takes.
    pub(super) fn units(&self) -> usize {
        units_of(self.key.len(), self.bytes.len())
    }
}

/// A piece of memory with records.
#[derive(Debug)]
pub(super) struct Chunk {
    bytes: Box<[u8]>,
    /// Where the first record begins.
    base: usize,
    /// Units that have records.
    used: usize,
}

impl Chunk {
    /// Room for so many units.
    pub(super) fn new(units: usize) -> Chunk {
        let bytes = vec![0; units * UNIT + LINE].into_boxed_slice();
        let base = bytes.as_ptr().align_offset(LINE);
        // Where a pointer's place is not known it is not a whole number of lines away.
        let base = if base < LINE { base } else { 0 };
        Chunk {
            bytes,
            base,
            used: 0,
        }
    }

    /// Bytes that it takes.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Units that have records.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Units that it has room for.
    pub(super) fn units(&self) -> usize {
        (self.bytes.len() - LINE) / UNIT
    }

    /// Takes units at the end, if there are so many.
    pub(super) fn take(&mut self, units: usize) -> Option<usize> {
        let unit = self.used;
        if unit + units > self.units() {
            return None;
        }
        self.used += units;
        Some(unit)
    }

    /// Writes a record.
    pub(super) fn write(
        &mut self,
        unit: usize,
        kind: Kind,
        number: u64,
        previous: Ref,
        key: &[u8],
        value: &[u8],
    ) {
        let record = self.at_mut(unit);
        record[0..8].copy_from_slice(&number.to_le_bytes());
        record[8..12].copy_from_slice(&previous.0.to_le_bytes());
        record[12..16].copy_from_slice(&length(key).to_le_bytes());
        record[16..20].copy_from_slice(&length(value).to_le_bytes());
        record[20..24].copy_from_slice(&(kind as u32).to_le_bytes());
        let value_at = HEADER + key.len();
        record[HEADER..value_at].copy_from_slice(key);
        record[value_at..value_at + value.len()].copy_from_slice(value);
    }

    /// Overwrites the value of a record in place, if the new one takes as many units.
    pub(super) fn overwrite(&mut self, unit: usize, number: u64, value: Option<&[u8]>) -> bool {
        let bytes = value.unwrap_or_default();
        let record = self.at_mut(unit);
        let (key, old) = (word(record, 12) as usize, word(record, 16) as usize);
        if units_of(key, old) != units_of(key, bytes.len()) {
            return false;
        }
        record[0..8].copy_from_slice(&number.to_le_bytes());
        record[16..20].copy_from_slice(&length(bytes).to_le_bytes());
        record[20..24].copy_from_slice(&(kind_of(value) as u32).to_le_bytes());
        record[HEADER + key..HEADER + key + bytes.len()].copy_from_slice(bytes);
        true
    }

    /// The record at a unit.
    pub(super) fn record(&self, unit: usize) -> Record<'_> {
        let bytes = self.at(unit);
        let (key, value) = (word(bytes, 12) as usize, word(bytes, 16) as usize);
        Record {
            number: number_of(bytes),
            previous: Ref(word(bytes, 8)),
            kind: match word(bytes, 20) {
                0 => Kind::Value,
                1 => Kind::Tombstone,
                2 => Kind::Free,
                _ => Kind::Cached,
            },
            key: &bytes[HEADER..HEADER + key],
            bytes: &bytes[HEADER + key..HEADER + key + value],
        }
    }

    /// The key of the record at a unit: all that a probe needs.
    pub(super) fn key(&self, unit: usize) -> &[u8] {
        let bytes = self.at(unit);
        &bytes[HEADER..HEADER + word(bytes, 12) as usize]
    }

    /// Reads a little of the record at a unit: from its first cache line, and from where the next one begins.
    pub(super) fn touch(&self, unit: usize) -> u8 {
        let bytes = self.at(unit);
        bytes[0] ^ bytes.get(LINE).unwrap_or(&0)
    }

    /// Forgets the version before a record and returns it.
    pub(super) fn take_previous(&mut self, unit: usize) -> Ref {
        let record = self.at_mut(unit);
        let previous = Ref(word(record, 8));
        record[8..12].copy_from_slice(&Ref::NONE.0.to_le_bytes());
        previous
    }

    /// Frees a record, and returns its units.
    pub(super) fn free(&mut self, unit: usize) -> usize {
        let record = self.at_mut(unit);
        record[20..24].copy_from_slice(&(Kind::Free as u32).to_le_bytes());
        units_of(word(record, 12) as usize, word(record, 16) as usize)
    }

    /// The first record at a unit or after it that is not free, and the unit after it.
    pub(super) fn next_live(&self, mut unit: usize) -> Option<(usize, Record<'_>)> {
        while unit < self.used {
            let record = self.record(unit);
            if record.kind != Kind::Free {
                return Some((unit, record));
            }
            unit += record.units();
        }
        None
    }

    /// All records that are not free, in the order of memory.
    pub(super) fn live(&self) -> impl Iterator<Item = (usize, Record<'_>)> {
        let mut unit = 0;
        std::iter::from_fn(move || {
            let (at, record) = self.next_live(unit)?;
            unit = at + record.units();
            Some((at, record))
        })
    }

    fn at(&self, unit: usize) -> &[u8] {
        &self.bytes[self.base + unit * UNIT..]
    }

    fn at_mut(&mut self, unit: usize) -> &mut [u8] {
        &mut self.bytes[self.base + unit * UNIT..]
    }
}

/// What a write makes of its key.
pub(super) fn kind_of(value: Option<&[u8]>) -> Kind {
    match value {
        Some(_) => Kind::Value,
        None => Kind::Tombstone,
    }
}

/// Units that a record takes.
pub(super) fn units_of(key: usize, value: usize) -> usize {
    (HEADER + key + value).div_ceil(UNIT)
}

fn length(bytes: &[u8]) -> u32 {
    match u32::try_from(bytes.len()) {
        Ok(length) => length,
        Err(_) => panic!("a key or value exceeds 4 GiB"),
    }
}

fn number_of(bytes: &[u8]) -> u64 {
    match bytes.first_chunk() {
        Some(number) => u64::from_le_bytes(*number),
        None => panic!("a record without header"),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    match bytes[at..].first_chunk() {
        Some(word) => u32::from_le_bytes(*word),
        None => panic!("a record without header"),
    }
}
