//! What every system must do, checked the same way for each.
//!
//! Inputs: chunks of any size give the same sequence; a reader opened at any position that was given goes on exactly
//! there; the partitions have every message once, in order, by key; the end is the end each time. Outputs: whatever step
//! the process ends at, each delivered byte is there once.

mod inputs;
mod outputs;

use super::testing::{ALL, Item, Reading, drain, oldest, read};
use super::{FetchBounds, Input, OpenAt, SourceError};
use crate::model::{Detail, PartitionId, StartAt, partition_of_key};

/// What every input must do, given the number of its messages.
pub(crate) fn check_input(input: &dyn Input, expected: usize) {
    let partitions = input.partitions();
    let readings: Vec<Reading> = (0..partitions)
        .map(|partition| check_partition(input, partition))
        .collect();
    let mut offsets: Vec<u64> = readings
        .iter()
        .flat_map(|reading| &reading.items)
        .map(Item::offset)
        .collect();
    assert_eq!(offsets.len(), expected, "each message is in one partition");
    offsets.sort_unstable();
    offsets.dedup();
    for (partition, reading) in (0..).zip(&readings) {
        for item in &reading.items {
            if let Item::Message { key: Some(key), .. } = item {
                let owner = partition_of_key(key.as_bytes(), partitions);
                assert!(
                    partitions == 1 || owner == partition,
                    "{key} in partition {partition}"
                );
            }
        }
    }
}

fn check_partition(input: &dyn Input, partition: u32) -> Reading {
    let whole = read(input, partition, oldest(), ALL).unwrap();
    assert!(whole.items.is_sorted_by(|a, b| a.offset() < b.offset()));
    assert_eq!(whole.end.is_some(), input.bounded());
    let mut positions = whole.positions.clone();
    for (messages, bytes) in [
        (1, usize::MAX),
        (2, usize::MAX),
        (7, usize::MAX),
        (1000, 1),
        (1000, 100),
    ] {
        let parts = read(input, partition, oldest(), FetchBounds { messages, bytes }).unwrap();
        assert_eq!(
            parts.items, whole.items,
            "in parts of {messages} messages, {bytes} bytes"
        );
        assert_eq!(parts.end, whole.end);
        positions.extend(parts.positions);
    }
    let mut source = input.open(PartitionId(partition), oldest()).unwrap();
    drain(source.as_mut(), ALL).unwrap();
    let again = drain(source.as_mut(), ALL).unwrap();
    assert_eq!(again.items, [], "nothing comes twice");
    assert_eq!(again.end, whole.end);
    if let Some(progress) = source.progress() {
        assert_eq!(progress.done, progress.total);
    }
    if !input.rewindable() {
        return whole;
    }
    positions.sort_by_key(|at| (at.next, at.detail.as_ref().map(Detail::to_vec)));
    positions.dedup();
    let after = |next| whole.items.iter().filter(move |item| item.offset() >= next);
    for position in positions {
        let next = position.next;
        let rest = read(input, partition, OpenAt::Position(position), ALL).unwrap();
        assert!(after(next).eq(&rest.items), "from {next}: {:?}", rest.items);
        assert_eq!(rest.end, whole.end);
    }
    if let Some(end) = &whole.end {
        let again = read(input, partition, OpenAt::Position(end.clone()), ALL).unwrap();
        assert_eq!(again.items, []);
        assert_eq!(again.end, whole.end);
    }
    let end = match (&whole.end, whole.items.last()) {
        (Some(end), _) => end.next,
        (None, Some(last)) => last.offset() + 1,
        (None, None) => 0,
    };
    for offset in [0, end.min(1), end / 2, end] {
        let rest = read(
            input,
            partition,
            OpenAt::Start(StartAt::Offset(offset)),
            ALL,
        )
        .unwrap();
        assert!(after(offset).eq(&rest.items), "start at {offset}");
    }
    let beyond = read(
        input,
        partition,
        OpenAt::Start(StartAt::Offset(end + 1000)),
        ALL,
    );
    assert!(
        matches!(beyond, Err(SourceError::OffsetOutOfRange { .. })),
        "{beyond:?}"
    );
    let latest = read(input, partition, OpenAt::Start(StartAt::Latest), ALL).unwrap();
    assert_eq!(latest.items, []);
    assert_eq!(latest.end, whole.end);
    whole
}
