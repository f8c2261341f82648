//! Records of an overlay, bump-allocated in chunks and freed in one piece.
//!
//! A record is a header of 24 bytes, the key, the value, rounded up to units of 16 bytes:
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..8 | the number of the write |
//! | 8..12 | the version before, or [`Ref::NONE`] |
//! | 12..16 | length of the key |
//! | 16..20 | length of the value |
//! | 20..24 | kind: value, tombstone, or free |
//!
//! Key and value directly follow the header, so a probe that finds its key has the value in the same cache lines.
//! This format lives in memory only.

/// Bytes of the header.
const HEADER: usize = 24;
/// The unit of allocation, and of a [`Ref`].
const UNIT: usize = 16;
/// Units of a full-size chunk: 1 MiB.
const CHUNK_UNITS: usize = 1 << 16;
/// Units of the first chunk: 4 KiB. Each chunk is twice as large as the one before, so that a task that writes
/// little takes little.
const FIRST_UNITS: usize = 256;
/// Freed records up to this many units are used again; larger ones are garbage until the arena is rewritten.
const RECYCLED_UNITS: usize = 64;

/// The place of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ref(u32);

impl Ref {
    /// No record.
    pub(super) const NONE: Ref = Ref(u32::MAX);

    /// As the lower half of a table slot.
    pub(super) fn to_bits(self) -> u32 {
        self.0
    }

    /// The reverse of [`Ref::to_bits`].
    pub(super) fn from_bits(bits: u32) -> Ref {
        Ref(bits)
    }

    fn chunk(self) -> usize {
        self.0 as usize / CHUNK_UNITS
    }

    fn byte(self) -> usize {
        self.0 as usize % CHUNK_UNITS * UNIT
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Kind {
    Value = 0,
    Tombstone = 1,
    Free = 2,
}

/// A record, borrowed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    /// The number of the write that made it.
    pub number: u64,
    /// The version before it.
    pub previous: Ref,
    /// The key.
    pub key: &'a [u8],
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
}

/// The memory of an overlay.
#[derive(Debug, Default)]
pub(super) struct Arena {
    chunks: Vec<Box<[u8]>>,
    /// Units used of the last regular chunk.
    used_units: usize,
    /// The regular chunk that is being filled.
    current: Option<usize>,
    /// Freed records by their size in units.
    free: Vec<Vec<Ref>>,
    /// Bytes handed out, freed ones included.
    allocated: usize,
    /// Bytes of freed records.
    freed: usize,
}

impl Arena {
    /// Bytes handed out, garbage included.
    pub(super) fn allocated(&self) -> usize {
        self.allocated
    }

    /// Bytes of freed records.
    pub(super) fn garbage(&self) -> usize {
        self.freed
    }

    /// Writes a record.
    pub(super) fn insert(
        &mut self,
        number: u64,
        previous: Ref,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Ref {
        let value_bytes = value.unwrap_or_default();
        let units = units_of(key.len(), value_bytes.len());
        let at = self.allocate(units);
        let record = self.record_mut(at);
        record[0..8].copy_from_slice(&number.to_le_bytes());
        record[8..12].copy_from_slice(&previous.0.to_le_bytes());
        record[12..16].copy_from_slice(&length(key).to_le_bytes());
        record[16..20].copy_from_slice(&length(value_bytes).to_le_bytes());
        let kind = if value.is_some() {
            Kind::Value
        } else {
            Kind::Tombstone
        };
        record[20..24].copy_from_slice(&(kind as u32).to_le_bytes());
        record[HEADER..HEADER + key.len()].copy_from_slice(key);
        record[HEADER + key.len()..HEADER + key.len() + value_bytes.len()]
            .copy_from_slice(value_bytes);
        at
    }

    /// Overwrites the value of a record in place, if the new one takes as many units.
    pub(super) fn overwrite(&mut self, at: Ref, number: u64, value: Option<&[u8]>) -> bool {
        let bytes = value.unwrap_or_default();
        let record = self.record_mut(at);
        let (key, old) = (word(record, 12) as usize, word(record, 16) as usize);
        if units_of(key, old) != units_of(key, bytes.len()) {
            return false;
        }
        record[0..8].copy_from_slice(&number.to_le_bytes());
        record[16..20].copy_from_slice(&length(bytes).to_le_bytes());
        let kind = if value.is_some() {
            Kind::Value
        } else {
            Kind::Tombstone
        };
        record[20..24].copy_from_slice(&(kind as u32).to_le_bytes());
        record[HEADER + key..HEADER + key + bytes.len()].copy_from_slice(bytes);
        true
    }

    /// The record at this place.
    pub(super) fn get(&self, at: Ref) -> Record<'_> {
        let bytes = &self.chunks[at.chunk()][at.byte()..];
        let (key, value) = (word(bytes, 12) as usize, word(bytes, 16) as usize);
        let kind = word(bytes, 20);
        assert!(kind != Kind::Free as u32, "a freed record is referred to");
        Record {
            number: number_of(bytes),
            previous: Ref(word(bytes, 8)),
            key: &bytes[HEADER..HEADER + key],
            value: (kind == Kind::Value as u32).then(|| &bytes[HEADER + key..HEADER + key + value]),
        }
    }

    /// The key of the record at a place: all that a probe needs.
    pub(super) fn key(&self, at: Ref) -> &[u8] {
        let bytes = &self.chunks[at.chunk()][at.byte()..];
        &bytes[HEADER..HEADER + word(bytes, 12) as usize]
    }

    /// Forgets the version before a record and returns it.
    pub(super) fn take_previous(&mut self, at: Ref) -> Ref {
        let record = self.record_mut(at);
        let previous = Ref(word(record, 8));
        record[8..12].copy_from_slice(&Ref::NONE.0.to_le_bytes());
        previous
    }

    /// Frees a record. Nothing may refer to it any more.
    pub(super) fn free(&mut self, at: Ref) {
        let record = self.record_mut(at);
        let units = units_of(word(record, 12) as usize, word(record, 16) as usize);
        record[20..24].copy_from_slice(&(Kind::Free as u32).to_le_bytes());
        self.freed += units * UNIT;
        if units <= RECYCLED_UNITS {
            if self.free.len() <= units {
                self.free.resize_with(units + 1, Vec::new);
            }
            self.free[units].push(at);
        }
    }

    /// All records that are not free, in the order of memory.
    pub(super) fn live(&self) -> impl Iterator<Item = (Ref, Record<'_>)> {
        self.chunks
            .iter()
            .enumerate()
            .flat_map(move |(index, chunk)| {
                let mut unit = 0;
                std::iter::from_fn(move || {
                    loop {
                        let bytes = chunk.get(unit * UNIT..)?;
                        // A length of key and value that nothing was written to is zero, as is the number: writes are
                        // numbered from 1.
                        if bytes.len() < HEADER || number_of(bytes) == 0 {
                            return None;
                        }
                        let at = Ref(u32::try_from(index * CHUNK_UNITS + unit).ok()?);
                        unit += units_of(word(bytes, 12) as usize, word(bytes, 16) as usize);
                        if word(bytes, 20) != Kind::Free as u32 {
                            return Some((at, self.get(at)));
                        }
                    }
                })
            })
    }

    fn allocate(&mut self, units: usize) -> Ref {
        if let Some(at) = self.free.get_mut(units).and_then(Vec::pop) {
            self.freed -= units * UNIT;
            return at;
        }
        self.allocated += units * UNIT;
        if units > CHUNK_UNITS {
            return self.add_chunk(units);
        }
        match self.current {
            Some(current) if (self.used_units + units) * UNIT <= self.chunks[current].len() => {
                let at = reference(current, self.used_units);
                self.used_units += units;
                at
            }
            _ => {
                let last = self
                    .current
                    .map_or(FIRST_UNITS / 2, |at| self.chunks[at].len() / UNIT);
                let at = self.add_chunk((last * 2).max(units.next_power_of_two()).min(CHUNK_UNITS));
                self.current = Some(at.chunk());
                self.used_units = units;
                at
            }
        }
    }

    fn add_chunk(&mut self, units: usize) -> Ref {
        self.chunks.push(vec![0; units * UNIT].into_boxed_slice());
        reference(self.chunks.len() - 1, 0)
    }

    fn record_mut(&mut self, at: Ref) -> &mut [u8] {
        &mut self.chunks[at.chunk()][at.byte()..]
    }
}

fn reference(chunk: usize, unit: usize) -> Ref {
    match u32::try_from(chunk * CHUNK_UNITS + unit) {
        Ok(bits) if bits != u32::MAX => Ref(bits),
        _ => panic!("an overlay exceeds 64 GiB"),
    }
}

fn units_of(key: usize, value: usize) -> usize {
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
