//! What is given, and what must come of it.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use wasm_host::connectors::generate::{
    Distribution, GenerateInput, GenerateOptions, START_MS_DEFAULT,
};
use wasm_host::connectors::{FetchBounds, Input as _, OpenAt, Polled};
use wasm_host::model::{Batch, Column, PartitionId, StartAt};
use wasm_host_benches::Result;
use wasmtime::ensure;

/// Messages that are given over and over again.
const MESSAGES: usize = 20_000;
const KEYS: u64 = 10_000;
const VALUE_BYTES: usize = 100;

/// A state is three numbers of 8 bytes: how many messages, the sum of their first bytes, and the greatest of them.
type States = HashMap<Vec<u8>, [u8; 24], RandomState>;

/// The messages, and the state before the first of them.
pub(crate) struct Given {
    messages: Batch,
    states: States,
}

impl Given {
    pub(crate) fn new() -> Result<Given> {
        let input = GenerateInput::new(GenerateOptions {
            count: Some(MESSAGES as u64),
            rate: None,
            keys: KEYS,
            distribution: Distribution::Zipfian,
            value_bytes: VALUE_BYTES,
            seed: 7,
            partitions: 1,
            start_ms: START_MS_DEFAULT,
        })?;
        let mut source = input.open(PartitionId(0), OpenAt::Start(StartAt::Oldest))?;
        let bounds = FetchBounds {
            messages: MESSAGES,
            bytes: usize::MAX,
        };
        let mut messages = Batch::default();
        while messages.len() < MESSAGES {
            let Polled::Messages(fetched) = source.poll(bounds)? else {
                return Err("the generator ends early".into());
            };
            let range = 0..fetched.messages.len();
            messages.offsets.extend(fetched.offsets);
            messages.messages.extend_from(&fetched.messages, range);
        }
        // A tenth of the keys begin without a state.
        let mut states = States::default();
        for index in 0..messages.len() {
            let key = messages.messages.key(index).unwrap_or_default();
            if !key.ends_with(b"0") {
                let state = [index as u64, 7, 3].map(u64::to_le_bytes);
                states.insert(key.to_vec(), state.as_flattened().try_into()?);
            }
        }
        Ok(Given { messages, states })
    }

    pub(crate) fn table(&self) -> Box<Table> {
        Box::new(Table {
            states: self.states.clone(),
            sent: 0,
            digest: 0,
        })
    }

    /// What so many messages lead to.
    pub(crate) fn expected(&self, messages: usize) -> wasmtime::Result<Box<Table>> {
        let mut table = self.table();
        for index in 0..messages {
            let message = self.messages.messages.get(index % MESSAGES);
            let key = message.key.unwrap_or_default();
            let first = message.value.unwrap_or_default().first();
            let first = first.copied().map_or(0, u64::from);
            let mut numbers = [0; 3];
            if let Some(state) = table.states.get(key) {
                for (number, bytes) in numbers.iter_mut().zip(state.as_chunks().0) {
                    *number = u64::from_le_bytes(*bytes);
                }
            }
            let [count, sum, max] = numbers;
            let state = [count + 1, sum + first, max.max(first)].map(u64::to_le_bytes);
            table.put(key, state.as_flattened())?;
            table.send(key, &[key, state.as_flattened()].concat())?;
        }
        Ok(table)
    }
}

/// State and output of a task.
#[derive(PartialEq)]
pub(crate) struct Table {
    states: States,
    /// How many messages were sent.
    sent: usize,
    /// Of all of them, in their order.
    digest: u64,
}

impl Table {
    pub(crate) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.states.get(key).map(|state| &state[..])
    }

    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) -> wasmtime::Result<()> {
        let value = value.try_into()?;
        match self.states.get_mut(key) {
            Some(state) => *state = value,
            None => drop(self.states.insert(key.to_vec(), value)),
        }
        Ok(())
    }

    pub(crate) fn send(&mut self, key: &[u8], value: &[u8]) -> wasmtime::Result<()> {
        ensure!(
            value.len() == key.len() + 24 && value.starts_with(key),
            "what is sent is no key and state"
        );
        self.sent += 1;
        for word in value.as_chunks().0 {
            let mixed = self.digest.rotate_left(5) ^ u64::from_le_bytes(*word);
            self.digest = mixed.wrapping_mul(0x517c_c1b7_2722_0a95);
        }
        Ok(())
    }
}

/// The messages in batches of one size, and what `touch` returns for each.
pub(crate) struct Feed {
    pub(crate) batches: Vec<Batch>,
    pub(crate) packed: Vec<Packed>,
    pub(crate) sums: Vec<u64>,
}

/// The numbers of a batch as bytes.
pub(crate) struct Packed {
    pub(crate) offsets: Vec<u8>,
    pub(crate) timestamps: Vec<u8>,
    pub(crate) key_ends: Vec<u8>,
    pub(crate) value_ends: Vec<u8>,
}

impl Feed {
    pub(crate) fn new(given: &Given, size: usize) -> Feed {
        let starts = (0..MESSAGES).step_by(size);
        let batches: Vec<Batch> = starts
            .map(|start| given.messages.slice(start..start + size))
            .collect();
        Feed {
            packed: batches.iter().map(Packed::new).collect(),
            sums: batches.iter().map(sum).collect(),
            batches,
        }
    }
}

impl Packed {
    pub(crate) fn new(batch: &Batch) -> Packed {
        let messages = &batch.messages;
        let ends = |column: &Column| {
            let ends = column.parts().0.iter();
            ends.flat_map(|end| end.to_le_bytes()).collect()
        };
        let timestamps = messages.timestamps.iter();
        Packed {
            offsets: batch
                .offsets
                .iter()
                .flat_map(|offset| offset.to_le_bytes())
                .collect(),
            timestamps: timestamps
                .flat_map(|timestamp| timestamp.to_le_bytes())
                .collect(),
            key_ends: messages.keys.as_ref().map(ends).unwrap_or_default(),
            value_ends: ends(&messages.values),
        }
    }
}

fn sum(batch: &Batch) -> u64 {
    let messages = (0..batch.len()).map(|index| {
        let message = batch.messages.get(index);
        let first = message.value.and_then(<[u8]>::first);
        (message.key.unwrap_or_default().len() as u64)
            .wrapping_add(first.copied().map_or(0, u64::from))
            .wrapping_add(batch.offsets[index])
            .wrapping_add_signed(message.timestamp)
    });
    messages.fold(0, u64::wrapping_add)
}
