//! Keyed state: the layers above RocksDB, and RocksDB.
//!
//! [`TaskState`] is what a task reads and writes. Each store has one table of what is known of its keys: the writes of the open epoch,
//! those of the epoch that is being committed, and committed values at hand; what it does not know is asked of the database. A seal
//! hands the open epoch over as a [`SealedState`], in constant time and without a lock; the commit writes it to the database. Must
//! never know wasm, connectors, or when a checkpoint is due.
//!
//! Invariants:
//!
//! - A task's keys are written by its own commits only, one epoch after the other, so the database below a sealed
//!   epoch that a task still holds is at that epoch or the one before, and reads the same through it.
//! - What the database has is at hand as it is there, or not at all.

mod arena;
mod base;
mod cache;
pub mod chunk;
mod db;
mod frozen;
mod gaps;
pub mod keys;
mod memory;
mod pieces;
mod ranges;
mod retired;
mod runs;
mod scan;
mod sealed;
mod store;
mod table;
mod task;
mod tidy;
mod undo;
mod value;

pub use cache::CleanCache;
pub use db::{Db, DbError, DbOptions, Durability, Family, Snapshot, SteppedWalk, Walk, WriteSet};
pub use keys::Order;
pub use scan::{CursorId, Entries, ScanOptions};
pub use sealed::{Change, LISTED_KEYS_MAX, ResolvedRanges, SealedState};
pub use store::{StoreHandle, StoreKind};
pub use table::Written;
pub use task::{IncrementError, StoreFrom, TaskState};
pub use undo::{Flush, Saved, Undo, forget_undo, take_back};
pub use value::{decode as decode_value, encode_into as encode_value_into};

/// State could not be read. The task stops rather than give a wrong answer.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// What is stored is not what was written.
    #[error("damaged state: {0}")]
    Damaged(String),
    /// A scan reached its deadline while it passed over deleted entries.
    #[error("the scan reached the call's deadline while skipping deleted entries")]
    TimeOver,
    /// `memory` stores do not fit.
    #[error(
        "the `memory` stores take {pinned} bytes, more than the {budget} bytes of the job's cache; \
         raise `cache` in [job], or make a store `type = \"rocksdb\"`"
    )]
    MemoryStoresTooLarge {
        /// Bytes that they take.
        pinned: u64,
        /// Bytes that they may take.
        budget: u64,
    },
}
