//! The vocabulary of the host: ids, epochs, messages in columns, positions, the clock. No I/O.
//!
//! Every other module speaks in these words, and this one uses nothing but `std` and `serde`'s derive (what is
//! durable of it is encoded elsewhere). It must never know wasm, RocksDB or a file.

mod bounds;
mod clock;
mod column;
mod delivery;
mod epoch;
mod ids;
pub mod letter;
mod message;
mod partition;
mod position;
mod probation;
pub mod shown;
mod staged;

pub use bounds::MessageBounds;
pub use clock::{Clock, ManualClock, SystemClock};
pub use column::{Column, ColumnError};
pub(crate) use column::{check_parts, iterate};
pub use delivery::{Account, MARKS_SETTINGS, Mark};
pub use epoch::{CommitKey, Epoch, Nonce, Seq, Stamp};
pub use ids::{
    InputIndex, OutputIndex, PartitionId, SegmentId, StageId, StoreId, StoreIndex, StreamId, TaskId,
};
pub use message::{Batch, HeadersColumn, MessageRef, Messages, Origin};
pub use partition::{murmur2, partition_of_key};
pub use position::{Detail, Offset, Position, StartAt, TimestampMs};
pub use probation::ProbationLength;
pub use staged::{Staged, StagedMark};
