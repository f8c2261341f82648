//! The embedded log: what readers may see of it.
//!
//! [`append`] adds to it within a write, [`retain`] deletes from it; both take effect for readers when that write is proved.

mod append;
mod grow;
mod held;
mod letters;
mod retain;
mod segments;
mod stored;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::watch;

use crate::connectors::log::{LogRead, LogReader};
use crate::connectors::{Ready, SourceError};
use crate::model::{Messages, Offset, PartitionId, StreamId, TimestampMs, shown};
use crate::records::{self, LogRecord, StreamRecord};
use crate::state::{Db, Family, Order, StateError, chunk, keys};

pub(super) use append::{Appended, LogAppender, Part, Parts as LogParts};
use letters::LetterCounts;
use segments::Segments;
pub(super) use segments::find_missing;
use stored::Stored;

/// How much is read at a time in a search for a timestamp.
const SEARCH_BYTES: usize = 64 << 10;

/// How long a log keeps what it has. The default keeps everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retention {
    /// Per partition: the oldest chunks go while there is more than this.
    pub bytes: Option<u64>,
    /// Chunks that were appended longer ago go.
    pub age: Option<Duration>,
    /// Also what a task of the job has not read.
    pub drop_unread: bool,
}

/// A log stream of the job.
#[derive(Debug, Clone)]
pub struct LogStream {
    /// Its number.
    pub id: StreamId,
    /// Its partitions.
    pub partitions: u32,
    /// How long it keeps what it has.
    pub retention: Retention,
    /// Whether it has dead letters of the job.
    pub letters: bool,
}

/// The first offset, and the one after the last, that readers may see.
type Bounds = (Offset, Offset);

/// The published part of every log partition. Shared by the readers.
pub struct Logs {
    db: Arc<Db>,
    segments: Arc<Segments>,
    published: RwLock<BTreeMap<(StreamId, PartitionId), watch::Sender<Bounds>>>,
    letters: Arc<LetterCounts>,
}

fn read_record(db: &Db, stream: StreamId, partition: PartitionId) -> Result<LogRecord, StateError> {
    Ok(records::get(db, &(stream, partition))?.unwrap_or_default())
}

impl Logs {
    /// What is committed of these streams, which may be new, and of all that the database knows: a log can be read that the job
    /// file no longer declares.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn open(
        db: &Arc<Db>,
        directory: &Path,
        streams: &[LogStream],
    ) -> Result<Arc<Logs>, StateError> {
        Logs::open_counting(db, directory, streams, Arc::default())
    }

    fn open_counting(
        db: &Arc<Db>,
        directory: &Path,
        streams: &[LogStream],
        letters: Arc<LetterCounts>,
    ) -> Result<Arc<Logs>, StateError> {
        let mut partitions: BTreeMap<StreamId, u32> = records::list::<StreamRecord>(db)?
            .into_iter()
            .filter(|(_, stream)| stream.is_in_log())
            .map(|(_, stream)| (stream.id, stream.partitions))
            .collect();
        partitions.extend(streams.iter().map(|stream| (stream.id, stream.partitions)));
        let mut published = BTreeMap::new();
        for (stream, partitions) in partitions {
            for partition in (0..partitions).map(PartitionId) {
                let record = read_record(db, stream, partition)?;
                let (sender, _) = watch::channel((record.start, record.end));
                published.insert((stream, partition), sender);
            }
        }
        Ok(Arc::new(Logs {
            db: Arc::clone(db),
            segments: Arc::new(Segments::of(directory)),
            published: RwLock::new(published),
            letters,
        }))
    }

    /// The job writes a partition from now on, which is empty or as it was left.
    fn add(&self, at: (StreamId, PartitionId), record: &LogRecord) {
        let mut published = self.published.write();
        let bounds = (record.start, record.end);
        let sender = published.entry(at);
        sender.or_insert_with(|| watch::channel(bounds).0);
    }

    /// The first offset that each partition of any log still has.
    pub(in crate::checkpoint) fn all_oldest(&self) -> Vec<((StreamId, PartitionId), Offset)> {
        let published = self.published.read();
        let oldest = published.iter();
        oldest
            .map(|(partition, bounds)| (*partition, bounds.borrow().0))
            .collect()
    }

    /// How many dead letters a stream has that are open, once that is known, and how many that were open retention has deleted since the
    /// start. `None`: it has none.
    pub fn letters(&self, stream: StreamId) -> Option<(Option<u64>, u64)> {
        let (marked, expired) = self.letters.of(stream)?;
        let published = self.published.read();
        let all = published.iter().filter(|((id, _), _)| *id == stream);
        let all: u64 = all
            .map(|(_, bounds)| {
                let (start, end) = *bounds.borrow();
                end - start
            })
            .sum();
        Some((marked.map(|marked| all.saturating_sub(marked)), expired))
    }

    fn published(&self, stream: StreamId, partition: PartitionId) -> Bounds {
        let published = self.published.read();
        let bounds = published.get(&(stream, partition));
        bounds.map_or((0, 0), |bounds| *bounds.borrow())
    }

    /// The messages of a chunk.
    fn messages_of(&self, stored: &Stored<'_>) -> Result<Messages, SourceError> {
        let decoded = match stored {
            Stored::Here(bytes) => chunk::decode(bytes),
            Stored::There(placed) => {
                let path = || self.segments.path(placed.place.segment);
                let damaged_file = |what: &str| SourceError::Damaged {
                    what: format!("{} {what}", path().display()),
                };
                let read = self.segments.read(&placed.place);
                let Some(bytes) = read.map_err(|error| damaged(&error))? else {
                    return Err(damaged_file("is gone"));
                };
                let decoded = chunk::decode(&bytes);
                if decoded.is_ok() && chunk::checksum(&bytes) != placed.crc {
                    return Err(damaged_file("has another chunk than was written"));
                }
                decoded
            }
        };
        Ok(decoded.map_err(|error| damaged_state(&error))?.messages)
    }

    /// Why a chunk for an offset before `end` cannot be read.
    fn not_read(
        &self,
        stream: StreamId,
        partition: PartitionId,
        offset: Offset,
        end: Offset,
        why: SourceError,
    ) -> SourceError {
        match self.not_held(stream, partition, offset, end) {
            SourceError::Damaged { .. } => why,
            retained => retained,
        }
    }

    /// Why there is no chunk for an offset before `end`.
    fn not_held(
        &self,
        stream: StreamId,
        partition: PartitionId,
        offset: Offset,
        end: Offset,
    ) -> SourceError {
        match read_record(&self.db, stream, partition) {
            // Retention has deleted it, and readers are told soon.
            Ok(record) if record.start > offset => SourceError::OffsetOutOfRange {
                place: None,
                offset,
                oldest: record.start.min(end),
                end,
            },
            Ok(_) => SourceError::Damaged {
                what: format!("no chunk of the log holds offset {offset}"),
            },
            Err(error) => damaged_state(&error),
        }
    }
}

fn damaged(error: &dyn std::error::Error) -> SourceError {
    SourceError::Damaged {
        what: shown::chain(error),
    }
}

/// The same without saying twice that it is damaged.
fn damaged_state(error: &StateError) -> SourceError {
    match error {
        StateError::Damaged(what) => SourceError::Damaged { what: what.clone() },
        other => damaged(other),
    }
}

impl LogReader for Logs {
    fn read(
        &self,
        stream: StreamId,
        partition: PartitionId,
        from: Offset,
        bytes_max: usize,
    ) -> Result<LogRead, SourceError> {
        let (oldest, end) = self.published(stream, partition);
        let mut read = LogRead {
            first: from,
            messages: Messages::default(),
        };
        if from == end {
            return Ok(read);
        }
        if from < oldest || from > end {
            return Err(SourceError::OffsetOutOfRange {
                place: None,
                offset: from,
                oldest,
                end,
            });
        }
        // One walk, which is one moment: retention may remove chunks meanwhile, before readers are told.
        let lower = keys::log_chunk(stream, partition, 0);
        let upper = keys::log_chunk(stream, partition, end);
        let mut walk = self.db.walk(Family::Log, lower, upper, Order::Up);
        walk.seek_back(&keys::log_chunk(stream, partition, from));
        if walk.entry().map_err(|error| damaged(&error))?.is_none() {
            drop(walk);
            return Err(self.not_held(stream, partition, from, end));
        }
        let mut next = from;
        while let Some((key, stored)) = walk.entry().map_err(|error| damaged(&error))? {
            let stored = Stored::of(stored).map_err(|error| damaged_state(&error))?;
            if !read.messages.is_empty() && read.messages.data_len() + stored.len() > bytes_max {
                break;
            }
            let base = keys::trailing_number(key).unwrap_or_default();
            let messages = match self.messages_of(&stored) {
                Ok(messages) => messages,
                // Its room may be freed while it is read.
                Err(error) => return Err(self.not_read(stream, partition, next, end, error)),
            };
            let count = messages.len() as u64;
            if base > next || base + count <= next {
                return Err(SourceError::Damaged {
                    what: format!(
                        "offset {next} is missing from the log: a chunk holds {base} up to, not including, {}",
                        base + count
                    ),
                });
            }
            let skip = usize::try_from(next - base).unwrap_or(usize::MAX);
            if skip == 0 && read.messages.is_empty() {
                read.messages = messages;
            } else {
                read.messages.extend_from(&messages, skip..messages.len());
            }
            next = base + count;
            walk.advance();
        }
        if read.messages.is_empty() {
            return Err(SourceError::Damaged {
                what: format!("offset {from} is missing from the log"),
            });
        }
        Ok(read)
    }

    fn bounds(&self, stream: StreamId, partition: PartitionId) -> (Offset, Offset) {
        self.published(stream, partition)
    }

    fn offset_at(
        &self,
        stream: StreamId,
        partition: PartitionId,
        time: TimestampMs,
    ) -> Result<Offset, SourceError> {
        let (mut next, end) = self.published(stream, partition);
        while next < end {
            let read = match self.read(stream, partition, next, SEARCH_BYTES) {
                // Retention was here.
                Err(SourceError::OffsetOutOfRange { oldest, .. }) if oldest > next => {
                    next = oldest;
                    continue;
                }
                read => read?,
            };
            if let Some(at) = read
                .messages
                .timestamps
                .iter()
                .position(|timestamp| *timestamp >= time)
            {
                return Ok(next + at as u64);
            }
            next += read.messages.len() as u64;
        }
        Ok(end)
    }

    fn past(&self, stream: StreamId, partition: PartitionId, end: Offset) -> Ready<'_> {
        let published = self.published.read();
        let receiver = published.get(&(stream, partition));
        let receiver = receiver.map(watch::Sender::subscribe);
        drop(published);
        Box::pin(async move {
            match receiver {
                Some(mut receiver) => {
                    // The sender lives in `self`, so waiting cannot fail before the borrow ends.
                    let _ = receiver.wait_for(|(_, published)| *published > end).await;
                }
                None => std::future::pending().await,
            }
        })
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::checkpoint::catalog::{Catalog, StreamShape};
    use crate::checkpoint::directory::{self, DirectoryOptions};
    use crate::checkpoint::{Committer, CommitterOptions};
    use crate::connectors::testing::Folder;
    use crate::disk::Disk;
    use crate::state::{DbOptions, Durability};

    /// A new state directory with one log stream, and its committer.
    pub(crate) fn one_log(
        folder: &Folder,
        partitions: u32,
        retention: Retention,
    ) -> (Arc<Db>, Committer, StreamId) {
        let path = folder.path().join("state");
        let directory = directory::open_or_create(&DirectoryOptions {
            path: path.clone(),
            job: "log".into(),
            disk_reserve: 0,
            db: DbOptions::default(),
            disk: Disk::default(),
            check: Box::new(|_| Ok(())),
        })
        .expect("a new directory");
        let db = Arc::clone(&directory.db);
        let catalog = Catalog::resolve_stream(&path, &db, "in", StreamShape::log(partitions));
        let catalog = catalog.expect("a new stream");
        let id = catalog.streams["in"].id;
        let stream = LogStream {
            id,
            partitions,
            retention,
            letters: false,
        };
        let options = CommitterOptions {
            logs: vec![stream],
            external: Vec::new(),
            mirrored: Vec::new(),
            reads: Vec::new(),
            durability: Durability::Process,
            disk: Disk::default(),
        };
        let mut committer = Committer::open(directory, &options).expect("a committer");
        committer.register(&catalog, &[]).expect("the name is new");
        (db, committer, id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::conformance::check_input;
    use crate::connectors::log::{LogInput, Unread};
    use crate::connectors::testing::Folder;
    use crate::model::{MessageRef, partition_of_key};

    #[test]
    fn a_log_is_read_as_every_input_is() {
        let folder = Folder::new();
        let partitions = 3;
        let (_, mut committer, id) = testing::one_log(&folder, partitions, Retention::default());
        let input = LogInput::new(committer.logs(), id, partitions, Unread::Kept);
        check_input(&input, 0);
        // Chunks of one message, of a few, and more than one chunk at once.
        let mut count = 0;
        for (messages, bytes) in [(1, 10), (5, 100), (300, 1000), (3, 100_000), (1, 0)] {
            let mut appended: BTreeMap<PartitionId, Messages> = BTreeMap::new();
            for _ in 0..messages {
                let (key, value) = (format!("key {count}"), "v".repeat(bytes));
                let partition = PartitionId(partition_of_key(key.as_bytes(), partitions));
                let message = MessageRef::new(Some(key.as_bytes()), Some(value.as_bytes()), 7);
                appended.entry(partition).or_default().push(message);
                count += 1;
            }
            committer.append(id, &appended, 7).expect("it is appended");
            check_input(&input, count);
        }
    }
}
