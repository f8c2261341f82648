//! Keys that wait for a dead letter: with `dead-letter-order = "key"` their later messages follow it into the dead letters, so that
//! each key's messages are processed in their order, through letters and replays too.
//!
//! A store of the task has an entry for each letter of a key that is not done: the key's length, the key, the stream and the offset.
//! A key with an entry is *parked*. A live message of a parked key becomes a letter; a replayed one is processed if no earlier
//! message of its key and stream has an entry. In whatever order letters are replayed or dropped, that keeps the order.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::Task;
use super::dead_letter::{Place, Reason};
use super::failure::Cause;
use super::guest::Stopped;
use super::held::Skip;
use crate::connectors::Fetched;
use crate::model::{Batch, Offset, StoreIndex, StreamId};
use crate::runtime::Fault;
use crate::state::{Order, ScanOptions, StateError};

/// More keys are not parked: the task is held.
pub(super) const KEYS_MAX: usize = 10_000;

/// What an entry has behind its key: the stream and the offset.
const SUFFIX: usize = size_of::<u16>() + size_of::<Offset>();

/// The keys of a task that are parked.
#[derive(Debug)]
pub struct Parked {
    /// The store with the entries.
    store: StoreIndex,
    /// How many entries each key has.
    keys: HashMap<Box<[u8]>, u64>,
}

impl Parked {
    /// None.
    pub fn new(store: StoreIndex) -> Parked {
        Parked {
            store,
            keys: HashMap::new(),
        }
    }

    /// Its store has another index.
    pub(super) fn move_to(&mut self, store: StoreIndex) {
        self.store = store;
    }

    /// Adds the key of an entry of the store.
    ///
    /// # Errors
    /// It is none.
    pub fn load(&mut self, entry: &[u8]) -> Result<(), StateError> {
        let damaged = || StateError::Damaged("an entry for a parked key has no key".to_owned());
        let (length, rest) = entry.split_first_chunk().ok_or_else(damaged)?;
        let length = u32::from_be_bytes(*length) as usize;
        if rest.len() != length + SUFFIX {
            return Err(damaged());
        }
        *self.keys.entry(rest[..length].into()).or_default() += 1;
        Ok(())
    }

    fn has(&self, key: Option<&[u8]>) -> bool {
        key.is_some_and(|key| self.keys.contains_key(key))
    }

    /// How many keys are parked.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// A batch with these changes is kept.
    pub(super) fn keep(&mut self, changes: Vec<ParkedChange>) {
        for change in changes {
            match change {
                ParkedChange::Added(key) => *self.keys.entry(key).or_default() += 1,
                ParkedChange::Removed(key) => {
                    let Some(entries) = self.keys.get_mut(&key) else {
                        panic!("an entry is removed of a key that is not parked");
                    };
                    *entries -= 1;
                    if *entries == 0 {
                        self.keys.remove(&key);
                    }
                }
            }
        }
    }
}

/// What a batch changes.
#[derive(Debug, Clone)]
pub(super) enum ParkedChange {
    Added(Box<[u8]>),
    Removed(Box<[u8]>),
}

/// What to do with the first messages that were fetched.
pub(super) enum Front {
    /// So many of them, at most, are processed.
    Process(usize),
    /// The process may have died at the first, and no other call may run with it.
    Alone,
    /// The process has died so often with the first alone in a call.
    Died(u32),
    /// Some are passed over.
    Pass(Pass),
}

/// What needs no guest.
pub(super) enum Pass {
    /// So many follow a letter of their key.
    Follow(usize),
    /// So many were given up.
    Drop(usize),
    /// Somebody wants the first to be passed over.
    Skip(Skip),
}

impl Pass {
    /// How many messages that are.
    pub(super) fn messages(&self) -> usize {
        match self {
            Pass::Follow(messages) | Pass::Drop(messages) => *messages,
            Pass::Skip(_) => 1,
        }
    }
}

impl Front {
    /// What may be done where the process may have died at a message.
    pub(super) fn and(self, careful: Front) -> Front {
        match (self, careful) {
            (Front::Process(one), Front::Process(other)) => Front::Process(one.min(other)),
            (Front::Process(_), careful) => careful,
            (pass, _) => pass,
        }
    }
}

fn entry(key: &[u8], stream: StreamId, offset: Offset) -> Vec<u8> {
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    let mut entry = length.to_be_bytes().to_vec();
    entry.extend_from_slice(key);
    entry.extend_from_slice(&stream.0.to_be_bytes());
    entry.extend_from_slice(&offset.to_be_bytes());
    entry
}

fn unreadable(error: StateError) -> Stopped {
    Stopped::By(Cause::Fault(Fault::of_state(error)))
}

impl Task {
    /// What to do with the first messages of what was fetched.
    pub(super) fn front(&mut self, fetched: &Fetched) -> Result<Front, Stopped> {
        let all = Front::Process(usize::MAX);
        if fetched.origin.as_ref().is_some_and(|origin| origin.drops) {
            return Ok(Front::Pass(Pass::Drop(fetched.offsets.len())));
        }
        let Some(parked) = &self.parked else {
            return Ok(all);
        };
        if fetched.origin.is_some() {
            return self.replayed_front(fetched);
        }
        if parked.keys.is_empty() {
            return Ok(all);
        }
        let has = |index: &usize| parked.has(fetched.messages.key(*index));
        let count = fetched.offsets.len();
        Ok(match (0..count).position(|index| has(&index)) {
            None => all,
            Some(0) => Front::Pass(Pass::Follow((0..count).take_while(has).count())),
            Some(first) => Front::Process(first),
        })
    }

    /// Replayed messages with keys of their own, each the earliest of its key.
    fn replayed_front(&mut self, fetched: &Fetched) -> Result<Front, Stopped> {
        let Some(origin) = &fetched.origin else {
            return Ok(Front::Process(usize::MAX));
        };
        let stream = self.stream_of(origin.input).1;
        let mut keys: HashSet<&[u8]> = HashSet::new();
        for index in 0..fetched.offsets.len() {
            let Some(key) = fetched.messages.key(index) else {
                continue;
            };
            let waits = self.waits(key, stream, origin.offsets[index])?;
            match (index, waits) {
                (0, true) => return Ok(Front::Pass(Pass::Follow(1))),
                (_, true) => return Ok(Front::Process(index)),
                (_, false) if !keys.insert(key) => return Ok(Front::Process(index)),
                (_, false) => {}
            }
        }
        Ok(Front::Process(usize::MAX))
    }

    /// Whether an earlier message of a key and stream is not done.
    fn waits(&mut self, key: &[u8], stream: StreamId, offset: Offset) -> Result<bool, Stopped> {
        let Some(parked) = &self.parked else {
            return Ok(false);
        };
        if !parked.keys.contains_key(key) {
            return Ok(false);
        }
        let store = parked.store;
        let (first, end) = (entry(key, stream, 0), entry(key, stream, offset));
        let state = self.guest.context_mut().state_mut();
        let options = ScanOptions {
            order: Order::Up,
            keys_only: true,
        };
        let cursor = state.scan(store, Some(&first), Some(&end), options);
        let found = state.scan_next(cursor, 1, usize::MAX, &mut || false);
        // No guest is called, so there are no other cursors.
        state.end_call();
        let found = found.map_err(unreadable)?;
        Ok(found.is_some_and(|entries| !entries.keys.is_empty()))
    }

    /// Messages of parked keys follow their letters, as a batch of their own.
    pub(super) fn follow(&mut self, batch: &Batch) -> Result<(), Stopped> {
        let behind = "an earlier message of its key is a dead letter";
        let why = Reason::new("behind", behind);
        let Some(to) = self.options.dead_letters.clone() else {
            panic!("keys are parked without dead letters");
        };
        for index in 0..batch.len() {
            let (place, message) = (Place::of(batch, index), batch.messages.get(index));
            self.park(message.key, place)?;
            self.stage_dead_letter(&to, place, message, &why);
            self.pending.note_letter(index);
        }
        Ok(())
    }

    /// Whether the key of a message that becomes a letter can be parked.
    pub(super) fn may_park(&self, key: Option<&[u8]>) -> bool {
        match &self.parked {
            Some(parked) => parked.len() < KEYS_MAX || key.is_none() || parked.has(key),
            None => true,
        }
    }

    /// A message becomes a letter: its key is parked.
    pub(super) fn park(&mut self, key: Option<&[u8]>, place: Place) -> Result<(), Stopped> {
        let (Some(parked), Some(key)) = (&self.parked, key) else {
            return Ok(());
        };
        let store = parked.store;
        let entry = entry(key, self.stream_of(place.input).1, place.offset);
        let state = self.guest.context_mut().state_mut();
        if state.get(store, &entry).map_err(unreadable)?.is_none() {
            state.put(store, &entry, Some(&[]));
            self.pending.parked.push(ParkedChange::Added(key.into()));
        }
        Ok(())
    }

    /// A letter is done.
    fn unpark(&mut self, key: Option<&[u8]>, place: Place) -> Result<(), Stopped> {
        let (Some(parked), Some(key)) = (&self.parked, key) else {
            return Ok(());
        };
        let store = parked.store;
        let entry = entry(key, self.stream_of(place.input).1, place.offset);
        let state = self.guest.context_mut().state_mut();
        if state.get(store, &entry).map_err(unreadable)?.is_some() {
            state.put(store, &entry, None);
            self.pending.parked.push(ParkedChange::Removed(key.into()));
        }
        Ok(())
    }

    /// The first `done` messages of a batch that is replayed are done, but for those that became letters again.
    pub(super) fn unpark_replayed(&mut self, batch: &Batch, done: usize) -> Result<(), Stopped> {
        if self.parked.is_none() || batch.origin.is_none() {
            return Ok(());
        }
        for index in 0..done {
            if !self.pending.is_letter(index) {
                self.unpark(batch.messages.key(index), Place::of(batch, index))?;
            }
        }
        Ok(())
    }

    /// Whether a message of the running batch must not be processed in it, because one before it became a letter.
    pub(super) fn follows_in_batch(&self, key: Option<&[u8]>) -> bool {
        let Some(key) = key else { return false };
        self.pending
            .parked
            .iter()
            .any(|change| matches!(change, ParkedChange::Added(added) if **added == *key))
    }

    /// The first message with the same key as the first of these, which were called together.
    pub(super) fn follower(&self, batch: &Batch, called: &Range<usize>) -> Option<usize> {
        self.parked.as_ref()?;
        let key = batch.messages.key(called.start)?;
        (called.start + 1..called.end).find(|later| batch.messages.key(*later) == Some(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_a_key_lie_together_in_order_and_give_it_back() {
        let (a, b) = (StreamId(1), StreamId(2));
        let of_key = [
            entry(b"k", a, 0),
            entry(b"k", a, 1),
            entry(b"k", a, 256),
            entry(b"k", b, 0),
        ];
        assert!(of_key.is_sorted());
        for other in [
            entry(b"", a, 1),
            entry(b"kk", a, 1),
            entry(b"l", a, 0),
            entry(b"j", b, 9),
        ] {
            assert!(other < of_key[0] || other > of_key[3]);
        }
        let mut parked = Parked::new(StoreIndex(0));
        of_key
            .iter()
            .for_each(|entry| parked.load(entry).expect("an entry"));
        assert_eq!((parked.len(), parked.keys[&b"k"[..]]), (1, 4));
        for wrong in [&b""[..], b"\0\0\0\x01", &of_key[0][1..]] {
            assert!(parked.load(wrong).is_err());
        }
    }
}
