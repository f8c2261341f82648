//! Why a stream could not be read or written.

use std::io;
use std::path::PathBuf;

use crate::disk::DiskError;
use crate::model::Offset;

/// What is wrong at a place on the network.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {what}")]
pub struct PlaceError {
    /// Which cluster, topic, partition and offset, as far as they are known.
    place: String,
    /// What was asked or found there, what came of it, and what to do.
    what: String,
}

impl PlaceError {
    /// What is wrong at a place.
    pub fn new(place: impl Into<String>, what: impl Into<String>) -> PlaceError {
        PlaceError {
            place: place.into(),
            what: what.into(),
        }
    }
}

/// A partition cannot be read. The task that reads it stops; nothing is skipped.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file or pipe could not be read.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A log no longer has, or never had, the offset.
    #[error(
        "{}offset {offset} does not exist: the partition holds {oldest} up to, not including, {end}; \
         choose another start with `start` for a new input; `wasm-host offsets set` moves the position of a log or a topic",
        place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default()
    )]
    OffsetOutOfRange {
        /// Where, if the stream of the job file does not say it all.
        place: Option<String>,
        /// The offset that was asked for.
        offset: Offset,
        /// The first offset that still exists.
        oldest: Offset,
        /// The offset after the last.
        end: Offset,
    },
    /// A file is not what it was when its position was recorded.
    #[error("{}: {what}", path.display())]
    Changed {
        /// Which.
        path: PathBuf,
        /// What differs, and what to do.
        what: String,
    },
    /// Stored bytes cannot be trusted.
    #[error("damaged: {what}")]
    Damaged {
        /// Where, and what is wrong.
        what: String,
    },
    /// A place cannot be reached, or does not give what it is asked for.
    #[error(transparent)]
    Unavailable(PlaceError),
    /// What a place has was not written by this state directory.
    #[error(transparent)]
    Foreign(PlaceError),
    /// The position or start cannot be used with this system.
    #[error("{0}")]
    Unsupported(String),
}

impl SourceError {
    /// A start that only a topic of Kafka has.
    pub fn no_group() -> SourceError {
        SourceError::Unsupported("only Kafka has consumer groups to start at".to_owned())
    }
}

/// A partition of an output cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// A file could not be written.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A place cannot be reached, or does not do what it is asked.
    #[error(transparent)]
    Unavailable(PlaceError),
    /// What a place has was not delivered by this state directory.
    #[error(transparent)]
    Foreign(PlaceError),
    /// The output differs from what was recorded.
    #[error("{}: {what}", path.display())]
    Refused {
        /// Which file or folder.
        path: PathBuf,
        /// What was found, and what to do.
        what: String,
    },
}
