//! The memory of a store: chunks by number, and who holds them.
//!
//! Writes of the open epoch go to one arena. A seal freezes its chunks in one piece, whatever their number: the open epoch and the
//! sealed one take turns in two places, and a chunk's number names the place and not the chunk. When the epoch is released its chunks
//! become single ones, which are given up one by one. A second arena takes committed values: those read from the database, and those
//! moved out of a chunk that is given up.
//!
//! Invariant: a record of a sealed or clean chunk never changes. What was written over it is counted, not marked.

use std::sync::Arc;

use super::arena::{CHUNK_UNITS, Chunk, Kind, Record, Ref, UNIT, kind_of, units_of};
use super::frozen::{Frozen, Index};

/// Units of the first chunk of an arena: 4 KiB. Each is twice as large as the one before, so that a task that writes little takes
/// little.
const FIRST_UNITS: usize = 256;
/// Units of the smallest clean chunk: 512 bytes.
const CLEAN_UNITS: usize = 32;
/// Freed records up to this many units are used again; larger ones are garbage until the arena is rewritten.
const RECYCLED_UNITS: usize = 64;

/// Who holds a chunk.
#[derive(Debug)]
enum Place {
    /// There is none of this number.
    Vacant,
    /// An epoch: which of the two, and its place there.
    Epoch(usize, usize),
    /// The store alone.
    Clean(Chunk),
    /// A released epoch that the commit has not let go of, and the chunk's place there.
    Shared(Arc<Frozen>, usize),
}

/// What is in one of the two places for epochs.
#[derive(Debug)]
enum EpochChunks {
    Open(Arena),
    /// The epoch, and the numbers of its chunks.
    Sealed(Arc<Frozen>, Vec<usize>),
}

/// The chunks that are written to.
#[derive(Debug, Default)]
pub(super) struct Arena {
    chunks: Vec<Chunk>,
    numbers: Vec<usize>,
    /// The regular chunk that is being filled.
    current: Option<usize>,
    /// Freed records by their size in units.
    free: Vec<Vec<Ref>>,
    /// Bytes handed out, freed ones included.
    allocated: usize,
    /// Bytes of freed records.
    freed: usize,
}

/// The chunks of a store.
#[derive(Debug)]
pub(super) struct Memory {
    places: Vec<Place>,
    /// Units of each chunk whose records do not count any more.
    gone: Vec<usize>,
    vacant: Vec<usize>,
    epochs: [EpochChunks; 2],
    open: usize,
    /// The clean chunk that is being filled.
    filling: Option<usize>,
}

/// A clean chunk begins, and takes so many bytes; another is full.
#[derive(Debug, Default)]
pub(super) struct Begun {
    pub(super) bytes: usize,
    pub(super) full: Option<usize>,
}

impl Memory {
    pub(super) fn new() -> Memory {
        Memory {
            places: Vec::new(),
            gone: Vec::new(),
            vacant: Vec::new(),
            epochs: [
                EpochChunks::Open(Arena::default()),
                EpochChunks::Open(Arena::default()),
            ],
            open: 0,
            filling: None,
        }
    }

    /// The record at this place.
    pub(super) fn record(&self, at: Ref) -> Record<'_> {
        let record = self.chunk(at.chunk()).record(at.unit());
        assert!(record.kind != Kind::Free, "a freed record is referred to");
        record
    }

    /// The key of the record at a place: all that a probe needs.
    pub(super) fn key(&self, at: Ref) -> &[u8] {
        self.chunk(at.chunk()).key(at.unit())
    }

    /// Reads a little of the record at a place.
    pub(super) fn touch(&self, at: Ref) -> u8 {
        self.chunk(at.chunk()).touch(at.unit())
    }

    /// A chunk by its number.
    pub(super) fn chunk(&self, number: usize) -> &Chunk {
        match &self.places[number] {
            Place::Epoch(which, at) => match &self.epochs[*which] {
                EpochChunks::Open(arena) => &arena.chunks[*at],
                EpochChunks::Sealed(frozen, _) => &frozen.chunks[*at],
            },
            Place::Clean(chunk) => chunk,
            Place::Shared(frozen, at) => &frozen.chunks[*at],
            Place::Vacant => panic!("a chunk is referred to that was given up"),
        }
    }

    /// Whether a record is of the open epoch.
    pub(super) fn is_open(&self, at: Ref) -> bool {
        matches!(self.places[at.chunk()], Place::Epoch(which, _) if which == self.open)
    }

    /// Bytes handed out in the open epoch, garbage included, and those of them that are garbage.
    pub(super) fn open_bytes(&self) -> (usize, usize) {
        match &self.epochs[self.open] {
            EpochChunks::Open(arena) => (arena.allocated, arena.freed),
            EpochChunks::Sealed(..) => (0, 0),
        }
    }

    /// Writes a record of the open epoch.
    pub(super) fn write(
        &mut self,
        number: u64,
        previous: Ref,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Ref {
        let bytes = value.unwrap_or_default();
        let at = self.allocate(units_of(key.len(), bytes.len()));
        let (chunk, unit) = self.open_chunk(at);
        chunk.write(unit, kind_of(value), number, previous, key, bytes);
        at
    }

    /// Overwrites the value of a record of the open epoch in place, if the new one takes as many units.
    pub(super) fn overwrite(&mut self, at: Ref, number: u64, value: Option<&[u8]>) -> bool {
        let (chunk, unit) = self.open_chunk(at);
        chunk.overwrite(unit, number, value)
    }

    /// Forgets the version before a record of the open epoch and returns it.
    pub(super) fn take_previous(&mut self, at: Ref) -> Ref {
        let (chunk, unit) = self.open_chunk(at);
        chunk.take_previous(unit)
    }

    /// Frees a record of the open epoch. Nothing may refer to it any more.
    pub(super) fn free(&mut self, at: Ref) {
        let (chunk, unit) = self.open_chunk(at);
        let units = chunk.free(unit);
        self.gone[at.chunk()] += units;
        let arena = self.arena();
        arena.freed += units * UNIT;
        if units <= RECYCLED_UNITS {
            if arena.free.len() <= units {
                arena.free.resize_with(units + 1, Vec::new);
            }
            arena.free[units].push(at);
        }
    }

    /// A record that is not of the open epoch does not count any more. Returns its units.
    pub(super) fn pass(&mut self, at: Ref) -> usize {
        let units = self.record(at).units();
        self.gone[at.chunk()] += units;
        units
    }

    /// Whether a chunk is clean.
    pub(super) fn is_clean(&self, number: usize) -> bool {
        matches!(self.places[number], Place::Clean(_) | Place::Shared(..))
    }

    /// The clean chunk that is being filled.
    pub(super) fn filling(&self) -> Option<usize> {
        self.filling
    }

    /// The keys of the open epoch in order.
    pub(super) fn open_keys(&self) -> Index {
        let chunks = match &self.epochs[self.open] {
            EpochChunks::Open(arena) => &*arena.chunks,
            EpochChunks::Sealed(..) => &[],
        };
        let records = chunks.iter().flat_map(|chunk| chunk.live());
        records.map(|(_, record)| record.key.into()).collect()
    }

    /// Units of a chunk that have records, and how many of them do not count any more.
    pub(super) fn waste(&self, number: usize) -> (usize, usize) {
        (self.chunk(number).used(), self.gone[number])
    }

    /// Units of a chunk that do not count any more, even while it is taken out.
    pub(super) fn gone_of(&self, number: usize) -> usize {
        self.gone[number]
    }

    /// Freezes the open epoch, and opens another.
    pub(super) fn seal(&mut self, freeze: impl FnOnce(Vec<Chunk>) -> Frozen) -> Arc<Frozen> {
        let arena = std::mem::take(self.arena());
        let frozen = Arc::new(freeze(arena.chunks));
        self.epochs[self.open] = EpochChunks::Sealed(Arc::clone(&frozen), arena.numbers);
        self.open = 1 - self.open;
        assert!(
            matches!(&self.epochs[self.open], EpochChunks::Open(arena) if arena.numbers.is_empty()),
            "two epochs are sealed"
        );
        frozen
    }

    /// The sealed epoch is committed: its chunks are clean. Their numbers.
    pub(super) fn release(&mut self) -> Vec<usize> {
        let sealed = 1 - self.open;
        let epoch = std::mem::replace(
            &mut self.epochs[sealed],
            EpochChunks::Open(Arena::default()),
        );
        let EpochChunks::Sealed(frozen, numbers) = epoch else {
            return Vec::new();
        };
        match Arc::try_unwrap(frozen) {
            Ok(frozen) => {
                for (number, chunk) in numbers.iter().zip(frozen.chunks) {
                    self.places[*number] = Place::Clean(chunk);
                }
            }
            Err(frozen) => {
                for (at, number) in numbers.iter().enumerate() {
                    self.places[*number] = Place::Shared(Arc::clone(&frozen), at);
                }
            }
        }
        numbers
    }

    /// Takes the chunks of the open epoch out, to be written anew.
    pub(super) fn take_open(&mut self) -> (Vec<usize>, Vec<Chunk>) {
        let arena = std::mem::take(self.arena());
        (arena.numbers, arena.chunks)
    }

    /// Writes a committed value. `keys`: how many keys the store has. A chunk that begins takes about a quarter of what they take, so
    /// that one that is not full yet wastes little.
    pub(super) fn write_clean(
        &mut self,
        kind: Kind,
        number: u64,
        key: &[u8],
        value: &[u8],
        keys: usize,
    ) -> (Ref, Begun) {
        let units = units_of(key.len(), value.len());
        let mut begun = Begun::default();
        loop {
            if let Some(at) = self.filling
                && let Place::Clean(chunk) = &mut self.places[at]
                && let Some(unit) = chunk.take(units)
            {
                chunk.write(unit, kind, number, Ref::NONE, key, value);
                return (Ref::new(at, unit), begun);
            }
            begun.full = self.filling.take();
            let size = keys.next_power_of_two().clamp(CLEAN_UNITS, CHUNK_UNITS);
            let chunk = Chunk::new(size.max(units));
            begun.bytes = chunk.size();
            self.filling = Some(self.add(Place::Clean(chunk)));
        }
    }

    /// Whether the clean chunk that is being filled was made for a store of many more keys, and most of it is superseded.
    pub(super) fn fills_too_large(&self, keys: usize) -> bool {
        let Some(number) = self.filling else {
            return false;
        };
        let (used, gone) = self.waste(number);
        let enough = 4 * keys.max(CLEAN_UNITS).next_power_of_two();
        gone * 2 > used && self.chunk(number).units() > enough
    }

    /// Ends the clean chunk that is being filled.
    pub(super) fn end_filling(&mut self) -> Option<usize> {
        self.filling.take()
    }

    /// Takes a clean chunk out, to look at each of its records.
    pub(super) fn take_clean(&mut self, number: usize) -> Clean {
        match std::mem::replace(&mut self.places[number], Place::Vacant) {
            Place::Clean(chunk) => Clean::Own(chunk),
            Place::Shared(frozen, at) => Clean::Shared(frozen, at),
            Place::Epoch(..) | Place::Vacant => panic!("a chunk is given up that is not clean"),
        }
    }

    /// Puts a clean chunk back.
    pub(super) fn put_back(&mut self, number: usize, clean: Clean) {
        self.places[number] = match clean {
            Clean::Own(chunk) => Place::Clean(chunk),
            Clean::Shared(frozen, at) => Place::Shared(frozen, at),
        };
    }

    /// The number of a chunk that was taken out may be used again.
    pub(super) fn give_up(&mut self, number: usize) {
        self.places[number] = Place::Vacant;
        self.gone[number] = 0;
        self.vacant.push(number);
    }

    fn add(&mut self, place: Place) -> usize {
        match self.vacant.pop() {
            Some(number) => {
                self.places[number] = place;
                number
            }
            None => {
                self.places.push(place);
                self.gone.push(0);
                self.places.len() - 1
            }
        }
    }

    fn arena(&mut self) -> &mut Arena {
        match &mut self.epochs[self.open] {
            EpochChunks::Open(arena) => arena,
            EpochChunks::Sealed(..) => panic!("the open epoch is sealed"),
        }
    }

    fn open_chunk(&mut self, at: Ref) -> (&mut Chunk, usize) {
        let Place::Epoch(which, chunk) = self.places[at.chunk()] else {
            panic!("a record is changed that is committed");
        };
        assert_eq!(which, self.open, "a record is changed that is sealed");
        (&mut self.arena().chunks[chunk], at.unit())
    }

    fn allocate(&mut self, units: usize) -> Ref {
        let arena = self.arena();
        if let Some(at) = arena.free.get_mut(units).and_then(Vec::pop) {
            arena.freed -= units * UNIT;
            self.gone[at.chunk()] -= units;
            return at;
        }
        arena.allocated += units * UNIT;
        if units <= CHUNK_UNITS
            && let Some(current) = arena.current
            && let Some(unit) = arena.chunks[current].take(units)
        {
            return Ref::new(arena.numbers[current], unit);
        }
        let last = arena
            .current
            .map_or(FIRST_UNITS / 2, |at| arena.chunks[at].units());
        let size = match units > CHUNK_UNITS {
            true => units,
            false => (last * 2).max(units.next_power_of_two()).min(CHUNK_UNITS),
        };
        let mut chunk = Chunk::new(size);
        let unit = chunk.take(units).unwrap_or_default();
        let (which, at) = (self.open, self.arena().chunks.len());
        let number = self.add(Place::Epoch(which, at));
        let arena = self.arena();
        arena.chunks.push(chunk);
        arena.numbers.push(number);
        if units <= CHUNK_UNITS {
            arena.current = Some(at);
        }
        Ref::new(number, unit)
    }
}

/// A clean chunk that was taken out.
#[derive(Debug)]
pub(super) enum Clean {
    Own(Chunk),
    Shared(Arc<Frozen>, usize),
}

impl Clean {
    pub(super) fn chunk(&self) -> &Chunk {
        match self {
            Clean::Own(chunk) => chunk,
            Clean::Shared(frozen, at) => &frozen.chunks[*at],
        }
    }
}
