//! Systems that messages come from and go to: one folder each, two contracts, one conformance suite.
//!
//! [`Input`] is a stream that can be read, [`Source`] a reader of one of its partitions; [`Output`] is a stream that
//! can be written from outside of the database, [`Sink`] a writer of one of its partitions. They must never know
//! wasm, state, or who reads them. Invariants:
//!
//! - A source gives the same messages at the same offsets whenever it is opened at the same position, unless its
//!   system says that it cannot be rewound.
//! - A position that no longer exists is an error; a source never skips or goes back silently.
//! - A sink shows a reader each delivered byte once, however often delivery is repeated from its recorded state,
//!   unless its system says that it can repeat.

pub mod file;
pub mod generate;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod log;
pub mod stdio;

mod encode;
mod error;
mod json;

#[cfg(test)]
pub(crate) mod conformance;
#[cfg(test)]
pub(crate) mod testing;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub use encode::OutputFormat;
pub use error::{PlaceError, SinkError, SourceError};
pub use json::{JsonMessage, MessageName, ParseMessageError, write_bytes, write_lines};

use crate::model::{
    Account, Detail, Mark, MessageBounds, Messages, Offset, Origin, PartitionId, Position, StartAt,
    TimestampMs,
};

/// How much one poll may return; at least one message, whatever its size.
#[derive(Debug, Clone, Copy)]
pub struct FetchBounds {
    /// The most messages.
    pub messages: usize,
    /// Stop once keys, values and headers together have this many bytes.
    pub bytes: usize,
}

/// Messages of one partition, as read.
#[derive(Debug, Clone, Default)]
pub struct Fetched {
    /// The offset of each message, strictly increasing.
    pub offsets: Vec<Offset>,
    /// As many as there are offsets; every one has a timestamp.
    pub messages: Messages,
    /// [`Position::detail`] for a position before any of these messages.
    pub start_detail: Option<Detail>,
    /// [`Position::detail`] for the position after the last of them.
    pub end_detail: Option<Detail>,
    /// Where replayed messages were read first.
    pub origin: Option<Box<Origin>>,
}

impl Fetched {
    /// Cuts before message `at`, and returns what follows.
    pub fn split_off(&mut self, at: usize) -> Fetched {
        let mut messages = Messages::default();
        messages.extend_from(&self.messages, at..self.offsets.len());
        self.messages.truncate(at);
        let end_detail = std::mem::replace(&mut self.end_detail, self.start_detail.clone());
        let origin = self.origin.take().map(|origin| {
            self.origin = Some(origin.slice(0..at).into());
            origin.slice(at..self.offsets.len()).into()
        });
        Fetched {
            origin,
            offsets: self.offsets.split_off(at),
            messages,
            start_detail: self.start_detail.clone(),
            end_detail,
        }
    }
}

/// What a poll found.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the largest variant is the usual one; a box for each fetch would gain nothing"
)]
pub enum Polled {
    /// At least one message.
    Messages(Fetched),
    /// A record that is not a message: its raw bytes (at most as many as the limit for records), and why. It takes an
    /// offset like any other.
    Undecodable {
        /// The record's offset.
        offset: Offset,
        /// The record, as far as it was read.
        raw: Vec<u8>,
        /// How many bytes it has.
        length: u64,
        /// Why it could not be decoded, for a person.
        reason: String,
        /// [`Position::detail`] for a position before the record.
        start_detail: Option<Detail>,
        /// [`Position::detail`] for the position after it.
        end_detail: Option<Detail>,
    },
    /// The next messages are gone, which this input permits. Nothing else is skipped.
    Skipped {
        /// Where reading goes on.
        at: Position,
        /// How many are gone.
        messages: u64,
    },
    /// Nothing now; [`Source::ready`] says when to ask again.
    Idle,
    /// A bounded input is at its end. `at` is the position after its last record.
    End {
        /// Where reading would go on if the input grew.
        at: Position,
    },
}

/// How far a reader is from the end of its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// How much has been read.
    pub done: u64,
    /// How much exists, as far as is known.
    pub total: u64,
    /// What is counted.
    pub unit: ProgressUnit,
}

/// What [`Progress`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressUnit {
    /// Messages.
    Messages,
    /// Bytes of the system's storage.
    Bytes,
}

/// A future that borrows the source it waits for.
pub type Ready<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// A reader of one partition.
pub trait Source: Send {
    /// The next messages. It may read files, but never waits for more: a source without messages answers
    /// [`Polled::Idle`].
    ///
    /// # Errors
    /// The partition cannot be read from here; the reader is not used again.
    fn poll(&mut self, bounds: FetchBounds) -> Result<Polled, SourceError>;

    /// Completes when a poll may find something that the last did not. It may complete early, never too late, and can
    /// be dropped at any time. It costs no time while it waits.
    fn ready(&mut self) -> Ready<'_>;

    /// Asked when a poll found nothing: whether that is all that there is for now, or some of it is on its way.
    fn has_read_all(&self) -> bool {
        true
    }

    /// How far the reader has come, if the system knows.
    fn progress(&self) -> Option<Progress>;

    /// Where the reader begins, for one that was opened without a position: the first checkpoint records it, so that a
    /// restart does not choose again. `None` if choosing again would give the same position.
    fn begins_at(&self) -> Option<Position> {
        None
    }

    /// Asked when a poll found nothing: where reading goes on, if that has changed without a message. It is worth a
    /// checkpoint, because what lies before it may disappear.
    ///
    /// # Errors
    /// The partition cannot be read from here; the reader is not used again.
    fn passed(&mut self) -> Result<Option<Position>, SourceError> {
        Ok(None)
    }
}

/// Where a reader begins.
#[derive(Debug, Clone)]
pub enum OpenAt {
    /// Where the last checkpoint left off.
    Position(Position),
    /// No position is stored.
    Start(StartAt),
}

/// A stream that can be read.
pub trait Input: Send + Sync {
    /// How many partitions it has.
    fn partitions(&self) -> u32;

    /// Whether a reader that finds nothing more has read all that a job waits for before it ends. There may be more later.
    fn may_lull(&self) -> bool {
        false
    }

    /// Whether it ends.
    fn bounded(&self) -> bool;

    /// Whether a reader can be opened at an earlier position. If not, what was read since the last checkpoint is
    /// lost in a crash.
    fn rewindable(&self) -> bool;

    /// Whether a poll may take longer than a read from memory or the database: other threads take over meanwhile, which costs a
    /// change of threads each time.
    fn polls_may_block(&self) -> bool {
        true
    }

    /// Where the positions that checkpoints record are noted outside of the job, for others to see. `None`: nowhere.
    fn mirror(&self) -> Option<&dyn Mirror> {
        None
    }

    /// The offset of a place, without reading.
    ///
    /// # Errors
    /// Offsets alone are no places of this system; or it cannot be asked.
    fn offset_of(&self, partition: PartitionId, place: StartAt) -> Result<Offset, SourceError> {
        let _ = (partition, place);
        let why = "places of this system are more than offsets";
        Err(SourceError::Unsupported(why.to_owned()))
    }

    /// Opens a reader of a partition.
    ///
    /// # Errors
    /// The position does not exist (any more), or the system cannot be read.
    fn open(&self, partition: PartitionId, at: OpenAt) -> Result<Box<dyn Source>, SourceError>;
}

/// Positions of the readers of an input, as the system shows them to others. The job itself goes by what its checkpoints say.
pub trait Mirror: Send + Sync {
    /// Whether what is noted was noted by the job with this state directory (`None`: it is not made yet), whose last checkpoint has
    /// these positions. Changes nothing.
    ///
    /// # Errors
    /// Somebody else has, or it cannot be looked at.
    fn check(
        &self,
        state: Option<&[u8; 16]>,
        recorded: &[(PartitionId, Offset)],
    ) -> Result<(), SourceError>;

    /// A checkpoint has recorded a position. Never waits: it is written soon.
    fn note(&self, partition: PartitionId, next: Offset);

    /// What was noted is the work of a state directory at an epoch. Called after each checkpoint, and every now and then. Never waits.
    fn settle(&self, state: &[u8; 16], epoch: u64);

    /// The job ends: writes what is left. May wait for a moment.
    fn finish(&self);
}

/// A writer of one partition of an output outside of the database.
///
/// The commit encodes the epoch's messages, puts the bytes into the checkpoint, and only then delivers them. `state` is
/// the sink's own account of what it has delivered, in a format of its own with a version; it is part of the next
/// checkpoint, and recovery hands back the last one that became durable.
pub trait Sink: Send {
    /// Whether [`Sink::recover`] would accept what is there. Changes nothing.
    ///
    /// # Errors
    /// What is there is not what was recorded, or it cannot be looked at.
    fn check(&self, recorded: Option<&[u8]>, undelivered: u64) -> Result<(), SinkError>;

    /// Called once before anything else, with the recorded state (`None`: never recorded) and the number of
    /// encoded bytes that the checkpoint still holds for delivery. Undoes what was delivered after the recorded
    /// state. Returns the state to record.
    ///
    /// # Errors
    /// What is there is not what was recorded: nothing has been changed.
    fn recover(&mut self, recorded: Option<&[u8]>, undelivered: u64) -> Result<Vec<u8>, SinkError>;

    /// The bytes to deliver for messages, of which the first has offset `first`. No I/O.
    fn encode(&self, first: Offset, messages: &Messages, into: &mut Vec<u8>);

    /// Writes encoded bytes and makes them durable. Returns the state to record.
    ///
    /// # Errors
    /// How much was written is unknown: the process ends, and recovery finds out.
    fn deliver(&mut self, encoded: &[u8]) -> Result<Vec<u8>, SinkError>;
}

/// A stream outside of the database that can be written.
pub trait Output: Send + Sync {
    /// How many partitions it has.
    fn partitions(&self) -> u32;

    /// Whether delivery can repeat messages after a crash.
    fn may_repeat(&self) -> bool;

    /// What it refuses. `None`: nothing.
    fn bounds(&self) -> Option<MessageBounds> {
        None
    }

    /// Whether writers of several partitions are faster together, because each waits for a disk.
    fn overlaps(&self) -> bool {
        false
    }

    /// How it is written.
    fn writers(&self) -> Writers<'_>;
}

/// How an output is written.
pub enum Writers<'a> {
    /// Each partition by a writer of its own.
    Apart(&'a dyn Sinks),
    /// All partitions together, with those of every other output that has this carrier.
    Together(&'a Arc<dyn Carrier>),
}

/// An output of which each partition has a writer of its own.
pub trait Sinks: Send + Sync {
    /// A writer of a partition. Touches nothing yet.
    fn sink(&self, partition: PartitionId) -> Box<dyn Sink>;
}

/// A place outside of the host that a job depends on.
pub trait Remote: Send + Sync {
    /// How it is, as far as is known. Asks nobody.
    fn standing(&self) -> Standing;
}

/// How a place is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// Its name in the job file.
    pub name: String,
    /// Since when it cannot be reached.
    pub away_since: Option<TimestampMs>,
    /// What it, or the way to it, has said last that is not over.
    pub error: Option<String>,
    /// Since when output waits that it does not take, and why.
    pub undelivered: Option<(TimestampMs, String)>,
    /// Transactions that were committed by this process.
    pub transactions: u64,
    /// How long the parts of the last transaction took.
    pub last_transaction: Option<TransactionTook>,
    /// Producers that this process replaced because the end of a transaction was sent more than once.
    pub producers_stale: u64,
    /// Producers that this process replaced because something failed.
    pub producers_broken: u64,
}

/// How long the parts of a transaction took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionTook {
    /// Giving the messages to the client.
    pub send: Duration,
    /// Waiting until the brokers had them.
    pub drain: Duration,
    /// Ending it.
    pub commit: Duration,
}

/// What the operator says where the database and what was delivered do not belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lost {
    /// Nothing: the job does not start.
    #[default]
    Refuse,
    /// Another state directory, which has delivered before, is out of use.
    TakeOver,
    /// Nobody knows whether what is pending was delivered; it is delivered.
    Deliver,
    /// Nobody knows whether what is pending was delivered; it is not delivered again.
    Skip,
}

/// What a write holds for a partition.
#[derive(Debug, Clone, Copy)]
pub struct Parcel<'a> {
    /// The stream, by its name in the job file.
    pub stream: &'a str,
    /// Its partition.
    pub partition: PartitionId,
    /// Bytes of [`Carrier::encode`].
    pub encoded: &'a [u8],
}

/// Delivers what a write holds for several outputs, so that readers see all of it or nothing.
///
/// As for a [`Sink`], the bytes are in the checkpoint before they are delivered. What was delivered last, the place itself knows.
pub trait Carrier: Send + Sync {
    /// Names it among the carriers of a job: what is recorded of it is found by that.
    fn name(&self) -> &str;

    /// The bytes to deliver for messages. No I/O.
    fn encode(&self, messages: &Messages, into: &mut Vec<u8>);

    /// Whether [`Carrier::recover`] would accept what is there. Changes nothing, and disturbs nobody who delivers.
    ///
    /// # Errors
    /// What is there does not belong to the account, or it cannot be looked at.
    fn check(&self, account: &Account) -> Result<(), SinkError>;

    /// Called once before a delivery: whoever has delivered in the name of the job before can do so no more. Returns whether what is
    /// pending has been delivered.
    ///
    /// # Errors
    /// As [`Carrier::check`].
    fn recover(&self, account: &Account) -> Result<bool, SinkError>;

    /// Delivers what a write holds. Waits for the place as long as it takes, unless `gives_up` says otherwise.
    ///
    /// # Errors
    /// Whether it was delivered is unknown: the process ends, and recovery finds out.
    fn deliver(
        &self,
        mark: &Mark,
        parcels: &[Parcel<'_>],
        gives_up: &dyn Fn() -> bool,
    ) -> Result<(), SinkError>;
}
