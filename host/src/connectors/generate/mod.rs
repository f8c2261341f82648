//! `generate`: synthetic messages, for trying out and measuring.
//!
//! Message `i` of the stream is a function of the options and `i` ([`sequence`]); its offset is `i` in any
//! partition. A partition has the messages whose keys belong to it by murmur2, so what a stream holds does not depend on how
//! many partitions it has. Its timestamp is `start_ms` plus `i * 1000 / rate`, rounded down; without a rate `i` ms.
//!
//! A rate also paces: message `i` of a reader that began at `b` is given `(i - b) / rate` seconds after the reader was
//! opened, or later.
//!
//! The detail of a position, version 1, is 17 bytes: the version (1) and the first 16 bytes of the SHA-256 of the options
//! that decide about the messages (seed, keys and value-bytes as little-endian u64, the distribution as one byte, 0
//! uniform, 1 zipfian, 2 sequential, start-ms as i64, the rate as the bits of an f64 or 0). A reader refuses
//! to go on in another sequence.

mod sequence;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

pub use sequence::Distribution;
use sequence::{KEY_BYTES, Sequence};

use super::{
    FetchBounds, Fetched, Input, OpenAt, Polled, Progress, ProgressUnit, Ready, Source, SourceError,
};
use crate::model::{
    Column, Detail, MessageRef, Offset, PartitionId, Position, StartAt, TimestampMs,
    partition_of_key,
};

/// The timestamp of the first message by default: 2025-01-01T00:00:00Z.
pub const START_MS_DEFAULT: TimestampMs = 1_735_689_600_000;

/// The longest value.
pub const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;

const DETAIL_VERSION: u8 = 1;

/// How many messages a reader looks ahead for the next of its partition, to wait until that is due.
const LOOK_AHEAD: u64 = 1024;

/// How many messages of other partitions one poll passes over at most.
const SCAN_MAX: u64 = 1 << 20;

/// What to generate.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// How many messages; `None`: endless.
    pub count: Option<u64>,
    /// Messages a second, in all partitions together; `None`: as fast as they are taken.
    pub rate: Option<f64>,
    /// How many keys, from 1 to 10^15.
    pub keys: u64,
    /// How often each key comes.
    pub distribution: Distribution,
    /// The bytes of each value, at most [`VALUE_BYTES_MAX`].
    pub value_bytes: usize,
    /// Another seed gives another sequence.
    pub seed: u64,
    /// At least 1.
    pub partitions: u32,
    /// The timestamp of the first message. [`START_MS_DEFAULT`].
    pub start_ms: TimestampMs,
}

/// A synthetic stream.
pub struct GenerateInput {
    stream: Arc<Stream>,
}

struct Stream {
    options: GenerateOptions,
    sequence: Sequence,
    detail: Detail,
}

impl GenerateInput {
    /// A synthetic stream.
    ///
    /// # Errors
    /// An option is out of its range; a sentence that says which.
    pub fn new(options: GenerateOptions) -> Result<GenerateInput, String> {
        if options.partitions == 0 {
            return Err("a stream has at least one partition".to_owned());
        }
        if options.value_bytes > VALUE_BYTES_MAX {
            return Err(format!("`value-bytes` is at most {VALUE_BYTES_MAX}"));
        }
        if options
            .rate
            .is_some_and(|rate| !(rate.is_finite() && rate >= 1e-6))
        {
            return Err(
                "`rate` is a number of messages a second, and at least 0.000001".to_owned(),
            );
        }
        let stream = Stream {
            sequence: Sequence::new(options.distribution, options.keys, options.seed)?,
            detail: detail(&options),
            options,
        };
        Ok(GenerateInput {
            stream: Arc::new(stream),
        })
    }
}

fn detail(options: &GenerateOptions) -> Detail {
    let distribution: u8 = match options.distribution {
        Distribution::Uniform => 0,
        Distribution::Zipfian => 1,
        Distribution::Sequential => 2,
    };
    let mut hash = Sha256::new();
    for number in [options.seed, options.keys, options.value_bytes as u64] {
        hash.update(number.to_le_bytes());
    }
    hash.update([distribution]);
    hash.update(options.start_ms.to_le_bytes());
    hash.update(options.rate.map_or(0, f64::to_bits).to_le_bytes());
    let mut detail = vec![DETAIL_VERSION];
    detail.extend_from_slice(&hash.finalize()[..16]);
    detail.into()
}

impl Stream {
    fn timestamp(&self, i: u64) -> TimestampMs {
        let after = match self.options.rate {
            None => i64::try_from(i).unwrap_or(i64::MAX),
            Some(rate) => (i as f64 * 1000.0 / rate) as i64,
        };
        self.options.start_ms.saturating_add(after)
    }

    /// The first message that is not earlier than `time`.
    fn offset_at(&self, time: TimestampMs) -> Offset {
        // Timestamps increase with the offset, so the place is found by halving.
        let (mut low, mut high) = (0, self.options.count.unwrap_or(u64::MAX));
        while low < high {
            let middle = low + (high - low) / 2;
            match self.timestamp(middle) < time {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        low
    }
}

impl Input for GenerateInput {
    fn partitions(&self) -> u32 {
        self.stream.options.partitions
    }

    fn bounded(&self) -> bool {
        self.stream.options.count.is_some()
    }

    fn polls_may_block(&self) -> bool {
        /// Each reader makes the keys of all partitions and returns its own.
        const FEW: u32 = 8;
        self.partitions() > FEW
    }

    fn rewindable(&self) -> bool {
        true
    }

    fn open(&self, partition: PartitionId, at: OpenAt) -> Result<Box<dyn Source>, SourceError> {
        let stream = &self.stream;
        let next = match at {
            OpenAt::Position(Position { detail, .. })
                if detail
                    .as_ref()
                    .is_some_and(|detail| *detail != stream.detail) =>
            {
                return Err(SourceError::Unsupported(
                    "the position is one in another sequence: seed, keys, distribution, value-bytes, rate or start have \
                     changed; change them back, or `reset` the job"
                        .to_owned(),
                ));
            }
            OpenAt::Position(position) => position.next,
            OpenAt::Start(StartAt::Oldest) => 0,
            OpenAt::Start(StartAt::Offset(offset)) => offset,
            OpenAt::Start(StartAt::Time(time)) => stream.offset_at(time),
            OpenAt::Start(StartAt::Group) => return Err(SourceError::no_group()),
            OpenAt::Start(StartAt::Latest) => stream.options.count.ok_or_else(|| {
                SourceError::Unsupported(
                    "a synthetic stream without `count` has no latest message".to_owned(),
                )
            })?,
        };
        if let Some(end) = stream.options.count
            && next > end
        {
            return Err(SourceError::OffsetOutOfRange {
                place: None,
                offset: next,
                oldest: 0,
                end,
            });
        }
        Ok(Box::new(GenerateSource {
            value: vec![0; stream.options.value_bytes],
            stream: Arc::clone(stream),
            partition: partition.0,
            next,
            began: next,
            opened: Instant::now(),
            last: 0,
        }))
    }
}

struct GenerateSource {
    stream: Arc<Stream>,
    partition: u32,
    next: Offset,
    /// Where pacing began, and when.
    began: Offset,
    opened: Instant,
    value: Vec<u8>,
    /// How many messages the last fetch had.
    last: usize,
}

impl GenerateSource {
    /// Whether a message is one of this partition.
    fn has(&self, key: &[u8; KEY_BYTES]) -> bool {
        let partitions = self.stream.options.partitions;
        partitions == 1 || partition_of_key(key, partitions) == self.partition
    }

    /// The offset after the last message that is due now.
    fn due(&self) -> Offset {
        let end = self.stream.options.count.unwrap_or(Offset::MAX);
        match self.stream.options.rate {
            None => end,
            Some(rate) => {
                let due = (self.opened.elapsed().as_secs_f64() * rate) as u64;
                self.began.saturating_add(due).saturating_add(1).min(end)
            }
        }
    }

    /// How long until there may be a message of this partition.
    fn wait(&self) -> Duration {
        let (Some(rate), due) = (self.stream.options.rate, self.due()) else {
            return Duration::ZERO;
        };
        let end = self.stream.options.count.unwrap_or(Offset::MAX);
        if self.next < due || self.next >= end {
            return Duration::ZERO;
        }
        let sequence = &self.stream.sequence;
        let ahead = self.next..self.next.saturating_add(LOOK_AHEAD).min(end);
        let own = ahead
            .clone()
            .find(|i| self.has(&sequence.key(sequence.draw(*i))));
        let at = own.unwrap_or(ahead.end) - self.began;
        let seconds = (at as f64 / rate).min(86_400.0);
        Duration::from_secs_f64(seconds).saturating_sub(self.opened.elapsed())
    }
}

impl Source for GenerateSource {
    fn poll(&mut self, bounds: FetchBounds) -> Result<Polled, SourceError> {
        let due = self.due().min(self.next.saturating_add(SCAN_MAX));
        let messages_max = bounds.messages.max(1);
        let room = self.last.min(messages_max);
        let mut fetched = Fetched::default();
        fetched.offsets.reserve(room);
        fetched.messages.timestamps.reserve(room);
        fetched.messages.values = Column::with_capacity(room, room * self.value.len());
        fetched.messages.keys = Some(Column::with_capacity(room, room * KEY_BYTES));
        let mut bytes = 0;
        while self.next < due
            && fetched.offsets.len() < messages_max
            && (bytes == 0 || bytes < bounds.bytes)
        {
            let (stream, i) = (&self.stream, self.next);
            let draw = stream.sequence.draw(i);
            let key = stream.sequence.key(draw);
            if self.has(&key) {
                stream.sequence.value(draw, &mut self.value);
                let message = MessageRef::new(Some(&key), Some(&self.value), stream.timestamp(i));
                fetched.messages.push(message);
                fetched.offsets.push(i);
                bytes += KEY_BYTES + self.value.len();
            }
            self.next += 1;
        }
        self.last = fetched.offsets.len();
        if fetched.offsets.is_empty() {
            let at_end = Some(self.next) == self.stream.options.count;
            return Ok(match at_end {
                false => Polled::Idle,
                true => Polled::End {
                    at: Position {
                        next: self.next,
                        detail: Some(self.stream.detail.clone()),
                    },
                },
            });
        }
        fetched.start_detail = Some(self.stream.detail.clone());
        fetched.end_detail = Some(self.stream.detail.clone());
        Ok(Polled::Messages(fetched))
    }

    fn ready(&mut self) -> Ready<'_> {
        let wait = self.wait();
        match wait.is_zero() {
            true => Box::pin(std::future::ready(())),
            false => Box::pin(tokio::time::sleep(wait)),
        }
    }

    fn progress(&self) -> Option<Progress> {
        Some(Progress {
            done: self.next,
            total: self.stream.options.count?,
            unit: ProgressUnit::Messages,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::testing::{ALL, Item, drain, oldest, read};

    fn options() -> GenerateOptions {
        GenerateOptions {
            count: Some(20),
            rate: None,
            keys: 5,
            distribution: Distribution::Sequential,
            value_bytes: 3,
            seed: 1,
            partitions: 1,
            start_ms: 1000,
        }
    }

    fn input(options: GenerateOptions) -> GenerateInput {
        GenerateInput::new(options).unwrap()
    }

    fn timestamps(input: &GenerateInput, at: OpenAt) -> Vec<TimestampMs> {
        let items = read(input, 0, at, ALL).unwrap().items;
        let timestamp = |item| match item {
            Item::Message { timestamp, .. } => timestamp,
            Item::Undecodable { .. } => unreachable!("every message is one"),
        };
        items.into_iter().map(timestamp).collect()
    }

    #[test]
    fn timestamps_follow_the_rate() {
        assert_eq!(
            timestamps(&input(options()), oldest())[..3],
            [1000, 1001, 1002]
        );
        let fast = input(GenerateOptions {
            rate: Some(1e6),
            ..options()
        });
        let at = |time| OpenAt::Start(StartAt::Time(time));
        assert_eq!(timestamps(&input(options()), at(1018)), [1018, 1019]);
        assert_eq!(timestamps(&input(options()), at(2000)), [0; 0]);
        assert_eq!(fast.stream.timestamp(2500), 1002);
    }

    #[test]
    fn another_sequence_is_refused() {
        let detail = Some(input(options()).stream.detail.clone());
        let at = || {
            OpenAt::Position(Position {
                next: 7,
                detail: detail.clone(),
            })
        };
        let more = GenerateOptions {
            count: Some(30),
            partitions: 2,
            ..options()
        };
        assert!(
            input(more).open(PartitionId(0), at()).is_ok(),
            "the end may be moved"
        );
        for other in [
            GenerateOptions {
                seed: 2,
                ..options()
            },
            GenerateOptions {
                keys: 6,
                ..options()
            },
            GenerateOptions {
                value_bytes: 4,
                ..options()
            },
            GenerateOptions {
                start_ms: 0,
                ..options()
            },
            GenerateOptions {
                rate: Some(9.0),
                ..options()
            },
            GenerateOptions {
                distribution: Distribution::Uniform,
                ..options()
            },
        ] {
            assert!(input(other).open(PartitionId(0), at()).is_err());
        }
    }

    #[test]
    fn options_out_of_range_are_refused() {
        for wrong in [
            GenerateOptions {
                keys: 0,
                ..options()
            },
            GenerateOptions {
                partitions: 0,
                ..options()
            },
            GenerateOptions {
                value_bytes: VALUE_BYTES_MAX + 1,
                ..options()
            },
            GenerateOptions {
                rate: Some(0.0),
                ..options()
            },
            GenerateOptions {
                rate: Some(f64::NAN),
                ..options()
            },
        ] {
            assert!(GenerateInput::new(wrong).is_err());
        }
        let endless = input(GenerateOptions {
            count: None,
            ..options()
        });
        assert!(!endless.bounded());
        assert!(
            endless
                .open(PartitionId(0), OpenAt::Start(StartAt::Latest))
                .is_err()
        );
    }

    #[tokio::test]
    async fn a_rate_paces() {
        let paced = input(GenerateOptions {
            rate: Some(100.0),
            ..options()
        });
        let began = Instant::now();
        let mut source = paced.open(PartitionId(0), oldest()).unwrap();
        let (mut items, mut waits) = (0, 0);
        loop {
            let reading = drain(source.as_mut(), ALL).unwrap();
            items += reading.items.len();
            if reading.end.is_some() {
                break;
            }
            source.ready().await;
            waits += 1;
        }
        assert_eq!(items, 20);
        assert!(
            began.elapsed() >= Duration::from_millis(190),
            "{:?}",
            began.elapsed()
        );
        assert!(
            waits <= 40,
            "{waits}: a wait for each message, and not many more"
        );
    }
}
