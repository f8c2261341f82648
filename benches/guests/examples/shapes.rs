//! The counter in every shape of `shapes/wit`, on the bare bindings of `wit-bindgen`.

#![expect(unsafe_code, missing_docs, reason = "generated bindings")]

use std::collections::HashMap;
use std::collections::hash_map::Entry;

wit_bindgen::generate!({
    path: "../shapes/wit",
    world: "shapes",
});

use exports::wasm_host_benches::shapes::{columns, one, packed, rows};
use wasm_host_benches::shapes::store;
use wasm_host_benches::shapes::types::{
    Batch, BytesColumn, Message as Row, Messages, Outgoing, PackedBatch, PackedColumn,
    PackedMessages,
};

const PORT: &str = "out";
const STATE: usize = 24;
/// As long as keys are expected to be.
const KEY: usize = 16;

/// What the counter needs of a message, wherever it lies.
struct Message<'a> {
    key: &'a [u8],
    value: &'a [u8],
    offset: u64,
    timestamp: i64,
}

impl Message<'_> {
    fn first(&self) -> u64 {
        self.value.first().copied().map_or(0, u64::from)
    }
}

/// The state of a key: how many messages, the sum of their first bytes, and the greatest of them.
struct State([u64; 3]);

impl State {
    /// Of a key without a state the entry is empty.
    fn read(entry: &[u8]) -> State {
        let mut numbers = [0; 3];
        for (number, bytes) in numbers.iter_mut().zip(entry.as_chunks().0) {
            *number = u64::from_le_bytes(*bytes);
        }
        State(numbers)
    }

    fn bytes(&self) -> [u8; STATE] {
        let mut bytes = [0; STATE];
        for (bytes, number) in bytes.as_chunks_mut().0.iter_mut().zip(self.0) {
            *bytes = number.to_le_bytes();
        }
        bytes
    }

    fn add(&mut self, message: &Message<'_>) {
        let [count, sum, max] = &mut self.0;
        *count += 1;
        *sum += message.first();
        *max = message.first().max(*max);
    }
}

fn touch<'a>(messages: impl IntoIterator<Item = Message<'a>>) -> u64 {
    let mut sum = 0u64;
    for message in messages {
        sum = sum
            .wrapping_add(message.key.len() as u64)
            .wrapping_add(message.first())
            .wrapping_add(message.offset)
            .wrapping_add_signed(message.timestamp);
    }
    sum
}

fn count_single<'a>(messages: impl IntoIterator<Item = Message<'a>>) {
    for message in messages {
        let mut state = State::read(&store::get(message.key).unwrap_or_default());
        state.add(&message);
        let entry = state.bytes();
        store::put(message.key, &entry);
        let outgoing = Outgoing {
            key: Some(message.key.to_vec()),
            value: Some([message.key, &entry].concat()),
            headers: Vec::new(),
            timestamp: None,
            partition: None,
        };
        store::send(PORT, &outgoing);
    }
}

/// What a call writes and sends: one entry for each message.
struct Counted {
    states: Vec<u8>,
    sent: Vec<u8>,
    sent_ends: Vec<u32>,
}

/// Counts the messages of a call, given what is stored under their keys. A key that repeats goes on from where it was.
fn count_many<'a>(
    messages: impl IntoIterator<Item = Message<'a>>,
    stored: impl IntoIterator<Item = &'a [u8]>,
    len: usize,
) -> Counted {
    let mut states: HashMap<&[u8], State> = HashMap::with_capacity(len);
    let mut counted = Counted {
        states: Vec::with_capacity(len * STATE),
        sent: Vec::with_capacity(len * (KEY + STATE)),
        sent_ends: Vec::with_capacity(len),
    };
    for (message, stored) in messages.into_iter().zip(stored) {
        let state = match states.entry(message.key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(State::read(stored)),
        };
        state.add(&message);
        let entry = state.bytes();
        counted.states.extend_from_slice(&entry);
        counted.sent.extend_from_slice(message.key);
        counted.sent.extend_from_slice(&entry);
        counted.sent_ends.push(counted.sent.len() as u32);
    }
    counted
}

/// Where each of so many states ends.
fn state_ends(len: usize) -> impl ExactSizeIterator<Item = u32> {
    (0..len).map(|index| ((index + 1) * STATE) as u32)
}

/// The entries of a column. What is absent is empty, and an empty entry means the same to the counter.
fn entries(ends: impl IntoIterator<Item = u32>, data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut start = 0;
    ends.into_iter().map(move |end| {
        let entry = &data[start..end as usize];
        start = end as usize;
        entry
    })
}

struct Guest;

impl<'a> From<&'a Row> for Message<'a> {
    fn from(message: &'a Row) -> Message<'a> {
        Message {
            key: message.key.as_deref().unwrap_or_default(),
            value: message.value.as_deref().unwrap_or_default(),
            offset: message.offset,
            timestamp: message.timestamp,
        }
    }
}

impl one::Guest for Guest {
    fn touch(message: Row) -> u64 {
        touch([(&message).into()])
    }

    fn count_single(message: Row) {
        count_single([(&message).into()]);
    }
}

impl rows::Guest for Guest {
    fn touch(messages: Vec<Row>) -> u64 {
        touch(messages.iter().map(Message::from))
    }

    fn count_single(messages: Vec<Row>) {
        count_single(messages.iter().map(Message::from));
    }

    fn count_many(messages: Vec<Row>) {
        let mut keys = BytesColumn {
            ends: Vec::with_capacity(messages.len()),
            data: Vec::with_capacity(messages.len() * KEY),
            absent: Vec::new(),
        };
        for message in &messages {
            keys.data.extend_from_slice(Message::from(message).key);
            keys.ends.push(keys.data.len() as u32);
        }
        let stored = store::get_many(&keys);
        let messages = messages.iter().map(Message::from);
        let counted = count_many(messages, stored.entries(), keys.ends.len());
        write_columns(keys, counted);
    }
}

impl BytesColumn {
    fn entries(&self) -> impl Iterator<Item = &[u8]> {
        entries(self.ends.iter().copied(), &self.data)
    }
}

impl Batch {
    fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        let keys = self.messages.keys.iter().flat_map(BytesColumn::entries);
        let values = self.messages.values.entries();
        let times = self.offsets.iter().zip(&self.messages.timestamps);
        keys.zip(values)
            .zip(times)
            .map(|((key, value), (&offset, &timestamp))| Message {
                key,
                value,
                offset,
                timestamp,
            })
    }
}

/// The keys of the messages are those to write and to send.
fn write_columns(keys: BytesColumn, counted: Counted) {
    let column = |ends, data| BytesColumn {
        ends,
        data,
        absent: Vec::new(),
    };
    let states = column(state_ends(keys.ends.len()).collect(), counted.states);
    store::put_many(&keys, &states);
    let messages = Messages {
        keys: Some(keys),
        values: column(counted.sent_ends, counted.sent),
        timestamps: Vec::new(),
        headers: None,
    };
    store::send_many(PORT, &messages, None);
}

impl columns::Guest for Guest {
    fn touch(batch: Batch) -> u64 {
        touch(batch.messages())
    }

    fn count_single(batch: Batch) {
        count_single(batch.messages());
    }

    fn count_many(batch: Batch) {
        let Some(keys) = &batch.messages.keys else {
            return;
        };
        let stored = store::get_many(keys);
        let counted = count_many(batch.messages(), stored.entries(), keys.ends.len());
        if let Some(keys) = batch.messages.keys {
            write_columns(keys, counted);
        }
    }
}

fn u32s(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes
        .as_chunks()
        .0
        .iter()
        .map(|bytes| u32::from_le_bytes(*bytes))
}

fn pack_u32s(numbers: impl ExactSizeIterator<Item = u32>) -> Vec<u8> {
    let mut packed = vec![0; numbers.len() * size_of::<u32>()];
    for (bytes, number) in packed.as_chunks_mut().0.iter_mut().zip(numbers) {
        *bytes = number.to_le_bytes();
    }
    packed
}

impl PackedColumn {
    fn entries(&self) -> impl Iterator<Item = &[u8]> {
        entries(u32s(&self.ends), &self.data)
    }
}

impl PackedBatch {
    fn messages(&self) -> impl Iterator<Item = Message<'_>> {
        let keys = self.messages.keys.iter().flat_map(PackedColumn::entries);
        let values = self.messages.values.entries();
        let offsets = self.offsets.as_chunks().0;
        let times = offsets.iter().zip(self.messages.timestamps.as_chunks().0);
        keys.zip(values)
            .zip(times)
            .map(|((key, value), (offset, timestamp))| Message {
                key,
                value,
                offset: u64::from_le_bytes(*offset),
                timestamp: i64::from_le_bytes(*timestamp),
            })
    }
}

impl packed::Guest for Guest {
    fn touch(batch: PackedBatch) -> u64 {
        touch(batch.messages())
    }

    fn count_single(batch: PackedBatch) {
        count_single(batch.messages());
    }

    fn count_many(batch: PackedBatch) {
        let Some(keys) = &batch.messages.keys else {
            return;
        };
        let len = keys.ends.len() / size_of::<u32>();
        let stored = store::get_many_packed(keys);
        let counted = count_many(batch.messages(), stored.entries(), len);
        let column = |ends, data| PackedColumn {
            ends,
            data,
            absent: Vec::new(),
        };
        let states = column(pack_u32s(state_ends(len)), counted.states);
        store::put_many_packed(keys, &states);
        let messages = PackedMessages {
            keys: batch.messages.keys,
            values: column(pack_u32s(counted.sent_ends.into_iter()), counted.sent),
            timestamps: Vec::new(),
            headers: None,
        };
        store::send_many_packed(PORT, &messages, None);
    }
}

export!(Guest);
