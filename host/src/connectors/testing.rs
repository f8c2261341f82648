//! Helpers for the connectors' tests: a temporary folder, a way to read a source, a seeded generator.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{FetchBounds, Input, OpenAt, Polled, Source, SourceError};
use crate::model::{PartitionId, Position, StartAt};

/// A folder of its own, removed with everything in it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!(
            "wasm-host-connectors-{}-{number}",
            std::process::id()
        ));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.0.join(name), bytes).unwrap();
    }

    pub fn append(&self, name: &str, bytes: impl AsRef<[u8]>) {
        use std::io::Write as _;
        let mut file = fs::OpenOptions::new()
            .append(true)
            .open(self.0.join(name))
            .unwrap();
        file.write_all(bytes.as_ref()).unwrap();
    }

    pub fn rename(&self, from: &str, to: &str) {
        fs::rename(self.0.join(from), self.0.join(to)).unwrap();
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.0.join(name)).unwrap();
    }

    /// The text of `name` as an absolute path.
    pub fn pattern(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What was read, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    Message {
        offset: u64,
        key: Option<String>,
        value: String,
        timestamp: i64,
    },
    Undecodable {
        offset: u64,
        raw: Vec<u8>,
        reason: String,
    },
}

impl Item {
    pub fn offset(&self) -> u64 {
        match self {
            Item::Message { offset, .. } | Item::Undecodable { offset, .. } => *offset,
        }
    }

    /// The value, or the reason.
    pub fn text(&self) -> &str {
        match self {
            Item::Message { value, .. } => value,
            Item::Undecodable { reason, .. } => reason,
        }
    }
}

/// All that a source has now.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub items: Vec<Item>,
    /// A position after each item, and some before, with the offset that comes next there.
    pub positions: Vec<Position>,
    /// Where a bounded source ended.
    pub end: Option<Position>,
}

impl Reading {
    pub fn texts(&self) -> Vec<&str> {
        self.items.iter().map(Item::text).collect()
    }
}

pub(super) const ALL: FetchBounds = FetchBounds {
    messages: 1_000_000,
    bytes: usize::MAX,
};

pub(super) fn oldest() -> OpenAt {
    OpenAt::Start(StartAt::Oldest)
}

/// Reads until there is nothing now.
pub(super) fn drain(source: &mut dyn Source, bounds: FetchBounds) -> Result<Reading, SourceError> {
    let mut reading = Reading::default();
    let mut position = |next, detail: &Option<_>| {
        let detail = detail.clone();
        reading.positions.push(Position { next, detail });
    };
    loop {
        match source.poll(bounds)? {
            Polled::Idle if source.has_read_all() => return Ok(reading),
            Polled::Idle => wait_for(source),
            Polled::Skipped { .. } => panic!("a source skips what it should give"),
            Polled::End { at } => {
                reading.end = Some(at);
                return Ok(reading);
            }
            Polled::Undecodable {
                offset,
                raw,
                length,
                reason,
                start_detail,
                end_detail,
            } => {
                assert!(raw.len() as u64 <= length);
                position(offset, &start_detail);
                position(offset + 1, &start_detail);
                position(offset + 1, &end_detail);
                reading.items.push(Item::Undecodable {
                    offset,
                    raw,
                    reason,
                });
            }
            Polled::Messages(fetched) => {
                let messages = &fetched.messages;
                assert!(!fetched.offsets.is_empty());
                assert!(fetched.offsets.len() <= bounds.messages);
                assert_eq!(fetched.offsets.len(), messages.len());
                assert_eq!(messages.timestamps.len(), messages.len());
                assert_eq!(messages.check(), Ok(()));
                position(fetched.offsets[0], &fetched.start_detail);
                for offset in &fetched.offsets {
                    position(offset + 1, &fetched.start_detail);
                }
                position(fetched.offsets[messages.len() - 1] + 1, &fetched.end_detail);
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                for (index, offset) in fetched.offsets.iter().enumerate() {
                    let message = messages.get(index);
                    reading.items.push(Item::Message {
                        offset: *offset,
                        key: message.key.map(text),
                        value: text(message.value.unwrap()),
                        timestamp: message.timestamp,
                    });
                }
            }
        }
    }
}

/// Waits until there may be more.
fn wait_for(source: &mut dyn Source) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build();
    let waited = runtime
        .unwrap()
        .block_on(async { tokio::time::timeout(Duration::from_secs(30), source.ready()).await });
    waited.expect("what is on its way arrives");
}

/// Opens a partition and reads all that it has now.
pub(super) fn read(
    input: &dyn Input,
    partition: u32,
    at: OpenAt,
    bounds: FetchBounds,
) -> Result<Reading, SourceError> {
    drain(input.open(PartitionId(partition), at)?.as_mut(), bounds)
}

/// SplitMix64.
pub(super) struct Random(pub u64);

impl Random {
    pub fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let n = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (n ^ (n >> 31)) % below
    }
}
