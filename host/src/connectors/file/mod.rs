//! `file`: files as streams, both ways.
//!
//! As an input, a stream is the records of one file or of all that match a pattern: in the order of the files' first
//! discovery, one file after the other. Of one look at the pattern that is the order of their paths' bytes; a follower
//! takes the oldest first. The offset is the record's number in the stream, from 0. Each partition has a reader of its
//! own, which reads every file, counts every record, and gives those whose key belongs to its partition by murmur2.
//!
//! | record | value | blank line |
//! | --- | --- | --- |
//! | `lines` | the line | an empty message |
//! | `jsonl` | the line, not changed | passed over, takes no number |
//! | `csv` | the row as a compact JSON object of strings, in column order | passed over, takes no number |
//!
//! A line ends with `\n` or `\r\n`; a byte order mark at the start of a file is passed over. In CSV the first row of
//! each file is its header, and a quoted field may hold line breaks. The last line of a bounded stream may lack its
//! line end; a follower waits for it. A record that is not a message (longer than `record-bytes`, not UTF-8 in CSV, another
//! number of fields, not JSON, without its key or timestamp) is given as such, by the partition of its key, or by
//! partition 0 if that is not known. In `jsonl` without key and timestamp, nothing is parsed.
//!
//! A file is known by its inode and its time of birth, whatever its name. A file that is shorter than what was read of
//! it, that begins otherwise, or that went away half read is an error. When a bounded stream is read again from its end,
//! new files come after the known ones, and what known files have gained comes when they are reached in the order of the
//! table. A follower numbers records in the order in which it reads them; when several files grow at once, that order is
//! only repeated from the recorded position on. A file whose name no longer matches is read on until it has not grown for
//! ten seconds; then it is forgotten, and a last line without line end counts.
//!
//! As an output, a partition is a file: see [`FileOutput`].

mod bytes;
mod decode;
mod detail;
mod field;
mod files;
mod handle;
mod look;
mod names;
mod output;
mod reading;
mod recorded;
mod records;
mod resume;
mod rows;
mod source;
mod table;
mod timestamp;
mod watch;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use decode::FileFormat;
pub(crate) use decode::{Decoded, Decoder, Share};
pub use output::{FileOutput, FileOutputOptions, move_outputs};
pub(crate) use records::{Framing, Record, Records};
pub use timestamp::{TimestampFormat, TimestampSpec};

use sha2::{Digest as _, Sha256};

use files::Files;
use look::Pattern;
use source::FileSource;
use watch::Watch;

use super::{Input, OpenAt, Source, SourceError};
use crate::model::{Clock, PartitionId};

/// The greatest record by default.
pub const RECORD_BYTES_DEFAULT: usize = 1024 * 1024;

/// A stream of files to read.
#[derive(Debug, Clone)]
pub struct FileInputOptions {
    /// An absolute path. In a name `*`, `?` and `[…]` stand for characters, `**` for folders; a file whose name begins
    /// with a dot is matched by a dot only. Files that end in `.gz` are decompressed.
    pub path: String,
    /// What a record is.
    pub format: FileFormat,
    /// Where the key is: a CSV column; of JSON a pointer (`/a/b`) or the name of a top-level member, which must be a
    /// string, an integer or a boolean.
    pub key: Option<String>,
    /// Where the timestamp is. `None`: the time of reading, which another reading does not repeat.
    pub timestamp: Option<TimestampSpec>,
    /// More than one partition requires a key.
    pub partitions: u32,
    /// Whether to wait for more when the end is reached.
    pub follow: bool,
    /// Following: whether to go on if a file disappears before it was read to its end. What it held is lost, which is logged.
    pub drop_unread: bool,
    /// A record longer than this, without its line end, is not a message. [`RECORD_BYTES_DEFAULT`].
    pub record_bytes: usize,
}

/// Files as an input.
pub struct FileInput {
    config: Arc<Config>,
}

/// Options that fit together, and what readers share.
struct Config {
    options: FileInputOptions,
    files: Files,
    clock: Arc<dyn Clock>,
}

impl Config {
    /// A short hash of what decides the partition of a record; see [`detail`].
    fn division(&self) -> [u8; 8] {
        let mut division = [0; 8];
        if self.options.partitions > 1 {
            let mut hash = Sha256::new();
            hash.update(self.options.format.name());
            hash.update([0]);
            hash.update(self.options.key.as_deref().unwrap_or_default());
            division.copy_from_slice(&hash.finalize()[..8]);
        }
        division
    }

    fn decoder(&self, share: Share) -> Result<Decoder, String> {
        let options = &self.options;
        Decoder::new(
            options.format,
            options.key.as_deref(),
            options.timestamp.as_ref(),
            share,
        )
    }
}

impl FileInput {
    /// A stream of files; `clock` gives the time of reading. Touches no file.
    ///
    /// # Errors
    /// The options do not fit together; a sentence that says why.
    pub fn new(options: FileInputOptions, clock: Arc<dyn Clock>) -> Result<FileInput, String> {
        FileInput::listening(options, clock, Watch::new)
    }

    /// The same; `watch` is how a follower listens.
    fn listening(
        options: FileInputOptions,
        clock: Arc<dyn Clock>,
        watch: fn() -> Watch,
    ) -> Result<FileInput, String> {
        let config = Config {
            files: Files::new(Pattern::new(&options.path)?, watch),
            options,
            clock,
        };
        config.decoder(Share {
            partition: 0,
            partitions: config.options.partitions,
        })?;
        if config.options.record_bytes == 0 {
            return Err("`record-bytes` is at least 1".to_owned());
        }
        if config.options.follow && config.options.path.ends_with(".gz") {
            return Err("a compressed file cannot be followed".to_owned());
        }
        Ok(FileInput {
            config: Arc::new(config),
        })
    }
}

impl Input for FileInput {
    fn partitions(&self) -> u32 {
        self.config.options.partitions
    }

    fn bounded(&self) -> bool {
        !self.config.options.follow
    }

    fn rewindable(&self) -> bool {
        true
    }

    fn open(&self, partition: PartitionId, at: OpenAt) -> Result<Box<dyn Source>, SourceError> {
        let share = Share {
            partition: partition.0,
            partitions: self.config.options.partitions,
        };
        Ok(Box::new(FileSource::open(
            Arc::clone(&self.config),
            share,
            at,
        )?))
    }
}
