//! Output ports in memory, and the partition of each message.

use std::collections::BTreeMap;

use super::limits::{
    HEADER_BYTES, HEADERS, KEY_BYTES, VALUE_BYTES, at_most, check_column, check_packed, trap,
};
use super::messages::Sent;
use super::partition;
use crate::backend::types::{BytesColumn, HeadersColumn, Messages};
use crate::column::Column as _;
use crate::packed;

#[derive(Default)]
pub(super) struct Ports(BTreeMap<String, Port>);

struct Port {
    partitions: u32,
    /// Counts the messages without key and partition.
    turn: u32,
    sent: Vec<Sent>,
}

/// How much was sent to each port, and whose turn it is: what undoing goes back to.
pub(super) type Mark = Vec<(usize, u32)>;

impl Ports {
    pub(super) fn declare(&mut self, name: &str, partitions: u32) {
        self.0.insert(
            name.to_owned(),
            Port {
                partitions,
                turn: 0,
                sent: Vec::new(),
            },
        );
    }

    pub(super) fn sent(&self, name: &str) -> &[Sent] {
        match self.0.get(name) {
            Some(port) => &port.sent,
            None => panic!("the test declares no output {name:?}"),
        }
    }

    pub(super) fn clear(&mut self) {
        for port in self.0.values_mut() {
            port.sent.clear();
        }
    }

    pub(super) fn mark(&self) -> Mark {
        self.0
            .values()
            .map(|port| (port.sent.len(), port.turn))
            .collect()
    }

    pub(super) fn undo(&mut self, mark: &Mark) {
        for (port, &(sent, turn)) in self.0.values_mut().zip(mark) {
            port.sent.truncate(sent);
            port.turn = turn;
        }
    }

    /// Sends, and returns how many messages and headers that staged, and their bytes.
    pub(super) fn send_many(
        &mut self,
        port: &str,
        messages: &Messages,
        partitions: Option<&[u8]>,
        default_timestamp_ms: i64,
    ) -> (usize, usize) {
        let Some(port) = self.0.get_mut(port) else {
            trap(format_args!("the stage declares no output {port:?}"))
        };
        let count = messages.values.count();
        check_lengths(messages, partitions, count);
        let (mut entries, mut bytes) = (count, 0);
        for place in 0..count {
            let key = messages.keys.as_ref().and_then(|keys| keys.entry(place));
            let value = messages.values.entry(place);
            at_most("key-bytes", KEY_BYTES, key.map_or(0, <[u8]>::len));
            at_most("value-bytes", VALUE_BYTES, value.map_or(0, <[u8]>::len));
            bytes += key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
            let headers = messages
                .headers
                .as_ref()
                .map_or_else(Vec::new, |column| headers_of(column, place));
            entries += headers.len();
            bytes += headers
                .iter()
                .map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len))
                .sum::<usize>();
            let explicit = partitions
                .and_then(|partitions| packed::get(partitions, place))
                .map(u32::from_le_bytes);
            let sent = Sent {
                partition: port.partition(key, explicit),
                key: key.map(<[u8]>::to_vec),
                value: value.map(<[u8]>::to_vec),
                timestamp_ms: packed::get(&messages.timestamps, place)
                    .map_or(default_timestamp_ms, i64::from_le_bytes),
                headers,
            };
            port.sent.push(sent);
        }
        (entries, bytes)
    }
}

impl Port {
    fn partition(&mut self, key: Option<&[u8]>, explicit: Option<u32>) -> u32 {
        match (explicit, key) {
            (Some(partition), _) if partition < self.partitions => partition,
            (Some(partition), _) => trap(format_args!(
                "partition {partition} of a stream that has {}",
                self.partitions
            )),
            (None, Some(key)) => partition::of_key(key, self.partitions),
            (None, None) => {
                let turn = self.turn;
                self.turn = (turn + 1) % self.partitions;
                turn
            }
        }
    }
}

fn check_lengths(messages: &Messages, partitions: Option<&[u8]>, count: usize) {
    let check = |what: &str, length: usize| {
        if length != count {
            trap(format_args!("{length} {what} for {count} messages"));
        }
    };
    check_column("values", &messages.values);
    if let Some(keys) = &messages.keys {
        check_column("keys", keys);
        check("keys", keys.count());
    }
    if !messages.timestamps.is_empty() {
        check_packed::<8>("timestamps", &messages.timestamps);
        check("timestamps", packed::count::<8>(&messages.timestamps));
    }
    if let Some(headers) = &messages.headers {
        check_column("header names", &headers.names);
        check_column("header values", &headers.values);
        check_packed::<4>("ends of headers", &headers.ends);
        check("ends of headers", packed::count::<4>(&headers.ends));
        let ends = packed::iter(&headers.ends).map(u32::from_le_bytes);
        let last = packed::last(&headers.ends).map_or(0, u32::from_le_bytes) as usize;
        if !ends.is_sorted() || last != headers.names.count() || last != headers.values.count() {
            trap("malformed column of headers");
        }
    }
    if let Some(partitions) = partitions {
        check_packed::<4>("partitions", partitions);
        check("partitions", packed::count::<4>(partitions));
    }
}

fn headers_of(column: &HeadersColumn, place: usize) -> Vec<(String, Option<Vec<u8>>)> {
    let end = |place| packed::get(&column.ends, place).map_or(0, u32::from_le_bytes) as usize;
    let range = place.checked_sub(1).map_or(0, end)..end(place);
    at_most("the number of headers", HEADERS, range.len());
    let bytes = |column: &BytesColumn| {
        range
            .clone()
            .map(|place| column.bytes(place).len())
            .sum::<usize>()
    };
    at_most(
        "header-bytes",
        HEADER_BYTES,
        bytes(&column.names) + bytes(&column.values),
    );
    let name = |place| match str::from_utf8(column.names.bytes(place)) {
        Ok(name) => name.to_owned(),
        Err(_) => trap("the name of a header is not UTF-8"),
    };
    range
        .clone()
        .map(|place| (name(place), column.values.entry(place).map(<[u8]>::to_vec)))
        .collect()
}
